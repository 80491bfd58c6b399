"""URLs of databases that hold passwords, and the same without them."""

from __future__ import annotations

import re

_OF_USER = re.compile(r"(://[^:/@]*):[^@]*@(?:[^/?]*@)?")
_OF_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """Return a URL, well-formed or not, with passwords replaced by asterisks.

    Parameters
    ----------
    url : `str`
        URL of a database, or of a store that takes names and keys in its URL.
    """
    return _OF_QUERY.sub(r"\1***", _OF_USER.sub(r"\1:***@", url))


def has_password(url: str) -> bool:
    """Return whether a URL holds a password.

    Parameters
    ----------
    url : `str`
        As for `without_password`.
    """
    return without_password(url) != url
