"""What errors of a database mean to a user, and which of them are worth another attempt."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator

import sqlalchemy as sa

from ..errors import (
    ButlerUserError,
    ReadOnlyRepositoryError,
    RefusedRowError,
    RepositoryBusyError,
    RepositoryError,
)

_STOOD_IN_THE_WAY = ("40001", "40P01")
"""SQL states of transactions that stood in each other's way (serialization failure, deadlock): all of it was
undone, and the same again will do."""
_UNAVAILABLE = ("53300", "57P03")
"""SQL states of a server that takes no connection just now: too many, or starting up."""
_CONNECTION_ENDED = ("57P01", "57P02", "57P05", "25P03", "08000", "08001", "08003", "08004", "08006")
"""SQL states of a connection that was ended."""
_LOCK_TIMEOUT = "55P03"


def _original(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error


def is_locked(error: BaseException) -> bool:
    """Return whether SQLite gave up because another connection was in the way."""
    message = str(_original(error))
    return any(text in message for text in ("is locked", "is busy", "locking protocol"))


def is_unavailable(error: BaseException) -> bool:
    """Return whether a server takes no connection just now, but may later."""
    original = _original(error)
    message = str(original)
    # While connecting, the driver gives the state in words only.
    return getattr(original, "sqlstate", None) in _UNAVAILABLE or any(
        text in message
        for text in (
            *("too many clients", "remaining connection slots", "is starting up", "is shutting down"),
            *("in recovery mode", "not yet accepting connections"),
        )
    )


def is_down(error: BaseException) -> bool:
    """Return whether no server answers, as while one is started anew; a wrong address looks the same."""
    message = str(_original(error))
    return is_lost(error) or any(
        text in message for text in ("Is the server running", "Connection refused", "Connection timed out")
    )


def is_lost(error: BaseException | None) -> bool:
    """Return whether the connection to the server was lost."""
    original = _original(error)
    if original is None or isinstance(original, sqlite3.Error):
        return False
    message = str(original)
    return getattr(original, "sqlstate", None) in _CONNECTION_ENDED or any(
        text in message
        for text in (
            *("the connection is closed", "the connection is lost", "server closed the connection"),
            *(
                "could not receive data from server",
                "could not send data to server",
                "Connection reset by peer",
            ),
            *("no connection to the server", "connection has been closed unexpectedly"),
        )
    )


def is_transient(error: BaseException | None) -> bool:
    """Return whether the transaction was undone for a reason that will not be there the next time."""
    return getattr(_original(error), "sqlstate", None) in _STOOD_IN_THE_WAY or is_lost(error)


def translated(error: BaseException, where: str, patience_s: float) -> ButlerUserError | None:
    """Return our error for one of the database, or `None` if it is none of the environment's.

    Parameters
    ----------
    error : `BaseException`
        Of SQLAlchemy or of the driver.
    where : `str`
        The registry.
    patience_s : `float`
        How long others were waited for [s].
    """
    original = _original(error)
    message = str(original).strip()
    state = getattr(original, "sqlstate", None)
    if "readonly" in message or "read-only" in message or state in ("25006", "42501"):
        return ReadOnlyRepositoryError(f"Cannot write to the registry {where}: {message}")
    if "is full" in message or "disk I/O error" in message or state == "53100":
        return ReadOnlyRepositoryError(f"The disk does not take a write to the registry {where}: {message}")
    if isinstance(error, sa.exc.TimeoutError):
        return RepositoryBusyError(
            f"All connections of this program to the registry {where} were in use for {patience_s:g} s."
        )
    if is_unavailable(error):
        return RepositoryBusyError(f"The registry {where} took no connection for {patience_s:g} s: {message}")
    if is_locked(error) or state == _LOCK_TIMEOUT:
        return RepositoryBusyError(
            f"The registry {where} was locked by another program for {patience_s:g} s: {message}. "
            "Nothing was changed; lock_timeout_s below registry in butler.yaml sets how long to wait."
        )
    if is_transient(error):
        what = "The connection to the registry was lost" if is_lost(error) else "Others stood in the way"
        return RepositoryBusyError(
            f"{what} ({where}): {message}. Nothing was changed; the same again may do."
        )
    if "malformed" in message:
        return RepositoryError(f"The registry {where} is damaged: {message}")
    if "not a database" in message:
        return RepositoryError(f"{where} is not a registry: {message}")
    operational = isinstance(error, sa.exc.OperationalError) or type(original).__name__ == "OperationalError"
    if operational and ("unable to open" in message or "connection" in message):
        return RepositoryError(f"Cannot open the registry {where}: {message}")
    refusals = (sa.exc.IntegrityError, sa.exc.DataError)
    if isinstance(error, refusals) or type(original).__name__ in ("IntegrityError", "DataError"):
        return RefusedRowError(f"The registry {where} does not take a row: {message}. Nothing was changed.")
    return None


def delays() -> Iterator[float]:
    """Yield how long to wait before each further attempt [s]: ever longer, and not as long as others do."""
    delay = 0.01
    while True:
        yield delay * (0.5 + random.random())
        delay = min(2 * delay, 1.0)
