"""Steps of calibrate that need a reference catalogue: world coordinates and the photometric zero point.

Apart from the task class, and imported when it runs, for the same reason as
`butler_dask.tasks.calibrate_steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Column, Table
from astropy.time import Time
from numpy.typing import NDArray

from ..imaging.astrometry import AstrometricFit, AstrometryOptions, MeasuredStars, fit_astrometry
from ..imaging.exposure import Exposure
from ..imaging.matching import match_nearest
from ..imaging.photometric_zero_point import fit_zero_point
from ..imaging.reference_catalog import ReferenceStars, load_reference_stars
from ..pipeline import PipelineTask
from .calibration_error import CalibrationError
from .detection_steps import pixel_positions, signal_to_noise

_DAMAGED = ("saturatedCenter", "interpolatedCenter")
"""Flags of sources whose core is not what fell on the detector."""
_ERROR_OF_DAMAGED_PIXELS = 0.3
"""Added to the position error of these; their wings place them to a fraction of a pixel."""
_UNKNOWN_ERROR_PIXELS = 0.5
_MARGIN_AFTER_ASTROMETRY_ARCSEC = 5.0
"""How far beyond the exposure reference stars are loaded once its world coordinates are good."""


def load_references(
    task: PipelineTask, exposure: Exposure, shards: Sequence[Any], *, margin_arcsec: float, need_flux: bool
) -> ReferenceStars:
    """Load the reference stars on an exposure.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate; its ``filterMap`` names the flux column.
    exposure : `Exposure`
        With a WCS; its date places stars that move.
    shards : sequence of `astropy.table.Table` or handle
        Parts of the reference catalogue.
    margin_arcsec : `float`
        How far beyond the exposure [arcsec].
    need_flux : `bool`
        Whether stars without flux in the exposure's filter are of no use.

    Raises
    ------
    CalibrationError
        If the catalogue lacks a column.
    """
    assert exposure.wcs is not None
    epoch = float("nan")
    if exposure.visit_info is not None and exposure.visit_info.begin_tai:
        epoch = float(Time(exposure.visit_info.begin_tai, scale="tai").mjd)
    tables = [shard.get() if callable(getattr(shard, "get", None)) else shard for shard in shards]
    try:
        return load_reference_stars(
            tables,
            exposure.wcs,
            exposure.shape,
            band=exposure.filter.band,
            physical_filter=exposure.filter.physical,
            filter_map=dict(task.config.filterMap),
            margin_arcsec=margin_arcsec,
            epoch_mjd=epoch,
            need_flux=need_flux,
        )
    except KeyError as error:
        raise CalibrationError(str(error.args[0])) from error


def go_on_without(task: PipelineTask, option: str, message: str) -> None:
    """Warn of a calibration that failed, or raise where the configuration requires it.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate.
    option : `str`
        Field of its configuration that says whether this calibration is required.
    message : `str`
        What failed.

    Raises
    ------
    CalibrationError
        If the option named is set.
    """
    if getattr(task.config, option):
        raise CalibrationError(f"{message}; config {option}=False lets the exposure through uncalibrated")
    task.log.warning("%s; going on without", message)


def fit_world_coordinates(
    task: PipelineTask, exposure: Exposure, catalog: Table, shards: Sequence[Any]
) -> Table | None:
    """Fit the exposure's WCS to the reference catalogue.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate; its ``astrometry`` configuration says how.
    exposure : `Exposure`
        With a first WCS; gets the fitted one and statistics of it.
    catalog : `astropy.table.Table`
        Its sources; calib_astrometry_used is set.
    shards : sequence of `astropy.table.Table` or handle
        Parts of the reference catalogue.

    Returns
    -------
    matches : `astropy.table.Table` or None
        The matched pairs; None where there is no fit and none is required.

    Raises
    ------
    CalibrationError
        If there is no fit and one is required.
    """
    config = task.config.astrometry
    log = task.log.getChild("astrometry")
    if exposure.wcs is None:
        go_on_without(task, "requireAstrometry", "The exposure has no first WCS to match from")
        return None
    stars = load_references(task, exposure, shards, margin_arcsec=config.maxOffsetArcsec, need_flux=False)
    log.info("Loaded %d reference objects", len(stars))
    # Saturated stars are the ones catalogues know.
    usable = usable_sources(catalog, "base_PsfFlux", config.minSignalToNoise, saturated=True)
    rows = np.flatnonzero(usable & ~np.asarray(catalog["base_SdssCentroid_flag"]))
    x, y = pixel_positions(catalog)
    measured = MeasuredStars(
        x[rows],
        y[rows],
        _position_errors(catalog, rows),
        np.asarray(catalog["base_PsfFlux_instFlux"])[rows],
    )
    options = AstrometryOptions(
        order=config.order,
        max_offset_arcsec=config.maxOffsetArcsec,
        max_rotation_deg=config.maxRotationDeg,
        match_radius_arcsec=config.matchRadiusArcsec,
        n_sigma=config.nSigmaClip,
        min_matches=config.minMatches,
    )
    fit = fit_astrometry(exposure.wcs, exposure.shape, measured, stars, options)
    if fit is None:
        go_on_without(
            task,
            "requireAstrometry",
            f"No match of {len(rows)} sources with {len(stars)} reference objects within "
            f"{config.maxOffsetArcsec:g} arcsec",
        )
        return None
    exposure.wcs = fit.wcs
    log.info(
        "Matched and fit WCS in %d iterations; found %d matches with scatter = %0.3f +- %0.3f arcsec",
        fit.n_iterations,
        int(fit.used.sum()),
        fit.scatter_mean_arcsec,
        fit.scatter_std_arcsec,
    )
    catalog["calib_astrometry_used"][rows[fit.source[fit.used]]] = True
    exposure.summary_stats |= {
        "astromOffsetMean": fit.scatter_mean_arcsec,
        "astromOffsetStd": fit.scatter_std_arcsec,
        "nAstromMatches": float(fit.used.sum()),
        "astromPointingOffset": fit.offset_arcsec,
    }
    return _match_table(catalog, rows, fit, stars)


def _position_errors(catalog: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the error of the positions of some sources along one axis, shape (n,), float64 [pixels]."""
    error = np.hypot(
        np.asarray(catalog["base_SdssCentroid_xErr"])[rows],
        np.asarray(catalog["base_SdssCentroid_yErr"])[rows],
    ) / np.sqrt(2.0)
    damaged = np.zeros(len(rows), bool)
    for name in _DAMAGED:
        damaged |= np.asarray(catalog[f"base_PixelFlags_flag_{name}"])[rows]
    larger = np.hypot(error, np.where(damaged, _ERROR_OF_DAMAGED_PIXELS, 0.0))
    return np.where(np.isfinite(error), larger, _UNKNOWN_ERROR_PIXELS)


