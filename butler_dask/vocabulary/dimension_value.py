"""Values of dimensions: an integer or a text, as the key of the dimension is."""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

from ..errors import DataIdValueError
from .dimensions import DimensionUniverse

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def is_integer_text(text: str) -> bool:
    """Return whether a text is an integer in decimal digits, as on command lines."""
    return _INTEGER.fullmatch(text) is not None


def dimension_value(name: str, value: Any, universe: DimensionUniverse | None = None) -> int | str:
    """Return a value of a dimension as that dimension's type.

    Parameters
    ----------
    name : `str`
        The dimension.
    value : `int`, numpy integer or `str`
        What was given; an integer may be a text.
    universe : `DimensionUniverse`, optional
        The universe (there is one).

    Raises
    ------
    DataIdValueError
        If it has another type.
    """
    if universe is None:
        universe = DimensionUniverse()
    kind = universe.key_types.get(name)
    if kind is int:
        if isinstance(value, str):
            is_integer = is_integer_text(value)
        else:  # `Integral` has numpy's integers too
            is_integer = isinstance(value, (int, Integral)) and not isinstance(value, bool)
        if is_integer:
            number = int(value)
            if -(2**63) <= number < 2**63:
                return number
    elif kind is str and isinstance(value, str) and "\0" not in value and (value.isascii() or is_text(value)):
        return str(value)
    takes = universe.element(name).primaryKey.type.__name__
    raise DataIdValueError(f"Dimension {name!r} takes {takes} values, not {value!r}")


def is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8: bytes of a command line may not."""
    return not any("\ud800" <= c <= "\udfff" for c in value)
