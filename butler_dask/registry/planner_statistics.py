"""What the query planner knows of the tables: rows inserted are counted, and statistics taken anew in time.

Without statistics SQLite joins in an order that can be a thousand times slower. They are taken anew whenever
a table has doubled, from a sample, which takes milliseconds.
"""

from __future__ import annotations

from .session import Session

MANY_ROWS = 200
"""Inserts of fewer rows in a transaction are not worth counting."""
_ADD = (
    "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
    "SET value = counter.value + excluded.value RETURNING value"
)


def renew_statistics(session: Session) -> None:
    """Take the statistics of tables anew that have doubled, at the end of a transaction."""
    # In the same order in every process, since each takes locks on a server.
    for name, rows in sorted(session.inserted.items()):
        if rows < MANY_ROWS:
            continue
        total = session.fetch_sql(_ADD, (f"rows {name}", rows))[0][0]
        analyzed = session.fetch_sql(_ADD, (f"analyzed {name}", 0))[0][0]
        if total >= 2 * analyzed:
            session.command(f"ANALYZE {session.quote(name)}")
            session.fetch_sql(_ADD, (f"analyzed {name}", total - analyzed))
