"""Configuration of sky, detection and measurement, which characterizeImage and calibrate share.

Configurations stored in repositories import this module by its name.
"""

from __future__ import annotations

from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField


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
