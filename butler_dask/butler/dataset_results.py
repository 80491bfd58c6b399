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
from ..registry.query_conditions import QueryConditions
from ..registry.registry import Registry
from ..vocabulary.collection import is_glob
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.search_defaults import SearchDefaults
from .query_results import QueryResults
from .query_terms import QueryTerms


class DataCoordinateQueryResults(QueryResults[DataCoordinate]):
    """Data IDs of some dimensions."""

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        terms: QueryTerms,
        dimensions: DimensionGroup,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, defaults, terms)
        self._group, self.has_dimension_records = dimensions, expanded

    def _with(self, terms: QueryTerms) -> DataCoordinateQueryResults:
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, self._group, self.has_dimension_records
        )

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the data IDs."""
        return self._group

    def table(self, limit: int | None = None) -> DataIdTable:
        """Return the data IDs as columns."""
        return self._registry.queries.data_ids(
            self._group,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._conditions(),
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DataCoordinate]:
        table = self.table(limit)
        return self._registry.records.expand_all(table) if self.has_dimension_records else list(table)

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of data IDs, counted by the database."""
        if self._found is not None or self._terms.limit is not None or self._terms.offset:
            return len(self)
        return self._registry.queries.count(self._group, **self._conditions())

    def with_dimension_records(self) -> DataCoordinateQueryResults:
        """Return results whose data IDs carry their records."""
        return DataCoordinateQueryResults(self._registry, self._defaults, self._terms, self._group, True)

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
        terms = replace(self._terms, joined=self._terms.joined.union(self._group))
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, group, self.has_dimension_records
        )

    @contextmanager
    def materialize(self) -> Iterator[DataCoordinateQueryResults]:
        """Ask now, and give results that are looked up among these data IDs."""
        table = self.table()
        yield DataCoordinateQueryResults(
            self._registry,
            self._defaults,
            QueryTerms(among=(table,), order_by=self._terms.order_by),
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
        terms = datasets.data_ids.query_terms
        pairs = DataCoordinateQueryResults(
            self._registry, self._defaults, terms, own.union(kind.dimensions, self._group)
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
        terms = replace(
            self._terms,
            joined=self._terms.joined.union(self._group),
            order_by=(),
            limit=None,
            offset=None,
        )
        if self._terms.limit is not None or self._terms.offset:
            terms = QueryTerms(among=(self.table(),))
        return DatasetRefQueryResults(self._registry, self._defaults, terms, kind, names, find_first)


class DatasetRefQueryResults(QueryResults[DatasetRef]):
    """Datasets of one type."""

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        terms: QueryTerms,
        dataset_type: DatasetType,
        collections: Sequence[str],
        find_first: bool,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, defaults, terms)
        self._type, self._collections, self._find_first = dataset_type, tuple(collections), find_first
        self.has_dimension_records = expanded

    def _with(self, terms: QueryTerms) -> DatasetRefQueryResults:
        return self._same(terms, self.has_dimension_records)

    def _same(self, terms: QueryTerms, expanded: bool) -> DatasetRefQueryResults:
        return DatasetRefQueryResults(
            self._registry, self._defaults, terms, self._type, self._collections, self._find_first, expanded
        )

    @property
    def _name(self) -> str:
        return self._type.nameAndComponent()[0]

    def _conditions(self) -> QueryConditions:
        conditions = super()._conditions()
        others = [d for d in self._terms.datasets if d[0] != self._name]
        conditions["datasets"] = [*others, (self._name, self._collections)]
        return conditions

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
        searched = tuple((n, tuple(c)) for n, c in self._conditions()["datasets"])
        terms = replace(self._terms, datasets=searched)
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, self.dimensions, self.has_dimension_records
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
            self._name,
            list(self._collections),
            find_first=self._find_first,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._terms.conditions(self._defaults),
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DatasetRef]:
        table = self.table(limit)
        if self.has_dimension_records:
            data_ids = self._registry.records.expand_all(table.data_ids)
            refs = [ref.expanded(data_id) for ref, data_id in zip(table, data_ids, strict=True)]
        else:
            refs = list(table.with_data_ids(self._registry.records.expand_table(table.data_ids)))
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

    def with_dimension_records(self) -> DatasetRefQueryResults:
        """Return results whose data IDs carry their records."""
        return self._same(self._terms, True)

    expanded = with_dimension_records


class DatasetQueryResults:
    """Datasets of several types, one after the other; what ``butler.registry.queryDatasets`` gives.

    Parameters
    ----------
    parts : sequence of `DatasetRefQueryResults`
        The results of each type.
    """

    def __init__(self, parts: Sequence[DatasetRefQueryResults]) -> None:
        self._parts = tuple(parts)

    def __iter__(self) -> Iterator[DatasetRef]:
        return (ref for part in self._parts for ref in part)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    @property
    def tables(self) -> list[DatasetTable]:
        """The datasets as columns, a table for each type that has any."""
        return [table for part in self._parts if len(table := part.table())]

    def byParentDatasetType(self) -> Iterator[DatasetRefQueryResults]:
        """Yield the results of each type."""
        return iter(self._parts)

    def expanded(self) -> DatasetQueryResults:
        """Return results whose data IDs carry their records."""
        return DatasetQueryResults([p.expanded() for p in self._parts])

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of datasets."""
        return sum(p.count() for p in self._parts)

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any dataset; see `QueryResults.any`."""
        return any(p.any(execute=execute, exact=exact) for p in self._parts)

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no dataset, a sentence a reason; none if there is one."""
        if not self._parts:
            return ["No dataset type matches."]
        reasons = [p.explain_no_results(execute) for p in self._parts]
        return [r for own in reasons for r in own] if all(reasons) else []


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
