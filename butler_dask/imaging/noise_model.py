"""Noise model: the variance of a source's pixels, as a line in its light.

The variance plane holds the source's own photons; weights made from it would favour pixels that fluctuated
low. So measurements weigh by the variance of the sky under a source plus a constant times the *modelled*
light, as optimal extraction does (Horne 1986, PASP 98, 609; doi:10.1086/131801).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure
from .stamps import DEFAULT_BAD_PLANES, Stamps


class NoiseModel(NamedTuple):
    """Variance of n sources' pixels: ``sky + slope * light``.

    Parameters
    ----------
    sky : `numpy.ndarray`, shape (n,), float64 [unit of the image squared]
        What each stamp would have without its source.
    slope : `float`
        Variance per unit of light [unit of the image]; 1 for electrons.
    """

    sky: NDArray[np.float64]
    slope: float


@numba.njit(cache=True, nogil=True)
def _sky_variances(
    data: NDArray[np.float32], variance: NDArray[np.float32], good: NDArray[np.uint8], slope: float
) -> NDArray[np.float64]:
    result = np.empty(data.shape[0])
    for s in range(data.shape[0]):
        total, n = 0.0, 0
        for i in range(data.shape[1]):
            for j in range(data.shape[2]):
                if good[s, i, j]:
                    total += variance[s, i, j] - slope * data[s, i, j]
                    n += 1
        result[s] = total / n if n else np.nan
    return result


def model_noise(exposure: Exposure, labels: NDArray[np.int32], stamps: Stamps) -> NoiseModel:
    """Find the noise model of every stamp: without the part proportional to the light, one number serves it.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
        Footprint numbers.
    stamps : `Stamps`
        Cut-outs of it.

    Returns
    -------
    noise : `NoiseModel`
    """
    slope = variance_slope(exposure, labels)
    values: NDArray[np.float64] = _sky_variances(stamps.data, stamps.variance, stamps.good, slope)
    known = np.isfinite(values) & (values > 0)
    fallback = float(np.median(values[known])) if known.any() else 1.0
    return NoiseModel(np.where(known, values, fallback), slope)


def variance_slope(exposure: Exposure, labels: NDArray[np.int32], step: int = 3) -> float:
    """Return the variance per unit of light (1 for electrons), from bright pixels against the sky.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
        Footprint numbers.
    step : `int`
        Every so many pixels along each axis are looked at.
    """
    image, variance = exposure.image[::step, ::step], exposure.variance[::step, ::step]
    bits = exposure.mask.bitmask([p for p in DEFAULT_BAD_PLANES if p in exposure.mask.planes])
    clean = (exposure.mask.array[::step, ::step] & bits) == 0
    inside = labels[::step, ::step] > 0
    sky = clean & ~inside
    if not sky.any() or not (clean & inside).any():
        return 0.0
    level = float(np.median(variance[sky]))
    bright = clean & inside & (image > 5.0 * np.sqrt(max(level, 0.0)))
    if bright.sum() < 20 or level <= 0:
        return 0.0
    light = image[bright].astype(np.float64)
    slope = float((light * (variance[bright] - level)).sum() / (light * light).sum())
    return max(slope, 0.0)
