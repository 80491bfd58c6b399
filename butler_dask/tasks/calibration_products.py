"""Calibration products: bias, dark and flat frames combined from raws.

Each task processes its raws with isr as far as they allow, puts them on one scale and averages them with
outliers rejected. Raws come one at a time (``deferLoad``) and only their float32 pixels are kept.

Units are those `butler_dask.tasks.isr` expects: bias in ADU, dark in electrons per second of dark time, flat
relative with mean 1. Each says so in its ``BUNIT``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from lsst.pex.config import ConfigField, Field, RangeField

from ..pipeline import (
    NoWorkFound,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)
from .isr import IsrTask, IsrTaskConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.exposure import Exposure
    from ..imaging.visit_info import VisitInfo

__all__ = [
    "CpBiasConfig",
    "CpBiasConnections",
    "CpBiasTask",
    "CpDarkConfig",
    "CpDarkConnections",
    "CpDarkTask",
    "CpFlatConfig",
    "CpFlatConnections",
    "CpFlatTask",
]

_BAD_PLANES = ("BAD", "SAT", "NO_DATA", "UNMASKEDNAN", "CR")


def _raws() -> Any:
    return cT.Input(
        doc="Raw exposures; those of another observation type are left out.",
        name="raw",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )


def _calibration(name: str, doc: str, dimensions: tuple[str, ...] = ("instrument", "detector")) -> Any:
    return cT.PrerequisiteInput(
        doc=doc, name=name, storageClass="ExposureF", dimensions=dimensions, isCalibration=True
    )


def _product(name: str, doc: str, dimensions: tuple[str, ...] = ("instrument", "detector")) -> Any:
    return cT.Output(doc=doc, name=name, storageClass="ExposureF", dimensions=dimensions, isCalibration=True)


def _camera() -> Any:
    return cT.PrerequisiteInput(
        doc="Camera geometry.",
        name="camera",
        storageClass="Camera",
        dimensions=("instrument",),
        isCalibration=True,
    )


def _of_type(refs: Collection[Any], observation_type: str) -> list[Any]:
    """Return the raws of one observation type, as far as their data IDs carry exposure records."""
    kept = []
    for ref in refs:
        records = ref.dataId.records if ref.dataId.hasRecords() else {}
        record = records["exposure"] if records else None
        if record is None or record.observation_type == observation_type:
            kept.append(ref)
    return kept


class CpBiasConnections(PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Datasets of `CpBiasTask`."""

    raws = _raws()
    camera = _camera()
    outputExposure = _product("bias", "Combined bias [ADU].")

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no bias exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


