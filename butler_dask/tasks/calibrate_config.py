"""Datasets and configuration of calibrate."""

from __future__ import annotations

from typing import Any

from lsst.pex.config import Config, ConfigField, DictField, Field, RangeField

from ..pipeline import PipelineTaskConfig, PipelineTaskConnections, connectionTypes as cT
from .source_detection import SourceDetectionConfig, SourceMeasurementConfig


class CalibrateConnections(
    PipelineTaskConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={"refcat": "reference_catalog"},
):
    """Datasets of `CalibrateTask`; those that the configuration makes superfluous are removed."""

    exposure = cT.Input(
        doc="Exposure with PSF, sky subtracted",
        name="icExp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
    )
    background = cT.Input(
        doc="Sky subtracted so far",
        name="icExpBackground",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
    )
    icSourceCat = cT.Input(
        doc="Sources of characterizeImage, for their calib_psf flags",
        name="icSrc",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    astromRefCat = cT.PrerequisiteInput(
        doc="Reference catalogue for positions",
        name="{refcat}",
        storageClass="SimpleCatalog",
        dimensions=("skypix",),
        deferLoad=True,
        multiple=True,
    )
    photoRefCat = cT.PrerequisiteInput(
        doc="Reference catalogue for fluxes",
        name="{refcat}",
        storageClass="SimpleCatalog",
        dimensions=("skypix",),
        deferLoad=True,
        multiple=True,
    )
    outputExposure = cT.Output(
        doc="Calibrated exposure",
        name="calexp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
    )
    outputCat = cT.Output(
        doc="Sources",
        name="src",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    outputBackground = cT.Output(
        doc="Sky that was subtracted",
        name="calexpBackground",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
    )
    matches = cT.Output(
        doc="Sources matched to the reference catalogue",
        name="srcMatch",
        storageClass="Catalog",
        dimensions=("instrument", "visit", "detector"),
    )

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        if not config.doAstrometry:
            del self.astromRefCat
            del self.matches
        if not config.doPhotoCal:
            del self.photoRefCat
        if not config.doCopyPsfFlags:
            del self.icSourceCat


class SkySourcesConfig(Config):
    """Empty places that are measured like sources."""

    nSources = RangeField(dtype=int, default=100, min=0, doc="Number wanted")
    sourceRadius = RangeField(dtype=int, default=8, min=1, doc="Half side of the free square [pixels]")
    seed = Field(dtype=int, default=0, doc="Added to the exposure number")


class DeblendConfig(Config):
    """How sources with several peaks are divided."""

    maxFootprintArea = RangeField(
        dtype=int, default=100_000, min=0, doc="Larger footprints are left whole [pixels]"
    )
    maxNumberOfPeaks = RangeField(dtype=int, default=200, min=1, doc="Only the highest so many are used")


class AstrometryConfig(Config):
    """How the world coordinates are found."""

    order = RangeField(
        dtype=int,
        default=3,
        min=1,
        max=5,
        doc="Highest order of the SIP polynomial; less where it does not help",
    )
    maxOffsetArcsec = RangeField(dtype=float, default=30.0, min=0.1, doc="Largest pointing error [arcsec]")
    maxRotationDeg = RangeField(dtype=float, default=1.0, min=0.0, doc="Largest error of the rotation [deg]")
    matchRadiusArcsec = RangeField(
        dtype=float, default=1.0, min=0.01, doc="Largest separation of a pair [arcsec]"
    )
    minSignalToNoise = RangeField(dtype=float, default=10.0, min=0.0, doc="Of the sources matched")
    minMatches = RangeField(dtype=int, default=3, min=3, doc="Fewer pairs are no solution")
    nSigmaClip = RangeField(dtype=float, default=3.5, min=1.0, doc="Pairs farther apart are left out [sigma]")


class PhotoCalConfig(Config):
    """How the zero point is found."""

    fluxField = Field(dtype=str, default="base_PsfFlux", doc="Flux that is calibrated")
    minSignalToNoise = RangeField(dtype=float, default=20.0, min=0.0, doc="Of the stars used")
    matchRadiusArcsec = RangeField(
        dtype=float, default=0.7, min=0.01, doc="Largest separation of a pair [arcsec]"
    )
    magErrFloor = RangeField(dtype=float, default=0.005, min=0.0, doc="Scatter beyond the errors [mag]")
    minStars = RangeField(dtype=int, default=1, min=1, doc="Fewer stars are no solution")


class CalibrateConfig(PipelineTaskConfig, pipelineConnections=CalibrateConnections):
    """Configuration of `CalibrateTask`."""

    doDeblend = Field(dtype=bool, default=True, doc="Divide sources with several peaks?")
    doSkySources = Field(dtype=bool, default=True, doc="Measure empty places too?")
    doApCorr = Field(dtype=bool, default=True, doc="Apply the aperture corrections of characterizeImage?")
    doCopyPsfFlags = Field(dtype=bool, default=True, doc="Take the calib_psf flags over from icSrc?")
    doAstrometry = Field(dtype=bool, default=True, doc="Fit the world coordinates?")
    requireAstrometry = Field(dtype=bool, default=True, doc="Is it an error if that fails?")
    doPhotoCal = Field(dtype=bool, default=True, doc="Fit the zero point?")
    requirePhotoCal = Field(dtype=bool, default=True, doc="Is it an error if that fails?")
    roughZeroPoint = DictField(
        keytype=str,
        itemtype=float,
        default={},
        doc="AB magnitude of 1 electron in 1 second by physical filter or band, for exposures without a fit",
    )
    filterMap = DictField(
        keytype=str,
        itemtype=str,
        default={},
        doc="Physical filter or band to the filter name in the reference catalogue",
    )
    detection = ConfigField(dtype=SourceDetectionConfig, doc="Detection")
    skySources = ConfigField(dtype=SkySourcesConfig, doc="Sky sources")
    deblend = ConfigField(dtype=DeblendConfig, doc="Deblending")
    measurement = ConfigField(dtype=SourceMeasurementConfig, doc="Measurement")
    astrometry = ConfigField(dtype=AstrometryConfig, doc="World coordinates")
    photoCal = ConfigField(dtype=PhotoCalConfig, doc="Zero point")
