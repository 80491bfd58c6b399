"""FileDatastore: objects to files and back.

It knows nothing of the registry: it is given references and file records, and gives file records. A put is
two steps for those who need something in between, `stage` and `StagedFile.publish`: the butler records the
dataset in an open transaction between them, so that two processes that put the same dataset at once never
overwrite each other's file.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import (
    ButlerUserError,
    DatasetFileError,
    DatasetTypeError,
    MissingDatasetFileError,
    ReadOnlyRepositoryError,
    did_you_mean,
)
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.storage_class import find_storage_class
from .checksum import Checksum, checksum_of
from .formatter import FormatterTable, converted, formatter_name, load_formatter
from .path_template import PathTemplate, default_template
from .storage_root import (
    TEMPORARY_SUFFIX,
    LocalRoot,
    StorageRoot,
    copy_chunks,
    link_or_move,
    open_root,
    open_stream,
)

TRANSFER_MODES = ("auto", "copy", "move", "link", "hardlink", "symlink", "relsymlink", "direct", "split")
"""How a file gets into the datastore: "auto" leaves it where it is when it lies below the root, else links
it; "link" is a hard link where possible, else symbolic; "direct" records where it is, and never removes
it."""

_DAMAGE = (OSError, ValueError, EOFError, KeyError, IndexError, TypeError)
"""What formatters raise when a file is not what it should be."""


@dataclass(slots=True)
class StagedFile:
    """A file that is complete but does not have its name yet.

    Parameters
    ----------
    record : `FileRecord`
        What to record of it.
    ref : `DatasetRef`
        Dataset in it.
    """

    record: FileRecord
    ref: DatasetRef
    _root: StorageRoot
    _staged: Any = None
    _source: str = ""
    _transfer: str = ""

    def publish(self) -> None:
        """Give it its name, replacing a file of that name."""
        path = self.record.path
        with _writing(self.ref, self._root.uri(path)):
            if self._staged is not None:
                self._root.publish(self._staged, path)
                if self._transfer == "move":
                    _remove_source(self._source)
            elif self._transfer:
                target = self._root.local(path)
                assert target is not None
                link_or_move(self._source, target, self._transfer)

    def discard(self) -> None:
        """Remove it; to be called instead of `publish`."""
        if self._staged is not None:
            self._root.discard(self._staged)

    def retract(self) -> None:
        """Take back what `publish` did; a file that was moved goes back."""
        if self._transfer == "move" and self._source:
            with _writing(self.ref, self._source, verb="take back"):
                _move_back(self._root, self.record.path, self._source)
        elif self._staged is not None or self._transfer:
            with _writing(self.ref, self._root.uri(self.record.path), verb="take back"):
                self._root.remove([self.record.path])


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
    templates : mapping of `str` to `str`, optional
        `PathTemplate` texts by dataset type or storage class name, or "default".
    formatters : mapping of `str` to `str`, optional
        Dotted formatter names by dataset type or storage class name.
    """

    def __init__(
        self,
        root: str,
        *,
        durability: str = "rename",
        checksum: str = "xxh3",
        templates: Mapping[str, str] | None = None,
        formatters: Mapping[str, str] | None = None,
    ) -> None:
        if durability not in ("rename", "fsync"):
            raise DatasetTypeError(
                f"durability is 'rename' or 'fsync', not {durability!r}."
                f"{did_you_mean(durability, ('rename', 'fsync'))}"
            )
        self._storage = open_root(root, fsync=durability == "fsync")
        self._durability, self._algorithm = durability, checksum
        Checksum(checksum)  # an unknown name fails here, not at the first put
        self._template_texts, self._formatter_names = dict(templates or {}), dict(formatters or {})
        self._formatters = FormatterTable(formatters)
        self._templates: dict[str, PathTemplate] = {}

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _restore, (
            self._storage.url,
            self._durability,
            self._algorithm,
            self._template_texts,
            self._formatter_names,
        )

    @property
    def root(self) -> str:
        """Directory or URL."""
        return self._storage.url

    @property
    def durability(self) -> str:
        """How sure it is that a file survives: "rename" or "fsync"."""
        return self._durability

    # Where things are
    # ----------------------------------------------------------------------------------------

    def _template(self, dataset_type: DatasetType) -> PathTemplate:
        found = self._templates.get(dataset_type.name)
        if found is None:
            texts = self._template_texts
            text = (
                texts.get(dataset_type.name)
                or texts.get(dataset_type.storageClass_name)
                or texts.get("default")
            )
            if text is None:
                return default_template(dataset_type.dimensions)
            found = PathTemplate(text)
            found.check(dataset_type)
            self._templates[dataset_type.name] = found
        return found

    def _formatter_name(self, dataset_type: DatasetType) -> str:
        return self._formatters.name_for(dataset_type.name, dataset_type.storageClass_name)

    def path_of(self, ref: DatasetRef) -> str:
        """Return the path a dataset is written to, relative to the root."""
        extension = load_formatter(self._formatter_name(ref.datasetType)).extension
        return self._template(ref.datasetType).path(ref, extension)

    def paths_of(self, table: DatasetTable) -> list[str]:
        """Return the path each dataset of a table is written to (0.5 us a row)."""
        extension = load_formatter(self._formatter_name(table.dataset_type)).extension
        return self._template(table.dataset_type).paths(table, extension)

    def predicted_record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a file that will be written; size and checksum are not known."""
        name = self._formatter_name(ref.datasetType)
        return FileRecord(self.path_of(ref), name, ref.datasetType.storageClass_name)

    def predicted_records(self, table: DatasetTable) -> FileTable:
        """Return the records of files that will be written, as columns."""
        n = len(table)
        codes = np.zeros(n, dtype=np.int16)
        return FileTable(
            self.paths_of(table),
            codes,
            (self._formatter_name(table.dataset_type),),
            codes,
            (table.dataset_type.storageClass_name,),
            np.full(n, -1, dtype=np.int64),
            [""] * n,
        )

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
            self._storage.size(path)
        except FileNotFoundError:
            return False
        return True

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970].

        Raises
        ------
        MissingDatasetFileError
            If it is not there.
        """
        try:
            return self._storage.modified(path)
        except FileNotFoundError as error:
            raise MissingDatasetFileError(f"There is no file {self.uri(path)}") from error

    def files(self) -> Iterator[tuple[str, int]]:
        """Return relative path and size [bytes] of every file below the root, whoever put it there."""
        return self._storage.files()

    # Writing
    # -------------------------------------------------------------------------------------------------

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
        name = self._formatter_name(ref.datasetType)
        formatter = load_formatter(name)
        if path is None:
            path = self._template(ref.datasetType).path(ref, formatter.extension)
        storage_class = ref.datasetType.storageClass_name
        checksum = Checksum(self._algorithm)
        with _writing(ref, self._storage.uri(path)):
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
            One of `TRANSFER_MODES`.
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
        if transfer not in TRANSFER_MODES:
            raise DatasetFileError(
                f"No transfer mode {transfer!r}.{did_you_mean(transfer, TRANSFER_MODES)} "
                f"There are: {', '.join(TRANSFER_MODES)}."
            )
        dataset_type = ref.datasetType
        name = self._formatter_name(dataset_type) if formatter is None else formatter_name(formatter)
        kind = storage_class or dataset_type.storageClass_name
        with _writing(ref, path, verb="ingest"):
            remote = "://" in path and not path.startswith("file://")
            source = path if remote else os.path.abspath(LocalRoot("/").local(path))
            size = self._size_of_source(source)
            inside = self._inside(source)
            if inside is not None and transfer in ("auto", "split", "direct"):
                return StagedFile(FileRecord(inside, name, kind, size), ref, self._storage)
            if transfer in ("direct", "split"):
                recorded = source if remote else LocalRoot("/").uri(source)
                return StagedFile(FileRecord(recorded, name, kind, size), ref, self._storage)
            extension = _extension_of(source) or load_formatter(name).extension
            target = self._template(dataset_type).path(ref, extension)
            local_target = self._storage.local(target)
            if transfer == "auto":
                transfer = "copy" if remote or local_target is None else "link"
            if transfer == "copy" or remote or local_target is None:
                return self._staged_copy(source, target, transfer, name, kind, ref)
            record = FileRecord(target, name, kind, size)
            return StagedFile(record, ref, self._storage, None, source, transfer)

    def _staged_copy(
        self, source: str, target: str, transfer: str, name: str, kind: str, ref: DatasetRef
    ) -> StagedFile:
        if transfer not in ("copy", "move"):
            raise DatasetFileError(f"Transfer mode {transfer!r} needs local files; use 'copy' or 'direct'")
        checksum = Checksum(self._algorithm)
        staged, size = self._storage.stage(target, copy_chunks(open_stream(source)), checksum)
        record = FileRecord(target, name, kind, size, checksum.text)
        return StagedFile(record, ref, self._storage, staged, source, transfer)

    def _inside(self, source: str) -> str | None:
        """Return the path relative to the root of a file below it, else `None`."""
        root = self._storage.url
        for base, name in ((root, source), (os.path.realpath(root), os.path.realpath(source))):
            prefix = base.rstrip("/") + "/"
            if name.startswith(prefix):
                return name.removeprefix(prefix)
            if "://" in source:
                break
        return None

    def _size_of_source(self, source: str) -> int:
        if "://" not in source:
            return os.stat(source).st_size
        from fsspec.core import url_to_fs

        filesystem, name = url_to_fs(source)
        return int(filesystem.size(name))

    # Reading
    # -------------------------------------------------------------------------------------------------

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
        whole = find_storage_class(file.storage_class)
        if parameters:
            _check_parameters(parameters, whole.parameters, ref)
        if component is not None and component not in whole.components:
            raise DatasetTypeError(
                f"Dataset {ref} ({whole.name}) has no component {component!r}."
                f"{did_you_mean(component, whole.components)}"
            )
        formatter = load_formatter(file.formatter)
        arguments = {
            "storage_class": file.storage_class,
            "component": component,
            "parameters": parameters,
            "root": self.root,
            "data_id": ref.dataId.mapping,
        }
        with self._reading(file, ref), self._readable(file.path, formatter) as path:
            obj = formatter.read(path, **arguments)
        wanted = storage_class or (None if component else parent.storageClass_name)
        if wanted is None or obj is None or wanted == file.storage_class:
            return obj
        return converted(obj, wanted)

    @contextmanager
    def _readable(self, path: str, formatter: Any) -> Iterator[str]:
        """Give a name the formatter can open: a local file, a URL, or a local copy for the time being."""
        local = self._storage.local(path)
        if local is not None:
            yield local
        elif getattr(formatter, "reads_urls", False):
            yield self._storage.uri(path)
        else:
            with tempfile.NamedTemporaryFile(suffix=_extension_of(path)) as copy:
                for chunk in copy_chunks(self._storage.open(path)):
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
        size = self._storage.size(file.path)
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
            size = self._storage.size(file.path)
            if file.size >= 0 and size != file.size:
                return f"has {size} bytes, {file.size} were written"
            if checksum and file.checksum:
                found = checksum_of(copy_chunks(self._storage.open(file.path)), file.checksum)
                if found != file.checksum:
                    return f"has checksum {found}, {file.checksum} was written"
        except FileNotFoundError:
            return "is missing"
        return None

    # Removing
    # ------------------------------------------------------------------------------------------------

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
            kind = ReadOnlyRepositoryError if _is_read_only(error) else DatasetFileError
            raise kind(f"Files cannot be removed: {error}") from error


