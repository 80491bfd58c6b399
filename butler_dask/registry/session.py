"""Session: what one thread asks of a database, and tells it, within one transaction.

`Database.read` and `Database.write` give it; whoever makes statements takes it as the one argument that
stands for connection, transaction and definitions. Collections and dataset types are read with the first
statement that needs them, and are from then on those of the transaction: of one state of the database where
the transaction sees one state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidQueryError, MissingCollectionError
from . import schema
from .definitions import SHARED_COLLECTIONS, CollectionRow, DefinitionCache, Definitions, read_definitions
from .explained_statement import ExplainedStatement, StatementLog

_PORTION = 1_000
"""Rows of a large answer that are Python values at a time.

More would outlive the search for garbage among young objects, which would take a third of the time then.
"""
REVISION = "SELECT value FROM counter WHERE name = 'definitions'"


class Session:
    """One transaction of one thread.

    Parameters
    ----------
    connection : `sqlalchemy.Connection`
        Connection, in a transaction.
    cache : `DefinitionCache`
        The definitions last read of the database, by whatever transaction.
    log : `StatementLog`
        Where statements are explained.
    is_sqlite : `bool`
        Whether the database is SQLite.
    begin : callable, optional
        Begins a transaction that writes, on a connection; if not given, the session only reads.

    Attributes
    ----------
    is_sqlite, is_writing : `bool`
        Whether the database is SQLite, and may be changed.
    is_fresh : `bool`
        Whether nothing was asked or told in a transaction that writes.
    is_begun : `bool`
        Whether it is in a transaction: not between the undoing of all it did and its next statement.
    revision : `int` or `None`
        The counter that says when definitions change, if it was looked at.
    adopting : `bool`
        Whether what belongs to the shared repository may be changed: its changes are being taken over.
    savepoints : `int`
        How many savepoints there are.
    inserted : `dict` [`str`, `int`]
        Rows inserted so far, by table.
    temporary_tables : `dict`
        How many temporary tables of each form are in use.
    """

    def __init__(
        self,
        connection: sa.Connection,
        cache: DefinitionCache,
        log: StatementLog,
        *,
        is_sqlite: bool,
        begin: Callable[[sa.Connection], None] | None = None,
    ) -> None:
        self._connection, self._cache, self._log, self._begin = connection, cache, log, begin
        self._driver: Any = connection.connection.dbapi_connection
        self.is_sqlite, self.is_writing = is_sqlite, begin is not None
        # A server shows a transaction that writes what others commit meanwhile.
        self._sees_one_state = is_sqlite or begin is None
        self.is_begun, self.is_fresh = True, self.is_writing
        self.revision: int | None = None
        self._definitions: Definitions | None = None
        self._is_current = self._changed = self.adopting = False
        self.savepoints = 0
        self.inserted: dict[str, int] = {}
        self.temporary_tables: dict[Hashable, int] = {}

    @property
    def connection(self) -> sa.Connection:
        """For what SQLAlchemy does by itself: making tables, inspecting them."""
        if self.is_fresh:
            self._begin_work()
        return self._connection

    @property
    def driver(self) -> Any:
        """The driver's own connection."""
        if self.is_fresh:
            self._begin_work()
        return self._driver

    def _begin_work(self) -> None:
        """Begin the transaction again, if all it did was undone: a first statement is about to be sent."""
        self.is_fresh = False
        if not self.is_begun and self._begin is not None:
            self._begin(self._connection)
            self.is_begun = True

    def undone(self) -> None:
        """Note that all that was done in the transaction is undone, and the transaction ended."""
        self.is_begun, self.is_fresh = False, True
        self._definitions, self._is_current, self._changed = None, False, False
        self.inserted.clear()
        self.temporary_tables.clear()

    # Statements

    def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Execute a statement that gives no rows."""
        return self.connection.execute(statement)

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute SQL text with the driver's marks for values, once for each of some rows.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            If a constraint of the tables is broken.
        """
        if self.is_fresh:
            self._begin_work()
        cursor = self._driver.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(sql, rows[0])
            elif rows:
                cursor.executemany(sql, rows)
            else:
                return 0
            return int(cursor.rowcount)
        except Exception as error:
            # Raised past SQLAlchemy, so given the class callers look for.
            driver: Any = self._connection.dialect.loaded_dbapi
            if isinstance(error, driver.IntegrityError):
                raise sa.exc.IntegrityError(sql, None, error) from error
            if isinstance(error, driver.OperationalError):
                raise sa.exc.OperationalError(sql, None, error) from error
            raise
        finally:
            cursor.close()

    def command(self, sql: str) -> None:
        """Execute SQL text without values that gives no rows."""
        cursor = self.driver.cursor()
        try:
            cursor.execute(sql)
        finally:
            cursor.close()

    def fetch(self, statement: sa.Executable) -> list[tuple[Any, ...]]:
        """Return all rows of a statement as plain tuples.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        return [row for rows in self.fetch_portions(statement) for row in rows]

    def fetch_portions(self, statement: sa.Executable) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a statement in portions, for who keeps columns and not the rows.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        start, count = time.perf_counter(), 0
        try:
            result = self.connection.execute(statement)
        except sa.exc.DataError as error:
            raise _not_calculated(error.orig) from error
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(_PORTION):
            count += len(rows)
            yield rows
        if self._log.statements is not None:
            context: Any = result.context
            values = context.parameters[0] if context.parameters else ()
            self._explain(context.statement, values, count, start)
        result.close()

    def fetch_sql(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of SQL text with ``?`` for each value, past SQLAlchemy's statement layer.

        For look-ups of one row, where building a statement would cost more than running it.
        """
        if not self.is_sqlite:
            sql = sql.replace("?", "%s")
        if self.is_fresh:
            self._begin_work()
        start = time.perf_counter()
        cursor = self._driver.cursor()
        try:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        finally:
            cursor.close()
        if self._log.statements is not None:
            self._explain(sql, parameters, len(rows), start)
        return rows

    def sql_portions(
        self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of SQL text in portions, past SQLAlchemy's statement layer.

        Parameters
        ----------
        sql : `str`
            Text with the driver's own marks for values.
        parameters : mapping or sequence
            Values as the driver takes them.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        start, count = time.perf_counter(), 0
        driver: Any = self.connection.dialect.loaded_dbapi
        cursor = self.driver.cursor()
        try:
            try:
                cursor.execute(sql, parameters)
            except driver.DataError as error:
                raise _not_calculated(error) from error
            while rows := cursor.fetchmany(_PORTION):
                count += len(rows)
                yield rows
        finally:
            cursor.close()
        if self._log.statements is not None:
            self._explain(sql, parameters, count, start)

    def _explain(
        self, sql: str, parameters: Mapping[str, Any] | Sequence[Any], rows: int, start: float
    ) -> None:
        seconds = time.perf_counter() - start
        explained = ExplainedStatement.ask(self._connection, sql, parameters, rows, seconds)
        self._log.add(explained)

    @property
    def is_open(self) -> bool:
        """Whether the transaction can still be ended by a statement.

        A full disk has made SQLite roll back everything; a lost connection takes no statement.
        """
        return bool(self._driver.in_transaction if self.is_sqlite else not self._driver.closed)

    @property
    def takes_statements(self) -> bool:
        """Whether it goes on: after an error PostgreSQL takes no statement until the rollback."""
        if self.is_sqlite:
            return self.is_open
        return self.is_open and self._driver.info.transaction_status.name != "INERROR"

    def quote(self, name: str) -> str:
        """Return a name as it is written in SQL text."""
        return self._connection.dialect.identifier_preparer.quote(name)

    def lock_collections(self, rows: Sequence[CollectionRow], *, exclusive: bool) -> None:
        """Keep others from removing collections (exclusively: from writing to them) to the transaction's end.

        SQLite has one writer at a time anyhow.

        Raises
        ------
        MissingCollectionError
            If one was removed just now.
        """
        if self.is_sqlite or not rows:
            return
        c = schema.collection.c
        locked = sa.select(c.id).where(c.id.in_(sorted(r.id for r in rows))).order_by(c.id)
        found = {r[0] for r in self.fetch(locked.with_for_update(read=not exclusive))}
        gone = ", ".join(repr(r.name) for r in rows if r.id not in found)
        if gone:
            raise MissingCollectionError(f"Collection {gone} was removed by somebody else just now.")

    # Definitions

    @property
    def definitions(self) -> Definitions:
        """Collections and dataset types, as this transaction sees them."""
        if self._definitions is None or not self._is_current:
            self._make_current(REVISION)
        assert self._definitions is not None
        return self._definitions

    def locked_definitions(self) -> Definitions:
        """Return the definitions, which nobody else changes until this transaction ends."""
        if not self.is_sqlite:
            self._make_current(f"{REVISION} FOR UPDATE")
        return self.definitions

    def _make_current(self, sql: str) -> None:
        revision = self.revision if self.revision is not None else int(self.fetch_sql(sql)[0][0])
        # What this transaction changed is not for others: it may be undone, and the counter come to the same
        # number for another state.
        is_own = self._changed or self.adopting
        known = self._definitions if is_own else self._cache.last
        if known is None or known.revision != revision:
            known = read_definitions(self.fetch, revision, self._shared())
        self._definitions, self._is_current = known, True
        if not is_own:
            self._cache.last = known

    def _shared(self) -> frozenset[str]:
        if self.adopting:
            return frozenset()
        rows = self.fetch_sql("SELECT value FROM repository WHERE name = ?", (SHARED_COLLECTIONS,))
        return frozenset(json.loads(rows[0][0])) if rows else frozenset()

    def definitions_changed(self) -> None:
        """Record that definitions were changed in this transaction."""
        self.fetch_sql("UPDATE counter SET value = value + 1 WHERE name = 'definitions' RETURNING value")
        self._definitions, self._changed = None, True

    def forget_definitions(self) -> None:
        """Read the definitions again next time: changes were undone, or they are to be seen otherwise."""
        self._definitions = None

    @contextmanager
    def adopting_shared(self) -> Iterator[None]:
        """Let what is done inside change what belongs to the shared repository."""
        self.adopting = True
        self.forget_definitions()
        try:
            yield
        finally:
            self.adopting = False
            self.forget_definitions()

    def look_again(self) -> None:
        """Notice next time what others changed since, where that is seen."""
        self._is_current = self._sees_one_state

    def committed(self) -> None:
        """Let others see the definitions that this transaction changed: it has just been committed."""
        if self._changed and not self.adopting:
            self._cache.last = self._definitions


def _not_calculated(error: BaseException | None) -> InvalidQueryError:
    reason = str(error).strip().splitlines()[0]
    return InvalidQueryError(f"The database cannot calculate this query: {reason}")
