"""Database: one SQL database: connections, transactions, bulk inserts, rows that live for one query.

SQLite is the default; PostgreSQL goes through the same calls. A thread has one connection at a time. Writers
wait for one another up to a time limit. What PostgreSQL breaks off, because two transactions waited for each
other or a connection was lost, is done again from the beginning where the whole of it is ours (`repeated`);
a transaction that a user began is the user's to repeat.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from ..errors import (
    DataIdValueError,
    InvalidQueryError,
    ReadOnlyRepositoryError,
    RepositoryBusyError,
    RepositoryError,
)
from .database_errors import is_locked, is_lost, is_transient, is_unavailable, translated
from .explained_statement import ExplainedStatement
from .sqlite_file import SqliteFile

LOCK_TIMEOUT_S = 120.0
"""How long other programs are waited for, unless the repository's configuration says otherwise."""

_CONNECTIONS = 16
"""Connections to a server one program has at most."""
_IDLE_CONNECTIONS = 4
"""Of these, how many are kept for later."""

_FEW_TEMPORARY_ROWS = 20
"""Temporary tables of fewer rows are joined well enough without statistics."""
_VALUES_PER_STATEMENT = 600
"""Values bound in one INSERT of several rows."""
_PORTION = 10_000
"""Rows of a large answer that are Python values at a time."""
_FEW_ROWS = 200
"""Inserts are counted towards new statistics in portions of at least so many rows."""

Rows = Sequence[tuple[Any, ...]]
P = ParamSpec("P")
T = TypeVar("T")


class _ThreadState:
    """What one thread has open; what is kept for it is closed with it."""

    def __init__(self, lock: threading.Lock, opened: set[sa.Connection]) -> None:
        self.lock = lock
        """Held during a transaction."""
        self.opened = opened
        """The connections all threads keep."""
        self.connection: sa.Connection | None = None
        """Connection of the transaction it is in."""
        self.writing = False
        self.savepoints = 0
        self.kept: sa.Connection | None = None
        """SQLite connection kept between transactions."""
        self.stamp: tuple[int, ...] = ()
        self.temporary: dict[Hashable, int] = {}
        self.inserted: dict[str, int] = {}

    def close_kept(self) -> None:
        """Close the connection kept."""
        kept, self.kept = self.kept, None
        if kept in self.opened:
            self.opened.remove(kept)
            kept.close()

    def __del__(self) -> None:
        # Collected together with a database nobody closed, the connection may be gone already.
        with suppress(sa.exc.ProgrammingError):
            self.close_kept()


