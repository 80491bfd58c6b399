"""IsrTask: instrument signature removal, raw -> postISRCCD.

The steps, their order and their log lines are those of the field's isr; names of config fields and
connections too, so that existing overrides apply. Pixels leave in electrons.

Where several steps touch single pixels only (overscan, bias, linearity; gain and noise; dark and flat) they
are done in one pass and their lines logged in the usual order. Bias is in ADU, dark in electrons (or ADU
where its header says ``BUNIT = 'adu'``), flat relative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..pipeline import PipelineTask, Struct
from .isr_calibrations import IsrCalibrations
from .isr_config import FringeConfig, IsrTaskConfig, IsrTaskConnections, OverscanConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..imaging.exposure import Exposure

__all__ = ["FringeConfig", "IsrTask", "IsrTaskConfig", "IsrTaskConnections", "OverscanConfig"]


class IsrTask(PipelineTask):
    """Remove the signature of the instrument from one raw."""

    ConfigClass = IsrTaskConfig
    _DefaultName = "isr"

    def run(
        self,
        *,
        ccdExposure: Exposure,
        camera: Any = None,
        bias: Exposure | None = None,
        dark: Exposure | None = None,
        flat: Exposure | None = None,
        fringe: Exposure | None = None,
        defects: Any = None,
        linearizer: Mapping[str, Any] | None = None,
        crosstalk: Mapping[str, Any] | None = None,
        bfKernel: NDArray[np.floating[Any]] | None = None,
    ) -> Struct:
        """Process one raw.

        Parameters
        ----------
        ccdExposure : `Exposure`
            Raw, untrimmed [ADU]; not changed.
        camera : `Camera`, optional
            Used where the raw does not carry its detector.
        bias, dark, flat, fringe : `Exposure`, optional
            Combined frames, needed where the configuration applies them.
        defects : `astropy.table.Table`, optional
            x0, y0, width, height of bad rectangles [pixels].
        linearizer, crosstalk : mapping, optional
            Coefficients; the detector's own where not given.
        bfKernel : `numpy.ndarray`, shape (2 r + 1, 2 r + 1), floating, optional
            Brighter-fatter kernel [1/electrons]; the correction is skipped with a warning where there is
            none.

        Returns
        -------
        result : `Struct`
            ``outputExposure`` (also as ``exposure``): assembled `Exposure` [electrons].

        Raises
        ------
        ValueError
            If a calibration the configuration asks for is not given, or has another shape.
        """
        # Importing the steps takes 0.35 s for numba and scipy; a graph is built without them.
        from . import isr_assembly, isr_steps

        config = self.config
        detector = isr_assembly.detector_of(ccdExposure, camera)
        calibrations = IsrCalibrations.wanted(
            config,
            bias=bias,
            dark=dark,
            flat=flat,
            fringe=fringe,
            defects=defects,
            linearizer=linearizer,
            crosstalk=crosstalk,
            bfKernel=bfKernel,
        )
        image, mask = isr_assembly.assemble_raw(self, ccdExposure, detector, calibrations)
        if config.doCrosstalk:
            isr_assembly.remove_crosstalk(self, image, mask, detector, calibrations.crosstalk)
        exposure = isr_steps.apply_gains(self, ccdExposure, image, mask, detector, calibrations)
        if config.doBrighterFatter:
            isr_steps.remove_brighter_fatter(self, exposure, calibrations.bfKernel)
        isr_steps.correct_dark_and_flat(self, exposure, detector, calibrations)
        if config.doFringe:
            isr_steps.remove_fringes(self, exposure, calibrations.fringe)
        isr_steps.replace_masked(self, exposure)
        isr_steps.set_zero_point(self, exposure)
        isr_steps.record_sky_level(self, exposure)
        return Struct(outputExposure=exposure, exposure=exposure)
