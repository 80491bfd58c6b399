"""DatasetSearch: datasets of one type in an ordered list of collections; first match wins.

A search is one statement for each kind of collection that can hold the type (RUN, TAGGED, CALIBRATION); the
rows that come back are `Candidates`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import DatasetTypeError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.timespan import MAX_NS, MIN_NS, Timespan
from . import schema
from .bulk_rows import temporary_rows
from .candidates import Candidates
from .database import Database
from .definitions import CollectionRow, DatasetTypeRow
from .session import Session

_FEW_LEAVES = 4
"""A search of so few collections is not narrowed by the summaries first."""
_FEW_DATA_IDS = 5000
"""So few data IDs are always looked up; for more, reading a whole range may cost less."""


class DatasetSearch:
    """Searches for datasets in a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._look_ups: dict[tuple[int, CollectionType, int], str] = {}

    def leaves(
        self,
        session: Session,
        kind: DatasetTypeRow,
        collections: Iterable[str],
    ) -> list[CollectionRow]:
        """Return the collections, chains flattened, that hold datasets of a type, in search order."""
        leaves = session.definitions.leaves(tuple(collections))
        if len(leaves) > _FEW_LEAVES:
            sql = "SELECT collection_id FROM collection_summary WHERE dataset_type_id = ?"
            holding = {r[0] for r in session.fetch_sql(sql, (kind.id,))}
            return [row for row in leaves if row.id in holding]
        return list(leaves)

    def find(
        self,
        dataset_type: DatasetType | str,
        data_ids: DataIdTable,
        collections: Sequence[str],
        *,
        begin_ns: NDArray[np.int64] | None = None,
        end_ns: NDArray[np.int64] | None = None,
    ) -> tuple[DatasetTable, NDArray[np.int64]]:
        """Find the first dataset of a type for each data ID.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type.
        data_ids : `DataIdTable`
            Data IDs, with at least the type's required dimensions.
        collections : sequence of `str`
            Where to look, first match wins.
        begin_ns, end_ns : `numpy.ndarray`, shape (n,), int64 [TAI ns], optional
            Time of each data ID for the look-up in CALIBRATION collections.

        Returns
        -------
        datasets : `DatasetTable`
            Those found, each once.
        rows : `numpy.ndarray`, shape (n,), int64 [1]
            Row in ``datasets`` for each data ID, -1 where there is none.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection gives several for one data ID (and time).
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        with self._database.read() as session:
            kind = session.definitions.dataset_type(name)
            group = kind.definition.dimensions
            _check_dimensions(kind, data_ids.dimensions, data_ids.columns)
            leaves = self.leaves(session, kind, collections)
            wanted = data_ids.subset(group)
            unique, inverse = (
                wanted.unique() if len(wanted) > 1 else (wanted, np.zeros(len(wanted), np.int64))
            )
            candidates = self._candidates_of(session, kind, leaves, unique)
            best = candidates.first_matches(unique, inverse, begin_ns, end_ns)
            hit = best >= 0
            # By dataset, which may have been found in several collections or validity ranges.
            _, first, rows = np.unique(candidates.row_ids[best[hit]], return_index=True, return_inverse=True)
            index = np.full(len(wanted), -1, dtype=np.int64)
            index[hit] = rows
            return candidates.table(session.definitions, best[hit][first]), index

    def _candidates_of(
        self,
        session: Session,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        unique: DataIdTable,
    ) -> Candidates:
        n, keys = len(unique), kind.tables.keys
        if n == 0 or not leaves:
            return Candidates.empty(kind)
        if not keys:
            return Candidates.of_rows(kind, leaves, [self._rows_of_one(session, kind, leaves, ())])
        if n == 1:
            values = tuple(unique.value(k, 0) for k in keys)
            return Candidates.of_rows(kind, leaves, [self._rows_of_one(session, kind, leaves, values)])
        with ExitStack() as stack:
            bounds = _bounds(unique)
            # A look-up in every collection costs about as much as reading a row.
            most = n * max(len(leaves), 4)
            dense = n > _FEW_DATA_IDS and self._are_fewer(session, kind, leaves, bounds, most)
            statements = []
            if dense:
                for part in search_statements(kind, leaves):
                    statements.append(part.where(*_within(part, bounds)))
            else:
                table = kind.tables.datasets
                rows = list(zip(*(unique.values(k).tolist() for k in keys), strict=True))
                wanted = stack.enter_context(
                    temporary_rows(session, {k: table.c[k].type for k in keys}, rows)
                )
                for part in search_statements(kind, leaves):
                    columns = part.selected_columns
                    statements.append(part.where(*(columns[k] == wanted.c[k] for k in keys)))
            portions = (p for s in statements for p in session.fetch_portions(s))
            return Candidates.of_rows(kind, leaves, portions)

    def find_one(
        self,
        dataset_type: DatasetType | str,
        data_id: DataCoordinate,
        collections: Sequence[str],
        timespan: Timespan | None = None,
    ) -> DatasetRef | None:
        """Find the first dataset of a type for one data ID.

        The same as `find`, without columns, which take longer than the database for one row.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type.
        data_id : `DataCoordinate`
            Data ID, with at least the type's required dimensions.
        collections : sequence of `str`
            Where to look, first match wins.
        timespan : `Timespan`, optional
            Time for the look-up in CALIBRATION collections.

        Returns
        -------
        ref : `DatasetRef` or `None`
            Its data ID has the required values only.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection gives several (at that time).
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        with self._database.read() as session:
            definitions = session.definitions
            kind = definitions.dataset_type(name)
            group = kind.definition.dimensions
            if data_id.dimensions != group:
                _check_dimensions(kind, data_id.dimensions, data_id.dimensions.required)
                data_id = data_id.subset(group)
            leaves = self.leaves(session, kind, collections)
            row = self._first_row(session, kind, leaves, data_id.required_values, timespan)
            if row is None:
                return None
            width = len(kind.tables.keys)
            return DatasetRef(
                kind.definition,
                DataCoordinate(group, row[:width]),
                definitions.collections_by_id[row[width + 2]].name,
                id=uuid.UUID(bytes=bytes(row[width + 1])),
            )

    def _first_row(
        self,
        session: Session,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        values: tuple[Any, ...],
        timespan: Timespan | None,
    ) -> tuple[Any, ...] | None:
        """Return the first row for the values of one data ID, with the columns of `search_statements`."""
        rows = self._rows_of_one(session, kind, leaves, values)
        width = len(kind.tables.keys)
        certified = {leaf.id for leaf in leaves if leaf.type is CollectionType.CALIBRATION}
        if timespan is not None and certified:
            begin, end = timespan.begin_ns, max(timespan.end_ns, timespan.begin_ns + 1)
            rows = [
                r
                for r in rows
                if r[width + 3] not in certified or (r[width + 4] < end and begin < r[width + 5])
            ]
        if len(rows) < 2:
            return rows[0] if rows else None
        rank = {leaf.id: i for i, leaf in enumerate(leaves)}
        best = min(rows, key=lambda r: rank[r[width + 3]])
        rivals = [r for r in rows if r[width + 3] == best[width + 3] and r[width] != best[width]]
        if rivals:
            raise Candidates.of_rows(kind, leaves, [[best, *rivals]]).ambiguity([0, 1], timespan)
        return best

    def _rows_of_one(
        self,
        session: Session,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        values: tuple[Any, ...],
    ) -> list[tuple[Any, ...]]:
        """Return all rows for the values of one data ID, with the columns of `search_statements`."""
        ids: dict[CollectionType, list[int]] = {}
        for leaf in leaves:
            ids.setdefault(leaf.type, []).append(leaf.id)
        rows: list[tuple[Any, ...]] = []
        for type_, own in ids.items():
            form = (kind.tables.id, type_, len(own))
            sql = self._look_ups.get(form)
            if sql is None:
                sql = self._look_ups[form] = _look_up(session, kind, type_, len(own))
            rows += session.fetch_sql(sql, (kind.id, *own, *values))
        return rows

    def _are_fewer(
        self,
        session: Session,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        bounds: Mapping[str, tuple[Any, Any]],
        most: int,
    ) -> bool:
        """Return whether there are at most so many candidates within bounds; more are not counted."""
        for part in search_statements(kind, leaves):
            inside = part.where(*_within(part, bounds)).with_only_columns(
                sa.literal(1), maintain_column_froms=True
            )
            counted = sa.select(sa.func.count()).select_from(inside.limit(most + 1).subquery())
            most -= int(session.fetch(counted)[0][0])
            if most < 0:
                return False
        return True


