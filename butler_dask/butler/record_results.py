"""Results of queries: dimension records."""

from __future__ import annotations

from collections.abc import Sequence

from ..registry.registry import Registry
from ..vocabulary.data_id import DimensionRecord
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.search_defaults import SearchDefaults
from .query_results import QueryResults
from .query_terms import QueryTerms


class DimensionRecordQueryResults(QueryResults[DimensionRecord]):
    """Records of one dimension element."""

    def __init__(self, registry: Registry, defaults: SearchDefaults, terms: QueryTerms, element: str) -> None:
        super().__init__(registry, defaults, terms)
        self._element = DimensionUniverse()[element]

    def _with(self, terms: QueryTerms) -> DimensionRecordQueryResults:
        return DimensionRecordQueryResults(self._registry, self._defaults, terms, self._element.name)

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions that identify a record."""
        return self._element.dimensions

    @property
    def element(self) -> DimensionElement:
        """Whose records they are."""
        return self._element

    def _fetch(self, limit: int | None = None) -> Sequence[DimensionRecord]:
        return self._registry.queries.records(
            self._element.name,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._conditions(),
        )
