"""Step of characterizeImage that measures the PSF: which sources are stars, and the model fitted to them.

It needs numba and scipy, which graph building does without; the task imports it when it runs.
"""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from ..imaging.detection import Detections
from ..imaging.exposure import Exposure
from ..imaging.psf import Psf
from ..imaging.psf_model import fit_psf_model
from ..imaging.stamps import SourceList
from ..imaging.star_selection import reserve_stars, select_stars
from ..pipeline import PipelineTask
from .detection_steps import pixel_positions

_FEWEST_STARS = 4
"""With no more stars than this left for the model, none is reserved."""
_FAINT_NEIGHBOUR = 0.02
"""A neighbour's significance in units of the source's, below which it does no harm."""
_FEWEST_ISOLATED = 10


def measure_psf(
    task: PipelineTask,
    exposure: Exposure,
    detections: Detections,
    sources: SourceList,
    catalog: Table,
    *,
    seed: int,
    n_rounds: int,
) -> None:
    """Select stars, fit the PSF model, and set the exposure's PSF and the catalogue's flags.

    With too few stars for a model a Gaussian of the stars' width is set; with none, the PSF stays.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``measurePsf`` configuration says how.
    exposure : `Exposure`
        Background subtracted; gets the PSF.
    detections : `Detections`
        Whose footprints the sources are in.
    sources : `SourceList`
        Sources measured.
    catalog : `astropy.table.Table`
        Their measurements, row by row; its calib_psf flags are set.
    seed : `int`
        Of the choice of reserved stars.
    n_rounds : `int`
        Rounds of the fit.
    """
    config = task.config.measurePsf
    log = task.log.getChild("measurePsf")
    log.info("Measuring PSF")
    selection = select_stars(
        catalog,
        min_signal_to_noise=config.starSelector.signalToNoiseMin,
        max_stars=config.starSelector.maxStars,
        isolated=isolated_sources(detections, sources),
    )
    candidates = selection.selected
    n = int(candidates.sum())
    log.info("PSF star selector found %d candidates", n)
    reserved = reserve_stars(candidates, config.reserve.fraction, seed + config.reserve.seed)
    if n - reserved.sum() < _FEWEST_STARS:
        reserved[:] = False
    log.getChild("reserve").info("Reserved %d/%d sources", reserved.sum(), n)
    sent = np.flatnonzero(candidates & ~reserved)
    log.info("Sending %d candidates to PSF determiner", len(sent))
    catalog["calib_psf_candidate"] = candidates
    catalog["calib_psf_reserved"] = reserved
    if n == 0:
        log.warning("No star to measure the PSF with; keeping the one used for detection")
        return
    size = config.psfDeterminer.stampSize | 1
    x, y = pixel_positions(catalog)
    stars = sources.subset(sent)
    stars.x, stars.y = x[sent], y[sent]
    try:
        fit = fit_psf_model(
            exposure,
            detections.positive.labels,
            stars,
            sigma_pixels=selection.sigma_pixels,
            degree=config.psfDeterminer.spatialOrder,
            size=size,
            n_rounds=n_rounds,
        )
    except ValueError as error:
        log.warning("%s; using a Gaussian of sigma=%.2f instead", error, selection.sigma_pixels)
        exposure.psf = Psf.gaussian(selection.sigma_pixels, size)
        return
    used = np.zeros(len(catalog), bool)
    used[sent] = fit.used
    catalog["calib_psf_used"] = used
    log.info("PSF determination using %d/%d stars.", used.sum(), len(sent))
    exposure.psf = fit.psf


def isolated_sources(detections: Detections, sources: SourceList) -> NDArray[np.bool_]:
    """Return which sources have no neighbour in their footprint brighter than 2 % of them.

    Falls back on all sources where fewer than ten are so lucky (a crowded field).

    Parameters
    ----------
    detections : `Detections`
        All peaks, by footprint.
    sources : `SourceList`
        Sources in those footprints.

    Returns
    -------
    isolated : `numpy.ndarray`, shape (n,), bool
        By source.
    """
    footprints = detections.positive
    highest = np.zeros(len(footprints) + 1)
    np.maximum.at(highest, footprints.peak_footprint, footprints.peak_significance)
    rival = footprints.peak_significance < highest[footprints.peak_footprint]
    second = np.zeros(len(footprints) + 1)
    np.maximum.at(second, footprints.peak_footprint[rival], footprints.peak_significance[rival])
    isolated: NDArray[np.bool_] = second[sources.footprint] < _FAINT_NEIGHBOUR * sources.significance
    return isolated if isolated.sum() >= _FEWEST_ISOLATED else np.ones(len(sources), bool)