class _ThisThread(threading.local):
    state: _ThreadState | None = None


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
        self._counting: sa.Engine | None = None
        self._temporary_tables: dict[Hashable, tuple[sa.Table, str]] = {}
        self._temporary_numbers = itertools.count()
        self.after_rollback: Callable[[], None] = _nothing
        self.explained: list[ExplainedStatement] | None = None
        """Statements read from now on are appended with their plans, if it is a list."""
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
            self.engine = self._server_engine(_IDLE_CONNECTIONS, _CONNECTIONS - _IDLE_CONNECTIONS - 1)
        self._shared_lock = threading.Lock() if self.is_sqlite and self.path is None else None
        self._dbapi: Any = self.engine.dialect.loaded_dbapi
        self._quote = self.engine.dialect.identifier_preparer.quote
        self._mark = "?" if self.is_sqlite else "%s"
        self._begin_threads()
        _open_databases.add(self)

    def _server_engine(self, kept: int, further: int) -> sa.Engine:
        engine = sa.create_engine(
            self.url,
            pool_size=kept,
            max_overflow=further,
            pool_timeout=self.lock_timeout_s,
            pool_pre_ping=True,  # the server may have been restarted since the connection was used last
            enable_from_linting=False,
        )
        limit = f"SET lock_timeout = {max(round(1000 * self.lock_timeout_s), 1)}"

        def set_limit(connection: Any, record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(limit)
            connection.commit()

        sa.event.listen(engine, "connect", set_limit)
        return engine

    def _begin_threads(self) -> None:
        self._threads = _ThisThread()
        self._states: weakref.WeakSet[_ThreadState] = weakref.WeakSet()
        self._kept: set[sa.Connection] = set()
        # A database that nobody closed is closed when it is not used any more, or at the end of the program.
        self._closing = weakref.finalize(self, _close, self._kept, self.engine)

    @property
    def _state(self) -> _ThreadState:
        state = self._threads.state
        if state is None:
            state = self._threads.state = _ThreadState(self._shared_lock or threading.Lock(), self._kept)
            self._states.add(state)
        return state

    def create_log(self) -> None:
        """Put a new SQLite file into write-ahead mode (kept in the file from then on)."""
        if self.path is not None:
            with self._translation():
                self._command(self._opened(self._state), "PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Close all connections."""
        for state in list(self._states):
            state.close_kept()
        self.engine.dispose()
        if self._counting is not None:
            self._counting.dispose()

    # Transactions

    def repeat(self, work: Callable[[], T]) -> T:
        """Return what some work returns, beginning anew where the database broke it off.

        Inside a transaction the work is done once, as it is not the whole of it.
        """
        deadline = time.monotonic() + self.lock_timeout_s
        for delay in _delays():
            try:
                return work()
            except RepositoryBusyError as error:
                inside = self._state.connection is not None
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
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection whose statements all see the same state of the database.

        Inside `write` of the same thread it is the writing connection.
        """
        state = self._state
        if state.connection is not None:
            yield state.connection
            return
        with self._translation(), state.lock:
            connection = self._opened(state)
            try:
                if self.is_sqlite:
                    self._patiently(connection, "BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                    connection.begin()
                state.connection = connection
                yield connection
            finally:
                state.connection = None
                # Rolled back so that temporary rows go too.
                self._rollback(connection)
                self._finished(connection)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction; nested ones are savepoints.

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
        if state.connection is not None:
            if not state.writing:
                raise RuntimeError("A write was begun inside a read of the same thread")
            with self._savepoint(state, state.connection):
                yield state.connection
            return
        with self._translation(), state.lock:
            connection = self._opened(state)
            try:
                if self.is_sqlite:
                    self._patiently(connection, "BEGIN IMMEDIATE")
                else:
                    connection.begin()
                state.connection, state.writing = connection, True
                yield connection
                self._analyze(connection)
                self._commit(connection)
            except BaseException:
                self._rollback(connection)
                self.after_rollback()
                raise
            finally:
                state.connection, state.writing = None, False
                state.inserted.clear()
                self._finished(connection)

    def _commit(self, connection: sa.Connection) -> None:
        if self.is_sqlite:
            self._command(connection, "COMMIT")
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
    def _savepoint(self, state: _ThreadState, connection: sa.Connection) -> Iterator[None]:
        state.savepoints += 1
        name = f"s{state.savepoints}"
        self._command(connection, f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if self._is_alive(connection):
                self._command(connection, f"ROLLBACK TO SAVEPOINT {name}")
            self.after_rollback()
            raise
        finally:
            state.savepoints -= 1
        self._command(connection, f"RELEASE SAVEPOINT {name}")

    def _opened(self, state: _ThreadState) -> sa.Connection:
        # A SQLite connection belongs to its thread; taking one from a pool for each transaction would cost
        # more than most of our transactions.
        if self._file is None:
            return self._connected()
        if state.kept is not None and self._file.is_fixed and self._file.stamp != state.stamp:
            state.close_kept()
        if state.kept is None:
            state.stamp = self._file.stamp if self._file.is_fixed else ()
            state.kept = self.engine.connect()
            state.opened.add(state.kept)
        return state.kept

    def _connected(self) -> sa.Connection:
        deadline = time.monotonic() + self.lock_timeout_s
        for delay in _delays():
            try:
                return self.engine.connect()
            except sa.exc.OperationalError as error:
                if not is_unavailable(error) or time.monotonic() > deadline:
                    raise
            time.sleep(delay)
        raise AssertionError("delays never end")

    def _finished(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.close()

    def _rollback(self, connection: sa.Connection) -> None:
        if connection.closed:  # at the end of the program, under a transaction still open; that undid it
            return
        if self.is_sqlite:
            # A full disk has made SQLite roll back everything already.
            if _dbapi(connection).in_transaction:
                self._command(connection, "ROLLBACK")
        elif _dbapi(connection).closed:
            connection.invalidate()
        else:
            connection.rollback()

    def _command(self, connection: sa.Connection, sql: str) -> None:
        cursor = _dbapi(connection).cursor()
        try:
            cursor.execute(sql)
        finally:
            cursor.close()

    def _analyze(self, connection: sa.Connection) -> None:
        # Without statistics SQLite joins in an order that can be a thousand times slower. They are taken anew
        # whenever a table has doubled, from a sample, which takes milliseconds.
        count = (
            "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
            "SET value = counter.value + excluded.value RETURNING value"
        )
        # In the same order in every process, since each takes locks on a server.
        for name, rows in sorted(self._state.inserted.items()):
            if rows < _FEW_ROWS:
                continue
            total = self.fetch_sql(connection, count, (f"rows {name}", rows))[0][0]
            analyzed = self.fetch_sql(connection, count, (f"analyzed {name}", 0))[0][0]
            if total >= 2 * analyzed:
                self._command(connection, f"ANALYZE {self._quote(name)}")
                self.fetch_sql(connection, count, (f"analyzed {name}", total - analyzed))

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `write`."""
        return self._state.writing

    def _patiently(self, connection: sa.Connection, *statements: str) -> None:
        """Begin a SQLite transaction, waiting while other connections are in the way."""
        deadline = time.monotonic() + self.lock_timeout_s
        for delay in _delays():
            try:
                for sql in statements:
                    self._command(connection, sql)
            except sqlite3.OperationalError as error:
                self._rollback(connection)
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(delay)

    # Statements

    def fetch(
        self, connection: sa.Connection, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a statement as plain tuples.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        return [row for rows in self.fetch_portions(connection, statement, parameters) for row in rows]

    def _explain(
        self, connection: sa.Connection, sql: str, parameters: Any, n_rows: int, seconds: float
    ) -> None:
        assert self.explained is not None
        cursor = _dbapi(connection).cursor()
        try:
            cursor.execute(("EXPLAIN QUERY PLAN " if self.is_sqlite else "EXPLAIN ") + sql, parameters)
            steps = cursor.fetchall()
        finally:
            cursor.close()
        if self.is_sqlite:
            # Columns: step, the step it is within, unused, text.
            depths = {0: -1}
            for step, parent, *_ in steps:
                depths[step] = depths.get(parent, -1) + 1
            plan = tuple("  " * depths[s[0]] + s[-1] for s in steps)
        else:
            plan = tuple(s[0] for s in steps)
        values = tuple(parameters.values() if isinstance(parameters, Mapping) else parameters)
        self.explained.append(ExplainedStatement(sql, values, plan, n_rows, seconds))

    def fetch_portions(
        self, connection: sa.Connection, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a statement in portions, for who keeps columns and not the rows.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        start, count = time.perf_counter(), 0
        try:
            result = connection.execute(statement, parameters)
        except sa.exc.DataError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise InvalidQueryError(f"The database cannot calculate this query: {reason}") from error
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(_PORTION):
            count += len(rows)
            yield rows
        if self.explained is not None:
            context: Any = result.context
            values = context.parameters[0] if context.parameters else ()
            self._explain(connection, context.statement, values, count, time.perf_counter() - start)
        result.close()

    def fetch_sql(
        self, connection: sa.Connection, sql: str, parameters: tuple[Any, ...] = ()
    ) -> list[tuple[Any, ...]]:
        """Return all rows of SQL text with ``?`` for each value, past SQLAlchemy's statement layer.

        For look-ups of one row, where building a statement would cost more than running it.
        """
        sql = sql if self.is_sqlite else sql.replace("?", "%s")
        start = time.perf_counter()
        cursor = _dbapi(connection).cursor()
        try:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        finally:
            cursor.close()
        if self.explained is not None:
            self._explain(connection, sql, parameters, len(rows), time.perf_counter() - start)
        return rows

    def lock_rows(
        self, connection: sa.Connection, table: sa.Table, ids: Sequence[int], *, exclusive: bool
    ) -> list[int]:
        """Keep others from removing rows (or, exclusively, from using them) until the transaction ends.

        SQLite has one writer at a time anyhow.

        Returns
        -------
        missing : `list` [`int`]
            Rows that somebody else removed meanwhile.
        """
        if self.is_sqlite or not ids:
            return []
        rows = sa.select(table.c.id).where(table.c.id.in_(sorted(ids))).order_by(table.c.id)
        found = {r[0] for r in self.fetch(connection, rows.with_for_update(read=not exclusive))}
        return [i for i in ids if i not in found]

    def count_up(self, connection: sa.Connection, name: str, count: int) -> int:
        """Add to a counter, and return its new value.

        On a server this takes effect at once and for good, whatever becomes of the transaction: else others
        would wait for its end.
        """
        sql = "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value"
        if self.is_sqlite:
            return int(self.fetch_sql(connection, sql, (count, name))[0][0])
        if self._counting is None:
            # A connection that is used for nothing else: threads that hold one each never wait for a second.
            self._counting = self._server_engine(1, 0)
        with self._counting.begin() as other:
            return int(self.fetch_sql(other, sql, (count, name))[0][0])

    def count_rows(self, table: sa.Table, count: int) -> None:
        """Count rows inserted, towards new statistics for the query planner."""
        inserted = self._state.inserted
        inserted[table.name] = inserted.get(table.name, 0) + count

    def insert(
        self,
        connection: sa.Connection,
        table: sa.Table,
        columns: Sequence[str],
        rows: Rows,
        *,
        on_conflict: Literal["raise", "ignore", "replace"] = "raise",
        replace_columns: Sequence[str] | None = None,
    ) -> int:
        """Insert many rows.

        Parameters
        ----------
        connection : `sqlalchemy.Connection`
            From `write`.
        table : `sqlalchemy.Table`
            Where to.
        columns : sequence of `str`
            Names of the values of each row.
        rows : sequence of `tuple`
            Values.
        on_conflict : `str`
            What to do with a row whose key exists: ``raise`` `sqlalchemy.exc.IntegrityError`, ``ignore`` the
            new row, or ``replace`` the old one's values.
        replace_columns : sequence of `str`, optional
            Columns that ``replace`` changes; default: all that are not in the primary key.

        Returns
        -------
        count : `int`
            Rows inserted (with ``replace``: or changed).
        """
        if not rows:
            return 0
        if not table._prefixes:
            self.count_rows(table, len(rows))
        if on_conflict != "raise":
            rows = self._in_order(table, columns, rows)
        name = self._quote(table.name)
        names = ", ".join(map(self._quote, columns))
        values = f"({', '.join([self._mark] * len(columns))})"
        insert = f"INSERT INTO {name} ({names}) VALUES "
        if on_conflict == "ignore":
            return self._execute(connection, f"{insert}{values} ON CONFLICT DO NOTHING", rows)
        if on_conflict == "replace":
            keys = [c.name for c in table.primary_key.columns]
            changed = [c for c in columns if c not in keys] if replace_columns is None else replace_columns
            action = ", ".join(f"{self._quote(c)} = excluded.{self._quote(c)}" for c in changed)
            action = f"UPDATE SET {action}" if changed else "NOTHING"
            conflict = f" ON CONFLICT ({', '.join(map(self._quote, keys))}) DO {action}"
            return self._execute(connection, insert + values + conflict, rows)
        if len(rows) < _FEW_ROWS:
            return self._execute(connection, insert + values, rows)
        if not self.is_sqlite:
            return self._copy(connection, f"COPY {name} ({names}) FROM STDIN", rows)
        # Several rows a statement: a third less time than one each.
        per_statement = max(_VALUES_PER_STATEMENT // len(columns), 1)
        whole = len(rows) - len(rows) % per_statement
        flat = itertools.chain.from_iterable(rows)
        portions = [
            tuple(itertools.islice(flat, per_statement * len(columns)))
            for _ in range(0, whole, per_statement)
        ]
        self._execute(connection, insert + ", ".join([values] * per_statement), portions)
        self._execute(connection, insert + values, rows[whole:])
        return len(rows)

    def _in_order(self, table: sa.Table, columns: Sequence[str], rows: Rows) -> Rows:
        # On a server each row waits for who inserts the same one; in the same order nobody waits in a circle.
        if self.is_sqlite or len(rows) == 1:
            return rows
        keys = [i for i, c in enumerate(columns) if table.c[c].primary_key] or list(range(len(columns)))
        return sorted(rows, key=lambda row: [row[i] for i in keys])

    def _execute(self, connection: sa.Connection, sql: str, rows: Rows) -> int:
        if not rows:
            return 0
        cursor = _dbapi(connection).cursor()
        try:
            if len(rows) == 1:
                cursor.execute(sql, rows[0])
            else:
                cursor.executemany(sql, rows)
            return int(cursor.rowcount)
        except self._dbapi.IntegrityError as error:
            # Raised past SQLAlchemy, so given the class callers look for.
            raise sa.exc.IntegrityError(sql, None, error) from error
        except self._dbapi.OperationalError as error:
            raise sa.exc.OperationalError(sql, None, error) from error
        finally:
            cursor.close()

    def _copy(self, connection: sa.Connection, sql: str, rows: Rows) -> int:
        cursor = _dbapi(connection).cursor()
        try:
            with cursor.copy(sql) as copy:
                for row in rows:
                    copy.write_row(row)
        except self._dbapi.IntegrityError as error:
            raise sa.exc.IntegrityError(sql, None, error) from error
        finally:
            cursor.close()
        return len(rows)

    @contextmanager
    def temporary_rows(
        self,
        connection: sa.Connection,
        columns: Mapping[str, sa.types.TypeEngine[Any]],
        rows: Rows,
        key: str | None = None,
    ) -> Iterator[sa.Table]:
        """Give a table of this connection alone, holding the rows, to join with.

        Parameters
        ----------
        connection : `sqlalchemy.Connection`
            From `read` or `write`.
        columns : mapping of `str` to `sqlalchemy.types.TypeEngine`
            Names and types.
        rows : sequence of `tuple`
            Rows, unique by their key.
        key : `str`, optional
            Column that is the key; default: all together are.
        """
        state = self._state
        form: Hashable = (tuple((n, type(t).__name__) for n, t in columns.items()), key)
        place = state.temporary.get(form, 0)
        state.temporary[form] = place + 1
        table, create = self._temporary_table(form, place, columns, key)
        try:
            self._command(connection, create)
            self.insert(connection, table, list(columns), rows)
            if not self.is_sqlite or len(rows) >= _FEW_TEMPORARY_ROWS:
                # Without statistics it may be searched by the first of its key's columns only.
                self._command(connection, f"ANALYZE {table.name}")
            yield table
        finally:
            state.temporary[form] = place
            # After an error PostgreSQL takes no statement until the rollback, which drops the table as well;
            # so does SQLite's of a full disk.
            if self._is_alive(connection) and self._is_sound(connection):
                self._command(connection, f"DROP TABLE IF EXISTS {table.name}")

    def _temporary_table(
        self,
        form: Hashable,
        place: int,
        columns: Mapping[str, sa.types.TypeEngine[Any]],
        key: str | None,
    ) -> tuple[sa.Table, str]:
        # The same tables again and again, so that SQLAlchemy knows statements with them by heart.
        found = self._temporary_tables.get((form, place))
        if found is None:
            table = sa.Table(
                f"temporary_{next(self._temporary_numbers)}",
                sa.MetaData(),
                *(
                    sa.Column(n, t, primary_key=key in (None, n), autoincrement=False)
                    for n, t in columns.items()
                ),
                prefixes=["TEMPORARY"],
                sqlite_with_rowid=key is not None,
            )
            create = str(sa.schema.CreateTable(table).compile(self.engine))
            found = self._temporary_tables.setdefault((form, place), (table, create))
        return found

    def _is_alive(self, connection: sa.Connection) -> bool:
        # A full disk has made SQLite roll back everything; a lost connection takes no statement.
        dbapi = _dbapi(connection)
        return bool(dbapi.in_transaction if self.is_sqlite else not dbapi.closed)

    def _is_sound(self, connection: sa.Connection) -> bool:
        return self.is_sqlite or bool(_dbapi(connection).info.transaction_status.name != "INERROR")


class _OnDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_OnDatabase)


def repeated(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorate a method that is one transaction of ``self._database``: see `Database.repeat`."""

    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.repeat(lambda: method(self, *args, **kwargs))

    functools.update_wrapper(whole, method)
    return whole


def _dbapi(connection: sa.Connection) -> Any:
    return connection.connection.dbapi_connection


def _nothing() -> None:
    """Do nothing after a rollback, until somebody sets something to do."""


def _delays() -> Iterator[float]:
    delay = 0.01
    while True:
        yield delay * (0.5 + random.random())
        delay = min(2 * delay, 1.0)


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
        if database._counting is not None:
            database._counting.dispose(close=False)
        database._begin_threads()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
