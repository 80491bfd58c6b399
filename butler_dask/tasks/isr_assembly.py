"""Isr's way from the amplifiers of a raw to one image: overscan, bias, linearity, crosstalk.

Apart from the task class, and imported when it runs, for the same reason as `butler_dask.tasks.isr_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..imaging.assembly import assemble
from ..imaging.crosstalk import crosstalk_matrix, subtract_crosstalk
from ..imaging.detector import Detector
from ..imaging.exposure import Exposure
from ..imaging.linearity import linearity_coefficients
from ..imaging.mask import Mask
from ..imaging.overscan import parallel_levels, serial_levels
from ..pipeline import PipelineTask
from .isr_calibrations import IsrCalibrations


def detector_of(raw: Exposure, camera: Any) -> Detector:
    """Return the detector a raw is from.

    Parameters
    ----------
    raw : `Exposure`
        Raw exposure.
    camera : `Camera` or None
        Asked where the raw does not say; it must have one detector only then.

    Raises
    ------
    ValueError
        If neither says.
    """
    if raw.detector is not None:
        return raw.detector
    if camera is not None and len(camera) == 1:
        only: Detector = next(iter(camera))
        return only
    raise ValueError("The raw exposure does not say which detector it is from")


def assemble_raw(
    task: PipelineTask, raw: Exposure, detector: Detector, calibrations: IsrCalibrations
) -> tuple[NDArray[np.float32], Mask]:
    """Subtract overscan and bias, linearize, and join the amplifiers.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    raw : `Exposure`
        Untrimmed [ADU]; not changed.
    detector : `Detector`
        Its amplifiers.
    calibrations : `IsrCalibrations`
        Of these, bias and linearizer.

    Returns
    -------
    image : `numpy.ndarray`, shape `Detector.shape`, float32
        [ADU above bias].
    mask : `Mask`
        Saturated and suspect pixels.
    """
    config = task.config
    task.log.info("Converting exposure to floating point values.")
    row_levels, column_levels = overscan_levels(task, raw.image, detector)
    task.log.info("Assembling CCD from amplifiers.")
    if config.doBias:
        task.log.info("Applying bias correction.")
    coefficients = linearity_coefficients(detector, calibrations.linearizer) if config.doLinearize else {}
    if config.doLinearize:
        task.log.info("Applying linearizer.")
    return assemble(
        raw.image,
        detector,
        row_levels,
        column_levels=column_levels,
        bias=calibrations.bias.image if calibrations.bias is not None else None,
        linearity=coefficients,
        mask_saturation=config.doSaturation,
        suspect_levels={a.name: a.saturation * config.suspectFraction for a in detector.amplifiers}
        if config.doSuspect
        else None,
    )


def overscan_levels(
    task: PipelineTask, raw: NDArray[Any], detector: Detector
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]] | None]:
    """Measure the overscan of every amplifier.

    Parameters
    ----------
    task : `PipelineTask`
        An isr; its metadata gets the median level of each amplifier.
    raw : `numpy.ndarray`, shape `Detector.raw_shape`, any number type
        Untrimmed pixels [ADU].
    detector : `Detector`
        Its amplifiers.

    Returns
    -------
    rows : `dict` of `str` to `numpy.ndarray`, shape (rows of the amplifier,), float32
        Serial overscan level by amplifier [ADU]; empty where it is not wanted.
    columns : `dict` of `str` to `numpy.ndarray`, shape (columns of the amplifier,), float32, or None
        Parallel overscan level by amplifier [ADU]; None where it is not wanted.
    """
    config = task.config.overscan
    if not task.config.doOverscan:
        return {}, None
    rows = {}
    for amplifier in detector.amplifiers:
        levels = serial_levels(
            raw,
            amplifier,
            config.fitType,
            order=config.order,
            clip_sigma=config.numSigmaClip,
            skip_leading=config.leadingColumnsToSkip,
            skip_trailing=config.trailingColumnsToSkip,
        )
        rows[amplifier.name] = levels
        task.metadata[f"OVERSCAN {amplifier.name}"] = float(np.median(levels))
        task.log.debug("Overscan of amplifier %s: %.2f ADU.", amplifier.name, np.median(levels))
    if not config.doParallelOverscan:
        return rows, None
    columns = {
        a.name: parallel_levels(
            raw,
            a,
            float(np.median(rows[a.name][-16:])),
            skip_leading=config.leadingRowsToSkip,
        )
        for a in detector.amplifiers
    }
    return rows, columns


def remove_crosstalk(
    task: PipelineTask,
    image: NDArray[np.float32],
    mask: Mask,
    detector: Detector,
    coefficients: Mapping[str, Any] | None,
) -> None:
    """Subtract what the amplifiers of a detector copy from one another, where there is any.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    image : `numpy.ndarray`, shape `Detector.shape`, float32
        Assembled [ADU above bias]; changed.
    mask : `Mask`
        CROSSTALK is set where the source is bright.
    detector : `Detector`
        Its amplifiers.
    coefficients : mapping, optional
        The ``crosstalk`` calibration; the detector's own where not given.
    """
    task.log.info("Applying crosstalk correction.")
    matrix = crosstalk_matrix(detector, coefficients)
    if np.any(matrix):
        task.log.getChild("crosstalk").info("Applying crosstalk correction.")
        subtract_crosstalk(image, mask, detector, matrix, threshold=task.config.crosstalkMinPixelToMask)
