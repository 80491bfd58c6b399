"""Tables of the registry, and the version of their layout.

Identity of a dataset is its UUID; inside, joins use the 64-bit ``dataset.id``. Data ID values of datasets are
kept in one table per dimension group (``dataset_<n>``), clustered by dataset type, RUN and data ID, so that
reading all datasets of one type in one RUN is one range scan and a look-up by data ID one index step.
TAGGED and CALIBRATION memberships repeat the data ID in ``tag_<n>`` and ``calib_<n>`` for the same reason.
There are no foreign keys between dataset tables: rows enter and leave by set-based statements of
`butler_dask.registry.datasets` only, and a cascade would look into every group's tables for every row.
Dimension tables do have foreign keys, so a data ID that joins is a data ID that exists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

import sqlalchemy as sa

from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse

SCHEMA_VERSION = 3
"""Layout of the tables; `butler_dask.registry.migration` brings older registries to it."""

Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64-bit integer that SQLite takes as a row number."""

_SQL_TYPES: dict[type, type[sa.types.TypeEngine[Any]]] = {
    int: sa.BigInteger,
    float: sa.Double,
    str: sa.String,
    bool: sa.Boolean,
}

metadata = sa.MetaData()

repository = sa.Table(
    "repository",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
"""Schema version, universe version, notes of an overlay, and who writes which RUN just now."""

counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""Counts.

``definitions``: changes of collections and dataset types; ``dataset``: the last row number given; ``rows T``
and ``analyzed T``: rows inserted into table T, now and when its statistics were taken.
"""

collection = sa.Table(
    "collection",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("doc", sa.String, nullable=False, default=""),
)

chain = sa.Table(
    "collection_chain",
    metadata,
    sa.Column("parent_id", Key, sa.ForeignKey("collection.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("child_id", Key, sa.ForeignKey("collection.id"), nullable=False, index=True),
)

chain_history = sa.Table(
    "chain_history",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("parent", sa.String, nullable=False, index=True),
    sa.Column("changed_ns", sa.BigInteger, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("command", sa.String, nullable=False),
    sa.Column("mode", sa.String, nullable=False),
    sa.Column("before", sa.String, nullable=False),
    sa.Column("after", sa.String, nullable=False),
)
"""Every change of a chain, by its name; members comma-separated."""

dimension_group = sa.Table(
    "dimension_group",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("required", sa.String, nullable=False, unique=True),
)

dataset_type = sa.Table(
    "dataset_type",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("group_id", Key, sa.ForeignKey("dimension_group.id"), nullable=False),
    sa.Column("storage_class", sa.String, nullable=False),
    sa.Column("is_calibration", sa.Boolean, nullable=False),
)

collection_summary = sa.Table(
    "collection_summary",
    metadata,
    sa.Column("dataset_type_id", Key, primary_key=True),
    sa.Column("collection_id", Key, primary_key=True, index=True),
)
"""Which dataset types a collection holds, so that searches leave out the others."""

collection_governor = sa.Table(
    "collection_governor",
    metadata,
    sa.Column("collection_id", Key, primary_key=True),
    sa.Column("dimension", sa.String, primary_key=True),
    sa.Column("value", sa.String, primary_key=True),
)
"""Instruments and skymaps of the datasets of a collection."""

dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("id", Key, primary_key=True, autoincrement=False),
    sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("dataset_type_id", Key, nullable=False),
    sa.Column("run_id", Key, nullable=False),
    sa.Column("ingest_ns", sa.BigInteger, nullable=False),
)

file_kind = sa.Table(
    "file_kind",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("formatter", sa.String, nullable=False),
    sa.Column("storage_class", sa.String, nullable=False),
    sa.UniqueConstraint("formatter", "storage_class"),
)

file = sa.Table(
    "file",
    metadata,
    sa.Column("dataset_id", Key, primary_key=True, autoincrement=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("kind_id", Key, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.String, nullable=False),
    sa.Index("file_path", "path"),
)
"""Several datasets may be in one file, which goes with the last of them: at removal the path is looked up."""

pending_deletion = sa.Table(
    "pending_deletion",
    metadata,
    sa.Column("path", sa.String, primary_key=True),
)
"""Files whose datasets are gone; the datastore removes them and takes them off this list."""

quantum = sa.Table(
    "quantum",
    metadata,
    sa.Column("quantum_id", sa.LargeBinary(16), primary_key=True),
    sa.Column("run_id", Key, nullable=False, index=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("data_id", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("cpu_s", sa.Double, nullable=False),
    sa.Column("peak_rss_bytes", sa.BigInteger, nullable=False),
    sa.Column("error_type", sa.String, nullable=False),
    sa.Column("error_message", sa.String, nullable=False),
    sa.Column("error_traceback", sa.String, nullable=False),
    sa.Column("n_outputs", sa.Integer, nullable=False),
)


def column_of_dimension(name: str, *, primary_key: bool = False) -> sa.Column[object]:
    """Return a column for values of a dimension."""
    key = DimensionUniverse()[name].key
    assert key is not None
    return sa.Column(name, _SQL_TYPES[key.type], nullable=False, primary_key=primary_key, autoincrement=False)


def _element_table(element: DimensionElement) -> sa.Table:
    columns = []
    key_name = None if element.key is None else element.key.name
    primary = {*element.requires} | ({key_name} if key_name else set())
    for field in element.fields:
        columns.append(
            sa.Column(
                field.name,
                _SQL_TYPES[field.type],
                primary_key=field.name in primary,
                nullable=field.name not in primary,
                autoincrement=False,
            )
        )
    if element.spatial:
        columns.append(sa.Column("region", sa.LargeBinary))
    if element.temporal:
        columns.append(sa.Column("timespan_begin", sa.BigInteger))
        columns.append(sa.Column("timespan_end", sa.BigInteger))
    constraints: list[sa.ForeignKeyConstraint] = []
    universe = element.universe
    direct = {*element.requires, *element.implies}
    for name in direct:
        parent = universe[name]
        if not parent.has_records or not {*parent.requires} <= {f.name for f in element.fields}:
            continue
        assert parent.key is not None
        # A parent that another parent requires is checked by that one's own key.
        if any(name in universe[other].requires for other in direct if other != name):
            continue
        constraints.append(
            sa.ForeignKeyConstraint(
                [*parent.requires, name],
                [f"{parent.name}.{c}" for c in (*parent.requires, parent.key.name)],
            )
        )
    table = sa.Table(element.name, metadata, *columns, *constraints)
    if element.name == "visit_definition":
        sa.Index("visit_definition_visit", table.c.instrument, table.c.visit)
    return table


def _overlap_table(element: DimensionElement) -> sa.Table:
    return sa.Table(
        f"{element.name}_htm7",
        metadata,
        *(column_of_dimension(n, primary_key=True) for n in element.required),
        sa.Column("htm7", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Index(f"{element.name}_htm7_index", "htm7"),
        sqlite_with_rowid=False,
    )


_describing = threading.RLock()
"""Held while tables are described, so that there is one description of each."""


class _ElementTables(Mapping[str, sa.Table]):
    """Tables by element name, described when they are asked for: all would take longer than a query."""

    def __init__(
        self, describe: Callable[[DimensionElement], sa.Table], *, has: Callable[[DimensionElement], bool]
    ) -> None:
        self._describe, self._has = describe, has
        self._described: dict[str, sa.Table] = {}

    def __getitem__(self, name: str) -> sa.Table:
        table = self._described.get(name)
        if table is None:
            with _describing:
                if name not in self._described:
                    self._described[name] = self._describe(DimensionUniverse()[name])
                table = self._described[name]
        return table

    def __iter__(self) -> Iterator[str]:
        return (e.name for e in DimensionUniverse().getStaticElements() if self._has(e))

    def __len__(self) -> int:
        return sum(1 for _ in self)


element_tables = _ElementTables(_element_table, has=lambda element: True)
"""Records, by element name; the primary key is the required dimensions, its own last."""

overlap_tables = _ElementTables(_overlap_table, has=lambda element: bool(element.spatial))
"""Level 7 HTM pixels that may overlap each record's region, by the name of a spatial element."""


def whole_metadata() -> sa.MetaData:
    """Return all tables but those of dimension groups."""
    for tables in (element_tables, overlap_tables):
        list(tables.values())
    return metadata


class GroupTables:
    """The tables of the datasets of one dimension group, described when they are asked for.

    Parameters
    ----------
    id : `int`
        Number of the group.
    dimensions : `DimensionGroup`
        The group.
    """

    def __init__(self, id: int, dimensions: DimensionGroup) -> None:
        self.id, self.dimensions = id, dimensions
        self.keys = dimensions.required
        """Names of the data ID columns."""

    @cached_property
    def _described(self) -> tuple[sa.Table, sa.Table, sa.Table]:
        with _describing:
            # Another thread may have described them while this one waited.
            if "_described" not in self.__dict__:
                self.__dict__["_described"] = _group_tables(self.id, self.dimensions)
            tables: tuple[sa.Table, sa.Table, sa.Table] = self.__dict__["_described"]
            return tables

    @cached_property
    def datasets(self) -> sa.Table:
        """Datasets by RUN and data ID."""
        return self._described[0]

    @cached_property
    def tags(self) -> sa.Table:
        """Datasets by TAGGED collection and data ID."""
        return self._described[1]

    @cached_property
    def calibs(self) -> sa.Table:
        """Datasets by CALIBRATION collection, data ID and begin of their validity."""
        return self._described[2]


@lru_cache(maxsize=1024)
def group_tables(group_id: int, dimensions: DimensionGroup) -> GroupTables:
    """Return the tables of one dimension group."""
    return GroupTables(group_id, dimensions)


def _group_tables(group_id: int, dimensions: DimensionGroup) -> tuple[sa.Table, sa.Table, sa.Table]:
    own = sa.MetaData()
    keys = dimensions.required

    def dims(primary: bool) -> list[sa.Column[object]]:
        return [column_of_dimension(n, primary_key=primary) for n in keys]

    datasets = sa.Table(
        f"dataset_{group_id}",
        own,
        sa.Column("dataset_type_id", Key, primary_key=True, autoincrement=False),
        sa.Column("run_id", Key, primary_key=True, autoincrement=False),
        *dims(True),
        sa.Column("dataset_id", Key, nullable=False),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False),
        sa.Index(f"dataset_{group_id}_id", "dataset_id", unique=True),
        sqlite_with_rowid=False,
    )
    tags = sa.Table(
        f"tag_{group_id}",
        own,
        sa.Column("dataset_type_id", Key, primary_key=True, autoincrement=False),
        sa.Column("collection_id", Key, primary_key=True, autoincrement=False),
        *dims(True),
        sa.Column("dataset_id", Key, nullable=False),
        sa.Index(f"tag_{group_id}_id", "dataset_id"),
        sqlite_with_rowid=False,
    )
    calibs = sa.Table(
        f"calib_{group_id}",
        own,
        sa.Column("dataset_type_id", Key, primary_key=True, autoincrement=False),
        sa.Column("collection_id", Key, primary_key=True, autoincrement=False),
        *dims(True),
        sa.Column("begin_ns", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("end_ns", sa.BigInteger, nullable=False),
        sa.Column("dataset_id", Key, nullable=False),
        sa.Index(f"calib_{group_id}_id", "dataset_id"),
        sqlite_with_rowid=False,
    )
    return datasets, tags, calibs
