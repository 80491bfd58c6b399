"""Steps of calibrate on one exposure: its sources, the rough zero point, the summary.

They need numba and scipy, which graph building does without; the task imports them when it runs. Each takes
the task for its configuration, log and metadata. The fits to reference catalogues are in
`butler_dask.tasks.reference_steps`.
"""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from ..imaging.aperture_correction import apply_aperture_corrections
from ..imaging.background import BackgroundList
from ..imaging.deblending import deblend_sources, sources_from_footprints
from ..imaging.detection import Detections
from ..imaging.exposure import Exposure
from ..imaging.matching import match_nearest
from ..imaging.photo_calib import PhotoCalib
from ..imaging.sky_sources import sky_positions
from ..imaging.source_catalog import fill_coordinates, flux_fields
from ..imaging.stamps import SourceList
from ..pipeline import PipelineTask
from .calibration_error import CalibrationError
from .detection_steps import (
    PSF_FLAGS,
    SourceNumbering,
    detect,
    measure,
    pixel_positions,
    psf_of,
    sky_level,
)

_SAME_PLACE_PIXELS = 2.0
"""Sources of two catalogues of one exposure no farther apart are the same."""
_SKY_FIELD = "base_CircularApertureFlux_9_0_instFlux"
"""The flux of sky sources that says how flat the background is."""


def copy_background(background: BackgroundList | None) -> BackgroundList:
    """Return a list to which this task's sky models are added, without changing the one given.

    Parameters
    ----------
    background : `BackgroundList`, optional
        Sky models subtracted so far.
    """
    return background.copy() if background is not None else BackgroundList()


def find_sources(
    task: PipelineTask,
    exposure: Exposure,
    background: BackgroundList,
    exposure_id: int | None,
    detector: int | None,
) -> Table:
    """Detect, deblend and measure all sources.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate.
    exposure : `Exposure`
        Background subtracted, with a PSF; its mask changes, and its image by the refitted sky.
    background : `BackgroundList`
        Gets the refitted sky.
    exposure_id, detector : `int`, optional
        Numbers for the identifiers; the exposure's own where not given.

    Returns
    -------
    catalog : `astropy.table.Table`
        One row a source: parents, sky sources, then children.

    Raises
    ------
    CalibrationError
        If the exposure has no PSF.
    """
    if exposure.psf is None:
        raise CalibrationError("The exposure has no PSF: calibrate takes the output of characterizeImage")
    numbering = SourceNumbering.of(exposure, exposure_id, detector)
    detections = detect(task, exposure, background)
    sources = _parents(task, exposure, detections, numbering)
    if task.config.doDeblend:
        sources = _with_children(task, exposure, detections, sources, numbering)
    catalog = measure(task, exposure, detections, sources, numbering)
    if task.config.doApCorr and exposure.ap_corr:
        fields = flux_fields(list(task.config.measurement.apertureRadii))
        applied = apply_aperture_corrections(catalog, exposure.ap_corr, fields, exposure.shape)
        task.log.getChild("applyApCorr").info("Applying aperture corrections to %d instFlux fields", applied)
    if not np.isfinite(np.asarray(catalog["base_PsfFlux_instFlux"])).any():
        task.log.warning("No source has a PSF flux")
    return catalog


def _parents(
    task: PipelineTask, exposure: Exposure, detections: Detections, numbering: SourceNumbering
) -> SourceList:
    """Return a source for each footprint, and for empty places where they are wanted."""
    sky = None
    if task.config.doSkySources:
        config = task.config.skySources
        sky = sky_positions(
            exposure.mask,
            config.nSources,
            radius=config.sourceRadius,
            seed=numbering.exposure_id + config.seed,
        )
        task.log.getChild("skySources").info(
            "Added %d of %d requested sky sources (%.0f%%)",
            len(sky[0]),
            config.nSources,
            100.0 * len(sky[0]) / max(config.nSources, 1),
        )
    return sources_from_footprints(detections.positive, sky)


def _with_children(
    task: PipelineTask,
    exposure: Exposure,
    detections: Detections,
    sources: SourceList,
    numbering: SourceNumbering,
) -> SourceList:
    """Return sources with those that blended ones are made of behind them."""
    config = task.config.deblend
    log = task.log.getChild("deblend")
    n = len(sources)
    log.info("Deblending %d sources", n)
    result = deblend_sources(
        exposure,
        detections.positive,
        sources,
        psf_of(exposure),
        max_area=config.maxFootprintArea,
        max_peaks=config.maxNumberOfPeaks,
    )
    ids = numbering.ids(len(result.sources))
    for row in result.skipped:
        log.warning(
            "Parent %d: skipping large footprint (area: %d)", ids[row], detections.positive.areas[row]
        )
    log.info(
        "Deblended: of %d sources, %d were deblended, creating %d children, total %d sources",
        n,
        result.n_deblended,
        len(result.sources) - n,
        len(result.sources),
    )
    return result.sources


