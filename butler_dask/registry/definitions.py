"""Definitions: all collections, chains and dataset types of a registry, as one read gives them.

They are few beside datasets and every call needs some, so they are kept in memory. A counter in the database
says when they changed; comparing it costs one tiny look-up in the caller's own transaction, so what is used
is never older or newer than the rows it is used with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import sqlalchemy as sa

from ..errors import (
    MissingCollectionError,
    MissingDatasetTypeError,
    ReadOnlyRepositoryError,
    did_you_mean,
)
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType, split_component
from ..vocabulary.dimensions import DimensionUniverse
from . import schema
from .database import Database
from .schema import GroupTables, group_tables

SHARED_COLLECTIONS = "overlay_collections"
"""Name of the note in the registry that lists, as JSON, what belongs to the shared repository below it."""


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection and its row number."""

    id: int
    name: str
    type: CollectionType
    doc: str


@dataclass(frozen=True, slots=True)
class DatasetTypeRow:
    """A dataset type, its row number and the tables of its datasets."""

    id: int
    definition: DatasetType
    tables: GroupTables


@dataclass(frozen=True)
class Definitions:
    """Collections in creation order, those of a shared repository, chains, dataset types."""

    revision: int
    collections: Mapping[str, CollectionRow]
    children: Mapping[int, tuple[int, ...]]
    dataset_types: Mapping[str, DatasetTypeRow]
    groups: Mapping[tuple[str, ...], GroupTables]
    shared: frozenset[str] = frozenset()
    _leaves: dict[tuple[str, ...], tuple[CollectionRow, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def collections_by_id(self) -> Mapping[int, CollectionRow]:
        """Collections by row number."""
        return {c.id: c for c in self.collections.values()}

    @cached_property
    def dataset_types_by_id(self) -> Mapping[int, DatasetTypeRow]:
        """Dataset types by row number."""
        return {t.id: t for t in self.dataset_types.values()}

    @cached_property
    def parents(self) -> Mapping[int, tuple[int, ...]]:
        """Chains each collection is in."""
        found: dict[int, list[int]] = {}
        for parent, children in self.children.items():
            for child in children:
                found.setdefault(child, []).append(parent)
        return {k: tuple(v) for k, v in found.items()}

    def collection(self, name: str) -> CollectionRow:
        """Return a collection.

        Raises
        ------
        MissingCollectionError
            If there is none; the nearest match is named.
        """
        try:
            return self.collections[name]
        except KeyError:
            pass
        raise MissingCollectionError(f"No collection {name!r}.{did_you_mean(name, self.collections)}")

    def own_collection(self, name: str, deed: str) -> CollectionRow:
        """Return a collection that is about to be changed.

        Parameters
        ----------
        name : `str`
            Its name.
        deed : `str`
            What is about to be done, as in "Cannot ... 'collection'".

        Raises
        ------
        MissingCollectionError
            If there is none; the nearest match is named.
        ReadOnlyRepositoryError
            If it belongs to the shared repository below an overlay.
        """
        if name in self.shared:
            raise ReadOnlyRepositoryError(
                f"Cannot {deed} {name!r}: it belongs to the shared repository, which is never changed from "
                "here. Use collections of your own (a chain may hold both)."
            )
        return self.collection(name)

    def children_of(self, row: CollectionRow) -> tuple[CollectionRow, ...]:
        """Return the members of a chain, in search order."""
        return tuple(self.collections_by_id[c] for c in self.children.get(row.id, ()))

    def dataset_type(self, name: str) -> DatasetTypeRow:
        """Return a dataset type; for a component its parent's row.

        Raises
        ------
        MissingDatasetTypeError
            If there is none; the nearest match is named.
        """
        parent, _ = split_component(name)
        try:
            return self.dataset_types[parent]
        except KeyError:
            pass
        raise MissingDatasetTypeError(
            f"No dataset type {parent!r} is registered.{did_you_mean(parent, self.dataset_types)}"
        )

    def leaves(self, names: Iterable[str]) -> tuple[CollectionRow, ...]:
        """Return the collections to search, in order: chains replaced by their members, each once."""
        key = tuple(names)
        found = self._leaves.get(key)
        if found is None:
            seen: dict[int, CollectionRow] = {}
            visited: set[int] = set()

            def visit(row: CollectionRow) -> None:
                if row.id in visited:
                    return
                visited.add(row.id)
                if row.type is CollectionType.CHAINED:
                    for child in self.children_of(row):
                        visit(child)
                else:
                    seen[row.id] = row

            for name in key:
                visit(self.collection(name))
            found = self._leaves[key] = tuple(seen.values())
        return found


class DefinitionCache:
    """The definitions, read again whenever the database says they changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._current: Definitions | None = None
        self.adopting = False
        """Whether what belongs to the shared repository may be changed: its changes are being taken over."""

    def current(self, connection: sa.Connection) -> Definitions:
        """Return the definitions as this connection's transaction sees them."""
        rows = self._database.fetch_sql(connection, "SELECT value FROM counter WHERE name = 'definitions'")
        revision = int(rows[0][0])
        current = self._current
        if current is None or current.revision != revision:
            current = self._current = self._read(connection, revision)
        return current

    def locked(self, connection: sa.Connection) -> Definitions:
        """Return the definitions, which nobody else changes until this transaction ends."""
        if not self._database.is_sqlite:
            self._database.fetch_sql(
                connection, "SELECT value FROM counter WHERE name = 'definitions' FOR UPDATE"
            )
        return self.current(connection)

    def changed(self, connection: sa.Connection) -> None:
        """Record that definitions were changed in this transaction."""
        connection.execute(
            sa.update(schema.counter)
            .where(schema.counter.c.name == "definitions")
            .values(value=schema.counter.c.value + 1)
        )
        self._current = None

    def forget(self) -> None:
        """Read again next time: after a rollback the counter may be reused for another state."""
        self._current = None

    def _read(self, connection: sa.Connection, revision: int) -> Definitions:
        fetch = self._database.fetch
        c, k = schema.collection.c, schema.chain.c
        collections = {
            name: CollectionRow(id_, name, CollectionType(kind), doc)
            for id_, name, kind, doc in fetch(
                connection, sa.select(c.id, c.name, c.type, c.doc).order_by(c.id)
            )
        }
        children: dict[int, list[int]] = {}
        for parent, child in fetch(
            connection, sa.select(k.parent_id, k.child_id).order_by(k.parent_id, k.position)
        ):
            children.setdefault(parent, []).append(child)
        universe = DimensionUniverse()
        g, t = schema.dimension_group.c, schema.dataset_type.c
        groups: dict[int, GroupTables] = {}
        for id_, required in fetch(connection, sa.select(g.id, g.required)):
            groups[id_] = group_tables(id_, universe.conform(_split(required)))
        types: dict[str, DatasetTypeRow] = {}
        # Sorted here, since each database has its own order of strings.
        for name, id_, group_id, storage_class, is_calibration in sorted(
            fetch(connection, sa.select(t.name, t.id, t.group_id, t.storage_class, t.is_calibration))
        ):
            tables = groups[group_id]
            definition = DatasetType(
                name, tables.dimensions, storage_class, isCalibration=bool(is_calibration)
            )
            types[name] = DatasetTypeRow(id_, definition, tables)
        return Definitions(
            revision,
            collections,
            {p: tuple(v) for p, v in children.items()},
            types,
            {g.dimensions.required: g for g in groups.values()},
            frozenset() if self.adopting else self._shared(connection),
        )

    def _shared(self, connection: sa.Connection) -> frozenset[str]:
        rows = self._database.fetch_sql(
            connection, "SELECT value FROM repository WHERE name = ?", (SHARED_COLLECTIONS,)
        )
        return frozenset(json.loads(rows[0][0])) if rows else frozenset()


def _split(required: str) -> Sequence[str]:
    return required.split(",") if required else ()
