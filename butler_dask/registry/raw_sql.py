"""SQL text sent past SQLAlchemy's statement layer, on a connection SQLAlchemy gave.

For commands, and for statements so short that building one would cost more than running it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def driver_connection(connection: sa.Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.dbapi_connection


def is_sqlite(connection: sa.Connection) -> bool:
    """Return whether the database is SQLite."""
    return connection.dialect.name == "sqlite"


def command(connection: sa.Connection, sql: str) -> None:
    """Execute a statement that gives no rows."""
    cursor = driver_connection(connection).cursor()
    try:
        cursor.execute(sql)
    finally:
        cursor.close()


def rows_of(connection: sa.Connection, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a statement, with the driver's marks for its values."""
    cursor = driver_connection(connection).cursor()
    try:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    finally:
        cursor.close()
    return rows


def with_marks(connection: sa.Connection, sql: str) -> str:
    """Return SQL text with ``?`` for each value as the driver marks them."""
    return sql if is_sqlite(connection) else sql.replace("?", "%s")


def is_in_transaction(connection: sa.Connection) -> bool:
    """Return whether a transaction that was begun can still be ended by a statement.

    A full disk has made SQLite roll back everything; a lost connection takes no statement.
    """
    driver = driver_connection(connection)
    return bool(driver.in_transaction if is_sqlite(connection) else not driver.closed)


def takes_statements(connection: sa.Connection) -> bool:
    """Return whether a transaction goes on.

    After an error PostgreSQL takes no statement until the rollback.
    """
    if not is_in_transaction(connection) or is_sqlite(connection):
        return is_in_transaction(connection)
    return bool(driver_connection(connection).info.transaction_status.name != "INERROR")
