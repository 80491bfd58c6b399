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
from .database_url import without_password
from .definitions import DefinitionCache
from .explained_statement import StatementLog
from .planner_statistics import MANY_ROWS, renew_statistics
from .postgresql_server import PostgresqlServer
from .session import REVISION, Session
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
                f"{without_password(url)!r} is not the URL of a database, such as "
                "sqlite:////data/registry.sqlite3 or postgresql+psycopg://user@host/name."
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
        driver: Any = self.engine.dialect.loaded_dbapi
        self._errors = (sa.exc.DBAPIError, sa.exc.TimeoutError, driver.Error, OverflowError)
        self._begin_threads()
        _open_databases.add(self)

    @property
    def shown_url(self) -> str:
        """Its URL, passwords hidden."""
        return without_password(self.url.render_as_string())

    def _begin_threads(self) -> None:
        self._threads = _ThisThread()
        self._states: weakref.WeakSet[ThreadState] = weakref.WeakSet()
        self._kept: set[sa.Connection] = set()
        # A database that nobody closed is closed when it is not used any more, or at the end of the program.
        self._closing = weakref.finalize(self, _close, self._kept, self.engine)

    def _new_state(self) -> ThreadState:
        state = self._threads.state = ThreadState(self._shared_lock or threading.Lock(), self._kept)
        self._states.add(state)
        return state

    def create_log(self) -> None:
        """Put a new SQLite file into write-ahead mode (kept in the file from then on)."""
        if self.path is not None:
            connection = self._opened(self._threads.state or self._new_state())
            try:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL").close()
            except self._errors as error:
                self._raise_as_ours(error)
                raise

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
                if not self.is_to_repeat(error) or time.monotonic() > deadline:
                    raise
            time.sleep(delay)
        raise AssertionError("delays never end")

    def is_to_repeat(self, error: RepositoryBusyError) -> bool:
        """Return whether work that ended with an error, being a whole transaction, is to be begun anew."""
        return self._session is None and is_transient(error.__cause__)

    def _raise_as_ours(self, error: Exception) -> None:
        """Raise the error that tells a user what one of the database means, if there is one."""
        if isinstance(error, OverflowError):
            if "SQLite" in str(error):
                raise DataIdValueError(
                    f"A number is larger than the registry takes, 64 bits: {error}"
                ) from error
            return
        ours = translated(error, self.shown_url, self.lock_timeout_s)
        if ours is not None:
            raise ours from error

    @property
    def _session(self) -> Session | None:
        """The session of this thread, if it is in one."""
        return self._threads.state.session if self._threads.state is not None else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session whose statements all see the same state of the database.

        Inside `write` of the same thread it is the writing one.
        """
        state = self._threads.state or self._new_state()
        if state.session is not None:
            if not self.is_sqlite:
                state.session.look_again()
            yield state.session
            return
        try:
            with state.lock:
                connection = state.connection = self._opened(state)
                try:
                    state.session = self._begun_to_read(connection)
                    yield state.session
                finally:
                    state.session = state.connection = None
                    # Rolled back so that temporary rows go too.
                    self._rollback(connection)
                    if self._server is not None:
                        connection.close()
        except self._errors as error:
            self._raise_as_ours(error)
            raise

    def _begun_to_read(self, connection: sa.Connection) -> Session:
        session = Session(connection, self._definitions, self.log, is_sqlite=self.is_sqlite)
        if self.is_sqlite:
            # The state seen is that of the first look, which most need anyhow.
            session.revision = self._patiently(connection, "BEGIN", REVISION)[0]
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
            connection.begin()
        return session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session that may change the database; nested ones are undone by themselves.

        Raises
        ------
        ReadOnlyRepositoryError
            If the database was opened for reading, or its disk does not take writes.
        RepositoryBusyError
            If other programs were in the way for longer than the limit, or the connection was lost.
        """
        state = self._threads.state or self._new_state()
        if not self.writeable:
            raise ReadOnlyRepositoryError(
                f"The registry {self.shown_url} was opened for reading; open the repository "
                "with writeable=True to change it."
            )
        session = state.session
        if session is not None:
            if not session.is_writing:
                raise RuntimeError("A write was begun inside a read of the same thread")
            if not self.is_sqlite:
                session.look_again()
            with self._nested(state, session):
                yield session
            return
        try:
            with state.lock:
                connection = state.connection = self._opened(state)
                try:
                    self._begin_to_write(connection)
                    session = state.session = Session(
                        connection,
                        self._definitions,
                        self.log,
                        is_sqlite=self.is_sqlite,
                        begin=self._begin_to_write,
                    )
                    yield session
                    if max(session.inserted.values(), default=0) >= MANY_ROWS:
                        renew_statistics(session)
                    if session.is_begun:
                        self._commit(connection)
                        session.committed()
                except BaseException:
                    self._rollback(connection)
                    raise
                finally:
                    state.session = state.connection = None
                    if self._server is not None:
                        connection.close()
        except self._errors as error:
            self._raise_as_ours(error)
            raise

    def _begin_to_write(self, connection: sa.Connection) -> None:
        if self.is_sqlite:
            self._patiently(connection, "BEGIN IMMEDIATE")
        else:
            connection.begin()

    def _commit(self, connection: sa.Connection) -> None:
        if self.is_sqlite:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("COMMIT")
            return
        try:
            connection.commit()
        except self._errors as error:
            if not is_lost(error):
                raise
            # Not to be repeated: the server may have got as far as we wanted.
            raise RepositoryError(
                f"The connection to the registry {self.shown_url} was lost at the very end of a "
                "transaction; look whether what it changed is there."
            ) from error

    @contextmanager
    def _nested(self, state: ThreadState, session: Session) -> Iterator[None]:
        if session.is_fresh:
            # Nothing was asked or told before: what is undone here is the transaction so far, and what comes
            # after it begins it again.
            try:
                yield
            except BaseException:
                assert state.connection is not None
                self._rollback(state.connection)
                session.undone()
                raise
            return
        session.savepoints += 1
        name = f"s{session.savepoints}"
        session.command(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if session.is_open:
                session.command(f"ROLLBACK TO SAVEPOINT {name}")
            session.forget_definitions()
            raise
        finally:
            session.savepoints -= 1
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

    def _rollback(self, connection: sa.Connection) -> None:
        if connection.closed:  # at the end of the program, under a transaction still open; that undid it
            return
        driver: Any = connection.connection.dbapi_connection
        if self.is_sqlite:
            # A full disk has made SQLite roll back everything already.
            if driver.in_transaction:
                driver.execute("ROLLBACK")
        elif driver.closed:
            connection.invalidate()
        else:
            connection.rollback()

    def _patiently(self, connection: sa.Connection, *statements: str) -> Any:
        """Begin a SQLite transaction, waiting while others are in the way; return a row of its first look."""
        driver: Any = connection.connection.dbapi_connection
        deadline, waits = 0.0, None
        while True:
            try:
                row = None
                for sql in statements:
                    row = driver.execute(sql).fetchone()
            except sqlite3.OperationalError as error:
                self._rollback(connection)
                deadline = deadline or time.monotonic() + self.lock_timeout_s
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            else:
                return row
            waits = waits or delays()
            time.sleep(next(waits))

    def count_up(self, session: Session, name: str, count: int) -> int:
        """Add to a counter, and return its new value.

        On a server this takes effect at once and for good, whatever becomes of the transaction: else others
        would wait for its end.
        """
        if self._server is None:
            sql = "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value"
            return int(session.fetch_sql(sql, (count, name))[0][0])
        return self._server.count_up(name, count)

    def change_mark(self) -> str:
        """Return a text that is another one after every change of the database (and seldom without one).

        Of SQLite, sizes and times of its files; of PostgreSQL, its transactions.
        """
        if self._file is not None:
            return self._file.change_mark()
        with self.read() as session:
            return str(session.fetch_sql("SELECT CAST(pg_current_snapshot() AS text)")[0][0])

    def forget_definitions(self) -> None:
        """Read collections and dataset types again next time."""
        self._definitions.last = None
        if self._session is not None:
            self._session.forget_definitions()


class _OnDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_OnDatabase)


def repeated(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorate a method that is one transaction of ``self._database``: see `Database.repeat`."""

    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except RepositoryBusyError as error:
            if not self._database.is_to_repeat(error):
                raise
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
