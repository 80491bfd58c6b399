"""ButlerRegistry: the registry under the reference's names, for one dataset or data ID at a time.

What ``butler.registry`` is. It adds defaults (collections, run, instrument) and turns references and mappings
into the columns `Registry` works on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import EllipsisType
from typing import Any
from uuid import UUID

import numpy as np

from ..errors import (
    CollectionTypeError,
    ConflictingDefinitionError,
    DatasetTypeError,
    NoDefaultCollectionError,
)
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionType, NamesExpression, split_names, split_patterns
from ..vocabulary.collection_summary import CollectionSummary, DatasetTypeSet
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetAssociation, DatasetRef, DatasetTable
from ..vocabulary.dataset_id import DatasetIdGenEnum
from ..vocabulary.dataset_type import DatasetType, split_component
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.search_defaults import RegistryDefaults, SearchDefaults, lone_values
from ..vocabulary.storage_class import StorageClassFactory
from ..vocabulary.timespan import Timespan
from .dataset_results import (
    DataCoordinateQueryResults,
    DatasetQueryResults,
    DatasetRefQueryResults,
    require_order,
    with_storage_class,
)
from .query_terms import QueryTerms
from .record_results import DimensionRecordQueryResults

DataIdArgument = DataCoordinate | Mapping[str, Any] | None
CollectionArgument = NamesExpression | None


class ButlerRegistry:
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

    @property
    def dimensions(self) -> DimensionUniverse:
        """The dimension universe."""
        return self._registry.dimensions

    @property
    def tables(self) -> Registry:
        """The registry itself, which works by the column."""
        return self._registry

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
            types=_types(collectionTypes),
            flatten_chains=flattenChains,
            include_chains=includeChains,
            include_summary=datasetType is not None,
        )
        if datasetType is not None:
            wanted = _name(datasetType)
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

    # Dimension records

    def insertDimensionData(
        self,
        element: DimensionElement | str,
        *data: Mapping[str, Any] | DimensionRecord,
        conform: bool = True,
        replace: bool = False,
        skip_existing: bool = False,
    ) -> None:
        """Insert records of a dimension; see `DimensionRecords.insert`."""
        self._registry.records.insert(str(element), data, replace=replace, skip_existing=skip_existing)

    def syncDimensionData(
        self,
        element: DimensionElement | str,
        row: Mapping[str, Any] | DimensionRecord,
        conform: bool = True,
        update: bool = False,
    ) -> bool | dict[str, Any]:
        """Insert a record unless it exists; see `DimensionRecords.sync`."""
        record: DimensionRecord
        if isinstance(row, DimensionRecord):
            record = row
        else:
            record = self.dimensions.element(str(element)).RecordClass(**row)
        return self._registry.records.sync(record, update=update)

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
        terms = self._terms(dataId, where, bind, kwargs, datasets, collections)
        return DimensionRecordQueryResults(self._registry, self.defaults, terms, str(element))

    # Data IDs

    def expandDataId(
        self,
        dataId: DataIdArgument = None,
        *,
        dimensions: DimensionGroup | Iterable[str] | None = None,
        records: Mapping[str, DimensionRecord | None] | None = None,
        withDefaults: bool = True,
        **kwargs: Any,
    ) -> DataCoordinate:
        """Return a data ID with its dimension records and implied values.

        Parameters
        ----------
        dataId : mapping or `DataCoordinate`, optional
            Values by dimension name, or by another key (a detector's name).
        dimensions : `DimensionGroup` or iterable of `str`, optional
            Dimensions of the result; those of the values when not given.
        records : mapping of `str` to `DimensionRecord`, optional
            Records that need not be read again.
        withDefaults : `bool`
            Whether the defaults give instrument and skymap where they are missing.
        **kwargs
            Further values, which win.

        Raises
        ------
        DimensionNameError
            For an unknown key, or if a required value is missing.
        DataIdValueError
            If the repository has no such dimension value.
        InconsistentDataIdError
            If values contradict one another.
        """
        if isinstance(dataId, DataCoordinate) and dimensions is None and not kwargs:
            return self._registry.records.expand(dataId)
        given = (
            {} if dataId is None else dict(dataId.mapping if isinstance(dataId, DataCoordinate) else dataId)
        )
        given.update(kwargs)
        if dimensions is None:
            known = [n for n in given if n in self.dimensions]
            group = self.dimensions.conform(known)
        else:
            group = self.dimensions.conform(dimensions)
        data_id = self.standardized(given, group, withDefaults)
        if records is not None:
            data_id = DataCoordinate(data_id.dimensions, data_id.required_values, dict(records))
        return self._registry.records.expand(data_id)

    def standardized(
        self, given: Mapping[str, Any], dimensions: DimensionGroup, with_defaults: bool = True
    ) -> DataCoordinate:
        """Return the data ID of some dimensions that given values determine, defaults included.

        Values may be given by other keys (a detector's name) or of dimensions the wanted ones follow from.
        """
        values = dict(given)
        if with_defaults:
            named = [n for n in given if n in self.dimensions and self.dimensions[n].is_dimension]
            group = dimensions.union(self.dimensions.conform(named))
            for name, value in self.defaults.data_id.items():
                if name in group or (len(named) < len(given) and self.dimensions[name].governor):
                    values.setdefault(name, value)
        return self._registry.queries.complete(values, dimensions)

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
        terms = self._terms(dataId, where, bind, kwargs, datasets, collections)
        group = self.dimensions.conform(dimensions)
        return DataCoordinateQueryResults(self._registry, self.defaults, terms, group)

    def _terms(
        self,
        data_id: DataIdArgument,
        where: str,
        bind: Mapping[str, Any] | None,
        keywords: Mapping[str, Any],
        datasets: Any = None,
        collections: CollectionArgument = None,
    ) -> QueryTerms:
        terms = QueryTerms().narrowed(data_id, where, bind=bind, **keywords)
        if isinstance(datasets, EllipsisType):
            raise DatasetTypeError("datasets=... would be all dataset types; name those that must exist.")
        if datasets is None:
            return terms
        kinds = [datasets] if isinstance(datasets, (str, DatasetType)) else list(datasets)
        names = tuple(self.search_order(collections))
        return replace(terms, datasets=tuple((_name(k), names) for k in kinds))

    def search_order(self, collections: CollectionArgument) -> list[str]:
        """Return the collections to search: those given, globs resolved, or the defaults.

        Raises
        ------
        NoDefaultCollectionError
            If there are neither.
        """
        if collections is None:
            if not self.defaults.collections:
                raise NoDefaultCollectionError(
                    "No collections to search: give collections=, or open the butler with some."
                )
            return list(self.defaults.collections)
        if isinstance(collections, EllipsisType):
            return [c.name for c in self._registry.collections.query("*", include_chains=False)]
        names = split_patterns(collections)
        if all(isinstance(n, str) for n in names):
            return [n for n in names if isinstance(n, str)]
        return [c.name for c in self._registry.collections.query(names)]

    # Datasets

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
            kinds = self._registry.dataset_types.query([_name(k) for k in named])
        terms = self._terms(dataId, where, bind, kwargs)
        if dimensions is not None:
            terms = replace(terms, joined=self.dimensions.conform(dimensions))
        if findFirst:
            require_order(collections)
        names = self.search_order(collections)
        if isinstance(datasetType, DatasetType):
            kinds = [with_storage_class(kinds[0], datasetType)]
        parts = [
            DatasetRefQueryResults(self._registry, self.defaults, terms, kind, names, findFirst)
            for kind in kinds
        ]
        return parts[0] if len(parts) == 1 else DatasetQueryResults(parts)

    def findDataset(
        self,
        datasetType: DatasetType | str,
        dataId: DataIdArgument = None,
        *,
        collections: CollectionArgument = None,
        timespan: Timespan | None = None,
        **kwargs: Any,
    ) -> DatasetRef | None:
        """Return the first dataset of a type for a data ID, or `None`.

        Calibrations are looked up at ``timespan``, or at that of the data ID's exposure or visit; without any
        time, CALIBRATION collections are passed over.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection has several.
        """
        name, component = split_component(_name(datasetType))
        kind = self._registry.dataset_types.get(name)
        given = dict(dataId.mapping if isinstance(dataId, DataCoordinate) else dataId or {})
        given.update(kwargs)
        data_id = self.standardized(given, kind.dimensions)
        if timespan is None and kind.isCalibration():
            timespan = self.timespan_of({**self.defaults.data_id, **given})
        names = self.search_order(collections)
        begin = end = None
        if timespan is None and kind.isCalibration():
            # Nothing says which range is meant.
            leaves = self._registry.collections.flatten(names)
            names = [c.name for c in leaves if c.type is not CollectionType.CALIBRATION]
        if timespan is not None:
            begin = np.array([timespan.begin_ns], dtype=np.int64)
            end = np.array([timespan.end_ns], dtype=np.int64)
        table, rows = self._registry.search.find(
            kind,
            DataIdTable.from_data_ids(kind.dimensions, [data_id]),
            names,
            begin_ns=begin,
            end_ns=end,
        )
        if rows[0] < 0:
            return None
        ref = table[int(rows[0])]
        if isinstance(dataId, DataCoordinate) and dataId.hasRecords() and not kwargs:
            ref = ref.expanded(dataId.subset(kind.dimensions))
        else:
            ref = self._registry.records.with_implied_values(ref)
        return ref.makeComponentRef(component) if component else ref

    def timespan_of(self, values: Mapping[str, Any]) -> Timespan | None:
        """Return the timespan of the exposure, visit or day among data ID values, `None` without any."""
        for name in ("exposure", "visit", "day_obs"):
            if values.get(name) is not None:
                known = {k: v for k, v in values.items() if k in ("instrument", name)}
                data_id = self._registry.queries.complete(known, self.dimensions.conform([name]))
                record = self._registry.records.expand(data_id).records[name]
                return None if record is None else record.timespan
        return None

    def getDataset(self, id: UUID) -> DatasetRef | None:
        """Return the dataset of a UUID, or `None`."""
        return self._registry.datasets.find(id)

    def insertDatasets(
        self,
        datasetType: DatasetType | str,
        dataIds: Iterable[DataIdArgument],
        run: str | None = None,
        expand: bool = True,
        idGenerationMode: DatasetIdGenEnum = DatasetIdGenEnum.UNIQUE,
    ) -> list[DatasetRef]:
        """Insert datasets without files; return their references.

        Parameters
        ----------
        datasetType : `DatasetType` or `str`
            Type.
        dataIds : iterable of mapping or `DataCoordinate`
            A data ID for each dataset.
        run : `str`, optional
            RUN collection; the default one when not given.
        expand : `bool`
            Whether the references carry dimension records.
        idGenerationMode : `DatasetIdGenEnum`
            How ids are made.

        Raises
        ------
        NoDefaultCollectionError
            If there is no RUN.
        ConflictingDefinitionError
            If the RUN has a dataset of the type and a data ID; nothing is inserted then.
        """
        kind = self._registry.dataset_types.get(_name(datasetType))
        run = run or self.defaults.run
        if run is None:
            raise NoDefaultCollectionError("No RUN to insert into: give run=, or open the butler with one.")
        table = DatasetTable.new(kind, self._data_id_table(dataIds, kind.dimensions), run, idGenerationMode)
        with self._registry.transaction():
            self._registry.inserts.insert(table)
            if not expand:
                return list(table)
            data_ids = self._registry.records.expand_all(table.data_ids)
        return [ref.expanded(data_id) for ref, data_id in zip(table, data_ids, strict=True)]

    def _data_id_table(self, data_ids: Iterable[DataIdArgument], dimensions: DimensionGroup) -> DataIdTable:
        """Return data IDs as a table, each completed as by `standardized` where it has to be."""
        rows = [_mapping(d) for d in data_ids]
        table = DataIdTable.from_mappings(dimensions, rows)
        if table is None:
            ids = [self.standardized(row, dimensions) for row in rows]
            table = DataIdTable.from_data_ids(dimensions, ids)
        return table

    def _importDatasets(
        self, datasets: Iterable[DatasetRef], expand: bool = True, assume_new: bool = False
    ) -> list[DatasetRef]:
        """Insert datasets that have their ids already; those that are there alike stay.

        Parameters
        ----------
        datasets : iterable of `DatasetRef`
            Datasets, also of several types and runs.
        expand : `bool`
            Whether the references returned carry dimension records.
        assume_new : `bool`
            Whether one that is there already is an error.

        Raises
        ------
        ConflictingDefinitionError
            If a run has another dataset of the type for a data ID, or an id is known for another type, data
            ID or run.
        """
        refs = list(datasets)
        with self._registry.transaction():
            known = (
                [None] * len(refs) if assume_new else self._registry.datasets.find_many([r.id for r in refs])
            )
            for ref, there in zip(refs, known, strict=True):
                if there is not None and (there.run != ref.run or there != ref):
                    raise ConflictingDefinitionError(
                        f"Dataset {ref.id} is there as {there}, which is not {ref}. Nothing was imported."
                    )
            new = [ref for ref, there in zip(refs, known, strict=True) if there is None]
            for table in tables_of_refs(new):
                self._registry.inserts.insert(table)
        if not expand:
            return refs
        expanded: dict[UUID, DataCoordinate] = {}
        for table in tables_of_refs(refs):
            ids = [table.id(i) for i in range(len(table))]
            expanded.update(zip(ids, self._registry.records.expand_all(table.data_ids), strict=True))
        return [ref.expanded(expanded[ref.id]) for ref in refs]

    def getDatasetLocations(self, ref: DatasetRef) -> list[str]:
        """Return where the files of a dataset are, as the datastore knows it; empty without files."""
        files = self._registry.datasets.files_of_ids([ref.id])
        return [path for path in files.paths if path]

    def removeDatasets(self, refs: Iterable[DatasetRef]) -> None:
        """Remove datasets from the registry; their files wait for deletion by the datastore."""
        self._registry.datasets.remove(tables_of_refs(refs))

    # Memberships

    def associate(self, collection: str, refs: Iterable[DatasetRef]) -> None:
        """Put datasets into a TAGGED collection, all or none."""
        with self._registry.transaction():
            for table in tables_of_refs(refs):
                self._registry.associations.associate(collection, table)

    def disassociate(self, collection: str, refs: Iterable[DatasetRef]) -> None:
        """Take datasets out of a TAGGED collection."""
        with self._registry.transaction():
            for table in tables_of_refs(refs):
                self._registry.associations.disassociate(collection, table)

    def certify(self, collection: str, refs: Iterable[DatasetRef], timespan: Timespan) -> None:
        """Give datasets a validity range in a CALIBRATION collection, all or none."""
        with self._registry.transaction():
            for table in tables_of_refs(refs):
                self._registry.associations.certify(collection, table, timespan)

    def decertify(
        self,
        collection: str,
        datasetType: DatasetType | str,
        timespan: Timespan,
        *,
        dataIds: Iterable[DataIdArgument] | None = None,
    ) -> None:
        """Cut a time range out of validity ranges in a CALIBRATION collection."""
        kind = self._registry.dataset_types.get(_name(datasetType))
        table = None
        if dataIds is not None:
            table = self._data_id_table(dataIds, kind.dimensions)
        self._registry.associations.decertify(collection, kind, timespan, table)

    def queryDatasetAssociations(
        self,
        datasetType: DatasetType | str,
        collections: NamesExpression | None = ...,
        *,
        collectionTypes: CollectionType | Iterable[CollectionType] | None = None,
        flattenChains: bool = False,
    ) -> Iterator[DatasetAssociation]:
        """Yield which collections hold which datasets of a type, with validity ranges.

        A chain stands for its members, with ``flattenChains`` or without.
        """
        names: NamesExpression = self.defaults.collections if collections is None else collections
        return iter(
            self._registry.associations.query(_name(datasetType), names, types=_types(collectionTypes))
        )


def tables_of_refs(refs: Iterable[DatasetRef]) -> list[DatasetTable]:
    """Return references as one table for each dataset type.

    Raises
    ------
    DatasetTypeError
        If one names a component.
    """
    by_type: dict[str, list[DatasetRef]] = {}
    for ref in refs:
        if ref.isComponent():
            raise DatasetTypeError(f"{ref} is a component; name the whole dataset")
        by_type.setdefault(ref.datasetType.name, []).append(ref)
    return [DatasetTable.from_refs(rows[0].datasetType, rows) for rows in by_type.values()]


def _name(dataset_type: DatasetType | str) -> str:
    return dataset_type if isinstance(dataset_type, str) else dataset_type.name


def _mapping(data_id: DataIdArgument) -> Mapping[str, Any]:
    if data_id is None:
        return {}
    return data_id.mapping if isinstance(data_id, DataCoordinate) else data_id


def _types(
    types: CollectionType | Iterable[CollectionType] | None,
) -> Collection[CollectionType] | None:
    if types is None or isinstance(types, EllipsisType):
        return None
    return CollectionType.set_of(types)
