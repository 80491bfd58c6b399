"""RegistryDatasets: datasets and their memberships under the reference's registry names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from ..errors import ConflictingDefinitionError, NoDefaultCollectionError, OrphanedRecordError
from ..vocabulary.collection import CollectionType, NamesExpression
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import (
    DatasetAssociation,
    DatasetRef,
    DatasetTable,
    tables_of_refs,
)
from ..vocabulary.dataset_id import DatasetIdGenEnum
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.timespan import Timespan
from .registry_parts import CollectionArgument, DataIdArgument, RegistryParts, mapping_of, name_of, types_of


class RegistryDatasets(RegistryParts):
    """Finds, inserts, tags, certifies and removes datasets; `ButlerRegistry` inherits it."""

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

        The same as `Butler.find_dataset`: calibrations are looked up at ``timespan``, or at that of the data
        ID's exposure, visit or day; without any time, CALIBRATION collections are passed over.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection has several.
        """
        return self._finder.find(datasetType, dataId, collections, timespan, kwargs)

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
        kind = self._registry.dataset_types.get(name_of(datasetType))
        run = run or self._defaults.run
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
        """Return data IDs as a table, each completed where it has to be."""
        rows = [mapping_of(d) for d in data_ids]
        table = DataIdTable.from_mappings(dimensions, rows)
        if table is None:
            complete = self._finder.complete
            ids = [complete(dimensions, row, {}).data_id for row in rows]
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
        """Remove datasets that have no files from the registry and all collections.

        Raises
        ------
        OrphanedRecordError
            If one has a file, which would be left behind; nothing is removed then.
        DatasetNotFoundError
            If one is not in the registry.
        """
        tables = tables_of_refs(refs)
        with self._registry.transaction():
            for table in tables:
                for row, path in enumerate(self._registry.datasets.files_of(table).paths):
                    if path:
                        raise OrphanedRecordError(
                            f"Dataset {table[row]} is stored as {path}; nothing was removed. "
                            "`Butler.pruneDatasets(refs, purge=True, unstore=True)` or `butler "
                            "prune-datasets` removes datasets with their files."
                        )
            self._registry.datasets.remove(tables)

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
        kind = self._registry.dataset_types.get(name_of(datasetType))
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
        names: NamesExpression = self._defaults.collections if collections is None else collections
        return iter(
            self._registry.associations.query(name_of(datasetType), names, types=types_of(collectionTypes))
        )
