"""Exposure: image, mask and variance of one detector or patch, with what is known of them.

The three planes are plain numpy arrays of one shape. Everything else hangs beside them as small values and
each can be read from a file alone (a component), which is why they are separate classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .detector import Detector
from .mask import Mask
from .photo_calib import PhotoCalib
from .psf import Psf
from .sky_wcs import SkyWcs
from .visit_info import VisitInfo


@dataclass(frozen=True, slots=True)
class FilterLabel:
    """Band ("r") and physical filter ("HSC-R") of an exposure."""

    band: str = ""
    physical: str = ""


class Pixels(NamedTuple):
    """The three planes of an exposure alone, as compiled loops take them.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image]
        Pixels.
    mask : `numpy.ndarray`, shape (ny, nx), int32 [bits]
        Bits of a `Mask`.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared]
        Variance of the image.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.int32]
    variance: NDArray[np.float32]


@dataclass(slots=True)
class Exposure:
    """A masked image with its calibration.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [electrons after isr, nJy in a warp]
        Pixels.
    mask : `Mask`, optional
        Same shape; nothing set when not given.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared], optional
        Variance of the image; NaN-free; zeros when not given.
    xy0 : `tuple` [`int`, `int`]
        Position (x0, y0) of array pixel [0, 0] in the parent frame (detector or tract). ``wcs`` and ``psf``
        are in *array* coordinates, not the parent's.
    wcs, psf, photo_calib, detector, visit_info, filter : optional
        Components.
    ap_corr : mapping of `str` to `float` or `numpy.ndarray`
        Aperture correction by flux field: constant, or polynomial coefficients as `Psf` orders them over
        positions scaled to [-1, 1].
    summary_stats : `dict`
        Numbers describing quality (psfSigma, skyBg, zeroPoint ...).
    metadata : `dict`
        Header cards carried along.

    Raises
    ------
    ValueError
        If the planes differ in shape; both shapes are named.
    """

    image: NDArray[np.float32]
    mask: Mask = None  # type: ignore[assignment]  # filled in __post_init__
    variance: NDArray[np.float32] = None  # type: ignore[assignment]  # filled in __post_init__
    xy0: tuple[int, int] = (0, 0)
    wcs: SkyWcs | None = None
    psf: Psf | None = None
    photo_calib: PhotoCalib | None = None
    detector: Detector | None = None
    visit_info: VisitInfo | None = None
    filter: FilterLabel = field(default_factory=FilterLabel)
    ap_corr: Mapping[str, Any] = field(default_factory=dict)
    summary_stats: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim != 2:
            raise ValueError(f"An exposure's image has two axes, not shape {self.image.shape!r}")
        if self.mask is None:
            self.mask = Mask.zeros((self.image.shape[0], self.image.shape[1]))
        if self.variance is None:
            self.variance = np.zeros(self.image.shape, dtype=np.float32)
        for name, shape in (("mask", self.mask.shape), ("variance", self.variance.shape)):
            if shape != self.image.shape:
                raise ValueError(f"The {name} has shape {shape!r} but the image {self.image.shape!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx)."""
        return (self.image.shape[0], self.image.shape[1])

    @property
    def pixels(self) -> Pixels:
        """The planes themselves, not copies."""
        return Pixels(self.image, self.mask.array, self.variance)

    def copy(self) -> Exposure:
        """Return a copy with its own planes; the immutable components are shared."""
        return Exposure(
            self.image.copy(),
            self.mask.copy(),
            self.variance.copy(),
            self.xy0,
            self.wcs,
            self.psf,
            self.photo_calib,
            self.detector,
            self.visit_info,
            self.filter,
            dict(self.ap_corr),
            dict(self.summary_stats),
            dict(self.metadata),
        )

    def getWcs(self) -> SkyWcs | None:
        """Return the world coordinates (the field's accessor; same as ``wcs``)."""
        return self.wcs

    def getPsf(self) -> Psf | None:
        """Return the PSF (the field's accessor; same as ``psf``)."""
        return self.psf

    def getPhotoCalib(self) -> PhotoCalib | None:
        """Return the photometric calibration (the field's accessor; same as ``photo_calib``)."""
        return self.photo_calib

    def getDetector(self) -> Detector | None:
        """Return the detector (the field's accessor; same as ``detector``)."""
        return self.detector
