"""DatasetInserts: new datasets and where their files are, from whole batches.

A batch of many is handed to the database once, as a temporary table, and spread from there over the tables it
belongs to by one statement each; that is quicker than binding every value three times, and what is there
already can be told apart by joins. What a refused batch clashed with is looked for only then.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import ConflictingDefinitionError, RefusedRowError
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileTable
from ..vocabulary.timespan import tai_now_ns
from . import schema
from .bulk_rows import temporary_rows
from .collection_summaries import summarize
from .database import Database, repeated
from .dataset_batch import (
    DatasetBatch,
    file_columns,
    file_kind_ids,
    files_wait,
    insert_small_batch,
    kinds_of_files,
    used_codes,
)
from .datasets import Datasets, uuid_list
from .dimension_records import DimensionRecords
from .session import Session

_FEW_ROWS = 50
"""Batches of at most so many rows are inserted row by row."""

Staged = Mapping[str, Any]
"""SQL of each value of a batch: a column of its temporary table, or a constant all rows share."""


class DatasetInserts:
    """Inserts of datasets into a registry.

    Parameters
    ----------
    database : `Database`
        Where to.
    records : `DimensionRecords`
        Dimension records, against which new data IDs are checked.
    datasets : `Datasets`
        Datasets that are there.
    """

    def __init__(self, database: Database, records: DimensionRecords, datasets: Datasets) -> None:
        self._database, self._records, self._datasets = database, records, datasets

    @repeated
    def insert(self, table: DatasetTable, files: FileTable | None = None) -> None:
        """Insert datasets, and where their files are, all or none.

        Raises
        ------
        ConflictingDefinitionError
            If the RUN has a dataset of the type for a data ID, or a UUID is known; the first is named.
        DataIdValueError
            If a data ID has a value without dimension record.
        """
        if not len(table):
            return
        for is_second in (False, True):
            try:
                with self._database.write() as session:
                    batch = DatasetBatch.of(session, table, files)
                    if len(table) <= _FEW_ROWS:
                        insert_small_batch(self._database, session, self._records, batch)
                    else:
                        self._insert_many(session, batch)
                    return
            except (sa.exc.IntegrityError, RefusedRowError) as error:
                # Looked for when all is undone: else the first of the rows would clash with itself.
                with self._database.read() as session:
                    self._explain_conflict(session, table, error)
                # Somebody else removed meanwhile what it clashed with.
                if is_second:
                    raise

    def _insert_many(self, session: Session, batch: DatasetBatch) -> None:
        self._records.check_values(session, batch.table)
        ids = self._allocate(session, len(batch.table))
        with self._staged(session, batch, ids) as staged:
            session.execute(self._into_datasets(batch, staged))
            session.execute(self._into_group(batch, staged))
            if batch.files is not None:
                session.execute(self._into_files(staged, staged["id"]))
                if files_wait(session):
                    self._keep_files(session, staged)
        self._summarize(session, batch)

    @repeated
    def record(self, batches: Sequence[tuple[DatasetTable, FileTable]]) -> None:
        """Insert datasets and files that may be there already; see `Registry.record_outputs`."""
        with self._database.write() as session:
            # In the same order by whomever they are recorded, so that two never wait for each other.
            for table, files in sorted(batches, key=lambda b: b[0].dataset_type.name):
                if not len(table):
                    continue
                batch = DatasetBatch.of(session, table, files)
                ids = self._allocate(session, len(table))
                with self._staged(session, batch, ids) as staged:
                    self._record_staged(session, batch, staged, ids)
                self._summarize(session, batch)

    def _record_staged(
        self, session: Session, batch: DatasetBatch, staged: Staged, ids: NDArray[np.int64]
    ) -> None:
        d, own = schema.dataset, batch.kind.tables.datasets
        into = self._into_datasets(batch, staged).on_conflict_do_nothing()
        n_new = session.execute(into.execution_options(preserve_rowcount=True)).rowcount
        # Only those whose UUID was new get a data ID; of these, not those whose data ID is another dataset's.
        new = (d.c.uuid == staged["uuid"], d.c.id == staged["id"])
        session.execute(self._into_group(batch, staged, *new).on_conflict_do_nothing())
        session.execute(
            d.delete().where(
                d.c.id.between(int(ids[0]), int(ids[-1])),
                ~sa.exists(sa.select(own.c.dataset_id).where(own.c.dataset_id == d.c.id)),
            )
        )
        if n_new != len(batch.table):
            self._refuse_other_datasets(session, batch, staged)
        # A retried quantum has just written its files anew: what they are now counts.
        self._replace_files(session, staged, self._into_files(staged, d.c.id, d.c.uuid == staged["uuid"]))

    @repeated
    def add_files(self, table: DatasetTable, files: FileTable) -> None:
        """Insert or replace the file records of datasets that are in the registry.

        Raises
        ------
        DatasetNotFoundError
            If one is not in the registry.
        ConflictingDefinitionError
            If a UUID is known for another type, data ID or RUN; no file record is changed.
        """
        if not len(table):
            return
        with self._database.write() as session:
            batch = DatasetBatch.of(session, table, files)
            with self._staged(session, batch, self._datasets.row_ids(session, table)) as staged:
                self._refuse_other_datasets(session, batch, staged)
                self._replace_files(session, staged, self._into_files(staged, staged["id"]))

    # Parts

    def _refuse_other_datasets(self, session: Session, batch: DatasetBatch, staged: Staged) -> None:
        """Raise if a UUID is known for another type, data ID or RUN: the file of another would be taken."""
        d, own = schema.dataset.c, batch.kind.tables.datasets.c
        same = sa.exists(
            sa.select(own.dataset_id).where(
                own.dataset_id == d.id,
                own.dataset_type_id == batch.kind.id,
                own.run_id == staged["run_id"],
                *(own[k] == staged[f"key_{k}"] for k in batch.kind.tables.keys),
            )
        )
        found = session.fetch(sa.select(d.uuid).where(d.uuid == staged["uuid"], ~same).limit(1))
        if not found:
            return
        id_ = uuid.UUID(bytes=bytes(found[0][0]))
        table = batch.table
        # A UUID given twice for one batch is of the last of its rows.
        row = int(np.flatnonzero((table.ids == np.frombuffer(id_.bytes, np.uint8)).all(axis=1))[-1])
        there = self._datasets.find(id_)
        assert there is not None
        raise ConflictingDefinitionError(
            f"Dataset {id_} is {there.datasetType.name!r} {there.dataId} in RUN {there.run!r}; it cannot be "
            f"{table.dataset_type.name!r} {table.data_ids[row]} in RUN {table.run(row)!r} as well. Nothing "
            "was recorded; give the other dataset an id of its own."
        )

    def _replace_files(self, session: Session, staged: Staged, statement: Any) -> None:
        """Insert file records, or replace those that datasets have."""
        names = ("path", "kind_id", "size", "checksum")
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["dataset_id"], set_={n: statement.excluded[n] for n in names}
            )
        )
        if files_wait(session):
            self._keep_files(session, staged)

    def _allocate(self, session: Session, count: int) -> NDArray[np.int64]:
        last = self._database.count_up(session, "dataset", count)
        return np.arange(last - count + 1, last + 1, dtype=np.int64)

    @staticmethod
    def _file_kind_ids(session: Session, files: FileTable) -> list[int]:
        kinds = kinds_of_files(files)
        known = file_kind_ids(session, set(kinds))
        return [known[kind] for kind in kinds]

    @contextmanager
    def _staged(self, session: Session, batch: DatasetBatch, ids: NDArray[np.int64]) -> Iterator[Staged]:
        table, files, group = batch.table, batch.files, batch.kind.tables
        types: dict[str, Any] = {"id": schema.Key, "uuid": sa.LargeBinary()}
        columns: dict[str, Sequence[Any]] = {"id": ids.tolist(), "uuid": uuid_list(table.ids)}
        staged: dict[str, Any] = {}

        def add(name: str, type_: Any, values: Sequence[Any]) -> None:
            # What is the same in every row is written into the statements instead.
            if len(values) and values.count(values[0]) == len(values):
                staged[name] = sa.literal(values[0], type_)
            else:
                types[name], columns[name] = type_, values

        run_ids = np.array([r.id for r in batch.runs], dtype=np.int64)[table.run_codes]
        add("run_id", schema.Key, run_ids.tolist())
        for name in group.keys:
            add(f"key_{name}", group.datasets.c[name].type, table.data_ids.values(name).tolist())
        if files is not None:
            for name, values in file_columns(files, self._file_kind_ids(session, files)).items():
                add(name, schema.file.c[name].type, values)
        rows = list(zip(*columns.values(), strict=True))
        with temporary_rows(session, types, rows, key="id") as t:
            yield {**{n: t.c[n] for n in columns}, **staged}

    def _into(self, table: sa.Table, values: Mapping[str, Any], *conditions: Any) -> Any:
        # SQLite cannot tell `ON CONFLICT` from a join's `ON` without a WHERE.
        selected = sa.select(*(v.label(n) for n, v in values.items())).where(sa.text("1 = 1"), *conditions)
        # Each dialect takes tens of milliseconds to import, and only one is needed.
        if self._database.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # the other database's statement of the same name
        return insert(table).from_select(list(values), selected)

    def _into_datasets(self, batch: DatasetBatch, staged: Staged) -> Any:
        values = {
            "id": staged["id"],
            "uuid": staged["uuid"],
            "dataset_type_id": sa.literal(batch.kind.id, schema.Key),
            "run_id": staged["run_id"],
            "ingest_ns": sa.literal(tai_now_ns(), sa.BigInteger),
        }
        return self._into(schema.dataset, values)

    def _into_group(self, batch: DatasetBatch, staged: Staged, *conditions: Any) -> Any:
        values = {
            "dataset_type_id": sa.literal(batch.kind.id, schema.Key),
            "run_id": staged["run_id"],
            **{k: staged[f"key_{k}"] for k in batch.kind.tables.keys},
            "dataset_id": staged["id"],
            "uuid": staged["uuid"],
        }
        return self._into(batch.kind.tables.datasets, values, *conditions)

    def _into_files(self, staged: Staged, dataset_id: Any, *conditions: Any) -> Any:
        names = ("path", "kind_id", "size", "checksum")
        values = {"dataset_id": dataset_id, **{n: staged[n] for n in names}}
        # A dataset without file has an empty path.
        return self._into(schema.file, values, staged["uuid"].is_not(None), staged["path"] != "", *conditions)

    def _keep_files(self, session: Session, staged: Any) -> None:
        # A path that waits for deletion and was written again must not be deleted.
        p = schema.pending_deletion
        session.execute(p.delete().where(p.c.path.in_(sa.select(staged["path"]))))

    def _summarize(self, session: Session, batch: DatasetBatch) -> None:
        for changed in (schema.dataset, schema.file, batch.kind.tables.datasets):
            session.inserted[changed.name] = session.inserted.get(changed.name, 0) + len(batch.table)
        summarize(session, batch.kind, batch.table.data_ids, batch.runs, batch.table.run_codes)

    def _explain_conflict(
        self, session: Session, table: DatasetTable, error: sa.exc.IntegrityError | RefusedRowError
    ) -> None:
        name = table.dataset_type.name
        kind = session.definitions.dataset_type(name)
        present = self._datasets.known_row_ids(session, table)
        for row in np.flatnonzero(present >= 0).tolist():
            raise ConflictingDefinitionError(
                f"Dataset {table.id(row)} ({name!r} {table.data_ids[row]}) is already in the registry."
            ) from error
        for code in used_codes(table):
            run = session.definitions.collection(table.runs[code])
            part = table.data_ids.take(np.flatnonzero(table.run_codes == code))
            unique, inverse = part.unique()
            if len(unique) < len(part):
                first = int(np.flatnonzero(np.bincount(inverse) > 1)[0])
                raise ConflictingDefinitionError(
                    f"Two datasets {name!r} for {unique[first]} were given for RUN {run.name!r}."
                ) from error
            existing = self._datasets.in_run(session, kind, run)
            clash = np.flatnonzero(part.match(existing.data_ids) >= 0)
            if len(clash):
                raise ConflictingDefinitionError(
                    f"A dataset {name!r} for {part[int(clash[0])]} is already in RUN {run.name!r}; a RUN "
                    "holds one dataset of a type and data ID. Nothing was inserted."
                ) from error