def _check_dimensions(kind: DatasetTypeRow, given: DimensionGroup, names: Collection[str]) -> None:
    group = kind.definition.dimensions
    missing = [n for n in group.required if n not in names]
    if missing:
        raise DatasetTypeError(
            f"Dataset type {kind.definition.name!r} has dimensions {group}; the data IDs {given} have "
            f"no {', '.join(missing)}."
        )


def _look_up(session: Session, kind: DatasetTypeRow, type_: CollectionType, count: int) -> str:
    """Return SQL text like one of `search_statements`, for one data ID in so many collections.

    The way of ``Butler.get``: text made by hand, since building statements would take most of the time.
    """
    tables, quote = kind.tables, session.quote
    keys = [f"t.{quote(k)}" for k in tables.keys]
    place, identity, span, join = "collection_id", "d.uuid, d.run_id", f"{MIN_NS}, {MAX_NS}", ""
    if type_ is CollectionType.RUN:
        table, place, identity = tables.datasets, "run_id", "t.uuid, t.run_id"
    else:
        table, join = tables.tags, " JOIN dataset d ON d.id = t.dataset_id"
        if type_ is CollectionType.CALIBRATION:
            table, span = tables.calibs, "t.begin_ns, t.end_ns"
    columns = ", ".join([*keys, "t.dataset_id", identity, f"t.{place}", span])
    conditions = [f"{k} = ?" for k in ("t.dataset_type_id", *keys)]
    conditions.insert(1, f"t.{place} IN ({', '.join('?' * count)})")
    return f"SELECT {columns} FROM {table.name} t{join} WHERE {' AND '.join(conditions)}"


