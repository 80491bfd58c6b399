"""Configuration classes and fields for task authors: those of lsst.pex.config."""

from lsst.pex.config import (
    ChoiceField,
    Config,
    ConfigField,
    Field,
    FieldValidationError,
    ListField,
    RangeField,
)

__all__ = [
    "ChoiceField",
    "Config",
    "ConfigField",
    "Field",
    "FieldValidationError",
    "ListField",
    "RangeField",
]
