"""Candidates: datasets that a search of several collections found, and which of them come first.

Which collection comes first, and which validity range holds, is decided here by numpy: that is one sort,
where a window function would make the database sort by data ID row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationLookupError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id_table import DataIdTable, first_rows
from ..vocabulary.dataset import DatasetTable, uuid_column
from ..vocabulary.timespan import MAX_NS, MIN_NS, Timespan
from .definitions import CollectionRow, DatasetTypeRow, Definitions


@dataclass(frozen=True)
class Candidates:
    """Datasets of one type that a search chooses from: rows in search order of their collection.

    Parameters
    ----------
    kind : `DatasetTypeRow`
        Dataset type.
    leaves : sequence of `CollectionRow`
        Collections searched, in order.
    data_ids : `DataIdTable`
        Data ID of each row.
    row_ids : `numpy.ndarray`, shape (n,), int64 [1]
        Row numbers of the datasets.
    uuids : `numpy.ndarray`, shape (n, 16), uint8 [1]
        Identity.
    run_ids : `numpy.ndarray`, shape (n,), int64 [1]
        Row numbers of their RUN collections.
    ranks : `numpy.ndarray`, shape (n,), int64 [1]
        Place of the collection it was found in.
    begin_ns, end_ns : `numpy.ndarray`, shape (n,), int64 [TAI ns]
        Validity range; everything but in CALIBRATION collections.
    certified : `numpy.ndarray`, shape (n,), bool [1]
        Whether it was found in a CALIBRATION collection.
    places : `numpy.ndarray`, shape (n,), int64 [1]
        Place of each row in the order in which the database gave them.
    """

    kind: DatasetTypeRow
    leaves: Sequence[CollectionRow]
    data_ids: DataIdTable
    row_ids: NDArray[np.int64]
    uuids: NDArray[np.uint8]
    run_ids: NDArray[np.int64]
    ranks: NDArray[np.int64]
    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    certified: NDArray[np.bool_]
    places: NDArray[np.int64]

    @classmethod
    def empty(cls, kind: DatasetTypeRow) -> Candidates:
        """Return no candidates."""
        none = np.zeros(0, dtype=np.int64)
        uuids, certified = np.zeros((0, 16), dtype=np.uint8), np.zeros(0, dtype=bool)
        data_ids = DataIdTable.empty(kind.definition.dimensions)
        return cls(kind, (), data_ids, none, uuids, none, none, none, none, certified, none)

    @classmethod
    def of_rows(
        cls,
        kind: DatasetTypeRow,
        leaves: Sequence[CollectionRow],
        portions: Iterable[Sequence[tuple[Any, ...]]],
    ) -> Candidates:
        """Make candidates of rows with the columns of `search_statements`, put into search order.

        Of RUN collections the first columns, to ``run_id``, are enough. Rows come in portions and are columns
        at once: as Python values a million would take 400 MiB.
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
            return cls.empty(kind)
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
        certified = np.array([leaf.type is CollectionType.CALIBRATION for leaf in leaves], dtype=bool)[ranks]
        places = np.arange(n)
        sort: slice | NDArray[np.int64] = slice(None)
        if len(leaves) > 1:
            sort = places = np.argsort(ranks, kind="stable")
            data_ids = data_ids.take(places)
        return cls(
            kind,
            leaves,
            data_ids,
            row_ids[sort],
            uuids[sort],
            run_ids[sort],
            ranks[sort],
            begin_ns[sort],
            end_ns[sort],
            certified[sort],
            places,
        )

    def __len__(self) -> int:
        return len(self.row_ids)

    def table(self, definitions: Definitions, rows: NDArray[np.int64]) -> DatasetTable:
        """Return some of them as a dataset table.

        Parameters
        ----------
        definitions : `Definitions`
            Collections.
        rows : `numpy.ndarray`, shape (m,), int64 [1]
            Which of them.
        """
        run_ids, codes = np.unique(self.run_ids[rows], return_inverse=True)
        by_id = definitions.collections_by_id
        return DatasetTable(
            self.kind.definition,
            self.data_ids.take(rows),
            self.uuids[rows],
            codes.astype(np.int32),
            [by_id[i].name for i in run_ids.tolist()],
            self.row_ids[rows],
        )

    def first_of_each(self) -> NDArray[np.int64]:
        """Return the rows that are the first of their data ID, in search order, shape (m,), int64 [1].

        Raises
        ------
        CalibrationLookupError
            If the first collection with a data ID is a CALIBRATION one and certifies several datasets for it.
        """
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        codes = self.data_ids.codes()
        first = first_rows(codes)
        if self.certified.any():
            winner = first[codes]
            rival = (
                self.certified & (self.ranks == self.ranks[winner]) & (self.row_ids != self.row_ids[winner])
            )
            if rival.any():
                row = int(np.flatnonzero(rival)[0])
                raise self.ambiguity([int(winner[row]), row], None)
        return np.sort(first)

    def first_matches(
        self,
        unique: DataIdTable,
        wanted: NDArray[np.int64],
        begin_ns: NDArray[np.int64] | None,
        end_ns: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Return the row that comes first for each data ID asked for (and time), -1 where there is none.

        Parameters
        ----------
        unique : `DataIdTable`
            The different data IDs asked for.
        wanted : `numpy.ndarray`, shape (m,), int64 [1]
            Which of them each is.
        begin_ns, end_ns : `numpy.ndarray`, shape (m,), int64 [TAI ns], or `None`
            Time of each.

        Returns
        -------
        rows : `numpy.ndarray`, shape (m,), int64 [1]
            Rows of the candidates.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection gives several for one data ID (and time).
        """
        codes = self.data_ids.match(unique) if len(self) else np.zeros(0, np.int64)
        # Where time does not matter, the answer is the same for all rows of a data ID.
        timeless = np.flatnonzero((codes >= 0) & ~self.certified)[::-1]
        first = np.full(len(unique), -1, dtype=np.int64)
        first[codes[timeless]] = timeless
        best = first[wanted]
        certified = np.flatnonzero((codes >= 0) & self.certified)
        for rank in np.unique(self.ranks[certified]).tolist():
            ranges = certified[self.ranks[certified] == rank]
            rows = np.flatnonzero((best < 0) | (self.ranks[best] > rank))
            spans = None if begin_ns is None or end_ns is None else (begin_ns[rows], end_ns[rows])
            ranges, low, high = self._matching_ranges(wanted[rows], codes, ranges, spans)
            # A dataset may be certified for several ranges that follow one another.
            changes = np.cumsum(np.diff(self.row_ids[ranges], prepend=0) != 0)
            hit = low < high
            rivals = np.flatnonzero(hit)[changes[high[hit] - 1] != changes[low[hit]]]
            if len(rivals):
                i = int(rivals[0])
                time = None if spans is None else Timespan(int(spans[0][i]), int(spans[1][i]))
                raise self.ambiguity(ranges[[low[i], high[i] - 1]].tolist(), time)
            best[rows[hit]] = ranges[low[hit]]
        return best

    def _matching_ranges(
        self,
        wanted: NDArray[np.int64],
        codes: NDArray[np.int64],
        ranges: NDArray[np.int64],
        spans: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return ranges of one collection sorted by data ID and time, and which of them hold for each row.

        These are the ones from ``low`` to before ``high``: ranges of a data ID in a collection do not
        overlap, so they begin and end in the same order, and two binary searches take the place of a join
        with all of them.
        """
        ranges = ranges[np.lexsort((self.begin_ns[ranges], codes[ranges]))]
        own = codes[ranges]
        if spans is None:
            low, high = (
                np.searchsorted(own, wanted, side="left"),
                np.searchsorted(own, wanted, side="right"),
            )
            return ranges, low, high
        begin, end = spans[0], np.maximum(spans[1], spans[0] + 1)  # an instant is inside what begins at it
        columns = [self.begin_ns[ranges], self.end_ns[ranges], begin, end]
        places = np.unique(np.concatenate(columns), return_inverse=True)[1]
        # Data ID and time as one number.
        width = int(places.max()) + 1 if len(places) else 1
        range_begin, range_end, begin, end = np.split(places, np.cumsum([len(c) for c in columns])[:-1])
        low = np.searchsorted(own * width + range_end, wanted * width + begin, side="right")
        high = np.searchsorted(own * width + range_begin, wanted * width + end, side="left")
        return ranges, low, high

    def ambiguity(self, rows: Sequence[int], time: Timespan | None) -> CalibrationLookupError:
        """Return the error that says which rows of one data ID a look-up cannot choose between."""
        collection = self.leaves[int(self.ranks[rows[0]])].name
        ranges = ", ".join(str(Timespan(int(self.begin_ns[r]), int(self.end_ns[r]))) for r in rows)
        when = "without a time" if time is None else f"at {time}"
        return CalibrationLookupError(
            f"Several {self.kind.definition.name!r} datasets for {self.data_ids[rows[0]]} are certified in "
            f"{collection!r} ({ranges}, ...); a look-up {when} cannot choose. "
            "Give a timespan, or a data ID with an exposure or visit."
        )
