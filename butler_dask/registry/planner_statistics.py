"""What the query planner knows of the tables: rows inserted are counted, and statistics taken anew in time.

Without statistics SQLite joins in an order that can be a thousand times slower. They are taken anew whenever
a table has doubled, from a sample, which takes milliseconds.
"""

from __future__ import annotations

import sqlalchemy as sa

from .raw_sql import command, rows_of, with_marks

_FEW_ROWS = 200
"""Inserts of fewer rows in a transaction are not worth counting."""
_KEY = "butler_dask rows inserted"
_ADD = (
    "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
    "SET value = counter.value + excluded.value RETURNING value"
)


def begin_counting(connection: sa.Connection) -> None:
    """Begin to count, with a transaction."""
    connection.info[_KEY] = {}


def count_rows(connection: sa.Connection, table: sa.Table, count: int) -> None:
    """Count rows inserted in the transaction."""
    inserted = connection.info.setdefault(_KEY, {})
    inserted[table.name] = inserted.get(table.name, 0) + count


def renew_statistics(connection: sa.Connection) -> None:
    """Take the statistics of tables anew that have doubled, at the end of a transaction."""
    add, quote = with_marks(connection, _ADD), connection.dialect.identifier_preparer.quote
    # In the same order in every process, since each takes locks on a server.
    for name, rows in sorted(connection.info.get(_KEY, {}).items()):
        if rows < _FEW_ROWS:
            continue
        total = rows_of(connection, add, (f"rows {name}", rows))[0][0]
        analyzed = rows_of(connection, add, (f"analyzed {name}", 0))[0][0]
        if total >= 2 * analyzed:
            command(connection, f"ANALYZE {quote(name)}")
            rows_of(connection, add, (f"analyzed {name}", total - analyzed))
