"""OverlayRegistry: a registry that holds rows of another one beside its own, and never changes those.

Which collections are the other's is noted in the registry itself, so every process that writes knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from . import schema
from .bulk_rows import insert_rows
from .definitions import SHARED_COLLECTIONS
from .registry import Registry


class OverlayRegistry(Registry):
    """A registry some of whose collections belong to a shared repository.

    Parameters
    ----------
    database : `Database`
        Where it is kept.
    """

    def read_note(self, name: str) -> str:
        """Return a text noted under a name, empty if there is none."""
        with self._database.read() as session:
            sql = "SELECT value FROM repository WHERE name = ?"
            found = session.fetch_sql(sql, (name,))
        return str(found[0][0]) if found else ""

    def write_note(self, name: str, value: str) -> None:
        """Note a text under a name."""
        with self._database.write() as session:
            columns = ("name", "value")
            insert_rows(session, schema.repository, columns, [(name, value)], on_conflict="replace")

    @property
    def shared_collections(self) -> frozenset[str]:
        """Names of the collections that belong to the shared repository."""
        return frozenset(json.loads(self.read_note(SHARED_COLLECTIONS) or "[]"))

    @contextmanager
    def adopting(self, collections: Iterable[str]) -> Iterator[None]:
        """Let what is done inside change shared collections; they are ``collections`` at the end."""
        with self._database.write() as session, session.adopting_shared():
            yield
            self.write_note(SHARED_COLLECTIONS, json.dumps(sorted(collections)))
            session.definitions_changed()

    def copy_dimension_records(self, source: Registry) -> None:
        """Take over all dimension records of another registry; where both have one, the other's counts."""
        tables = [*schema.element_tables.values(), *schema.overlap_tables.values()]
        theirs_in = source._database
        with self._database.write() as session, theirs_in.read() as reading:
            for table in tables:
                columns = [column.name for column in table.columns]
                statement = sa.select(*(table.c[name] for name in columns))
                known = {tuple(row) for row in session.fetch(statement)}
                rows = [tuple(row) for row in reading.fetch(statement)]
                new = [row for row in rows if row not in known]
                insert_rows(session, table, columns, new, on_conflict="replace")


def change_mark(registry: Registry) -> str:
    """Return a text that is another one after every change of a registry (and seldom without one).

    Of SQLite, sizes and times of its files; of PostgreSQL, its transactions.
    """
    database = registry._database
    if not database.is_sqlite:
        with database.read() as session:
            snapshot = "SELECT CAST(pg_current_snapshot() AS text)"
            return str(session.fetch_sql(snapshot)[0][0])
    out = []
    for name in (str(database.url.database), f"{database.url.database}-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            continue
        if status.st_size:  # an empty log is made and removed by readers
            out.append(f"{status.st_size}:{status.st_mtime_ns}")
    return "/".join(out)
