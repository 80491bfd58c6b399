"""Associations: memberships of TAGGED collections and validity ranges of CALIBRATION collections."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..errors import CollectionTypeError, ConflictingDefinitionError, DatasetNotFoundError, DatasetTypeError
from ..vocabulary.collection import CollectionType, NamesExpression
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetAssociation, DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.timespan import Timespan
from . import schema
from .bulk_rows import insert_rows, temporary_rows
from .candidates import Candidates
from .collection_summaries import renew_summaries, summarize
from .collections import Collections
from .database import Database, repeated
from .dataset_search import search_statements
from .datasets import Datasets
from .definitions import CollectionRow, DatasetTypeRow, Definitions
from .session import Session


class Associations:
    """Tags and certifications of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    collections : `Collections`
        Collections.
    datasets : `Datasets`
        Datasets.
    """

    def __init__(
        self,
        database: Database,
        collections: Collections,
        datasets: Datasets,
    ) -> None:
        self._database = database
        self._collections, self._datasets = collections, datasets

    @repeated
    def associate(self, collection: str, table: DatasetTable) -> None:
        """Put datasets into a TAGGED collection; those in it already stay.

        Raises
        ------
        ConflictingDefinitionError
            If it holds another dataset of the type for a data ID; nothing is changed then.
        """
        if not len(table):
            return
        with self._database.write() as session:
            definitions = session.definitions
            row = _collection_of_type(definitions, collection, CollectionType.TAGGED)
            session.lock_collections([row], exclusive=True)
            kind = definitions.dataset_type(table.dataset_type.name)
            ids = self._present(session, table)
            keys, tags = kind.tables.keys, kind.tables.tags
            values = [table.data_ids.values(k).tolist() for k in keys]
            n = len(ids)
            rows = list(zip([kind.id] * n, [row.id] * n, *values, ids.tolist(), strict=True))
            insert_rows(
                session,
                tags,
                ("dataset_type_id", "collection_id", *keys, "dataset_id"),
                rows,
                on_conflict="ignore",
            )
            self._check_tagged(session, kind, row, table, ids)
            summarize(session, kind, table.data_ids, [row])

    def _check_tagged(
        self,
        session: Session,
        kind: DatasetTypeRow,
        row: CollectionRow,
        table: DatasetTable,
        ids: NDArray[np.int64],
    ) -> None:
        tags = kind.tables.tags.c
        with temporary_rows(session, {"id": schema.Key}, [(i,) for i in np.unique(ids).tolist()]) as t:
            statement = sa.select(tags.dataset_id).where(
                tags.dataset_id == t.c.id,
                tags.collection_id == row.id,
                tags.dataset_type_id == kind.id,
            )
            inside = {r[0] for r in session.fetch(statement)}
        for i, id_ in enumerate(ids.tolist()):
            if id_ not in inside:
                raise ConflictingDefinitionError(
                    f"TAGGED collection {row.name!r} has another dataset {kind.definition.name!r} for "
                    f"{table.data_ids[i]}; disassociate that one first. Nothing was associated."
                )

    def _present(self, session: Session, table: DatasetTable) -> NDArray[np.int64]:
        ids = self._datasets.row_ids(session, table)
        if table.row_ids is not None:
            # Row numbers read earlier: the datasets may have been removed since.
            d = schema.dataset.c
            with temporary_rows(session, {"id": schema.Key}, [(i,) for i in np.unique(ids).tolist()]) as t:
                statement = sa.select(t.c.id).where(~sa.exists(sa.select(d.id).where(d.id == t.c.id)))
                gone = {r[0] for r in session.fetch(statement)}
            for i in np.flatnonzero(np.isin(ids, list(gone))).tolist():
                raise DatasetNotFoundError(f"Dataset {table.id(i)} was removed from the registry.")
        return ids

    @repeated
    def disassociate(self, collection: str, table: DatasetTable) -> None:
        """Take datasets out of a TAGGED collection; those not in it are passed over."""
        with self._database.write() as session:
            definitions = session.definitions
            row = _collection_of_type(definitions, collection, CollectionType.TAGGED)
            session.lock_collections([row], exclusive=True)
            kind = definitions.dataset_type(table.dataset_type.name)
            ids = self._datasets.row_ids(session, table)
            tags = kind.tables.tags
            with temporary_rows(session, {"id": schema.Key}, [(i,) for i in np.unique(ids).tolist()]) as t:
                session.execute(
                    tags.delete().where(
                        tags.c.collection_id == row.id,
                        tags.c.dataset_type_id == kind.id,
                        tags.c.dataset_id.in_(sa.select(t.c.id)),
                    )
                )
            renew_summaries(session, kind, tags, [row])

    @repeated
    def certify(self, collection: str, table: DatasetTable, timespan: Timespan) -> None:
        """Give datasets a validity range in a CALIBRATION collection.

        Raises
        ------
        ConflictingDefinitionError
            If a dataset of the type is certified for a data ID and an overlapping range.
        DatasetTypeError
            If the dataset type is not a calibration type.
        """
        if not len(table):
            return
        name = table.dataset_type.name
        with self._database.write() as session:
            definitions = session.definitions
            row = _collection_of_type(definitions, collection, CollectionType.CALIBRATION)
            # Two certifications at once could each pass the check of the other's ranges.
            session.lock_collections([row], exclusive=True)
            kind = definitions.dataset_type(name)
            if not kind.definition.isCalibration():
                raise DatasetTypeError(
                    f"Dataset type {name!r} is not a calibration type (isCalibration=True); its datasets "
                    "cannot be certified."
                )
            if timespan.isEmpty():
                return
            unique, inverse = table.data_ids.unique()
            if len(unique) < len(table):
                first = int(np.flatnonzero(np.bincount(inverse) > 1)[0])
                raise ConflictingDefinitionError(
                    f"Two {name!r} datasets for {unique[first]} were given for one validity range."
                )
            ids = self._present(session, table)
            calibs, keys = kind.tables.calibs, kind.tables.keys
            existing, begins, ends = self._overlapping(session, kind, row, timespan)
            match = table.data_ids.match(existing)
            if (match >= 0).any():
                i = int(np.flatnonzero(match >= 0)[0])
                there = Timespan(int(begins[match[i]]), int(ends[match[i]]))
                raise ConflictingDefinitionError(
                    f"CALIBRATION collection {collection!r} has a {name!r} for {table.data_ids[i]} valid "
                    f"{there}, which overlaps {timespan}; decertify that range first. Nothing was certified."
                )
            n = len(ids)
            values = [table.data_ids.values(k).tolist() for k in keys]
            rows = list(
                zip(
                    [kind.id] * n,
                    [row.id] * n,
                    *values,
                    [timespan.begin_ns] * n,
                    [timespan.end_ns] * n,
                    ids.tolist(),
                    strict=True,
                )
            )
            insert_rows(session, calibs, _calib_columns(keys), rows)
            summarize(session, kind, table.data_ids, [row])

    def _overlapping(
        self, session: Session, kind: DatasetTypeRow, row: CollectionRow, timespan: Timespan
    ) -> tuple[DataIdTable, NDArray[np.int64], NDArray[np.int64]]:
        c, keys = kind.tables.calibs.c, kind.tables.keys
        found = session.fetch(
            sa.select(*(c[k] for k in keys), c.begin_ns, c.end_ns).where(
                c.dataset_type_id == kind.id,
                c.collection_id == row.id,
                c.begin_ns < timespan.end_ns,
                c.end_ns > timespan.begin_ns,
            ),
        )
        columns: list[Sequence[Any]] = list(zip(*found, strict=True)) or [()] * (len(keys) + 2)
        table = DataIdTable.from_values(
            kind.definition.dimensions, dict(zip(keys, columns, strict=False)), len(found)
        )
        begins, ends = (np.array(columns[len(keys) + i], dtype=np.int64) for i in (0, 1))
        return table, begins, ends

    @repeated
    def decertify(
        self,
        collection: str,
        dataset_type: DatasetType | str,
        timespan: Timespan,
        data_ids: DataIdTable | None = None,
    ) -> None:
        """Cut a time range out of the validity ranges of a dataset type in a CALIBRATION collection.

        Parameters
        ----------
        collection : `str`
            CALIBRATION collection.
        dataset_type : `DatasetType` or `str`
            Type.
        timespan : `Timespan`
            Range in which nothing stays valid.
        data_ids : `DataIdTable`, optional
            Only these data IDs.
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        with self._database.write() as session:
            definitions = session.definitions
            row = _collection_of_type(definitions, collection, CollectionType.CALIBRATION)
            session.lock_collections([row], exclusive=True)
            kind = definitions.dataset_type(name)
            calibs, keys = kind.tables.calibs, kind.tables.keys
            c = calibs.c
            columns = [c[n] for n in _calib_columns(keys)]
            overlapping = (
                c.dataset_type_id == kind.id,
                c.collection_id == row.id,
                c.begin_ns < timespan.end_ns,
                c.end_ns > timespan.begin_ns,
            )
            rows = session.fetch(sa.select(*columns).where(*overlapping))
            if data_ids is not None:
                wanted = set(zip(*(data_ids.values(k).tolist() for k in keys), strict=True) if keys else [()])
                rows = [r for r in rows if tuple(r[2:-3]) in wanted]
            if not rows:
                return
            remaining = [
                (*r[:-3], part.begin_ns, part.end_ns, r[-1])
                for r in rows
                for part in Timespan(r[-3], r[-2]).difference(timespan)
            ]
            types = {n: c[n].type for n in (*keys, "begin_ns")}
            with temporary_rows(session, types, [(*r[2:-3], r[-3]) for r in rows]) as t:
                session.execute(
                    calibs.delete().where(
                        *overlapping,
                        sa.exists(sa.select(t.c.begin_ns).where(*(c[n] == t.c[n] for n in types))),
                    )
                )
            insert_rows(session, calibs, _calib_columns(keys), remaining)
            renew_summaries(session, kind, calibs, [row])

    def query(
        self,
        dataset_type: DatasetType | str,
        collections: NamesExpression = "*",
        *,
        types: Collection[CollectionType] | None = None,
    ) -> list[DatasetAssociation]:
        """Return which collections hold which datasets of a type, with validity ranges.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type.
        collections : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs and regular expressions; a chain stands for its members.
        types : collection of `CollectionType`, optional
            Only collections of these types.
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        kinds = frozenset(CollectionType) if types is None else frozenset(types)
        with self._database.read() as session:
            infos = self._collections.query(collections, flatten_chains=True)
            definitions = session.definitions
            kind = definitions.dataset_type(name)
            rows = [definitions.collection(i.name) for i in infos]
            leaves = [r for r in rows if r.type in kinds and r.type is not CollectionType.CHAINED]
            found = [session.fetch(s) for s in search_statements(kind, leaves)]
            chosen = Candidates.of_rows(kind, leaves, found)
        by_id = definitions.collections_by_id
        out: list[DatasetAssociation] = []
        for i in range(len(chosen)):
            ref = DatasetRef(
                kind.definition,
                chosen.data_ids[i],
                by_id[int(chosen.run_ids[i])].name,
                id=uuid.UUID(bytes=chosen.uuids[i].tobytes()),
            )
            span = Timespan(int(chosen.begin_ns[i]), int(chosen.end_ns[i])) if chosen.certified[i] else None
            out.append(DatasetAssociation(ref, leaves[int(chosen.ranks[i])].name, span))
        return out

    def remove_collection(self, session: Session, row: CollectionRow) -> None:
        """Take everything out of a TAGGED or CALIBRATION collection."""
        definitions, calibration = session.definitions, row.type is CollectionType.CALIBRATION
        for group in definitions.groups.values():
            table = group.calibs if calibration else group.tags
            type_ids = [t.id for t in definitions.dataset_types.values() if t.tables is group]
            session.execute(
                table.delete().where(table.c.collection_id == row.id, table.c.dataset_type_id.in_(type_ids))
            )


def _calib_columns(keys: Sequence[str]) -> tuple[str, ...]:
    return ("dataset_type_id", "collection_id", *keys, "begin_ns", "end_ns", "dataset_id")


def _collection_of_type(definitions: Definitions, name: str, type_: CollectionType) -> CollectionRow:
    row = definitions.own_collection(name, "change")
    if row.type is not type_:
        raise CollectionTypeError(f"Collection {name!r} is {row.type.name}; this needs a {type_.name} one.")
    return row
