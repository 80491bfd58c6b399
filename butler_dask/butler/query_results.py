"""QueryResults: lazy results of a query, of whatever kind.

``butler.query()`` and ``butler.registry`` give the same ones. Each asks the registry once, when it is first
looked at, and every method returns another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar

from ..errors import (
    EmptyQueryResultError,
    InvalidQueryError,
)
from ..registry.query_conditions import QueryConditions
from ..registry.registry import Registry
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.expression import Expression
from ..vocabulary.expression_factory import ExpressionProxy
from ..vocabulary.search_defaults import SearchDefaults
from .query_terms import QueryTerms

T = TypeVar("T")


class QueryResults(ABC, Generic[T]):
    """Lazy results of a query; iterating over them asks the registry.

    Parameters
    ----------
    registry : `Registry`
        What is asked.
    defaults : `SearchDefaults`
        The butler's defaults.
    terms : `QueryTerms`
        What is asked for.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults, terms: QueryTerms) -> None:
        self._registry, self._defaults, self._terms = registry, defaults, terms
        self._found: Sequence[T] | None = None

    @property
    def query_terms(self) -> QueryTerms:
        """What is asked for."""
        return self._terms

    @abstractmethod
    def _with(self, terms: QueryTerms) -> Self:
        """Return the results of other terms."""

    @abstractmethod
    def _fetch(self, limit: int | None = None) -> Sequence[T]:
        """Ask the registry."""

    @property
    @abstractmethod
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the results."""

    def _conditions(self) -> QueryConditions:
        return self._terms.conditions(self._defaults)

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Return results with further conditions: expressions, data IDs, values by dimension name."""
        return self._with(self._terms.narrowed(*args, bind=bind, **kwargs))

    def order_by(self, *names: str | Expression | ExpressionProxy) -> Self:
        """Return results sorted by names (``visit``, ``-exposure.timespan.begin``), after any known ones."""
        return self._with(self._terms.ordered(*names))

    def limit(self, limit: int | None = None, offset: int | None = None) -> Self:
        """Return the first results only, some passed over before."""
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise InvalidQueryError(f"{name} is {value}; it cannot be negative here")
        return self._with(replace(self._terms, limit=limit, offset=offset))

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
        return self._registry.queries.explain(self.dimensions, execute=execute, **self._conditions())

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
        if limit == 0:
            # The query is made, to find its errors, and nothing is returned.
            self._fetch(0)
            return [], False
        if limit is None or limit > 0:
            found = list(self.limit(limit, self._terms.offset))
            cut = False
        else:
            found = list(self.limit(-limit + 1, self._terms.offset))
            cut = len(found) > -limit
            del found[-limit:]
        if not found and explain:
            raise EmptyQueryResultError(f"No {what} found.", self.explain_no_results())
        return found, cut

    def _most(self, limit: int | None) -> int | None:
        known = [n for n in (limit, self._terms.limit) if n is not None]
        return min(known) if known else None
