"""SqliteFile: how the file of a SQLite database is opened, to write, to read, or where nobody may write.

SQLite is used as its authors advise for several processes: write-ahead log, so that readers never wait;
``BEGIN IMMEDIATE`` for every write, so that a transaction never fails half-way for want of the lock.
"""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from ..errors import ReadOnlyRepositoryError, RepositoryError

_BUSY_TIMEOUT_MS = 2000
"""How long SQLite itself waits at most before our back-off takes over."""

_PRAGMAS = (
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cache_size = -65536",
    "mmap_size = 1073741824",
    "synchronous = NORMAL",
    # Rows of an index looked at for statistics; fewer, and RUNs of 50 000 datasets look small enough to be
    # read whole for a thousand look-ups.
    "analysis_limit = 100000",
)


class SqliteFile:
    """The file of a SQLite database.

    Parameters
    ----------
    path : `str` or `None`
        The file; `None` is a database in memory.
    writeable : `bool`
        Whether it will be written.
    create : `bool`
        Whether it is made if it is not there.
    lock_timeout_s : `float`
        How long others may be waited for [s].

    Raises
    ------
    RepositoryError
        If it is not there, and is not to be made.
    """

    def __init__(self, path: str | None, *, writeable: bool, create: bool, lock_timeout_s: float) -> None:
        self.path, self._create = path, create
        self._busy_timeout_ms = min(_BUSY_TIMEOUT_MS, round(1000 * lock_timeout_s))
        self._mode = "rwc" if create else "rw" if writeable else "ro"
        if path is not None and not create and not os.path.exists(path):
            raise RepositoryError(f"There is no registry database {path!r}")
        # SQLite cannot make the files of its log in a directory we may not write to.
        directory = "" if path is None else os.path.dirname(os.path.abspath(path))
        self.is_fixed = self._mode == "ro" and path is not None and not os.access(directory, os.W_OK)
        """Whether it lies where nothing can be written by us; then `stamp` says whether somebody else did."""

    @property
    def stamp(self) -> tuple[int, ...]:
        """What changes when somebody else writes to the file; a connection made before must not be used."""
        out = []
        for name in (self.path, f"{self.path}-wal"):
            try:
                status = os.stat(str(name))
            except FileNotFoundError:
                out += [0, -1]
            else:
                # The log itself may grow; what counts is whether there is one.
                out += (
                    [status.st_mtime_ns, status.st_size] if name == self.path else [0, min(status.st_size, 1)]
                )
        return tuple(out)

    def change_mark(self) -> str:
        """Return a text that is another one after every change: sizes and times of the file and its log."""
        out = []
        for name in (str(self.path), f"{self.path}-wal"):
            try:
                status = os.stat(name)
            except FileNotFoundError:
                continue
            if status.st_size:  # an empty log is made and removed by readers
                out.append(f"{status.st_size}:{status.st_mtime_ns}")
        return "/".join(out)

    def connect(self) -> sqlite3.Connection:
        """Return a new connection.

        Raises
        ------
        ReadOnlyRepositoryError
            If the file is to be made and cannot be.
        RepositoryError
            If it cannot be opened.
        """
        uri = "file::memory:"
        if self.path is not None:
            uri = f"file:{quote(os.path.abspath(self.path))}?mode={self._mode}"
            # Without a log nobody is writing just now, and the file may be read as it is.
            if self.is_fixed and self.stamp[-1] <= 0:
                uri += "&immutable=1"
        try:
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=512
            )
        except sqlite3.OperationalError as error:
            if self._create and not os.path.exists(str(self.path)):
                raise ReadOnlyRepositoryError(
                    f"Cannot create the registry database {self.path!r}: {error}"
                ) from error
            raise RepositoryError(f"Cannot open the registry database {self.path!r}: {error}") from error
        # Executed one by one: each takes effect for this connection only.
        for pragma in (f"busy_timeout = {self._busy_timeout_ms}", *_PRAGMAS):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection
