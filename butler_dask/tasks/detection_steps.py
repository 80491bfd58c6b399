"""Steps that characterizeImage and calibrate share: sky, detection, measurement, with their log lines.

They need numba and scipy, which graph building does without; the tasks import them when they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from ..imaging.background import BackgroundList, fit_background, subtract_background
from ..imaging.detection import Detections, detect_sources
from ..imaging.exposure import Exposure
from ..imaging.psf import Psf
from ..imaging.source_catalog import measure_sources
from ..imaging.source_ids import source_ids
from ..imaging.stamps import SourceList
from ..pipeline import PipelineTask
from .source_detection import SubtractBackgroundConfig

PSF_FLAGS = ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved")
"""Columns of a catalogue that say which sources the PSF was measured with."""


@dataclass(frozen=True, slots=True)
class SourceNumbering:
    """What makes identifiers of sources unique in an instrument, and seeds random choices repeatably.

    Parameters
    ----------
    exposure_id, detector : `int`
        Numbers of exposure (or visit) and detector.
    """

    exposure_id: int
    detector: int

    @classmethod
    def of(cls, exposure: Exposure, exposure_id: int | None, detector: int | None) -> SourceNumbering:
        """Take the numbers given, and the exposure's own where None is.

        Parameters
        ----------
        exposure : `Exposure`
            Whose sources are numbered.
        exposure_id, detector : `int` or None
            Numbers given.
        """
        if exposure_id is None:
            exposure_id = exposure.visit_info.exposure_id if exposure.visit_info is not None else 0
        if detector is None:
            detector = exposure.detector.id if exposure.detector is not None else 0
        return cls(exposure_id, detector)

    def ids(self, n: int) -> NDArray[np.int64]:
        """Return the identifiers of the first sources, shape (n,), int64.

        Parameters
        ----------
        n : `int`
            How many.
        """
        return source_ids(self.exposure_id, self.detector, n)


def psf_of(exposure: Exposure) -> Psf:
    """Return the PSF of an exposure that has been given one.

    Parameters
    ----------
    exposure : `Exposure`
        With a PSF.
    """
    assert exposure.psf is not None
    return exposure.psf


def subtract_sky(exposure: Exposure, config: SubtractBackgroundConfig, background: BackgroundList) -> None:
    """Fit and subtract the sky, and add it to the list.

    Parameters
    ----------
    exposure : `Exposure`
        Changed.
    config : `SubtractBackgroundConfig`
        How.
    background : `BackgroundList`
        Gets one more model.
    """
    model = fit_background(
        exposure,
        config.binSize,
        ignored_planes=list(config.ignoredPixelMask),
        n_sigma=config.clipSigma,
        interpolation=config.algorithm,
    )
    subtract_background(exposure, model)
    background.append(model)


def sky_level(background: BackgroundList) -> float:
    """Return the sum of the median levels of all sky models subtracted, in the image's unit.

    Parameters
    ----------
    background : `BackgroundList`
        Sky models.
    """
    return sum((float(np.median(model.levels)) for model in background), 0.0)


def detect(task: PipelineTask, exposure: Exposure, background: BackgroundList) -> Detections:
    """Detect sources, mask them, and fit the sky again without them.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``detection`` configuration says how.
    exposure : `Exposure`
        Background subtracted, with a PSF or a guess at it; its image and mask are changed.
    background : `BackgroundList`
        Gets the refitted sky.

    Returns
    -------
    detections : `Detections`
        Everything above ``thresholdValue``, also what ``includeThresholdMultiplier`` keeps off the list: the
        faint neighbours of bright sources must be known.
    """
    config = task.config.detection
    log = task.log.getChild("detection")
    psf = psf_of(exposure)
    found = detect_sources(
        exposure,
        psf.sigma_at(*psf.center),
        config.thresholdValue,
        grow_n_sigma=config.nSigmaToGrow,
        negative=config.thresholdPolarity != "positive",
        min_pixels=config.minPixels,
        min_prominence=config.minPeakProminence,
        min_contrast=config.minPeakContrast,
        fine_prominence=config.minFinePeakProminence,
    )
    threshold = config.thresholdValue * max(config.includeThresholdMultiplier, 1.0)
    log.info(
        "Detected %d positive peaks in %d footprints and %d negative peaks in %d footprints to %g sigma",
        *found.positive.count_above(threshold),
        *found.negative.count_above(threshold),
        threshold,
    )
    if config.reEstimateBackground:
        log.info("Resubtracting the background after object detection")
        subtract_sky(exposure, config.background, background)
    return found


def measure(
    task: PipelineTask,
    exposure: Exposure,
    detections: Detections,
    sources: SourceList,
    numbering: SourceNumbering,
) -> Table:
    """Measure sources.

    Parameters
    ----------
    task : `PipelineTask`
        Its ``measurement`` configuration says how.
    exposure : `Exposure`
        Background subtracted, with a PSF.
    detections : `Detections`
        Whose footprints the sources are in.
    sources : `SourceList`
        What to measure: parents, then their children.
    numbering : `SourceNumbering`
        For the identifiers.

    Returns
    -------
    catalog : `astropy.table.Table`
        One row a source, in order, as `measure_sources` gives it.
    """
    n_children = int((sources.parent_index >= 0).sum())
    task.log.getChild("measurement").info(
        "Measuring %d sources (%d parents, %d children)",
        len(sources),
        len(sources) - n_children,
        n_children,
    )
    config: Any = task.config.measurement
    return measure_sources(
        exposure,
        psf_of(exposure),
        detections.positive.labels,
        sources,
        numbering.ids(len(sources)),
        radii=list(config.apertureRadii),
        weighted_psf_flux=config.usePixelWeights,
        psf_model_error=config.psfModelError,
    )


def pixel_positions(catalog: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centroids x, y of a catalogue, each shape (n,), float64 [pixels].

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Source catalogue.
    """
    return np.asarray(catalog["base_SdssCentroid_x"]), np.asarray(catalog["base_SdssCentroid_y"])


def signal_to_noise(catalog: Table, field: str) -> NDArray[np.float64]:
    """Return a flux in units of its error, shape (n,), float64; not finite where there is none.

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Source catalogue.
    field : `str`
        Flux, ``base_PsfFlux`` say.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: NDArray[np.float64] = np.asarray(catalog[f"{field}_instFlux"]) / np.asarray(
            catalog[f"{field}_instFluxErr"]
        )
    return ratio
