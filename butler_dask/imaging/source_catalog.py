"""Source catalogue: every measurement of a list of sources, in the columns the field knows.

One function runs positions, moments, fluxes and flags over the stamps of all sources and names the results
as Rubin's ``src`` tables do. Values that could not be measured are NaN with their ``_flag`` set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .aperture_photometry import circular_aperture_fluxes
from .exposure import Exposure
from .noise_model import NoiseModel, model_noise
from .psf import Psf
from .psf_images import psf_images
from .psf_photometry import PsfFitOptions, PsfFits, fit_psfs
from .shapes import Moments, adaptive_moments
from .stamps import SourceList, Stamps, cut_stamps

if TYPE_CHECKING:
    from astropy.table import Table

APERTURE_RADII = (3.0, 6.0, 9.0, 12.0)
"""Radii of ``base_CircularApertureFlux`` [pixels]."""

FLAG_PLANES: Mapping[str, str] = {
    "bad": "BAD",
    "saturated": "SAT",
    "interpolated": "INTRP",
    "cr": "CR",
    "edge": "EDGE",
    "suspect": "SUSPECT",
}
"""Mask plane behind each ``base_PixelFlags_flag_``."""


CALIB_FLAGS = (
    "calib_psf_candidate",
    "calib_psf_used",
    "calib_psf_reserved",
    "calib_astrometry_used",
    "calib_photometry_used",
)
"""Flags that calibration sets later."""


def aperture_flux_name(radius: float) -> str:
    """Return the field's column stem of a circular aperture, ``base_CircularApertureFlux_12_0``."""
    return f"base_CircularApertureFlux_{radius:.1f}".replace(".", "_")


def flux_fields(radii: Sequence[float] = APERTURE_RADII) -> list[str]:
    """Return the stems of all flux columns (each has ``_instFlux``, ``_instFluxErr``, ``_flag``)."""
    return ["base_PsfFlux", "base_GaussianFlux", *(aperture_flux_name(r) for r in radii)]


