"""Steps of characterizeImage, in the order it takes them.

They need numba and scipy, which graph building does without; the task imports them when it runs. Each takes
the task for its configuration, log and metadata, and changes the exposure in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from ..imaging.aperture_correction import apply_aperture_corrections, fit_aperture_correction
from ..imaging.background import BackgroundList
from ..imaging.cosmic_rays import find_cosmic_rays, repair_cosmic_rays
from ..imaging.deblending import deblend_sources, sources_from_footprints
from ..imaging.detection import Detections
from ..imaging.exposure import Exposure
from ..imaging.psf import Psf
from ..imaging.source_catalog import fill_coordinates
from ..imaging.stamps import SourceList
from ..imaging.star_selection import estimate_seeing
from ..pipeline import NoWorkFound, PipelineTask
from .detection_steps import (
    PSF_FLAGS,
    SourceNumbering,
    detect,
    measure,
    psf_of,
    signal_to_noise,
    sky_level,
    subtract_sky,
)
from .psf_steps import measure_psf

_ROUNDS_OF_FIT, _ROUNDS_OF_LAST_FIT = 3, 6
"""Rounds of the fit of a PSF model; only the last model has to be good."""
_SHARPEST_SIGMA_PIXELS = 0.5
_FEWEST_BRIGHT_STARS = 5
"""With fewer stars above the least signal-to-noise, all measure the aperture corrections."""


def require_pixels(exposure: Exposure) -> None:
    """Refuse an exposure that is all bad.

    Parameters
    ----------
    exposure : `Exposure`
        Its mask and image say which pixels are usable.

    Raises
    ------
    NoWorkFound
        If every pixel is BAD, NO_DATA or not finite.
    """
    planes = [p for p in ("BAD", "NO_DATA") if p in exposure.mask.planes]
    bits = exposure.mask.bitmask(planes)
    for step in (16, 1):  # a sparse look mostly answers
        rows = slice(None, None, step)
        usable = (exposure.mask.array[rows, rows] & bits) == 0
        if (usable & np.isfinite(exposure.image[rows, rows])).any():
            return
    raise NoWorkFound("No usable pixel: all are BAD, NO_DATA or not finite")


def subtract_first_sky(task: PipelineTask, exposure: Exposure) -> BackgroundList:
    """Subtract the sky as it is before anything is detected; return the list it is in.

    Parameters
    ----------
    task : `PipelineTask`
        A characterizeImage.
    exposure : `Exposure`
        In electrons; changed.
    """
    background = BackgroundList()
    subtract_sky(exposure, task.config.background, background)
    return background


def install_first_psf(task: PipelineTask, exposure: Exposure) -> None:
    """Give the exposure a Gaussian PSF to begin with, unless it has one and that is to stay.

    It is as wide as configured, or less where stars are sharper: a guess wider than the stars would take them
    for cosmic rays; one that is narrower does no harm.

    Parameters
    ----------
    task : `PipelineTask`
        A characterizeImage.
    exposure : `Exposure`
        Background subtracted; gets the PSF.
    """
    if exposure.psf is not None and not task.config.doMeasurePsf:
        return
    guess = task.config.installSimplePsf
    sigma = float(guess.fwhm) / 2.3548
    seen = estimate_seeing(exposure)
    if not np.isnan(seen):
        sigma = min(sigma, max(seen, _SHARPEST_SIGMA_PIXELS))
    exposure.psf = Psf.gaussian(sigma, guess.width | 1)


@dataclass(frozen=True, slots=True)
class RemovedCosmicRays:
    """What cosmic rays were before they were replaced.

    Parameters
    ----------
    y, x : `numpy.ndarray`, shape (n,), int64
        Pixels struck.
    charge : `numpy.ndarray`, shape (n,), float32
        What was taken off the image [electrons].
    variance : `numpy.ndarray`, shape (n,), float32
        Variance before [electrons^2].
    mask : `numpy.ndarray`, shape (n,), int32
        Mask before.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    charge: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.int32]

    def put_back(self, exposure: Exposure) -> None:
        """Undo the removal, so that a better PSF can judge them anew.

        Parameters
        ----------
        exposure : `Exposure`
            The one they were removed from; changed.
        """
        where = (self.y, self.x)
        planes = exposure.mask.bitmask(("CR", "INTRP"))
        # The sky may have been refitted since: only the difference is put back.
        exposure.image[where] += self.charge
        exposure.variance[where] = self.variance
        cleared = exposure.mask.array[where] & ~planes
        exposure.mask.array[where] = cleared | (self.mask & planes)


