"""Zip files that hold the files of many datasets, for places that count files.

The layout is the reference's: an index says which member holds which datasets. A dataset in such a file is
recorded with the Zip file's path; which member it is follows from its id.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..errors import DatasetFileError
from .storage_path import extension_of, is_remote
from .storage_root import open_stream

INDEX = "_butler_zip_index.json"
"""Name of the member that says what the others are."""

EXTENSION = ".zip"


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
    """
    with open_stream(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                if INDEX not in archive.namelist():
                    return None
                index: dict[str, Any] = json.loads(archive.read(INDEX))
        except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
            raise DatasetFileError(f"{path} is not a readable Zip file: {error}") from error
    if index.get("index_version") != "V1":
        raise DatasetFileError(f"{path} has an index of version {index.get('index_version')!r}; V1 is read")
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
    return {uuid.UUID(id_): name for name, entry in index["artifact_map"].items() for id_ in entry["ids"]}


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
        with open_stream(path) as stream, zipfile.ZipFile(stream) as archive:
            copy.write(archive.read(member))
        copy.flush()
        yield copy.name