class CpDarkConnections(PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Datasets of `CpDarkTask`."""

    raws = _raws()
    camera = _camera()
    bias = _calibration("bias", "Combined bias [ADU].")
    outputExposure = _product("dark", "Combined dark [electrons in 1 s].")

    def __init__(self, *, config: Any = None) -> None:
        if not config.doBias:
            del self.bias

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no dark exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


class CpFlatConnections(PipelineTaskConnections, dimensions=("instrument", "physical_filter", "detector")):
    """Datasets of `CpFlatTask`."""

    raws = _raws()
    camera = _camera()
    bias = _calibration("bias", "Combined bias [ADU].")
    dark = _calibration("dark", "Combined dark [electrons in its dark time].")
    outputExposure = _product("flat", "Combined flat, mean 1.", ("instrument", "physical_filter", "detector"))

    def __init__(self, *, config: Any = None) -> None:
        if not config.doBias:
            del self.bias
        if not config.doDark:
            del self.dark

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no flat exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


def _adjust(connections: Any, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
    wanted = connections.config.observationType
    connection, refs = inputs["raws"]
    kept = _of_type(refs, wanted)
    if not kept:
        raise NoWorkFound(f"{label}: none of {len(refs)} raws of {data_id} is a {wanted!r} exposure")
    changed = {} if len(kept) == len(refs) else {"raws": (connection, kept)}
    PipelineTaskConnections.adjustQuantum(connections, {**inputs, **changed}, outputs, label, data_id)
    return changed, {}


def _set_isr_defaults(isr: Any) -> None:
    """Switch off what a calibration frame does not need or must not have."""
    isr.doBias = False
    isr.doDark = False
    isr.doFlat = False
    isr.doDefect = False
    isr.doFringe = False
    isr.doBrighterFatter = False
    isr.doCrosstalk = False
    isr.doLinearize = False
    isr.doSetBadRegions = False
    isr.doInterpolate = False
    isr.doMeasureBackground = False
    isr.doMeasureSky = False


class CpBiasConfig(PipelineTaskConfig, pipelineConnections=CpBiasConnections):
    """Configuration of `CpBiasTask`."""

    observationType = Field(dtype=str, doc="Observation type of the raws used.", default="bias")
    clipSigma = RangeField(dtype=float, doc="Rejection limit [sigma].", default=4.0, min=1.0)
    clipIterations = RangeField(dtype=int, doc="Rounds of rejection.", default=3, min=0)
    isr = ConfigField(dtype=IsrTaskConfig, doc="How each raw is processed.")

    def setDefaults(self) -> None:
        """Set isr to overscan and assembly, in ADU."""
        super().setDefaults()
        _set_isr_defaults(self.isr)
        self.isr.doApplyGains = False


class CpDarkConfig(PipelineTaskConfig, pipelineConnections=CpDarkConnections):
    """Configuration of `CpDarkTask`."""

    observationType = Field(dtype=str, doc="Observation type of the raws used.", default="dark")
    doBias = Field(dtype=bool, doc="Subtract the bias frame?", default=True)
    minDarkTime = RangeField(dtype=float, doc="Shorter darks are left out [s].", default=1.0, min=0.0)
    clipSigma = RangeField(dtype=float, doc="Rejection limit [sigma].", default=4.0, min=1.0)
    clipIterations = RangeField(dtype=int, doc="Rounds of rejection.", default=3, min=0)
    isr = ConfigField(dtype=IsrTaskConfig, doc="How each raw is processed.")

    def setDefaults(self) -> None:
        """Set isr to overscan, assembly and bias, in electrons."""
        super().setDefaults()
        _set_isr_defaults(self.isr)


class CpFlatConfig(PipelineTaskConfig, pipelineConnections=CpFlatConnections):
    """Configuration of `CpFlatTask`."""

    observationType = Field(dtype=str, doc="Observation type of the raws used.", default="flat")
    doBias = Field(dtype=bool, doc="Subtract the bias frame?", default=True)
    doDark = Field(dtype=bool, doc="Subtract the dark frame?", default=True)
    clipSigma = RangeField(dtype=float, doc="Rejection limit [sigma].", default=4.0, min=1.0)
    clipIterations = RangeField(dtype=int, doc="Rounds of rejection.", default=3, min=0)
    minResponse = RangeField(
        dtype=float, doc="Pixels below this fraction of the mean are BAD.", default=0.1, min=0.0, max=1.0
    )
    isr = ConfigField(dtype=IsrTaskConfig, doc="How each raw is processed.")

    def setDefaults(self) -> None:
        """Set isr to overscan, assembly, bias and dark, in electrons."""
        super().setDefaults()
        _set_isr_defaults(self.isr)
        self.isr.doLinearize = True


def _make_isr(task: PipelineTask, **switches: bool) -> IsrTask:
    """Make the isr of a calibration task, quiet: twenty lines a raw would bury the task's own."""
    config = task.config.isr.copy()
    for name, value in switches.items():
        setattr(config, name, value)
    isr = IsrTask(config=config, name="isr", parentTask=task)
    if isr.log.level == logging.NOTSET:
        isr.log.setLevel(logging.WARNING)
    return isr


def _visit_info(raw: Any) -> VisitInfo | None:
    """Return the visit info of an exposure, or of the one behind a handle without reading its pixels."""
    found: VisitInfo | None = raw.get(component="visitInfo") if hasattr(raw, "get") else raw.visit_info
    return found


def _combine(
    task: PipelineTask,
    isr: IsrTask,
    raws: Iterable[Any],
    scale_of: Callable[[Exposure], float],
    unit: str,
    **calibrations: Any,
) -> Exposure:
    """Process the raws of the right type and average them.

    Parameters
    ----------
    task : `PipelineTask`
        Whose config says observation type and rejection.
    isr : `IsrTask`
        How each raw is processed.
    raws : iterable of `Exposure` or handles
        Read one at a time.
    scale_of : callable
        What a processed exposure is divided by; it is left out where this is not positive.
    unit : `str`
        BUNIT of the result.
    **calibrations
        Passed to isr.

    Raises
    ------
    NoWorkFound
        If no raw is of use.
    """
    from ..imaging.combine import combine_images
    from ..imaging.exposure import Exposure
    from ..imaging.visit_info import VisitInfo

    config = task.config
    images: list[NDArray[np.float32]] = []
    infos: list[VisitInfo] = []
    total: NDArray[np.float32] | None = None
    first: Exposure | None = None
    seen: dict[str, int] = {}
    for raw in raws:
        info = _visit_info(raw) or VisitInfo()
        seen[info.observation_type] = seen.get(info.observation_type, 0) + 1
        if info.observation_type not in (config.observationType, ""):
            continue
        exposure = raw.get() if hasattr(raw, "get") else raw
        result: Exposure = isr.run(ccdExposure=exposure, **calibrations).outputExposure
        scale = scale_of(result)
        if not scale > 0:
            task.log.warning("Exposure %d is left out: it would be divided by %g.", info.exposure_id, scale)
            continue
        task.log.info("Exposure %d: scale %.3f.", info.exposure_id, scale)
        image = result.image
        image /= np.float32(scale)
        image[result.mask.is_set(_BAD_PLANES)] = np.nan  # so that masks need not be kept
        variance = result.variance
        variance /= np.float32(scale * scale)
        if total is None:
            first, total = result, variance
        else:
            total += variance
        images.append(image)
        infos.append(info)
    if total is None or first is None:
        counts = ", ".join(f"{n} {k or 'unknown'}" for k, n in sorted(seen.items())) or "none"
        raise NoWorkFound(f"No usable {config.observationType!r} exposure among the raws ({counts})")
    mean, mask, variance = combine_images(
        images,
        mean_variance=total / np.float32(len(images)),
        clip_sigma=config.clipSigma,
        iterations=config.clipIterations,
    )
    task.log.info("Combined %d exposures.", len(images))
    task.metadata["nExposures"] = len(images)
    metadata: dict[str, Any] = {"BUNIT": unit, "NCOMBINE": len(images)}
    metadata |= {f"EXPID{i}": info.exposure_id for i, info in enumerate(infos)}
    return Exposure(
        mean,
        mask,
        variance,
        detector=first.detector,
        visit_info=VisitInfo(
            exposure_time_s=0.0,
            dark_time_s=0.0,
            begin_tai=min(info.begin_tai for info in infos),
            end_tai=max(info.end_tai for info in infos),
            observation_type=config.observationType,
            instrument=infos[0].instrument,
        ),
        filter=first.filter,
        metadata=metadata,
    )


class CpBiasTask(PipelineTask):
    """Combine bias exposures."""

    ConfigClass: ClassVar[Any] = CpBiasConfig
    _DefaultName = "cpBias"

    def run(self, *, raws: Iterable[Any], camera: Any = None) -> Struct:
        """Combine.

        Parameters
        ----------
        raws : iterable of `Exposure` or handles
            Raw exposures.
        camera : `Camera`, optional
            Not needed where raws carry their detector.

        Returns
        -------
        result : `Struct`
            ``outputExposure``: bias [ADU].

        Raises
        ------
        NoWorkFound
            If none of the raws is a bias.
        """
        bias = _combine(self, _make_isr(self), raws, lambda _: 1.0, "adu", camera=camera)
        self.log.info("Bias: mean %.3f ADU.", float(np.mean(bias.image, dtype=np.float64)))
        return Struct(outputExposure=bias)


class CpDarkTask(PipelineTask):
    """Combine dark exposures."""

    ConfigClass: ClassVar[Any] = CpDarkConfig
    _DefaultName = "cpDark"

    def run(self, *, raws: Iterable[Any], camera: Any = None, bias: Exposure | None = None) -> Struct:
        """Combine.

        Parameters
        ----------
        raws : iterable of `Exposure` or handles
            Raw exposures.
        camera : `Camera`, optional
            Not needed where raws carry their detector.
        bias : `Exposure`, optional
            Combined bias [ADU].

        Returns
        -------
        result : `Struct`
            ``outputExposure``: dark [electrons], its dark time 1 s.

        Raises
        ------
        NoWorkFound
            If none of the raws is a dark of the least time.
        """

        def dark_time(exposure: Exposure) -> float:
            time = exposure.visit_info.dark_time_s if exposure.visit_info is not None else 0.0
            return time if time >= self.config.minDarkTime else 0.0

        isr = _make_isr(self, doBias=self.config.doBias)
        dark = _combine(self, isr, raws, dark_time, "electron", camera=camera, bias=bias)
        assert dark.visit_info is not None
        dark.visit_info = replace(dark.visit_info, exposure_time_s=1.0, dark_time_s=1.0)
        self.log.info("Dark: mean %.5f electrons/s.", float(np.mean(dark.image, dtype=np.float64)))
        return Struct(outputExposure=dark)


class CpFlatTask(PipelineTask):
    """Combine flat exposures."""

    ConfigClass: ClassVar[Any] = CpFlatConfig
    _DefaultName = "cpFlat"

    def run(
        self,
        *,
        raws: Iterable[Any],
        camera: Any = None,
        bias: Exposure | None = None,
        dark: Exposure | None = None,
    ) -> Struct:
        """Combine.

        Parameters
        ----------
        raws : iterable of `Exposure` or handles
            Raw exposures.
        camera : `Camera`, optional
            Not needed where raws carry their detector.
        bias, dark : `Exposure`, optional
            Combined bias [ADU] and dark.

        Returns
        -------
        result : `Struct`
            ``outputExposure``: flat, mean 1 over good pixels; BAD where the response is low.

        Raises
        ------
        NoWorkFound
            If none of the raws is a flat.
        """
        from ..imaging.sky_level import sample_median

        isr = _make_isr(self, doBias=self.config.doBias, doDark=self.config.doDark)
        flat = _combine(
            self,
            isr,
            raws,
            lambda exposure: sample_median(exposure.image, exposure.mask),
            "",
            camera=camera,
            bias=bias,
            dark=dark,
        )
        good = (flat.mask.array == 0) & (flat.image > self.config.minResponse)
        mean = float(np.mean(flat.image[good], dtype=np.float64)) if good.any() else 1.0
        flat.image /= np.float32(mean)
        flat.variance /= np.float32(mean) ** 2
        flat.mask.set_where(flat.image <= self.config.minResponse, "BAD")
        flat.image[~good] = np.float32(1.0)
        self.log.info("Flat: rms %.4f.", float(np.std(flat.image[good], dtype=np.float64)))
        return Struct(outputExposure=flat)
