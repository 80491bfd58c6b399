"""DatasetPool: the datasets of one type that a graph in the making knows of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dataset_id import new_dataset_ids
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileTable
from .string_column import StringColumn


class SharedRows:
    """Rows taken from data ID tables, so that taking the same rows again gives the same table.

    The outputs of one task mostly have the data IDs of its quanta; a graph keeps them once.
    """

    def __init__(self) -> None:
        self._taken: dict[tuple[int, bytes], DataIdTable] = {}
        self._tables: list[DataIdTable] = []

    def take(self, table: DataIdTable, rows: NDArray[np.int64]) -> DataIdTable:
        """Return rows of a table, which are ascending; the table itself if they are all.

        Parameters
        ----------
        table : `DataIdTable`
            Where from.
        rows : `numpy.ndarray`, shape (n,), int64
            Which rows, rising.

        Returns
        -------
        taken : `DataIdTable`, n rows
            The same object for the same question.
        """
        if len(rows) == len(table):
            return table
        key = (id(table), rows.tobytes())
        if key not in self._taken:
            self._tables.append(table)  # keeps its id from being used again
            self._taken[key] = table.take(rows)
        return self._taken[key]


class DatasetPool:
    """Datasets of one type, numbered from 0: predicted ones first, then existing ones as they are found.

    Parameters
    ----------
    dataset_type : `DatasetType`
        Type of all, as stored.

    Notes
    -----
    What exists is known by its UUID, not its data ID: calibrations of one data ID differ in validity.
    """

    def __init__(self, dataset_type: DatasetType) -> None:
        self.dataset_type = dataset_type
        self._predicted: DataIdTable | None = None
        self._ids: NDArray[np.uint8] | None = None
        self._substitutes: NDArray[np.int64] | None = None
        self._found: list[tuple[DatasetTable, FileTable]] = []
        self._known: dict[bytes, int] | None = None
        self._n_found = 0

    def __len__(self) -> int:
        return self.n_predicted + self._n_found

    @property
    def n_predicted(self) -> int:
        """Number of predicted datasets."""
        return 0 if self._predicted is None else len(self._predicted)

    @property
    def predicted(self) -> DataIdTable:
        """Data IDs of the predicted datasets."""
        return self._predicted or DataIdTable.empty(self.dataset_type.dimensions)

    def predict(self, data_ids: DataIdTable) -> None:
        """Add the outputs of a task, with new ids; once for a pool, before anything is found.

        Parameters
        ----------
        data_ids : `DataIdTable`, n rows
            Their data IDs.
        """
        self._predicted = data_ids
        self._ids = new_dataset_ids(len(data_ids))

    def keep_ids(self, rows: NDArray[np.int64], ids: NDArray[np.uint8]) -> None:
        """Give predicted datasets the ids they have in the output run already.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (k,), int64
            Predicted rows.
        ids : `numpy.ndarray`, shape (k, 16), uint8
            Their UUIDs.
        """
        assert self._ids is not None
        self._ids[rows] = ids

    def substitute(self, rows: NDArray[np.int64], found: NDArray[np.int64]) -> None:
        """Let existing datasets stand for predicted ones, whose quanta need not run.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (n,), int64
            Rows of predicted datasets.
        found : `numpy.ndarray`, shape (n,), int64
            Rows of the existing ones that take their places.
        """
        if self._substitutes is None:
            self._substitutes = np.arange(self.n_predicted, dtype=np.int64)
        self._substitutes[rows] = found

    def resolve(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return rows with substitutes in their places.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (n,), integer
            Rows of this pool.

        Returns
        -------
        resolved : `numpy.ndarray`, shape (n,), int64
            Rows of this pool.
        """
        if self._substitutes is None:
            return rows.astype(np.int64)
        return np.where(
            rows < self.n_predicted, self._substitutes[np.minimum(rows, self.n_predicted - 1)], rows
        )

    def add(self, table: DatasetTable, files: FileTable) -> NDArray[np.int64]:
        """Add existing datasets and return their rows; those known already keep theirs.

        Parameters
        ----------
        table : `DatasetTable`
            The datasets.
        files : `FileTable`
            Where they are, row by row.

        Returns
        -------
        rows : `numpy.ndarray`, shape (n,), int64
            Row in this pool of each.
        """
        if not self._found and _all_different(table.ids):
            # The usual case, one search a type: nothing to compare with.
            self._found.append((table, files))
            self._n_found = len(table)
            return self.n_predicted + np.arange(len(table), dtype=np.int64)
        if self._known is None:
            self._known = {}
            for row, key in enumerate(k for t, _ in self._found for k in _keys(t.ids)):
                self._known[key] = self.n_predicted + row
        following = len(self)
        new: list[int] = []
        rows = np.empty(len(table), dtype=np.int64)
        for i, key in enumerate(_keys(table.ids)):
            row = self._known.get(key, -1)
            if row < 0:
                row = self._known[key] = following + len(new)
                new.append(i)
            rows[i] = row
        if new:
            chosen = np.array(new, dtype=np.int64)
            self._found.append((table.take(chosen), take_files(files, chosen)))
            self._n_found += len(new)
        return rows

    def select(
        self, rows: NDArray[np.int64], run: str, shared: SharedRows | None = None
    ) -> tuple[DatasetTable, FileTable | None]:
        """Return chosen datasets.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (k,), int64
            Rows of this pool, ascending.
        run : `str`
            RUN of the predicted ones.
        shared : `SharedRows`, optional
            Lets pools with the same data IDs share them.

        Returns
        -------
        table : `DatasetTable`, k rows
            Identities of the datasets.
        files : `FileTable`, k rows, or `None`
            Where they are, with empty paths for predicted ones; `None` if all are predicted.
        """
        shared = SharedRows() if shared is None else shared
        n = self.n_predicted
        cut = int(np.searchsorted(rows, n))
        tables: list[DatasetTable] = []
        files: list[FileTable] = []
        if cut:
            assert self._predicted is not None
            assert self._ids is not None
            data_ids = shared.take(self._predicted, rows[:cut])
            ids = self._ids if cut == n else self._ids[rows[:cut]]
            codes = np.broadcast_to(np.int32(0), (cut,))
            tables.append(DatasetTable(self.dataset_type, data_ids, ids, codes, (run,)))
            files.append(_no_files(cut))
        if cut < len(rows):
            found = DatasetTable.concatenate([t for t, _ in self._found])
            places = rows[cut:] - n
            tables.append(found.take(places))
            files.append(take_files(concatenate_files([f for _, f in self._found]), places))
        if not tables:
            return DatasetTable.empty(self.dataset_type), None
        if len(tables) == 1:
            return tables[0], files[0] if cut == 0 else None
        return DatasetTable.concatenate(tables), concatenate_files(files)


