"""Storage classes that a repository's configuration defines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DatasetTypeError, did_you_mean
from .storage_class import StorageClass, find_storage_class, register_storage_class, storage_class_names

_KEYS = ("pytype", "inheritsFrom", "components", "derivedComponents", "parameters", "converters")


def define_storage_classes(definitions: Mapping[str, Any]) -> None:
    """Make storage classes known that a repository's configuration defines, in the reference's form.

    Parameters
    ----------
    definitions : mapping of `str` to mapping
        By name: ``pytype`` (dotted name), ``components`` and ``derivedComponents`` (storage class by
        component), ``parameters`` (names), ``converters`` (dotted function by dotted Python type), and
        ``inheritsFrom`` (the name of a storage class that gives what is not said).

    Raises
    ------
    DatasetTypeError
        If a definition has another form, or differs from what the name means already.
    """
    for name in definitions:
        _define(str(name), definitions, ())


def _define(name: str, definitions: Mapping[str, Any], heirs: tuple[str, ...]) -> StorageClass:
    given = definitions.get(name)
    if given is None:
        return find_storage_class(name)
    if name in heirs:
        raise DatasetTypeError(f"Storage class {name!r} inherits from itself")
    if not isinstance(given, Mapping):
        raise DatasetTypeError(f"The definition of storage class {name!r} is a mapping, not {given!r}")
    for key in given:
        if key not in _KEYS:
            raise DatasetTypeError(
                f"Storage class {name!r}: no setting {key!r}.{did_you_mean(str(key), _KEYS)}"
            )
    for key in ("components", "derivedComponents", "converters"):
        if not isinstance(given.get(key) or {}, Mapping):
            raise DatasetTypeError(f"Storage class {name!r}: {key} is a mapping, not {given[key]!r}")
    parent = StorageClass(name)
    if given.get("inheritsFrom"):
        parent = _define(str(given["inheritsFrom"]), definitions, (*heirs, name))
    parts = {**parent.components, **(given.get("components") or {}), **(given.get("derivedComponents") or {})}
    defined = StorageClass(
        name,
        str(given.get("pytype", parent.pytype_name)),
        {str(k): str(v) for k, v in parts.items()},
        parent.parameters | {str(p) for p in given.get("parameters") or ()},
        {**parent.converters, **(given.get("converters") or {})},
    )
    known = storage_class_names()
    for component, kind in defined.components.items():
        if kind not in known and kind not in definitions:
            raise DatasetTypeError(
                f"Storage class {name!r}: component {component!r} has no known storage class {kind!r}."
                f"{did_you_mean(kind, known)}"
            )
    register_storage_class(defined)
    return defined
