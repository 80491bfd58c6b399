"""Frame correction: gain, noise model, dark and flat, in as few passes over the pixels as they allow.

Variance is photon noise of the signal plus read noise, in electrons squared, before anything is subtracted or
divided; noise of the calibration frames is added where they have it. Steps, noise model and mask planes are
those of Rubin's ``IsrTask`` (``updateVariance``, ``darkCorrection``, ``flatCorrection``).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .detector import Detector, box_slices
from .mask import Mask

_NO_IMAGE = np.zeros((0, 0), dtype=np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gain_and_variance(
    image: Any,
    variance: Any,
    mask: Any,
    bias_variance: Any,
    gain: float,
    scale: float,
    read_variance: float,
    nan_bit: int,
) -> int:
    n_bad = 0
    height, width = image.shape
    has_bias = bias_variance.size > 0
    inverse = scale / gain  # variance unit: electrons squared times scale squared
    for y in range(height):
        total = np.float32(0.0)
        for x in range(width):
            value = image[y, x] * scale
            image[y, x] = value
            variance[y, x] = max(value, np.float32(0.0)) * inverse + read_variance
            total += value * np.float32(0.0)  # NaN or infinity anywhere in the row shows here
        if has_bias:
            for x in range(width):
                variance[y, x] += bias_variance[y, x] * (scale * scale)
        if total != np.float32(0.0):
            for x in range(width):
                if not np.isfinite(image[y, x]):
                    mask[y, x] |= nan_bit
                    image[y, x] = np.float32(0.0)
                    variance[y, x] = read_variance
                    n_bad += 1
    return n_bad


def apply_gain_and_variance(
    image: NDArray[np.float32],
    mask: Mask,
    detector: Detector,
    *,
    apply_gains: bool = True,
    bias_variance: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Convert to electrons in place and make the variance plane.

    Parameters
    ----------
    image : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU above bias]
        Changed in place; in electrons afterwards, if gains are applied.
    mask : `Mask`
        UNMASKEDNAN is set on pixels that are not finite; they become zero.
    detector : `Detector`
        Gains [e-/ADU] and read noises [e-].
    apply_gains : `bool`
        Leave the image in ADU when false; the variance follows.
    bias_variance : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU^2], optional
        Variance of the bias frame, added.

    Returns
    -------
    variance : `numpy.ndarray`, shape `Detector.shape`, float32 [electrons^2, or ADU^2 without gains]
        Variance of the image.
    n_nan : `int`
        Pixels that were not finite.
    """
    variance = np.empty_like(image)
    n_nan = 0
    for amplifier in detector.amplifiers:
        section = box_slices(amplifier.box)
        scale = amplifier.gain if apply_gains else 1.0
        n_nan += _gain_and_variance(
            image[section],
            variance[section],
            mask.array[section],
            _NO_IMAGE if bias_variance is None else bias_variance[section],
            np.float32(amplifier.gain),
            np.float32(scale),
            np.float32((amplifier.read_noise * scale / amplifier.gain) ** 2),
            mask.bitmask("UNMASKEDNAN"),
        )
    return variance, n_nan


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _dark_and_flat(
    image: Any,
    variance: Any,
    mask: Any,
    dark: Any,
    dark_variance: Any,
    dark_scale: float,
    flat: Any,
    flat_variance: Any,
    bad: int,
) -> None:
    height, width = image.shape
    has_dark, has_flat = dark.size > 0, flat.size > 0
    has_dark_noise, has_noise = dark_variance.size > 0, flat_variance.size > 0
    one = np.float32(1.0)
    for y in range(height):
        if has_dark:
            for x in range(width):
                image[y, x] -= dark[y, x] * dark_scale
        if has_dark_noise:
            for x in range(width):
                variance[y, x] += dark_variance[y, x] * (dark_scale * dark_scale)
        if has_flat:
            lowest = flat[y, 0]
            for x in range(width):
                lowest = min(lowest, flat[y, x])
            if not lowest > np.float32(0.0):  # division by zero, negative or NaN somewhere in this row
                for x in range(width):
                    if not flat[y, x] > np.float32(0.0):
                        mask[y, x] |= bad
            for x in range(width):
                f = flat[y, x]
                inverse = one / f if f > np.float32(0.0) else one
                image[y, x] *= inverse
                variance[y, x] *= inverse * inverse
                if has_noise:
                    relative = image[y, x] * inverse
                    variance[y, x] += flat_variance[y, x] * relative * relative


def apply_dark_and_flat(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: Mask,
    *,
    dark: NDArray[np.float32] | None = None,
    dark_scale: float = 1.0,
    dark_variance: NDArray[np.float32] | None = None,
    flat: NDArray[np.float32] | None = None,
    flat_variance: NDArray[np.float32] | None = None,
) -> None:
    """Subtract the scaled dark and divide by the flat, in place.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [electrons or ADU]
        Pixels, changed in place.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared]
        Their variance, changed in place.
    mask : `Mask`
        BAD is set where the flat is not positive; such pixels are not divided.
    dark : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image], optional
        Dark frame.
    dark_variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared], optional
        Its variance.
    dark_scale : `float`
        Dark time of the image over that of the dark.
    flat : `numpy.ndarray`, shape (ny, nx), float32 [1], optional
        Relative response, around 1.
    flat_variance : `numpy.ndarray`, shape (ny, nx), float32 [1], optional
        Its variance.

    Raises
    ------
    ValueError
        If a frame has another shape than the image.
    """
    for name, frame in (("dark", dark), ("flat", flat)):
        if frame is not None and frame.shape != image.shape:
            raise ValueError(f"The {name} has shape {frame.shape}, the image {image.shape}")
    _dark_and_flat(
        image,
        variance,
        mask.array,
        _NO_IMAGE if dark is None else dark,
        _NO_IMAGE if dark is None or dark_variance is None else dark_variance,
        np.float32(dark_scale),
        _NO_IMAGE if flat is None else flat,
        _NO_IMAGE if flat is None or flat_variance is None else flat_variance,
        mask.bitmask("BAD"),
    )


def merge_calibration_mask(mask: Mask, calibration: Mask) -> None:
    """Set BAD where a calibration frame is bad or has no data, in place.

    Parameters
    ----------
    mask : `Mask`
        Changed.
    calibration : `Mask`
        Mask of a bias, dark or flat.
    """
    names = [n for n in ("BAD", "NO_DATA", "UNMASKEDNAN") if n in calibration.planes]
    bits = calibration.bitmask(names)
    _set_where_any_bit(mask.array, calibration.array, bits, mask.bitmask("BAD"))


@numba.njit(cache=True, nogil=True)
def _set_where_any_bit(target: Any, source: Any, bits: int, value: int) -> None:
    height, width = target.shape
    for y in range(height):
        row = source[y]
        any_set = 0
        for x in range(width):
            any_set |= row[x]
        if any_set & bits:
            for x in range(width):
                if row[x] & bits:
                    target[y, x] |= value
