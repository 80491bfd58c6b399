"""The database of what exists: the only package that speaks SQL.

Names that the reference's package of this name has for users can be imported from here too.
"""

from typing import Any

from lazy_loader import attach_stub

_REFERENCE_NAMES = (
    "ButlerRegistry",
    "CollectionError",
    "CollectionExpressionError",
    "CollectionSummary",
    "CollectionType",
    "CollectionTypeError",
    "ConflictingDefinitionError",
    "DataIdError",
    "DataIdValueError",
    "DatasetIdGenEnum",
    "DatasetTypeError",
    "DatasetTypeExpressionError",
    "DimensionNameError",
    "InconsistentDataIdError",
    "MissingCollectionError",
    "MissingDatasetTypeError",
    "NoDefaultCollectionError",
    "OrphanedRecordError",
    "RegistryDefaults",
)
_loaded, _, _names = attach_stub(__name__, __file__)

__all__ = [*_names, *_REFERENCE_NAMES]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used; the reference's come from the package above."""
    if name in _REFERENCE_NAMES:
        import butler_dask

        return getattr(butler_dask, name)
    return _loaded(name)


def __dir__() -> list[str]:
    """Return the names of the stub and the reference's."""
    return __all__.copy()
