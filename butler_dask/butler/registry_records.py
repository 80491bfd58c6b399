"""RegistryRecords: dimension records and data IDs under the reference's registry names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.dimensions import DimensionElement, DimensionGroup
from .registry_parts import DataIdArgument, RegistryParts, mapping_of


class RegistryRecords(RegistryParts):
    """Inserts dimension records and expands data IDs; `ButlerRegistry` inherits it."""

    # Dimension records

    def insertDimensionData(
        self,
        element: DimensionElement | str,
        *data: Mapping[str, Any] | DimensionRecord,
        conform: bool = True,
        replace: bool = False,
        skip_existing: bool = False,
    ) -> None:
        """Insert records of a dimension; see `DimensionRecords.insert`."""
        self._registry.records.insert(str(element), data, replace=replace, skip_existing=skip_existing)

    def syncDimensionData(
        self,
        element: DimensionElement | str,
        row: Mapping[str, Any] | DimensionRecord,
        conform: bool = True,
        update: bool = False,
    ) -> bool | dict[str, Any]:
        """Insert a record unless it exists; see `DimensionRecords.sync`."""
        record: DimensionRecord
        if isinstance(row, DimensionRecord):
            record = row
        else:
            record = self.dimensions.element(str(element)).RecordClass(**row)
        return self._registry.records.sync(record, update=update)

    # Data IDs

    def expandDataId(
        self,
        dataId: DataIdArgument = None,
        *,
        dimensions: DimensionGroup | Iterable[str] | None = None,
        records: Mapping[str, DimensionRecord | None] | None = None,
        withDefaults: bool = True,
        **kwargs: Any,
    ) -> DataCoordinate:
        """Return a data ID with its dimension records and implied values.

        Parameters
        ----------
        dataId : mapping or `DataCoordinate`, optional
            Values by dimension name, or by another key (a detector's name).
        dimensions : `DimensionGroup` or iterable of `str`, optional
            Dimensions of the result; those of the values when not given.
        records : mapping of `str` to `DimensionRecord`, optional
            Records that need not be read again.
        withDefaults : `bool`
            Whether the defaults give instrument and skymap where they are missing.
        **kwargs
            Further values, which win.

        Raises
        ------
        DimensionNameError
            For an unknown key, or if a required value is missing.
        DataIdValueError
            If the repository has no such dimension value.
        InconsistentDataIdError
            If values contradict one another.
        """
        if isinstance(dataId, DataCoordinate) and dimensions is None and not kwargs:
            return self._registry.records.expand(dataId)
        given = {**mapping_of(dataId), **kwargs}
        if dimensions is None:
            dimensions = [n for n in given if n in self.dimensions]
        group = self.dimensions.conform(dimensions)
        data_id = self._finder.complete(group, given, {}, with_defaults=withDefaults).data_id
        if records is not None:
            data_id = DataCoordinate(data_id.dimensions, data_id.required_values, dict(records))
        return self._registry.records.expand(data_id)
