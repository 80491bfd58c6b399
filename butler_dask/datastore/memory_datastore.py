"""MemoryDatastore: objects kept in the memory of this process, for tests, notebooks and chains.

Nothing is serialized: what is put is copied, and so is what is read, so that changing either changes nothing
stored. All datastores of one root in one process share their objects; another process has none of them.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DatasetFileError, DatasetTypeError, MissingDatasetFileError
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.storage_class import find_storage_class
from .dataset_layout import DatasetLayout
from .datastore import Datastore
from .formatter import ReadRequest, check_part, converted
from .snapshot import component_of, has_components, snapshot

_SCHEME = "memory://"


@dataclass(slots=True, frozen=True)
class _Kept:
    obj: Any
    written: float


_SHARED: dict[str, dict[str, _Kept]] = {}
_LOCK = threading.Lock()


@dataclass(slots=True)
class StagedObject:
    """An object that is kept once it is published.

    Parameters
    ----------
    record : `FileRecord`
        What to record of it.
    """

    record: FileRecord
    _objects: dict[str, _Kept]
    _obj: Any
    _replaced: _Kept | None = None

    def publish(self) -> None:
        """Keep it under its path."""
        self._replaced = self._objects.get(self.record.path)
        self._objects[self.record.path] = _Kept(self._obj, time.time())

    def discard(self) -> None:
        """Forget it."""
        self._obj = None

    def retract(self) -> None:
        """Take back what `publish` did."""
        if self._replaced is None:
            self._objects.pop(self.record.path, None)
        else:
            self._objects[self.record.path] = self._replaced


class MemoryDatastore(Datastore):
    """Objects of this process.

    Parameters
    ----------
    root : `str`
        ``memory://NAME``: all datastores of a name have the same objects.
    layout : `DatasetLayout`, optional
        Path and formatter of each dataset.
    """

    keeps_files = False

    def __init__(self, root: str, layout: DatasetLayout | None = None) -> None:
        self.root = root if root.startswith(_SCHEME) else _SCHEME + root
        self.layout, self.durability = layout or DatasetLayout(), "rename"
        with _LOCK:
            self._objects = _SHARED.setdefault(self.root, {})

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return MemoryDatastore, (self.root, self.layout)

    # Looking

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of what will be put; no formatter writes it, and its path has no extension."""
        return FileRecord(self.layout.path(ref, ""), "", ref.datasetType.storageClass_name)

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of what will be put, as columns."""
        n = len(table)
        codes = np.zeros(n, dtype=np.int16)
        kinds = (table.dataset_type.storageClass_name,)
        sizes = np.full(n, -1, dtype=np.int64)
        return FileTable(self.layout.paths(table, ""), codes, ("",), codes, kinds, sizes, [""] * n)

    def uri(self, path: str) -> str:
        """Return the root and the path."""
        return path if "://" in path else f"{self.root}/{path}"

    def exists(self, path: str) -> bool:
        """Return whether there is an object."""
        return path in self._objects

    def modified(self, path: str) -> float:
        """Return when it was put [s since 1970]."""
        try:
            return self._objects[path].written
        except KeyError as error:
            raise MissingDatasetFileError(f"There is no object {self.uri(path)}") from error

    def files(self) -> Iterator[tuple[str, int]]:
        """Return the path of each object; sizes are not known and given as recorded, -1."""
        return ((path, -1) for path in list(self._objects))

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong, or `None`."""
        return None if file.path in self._objects else "is not in the memory of this process"

    # Writing

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedObject:
        """Copy an object."""
        kind = ref.datasetType.storageClass_name
        try:
            copied = snapshot(converted(obj, kind))
        except DatasetTypeError as error:
            raise type(error)(f"{ref.datasetType.name} {ref.dataId}: {error}") from error
        record = self.predicted_record(ref) if path is None else FileRecord(path, "", kind)
        return StagedObject(record, self._objects, copied)

    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedObject:
        """Raise: there is no place for files."""
        raise DatasetFileError(
            f"The datastore {self.root} keeps objects, not files: put {ref.datasetType.name} "
            f"{ref.dataId} instead of ingesting {path}."
        )

    def remove(self, paths: Iterable[str]) -> None:
        """Forget objects."""
        for path in paths:
            self._objects.pop(path, None)

    # Reading

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Return a copy of an object, or of part of it."""
        try:
            obj = self._objects[file.path].obj
        except KeyError:
            raise MissingDatasetFileError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is not in the memory of this "
                f"process ({self.uri(file.path)}); it was put by another one, or removed."
            ) from None
        component = ref.datasetType.component()
        check_part(ref, find_storage_class(file.storage_class), component, parameters)
        if parameters or (component is not None and not has_components(obj)):
            found = self._through_file(obj, file, ref, parameters)
        else:
            found = snapshot(obj if component is None else component_of(obj, component))
        wanted = storage_class or (None if component else ref.datasetType.storageClass_name)
        return found if wanted is None or found is None else converted(found, wanted)

    def _through_file(
        self, obj: Any, file: FileRecord, ref: DatasetRef, parameters: Mapping[str, Any] | None
    ) -> Any:
        """Cut by writing and reading a temporary file: what a parameter means, formatters alone know."""
        name, component = ref.datasetType.nameAndComponent()
        whole = DatasetType(name, ref.datasetType.dimensions, file.storage_class)
        formatter = self.layout.trusted.load(self.layout.formatter_name(whole), file.storage_class)
        with tempfile.NamedTemporaryFile(suffix=formatter.extension) as stream:
            for chunk in formatter.chunks(obj, file.storage_class):
                stream.write(chunk)
            stream.flush()
            return formatter.read(
                ReadRequest(
                    stream.name,
                    file.storage_class,
                    component,
                    parameters or {},
                    self.layout.repository,
                    ref.dataId.mapping,
                )
            )
