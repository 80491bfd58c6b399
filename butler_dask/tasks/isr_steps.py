"""Steps of instrument signature removal on an assembled exposure, in the order isr takes them.

They need numba and scipy, which graph building does without; therefore they are apart from the task class
and imported when it runs. Each takes the task for its configuration, log and metadata, and changes the
exposure in place. Sources of the algorithms stand with them, in `butler_dask.imaging`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..imaging.brighter_fatter import correct_brighter_fatter
from ..imaging.defects import mask_defects
from ..imaging.detector import Detector, box_slices
from ..imaging.exposure import Exposure
from ..imaging.frame_correction import apply_dark_and_flat, apply_gain_and_variance, merge_calibration_mask
from ..imaging.fringe import fringe_amplitude, subtract_fringe
from ..imaging.interpolation import estimate_pixels, fill_pixels, find_pixels, interpolate_pixels
from ..imaging.mask import Mask
from ..imaging.photo_calib import PhotoCalib
from ..imaging.saturation import grow_mask, mask_edges, widen_saturation_trails
from ..imaging.sky_level import measure_sky, sample_median
from ..pipeline import PipelineTask
from .isr_calibrations import IsrCalibrations, noise_of


def apply_gains(
    task: PipelineTask,
    raw: Exposure,
    image: NDArray[np.float32],
    mask: Mask,
    detector: Detector,
    calibrations: IsrCalibrations,
) -> Exposure:
    """Mask what is no signal, convert to electrons, and make the variance plane.

    Parameters
    ----------
    task : `PipelineTask`
        An isr; its configuration may leave the image in ADU.
    raw : `Exposure`
        Whose components the result takes over.
    image : `numpy.ndarray`, shape `Detector.shape`, float32
        Assembled [ADU above bias]; becomes that of the result.
    mask : `Mask`
        Its mask. Gets defects, edges and pixels that are not finite, and those of the combined frames.
    detector : `Detector`
        Gains and read noises.
    calibrations : `IsrCalibrations`
        Of these, defects, bias, dark and flat.

    Returns
    -------
    exposure : `Exposure`
        With variance.
    """
    config = task.config
    if config.doDefect:
        task.log.info("Masking defects.")
        mask_defects(mask, calibrations.defects)
    if config.numEdgeSuspect:
        mask_edges(mask, config.numEdgeSuspect)
    task.log.info("Masking NAN value pixels.")
    variance, n_nan = apply_gain_and_variance(
        image,
        mask,
        detector,
        apply_gains=config.doApplyGains,
        bias_variance=noise_of(calibrations.bias),
    )
    if n_nan:
        task.log.warning("There were %d unmasked NaNs.", n_nan)
    if config.doSaturation and config.doWidenSaturationTrails:
        task.log.info("Widening saturation trails.")
        widen_saturation_trails(mask)
    for frame in calibrations.frames:
        merge_calibration_mask(mask, frame.mask)
    return Exposure(
        image,
        mask,
        variance,
        wcs=raw.wcs,
        detector=detector,
        visit_info=raw.visit_info,
        filter=raw.filter,
        metadata=raw.metadata | {"BUNIT": "electron" if config.doApplyGains else "adu"},
    )


def remove_brighter_fatter(
    task: PipelineTask, exposure: Exposure, kernel: NDArray[np.floating[Any]] | None
) -> None:
    """Put charge back where it would have fallen had brighter pixels not pushed it away.

    Parameters
    ----------
    task : `PipelineTask`
        An isr; its metadata gets the number of iterations.
    exposure : `Exposure`
        In electrons; changed. What the mask says is no signal keeps what was measured.
    kernel : `numpy.ndarray`, shape (2 r + 1, 2 r + 1), floating, or None
        [1/electrons]. Without one a warning is all that happens.
    """
    config = task.config
    if kernel is None:
        task.log.warning("There is no brighter-fatter kernel; the correction is skipped.")
        return
    image, mask = exposure.image, exposure.mask
    planes = tuple(config.brighterFatterMaskListToInterpolate)
    pixels, values = estimate_pixels(image, exposure.variance, mask, planes)
    y, x = pixels[:, 0], pixels[:, 1]
    measured = image[y, x]
    image[y, x] = values
    task.log.info(
        "Applying brighter fatter correction using kernel type %s / gains %s.", type(kernel), type(None)
    )
    corrected, n_iterations, change = correct_brighter_fatter(
        image,
        np.asarray(kernel),
        max_iterations=config.brighterFatterMaxIter,
        threshold=config.brighterFatterThreshold,
    )
    corrected[y, x] += measured - values  # masked pixels keep what was measured
    exposure.image = corrected
    if change < config.brighterFatterThreshold:
        task.log.info("Finished brighter fatter correction in %d iterations.", n_iterations)
    else:
        task.log.warning(
            "Brighter fatter correction did not converge in %d iterations: last change %.1f.",
            n_iterations,
            change,
        )
    task.metadata["BF iterations"] = n_iterations
    task.log.info("Ensuring image edges are masked as SUSPECT to the brighter-fatter kernel size.")
    mask_edges(mask, kernel.shape[0] // 2, "SUSPECT")
    task.log.info("Growing masks to account for brighter-fatter kernel convolution.")
    grow_mask(mask, planes, config.brighterFatterMaskGrowSize)


def correct_dark_and_flat(
    task: PipelineTask, exposure: Exposure, detector: Detector, calibrations: IsrCalibrations
) -> None:
    """Subtract the dark, scaled to the exposure's dark time, and divide by the flat.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    exposure : `Exposure`
        In electrons or ADU; changed.
    detector : `Detector`
        Gains, for darks in the other unit.
    calibrations : `IsrCalibrations`
        Of these, dark and flat.
    """
    config = task.config
    dark, flat = calibrations.dark, calibrations.flat
    dark_image, scale = None, 1.0
    if dark is not None:
        task.log.info("Applying dark correction.")
        scale = dark_scale(task, exposure, dark)
        dark_image = dark_pixels(dark, detector, in_electrons=config.doApplyGains)
    if flat is not None:
        task.log.info("Applying flat correction.")
    apply_dark_and_flat(
        exposure.image,
        exposure.variance,
        exposure.mask,
        dark=dark_image,
        dark_scale=scale,
        dark_variance=noise_of(dark),
        flat=flat.image if flat is not None else None,
        flat_variance=noise_of(flat),
    )
    if not config.doVariance:
        exposure.variance[:] = 0.0


def dark_scale(task: PipelineTask, exposure: Exposure, dark: Exposure) -> float:
    """Return the dark time of an exposure in units of the dark frame's; 1 with a warning if not known.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    exposure : `Exposure`
        Whose visit info says its dark time.
    dark : `Exposure`
        Combined dark; its visit info likewise.
    """
    ours = exposure.visit_info.dark_time_s if exposure.visit_info is not None else float("nan")
    theirs = dark.visit_info.dark_time_s if dark.visit_info is not None else float("nan")
    if not theirs > 0:
        task.log.warning("darkExposure.getInfo().getVisitInfo() does not exist. Using darkScale = 1.0.")
        return 1.0
    if not ours >= 0:
        task.log.warning("The raw exposure has no dark time. Using darkScale = 1.0.")
        return 1.0
    return ours / theirs


def dark_pixels(dark: Exposure, detector: Detector, *, in_electrons: bool) -> NDArray[np.float32]:
    """Return a dark frame's pixels in the unit of the exposure it is subtracted from.

    Parameters
    ----------
    dark : `Exposure`
        In electrons, or ADU where its BUNIT says so; not changed.
    detector : `Detector`
        Gains [electrons/ADU].
    in_electrons : `bool`
        Whether electrons are wanted; otherwise ADU.

    Returns
    -------
    pixels : `numpy.ndarray`, shape (ny, nx), float32
        The frame's own where the unit is right already.
    """
    in_adu = str(dark.metadata.get("BUNIT", "electron")).strip().lower() == "adu"
    if in_adu != in_electrons:
        return dark.image
    converted = dark.image.copy()
    for amplifier in detector.amplifiers:
        factor = amplifier.gain if in_adu else 1.0 / amplifier.gain
        converted[box_slices(amplifier.box)] *= np.float32(factor)
    return converted


def remove_fringes(task: PipelineTask, exposure: Exposure, fringe: Exposure | None) -> None:
    """Subtract the fringe pattern at its strength in this exposure, in filters that have fringes.

    Parameters
    ----------
    task : `PipelineTask`
        An isr; its metadata gets the amplitude.
    exposure : `Exposure`
        Flat-fielded; changed.
    fringe : `Exposure`, optional
        Pattern; without one a warning is all that happens.
    """
    config = task.config.fringe
    log = task.log.getChild("fringe")
    task.log.info("Applying fringe correction after flat.")
    if exposure.filter.physical not in config.filters:
        log.info("Filter not found in FringeTaskConfig.filters. Skipping fringe correction.")
        return
    if fringe is None:
        log.warning("No fringe frame for %s. Skipping fringe correction.", exposure.filter.physical)
        return
    amplitude = fringe_amplitude(
        exposure.image,
        exposure.mask,
        fringe.image,
        n_points=config.num,
        half_size=config.small,
        iterations=config.iterations,
        clip_sigma=config.clip,
    )
    subtract_fringe(exposure.image, fringe.image, amplitude)
    log.info("Fringe amplitude: %f.", amplitude)
    task.metadata["FRINGE amplitude"] = amplitude


def replace_masked(task: PipelineTask, exposure: Exposure) -> None:
    """Set BAD pixels to the image's median and interpolate over masked ones, as configured.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    exposure : `Exposure`
        Its image and variance are changed, and INTRP is set.
    """
    config = task.config
    image, mask = exposure.image, exposure.mask
    planes = tuple(config.maskListToInterpolate)
    pixels = find_pixels(mask, {*planes, "BAD"})
    if config.doSetBadRegions and len(pixels):
        level = sample_median(image, mask)
        n_bad = fill_pixels(image, mask, ("BAD",), level, pixels=pixels)
        if n_bad:
            task.log.info("Set %d BAD pixels to %f.", n_bad, level)
    if config.doInterpolate:
        task.log.info("Interpolating masked pixels.")
        known = pixels if "BAD" in planes else None
        interpolate_pixels(image, exposure.variance, mask, planes, pixels=known)


def set_zero_point(task: PipelineTask, exposure: Exposure) -> None:
    """Give a science exposure the rough photometric calibration of its filter.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    exposure : `Exposure`
        Its filter and exposure time say the zero point; gets the calibration.
    """
    info = exposure.visit_info
    if info is not None and info.observation_type not in ("science", ""):
        return
    flux = task.config.fluxMag0T1.get(exposure.filter.physical, task.config.defaultFluxMag0T1)
    time = info.exposure_time_s if info is not None else float("nan")
    if not time > 0:
        task.log.warning("Exposure time is not known; skipping rough zero point.")
        return
    zero_point = 2.5 * np.log10(flux * time)
    task.log.info("Setting rough magnitude zero point: %f", zero_point)
    exposure.photo_calib = PhotoCalib.from_zero_point(float(zero_point))


def record_sky_level(task: PipelineTask, exposure: Exposure) -> None:
    """Measure the sky's level and flatness; log them, and note them in summary statistics and metadata.

    Parameters
    ----------
    task : `PipelineTask`
        An isr.
    exposure : `Exposure`
        Its summary statistics get skyLevel and skySigma, in the image's unit.
    """
    config = task.config
    if not (config.doMeasureBackground or config.doMeasureSky):
        return
    task.log.info("Measuring background level.")
    sky = measure_sky(exposure.image, exposure.mask, mesh_x=config.skyMeshX, mesh_y=config.skyMeshY)
    task.log.info("Flattened sky level: %f +/- %f.", sky.level, sky.sigma)
    if config.doMeasureSky:
        task.log.info("Measuring sky levels in %dx%d grids: %f.", sky.n_x, sky.n_y, sky.mesh_level)
        task.log.info(
            "Sky flatness in %dx%d grids - pp: %f rms: %f.",
            sky.n_x,
            sky.n_y,
            sky.flatness_pp,
            sky.flatness_rms,
        )
    exposure.summary_stats |= {"skyLevel": sky.level, "skySigma": sky.sigma}
    task.metadata["SKYLEVEL"] = sky.level
    task.metadata["SKYSIGMA"] = sky.sigma
