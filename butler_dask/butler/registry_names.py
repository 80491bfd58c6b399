"""ButlerRegistry: the registry under the reference's names, for one dataset or data ID at a time.

What ``butler.registry`` is. It adds defaults (collections, run, instrument) and turns references and mappings
into the columns `Registry` works on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import EllipsisType
from typing import Any

from ..errors import DatasetTypeError
from ..registry.registry import Registry
from ..vocabulary.dataset_id import DatasetIdGenEnum
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionElement, DimensionGroup
from ..vocabulary.search_defaults import RegistryDefaults, SearchDefaults, lone_values
from ..vocabulary.selection import Selection
from ..vocabulary.storage_class import StorageClassFactory
from .dataset_finder import DatasetFinder
from .dataset_results import (
    DataCoordinateQueryResults,
    DatasetRefQueryResults,
    require_order,
    with_storage_class,
)
from .datasets_of_types import DatasetQueryResults
from .record_results import DimensionRecordQueryResults
from .registry_datasets import RegistryDatasets
from .registry_definitions import RegistryDefinitions
from .registry_parts import CollectionArgument, DataIdArgument, name_of
from .registry_records import RegistryRecords


class ButlerRegistry(RegistryDefinitions, RegistryRecords, RegistryDatasets):
    """``butler.registry``.

    Parameters
    ----------
    registry : `Registry`
        The registry.
    defaults : `SearchDefaults`, optional
        Collections, run and data ID values used where a call does not say.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults | None = None) -> None:
        self._registry = registry
        self._defaults = SearchDefaults() if defaults is None else defaults
        self._finder = DatasetFinder(registry, self._defaults)

    @property
    def defaults(self) -> SearchDefaults:
        """Collections, run and data ID values used where a call does not say; a butler shares them."""
        return self._defaults

    @defaults.setter
    def defaults(self, value: SearchDefaults) -> None:
        for name in value.collections:
            self._registry.collections.get(name)
        if isinstance(value, RegistryDefaults) and value.infers and value.collections:
            names, governors = value.collections, self._registry.collections.governor_values
            value = SearchDefaults(names, value.run, value.data_id, lambda: lone_values(governors(names)))
        self._defaults.assign(value)

    @property
    def storageClasses(self) -> StorageClassFactory:
        """Storage classes by name."""
        return StorageClassFactory()

    def isWriteable(self) -> bool:
        """Return whether the repository may be changed."""
        return self._registry.writeable

    def refresh(self) -> None:
        """Forget what is kept in memory."""
        self._registry.refresh()

    def resetConnectionPool(self) -> None:
        """Forget what is kept in memory; connections are not shared with a forked process anyway."""
        self.refresh()

    def refresh_collection_summaries(self) -> None:
        """Do nothing: summaries are read anew whenever one is asked for."""

    def caching_context(self) -> AbstractContextManager[None]:
        """Return a context in which definitions may be kept in memory; they always are, and stay true."""
        return nullcontext()

    def supportsIdGenerationMode(self, mode: DatasetIdGenEnum) -> bool:
        """Return whether ids of new datasets can be made so: any mode is."""
        return mode in DatasetIdGenEnum

    def transaction(self, *, savepoint: bool = False) -> AbstractContextManager[None]:
        """Make all changes inside take effect together or not at all."""
        return self._registry.transaction()

    # Queries

    def queryDimensionRecords(
        self,
        element: DimensionElement | str,
        *,
        dataId: DataIdArgument = None,
        datasets: Any = None,
        collections: CollectionArgument = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> DimensionRecordQueryResults:
        """Return dimension records under a condition."""
        selection = self._joining(self._selection(dataId, where, bind, kwargs), datasets, collections)
        return DimensionRecordQueryResults(self._registry, selection, str(element))

    def queryDataIds(
        self,
        dimensions: DimensionGroup | Iterable[str] | str,
        *,
        dataId: DataIdArgument = None,
        datasets: Any = None,
        collections: CollectionArgument = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> DataCoordinateQueryResults:
        """Return data IDs under a condition, for which datasets of some types exist."""
        selection = self._joining(self._selection(dataId, where, bind, kwargs), datasets, collections)
        return DataCoordinateQueryResults(self._registry, selection, self.dimensions.conform(dimensions))

    def _selection(
        self, data_id: DataIdArgument, where: str, bind: Mapping[str, Any] | None, values: Mapping[str, Any]
    ) -> Selection:
        return Selection(default=self.defaults.value).where(data_id, where, bind=bind, **values)

    def _joining(self, selection: Selection, datasets: Any, collections: CollectionArgument) -> Selection:
        if isinstance(datasets, EllipsisType):
            raise DatasetTypeError("datasets=... would be all dataset types; name those that must exist.")
        if datasets is None:
            return selection
        kinds = [datasets] if isinstance(datasets, (str, DatasetType)) else list(datasets)
        names = tuple(self._finder.searched(collections))
        return replace(selection, datasets=tuple((name_of(k), names) for k in kinds))

    def queryDatasets(
        self,
        datasetType: Any,
        *,
        collections: CollectionArgument = None,
        dimensions: Iterable[str] | None = None,
        dataId: DataIdArgument = None,
        where: str = "",
        findFirst: bool = False,
        bind: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> DatasetQueryResults | DatasetRefQueryResults:
        """Return datasets of types given by name, glob or list; all or the first of each data ID."""
        if isinstance(datasetType, (str, EllipsisType)):
            kinds = self._registry.dataset_types.query(datasetType)
        else:
            named = [datasetType] if isinstance(datasetType, DatasetType) else list(datasetType)
            kinds = self._registry.dataset_types.query([name_of(k) for k in named])
        selection = self._selection(dataId, where, bind, kwargs)
        if dimensions is not None:
            selection = replace(selection, joined=self.dimensions.conform(dimensions))
        if findFirst:
            require_order(collections)
        names = self._finder.searched(collections)
        if isinstance(datasetType, DatasetType):
            kinds = [with_storage_class(kinds[0], datasetType)]
        parts = [DatasetRefQueryResults(self._registry, selection, kind, names, findFirst) for kind in kinds]
        return parts[0] if len(parts) == 1 else DatasetQueryResults(parts)
