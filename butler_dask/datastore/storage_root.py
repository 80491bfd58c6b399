"""StorageRoot: the directory or bucket that holds the files, and how a file appears in it all at once.

Two implementations behind one small Protocol, `LocalRoot` and `RemoteRoot`. Either way a file is first
*staged* (complete, under a name nobody reads) and then *published* in one step, so that no reader ever sees
half a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from .local_root import LocalRoot
from .remote_root import RemoteRoot
from .storage_path import file_name, is_remote


class StorageRoot(Protocol):
    """What the datastore needs of a place for files. Paths are relative to it, or absolute."""

    url: str

    def stage(
        self, path: str, chunks: Iterable[Any], update: Callable[[Any], None] | None = None
    ) -> tuple[Any, int]:
        """Write bytes under a temporary name; return what `publish` and `discard` take, and the size.

        Each chunk is given to ``update``, a checksum's for instance.
        """
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
    return RemoteRoot(url) if is_remote(url) else LocalRoot(file_name(url), fsync=fsync)


def open_stream(path: str) -> BinaryIO:
    """Open a local file or a URL for reading; of a URL only what is read is fetched."""
    if "://" in path:
        if is_remote(path):
            return RemoteRoot(path.rpartition("/")[0]).open(path)
        path = file_name(path)
    return open(path, "rb")


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


def publish_bytes(path: str, data: bytes) -> None:
    """Write a small file to a local name or a URL; it appears whole, its directory is made.

    Parameters
    ----------
    path : `str`
        Local file or URL.
    data : `bytes`
        What is in it.
    """
    directory, _, name = path.rpartition("/")
    root = open_root(directory)
    staged, _ = root.stage(name, (data,))
    try:
        root.publish(staged, name)
    except BaseException:
        root.discard(staged)
        raise
