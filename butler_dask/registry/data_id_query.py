"""DataIdQuery: which data IDs there are, from dimension tables, datasets and sky overlaps under a condition.

Tables are joined only where they give something: a value nobody else gives, or a field that is named. What is
left out is sure to exist, because dimension tables have foreign keys and datasets are checked when inserted.
Sky overlaps are found first, for the records each side's own conditions leave, and joined as a temporary
table of key pairs; no pair is ever tested twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..errors import InvalidQueryError
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import And, Comparison, Expression, Name, Reversed
from .expression_names import DatasetField, FieldReference, NameScope
from .expression_sql import ExpressionCompiler
from .expression_values import Operand
from .joined_tables import JoinedTables
from .open_values import OpenValues
from .resolved_selection import DatasetJoin, ResolvedSelection
from .schema import element_tables
from .session import Session
from .sky_overlaps import (
    OverlapSide,
    are_joined,
    is_covered,
    pairs_of_sides,
    pixels_of_records,
    pixels_within,
    records_within,
    side_dimensions,
)

if TYPE_CHECKING:
    from lsst.sphgeom import Region


class UnlistableDimensionError(InvalidQueryError):
    """A sky pixel dimension is not constrained by anything."""


class DataIdQuery:
    """One query over dimensions.

    Parameters
    ----------
    session : `Session`
        From `Database.read`.
    stack : `contextlib.ExitStack`
        Holds temporary tables until the rows are read.
    dimensions : `DimensionGroup`
        Dimensions of the result.
    resolved : `ResolvedSelection`
        What restricts it, and what to sort by.
    fields : sequence of `Expression`
        Values that are wanted beside the dimensions.
    elements : sequence of `str`
        Elements joined in any case.
    implied : `bool`
        Whether the result needs columns of implied dimensions.
    check : `bool`
        Whether dimensions in the condition must come with their instrument or skymap.
    opened : `OpenValues`, optional
        Values that the statement leaves open.

    Attributes
    ----------
    defaults : `dict` [`str`, `bool`]
        Dimensions whose default value was asked for, and whether there was one.
    tables : `JoinedTables`
        The tables it reads.
    unique : `bool`
        Whether no row comes twice.

    Raises
    ------
    InvalidQueryError
        If the condition is not answerable.
    """

    def __init__(
        self,
        session: Session,
        stack: ExitStack,
        dimensions: DimensionGroup,
        resolved: ResolvedSelection,
        *,
        fields: Sequence[Expression] = (),
        elements: Sequence[str] = (),
        implied: bool = False,
        check: bool = True,
        opened: OpenValues | None = None,
    ) -> None:
        self._session, self._stack = session, stack
        self._wanted = dimensions.names if implied else dimensions.required
        self.dimensions, self._resolved, self._selection = dimensions, resolved, resolved.selection
        self._opened = OpenValues.none() if opened is None else opened
        self.defaults: dict[str, bool] = {}
        where, universe = self._selection.condition, DimensionUniverse()
        group = dimensions.union(resolved.group)
        # A skymap given does not bring sky maps into a query that is not about them.
        relevant = [n for n in self._selection.data_id if n in group or not universe[n].governor]
        group = group.union(universe.conform(relevant))
        names = [d.name for d in resolved.joins]
        self.scope = NameScope(group, where.bind, names, where.text)
        tree = where.terms[0] if len(where.terms) == 1 else And(0, where.terms)
        needed = self.scope.dimensions_of(tree)
        sort_scope = NameScope(group, None, names)
        self._order = [_sort_term(term) for term in self._selection.order_by]
        self._fields = list(fields)
        for node in (*(n for n, _ in self._order), *fields):
            needed = needed.union(sort_scope.dimensions_of(node))
        self.group = group = group.union(needed)
        given = {**self._selection.data_id, **self._default_values(self.scope.governors_named(tree))}
        self._data_id = {n: v for n, v in given.items() if n in group}
        if check:
            self.scope.check_governors(tree, [n for n in given if universe[n].governor])
        self._sort_scope = sort_scope
        self.tables = JoinedTables(session, stack, group)
        self._givers: set[str] = set()
        self.unique = set(group.names) <= set(dimensions.names)
        self._constants = self._fixed_values()
        self._join(elements)

    def _default_values(self, named: Collection[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        default = self._selection.default
        for governor in self.group.governors if default is not None else ():
            if governor not in self._selection.data_id and governor not in named:
                assert default is not None
                value = default(governor)
                self.defaults[governor] = value is not None
                if value is not None:
                    found[governor] = value
        return found

    def _join(self, elements: Sequence[str]) -> None:
        universe = DimensionUniverse()
        for table in self._selection.among:
            self.tables.join_data_ids(table)
        for dataset in self._resolved.joins:
            self.tables.join_datasets(dataset)
            if len(dataset.leaves) > 1 or dataset.is_timed:
                self.unique = False
        for name in elements:
            self.tables.element(name)
        for element in universe.getStaticElements():
            if element.always_join and set(element.requires) <= set(self.group.names):
                self.tables.element(element.name)
        explicit, rest = self._explicit_overlaps()
        known = [t.dimensions for t in self._selection.among]
        pairs = explicit + [
            p for p in self._automatic_overlaps() if not is_covered(p, explicit) and not are_joined(p, known)
        ]
        for first, second in pairs:
            self.tables.join(self._pairs(first, second))
        for name in self._needed():
            self._cover(name)
        compiler = ExpressionCompiler(self.scope, self.tables, self, self._opened)
        self.tables.conditions += [compiler.condition(term) for term in rest]
        self._sort_columns = [(self._sort_column(node), falling) for node, falling in self._order]
        self.sorts_within = all(
            isinstance(r, FieldReference) and set(r.dimensions.names) <= set(self.dimensions.names)
            for node, _ in self._order
            for r in self._sort_scope.references(node)
        )
        for dataset in self._resolved.joins:
            self._join_times(dataset)
            self._list_detectors(dataset)
        for name, operand in self._constants.items():
            self.tables.conditions += [column == operand.sql for column in self.tables.columns.get(name, ())]

    def _sort_column(self, node: Expression) -> Any:
        operand = self.operand(node)
        if operand.kind == "region":
            raise InvalidQueryError("Regions have no order to sort by.")
        return self.tables.by_code_point(operand.sql) if operand.kind == "str" else operand.sql

    def operand(self, node: Expression) -> Operand:
        """Return the value of a field or expression in this query."""
        return ExpressionCompiler(self._sort_scope, self.tables, self).value(node)

    def _fixed_values(self) -> dict[str, Operand]:
        # Values every table with the dimension can be restricted to at once; SQL does not carry an equality
        # from one table over to the next.
        fixed = {name: self._opened.data_id(name, value) for name, value in self._data_id.items()}
        compiler = ExpressionCompiler(self.scope, self.tables, self, self._opened)
        for term in self._selection.condition.terms:
            if not isinstance(term, Comparison) or term.operator != "=":
                continue
            for side, other in ((term.left, term.right), (term.right, term.left)):
                if not isinstance(side, Name):
                    continue
                meaning = self.scope.resolve(side)
                if isinstance(meaning, FieldReference) and meaning.is_dimension:
                    if any(
                        True for n in other.walk() if isinstance(n, Name) and n.text not in self.scope.bind
                    ):
                        continue
                    value = compiler.value(other)
                    if value.kind == meaning.kind and value.constant is not None:
                        fixed.setdefault(meaning.element, value)
        return fixed

    # Joins

    def _cover(self, name: str) -> None:
        element = DimensionUniverse()[name]
        if element.skypix_level is not None:
            if name not in self.tables.columns:
                if name not in self._constants:
                    raise UnlistableDimensionError(
                        f"Dimension {name!r} has too many values to list; constrain it by data ID, by a "
                        "dataset type that has it, or by a dimension with a region (visit, patch, ...)."
                    )
                self.tables.provide({name: self._constants[name].sql})
            return
        if name in self._givers or any(n not in self.tables.columns for n in element.required):
            self.tables.element(name)

    def _needed(self) -> list[str]:
        # Dimensions whose values somebody uses, the most specific first. An implied one also needs one of the
        # dimensions it follows from (band: physical_filter, and that exposure or visit).
        group, universe = self.group, DimensionUniverse()
        used = {*group.required, *self._wanted, *self._constants}
        # The band of a coadd's data ID is that of the visit's filter, if there is a visit too.
        used.update(n for d in self._resolved.joins for n in d.dimensions.required)
        used.update(n for t in self._selection.among for n in t.dimensions.required)
        fields = [r for t in self._selection.condition.terms for r in self.scope.references(t)]
        for node in (*(n for n, _ in self._order), *self._fields):
            fields += self._sort_scope.references(node)
        used.update(r.element for r in fields if isinstance(r, FieldReference))
        used &= set(group.names)
        for name in group.names:
            if name in used and name in group.implied:
                sources = [n for n in group.names if name in universe[n].implies]
                joined = [n for n in sources if n in self.tables.elements]
                if not joined:
                    # The first dimension that gives it; all others agree.
                    source = next((n for n in sources if n in group.required), sources[0])
                    used.add(source)
                    self._givers.add(source)
        return [n for n in reversed(group.names) if n in used]

    def _join_times(self, dataset: DatasetJoin) -> None:
        if not dataset.is_timed:
            return
        temporal = [n for n in ("exposure", "visit") if n in self.group.names]
        if temporal:
            table, c = self.tables.element(temporal[0]), self.tables.dataset_columns(dataset.name)
            self.tables.conditions += [c.begin_ns < table.c.timespan_end, table.c.timespan_begin < c.end_ns]

    def _list_detectors(self, dataset: DatasetJoin) -> None:
        # Data IDs are kept in the order of their dimensions, detectors before exposures and visits. Where
        # one of these is asked for of all detectors, looking it up for each is quicker than reading the RUN.
        keys = dataset.dimensions.required
        if "detector" not in keys or "detector" in self._constants:
            return
        fields = [r for t in self._selection.condition.terms for r in self.scope.references(t)]
        asked = {r.element for r in fields if isinstance(r, FieldReference) and r.is_dimension}
        if not {*asked, *self._constants}.isdisjoint(keys[keys.index("detector") + 1 :]):
            detectors = sa.select(element_tables["detector"].c.id)
            self.tables.conditions.append(self.tables.dataset_columns(dataset.name).detector.in_(detectors))

    # Sky overlaps

    def _explicit_overlaps(self) -> tuple[list[tuple[str, str]], list[Expression]]:
        pairs: list[tuple[str, str]] = []
        rest: list[Expression] = []
        for term in self._selection.condition.terms:
            names: list[str] = []
            if isinstance(term, Comparison) and term.operator == "OVERLAPS":
                for side in (term.left, term.right):
                    meaning = self.scope.resolve(side) if isinstance(side, Name) else None
                    if isinstance(meaning, FieldReference) and (
                        meaning.kind == "region" or meaning.is_dimension
                    ):
                        element = DimensionUniverse()[meaning.element]
                        if element.spatial or element.skypix_level is not None:
                            names.append(element.name)
            if len(names) == 2 and names[0] != names[1]:
                pairs.append((names[0], names[1]))
            else:
                rest.append(term)
        return pairs, rest

    def _automatic_overlaps(self) -> list[tuple[str, str]]:
        elements = self.group.spatial_elements
        fixed = [n for n in elements if n not in self.group.skypix]
        pairs = [(fixed[0], fixed[1])] if len(fixed) > 1 else []
        return pairs + [(fixed[0], skypix) for skypix in self.group.skypix if fixed]

    def _pairs(self, first: str, second: str) -> sa.Table:
        universe = DimensionUniverse()
        if universe[first].skypix_level is not None:
            first, second = second, first
        if universe[first].skypix_level is not None:
            raise InvalidQueryError(f"Overlaps of {first!r} and {second!r} cannot be listed")
        if universe[second].skypix_level is not None:
            names = (*universe[first].required, second)
            fixed = self._constants.get(second)
            rows = pixels_of_records(
                self._side(first, second).records(None), second, None if fixed is None else fixed.constant
            )
        else:
            names = (*universe[first].required, *universe[second].required)
            rows = pairs_of_sides(self._side(first, second), self._side(second, first))
        return self.tables.temporary(names, rows)

    def _side(self, element_name: str, other: str) -> OverlapSide:
        # The part of the query that is about one side of an overlap only.
        group = side_dimensions(self.group, element_name, other)
        names = {d.name for d in self._resolved.joins if d.dimensions.issubset(group)}
        terms = [
            term
            for term in self._selection.condition.terms
            if self.scope.dimensions_of(term).issubset(group)
            and all(
                r.dataset_type in names for r in self.scope.references(term) if isinstance(r, DatasetField)
            )
        ]
        element = DimensionUniverse()[element_name]
        whole = replace(self._resolved, selection=replace(self._selection, data_id=self._data_id))
        resolved = whole.within(group, terms)
        query = DataIdQuery(
            self._session,
            self._stack,
            element.dimensions,
            resolved,
            elements=(element_name,),
            check=False,
        )
        restricted = not resolved.is_empty
        return OverlapSide(self._session, self._stack, element, query, restricted)

    def within_region(self, element: str, region: Region) -> Any:
        """Return the condition that an element's region overlaps a region."""
        spec = DimensionUniverse()[element]
        if spec.skypix_level is not None:
            return self.tables.member(
                self.tables.columns[element][0], pixels_within(element, region), sa.BigInteger()
            )
        inside = records_within(self._session, element, region)
        return self.tables.are_in(self.tables.temporary(spec.required, inside), spec.required)

    def regions_overlap(self, first: str, second: str) -> Any:
        """Return the condition that two elements' regions overlap."""
        if first == second:
            return sa.true()
        pairs = self._pairs(first, second)
        return self.tables.are_in(pairs, [c.name for c in pairs.columns])

    # Results

    @property
    def data_id(self) -> Mapping[str, Any]:
        """Values that must hold, defaults included."""
        return self._data_id

    def fetch(
        self, columns: Sequence[Any], *, limit: int | None = None, offset: int | None = None
    ) -> list[tuple[Any, ...]]:
        """Return unique rows of columns, in the order asked for.

        Parameters
        ----------
        columns : sequence
            Columns; they determine the data ID.
        limit, offset : `int`, optional
            How many rows at most, after how many.
        """
        return [row for rows in self.portions(columns, limit=limit, offset=offset) for row in rows]

    def portions(
        self, columns: Sequence[Any], *, limit: int | None = None, offset: int | None = None
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Yield the rows of `fetch` in portions."""
        width = len(columns)
        statement = self.sorted_statement(columns, limit=limit, offset=offset)
        portions = self._session.fetch_portions(statement)
        if self.sorts_within:
            yield from ([r[:width] for r in rows] if self._sort_columns else rows for rows in portions)
            return
        rows = list(dict.fromkeys(r[:width] for rows in portions for r in rows))[offset or 0 :]
        yield rows if limit is None else rows[:limit]

    def sorted_statement(
        self, columns: Sequence[Any], *, limit: int | None = None, offset: int | None = None
    ) -> sa.Select[Any]:
        """Return the statement whose rows are those of `fetch`, with columns to sort by behind them.

        If not `sorts_within`, rows differ in these too, and there is no limit yet.
        """
        falls = [
            (column, falling)
            for columns_, falling in self._sort_columns
            for column in (columns_ if isinstance(columns_, tuple) else (columns_,))
        ]
        extra = [column.label(f"sort_{i}") for i, (column, _) in enumerate(falls)]
        statement = self.tables.statement([*(columns or [sa.literal(1)]), *extra])
        if not self.unique:
            statement = statement.distinct()
        # NULL sorts as the least value on every database.
        statement = statement.order_by(
            *(
                c.desc().nulls_last() if falling else c.asc().nulls_first()
                for c, (_, falling) in zip(extra, falls, strict=True)
            )
        )
        return statement.limit(limit).offset(offset) if self.sorts_within else statement

    def count(self, most: int | None = None) -> int:
        """Return the number of data IDs, counted up to a limit."""
        keys = self.tables.labelled(self.dimensions.required)
        statement = self.tables.statement(keys or [sa.literal(1).label("one")]).distinct().limit(most)
        counted = sa.select(sa.func.count()).select_from(statement.subquery())
        return int(self._session.fetch(counted)[0][0])

    def any(self) -> bool:
        """Return whether there is any row."""
        statement = self.tables.statement([sa.literal(1)]).limit(1)
        return bool(self._session.fetch(statement))


def _sort_term(term: str | Expression) -> tuple[Expression, bool]:
    if isinstance(term, Reversed):
        return term.operand, True
    if isinstance(term, Expression):
        return term, False
    name = term.strip().removeprefix("-")
    if not name:
        raise InvalidQueryError("There is no name to sort by in order_by.")
    return Name(0, name), term.strip().startswith("-")
