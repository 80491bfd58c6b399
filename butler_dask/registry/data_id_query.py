"""DataIdQuery: which data IDs there are, from dimension tables, datasets and sky overlaps under a condition.

Tables are joined only where they give something: a value nobody else gives, or a field that is named. What is
left out is sure to exist, because dimension tables have foreign keys and datasets are checked when inserted.
Sky overlaps are found first, for the records each side's own conditions leave, and joined as a temporary
table of key pairs; no pair is ever tested twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..errors import InvalidQueryError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import And, Comparison, Expression, Name, Reversed
from . import schema
from .bulk_rows import temporary_rows
from .dataset_search import search_statements
from .definitions import CollectionRow
from .dimension_records import column_name
from .expression_names import DatasetField, FieldReference, NameScope
from .expression_sql import ExpressionCompiler
from .expression_values import Operand
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
    is_lasting : `bool`
        Whether the statement is about tables that stay.

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
        self.is_lasting = True
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
        given = dict(self._selection.data_id)
        if self._selection.default is not None:
            named = self.scope.governors_named(tree)
            for governor in group.union(needed).governors:
                if governor not in given and governor not in named:
                    value = self._selection.default(governor)
                    self.defaults[governor] = value is not None
                    if value is not None:
                        given[governor] = value
        self.group = group = group.union(needed)
        self._data_id = {n: v for n, v in given.items() if n in group}
        if check:
            self.scope.check_governors(tree, [n for n in given if universe[n].governor])
        self._sort_scope = sort_scope
        self._columns: dict[str, list[Any]] = {}
        self._aliases: dict[str, Any] = {}
        self._sources: list[Any] = []
        self._conditions: list[Any] = []
        self._dataset_columns: dict[str, Any] = {}
        self._givers: set[str] = set()
        self.unique = set(group.names) <= set(dimensions.names)
        self._constants = self._fixed_values()
        self._join(elements)

    def _join(self, elements: Sequence[str]) -> None:
        universe = DimensionUniverse()
        for table in self._selection.among:
            self._join_table(table)
        for dataset in self._resolved.joins:
            self._join_dataset(dataset)
        for name in elements:
            self._table(name)
        for element in universe.getStaticElements():
            if element.always_join and set(element.requires) <= set(self.group.names):
                self._table(element.name)
        explicit, rest = self._explicit_overlaps()
        known = [t.dimensions for t in self._selection.among]
        pairs = explicit + [
            p for p in self._automatic_overlaps() if not is_covered(p, explicit) and not are_joined(p, known)
        ]
        for first, second in pairs:
            self._join_overlap(first, second)
        for name in self._needed():
            self._cover(name)
        compiler = ExpressionCompiler(self.scope, self, self._opened)
        self._conditions += [compiler.condition(term) for term in rest]
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
            self._conditions += [column == operand.sql for column in self._columns.get(name, ())]

    def _sort_column(self, node: Expression) -> Any:
        operand = self.operand(node)
        if operand.kind == "region":
            raise InvalidQueryError("Regions have no order to sort by.")
        return self.by_code_point(operand.sql) if operand.kind == "str" else operand.sql

    def operand(self, node: Expression) -> Operand:
        """Return the value of a field or expression in this query."""
        return ExpressionCompiler(self._sort_scope, self).value(node)

    def _fixed_values(self) -> dict[str, Operand]:
        # Values every table with the dimension can be restricted to at once; SQL does not carry an equality
        # from one table over to the next.
        fixed = {name: self._opened.data_id(name, value) for name, value in self._data_id.items()}
        compiler = ExpressionCompiler(self.scope, self, self._opened)
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

    def _provide(self, columns: Mapping[str, Any]) -> None:
        for name, column in columns.items():
            known = self._columns.setdefault(name, [])
            if known:
                self._conditions.append(column == known[0])
            known.append(column)

    def _table(self, element_name: str) -> Any:
        if element_name not in self._aliases:
            element = DimensionUniverse()[element_name]
            table = element_tables[element_name].alias()
            self._aliases[element_name] = table
            self._sources.append(table)
            names = (*element.required, *element.implies)
            self._provide({n: table.c[column_name(element, n)] for n in names})
        return self._aliases[element_name]

    def _cover(self, name: str) -> None:
        element = DimensionUniverse()[name]
        if element.skypix_level is not None:
            if name not in self._columns:
                if name not in self._constants:
                    raise UnlistableDimensionError(
                        f"Dimension {name!r} has too many values to list; constrain it by data ID, by a "
                        "dataset type that has it, or by a dimension with a region (visit, patch, ...)."
                    )
                self._provide({name: self._constants[name].sql})
            return
        if name in self._givers or any(n not in self._columns for n in element.required):
            self._table(name)

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
                joined = [n for n in sources if n in self._aliases]
                if not joined:
                    # The first dimension that gives it; all others agree.
                    source = next((n for n in sources if n in group.required), sources[0])
                    used.add(source)
                    self._givers.add(source)
        return [n for n in reversed(group.names) if n in used]

    def _join_table(self, table: DataIdTable) -> None:
        names = table.dimensions.required
        if not names:
            if not len(table):
                self._conditions.append(sa.false())
            return
        rows = list(zip(*(table.values(n).tolist() for n in names), strict=True))
        joined = self._temporary(names, list(dict.fromkeys(rows)))
        self._sources.append(joined)
        self._provide({n: joined.c[n] for n in names})

    def _join_dataset(self, dataset: DatasetJoin) -> None:
        parts = search_statements(dataset.kind, dataset.leaves)
        if not parts:
            # No collection holds the type: a search of RUN number 0, which there is not.
            nowhere = CollectionRow(0, "", CollectionType.RUN, "")
            parts = search_statements(dataset.kind, [nowhere])
        source = parts[0].subquery() if len(parts) == 1 else sa.union_all(*parts).subquery()
        self._sources.append(source)
        self._dataset_columns[dataset.name] = source.c
        self._provide({n: source.c[n] for n in dataset.dimensions.required})
        if len(dataset.leaves) > 1 or any(leaf.type is CollectionType.CALIBRATION for leaf in dataset.leaves):
            self.unique = False

    def _join_times(self, dataset: DatasetJoin) -> None:
        if not any(leaf.type is CollectionType.CALIBRATION for leaf in dataset.leaves):
            return
        temporal = [n for n in ("exposure", "visit") if n in self.group.names]
        if temporal:
            table, c = self._table(temporal[0]), self._dataset_columns[dataset.name]
            self._conditions += [c.begin_ns < table.c.timespan_end, table.c.timespan_begin < c.end_ns]

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
            self._conditions.append(self._dataset_columns[dataset.name].detector.in_(detectors))

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

    def _join_overlap(self, first: str, second: str) -> None:
        table = self._pairs(first, second)
        self._sources.append(table)
        self._provide({c.name: c for c in table.columns})

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
        return self._temporary(names, rows)

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

    def _temporary(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> sa.Table:
        self.is_lasting = False
        types = {n: schema.column_of_dimension(n).type for n in names}
        return self._stack.enter_context(temporary_rows(self._session, types, rows))

    # What the expression compiler asks for

    def field(self, reference: FieldReference) -> Any:
        """Return the column of a field (for a timespan: two)."""
        if reference.is_dimension and reference.element in self._columns:
            return self._columns[reference.element][0]
        if DimensionUniverse()[reference.element].skypix_level is not None:
            return self._columns[reference.element][0]
        if reference.field in self.group.names and reference.field in self._columns:
            return self._columns[reference.field][0]
        table = self._table(reference.element)
        match reference.field:
            case "region":
                return table.c.region
            case "timespan":
                return table.c.timespan_begin, table.c.timespan_end
            case "timespan.begin":
                return table.c.timespan_begin
            case "timespan.end":
                return table.c.timespan_end
        return table.c[reference.field]

    def dataset_field(self, reference: DatasetField) -> Any:
        """Return the column of a dataset's field (for a timespan: two)."""
        c = self._dataset_columns[reference.dataset_type]
        match reference.field:
            case "timespan":
                return c.begin_ns, c.end_ns
            case "timespan.begin":
                return c.begin_ns
            case "timespan.end":
                return c.end_ns
            case "dataset_id":
                return c.uuid
            case "ingest_date":
                d = schema.dataset.alias()
                return sa.select(d.c.ingest_ns).where(d.c.id == c.dataset_id).scalar_subquery()
        t = schema.collection.alias()
        column = c.run_id if reference.field == "run" else c.collection_id
        return sa.select(t.c.name).where(t.c.id == column).scalar_subquery()

    def within_region(self, element: str, region: Region) -> Any:
        """Return the condition that an element's region overlaps a region."""
        spec = DimensionUniverse()[element]
        if spec.skypix_level is not None:
            return self.member(self._columns[element][0], pixels_within(element, region))
        inside = records_within(self._session, element, region)
        return self._exists(self._temporary(spec.required, inside), spec.required)

    def regions_overlap(self, first: str, second: str) -> Any:
        """Return the condition that two elements' regions overlap."""
        if first == second:
            return sa.true()
        pairs = self._pairs(first, second)
        return self._exists(pairs, [c.name for c in pairs.columns])

    def _exists(self, table: sa.Table, names: Sequence[str]) -> Any:
        return sa.exists(
            sa.select(sa.literal(1))
            .select_from(table)
            .where(*(table.c[n] == self._columns[n][0] for n in names))
        )

    def member(self, column: Any, values: Sequence[Any]) -> Any:
        """Return the condition that a column is one of many values."""
        rows = [(v,) for v in dict.fromkeys(values)]
        if not rows:
            return sa.false()
        self.is_lasting = False
        table = self._stack.enter_context(temporary_rows(self._session, {"value": column.type}, rows))
        return column.in_(sa.select(table.c.value))

    def like_glob(self, column: Any, pattern: str) -> Any:
        """Return the condition that a string column matches a glob of ``*`` and ``?``."""
        sqlite = self._session.is_sqlite
        out = ""
        for escaped, char in re.findall(r"(\\?)(.)", pattern, re.DOTALL):
            if char in "*?" and not escaped:
                out += char if sqlite else "%_"["*?".index(char)]
            elif sqlite:
                out += f"[{char}]" if char in "*?[" else char
            else:
                out += f"\\{char}" if char in "\\%_" else char
        # LIKE of SQLite would not tell capitals from small letters.
        return column.bool_op("GLOB")(out) if sqlite else column.like(out, escape="\\")

    def by_code_point(self, text: Any) -> Any:
        """Return a string whose order is that of its characters' code points."""
        # Else a server orders by the language its database was made for, and SQLite does not.
        return text if self._session.is_sqlite else sa.collate(text, "C")

    # Results

    def statement(self, columns: Sequence[Any]) -> sa.Select[Any]:
        """Return the statement that reads columns."""
        return sa.select(*columns).select_from(*self._sources).where(*self._conditions)

    def columns(self, names: Iterable[str]) -> list[Any]:
        """Return one column for each of some dimensions."""
        return [self._columns[n][0].label(n) for n in names]

    @property
    def data_id(self) -> Mapping[str, Any]:
        """Values that must hold, defaults included."""
        return self._data_id

    def columns_of(self, operand: Operand) -> list[Any]:
        """Return the columns of a field's value: one, or two for a timespan."""
        if operand.kind == "region":
            assert isinstance(operand.reference, FieldReference)
            return [self.field(operand.reference)]
        return list(operand.sql) if operand.kind == "timespan" else [operand.sql]

    def table(self, element_name: str) -> Any:
        """Return an element's table as joined here."""
        return self._aliases[element_name]

    def dataset_columns(self, name: str) -> Any:
        """Return the columns of a joined dataset type, those of `search_statements`."""
        return self._dataset_columns[name]

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
        statement = self.statement([*(columns or [sa.literal(1)]), *extra])
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
        keys = self.columns(self.dimensions.required)
        statement = self.statement(keys or [sa.literal(1).label("one")]).distinct().limit(most)
        counted = sa.select(sa.func.count()).select_from(statement.subquery())
        return int(self._session.fetch(counted)[0][0])

    def any(self) -> bool:
        """Return whether there is any row."""
        statement = self.statement([sa.literal(1)]).limit(1)
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
