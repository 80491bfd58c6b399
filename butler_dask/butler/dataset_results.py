"""Results of queries: data IDs, and the datasets of one type or of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..errors import (
    DatasetTypeError,
    DimensionNameError,
    InvalidQueryError,
)
from ..registry.registry import Registry
from ..vocabulary.collection import is_glob
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.selection import Selection
from .query_results import QueryResults


class DataCoordinateQueryResults(QueryResults[DataCoordinate]):
    """Data IDs of some dimensions."""

    def __init__(
        self,
        registry: Registry,
        selection: Selection,
        dimensions: DimensionGroup,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, selection)
        self._group, self.has_dimension_records = dimensions, expanded

    def _with(self, selection: Selection) -> DataCoordinateQueryResults:
        return DataCoordinateQueryResults(self._registry, selection, self._group, self.has_dimension_records)

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the data IDs."""
        return self._group

    def table(self, limit: int | None = None) -> DataIdTable:
        """Return the data IDs as columns."""
        return self._registry.queries.data_ids(self._group, self._selection.at_most(limit))

    def _fetch(self, limit: int | None = None) -> Sequence[DataCoordinate]:
        table = self.table(limit)
        return self._registry.records.expand_all(table) if self.has_dimension_records else list(table)

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of data IDs, counted by the database."""
        if self._found is not None or self._selection.limit is not None or self._selection.offset:
            return len(self)
        return self._registry.queries.count(self._group, self._selection)

    def with_dimension_records(self) -> DataCoordinateQueryResults:
        """Return results whose data IDs carry their records."""
        return DataCoordinateQueryResults(self._registry, self._selection, self._group, True)

    expanded = with_dimension_records

    def hasFull(self) -> bool:
        """Return whether data IDs have values of implied dimensions; they do."""
        return True

    def hasRecords(self) -> bool:
        """Return whether data IDs carry their records."""
        return self.has_dimension_records

    def toSet(self) -> frozenset[DataCoordinate]:
        """Return the data IDs as a set."""
        return frozenset(self)

    def toSequence(self) -> list[DataCoordinate]:
        """Return the data IDs as a list."""
        return list(self)

    def subset(
        self, dimensions: DimensionGroup | Iterable[str] | str | None = None, *, unique: bool = False
    ) -> DataCoordinateQueryResults:
        """Return the data IDs of fewer dimensions, each once.

        Parameters
        ----------
        dimensions : iterable of `str`, optional
            Dimensions kept; all by default.
        unique : `bool`
            Accepted as the reference does; data IDs are always unique.

        Raises
        ------
        DimensionNameError
            If these data IDs do not have one of the dimensions.
        """
        group = self._group if dimensions is None else DimensionUniverse().conform(dimensions)
        if not group <= self._group:
            raise DimensionNameError(f"Data IDs of {self._group} have no subset of {group}.")
        selection = replace(self._selection, joined=self._selection.joined.union(self._group))
        return DataCoordinateQueryResults(self._registry, selection, group, self.has_dimension_records)

    @contextmanager
    def materialize(self) -> Iterator[DataCoordinateQueryResults]:
        """Ask now, and give results that are looked up among these data IDs."""
        table = self.table()
        yield DataCoordinateQueryResults(
            self._registry,
            replace(self._selection.among_only(table), order_by=self._selection.order_by),
            self._group,
            self.has_dimension_records,
        )

    def findDatasets(
        self,
        datasetType: DatasetType | str,
        collections: Any,
        *,
        findFirst: bool = True,
        components: bool = False,
    ) -> DatasetRefQueryResults:
        """Return the datasets of a type for these data IDs, whose dimensions are at least the type's.

        Raises
        ------
        DatasetTypeError
            If the type has dimensions beyond these.
        """
        kind = self._registry.dataset_types.get(
            datasetType if isinstance(datasetType, str) else datasetType.name
        )
        kind = with_storage_class(kind, datasetType)
        if not kind.dimensions <= self._group:
            raise DatasetTypeError(
                f"Datasets of type {kind.name!r} have dimensions {kind.dimensions}, beyond {self._group} of "
                "the data IDs; findRelatedDatasets joins them."
            )
        return self._datasets(kind, collections, findFirst)

    def findRelatedDatasets(
        self,
        datasetType: DatasetType | str,
        collections: Any,
        *,
        findFirst: bool = True,
        dimensions: DimensionGroup | Iterable[str] | None = None,
    ) -> Iterator[tuple[DataCoordinate, DatasetRef]]:
        """Yield data IDs with datasets of a type that relate to them, by dimensions or overlap.

        Parameters
        ----------
        datasetType : `DatasetType` or `str`
            Type.
        collections : `str` or iterable of `str`
            Where to look.
        findFirst : `bool`
            Only the first dataset of each of its data IDs.
        dimensions : iterable of `str`, optional
            Dimensions of the data IDs yielded; those of these results by default.
        """
        kind = self._registry.dataset_types.get(
            datasetType if isinstance(datasetType, str) else datasetType.name
        )
        own = self._group if dimensions is None else DimensionUniverse().conform(dimensions)
        datasets = self._datasets(kind, collections, findFirst)
        refs = {ref.dataId: ref for ref in datasets} if findFirst else None
        pairs = DataCoordinateQueryResults(
            self._registry, datasets.data_ids.selection, own.union(kind.dimensions, self._group)
        )
        by_id: dict[DataCoordinate, list[DatasetRef]] = {}
        for ref in datasets if refs is None else refs.values():
            by_id.setdefault(ref.dataId, []).append(ref)
        seen = set()
        for data_id in pairs:
            key = data_id.subset(own)
            for ref in by_id.get(data_id.subset(kind.dimensions), ()):
                if (key, ref.id) not in seen:
                    seen.add((key, ref.id))
                    yield key, ref

    def _datasets(self, kind: DatasetType, collections: Any, find_first: bool) -> DatasetRefQueryResults:
        names = [collections] if isinstance(collections, str) else list(collections)
        selection = self._selection
        if selection.limit is not None or selection.offset:
            selection = selection.among_only(self.table())
        else:
            joined = selection.joined.union(self._group)
            selection = replace(selection, joined=joined, order_by=())
        return DatasetRefQueryResults(self._registry, selection, kind, names, find_first)


class DatasetRefQueryResults(QueryResults[DatasetRef]):
    """Datasets of one type."""

    def __init__(
        self,
        registry: Registry,
        selection: Selection,
        dataset_type: DatasetType,
        collections: Sequence[str],
        find_first: bool,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, selection)
        self._type, self._collections, self._find_first = dataset_type, tuple(collections), find_first
        self.has_dimension_records = expanded

    def _with(self, selection: Selection) -> DatasetRefQueryResults:
        return self._same(selection, self.has_dimension_records)

    def _same(self, selection: Selection, expanded: bool) -> DatasetRefQueryResults:
        return DatasetRefQueryResults(
            self._registry, selection, self._type, self._collections, self._find_first, expanded
        )

    @property
    def _name(self) -> str:
        return self._type.nameAndComponent()[0]

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the datasets."""
        return self._type.dimensions

    @property
    def dataset_type(self) -> DatasetType:
        """Type of the datasets."""
        return self._type

    @property
    def data_ids(self) -> DataCoordinateQueryResults:
        """The data IDs there are datasets for."""
        selection = self._selection.joining(self._name, self._collections)
        return DataCoordinateQueryResults(
            self._registry, selection, self.dimensions, self.has_dimension_records
        )

    @property
    def parentDatasetType(self) -> DatasetType:
        """Type of the datasets, of which they may be components."""
        return self._registry.dataset_types.get(self._name) if self._type.isComponent() else self._type

    dataIds = data_ids

    def byParentDatasetType(self) -> Iterator[DatasetRefQueryResults]:
        """Yield the results of each type: these."""
        yield self

    def table(self, limit: int | None = None) -> DatasetTable:
        """Return the datasets as columns."""
        return self._registry.queries.datasets(
            self._name, self._collections, self._selection.at_most(limit), find_first=self._find_first
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DatasetRef]:
        return self.refs_of(self.table(limit))

    def refs_of(self, table: DatasetTable) -> list[DatasetRef]:
        """Return references to datasets of `table`, as these results give them."""
        if self.has_dimension_records:
            data_ids = self._registry.records.expand_all(table.data_ids)
            refs = [ref.expanded(data_id) for ref, data_id in zip(table, data_ids, strict=True)]
        else:
            refs = table.with_data_ids(self._registry.records.expand_table(table.data_ids)).refs()
        if (
            self._type.storageClass_name != table.dataset_type.storageClass_name
            and not self._type.isComponent()
        ):
            refs = [ref.overrideStorageClass(self._type.storageClass_name) for ref in refs]
        component = self._type.component()
        return refs if component is None else [ref.makeComponentRef(component) for ref in refs]

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of datasets."""
        return len(self.table() if self._found is None else self._found)

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no dataset, a sentence a reason; none if there is one."""
        return self.data_ids.explain_no_results(execute)

    def with_dimension_records(self) -> DatasetRefQueryResults:
        """Return results whose data IDs carry their records."""
        return self._same(self._selection, True)

    expanded = with_dimension_records


def require_order(collections: Any) -> None:
    """Raise if collections are given by globs, which have no order in which a dataset is first.

    Raises
    ------
    InvalidQueryError
        If they are.
    """
    given = [collections] if isinstance(collections, str) else collections or ()
    if collections is ... or any(map(is_glob, given)):
        raise InvalidQueryError(
            f"Which dataset is the first depends on the order of collections, and globs have none: name the "
            f"collections instead of {collections!r}, or give find_first=False to get all datasets."
        )


def with_storage_class(registered: DatasetType, asked: DatasetType | str) -> DatasetType:
    """Return a registered dataset type, to be read as the storage class it was asked for with."""
    if isinstance(asked, str) or asked.storageClass_name == registered.storageClass_name:
        return registered
    return registered.overrideStorageClass(asked.storageClass_name)
