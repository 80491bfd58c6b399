"""Sky level: robust median and spread of an image, and how flat the sky is.

The numbers are those that Rubin's ``IsrTask.measureBackground`` reports, from clipped medians.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .mask import Mask

SKY_MASK_PLANES = ("BAD", "SAT", "NO_DATA", "INTRP", "SUSPECT", "CROSSTALK", "DETECTED")
"""Pixels left out of sky statistics."""


def clipped_median(
    values: NDArray[np.float32], *, clip_sigma: float = 3.0, iterations: int = 3
) -> tuple[float, float]:
    """Return median and standard deviation after rejection about the median.

    Parameters
    ----------
    values : `numpy.ndarray`, shape (...), float32 [any unit]
        Pixels; NaN is returned for none.
    clip_sigma : `float`
        Rejection limit.
    iterations : `int`
        Rounds.
    """
    values = np.sort(values, axis=None)  # once sorted, medians and clipping are look-ups
    if values.size == 0:
        return float("nan"), float("nan")
    centre, sigma = _clip_sorted(values, clip_sigma, iterations)
    return float(centre), float(sigma)


@numba.njit(cache=True, nogil=True)
def _clip_sorted(values: Any, clip_sigma: float, iterations: int) -> Any:
    n = values.size
    low, high = 0, n
    centre = 0.5 * (np.float64(values[(n - 1) // 2]) + np.float64(values[n // 2]))
    sigma = 0.741 * (np.float64(values[(3 * n) // 4]) - np.float64(values[n // 4]))
    for _ in range(iterations):
        if not sigma > 0.0:
            break
        while low < high and values[low] < centre - clip_sigma * sigma:
            low += 1
        while high > low and values[high - 1] > centre + clip_sigma * sigma:
            high -= 1
        m = high - low
        if m < 2:
            break
        kept = values[low:high]
        centre = 0.5 * (np.float64(kept[(m - 1) // 2]) + np.float64(kept[m // 2]))
        total = 0.0
        square = 0.0
        for k in range(m):
            difference = np.float64(kept[k]) - centre
            total += difference
            square += difference * difference
        sigma = np.sqrt(max(square / m - (total / m) ** 2, 0.0))
    return centre, sigma


@dataclass(frozen=True, slots=True)
class SkyLevels:
    """Sky statistics of an image.

    Parameters
    ----------
    level, sigma : `float`
        Clipped median and standard deviation of the pixels [image unit].
    mesh_level : `float`
        Median of the meshes' levels.
    n_x, n_y : `int`
        Meshes along x and y.
    flatness_pp, flatness_rms : `float`
        Peak to peak and rms of the meshes' levels over ``mesh_level``.
    """

    level: float
    sigma: float
    mesh_level: float
    n_x: int
    n_y: int
    flatness_pp: float
    flatness_rms: float


def measure_sky(
    image: NDArray[np.float32], mask: Mask, *, mesh_x: int = 256, mesh_y: int = 256, step: int | None = None
) -> SkyLevels:
    """Measure the sky of an image and of its meshes.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Pixels.
    mask : `Mask`
        `SKY_MASK_PLANES` are left out.
    mesh_x, mesh_y : `int`
        Size of a mesh [pixels].
    step : `int`, optional
        Every so many pixels in x and y are used; by default what leaves about 1000 pixels a mesh, which gives
        a mesh's level to 4 % of a pixel's noise and a detector's to 0.4 %.
    """
    if step is None:
        step = max(int(np.sqrt(mesh_x * mesh_y / 1000)), 1)
    ny, nx = image.shape
    bits = mask.bitmask(SKY_MASK_PLANES)
    n_x, n_y = max(nx // mesh_x, 1), max(ny // mesh_y, 1)
    sample = np.where((mask.array[::step, ::step] & bits) == 0, image[::step, ::step], np.float32(np.nan))
    level, sigma = clipped_median(sample[np.isfinite(sample)])
    levels = []
    y_edges = np.linspace(0, sample.shape[0], n_y + 1).astype(int)
    x_edges = np.linspace(0, sample.shape[1], n_x + 1).astype(int)
    for y0, y1 in itertools.pairwise(y_edges):
        for x0, x1 in itertools.pairwise(x_edges):
            cell = sample[y0:y1, x0:x1]
            cell = cell[np.isfinite(cell)]
            if cell.size:
                levels.append(clipped_median(cell)[0])
    meshes = np.array(levels if levels else [np.nan])
    middle = float(np.median(meshes))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = (meshes - middle) / middle
    return SkyLevels(
        level,
        sigma,
        middle,
        n_x,
        n_y,
        float(relative.max() - relative.min()),
        float(np.sqrt(np.mean(relative**2))),
    )


def sample_median(image: NDArray[np.float32], mask: Mask, *, n_pixels: int = 150_000) -> float:
    """Return the median of the good pixels; NaN if there are none.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Pixels.
    mask : `Mask`
        `SKY_MASK_PLANES` are left out.
    n_pixels : `int`
        Size of the regular sample that is looked at, about.
    """
    step = max(int(np.sqrt(image.size / n_pixels)), 1)
    good = (mask.array[::step, ::step] & mask.bitmask(SKY_MASK_PLANES)) == 0
    values = image[::step, ::step][good]
    return float(np.median(values)) if values.size else float("nan")
