"""FileDatastore: objects to files and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from ..errors import (
    UNREADABLE,
    ButlerUserError,
    DatasetFileError,
    DatasetTypeError,
    MissingDatasetFileError,
    ReadOnlyRepositoryError,
    did_you_mean,
)
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.file_record import FileRecord
from ..vocabulary.storage_class import find_storage_class
from .checksum import checksum_of, hasher_of
from .dataset_layout import DatasetLayout
from .datastore import Datastore
from .file_cache import FileCache
from .file_ingest import stage_file
from .formatter import ReadRequest, check_part, converted
from .remote_root import RemoteRoot
from .staged_file import StagedFile, is_read_only, write_error
from .storage_path import extension_of, is_remote
from .storage_root import StorageRoot, copy_chunks, open_root
from .zip_archive import EXTENSION, unpacked

_DAMAGE = (OSError, EOFError, *UNREADABLE)
"""What formatters raise when a file is not what it should be."""


_CONNECTIONS = 16
"""Questions to a remote store under way at once."""


class FileDatastore(Datastore):
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
        self._storage: StorageRoot = open_root(root, fsync=durability == "fsync")
        self.root, self.durability = self._storage.url, durability
        self.layout = layout or DatasetLayout()
        self._algorithm, self._new_hasher = checksum, hasher_of(checksum)
        self._cache_settings = cache
        self._cache = FileCache.from_settings(cache)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # The cache is set up anew: the environment of a worker has a say in it.
        again = partial(
            FileDatastore,
            self.root,
            durability=self.durability,
            checksum=self._algorithm,
            layout=self.layout,
            cache=self._cache_settings,
        )
        return again, ()

    # Looking

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
            return super().exist(paths)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return list(pool.map(self.exists, paths))

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970]."""
        try:
            return self._place(path).modified(path)
        except FileNotFoundError as error:
            raise MissingDatasetFileError(f"There is no file {self.uri(path)}") from error

    def files(self) -> Iterator[tuple[str, int]]:
        """Return relative path and size [bytes] of every file below the root, whoever put it there."""
        return self._storage.files()

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong with a file, or `None`."""
        place = self._place(file.path)
        try:
            size = place.size(file.path)
            if file.size >= 0 and size != file.size:
                return f"has {size} bytes, {file.size} were written"
            if checksum and file.checksum:
                found = checksum_of(copy_chunks(place.open(file.path)), file.checksum)
                if found != file.checksum:
                    return f"has checksum {found}, {file.checksum} was written"
        except FileNotFoundError:
            return "is missing"
        return None

    def _place(self, path: str) -> StorageRoot:
        """Return what opens a recorded path: the root, or what opens the URL of a file ingested in place."""
        if "://" in path and is_remote(path):
            return RemoteRoot(path.rpartition("/")[0])
        return self._storage

    # Writing

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedFile:
        """Write an object to a file that has no name yet."""
        template, name, formatter = self.layout.placement_of(ref)
        if path is None:
            path = template.path(ref, formatter.extension)
        kind = ref.datasetType.storageClass_name
        hasher = self._new_hasher()
        try:
            chunks = formatter.chunks(converted(obj, kind), kind)
            staged, size = self._storage.stage(path, chunks, hasher.update)
        except DatasetTypeError as error:
            raise type(error)(f"{ref.datasetType.name} {ref.dataId}: {error}") from error
        except ButlerUserError:
            raise
        except OSError as error:
            raise write_error(error, ref, self.uri(path)) from error
        digest = hasher.hexdigest()
        record = FileRecord(path, name, kind, size, digest and f"{self._algorithm}:{digest}")
        return StagedFile(record, ref, self._storage, staged)

    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedFile:
        """Prepare to take an existing file in: bytes that have to be copied are copied now."""
        try:
            return stage_file(
                self._storage, self.layout, self._algorithm, path, ref, transfer, formatter, storage_class
            )
        except ButlerUserError:
            raise
        except OSError as error:
            raise write_error(error, ref, path, verb="ingest") from error

    # Reading

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Read an object, or part of it."""
        kind = ref.datasetType
        component = kind.component()
        if component is not None or parameters:
            check_part(ref, find_storage_class(file.storage_class), component, parameters)
        try:
            formatter = self.layout.trusted.load(file.formatter, file.storage_class)
        except DatasetTypeError as error:
            raise type(error)(
                f"The file of {kind.name} {ref.dataId} in run {ref.run!r} is not read: "
                f"{self.uri(file.path)}: {error}"
            ) from error
        root = self.layout.repository or self.root
        try:
            with self._readable(file, ref, formatter) as path:
                obj = formatter.read(
                    ReadRequest(
                        path, file.storage_class, component, parameters or {}, root, ref.dataId.mapping
                    )
                )
        except ButlerUserError:
            raise
        except _DAMAGE as error:
            raise self._read_error(error, file, ref) from error
        wanted = storage_class or (None if component else kind.storageClass_name)
        if wanted is None or obj is None or wanted == file.storage_class:
            return obj
        return converted(obj, wanted)

    def _readable(self, file: FileRecord, ref: DatasetRef, formatter: Any) -> AbstractContextManager[str]:
        """Give a name the formatter can open: a local file, a URL, or a local copy for the time being."""
        local = self._place(file.path).local(file.path)
        if local is None or local.endswith(EXTENSION):
            return self._fetched(local, file, ref, formatter)
        return nullcontext(local)

    @contextmanager
    def _fetched(self, local: str | None, file: FileRecord, ref: DatasetRef, formatter: Any) -> Iterator[str]:
        path = file.path
        place = self._place(path)
        whole: AbstractContextManager[str]
        if local is not None:
            whole = nullcontext(local)
        elif self._cache is not None:
            whole = self._cache.local(place.uri(path), file, partial(place.open, path))
        elif getattr(formatter, "reads_urls", False):
            whole = nullcontext(place.uri(path))
        else:
            whole = _copied(place, path)
        with whole as name, unpacked(name, ref.id) as own:
            yield own

    def _read_error(self, error: Exception, file: FileRecord, ref: DatasetRef) -> DatasetFileError:
        """Return the error that says of which dataset the file cannot be read, and why."""
        what = f"The file of {ref.datasetType.name} {ref.dataId} in run {ref.run!r}"
        where = self.uri(file.path)
        if isinstance(error, FileNotFoundError):
            return MissingDatasetFileError(
                f"{what} is not there: {where}. `butler check REPO --repair` removes such records."
            )
        if isinstance(error, PermissionError):
            return DatasetFileError(f"{what} may not be read: {where}")
        return DatasetFileError(f"{what} cannot be read: {where}: {error}{self._size_remark(file)}")

    def _size_remark(self, file: FileRecord) -> str:
        if file.size < 0:
            return ""
        size = self._place(file.path).size(file.path)
        return "" if size == file.size else f" (it has {size} bytes, {file.size} were written)"

    # Removing

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files and the directories they leave empty.

        Files that are not there, and files ingested in place outside the root, are passed over.
        """
        try:
            self._storage.remove(paths)
        except OSError as error:
            kind = ReadOnlyRepositoryError if is_read_only(error) else DatasetFileError
            raise kind(f"Files cannot be removed: {error}") from error


@contextmanager
def _copied(place: StorageRoot, path: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=extension_of(path)) as copy:
        for chunk in copy_chunks(place.open(path)):
            copy.write(chunk)
        copy.flush()
        yield copy.name
