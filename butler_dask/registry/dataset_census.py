"""DatasetCensus: how many datasets of what, how large, and which collections know them besides their RUN.

What a removal shows before it removes: counts, never rows, so that a million datasets are four statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..vocabulary.collection import CollectionType
from . import schema
from .definitions import CollectionRow
from .session import Session

_RUNS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class DatasetCount:
    """Datasets of one type in one RUN.

    Parameters
    ----------
    run, dataset_type : `str`
        Where, and what.
    datasets : `int`
        How many.
    files : `int`
        How many of them have a file in the repository.
    size : `int`
        Their files' size; where datasets share a file, each counts a whole one [bytes].
    outside : `int`
        How many have a file that was ingested where it lay, which the repository never removes.
    """

    run: str
    dataset_type: str
    datasets: int
    files: int
    size: int
    outside: int


@dataclass(frozen=True, slots=True)
class MembershipCount:
    """Datasets of one type that a TAGGED or CALIBRATION collection holds."""

    collection: str
    type: CollectionType
    dataset_type: str
    datasets: int


@dataclass(frozen=True, slots=True)
class DatasetCensus:
    """Counts of some datasets.

    Parameters
    ----------
    counts : `tuple` [`DatasetCount`, ...]
        By RUN and dataset type, sorted.
    memberships : `tuple` [`MembershipCount`, ...]
        By TAGGED or CALIBRATION collection and dataset type, sorted.
    """

    counts: tuple[DatasetCount, ...]
    memberships: tuple[MembershipCount, ...]

    @property
    def datasets(self) -> int:
        """Number of all datasets."""
        return sum(c.datasets for c in self.counts)


def dataset_census(session: Session, ids: sa.Table) -> DatasetCensus:
    """Count datasets.

    Parameters
    ----------
    session : `Session`
        Where they are.
    ids : `sqlalchemy.Table`
        Table whose column ``id`` has the datasets' row numbers.
    """
    definitions, d, f = session.definitions, schema.dataset.c, schema.file.c
    outside = sa.or_(f.path.like("/%"), f.path.like("%://%"))
    statement = (
        sa.select(
            d.run_id,
            d.dataset_type_id,
            sa.func.count(),
            sa.func.count(f.dataset_id),
            sa.func.sum(sa.case((sa.or_(f.dataset_id.is_(None), outside, f.size < 0), 0), else_=f.size)),
            sa.func.sum(sa.case((outside, 1), else_=0)),
        )
        .select_from(ids.join(schema.dataset, d.id == ids.c.id).outerjoin(schema.file, f.dataset_id == d.id))
        .group_by(d.run_id, d.dataset_type_id)
    )
    counts, type_ids = [], set()
    for run_id, type_id, datasets, files, size, others in session.fetch(statement):
        type_ids.add(type_id)
        run = definitions.collections_by_id[run_id].name
        kind = definitions.dataset_types_by_id[type_id].definition.name
        counts.append(DatasetCount(run, kind, datasets, files - int(others), int(size), int(others)))
    memberships = []
    groups = {definitions.dataset_types_by_id[i].tables.id: i for i in type_ids}
    for type_id in groups.values():
        tables = definitions.dataset_types_by_id[type_id].tables
        for table in (tables.tags, tables.calibs):
            c = table.c
            members = (
                sa.select(c.collection_id, c.dataset_type_id, sa.func.count(c.dataset_id.distinct()))
                .where(c.dataset_id.in_(sa.select(ids.c.id)))
                .group_by(c.collection_id, c.dataset_type_id)
            )
            for collection_id, own_type, n in session.fetch(members):
                where = definitions.collections_by_id[collection_id]
                name = definitions.dataset_types_by_id[own_type].definition.name
                memberships.append(MembershipCount(where.name, where.type, name, n))
    return DatasetCensus(
        tuple(sorted(counts, key=lambda c: (c.run, c.dataset_type))),
        tuple(sorted(memberships, key=lambda m: (m.collection, m.dataset_type))),
    )


def ids_in_runs(
    session: Session,
    runs: Sequence[CollectionRow],
) -> dict[int, list[int]]:
    """Return the row numbers of all datasets of runs, by the row number of their dataset type.

    They are read from the tables clustered by type and RUN: the work grows with the runs, not with the
    repository.
    """
    s = schema.collection_summary.c
    out: dict[int, list[int]] = {}
    for some in batched([r.id for r in runs], _RUNS_AT_ONCE):
        kinds = session.fetch(sa.select(s.dataset_type_id).where(s.collection_id.in_(some)).distinct())
        for (type_id,) in kinds:
            own = session.definitions.dataset_types_by_id[type_id].tables.datasets.c
            statement = sa.select(own.dataset_id).where(own.dataset_type_id == type_id, own.run_id.in_(some))
            found = [i for (i,) in session.fetch(statement)]
            if found:
                out.setdefault(type_id, []).extend(found)
    return out


def batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Return a sequence in parts of at most ``size``: databases take only so many parameters."""
    return (values[i : i + size] for i in range(0, len(values), size))
