"""Datastore: what a butler needs of a place that keeps datasets' objects.

The seam between the butler and the stores: `FileDatastore` (files below a directory or URL),
`MemoryDatastore` (objects of this process) and `ChainedDatastore` (several of these). A store says how it
stages, reads, looks for and removes; what follows from these and from the layout is here, once. A dataset has
one record, with one path relative to a datastore's root; a chain uses it for each of its members, so nothing
but the repository's settings says which of them a dataset is in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

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


class Datastore(ABC):
    """Keeps objects of datasets, and knows nothing of the registry.

    A put is two steps for those who need something in between, `stage` and `StagedDataset.publish`: the
    butler records the dataset in an open transaction between them, so that two processes that put the same
    dataset at once never overwrite each other's file.
    """

    keeps_files: ClassVar[bool] = True
    """Whether another process finds what was put."""

    layout: DatasetLayout
    """Path and formatter of each dataset."""

    root: str
    """Directory or URL."""

    durability: str
    """How sure it is that what was put survives: "rename" (power loss may lose the latest) or "fsync"."""

    # What each store does in its own way

    @abstractmethod
    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedDataset:
        """Prepare to put an object.

        Parameters
        ----------
        obj : object
            Object of the dataset type's storage class, or one that converts to it.
        ref : `DatasetRef`
            Dataset it is.
        path : `str`, optional
            Where it will be, instead of where the layout says.

        Raises
        ------
        DatasetFileError
            If the disk is full or fails; nothing is left behind.
        ReadOnlyRepositoryError
            If files must not be written there.
        DatasetTypeError
            If the object is of another kind.
        """

    @abstractmethod
    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedDataset:
        """Prepare to take an existing file in: bytes that have to be copied are copied now.

        Parameters
        ----------
        path : `str`
            Local file or URL.
        ref : `DatasetRef`
            Dataset it is; its path below the root follows from it.
        transfer : `str`
            One of `butler_dask.datastore.file_ingest.TRANSFER_MODES`.
        formatter : `str` or class, optional
            What reads it; default: what would write it.
        storage_class : `str`, optional
            What it holds; default: the dataset type's.

        Returns
        -------
        staged : `StagedDataset`
            In its record the size is known, the checksum only where the bytes were copied.

        Raises
        ------
        DatasetFileError
            If there is no such file or transfer mode, or it cannot be transferred.
        """

    @abstractmethod
    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Read an object, or part of it.

        Parameters
        ----------
        file : `FileRecord`
            Where and how it is stored.
        ref : `DatasetRef`
            Dataset it is, or component of one.
        parameters : mapping, optional
            What the storage class allows (``bbox``, ``columns``).
        storage_class : `str`, optional
            Kind of object wanted; default: the dataset type's.

        Raises
        ------
        MissingDatasetFileError
            If the file is gone.
        DatasetFileError
            If it is damaged.
        DatasetTypeError
            If component or parameter are unknown, or nothing converts to the kind wanted.
        """

    @abstractmethod
    def uri(self, path: str) -> str:
        """Return the URI of a recorded path."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether something is at a recorded path."""

    @abstractmethod
    def modified(self, path: str) -> float:
        """Return when what is at a path was written [s since 1970].

        Raises
        ------
        MissingDatasetFileError
            If it is not there.
        """

    @abstractmethod
    def files(self) -> Iterator[tuple[str, int]]:
        """Return path and size [bytes] of everything there is, whoever put it there."""

    @abstractmethod
    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong with what is recorded, or `None`.

        Parameters
        ----------
        file : `FileRecord`
            What is recorded.
        checksum : `bool`
            Read the file and compare checksums as well.
        """

    @abstractmethod
    def remove(self, paths: Iterable[str]) -> None:
        """Remove what is recorded at paths; what is not there is passed over.

        Raises
        ------
        DatasetFileError
            If the file system does not allow it; may be tried again.
        """

    # What is the same for all, if not always as fast

    def exist(self, paths: Sequence[str]) -> list[bool]:
        """Return for each path whether something is there."""
        return [self.exists(path) for path in paths]

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a dataset that will be put; size and checksum are not known."""
        return self.layout.record(ref)

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of datasets that will be put, as columns (0.5 us a row)."""
        return self.layout.records(table)

    def put(self, obj: Any, ref: DatasetRef) -> FileRecord:
        """Put an object, replacing one that is there; returns what to record. See `stage`."""
        return _published(self.stage(obj, ref))

    def ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> FileRecord:
        """Take an existing file in; returns what to record. See `stage_ingest`."""
        return _published(self.stage_ingest(path, ref, transfer, formatter, storage_class=storage_class))


def _published(staged: StagedDataset) -> FileRecord:
    try:
        staged.publish()
    except BaseException:
        staged.discard()
        raise
    return staged.record
