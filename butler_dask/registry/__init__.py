"""The database of what exists: the only package that speaks SQL.

Names that the reference's package of this name has for users can be imported from here; they are loaded when
first used.
"""

from typing import Any

_MODULES = {
    "..errors": (
        "CollectionError",
        "CollectionExpressionError",
        "CollectionTypeError",
        "ConflictingDefinitionError",
        "DataIdError",
        "DataIdValueError",
        "DatasetTypeError",
        "DatasetTypeExpressionError",
        "DimensionNameError",
        "InconsistentDataIdError",
        "MissingCollectionError",
        "MissingDatasetTypeError",
        "NoDefaultCollectionError",
        "OrphanedRecordError",
    ),
    "..vocabulary.collection": ("CollectionType",),
    "..vocabulary.collection_summary": ("CollectionSummary",),
    "..vocabulary.dataset": ("DatasetIdGenEnum",),
    "..vocabulary.search_defaults": ("RegistryDefaults",),
    "..butler.registry_names": ("ButlerRegistry",),
}
_MODULE_OF_NAME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_MODULE_OF_NAME)


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562)."""
    from importlib import import_module

    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF_NAME[name], __name__), name)
    globals()[name] = value
    return value
