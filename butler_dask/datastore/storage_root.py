"""StorageRoot: the directory or bucket that holds the files, and how a file appears in it all at once.

Two implementations behind one small Protocol. The local one calls `os` itself: through fsspec a small file
costs three times as much. Either way a file is first *staged* (complete, under a name nobody reads) and
then *published* in one step, so that no reader ever sees half a file.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Protocol

from .checksum import Checksum

TEMPORARY_SUFFIX = ".tmp"
"""End of the names of files that are not complete, or never were."""

_ATTEMPTS = 20
"""How often a directory that another process removes as empty is made anew."""


def is_absolute(path: str) -> bool:
    """Return whether a recorded path is not relative to the root (a file ingested in place)."""
    return path.startswith("/") or "://" in path


def is_remote(path: str) -> bool:
    """Return whether a name is a URL other than ``file://``."""
    return "://" in path and not path.startswith("file://")


def extension_of(path: str) -> str:
    """Return the extension of a file, compression suffix included (``.fits.gz``)."""
    name = path.rpartition("/")[2]
    stem, extension = os.path.splitext(name)
    if extension in (".gz", ".fz", ".bz2", ".zst"):
        extension = os.path.splitext(stem)[1] + extension
    return extension


class StorageRoot(Protocol):
    """What the datastore needs of a place for files. Paths are relative to it, or absolute."""

    url: str

    def stage(self, path: str, chunks: Iterable[Any], checksum: Checksum) -> tuple[Any, int]:
        """Write bytes under a temporary name; return what `publish` and `discard` take, and the size."""
        ...

    def publish(self, staged: Any, path: str) -> None:
        """Make a staged file appear under its name, whole, replacing what is there."""
        ...

    def discard(self, staged: Any) -> None:
        """Remove a staged file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        ...

    def local(self, path: str) -> str | None:
        """Return the name of the file in the local file system, or `None` if it is not there."""
        ...

    def size(self, path: str) -> int:
        """Return the number of bytes of a file, or raise `FileNotFoundError`."""
        ...

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970], or raise `FileNotFoundError`."""
        ...

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, those that are not there aside, and directories left empty."""
        ...

    def uri(self, path: str) -> str:
        """Return the full URI."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Return path and size of every file, temporary ones too."""
        ...


def open_root(url: str, *, fsync: bool = False) -> StorageRoot:
    """Return the root of a directory name or fsspec URL.

    Parameters
    ----------
    url : `str`
        Directory, ``file://`` URL or any other URL fsspec knows (``s3://bucket/prefix``).
    fsync : `bool`
        Whether local files are forced to disk before they are published.
    """
    if url.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return LocalRoot(unquote(urlsplit(url).path), fsync=fsync)
    if "://" in url:
        from .remote_root import RemoteRoot

        return RemoteRoot(url)
    return LocalRoot(url, fsync=fsync)


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
        if path.startswith("file://"):
            from urllib.parse import unquote, urlsplit

            return unquote(urlsplit(path).path)
        return path if path.startswith("/") else self._prefix + path

    def stage(self, path: str, chunks: Iterable[Any], checksum: Checksum) -> tuple[str, int]:
        """Write bytes to a temporary file beside the final one; nothing is left behind on failure."""
        temporary = f"{self.local(path)}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        descriptor = _create(temporary)
        size = 0
        try:
            try:
                for chunk in chunks:
                    checksum.update(chunk)
                    size += write_all(descriptor, chunk)
                if self._fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            self.discard(temporary)
            raise
        return temporary, size

    def publish(self, staged: str, path: str) -> None:
        """Rename a staged file into place."""
        final = self.local(path)
        os.replace(staged, final)
        if self._fsync:
            directory = os.open(os.path.dirname(final), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

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
        from urllib.parse import quote

        return path if "://" in path else "file://" + quote(self.local(path))

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


def _create(name: str) -> int:
    """Create a file that does not exist, and the directories above it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for _ in range(_ATTEMPTS):
        try:
            return os.open(name, flags, 0o666)
        except FileNotFoundError:
            # Made here and not before, since mostly it is there; again, since a removal may take it away.
            os.makedirs(os.path.dirname(name), exist_ok=True)
    return os.open(name, flags, 0o666)


def write_all(descriptor: int, data: Any) -> int:
    """Write all bytes of a buffer; one write may take fewer (2 GB at most, or the disk fills up)."""
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written:])
    return written


def open_stream(path: str) -> BinaryIO:
    """Open a local file or a URL for reading; of a URL only what is read is fetched."""
    if not is_remote(path):
        return open(LocalRoot("/").local(path) if "://" in path else path, "rb")
    from .remote_root import RemoteRoot

    return RemoteRoot(path.rpartition("/")[0]).open(path)


def copy_chunks(stream: BinaryIO, size: int = 1 << 20) -> Iterator[bytes]:
    """Return the bytes of an open file piece by piece.

    Parameters
    ----------
    stream : binary file
        Open for reading; closed at the end.
    size : `int`
        Bytes a piece.
    """
    with stream:
        while chunk := stream.read(size):
            yield chunk


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
    temporary = f"{target}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    if transfer == "move":
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copy2(source, temporary)
            os.replace(temporary, target)
            os.unlink(source)
        return
    try:
        _link(source, target, target, transfer)
    except FileExistsError:
        _link(source, temporary, target, transfer)
        os.replace(temporary, target)
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
