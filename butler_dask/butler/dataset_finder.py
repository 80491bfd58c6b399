"""DatasetFinder: from what a user says of a dataset to the dataset and its file; or to why there is none.

``butler.get`` and its like, ``butler.find_dataset`` and ``butler.registry.findDataset`` all ask here. They
differ in one thing, as those of the reference do: where nothing says for when a calibration is wanted,
reading takes the one there is (several are an error), while finding passes over CALIBRATION collections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..datastore.datastore import Datastore
from ..errors import (
    DataIdValueError,
    DatasetNotFoundError,
    DatasetTypeError,
    MissingDatasetFileError,
    NoDefaultCollectionError,
)
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionType, NamesExpression, split_patterns
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType, split_component
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.file_record import FileRecord
from ..vocabulary.search_defaults import SearchDefaults
from ..vocabulary.timespan import Timespan
from .data_id_completion import CompletedDataId, DataIdCompletion

DataIdLike = Mapping[str, Any] | DataCoordinate | None


@dataclass(slots=True)
class SearchResult:
    """What a search found, if anything, and how it was looked for."""

    dataset_type: DatasetType
    found: DatasetRef | None
    completed: CompletedDataId
    collections: list[str]
    timespan: Timespan | None


class DatasetFinder:
    """Finds single datasets.

    Parameters
    ----------
    registry : `Registry`
        Where they are recorded.
    defaults : `SearchDefaults`
        What calls do not say.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults) -> None:
        self._registry, self._defaults = registry, defaults
        self._completion = DataIdCompletion(registry, defaults)

    def type_of(self, dataset_type: DatasetType | str) -> tuple[DatasetType, str | None, str | None]:
        """Return the registered dataset type, the component named, and the storage class wanted instead.

        Raises
        ------
        MissingDatasetTypeError
            If it is not registered; the nearest match is named.
        DatasetTypeError
            If it has other dimensions, or no such component.
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        parent, component = split_component(name)
        registered = self._registry.dataset_types.get(parent)
        whole = registered if component is None else registered.makeComponentDatasetType(component)
        if isinstance(dataset_type, str):
            return registered, component, None
        if dataset_type.dimensions != registered.dimensions:
            raise DatasetTypeError(
                f"Dataset type {name!r} has the dimensions {registered.dimensions} here, not "
                f"{dataset_type.dimensions}."
            )
        wanted = dataset_type.storageClass_name
        return registered, component, None if wanted == whole.storageClass_name else wanted

    def complete(
        self,
        dimensions: DimensionGroup,
        data_id: DataIdLike,
        kwargs: Mapping[str, Any],
        *,
        timed: bool = False,
        with_defaults: bool = True,
    ) -> CompletedDataId:
        """Return the data ID of a group of dimensions.

        Most calls give just its values: then nothing is looked up, neither in the universe nor in the
        registry.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            What is needed.
        data_id : mapping or `DataCoordinate`, optional
            Values by dimension name, ``element.field`` or field name.
        kwargs : mapping
            Further ones, which win.
        timed, with_defaults
            See `DataIdCompletion.complete`, as for the errors.
        """
        if isinstance(data_id, DataCoordinate) and not kwargs and data_id.dimensions == dimensions:
            return CompletedDataId(data_id, dict(data_id.mapping))
        given: dict[str, Any] = {}
        if data_id is not None:
            given.update(data_id.mapping if isinstance(data_id, DataCoordinate) else data_id)
        given.update(kwargs)
        found = self._exact(dimensions, given, with_defaults)
        if found is not None:
            return CompletedDataId(found, dict(zip(dimensions.required, found.required_values, strict=True)))
        return self._completion.complete(dimensions, given, timed=timed, with_defaults=with_defaults)

    def _exact(
        self, dimensions: DimensionGroup, given: Mapping[str, Any], with_defaults: bool
    ) -> DataCoordinate | None:
        """Return the data ID if its values are what was given, each of its type, or defaults."""
        values: list[Any] = []
        n_given = 0
        for name, kind in dimensions.key_types:
            value: Any = given.get(name)
            if value is not None:
                n_given += 1
            elif with_defaults:
                value = self._defaults.given(name)
            if type(value) is not kind or not _is_storable(value):
                return None
            values.append(value)
        return DataCoordinate(dimensions, tuple(values)) if n_given == len(given) else None

    def searched(self, collections: NamesExpression | None) -> list[str]:
        """Return the names of the collections to search, in order.

        Parameters
        ----------
        collections : `str`, `re.Pattern`, ``...`` or iterable of them, optional
            Names, globs and regular expressions, which become the names that match; the defaults when not
            given.

        Raises
        ------
        NoDefaultCollectionError
            If none is given and there is no default.
        """
        if collections is None:
            if not self._defaults.collections:
                raise NoDefaultCollectionError(
                    "No collections to search: give collections=..., or open the butler with some, or with a "
                    "run."
                )
            return list(self._defaults.collections)
        names = split_patterns(collections)
        plain = [name for name in names if isinstance(name, str)]
        if len(plain) < len(names):
            return [info.name for info in self._registry.collections.query(names)]
        return plain

    def search(
        self,
        dataset_type: DatasetType,
        data_id: DataIdLike,
        collections: Any,
        timespan: Timespan | None,
        kwargs: Mapping[str, Any],
        *,
        at_any_time: bool,
    ) -> SearchResult:
        """Look for the first dataset of a registered type.

        Parameters
        ----------
        dataset_type, data_id, collections, timespan, kwargs
            See `Butler.find_dataset`.
        at_any_time : `bool`
            Whether CALIBRATION collections are searched where nothing says for when.
        """
        timed = dataset_type.isCalibration()
        group = dataset_type.dimensions
        completed = self.complete(group, data_id, kwargs, timed=timed)
        searched = self.searched(collections)
        if timed and timespan is None:
            timespan = self._completion.timespan(completed.known)
            if timespan is None and not at_any_time:
                leaves = self._registry.collections.flatten(searched)
                searched = [leaf.name for leaf in leaves if leaf.type is not CollectionType.CALIBRATION]
        found = self._registry.search.find_one(dataset_type, completed.data_id, searched, timespan)
        return SearchResult(dataset_type, found, completed, searched, timespan)

    def find(
        self,
        dataset_type: DatasetType | str,
        data_id: DataIdLike,
        collections: Any,
        timespan: Timespan | None,
        kwargs: Mapping[str, Any],
    ) -> DatasetRef | None:
        """Return the first dataset of a type and data ID in some collections, or `None`.

        Its data ID has the implied values, and the records of the one given. See `Butler.find_dataset`.
        """
        with self._registry.snapshot():
            registered, component, override = self.type_of(dataset_type)
            search = self.search(registered, data_id, collections, timespan, kwargs, at_any_time=False)
            if search.found is None:
                return None
            ref = search.found
            if isinstance(data_id, DataCoordinate) and data_id.hasRecords() and not kwargs:
                ref = ref.expanded(data_id.subset(registered.dimensions))
            else:
                ref = self._registry.records.with_implied_values(ref)
        if component is not None:
            ref = ref.makeComponentRef(component)
        return ref if override is None else ref.overrideStorageClass(override)

    def located(
        self,
        ref_or_type: DatasetRef | DatasetType | str,
        data_id: DataIdLike,
        collections: Any,
        timespan: Timespan | None,
        kwargs: Mapping[str, Any],
    ) -> tuple[DatasetRef, FileRecord | None, str | None]:
        """Return a dataset, its file, and the storage class wanted.

        Raises
        ------
        DatasetNotFoundError
            If there is no such dataset; says what was searched.
        """
        if isinstance(ref_or_type, DatasetRef):
            if data_id is not None or kwargs:
                raise DatasetTypeError("A data ID cannot be given beside a DatasetRef, which has one")
            file = self._registry.datasets.files_of_ids([ref_or_type.id])[0]
            if file is None and self._registry.datasets.find(ref_or_type.id) is None:
                raise DatasetNotFoundError(f"There is no dataset {ref_or_type} in this repository.")
            return ref_or_type, file, None
        with self._registry.snapshot():  # one state of the database for all of it, and one connection
            registered, component, override = self.type_of(ref_or_type)
            search = self.search(registered, data_id, collections, timespan, kwargs, at_any_time=True)
            if search.found is None:
                raise self.not_found(search)
            ref = search.found
            file = self._registry.datasets.files_of_ids([ref.id])[0]
        return (ref.makeComponentRef(component) if component else ref), file, override

    def new_dataset(
        self,
        ref_or_type: DatasetRef | DatasetType | str,
        data_id: DataIdLike,
        run: str | None,
        kwargs: Mapping[str, Any],
    ) -> DatasetRef:
        """Return the dataset a put makes."""
        if isinstance(ref_or_type, DatasetRef):
            registered, component, _ = self.type_of(ref_or_type.datasetType)
            if component is None:
                return DatasetRef(registered, ref_or_type.dataId, ref_or_type.run, id=ref_or_type.id)
        else:
            registered, component, _ = self.type_of(ref_or_type)
        if component is not None:
            raise DatasetTypeError(
                f"{registered.name}.{component} is a part; put the whole {registered.name!r}."
            )
        run = run or self._defaults.run
        if run is None:
            raise NoDefaultCollectionError(
                f"No run to put {registered.name!r} in: give run=..., or open the butler with one."
            )
        completed = self.complete(registered.dimensions, data_id, kwargs)
        return DatasetRef(registered, completed.data_id, run)

    def with_path_values(self, ref: DatasetRef, datastore: Datastore) -> DatasetRef:
        """Return a dataset with the values its path in a datastore is made of."""
        if not datastore.layout.needs_records(ref.datasetType):
            return ref
        return ref.expanded(self._registry.records.expand(ref.dataId))

    def not_found(self, search: SearchResult) -> DatasetNotFoundError:
        """Return the error that says what was looked for and where, and what may help."""
        kind, data_id, when = search.dataset_type, search.completed.data_id, search.timespan
        time = "" if when is None or when.begin is None else f" valid at {when.begin.isot} TAI"
        leaves = [info.name for info in self._registry.collections.flatten(search.collections)]
        lines = [
            f"No {kind.name!r} for {data_id}{time}.",
            f"  Searched, in order: {', '.join(map(repr, leaves)) or 'no collection'}.",
        ]
        try:
            self._registry.records.expand(data_id)
        except DataIdValueError as error:
            lines.append(f"  {error}")
        else:
            if kind.isCalibration():
                lines.append("  Certify one (`butler certify-calibrations`), or search further collections.")
            else:
                lines.append(f"  {self._elsewhere(kind, data_id)}")
        return DatasetNotFoundError("\n".join(lines))

    def _elsewhere(self, dataset_type: DatasetType, data_id: DataCoordinate) -> str:
        """Say which RUN has the dataset looked for, if any."""
        runs = [i.name for i in self._registry.collections.query("*", types={CollectionType.RUN})]
        found = self._registry.search.find_one(dataset_type, data_id, runs)
        return "No other collection has one." if found is None else f"There is one in {found.run!r}."


def stored(ref: DatasetRef, file: FileRecord | None) -> FileRecord:
    """Return the file record of a dataset.

    Raises
    ------
    MissingDatasetFileError
        If there is none: the file was removed on purpose.
    """
    if file is None:
        raise MissingDatasetFileError(
            f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is recorded, but its file was removed "
            "on purpose (unstored)."
        )
    return file


def _is_storable(value: Any) -> bool:
    """Return whether an integer or text is one that a database takes, without a closer look."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) and value.isascii() and "\0" not in value
