"""DatasetBatch: datasets of one type to be inserted, with the rows they will refer to.

A small batch is asked about in one statement and inserted row by row, which is the way of ``Butler.put``:
making a temporary table, or asking for each thing by itself, would cost more than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CollectionTypeError, ConflictingDefinitionError, DatasetTypeError
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileTable
from ..vocabulary.timespan import tai_now_ns
from . import schema
from .bulk_rows import insert_rows
from .collection_summaries import GovernorSummary, insert_summaries
from .database import Database
from .definitions import CollectionRow, DatasetTypeRow
from .dimension_records import DimensionRecords
from .session import Session

FileKind = tuple[str, str]
"""Formatter and storage class."""

# Asked for a small batch: a kind of file; whether files wait for deletion; whether summaries are there.
_KIND = "SELECT id FROM file_kind WHERE formatter = ? AND storage_class = ?"
_WAITING = "SELECT 1 FROM pending_deletion LIMIT 1"
_TYPE = "SELECT 1 FROM collection_summary WHERE dataset_type_id = ? AND collection_id = ?"
_GOVERNOR = "SELECT 1 FROM collection_governor WHERE collection_id = ? AND dimension = ? AND value = ?"


@dataclass(frozen=True, slots=True)
class DatasetBatch:
    """Datasets of one type to be inserted.

    Parameters
    ----------
    table : `DatasetTable`
        The datasets.
    kind : `DatasetTypeRow`
        Their type as registered.
    runs : sequence of `CollectionRow`
        RUN collections, by the table's codes.
    used_codes : sequence of `int`
        Codes that occur.
    files : `FileTable`, optional
        Where their files are, in the same order.
    """

    table: DatasetTable
    kind: DatasetTypeRow
    runs: Sequence[CollectionRow]
    used_codes: Sequence[int]
    files: FileTable | None

    @classmethod
    def of(cls, session: Session, table: DatasetTable, files: FileTable | None) -> DatasetBatch:
        """Look up the type and the RUN collections, and keep others from removing the latter.

        Raises
        ------
        CollectionTypeError
            If a collection is no RUN.
        ConflictingDefinitionError
            If the type is registered with other dimensions.
        DatasetTypeError
            If the type is a component.
        """
        dataset_type, definitions = table.dataset_type, session.definitions
        kind = definitions.dataset_type(dataset_type.name)
        if dataset_type.isComponent():
            raise DatasetTypeError(f"{dataset_type.name!r} is a component; only whole datasets are kept")
        if dataset_type.dimensions != kind.definition.dimensions:
            raise ConflictingDefinitionError(
                f"Dataset type {kind.definition.name!r} is registered with dimensions "
                f"{kind.definition.dimensions}, not {dataset_type.dimensions}."
            )
        if files is not None and len(files) != len(table):
            raise ValueError(f"{len(table)} datasets but {len(files)} file records")
        used = used_codes(table)
        found = {i: definitions.own_collection(table.runs[i], "put datasets into") for i in used}
        # Names no row refers to need not exist any more.
        runs = [found.get(i, found[used[0]]) for i in range(len(table.runs))]
        for run in runs:
            if run.type is not CollectionType.RUN:
                raise CollectionTypeError(
                    f"Datasets are put into RUN collections; {run.name!r} is {run.type.name}."
                )
        session.lock_collections(runs, exclusive=False)
        return cls(table, kind, runs, used, files)


def used_codes(table: DatasetTable) -> list[int]:
    """Return the codes of the RUN collections that occur in a table."""
    return [0] if len(table.runs) == 1 else np.unique(table.run_codes).tolist()


def kinds_of_files(files: FileTable) -> list[FileKind]:
    """Return formatter and storage class of each file."""
    formatters, storage_classes = files.formatters, files.storage_classes
    codes = zip(files.formatter_codes.tolist(), files.storage_class_codes.tolist(), strict=True)
    return [(formatters[f], storage_classes[s]) for f, s in codes]


def file_kind_ids(session: Session, kinds: Set[FileKind]) -> dict[FileKind, int]:
    """Return the row numbers of kinds of files, made where they are new."""
    sql = "SELECT formatter, storage_class, id FROM file_kind"
    known = {(f, s): i for f, s, i in session.fetch_sql(sql)}
    new = sorted(kinds - known.keys())
    if new:
        columns = ("formatter", "storage_class")
        insert_rows(session, schema.file_kind, columns, new, on_conflict="ignore")
        known = {(f, s): i for f, s, i in session.fetch_sql(sql)}
    return known


def file_columns(files: FileTable, kind_ids: Sequence[int]) -> dict[str, Sequence[Any]]:
    """Return the columns of the ``file`` table for files, but ``dataset_id``, given each one's kind."""
    return {
        "path": list(files.paths),
        "kind_id": kind_ids,
        "size": files.sizes.tolist(),
        "checksum": list(files.checksums),
    }


