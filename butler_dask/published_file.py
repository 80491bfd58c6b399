"""Files that appear whole: written under a temporary name beside their own, then renamed.

Every file of this package is published this way, so that no reader ever sees half of one, and nothing but a
temporary file is left of a process that was killed. The module stands at the bottom of the package, outside
the datastore, because the registry (the copy of a database before a migration) publishes files too and knows
no datastore.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, BinaryIO, Literal, TextIO, overload

TEMPORARY_SUFFIX = ".tmp"
"""End of the names of files that are not complete, or never were."""

_ATTEMPTS = 20
"""How often a directory that another process removes as empty is made anew."""


def temporary_name(path: str) -> str:
    """Return a name beside a file's own that no other process or thread uses.

    It is 13 bytes longer: `butler_dask.datastore.path_template` leaves room for them.
    """
    return f"{path}.{os.urandom(4).hex()}{TEMPORARY_SUFFIX}"


def is_temporary(path: str) -> bool:
    """Return whether a file is one that was never completed (its process died), or is not yet."""
    return path.endswith(TEMPORARY_SUFFIX)


@overload
def published(
    path: str | os.PathLike[str], mode: Literal["wb"] = "wb", *, durability: str = "rename"
) -> AbstractContextManager[BinaryIO]: ...
@overload
def published(
    path: str | os.PathLike[str], mode: Literal["w"], *, durability: str = "rename"
) -> AbstractContextManager[TextIO]: ...
@contextmanager
def published(
    path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb", *, durability: str = "rename"
) -> Iterator[Any]:
    """Open a local file for writing that gets its name when the block ends, replacing one of that name.

    Parameters
    ----------
    path : path-like
        The file. Its directory must be there.
    mode : `str`
        "wb" for bytes, "w" for text (UTF-8).
    durability : `str`
        "rename" (power loss may lose the latest) or "fsync" (file and name are on disk when the block ends).

    Raises
    ------
    OSError
        If it cannot be written. Then, and when the block raises, nothing is left behind, and a file that
        had the name is not touched.
    """
    with (
        published_name(path, durability=durability) as name,
        open(name, mode, encoding=None if mode == "wb" else "utf-8") as stream,
    ):
        yield stream


@contextmanager
def published_name(path: str | os.PathLike[str], *, durability: str = "rename") -> Iterator[str]:
    """Give a temporary name to those who open files themselves; see `published`.

    Parameters
    ----------
    path, durability
        See `published`.
    """
    final = os.fspath(path)
    name = temporary_name(final)
    try:
        yield name
        if durability == "fsync":
            descriptor = os.open(name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        put_in_place(name, final, fsync=durability == "fsync")
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def put_in_place(temporary: str, path: str, *, fsync: bool = False) -> None:
    """Rename a complete file to its own name.

    Parameters
    ----------
    temporary, path : `str`
        Names in one directory.
    fsync : `bool`
        Force the new name to disk (the file's bytes must be there already).
    """
    os.replace(temporary, path)
    if fsync:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def create_file(name: str) -> int:
    """Create a file that does not exist, and the directories above it; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for _ in range(_ATTEMPTS):
        try:
            return os.open(name, flags, 0o666)
        except FileNotFoundError:
            # Made here and not before, since mostly it is there; again, since a removal may take it away.
            os.makedirs(os.path.dirname(name), exist_ok=True)
    return os.open(name, flags, 0o666)


def write_chunks(
    descriptor: int,
    chunks: Iterable[Any],
    update: Callable[[Any], None] | None = None,
    *,
    fsync: bool = False,
) -> int:
    """Write bytes to an open file, close it, and return how many they were.

    Parameters
    ----------
    descriptor : `int`
        File open for writing; closed in any case.
    chunks : iterable of bytes-like
        The bytes.
    update : callable, optional
        Given each chunk, as a checksum's ``update`` is.
    fsync : `bool`
        Force the bytes to disk.
    """
    size = 0
    try:
        for chunk in chunks:
            if update is not None:
                update(chunk)
            view = memoryview(chunk).cast("B")
            written = 0
            while written < len(view):  # one write may take fewer (2 GB at most, or the disk fills up)
                written += os.write(descriptor, view[written:])
            size += written
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size
