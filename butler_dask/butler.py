"""Butler: reads, writes and finds the datasets of a repository.

A thin layer over two peers that know nothing of each other: the registry, which knows what exists, and the
datastore, which has the files. Names and meanings are those of the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from . import dataset_files
from .collection_access import ButlerCollections
from .dataset_finder import DataIdLike, DatasetFinder, stored
from .dataset_queries import DatasetQueries
from .dataset_transfers import DatasetTransfers
from .datastore.deferred_dataset import DeferredDatasetHandle
from .errors import (
    CollectionTypeError,
    DatasetNotFoundError,
    DatasetTypeError,
)
from .file_transaction import FileTransactions
from .repository import Repository, known_repositories
from .vocabulary.collection import CollectionType, split_names
from .vocabulary.data_id import DataIdValue
from .vocabulary.dataset import DatasetRef, DatasetTable
from .vocabulary.dataset_existence import DatasetExistence
from .vocabulary.dataset_type import DatasetType
from .vocabulary.dimensions import DimensionUniverse
from .vocabulary.file_record import FileTable
from .vocabulary.search_defaults import SearchDefaults
from .vocabulary.storage_class import StorageClass
from .vocabulary.timespan import Timespan

if TYPE_CHECKING:
    from .datastore.datastore import Datastore
    from .registry.butler_registry import ButlerRegistry
    from .registry.registry import Registry


class Butler(DatasetQueries, DatasetTransfers):
    """A repository, with defaults for what to search and where to put.

    Parameters
    ----------
    config : `str`, path, `Repository` or `Butler`
        Directory or URL of the repository, its ``butler.yaml``, or a label (see `get_known_repos`); of
        another butler, its repository is taken.
    collections : `str` or iterable of `str`, optional
        Collections searched by default, in order; ``run`` when not given.
    run : `str`, optional
        RUN collection that takes what is put; made if there is none.
    writeable : `bool`, optional
        Whether the repository may be changed; by default only if ``run`` is given.
    inferDefaults : `bool`
        Take the one instrument or skymap of the default collections as given, where there is just one.
    **dataId
        Default data ID values (``instrument=``, ``skymap=``).

    Raises
    ------
    RepositoryError
        If there is no such repository.
    MissingCollectionError
        If there is no such collection; the nearest match is named.
    """

    def __init__(
        self,
        config: str | PathLike[str] | Repository | Butler,
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        writeable: bool | None = None,
        inferDefaults: bool = True,
        **dataId: DataIdValue,
    ) -> None:
        repository: Repository = config.repository if isinstance(config, Butler) else Repository.find(config)
        self.repository: Repository = repository
        writeable = run is not None if writeable is None else writeable
        self._registry = repository.open_registry(writeable=writeable)
        self._datastore = repository.open_datastore()
        self._files = FileTransactions(self._registry, self._datastore)
        try:
            if run is not None and writeable:
                self._registry.register_collection(run, CollectionType.RUN)
            names = ([run] if run else []) if collections is None else split_names(collections)
            for name in names:
                self._registry.get_collection(name)
        except BaseException:
            self._registry.close()
            raise
        infer = self._inferred_data_id if inferDefaults and names else None
        self._defaults = SearchDefaults(names, run, dataId, infer)
        self._finder = DatasetFinder(self._registry, self._defaults)

    @classmethod
    def from_config(cls, config: str | PathLike[str] | Repository | Butler, **kwargs: Any) -> Self:
        """Open a repository; arguments are those of the class."""
        return cls(config, **kwargs)

    @staticmethod
    def makeRepo(root: str | PathLike[str], **settings: Any) -> Repository:
        """Make an empty repository; arguments are those of `Repository.create`.

        Returns
        -------
        repository : `Repository`
            To be given to `Butler`.
        """
        return Repository.create(root, **settings)

    @staticmethod
    def get_known_repos() -> set[str]:
        """Return the labels of repositories (see `butler_dask.repository.known_repositories`)."""
        return set(known_repositories())

    def _inferred_data_id(self) -> dict[str, DataIdValue]:
        values = self._registry.governor_values(self._defaults.collections)
        return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}

    def clone(self, **changes: Any) -> Butler:
        """Return another butler of this repository; arguments left out are those of this one."""
        given: dict[str, Any] = {
            "collections": self._defaults.collections,
            "run": self._defaults.run,
            "writeable": self.isWriteable(),
        }
        return Butler(self.repository, **{**given, **changes})

    def close(self) -> None:
        """Close the connections to the database."""
        self._registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        d = self._defaults
        return _reopen, (self.repository, d.collections, d.run, self.isWriteable(), dict(d.data_id))

    def __repr__(self) -> str:
        return f"Butler({self.root!r}, collections={self._defaults.collections!r}, run={self.run!r})"

    # Parts

    @property
    def root(self) -> str:
        """Directory or URL of the repository."""
        return self.repository.root

    @property
    def dimensions(self) -> DimensionUniverse:
        """The dimension universe."""
        return DimensionUniverse()

    @property
    def run(self) -> str | None:
        """RUN collection that takes what is put."""
        return self._defaults.run

    @cached_property
    def collections(self) -> ButlerCollections:
        """Collections; as a sequence, those searched by default."""
        return ButlerCollections(self._registry, self._defaults)

    @cached_property
    def registry(self) -> ButlerRegistry:
        """The reference's registry interface."""
        from .registry.butler_registry import ButlerRegistry

        return ButlerRegistry(self._registry, self._defaults)

    @property
    def registry_tables(self) -> Registry:
        """The registry itself: set-based, without defaults."""
        return self._registry

    @property
    def datastore(self) -> Datastore:
        """The datastore."""
        return self._datastore

    def isWriteable(self) -> bool:
        """Return whether the repository may be changed."""
        return self._registry.writeable

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside take effect together; on an exception files put are removed too."""
        with self._files.begin():
            yield

    # Finding

    def get_dataset_type(self, name: str) -> DatasetType:
        """Return a dataset type.

        Raises
        ------
        MissingDatasetTypeError
            If there is none; the nearest match is named.
        """
        return self._registry.get_dataset_type(name)

    def find_dataset(
        self,
        dataset_type: DatasetType | str,
        data_id: DataIdLike = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: Timespan | None = None,
        storage_class: StorageClass | str | None = None,
        dimension_records: bool = False,
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
            Time for which a calibration is wanted; that of the data ID's exposure or visit when not given.
        storage_class : `str` or `StorageClass`, optional
            Kind of object the reference is to be read as.
        dimension_records : `bool`
            Whether the data ID carries its records.
        **kwargs
            Further data ID values.

        Raises
        ------
        MissingDatasetTypeError, MissingCollectionError
            If there is no such dataset type or collection.
        DataIdError
            If the data ID is not complete or names nothing.
        CalibrationLookupError
            If a calibration would be found but the time is missing or not enough to choose one.
        """
        registered, component, override = self._finder.type_of(dataset_type)
        search = self._finder.search(registered, data_id, collections, timespan, kwargs)
        if not len(search.found):
            return None
        ref = search.found[0]
        if dimension_records:
            ref = ref.expanded(self._registry.expand_data_id(ref.dataId))
        if component is not None:
            ref = ref.makeComponentRef(component)
        wanted = storage_class or override
        return ref if wanted is None else ref.overrideStorageClass(wanted)

    # Reading

    def get(
        self,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        collections: str | Iterable[str] | None = None,
        storageClass: StorageClass | str | None = None,
        timespan: Timespan | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a dataset, or a part of it.

        Parameters
        ----------
        datasetRefOrType : `DatasetRef`, `DatasetType` or `str`
            Dataset, or its type; ``name.component`` for a part (``calexp.wcs``).
        dataId : mapping or `DataCoordinate`, optional
            Data ID.
        parameters : mapping, optional
            What the storage class allows: ``bbox`` of images, ``columns`` of tables.
        collections : `str` or iterable of `str`, optional
            Where to look, in order; the butler's when not given.
        storageClass : `str` or `StorageClass`, optional
            Kind of object wanted.
        timespan : `Timespan`, optional
            Time for which a calibration is wanted.
        **kwargs
            Further data ID values (``visit=903344``).

        Raises
        ------
        DatasetNotFoundError
            If there is none; says what was searched.
        DatasetFileError
            If its file is missing or damaged.
        """
        ref, file, override = self._finder.located(datasetRefOrType, dataId, collections, timespan, kwargs)
        wanted = storageClass.name if isinstance(storageClass, StorageClass) else storageClass
        return self._datastore.get(
            stored(ref, file), ref, parameters=parameters, storage_class=wanted or override
        )

    def getDeferred(
        self,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        collections: str | Iterable[str] | None = None,
        storageClass: StorageClass | str | None = None,
        timespan: Timespan | None = None,
        **kwargs: Any,
    ) -> DeferredDatasetHandle:
        """Return a handle that reads a dataset when asked; arguments are those of `get`."""
        ref, _, override = self._finder.located(datasetRefOrType, dataId, collections, timespan, kwargs)
        return DeferredDatasetHandle(self, ref, parameters, storageClass or override)

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
        except DatasetNotFoundError:
            return DatasetExistence.UNRECOGNIZED
        if file is None:
            return DatasetExistence.RECORDED
        if not full_check:
            return DatasetExistence.KNOWN
        known = DatasetExistence.RECORDED | DatasetExistence.DATASTORE
        return DatasetExistence.VERIFIED if self._datastore.exists(file.path) else known

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
    ) -> dataset_files.DatasetURI:
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
            target = self._target(datasetRefOrType, dataId, run, kwargs)
            return dataset_files.DatasetURI(self._datastore.uri(self._datastore.path_of(target)))
        return dataset_files.DatasetURI(self._datastore.uri(stored(ref, file).path))

    # Writing

    def _target(
        self,
        ref_or_type: DatasetRef | DatasetType | str,
        data_id: DataIdLike,
        run: str | None,
        kwargs: Mapping[str, Any],
    ) -> DatasetRef:
        """Return the dataset a put makes."""
        if isinstance(ref_or_type, DatasetRef):
            if run is not None and run != ref_or_type.run:
                raise CollectionTypeError(f"The dataset is of run {ref_or_type.run!r}, not {run!r}")
            registered, component, _ = self._finder.type_of(ref_or_type.datasetType)
            if component is None:
                return DatasetRef(registered, ref_or_type.dataId, ref_or_type.run, id=ref_or_type.id)
        else:
            registered, component, _ = self._finder.type_of(ref_or_type)
        if component is not None:
            raise DatasetTypeError(
                f"{registered.name}.{component} is a part; put the whole {registered.name!r}."
            )
        run = run or self._defaults.run
        if run is None:
            raise CollectionTypeError(
                f"No run to put {registered.name!r} in: give run=..., or open the butler with one."
            )
        completed = self._finder.completion.complete(registered.dimensions, data_id, kwargs)
        return DatasetRef(registered, completed.data_id, run)

    def put(
        self,
        obj: Any,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        run: str | None = None,
        **kwargs: Any,
    ) -> DatasetRef:
        """Write a dataset.

        Parameters
        ----------
        obj : object
            What to write.
        datasetRefOrType : `DatasetRef`, `DatasetType` or `str`
            Dataset, or its type, which must be registered.
        dataId : mapping or `DataCoordinate`, optional
            Data ID.
        run : `str`, optional
            RUN collection; the butler's when not given.
        **kwargs
            Further data ID values.

        Returns
        -------
        ref : `DatasetRef`
            The new dataset.

        Raises
        ------
        ConflictingDefinitionError
            If the run has a dataset of the type for the data ID; that one is not touched.
        ReadOnlyRepositoryError
            If the repository was opened for reading, or cannot be written.
        DatasetFileError
            If the file cannot be written; nothing is left behind.
        """
        self._require_writeable("put a dataset")
        ref = self._target(datasetRefOrType, dataId, run, kwargs)
        staged = self._datastore.stage(obj, ref)
        try:
            with self._files.begin():
                files = FileTable.from_records([staged.record])
                self._registry.insert_datasets(DatasetTable.from_refs(ref.datasetType, [ref]), files)
                self._files.publish(staged)
        except BaseException:
            staged.discard()
            raise
        return ref


def _reopen(
    repository: Repository,
    collections: tuple[str, ...],
    run: str | None,
    writeable: bool,
    data_id: dict[str, Any],
) -> Butler:
    return Butler(repository, collections=collections, run=run, writeable=writeable, **data_id)
