"""Datasets and configuration of characterizeImage."""

from __future__ import annotations

from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField

from ..pipeline import PipelineTaskConfig, PipelineTaskConnections, connectionTypes as cT
from .source_detection import SourceDetectionConfig, SourceMeasurementConfig, SubtractBackgroundConfig


class CharacterizeImageConnections(PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """Datasets of `CharacterizeImageTask`."""

    exposure = cT.Input(
        doc="Exposure after isr",
        name="postISRCCD",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
    )
    characterized = cT.Output(
        doc="Exposure with PSF and aperture corrections, sky subtracted",
        name="icExp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
    )
    sourceCat = cT.Output(
        doc="Bright sources",
        name="icSrc",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    backgroundModel = cT.Output(
        doc="Sky that was subtracted",
        name="icExpBackground",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
    )


class CosmicRayConfig(Config):
    """How cosmic rays are found."""

    minSigma = RangeField(dtype=float, default=6.0, min=0.0, doc="Least height of a struck pixel [sigma]")
    min_DN = RangeField(dtype=float, default=150.0, min=0.0, doc="Least charge of a cosmic ray [electrons]")
    cond3_fac = Field(dtype=float, default=2.5, doc="Noise granted in the comparison with the PSF [sigma]")
    cond3_fac2 = Field(
        dtype=float, default=0.6, doc="Fraction of the PSF's fall-off that is too sharp for a star"
    )
    nCrPixelMax = RangeField(
        dtype=int, default=500_000, min=0, doc="More struck pixels than this are taken for a failure"
    )


class RepairConfig(Config):
    """What is repaired."""

    doCosmicRay = Field(dtype=bool, default=True, doc="Find and replace cosmic rays?")
    cosmicray = ConfigField(dtype=CosmicRayConfig, doc="Cosmic rays")


class InstallSimplePsfConfig(Config):
    """The PSF to begin with."""

    fwhm = RangeField(dtype=float, default=3.5323, min=0.5, doc="Full width at half maximum [pixels]")
    width = RangeField(dtype=int, default=41, min=5, doc="Size of its image, odd [pixels]")


class StarSelectorConfig(Config):
    """Which sources are stars fit for the PSF."""

    signalToNoiseMin = RangeField(dtype=float, default=50.0, min=0.0, doc="Least signal to noise")
    maxStars = RangeField(dtype=int, default=300, min=1, doc="The brightest so many are used")


class ReserveConfig(Config):
    """Stars kept out of the PSF fit to test it."""

    fraction = RangeField(dtype=float, default=0.2, min=0.0, max=0.9, doc="Fraction of the stars")
    seed = Field(dtype=int, default=1, doc="Added to the exposure number")


class PsfDeterminerConfig(Config):
    """How the PSF model is fitted."""

    spatialOrder = RangeField(
        dtype=int, default=2, min=0, max=4, doc="Degree of the polynomial in position; less with few stars"
    )
    stampSize = RangeField(dtype=int, default=41, min=11, doc="Size of the PSF's image, odd [pixels]")


class MeasurePsfConfig(Config):
    """How the PSF is measured."""

    starSelector = ConfigField(dtype=StarSelectorConfig, doc="Stars")
    reserve = ConfigField(dtype=ReserveConfig, doc="Reserved stars")
    psfDeterminer = ConfigField(dtype=PsfDeterminerConfig, doc="Model")


class MeasureApCorrConfig(Config):
    """How aperture corrections are measured."""

    refFluxName = Field(
        dtype=str, default="base_CircularApertureFlux_12_0", doc="Flux that the others should agree with"
    )
    fields = ListField(dtype=str, default=["base_PsfFlux", "base_GaussianFlux"], doc="Fluxes to correct")
    spatialOrder = RangeField(
        dtype=int, default=2, min=0, max=4, doc="Degree of the polynomial in position; less with few stars"
    )
    minSignalToNoise = RangeField(dtype=float, default=100.0, min=0.0, doc="Of the stars used")


class CharacterizeImageConfig(PipelineTaskConfig, pipelineConnections=CharacterizeImageConnections):
    """Configuration of `CharacterizeImageTask`."""

    doMeasurePsf = Field(
        dtype=bool, default=True, doc="Measure the PSF? If not, the exposure's or a guess stays"
    )
    psfIterations = RangeField(dtype=int, default=2, min=1, doc="Rounds of detection and PSF measurement")
    doDeblend = Field(dtype=bool, default=False, doc="Divide sources with several peaks?")
    doApCorr = Field(dtype=bool, default=True, doc="Measure and apply aperture corrections?")
    background = ConfigField(dtype=SubtractBackgroundConfig, doc="First sky, before anything is detected")
    repair = ConfigField(dtype=RepairConfig, doc="Cosmic rays")
    installSimplePsf = ConfigField(dtype=InstallSimplePsfConfig, doc="First PSF")
    detection = ConfigField(dtype=SourceDetectionConfig, doc="Detection")
    measurement = ConfigField(dtype=SourceMeasurementConfig, doc="Measurement")
    measurePsf = ConfigField(dtype=MeasurePsfConfig, doc="PSF")
    measureApCorr = ConfigField(dtype=MeasureApCorrConfig, doc="Aperture corrections")

    def setDefaults(self) -> None:
        """List only bright sources: they are for the PSF."""
        super().setDefaults()
        self.detection.includeThresholdMultiplier = 10.0
