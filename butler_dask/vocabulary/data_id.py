"""DataCoordinate: one data ID; and DataIdTable: many of them as integer columns.

At a million quanta a data ID object each would cost a gigabyte, so everything that is done for all of them is
done on a DataIdTable: one int64 column a dimension, string values coded by an ordered list of categories.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    DataIdError,
    DataIdValueError,
    DimensionNameError,
    DimensionValueError,
    did_you_mean,
)
from .dimensions import DimensionGroup, DimensionUniverse

if TYPE_CHECKING:
    from .dimension_record import DimensionRecord
    from .timespan import Timespan

DataIdValue = int | str
DataIdKey = str

_ROWS_AT_ONCE = 10_000
"""Rows of a table made into Python values together when it is iterated over."""


class DataCoordinate:
    """A data ID: values of the required dimensions of a group, maybe of the implied ones and their records.

    Use `standardize` to make one from what a user gives. Equality and hash look at required values only.

    Parameters
    ----------
    dimensions : `DimensionGroup`
        Which dimensions.
    values : `tuple`
        Values of ``dimensions.required``, or of ``dimensions.data_coordinate_keys`` (required, then implied).
    records : mapping of `str` to `DimensionRecord` or `None`, optional
        Records by element name.
    """

    __slots__ = ("_records", "_values", "dimensions")

    def __init__(
        self,
        dimensions: DimensionGroup,
        values: tuple[DataIdValue, ...],
        records: Mapping[str, DimensionRecord | None] | None = None,
    ) -> None:
        if len(values) not in (len(dimensions.required), len(dimensions.names)):
            raise DataIdError(f"{len(values)} values for the dimensions {dimensions}")
        self.dimensions, self._values, self._records = dimensions, values, records

    @classmethod
    def standardize(
        cls,
        mapping: Mapping[str, Any] | DataCoordinate | None = None,
        *,
        dimensions: DimensionGroup | Iterable[str] | None = None,
        universe: DimensionUniverse | None = None,
        defaults: DataCoordinate | None = None,
        **kwargs: Any,
    ) -> DataCoordinate:
        """Make a data ID from key-value pairs.

        Parameters
        ----------
        mapping : mapping, optional
            Values by dimension name.
        dimensions : `DimensionGroup` or iterable of `str`, optional
            Dimensions wanted; those of the keys given when not said. Further keys are dropped.
        universe : `DimensionUniverse`, optional
            The universe (there is one).
        defaults : `DataCoordinate`, optional
            Values for keys not given.
        **kwargs
            Further key-value pairs, which win over ``mapping``.

        Raises
        ------
        DimensionNameError
            For an unknown key; the nearest known one is named.
        DimensionValueError
            If a required value is missing.
        DataIdValueError
            If a value has the wrong type.
        """
        universe = DimensionUniverse() if universe is None else universe
        group = None if dimensions is None else universe.conform(dimensions)
        if isinstance(mapping, DataCoordinate) and not kwargs:
            if group is None or group == mapping.dimensions:
                return mapping
            if set(group.required) <= set(mapping.mapping):
                return mapping.subset(group)
        values: dict[str, Any] = {}
        if defaults is not None:
            values.update(defaults.mapping)
        given: dict[str, Any] = {}
        if isinstance(mapping, DataCoordinate):
            given.update(mapping.mapping)
        elif mapping is not None:
            given.update(mapping)
        given.update(kwargs)
        for name in given:
            if name not in universe:
                known = [d.name for d in universe.getStaticDimensions()]
                raise DimensionNameError(
                    f"Unknown key {name!r} in data ID {given!r}.{did_you_mean(name, known)}"
                )
        values.update({k: v for k, v in given.items() if v is not None})
        if group is None:
            group = universe.conform(given)
        keys = group.data_coordinate_keys
        full = all(k in values for k in keys)
        missing = [k for k in group.required if k not in values]
        if missing:
            shown = {k: v for k, v in values.items() if k in group.names}
            raise DimensionValueError(
                f"Data ID {shown!r} has no value for {', '.join(map(repr, missing))}; "
                f"needed are {', '.join(group.required)}."
            )
        wanted = keys if full else group.required
        return cls(group, tuple(_value(k, values[k], universe) for k in wanted))

    @classmethod
    def make_empty(cls, universe: DimensionUniverse | None = None) -> DataCoordinate:
        """Return the data ID of no dimension."""
        return cls(DimensionUniverse().empty, ())

    @classmethod
    def makeEmpty(cls, universe: DimensionUniverse | None = None) -> DataCoordinate:
        """Return `make_empty`, by the reference's older name."""
        return cls.make_empty(universe)

    @classmethod
    def from_required_values(
        cls, dimensions: DimensionGroup, values: tuple[DataIdValue, ...]
    ) -> DataCoordinate:
        """Make from the values of ``dimensions.required``, in order.

        Raises
        ------
        DataIdError
            If there are more or fewer values.
        """
        return cls(dimensions, _of_length(values, dimensions.required))

    @classmethod
    def from_full_values(cls, dimensions: DimensionGroup, values: tuple[DataIdValue, ...]) -> DataCoordinate:
        """Make from the values of ``dimensions.data_coordinate_keys``, in order.

        Raises
        ------
        DataIdError
            If there are more or fewer values.
        """
        return cls(dimensions, _of_length(values, dimensions.data_coordinate_keys))

    @property
    def universe(self) -> DimensionUniverse:
        """The universe."""
        return self.dimensions.universe

    @property
    def required(self) -> Mapping[str, DataIdValue]:
        """Values of the required dimensions."""
        return MappingProxyType(dict(zip(self.dimensions.required, self._values, strict=False)))

    @property
    def mapping(self) -> Mapping[str, DataIdValue]:
        """All values known, implied ones included."""
        return MappingProxyType(dict(zip(self.dimensions.data_coordinate_keys, self._values, strict=False)))

    @property
    def required_values(self) -> tuple[DataIdValue, ...]:
        """Values of the required dimensions, in order."""
        return self._values[: len(self.dimensions.required)]

    @property
    def full_values(self) -> tuple[DataIdValue, ...]:
        """Values of the required, then the implied dimensions.

        Raises
        ------
        DataIdError
            If implied values are not known.
        """
        if not self.hasFull():
            raise DataIdError(
                f"Data ID {self} has required values only; `registry.expandDataId` adds the rest."
            )
        return self._values

    @property
    def dataId(self) -> DataCoordinate:
        """The data ID itself, as other values that have one call it."""
        return self

    def hasFull(self) -> bool:
        """Return whether implied values are known."""
        return len(self._values) == len(self.dimensions.names)

    def hasRecords(self) -> bool:
        """Return whether records are attached."""
        return self._records is not None

    @property
    def records(self) -> Mapping[str, DimensionRecord | None]:
        """Records by element name.

        Raises
        ------
        DataIdError
            If none are attached; ``butler.registry.expandDataId`` attaches them.
        """
        if self._records is None:
            raise DataIdError(
                f"Data ID {self} carries no records; ask for them with `with_dimension_records=True` or "
                "`registry.expandDataId`."
            )
        return self._records

    @property
    def region(self) -> Any:
        """Region of the most specific spatial element, from the records; `None` if there is none."""
        for name in self.dimensions.spatial_elements:
            element = self.universe[name]
            if element.skypix_level is not None:
                return element.pixelization.pixel(int(self[name]))
            record = self.records.get(name)
            if record is not None and record.region is not None:
                return record.region
        return None

    @property
    def timespan(self) -> Timespan | None:
        """Timespan of the most specific temporal element, from the records."""
        for name in self.dimensions.temporal_elements:
            record = self.records.get(name)
            if record is not None:
                return record.timespan
        return None

    def expanded(self, records: Mapping[str, DimensionRecord | None]) -> DataCoordinate:
        """Return the same data ID with records, and implied values read from them."""
        values = dict(self.required)
        if self.hasFull():
            values.update(self.mapping)
        else:
            for name in self.dimensions.names:
                record = records.get(name)
                if record is not None:
                    for implied in record.definition.implies:
                        value = record.get(implied)
                        if value is not None:
                            values.setdefault(implied, value)
        keys = self.dimensions.data_coordinate_keys
        full = all(k in values for k in keys)
        return DataCoordinate(
            self.dimensions, tuple(values[k] for k in (keys if full else self.dimensions.required)), records
        )

    def subset(self, dimensions: DimensionGroup | Iterable[str]) -> DataCoordinate:
        """Return the data ID of fewer dimensions.

        Raises
        ------
        DimensionValueError
            If this one does not have all their required values.
        """
        group = self.universe.conform(dimensions)
        known = self.mapping
        missing = [n for n in group.required if n not in known]
        if missing:
            raise DimensionValueError(f"Data ID {self} has no value for {', '.join(missing)}")
        keys = group.data_coordinate_keys
        if not all(k in known for k in keys):
            keys = group.required
        records = self._records
        if records is not None:
            elements = set(group.elements)
            records = {k: v for k, v in records.items() if k in elements}
        return DataCoordinate(group, tuple(known[k] for k in keys), records)

    def union(self, other: DataCoordinate) -> DataCoordinate:
        """Return the data ID with the values of both."""
        group = self.dimensions.union(other.dimensions)
        values = {**self.mapping, **other.mapping}
        united = DataCoordinate.standardize(values, dimensions=group)
        if self._records is None or other._records is None:
            return united
        return DataCoordinate(group, united._values, {**self._records, **other._records})

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a dimension, or the default if it is not known."""
        return self.mapping.get(name, default)

    def keys(self) -> Iterable[str]:
        """Return the names of the dimensions whose values are known."""
        return self.mapping.keys()

    def values(self) -> Iterable[DataIdValue]:
        """Return the values known, in the order of `keys`."""
        return self.mapping.values()

    def items(self) -> Iterable[tuple[str, DataIdValue]]:
        """Return names and values known."""
        return self.mapping.items()

    def to_simple(self, minimal: bool = False) -> dict[str, Any]:
        """Return a plain dictionary that `from_simple` reads: ``dataId``, and ``records`` unless minimal."""
        simple: dict[str, Any] = {"dataId": dict(self.mapping)}
        if self._records is not None and not minimal:
            simple["records"] = {k: r.to_simple() for k, r in self._records.items() if r is not None}
        return simple

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON, in the reference's form."""
        return json.dumps(self.to_simple(minimal), separators=(",", ":"))

    @classmethod
    def from_simple(
        cls,
        simple: Mapping[str, Any],
        universe: DimensionUniverse | None = None,
        registry: Any = None,
    ) -> DataCoordinate:
        """Make from what `to_simple` returned."""
        data_id = cls.standardize(simple["dataId"])
        records = simple.get("records")
        if not records:
            return data_id
        return data_id.expanded({k: universe_record(k, r["record"]) for k, r in records.items()})

    @classmethod
    def from_json(
        cls, json_str: str | bytes, universe: DimensionUniverse | None = None, registry: Any = None
    ) -> DataCoordinate:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str), universe, registry)

    def __getitem__(self, name: str) -> DataIdValue:
        try:
            return self.mapping[str(name)]
        except KeyError:
            pass
        if name in self.dimensions:
            raise KeyError(f"Data ID {self} is not expanded: the value of {name!r} is not known")
        raise KeyError(f"Data ID {self} has no dimension {name!r}")

    def __contains__(self, name: object) -> bool:
        return name in self.mapping

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DataCoordinate):
            return self.dimensions == other.dimensions and self.required_values == other.required_values
        if isinstance(other, Mapping):
            return dict(self.required) == dict(other) or dict(self.mapping) == dict(other)
        return NotImplemented

    def __lt__(self, other: DataCoordinate) -> bool:
        return self.required_values < other.required_values

    def __hash__(self) -> int:
        return hash((self.dimensions.required, self.required_values))

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}: {v!r}" for k, v in self.mapping.items())
        return "{" + inner + "}"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return DataCoordinate, (self.dimensions, self._values, self._records)


