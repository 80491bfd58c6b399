"""DatasetQueryResults: datasets of several types under one limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.expression import Expression
from ..vocabulary.expression_factory import ExpressionProxy
from .dataset_results import DatasetRefQueryResults
from .query_results import first_results


class DatasetQueryResults:
    """Datasets of several types, one type after the other, under one limit.

    Parameters
    ----------
    parts : sequence of `DatasetRefQueryResults`
        The results of each type.
    limit, offset : `int`, optional
        How many datasets at most, whatever their types, after how many.
    """

    def __init__(
        self, parts: Sequence[DatasetRefQueryResults], limit: int | None = None, offset: int | None = None
    ) -> None:
        self._parts, self._limit, self._offset = tuple(parts), limit, offset or 0
        self._found: list[DatasetRef] | None = None

    def limit(self, limit: int | None = None, offset: int | None = None) -> DatasetQueryResults:
        """Return the first datasets only, some passed over before."""
        return DatasetQueryResults(self._parts, limit, offset)

    def order_by(self, *names: str | Expression | ExpressionProxy) -> DatasetQueryResults:
        """Return the datasets of each type sorted by names; see `QueryResults.order_by`."""
        return DatasetQueryResults([p.order_by(*names) for p in self._parts], self._limit, self._offset)

    def at_most(self, limit: int | None) -> DatasetQueryResults:
        """Return no more than so many of these datasets."""
        known = [n for n in (limit, self._limit) if n is not None]
        return self.limit(min(known) if known else None, self._offset)

    def first(self, limit: int | None) -> tuple[list[DatasetRef], bool]:
        """Return the first datasets, and whether a limit that was to be warned of cut them.

        Parameters
        ----------
        limit : `int` or `None`
            At most so many; negative: the same, and tell when there are more; `None`: all.
        """
        return first_results(self, limit)

    def _portions(self) -> Iterator[tuple[DatasetRefQueryResults, DatasetTable]]:
        passed_over, left = self._offset, self._limit
        for part in self._parts:
            table = part.table(None if left is None else passed_over + left)
            if passed_over:
                n = len(table)
                table = table.take(np.arange(min(passed_over, n), n))
                passed_over -= n - len(table)
            if len(table):
                yield part, table
            if left is not None:
                left -= len(table)
                if left <= 0:
                    return

    @property
    def tables(self) -> Iterator[DatasetTable]:
        """The datasets as columns: a table for each type that has any, asked for when it is reached."""
        return (table for _, table in self._portions())

    def _all(self) -> list[DatasetRef]:
        if self._found is None:
            self._found = [ref for part, table in self._portions() for ref in part.refs_of(table)]
        return self._found

    def __iter__(self) -> Iterator[DatasetRef]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def byParentDatasetType(self) -> Iterator[DatasetRefQueryResults]:
        """Yield the results of each type, whatever the limit of all together."""
        return iter(self._parts)

    def expanded(self) -> DatasetQueryResults:
        """Return results whose data IDs carry their records."""
        return DatasetQueryResults([p.expanded() for p in self._parts], self._limit, self._offset)

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of datasets."""
        return sum(map(len, self.tables)) if self._found is None else len(self._found)

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any dataset; see `QueryResults.any`."""
        return any(p.any(execute=execute, exact=exact) for p in self._parts)

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no dataset, a sentence a reason; none if there is one."""
        if not self._parts:
            return ["No dataset type matches."]
        reasons = [p.explain_no_results(execute) for p in self._parts]
        return [r for own in reasons for r in own] if all(reasons) else []
