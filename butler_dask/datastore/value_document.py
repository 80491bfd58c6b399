"""Small values as dictionaries: calibrations, detectors, visit facts, and all that has a dictionary form.

The same dictionaries stand in the COMPONENTS table of an exposure's file and in files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetTypeError, ObjectTypeError
from ..imaging.detector import Amplifier
from ..vocabulary.storage_class import find_storage_class

if TYPE_CHECKING:
    from ..imaging.detector import Detector
    from ..imaging.sky_wcs import SkyWcs


def _detector_to_document(detector: Detector) -> dict[str, Any]:
    document = asdict(detector)
    crosstalk = detector.crosstalk
    document["crosstalk"] = None if crosstalk is None else np.asarray(crosstalk).tolist()
    return document


def _detector_from_document(cls: type[Detector], document: Mapping[str, Any]) -> Detector:
    values = _fields_of(cls, document)
    amplifiers = []
    for row in values["amplifiers"]:
        amplifier: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in _fields_of(Amplifier, row).items()
        }
        amplifiers.append(Amplifier(**amplifier))
    crosstalk = values.get("crosstalk")
    values.update(
        shape=tuple(values["shape"]),
        raw_shape=tuple(values["raw_shape"]),
        amplifiers=tuple(amplifiers),
        crosstalk=None if crosstalk is None else np.array(crosstalk, dtype=np.float64),
    )
    return cls(**values)


def _fields_of(cls: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values a class has fields for: a later version may have written more."""
    names = {f.name for f in fields(cls)}
    return {k: v for k, v in document.items() if k in names}


def _of_fields(cls: Any, document: Mapping[str, Any]) -> Any:
    return cls(**_fields_of(cls, document))


def _wcs_to_document(wcs: SkyWcs) -> dict[str, Any]:
    return {"header": wcs.to_header().tostring(sep="\n").split("\n")}


def _wcs_from_document(cls: type[SkyWcs], document: Mapping[str, Any]) -> SkyWcs:
    from astropy.io.fits import Header

    return cls.from_header(Header.fromstring("\n".join(document["header"]), sep="\n"))


_FORMS: Mapping[str, tuple[Callable[[Any], dict[str, Any]], Callable[[Any, Mapping[str, Any]], Any]]] = {
    "PhotoCalib": (asdict, _of_fields),
    "VisitInfo": (asdict, _of_fields),
    "FilterLabel": (asdict, _of_fields),
    "Detector": (_detector_to_document, _detector_from_document),
    "Wcs": (_wcs_to_document, _wcs_from_document),
}
"""What makes a dictionary of a value, and what makes a value of its class of the dictionary."""


def value_to_document(obj: Any, storage_class: str) -> dict[str, Any]:
    """Return the dictionary of a small value.

    Parameters
    ----------
    obj : object
        The value.
    storage_class : `str`
        What it is.

    Raises
    ------
    DatasetTypeError
        If it is something else.
    """
    pytype = find_storage_class(storage_class).pytype
    if not isinstance(obj, pytype):
        raise ObjectTypeError(f"{storage_class} takes a {pytype.__name__}, not a {type(obj).__name__}")
    if storage_class in _FORMS:
        return _FORMS[storage_class][0](obj)
    for method in ("to_json_dict", "to_dict"):
        if hasattr(obj, method):
            document: dict[str, Any] = getattr(obj, method)()
            return document
    raise DatasetTypeError(f"{pytype.__name__} has no dictionary form (no method to_dict)")


def value_from_document(document: Mapping[str, Any], storage_class: str) -> Any:
    """Return the value of a dictionary made by `value_to_document`."""
    pytype: Any = find_storage_class(storage_class).pytype
    if storage_class in _FORMS:
        return _FORMS[storage_class][1](pytype, document)
    for method in ("from_json_dict", "from_dict"):
        if hasattr(pytype, method):
            return getattr(pytype, method)(document)
    raise DatasetTypeError(f"{pytype.__name__} has no dictionary form (no method from_dict)")
