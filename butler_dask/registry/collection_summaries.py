"""Summaries of collections: which dataset types each holds, and of which instruments and skymaps.

Searches leave out collections by them, so what a collection holds is always in its summary; what it once held
may still be there for an instrument or skymap, but not for a dataset type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable
from . import schema
from .bulk_rows import insert_rows
from .definitions import CollectionRow, DatasetTypeRow
from .session import Session

TypeSummary = tuple[int, int]
"""Row numbers of dataset type and collection."""
GovernorSummary = tuple[int, str, str]
"""Row number of a collection, name of an instrument or skymap dimension, value."""


def summarize(
    session: Session,
    kind: DatasetTypeRow,
    data_ids: DataIdTable,
    collections: Sequence[CollectionRow],
    codes: NDArray[np.integer[Any]] | None = None,
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
    collections : sequence of `CollectionRow`
        The collections.
    codes : `numpy.ndarray`, shape (n,), int [1], optional
        Index into ``collections`` of each row; if not given, all are in the first.
    """
    used = [0] if codes is None or len(collections) == 1 else np.unique(codes).tolist()
    governors: list[GovernorSummary] = []
    for code in used:
        for name in kind.definition.dimensions.governors:
            column = data_ids.columns[name]
            if codes is not None:
                column = column[codes == code]
            values = [data_ids.categories[name][v] for v in np.unique(column).tolist()]
            governors += [(collections[code].id, name, value) for value in values]
    insert_summaries(session, [(kind.id, collections[code].id) for code in used], governors)


def insert_summaries(
    session: Session, types: Sequence[TypeSummary], governors: Sequence[GovernorSummary]
) -> None:
    """Insert summaries that may be there already."""
    columns: tuple[str, ...] = ("dataset_type_id", "collection_id")
    insert_rows(session, schema.collection_summary, columns, types, on_conflict="ignore")
    columns = ("collection_id", "dimension", "value")
    insert_rows(session, schema.collection_governor, columns, governors, on_conflict="ignore")


def renew_summaries(
    session: Session, kind: DatasetTypeRow, table: sa.Table, collections: Iterable[CollectionRow]
) -> None:
    """Take a dataset type out of the summaries of collections that hold none of it any more.

    Parameters
    ----------
    session : `Session`
        From `Database.write`.
    kind : `DatasetTypeRow`
        Dataset type.
    table : `sqlalchemy.Table`
        Its datasets in collections of this type: one of `GroupTables`.
    collections : iterable of `CollectionRow`
        The collections, which others cannot change meanwhile.
    """
    s = schema.collection_summary
    place = table.c.run_id if table is kind.tables.datasets else table.c.collection_id
    for row in collections:
        held = (
            sa.select(table.c.dataset_id).where(table.c.dataset_type_id == kind.id, place == row.id).limit(1)
        )
        if not session.fetch(held):
            session.execute(s.delete().where(s.c.dataset_type_id == kind.id, s.c.collection_id == row.id))
