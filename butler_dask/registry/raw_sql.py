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
