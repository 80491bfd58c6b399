"""Calibration products: bias, dark and flat frames combined from raws.

Each task processes its raws with isr as far as they allow, puts them on one scale and averages them with
outliers rejected. Raws come one at a time (``deferLoad``) and only their float32 pixels are kept.

Units are those `butler_dask.tasks.isr` expects: bias in ADU, dark in electrons per second of dark time, flat
relative with mean 1. Each says so in its ``BUNIT``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lsst.pex.config import ConfigField, Field, RangeField

from ..pipeline import PipelineTask, PipelineTaskConfig, Struct
from .calibration_products_connections import CpBiasConnections, CpDarkConnections, CpFlatConnections
from .isr_config import IsrTaskConfig

if TYPE_CHECKING:
    from ..imaging.exposure import Exposure

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


def _combined(
    task: PipelineTask, product: Literal["bias", "dark", "flat"], raws: Iterable[Any], **calibrations: Any
) -> Struct:
    """Combine raws to one product."""
    # Importing the steps takes 0.35 s for numba and scipy; a graph is built without them.
    from . import calibration_products_steps as steps

    combine = {"bias": steps.combine_biases, "dark": steps.combine_darks, "flat": steps.combine_flats}
    return Struct(outputExposure=combine[product](task, raws, **calibrations))


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
        return _combined(self, "bias", raws, camera=camera)


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
        return _combined(self, "dark", raws, camera=camera, bias=bias)


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
        return _combined(self, "flat", raws, camera=camera, bias=bias, dark=dark)
