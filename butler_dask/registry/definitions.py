"""Definitions: all collections, chains and dataset types of a registry, as one read gives them.

They are few beside datasets and every call needs some, so they are kept in memory. A counter in the database
says when they changed; a session compares it in its own transaction, which is one tiny look-up, so what is
used is never older or newer than the rows it is used with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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


@dataclass(slots=True)
class DefinitionCache:
    """The definitions of a database last read by any thread, of a state that was committed."""

    last: Definitions | None = None


def read_definitions(
    fetch: Callable[[sa.Executable], Sequence[tuple[Any, ...]]], revision: int, shared: frozenset[str]
) -> Definitions:
    """Return the definitions that are in the database.

    Parameters
    ----------
    fetch : callable
        Gives the rows of a statement.
    revision : `int`
        The counter that says when they change.
    shared : `frozenset` [`str`]
        Collections that belong to a shared repository.
    """
    c, k = schema.collection.c, schema.chain.c
    collections = {
        name: CollectionRow(id_, name, CollectionType(kind), doc)
        for id_, name, kind, doc in fetch(sa.select(c.id, c.name, c.type, c.doc).order_by(c.id))
    }
    children: dict[int, list[int]] = {}
    for parent, child in fetch(sa.select(k.parent_id, k.child_id).order_by(k.parent_id, k.position)):
        children.setdefault(parent, []).append(child)
    universe = DimensionUniverse()
    g, t = schema.dimension_group.c, schema.dataset_type.c
    groups: dict[int, GroupTables] = {}
    for id_, required in fetch(sa.select(g.id, g.required)):
        groups[id_] = group_tables(id_, universe.conform(_split(required)))
    types: dict[str, DatasetTypeRow] = {}
    # Sorted here, since each database has its own order of strings.
    for name, id_, group_id, storage_class, is_calibration in sorted(
        fetch(sa.select(t.name, t.id, t.group_id, t.storage_class, t.is_calibration))
    ):
        tables = groups[group_id]
        definition = DatasetType(name, tables.dimensions, storage_class, isCalibration=bool(is_calibration))
        types[name] = DatasetTypeRow(id_, definition, tables)
    return Definitions(
        revision,
        collections,
        {p: tuple(v) for p, v in children.items()},
        types,
        {g.dimensions.required: g for g in groups.values()},
        shared,
    )


def _split(required: str) -> Sequence[str]:
    return required.split(",") if required else ()
