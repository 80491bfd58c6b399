"""Zip files that hold the files of many datasets, for places that count files.

The layout is the reference's: an index says which member holds which datasets. A dataset in such a file is
recorded with the Zip file's path; which member it is follows from its id.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..errors import DatasetFileError, UntrustedError
from .storage_path import extension_of, is_remote
from .storage_root import open_stream

INDEX = "_butler_zip_index.json"
"""Name of the member that says what the others are."""

EXTENSION = ".zip"

_ALWAYS_READ = 64 << 20
"""Size up to which a member is unpacked however small it is in the archive [bytes]."""

_EXPANSION = 100
"""How many times larger than in the archive a larger one may be; these files are not even compressed."""

_TEXT_LIMIT = 1 << 30
"""Size of an index or of records, which are read into memory [bytes]; a dataset takes about 400."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
)
"""What `zipfile` and `json` raise of files that are not whole, encrypted, or nested too deeply."""


@contextmanager
def open_member(archive: zipfile.ZipFile, name: str, *, limit: int | None = None) -> Iterator[Any]:
    """Open a member of a Zip file, unless it would unpack to far more than it takes there.

    Parameters
    ----------
    archive : `zipfile.ZipFile`
        The file.
    name : `str`
        The member.
    limit : `int`, optional
        Largest size [bytes].

    Yields
    ------
    stream : binary file
        Open for reading; ends at the size that was checked.

    Raises
    ------
    UntrustedError
        If it would be too large.
    KeyError
        If there is no such member.
    """
    info = archive.getinfo(name)
    allowed = max(_ALWAYS_READ, _EXPANSION * info.compress_size)
    if info.file_size > (allowed if limit is None else min(allowed, limit)):
        raise UntrustedError(
            f"{archive.filename or 'The Zip file'}: member {name!r} has {info.compress_size} bytes and would "
            f"unpack to {info.file_size}; it is not unpacked. If you know who made the file, pack it anew "
            "without compression."
        )
    with archive.open(info) as stream:
        yield stream


def read_text(path: str, name: str) -> bytes | None:
    """Return the bytes of a text member of a Zip file, `None` if it has none of that name.

    Parameters
    ----------
    path : `str`
        Local file or URL.
    name : `str`
        The member.

    Raises
    ------
    DatasetFileError
        If it is no Zip file, or damaged.
    UntrustedError
        If the member would unpack to far more than it takes.
    FileNotFoundError
        If there is no such file.
    """
    with open_stream(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                if name not in archive.namelist():
                    return None
                with open_member(archive, name, limit=_TEXT_LIMIT) as member:
                    return bytes(member.read())
        except UntrustedError:
            raise
        except _DAMAGE as error:
            raise DatasetFileError(f"{path} is not a readable Zip file: {error}") from error


def read_index(path: str) -> dict[str, Any] | None:
    """Return the index of a Zip file, `None` if it has none.

    Parameters
    ----------
    path : `str`
        Local file or URL.

    Raises
    ------
    DatasetFileError
        If it is no Zip file, or has an index of another version.
    UntrustedError
        If a member has the name of a place outside the archive, or is far larger than it seems.
    """
    text = read_text(path, INDEX)
    if text is None:
        return None
    try:
        index: dict[str, Any] = json.loads(text)
        version = index.get("index_version")
        members = list(index["artifact_map"]) if version == "V1" else []
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise DatasetFileError(f"{path}: its index ({INDEX}) cannot be read: {error!r}") from error
    if version != "V1":
        raise DatasetFileError(f"{path} has an index of version {version!r}; V1 is read")
    for name in members:
        # Files get these names when they are unpacked.
        if posixpath.normpath(name) != name or name.startswith(("/", "..")) or not name.isprintable():
            raise UntrustedError(
                f"{path}: the name of member {name!r} is not that of a file below a directory"
            )
    return index


def members_of(path: str) -> dict[uuid.UUID, str]:
    """Return which member of a Zip file holds which dataset; nothing of one without an index.

    Parameters
    ----------
    path : `str`
        Local file or URL.
    """
    # The same name may be another file later; a member that is not there is looked for anew.
    stamp = 0 if is_remote(path) else os.stat(path).st_mtime_ns
    return _members(path, stamp)


@lru_cache(maxsize=16)
def _members(path: str, stamp: int) -> dict[uuid.UUID, str]:
    index = read_index(path)
    if index is None:
        return {}
    try:
        return {uuid.UUID(id_): name for name, entry in index["artifact_map"].items() for id_ in entry["ids"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetFileError(f"{path}: its index ({INDEX}) is not complete: {error!r}") from error


@contextmanager
def unpacked(path: str, id_: uuid.UUID) -> Iterator[str]:
    """Give the name of a dataset's own file: the one given or, in a Zip file, a copy for the time being.

    Parameters
    ----------
    path : `str`
        Local file or URL.
    id_ : `uuid.UUID`
        Dataset.
    """
    member = members_of(path).get(id_) if path.endswith(EXTENSION) else None
    if member is None:
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=extension_of(member)) as copy:
        try:
            with (
                open_stream(path) as stream,
                zipfile.ZipFile(stream) as archive,
                open_member(archive, member) as packed,
            ):
                shutil.copyfileobj(packed, copy, 1 << 20)
        except UntrustedError:
            raise
        except _DAMAGE as error:
            raise DatasetFileError(f"{path}: member {member!r} cannot be read: {error}") from error
        copy.flush()
        yield copy.name
