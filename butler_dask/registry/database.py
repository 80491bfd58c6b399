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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from ..errors import ReadOnlyRepositoryError, RepositoryError

_LOCK_PATIENCE_S = 120.0
"""How long a writer waits for other writers."""
_BUSY_TIMEOUT_MS = 2000
"""How long SQLite itself waits before our back-off takes over."""

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()

_VALUES_PER_STATEMENT = 600
"""Values bound in one INSERT of several rows."""
_FEW_ROWS = 200
"""Inserts are counted towards new statistics in portions of at least so many rows."""

Rows = Sequence[tuple[Any, ...]]


class _Session(threading.local):
    """The connection a thread has open, if any."""

    connection: sa.Connection | None = None
    writing: bool = False


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
        self.after_rollback: Callable[[], None] = _nothing
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
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.path = None
            self.engine = sa.create_engine(self.url, pool_size=4, max_overflow=60, **options)
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
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    def create_log(self) -> None:
        """Put a new SQLite file into write-ahead mode (kept in the file from then on)."""
        if self.is_sqlite and self.path is not None:
            with self.engine.connect() as connection:
                dbapi: Any = connection.connection.dbapi_connection
                dbapi.execute("PRAGMA journal_mode = WAL").close()

    def close(self) -> None:
        """Close all connections."""
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
        with self._translated(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            connection.begin()
            session.connection = connection
            try:
                yield connection
            finally:
                session.connection = None
                # Rolled back so that temporary rows go too.
                connection.rollback()

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
            try:
                with session.connection.begin_nested():
                    yield session.connection
            except BaseException:
                self.after_rollback()
                raise
            return
        with self._translated(), self.engine.connect() as connection:
            self._begin_write(connection)
            session.connection, session.writing = connection, True
            try:
                yield connection
                self._analyze(connection)
            except BaseException:
                connection.rollback()
                self.after_rollback()
                raise
            else:
                connection.commit()
            finally:
                session.connection, session.writing = None, False

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
                if self.is_sqlite:
                    connection.exec_driver_sql("PRAGMA analysis_limit = 2000")
                connection.exec_driver_sql(f"ANALYZE {self._quote(name)}")
                self.fetch_sql(connection, count, (f"analyzed {name}", total - analyzed))

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `write`."""
        return self._session.writing

    def _begin_write(self, connection: sa.Connection) -> None:
        connection = connection.execution_options(butler_write=True)
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        delay = 0.01
        while True:
            try:
                connection.begin()
            except sa.exc.OperationalError as error:
                if not _is_locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(delay * (0.5 + random.random()))
                delay = min(2 * delay, 1.0)
            else:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        where = self.url.render_as_string()
        try:
            yield
        except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
            message = str(error.orig)
            if "readonly" in message or "read-only" in message:
                raise ReadOnlyRepositoryError(f"Cannot write to the registry {where}: {message}") from error
            if "is full" in message or "disk I/O error" in message:
                raise ReadOnlyRepositoryError(
                    f"The disk does not take a write to the registry {where}: {message}"
                ) from error
            if isinstance(error, sa.exc.OperationalError) and (
                "unable to open" in message or "connection" in message or "not a database" in message
            ):
                raise RepositoryError(f"Cannot open the registry {where}: {message}") from error
            if "not a database" in message:
                raise RepositoryError(f"{where} is not a registry: {message}") from error
            raise

    # Statements

    def fetch(
        self, connection: sa.Connection, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a statement as plain tuples."""
        result = connection.execute(statement, parameters)
        cursor: Any = result.cursor
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        result.close()
        return rows

    def fetch_sql(
        self, connection: sa.Connection, sql: str, parameters: tuple[Any, ...] = ()
    ) -> list[tuple[Any, ...]]:
        """Return all rows of SQL text with ``?`` for each value, past SQLAlchemy's statement layer.

        For look-ups of one row, where building a statement would cost more than running it.
        """
        cursor: Any = connection.connection.cursor()
        try:
            cursor.execute(sql if self.is_sqlite else sql.replace("?", "%s"), parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        finally:
            cursor.close()
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
        if not self.is_sqlite and on_conflict == "raise" and len(rows) > 50:
            return self._copy(connection, name, names, rows)
        values = f"({', '.join([self._mark] * len(columns))})"
        if self.is_sqlite and on_conflict == "raise" and len(rows) > _FEW_ROWS:
            return self._insert_portions(connection, f"INSERT INTO {name} ({names}) VALUES ", values, rows)
        sql = f"INSERT INTO {name} ({names}) VALUES {values}"
        if on_conflict == "ignore":
            sql += " ON CONFLICT DO NOTHING"
        elif on_conflict == "replace":
            keys = [c.name for c in table.primary_key.columns]
            changed = [c for c in columns if c not in keys] if replace_columns is None else replace_columns
            action = ", ".join(f"{self._quote(c)} = excluded.{self._quote(c)}" for c in changed)
            sql += f" ON CONFLICT ({', '.join(map(self._quote, keys))}) DO "
            sql += f"UPDATE SET {action}" if changed else "NOTHING"
        result = connection.exec_driver_sql(sql, list(rows))
        return int(result.rowcount)

    def _insert_portions(self, connection: sa.Connection, insert: str, values: str, rows: Rows) -> int:
        # Several rows a statement: a third less time than one each.
        per_statement = max(_VALUES_PER_STATEMENT // len(rows[0]), 1)
        step = per_statement * len(rows[0])
        flat = list(itertools.chain.from_iterable(rows))
        whole = len(flat) - len(flat) % step
        many = insert + ", ".join([values] * per_statement)
        cursor: Any = connection.connection.cursor()
        try:
            for start in range(0, whole, step):
                cursor.execute(many, flat[start : start + step])
            cursor.executemany(insert + values, rows[whole // len(rows[0]) :])
        except sqlite3.IntegrityError as error:
            # Raised past SQLAlchemy, so given the classes callers look for.
            raise sa.exc.IntegrityError(insert, None, error) from error
        except sqlite3.OperationalError as error:
            raise sa.exc.OperationalError(insert, None, error) from error
        finally:
            cursor.close()
        return len(rows)

    def _copy(self, connection: sa.Connection, name: str, names: str, rows: Rows) -> int:
        cursor: Any = connection.connection.cursor()
        try:
            with cursor.copy(f"COPY {name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        except Exception as error:
            # As above.
            if type(error).__name__ in ("UniqueViolation", "ForeignKeyViolation", "NotNullViolation"):
                raise sa.exc.IntegrityError("COPY", None, error) from error
            raise
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
        table = sa.Table(
            f"t{random.getrandbits(48):012x}",
            sa.MetaData(),
            *(sa.Column(n, t, primary_key=key in (None, n), autoincrement=False) for n, t in columns.items()),
            prefixes=["TEMPORARY"],
            sqlite_with_rowid=key is not None,
        )
        table.create(connection, checkfirst=False)
        try:
            self.insert(connection, table, list(columns), rows)
            if not self.is_sqlite:
                connection.exec_driver_sql(f"ANALYZE {table.name}")
            yield table
        finally:
            _drop(connection, table)


def _nothing() -> None:
    """Do nothing after a rollback, until somebody sets something to do."""


def _drop(connection: sa.Connection, table: sa.Table) -> None:
    # After an error PostgreSQL takes no statement until the rollback, which drops the table as well.
    dbapi: Any = connection.connection.dbapi_connection
    status = getattr(getattr(dbapi, "info", None), "transaction_status", None)
    if status is None or status.name != "INERROR":
        connection.exec_driver_sql(f"DROP TABLE {table.name}")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("butler_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _is_locked(error: sa.exc.OperationalError) -> bool:
    return "locked" in str(error.orig) or "busy" in str(error.orig)


def _forget_connections() -> None:
    # A SQLite or PostgreSQL connection must not be used on both sides of a fork.
    for database in list(_open_databases):
        database._session = _Session()
        database.engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)
