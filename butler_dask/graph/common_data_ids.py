"""CommonDataIds: the answer to a pipeline part's one query, and its projections to fewer dimensions.

The query runs over all dimensions of connected tasks at once, because a constraint on one (a detector) then
restricts all (the patches that detector overlaps). Quanta and datasets are its distinct rows in their own
dimensions, and an edge is a pair of those that shares a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup


@dataclass(frozen=True, slots=True)
class Projection:
    """Distinct data IDs of fewer dimensions.

    Parameters
    ----------
    table : `DataIdTable`, n rows
        Distinct data IDs, in the order of their values, implied ones included.
    rows : `numpy.ndarray`, shape (n_common,), int32
        Row in ``table`` of each common row.
    first : `numpy.ndarray`, shape (n,), int64
        First common row of each row.
    """

    table: DataIdTable
    rows: NDArray[np.int32]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


class CommonDataIds:
    """Rows of all dimensions of some tasks.

    Parameters
    ----------
    table : `DataIdTable`
        Distinct rows; implied columns included.
    """

    def __init__(self, table: DataIdTable) -> None:
        self.table = table
        self._columns: dict[str, tuple[NDArray[np.int32], int]] = {}
        self._projections: dict[DimensionGroup, Projection] = {}

    def __len__(self) -> int:
        return len(self.table)

    def _dense(self, name: str) -> tuple[NDArray[np.int32], int]:
        """Return a column as ranks of its values, and how many values there are."""
        if name not in self._columns:
            values, ranks = np.unique(self.table.columns[name], return_inverse=True)
            self._columns[name] = (ranks.astype(np.int32), len(values))
        return self._columns[name]

    def project(self, dimensions: DimensionGroup) -> Projection:
        """Return the distinct data IDs of a subset of the dimensions.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            The subset.

        Returns
        -------
        projection : `Projection`
            Made once for each subset.
        """
        found = self._projections.get(dimensions)
        if found is None:
            codes, n_codes = np.zeros(len(self), dtype=np.int64), 1
            for name in dimensions.required:
                column, n_values = self._dense(name)
                if n_codes * n_values > 2**40:
                    codes, n_codes = ranks_of(codes, n_codes)
                codes = codes * n_values + column
                n_codes *= max(n_values, 1)
            ranks, n = ranks_of(codes, n_codes)
            first = np.empty(n, dtype=np.int64)
            # Written backwards so that the first of equal rows stays.
            first[ranks[::-1]] = np.arange(len(self) - 1, -1, -1)
            table = self.table.subset(dimensions).take(first)
            found = self._projections[dimensions] = Projection(table, ranks.astype(np.int32), first)
        return found

    def pairs(
        self, quanta: DimensionGroup, datasets: DimensionGroup
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return which rows of two projections occur together.

        Parameters
        ----------
        quanta, datasets : `DimensionGroup`
            Dimensions of the two projections.

        Returns
        -------
        quantum_rows : `numpy.ndarray`, shape (n_pairs,), int32
            Row in the projection on ``quanta`` of each pair, rising.
        dataset_rows : `numpy.ndarray`, shape (n_pairs,), int32
            Row in the projection on ``datasets`` of each pair, rising within a quantum.
        """
        a, b = self.project(quanta), self.project(datasets)
        if set(datasets.required) <= set(quanta.names):
            return np.arange(len(a), dtype=np.int32), b.rows[a.first]
        if set(quanta.required) <= set(datasets.names):
            rows = a.rows[b.first]
            order = np.argsort(rows, kind="stable")
            return rows[order], order.astype(np.int32)
        codes = np.unique(a.rows.astype(np.int64) * max(len(b), 1) + b.rows)
        left, right = np.divmod(codes, max(len(b), 1))
        return left.astype(np.int32), right.astype(np.int32)


def ranks_of(codes: NDArray[np.int64], n_codes: int) -> tuple[NDArray[np.int64], int]:
    """Return codes renumbered without gaps, order kept, and how many there are.

    Parameters
    ----------
    codes : `numpy.ndarray`, shape (n,), int64
        Codes from 0 to ``n_codes - 1``.
    n_codes : `int`
        How many codes are possible.

    Returns
    -------
    ranks : `numpy.ndarray`, shape (n,), int64
        Codes from 0 to ``n_ranks - 1``.
    n_ranks : `int`
        How many codes occur.
    """
    if n_codes <= max(8 * len(codes), 1024):
        # A table of what occurs: no sort, and a fifth of the time where rows are dense.
        present = np.zeros(n_codes, dtype=bool)
        present[codes] = True
        numbers = np.cumsum(present) - 1
        return numbers[codes], int(numbers[-1]) + 1 if n_codes else 0
    values, ranks = np.unique(codes, return_inverse=True)
    return ranks.astype(np.int64), len(values)
