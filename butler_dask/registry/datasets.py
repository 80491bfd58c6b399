"""Datasets: read datasets and where their files are by identity or RUN, and remove them.

No statement here is made per dataset: many identities are looked up by joining a temporary table.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import DatasetNotFoundError
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable, uuid_column
from ..vocabulary.file_record import FileRecord, FileTable
from . import schema
from .bulk_rows import insert_rows, temporary_rows
from .collection_summaries import renew_summaries
from .database import Database, repeated
from .dataset_census import DatasetCensus, batched, dataset_census, ids_in_runs
from .definitions import CollectionRow, DatasetTypeRow
from .session import Session

_FEW_IDS = 200
"""So many identities are looked up as a list, more by joining a temporary table."""

_FILE_OF_ONE = (
    "SELECT f.path, k.formatter, k.storage_class, f.size, f.checksum FROM dataset d "
    "JOIN file f ON f.dataset_id = d.id JOIN file_kind k ON k.id = f.kind_id WHERE d.uuid = ?"
)


class Datasets:
    """Datasets of a registry and where their files are.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # Read

    def in_run(self, session: Session, kind: DatasetTypeRow, run: CollectionRow) -> DatasetTable:
        """Return all datasets of a type in a run."""
        own = kind.tables.datasets.c
        statement = sa.select(*(own[k] for k in kind.tables.keys), own.dataset_id, own.uuid).where(
            own.dataset_type_id == kind.id, own.run_id == run.id
        )
        rows = session.fetch(statement)
        return dataset_table(kind, rows, [run.name], None)

    def existing_in_run(
        self, run: str, dataset_type_names: Iterable[str] | None = None
    ) -> dict[str, DatasetTable]:
        """Return all datasets of a RUN by dataset type name, those without any left out."""
        with self._database.read() as session:
            definitions = session.definitions
            row = definitions.collection(run)
            s = schema.collection_summary.c
            kinds = [
                definitions.dataset_types_by_id[i]
                for (i,) in session.fetch(sa.select(s.dataset_type_id).where(s.collection_id == row.id))
                if i in definitions.dataset_types_by_id
            ]
            if dataset_type_names is not None:
                wanted = set(dataset_type_names)
                kinds = [k for k in kinds if k.definition.name in wanted]
            found = {k.definition.name: self.in_run(session, k, row) for k in kinds}
        return {name: table for name, table in sorted(found.items()) if len(table)}

    def row_ids(self, session: Session, table: DatasetTable) -> NDArray[np.int64]:
        """Return the registry's row number of each dataset, shape (n,), int64 [1].

        Raises
        ------
        DatasetNotFoundError
            If one is not in the registry.
        """
        found = table.row_ids if table.row_ids is not None else self.known_row_ids(session, table)
        absent = np.flatnonzero(found < 0)
        if len(absent):
            row = int(absent[0])
            raise DatasetNotFoundError(
                f"Dataset {table.id(row)} ({table.dataset_type.name!r} {table.data_ids[row]}) is not in the "
                f"registry ({len(absent)} of {len(table)} are not)."
            )
        return found

    def known_row_ids(self, session: Session, table: DatasetTable) -> NDArray[np.int64]:
        """Return the row number of each dataset by its UUID, -1 if there is none, shape (n,), int64 [1]."""
        ids = uuid_list(table.ids)
        known = {u: i for u, i, _, _ in self._by_uuid(session, ids)}
        return np.array([known.get(u, -1) for u in ids], dtype=np.int64)

    def _by_uuid(self, session: Session, ids: Sequence[bytes]) -> list[tuple[bytes, int, int, int]]:
        d = schema.dataset.c
        if len(ids) == 1:
            sql = "SELECT uuid, id, dataset_type_id, run_id FROM dataset WHERE uuid = ?"
            rows = session.fetch_sql(sql, (ids[0],))
        else:
            statement = sa.select(d.uuid, d.id, d.dataset_type_id, d.run_id)
            rows = self._joined(session, statement, d.uuid, ids)
        return [(bytes(u), i, t, r) for u, i, t, r in rows]

    def find(self, id: uuid.UUID) -> DatasetRef | None:
        """Return the dataset of a UUID, or `None`."""
        return self.find_many([id])[0]

    def find_many(self, ids: Sequence[uuid.UUID]) -> list[DatasetRef | None]:
        """Return the datasets of UUIDs, `None` for unknown ones."""
        found: dict[bytes, DatasetRef] = {}
        with self._database.read() as session:
            definitions = session.definitions
            by_type: dict[int, dict[int, tuple[bytes, int]]] = {}
            for value, row_id, type_id, run_id in self._by_uuid(session, [i.bytes for i in ids]):
                by_type.setdefault(type_id, {})[row_id] = (value, run_id)
            for type_id, rows in by_type.items():
                kind = definitions.dataset_types_by_id[type_id]
                own, keys = kind.tables.datasets.c, kind.tables.keys
                statement = sa.select(own.dataset_id, *(own[k] for k in keys))
                values = self._joined(session, statement, own.dataset_id, list(rows))
                for row_id, *data_id in values:
                    value, run_id = rows[row_id]
                    found[value] = DatasetRef(
                        kind.definition,
                        DataCoordinate(kind.definition.dimensions, tuple(data_id)),
                        definitions.collections_by_id[run_id].name,
                        id=uuid.UUID(bytes=value),
                    )
        return [found.get(i.bytes) for i in ids]

    def files_of(self, table: DatasetTable) -> FileTable:
        """Return the file records of datasets, aligned; rows without file have an empty path."""
        return self._files(uuid_list(table.ids), table.row_ids)

    def files_of_ids(self, ids: Iterable[uuid.UUID]) -> FileTable:
        """Return the file records of datasets by UUID, aligned; rows without file have an empty path."""
        return self._files([i.bytes for i in ids])

    def _files(self, ids: Sequence[bytes], row_ids: NDArray[np.int64] | None = None) -> FileTable:
        """Return the file records of datasets by UUID, or row number where that is known."""
        empty = ("", "", "", -1, "")
        with self._database.read() as session:
            if len(ids) == 1:
                rows = session.fetch_sql(_FILE_OF_ONE, (ids[0],))
                return file_table(rows or [empty])
            f, k, d = schema.file.c, schema.file_kind.c, schema.dataset.c
            keys: list[Any] = list(ids) if row_ids is None else row_ids.tolist()
            column = d.uuid if row_ids is None else f.dataset_id
            statement = sa.select(column, f.path, k.formatter, k.storage_class, f.size, f.checksum)
            statement = statement.where(f.kind_id == k.id)
            if row_ids is None:
                statement = statement.where(f.dataset_id == d.id)
            rows = self._joined(session, statement, column, keys)
        if row_ids is None:
            rows = [(bytes(r[0]), *r[1:]) for r in rows]
        known = {row[0]: row[1:] for row in rows}
        return file_table([known.get(key, empty) for key in keys])

    def _joined(
        self, session: Session, statement: sa.Select[Any], column: Any, values: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        # Rows of a statement whose column is one of some values.
        if len(values) <= _FEW_IDS:
            return session.fetch(statement.where(column.in_(values)))
        rows = [(v,) for v in dict.fromkeys(values)]
        with temporary_rows(session, {"value": column.type}, rows) as t:
            return session.fetch(statement.where(column == t.c.value))

    # Remove

    @repeated
    def remove(self, tables: Sequence[DatasetTable]) -> list[FileRecord]:
        """Remove datasets from the registry and all collections, in one transaction.

        Returns
        -------
        files : `list` [`FileRecord`]
            Files no dataset is in any more. They wait in `pending_deletions` until the datastore removed
            them. Files ingested in place are not among them.
        """
        out: list[FileRecord] = []
        with self._database.write() as session:
            definitions = session.definitions
            used = {i: np.unique(t.run_codes).tolist() for i, t in enumerate(tables)}
            deed = "remove datasets from"
            by_table = [
                [definitions.own_collection(t.runs[c], deed) for c in used[i]] for i, t in enumerate(tables)
            ]
            # All at once, in one order, so that two removals never wait for each other.
            locked = {run.id: run for runs in by_table for run in runs}
            session.lock_collections(list(locked.values()), exclusive=True)
            for table, runs in zip(tables, by_table, strict=True):
                if not len(table):
                    continue
                kind = definitions.dataset_type(table.dataset_type.name)
                ids = np.unique(self.row_ids(session, table)).tolist()
                out += self._remove_ids(session, {kind.id: ids})
                renew_summaries(session, kind, kind.tables.datasets, runs)
        return out

    def _remove_files(self, session: Session, ids: Any) -> list[FileRecord]:
        f, k, other = schema.file, schema.file_kind.c, schema.file.alias("other")
        is_shared = sa.exists(
            sa.select(other.c.dataset_id).where(
                other.c.path == f.c.path, other.c.dataset_id != f.c.dataset_id
            )
        )
        rows = session.fetch(
            sa.select(f.c.path, k.formatter, k.storage_class, f.c.size, f.c.checksum, is_shared).where(
                f.c.kind_id == k.id, f.c.dataset_id.in_(ids)
            ),
        )
        session.execute(f.delete().where(f.c.dataset_id.in_(ids)))
        still = self._recorded_paths(session, [r[0] for r in rows if r[5]])
        records: dict[str, FileRecord] = {}
        for path, formatter, storage_class, size, checksum, _ in rows:
            # Files taken in where they lay are the user's, not the repository's.
            if path not in still and "://" not in path and not path.startswith("/"):
                records[path] = FileRecord(path, formatter, storage_class, size, checksum)
        insert_rows(
            session, schema.pending_deletion, ("path",), [(p,) for p in records], on_conflict="ignore"
        )
        return list(records.values())

    @repeated
    def forget_files(self, table: DatasetTable) -> list[FileRecord]:
        """Remove the file records of datasets that stay known; return the files to delete."""
        if not len(table):
            return []
        with self._database.write() as session:
            for code in np.unique(table.run_codes).tolist():
                session.definitions.own_collection(table.runs[code], "remove files from")
            ids = self.row_ids(session, table)
            with temporary_rows(session, {"id": schema.Key}, [(i,) for i in np.unique(ids).tolist()]) as t:
                return self._remove_files(session, sa.select(t.c.id))

    def recorded_paths(self, paths: Iterable[str]) -> set[str]:
        """Return those of some paths under which the file of a dataset is recorded."""
        with self._database.read() as session:
            return self._recorded_paths(session, list(paths))

    def _recorded_paths(self, session: Session, paths: Sequence[str]) -> set[str]:
        if not paths:
            return set()
        path = schema.file.c.path
        return {r[0] for r in self._joined(session, sa.select(path), path, paths)}

    def pending_deletions(self, limit: int | None = None) -> list[str]:
        """Return the paths of files whose datasets are gone and that are not yet reported deleted."""
        p = schema.pending_deletion.c
        statement = sa.select(p.path).order_by(p.path).limit(limit)
        with self._database.read() as session:
            return [r[0] for r in session.fetch(statement)]

    def take_deletions(self, limit: int) -> list[str]:
        """Take paths off `pending_deletions`; their files are to be deleted before the transaction ends.

        Parameters
        ----------
        limit : `int`
            How many at most.

        Returns
        -------
        paths : `list` [`str`]
            Paths that no other process is deleting or writing anew.
        """
        p = schema.pending_deletion
        # On a server several programs remove at once. One whose path another one has just taken must not
        # delete the file as well: it may have been written anew since.
        some = sa.select(p.c.path).order_by(p.c.path).limit(limit).with_for_update(skip_locked=True).cte()
        statement = p.delete().where(p.c.path.in_(sa.select(some.c.path))).returning(p.c.path)
        with self._database.write() as session:
            return [r[0] for r in session.execute(statement)]

    def remove_runs(self, session: Session, runs: Sequence[CollectionRow]) -> list[FileRecord]:
        """Remove all datasets of runs."""
        session.lock_collections(runs, exclusive=True)
        by_type = ids_in_runs(session, runs)
        removed = self._remove_ids(session, by_type)
        q = schema.quantum
        for some in batched([r.id for r in runs], _FEW_IDS):
            session.execute(q.delete().where(q.c.run_id.in_(some)))
        return removed

    def _remove_ids(self, session: Session, by_type: Mapping[int, Iterable[int]]) -> list[FileRecord]:
        """Remove datasets by row number, with memberships and file records; return the files left over."""
        rows = [(i,) for ids in by_type.values() for i in ids]
        if not rows:
            return []
        with temporary_rows(session, {"id": schema.Key}, rows) as t:
            wanted = sa.select(t.c.id)
            removed = self._remove_files(session, wanted)
            kinds = session.definitions.dataset_types_by_id
            groups = {tables.id: tables for tables in (kinds[i].tables for i in by_type)}
            for group in groups.values():
                for own in (group.tags, group.calibs, group.datasets):
                    session.execute(own.delete().where(own.c.dataset_id.in_(wanted)))
            session.execute(schema.dataset.delete().where(schema.dataset.c.id.in_(wanted)))
        return removed

    def census_of_runs(self, session: Session, runs: Sequence[CollectionRow]) -> DatasetCensus:
        """Count the datasets of runs."""
        by_type = ids_in_runs(session, runs)
        return self._census(session, [(i,) for ids in by_type.values() for i in ids])

    def census(self, tables: Sequence[DatasetTable]) -> DatasetCensus:
        """Count datasets, their files and memberships: what `remove_datasets` removes."""
        with self._database.read() as session:
            ids = {i for table in tables for i in self.row_ids(session, table).tolist()}
            return self._census(session, [(i,) for i in sorted(ids)])

    def _census(self, session: Session, rows: list[tuple[int]]) -> DatasetCensus:
        if not rows:
            return DatasetCensus((), ())
        with temporary_rows(session, {"id": schema.Key}, rows) as t:
            return dataset_census(session, t)

    def has_files(self, session: Session, run: CollectionRow) -> bool:
        """Return whether any dataset of a run has a file."""
        d, f = schema.dataset.c, schema.file.c
        statement = sa.select(f.dataset_id).where(f.dataset_id == d.id, d.run_id == run.id).limit(1)
        return bool(session.fetch(statement))


def uuid_list(ids: NDArray[np.uint8]) -> list[bytes]:
    """Return UUIDs as a list of bytes.

    Parameters
    ----------
    ids : `numpy.ndarray`, shape (n, 16), uint8 [1]
        UUIDs.
    """
    data = np.ascontiguousarray(ids).tobytes()
    return [data[i : i + 16] for i in range(0, len(data), 16)]


def dataset_table(
    kind: DatasetTypeRow,
    rows: Sequence[tuple[Any, ...]],
    runs: Sequence[str],
    run_codes: NDArray[np.int32] | None,
) -> DatasetTable:
    """Make a dataset table of rows that begin with the data ID's values, the row number and the UUID.

    Parameters
    ----------
    kind : `DatasetTypeRow`
        Dataset type.
    rows : sequence of `tuple`
        Values.
    runs : sequence of `str`
        RUN names.
    run_codes : `numpy.ndarray`, shape (n,), int32 [1], or `None`
        Index into ``runs`` of each row; `None` where all are in the first.
    """
    dimensions, n = kind.definition.dimensions, len(rows)
    width = len(dimensions.required)
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if n else [()] * (width + 2)
    values: Mapping[str, Any] = dict(zip(dimensions.required, columns, strict=False))
    return DatasetTable(
        kind.definition,
        DataIdTable.from_values(dimensions, values, n),
        uuid_column(columns[width + 1]),
        np.zeros(n, dtype=np.int32) if run_codes is None else run_codes,
        runs,
        np.array(columns[width], dtype=np.int64),
    )


def file_table(rows: Sequence[tuple[Any, ...]]) -> FileTable:
    """Make a file table of rows (path, formatter, storage class, size, checksum)."""
    paths, formatters, kinds, sizes, checksums = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    f_index: dict[str, int] = {}
    k_index: dict[str, int] = {}
    f_codes = np.array([f_index.setdefault(f, len(f_index)) for f in formatters], dtype=np.int16)
    k_codes = np.array([k_index.setdefault(k, len(k_index)) for k in kinds], dtype=np.int16)
    return FileTable(
        paths, f_codes, tuple(f_index), k_codes, tuple(k_index), np.array(sizes, dtype=np.int64), checksums
    )
