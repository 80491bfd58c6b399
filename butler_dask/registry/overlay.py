"""Overlay: what a registry holds of another one beside its own, and never changes.

Which collections are the other's is noted in the registry itself, so every process that writes knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from . import schema
from .bulk_rows import insert_rows
from .database import Database
from .definitions import SHARED_COLLECTIONS


class Overlay:
    """Rows of a shared registry in a registry, and notes about them.

    Parameters
    ----------
    database : `Database`
        Where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, name: str) -> str:
        """Return the text noted under a name, empty if there is none."""
        with self._database.read() as session:
            found = session.fetch_sql("SELECT value FROM repository WHERE name = ?", (name,))
        return str(found[0][0]) if found else ""

    def set_note(self, name: str, text: str) -> None:
        """Note a text under a name."""
        with self._database.write() as session:
            insert_rows(session, schema.repository, ("name", "value"), [(name, text)], on_conflict="replace")

    @property
    def shared_collections(self) -> frozenset[str]:
        """Names of the collections that belong to the shared registry."""
        return frozenset(json.loads(self.note(SHARED_COLLECTIONS) or "[]"))

    @contextmanager
    def adopting(self, collections: Iterable[str]) -> Iterator[None]:
        """Let what is done inside change shared collections; they are ``collections`` at the end."""
        with self._database.write() as session, session.adopting_shared():
            yield
            self.set_note(SHARED_COLLECTIONS, json.dumps(sorted(collections)))
            session.definitions_changed()

    def dimension_rows(self) -> Iterator[tuple[sa.Table, list[tuple[Any, ...]]]]:
        """Yield the rows of each table of dimension records, and of the pixels they overlap."""
        with self._database.read() as session:
            for table in (*schema.element_tables.values(), *schema.overlap_tables.values()):
                yield table, session.fetch(sa.select(*table.columns))

    def copy_dimension_records(self, shared: Overlay) -> None:
        """Take over all dimension records of a shared registry; where both have one, its counts."""
        with self._database.write() as session:
            for table, rows in shared.dimension_rows():
                known = set(session.fetch(sa.select(*table.columns)))
                new = [row for row in rows if row not in known]
                columns = [column.name for column in table.columns]
                insert_rows(session, table, columns, new, on_conflict="replace")
