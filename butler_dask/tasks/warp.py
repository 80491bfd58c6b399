"""MakeWarpTask: the detectors of one visit, resampled onto one patch of the sky map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lsst.pex.config import Field, FieldValidationError, ListField

from ..imaging.exposure import Exposure
from ..imaging.psf_matching import gaussian_psf, match_psf
from ..imaging.resampling import FULL_FOOTPRINT_PLANES, empty_warp, resample_into, source_window
from ..imaging.skymap import PatchInfo, SkyMap
from ..imaging.warped_psf import PsfSource, warped_psf
from ..pipeline import (
    NoWorkFound,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)


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
        patch_info: PatchInfo = skyMap[tract][patch]
        warp = empty_warp(
            patch_info.shape, patch_info.wcs, (patch_info.outer_box[0], patch_info.outer_box[1])
        )
        handles = list(calExpList)
        names = list(dataIds) if dataIds is not None else [f"exposure {i}" for i in range(len(handles))]
        models: list[PsfSource] = []
        total = 0
        for i, (handle, name) in enumerate(zip(handles, names, strict=True), start=1):
            exposure = _needed_part(handle, patch_info)
            if exposure is None:
                self.log.debug("%s does not reach the patch", name)
                continue
            self.log.info("Processing calexp %d of %d for this warp: id=%s", i, len(handles), name)
            n_good = resample_into(warp, exposure, full_footprint_planes=self.config.fullFootprintPlanes)
            self.log.debug("%s fills %d pixels", name, n_good)
            if n_good:
                total += n_good
                if exposure.psf is not None and exposure.wcs is not None:
                    models.append(PsfSource(exposure.psf, exposure.wcs, exposure.shape))
                _take_facts(warp, exposure)
        if total < self.config.minimumGoodPixels:
            raise NoWorkFound(
                f"No good pixels of {len(handles)} calexps on tract {tract}, patch {patch} "
                f"({total} found, {self.config.minimumGoodPixels} needed)"
            )
        warp.psf = warped_psf(patch_info.wcs, warp.shape, models, n_samples=self.config.psfSamples)
        warp.metadata |= {"tract": int(tract), "patch": int(patch), "n_detectors": len(models)}
        area = warp.shape[0] * warp.shape[1]
        self.log.info("directWarp has %d good pixels (%.1f%%)", total, 100.0 * total / area)
        self.metadata["good_pixels"] = total
        matched = None
        if self.config.makePsfMatched:
            if warp.psf is None:
                raise NoWorkFound(f"No calexp on tract {tract}, patch {patch} has a PSF to match")
            matched = match_psf(warp, gaussian_psf(self.config.modelPsfFwhm))
            good = int((~matched.mask.is_set("NO_DATA")).sum())
            self.log.info("psfMatchedWarp has %d good pixels (%.1f%%)", good, 100.0 * good / area)
        return Struct(direct=warp, psfMatched=matched)


def _needed_part(handle: Any, patch: PatchInfo) -> Exposure | None:
    """Read the part of an exposure that the patch needs, or nothing where they do not meet.

    A patch is a quarter of a large detector: reading all of it would be most of the time of a warp.
    """
    if isinstance(handle, Exposure):
        return handle
    wcs = handle.get(component="wcs")
    if wcs is not None:
        x0, y0, width, height = handle.get(component="bbox")
        window = source_window((height, width), wcs, patch.shape, patch.wcs)
        if window is None:
            return None
        dx, dy, width, height = window.source_box
        part: Exposure = handle.get(parameters={"bbox": (x0 + dx, y0 + dy, width, height)})
        return part
    whole: Exposure = handle.get()
    return whole


def _take_facts(warp: Exposure, exposure: Exposure) -> None:
    """Give the warp the visit's facts from the first exposure that reaches it."""
    if warp.visit_info is None:
        warp.visit_info = exposure.visit_info
    if not warp.filter.physical:
        warp.filter = exposure.filter