def _restore(
    root: str, durability: str, checksum: str, templates: Mapping[str, str], formatters: Mapping[str, str]
) -> FileDatastore:
    return FileDatastore(
        root, durability=durability, checksum=checksum, templates=templates, formatters=formatters
    )


def is_temporary(path: str) -> bool:
    """Return whether a file below the root is one that was never completed (its process died)."""
    return path.endswith(TEMPORARY_SUFFIX)


def _chunks(formatter: Any, obj: Any, storage_class: str, ref: DatasetRef) -> Iterator[Any]:
    """Return the bytes of an object, converted first if it is of another kind that converts."""
    try:
        yield from formatter.chunks(converted(obj, storage_class), storage_class)
    except DatasetTypeError as error:
        raise DatasetTypeError(f"{ref.datasetType.name} {ref.dataId}: {error}") from error


def _check_parameters(parameters: Mapping[str, Any], known: frozenset[str], ref: DatasetRef) -> None:
    for name in parameters:
        if name not in known:
            there = f"it takes: {', '.join(sorted(known))}" if known else "it takes none"
            raise DatasetTypeError(
                f"{ref.datasetType.name} has no parameter {name!r}.{did_you_mean(name, known)} ({there}.)"
            )


def _extension_of(path: str) -> str:
    """Return the extension of a file, compression suffix included (``.fits.gz``)."""
    name = path.rpartition("/")[2]
    stem, extension = os.path.splitext(name)
    if extension in (".gz", ".fz", ".bz2", ".zst"):
        extension = os.path.splitext(stem)[1] + extension
    return extension


