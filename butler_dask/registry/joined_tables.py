"""JoinedTables: the tables a query reads, what they have in common, and the columns they give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa

from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from . import schema
from .bulk_rows import temporary_rows
from .dataset_search import search_statements
from .definitions import CollectionRow
from .dimension_records import column_name
from .expression_names import DatasetField, FieldReference
from .expression_values import Operand
from .resolved_selection import DatasetJoin
from .schema import element_tables
from .session import Session


class JoinedTables:
    """Tables of one query; every value that several of them give must be the same in all.

    Parameters
    ----------
    session : `Session`
        From `Database.read`.
    stack : `contextlib.ExitStack`
        Holds temporary tables until the rows are read.
    dimensions : `DimensionGroup`
        Dimensions of the query.

    Attributes
    ----------
    columns : `dict` [`str`, `list`]
        Columns that give the values of a dimension, one of each table that does.
    elements : `dict` [`str`, `sqlalchemy.FromClause`]
        Tables of dimension elements.
    conditions : `list`
        What must hold for a row.
    are_lasting : `bool`
        Whether none of the tables is a temporary one.
    """

    def __init__(self, session: Session, stack: ExitStack, dimensions: DimensionGroup) -> None:
        self._session, self._stack, self._dimensions = session, stack, dimensions
        self.columns: dict[str, list[Any]] = {}
        self.elements: dict[str, Any] = {}
        self.conditions: list[Any] = []
        self.are_lasting = True
        self._sources: list[Any] = []
        self._dataset_columns: dict[str, Any] = {}

    def provide(self, columns: Mapping[str, Any]) -> None:
        """Note the columns that give the values of dimensions."""
        for name, column in columns.items():
            known = self.columns.setdefault(name, [])
            if known:
                self.conditions.append(column == known[0])
            known.append(column)

    def element(self, element_name: str) -> Any:
        """Return the table of a dimension element, joining it unless it is."""
        if element_name not in self.elements:
            element = DimensionUniverse()[element_name]
            table = element_tables[element_name].alias()
            self.elements[element_name] = table
            self._sources.append(table)
            names = (*element.required, *element.implies)
            self.provide({n: table.c[column_name(element, n)] for n in names})
        return self.elements[element_name]

    def join_data_ids(self, table: DataIdTable) -> None:
        """Join data IDs given."""
        names = table.dimensions.required
        if not names:
            if not len(table):
                self.conditions.append(sa.false())
            return
        rows = list(zip(*(table.values(n).tolist() for n in names), strict=True))
        self.join(self.temporary(names, list(dict.fromkeys(rows))))

    def join_datasets(self, dataset: DatasetJoin) -> None:
        """Join the datasets of a type."""
        parts = search_statements(dataset.kind, dataset.leaves)
        if not parts:
            # No collection holds the type: a search of RUN number 0, which there is not.
            nowhere = CollectionRow(0, "", CollectionType.RUN, "")
            parts = search_statements(dataset.kind, [nowhere])
        source = parts[0].subquery() if len(parts) == 1 else sa.union_all(*parts).subquery()
        self._sources.append(source)
        self._dataset_columns[dataset.name] = source.c
        self.provide({n: source.c[n] for n in dataset.dimensions.required})

    def join(self, table: sa.Table) -> None:
        """Join a table whose columns are named for dimensions."""
        self._sources.append(table)
        self.provide({c.name: c for c in table.columns})

    def temporary(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> sa.Table:
        """Return a temporary table of data ID values, not joined yet."""
        self.are_lasting = False
        types = {n: schema.column_of_dimension(n).type for n in names}
        return self._stack.enter_context(temporary_rows(self._session, types, rows))

    # What the expression compiler asks for

    def field(self, reference: FieldReference) -> Any:
        """Return the column of a field (for a timespan: two)."""
        if reference.is_dimension and reference.element in self.columns:
            return self.columns[reference.element][0]
        if DimensionUniverse()[reference.element].skypix_level is not None:
            return self.columns[reference.element][0]
        if reference.field in self._dimensions.names and reference.field in self.columns:
            return self.columns[reference.field][0]
        table = self.element(reference.element)
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

    def are_in(self, table: sa.Table, names: Sequence[str]) -> Any:
        """Return the condition that the values of dimensions are in a table."""
        return sa.exists(
            sa.select(sa.literal(1))
            .select_from(table)
            .where(*(table.c[n] == self.columns[n][0] for n in names))
        )

    def member(self, column: Any, values: Sequence[Any], kind: sa.types.TypeEngine[Any]) -> Any:
        """Return the condition that a column is one of many values of a type."""
        rows = [(v,) for v in dict.fromkeys(values)]
        if not rows:
            return sa.false()
        self.are_lasting = False
        table = self._stack.enter_context(temporary_rows(self._session, {"value": kind}, rows))
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

    # What is read

    def columns_of(self, operand: Operand) -> list[Any]:
        """Return the columns of a field's value: one, or two for a timespan."""
        if operand.kind == "region":
            assert isinstance(operand.reference, FieldReference)
            return [self.field(operand.reference)]
        return list(operand.sql) if operand.kind == "timespan" else [operand.sql]

    def statement(self, columns: Sequence[Any]) -> sa.Select[Any]:
        """Return the statement that reads columns."""
        return sa.select(*columns).select_from(*self._sources).where(*self.conditions)

    def labelled(self, names: Iterable[str]) -> list[Any]:
        """Return one column for each of some dimensions."""
        return [self.columns[n][0].label(n) for n in names]

    def dataset_columns(self, name: str) -> Any:
        """Return the columns of a joined dataset type, those of `search_statements`."""
        return self._dataset_columns[name]
