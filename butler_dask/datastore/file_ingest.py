"""How an existing file gets into a datastore."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..errors import DatasetFileError, DatasetTypeError, TransferModeError, did_you_mean
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.file_record import FileRecord
from .checksum import hasher_of
from .dataset_layout import DatasetLayout
from .formatter import PARQUET_FORMATTER, formatter_name
from .parquet_table import PARQUET_EXTENSIONS
from .remote_root import file_system
from .staged_file import StagedFile
from .storage_path import extension_of, file_name, file_uri, is_absolute, is_remote
from .storage_root import StorageRoot, copy_chunks, open_stream

TRANSFER_MODES = ("auto", "copy", "move", "link", "hardlink", "symlink", "relsymlink", "direct", "split")
"""How a file gets into the datastore: "auto" leaves it where it is when it lies below the root, else links
it; "link" is a hard link where possible, else symbolic; "direct" records where it is, and never removes
it. No symbolic link is made to a file that lies in the datastore already: it would end with that."""
_IN_PLACE = ("auto", "split", "direct", "symlink", "relsymlink")
"""Transfer modes that leave a file where it is when it lies below the root."""


def stage_file(
    storage: StorageRoot,
    layout: DatasetLayout,
    algorithm: str,
    path: str,
    ref: DatasetRef,
    transfer: str,
    formatter: Any,
    storage_class: str | None,
) -> StagedFile:
    """Prepare to take a file in; see `butler_dask.datastore.datastore.Datastore.stage_ingest`.

    Parameters
    ----------
    storage : `StorageRoot`
        Where it goes.
    layout : `DatasetLayout`
        Under which path.
    algorithm : `str`
        Of the checksum, taken where bytes are copied.
    path, ref, transfer, formatter, storage_class
        See there.

    Raises
    ------
    OSError
        If it cannot be read or copied.
    TransferModeError, DatasetFileError
        If there is no such transfer mode, or not for such files.
    UntrustedFormatterError
        If what would read it is not trusted here.
    """
    if transfer not in TRANSFER_MODES:
        raise TransferModeError(
            f"No transfer mode {transfer!r}.{did_you_mean(transfer, TRANSFER_MODES)} "
            f"There are: {', '.join(TRANSFER_MODES)}."
        )
    if formatter is None and extension_of(path) in PARQUET_EXTENSIONS:
        formatter = PARQUET_FORMATTER
    name = layout.placement_of(ref).formatter_name if formatter is None else formatter_name(formatter)
    kind = storage_class or ref.datasetType.storageClass_name
    try:
        reader = layout.trusted.load(name, kind)
    except DatasetTypeError as error:
        raise type(error)(f"{path} ({ref.datasetType.name} {ref.dataId}) is not taken in: {error}") from error
    remote = is_remote(path)
    source = path if remote else _absolute(path, storage)
    size = _size_of_source(source)
    planned = FileRecord("", name, kind, size)
    inside = _path_below(storage.url, source) if transfer in _IN_PLACE else None
    if inside is not None:
        return StagedFile(planned.moved(inside), ref, storage)
    if transfer in ("direct", "split"):
        return StagedFile(planned.moved(source if remote else file_uri(source)), ref, storage)
    target = layout.path(ref, extension_of(source) or reader.extension)
    local_target = storage.local(target)
    if transfer == "auto":
        transfer = "copy" if remote or local_target is None else "link"
    if not remote and local_target is not None and transfer != "copy":
        return StagedFile(planned.moved(target), ref, storage, None, source, transfer)
    if transfer not in ("copy", "move"):
        raise DatasetFileError(f"Transfer mode {transfer!r} needs local files; use 'copy' or 'direct'")
    hasher = hasher_of(algorithm)()
    staged, size = storage.stage(target, copy_chunks(open_stream(source)), hasher.update)
    digest = hasher.hexdigest()
    record = replace(planned, path=target, size=size, checksum=digest and f"{algorithm}:{digest}")
    return StagedFile(record, ref, storage, staged, source, transfer)


def _absolute(path: str, storage: StorageRoot) -> str:
    """Return a local file's full name; a relative one is below the root, if it is there, as exports say."""
    if is_absolute(path):
        return os.path.abspath(file_name(path))
    below = storage.local(path)
    return below if below is not None and os.path.exists(below) else os.path.abspath(path)


def _path_below(root: str, source: str) -> str | None:
    """Return the path relative to the root of a file below it, else `None`."""
    prefix = root.rstrip("/") + "/"
    if source.startswith(prefix):
        return source.removeprefix(prefix)
    if is_remote(source) or is_remote(root):
        return None
    directory, _, name = source.rpartition("/")
    real = os.path.realpath(source) if os.path.islink(source) else f"{_real_directory(directory)}/{name}"
    prefix = _real_directory(root).rstrip("/") + "/"
    if not real.startswith(prefix):
        return None
    path = real.removeprefix(prefix)
    # A directory that was looked up earlier may be another one now.
    return path if os.path.samefile(os.path.join(root, path), source) else None


@lru_cache(maxsize=256)
def _real_directory(directory: str) -> str:
    # 36 us for each file of a large ingest otherwise.
    return os.path.realpath(directory)


def _size_of_source(source: str) -> int:
    if not is_remote(source):
        return os.stat(source).st_size
    filesystem, name = file_system(source)
    return int(filesystem.size(name))
