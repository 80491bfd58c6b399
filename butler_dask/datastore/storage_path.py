"""Names of files as they are recorded: relative to a root, absolute, or URLs."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote, urlsplit

_COMPRESSIONS = (".gz", ".fz", ".bz2", ".zst")


def is_absolute(path: str) -> bool:
    """Return whether a recorded path is not relative to the root (a file ingested in place)."""
    return path.startswith("/") or "://" in path


def is_remote(path: str) -> bool:
    """Return whether a name is a URL other than ``file://``."""
    return "://" in path and not path.startswith("file://")


def extension_of(path: str) -> str:
    """Return the extension of a file, compression suffix included (``.fits.gz``)."""
    stem, extension = os.path.splitext(path.rpartition("/")[2])
    if extension in _COMPRESSIONS:
        extension = os.path.splitext(stem)[1] + extension
    return extension


def file_uri(name: str) -> str:
    """Return the ``file://`` URI of a full file name; a URI stays as it is."""
    return name if "://" in name else "file://" + quote(name)


def file_name(uri: str) -> str:
    """Return the file name of a ``file://`` URI; a file name stays as it is."""
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
