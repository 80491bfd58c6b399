"""QueryTerms: what a query asks for, whatever its results are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import (
    DimensionNameError,
    InvalidQueryError,
)
from ..registry.query_conditions import QueryConditions
from ..vocabulary.collection import split_names
from ..vocabulary.data_id import DataCoordinate, DataIdValue
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimension_value import dimension_value
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, parse_expression
from ..vocabulary.expression_factory import ExpressionProxy
from ..vocabulary.search_defaults import SearchDefaults


@dataclass(frozen=True)
class QueryTerms:
    """What a query asks for, whatever its results are.

    Parameters
    ----------
    where : `tuple` of `str` or `Expression`
        Conditions, all of which must hold.
    bind : mapping
        Values of names in them.
    data_id : mapping
        Values of dimensions.
    datasets : `tuple` of (`str`, `tuple` [`str`, ...])
        Dataset types, and collections, of which there must be one.
    among : `tuple` [`DataIdTable`, ...]
        Data IDs given.
    joined : `DimensionGroup`
        Dimensions joined beside those of the results.
    order_by : `tuple` of `str` or `Expression`
        Names, ``-`` before those in falling order.
    limit, offset : `int`, optional
        Rows returned, and rows passed over before.
    """

    where: tuple[str | Expression, ...] = ()
    bind: Mapping[str, Any] = field(default_factory=dict)
    data_id: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    among: tuple[DataIdTable, ...] = ()
    joined: DimensionGroup = field(default_factory=lambda: DimensionUniverse().empty)
    order_by: tuple[str | Expression, ...] = ()
    limit: int | None = None
    offset: int | None = None

    def narrowed(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> QueryTerms:
        """Return the terms with further conditions.

        Parameters
        ----------
        *args : `str`, `Expression`, mapping or `DataCoordinate`
            Expressions and data IDs.
        bind : mapping, optional
            Values of names in the expressions.
        **kwargs
            Values of dimensions.

        Raises
        ------
        DimensionNameError
            If a key is no dimension; the nearest match is named.
        """
        where, data_id = list(self.where), dict(self.data_id)
        for arg in args:
            if arg is None or (isinstance(arg, str) and not arg.strip()):
                continue
            if isinstance(arg, str):
                parse_expression(arg)  # A slip of the pen is told where it was made.
                where.append(arg)
            elif isinstance(arg, Expression):
                where.append(arg)
            elif isinstance(arg, ExpressionProxy):
                where.append(arg.node)
            elif isinstance(arg, (DataCoordinate, Mapping)):
                data_id.update(_checked(arg.mapping if isinstance(arg, DataCoordinate) else arg))
            else:
                raise InvalidQueryError(
                    f"A condition is an expression or a data ID, not {type(arg).__name__} {arg!r}"
                )
        data_id.update(_checked(kwargs))
        return replace(self, where=tuple(where), bind={**self.bind, **(bind or {})}, data_id=data_id)

    def ordered(self, *names: Any) -> QueryTerms:
        """Return the terms with further names to sort by, after those known."""
        return replace(self, order_by=(*self.order_by, *_order_terms(names)))

    def conditions(self, defaults: SearchDefaults) -> QueryConditions:
        """Return what restricts the rows, as the registry takes it."""
        return {
            "where": self.where,
            "bind": dict(self.bind) or None,
            "data_id": self.data_id,
            "datasets": self.datasets,
            "among": self.among,
            "joined": self.joined,
            "default": defaults.value,
        }


def _checked(values: Mapping[str, Any]) -> dict[str, DataIdValue]:
    universe = DimensionUniverse()
    out: dict[str, DataIdValue] = {}
    for name, value in values.items():
        if value is None:
            continue
        element = universe[str(name)]
        if not element.is_dimension:
            raise DimensionNameError(f"{name!r} is a relation, not a dimension; it has no value")
        out[name] = dimension_value(name, value)
    return out


def _order_terms(terms: Iterable[Any]) -> list[str | Expression]:
    out: list[str | Expression] = []
    for term in terms:
        if isinstance(term, ExpressionProxy):
            out.append(term.node)
        elif isinstance(term, Expression):
            out.append(term)
        elif isinstance(term, str):
            out += split_names(term) or [term]
        else:
            raise InvalidQueryError(f"order_by takes names, not {term!r}")
    return out
