"""Results of queries: rows of any fields of dimensions and datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import (
    InvalidQueryError,
    did_you_mean,
)
from ..registry.registry import Registry
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.selection import Selection
from .query_results import QueryResults

DATASET_REF_FIELDS = ("dataset_id", "run")
"""Fields of a dataset that its reference needs."""


class GeneralResultTuple(NamedTuple):
    """One row of general results: its data ID, datasets, and all of its values by name."""

    data_id: DataCoordinate
    refs: list[DatasetRef]
    raw_row: dict[str, Any]


class GeneralQueryResults(QueryResults[dict[str, Any]]):
    """Rows of data ID values and fields, as `dict`.

    Parameters
    ----------
    registry, selection
        See `QueryResults`.
    dimensions : `DimensionGroup`
        Dimensions of the rows.
    fields : sequence of `str`
        ``element.field`` and ``dataset_type.field``.
    find_first : `str` or `None`
        Dataset type of which only the first dataset of each data ID counts.
    expanded : `bool`
        Whether rows hold all fields of the dimensions' records.
    """

    def __init__(
        self,
        registry: Registry,
        selection: Selection,
        dimensions: DimensionGroup,
        fields: Sequence[str],
        find_first: str | None,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, selection)
        self._group, self._fields, self._find_first = dimensions, tuple(fields), find_first
        self.has_dimension_records = expanded

    def _with(self, selection: Selection) -> GeneralQueryResults:
        return self._same(selection, self.has_dimension_records)

    def _same(self, selection: Selection, expanded: bool) -> GeneralQueryResults:
        return GeneralQueryResults(
            self._registry, selection, self._group, self._fields, self._find_first, expanded
        )

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the rows."""
        return self._group

    def with_dimension_records(self) -> GeneralQueryResults:
        """Return results whose rows hold the fields of dimension records, and data IDs the records."""
        return self._same(self._selection, True)

    def _record_fields(self) -> list[str]:
        universe = DimensionUniverse()
        out = []
        for name in self._group.elements if self.has_dimension_records else ():
            element = universe[name]
            if element.has_records:
                out += [f"{name}.{f}" for f in element.schema.names if f not in self._group.names]
        own = {f"{n}.{key.name}" for n in self._group.names if (key := universe[n].key) is not None}
        return [f for f in dict.fromkeys(out) if f not in own]

    def _fetch(self, limit: int | None = None) -> Sequence[dict[str, Any]]:
        return self._registry.queries.rows(
            self._group,
            list(dict.fromkeys([*self._fields, *self._record_fields()])),
            self._selection.at_most(limit),
            find_first=self._find_first,
        )

    def iter_tuples(self, *dataset_types: DatasetType) -> Iterator[GeneralResultTuple]:
        """Yield rows as data ID, references to datasets of some types, and values.

        Raises
        ------
        InvalidQueryError
            If the fields a reference needs were not asked for.
        """
        for kind in dataset_types:
            needed = [f"{kind.name}.{f}" for f in DATASET_REF_FIELDS]
            absent = [f for f in needed if f not in self._fields]
            if absent:
                raise InvalidQueryError(
                    f"References to {kind.name!r} need the fields {', '.join(absent)}; "
                    f"ask for them by dataset_fields={{{kind.name!r}: ...}}."
                )
        rows = list(self)
        keys = self._group.data_coordinate_keys
        table = DataIdTable.from_values(self._group, {k: [r[k] for r in rows] for k in keys}, len(rows))
        data_ids = self._registry.records.expand_all(table) if self.has_dimension_records else list(table)
        for row, data_id in zip(rows, data_ids, strict=True):
            refs = [
                DatasetRef(
                    kind,
                    data_id.subset(kind.dimensions),
                    row[f"{kind.name}.run"],
                    id=row[f"{kind.name}.dataset_id"],
                )
                for kind in dataset_types
            ]
            yield GeneralResultTuple(data_id, refs, row)


def general_fields(
    names: Iterable[str],
    dimension_fields: Mapping[str, Iterable[str]],
    dataset_fields: Mapping[str, Any],
    dataset_types: Iterable[str],
    dimensions: DimensionGroup,
) -> list[str]:
    """Return the qualified names of the fields asked for, in order.

    Raises
    ------
    InvalidQueryError
        If one is none, or of a dataset type that is not joined.
    """
    universe, known = DimensionUniverse(), list(dataset_types)
    out = list(names)
    for element, fields in dimension_fields.items():
        out += [f"{universe[element].name}.{f}" for f in fields]
    for name, fields in dataset_fields.items():
        if name not in known:
            raise InvalidQueryError(
                f"Dataset type {name!r} is not in the query; add join_dataset_search({name!r}, ...)."
                f"{did_you_mean(name, known)}"
            )
        out += [f"{name}.{f}" for f in (DATASET_REF_FIELDS if fields is ... else fields)]
    return [_qualified(n, dimensions) for n in dict.fromkeys(out)]


def _qualified(name: str, dimensions: DimensionGroup) -> str:
    # `purpose` is `detector.purpose` where only the detector has one; anything else the registry judges.
    if "." in name:
        return name
    universe = DimensionUniverse()
    owners = [n for n in dimensions.elements if name in universe[n].schema.names]
    return f"{owners[0]}.{name}" if len(owners) == 1 else name
