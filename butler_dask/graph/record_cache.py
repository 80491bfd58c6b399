"""RecordCache: dimension records a graph in the making needs, each fetched once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.timespan import MAX_NS, MIN_NS

if TYPE_CHECKING:
    from ..registry.registry import Registry

Key = tuple[Any, ...]


class RecordCache:
    """Dimension records by element and required values.

    Parameters
    ----------
    registry : `Registry`
        Where they come from.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._records: dict[str, dict[Key, DimensionRecord]] = {}

    def of_rows(
        self, element_name: str, data_ids: DataIdTable
    ) -> tuple[list[DimensionRecord | None], NDArray[np.int64]]:
        """Return the distinct records of an element, and which of them each row has.

        Parameters
        ----------
        element_name : `str`
            Element whose dimensions the table has.
        data_ids : `DataIdTable`, n rows
            Data IDs.

        Returns
        -------
        records : `list` [`DimensionRecord` or `None`]
            One for each distinct data ID of the element.
        rows : `numpy.ndarray`, shape (n,), int64
            Index into ``records`` of each row.
        """
        keys, inverse = self._fetch(element_name, data_ids)
        known = self._records[element_name]
        return [known.get(k) for k in keys], inverse

    def _fetch(self, element_name: str, data_ids: DataIdTable) -> tuple[list[Key], NDArray[np.int64]]:
        """Make sure the records of these data IDs are known; return their keys and each row's key."""
        element = DimensionUniverse()[element_name]
        unique, inverse = data_ids.subset(element.dimensions).unique()
        known = self._records.setdefault(element_name, {})
        keys: list[Key] = list(zip(*(unique.values(n).tolist() for n in element.required), strict=True))
        missing = np.array([i for i, k in enumerate(keys) if k not in known], dtype=np.int64)
        if len(missing):
            fetched = self._registry.records.fetch(element_name, unique.take(missing))
            known.update(
                (keys[i], r) for i, r in zip(missing.tolist(), fetched, strict=True) if r is not None
            )
        return keys, inverse

    def timespans(self, data_ids: DataIdTable) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Return begin and end of each row's observation [TAI ns], each shape (n,), int64.

        `None` if the dimensions have no time. Records without a timespan count as unbounded.

        Parameters
        ----------
        data_ids : `DataIdTable`, n rows
            Data IDs.

        Returns
        -------
        begin : `numpy.ndarray`, shape (n,), int64
            Begin of each [TAI ns].
        end : `numpy.ndarray`, shape (n,), int64
            End of each [TAI ns], which is no longer in it.
        """
        names = data_ids.dimensions.temporal_elements
        if not names:
            return None
        records, rows = self.of_rows(names[0], data_ids)
        spans = [None if r is None else r.timespan for r in records]
        begin = np.array([MIN_NS if s is None else s.begin_ns for s in spans], dtype=np.int64)
        end = np.array([MAX_NS if s is None else s.end_ns for s in spans], dtype=np.int64)
        return begin[rows], end[rows]

    def expanded(self, data_id: DataCoordinate) -> DataCoordinate:
        """Return a data ID with its records and implied values.

        Parameters
        ----------
        data_id : `DataCoordinate`
            With at least the required values.

        Returns
        -------
        expanded : `DataCoordinate`
            Elements whose record is missing have `None`.
        """
        records: dict[str, DimensionRecord | None] = {}
        table = DataIdTable.from_data_ids(data_id.dimensions, [data_id])
        if data_id.hasFull():
            values = {k: [v] for k, v in data_id.mapping.items()}
            table = DataIdTable.from_values(data_id.dimensions, values, 1)
        for name in data_id.dimensions.elements:
            element = data_id.universe[name]
            if element.has_records and set(element.required) <= set(table.columns):
                found, _ = self.of_rows(name, table)
                records[name] = found[0]
        return data_id.expanded(records)

    def kept(self, tables: Iterable[DataIdTable]) -> dict[str, dict[Key, DimensionRecord]]:
        """Return the records that data IDs in these tables refer to.

        Those of relations are left out: there is one for each quantum (visit_detector_region), and what is in
        them is asked of the data themselves.

        Parameters
        ----------
        tables : iterable of `DataIdTable`
            Data IDs of the quanta of each task.

        Returns
        -------
        records : `dict` [`str`, `dict`]
            By element name, then by required values.
        """
        wanted: dict[str, dict[Key, DimensionRecord]] = {}
        # Tasks share tables; each is looked at once.
        for table in {id(t): t for t in tables}.values():
            for name in table.dimensions.names:
                element = table.dimensions.universe[name]
                if not element.has_records or not set(element.dimensions.required) <= set(table.columns):
                    continue
                keys, _ = self._fetch(name, table)
                known = self._records[name]
                wanted.setdefault(name, {}).update((k, known[k]) for k in keys if k in known)
        return wanted
