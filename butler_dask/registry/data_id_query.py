"""DataIdQuery: which data IDs there are, from dimension tables, datasets and sky overlaps under a condition.

Tables are joined only where they give something: a value nobody else gives, or a field that is named. What is
left out is sure to exist, because dimension tables have foreign keys and datasets are checked when inserted.
Sky overlaps are found first, for the records each side's own conditions leave, and joined as a temporary
table of key pairs; no pair is ever tested twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..errors import InvalidQueryError
from ..vocabulary.collection import CollectionType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import And, Comparison, Expression, Name
from . import schema
from .database import Database
from .dataset_search import search_statements
from .definitions import CollectionRow, DatasetTypeRow
from .dimension_records import column_name
from .expression_names import DatasetField, FieldReference, NameScope, conjuncts
from .expression_sql import ExpressionCompiler, constant_operand
from .schema import element_tables
from .sky_overlaps import (
    OverlapSide,
    is_covered,
    pairs_of_sides,
    pixels_of_records,
    pixels_within,
    records_within,
    side_dimensions,
)

if TYPE_CHECKING:
    from lsst.sphgeom import Region


@dataclass(frozen=True, slots=True)
class DatasetJoin:
    """A dataset type and the collections in which its datasets constrain a query."""

    kind: DatasetTypeRow
    leaves: Sequence[CollectionRow]

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the datasets."""
        return self.kind.definition.dimensions

    @property
    def name(self) -> str:
        """Name of the dataset type."""
        return self.kind.definition.name


@dataclass(frozen=True)
class Where:
    """A parsed condition with its text and bound values."""

    terms: tuple[Expression, ...] = ()
    text: str = ""
    bind: Mapping[str, Any] | None = None

    def of(self, terms: Iterable[Expression]) -> Where:
        """Return some of the terms."""
        return Where(tuple(terms), self.text, self.bind)


class UnlistableDimensionError(InvalidQueryError):
    """A sky pixel dimension is not constrained by anything."""


