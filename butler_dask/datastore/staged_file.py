"""StagedFile: a file that is complete but does not have its name yet."""

from __future__ import annotations

import errno
import os
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
        try:
            if self._staged is not None:
                self._root.publish(self._staged, path)
                if self._transfer == "move":
                    _remove_source(self._source)
            elif self._transfer:
                target = self._root.local(path)
                assert target is not None
                link_or_move(self._source, target, self._transfer)
        except ButlerUserError:
            raise
        except OSError as error:
            raise write_error(error, self.ref, self._root.uri(path)) from error

    def discard(self) -> None:
        """Remove it; to be called instead of `publish`."""
        if self._staged is not None:
            self._root.discard(self._staged)

    def retract(self) -> None:
        """Take back what `publish` did; a file that was moved goes back."""
        path, moved = self.record.path, self._transfer == "move" and self._source
        try:
            if moved:
                _move_back(self._root, path, self._source)
            elif self._staged is not None or self._transfer:
                self._root.remove([path])
        except ButlerUserError:
            raise
        except OSError as error:
            where = self._source if moved else self._root.uri(path)
            raise write_error(error, self.ref, where, verb="take back") from error


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


def write_error(error: OSError, ref: DatasetRef, where: str, verb: str = "write") -> ButlerUserError:
    """Return our error for one of the file system, with dataset and file.

    Parameters
    ----------
    error : `OSError`
        What was raised.
    ref : `DatasetRef`
        Dataset that was written.
    where : `str`
        The file.
    verb : `str`
        What was tried.
    """
    what = f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r}"
    if isinstance(error, FileNotFoundError):
        return MissingDatasetFileError(f"Cannot {verb} {what}: no file {error.filename or where}")
    if is_read_only(error):
        return ReadOnlyRepositoryError(
            f"Cannot {verb} {what}: {where} is not writeable ({error.strerror or error})"
        )
    hint = " Free some space and try again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return DatasetFileError(f"Cannot {verb} {what} to {where}: {error.strerror or error}.{hint}")
