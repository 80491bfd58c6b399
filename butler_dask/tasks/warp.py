"""MakeWarpTask: the detectors of one visit, resampled onto one patch of the sky map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lsst.pex.config import Field, FieldValidationError, ListField

from ..imaging.mask import FULL_FOOTPRINT_PLANES
from ..pipeline import (
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)

if TYPE_CHECKING:
    from ..imaging.skymap import SkyMap


class MakeWarpConnections(
    PipelineTaskConnections,
    dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    defaultTemplates={"coaddName": "deep", "calexpType": ""},
):
    """What `MakeWarpTask` reads and writes."""

    calExpList = cT.Input(
        doc="Calibrated exposures of the visit that overlap the patch.",
        name="{calexpType}calexp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    skyMap = cT.Input(
        doc="Tracts and patches.",
        name="skyMap",
        storageClass="SkyMap",
        dimensions=("skymap",),
    )
    direct = cT.Output(
        doc="The visit on the patch's pixels [nJy], PSF as observed.",
        name="{coaddName}Coadd_directWarp",
        storageClass="ExposureF",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    )
    psfMatched = cT.Output(
        doc="The visit on the patch's pixels [nJy], convolved to the model PSF.",
        name="{coaddName}Coadd_psfMatchedWarp",
        storageClass="ExposureF",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    )

    def __init__(self, *, config: Any = None) -> None:
        if config is not None and not config.makeDirect:
            del self.direct
        if config is not None and not config.makePsfMatched:
            del self.psfMatched


class MakeWarpConfig(PipelineTaskConfig, pipelineConnections=MakeWarpConnections):
    """Configuration of `MakeWarpTask`."""

    makeDirect = Field(dtype=bool, default=True, doc="Write the warp with the PSF as observed?")
    makePsfMatched = Field(dtype=bool, default=False, doc="Write the warp convolved to the model PSF?")
    modelPsfFwhm = Field(
        dtype=float,
        default=7.7,
        doc="Full width at half maximum of the Gaussian model PSF [pixels].",
        check=lambda w: w > 0,
    )
    fullFootprintPlanes = ListField(
        dtype=str,
        default=list(FULL_FOOTPRINT_PLANES),
        doc="Mask planes spread over every pixel the kernel touches; others over the nearest four only.",
    )
    minimumGoodPixels = Field(
        dtype=int,
        default=1,
        doc="Write no warp with fewer pixels with data than this.",
        check=lambda n: n > 0,
    )
    psfSamples = Field(
        dtype=int,
        default=5,
        doc="Positions along each axis of the patch at which the warp's PSF is taken from its detectors.",
        check=lambda n: n > 0,
    )

    def validate(self) -> None:
        """Check that there is something to do.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If neither kind of warp is to be made.
        """
        super().validate()
        if not (self.makeDirect or self.makePsfMatched):
            raise FieldValidationError(
                type(self).makeDirect,
                self,
                "Neither makeDirect nor makePsfMatched: there is nothing to make.",
            )


class MakeWarpTask(PipelineTask):
    """Resample the calibrated exposures of a visit onto a patch.

    Exposures are read one after the other and dropped once resampled, so memory does not grow with the number
    of detectors in the patch.
    """

    ConfigClass = MakeWarpConfig
    _DefaultName = "makeWarp"

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        """Read the sky map, resample, write the warp."""
        data_id = butlerQC.quantum.dataId
        refs = sorted(inputRefs.calExpList, key=lambda ref: ref.dataId["detector"])
        outputs = self.run(
            calExpList=butlerQC.get(refs),
            skyMap=butlerQC.get(inputRefs.skyMap),
            tract=data_id["tract"],
            patch=data_id["patch"],
            dataIds=[ref.dataId for ref in refs],
        )
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        calExpList: Iterable[Any],
        skyMap: SkyMap,
        *,
        tract: int,
        patch: int,
        dataIds: Iterable[Any] | None = None,
    ) -> Struct:
        """Resample exposures onto one patch.

        Parameters
        ----------
        calExpList : iterable of `Exposure` or deferred handle
            Calibrated exposures of one visit, with WCS and photometric calibration.
        skyMap : `SkyMap`
            Tracts and patches.
        tract, patch : `int`
            Which patch.
        dataIds : iterable, optional
            Data ID of each exposure, for the log.

        Returns
        -------
        result : `Struct`
            ``direct``: `Exposure` over the patch's outer box [nJy]; pixels no detector covers are NaN with
            infinite variance and NO_DATA set. ``psfMatched``: the same convolved to the model PSF, or None.

        Raises
        ------
        NoWorkFound
            If no exposure has a good pixel on the patch.
        """
        # Importing the steps takes 0.35 s for numba and scipy; a graph is built without them.
        from . import warp_steps as steps

        handles = list(calExpList)
        names = list(dataIds) if dataIds is not None else [f"exposure {i}" for i in range(len(handles))]
        warp = steps.fill_warp(self, skyMap[tract], skyMap[tract][patch], handles, names)
        matched = steps.match_warp(self, warp) if self.config.makePsfMatched else None
        return Struct(direct=warp, psfMatched=matched)
