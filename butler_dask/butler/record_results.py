"""Results of queries: dimension records."""

from __future__ import annotations

from collections.abc import Sequence

from ..registry.registry import Registry
from ..vocabulary.data_id import DimensionRecord
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.selection import Selection
from .query_results import QueryResults


class DimensionRecordQueryResults(QueryResults[DimensionRecord]):
    """Records of one dimension element."""

    def __init__(self, registry: Registry, selection: Selection, element: str) -> None:
        super().__init__(registry, selection)
        self._element = DimensionUniverse()[element]

    def _with(self, selection: Selection) -> DimensionRecordQueryResults:
        return DimensionRecordQueryResults(self._registry, selection, self._element.name)

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions that identify a record."""
        return self._element.dimensions

    @property
    def element(self) -> DimensionElement:
        """Whose records they are."""
        return self._element

    def _fetch(self, limit: int | None = None) -> Sequence[DimensionRecord]:
        return self._registry.queries.records(self._element.name, self._selection.at_most(limit))
