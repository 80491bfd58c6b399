"""LocalRoot: a directory of the local file system, and files brought into one without copying them.

It calls `os` itself: through fsspec a small file costs three times as much.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from ..published_file import create_file, published_name, put_in_place, temporary_name, write_chunks
from .storage_path import file_name, file_uri, is_absolute

_ATTEMPTS = 20
"""How often a directory that another process removes as empty is made anew."""


class LocalRoot:
    """A directory of the local file system (or one that is mounted).

    Parameters
    ----------
    directory : `str`
        The directory; made when first written to.
    fsync : `bool`
        Force file and directory to disk before and after the rename: 141 instead of 64 ms for 100 MB.
    """

    def __init__(self, directory: str, *, fsync: bool = False) -> None:
        self.url = os.path.abspath(directory)
        self._fsync = fsync
        self._prefix = self.url.rstrip("/") + "/"

    def local(self, path: str) -> str:
        """Return the full file name."""
        # `is_absolute` written out: every put and get asks, and paths are relative nearly always.
        return file_name(path) if path.startswith("/") or "://" in path else self._prefix + path

    def stage(
        self, path: str, chunks: Iterable[Any], update: Callable[[Any], None] | None = None
    ) -> tuple[str, int]:
        """Write bytes to a temporary file beside the final one; nothing is left behind on failure."""
        temporary = temporary_name(self.local(path))
        try:
            size = write_chunks(create_file(temporary), chunks, update, fsync=self._fsync)
        except BaseException:
            self.discard(temporary)
            raise
        return temporary, size

    def publish(self, staged: str, path: str) -> None:
        """Rename a staged file into place."""
        put_in_place(staged, self.local(path), fsync=self._fsync)

    def discard(self, staged: str) -> None:
        """Remove a staged file, and the directories made for it if they are empty."""
        with suppress(FileNotFoundError):
            os.unlink(staged)
        self._remove_empty({os.path.dirname(staged)})

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        return open(self.local(path), "rb")

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        return os.stat(self.local(path)).st_size

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970]."""
        return os.lstat(self.local(path)).st_mtime

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files and directories left empty; absolute paths are not ours and stay."""
        directories = set()
        for path in paths:
            if is_absolute(path):
                continue
            name = self.local(path)
            with suppress(FileNotFoundError):
                os.unlink(name)
            directories.add(os.path.dirname(name))
        self._remove_empty(directories)

    def _remove_empty(self, directories: set[str]) -> None:
        while directories:
            parents = set()
            for directory in directories:
                if not directory.startswith(self._prefix):
                    continue
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EROFS):
                        continue
                    raise
                parents.add(os.path.dirname(directory))
            directories = parents

    def uri(self, path: str) -> str:
        """Return the ``file://`` URI."""
        return path if "://" in path else file_uri(self.local(path))

    def files(self) -> Iterator[tuple[str, int]]:
        """Return relative path and size of every file below the root."""
        pending = [self.url]
        while pending:
            try:
                entries = sorted(os.scandir(pending.pop()), key=lambda e: e.name)
            except FileNotFoundError:  # removed meanwhile
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    try:
                        size = entry.stat().st_size
                    except FileNotFoundError:  # removed meanwhile, or a link to nowhere
                        size = -1
                    yield entry.path.removeprefix(self._prefix), size


def link_or_move(source: str, target: str, transfer: str) -> None:
    """Make a local file appear at a second place without copying its bytes.

    Parameters
    ----------
    source, target : `str`
        Full file names.
    transfer : `str`
        "move", "link" (hard where the file system allows it, else symbolic), "hardlink", "symlink",
        "relsymlink".
    """
    for _ in range(_ATTEMPTS):
        try:
            _link_or_move(source, target, transfer)
        except FileNotFoundError:
            if not os.path.exists(source):
                raise
            os.makedirs(os.path.dirname(target), exist_ok=True)
        else:
            return
    _link_or_move(source, target, transfer)


def _link_or_move(source: str, target: str, transfer: str) -> None:
    if transfer == "move":
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with published_name(target) as temporary:
                shutil.copy2(source, temporary)
            os.unlink(source)
        return
    try:
        _link(source, target, target, transfer)
    except FileExistsError:
        with published_name(target) as temporary:
            _link(source, temporary, target, transfer)
        # rename(2) does nothing when both names are links to one file already.
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _link(source: str, name: str, target: str, transfer: str) -> None:
    """Make a link called ``name``; a relative one is right for the place of ``target``."""
    if transfer in ("link", "hardlink"):
        try:
            # A hard link to what a symbolic link names, not to the link.
            os.link(os.path.realpath(source) if os.path.islink(source) else source, name)
        except OSError as error:
            if transfer == "hardlink" or error.errno not in (
                errno.EXDEV,
                errno.EPERM,
                errno.EMLINK,
                errno.ENOTSUP,
            ):
                raise
            os.symlink(source, name)
    elif transfer == "relsymlink":
        os.symlink(os.path.relpath(source, os.path.dirname(target)), name)
    else:
        os.symlink(source, name)
