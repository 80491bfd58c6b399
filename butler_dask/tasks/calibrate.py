"""calibrate: all sources of one detector, its world coordinates and its photometric zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..pipeline import (
    InputQuantizedConnection,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
    Struct,
)
from .calibrate_config import CalibrateConfig, CalibrateConnections
from .calibration_error import CalibrationError

if TYPE_CHECKING:
    from astropy.table import Table

    from ..imaging.background import BackgroundList
    from ..imaging.exposure import Exposure

__all__ = ["CalibrateConfig", "CalibrateConnections", "CalibrateTask", "CalibrationError"]


class CalibrateTask(PipelineTask):
    """Detect, deblend and measure all sources, and calibrate positions and fluxes.

    Notes
    -----
    With ``doAstrometry`` and ``doPhotoCal`` off no reference catalogue is needed: the first WCS stays, and
    the calibration is the rough zero point of the filter or, without one, 1 nJy per electron.
    """

    ConfigClass: ClassVar[type[Any]] = CalibrateConfig
    _DefaultName: ClassVar[str] = "calibrate"

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Read the inputs, run, and write; the data ID gives the source identifiers their numbers."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.dataId
        outputs = self.run(**inputs, exposureId=int(data_id["visit"]), detector=int(data_id["detector"]))
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        icSourceCat: Table | None = None,
        astromRefCat: Sequence[Any] | None = None,
        photoRefCat: Sequence[Any] | None = None,
        *,
        exposureId: int | None = None,
        detector: int | None = None,
    ) -> Struct:
        """Calibrate one detector image.

        Parameters
        ----------
        exposure : `Exposure`
            Of characterizeImage; changed in place.
        background : `BackgroundList`, optional
            Sky subtracted so far; left as it is.
        icSourceCat : `astropy.table.Table`, optional
            Sources of characterizeImage.
        astromRefCat, photoRefCat : sequence, optional
            Shards of the reference catalogues: tables, or handles with a ``get`` method.
        exposureId, detector : `int`, optional
            Numbers that go into source identifiers; the exposure's own when not given.

        Returns
        -------
        result : `Struct`
            ``outputExposure``, ``outputCat``, ``outputBackground``, ``matches``.

        Raises
        ------
        CalibrationError
            If a required calibration fails.
        """
        # Importing the steps takes 0.6 s for numba and scipy; a graph is built without them.
        from . import calibrate_steps, reference_steps

        background = calibrate_steps.copy_background(background)
        catalog = calibrate_steps.find_sources(self, exposure, background, exposureId, detector)
        if icSourceCat is not None:
            calibrate_steps.copy_psf_flags(icSourceCat, catalog)
        matches = None
        if self.config.doAstrometry:
            matches = reference_steps.fit_world_coordinates(self, exposure, catalog, astromRefCat or ())
        if self.config.doPhotoCal:
            reference_steps.fit_photometry(self, exposure, catalog, photoRefCat or ())
        if exposure.photo_calib is None or not self.config.doPhotoCal:
            calibrate_steps.set_rough_zero_point(self, exposure)
        calibrate_steps.record_results(self, exposure, catalog, background)
        return Struct(
            outputExposure=exposure, outputCat=catalog, outputBackground=background, matches=matches
        )
