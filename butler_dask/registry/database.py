"""Database: one SQL database: connections, transactions, bulk inserts, rows that live for one query.

SQLite is the default and is used as its authors advise for several processes: write-ahead log, so that
readers never wait; ``BEGIN IMMEDIATE`` for every write, so that a transaction never fails half-way for want
of the lock; back-off while another writer has it. PostgreSQL goes through the same calls.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from ..errors import ReadOnlyRepositoryError, RepositoryError
from .explained_statement import ExplainedStatement

_LOCK_PATIENCE_S = 120.0
"""How long a writer waits for other writers."""
_BUSY_TIMEOUT_MS = 2000
"""How long SQLite itself waits before our back-off takes over."""

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()

_FEW_TEMPORARY_ROWS = 20
"""Temporary tables of fewer rows are joined well enough without statistics."""
_VALUES_PER_STATEMENT = 600
"""Values bound in one INSERT of several rows."""
_FEW_ROWS = 200
"""Inserts are counted towards new statistics in portions of at least so many rows."""

Rows = Sequence[tuple[Any, ...]]

_abandoned: list[object] = []


class _Session(threading.local):
    """What a thread has open."""

    connection: sa.Connection | None = None
    """Connection of the transaction it is in."""
    writing: bool = False
    savepoints: int = 0
    kept: sa.Connection | None = None
    """SQLite connection kept between transactions."""

    def __init__(self) -> None:
        self.temporary: dict[Hashable, int] = {}


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

    Raises
    ------
    RepositoryError
        If there is no such database.
    """

    def __init__(self, url: str, *, writeable: bool = True, create: bool = False) -> None:
        self.url: URL = make_url(url)
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.writeable = writeable
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._session = _Session()
        self._inserted: dict[str, int] = {}
        self._kept: weakref.WeakSet[sa.Connection] = weakref.WeakSet()
        self._temporary_tables: dict[Hashable, tuple[sa.Table, str]] = {}
        self.after_rollback: Callable[[], None] = _nothing
        self.explained: list[ExplainedStatement] | None = None
        """Statements read from now on are appended with their plans, if it is a list."""
        options: dict[str, Any] = {"enable_from_linting": False}
        if self.is_sqlite:
            self.path = self.url.database
            if self.path in (None, "", ":memory:"):
                self.path = None
                options["poolclass"] = sa.StaticPool
            else:
                options.update(poolclass=sa.QueuePool, pool_size=4, max_overflow=60)
                if not create and not Path(str(self.path)).exists():
                    raise RepositoryError(f"There is no registry database {self.path!r}")
            self._uri = self._sqlite_uri(create)
            self.engine = sa.create_engine("sqlite://", creator=self._connect_sqlite, **options)
        else:
            self.path = None
            self.engine = sa.create_engine(self.url, pool_size=4, max_overflow=60, **options)
        self._dbapi: Any = self.engine.dialect.loaded_dbapi
        self._quote = self.engine.dialect.identifier_preparer.quote
        self._mark = "?" if self.is_sqlite else "%s"
        _open_databases.add(self)

    def _sqlite_uri(self, create: bool) -> str:
        if self.path is None:
            return "file::memory:"
        mode = "rwc" if create else "rw" if self.writeable else "ro"
        uri = f"file:{quote(os.path.abspath(self.path))}?mode={mode}"
        if mode == "ro" and not os.access(os.path.dirname(os.path.abspath(self.path)), os.W_OK):
            # SQLite cannot make the shared-memory file of its log here. Without a log nobody is writing, and
            # the file may be read as it is.
            wal = Path(f"{self.path}-wal")
            if not wal.exists() or wal.stat().st_size == 0:
                uri += "&immutable=1"
        return uri

    def _connect_sqlite(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=512
            )
        except sqlite3.OperationalError as error:
            if self.path is not None and not os.path.exists(self.path) and self._uri.endswith("rwc"):
                raise ReadOnlyRepositoryError(
                    f"Cannot create the registry database {self.path!r}: {error}"
                ) from error
            raise RepositoryError(f"Cannot open the registry database {self.path!r}: {error}") from error
        # Executed one by one: each takes effect for this connection only.
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cache_size = -65536",
            "mmap_size = 1073741824",
            "synchronous = NORMAL",
            "analysis_limit = 2000",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    def create_log(self) -> None:
        """Put a new SQLite file into write-ahead mode (kept in the file from then on)."""
        if self.is_sqlite and self.path is not None:
            self._command(self._opened(self._session), "PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._kept):
            connection.close()
        self._session = _Session()
        self.engine.dispose()

    # Transactions

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection whose statements all see the same state of the database.

        Inside `write` of the same thread it is the writing connection.
        """
        session = self._session
        if session.connection is not None:
            yield session.connection
            return
        try:
            connection = self._opened(session)
            try:
                if self.is_sqlite:
                    self._command(connection, "BEGIN")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                    connection.begin()
                session.connection = connection
                yield connection
            finally:
                session.connection = None
                # Rolled back so that temporary rows go too.
                self._rollback(connection)
                self._finished(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            self._raise_translated(error)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction; nested ones are savepoints.

        Raises
        ------
        ReadOnlyRepositoryError
            If the database was opened for reading, or its disk does not take writes.
        """
        session = self._session
        if not self.writeable:
            raise ReadOnlyRepositoryError(
                f"The registry {self.url.render_as_string()} was opened for reading; open the repository "
                "with writeable=True to change it."
            )
        if session.connection is not None:
            if not session.writing:
                raise RuntimeError("A write was begun inside a read of the same thread")
            with self._savepoint(session, session.connection):
                yield session.connection
            return
        try:
            connection = self._opened(session)
            try:
                self._begin_write(connection)
                session.connection, session.writing = connection, True
                yield connection
                self._analyze(connection)
                if self.is_sqlite:
                    self._command(connection, "COMMIT")
                else:
                    connection.commit()
            except BaseException:
                self._rollback(connection)
                self.after_rollback()
                raise
            finally:
                session.connection, session.writing = None, False
                self._finished(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            self._raise_translated(error)

    @contextmanager
    def _savepoint(self, session: _Session, connection: sa.Connection) -> Iterator[None]:
        session.savepoints += 1
        name = f"s{session.savepoints}"
        self._command(connection, f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            # A full disk has made SQLite roll back everything already.
            if not self.is_sqlite or _dbapi(connection).in_transaction:
                self._command(connection, f"ROLLBACK TO SAVEPOINT {name}")
            self.after_rollback()
            raise
        finally:
            session.savepoints -= 1
        self._command(connection, f"RELEASE SAVEPOINT {name}")

    def _opened(self, session: _Session) -> sa.Connection:
        # A SQLite connection belongs to its thread; taking one from the pool for each transaction would cost
        # more than most of our transactions.
        if session.kept is not None:
            return session.kept
        connection = self.engine.connect()
        if self.is_sqlite:
            session.kept = connection
            self._kept.add(connection)
        return connection

    def _finished(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.close()

    def _rollback(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.rollback()
        elif _dbapi(connection).in_transaction:
            self._command(connection, "ROLLBACK")

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
        for name in [n for n, rows in self._inserted.items() if rows >= _FEW_ROWS]:
            rows = self._inserted.pop(name, 0)
            total = self.fetch_sql(connection, count, (f"rows {name}", rows))[0][0]
            analyzed = self.fetch_sql(connection, count, (f"analyzed {name}", 0))[0][0]
            if total >= 2 * analyzed:
                self._command(connection, f"ANALYZE {self._quote(name)}")
                self.fetch_sql(connection, count, (f"analyzed {name}", total - analyzed))

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `write`."""
        return self._session.writing

    def _begin_write(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.begin()
            return
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        delay = 0.01
        while True:
            try:
                self._command(connection, "BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _is_locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(delay * (0.5 + random.random()))
                delay = min(2 * delay, 1.0)
            else:
                return

    def _raise_translated(self, error: sa.exc.DBAPIError | sqlite3.Error) -> None:
        where = self.url.render_as_string()
        message = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
        if "readonly" in message or "read-only" in message:
            raise ReadOnlyRepositoryError(f"Cannot write to the registry {where}: {message}") from error
        if "is full" in message or "disk I/O error" in message:
            raise ReadOnlyRepositoryError(
                f"The disk does not take a write to the registry {where}: {message}"
            ) from error
        if "locked" in message or "busy" in message:
            raise ReadOnlyRepositoryError(
                f"The registry {where} was locked by another writer for {_LOCK_PATIENCE_S:.0f} s: {message}"
            ) from error
        operational = isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError))
        if operational and ("unable to open" in message or "connection" in message):
            raise RepositoryError(f"Cannot open the registry {where}: {message}") from error
        if "not a database" in message:
            raise RepositoryError(f"{where} is not a registry: {message}") from error
        raise error

    # Statements

    def fetch(
        self, connection: sa.Connection, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a statement as plain tuples."""
        start = time.perf_counter()
        result = connection.execute(statement, parameters)
        cursor: Any = result.cursor
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        if self.explained is not None:
            context: Any = result.context
            values = context.parameters[0] if context.parameters else ()
            self._explain(connection, context.statement, values, len(rows), time.perf_counter() - start)
        result.close()
        return rows

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
    ) -> None:
        """Keep others from removing rows (or, exclusively, from using them) until the transaction ends.

        SQLite has one writer at a time anyhow.
        """
        if not self.is_sqlite and ids:
            rows = sa.select(table.c.id).where(table.c.id.in_(sorted(ids))).order_by(table.c.id)
            self.fetch(connection, rows.with_for_update(read=not exclusive))

    def count_rows(self, table: sa.Table, count: int) -> None:
        """Count rows inserted, towards new statistics for the query planner."""
        self._inserted[table.name] = self._inserted.get(table.name, 0) + count

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
        session = self._session
        form: Hashable = (tuple((n, type(t).__name__) for n, t in columns.items()), key)
        place = session.temporary.get(form, 0)
        session.temporary[form] = place + 1
        table, create = self._temporary_table(form, place, columns, key)
        try:
            self._command(connection, create)
            self.insert(connection, table, list(columns), rows)
            if not self.is_sqlite or len(rows) >= _FEW_TEMPORARY_ROWS:
                # Without statistics it may be searched by the first of its key's columns only.
                self._command(connection, f"ANALYZE {table.name}")
            yield table
        finally:
            session.temporary[form] = place
            # After an error PostgreSQL takes no statement until the rollback, which drops the table as well;
            # so does SQLite's of a full disk.
            if self._is_sound(connection):
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
                f"temporary_{len(self._temporary_tables)}",
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

    def _is_sound(self, connection: sa.Connection) -> bool:
        dbapi = _dbapi(connection)
        if self.is_sqlite:
            return bool(dbapi.in_transaction)
        return bool(dbapi.info.transaction_status.name != "INERROR")


def _dbapi(connection: sa.Connection) -> Any:
    return connection.connection.dbapi_connection


def _nothing() -> None:
    """Do nothing after a rollback, until somebody sets something to do."""


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _forget_connections() -> None:
    # A SQLite or PostgreSQL connection must not be used on both sides of a fork.
    for database in list(_open_databases):
        # Not closed either, which would touch the other side's locks; so kept from being collected.
        _abandoned.append(database._session)
        database._session = _Session()
        database._kept = weakref.WeakSet()
        database.engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)
