"""DatasetSearch: datasets of one type in an ordered list of collections; first match wins.

A search is one statement for each kind of collection that can hold the type (RUN, TAGGED, CALIBRATION). Which
collection comes first, and which validity range holds, is decided by numpy on the rows that come back: that
is one sort, where a window function would make the database sort by data ID row by row.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import CalibrationLookupError, DatasetTypeError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable, first_rows
from ..vocabulary.dataset import DatasetRef, DatasetTable, uuid_column
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.timespan import MAX_NS, MIN_NS, Timespan
from . import schema
from .bulk_rows import temporary_rows
from .database import Database
from .definitions import CollectionRow, DatasetTypeRow, Definitions
from .session import Session

_FEW_LEAVES = 4
"""A search of so few collections is not narrowed by the summaries first."""
_FEW_DATA_IDS = 5000
"""So few data IDs are always looked up; for more, reading a whole range may cost less."""


@dataclass(frozen=True)
class Candidates:
    """Datasets that searches chose from: rows in search order of their collection.

    Attributes
    ----------
    data_ids : `DataIdTable`
        Data ID of each row.
    row_ids, run_ids : `numpy.ndarray`, shape (n,), int64
        Row numbers of dataset and RUN.
    uuids : `numpy.ndarray`, shape (n, 16), uint8
        Identity.
    ranks : `numpy.ndarray`, shape (n,), int64
        Place of the collection it was found in.
    begin_ns, end_ns : `numpy.ndarray`, shape (n,), int64
        Validity range; everything but in CALIBRATION collections.
    certified : `numpy.ndarray`, shape (n,), bool
        Whether it was found in a CALIBRATION collection.
    places : `numpy.ndarray`, shape (n,), int64
        Place of each row in the order in which the database gave them.
    """

    data_ids: DataIdTable
    row_ids: NDArray[np.int64]
    uuids: NDArray[np.uint8]
    run_ids: NDArray[np.int64]
    ranks: NDArray[np.int64]
    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    certified: NDArray[np.bool_]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_ids)


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
        begin_ns, end_ns : `numpy.ndarray`, shape (n,), int64, optional
            Time of each data ID for the look-up in CALIBRATION collections [TAI ns].

        Returns
        -------
        datasets : `DatasetTable`
            Those found, each once.
        rows : `numpy.ndarray`, shape (n,), int64
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
            codes = candidates.data_ids.match(unique) if len(candidates) else np.zeros(0, np.int64)
            best = _first_matches(inverse, codes, candidates, begin_ns, end_ns, len(unique), kind, leaves)
            hit = best >= 0
            # By dataset, which may have been found in several collections or validity ranges.
            _, first, rows = np.unique(candidates.row_ids[best[hit]], return_index=True, return_inverse=True)
            index = np.full(len(wanted), -1, dtype=np.int64)
            index[hit] = rows
            return self.table(session.definitions, kind, candidates, best[hit][first]), index

    def table(
        self,
        definitions: Definitions,
        kind: DatasetTypeRow,
        candidates: Candidates,
        rows: NDArray[np.int64],
    ) -> DatasetTable:
        """Return some candidates as a dataset table."""
        run_ids, codes = np.unique(candidates.run_ids[rows], return_inverse=True)
        by_id = definitions.collections_by_id
        return DatasetTable(
            kind.definition,
            candidates.data_ids.take(rows),
            candidates.uuids[rows],
            codes.astype(np.int32),
            [by_id[i].name for i in run_ids.tolist()],
            candidates.row_ids[rows],
        )

    def _candidates_of(
        self,
        session: Session,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        unique: DataIdTable,
    ) -> Candidates:
        n, keys = len(unique), kind.tables.keys
        if n == 0 or not leaves:
            return empty_candidates(kind)
        if not keys:
            return candidates_of_rows(kind, leaves, [self._rows_of_one(session, kind, leaves, ())])
        if n == 1:
            values = tuple(unique.value(k, 0) for k in keys)
            return candidates_of_rows(kind, leaves, [self._rows_of_one(session, kind, leaves, values)])
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
            return candidates_of_rows(kind, leaves, portions)

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
            _raise_ambiguous(
                kind, candidates_of_rows(kind, leaves, [[best, *rivals]]), [0, 1], leaves, timespan
            )
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


def candidates_of_rows(
    kind: DatasetTypeRow,
    leaves: Sequence[CollectionRow],
    portions: Iterable[Sequence[tuple[Any, ...]]],
) -> Candidates:
    """Make candidates of rows with the columns of `search_statements`, put into search order.

    Of RUN collections the first columns, to ``run_id``, are enough. Rows come in portions and are columns at
    once: as Python values a million would take 400 MiB.
    """
    group = kind.definition.dimensions
    width = len(group.required)
    tables: list[DataIdTable] = []
    identities: list[NDArray[np.uint8]] = []
    numbers: list[list[NDArray[np.int64]]] = []
    for rows in portions:
        if rows:
            columns = list(zip(*rows, strict=True))
            values = dict(zip(group.required, columns, strict=False))
            tables.append(DataIdTable.from_values(group, values, len(rows)))
            identities.append(uuid_column(columns[width + 1]))
            numbers.append([np.array(c, dtype=np.int64) for c in (columns[width], *columns[width + 2 :])])
    if not tables:
        return empty_candidates(kind)
    if len(tables) == 1:
        (data_ids,), (uuids,), (columns_of_numbers,) = tables, identities, numbers
    else:
        data_ids, uuids = DataIdTable.concatenate(tables), np.concatenate(identities)
        columns_of_numbers = list(map(np.concatenate, zip(*numbers, strict=True)))
    row_ids, run_ids, *rest = columns_of_numbers
    n = len(row_ids)
    collections, begin_ns, end_ns = rest or (run_ids, np.full(n, MIN_NS), np.full(n, MAX_NS))
    ids = np.array([leaf.id for leaf in leaves], dtype=np.int64)
    order = np.argsort(ids)
    ranks = order[np.searchsorted(ids, collections, sorter=order)]
    is_calib = np.array([leaf.type is CollectionType.CALIBRATION for leaf in leaves], dtype=bool)
    if len(leaves) == 1:
        places = np.arange(n)
        return Candidates(data_ids, row_ids, uuids, run_ids, ranks, begin_ns, end_ns, is_calib[ranks], places)
    sort = np.argsort(ranks, kind="stable")
    return Candidates(
        data_ids.take(sort),
        row_ids[sort],
        uuids[sort],
        run_ids[sort],
        ranks[sort],
        begin_ns[sort],
        end_ns[sort],
        is_calib[ranks[sort]],
        sort,
    )


def empty_candidates(kind: DatasetTypeRow) -> Candidates:
    """Return no candidates."""
    none = np.zeros(0, dtype=np.int64)
    return Candidates(
        DataIdTable.empty(kind.definition.dimensions),
        none,
        np.zeros((0, 16), dtype=np.uint8),
        none,
        none,
        none,
        none,
        np.zeros(0, dtype=bool),
        none,
    )


def first_of_each(
    candidates: Candidates, kind: DatasetTypeRow, leaves: Sequence[CollectionRow]
) -> NDArray[np.int64]:
    """Return the rows that are the first of their data ID, in search order.

    Raises
    ------
    CalibrationLookupError
        If the first collection with a data ID is a CALIBRATION one and certifies several datasets for it.
    """
    n = len(candidates)
    if not n:
        return np.zeros(0, dtype=np.int64)
    codes = candidates.data_ids.codes()
    first = first_rows(codes)
    if candidates.certified.any():
        winner = first[codes]
        rival = (
            candidates.certified
            & (candidates.ranks == candidates.ranks[winner])
            & (candidates.row_ids != candidates.row_ids[winner])
        )
        if rival.any():
            row = int(np.flatnonzero(rival)[0])
            _raise_ambiguous(kind, candidates, [int(winner[row]), row], leaves, None)
    return np.sort(first)


def _first_matches(
    wanted: NDArray[np.int64],
    codes: NDArray[np.int64],
    candidates: Candidates,
    begin_ns: NDArray[np.int64] | None,
    end_ns: NDArray[np.int64] | None,
    n_unique: int,
    kind: DatasetTypeRow,
    leaves: Sequence[CollectionRow],
) -> NDArray[np.int64]:
    # `wanted` is the unique data ID of each row asked for, `codes` that of each candidate (-1: none). Where
    # time does not matter, the answer is the same for all rows of a data ID.
    timeless = np.flatnonzero((codes >= 0) & ~candidates.certified)[::-1]
    first = np.full(n_unique, -1, dtype=np.int64)
    first[codes[timeless]] = timeless
    best = first[wanted]
    certified = np.flatnonzero((codes >= 0) & candidates.certified)
    for rank in np.unique(candidates.ranks[certified]).tolist():
        ranges = certified[candidates.ranks[certified] == rank]
        rows = np.flatnonzero((best < 0) | (candidates.ranks[best] > rank))
        spans = None if begin_ns is None or end_ns is None else (begin_ns[rows], end_ns[rows])
        ranges, low, high = _matching_ranges(wanted[rows], codes, candidates, ranges, spans)
        # A dataset may be certified for several ranges that follow one another.
        changes = np.cumsum(np.diff(candidates.row_ids[ranges], prepend=0) != 0)
        hit = low < high
        rivals = np.flatnonzero(hit)[changes[high[hit] - 1] != changes[low[hit]]]
        if len(rivals):
            i = int(rivals[0])
            time = None if spans is None else Timespan(int(spans[0][i]), int(spans[1][i]))
            _raise_ambiguous(kind, candidates, ranges[[low[i], high[i] - 1]].tolist(), leaves, time)
        best[rows[hit]] = ranges[low[hit]]
    return best


def _matching_ranges(
    wanted: NDArray[np.int64],
    codes: NDArray[np.int64],
    candidates: Candidates,
    ranges: NDArray[np.int64],
    spans: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return ranges of one collection sorted by data ID and time, and which of them hold for each row.

    These are the ones from ``low`` to before ``high``: ranges of a data ID in a collection do not overlap, so
    they begin and end in the same order, and two binary searches take the place of a join with all of them.
    """
    ranges = ranges[np.lexsort((candidates.begin_ns[ranges], codes[ranges]))]
    own = codes[ranges]
    if spans is None:
        return ranges, np.searchsorted(own, wanted, side="left"), np.searchsorted(own, wanted, side="right")
    begin, end = spans[0], np.maximum(spans[1], spans[0] + 1)  # an instant is inside what begins at it
    columns = [candidates.begin_ns[ranges], candidates.end_ns[ranges], begin, end]
    places = np.unique(np.concatenate(columns), return_inverse=True)[1]
    # Data ID and time as one number.
    width = int(places.max()) + 1 if len(places) else 1
    range_begin, range_end, begin, end = np.split(places, np.cumsum([len(c) for c in columns])[:-1])
    low = np.searchsorted(own * width + range_end, wanted * width + begin, side="right")
    high = np.searchsorted(own * width + range_begin, wanted * width + end, side="left")
    return ranges, low, high


def _raise_ambiguous(
    kind: DatasetTypeRow,
    candidates: Candidates,
    rows: Sequence[int],
    leaves: Sequence[CollectionRow],
    time: Timespan | None,
) -> None:
    collection = leaves[int(candidates.ranks[rows[0]])].name
    ranges = ", ".join(str(Timespan(int(candidates.begin_ns[r]), int(candidates.end_ns[r]))) for r in rows)
    when = "without a time" if time is None else f"at {time}"
    raise CalibrationLookupError(
        f"Several {kind.definition.name!r} datasets for {candidates.data_ids[rows[0]]} are certified in "
        f"{collection!r} ({ranges}, ...); a look-up {when} cannot choose. "
        "Give a timespan, or a data ID with an exposure or visit."
    )


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
