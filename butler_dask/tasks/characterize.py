"""characterizeImage: cosmic rays, sky, bright sources, PSF and aperture corrections of one detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..pipeline import (
    InputQuantizedConnection,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
    Struct,
)
from .characterize_config import CharacterizeImageConfig, CharacterizeImageConnections

if TYPE_CHECKING:
    from ..imaging.exposure import Exposure

__all__ = ["CharacterizeImageConfig", "CharacterizeImageConnections", "CharacterizeImageTask"]


class CharacterizeImageTask(PipelineTask):
    """Measure the PSF of an exposure and subtract its sky.

    Notes
    -----
    The PSF is needed to find cosmic rays and sources, and they are needed to measure it; ``psfIterations``
    rounds begin with a Gaussian guess. With too few stars for a model a Gaussian of the stars' width is
    kept; with none, the guess, and a warning.
    """

    ConfigClass: ClassVar[type[Any]] = CharacterizeImageConfig
    _DefaultName: ClassVar[str] = "characterizeImage"

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Read the exposure, run, and write; the data ID gives the source identifiers their numbers."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.dataId
        outputs = self.run(**inputs, exposureId=int(data_id["visit"]), detector=int(data_id["detector"]))
        butlerQC.put(outputs, outputRefs)

    def run(
        self, exposure: Exposure, *, exposureId: int | None = None, detector: int | None = None
    ) -> Struct:
        """Characterize one detector image.

        Parameters
        ----------
        exposure : `Exposure`
            After isr, in electrons; changed in place.
        exposureId, detector : `int`, optional
            Numbers that go into source identifiers; the exposure's own when not given.

        Returns
        -------
        result : `Struct`
            ``characterized`` (`Exposure`), ``sourceCat`` (`astropy.table.Table`), ``backgroundModel``
            (`BackgroundList`).

        Raises
        ------
        NoWorkFound
            If no pixel of the exposure is usable.
        """
        # Importing the steps takes 0.6 s for numba and scipy; a graph is built without them.
        from . import characterize_steps as steps

        steps.require_pixels(exposure)
        background = steps.subtract_first_sky(self, exposure)
        steps.install_first_psf(self, exposure)
        catalog = steps.find_sources(self, exposure, background, exposureId, detector)
        if self.config.doApCorr:
            steps.correct_apertures(self, exposure, catalog)
        steps.record_results(self, exposure, catalog)
        return Struct(characterized=exposure, sourceCat=catalog, backgroundModel=background)
