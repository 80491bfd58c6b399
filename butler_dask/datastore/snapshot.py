"""Snapshots of objects in memory, and parts of them, as reading a file would give them."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import DatasetTypeError
from ..vocabulary.dotted_name import dotted_name
from ..vocabulary.storage_class import find_storage_class
from .exposure_components import exposure_component
from .table_conversion import table_component

_EXPOSURE = find_storage_class("ExposureF").pytype_name

_COPIED_BY_THEMSELVES = frozenset(
    {_EXPOSURE, *(find_storage_class(name).pytype_name for name in ("ImageF", "Mask", "ArrowAstropy"))}
)

_IMMUTABLE = (str, bytes, int, float, bool, complex, type(None), frozenset)


def _is_exposure(obj: Any) -> bool:
    # By name: images need scipy, which takes longer to load than most objects to copy.
    return any(dotted_name(kind) == _EXPOSURE for kind in type(obj).__mro__)


def has_components(obj: Any) -> bool:
    """Return whether `component_of` knows objects of that kind."""
    return hasattr(obj, "colnames") or _is_exposure(obj)


def component_of(obj: Any, component: str) -> Any:
    """Return a component of an object in memory, as reading it from its file would give it.

    Raises
    ------
    DatasetTypeError
        If objects of that kind have no such component.
    """
    if hasattr(obj, "colnames"):
        return table_component(obj, component)
    if _is_exposure(obj):
        return exposure_component(obj, component)
    raise DatasetTypeError(f"A {type(obj).__name__} has no component {component!r}")


def snapshot(obj: Any) -> Any:
    """Return a copy that does not change with the object.

    Exposures, tables and arrays by their own ``copy`` (their immutable parts are shared), others deeply.
    """
    if isinstance(obj, _IMMUTABLE):
        return obj
    if dotted_name(type(obj)) in _COPIED_BY_THEMSELVES or hasattr(obj, "colnames"):
        return obj.copy()
    return copy.deepcopy(obj)
