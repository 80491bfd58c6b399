"""Butler: reads, writes and finds the datasets of a repository.

A thin layer over two peers that know nothing of each other: the registry, which knows what exists, and the
datastore, which has the files. Names and meanings are those of the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from os import PathLike
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self

from ..datastore.deferred_dataset import DeferredDatasetHandle
from ..vocabulary.collection import CollectionType, split_names
from ..vocabulary.data_id import DataIdValue
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.file_record import FileTable
from ..vocabulary.search_defaults import SearchDefaults, lone_values
from ..vocabulary.storage_class import StorageClass
from ..vocabulary.timespan import Timespan
from .butler_collections import ButlerCollections
from .butler_repositories import ButlerRepositories
from .dataset_finder import DataIdLike, DatasetFinder, stored
from .dataset_lookups import DatasetLookups
from .dataset_queries import DatasetQueries
from .dataset_removal import DatasetRemoval
from .dataset_transfers import DatasetTransfers
from .open_repository import OpenRepository
from .registry_names import ButlerRegistry
from .repository import Repository

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore


class Butler(ButlerRepositories, DatasetLookups, DatasetQueries, DatasetRemoval, DatasetTransfers):
    """A repository, with defaults for what to search and where to put.

    Parameters
    ----------
    config : `str`, path, `Repository`, `Butler` or `OpenRepository`
        Directory or URL of the repository, its ``butler.yaml``, or a label (see `get_known_repos`); of
        another butler, its repository is opened again. An open repository is shared, its transactions too,
        and ``writeable`` is as it was opened.
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
        config: str | PathLike[str] | Repository | Butler | OpenRepository,
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        writeable: bool | None = None,
        inferDefaults: bool = True,
        **dataId: DataIdValue,
    ) -> None:
        if isinstance(config, OpenRepository):
            self.repository = config
        else:
            settings = config.repository.settings if isinstance(config, Butler) else config
            writeable = run is not None if writeable is None else writeable
            self.repository = OpenRepository.open(settings, writeable=writeable)
        self._registry, self._datastore = self.repository.registry, self.repository.datastore
        self._given = None if collections is None else split_names(collections)
        self._infer, self._data_id = inferDefaults, dataId
        try:
            self._defaults = self._checked_defaults(run)
        except BaseException:
            if self.repository is not config:
                self.close()
            raise
        self._finder = DatasetFinder(self._registry, self._defaults)

    def _checked_defaults(self, run: str | None) -> SearchDefaults:
        collections = self._registry.collections
        if run is not None and self.isWriteable():
            collections.register(run, CollectionType.RUN)
        names = ([run] if run else []) if self._given is None else self._given
        for name in names:
            collections.get(name)
        infers = self._infer and bool(names)
        return SearchDefaults(names, run, self._data_id, self._inferred_data_id if infers else None)

    def _inferred_data_id(self) -> dict[str, DataIdValue]:
        return lone_values(self._registry.collections.governor_values(self._defaults.collections))

    @classmethod
    def from_config(
        cls, config: str | PathLike[str] | Repository | Butler | OpenRepository, **kwargs: Any
    ) -> Self:
        """Open a repository; arguments are those of the class."""
        return cls(config, **kwargs)

    def clone(
        self,
        *,
        collections: str | Iterable[str] | EllipsisType | None = ...,
        run: str | EllipsisType | None = ...,
        inferDefaults: bool | EllipsisType = ...,
        dataId: Mapping[str, DataIdValue] | EllipsisType = ...,
        metrics: object = None,
    ) -> Butler:
        """Return another butler of this repository, on the same connection and in the same transaction.

        Parameters
        ----------
        collections, run, inferDefaults
            As for the class; those of this butler when not given.
        dataId : mapping, optional
            Default data ID values; those given to this butler when not given.
        metrics
            Accepted for the reference's sake.
        """
        values: dict[str, Any] = dict(self._data_id if isinstance(dataId, EllipsisType) else dataId)
        return Butler(
            self.repository,
            collections=self._given if isinstance(collections, EllipsisType) else collections,
            run=self.run if isinstance(run, EllipsisType) else run,
            inferDefaults=self._infer if isinstance(inferDefaults, EllipsisType) else inferDefaults,
            **values,
        )

    def close(self) -> None:
        """Close the connections to the database."""
        self.repository.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        d = self._defaults
        return _reopen, (
            self.repository.settings,
            d.collections,
            d.run,
            self.isWriteable(),
            self._infer,
            self._data_id,
        )

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
        return ButlerRegistry(self._registry, self._defaults)

    @property
    def datastore(self) -> Datastore:
        """The datastore."""
        return self._datastore

    def isWriteable(self) -> bool:
        """Return whether the repository may be changed."""
        return self.repository.writeable

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside take effect together; on an exception files put are removed too."""
        with self.repository.transaction() if self.isWriteable() else nullcontext():
            yield

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

    # Writing

    def put(
        self,
        obj: Any,
        datasetRefOrType: DatasetRef | DatasetType | str,
        /,
        dataId: DataIdLike = None,
        *,
        run: str | None = None,
        provenance: object = None,
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
            RUN collection; the butler's when not given. A reference has its own.
        provenance
            Accepted for the reference's sake: what a dataset was made of is recorded with its quantum.
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
        self.repository.require_writeable("put a dataset")
        ref = self._finder.with_path_values(
            self._finder.new_dataset(datasetRefOrType, dataId, run, kwargs), self._datastore
        )
        staged = self._datastore.stage(obj, ref)
        try:
            with self.repository.transaction():
                table = DatasetTable.from_refs(ref.datasetType, [ref])
                files = FileTable.from_records([staged.record])
                if isinstance(datasetRefOrType, DatasetRef) and self._lacks_file(ref):
                    self._registry.inserts.add_files(table, files)
                else:
                    self._registry.inserts.insert(table, files)
                self.repository.publish(staged)
        except BaseException:
            staged.discard()
            raise
        return ref

    def _lacks_file(self, ref: DatasetRef) -> bool:
        """Return whether a dataset is recorded, but its file was removed."""
        if self._registry.datasets.files_of_ids([ref.id])[0] is not None:
            return False
        known = self._registry.datasets.find(ref.id)
        return known is not None and (known.dataId, known.run) == (ref.dataId, ref.run)


def _reopen(
    repository: Repository,
    collections: tuple[str, ...],
    run: str | None,
    writeable: bool,
    infer: bool,
    data_id: dict[str, Any],
) -> Butler:
    return Butler(
        repository, collections=collections, run=run, writeable=writeable, inferDefaults=infer, **data_id
    )