DataId = DataCoordinate | Mapping[str, Any]
"""What is taken where a data ID is wanted."""


def universe_record(element: str, simple: Mapping[str, Any]) -> DimensionRecord:
    """Return the record of an element from its fields as `DimensionRecord.to_simple` writes them."""
    return DimensionUniverse().element(element).RecordClass.of_plain_fields(simple)


def _of_length(values: Iterable[DataIdValue], names: Sequence[str]) -> tuple[DataIdValue, ...]:
    given = tuple(values)
    if len(given) != len(names):
        raise DataIdError(f"{len(given)} values {given!r} for the dimensions {', '.join(names)}")
    return given


def is_integer_text(text: str) -> bool:
    """Return whether a text is an integer in decimal digits, as on command lines."""
    return re.fullmatch(r"[+-]?[0-9]{1,19}", text) is not None


def dimension_value(name: str, value: Any) -> DataIdValue:
    """Return a value of a dimension as that dimension's type.

    Raises
    ------
    DataIdValueError
        If it has another type.
    """
    return _value(name, value, DimensionUniverse())


def _value(name: str, value: Any, universe: DimensionUniverse) -> DataIdValue:
    key = universe[name].key
    assert key is not None
    if key.type is int:
        is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if is_integer or (isinstance(value, str) and is_integer_text(value)):
            number = int(value)
            if -(2**63) <= number < 2**63:
                return number
    elif isinstance(value, str) and "\0" not in value and (value.isascii() or is_text(value)):
        return str(value)
    raise DataIdValueError(f"Dimension {name!r} takes {key.type.__name__} values, not {value!r}")


