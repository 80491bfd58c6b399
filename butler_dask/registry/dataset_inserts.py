"""DatasetInserts: new datasets and where their files are, from whole batches.

A batch is handed to the database once, as a temporary table, and spread from there over the tables it belongs
to by one statement each; that is quicker than binding every value three times, and what is there already can
be told apart by joins. What a refused batch clashed with is looked for only then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import (
    CollectionTypeError,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetTypeError,
)
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileTable
from ..vocabulary.timespan import tai_now_ns
from . import schema
from .bulk_rows import insert_rows, temporary_rows
from .database import Database, repeated
from .datasets import Datasets, uuid_list
from .definitions import CollectionRow, DatasetTypeRow
from .dimension_records import DimensionRecords
from .session import Session

_FEW = 50
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

    def __init__(
        self,
        database: Database,
        records: DimensionRecords,
        datasets: Datasets,
    ) -> None:
        self._database = database
        self._records, self._datasets = records, datasets

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
        with self._database.write() as session:
            kind, runs = self._targets(session, table)
            self._datasets.lock_runs(session, runs, exclusive=False)
            missing = self._records.missing_values(session, table.data_ids)
            if missing is not None:
                name, values = missing
                raise DataIdValueError(
                    f"Cannot insert {table.dataset_type.name!r} datasets: the repository has no {name} for "
                    f"{values!r}. Insert its dimension record first."
                )
            ids = self._allocate(session, len(table))
            if len(table) <= _FEW:
                self._insert_few(session, kind, table, runs, ids, files)
            else:
                with self._staged(session, kind, table, runs, ids, files) as staged:
                    try:
                        with self._database.write():
                            session.execute(self._into_datasets(kind, staged))
                            session.execute(self._into_group(kind, staged))
                    except sa.exc.IntegrityError as error:
                        self._explain_conflict(session, kind, table, runs, error)
                    if files is not None:
                        session.execute(self._into_files(staged, staged["id"]))
                        self._keep_files(session, staged)
            self._summarize(session, kind, table, runs)

    def _insert_few(
        self,
        session: Session,
        kind: DatasetTypeRow,
        table: DatasetTable,
        runs: Sequence[CollectionRow],
        ids: NDArray[np.int64],
        files: FileTable | None,
    ) -> None:
        # The way of Butler.put: for few rows, making a temporary table costs more than all the rest.
        n, keys = len(table), kind.tables.keys
        row_ids, uuids = ids.tolist(), uuid_list(table.ids)
        run_ids = [runs[code].id for code in table.run_codes.tolist()]
        kinds, now = [kind.id] * n, [tai_now_ns()] * n
        values = [[table.data_ids.value(k, i) for i in range(n)] for k in keys]
        try:
            with self._database.write():
                insert_rows(
                    session,
                    schema.dataset,
                    ("id", "uuid", "dataset_type_id", "run_id", "ingest_ns"),
                    list(zip(row_ids, uuids, kinds, run_ids, now, strict=True)),
                )
                insert_rows(
                    session,
                    kind.tables.datasets,
                    ("dataset_type_id", "run_id", *keys, "dataset_id", "uuid"),
                    list(zip(kinds, run_ids, *values, row_ids, uuids, strict=True)),
                )
        except sa.exc.IntegrityError as error:
            self._explain_conflict(session, kind, table, runs, error)
        if files is not None:
            self._insert_files(session, row_ids, files, replace=False)

    @repeated
    def record(self, batches: Sequence[tuple[DatasetTable, FileTable]]) -> None:
        """Insert datasets and files that may be there already; see `Registry.record_outputs`."""
        with self._database.write() as session:
            # In the same order by whomever they are recorded, so that two never wait for each other.
            for table, files in sorted(batches, key=lambda b: b[0].dataset_type.name):
                if not len(table):
                    continue
                kind, runs = self._targets(session, table)
                self._datasets.lock_runs(session, runs, exclusive=False)
                ids = self._allocate(session, len(table))
                with self._staged(session, kind, table, runs, ids, files) as staged:
                    self._record_staged(session, kind, staged, ids)
                self._summarize(session, kind, table, runs)

    def _record_staged(
        self, session: Session, kind: DatasetTypeRow, staged: Staged, ids: NDArray[np.int64]
    ) -> None:
        d, own = schema.dataset, kind.tables.datasets
        session.execute(self._into_datasets(kind, staged).on_conflict_do_nothing())
        # Only those whose UUID was new get a data ID; of these, not those whose data ID is another dataset's.
        new = (d.c.uuid == staged["uuid"], d.c.id == staged["id"])
        session.execute(self._into_group(kind, staged, *new).on_conflict_do_nothing())
        session.execute(
            d.delete().where(
                d.c.id.between(int(ids[0]), int(ids[-1])),
                ~sa.exists(sa.select(own.c.dataset_id).where(own.c.dataset_id == d.c.id)),
            )
        )
        # A retried quantum has just written its files anew: what they are now counts.
        statement = self._into_files(staged, d.c.id, d.c.uuid == staged["uuid"])
        names = ("path", "kind_id", "size", "checksum", "shared")
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["dataset_id"], set_={n: statement.excluded[n] for n in names}
            )
        )
        self._keep_files(session, staged)

    @repeated
    def add_files(self, table: DatasetTable, files: FileTable) -> None:
        """Insert or replace the file records of datasets that are in the registry."""
        if not len(table):
            return
        with self._database.write() as session:
            for i in _used_codes(table):
                session.definitions.own_collection(table.runs[i], "add files to")
            ids = self._datasets.row_ids(session, table)
            self._insert_files(session, ids.tolist(), files, replace=True)

    def _insert_files(self, session: Session, ids: Sequence[int], files: FileTable, *, replace: bool) -> None:
        if len(files) != len(ids):
            raise ValueError(f"{len(ids)} datasets but {len(files)} file records")
        rows = self._file_rows(session, files)
        insert_rows(
            session,
            schema.file,
            ("dataset_id", *rows),
            [r for r in zip(ids, *rows.values(), strict=True) if r[1]],
            on_conflict="replace" if replace else "raise",
        )
        if self._files_wait(session):
            paths = [(p,) for p in set(rows["path"])]
            with temporary_rows(session, {"path": sa.String()}, paths) as t:
                self._keep_files(session, t.c)

    # Parts

    def _targets(self, session: Session, table: DatasetTable) -> tuple[DatasetTypeRow, list[CollectionRow]]:
        definitions = session.definitions
        kind = definitions.dataset_type(table.dataset_type.name)
        if table.dataset_type.isComponent():
            raise DatasetTypeError(
                f"{table.dataset_type.name!r} is a component; only whole datasets are kept"
            )
        if table.dataset_type.dimensions != kind.definition.dimensions:
            raise ConflictingDefinitionError(
                f"Dataset type {kind.definition.name!r} is registered with dimensions "
                f"{kind.definition.dimensions}, not {table.dataset_type.dimensions}."
            )
        used = _used_codes(table)
        found = {i: definitions.own_collection(table.runs[i], "put datasets into") for i in used}
        # Names no row refers to need not exist any more.
        runs = [found.get(i, found[used[0]]) for i in range(len(table.runs))]
        for run in runs:
            if run.type is not CollectionType.RUN:
                raise CollectionTypeError(
                    f"Datasets are put into RUN collections; {run.name!r} is {run.type.name}."
                )
        return kind, runs

    def _allocate(self, session: Session, count: int) -> NDArray[np.int64]:
        last = self._database.count_up(session, "dataset", count)
        return np.arange(last - count + 1, last + 1, dtype=np.int64)

    @contextmanager
    def _staged(
        self,
        session: Session,
        kind: DatasetTypeRow,
        table: DatasetTable,
        runs: Sequence[CollectionRow],
        ids: NDArray[np.int64],
        files: FileTable | None,
    ) -> Iterator[Staged]:
        types: dict[str, Any] = {"id": schema.Key, "uuid": sa.LargeBinary()}
        columns: dict[str, Sequence[Any]] = {"id": ids.tolist(), "uuid": uuid_list(table.ids)}
        staged: dict[str, Any] = {}

        def add(name: str, type_: Any, values: Sequence[Any]) -> None:
            # What is the same in every row is written into the statements instead.
            if len(values) and values.count(values[0]) == len(values):
                staged[name] = sa.literal(values[0], type_)
            else:
                types[name], columns[name] = type_, values

        run_ids = np.array([r.id for r in runs], dtype=np.int64)[table.run_codes]
        add("run_id", schema.Key, run_ids.tolist())
        for name in kind.tables.keys:
            type_ = kind.tables.datasets.c[name].type
            add(f"key_{name}", type_, table.data_ids.values(name).tolist())
        if files is not None:
            if len(files) != len(table):
                raise ValueError(f"{len(table)} datasets but {len(files)} file records")
            for name, values in self._file_rows(session, files).items():
                add(name, schema.file.c[name].type, values)
        rows = list(zip(*columns.values(), strict=True))
        with temporary_rows(session, types, rows, key="id") as t:
            yield {**{n: t.c[n] for n in columns}, **staged}

    def _file_rows(self, session: Session, files: FileTable) -> dict[str, Sequence[Any]]:
        n = max(len(files.storage_classes), 1)
        codes = (files.formatter_codes.astype(np.int64) * n + files.storage_class_codes).tolist()
        kinds = self._file_kinds(session, files, set(codes))
        paths = list(files.paths)
        shared = [False] * len(paths)
        if len(set(paths)) < len(paths):
            seen: dict[str, int] = {}
            for path in paths:
                seen[path] = seen.get(path, 0) + 1
            shared = [seen[p] > 1 for p in paths]
        return {
            "path": paths,
            "kind_id": [kinds[c] for c in codes],
            "size": files.sizes.tolist(),
            "checksum": list(files.checksums),
            "shared": shared,
        }

    def _file_kinds(self, session: Session, files: FileTable, codes: Iterable[int]) -> dict[int, int]:
        k = schema.file_kind
        n = max(len(files.storage_classes), 1)
        wanted = {c: (files.formatters[c // n], files.storage_classes[c % n]) for c in codes}
        sql = "SELECT formatter, storage_class, id FROM file_kind"
        known = {(f, s): i for f, s, i in session.fetch_sql(sql)}
        new = sorted({w for w in wanted.values() if w not in known})
        if new:
            insert_rows(session, k, ("formatter", "storage_class"), new, on_conflict="ignore")
            known = {(f, s): i for f, s, i in session.fetch_sql(sql)}
        return {c: known[w] for c, w in wanted.items()}

    def _into(self, table: sa.Table, values: Mapping[str, Any], *conditions: Any) -> Any:
        # SQLite cannot tell `ON CONFLICT` from a join's `ON` without a WHERE.
        selected = sa.select(*(v.label(n) for n, v in values.items())).where(sa.text("1 = 1"), *conditions)
        # Each dialect takes tens of milliseconds to import, and only one is needed.
        if self._database.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # the other database's statement of the same name
        return insert(table).from_select(list(values), selected)

    def _into_datasets(self, kind: DatasetTypeRow, staged: Staged) -> Any:
        values = {
            "id": staged["id"],
            "uuid": staged["uuid"],
            "dataset_type_id": sa.literal(kind.id, schema.Key),
            "run_id": staged["run_id"],
            "ingest_ns": sa.literal(tai_now_ns(), sa.BigInteger),
        }
        return self._into(schema.dataset, values)

    def _into_group(self, kind: DatasetTypeRow, staged: Staged, *conditions: Any) -> Any:
        values = {
            "dataset_type_id": sa.literal(kind.id, schema.Key),
            "run_id": staged["run_id"],
            **{k: staged[f"key_{k}"] for k in kind.tables.keys},
            "dataset_id": staged["id"],
            "uuid": staged["uuid"],
        }
        return self._into(kind.tables.datasets, values, *conditions)

    def _into_files(self, staged: Staged, dataset_id: Any, *conditions: Any) -> Any:
        names = ("path", "kind_id", "size", "checksum", "shared")
        values = {"dataset_id": dataset_id, **{n: staged[n] for n in names}}
        # A dataset without file has an empty path.
        return self._into(schema.file, values, staged["uuid"].is_not(None), staged["path"] != "", *conditions)

    def _files_wait(self, session: Session) -> bool:
        return bool(session.fetch_sql("SELECT 1 FROM pending_deletion LIMIT 1"))

    def _keep_files(self, session: Session, staged: Any) -> None:
        # A path that waits for deletion and was written again must not be deleted.
        p = schema.pending_deletion
        if self._files_wait(session):
            session.execute(p.delete().where(p.c.path.in_(sa.select(staged["path"]))))

    def _summarize(
        self,
        session: Session,
        kind: DatasetTypeRow,
        table: DatasetTable,
        runs: Sequence[CollectionRow],
    ) -> None:
        for changed in (schema.dataset, schema.file, kind.tables.datasets):
            session.count_rows(changed.name, len(table))
        used = _used_codes(table)
        summarize(session, kind, table.data_ids, table.run_codes, used, runs)

    def _explain_conflict(
        self,
        session: Session,
        kind: DatasetTypeRow,
        table: DatasetTable,
        runs: Sequence[CollectionRow],
        error: sa.exc.IntegrityError,
    ) -> None:
        name = kind.definition.name
        present = self._datasets.known_row_ids(session, table)
        for row in np.flatnonzero(present >= 0).tolist():
            raise ConflictingDefinitionError(
                f"Dataset {table.id(row)} ({name!r} {table.data_ids[row]}) is already in the registry."
            ) from error
        for code, run in enumerate(runs):
            rows = np.flatnonzero(table.run_codes == code)
            part = table.data_ids.take(rows)
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
        raise error


def _used_codes(table: DatasetTable) -> list[int]:
    return [0] if len(table.runs) == 1 else np.unique(table.run_codes).tolist()


def summarize(
    session: Session,
    kind: DatasetTypeRow,
    data_ids: DataIdTable,
    codes: NDArray[Any] | None,
    used: Iterable[int],
    collections: Sequence[CollectionRow],
) -> None:
    """Record that collections hold datasets of a type, and of which instruments and skymaps.

    Parameters
    ----------
    session : `Session`
        From `Database.write`.
    kind : `DatasetTypeRow`
        Dataset type.
    data_ids : `DataIdTable`
        Data IDs of the datasets.
    codes : `numpy.ndarray`, shape (n,), or `None`
        Index into ``collections`` of each row; `None` if all are in the first.
    used : iterable of `int`
        Codes that occur.
    collections : sequence of `CollectionRow`
        The collections.
    """
    rows: list[tuple[Any, ...]] = []
    governors: list[tuple[Any, ...]] = []
    for code in used:
        collection_id = collections[code].id
        rows.append((kind.id, collection_id))
        for name in kind.definition.dimensions.governors:
            column = data_ids.columns[name]
            if codes is not None:
                column = column[codes == code]
            for value in set(column.tolist()) if len(column) <= _FEW else np.unique(column).tolist():
                governors.append((collection_id, name, data_ids.categories[name][value]))
    insert_rows(
        session,
        schema.collection_summary,
        ("dataset_type_id", "collection_id"),
        rows,
        on_conflict="ignore",
    )
    insert_rows(
        session,
        schema.collection_governor,
        ("collection_id", "dimension", "value"),
        governors,
        on_conflict="ignore",
    )
