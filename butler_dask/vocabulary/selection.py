"""Selection: what a query asks for, from what a user says of it to the SQL; whatever its results are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import DimensionNameError, InvalidQueryError
from .collection import split_names
from .data_id import DataCoordinate, DataIdValue
from .data_id_table import DataIdTable
from .dimension_value import dimension_value
from .dimensions import DimensionGroup, DimensionUniverse
from .expression import Expression
from .expression_factory import ExpressionProxy
from .where import Where

DataIdLike = DataCoordinate | Mapping[str, Any] | None
"""What is taken for a data ID in a query: any values of dimensions."""


@dataclass(frozen=True)
class Selection:
    """What a query asks for.

    Parameters
    ----------
    condition : `Where`
        Conditions, in the language of `butler_dask.vocabulary.expression`; their dimensions are joined too.
    data_id : mapping of `str` to value
        Values that must hold.
    datasets : sequence of (`str`, `tuple` of `str`)
        Dataset types and the collections in which a data ID must have one.
    among : sequence of `DataIdTable`
        Only data IDs that agree with a row of each of these tables.
    joined : `DimensionGroup`
        Dimensions joined beside those of the results.
    order_by : sequence of `str` or `Expression`
        Dimensions and fields to sort by, ``-`` before those in falling order; NULL is least.
    limit, offset : `int`, optional
        How many results at most, after how many.
    default : callable, optional
        Gives the value of an instrument or skymap dimension that the query has, or its condition needs, and
        of which neither condition nor data ID says anything; `None` for no value.
    """

    condition: Where = field(default_factory=Where)
    data_id: Mapping[str, DataIdValue] = field(default_factory=dict)
    datasets: Sequence[tuple[str, tuple[str, ...]]] = ()
    among: Sequence[DataIdTable] = ()
    joined: DimensionGroup = field(default_factory=lambda: DimensionUniverse().empty)
    order_by: Sequence[str | Expression] = ()
    limit: int | None = None
    offset: int | None = None
    default: Callable[[str], Any] | None = None

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Selection:
        """Return the selection with further conditions.

        Parameters
        ----------
        *args : `str`, `Expression`, mapping or `DataCoordinate`
            Expressions and data IDs, all of which must hold; `None` for none.
        bind : mapping, optional
            Values of names in the expressions.
        **kwargs
            Values of dimensions, which win over those of data IDs.

        Raises
        ------
        InvalidQueryError
            If an expression is not well formed, or an argument is something else.
        DimensionNameError
            If a key is no dimension; the nearest match is named.
        DataIdValueError
            If a value is of the wrong type.
        """
        conditions: list[str | Expression] = []
        data_id = dict(self.data_id)
        for arg in args:
            if arg is None:
                continue
            if isinstance(arg, (str, Expression)):
                conditions.append(arg)
            elif isinstance(arg, ExpressionProxy):
                conditions.append(arg.node)
            elif isinstance(arg, DataCoordinate):
                data_id.update(arg.mapping)
            elif isinstance(arg, Mapping):
                data_id.update(_checked(arg))
            else:
                raise InvalidQueryError(
                    f"A condition is an expression or a data ID, not {type(arg).__name__} {arg!r}"
                )
        data_id.update(_checked(kwargs))
        return replace(self, condition=self.condition.narrowed(conditions, bind), data_id=data_id)

    def ordered(self, *names: str | Expression | ExpressionProxy) -> Selection:
        """Return the selection sorted by further names, after those known.

        Raises
        ------
        InvalidQueryError
            If something else is given.
        """
        return replace(self, order_by=(*self.order_by, *_order_terms(names))) if names else self

    def part(self, limit: int | None, offset: int | None = None) -> Selection:
        """Return the selection of so many results, after so many."""
        return replace(self, limit=limit, offset=offset)

    def at_most(self, limit: int | None) -> Selection:
        """Return the selection of no more than so many results."""
        if limit is None or (self.limit is not None and self.limit <= limit):
            return self
        return replace(self, limit=limit)

    def joining(self, dataset_type: str, collections: Sequence[str]) -> Selection:
        """Return the selection of what has a dataset of a type in these collections, and no others of it."""
        others = [d for d in self.datasets if d[0] != dataset_type]
        return replace(self, datasets=(*others, (dataset_type, tuple(collections))))

    def among_only(self, *tables: DataIdTable) -> Selection:
        """Return the selection of just the data IDs of tables, of what this one leaves to defaults."""
        return Selection(among=tables, default=self.default)


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