def remove_cosmic_rays(task: PipelineTask, exposure: Exposure) -> RemovedCosmicRays | None:
    """Find and replace cosmic rays.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``repair`` configuration says how, and whether.
    exposure : `Exposure`
        With a PSF or a guess at it; changed.

    Returns
    -------
    removed : `RemovedCosmicRays` or None
        What was there; None where nothing was replaced.
    """
    if not task.config.repair.doCosmicRay:
        return None
    config = task.config.repair.cosmicray
    found = find_cosmic_rays(
        exposure,
        psf_of(exposure),
        min_sigma=config.minSigma,
        min_electrons=config.min_DN,
        contrast=config.cond3_fac2,
        noise_factor=config.cond3_fac,
    )
    log = task.log.getChild("repair")
    if len(found.y) > config.nCrPixelMax:
        log.warning(
            "%d struck pixels are more than nCrPixelMax=%d; none is replaced",
            len(found.y),
            config.nCrPixelMax,
        )
        return None
    log.info("Identified %d cosmic rays.", found.n_objects)
    where = (found.y, found.x)
    image = exposure.image[where].copy()
    variance = exposure.variance[where].copy()
    mask = exposure.mask.array[where].copy()
    repair_cosmic_rays(exposure, found)
    return RemovedCosmicRays(found.y, found.x, image - exposure.image[where], variance, mask)


def find_sources(
    task: PipelineTask,
    exposure: Exposure,
    background: BackgroundList,
    exposure_id: int | None,
    detector: int | None,
) -> Table:
    """Find and measure bright sources, and the PSF with them, in rounds that each improve the other.

    Parameters
    ----------
    task : `PipelineTask`
        Its configuration says how, and how many rounds.
    exposure : `Exposure`
        Background subtracted, with a PSF to begin with; gets the measured one, and cosmic rays are replaced.
    background : `BackgroundList`
        Gets the sky of each round.
    exposure_id, detector : `int`, optional
        Numbers for the identifiers; the exposure's own where not given.

    Returns
    -------
    catalog : `astropy.table.Table`
        Bright sources, measured with the last PSF.
    """
    numbering = SourceNumbering.of(exposure, exposure_id, detector)
    n_rounds = task.config.psfIterations if task.config.doMeasurePsf else 1
    removed = None
    for number in range(1, n_rounds + 1):
        task.log.warning("Source catalog detected and measured with placeholder or default PSF")
        if removed is not None:
            removed.put_back(exposure)
        removed = remove_cosmic_rays(task, exposure)
        detections = detect(task, exposure, background)
        sources, catalog = measure_bright_sources(task, exposure, detections, numbering)
        if task.config.doMeasurePsf:
            measure_psf(
                task,
                exposure,
                detections,
                sources,
                catalog,
                seed=numbering.exposure_id,
                n_rounds=_ROUNDS_OF_LAST_FIT if number == n_rounds else _ROUNDS_OF_FIT,
            )
        psf = psf_of(exposure)
        task.log.info(
            "iter %d; PSF sigma=%0.2f, dimensions=(%d, %d); median background=%0.2f",
            number,
            psf.sigma_at(*psf.center),
            psf.size,
            psf.size,
            sky_level(background),
        )
    if removed is not None:
        removed.put_back(exposure)
    remove_cosmic_rays(task, exposure)
    _, measured = measure_bright_sources(task, exposure, detections, numbering)
    for name in PSF_FLAGS:
        measured[name] = np.asarray(catalog[name])
    return measured