def _keys(ids: NDArray[np.uint8]) -> list[bytes]:
    raw = np.ascontiguousarray(ids).tobytes()
    return [raw[i : i + 16] for i in range(0, len(raw), 16)]


def _all_different(ids: NDArray[np.uint8]) -> bool:
    # 64 bits of a product hash: equal ids collide surely, different ones once in many millions of tables.
    halves = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
    return len(np.unique(halves[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ halves[:, 1])) == len(ids)


def _no_files(count: int) -> FileTable:
    nothing = StringColumn.empty_strings(count)
    zeros = np.broadcast_to(np.int16(0), (count,))
    return FileTable(nothing, zeros, ("",), zeros, ("",), np.broadcast_to(np.int64(-1), (count,)), nothing)


def has_file(files: FileTable) -> NDArray[np.bool_]:
    """Return which rows have a file, shape (n,).

    Parameters
    ----------
    files : `FileTable`, n rows
        Records; an empty path stands for no file.

    Returns
    -------
    present : `numpy.ndarray`, shape (n,), bool
        Whether there is one.
    """
    if isinstance(files.paths, StringColumn):
        result: NDArray[np.bool_] = np.diff(files.paths.offsets) > 0
        return result
    return np.fromiter(map(bool, files.paths), dtype=bool, count=len(files))


def take_files(files: FileTable, rows: NDArray[np.int64]) -> FileTable:
    """Return rows of a table of file records.

    Parameters
    ----------
    files : `FileTable`
        Records.
    rows : `numpy.ndarray`, shape (n,), int64
        Which.

    Returns
    -------
    taken : `FileTable`, n rows
        In the order of ``rows``.
    """
    return FileTable(
        StringColumn.from_strings(files.paths).take(rows),
        files.formatter_codes[rows],
        files.formatters,
        files.storage_class_codes[rows],
        files.storage_classes,
        files.sizes[rows],
        StringColumn.from_strings(files.checksums).take(rows),
    )


def concatenate_files(tables: Sequence[FileTable]) -> FileTable:
    """Return all rows of tables of file records, in order.

    Parameters
    ----------
    tables : sequence of `FileTable`
        At least one.

    Returns
    -------
    files : `FileTable`
        Names of formatters and storage classes are merged.
    """
    if len(tables) == 1:
        return tables[0]
    formatters: dict[str, int] = {}
    kinds: dict[str, int] = {}
    formatter_codes, kind_codes = [], []
    for t in tables:
        to = np.array([formatters.setdefault(f, len(formatters)) for f in t.formatters], dtype=np.int16)
        formatter_codes.append(to[t.formatter_codes] if len(to) else t.formatter_codes)
        to = np.array([kinds.setdefault(k, len(kinds)) for k in t.storage_classes], dtype=np.int16)
        kind_codes.append(to[t.storage_class_codes] if len(to) else t.storage_class_codes)
    return FileTable(
        _joined([t.paths for t in tables]),
        np.concatenate(formatter_codes),
        tuple(formatters),
        np.concatenate(kind_codes),
        tuple(kinds),
        np.concatenate([t.sizes for t in tables]),
        _joined([t.checksums for t in tables]),
    )


def _joined(columns: Sequence[Sequence[str]]) -> StringColumn:
    packed = [StringColumn.from_strings(c) for c in columns]
    starts = np.cumsum([0, *(len(c.data) for c in packed)])
    offsets = [c.offsets[:-1] + s for c, s in zip(packed, starts, strict=False)]
    return StringColumn(
        np.append(np.concatenate(offsets), starts[-1]), np.concatenate([c.data for c in packed])
    )
