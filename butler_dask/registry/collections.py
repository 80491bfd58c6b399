"""Collections: create, list, chain and remove collections."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

import sqlalchemy as sa

from ..errors import (
    CollectionCycleError,
    CollectionError,
    CollectionTypeError,
    ConflictingDefinitionError,
    MissingCollectionError,
    OrphanedRecordError,
)
from ..vocabulary.chain_change import ChainChange
from ..vocabulary.collection import (
    CollectionInfo,
    CollectionType,
    NamesExpression,
    check_collection_name,
    split_patterns,
)
from . import schema
from .bulk_rows import insert_rows
from .chain_history import ChainHistory
from .database import Database, repeated
from .definitions import CollectionRow, Definitions
from .session import Session


class Collections:
    """Collections of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._history = ChainHistory()

    @repeated
    def register(self, name: str, type: CollectionType = CollectionType.RUN, doc: str = "") -> bool:
        """Make a collection unless it exists.

        Returns
        -------
        made : `bool`
            Whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If it exists with another type.
        InvalidQueryError
            If no collection may be called so; see `check_collection_name`.
        """
        with self._database.read() as session:
            if self._registered(session.definitions, name, type):
                return False
        check_collection_name(name)  # a new one; what is there may have an older rule's name
        with self._database.write() as session:
            # Looked at again: another process may have made it in between.
            if self._registered(session.locked_definitions(), name, type):
                return False
            session.execute(schema.collection.insert().values(name=name, type=int(type), doc=doc))
            if type is CollectionType.CHAINED:
                self._history.record(session, name, "register", (), ())
            session.definitions_changed()
        return True

    @staticmethod
    def _registered(definitions: Definitions, name: str, type_: CollectionType) -> bool:
        row = definitions.collections.get(name)
        if row is None:
            return False
        if row.type is not type_:
            raise ConflictingDefinitionError(
                f"Collection {name!r} exists as {row.type.name}; it cannot be registered as {type_.name}."
            )
        return True

    def get(
        self, name: str, *, include_parents: bool = False, include_summary: bool = False
    ) -> CollectionInfo:
        """Return what is known of one collection.

        Raises
        ------
        MissingCollectionError
            If there is none; the nearest match is named.
        """
        with self._database.read() as session:
            row = session.definitions.collection(name)
            return self._infos(session, [row], include_parents, include_summary)[0]

    def query(
        self,
        expressions: NamesExpression = "*",
        *,
        types: Collection[CollectionType] | None = None,
        flatten_chains: bool = False,
        include_chains: bool | None = None,
        include_parents: bool = False,
        include_summary: bool = False,
    ) -> list[CollectionInfo]:
        """Return collections.

        Parameters
        ----------
        expressions : `str`, `re.Pattern`, ``...`` or iterable of them
            Names and globs, comma-separated or as a list; regular expressions; ``...`` for all.
        types : collection of `CollectionType`, optional
            Only these types.
        flatten_chains : `bool`
            Replace chains by their members, in search order.
        include_chains : `bool`, optional
            Whether chains are in the result; by default unless they are flattened.
        include_parents, include_summary : `bool`
            Whether to fill in ``parents``, ``dataset_types``.

        Returns
        -------
        collections : `list` [`CollectionInfo`]
            In creation order for a glob, else in the order given; each once.

        Raises
        ------
        MissingCollectionError
            If a plain name names no collection.
        """
        if include_chains is None:
            include_chains = not flatten_chains
        with self._database.read() as session:
            definitions = session.definitions
            found: dict[int, CollectionRow] = {}
            for expression in split_patterns(expressions):
                if isinstance(expression, re.Pattern):
                    matches = [c for c in definitions.collections.values() if expression.fullmatch(c.name)]
                else:
                    matches = [definitions.collection(expression)]
                for row in matches:
                    self._add(definitions, row, flatten_chains, found)
            rows = [
                r
                for r in found.values()
                if (types is None or r.type in types)
                and (include_chains or r.type is not CollectionType.CHAINED)
            ]
            return self._infos(session, rows, include_parents, include_summary)

    def _add(
        self, definitions: Definitions, row: CollectionRow, flatten: bool, found: dict[int, CollectionRow]
    ) -> None:
        if row.id in found:
            return
        found[row.id] = row
        if flatten:
            for child in definitions.children_of(row):
                self._add(definitions, child, flatten, found)

    def _infos(
        self,
        session: Session,
        rows: Sequence[CollectionRow],
        parents: bool,
        summary: bool,
    ) -> list[CollectionInfo]:
        types = self._summaries(session, rows) if summary else {}
        definitions = session.definitions
        by_id = definitions.collections_by_id
        return [
            CollectionInfo(
                row.name,
                row.type,
                row.doc,
                tuple(c.name for c in definitions.children_of(row)),
                frozenset(by_id[p].name for p in definitions.parents.get(row.id, ())) if parents else None,
                frozenset(types[row.id]) if summary else None,
            )
            for row in rows
        ]

    def _summaries(self, session: Session, rows: Sequence[CollectionRow]) -> dict[int, set[str]]:
        definitions, s = session.definitions, schema.collection_summary.c
        own: dict[int, set[str]] = {}
        for collection_id, type_id in session.fetch(sa.select(s.collection_id, s.dataset_type_id)):
            known = definitions.dataset_types_by_id.get(type_id)
            if known is not None:
                own.setdefault(collection_id, set()).add(known.definition.name)
        return {
            row.id: set().union(*(own.get(leaf.id, set()) for leaf in definitions.leaves((row.name,))))
            for row in rows
        }

    def flatten(self, names: str | Iterable[str]) -> list[CollectionInfo]:
        """Return the collections a search over names looks in: no chains, in order, each once."""
        with self._database.read() as session:
            rows = session.definitions.leaves((names,) if isinstance(names, str) else tuple(names))
            return self._infos(session, rows, False, False)

    def governor_values(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return which instruments and skymaps the datasets in collections have, by dimension name."""
        g = schema.collection_governor.c
        with self._database.read() as session:
            leaves = {row.id for row in session.definitions.leaves(tuple(names))}
            found: dict[str, set[str]] = {}
            for collection_id, dimension, value in session.fetch(
                sa.select(g.collection_id, g.dimension, g.value)
            ):
                if collection_id in leaves:
                    found.setdefault(dimension, set()).add(value)
        return {k: frozenset(v) for k, v in found.items()}

    @repeated
    def set_chain(self, parent: str, children: Sequence[str], *, mode: str = "redefine") -> None:
        """Define the members of a CHAINED collection, in search order; repeated names count once.

        Parameters
        ----------
        parent : `str`
            The CHAINED collection.
        children : sequence of `str`
            Its members to be.
        mode : `str`
            What the history calls the change; one that changes nothing is not recorded.

        Raises
        ------
        CollectionCycleError
            If it would contain itself.
        CollectionTypeError
            If the parent is not CHAINED.
        """
        with self._database.write() as session:
            definitions = session.locked_definitions()
            row = self._own_chain(definitions, parent)
            members = [definitions.collection(name) for name in dict.fromkeys(children)]
            before, after = [c.name for c in definitions.children_of(row)], [m.name for m in members]
            if before == after:
                return
            self._check_cycle(definitions, row, members)
            session.execute(schema.chain.delete().where(schema.chain.c.parent_id == row.id))
            insert_rows(
                session,
                schema.chain,
                ("parent_id", "position", "child_id"),
                [(row.id, i, m.id) for i, m in enumerate(members)],
            )
            self._history.record(session, parent, mode, before, after)
            session.definitions_changed()

    def extend_chain(self, parent: str, children: Sequence[str]) -> None:
        """Put collections at the end of a chain, those in it already moved there."""
        self.edit_chain(parent, lambda old: [*_without(old, children), *children], mode="extend")

    def prepend_chain(self, parent: str, children: Sequence[str]) -> None:
        """Put collections at the front of a chain, those in it already moved there."""
        self.edit_chain(parent, lambda old: [*children, *_without(old, children)], mode="prepend")

    @repeated
    def remove_from_chain(self, parent: str, children: Sequence[str]) -> None:
        """Take collections out of a chain."""
        with self._database.write() as session:
            definitions = session.locked_definitions()
            self._own_chain(definitions, parent)
            for name in children:
                definitions.collection(name)
            self.edit_chain(parent, lambda old: _without(old, children), mode="remove")

    @repeated
    def edit_chain(
        self,
        parent: str,
        edit: Callable[[tuple[str, ...]], Sequence[str]],
        *,
        mode: str = "redefine",
    ) -> None:
        """Define a chain from what it holds at that moment, which nobody else changes in between.

        Parameters
        ----------
        parent : `str`
            The CHAINED collection.
        edit : callable
            Takes the members and returns those to be, in search order. May be called again if the database
            asks to begin anew; what it raises leaves the chain as it was.

        Raises
        ------
        MissingCollectionError, CollectionTypeError, CollectionCycleError
            As `set_chain`.
        """
        with self._database.write() as session:
            definitions = session.locked_definitions()
            present = definitions.children_of(self._own_chain(definitions, parent))
            self.set_chain(parent, edit(tuple(c.name for c in present)), mode=mode)

    def chain_history(self, name: str) -> list[ChainChange]:
        """Return every change of a chain, oldest first; also of one that was removed.

        Raises
        ------
        MissingCollectionError
            If there never was such a chain.
        CollectionTypeError
            If it is no chain.
        """
        with self._database.read() as session:
            changes = self._history.query(session, name)
            if not changes:
                _required_chain(session.definitions.collection(name))
            return changes

    @repeated
    def undo_chain(self, name: str, steps: int = 1) -> tuple[str, ...]:
        """Give a chain the members it had before its last changes, and return them.

        Parameters
        ----------
        name : `str`
            Chain.
        steps : `int`
            How many changes to take back. An undo is a change as well: undoing it brings back what it undid.

        Raises
        ------
        MissingCollectionError
            If a member it had does not exist any more; nothing is changed then.
        CollectionError
            If it has not changed so often.
        """
        if steps < 1:
            raise CollectionError(f"{steps} changes cannot be undone; 1 is the last one.")
        with self._database.write() as session:
            definitions = session.locked_definitions()
            self._own_chain(definitions, name)
            changes = self._history.query(session, name)
            if steps > len(changes):
                raise CollectionError(
                    f"Chain {name!r} has {len(changes)} recorded changes; {steps} cannot be undone."
                )
            members = changes[-steps].before
            gone = [repr(m) for m in members if m not in definitions.collections]
            if gone:
                when = "its last change" if steps == 1 else f"its last {steps} changes"
                raise MissingCollectionError(
                    f"Before {when} chain {name!r} held {', '.join(gone)}, which no longer "
                    f"{'exists' if len(gone) == 1 else 'exist'}. Nothing was changed."
                )
            self.set_chain(name, members, mode="undo")
        return members

    @staticmethod
    def _own_chain(definitions: Definitions, name: str) -> CollectionRow:
        return _required_chain(definitions.own_collection(name, "redefine"))

    @staticmethod
    def _check_cycle(
        definitions: Definitions, parent: CollectionRow, members: Sequence[CollectionRow]
    ) -> None:
        def path_to_parent(row: CollectionRow, trail: tuple[str, ...]) -> tuple[str, ...] | None:
            if row.id == parent.id:
                return (*trail, row.name)
            for child in definitions.children_of(row):
                found = path_to_parent(child, (*trail, row.name))
                if found is not None:
                    return found
            return None

        for member in members:
            path = path_to_parent(member, (parent.name,))
            if path is not None:
                raise CollectionCycleError(
                    f"Chain {parent.name!r} would contain itself: {' -> '.join(path)}. Nothing was changed."
                )

    def set_doc(self, name: str, doc: str) -> None:
        """Replace the documentation of a collection."""
        with self._database.write() as session:
            row = session.locked_definitions().collection(name)
            c = schema.collection
            session.execute(c.update().where(c.c.id == row.id).values(doc=doc))
            session.definitions_changed()

    def remove_rows(self, session: Session, rows: Iterable[CollectionRow]) -> None:
        """Take collections off the list, and their own members if they are chains.

        Raises
        ------
        OrphanedRecordError
            If one is a member of a chain.
        """
        definitions = session.definitions
        for row in rows:
            parents = [definitions.collections_by_id[p].name for p in definitions.parents.get(row.id, ())]
            if parents:
                raise OrphanedRecordError(
                    f"Collection {row.name!r} is a member of {', '.join(map(repr, parents))}; "
                    "take it out of these chains first."
                )
            if row.type is CollectionType.CHAINED:
                session.execute(schema.chain.delete().where(schema.chain.c.parent_id == row.id))
                before = [c.name for c in definitions.children_of(row)]
                self._history.record(session, row.name, "delete", before, ())
            for table in (schema.collection_summary, schema.collection_governor):
                session.execute(table.delete().where(table.c.collection_id == row.id))
            session.execute(schema.collection.delete().where(schema.collection.c.id == row.id))
        session.definitions_changed()


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    return [name for name in names if name not in others]


def _required_chain(row: CollectionRow) -> CollectionRow:
    if row.type is not CollectionType.CHAINED:
        raise CollectionTypeError(f"Collection {row.name!r} is {row.type.name}, not CHAINED")
    return row
