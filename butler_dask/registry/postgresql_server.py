"""PostgresqlServer: how a PostgreSQL server is connected to."""

from __future__ import annotations

import logging
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from .database_errors import delays, is_down, is_unavailable

_LOG = logging.getLogger("butler_dask.registry")

_SILENCE_S = 2.0
"""How long a server is waited for before that is said [s]."""
_CONNECTIONS = 16
"""Connections to a server one program has at most."""
_IDLE_CONNECTIONS = 4
"""Of these, how many are kept for later."""


class PostgresqlServer:
    """A server and the connections to it.

    Parameters
    ----------
    url : `sqlalchemy.engine.URL`
        Its database.
    lock_timeout_s : `float`
        How long others may be waited for [s].
    """

    def __init__(self, url: URL, lock_timeout_s: float) -> None:
        self._url, self._lock_timeout_s = url, lock_timeout_s
        self.engine = self._engine(_IDLE_CONNECTIONS, _CONNECTIONS - _IDLE_CONNECTIONS - 1)
        self._apart: sa.Engine | None = None
        self._has_answered = False

    def _engine(self, kept: int, further: int) -> sa.Engine:
        engine = sa.create_engine(
            self._url,
            pool_size=kept,
            max_overflow=further,
            pool_timeout=self._lock_timeout_s,
            pool_pre_ping=True,  # the server may have been restarted since the connection was used last
            enable_from_linting=False,
        )
        limit = f"SET lock_timeout = {max(round(1000 * self._lock_timeout_s), 1)}"

        def set_limit(connection: Any, record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(limit)
            connection.commit()

        sa.event.listen(engine, "connect", set_limit)
        return engine

    def connect(self) -> sa.Connection:
        """Return a connection, waiting while the server takes none, or is started anew."""
        return self._connected(self.engine)

    def _connected(self, engine: sa.Engine) -> sa.Connection:
        began = time.monotonic()
        told = False
        for delay in delays():
            try:
                connection = engine.connect()
            except sa.exc.OperationalError as error:
                # One that answered before is waited for; one that never did has a wrong address.
                waits = is_unavailable(error) or (self._has_answered and is_down(error))
                waited_s = time.monotonic() - began
                if not waits or waited_s > self._lock_timeout_s:
                    raise
                if not told and waited_s > _SILENCE_S:
                    told = True
                    _LOG.warning(
                        "The registry's server takes no connection; waiting for it up to %g s (%s)",
                        self._lock_timeout_s,
                        str(error.orig).strip().splitlines()[0],
                    )
            else:
                self._has_answered = True
                return connection
            time.sleep(delay)
        raise AssertionError("delays never end")

    def count_up(self, name: str, count: int) -> int:
        """Add to a counter, whatever becomes of the transaction the thread is in; return its new value."""
        if self._apart is None:
            # It is used for nothing else: threads that hold one each never wait for a second.
            self._apart = self._engine(1, 0)
        with self._connected(self._apart) as connection, connection.begin():
            sql = "UPDATE counter SET value = value + %s WHERE name = %s RETURNING value"
            return int(connection.exec_driver_sql(sql, (count, name)).scalar_one())

    def close(self, *, connections: bool = True) -> None:
        """Close all connections, or only leave them alone."""
        for engine in (self.engine, self._apart):
            if engine is not None:
                engine.dispose(close=connections)
