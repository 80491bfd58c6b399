"""Incomplete data IDs: values given by other keys, or of other dimensions, that determine a data ID."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..errors import DataIdValueError, DimensionNameError, DimensionValueError, did_you_mean
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dimension_value import dimension_value, is_integer_text
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.selection import Selection
from .data_id_query import DataIdQuery
from .database import Database
from .resolved_selection import ResolvedSelection


def complete_data_id(
    database: Database, mapping: Mapping[str, Any], dimensions: DimensionGroup
) -> DataCoordinate:
    """Return the one data ID that values determine; see `Queries.complete`."""
    universe = DimensionUniverse()
    values: dict[str, Any] = {}
    fields: dict[tuple[str, str], Any] = {}
    for name, value in mapping.items():
        if value is None:
            continue
        if name in universe and universe[name].is_dimension:
            element = universe[name]
            assert element.key is not None
            if element.key.type is int and isinstance(value, str) and not is_integer_text(value):
                if not element.alternate_keys:
                    raise DataIdValueError(f"Dimension {name!r} takes int values, not {value!r}")
                fields[name, element.alternate_keys[0].name] = _field_value(
                    element, element.alternate_keys[0].name, value
                )
            else:
                values[name] = value
        else:
            owner, field = _owner(name, dimensions, mapping)
            fields[owner.name, field] = _field_value(owner, field, value)
    if not fields and all(n in values for n in dimensions.required):
        return DataCoordinate.standardize(values, dimensions=dimensions)
    group = dimensions.union(universe.conform(values), *(universe[e].dimensions for e, _ in fields))
    known = {n: dimension_value(n, v) for n, v in values.items()}
    text = " AND ".join(f"{e}.{f} = :value_{i}" for i, (e, f) in enumerate(fields))
    bind = {f"value_{i}": v for i, v in enumerate(fields.values())}
    selection = Selection(data_id=known).where(text, bind=bind)
    missing = [g for g in group.governors if g not in known]
    with database.read() as session, ExitStack() as stack:
        if fields and missing:
            raise DimensionValueError(
                f"Data ID {dict(mapping)!r} has no value for {', '.join(map(repr, missing))}."
            )
        keys = dimensions.data_coordinate_keys
        query = DataIdQuery(session, stack, dimensions, ResolvedSelection(selection), implied=True)
        rows = query.fetch(query.tables.labelled(keys), limit=2)
    shown = {k: v for k, v in mapping.items() if v is not None}
    if not rows:
        raise DataIdValueError(f"No data ID of {dimensions} in the repository matches {shown!r}.")
    if len(rows) > 1:
        absent = [n for n in dimensions.required if n not in values]
        raise DimensionValueError(
            f"Data ID {shown!r} has no value for {', '.join(map(repr, absent))}, and what is given "
            f"matches several: {dict(zip(keys, rows[0], strict=True))!r}, "
            f"{dict(zip(keys, rows[1], strict=True))!r}, ..."
        )
    full = None not in rows[0]
    return DataCoordinate(dimensions, rows[0] if full else rows[0][: len(dimensions.required)])


def _field_value(element: DimensionElement, field: str, value: Any) -> Any:
    kind = next(f.type for f in element.fields if f.name == field)
    if kind is bool:
        fits = isinstance(value, (bool, np.bool_))
    elif kind is int:
        fits = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if isinstance(value, str) and is_integer_text(value):
            return int(value)
    elif kind is float:
        fits = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    else:
        fits = isinstance(value, str)
    if not fits:
        raise DataIdValueError(f"{element.name}.{field} takes {kind.__name__} values, not {value!r}")
    return value


def _owner(name: str, dimensions: DimensionGroup, mapping: Mapping[str, Any]) -> tuple[DimensionElement, str]:
    universe = DimensionUniverse()
    head, _, field = name.partition(".")
    if field and head in universe:
        element = universe[head]
        if field in (f.name for f in element.fields):
            return element, field
        known = element.schema.names
        raise DimensionNameError(
            f"{head!r} has no field {field!r} (in data ID {dict(mapping)!r}).{did_you_mean(field, known)}"
        )
    candidates = [
        universe[n]
        for n in dimensions.names
        if any(f.name == name for f in (*universe[n].alternate_keys, *universe[n].metadata))
    ]
    # Of exposure and visit the one asked for counts; where both are, the exposure's numbers are unique.
    if candidates:
        return candidates[0], name
    known = [d.name for d in universe.getStaticDimensions()]
    known += [f.name for n in dimensions.names for f in universe[n].fields]
    raise DimensionNameError(f"Unknown key {name!r} in data ID {dict(mapping)!r}.{did_you_mean(name, known)}")
