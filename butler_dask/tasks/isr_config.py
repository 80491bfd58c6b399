"""Configuration and connections of `butler_dask.tasks.isr.IsrTask`; names are those of the field's isr."""

from __future__ import annotations

from typing import Any

from lsst.pex.config import ChoiceField, Config, ConfigField, DictField, Field, ListField, RangeField

from ..pipeline import PipelineTaskConfig, PipelineTaskConnections, connectionTypes as cT

__all__ = [
    "CALIBRATION_SWITCHES",
    "FringeConfig",
    "IsrTaskConfig",
    "IsrTaskConnections",
    "OverscanConfig",
]

CALIBRATION_SWITCHES = {
    "bias": "doBias",
    "dark": "doDark",
    "flat": "doFlat",
    "fringe": "doFringe",
    "defects": "doDefect",
    "linearizer": "doLinearize",
    "crosstalk": "doCrosstalk",
    "bfKernel": "doBrighterFatter",
}
"""The field of the configuration that says whether a calibration is used, by the calibration's name."""


class OverscanConfig(Config):
    """How the overscan level is estimated."""

    fitType: Field = ChoiceField(
        dtype=str,
        doc="How the level of the rows is modelled.",
        default="ROBUST_PER_ROW",
        allowed={
            "ROBUST_PER_ROW": "Smooth level, plus what of a row's own deviation is more than noise",
            "MEAN_PER_ROW": "Mean of each row, clipped about its median",
            "MEDIAN_PER_ROW": "Median of each row",
            "MEAN": "One mean for all rows",
            "MEANCLIP": "One clipped mean for all rows",
            "MEDIAN": "One median for all rows",
            "POLY": "Polynomial along the rows",
            "CHEB": "Chebyshev polynomial along the rows",
            "LEG": "Legendre polynomial along the rows",
            "NATURAL_SPLINE": "Natural spline along the rows",
            "CUBIC_SPLINE": "Cubic spline along the rows",
            "AKIMA_SPLINE": "Akima spline along the rows",
        },
    )
    order: Field = RangeField(
        dtype=int, doc="Order of the polynomial, or number of spline pieces.", default=1, min=0
    )
    numSigmaClip: Field = RangeField(dtype=float, doc="Rejection limit [sigma].", default=3.0, min=0.0)
    leadingColumnsToSkip: Field = RangeField(
        dtype=int, doc="Serial overscan columns read first that are left out.", default=0, min=0
    )
    trailingColumnsToSkip: Field = RangeField(
        dtype=int, doc="Serial overscan columns read last that are left out.", default=0, min=0
    )
    doParallelOverscan: Field = Field(
        dtype=bool, doc="Subtract the parallel overscan, column by column, as well?", default=False
    )
    leadingRowsToSkip: Field = RangeField(
        dtype=int, doc="Parallel overscan rows next to the data that are left out.", default=0, min=0
    )


class FringeConfig(Config):
    """How fringes are measured."""

    filters: Field = ListField(
        dtype=str,
        doc="Physical filters whose images have fringes.",
        default=["HSC-Y", "NB0921", "NB0926", "IB0945", "NB0973", "NB1010"],
    )
    num: Field = RangeField(dtype=int, doc="Number of places measured.", default=20000, min=10)
    small: Field = RangeField(dtype=int, doc="Half size of a place [pixels].", default=3, min=0)
    iterations: Field = RangeField(dtype=int, doc="Rejection rounds.", default=20, min=1)
    clip: Field = RangeField(dtype=float, doc="Rejection limit [sigma].", default=3.0, min=0.5)