def _match_table(
    catalog: Table, rows: NDArray[np.int64], fit: AstrometricFit, stars: ReferenceStars
) -> Table:
    return Table(
        [
            Column(np.asarray(catalog["id"])[rows[fit.source]], "src_id"),
            Column(stars.id[fit.reference], "ref_id"),
            Column(stars.ra[fit.reference], "ref_coord_ra", unit="rad"),
            Column(stars.dec[fit.reference], "ref_coord_dec", unit="rad"),
            Column(stars.flux[fit.reference], "ref_flux", unit="nJy"),
            Column(np.radians(fit.separation_arcsec / 3600), "distance", unit="rad"),
            Column(fit.used, "used"),
        ]
    )


def fit_photometry(task: PipelineTask, exposure: Exposure, catalog: Table, shards: Sequence[Any]) -> None:
    """Fit the exposure's photometric calibration to the reference catalogue.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate; its ``photoCal`` configuration says how.
    exposure : `Exposure`
        Gets the calibration and statistics of it.
    catalog : `astropy.table.Table`
        Its sources; calib_photometry_used is set.
    shards : sequence of `astropy.table.Table` or handle
        Parts of the reference catalogue.

    Raises
    ------
    CalibrationError
        If there is no fit and one is required.
    """
    config = task.config.photoCal
    if exposure.wcs is None:
        go_on_without(task, "requirePhotoCal", "Without a WCS no photometric reference can be matched")
        return
    stars = load_references(
        task, exposure, shards, margin_arcsec=_MARGIN_AFTER_ASTROMETRY_ARCSEC, need_flux=True
    )
    rows, reference = _match_stars(task, exposure, catalog, stars)
    fit = fit_zero_point(
        np.asarray(catalog[f"{config.fluxField}_instFlux"])[rows],
        np.asarray(catalog[f"{config.fluxField}_instFluxErr"])[rows],
        stars.flux[reference],
        stars.flux_err[reference],
        floor_mag=config.magErrFloor,
        min_stars=config.minStars,
    )
    if fit is None:
        go_on_without(
            task,
            "requirePhotoCal",
            f"Only {len(rows)} stars match the photometric reference, fewer than {config.minStars}",
        )
        return
    exposure.photo_calib = fit.photo_calib
    catalog["calib_photometry_used"][rows[fit.used]] = True
    task.log.getChild("photoCal").info(
        "Magnitude zero point: %f +/- %f from %d stars (scatter %f mag, %s)",
        fit.zero_point_mag,
        fit.error_mag,
        int(fit.used.sum()),
        fit.scatter_mag,
        stars.flux_column,
    )
    exposure.summary_stats |= {
        "zeroPointError": fit.error_mag,
        "zeroPointScatter": fit.scatter_mag,
        "nPhotoCalStars": float(fit.used.sum()),
    }