class DataIdQuery:
    """One query over dimensions.

    Parameters
    ----------
    database : `Database`
        Where to ask.
    connection : `sqlalchemy.Connection`
        From `Database.read`.
    stack : `contextlib.ExitStack`
        Holds temporary tables until the rows are read.
    dimensions : `DimensionGroup`
        Dimensions of the result.
    where : `Where`
        Terms that must all hold.
    data_id : mapping of `str` to value
        Values that must hold.
    datasets : sequence of `DatasetJoin`
        Only data IDs with such datasets.
    order_by : sequence of `str`
        Names to sort by, with ``-`` for falling.
    elements : sequence of `str`
        Elements joined in any case.
    implied : `bool`
        Whether the result needs columns of implied dimensions.
    check : `bool`
        Whether dimensions in the condition must come with their instrument or skymap.

    Raises
    ------
    InvalidQueryError
        If the condition is not answerable.
    """

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        stack: ExitStack,
        dimensions: DimensionGroup,
        *,
        where: Where,
        data_id: Mapping[str, Any],
        datasets: Sequence[DatasetJoin] = (),
        order_by: Sequence[str] = (),
        elements: Sequence[str] = (),
        implied: bool = False,
        check: bool = True,
    ) -> None:
        self._database, self._connection, self._stack = database, connection, stack
        self._wanted = dimensions.names if implied else dimensions.required
        self.dimensions, self._where, self._datasets = dimensions, where, datasets
        universe = DimensionUniverse()
        group = dimensions.union(*(d.dimensions for d in datasets))
        # An instrument given by default does not bring the instrument into a query about sky maps.
        relevant = [n for n in data_id if n in group or not universe[n].governor]
        group = group.union(universe.conform(relevant))
        self._data_id = {n: v for n, v in data_id.items() if n in group}
        names = [d.name for d in datasets]
        self.scope = NameScope(group, where.bind, names, where.text)
        for term in where.terms:
            group = group.union(self.scope.dimensions_of(term))
        sort_scope = NameScope(group, None, names)
        self._order = [(t.removeprefix("-"), t.startswith("-")) for t in order_by]
        sort_fields = [sort_scope.resolve_text(name) for name, _ in self._order]
        group = group.union(*(f.dimensions for f in sort_fields if isinstance(f, FieldReference)))
        self.group = group
        if where.terms and check:
            known = {n for n in data_id if universe[n].governor}
            tree = where.terms[0] if len(where.terms) == 1 else And(0, where.terms)
            self.scope.check_governors(tree, known)
        self._columns: dict[str, list[Any]] = {}
        self._aliases: dict[str, Any] = {}
        self._sources: list[Any] = []
        self._conditions: list[Any] = []
        self._dataset_columns: dict[str, Any] = {}
        self._givers: set[str] = set()
        self.unique = set(group.names) <= set(dimensions.names)
        self._constants = self._fixed_values()
        self._join(elements, sort_fields)

    def _join(self, elements: Sequence[str], sort_fields: Sequence[Any]) -> None:
        universe = DimensionUniverse()
        for dataset in self._datasets:
            self._join_dataset(dataset)
        for name in elements:
            self._table(name)
        for element in universe.getStaticElements():
            if element.always_join and set(element.requires) <= set(self.group.names):
                self._table(element.name)
        explicit, rest = self._explicit_overlaps()
        pairs = explicit + [p for p in self._automatic_overlaps() if not is_covered(p, explicit)]
        for first, second in pairs:
            self._join_overlap(first, second)
        for name in self._needed(sort_fields):
            self._cover(name)
        compiler = ExpressionCompiler(self.scope, self)
        self._conditions += [compiler.condition(term) for term in rest]
        self._sort_columns = [
            self.dataset_field(f) if isinstance(f, DatasetField) else self.field(f) for f in sort_fields
        ]
        self._sorts_within = all(
            isinstance(f, FieldReference) and set(f.dimensions.names) <= set(self.dimensions.names)
            for f in sort_fields
        )
        for dataset in self._datasets:
            self._join_times(dataset)
        for name, value in self._constants.items():
            operand = constant_operand(value)
            self._conditions += [column == operand.sql for column in self._columns.get(name, ())]

    def _fixed_values(self) -> dict[str, Any]:
        # Values every table with the dimension can be restricted to at once; SQL does not carry an equality
        # from one table over to the next.
        fixed = dict(self._data_id)
        compiler = ExpressionCompiler(self.scope, self)
        for term in self._where.terms:
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
                        fixed.setdefault(meaning.element, value.constant)
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
                self._provide({name: sa.literal(self._constants[name], sa.BigInteger)})
            return
        if name in self._givers or any(n not in self._columns for n in element.required):
            self._table(name)

    def _needed(self, sort_fields: Sequence[Any]) -> list[str]:
        # Dimensions whose values somebody uses, the most specific first. An implied one also needs one of the
        # dimensions it follows from (band: physical_filter, and that exposure or visit).
        group, universe = self.group, DimensionUniverse()
        used = {*group.required, *self._wanted, *self._constants}
        fields = [r for t in self._where.terms for r in self.scope.references(t)] + list(sort_fields)
        for field in fields:
            if isinstance(field, FieldReference):
                used.add(field.field if field.field in group.names else field.element)
        used &= set(group.names)
        for name in group.names:
            if name in used and name in group.implied and name not in self._columns:
                sources = [n for n in group.names if name in universe[n].implies]
                joined = [n for n in sources if n in self._aliases]
                if not joined:
                    # The first dimension that gives it; all others agree.
                    source = next((n for n in sources if n in group.required), sources[0])
                    used.add(source)
                    self._givers.add(source)
        return [n for n in reversed(group.names) if n in used]

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

    # Sky overlaps

    def _explicit_overlaps(self) -> tuple[list[tuple[str, str]], list[Expression]]:
        pairs: list[tuple[str, str]] = []
        rest: list[Expression] = []
        for term in self._where.terms:
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
            rows = pixels_of_records(
                self._side(first, second).records(None), second, self._constants.get(second)
            )
        else:
            names = (*universe[first].required, *universe[second].required)
            rows = pairs_of_sides(self._side(first, second), self._side(second, first))
        return self._temporary(names, rows)

    def _side(self, element_name: str, other: str) -> OverlapSide:
        # The part of the query that is about one side of an overlap only.
        group = side_dimensions(self.group, element_name, other)
        data_id = {n: v for n, v in self._data_id.items() if n in group}
        datasets = [d for d in self._datasets if d.dimensions.issubset(group)]
        names = {d.name for d in datasets}
        terms = [
            term
            for term in self._where.terms
            if self.scope.dimensions_of(term).issubset(group)
            and all(
                r.dataset_type in names for r in self.scope.references(term) if isinstance(r, DatasetField)
            )
        ]
        element = DimensionUniverse()[element_name]
        query = DataIdQuery(
            self._database,
            self._connection,
            self._stack,
            element.dimensions,
            where=self._where.of(terms),
            data_id=data_id,
            datasets=datasets,
            elements=(element_name,),
            check=False,
        )
        restricted = bool(terms or data_id or datasets)
        return OverlapSide(self._database, self._connection, self._stack, element, query, restricted)

    def _temporary(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> sa.Table:
        types = {n: schema.column_of_dimension(n).type for n in names}
        return self._stack.enter_context(self._database.temporary_rows(self._connection, types, rows))

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
        inside = records_within(self._database, self._connection, element, region)
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
        table = self._stack.enter_context(
            self._database.temporary_rows(self._connection, {"value": column.type}, rows)
        )
        return column.in_(sa.select(table.c.value))

    def like_glob(self, column: Any, pattern: str) -> Any:
        """Return the condition that a string column matches a glob of ``*`` and ``?``."""
        if self._database.is_sqlite:
            # LIKE would not tell capitals from small letters here.
            return column.bool_op("GLOB")(pattern.replace("[", "[[]"))
        escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")

    # Results

    def statement(self, columns: Sequence[Any]) -> sa.Select[Any]:
        """Return the statement that reads columns."""
        return sa.select(*columns).select_from(*self._sources).where(*self._conditions)

    def columns(self, names: Iterable[str]) -> list[Any]:
        """Return one column for each of some dimensions."""
        return [self._columns[n][0].label(n) for n in names]

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
        width = len(columns)
        extra = [
            c for column in self._sort_columns for c in (column if isinstance(column, tuple) else (column,))
        ]
        labelled = [c.label(f"sort_{i}") for i, c in enumerate(extra)]
        statement = self.statement([*(columns or [sa.literal(1)]), *labelled])
        if not self.unique:
            statement = statement.distinct()
        directions = [
            falling
            for column, (_, falling) in zip(self._sort_columns, self._order, strict=True)
            for _ in (column if isinstance(column, tuple) else (column,))
        ]
        statement = statement.order_by(
            *(c.desc() if falling else c for c, falling in zip(labelled, directions, strict=True))
        )
        in_sql = not extra or self._sorts_within
        if in_sql:
            statement = statement.limit(limit).offset(offset)
        rows = self._database.fetch(self._connection, statement)
        if extra:
            rows = [r[:width] for r in rows]
        if not in_sql:
            rows = list(dict.fromkeys(rows))
            rows = rows[offset or 0 :]
            rows = rows if limit is None else rows[:limit]
        return rows

    def any(self) -> bool:
        """Return whether there is any row."""
        statement = self.statement([sa.literal(1)]).limit(1)
        return bool(self._database.fetch(self._connection, statement))


def parse_where(text: str, bind: Mapping[str, Any] | None) -> Where:
    """Return the terms of a condition's text."""
    from ..vocabulary.expression import parse_expression

    return Where(tuple(conjuncts(parse_expression(text))), text, bind)
