"""DatasetBatch: datasets of one type to be inserted, with the rows they will refer to."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CollectionTypeError, ConflictingDefinitionError, DatasetTypeError
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileTable
from . import schema
from .bulk_rows import insert_rows
from .definitions import CollectionRow, DatasetTypeRow
from .session import Session

FileKind = tuple[str, str]
"""Formatter and storage class."""


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
        if dataset_type.dimensions is not kind.definition.dimensions and (
            dataset_type.dimensions != kind.definition.dimensions
        ):
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
    paths = list(files.paths)
    shared = [False] * len(paths)
    if len(set(paths)) < len(paths):
        seen: dict[str, int] = {}
        for path in paths:
            seen[path] = seen.get(path, 0) + 1
        shared = [seen[p] > 1 for p in paths]
    return {
        "path": paths,
        "kind_id": kind_ids,
        "size": files.sizes.tolist(),
        "checksum": list(files.checksums),
        "shared": shared,
    }


def files_wait(session: Session) -> bool:
    """Return whether any file waits for its deletion."""
    return bool(session.fetch_sql("SELECT 1 FROM pending_deletion LIMIT 1"))
