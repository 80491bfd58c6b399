"""QueryResults: lazy results of a query, of whatever kind.

``butler.query()`` and ``butler.registry`` give the same ones. Each asks the registry once, when it is first
looked at, and every method returns another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from ..errors import (
    EmptyQueryResultError,
    InvalidQueryError,
)
from ..registry.registry import Registry
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.expression import Expression
from ..vocabulary.expression_factory import ExpressionProxy
from ..vocabulary.selection import Selection

T = TypeVar("T")


class QueryResults(ABC, Generic[T]):
    """Lazy results of a query; iterating over them asks the registry.

    Parameters
    ----------
    registry : `Registry`
        What is asked.
    selection : `Selection`
        What is asked for.
    """

    def __init__(self, registry: Registry, selection: Selection) -> None:
        self._registry, self._selection = registry, selection
        self._found: Sequence[T] | None = None

    @property
    def selection(self) -> Selection:
        """What is asked for."""
        return self._selection

    @abstractmethod
    def _with(self, selection: Selection) -> Self:
        """Return the same results of another selection."""

    @abstractmethod
    def _fetch(self, limit: int | None = None) -> Sequence[T]:
        """Ask the registry."""

    @property
    @abstractmethod
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the results."""

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Return results with further conditions: expressions, data IDs, values by dimension name."""
        return self._with(self._selection.where(*args, bind=bind, **kwargs))

    def order_by(self, *names: str | Expression | ExpressionProxy) -> Self:
        """Return results sorted by names (``visit``, ``-exposure.timespan.begin``), after any known ones."""
        return self._with(self._selection.ordered(*names))

    def limit(self, limit: int | None = None, offset: int | None = None) -> Self:
        """Return the first results only, some passed over before."""
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise InvalidQueryError(f"{name} is {value}; it cannot be negative here")
        return self._with(self._selection.part(limit, offset))

    def at_most(self, limit: int | None) -> Self:
        """Return no more than so many of these results."""
        return self._with(self._selection.at_most(limit))

    def _all(self) -> Sequence[T]:
        if self._found is None:
            self._found = self._fetch()
        return self._found

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of results.

        Parameters
        ----------
        exact, discard : `bool`
            Accepted as the reference does; the count is always exact.
        """
        return len(self)

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any result.

        Parameters
        ----------
        execute : `bool`
            Whether to ask the database; otherwise `False` only if the collections are known to hold nothing.
        exact : `bool`
            Whether the answer must be certain.

        Raises
        ------
        InvalidQueryError
            If it must be certain, the database is not to be asked, and nothing speaks against results.
        """
        if execute:
            return len(self._fetch(1) if self._found is None else self._found) > 0
        if self.explain_no_results(execute=False):
            return False
        if exact:
            raise InvalidQueryError("Whether there is any result is only known by execute=True.")
        return True

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no result, a sentence a reason; none if there is one."""
        return self._registry.queries.explain(self.dimensions, self._selection, execute=execute)

    def all_or_explained(self, what: str, *, explain: bool, limit: int | None) -> tuple[list[T], bool]:
        """Return the results as a list, and whether a limit that was to be warned of cut it.

        Parameters
        ----------
        what : `str`
            What is looked for, for messages.
        explain : `bool`
            Raise with reasons when there is none.
        limit : `int` or `None`
            At most so many; negative: the same, and tell when there are more.

        Raises
        ------
        EmptyQueryResultError
            If there is none and ``explain`` is set.
        """
        found, cut = first_results(self, limit)
        if not found and explain and limit != 0:
            raise EmptyQueryResultError(f"No {what} found.", self.explain_no_results())
        return found, cut


R_co = TypeVar("R_co", covariant=True)


class LimitedResults(Protocol[R_co]):
    """Results of any kind that a limit can be put on."""

    def at_most(self, limit: int | None) -> LimitedResults[R_co]:
        """Return no more than so many of them."""

    def __iter__(self) -> Iterator[R_co]:
        """Ask, and give them one by one."""


def first_results(results: LimitedResults[T], limit: int | None) -> tuple[list[T], bool]:
    """Return the first results as a list, and whether a limit that was to be warned of cut it.

    Parameters
    ----------
    results : `LimitedResults`
        Results.
    limit : `int` or `None`
        At most so many (of 0 the query is made too, to find its errors); negative: the same, and tell when
        there are more; `None`: all.
    """
    if limit is None:
        return list(results), False
    found = list(results.at_most(abs(limit) + (limit < 0)))
    cut = limit < 0 and len(found) > -limit
    if cut:
        del found[-limit:]
    return found, cut
