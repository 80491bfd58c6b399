"""Components of exposures: their names, and how they are had from an exposure in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import DatasetTypeError

if TYPE_CHECKING:
    from ..imaging.exposure import Exposure

VALUES: Mapping[str, tuple[str, str]] = {
    "photo_calib": ("PHOTOCALIB", "PhotoCalib"),
    "visit_info": ("VISITINFO", "VisitInfo"),
    "detector": ("DETECTOR", "Detector"),
    "filter": ("FILTER", "FilterLabel"),
}
"""Column of a file's table COMPONENTS, and storage class, of each small value."""

DICTIONARIES: Mapping[str, str] = {"ap_corr": "APCORR", "summary_stats": "SUMMARY", "metadata": "METADATA"}
"""Column of a file's table COMPONENTS of each dictionary."""

_SPELLINGS = {
    "photoCalib": "photo_calib",
    "visitInfo": "visit_info",
    "apCorrMap": "ap_corr",
    "summaryStats": "summary_stats",
}
"""Our attribute of each component the reference spells otherwise."""


def component_name(name: str) -> str:
    """Return the attribute of `butler_dask.imaging.exposure.Exposure` that a component is."""
    return _SPELLINGS.get(name, name)


def exposure_component(exposure: Exposure, name: str) -> Any:
    """Return a component of an exposure in memory, as it would be read from its file.

    Raises
    ------
    DatasetTypeError
        If there is no such component.
    """
    name = component_name(name)
    if name in ("image", "mask", "variance", "wcs", "psf", *VALUES, *DICTIONARIES):
        return getattr(exposure, name)
    x0, y0 = exposure.xy0
    if name == "xy0":
        return [x0, y0]
    if name == "bbox":
        return [x0, y0, exposure.shape[1], exposure.shape[0]]
    raise DatasetTypeError(f"An exposure has no component {name!r}")
