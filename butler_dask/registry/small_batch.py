"""Small batches: few new datasets, asked about in one statement and inserted row by row.

The way of ``Butler.put``: making a temporary table, or asking for each thing by itself, would cost more than
all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..vocabulary.timespan import tai_now_ns
from . import schema
from .bulk_rows import insert_rows
from .collection_summaries import GovernorSummary, insert_summaries
from .database import Database
from .dataset_batch import DatasetBatch, file_columns, file_kind_ids, kinds_of_files
from .dimension_records import DimensionRecords
from .session import Session

_KIND = "SELECT id FROM file_kind WHERE formatter = ? AND storage_class = ?"
_WAITING = "SELECT 1 FROM pending_deletion LIMIT 1"
_TYPE = "SELECT 1 FROM collection_summary WHERE dataset_type_id = ? AND collection_id = ?"
_GOVERNOR = "SELECT 1 FROM collection_governor WHERE collection_id = ? AND dimension = ? AND value = ?"


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
