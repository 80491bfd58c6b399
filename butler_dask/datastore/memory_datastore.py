"""MemoryDatastore: objects kept in the memory of this process, for tests, notebooks and chains.

Nothing is serialized: what is put is copied, and so is what is read, so that changing either changes nothing
stored. All datastores of one root in one process share their objects; another process has none of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DatasetFileError, DatasetTypeError, MissingDatasetFileError
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.storage_class import find_storage_class
from .dataset_layout import DatasetLayout
from .formatter import ReadRequest, check_part, converted, load_formatter
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


class MemoryDatastore:
    """Objects of this process. Methods are described in `FileDatastore`.

    Parameters
    ----------
    root : `str`
        ``memory://NAME``: all datastores of a name have the same objects.
    layout : `DatasetLayout`, optional
        Path and formatter of each dataset.
    """

    durability = "rename"

    def __init__(self, root: str, layout: DatasetLayout | None = None) -> None:
        self._root = root if root.startswith(_SCHEME) else _SCHEME + root
        self._layout = layout or DatasetLayout()
        with _LOCK:
            self._objects = _SHARED.setdefault(self._root, {})

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return MemoryDatastore, (self._root, self._layout)

    @property
    def layout(self) -> DatasetLayout:
        """Path and formatter of each dataset."""
        return self._layout

    @property
    def root(self) -> str:
        """Name with its scheme."""
        return self._root

    def path_of(self, ref: DatasetRef) -> str:
        """Return the path an object is kept under; it has no extension."""
        return self._layout.path(ref, "")

    def paths_of(self, table: DatasetTable) -> list[str]:
        """Return the path of each dataset."""
        return self._layout.paths(table, "")

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of what will be put."""
        return FileRecord(self.path_of(ref), "", ref.datasetType.storageClass_name)

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of what will be put, as columns."""
        n = len(table)
        codes = np.zeros(n, dtype=np.int16)
        kinds = (table.dataset_type.storageClass_name,)
        sizes = np.full(n, -1, dtype=np.int64)
        return FileTable(self.paths_of(table), codes, ("",), codes, kinds, sizes, [""] * n)

    def stored_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of what was put."""
        record = self.predicted_record(ref)
        self._kept(record, ref)
        return record

    def uri(self, path: str) -> str:
        """Return the root and the path."""
        return path if "://" in path else f"{self._root}/{path}"

    def exists(self, path: str) -> bool:
        """Return whether there is an object."""
        return path in self._objects

    def exist(self, paths: Sequence[str]) -> list[bool]:
        """Return for each path whether there is an object."""
        return [path in self._objects for path in paths]

    def modified(self, path: str) -> float:
        """Return when it was put [s since 1970]."""
        try:
            return self._objects[path].written
        except KeyError as error:
            raise MissingDatasetFileError(f"There is no object {self.uri(path)}") from error

    def files(self) -> Iterator[tuple[str, int]]:
        """Return the path of each object; sizes are not known and given as recorded, -1."""
        return ((path, -1) for path in list(self._objects))

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedObject:
        """Copy an object."""
        record = (
            self.predicted_record(ref)
            if path is None
            else FileRecord(path, "", ref.datasetType.storageClass_name)
        )
        try:
            copied = snapshot(converted(obj, record.storage_class))
        except DatasetTypeError as error:
            raise type(error)(f"{ref.datasetType.name} {ref.dataId}: {error}") from error
        return StagedObject(record, self._objects, copied)

    def put(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> FileRecord:
        """Keep a copy of an object."""
        staged = self.stage(obj, ref, path=path)
        staged.publish()
        return staged.record

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
            f"The datastore {self._root} keeps objects, not files: put {ref.datasetType.name} "
            f"{ref.dataId} instead of ingesting {path}."
        )

    def ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> FileRecord:
        """Raise: there is no place for files."""
        return self.stage_ingest(path, ref, transfer, formatter, storage_class=storage_class).record

    def _kept(self, file: FileRecord, ref: DatasetRef) -> _Kept:
        try:
            return self._objects[file.path]
        except KeyError:
            raise MissingDatasetFileError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is not in the memory of this "
                f"process ({self.uri(file.path)}); it was put by another one, or removed."
            ) from None

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Return a copy of an object, or of part of it."""
        obj = self._kept(file, ref).obj
        if component is None:
            component = ref.datasetType.component()
        check_part(ref, find_storage_class(file.storage_class), component, parameters)
        if parameters or (component is not None and not has_components(obj)):
            found = self._through_file(obj, file, ref, component, parameters)
        else:
            found = snapshot(obj if component is None else component_of(obj, component))
        wanted = storage_class or (None if component else ref.datasetType.storageClass_name)
        return found if wanted is None or found is None else converted(found, wanted)

    def _through_file(
        self,
        obj: Any,
        file: FileRecord,
        ref: DatasetRef,
        component: str | None,
        parameters: Mapping[str, Any] | None,
    ) -> Any:
        """Cut by writing and reading a temporary file: what a parameter means, formatters alone know."""
        import tempfile

        name = ref.datasetType.nameAndComponent()[0]
        whole = DatasetType(name, ref.datasetType.dimensions, file.storage_class)
        formatter = load_formatter(self._layout.formatter_name(whole))
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
                    self._layout.repository,
                    ref.dataId.mapping,
                )
            )

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong, or `None`."""
        return None if file.path in self._objects else "is not in the memory of this process"

    def remove(self, paths: Iterable[str]) -> None:
        """Forget objects."""
        for path in paths:
            self._objects.pop(path, None)