def _remove_source(source: str) -> None:
    if "://" in source:
        from fsspec.core import url_to_fs

        filesystem, name = url_to_fs(source)
        filesystem.rm_file(name)
    else:
        os.unlink(source)


def _move_back(root: StorageRoot, path: str, source: str) -> None:
    local = root.local(path)
    if local is not None and "://" not in source:
        link_or_move(local, source, "move")
    else:
        with root.open(path) as stream:
            from fsspec.core import url_to_fs

            filesystem, name = url_to_fs(source)
            filesystem.pipe_file(name, stream.read())
    root.remove([path])


def _is_read_only(error: OSError) -> bool:
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def _writing(ref: DatasetRef, where: str, verb: str = "write") -> Iterator[None]:
    """Turn errors of the file system into ours, with dataset and file."""
    what = f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r}"
    try:
        yield
    except ButlerUserError:
        raise
    except FileNotFoundError as error:
        raise MissingDatasetFileError(f"Cannot {verb} {what}: no file {error.filename or where}") from error
    except OSError as error:
        if _is_read_only(error):
            raise ReadOnlyRepositoryError(
                f"Cannot {verb} {what}: {where} is not writeable ({error.strerror})"
            ) from error
        hint = " Free some space and try again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DatasetFileError(
            f"Cannot {verb} {what} to {where}: {error.strerror or error}.{hint}"
        ) from error