def search_statements(kind: DatasetTypeRow, leaves: Sequence[CollectionRow]) -> list[sa.Select[Any]]:
    """Return statements for all datasets of a type in collections, one for each kind of collection.

    Columns are the data ID's values, ``dataset_id``, ``uuid``, ``run_id``, ``collection_id``, ``begin_ns``
    and ``end_ns``.
    """
    out: list[sa.Select[Any]] = []
    keys, tables, d = kind.tables.keys, kind.tables, schema.dataset.c
    ids = {t: [leaf.id for leaf in leaves if leaf.type is t] for t in CollectionType}
    always = (
        sa.literal(MIN_NS, sa.BigInteger).label("begin_ns"),
        sa.literal(MAX_NS, sa.BigInteger).label("end_ns"),
    )
    if ids[CollectionType.RUN]:
        r = tables.datasets.c
        out.append(
            sa.select(
                *(r[k] for k in keys),
                r.dataset_id,
                r.uuid,
                r.run_id,
                r.run_id.label("collection_id"),
                *always,
            ).where(r.dataset_type_id == kind.id, r.run_id.in_(ids[CollectionType.RUN]))
        )
    for type_, table in ((CollectionType.TAGGED, tables.tags), (CollectionType.CALIBRATION, tables.calibs)):
        if ids[type_]:
            c = table.c
            span = (c.begin_ns, c.end_ns) if type_ is CollectionType.CALIBRATION else always
            out.append(
                sa.select(
                    *(c[k] for k in keys), c.dataset_id, d.uuid, d.run_id, c.collection_id, *span
                ).where(c.dataset_type_id == kind.id, c.collection_id.in_(ids[type_]), d.id == c.dataset_id)
            )
    return out


def _bounds(unique: DataIdTable) -> dict[str, tuple[Any, Any]]:
    out: dict[str, tuple[Any, Any]] = {}
    for name in unique.dimensions.required:
        values = unique.values(name)
        out[name] = (min(values.tolist()), max(values.tolist()))
    return out


def _within(statement: sa.Select[Any], bounds: Mapping[str, tuple[Any, Any]]) -> list[Any]:
    columns = statement.selected_columns
    return [
        columns[name] == low if low == high else columns[name].between(low, high)
        for name, (low, high) in bounds.items()
    ]