def measure_bright_sources(
    task: PipelineTask, exposure: Exposure, detections: Detections, numbering: SourceNumbering
) -> tuple[SourceList, Table]:
    """Measure the sources that are bright enough to be listed.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``detection`` and ``measurement`` configuration says which and how.
    exposure : `Exposure`
        Background subtracted, with a PSF.
    detections : `Detections`
        All that was detected.
    numbering : `SourceNumbering`
        Of exposure and detector.

    Returns
    -------
    sources : `SourceList`
        Those listed.
    catalog : `astropy.table.Table`
        Their measurements, row by row.
    """
    config = task.config.detection
    everything = sources_from_footprints(detections.positive)
    if task.config.doDeblend:
        everything = deblend_sources(exposure, detections.positive, everything, psf_of(exposure)).sources
    bright = everything.significance > config.thresholdValue * max(config.includeThresholdMultiplier, 1.0)
    sources = everything.subset(bright)
    new_row = np.cumsum(bright) - 1
    parents = everything.parent_index[bright]
    known = (parents >= 0) & bright[np.maximum(parents, 0)]
    sources.parent_index = np.where(known, new_row[np.maximum(parents, 0)], -1)
    return sources, measure(task, exposure, detections, sources, numbering)


def correct_apertures(task: PipelineTask, exposure: Exposure, catalog: Table) -> None:
    """Measure how fluxes differ from that of the reference aperture, and correct them.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``measureApCorr`` configuration says which and how.
    exposure : `Exposure`
        Gets the corrections.
    catalog : `astropy.table.Table`
        Sources with calib_psf flags; their fluxes are corrected.
    """
    config = task.config.measureApCorr
    log = task.log.getChild("measureApCorr")
    log.info("Measuring aperture corrections for %d flux fields", len(config.fields))
    stars = np.asarray(catalog["calib_psf_used"]) | np.asarray(catalog["calib_psf_reserved"])
    rows = stars & (signal_to_noise(catalog, "base_PsfFlux") > config.minSignalToNoise)
    if rows.sum() < _FEWEST_BRIGHT_STARS:
        rows = stars
    log.getChild("sourceSelector").info("Selected %d/%d sources", rows.sum(), len(catalog))
    corrections: dict[str, NDArray[np.float64]] = {}
    for field in config.fields:
        fit = fit_aperture_correction(
            catalog, rows, field, config.refFluxName, exposure.shape, degree=config.spatialOrder
        )
        if fit is None:
            log.warning("Too few stars for the aperture correction of %s; it stays uncorrected", field)
            continue
        log.info("Aperture correction for %s: RMS %f from %d", field, fit.rms, fit.n_used)
        corrections[f"{field}_instFlux"] = fit.coefficients
    exposure.ap_corr = corrections
    n = apply_aperture_corrections(catalog, corrections, list(config.fields), exposure.shape)
    task.log.getChild("applyApCorr").info("Applying aperture corrections to %d instFlux fields", n)


def record_results(task: PipelineTask, exposure: Exposure, catalog: Table) -> None:
    """Fill in the sources' coordinates, and note in summary statistics and metadata what was measured.

    Parameters
    ----------
    task : `PipelineTask`
        A characterizeImage.
    exposure : `Exposure`
        With its PSF; gets psfSigma [pixels] and nPsfStar.
    catalog : `astropy.table.Table`
        Bright sources; get their coordinates.
    """
    fill_coordinates(catalog, exposure)
    psf = psf_of(exposure)
    exposure.summary_stats["psfSigma"] = psf.sigma_at(*psf.center)
    exposure.summary_stats["nPsfStar"] = float(np.sum(catalog["calib_psf_used"]))
    task.metadata["nCharacterizedSources"] = len(catalog)