def files_wait(session: Session) -> bool:
    """Return whether any file waits for its deletion."""
    return bool(session.fetch_sql("SELECT 1 FROM pending_deletion LIMIT 1"))


def insert_small_batch(
    database: Database, session: Session, records: DimensionRecords, batch: DatasetBatch
) -> None:
    """Insert a batch of few datasets.

    Parameters
    ----------
    database : `Database`
        Counts the datasets.
    session : `Session`
        From its `Database.write`.
    records : `DimensionRecords`
        Dimension records, against which the data IDs are checked.
    batch : `DatasetBatch`
        New datasets.

    Raises
    ------
    DataIdValueError
        If a data ID has a value without dimension record.
    sqlalchemy.exc.IntegrityError
        If one is there already.
    """
    table, kind, files, n = batch.table, batch.kind, batch.files, len(batch.table)
    keys, codes = kind.tables.keys, table.run_codes.tolist()
    run_ids = [batch.runs[code].id for code in codes]
    columns = [[table.data_ids.value(k, i) for i in range(n)] for k in keys]

    # Each question has one value for an answer, or none.
    questions: list[str] = []
    values: list[Any] = []
    for sql, places in records.existence_questions(session, kind.definition.dimensions):
        for key in set(zip(*(columns[place] for place in places), strict=True)):
            questions.append(sql)
            values += key
    n_keys = len(questions)
    file_kinds = [] if files is None else kinds_of_files(files)
    different_kinds = set(file_kinds)
    for file_kind in different_kinds:
        questions.append(_KIND)
        values += file_kind
    types = {(kind.id, run_id) for run_id in run_ids}
    for type_ in types:
        questions.append(_TYPE)
        values += type_
    governors: set[GovernorSummary] = set()
    for name in kind.definition.dimensions.governors:
        governors.update(zip(run_ids, [name] * n, map(str, columns[keys.index(name)]), strict=True))
    for governor in governors:
        questions.append(_GOVERNOR)
        values += governor
    questions.append(_WAITING)
    *answers, are_waiting = session.fetch_sql(f"SELECT ({'), ('.join(questions)})", values)[0]
    if None in answers[:n_keys]:
        records.check_values(session, table)
    kind_ids = dict(zip(different_kinds, answers[n_keys:], strict=False))
    if None in kind_ids.values():
        kind_ids = file_kind_ids(session, different_kinds)

    last = database.count_up(session, "dataset", n)
    row_ids, type_ids = range(last - n + 1, last + 1), [kind.id] * n
    uuids, now = list(map(np.ndarray.tobytes, table.ids)), [tai_now_ns()] * n
    insert_rows(
        session,
        schema.dataset,
        ("id", "uuid", "dataset_type_id", "run_id", "ingest_ns"),
        list(zip(row_ids, uuids, type_ids, run_ids, now, strict=True)),
    )
    insert_rows(
        session,
        kind.tables.datasets,
        ("dataset_type_id", "run_id", *keys, "dataset_id", "uuid"),
        list(zip(type_ids, run_ids, *columns, row_ids, uuids, strict=True)),
    )
    if files is not None:
        own = file_columns(files, [kind_ids[k] for k in file_kinds])
        # A dataset without file has an empty path.
        file_rows = [r for r in zip(row_ids, *own.values(), strict=True) if r[1]]
        insert_rows(session, schema.file, ("dataset_id", *own), file_rows)
        if are_waiting is not None:
            # A path that waits for deletion and was written again must not be deleted.
            p = schema.pending_deletion
            session.execute(p.delete().where(p.c.path.in_(set(own["path"]))))
    if None in answers[n_keys + len(different_kinds) :]:
        insert_summaries(session, sorted(types), sorted(governors))
