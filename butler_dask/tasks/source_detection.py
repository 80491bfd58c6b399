"""What characterizeImage and calibrate share: configuration and log lines of sky, detection, measurement."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField

if TYPE_CHECKING:
    from butler_dask.imaging.background import BackgroundList, BackgroundModel
    from butler_dask.imaging.detection import Detections
    from butler_dask.imaging.exposure import Exposure
    from butler_dask.imaging.psf import Psf


class SubtractBackgroundConfig(Config):
    """How the sky is fitted."""

    binSize = RangeField(dtype=int, default=128, min=4, doc="Size of a bin of the mesh [pixels]")
    ignoredPixelMask = ListField(
        dtype=str,
        default=["BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "SAT", "CR"],
        doc="Mask planes of pixels that are left out",
    )
    clipSigma = Field(dtype=float, default=3.0, doc="Clipping of each bin [sigma]")
    algorithm = Field(dtype=str, default="spline", doc="Between bins: spline, linear or constant")


class SourceDetectionConfig(Config):
    """How sources are detected."""

    thresholdValue = RangeField(
        dtype=float, default=5.0, min=0.0, doc="Threshold in the smoothed image [sigma]"
    )
    includeThresholdMultiplier = RangeField(
        dtype=float, default=1.0, min=0.0, doc="Factor on the threshold for what is listed as a source"
    )
    nSigmaToGrow = Field(dtype=float, default=2.4, doc="Footprints are grown by this [sigma of the PSF]")
    minPixels = RangeField(
        dtype=int, default=1, min=1, doc="Least number of pixels of a footprint before growing"
    )
    minPeakProminence = Field(
        dtype=float, default=3.0, doc="A peak rises above the saddle to a higher one by this [sigma]"
    )
    minFinePeakProminence = Field(
        dtype=float,
        default=5.0,
        doc="... in a view smoothed by 0.4 of the PSF's width, which parts close pairs [sigma]; 0: none",
    )
    minPeakContrast = Field(dtype=float, default=0.003, doc="... and by this fraction of the higher one")
    thresholdPolarity = Field(dtype=str, default="both", doc="both or positive")
    reEstimateBackground = Field(dtype=bool, default=True, doc="Fit the sky again without what was detected")
    background = ConfigField(dtype=SubtractBackgroundConfig, doc="The sky fitted after detection")


class SourceMeasurementConfig(Config):
    """How sources are measured."""

    apertureRadii = ListField(
        dtype=float, default=[3.0, 6.0, 9.0, 12.0], doc="Radii of base_CircularApertureFlux [pixels]"
    )
    usePixelWeights = Field(
        dtype=bool,
        default=False,
        doc="Weigh pixels by their variance in base_PsfFlux: less noise for bright stars, but fluxes that "
        "depend on brightness if the PSF model is not perfect",
    )
    psfModelError = RangeField(
        dtype=float, default=0.003, min=0.0, doc="Error of the PSF model as a fraction of its value"
    )


def subtract_sky(exposure: Exposure, config: Any, background: BackgroundList) -> BackgroundModel:
    """Fit and subtract the sky, and add it to the list.

    Parameters
    ----------
    exposure : `Exposure`
        Changed in place.
    config : `SubtractBackgroundConfig`
        How.
    background : `BackgroundList`
        Gets one more model.
    """
    from butler_dask.imaging.background import fit_background, subtract_background

    model = fit_background(
        exposure,
        config.binSize,
        ignored_planes=list(config.ignoredPixelMask),
        n_sigma=config.clipSigma,
        interpolation=config.algorithm,
    )
    subtract_background(exposure, model)
    background.append(model)
    return model


def detect(
    exposure: Exposure, psf: Psf, config: Any, background: BackgroundList, log: logging.Logger
) -> Detections:
    """Detect sources, mask them, and fit the sky again without them.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted; its image and mask are changed.
    psf : `Psf`
        Model or guess.
    config : `SourceDetectionConfig`
        How.
    background : `BackgroundList`
        Gets the refitted sky.
    log : `logging.Logger`
        Of the parent task.

    Returns
    -------
    detections : `Detections`
        Everything above ``thresholdValue``, also what ``includeThresholdMultiplier`` keeps off the list: the
        faint neighbours of bright sources must be known.
    """
    from butler_dask.imaging.detection import detect_sources

    log = log.getChild("detection")
    sigma = psf.sigma_at(*psf.center)
    found = detect_sources(
        exposure,
        sigma,
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


def identity(exposure: Exposure, exposure_id: int | None, detector: int | None) -> tuple[int, int]:
    """Return the numbers of exposure and detector, the exposure's own where none are given."""
    if exposure_id is None:
        exposure_id = exposure.visit_info.exposure_id if exposure.visit_info is not None else 0
    if detector is None:
        detector = exposure.detector.id if exposure.detector is not None else 0
    return exposure_id, detector
