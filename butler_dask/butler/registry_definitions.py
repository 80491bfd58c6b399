"""RegistryDefinitions: collections and dataset types under the reference's registry names."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CollectionTypeError
from ..vocabulary.collection import CollectionType, NamesExpression, split_names
from ..vocabulary.collection_summary import CollectionSummary, DatasetTypeSet
from ..vocabulary.dataset_type import DatasetType
from .registry_parts import RegistryParts, name_of, types_of


class RegistryDefinitions(RegistryParts):
    """Defines and lists collections and dataset types; `ButlerRegistry` inherits it."""

    # Collections

    def registerRun(self, name: str, doc: str | None = None) -> bool:
        """Make a RUN collection unless it exists; return whether it is new."""
        return self._registry.collections.register(name, CollectionType.RUN, doc or "")

    def registerCollection(
        self, name: str, type: CollectionType = CollectionType.TAGGED, doc: str | None = None
    ) -> bool:
        """Make a collection unless it exists; return whether it is new."""
        return self._registry.collections.register(name, type, doc or "")

    def getCollectionType(self, name: str) -> CollectionType:
        """Return the type of a collection."""
        return self._registry.collections.get(name).type

    def getCollectionDocumentation(self, collection: str) -> str | None:
        """Return the documentation of a collection, `None` if it has none."""
        return self._registry.collections.get(collection).doc or None

    def setCollectionDocumentation(self, collection: str, doc: str | None) -> None:
        """Replace the documentation of a collection; `None` removes it."""
        self._registry.collections.set_doc(collection, doc or "")

    def getCollectionSummary(self, collection: str) -> CollectionSummary:
        """Return the dataset types, instruments and skymaps of a collection's datasets."""
        names = self._registry.collections.get(collection, include_summary=True).dataset_types or ()
        return CollectionSummary(
            DatasetTypeSet(self._registry.dataset_types.query(names)),
            self._registry.collections.governor_values([collection]),
        )

    def getCollectionParentChains(self, collection: str) -> set[str]:
        """Return the chains a collection is in."""
        return set(self._registry.collections.get(collection, include_parents=True).parents or ())

    def getCollectionChain(self, parent: str) -> tuple[str, ...]:
        """Return the members of a chain, in search order.

        Raises
        ------
        CollectionTypeError
            If it is not CHAINED.
        """
        info = self._registry.collections.get(parent)
        if info.type is not CollectionType.CHAINED:
            raise CollectionTypeError(f"Collection {parent!r} is {info.type.name}, not CHAINED")
        return info.children

    def setCollectionChain(
        self, parent: str, children: str | Iterable[str], *, flatten: bool = False
    ) -> None:
        """Define the members of a chain; ``flatten`` replaces chains among them by their members."""
        names = split_names(children)
        if flatten:
            names = [c.name for c in self._registry.collections.flatten(names)]
        self._registry.collections.set_chain(parent, names)

    def removeCollection(self, name: str) -> None:
        """Remove a collection; see `CollectionRemoval.remove`."""
        self._registry.removal.remove(name)

    def queryCollections(
        self,
        expression: NamesExpression = ...,
        datasetType: DatasetType | str | None = None,
        collectionTypes: CollectionType | Iterable[CollectionType] | None = None,
        flattenChains: bool = False,
        includeChains: bool | None = None,
    ) -> list[str]:
        """Return the names of collections that names, globs and regular expressions match.

        Parameters
        ----------
        expression : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs, regular expressions of whole names; ``...`` for all.
        datasetType : `DatasetType` or `str`, optional
            Only collections that hold datasets of this type.
        collectionTypes : `CollectionType` or iterable of it, optional
            Only collections of these types.
        flattenChains : `bool`
            Replace chains by their members, in search order.
        includeChains : `bool`, optional
            Whether chains are in the result; by default unless they are flattened.

        Raises
        ------
        MissingCollectionError
            If a plain name names no collection; the nearest match is named.
        CollectionExpressionError
            If the expression is of another kind.
        """
        infos = self._registry.collections.query(
            expression,
            types=types_of(collectionTypes),
            flatten_chains=flattenChains,
            include_chains=includeChains,
            include_summary=datasetType is not None,
        )
        if datasetType is not None:
            wanted = name_of(datasetType)
            infos = [i for i in infos if wanted in (i.dataset_types or ())]
        return [i.name for i in infos]

    # Dataset types

    def registerDatasetType(self, datasetType: DatasetType) -> bool:
        """Register a dataset type unless it is; return whether it is new."""
        return self._registry.dataset_types.register([datasetType])[0]

    def removeDatasetType(self, name: str | Iterable[str]) -> None:
        """Remove dataset types without datasets, by name or glob; names of no type are passed over.

        Raises
        ------
        OrphanedRecordError
            If there are datasets of one; nothing is removed then.
        """
        with self._registry.transaction():
            for dataset_type in self._registry.dataset_types.query(name, []):
                self._registry.dataset_types.remove(dataset_type.name)

    def getDatasetType(self, name: str) -> DatasetType:
        """Return a dataset type."""
        return self._registry.dataset_types.get(name)

    def queryDatasetTypes(
        self,
        expression: NamesExpression | DatasetType | Iterable[DatasetType] = ...,
        *,
        missing: list[str] | None = None,
    ) -> list[DatasetType]:
        """Return dataset types that names and globs match, by name; unknown names go to ``missing``."""
        return self._registry.dataset_types.query(expression, [] if missing is None else missing)
