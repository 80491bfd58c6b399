"""StagedFile: a file that is complete but does not have its name yet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import ButlerUserError, DatasetFileError, MissingDatasetFileError, ReadOnlyRepositoryError
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.file_record import FileRecord
from .local_root import link_or_move
from .remote_root import file_system
from .storage_path import is_remote
from .storage_root import StorageRoot


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
        with writing(self.ref, self._root, path):
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
            with writing(self.ref, None, self._source, verb="take back"):
                _move_back(self._root, self.record.path, self._source)
        elif self._staged is not None or self._transfer:
            with writing(self.ref, self._root, self.record.path, verb="take back"):
                self._root.remove([self.record.path])


def _remove_source(source: str) -> None:
    if is_remote(source):
        filesystem, name = file_system(source)
        filesystem.rm_file(name)
    else:
        os.unlink(source)


def _move_back(root: StorageRoot, path: str, source: str) -> None:
    local = root.local(path)
    if local is not None and not is_remote(source):
        link_or_move(local, source, "move")
    else:
        with root.open(path) as stream:
            filesystem, name = file_system(source)
            filesystem.pipe_file(name, stream.read())
    root.remove([path])


def is_read_only(error: OSError) -> bool:
    """Return whether an error says that a place may not be written."""
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def writing(ref: DatasetRef, root: StorageRoot | None, path: str, verb: str = "write") -> Iterator[None]:
    """Turn errors of the file system into ours, with dataset and file.

    Parameters
    ----------
    ref : `DatasetRef`
        Dataset that is written.
    root : `StorageRoot` or `None`
        What the path is relative to, if it is.
    path : `str`
        The file.
    verb : `str`
        What is tried.
    """
    try:
        yield
    except ButlerUserError:
        raise
    except OSError as error:
        what = f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r}"
        where = path if root is None else root.uri(path)
        if isinstance(error, FileNotFoundError):
            raise MissingDatasetFileError(
                f"Cannot {verb} {what}: no file {error.filename or where}"
            ) from error
        if is_read_only(error):
            raise ReadOnlyRepositoryError(
                f"Cannot {verb} {what}: {where} is not writeable ({error.strerror or error})"
            ) from error
        hint = " Free some space and try again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DatasetFileError(
            f"Cannot {verb} {what} to {where}: {error.strerror or error}.{hint}"
        ) from error