class IsrTaskConnections(PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    """Datasets of `IsrTask`."""

    ccdExposure = cT.Input(
        doc="Raw exposure to process.",
        name="raw",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
    )
    camera = cT.PrerequisiteInput(
        doc="Camera geometry.",
        name="camera",
        storageClass="Camera",
        dimensions=("instrument",),
        isCalibration=True,
    )
    bias = cT.PrerequisiteInput(
        doc="Combined bias [ADU].",
        name="bias",
        storageClass="ExposureF",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    dark = cT.PrerequisiteInput(
        doc="Combined dark [electrons in its dark time].",
        name="dark",
        storageClass="ExposureF",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    flat = cT.PrerequisiteInput(
        doc="Combined flat, relative.",
        name="flat",
        storageClass="ExposureF",
        dimensions=("instrument", "physical_filter", "detector"),
        isCalibration=True,
    )
    fringe = cT.PrerequisiteInput(
        doc="Fringe pattern.",
        name="fringe",
        storageClass="ExposureF",
        dimensions=("instrument", "physical_filter", "detector"),
        isCalibration=True,
        minimum=0,
    )
    defects = cT.PrerequisiteInput(
        doc="Rectangles of bad pixels.",
        name="defects",
        storageClass="Defects",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    linearizer = cT.PrerequisiteInput(
        doc="Linearity coefficients; the camera's where there is none.",
        name="linearizer",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    crosstalk = cT.PrerequisiteInput(
        doc="Crosstalk coefficients; the camera's where there is none.",
        name="crosstalk",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    bfKernel = cT.PrerequisiteInput(
        doc="Brighter-fatter kernel [1/electrons].",
        name="bfKernel",
        storageClass="NumpyArray",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    outputExposure = cT.Output(
        doc="Exposure without instrument signature [electrons].",
        name="postISRCCD",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
    )

    def __init__(self, *, config: Any = None) -> None:
        for name, switch in CALIBRATION_SWITCHES.items():
            if not getattr(config, switch):
                delattr(self, name)


def _switch(doc: str, default: bool) -> Any:
    return Field(dtype=bool, doc=doc, default=default)


class IsrTaskConfig(PipelineTaskConfig, pipelineConnections=IsrTaskConnections):
    """Configuration of `IsrTask`."""

    doOverscan = _switch("Subtract the overscan?", True)
    overscan = ConfigField(dtype=OverscanConfig, doc="How the overscan level is estimated.")
    doSaturation = _switch("Mask saturated pixels?", True)
    doSuspect = _switch("Mask pixels near saturation as SUSPECT?", False)
    suspectFraction = RangeField(
        dtype=float, doc="SUSPECT from this fraction of saturation.", default=0.9, min=0.0, max=1.0
    )
    doBias = _switch("Subtract the bias frame?", True)
    doLinearize = _switch("Correct for non-linearity?", True)
    doCrosstalk = _switch("Subtract crosstalk between amplifiers?", True)
    crosstalkMinPixelToMask = RangeField(
        dtype=float, doc="Mask CROSSTALK where the source is above this [ADU].", default=45000.0, min=0.0
    )
    doDefect = _switch("Mask defects?", True)
    doWidenSaturationTrails = _switch("Widen saturation trails?", True)
    numEdgeSuspect = RangeField(
        dtype=int, doc="Width of the frame of SUSPECT pixels along the edges.", default=0, min=0
    )
    doApplyGains = _switch("Convert to electrons?", True)
    doVariance = _switch("Make the variance plane from photon and read noise?", True)
    doBrighterFatter = _switch("Correct the brighter-fatter effect?", False)
    brighterFatterMaxIter = RangeField(dtype=int, doc="Iterations at most.", default=10, min=1)
    brighterFatterThreshold = RangeField(
        dtype=float,
        doc="Stop when the sum of absolute changes over the image is below [electrons].",
        default=1000.0,
        min=0.0,
    )
    brighterFatterMaskListToInterpolate = ListField(
        dtype=str,
        doc="Pixels interpolated before the brighter-fatter correction.",
        default=["SAT", "BAD", "NO_DATA", "UNMASKEDNAN"],
    )
    brighterFatterMaskGrowSize = RangeField(
        dtype=int,
        doc="Grow those masks by this after the brighter-fatter correction [pixels].",
        default=0,
        min=0,
    )
    doDark = _switch("Subtract the dark frame?", True)
    doFlat = _switch("Divide by the flat?", True)
    doFringe = _switch("Subtract fringes?", False)
    fringe = ConfigField(dtype=FringeConfig, doc="How fringes are measured.")
    doSetBadRegions = _switch("Set BAD pixels to the median of the image?", True)
    doInterpolate = _switch("Interpolate over masked pixels?", True)
    maskListToInterpolate = ListField(
        dtype=str, doc="Pixels interpolated over.", default=["SAT", "BAD", "UNMASKEDNAN"]
    )
    fluxMag0T1 = DictField(
        keytype=str,
        itemtype=float,
        doc="Flux of magnitude 0 in one second, by physical filter [electrons/s].",
        default={},
    )
    defaultFluxMag0T1 = Field(
        dtype=float, doc="The same for filters not listed.", default=10.0 ** (0.4 * 27.0)
    )
    doMeasureBackground = _switch("Measure and log the sky level?", True)
    doMeasureSky = _switch("Measure and log the sky's flatness in meshes?", True)
    skyMeshX = RangeField(dtype=int, doc="Mesh size along x [pixels].", default=256, min=8)
    skyMeshY = RangeField(dtype=int, doc="Mesh size along y [pixels].", default=256, min=8)
