"""QueryConditions: what restricts the rows of the registry's queries, as given and as resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from ..errors import DimensionNameError, did_you_mean
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimension_value import dimension_value
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression

DataIdLike = DataCoordinate | Mapping[str, Any] | None
DatasetConstraint = tuple[str, Sequence[str]]


class QueryConditions(TypedDict, total=False):
    """Keyword arguments that all queries of the registry take; any may be left out.

    Parameters
    ----------
    where : `str` or sequence of `str` and `Expression`
        Conditions that must all hold, in the language of `butler_dask.vocabulary.expression`; their
        dimensions are joined too.
    bind : mapping of `str` to value, optional
        Values of names in them.
    data_id : `DataCoordinate` or mapping, optional
        Values that must hold.
    datasets : sequence of (`str`, sequence of `str`)
        Dataset types and the collections in which a data ID must have one.
    among : sequence of `DataIdTable`
        Only data IDs that agree with a row of each of these tables.
    joined : `DimensionGroup`
        Dimensions joined beside those of the result.
    default : callable
        Gives the value of an instrument or skymap dimension that neither condition nor data ID names, or
        `None`.
    """

    where: str | Sequence[str | Expression]
    bind: Mapping[str, Any] | None
    data_id: DataIdLike
    datasets: Sequence[DatasetConstraint]
    among: Sequence[DataIdTable]
    joined: DimensionGroup
    default: Callable[[str], Any] | None


def data_id_values(data_id: DataIdLike) -> dict[str, Any]:
    """Return a data ID's values by dimension name, of the right types.

    Raises
    ------
    DimensionNameError
        If a key is no dimension; the nearest match is named.
    DataIdValueError
        If a value is of the wrong type.
    """
    if data_id is None:
        return {}
    if isinstance(data_id, DataCoordinate):
        return dict(data_id.mapping)
    universe = DimensionUniverse()
    known = [d.name for d in universe.getStaticDimensions()]
    out: dict[str, Any] = {}
    for name, value in data_id.items():
        if name not in universe or not universe[name].is_dimension:
            raise DimensionNameError(
                f"Unknown key {name!r} in data ID {dict(data_id)!r}.{did_you_mean(name, known)}"
            )
        if value is not None:
            out[name] = dimension_value(name, value)
    return out
