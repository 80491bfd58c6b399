"""DatasetLookups: whether and where datasets are, without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from ..errors import (
    DatasetNotFoundError,
    DatasetTypeError,
    MissingDatasetFileError,
    MissingDatasetTypeError,
)
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_existence import DatasetExistence
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.storage_class import StorageClass
from ..vocabulary.timespan import Timespan
from .butler_parts import ButlerParts
from .dataset_files import DatasetURI
from .dataset_finder import DataIdLike, stored


class DatasetRefURIs(NamedTuple):
    """Where a dataset is: one file here, whatever parts it has."""

    primaryURI: DatasetURI
    componentURIs: Mapping[str, DatasetURI] = {}


class DatasetLookups(ButlerParts):
    """Looks datasets up; `Butler` inherits it."""

    def get_dataset_type(self, name: str) -> DatasetType:
        """Return a dataset type.

        Raises
        ------
        MissingDatasetTypeError
            If there is none; the nearest match is named.
        """
        return self._registry.dataset_types.get(name)

    def find_dataset(
        self,
        dataset_type: DatasetType | str,
        data_id: DataIdLike = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: Timespan | None = None,
        storage_class: StorageClass | str | None = None,
        dimension_records: bool = False,
        datastore_records: bool = False,
        **kwargs: Any,
    ) -> DatasetRef | None:
        """Return the first dataset of a type and data ID in some collections, or `None`.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type; ``name.component`` for a part.
        data_id : mapping or `DataCoordinate`, optional
            Data ID; what records of the values given imply is filled in.
        collections : `str` or iterable of `str`, optional
            Where to look, in order; the butler's when not given.
        timespan : `Timespan`, optional
            Time for which a calibration is wanted; that of the data ID's exposure, visit or day when not
            given. Without any time CALIBRATION collections are passed over.
        storage_class : `str` or `StorageClass`, optional
            Kind of object the reference is to be read as.
        dimension_records : `bool`
            Whether the data ID carries its records.
        datastore_records : `bool`
            Accepted for the reference's sake: references never need them here.
        **kwargs
            Further data ID values.

        Raises
        ------
        MissingDatasetTypeError, MissingCollectionError
            If there is no such dataset type or collection.
        DataIdError
            If the data ID is not complete or names nothing.
        CalibrationLookupError
            If a CALIBRATION collection has several for the time.
        """
        ref = self._finder.find(dataset_type, data_id, collections, timespan, kwargs)
        if ref is not None and dimension_records:
            ref = ref.expanded(self._registry.records.expand(ref.dataId))
        return ref if ref is None or storage_class is None else ref.overrideStorageClass(storage_class)

    def get_dataset(
        self,
        id: UUID | str,
        *,
        storage_class: StorageClass | str | None = None,
        dimension_records: bool = False,
        datastore_records: bool = False,
    ) -> DatasetRef | None:
        """Return the dataset of an id, or `None`.

        Parameters
        ----------
        id : `uuid.UUID` or `str`
            Its identity.
        storage_class : `str` or `StorageClass`, optional
            Kind of object the reference is to be read as.
        dimension_records : `bool`
            Whether the data ID carries its records.
        datastore_records : `bool`
            Accepted for the reference's sake: references never need them here.

        Raises
        ------
        DatasetTypeError
            If the text is no UUID.
        """
        ref = self._registry.datasets.find(_uuid(id))
        if ref is None:
            return None
        if dimension_records:
            ref = ref.expanded(self._registry.records.expand(ref.dataId))
        return ref if storage_class is None else ref.overrideStorageClass(storage_class)

    def get_many_datasets(self, ids: Iterable[UUID | str]) -> list[DatasetRef]:
        """Return the datasets of ids, each once; unknown ones are left out."""
        found = self._registry.datasets.find_many(list(dict.fromkeys(map(_uuid, ids))))
        return [ref for ref in found if ref is not None]

    def exists(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataIdLike = None,
        *,
        full_check: bool = True,
        collections: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> DatasetExistence:
        """Return how far a dataset exists; true when it can be read.

        Parameters
        ----------
        dataset_ref_or_type, data_id, collections, **kwargs
            See `get`.
        full_check : `bool`
            Look whether the file is there.
        """
        try:
            _, file, _ = self._finder.located(dataset_ref_or_type, data_id, collections, None, kwargs)
        except (DatasetNotFoundError, MissingDatasetTypeError):
            return DatasetExistence.UNRECOGNIZED
        if file is None:
            return DatasetExistence.RECORDED
        if not full_check:
            return DatasetExistence.KNOWN
        known = DatasetExistence.RECORDED | DatasetExistence.DATASTORE
        return DatasetExistence.VERIFIED if self._datastore.exists(file.path) else known

    def _exists_many(
        self, refs: Iterable[DatasetRef], /, *, full_check: bool = True
    ) -> dict[DatasetRef, DatasetExistence]:
        """Return how far each dataset exists: `exists` of many, with two queries for all.

        Parameters
        ----------
        refs : iterable of `DatasetRef`
            Datasets.
        full_check : `bool`
            Look whether the files are there.
        """
        wanted = list(refs)
        with self._registry.snapshot():
            files = list(self._registry.datasets.files_of_ids([ref.id for ref in wanted]))
            recorded = self._registry.datasets.find_many([ref.id for ref in wanted])
        there: dict[str, bool] = {}
        if full_check:
            paths = list(dict.fromkeys(file.path for file in files if file is not None))
            there = dict(zip(paths, self._datastore.exist(paths), strict=True))
        out: dict[DatasetRef, DatasetExistence] = {}
        for ref, file, known in zip(wanted, files, recorded, strict=True):
            out[ref] = DatasetExistence.UNRECOGNIZED
            if known is not None:
                out[ref] = DatasetExistence.RECORDED
            if file is not None and not full_check:
                out[ref] = DatasetExistence.KNOWN
            elif file is not None:
                out[ref] = DatasetExistence.RECORDED | DatasetExistence.DATASTORE
                if there[file.path]:
                    out[ref] = DatasetExistence.VERIFIED
        return out

    def stored(self, ref: DatasetRef) -> bool:
        """Return whether the datastore has a dataset: its file is recorded and there."""
        return self.stored_many([ref])[ref]

    def stored_many(self, refs: Iterable[DatasetRef]) -> dict[DatasetRef, bool]:
        """Return for each dataset whether its file is recorded and there."""
        return {ref: bool(found) for ref, found in self._exists_many(refs).items()}

    def get_datastore_roots(self) -> dict[str, DatasetURI]:
        """Return the root of the datastore, by its name."""
        return {name: DatasetURI(self._datastore.uri("")) for name in self.get_datastore_names()}

    def get_datastore_names(self) -> tuple[str, ...]:
        """Return the name of the datastore: that of its class, and its root."""
        return (f"{type(self._datastore).__name__}@{self._datastore.root}",)

    def getURI(
        self,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        predict: bool = False,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        **kwargs: Any,
    ) -> DatasetURI:
        """Return the URI of a dataset's file.

        Parameters
        ----------
        datasetRefOrType, dataId, collections, **kwargs
            See `get`.
        predict : `bool`
            Return where it would be put when there is none.
        run : `str`, optional
            RUN collection it would be put in.
        """
        try:
            ref, file, _ = self._finder.located(datasetRefOrType, dataId, collections, None, kwargs)
        except DatasetNotFoundError:
            if not predict:
                raise
            target = self._finder.with_path_values(
                self._finder.new_dataset(datasetRefOrType, dataId, run, kwargs), self._datastore
            )
            return DatasetURI(self._datastore.uri(self._datastore.predicted_record(target).path))
        return DatasetURI(self._datastore.uri(stored(ref, file).path))

    def getURIs(
        self,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        predict: bool = False,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        **kwargs: Any,
    ) -> DatasetRefURIs:
        """Return the URIs of a dataset: always one file; arguments are those of `getURI`."""
        uri = self.getURI(
            datasetRefOrType, dataId, predict=predict, collections=collections, run=run, **kwargs
        )
        return DatasetRefURIs(uri, {})

    def get_many_uris(
        self, refs: Iterable[DatasetRef], predict: bool = False, allow_missing: bool = False
    ) -> dict[DatasetRef, DatasetRefURIs]:
        """Return the URIs of many datasets.

        Parameters
        ----------
        refs : iterable of `DatasetRef`
            Datasets.
        predict : `bool`
            Give where it would be put for one that has no file.
        allow_missing : `bool`
            Leave out those that have none.

        Raises
        ------
        MissingDatasetFileError
            If one has no file.
        """
        wanted = list(refs)
        out: dict[DatasetRef, DatasetRefURIs] = {}
        for ref, file in zip(
            wanted, self._registry.datasets.files_of_ids([r.id for r in wanted]), strict=True
        ):
            if file is not None:
                path = file.path
            elif predict:
                placed = self._finder.with_path_values(ref, self._datastore)
                path = self._datastore.predicted_record(placed).path
            elif allow_missing:
                continue
            else:
                raise MissingDatasetFileError(
                    f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} has no file"
                )
            out[ref] = DatasetRefURIs(DatasetURI(self._datastore.uri(path)), {})
        return out


def _uuid(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError as error:
        raise DatasetTypeError(f"{value!r} is no dataset id (a UUID)") from error