def is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8: bytes of a command line may not."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


class DataIdTable:
    """Many data IDs of one group, as columns.

    Parameters
    ----------
    dimensions : `DimensionGroup`
        Group of every row.
    columns : mapping of `str` to `numpy.ndarray`, each shape (n,), int64
        Values of each required dimension (implied ones may be there too): the value itself for integer
        dimensions, else an index into ``categories``.
    categories : mapping of `str` to sequence of `str`
        Values of the codes of each string dimension.
    n_rows : `int`, optional
        Number of rows; needed when there is no column.
    """

    __slots__ = ("_n_rows", "categories", "columns", "dimensions")

    def __init__(
        self,
        dimensions: DimensionGroup,
        columns: Mapping[str, NDArray[np.int64]],
        categories: Mapping[str, Sequence[str]],
        n_rows: int | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.columns: dict[str, NDArray[np.int64]] = {
            k: np.asarray(v, dtype=np.int64) for k, v in columns.items()
        }
        self.categories: dict[str, tuple[str, ...]] = {k: tuple(v) for k, v in categories.items()}
        missing = [n for n in dimensions.required if n not in self.columns]
        if missing:
            raise DimensionValueError(f"Table of data IDs {dimensions} has no column {missing}")
        self._n_rows = len(next(iter(self.columns.values()))) if self.columns else int(n_rows or 0)

    @classmethod
    def from_values(
        cls, dimensions: DimensionGroup, columns: Mapping[str, Any], n_rows: int | None = None
    ) -> DataIdTable:
        """Make from columns of plain values (strings as strings), coding the strings.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Group of every row.
        columns : mapping of `str` to sequence
            Plain values by dimension.
        n_rows : `int`, optional
            Number of rows when there is no column.
        """
        universe = dimensions.universe
        coded: dict[str, NDArray[np.int64]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for name, values in columns.items():
            key = universe[name].key
            assert key is not None
            if key.type is int:
                coded[name] = np.asarray(values, dtype=np.int64)
            else:
                names: dict[str, int] = {}
                if (
                    len(values)
                    and isinstance(values, (list, tuple))
                    and values.count(values[0]) == len(values)
                ):
                    # Mostly there is one instrument.
                    coded[name], categories[name] = np.zeros(len(values), dtype=np.int64), (values[0],)
                    continue
                coded[name] = np.fromiter(
                    (names.setdefault(v, len(names)) for v in values), dtype=np.int64, count=len(values)
                )
                categories[name] = tuple(names)
        return cls(dimensions, coded, categories, n_rows)

    @classmethod
    def from_data_ids(cls, dimensions: DimensionGroup, data_ids: Iterable[DataCoordinate]) -> DataIdTable:
        """Make from data IDs, which must have at least the group's required values."""
        rows = [
            d.required_values if d.dimensions == dimensions else d.subset(dimensions).required_values
            for d in data_ids
        ]
        columns = {n: [row[i] for row in rows] for i, n in enumerate(dimensions.required)}
        return cls.from_values(dimensions, columns, n_rows=len(rows))

    @classmethod
    def from_mappings(
        cls, dimensions: DimensionGroup, rows: Sequence[Mapping[str, Any]]
    ) -> DataIdTable | None:
        """Make from mappings that all have plain values of just the required dimensions, else give `None`."""
        names = dimensions.required
        columns: dict[str, list[Any]] = {}
        try:
            if any(len(row) != len(names) for row in rows):
                return None
            for name in names:
                key = dimensions.universe[name].key
                column = columns[name] = [row[name] for row in rows]
                if key is None or any(t is not key.type for t in set(map(type, column))):
                    return None
        except KeyError:
            return None
        return cls.from_values(dimensions, columns, len(rows))

    @classmethod
    def empty(cls, dimensions: DimensionGroup) -> DataIdTable:
        """Make a table of no row."""
        return cls.from_values(dimensions, {n: [] for n in dimensions.required}, n_rows=0)

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, row: int) -> DataCoordinate:
        row = int(row)
        keys: tuple[str, ...] = self.dimensions.data_coordinate_keys
        if any(k not in self.columns for k in self.dimensions.implied):
            keys = self.dimensions.required
        return DataCoordinate(self.dimensions, tuple(self.value(k, row) for k in keys))

    def __iter__(self) -> Iterator[DataCoordinate]:
        keys: tuple[str, ...] = self.dimensions.data_coordinate_keys
        if any(k not in self.columns for k in self.dimensions.implied):
            keys = self.dimensions.required
        for start in range(0, len(self), _ROWS_AT_ONCE):
            part = self.take(np.arange(start, min(start + _ROWS_AT_ONCE, len(self))))
            columns = [part.values(k).tolist() for k in keys]
            rows = zip(*columns, strict=True) if keys else repeat((), len(part))
            for row in rows:
                yield DataCoordinate(self.dimensions, row)

    def value(self, name: str, row: int) -> DataIdValue:
        """Return one value."""
        code = int(self.columns[name][row])
        return self.categories[name][code] if name in self.categories else code

    def values(self, name: str) -> NDArray[Any]:
        """Return a column of plain values: int64, or object holding `str`, shape (n,)."""
        if name in self.categories:
            lookup = np.empty(len(self.categories[name]), dtype=object)
            lookup[:] = self.categories[name]
            return lookup[self.columns[name]]
        return self.columns[name]

    def take(self, rows: NDArray[Any]) -> DataIdTable:
        """Return the rows of an index or boolean array."""
        columns = {k: v[rows] for k, v in self.columns.items()}
        count = int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)
        return DataIdTable(self.dimensions, columns, self.categories, count)

    def subset(self, dimensions: DimensionGroup) -> DataIdTable:
        """Return the table of fewer dimensions, rows as they are (not made unique)."""
        columns = {n: self.columns[n] for n in dimensions.names if n in self.columns}
        categories = {n: c for n, c in self.categories.items() if n in columns}
        return DataIdTable(dimensions, columns, categories, len(self))

    def codes(self, names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Return one int64 per row that is equal where the named columns (default: required) are equal.

        Returns
        -------
        codes : `numpy.ndarray`, shape (n,), int64
            Dense, from 0, in lexicographic order of the columns.
        """
        names = self.dimensions.required if names is None else names
        return row_codes([self.columns[n] for n in names], len(self))

    def unique(self) -> tuple[DataIdTable, NDArray[np.int64]]:
        """Return the table without repeated rows (sorted), and the row of each old row in it, shape (n,)."""
        codes = self.codes()
        return self.take(first_rows(codes)), codes

    def match(self, other: DataIdTable, names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Return, for each row, the row of ``other`` with the same values, or -1.

        Parameters
        ----------
        other : `DataIdTable`
            Where to look; where several rows match the first counts.
        names : sequence of `str`, optional
            Columns to compare; default: ``other``'s required dimensions.
        """
        names = other.dimensions.required if names is None else names
        mine = [self.columns[n] for n in names]
        theirs = [
            other.recoded(n, self.categories[n]) if n in self.categories else other.columns[n] for n in names
        ]
        joint = row_codes(
            [np.concatenate([b, a]) for a, b in zip(mine, theirs, strict=True)], len(self) + len(other)
        )
        n_other = len(other)
        found = np.full(int(joint.max()) + 1 if len(joint) else 0, -1, dtype=np.int64)
        # Assigned backwards so that the first of several equal rows stays.
        found[joint[:n_other][::-1]] = np.arange(n_other - 1, -1, -1)
        return found[joint[n_other:]]

    def recoded(self, name: str, categories: Sequence[str]) -> NDArray[np.int64]:
        """Return a string column coded by another list; values not in it get codes beyond its end."""
        index = {c: i for i, c in enumerate(categories)}
        own = self.categories[name]
        lookup = np.array([index.get(c, len(categories) + i) for i, c in enumerate(own)], dtype=np.int64)
        result: NDArray[np.int64] = lookup[self.columns[name]] if len(own) else self.columns[name]
        return result

    @classmethod
    def concatenate(cls, tables: Sequence[DataIdTable]) -> DataIdTable:
        """Return all rows of tables of one group, in order; columns that not all have are dropped."""
        first = tables[0]
        columns: dict[str, NDArray[np.int64]] = {}
        categories: dict[str, list[str]] = {}
        for name in first.columns:
            if not all(name in t.columns for t in tables):
                continue
            if name in first.categories:
                names: dict[str, int] = {}
                parts = []
                for t in tables:
                    lookup = np.array(
                        [names.setdefault(c, len(names)) for c in t.categories[name]], dtype=np.int64
                    )
                    parts.append(lookup[t.columns[name]] if len(lookup) else t.columns[name])
                columns[name], categories[name] = np.concatenate(parts), list(names)
            else:
                columns[name] = np.concatenate([t.columns[name] for t in tables])
        return cls(first.dimensions, columns, categories, sum(len(t) for t in tables))

    def __repr__(self) -> str:
        return f"DataIdTable({self.dimensions}, {len(self)} rows)"


def row_codes(columns: Sequence[NDArray[np.int64]], n_rows: int) -> NDArray[np.int64]:
    """Return one dense int64 per row, equal where all columns are, in lexicographic order.

    Parameters
    ----------
    columns : sequence of `numpy.ndarray`, each shape (n_rows,), int64
        Columns, most significant first; none gives zeros.
    n_rows : `int`
        Number of rows.
    """
    codes = np.zeros(n_rows, dtype=np.int64)
    n_codes = 1
    for column in columns:
        if n_rows == 0:
            break
        own, n_values = _dense(column)
        codes = codes * n_values + own
        n_codes *= n_values
        if n_codes > 2**40:
            # Kept dense so that the product never overflows.
            codes, n_codes = _dense(codes)
    return _dense(codes)[0] if n_rows else codes


def _dense(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the rank of each value among the distinct ones, and how many these are."""
    least = int(values.min())
    width = int(values.max()) - least + 1
    if width == 1:
        return np.zeros(len(values), dtype=np.int64), 1
    if width > 4 * len(values) + 1000:
        distinct, ranks = np.unique(values, return_inverse=True)
        return ranks.astype(np.int64, copy=False), len(distinct)
    # Values that lie close together, as ids mostly do, need no sort.
    offsets = values - least
    present = np.zeros(width, dtype=bool)
    present[offsets] = True
    ranks = np.cumsum(present) - 1
    return ranks[offsets], int(ranks[-1]) + 1


def first_rows(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each code, for codes as of `row_codes`."""
    n = len(codes)
    first = np.empty(int(codes.max()) + 1 if n else 0, dtype=np.int64)
    # Assigned backwards so that the first of several equal codes stays.
    first[codes[::-1]] = np.arange(n - 1, -1, -1)
    return first
