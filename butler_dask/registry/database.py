"""Database: one SQL database: connections and transactions.

SQLite is the default; PostgreSQL goes through the same calls. A thread has one session at a time. Writers
wait for one another up to a time limit. What PostgreSQL breaks off, because two transactions waited for each
other or a connection was lost, is done again from the beginning where the whole of it is ours (`repeated`);
a transaction that a user began is the user's to repeat.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from ..errors import DataIdValueError, ReadOnlyRepositoryError, RepositoryBusyError, RepositoryError
from .database_errors import delays, is_locked, is_lost, is_transient, translated
from .definitions import DefinitionCache
from .explained_statement import StatementLog
from .planner_statistics import renew_statistics
from .postgresql_server import PostgresqlServer
from .raw_sql import command, driver_connection
from .session import Session
from .sqlite_file import SqliteFile
from .thread_state import ThreadState

LOCK_TIMEOUT_S = 120.0
"""How long other programs are waited for, unless the repository's configuration says otherwise."""

P = ParamSpec("P")
T = TypeVar("T")


class _ThisThread(threading.local):
    state: ThreadState | None = None


class Database:
    """A SQL database.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL (``sqlite:////path/file.sqlite3``, ``postgresql+psycopg://...``).
    writeable : `bool`
        Whether `write` may be used.
    create : `bool`
        Whether a SQLite file is made where there is none.
    lock_timeout_s : `float`
        How long to wait for other programs before giving up [s].

    Raises
    ------
    RepositoryError
        If there is no such database.
    """

    def __init__(
        self,
        url: str,
        *,
        writeable: bool = True,
        create: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        try:
            self.url: URL = make_url(url)
        except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: the port is no number
            raise RepositoryError(
                f"{url!r} is not the URL of a database, such as sqlite:////data/registry.sqlite3 or "
                "postgresql+psycopg://user@host/name."
            ) from error
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.writeable = writeable
        self.lock_timeout_s = lock_timeout_s
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.path: str | None = None
        self._file: SqliteFile | None = None
        self._server: PostgresqlServer | None = None
        self.log = StatementLog()
        """Where statements are explained."""
        self._definitions = DefinitionCache()
        if self.is_sqlite:
            self.path = None if self.url.database in (None, "", ":memory:") else self.url.database
            self._file = SqliteFile(
                self.path, writeable=writeable, create=create, lock_timeout_s=lock_timeout_s
            )
            # Threads keep their connections themselves; the one of a database in memory is shared by all.
            pool = sa.StaticPool if self.path is None else sa.NullPool
            self.engine = sa.create_engine(
                "sqlite://", creator=self._file.connect, poolclass=pool, enable_from_linting=False
            )
        else:
            self._server = PostgresqlServer(self.url, lock_timeout_s)
            self.engine = self._server.engine
        self._shared_lock = threading.Lock() if self.is_sqlite and self.path is None else None
        self._dbapi: Any = self.engine.dialect.loaded_dbapi
        self._begin_threads()
        _open_databases.add(self)

    def _begin_threads(self) -> None:
        self._threads = _ThisThread()
        self._states: weakref.WeakSet[ThreadState] = weakref.WeakSet()
        self._kept: set[sa.Connection] = set()
        # A database that nobody closed is closed when it is not used any more, or at the end of the program.
        self._closing = weakref.finalize(self, _close, self._kept, self.engine)

    @property
    def _state(self) -> ThreadState:
        state = self._threads.state
        if state is None:
            state = self._threads.state = ThreadState(self._shared_lock or threading.Lock(), self._kept)
            self._states.add(state)
        return state

    def create_log(self) -> None:
        """Put a new SQLite file into write-ahead mode (kept in the file from then on)."""
        if self.path is not None:
            with self._translation():
                command(self._opened(self._state), "PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Close all connections."""
        for state in list(self._states):
            state.close_kept()
        self.engine.dispose()
        if self._server is not None:
            self._server.close()

    # Transactions

    def repeat(self, work: Callable[[], T]) -> T:
        """Return what some work returns, beginning anew where the database broke it off.

        Inside a transaction the work is done once, as it is not the whole of it.
        """
        deadline = time.monotonic() + self.lock_timeout_s
        for delay in delays():
            try:
                return work()
            except RepositoryBusyError as error:
                inside = self._state.session is not None
                if inside or not is_transient(error.__cause__) or time.monotonic() > deadline:
                    raise
            time.sleep(delay)
        raise AssertionError("delays never end")

    @contextmanager
    def _translation(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, self._dbapi.Error) as error:
            ours = translated(error, self.url.render_as_string(), self.lock_timeout_s)
            if ours is None:
                raise
            raise ours from error
        except OverflowError as error:
            if "SQLite" not in str(error):
                raise
            raise DataIdValueError(f"A number is larger than the registry takes, 64 bits: {error}") from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session whose statements all see the same state of the database.

        Inside `write` of the same thread it is the writing one.
        """
        state = self._state
        if state.session is not None:
            state.session.look_again()
            yield state.session
            return
        with self._translation(), state.lock:
            connection = self._opened(state)
            try:
                if self.is_sqlite:
                    self._patiently(connection, "BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                    connection.begin()
                state.session = self._session(connection, sees_one_state=True)
                yield state.session
            finally:
                state.session = None
                # Rolled back so that temporary rows go too.
                self._rollback(connection)
                self._finished(connection)

    def _session(self, connection: sa.Connection, *, sees_one_state: bool) -> Session:
        return Session(connection, self._definitions, self.log, sees_one_state=sees_one_state)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session that may change the database; nested ones are savepoints.

        Raises
        ------
        ReadOnlyRepositoryError
            If the database was opened for reading, or its disk does not take writes.
        RepositoryBusyError
            If other programs were in the way for longer than the limit, or the connection was lost.
        """
        state = self._state
        if not self.writeable:
            raise ReadOnlyRepositoryError(
                f"The registry {self.url.render_as_string()} was opened for reading; open the repository "
                "with writeable=True to change it."
            )
        if state.session is not None:
            if not state.writing:
                raise RuntimeError("A write was begun inside a read of the same thread")
            state.session.look_again()
            with self._savepoint(state, state.session):
                yield state.session
            return
        with self._translation(), state.lock:
            connection = self._opened(state)
            try:
                if self.is_sqlite:
                    self._patiently(connection, "BEGIN IMMEDIATE")
                else:
                    connection.begin()
                session = self._session(connection, sees_one_state=self.is_sqlite)
                state.session, state.writing = session, True
                yield session
                renew_statistics(session)
                self._commit(connection)
                session.committed()
            except BaseException:
                self._rollback(connection)
                raise
            finally:
                state.session, state.writing = None, False
                self._finished(connection)

    def _commit(self, connection: sa.Connection) -> None:
        if self.is_sqlite:
            command(connection, "COMMIT")
            return
        try:
            connection.commit()
        except (sa.exc.DBAPIError, self._dbapi.Error) as error:
            if not is_lost(error):
                raise
            # Not to be repeated: the server may have got as far as we wanted.
            raise RepositoryError(
                f"The connection to the registry {self.url.render_as_string()} was lost at the very end of a "
                "transaction; look whether what it changed is there."
            ) from error

    @contextmanager
    def _savepoint(self, state: ThreadState, session: Session) -> Iterator[None]:
        state.savepoints += 1
        name = f"s{state.savepoints}"
        session.command(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if session.is_open:
                session.command(f"ROLLBACK TO SAVEPOINT {name}")
            session.forget_definitions()
            raise
        finally:
            state.savepoints -= 1
        session.command(f"RELEASE SAVEPOINT {name}")

    def _opened(self, state: ThreadState) -> sa.Connection:
        # A SQLite connection belongs to its thread; taking one from a pool for each transaction would cost
        # more than most of our transactions.
        if self._file is None:
            assert self._server is not None
            return self._server.connect()
        if state.kept is not None and self._file.is_fixed and self._file.stamp != state.stamp:
            state.close_kept()
        if state.kept is None:
            state.stamp = self._file.stamp if self._file.is_fixed else ()
            state.kept = self.engine.connect()
            state.opened.add(state.kept)
        return state.kept

    def _finished(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.close()

    def _rollback(self, connection: sa.Connection) -> None:
        if connection.closed:  # at the end of the program, under a transaction still open; that undid it
            return
        if self.is_sqlite:
            # A full disk has made SQLite roll back everything already.
            if driver_connection(connection).in_transaction:
                command(connection, "ROLLBACK")
        elif driver_connection(connection).closed:
            connection.invalidate()
        else:
            connection.rollback()

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `write`."""
        return self._state.writing

    def _patiently(self, connection: sa.Connection, *statements: str) -> None:
        """Begin a SQLite transaction, waiting while other connections are in the way."""
        deadline = time.monotonic() + self.lock_timeout_s
        for delay in delays():
            try:
                for sql in statements:
                    command(connection, sql)
            except sqlite3.OperationalError as error:
                self._rollback(connection)
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(delay)

    def count_up(self, session: Session, name: str, count: int) -> int:
        """Add to a counter, and return its new value.

        On a server this takes effect at once and for good, whatever becomes of the transaction: else others
        would wait for its end.
        """
        if self._server is None:
            sql = "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value"
            return int(session.fetch_sql(sql, (count, name))[0][0])
        return self._server.count_up(name, count)

    def forget_definitions(self) -> None:
        """Read collections and dataset types again next time."""
        self._definitions.last = None
        session = self._state.session
        if session is not None:
            session.forget_definitions()


class _OnDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_OnDatabase)


def repeated(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorate a method that is one transaction of ``self._database``: see `Database.repeat`."""

    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.repeat(lambda: method(self, *args, **kwargs))

    functools.update_wrapper(whole, method)
    return whole


def _close(kept: set[sa.Connection], engine: sa.Engine) -> None:
    while kept:
        kept.pop().close()
    engine.dispose()


# A connection must not be used on both sides of a fork. SQLite moreover remembers per process which locks it
# holds, which the other side does not have: idle connections are closed before, and made anew when needed.

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_held: list[threading.Lock] = []
_abandoned: list[object] = []


def _before_fork() -> None:
    for state in [s for d in list(_open_databases) if d.is_sqlite for s in list(d._states)]:
        # A thread in a transaction keeps its connection, which the other side then leaves alone.
        if state.lock.acquire(blocking=False):
            _held.append(state.lock)
            state.close_kept()


def _after_fork() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _after_fork()
    for database in list(_open_databases):
        # Not closed, which would touch the other side's locks; so kept from being collected.
        database._closing.detach()
        _abandoned.append((database._threads, list(database._states)))
        database.engine.dispose(close=False)
        if database._server is not None:
            database._server.close(connections=False)
        database._begin_threads()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
