"""Combine: one calibration frame from many, outliers rejected pixel by pixel.

Frames are stacked in blocks of rows, so that memory is a few rows of all frames, not all of them as float64.
Clipping begins as in Rubin's ``MEANCLIP`` statistic, with which its calibration products are combined: about
the median, by the spread between the quartiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .mask import Mask


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clip_block(
    stack: Any, noise: Any, clip_sigma: float, iterations: int, mean: Any, variance: Any, used: Any
) -> None:
    n, height, width = stack.shape
    has_noise = noise.size > 0
    values = np.empty(n, np.float64)
    for y in range(height):
        for x in range(width):
            m = 0
            for i in range(n):
                if np.isfinite(stack[i, y, x]):
                    values[m] = stack[i, y, x]
                    m += 1
            if m == 0:
                mean[y, x] = 0.0
                variance[y, x] = 0.0
                used[y, x] = 0
                continue
            # insertion sort: n is ten or so, and sorted values make median, quartiles and clipping trivial
            for i in range(1, m):
                v = values[i]
                j = i - 1
                while j >= 0 and values[j] > v:
                    values[j + 1] = values[j]
                    j -= 1
                values[j + 1] = v
            low, high = 0, m
            for _ in range(iterations):
                k = high - low
                if k < 3:
                    break
                centre = (
                    values[low + k // 2] if k % 2 else 0.5 * (values[low + k // 2 - 1] + values[low + k // 2])
                )
                # Spread from the inner half where there are frames enough, else what noise explains: among
                # three values an outlier is a third of its own yardstick.
                quartile = k // 4
                sigma = 0.741 * (values[high - 1 - quartile] - values[low + quartile])
                if has_noise:
                    expected = np.sqrt(noise[y, x])
                    sigma = max(sigma, expected) if k >= 8 else expected
                if not sigma > 0.0:
                    break
                new_low, new_high = low, high
                while new_low < new_high and values[new_low] < centre - clip_sigma * sigma:
                    new_low += 1
                while new_high > new_low and values[new_high - 1] > centre + clip_sigma * sigma:
                    new_high -= 1
                if new_low == low and new_high == high:
                    break
                low, high = new_low, new_high
            k = high - low
            total = 0.0
            for i in range(low, high):
                total += values[i]
            average = total / k
            square = 0.0
            for i in range(low, high):
                square += (values[i] - average) ** 2
            mean[y, x] = average
            variance[y, x] = square / (k * (k - 1)) if k > 1 else 0.0
            used[y, x] = k


def combine_images(
    images: Sequence[NDArray[np.float32]],
    *,
    mean_variance: NDArray[np.float32] | None = None,
    clip_sigma: float = 4.0,
    iterations: int = 3,
    block_rows: int = 64,
) -> tuple[NDArray[np.float32], Mask, NDArray[np.float32]]:
    """Average frames with sigma clipping.

    Parameters
    ----------
    images : sequence of `numpy.ndarray`, shape (ny, nx), float32 [any one unit]
        Frames on one scale; NaN where a frame has no value.
    mean_variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the frames squared], optional
        Mean variance of the frames. It says what deviation noise explains, which a handful of values cannot,
        and the result's variance is this over the number of frames used, not the scatter of those values.
    clip_sigma : `float`
        Rejection limit about the median.
    iterations : `int`
        Rounds of rejection.
    block_rows : `int`
        Rows stacked at a time.

    Returns
    -------
    mean : `numpy.ndarray`, shape (ny, nx), float32 [unit of the frames]
        Clipped mean; zero where no frame has a value.
    mask : `Mask`
        NO_DATA where no frame has a value.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the frames squared]
        Variance of the mean.

    Raises
    ------
    ValueError
        If there is no frame, or their shapes differ.
    """
    if not images:
        raise ValueError("There are no frames to combine")
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise ValueError(f"Frames to combine differ in shape: {sorted(shapes)}")
    ny, nx = images[0].shape
    mean = np.empty((ny, nx), dtype=np.float32)
    variance = np.empty((ny, nx), dtype=np.float32)
    used = np.empty((ny, nx), dtype=np.int32)
    no_noise = np.zeros((0, 0), dtype=np.float32)
    for y0 in range(0, ny, block_rows):
        rows = slice(y0, min(y0 + block_rows, ny))
        stack = np.stack([image[rows] for image in images]).astype(np.float32, copy=False)
        noise = no_noise if mean_variance is None else mean_variance[rows]
        _clip_block(stack, noise, clip_sigma, iterations, mean[rows], variance[rows], used[rows])
    if mean_variance is not None:
        variance = (mean_variance / np.maximum(used, 1)).astype(np.float32)
    mask = Mask.zeros((ny, nx))
    mask.set_where(used == 0, "NO_DATA")
    return mean, mask, variance