def measure_sources(
    exposure: Exposure,
    psf: Psf,
    labels: NDArray[np.int32],
    sources: SourceList,
    ids: NDArray[np.int64],
    *,
    radii: Sequence[float] = APERTURE_RADII,
    weighted_psf_flux: bool = False,
    psf_model_error: float = 0.0,
    half: int | None = None,
) -> Table:
    """Measure sources.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    psf : `Psf`
        The model.
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
        Footprint numbers.
    sources : `SourceList`
        What to measure, parents and children.
    ids : `numpy.ndarray`, shape (n,), int64 [1]
        Identifier of each.
    radii : sequence of `float`
        Circular apertures [pixels].
    weighted_psf_flux : `bool`
        See `fit_psfs`.
    psf_model_error : `float`
        See `fit_psfs`.
    half : `int`, optional
        Half size of the stamps; the PSF's or the largest aperture's when not given [pixels].

    Returns
    -------
    catalog : `astropy.table.Table`
        One row a source, in order. Fluxes in the image's unit, positions in pixels, coordinates (rad) NaN
        until a WCS fills them.
    """
    from astropy.table import Column, Table

    n = len(sources)
    if half is None:
        half = max(psf.size // 2, int(np.ceil(max(radii))) + 2)
    stamps = cut_stamps(exposure, labels, sources, half)
    noise = model_noise(exposure, labels, stamps)
    sigma = psf.sigma_at(*psf.center)
    options = PsfFitOptions(
        max_shift=max(3.0, 1.5 * sigma), model_error=psf_model_error, weighted=weighted_psf_flux
    )
    fits = fit_psfs(psf, sources, stamps, noise, options)
    x, y = stamps.x0 + fits.dx, stamps.y0 + fits.dy
    data, variance = _whole_stamps(stamps, noise, fits)
    moments = adaptive_moments(data, variance, fits.dx, fits.dy, sigma)
    psf_moments = _psf_moments(psf, x, y, sigma)
    fluxes, flux_errs = circular_aperture_fluxes(
        data, variance, fits.dx, fits.dy, np.asarray(radii, np.float64)
    )

    columns: dict[str, NDArray[np.generic]] = {
        "id": np.asarray(ids, np.int64),
        "parent": np.where(sources.parent_index >= 0, ids[sources.parent_index], 0).astype(np.int64),
        "deblend_nChild": sources.n_child.astype(np.int32),
        "coord_ra": np.full(n, np.nan),
        "coord_dec": np.full(n, np.nan),
        "base_SdssCentroid_x": x,
        "base_SdssCentroid_y": y,
        "base_SdssCentroid_xErr": fits.dx_err,
        "base_SdssCentroid_yErr": fits.dy_err,
        "base_SdssCentroid_flag": fits.centroid_flag,
        **_shape_columns(moments, psf_moments),
        "base_PsfFlux_instFlux": fits.flux,
        "base_PsfFlux_instFluxErr": fits.flux_err,
        "base_PsfFlux_flag": fits.flux_flag,
        "base_PsfFlux_chi2": fits.chi2,
        **_gaussian_flux_columns(moments),
    }
    for k, radius in enumerate(radii):
        name = aperture_flux_name(radius)
        inside = _inside_image(x, y, radius, exposure.shape)
        columns[f"{name}_instFlux"] = fluxes[:, k]
        columns[f"{name}_instFluxErr"] = flux_errs[:, k]
        columns[f"{name}_flag"] = ~inside | ~np.isfinite(fluxes[:, k])
    columns |= _pixel_flags(exposure, stamps, x, y, 2.0 * sigma)
    columns["base_ClassificationExtendedness_value"] = np.full(n, np.nan)
    columns["base_ClassificationExtendedness_flag"] = np.zeros(n, bool)
    for name in CALIB_FLAGS:
        columns[name] = np.zeros(n, bool)
    columns["sky_source"] = sources.fixed.copy()
    columns["detect_isPrimary"] = (sources.n_child == 0) & ~sources.fixed
    columns["detect_significance"] = sources.significance
    catalog = Table([Column(values, name=name, unit=_unit_of(name)) for name, values in columns.items()])
    classify_extended(catalog)
    return catalog


def _whole_stamps(
    stamps: Stamps, noise: NoiseModel, fits: PsfFits
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return data and variance, holes filled by what the PSF fit expects, so that circles are whole."""
    expected = np.where(np.isfinite(fits.flux), fits.flux, 0.0).astype(np.float32)
    hole = stamps.good == 0
    data = np.where(hole, fits.models * expected[:, np.newaxis, np.newaxis], stamps.data)
    variance = np.where(hole, noise.sky[:, np.newaxis, np.newaxis].astype(np.float32), stamps.variance)
    return data, variance


def _shape_columns(moments: Moments, psf_moments: Moments) -> dict[str, NDArray[np.generic]]:
    return {
        "base_SdssShape_xx": moments.xx,
        "base_SdssShape_yy": moments.yy,
        "base_SdssShape_xy": moments.xy,
        "base_SdssShape_flag": moments.flag,
        "base_SdssShape_psf_xx": psf_moments.xx,
        "base_SdssShape_psf_yy": psf_moments.yy,
        "base_SdssShape_psf_xy": psf_moments.xy,
    }


def _gaussian_flux_columns(moments: Moments) -> dict[str, NDArray[np.generic]]:
    return {
        "base_GaussianFlux_instFlux": np.where(moments.flag, np.nan, moments.flux),
        "base_GaussianFlux_instFluxErr": np.where(moments.flag, np.nan, moments.flux_err),
        "base_GaussianFlux_flag": moments.flag,
    }


def _pixel_flags(
    exposure: Exposure, stamps: Stamps, x: NDArray[np.float64], y: NDArray[np.float64], margin: float
) -> dict[str, NDArray[np.generic]]:
    """Return the ``base_PixelFlags_flag_`` columns; within ``margin`` [pixels] of the edge is at the edge."""
    columns: dict[str, NDArray[np.generic]] = {}
    planes = exposure.mask.planes
    for flag, plane in FLAG_PLANES.items():
        bits = exposure.mask.bitmask(plane) if plane in planes else 0
        columns[f"base_PixelFlags_flag_{flag}"] = (stamps.flags & bits) != 0
        if flag in ("saturated", "interpolated", "cr", "bad", "suspect"):
            columns[f"base_PixelFlags_flag_{flag}Center"] = (stamps.center_flags & bits) != 0
    at_edge = ~_inside_image(x, y, margin, exposure.shape)
    columns["base_PixelFlags_flag_edge"] = columns["base_PixelFlags_flag_edge"].astype(bool) | at_edge
    columns["base_PixelFlags_flag_offimage"] = ~_inside_image(x, y, -0.5, exposure.shape)
    return columns


def _unit_of(column: str) -> str | None:
    if column.startswith("coord_"):
        return "rad"
    if column.endswith("flag"):
        return None
    if column.startswith("base_SdssCentroid_"):
        return "pix"
    return "pix2" if column.startswith("base_SdssShape_") else None


def classify_extended(catalog: Table) -> None:
    """Fill ``base_ClassificationExtendedness_value``: 1 for extended, 0 for point-like, NaN unknown.

    Extended is whose Gaussian-weighted size exceeds the PSF's by 5 % and by three times its own error
    (a tenth of a per cent of area at high signal to noise is not an error of noise but of the PSF).
    """
    size = 0.5 * (np.asarray(catalog["base_SdssShape_xx"]) + np.asarray(catalog["base_SdssShape_yy"]))
    psf_size = 0.5 * (
        np.asarray(catalog["base_SdssShape_psf_xx"]) + np.asarray(catalog["base_SdssShape_psf_yy"])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = np.asarray(catalog["base_GaussianFlux_instFluxErr"]) / np.asarray(
            catalog["base_GaussianFlux_instFlux"]
        )
        excess = size / psf_size - 1.0
        extended = excess > np.maximum(0.05, 3.0 * np.sqrt(2.0) * noise)
        unknown = ~np.isfinite(excess) | ~np.isfinite(noise)
    catalog["base_ClassificationExtendedness_value"] = np.where(unknown, np.nan, extended.astype(np.float64))
    catalog["base_ClassificationExtendedness_flag"] = unknown


def _psf_moments(psf: Psf, x: NDArray[np.float64], y: NDArray[np.float64], sigma: float) -> Moments:
    images = psf_images(psf, x, y, centered=True)
    zero = np.zeros(len(images))
    return adaptive_moments(images, np.zeros_like(images), zero, zero, sigma)


def _inside_image(
    x: NDArray[np.float64], y: NDArray[np.float64], margin: float, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (
        (x >= margin) & (y >= margin) & (x <= shape[1] - 1 - margin) & (y <= shape[0] - 1 - margin)
    )
    return inside


def fill_coordinates(catalog: Table, exposure: Exposure) -> None:
    """Set ``coord_ra`` and ``coord_dec`` [rad] from the exposure's WCS; NaN without one."""
    if exposure.wcs is None:
        return
    ra, dec = exposure.wcs.pixel_to_sky(
        np.asarray(catalog["base_SdssCentroid_x"]), np.asarray(catalog["base_SdssCentroid_y"])
    )
    catalog["coord_ra"][:] = np.radians(ra)
    catalog["coord_dec"][:] = np.radians(dec)
