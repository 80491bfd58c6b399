"""How names become parts of paths: the one place that quotes them.

A dataset's file, a run's journal: whatever has a collection's name or a data ID value in its path takes it
from here, so no name, however old or odd, leads out of the repository, and two names never share a path.
"""

from __future__ import annotations

import re
from functools import lru_cache

_UNSAFE = re.compile(r"[^A-Za-z0-9._+\-]")
_UNSAFE_IN_RUN = re.compile(r"[^A-Za-z0-9._+\-:=@]")


@lru_cache(maxsize=4096)
def quoted(text: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Return a text as part of a path: unsafe characters as ``%XX`` of their UTF-8 bytes.

    Parameters
    ----------
    text : `str`
        Any text, with lone surrogates too.
    unsafe : `re.Pattern`
        What one unsafe character is.

    Returns
    -------
    part : `str`
        ASCII; never empty, never ``.`` or ``..``, without ``/``.
    """
    if text in ("", ".", ".."):
        return "%2E" * len(text) if text else "%00"
    return unsafe.sub(lambda m: "".join(f"%{b:02X}" for b in m.group().encode(errors="surrogatepass")), text)


def quoted_run(run: str) -> str:
    """Return a RUN collection's name as directories, relative and downwards whatever the name is.

    Parameters
    ----------
    run : `str`
        The name. The first directory never begins with a dot: those of a repository are its own.
    """
    path = "/".join(quoted(part, _UNSAFE_IN_RUN) for part in run.split("/"))
    return "%2E" + path[1:] if path.startswith(".") else path