def _match_stars(
    task: PipelineTask, exposure: Exposure, catalog: Table, stars: ReferenceStars
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of point sources and of the reference stars at their places, each shape (n,), int64."""
    config = task.config.photoCal
    assert exposure.wcs is not None
    usable = usable_sources(catalog, config.fluxField, config.minSignalToNoise)
    usable &= np.asarray(catalog["base_ClassificationExtendedness_value"]) == 0.0
    rows = np.flatnonzero(usable)
    fluxed = np.flatnonzero(stars.point_like & (stars.flux > 0))
    reference_x, reference_y = exposure.wcs.sky_to_pixel(
        np.degrees(stars.ra[fluxed]), np.degrees(stars.dec[fluxed])
    )
    sane = np.isfinite(reference_x) & np.isfinite(reference_y)
    x, y = pixel_positions(catalog)
    source, reference, _ = match_nearest(
        x[rows],
        y[rows],
        reference_x[sane],
        reference_y[sane],
        config.matchRadiusArcsec / exposure.wcs.pixel_scale_arcsec(),
    )
    return rows[source], fluxed[sane][reference]


def usable_sources(
    catalog: Table, field: str, min_signal_to_noise: float, *, saturated: bool = False
) -> NDArray[np.bool_]:
    """Return which sources have a clean centre and enough signal.

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Source catalogue.
    field : `str`
        Flux, ``base_PsfFlux`` say.
    min_signal_to_noise : `float`
        Of that flux.
    saturated : `bool`
        Whether sources with a saturated or interpolated centre will do as well.

    Returns
    -------
    usable : `numpy.ndarray`, shape (n,), bool
        By source.
    """
    usable: NDArray[np.bool_] = signal_to_noise(catalog, field) > min_signal_to_noise
    usable &= ~np.asarray(catalog[f"{field}_flag"]) & np.asarray(catalog["detect_isPrimary"])
    forbidden = ("badCenter", "edge") if saturated else (*_DAMAGED, "badCenter", "edge")
    for name in forbidden:
        usable &= ~np.asarray(catalog[f"base_PixelFlags_flag_{name}"])
    return usable
