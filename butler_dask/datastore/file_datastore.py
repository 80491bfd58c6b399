"""FileDatastore: objects to files and back.

It knows nothing of the registry: it is given references and file records, and gives file records. A put is
two steps for those who need something in between, `stage` and `StagedFile.publish`: the butler records the
dataset in an open transaction between them, so that two processes that put the same dataset at once never
overwrite each other's file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import (
    ButlerUserError,
    DatasetFileError,
    DatasetTypeError,
    MissingDatasetFileError,
    ReadOnlyRepositoryError,
    did_you_mean,
)
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.storage_class import find_storage_class
from .checksum import Checksum, checksum_of
from .dataset_layout import DatasetLayout
from .file_cache import FileCache
from .file_ingest import stage_file
from .formatter import ReadRequest, check_part, converted, load_formatter
from .remote_root import RemoteRoot
from .staged_file import StagedFile, is_read_only, writing
from .storage_path import extension_of, is_remote
from .storage_root import StorageRoot, copy_chunks, open_root
from .zip_archive import unpacked

_DAMAGE = (OSError, ValueError, EOFError, KeyError, IndexError, TypeError)
"""What formatters raise when a file is not what it should be."""


_CONNECTIONS = 16
"""Questions to a remote store under way at once."""


class FileDatastore:
    """Files of datasets below one root.

    Parameters
    ----------
    root : `str`
        Directory or fsspec URL.
    durability : `str`
        "rename" (files appear whole; power loss may lose the latest) or "fsync" (they are on disk first).
    checksum : `str`
        "xxh3", "crc32" or "none".
    layout : `DatasetLayout`, optional
        Path and formatter of each dataset.
    cache : mapping, optional
        ``directory``, ``mode`` and ``threshold`` of a `FileCache` of remote files.
    """

    def __init__(
        self,
        root: str,
        *,
        durability: str = "rename",
        checksum: str = "xxh3",
        layout: DatasetLayout | None = None,
        cache: Mapping[str, Any] | None = None,
    ) -> None:
        if durability not in ("rename", "fsync"):
            raise DatasetTypeError(
                f"durability is 'rename' or 'fsync', not {durability!r}."
                f"{did_you_mean(durability, ('rename', 'fsync'))}"
            )
        self._storage = open_root(root, fsync=durability == "fsync")
        self._durability, self._algorithm = durability, checksum
        Checksum(checksum)  # an unknown name fails here, not at the first put
        self._layout = layout or DatasetLayout()
        self._cache_settings = cache
        self._cache = FileCache.from_settings(cache)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # The cache is set up anew: the environment of a worker has a say in it.
        return _restore, (
            self._storage.url,
            self._durability,
            self._algorithm,
            self._layout,
            self._cache_settings,
        )

    @property
    def layout(self) -> DatasetLayout:
        """Path and formatter of each dataset."""
        return self._layout

    @property
    def root(self) -> str:
        """Directory or URL."""
        return self._storage.url

    @property
    def durability(self) -> str:
        """How sure it is that a file survives: "rename" or "fsync"."""
        return self._durability

    # Where things are

    def path_of(self, ref: DatasetRef) -> str:
        """Return the path a dataset is written to, relative to the root."""
        return self._layout.path(ref)

    def paths_of(self, table: DatasetTable) -> list[str]:
        """Return the path each dataset of a table is written to (0.5 us a row)."""
        return self._layout.paths(table)

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a file that will be written; size and checksum are not known."""
        return self._layout.record(ref)

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of files that will be written, as columns."""
        return self._layout.records(table)

    def stored_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a file that was written to its predicted path, size and checksum read from it.

        Raises
        ------
        MissingDatasetFileError
            If it is not there.
        """
        predicted = self.predicted_record(ref)
        with self._reading(predicted, ref):
            size = self._storage.size(predicted.path)
            checksum = Checksum(self._algorithm)
            for chunk in copy_chunks(self._storage.open(predicted.path)):
                checksum.update(chunk)
        return replace(predicted, size=size, checksum=checksum.text)

    def uri(self, path: str) -> str:
        """Return the URI of a recorded path."""
        return self._storage.uri(path)

    def exists(self, path: str) -> bool:
        """Return whether a file is there."""
        try:
            self._place(path).size(path)
        except ButlerUserError:
            raise
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DatasetFileError(
                f"Whether there is a file {self.uri(path)} cannot be said: {error}"
            ) from error
        return True

    def exist(self, paths: Sequence[str]) -> list[bool]:
        """Return for each path whether a file is there; a store far away is asked about many at a time."""
        if self._storage.local("") is not None or len(paths) < 2:
            return [self.exists(path) for path in paths]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return list(pool.map(self.exists, paths))

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970].

        Raises
        ------
        MissingDatasetFileError
            If it is not there.
        """
        try:
            return self._place(path).modified(path)
        except FileNotFoundError as error:
            raise MissingDatasetFileError(f"There is no file {self.uri(path)}") from error

    def files(self) -> Iterator[tuple[str, int]]:
        """Return relative path and size [bytes] of every file below the root, whoever put it there."""
        return self._storage.files()

    # Writing

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedFile:
        """Write an object to a file that has no name yet.

        Parameters
        ----------
        obj : object
            Object of the dataset type's storage class, or one that converts to it.
        ref : `DatasetRef`
            Dataset it is.
        path : `str`, optional
            Where it will be, instead of `path_of`.

        Raises
        ------
        DatasetFileError
            If the disk is full or fails; nothing is left behind.
        ReadOnlyRepositoryError
            If files must not be written there.
        DatasetTypeError
            If the object is of another kind.
        """
        template, name, formatter = self._layout.placement_of(ref)
        if path is None:
            path = template.path(ref, formatter.extension)
        storage_class = ref.datasetType.storageClass_name
        checksum = Checksum(self._algorithm)
        with writing(ref, self._storage, path):
            staged, size = self._storage.stage(path, _chunks(formatter, obj, storage_class, ref), checksum)
        return StagedFile(
            FileRecord(path, name, storage_class, size, checksum.text), ref, self._storage, staged
        )

    def put(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> FileRecord:
        """Write an object; the file appears whole, replacing one of that name.

        Parameters and errors are those of `stage`.

        Returns
        -------
        record : `FileRecord`
            What to record of the file.
        """
        staged = self.stage(obj, ref, path=path)
        try:
            staged.publish()
        except BaseException:
            staged.discard()
            raise
        return staged.record

    def ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> FileRecord:
        """Take an existing file in: `stage_ingest`, published at once."""
        staged = self.stage_ingest(path, ref, transfer, formatter, storage_class=storage_class)
        try:
            staged.publish()
        except BaseException:
            staged.discard()
            raise
        return staged.record

    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedFile:
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
        staged : `StagedFile`
            In its record the size is known, the checksum only where the bytes were copied.

        Raises
        ------
        DatasetFileError
            If there is no such file or transfer mode, or it cannot be transferred.
        """
        return stage_file(
            self._storage,
            self._layout,
            Checksum(self._algorithm),
            path,
            ref,
            transfer,
            formatter,
            storage_class,
        )

    # Reading

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Read an object, or part of it.

        Parameters
        ----------
        file : `FileRecord`
            Where and how it is stored.
        ref : `DatasetRef`
            Dataset it is.
        component : `str`, optional
            Part to read; default: the one the dataset type names, else all.
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
        parent = ref.datasetType
        if component is None:
            component = parent.component()
        check_part(ref, find_storage_class(file.storage_class), component, parameters)
        formatter = load_formatter(file.formatter)
        with (
            self._reading(file, ref),
            self._readable(file, formatter) as whole,
            unpacked(whole, ref.id) as path,
        ):
            obj = formatter.read(
                ReadRequest(
                    path,
                    file.storage_class,
                    component,
                    parameters or {},
                    self._layout.repository or self.root,
                    ref.dataId.mapping,
                )
            )
        wanted = storage_class or (None if component else parent.storageClass_name)
        if wanted is None or obj is None or wanted == file.storage_class:
            return obj
        return converted(obj, wanted)

    def _place(self, path: str) -> StorageRoot:
        """Return what opens a recorded path: the root, or what opens the URL of a file ingested in place."""
        if is_remote(path):
            return RemoteRoot(path.rpartition("/")[0])
        return self._storage

    @contextmanager
    def _readable(self, file: FileRecord, formatter: Any) -> Iterator[str]:
        """Give a name the formatter can open: a local file, a URL, or a local copy for the time being."""
        path = file.path
        place = self._place(path)
        local = place.local(path)
        if local is not None:
            yield local
        elif self._cache is not None:
            with self._cache.local(place.uri(path), file, partial(place.open, path)) as name:
                yield name
        elif getattr(formatter, "reads_urls", False):
            yield place.uri(path)
        else:
            with tempfile.NamedTemporaryFile(suffix=extension_of(path)) as copy:
                for chunk in copy_chunks(place.open(path)):
                    copy.write(chunk)
                copy.flush()
                yield copy.name

    @contextmanager
    def _reading(self, file: FileRecord, ref: DatasetRef) -> Iterator[None]:
        try:
            yield
        except ButlerUserError:
            raise
        except FileNotFoundError as error:
            raise MissingDatasetFileError(
                f"The file of {ref.datasetType.name} {ref.dataId} in run {ref.run!r} is not there: "
                f"{self.uri(file.path)}. `butler check REPO --repair` removes such records."
            ) from error
        except PermissionError as error:
            raise DatasetFileError(
                f"The file of {ref.datasetType.name} {ref.dataId} in run {ref.run!r} may not be read: "
                f"{self.uri(file.path)}"
            ) from error
        except _DAMAGE as error:
            raise DatasetFileError(
                f"The file of {ref.datasetType.name} {ref.dataId} in run {ref.run!r} cannot be read: "
                f"{self.uri(file.path)}: {error}{self._size_remark(file)}"
            ) from error

    def _size_remark(self, file: FileRecord) -> str:
        if file.size < 0:
            return ""
        size = self._place(file.path).size(file.path)
        return "" if size == file.size else f" (it has {size} bytes, {file.size} were written)"

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong with a file, or `None`.

        Parameters
        ----------
        file : `FileRecord`
            What is recorded of it.
        checksum : `bool`
            Read it and compare checksums as well.
        """
        try:
            size = self._place(file.path).size(file.path)
            if file.size >= 0 and size != file.size:
                return f"has {size} bytes, {file.size} were written"
            if checksum and file.checksum:
                found = checksum_of(copy_chunks(self._place(file.path).open(file.path)), file.checksum)
                if found != file.checksum:
                    return f"has checksum {found}, {file.checksum} was written"
        except FileNotFoundError:
            return "is missing"
        return None

    # Removing

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files and the directories they leave empty.

        Files that are not there, and files ingested in place outside the root, are passed over.

        Parameters
        ----------
        paths : iterable of `str`
            Recorded paths.

        Raises
        ------
        DatasetFileError
            If the file system does not allow it; may be tried again.
        """
        try:
            self._storage.remove(paths)
        except OSError as error:
            kind = ReadOnlyRepositoryError if is_read_only(error) else DatasetFileError
            raise kind(f"Files cannot be removed: {error}") from error


def _restore(
    root: str, durability: str, checksum: str, layout: DatasetLayout, cache: Mapping[str, Any] | None
) -> FileDatastore:
    return FileDatastore(root, durability=durability, checksum=checksum, layout=layout, cache=cache)


def _chunks(formatter: Any, obj: Any, storage_class: str, ref: DatasetRef) -> Iterator[Any]:
    """Return the bytes of an object, converted first if it is of another kind that converts."""
    try:
        yield from formatter.chunks(converted(obj, storage_class), storage_class)
    except DatasetTypeError as error:
        raise type(error)(f"{ref.datasetType.name} {ref.dataId}: {error}") from error
