"""Saturation: bleed trails are wider than the pixels above the limit.

Growth of trails by their width follows Rubin's ``IsrTask`` (``widenSaturationTrails``).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from .mask import Mask

# Growth to each side of a run of n saturated pixels along a row: narrow runs are cosmic rays or star cores
# and stay; wide ones are bleed trails whose charge spills sideways.
_GROWTH_OF_RUN = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3, 3, 4], dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def _widen_runs(mask: Any, bit: int, growth: Any) -> int:
    n_grown = 0
    height, width = mask.shape
    for y in range(height):
        any_set = 0
        for x in range(width):
            any_set |= mask[y, x]
        if not any_set & bit:
            continue
        x = 0
        while x < width:
            if not mask[y, x] & bit:
                x += 1
                continue
            start = x
            while x < width and mask[y, x] & bit:
                x += 1
            n = x - start
            extra = growth[min(n, growth.size - 1)]
            for k in range(max(start - extra, 0), start):
                if not mask[y, k] & bit:
                    mask[y, k] |= bit
                    n_grown += 1
            stop = min(x + extra, width)
            while x < stop:
                if mask[y, x] & bit:
                    break  # the next run begins; it grows by its own width
                mask[y, x] |= bit
                n_grown += 1
                x += 1
    return n_grown


def widen_saturation_trails(mask: Mask) -> int:
    """Widen runs of SAT along rows, in place.

    Parameters
    ----------
    mask : `Mask`
        Changed.

    Returns
    -------
    n_pixels : `int`
        Pixels added.
    """
    return int(_widen_runs(mask.array, mask.bitmask("SAT"), _GROWTH_OF_RUN))


def grow_mask(mask: Mask, planes: tuple[str, ...], radius: int) -> None:
    """Grow planes by a number of pixels in x and y, in place.

    Parameters
    ----------
    mask : `Mask`
        Changed.
    planes : `tuple` [`str`, ...]
        Planes, each grown by itself.
    radius : `int`
        Pixels; a square neighbourhood.
    """
    if radius <= 0:
        return
    from scipy import ndimage

    for plane in planes:
        where = mask.is_set(plane)
        if where.any():
            mask.set_where(ndimage.maximum_filter(where, size=2 * radius + 1), plane)


def mask_edges(mask: Mask, width: int, plane: str = "SUSPECT") -> None:
    """Set a plane on a frame of ``width`` pixels along the edges, in place."""
    if width <= 0:
        return
    bit = np.int32(mask.bitmask(plane))
    for edge in (np.s_[:width], np.s_[-width:], np.s_[width:-width, :width], np.s_[width:-width, -width:]):
        mask.array[edge] |= bit
