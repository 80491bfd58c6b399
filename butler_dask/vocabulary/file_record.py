"""FileRecord, FileTable and FileDataset: where datasets' objects are stored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import DatasetRef


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Where and how a dataset's object is stored.

    Parameters
    ----------
    path : `str`
        Relative to the datastore's root, or an absolute URI for a file ingested in place.
    formatter : `str`
        Dotted name of the formatter class that wrote it.
    storage_class : `str`
        Storage class it was written as.
    size : `int`
        Bytes; -1 if not known.
    checksum : `str`
        ``algorithm:hex`` or empty.
    """

    path: str
    formatter: str
    storage_class: str
    size: int = -1
    checksum: str = ""

    def moved(self, path: str) -> FileRecord:
        """Return the same record at another path."""
        return replace(self, path=path)


class FileTable:
    """File records of many datasets, as columns.

    Parameters
    ----------
    paths : sequence of `str`, length n
        Path of each row; empty where a dataset has no file.
    formatter_codes, storage_class_codes : `numpy.ndarray`, shape (n,), int16
        Index into ``formatters``, ``storage_classes`` of each row.
    formatters, storage_classes : sequence of `str`
        Names.
    sizes : `numpy.ndarray`, shape (n,), int64
        Size of each file [bytes], -1 if not known.
    checksums : sequence of `str`, length n
        ``algorithm:hex`` or empty.
    """

    __slots__ = (
        "checksums",
        "formatter_codes",
        "formatters",
        "paths",
        "sizes",
        "storage_class_codes",
        "storage_classes",
    )

    def __init__(
        self,
        paths: Sequence[str],
        formatter_codes: NDArray[np.int16],
        formatters: Sequence[str],
        storage_class_codes: NDArray[np.int16],
        storage_classes: Sequence[str],
        sizes: NDArray[np.int64],
        checksums: Sequence[str],
    ) -> None:
        self.paths, self.checksums = paths, checksums
        self.formatter_codes = np.asarray(formatter_codes, dtype=np.int16)
        self.storage_class_codes = np.asarray(storage_class_codes, dtype=np.int16)
        self.formatters, self.storage_classes = tuple(formatters), tuple(storage_classes)
        self.sizes = np.asarray(sizes, dtype=np.int64)
        lengths = {
            len(paths),
            len(self.formatter_codes),
            len(self.storage_class_codes),
            len(self.sizes),
            len(checksums),
        }
        if len(lengths) != 1:
            raise ValueError(f"Columns of file records differ in length: {sorted(lengths)}")

    @classmethod
    def from_records(cls, records: Iterable[FileRecord | None]) -> FileTable:
        """Make from records; `None` gives a row without a file (empty path)."""
        rows = [FileRecord("", "", "") if r is None else r for r in records]
        formatters: dict[str, int] = {}
        kinds: dict[str, int] = {}
        return cls(
            [r.path for r in rows],
            np.array([formatters.setdefault(r.formatter, len(formatters)) for r in rows], dtype=np.int16),
            tuple(formatters),
            np.array([kinds.setdefault(r.storage_class, len(kinds)) for r in rows], dtype=np.int16),
            tuple(kinds),
            np.array([r.size for r in rows], dtype=np.int64),
            [r.checksum for r in rows],
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> FileRecord | None:
        path = self.paths[row]
        if not path:
            return None
        return FileRecord(
            path,
            self.formatters[int(self.formatter_codes[row])],
            self.storage_classes[int(self.storage_class_codes[row])],
            int(self.sizes[row]),
            self.checksums[row],
        )

    def __iter__(self) -> Iterator[FileRecord | None]:
        return (self[i] for i in range(len(self)))


@dataclass(slots=True)
class FileDataset:
    """An existing file and the datasets it holds, for ``Butler.ingest``.

    Parameters
    ----------
    path : `str`
        File to ingest.
    refs : `list` [`DatasetRef`]
        Datasets in it (one, unless a formatter says otherwise).
    formatter : `str` or class, optional
        Formatter that reads it; the storage class's own when not given.
    """

    path: str
    refs: list[DatasetRef]
    formatter: Any = None

    def __post_init__(self) -> None:
        self.path = os.fspath(self.path)
        if isinstance(self.refs, DatasetRef):
            self.refs = [self.refs]
