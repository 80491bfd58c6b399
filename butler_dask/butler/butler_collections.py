"""ButlerCollections: what ``butler.collections`` offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..registry.registry import Registry
from ..vocabulary.chain_change import ChainChange
from ..vocabulary.collection import CollectionInfo, CollectionType, NamesExpression, split_names
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.search_defaults import SearchDefaults


class ButlerCollections(Sequence[str]):
    """Collections of a repository; as a sequence, the names the butler searches by default.

    Parameters
    ----------
    registry : `Registry`
        Where they are.
    defaults : `SearchDefaults`
        The butler's defaults.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults) -> None:
        self._registry, self._defaults = registry, defaults

    @property
    def defaults(self) -> tuple[str, ...]:
        """Names the butler searches by default."""
        return self._defaults.collections

    def __getitem__(self, index: Any) -> Any:
        return self.defaults[index]

    def __len__(self) -> int:
        return len(self.defaults)

    def __iter__(self) -> Iterator[str]:
        return iter(self.defaults)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ButlerCollections):
            other = other.defaults
        return isinstance(other, (list, tuple)) and self.defaults == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # equality without hash, as Python spells it

    def query(
        self,
        expression: NamesExpression = "*",
        collection_types: CollectionType | Iterable[CollectionType] | None = None,
        flatten_chains: bool = False,
        include_chains: bool | None = None,
    ) -> list[str]:
        """Return the names of collections; arguments are those of `query_info`."""
        infos = self.query_info(expression, collection_types, flatten_chains, include_chains)
        return [info.name for info in infos]

    def query_info(
        self,
        expression: NamesExpression = "*",
        collection_types: CollectionType | Iterable[CollectionType] | None = None,
        flatten_chains: bool = False,
        include_chains: bool | None = None,
        include_parents: bool = False,
        include_summary: bool = False,
        include_doc: bool = True,
        summary_datasets: Iterable[DatasetType] | Iterable[str] | None = None,
    ) -> list[CollectionInfo]:
        """Return what is known of collections.

        Parameters
        ----------
        expression : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs and regular expressions of whole names; ``*`` also matches ``/``.
        collection_types : `CollectionType` or iterable of it, optional
            Only these types.
        flatten_chains : `bool`
            Replace chains by their members, in search order.
        include_chains : `bool`, optional
            Whether chains are in the result; by default unless they are flattened.
        include_parents, include_summary : `bool`
            Whether to fill in ``parents`` and ``dataset_types``.
        include_doc : `bool`
            Whether to fill in ``doc``.
        summary_datasets : iterable of `DatasetType` or `str`, optional
            The only dataset types to look for.

        Raises
        ------
        MissingCollectionError
            If a plain name names no collection; the nearest match is named.
        """
        infos = self._registry.collections.query(
            expression,
            types=None if collection_types is None else CollectionType.set_of(collection_types),
            flatten_chains=flatten_chains,
            include_chains=include_chains,
            include_parents=include_parents,
            include_summary=include_summary,
        )
        if summary_datasets is not None:
            wanted = {t if isinstance(t, str) else t.name for t in summary_datasets}
            infos = [
                i if i.dataset_types is None else replace(i, dataset_types=i.dataset_types & wanted)
                for i in infos
            ]
        return infos if include_doc else [replace(i, doc="") for i in infos]

    def get_info(
        self, name: str, include_parents: bool = False, include_summary: bool = False
    ) -> CollectionInfo:
        """Return what is known of one collection.

        Raises
        ------
        MissingCollectionError
            If there is none; the nearest match is named.
        """
        return self._registry.collections.get(
            name, include_parents=include_parents, include_summary=include_summary
        )

    def register(self, name: str, type: CollectionType = CollectionType.RUN, doc: str | None = None) -> bool:
        """Make a collection unless it exists; return whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If it exists with another type.
        """
        return self._registry.collections.register(name, type, doc or "")

    def redefine_chain(
        self, parent_collection_name: str, child_collection_names: str | Iterable[str]
    ) -> None:
        """Replace the members of a chain.

        Raises
        ------
        CollectionCycleError
            If it would contain itself.
        CollectionTypeError
            If it is no chain.
        """
        self._registry.collections.set_chain(parent_collection_name, split_names(child_collection_names))

    def extend_chain(self, parent_collection_name: str, child_collection_names: str | Iterable[str]) -> None:
        """Put collections at the end of a chain; those in it already move there."""
        self._registry.collections.extend_chain(parent_collection_name, split_names(child_collection_names))

    def prepend_chain(self, parent_collection_name: str, child_collection_names: str | Iterable[str]) -> None:
        """Put collections at the front of a chain; those in it already move there."""
        self._registry.collections.prepend_chain(parent_collection_name, split_names(child_collection_names))

    def remove_from_chain(
        self, parent_collection_name: str, child_collection_names: str | Iterable[str]
    ) -> None:
        """Take collections out of a chain."""
        self._registry.collections.remove_from_chain(
            parent_collection_name, split_names(child_collection_names)
        )

    def chain_history(self, name: str) -> list[ChainChange]:
        """Return every change of a chain, oldest first: when, who, by which command, what it held.

        Raises
        ------
        MissingCollectionError
            If there never was such a chain.
        """
        return self._registry.collections.chain_history(name)

    def undo(self, name: str, steps: int = 1) -> tuple[str, ...]:
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
        return self._registry.collections.undo_chain(name, steps)

    def x_remove(self, name: str) -> None:
        """Remove a collection; a RUN goes with its datasets, which may not have files.

        Raises
        ------
        MissingCollectionError
            If there is none of that name.
        OrphanedRecordError
            If it is in a chain, or a RUN with stored files; ``butler.removeRuns`` removes it with them.
        """
        self._registry.removal.remove(name)

    def __repr__(self) -> str:
        return f"ButlerCollections(defaults={self.defaults!r})"
