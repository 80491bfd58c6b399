"""OverlayRegistry: a registry that holds rows of another one beside its own, and never changes those.

Which collections are the other's is noted in the registry itself, so every process that writes knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from ..errors import ReadOnlyRepositoryError
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.quantum_record import QuantumTable
from ..vocabulary.timespan import Timespan
from . import schema
from .bulk_rows import insert_rows
from .database import Database
from .registry import Registry

_SHARED = "overlay_collections"


class OverlayRegistry(Registry):
    """A registry some of whose collections belong to a shared repository.

    Parameters
    ----------
    database : `Database`
        Where it is kept.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._adopting = False

    # What is noted

    def read_note(self, name: str) -> str:
        """Return a text noted under a name, empty if there is none."""
        with self._database.read() as connection:
            sql = "SELECT value FROM repository WHERE name = ?"
            found = self._database.fetch_sql(connection, sql, (name,))
        return str(found[0][0]) if found else ""

    def write_note(self, name: str, value: str) -> None:
        """Note a text under a name."""
        with self._database.write() as connection:
            columns = ("name", "value")
            insert_rows(connection, schema.repository, columns, [(name, value)], on_conflict="replace")

    @property
    def shared_collections(self) -> frozenset[str]:
        """Names of the collections that belong to the shared repository."""
        return frozenset(json.loads(self.read_note(_SHARED) or "[]"))

    @contextmanager
    def adopting(self, collections: Iterable[str]) -> Iterator[None]:
        """Let what is done inside change shared collections; they are ``collections`` at the end."""
        self._adopting = True
        try:
            with self.transaction():
                yield
                self.write_note(_SHARED, json.dumps(sorted(collections)))
        finally:
            self._adopting = False

    def copy_dimension_records(self, source: Registry) -> None:
        """Take over all dimension records of another registry; where both have one, the other's counts."""
        tables = [*schema.element_tables.values(), *schema.overlap_tables.values()]
        theirs_in = source._database
        with self._database.write() as connection, theirs_in.read() as reading:
            for table in tables:
                columns = [column.name for column in table.columns]
                statement = sa.select(*(table.c[name] for name in columns))
                known = {tuple(row) for row in self._database.fetch(connection, statement)}
                rows = [tuple(row) for row in theirs_in.fetch(reading, statement)]
                new = [row for row in rows if row not in known]
                insert_rows(connection, table, columns, new, on_conflict="replace")

    # What is refused

    def _require_own(self, what: str, names: Iterable[str]) -> None:
        if self._adopting:
            return
        shared = self.shared_collections & set(names)
        if shared:
            raise ReadOnlyRepositoryError(
                f"Cannot {what} {', '.join(map(repr, sorted(shared)))}: it belongs to the shared repository, "
                "which is never changed from here. Use collections of your own (a chain may hold both)."
            )

    def set_chain(self, parent: str, children: Sequence[str]) -> None:
        """See `Registry.set_chain`."""
        self._require_own("redefine", [parent])
        super().set_chain(parent, children)

    def extend_chain(self, parent: str, children: Sequence[str]) -> None:
        """See `Registry.extend_chain`."""
        self._require_own("redefine", [parent])
        super().extend_chain(parent, children)

    def prepend_chain(self, parent: str, children: Sequence[str]) -> None:
        """See `Registry.prepend_chain`."""
        self._require_own("redefine", [parent])
        super().prepend_chain(parent, children)

    def remove_from_chain(self, parent: str, children: Sequence[str]) -> None:
        """See `Registry.remove_from_chain`."""
        self._require_own("redefine", [parent])
        super().remove_from_chain(parent, children)

    def edit_chain(self, parent: str, edit: Callable[[tuple[str, ...]], Sequence[str]]) -> None:
        """See `Registry.edit_chain`."""
        self._require_own("redefine", [parent])
        super().edit_chain(parent, edit)

    def undo_chain(self, name: str, steps: int = 1) -> tuple[str, ...]:
        """See `Registry.undo_chain`."""
        self._require_own("redefine", [name])
        return super().undo_chain(name, steps)

    def remove_collection(self, name: str) -> None:
        """See `Registry.remove_collection`."""
        self._require_own("remove", [name])
        super().remove_collection(name)

    def remove_runs(self, names: Sequence[str], *, unlink_from_chains: bool = False) -> list[FileRecord]:
        """See `Registry.remove_runs`."""
        self._require_own("remove", names)
        return super().remove_runs(names, unlink_from_chains=unlink_from_chains)

    def insert_datasets(self, table: DatasetTable, files: FileTable | None = None) -> None:
        """See `Registry.insert_datasets`."""
        self._require_own("put datasets into", table.runs)
        super().insert_datasets(table, files)

    def record_outputs(
        self, batches: Sequence[tuple[DatasetTable, FileTable]], quanta: QuantumTable | None = None
    ) -> None:
        """See `Registry.record_outputs`."""
        self._require_own("put datasets into", (run for table, _ in batches for run in table.runs))
        super().record_outputs(batches, quanta)

    def remove_datasets(self, tables: Sequence[DatasetTable]) -> list[FileRecord]:
        """See `Registry.remove_datasets`."""
        self._require_own("remove datasets from", (run for table in tables for run in table.runs))
        return super().remove_datasets(tables)

    def forget_files(self, table: DatasetTable) -> list[FileRecord]:
        """See `Registry.forget_files`."""
        self._require_own("remove files from", table.runs)
        return super().forget_files(table)

    def add_files(self, table: DatasetTable, files: FileTable) -> None:
        """See `Registry.add_files`."""
        self._require_own("add files to", table.runs)
        super().add_files(table, files)

    def associate(self, collection: str, table: DatasetTable) -> None:
        """See `Registry.associate`."""
        self._require_own("change", [collection])
        super().associate(collection, table)

    def disassociate(self, collection: str, table: DatasetTable) -> None:
        """See `Registry.disassociate`."""
        self._require_own("change", [collection])
        super().disassociate(collection, table)

    def certify(self, collection: str, table: DatasetTable, timespan: Timespan) -> None:
        """See `Registry.certify`."""
        self._require_own("change", [collection])
        super().certify(collection, table, timespan)

    def decertify(
        self,
        collection: str,
        dataset_type: DatasetType | str,
        timespan: Timespan,
        data_ids: DataIdTable | None = None,
    ) -> None:
        """See `Registry.decertify`."""
        self._require_own("change", [collection])
        super().decertify(collection, dataset_type, timespan, data_ids)


def change_mark(registry: Registry) -> str:
    """Return a text that is another one after every change of a registry (and seldom without one).

    Of SQLite, sizes and times of its files; of PostgreSQL, its transactions.
    """
    database = registry._database
    if not database.is_sqlite:
        with database.read() as connection:
            snapshot = "SELECT CAST(pg_current_snapshot() AS text)"
            return str(database.fetch_sql(connection, snapshot)[0][0])
    out = []
    for name in (str(database.url.database), f"{database.url.database}-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            continue
        if status.st_size:  # an empty log is made and removed by readers
            out.append(f"{status.st_size}:{status.st_mtime_ns}")
    return "/".join(out)
