"""Steps of calibration products: raws through isr, on one scale, averaged with outliers rejected.

They need numba and scipy, which graph building does without; the tasks import them when they run.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..imaging.combine import combine_images
from ..imaging.exposure import Exposure
from ..imaging.sky_level import sample_median
from ..imaging.visit_info import VisitInfo
from ..pipeline import NoWorkFound, PipelineTask
from .isr import IsrTask

_BAD_PLANES = ("BAD", "SAT", "NO_DATA", "UNMASKEDNAN", "CR")
"""Pixels that say nothing of the sensor."""


def combine_biases(task: PipelineTask, raws: Iterable[Any], *, camera: Any = None) -> Exposure:
    """Return the mean of bias exposures [ADU].

    Parameters
    ----------
    task : `PipelineTask`
        Whose configuration says observation type and rejection.
    raws : iterable of `Exposure` or handles
        Raw exposures, read one at a time.
    camera : `Camera`, optional
        Not needed where raws carry their detector.

    Raises
    ------
    NoWorkFound
        If no raw is of use.
    """
    bias = combine_raws(task, raws, lambda _: 1.0, "adu", camera=camera)
    task.log.info("Bias: mean %.3f ADU.", float(np.mean(bias.image, dtype=np.float64)))
    return bias


def combine_darks(
    task: PipelineTask, raws: Iterable[Any], *, camera: Any = None, bias: Exposure | None = None
) -> Exposure:
    """Return the mean of dark exposures [electrons in 1 s of dark time].

    Parameters
    ----------
    task : `PipelineTask`
        Whose configuration says observation type, rejection and least dark time.
    raws : iterable of `Exposure` or handles
        Raw exposures, read one at a time.
    camera : `Camera`, optional
        Not needed where raws carry their detector.
    bias : `Exposure`, optional
        Combined bias [ADU].

    Raises
    ------
    NoWorkFound
        If no raw is of use.
    """

    def dark_time(exposure: Exposure) -> float:
        time = exposure.visit_info.dark_time_s if exposure.visit_info is not None else 0.0
        return time if time >= task.config.minDarkTime else 0.0

    dark = combine_raws(task, raws, dark_time, "electron", camera=camera, bias=bias)
    assert dark.visit_info is not None
    dark.visit_info = replace(dark.visit_info, exposure_time_s=1.0, dark_time_s=1.0)
    task.log.info("Dark: mean %.5f electrons/s.", float(np.mean(dark.image, dtype=np.float64)))
    return dark


def combine_flats(
    task: PipelineTask,
    raws: Iterable[Any],
    *,
    camera: Any = None,
    bias: Exposure | None = None,
    dark: Exposure | None = None,
) -> Exposure:
    """Return the mean of flat exposures, 1 over good pixels; BAD where the response is low.

    Parameters
    ----------
    task : `PipelineTask`
        Whose configuration says observation type, rejection and least response.
    raws : iterable of `Exposure` or handles
        Raw exposures, read one at a time.
    camera : `Camera`, optional
        Not needed where raws carry their detector.
    bias, dark : `Exposure`, optional
        Combined bias [ADU] and dark.

    Raises
    ------
    NoWorkFound
        If no raw is of use.
    """

    def level(exposure: Exposure) -> float:
        return sample_median(exposure.image, exposure.mask)

    flat = combine_raws(task, raws, level, "", camera=camera, bias=bias, dark=dark)
    least = task.config.minResponse
    good = (flat.mask.array == 0) & (flat.image > least)
    mean = float(np.mean(flat.image[good], dtype=np.float64)) if good.any() else 1.0
    flat.image /= np.float32(mean)
    flat.variance /= np.float32(mean) ** 2
    flat.mask.set_where(flat.image <= least, "BAD")
    flat.image[~good] = np.float32(1.0)
    task.log.info("Flat: rms %.4f.", float(np.std(flat.image[good], dtype=np.float64)))
    return flat


def combine_raws(
    task: PipelineTask,
    raws: Iterable[Any],
    scale_of: Callable[[Exposure], float],
    unit: str,
    **calibrations: Any,
) -> Exposure:
    """Process the raws of the right type and average them.

    Parameters
    ----------
    task : `PipelineTask`
        Whose configuration says observation type and rejection.
    raws : iterable of `Exposure` or handles
        Read one at a time.
    scale_of : callable
        What a processed exposure is divided by; it is left out where this is not positive.
    unit : `str`
        BUNIT of the result.
    **calibrations
        Passed to isr, and applied where the task's configuration says so.

    Raises
    ------
    NoWorkFound
        If no raw is of use.
    """
    wanted = task.config.observationType
    isr = quiet_isr(task)
    frames = ScaledFrames()
    seen: Counter[str] = Counter()
    for raw in raws:
        info = _visit_info(raw) or VisitInfo()
        seen[info.observation_type] += 1
        if info.observation_type not in (wanted, ""):
            continue
        exposure = raw.get() if hasattr(raw, "get") else raw
        frame: Exposure = isr.run(ccdExposure=exposure, **calibrations).outputExposure
        scale = scale_of(frame)
        if not scale > 0:
            task.log.warning("Exposure %d is left out: it would be divided by %g.", info.exposure_id, scale)
            continue
        task.log.info("Exposure %d: scale %.3f.", info.exposure_id, scale)
        frames.add(frame, info, scale)
    if not frames.images:
        counts = ", ".join(f"{n} {k or 'unknown'}" for k, n in sorted(seen.items())) or "none"
        raise NoWorkFound(f"No usable {wanted!r} exposure among the raws ({counts})")
    combined = frames.mean(task.config.clipSigma, task.config.clipIterations)
    combined.visit_info = replace(frames.visit_info(), observation_type=wanted)
    combined.metadata = {"BUNIT": unit, **combined.metadata}
    task.log.info("Combined %d exposures.", len(frames.images))
    task.metadata["nExposures"] = len(frames.images)
    return combined


def quiet_isr(task: PipelineTask) -> IsrTask:
    """Make the isr of a calibration task, quiet: twenty lines a raw would bury the task's own.

    Parameters
    ----------
    task : `PipelineTask`
        Its configuration holds that of isr; where it has switches ``doBias`` and ``doDark`` these hold for
        isr as well.
    """
    config = task.config.isr.copy()
    for switch in ("doBias", "doDark"):
        if hasattr(task.config, switch):
            setattr(config, switch, getattr(task.config, switch))
    isr = IsrTask(config=config, name="isr", parentTask=task)
    if isr.log.level == logging.NOTSET:
        isr.log.setLevel(logging.WARNING)
    return isr


def _visit_info(raw: Any) -> VisitInfo | None:
    """Return the visit info of an exposure, or of the one behind a handle without reading its pixels."""
    found: VisitInfo | None = raw.get(component="visitInfo") if hasattr(raw, "get") else raw.visit_info
    return found


@dataclass(slots=True)
class ScaledFrames:
    """Frames of one sensor on one scale, as far as their mean needs them.

    Attributes
    ----------
    images : `list` of `numpy.ndarray`, shape (ny, nx), float32
        Pixels, NaN where they say nothing, so that masks need not be kept.
    infos : `list` [`VisitInfo`]
        Of the frames.
    variance : `numpy.ndarray`, shape (ny, nx), float32, or None
        Sum of their variances.
    first : `Exposure` or None
        The first of them, for detector and filter.
    """

    images: list[NDArray[np.float32]] = field(default_factory=list)
    infos: list[VisitInfo] = field(default_factory=list)
    variance: NDArray[np.float32] | None = None
    first: Exposure | None = None

    def add(self, frame: Exposure, info: VisitInfo, scale: float) -> None:
        """Divide a frame by its scale, in place, and take it.

        Parameters
        ----------
        frame : `Exposure`
            Processed raw; its planes are changed and kept.
        info : `VisitInfo`
            Of the raw.
        scale : `float`
            What it is divided by.
        """
        image, variance = frame.image, frame.variance
        image /= np.float32(scale)
        image[frame.mask.is_set(_BAD_PLANES)] = np.nan
        variance /= np.float32(scale * scale)
        if self.variance is None:
            self.first, self.variance = frame, variance
        else:
            self.variance += variance
        self.images.append(image)
        self.infos.append(info)

    def mean(self, clip_sigma: float, iterations: int) -> Exposure:
        """Return the mean, with the numbers of the exposures in its metadata.

        Parameters
        ----------
        clip_sigma : `float`
            Pixels farther from the mean are left out [sigma].
        iterations : `int`
            Rounds of that.
        """
        assert self.first is not None
        assert self.variance is not None
        image, mask, variance = combine_images(
            self.images,
            mean_variance=self.variance / np.float32(len(self.images)),
            clip_sigma=clip_sigma,
            iterations=iterations,
        )
        metadata: dict[str, Any] = {"NCOMBINE": len(self.images)}
        metadata |= {f"EXPID{i}": info.exposure_id for i, info in enumerate(self.infos)}
        return Exposure(
            image,
            mask,
            variance,
            detector=self.first.detector,
            filter=self.first.filter,
            metadata=metadata,
        )

    def visit_info(self) -> VisitInfo:
        """Return the time from the first frame's begin to the last one's end, and the instrument."""
        return VisitInfo(
            exposure_time_s=0.0,
            dark_time_s=0.0,
            begin_tai=min(info.begin_tai for info in self.infos),
            end_tai=max(info.end_tai for info in self.infos),
            instrument=self.infos[0].instrument,
        )