def copy_psf_flags(bright: Table, catalog: Table) -> None:
    """Take calib_psf flags over to the sources at the same places.

    Parameters
    ----------
    bright : `astropy.table.Table`
        Sources of characterizeImage.
    catalog : `astropy.table.Table`
        All sources; changed.
    """
    whole = np.flatnonzero(np.asarray(catalog["deblend_nChild"]) == 0)
    x, y = pixel_positions(catalog)
    rows, theirs, _ = match_nearest(x[whole], y[whole], *pixel_positions(bright), _SAME_PLACE_PIXELS)
    for name in PSF_FLAGS:
        if name in bright.colnames:
            catalog[name][whole[rows]] = np.asarray(bright[name], bool)[theirs]


def set_rough_zero_point(task: PipelineTask, exposure: Exposure) -> None:
    """Set the configured zero point of the filter, or 1 nJy an electron, where no calibration is to stay.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate; its ``roughZeroPoint`` says magnitudes by filter.
    exposure : `Exposure`
        Gets the calibration.
    """
    if task.config.doPhotoCal is False and exposure.photo_calib is not None:
        return
    rough = task.config.roughZeroPoint
    for name in (exposure.filter.physical, exposure.filter.band):
        if name in rough:
            seconds = exposure.visit_info.exposure_time_s if exposure.visit_info is not None else float("nan")
            seconds = seconds if np.isfinite(seconds) and seconds > 0 else 1.0
            exposure.photo_calib = PhotoCalib.from_zero_point(rough[name] + 2.5 * float(np.log10(seconds)))
            task.log.info("Rough magnitude zero point: %f", exposure.photo_calib.zero_point_mag)
            return
    exposure.photo_calib = PhotoCalib(1.0)


def record_results(
    task: PipelineTask, exposure: Exposure, catalog: Table, background: BackgroundList
) -> None:
    """Fill in the sources' coordinates, the exposure's summary statistics and the task's metadata.

    Parameters
    ----------
    task : `PipelineTask`
        A calibrate.
    exposure : `Exposure`
        Calibrated.
    catalog : `astropy.table.Table`
        Its sources; get their coordinates.
    background : `BackgroundList`
        All sky models subtracted.

    Notes
    -----
    The noise of the sky is 1.4826 times the median absolute deviation, which is the standard deviation of a
    Gaussian (Hampel 1974, JASA 69, 383, doi:10.1080/01621459.1974.10482962).
    """
    fill_coordinates(catalog, exposure)
    assert exposure.photo_calib is not None
    psf = psf_of(exposure)
    sky = exposure.mask.array == 0
    stats = exposure.summary_stats
    stats["psfSigma"] = psf.sigma_at(*psf.center)
    stats["skyBg"] = sky_level(background)
    if sky.any():
        values = exposure.image[::4, ::4][sky[::4, ::4]]
        middle = np.median(values) if values.size else np.nan
        stats["skyNoise"] = (
            float(1.4826 * np.median(np.abs(values - middle))) if values.size else float("nan")
        )
        stats["meanVar"] = float(exposure.variance[sky].mean())
    stats["zeroPoint"] = exposure.photo_calib.zero_point_mag
    stats["nPsfStar"] = float(np.sum(catalog["calib_psf_used"]))
    stats["nSources"] = float(np.sum(catalog["detect_isPrimary"]))
    if exposure.wcs is not None:
        ny, nx = exposure.shape
        stats["pixelScale"] = exposure.wcs.pixel_scale_arcsec((nx - 1) / 2, (ny - 1) / 2)
        ra, dec = exposure.wcs.pixel_to_sky(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
        stats["ra"], stats["dec"] = float(ra[0]), float(dec[0])
    empty = np.asarray(catalog["sky_source"])
    if empty.any():
        stats["skySourceFlux9"] = (
            float(np.nanmedian(np.asarray(catalog[_SKY_FIELD])[empty]))
            if _SKY_FIELD in catalog.colnames
            else float("nan")
        )
    task.metadata["nSources"] = len(catalog)
