"""Datastore: what a butler needs of a place that keeps datasets' objects.

The seam between the butler and the stores: `FileDatastore` (files below a directory or URL),
`MemoryDatastore` (objects of this process) and `ChainedDatastore` (several of these). They share no base
class. A dataset has one record, with one path relative to a datastore's root; a chain uses it for each of
its members, so nothing but the repository's settings says which of them a dataset is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.file_record import FileRecord, FileTable
from .dataset_layout import DatasetLayout


class StagedDataset(Protocol):
    """An object that is complete but does not have its name yet."""

    @property
    def record(self) -> FileRecord:
        """What to record of it."""
        ...

    def publish(self) -> None:
        """Give it its name, replacing what has that name."""
        ...

    def discard(self) -> None:
        """Remove it; to be called instead of `publish`."""
        ...

    def retract(self) -> None:
        """Take back what `publish` did."""
        ...


class Datastore(Protocol):
    """Keeps objects of datasets. The methods are described where `FileDatastore` defines them."""

    @property
    def layout(self) -> DatasetLayout:
        """Path and formatter of each dataset."""
        ...

    @property
    def root(self) -> str:
        """Directory or URL."""
        ...

    @property
    def durability(self) -> str:
        """How sure it is that what was put survives: "rename" or "fsync"."""
        ...

    def path_of(self, ref: DatasetRef) -> str:
        """Return the path a dataset is put at."""
        ...

    def paths_of(self, table: DatasetTable) -> list[str]:
        """Return the path each dataset of a table is put at."""
        ...

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a dataset that will be put."""
        ...

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of datasets that will be put."""
        ...

    def stored_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a dataset that was put at its predicted path."""
        ...

    def uri(self, path: str) -> str:
        """Return the URI of a recorded path."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether something is there."""
        ...

    def exist(self, paths: Sequence[str]) -> list[bool]:
        """Return for each path whether something is there."""
        ...

    def modified(self, path: str) -> float:
        """Return when it was written [s since 1970]."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Return path and size [bytes] of everything there is."""
        ...

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedDataset:
        """Prepare to put an object."""
        ...

    def put(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> FileRecord:
        """Put an object."""
        ...

    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedDataset:
        """Prepare to take an existing file in."""
        ...

    def ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> FileRecord:
        """Take an existing file in."""
        ...

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Read an object, or part of it."""
        ...

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong with what is recorded, or `None`."""
        ...

    def remove(self, paths: Iterable[str]) -> None:
        """Remove what is recorded at paths."""
        ...
