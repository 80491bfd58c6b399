"""DatasetQueryResults and DataIdQueryResults: answers of ``queryDatasets`` and ``queryDataIds``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..vocabulary.data_id import DataCoordinate, DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dimensions import DimensionGroup
from .registry import Registry


class DatasetQueryResults(Sequence[DatasetRef]):
    """Datasets a query found, read as references when iterated."""

    def __init__(self, registry: Registry, tables: Sequence[DatasetTable]) -> None:
        self._registry, self.tables = registry, tables

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def __iter__(self) -> Iterator[DatasetRef]:
        return (ref for table in self.tables for ref in table)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def count(self, value: Any = None, **_: Any) -> int:
        """Return how many there are (or, as for any sequence, how often a value occurs)."""
        return len(self) if value is None else sum(ref == value for ref in self)

    def any(self, **_: Any) -> bool:
        """Return whether there is any."""
        return len(self) > 0

    def expanded(self) -> list[DatasetRef]:
        """Return the references with dimension records in their data IDs."""
        return [ref.expanded(self._registry.expand_data_id(ref.dataId)) for ref in self]

    def byParentDatasetType(self) -> Iterator[DatasetQueryResults]:
        """Yield the datasets of each type."""
        return (DatasetQueryResults(self._registry, [t]) for t in self.tables)


class DataIdQueryResults(Sequence[DataCoordinate]):
    """Data IDs a query found, made when iterated."""

    def __init__(self, registry: Registry, table: DataIdTable) -> None:
        self._registry, self.table = registry, table

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the data IDs."""
        return self.table.dimensions

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[DataCoordinate]:
        return iter(self.table)

    def __getitem__(self, index: Any) -> Any:
        return list(self.table)[index] if isinstance(index, slice) else self.table[range(len(self))[index]]

    def count(self, value: Any = None, **_: Any) -> int:
        """Return how many there are (or, as for any sequence, how often a value occurs)."""
        return len(self) if value is None else sum(d == value for d in self)

    def any(self, **_: Any) -> bool:
        """Return whether there is any."""
        return len(self) > 0

    def expanded(self) -> list[DataCoordinate]:
        """Return the data IDs with their dimension records."""
        return [self._registry.expand_data_id(d) for d in self.table]
