"""DataIdTable: many data IDs as integer columns.

At a million quanta a data ID object each would cost a gigabyte, so everything that is done for all of them is
done on a DataIdTable: one int64 column a dimension, string values coded by an ordered list of categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DimensionValueError
from .data_id import DataCoordinate, DataIdValue
from .dimensions import DimensionGroup, DimensionUniverse

_ROWS_AT_ONCE = 10_000
"""Rows of a table made into Python values together when it is iterated over."""


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
        # Loops, as these are made by the dozen in every call.
        self.columns: dict[str, NDArray[np.int64]] = {}
        for name, column in columns.items():
            self.columns[name] = np.asarray(column, dtype=np.int64)
        self.categories: dict[str, tuple[str, ...]] = {}
        for name, names in categories.items():
            self.categories[name] = tuple(names)
        if not self.columns.keys() >= set(dimensions.required):
            missing = [n for n in dimensions.required if n not in self.columns]
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
        coded: dict[str, NDArray[np.int64]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for name, values in columns.items():
            coded[name], names = coded_column(name, values)
            if names is not None:
                categories[name] = names
        return cls(dimensions, coded, categories, n_rows)

    @classmethod
    def from_data_ids(cls, dimensions: DimensionGroup, data_ids: Iterable[DataCoordinate]) -> DataIdTable:
        """Make from data IDs.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Group of every row.
        data_ids : iterable of `DataCoordinate`
            The rows; each has at least the group's required values.
        """
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
        """Make from mappings that all have plain values of just the required dimensions, else give `None`.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Group of every row.
        rows : sequence of mapping of `str` to `int` or `str`
            Values by dimension.
        """
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
        group = self.dimensions
        keys: tuple[str, ...] = group.data_coordinate_keys
        if any(k not in self.columns for k in group.implied):
            keys = group.required
        # A query's answer is read here; the constructor, which counts values, would take a third of the time.
        new, own = object.__new__, DataCoordinate
        for start in range(0, len(self), _ROWS_AT_ONCE):
            part = slice(start, min(start + _ROWS_AT_ONCE, len(self)))
            columns = [plain_column(self.columns[k][part], self.categories.get(k)) for k in keys]
            for row in zip(*columns, strict=True) if keys else repeat((), part.stop - part.start):
                data_id = new(own)
                data_id.dimensions, data_id._values, data_id._records = group, row, None
                yield data_id

    def value(self, name: str, row: int) -> DataIdValue:
        """Return one value."""
        code = int(self.columns[name][row])
        return self.categories[name][code] if name in self.categories else code

    def values(self, name: str) -> NDArray[Any]:
        """Return a column of plain values.

        Returns
        -------
        values : `numpy.ndarray`, shape (n,), int64 or object
            Integers, or `str` for a dimension that has categories.
        """
        if name in self.categories:
            lookup = np.empty(len(self.categories[name]), dtype=object)
            lookup[:] = self.categories[name]
            return lookup[self.columns[name]]
        return self.columns[name]

    def take(self, rows: NDArray[Any]) -> DataIdTable:
        """Return some rows.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (m,), integer, or shape (n,), bool
            Which rows, in the order wanted; or for each whether it is wanted.
        """
        columns = {k: v[rows] for k, v in self.columns.items()}
        count = int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)
        return DataIdTable(self.dimensions, columns, self.categories, count)

    def subset(self, dimensions: DimensionGroup) -> DataIdTable:
        """Return the table of fewer dimensions, rows as they are (not made unique)."""
        columns = {n: self.columns[n] for n in dimensions.names if n in self.columns}
        categories = {n: c for n, c in self.categories.items() if n in columns}
        return DataIdTable(dimensions, columns, categories, len(self))

    def codes(self, names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Return one int64 per row that is equal where the named columns are equal.

        Parameters
        ----------
        names : sequence of `str`, optional
            Columns to compare, most significant first; default: the required dimensions.

        Returns
        -------
        codes : `numpy.ndarray`, shape (n,), int64
            Dense, from 0, in lexicographic order of the columns.
        """
        names = self.dimensions.required if names is None else names
        return row_codes([self.columns[n] for n in names], len(self))

    def unique(self) -> tuple[DataIdTable, NDArray[np.int64]]:
        """Return the table without repeated rows.

        Returns
        -------
        table : `DataIdTable`
            Each row once, sorted.
        rows : `numpy.ndarray`, shape (n,), int64
            Where in it each row of this table is.
        """
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

        Returns
        -------
        rows : `numpy.ndarray`, shape (n,), int64
            Row of ``other`` for each row of this table.
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
        """Return a string column coded by another list.

        Parameters
        ----------
        name : `str`
            A dimension that has categories.
        categories : sequence of `str`
            The other list.

        Returns
        -------
        codes : `numpy.ndarray`, shape (n,), int64
            Index into ``categories``; values not in it get codes beyond its end.
        """
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


def coded_column(name: str, values: Sequence[Any]) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return a column of plain values of a dimension as numbers.

    Parameters
    ----------
    name : `str`
        Dimension.
    values : sequence of `int` or `str`
        Values.

    Returns
    -------
    column : `numpy.ndarray`, shape (n,), int64
        The values themselves, or places in ``categories``.
    categories : `tuple` [`str`, ...] or `None`
        The different strings; `None` for integers.
    """
    key = DimensionUniverse().element(name).key
    assert key is not None
    if key.type is int:
        return np.asarray(values, dtype=np.int64), None
    n = len(values)
    if n and isinstance(values, (list, tuple)) and values.count(values[0]) == n:
        # Mostly there is one instrument.
        return np.zeros(n, dtype=np.int64), (values[0],)
    names: dict[str, int] = {}
    codes = np.fromiter((names.setdefault(v, len(names)) for v in values), dtype=np.int64, count=n)
    return codes, tuple(names)


def plain_column(column: NDArray[np.int64], categories: Sequence[str] | None) -> list[Any]:
    """Return the plain values of a column made by `coded_column`, shape (n,), int64."""
    codes: list[int] = column.tolist()
    if categories is None:
        return codes
    return list(categories) * len(codes) if len(categories) == 1 else [categories[c] for c in codes]


def row_codes(columns: Sequence[NDArray[np.int64]], n_rows: int) -> NDArray[np.int64]:
    """Return one dense int64 per row, equal where all columns are, in lexicographic order.

    Parameters
    ----------
    columns : sequence of `numpy.ndarray`, each shape (n_rows,), int64
        Columns, most significant first; none gives zeros.
    n_rows : `int`
        Number of rows.

    Returns
    -------
    codes : `numpy.ndarray`, shape (n_rows,), int64
        Ranks of the rows, from 0.
    """
    codes = np.zeros(n_rows, dtype=np.int64)
    n_codes = 1
    for column in columns:
        if n_rows == 0:
            break
        own, n_values = _ranks(column)
        codes = codes * n_values + own
        n_codes *= n_values
        if n_codes > 2**40:
            # Kept dense so that the product never overflows.
            codes, n_codes = _ranks(codes)
    return _ranks(codes)[0] if n_rows else codes


def _ranks(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
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
    """Return the first row of each code.

    Parameters
    ----------
    codes : `numpy.ndarray`, shape (n,), int64
        Dense codes, from 0, as `row_codes` gives them.

    Returns
    -------
    rows : `numpy.ndarray`, shape (largest code + 1,), int64
        Row in which each code is first.
    """
    n = len(codes)
    first = np.empty(int(codes.max()) + 1 if n else 0, dtype=np.int64)
    # Assigned backwards so that the first of several equal codes stays.
    first[codes[::-1]] = np.arange(n - 1, -1, -1)
    return first
