"""Steps of makeWarp: exposures resampled onto a patch one after the other, and the warp's PSF.

They need numba and scipy, which graph building does without; the task imports them when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..imaging.exposure import Exposure
from ..imaging.psf_matching import gaussian_psf, match_psf
from ..imaging.resampling import empty_warp, resample_into
from ..imaging.source_window import source_window
from ..imaging.tract import PatchInfo, TractInfo
from ..imaging.warped_psf import PsfSource, warped_psf
from ..pipeline import NoWorkFound, PipelineTask


def fill_warp(
    task: PipelineTask, tract: TractInfo, patch: PatchInfo, handles: Sequence[Any], names: Sequence[Any]
) -> Exposure:
    """Resample exposures onto a patch.

    Parameters
    ----------
    task : `PipelineTask`
        A makeWarp; its metadata gets the number of good pixels.
    tract, patch : `TractInfo`, `PatchInfo`
        Where to.
    handles : sequence of `Exposure` or deferred handle
        Calibrated exposures of one visit; each is dropped once resampled.
    names : sequence
        What the log calls each.

    Returns
    -------
    warp : `Exposure`
        Over the patch's outer box [nJy], with the PSF of the exposures in it.

    Raises
    ------
    NoWorkFound
        If fewer pixels have data than configured.
    """
    warp = empty_warp(patch.shape, patch.wcs, (patch.outer_box[0], patch.outer_box[1]))
    sources: list[PsfSource] = []
    total = 0
    for i, (handle, name) in enumerate(zip(handles, names, strict=True), start=1):
        exposure = read_needed_part(handle, patch)
        if exposure is None:
            task.log.debug("%s does not reach the patch", name)
            continue
        task.log.info("Processing calexp %d of %d for this warp: id=%s", i, len(handles), name)
        n_good = resample_into(warp, exposure, full_footprint_planes=task.config.fullFootprintPlanes)
        task.log.debug("%s fills %d pixels", name, n_good)
        if n_good:
            total += n_good
            if exposure.psf is not None and exposure.wcs is not None:
                sources.append(PsfSource(exposure.psf, exposure.wcs, exposure.shape))
            _take_visit(warp, exposure)
    if total < task.config.minimumGoodPixels:
        raise NoWorkFound(
            f"No good pixels of {len(handles)} calexps on tract {tract.id}, patch {patch.id} "
            f"({total} found, {task.config.minimumGoodPixels} needed)"
        )
    warp.psf = warped_psf(patch.wcs, warp.shape, sources, n_samples=task.config.psfSamples)
    warp.metadata |= {"tract": tract.id, "patch": patch.id, "n_detectors": len(sources)}
    task.log.info("directWarp has %d good pixels (%.1f%%)", total, _percentage(total, warp))
    task.metadata["good_pixels"] = total
    return warp


def match_warp(task: PipelineTask, warp: Exposure) -> Exposure:
    """Return a warp convolved to the model PSF.

    Parameters
    ----------
    task : `PipelineTask`
        A makeWarp; ``modelPsfFwhm`` says which model.
    warp : `Exposure`
        As `fill_warp` makes it; not changed.

    Raises
    ------
    NoWorkFound
        If the warp has no PSF.
    """
    if warp.psf is None:
        tract, patch = warp.metadata["tract"], warp.metadata["patch"]
        raise NoWorkFound(f"No calexp on tract {tract}, patch {patch} has a PSF to match")
    matched = match_psf(warp, gaussian_psf(task.config.modelPsfFwhm))
    good = int((~matched.mask.is_set("NO_DATA")).sum())
    task.log.info("psfMatchedWarp has %d good pixels (%.1f%%)", good, _percentage(good, warp))
    return matched


def _percentage(n_pixels: int, warp: Exposure) -> float:
    return 100.0 * n_pixels / (warp.shape[0] * warp.shape[1])


def read_needed_part(handle: Any, patch: PatchInfo) -> Exposure | None:
    """Read the part of an exposure that the patch needs, or nothing where they do not meet.

    A patch is a quarter of a large detector: reading all of it would be most of the time of a warp.

    Parameters
    ----------
    handle : `Exposure` or deferred handle
        Calibrated exposure.
    patch : `PatchInfo`
        What it is resampled onto.
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


def _take_visit(warp: Exposure, exposure: Exposure) -> None:
    """Give the warp visit info and filter of the first exposure that reaches it."""
    if warp.visit_info is None:
        warp.visit_info = exposure.visit_info
    if not warp.filter.physical:
        warp.filter = exposure.filter
