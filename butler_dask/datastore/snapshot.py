"""Snapshots of objects in memory, and parts of them, as reading a file would give them."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import DatasetTypeError
from ..vocabulary.storage_class import find_storage_class


def has_components(obj: Any) -> bool:
    """Return whether `component_of` knows objects of that kind."""
    from ..imaging.exposure import Exposure

    return isinstance(obj, Exposure) or hasattr(obj, "colnames")


def component_of(obj: Any, component: str) -> Any:
    """Return a component of an object in memory, as reading it from its file would give it.

    Raises
    ------
    DatasetTypeError
        If objects of that kind have no such component.
    """
    from ..imaging.exposure import Exposure
    from .fits_image import exposure_component

    if isinstance(obj, Exposure):
        return exposure_component(obj, component)
    if hasattr(obj, "colnames"):
        from .fits_table import table_component

        return table_component(obj, component)
    raise DatasetTypeError(f"A {type(obj).__name__} has no component {component!r}")


_IMMUTABLE = (str, bytes, int, float, bool, complex, type(None), tuple, frozenset)

_COPIED_BY_THEMSELVES = frozenset(
    {find_storage_class(name).pytype_name for name in ("ExposureF", "ImageF", "Mask", "ArrowAstropy")}
)


def snapshot(obj: Any) -> Any:
    """Return a copy that does not change with the object.

    Exposures, tables and arrays by their own ``copy`` (their immutable parts are shared), others deeply.
    """
    if isinstance(obj, _IMMUTABLE) and not isinstance(obj, tuple):
        return obj
    kind = type(obj)
    if f"{kind.__module__}.{kind.__qualname__}" in _COPIED_BY_THEMSELVES or hasattr(obj, "colnames"):
        return obj.copy()
    return copy.deepcopy(obj)
