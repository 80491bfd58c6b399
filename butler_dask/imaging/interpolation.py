"""Interpolation: plausible values for pixels without one, from their neighbours in the row and the column.

Each bad pixel becomes the mean of two linear interpolations, along its row and along its column, each
weighted by the inverse of the gap it spans. A bad column is thus filled along rows and a bleed trail across
itself, without being told which is which. It is a local estimate for display, detection and convolution; the
pixels stay marked. It stands where Rubin has ``interpolateOverDefects`` (linear prediction along rows only;
Bosch et al. 2018, PASJ 70, S5; doi:10.1093/pasj/psx080), and is inverse-distance weighting, which has no
other source.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .mask import Mask

_CHUNK = 64
"""Pixels looked at together: most have no bad one, and to ask that of 64 takes eight instructions."""


@numba.njit(cache=True, nogil=True)
def _pixels_with_bits(mask: Any, bits: int) -> Any:
    height, width = mask.shape
    found = np.empty((1024, 2), np.int32)
    n = 0
    for y in range(height):
        row = mask[y]
        for start in range(0, width, _CHUNK):
            stop = min(start + _CHUNK, width)
            chunk = row[start:stop]
            any_set = 0
            for k in range(chunk.size):
                any_set |= chunk[k]
            if any_set & bits:
                if n + _CHUNK > found.shape[0]:
                    larger = np.empty((2 * found.shape[0], 2), np.int32)
                    larger[:n] = found[:n]
                    found = larger
                for k in range(chunk.size):
                    if chunk[k] & bits:
                        found[n, 0] = y
                        found[n, 1] = start + k
                        n += 1
    return found[:n]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _interpolate_each(
    image: Any, variance: Any, mask: Any, bits: int, found: Any, reach: int, fallback: float, noise: float
) -> Any:
    height, width = mask.shape
    n = found.shape[0]
    values = np.empty(n, np.float32)
    noises = np.empty(n, np.float32)
    for i in range(n):
        y, x = found[i, 0], found[i, 1]
        weight = 0.0
        value = 0.0
        spread = 0.0
        for axis in range(2):
            before = -1
            after = -1
            for d in range(1, reach + 1):
                if before < 0:
                    yy, xx = (y, x - d) if axis == 0 else (y - d, x)
                    if yy >= 0 and xx >= 0 and not mask[yy, xx] & bits:
                        before = d
                if after < 0:
                    yy, xx = (y, x + d) if axis == 0 else (y + d, x)
                    if yy < height and xx < width and not mask[yy, xx] & bits:
                        after = d
                if before > 0 and after > 0:
                    break
            if before > 0 and after > 0:
                gap = before + after
                wa, wb = after / gap, before / gap
                w = 1.0 / gap
            elif before > 0:
                wa, wb, w = 1.0, 0.0, 0.25 / before
            elif after > 0:
                wa, wb, w = 0.0, 1.0, 0.25 / after
            else:
                continue
            w *= w  # a gap of twice the length counts a quarter
            v = 0.0
            s = 0.0
            if before > 0:
                yy, xx = (y, x - before) if axis == 0 else (y - before, x)
                v += wa * image[yy, xx]
                s += wa * variance[yy, xx]
            if after > 0:
                yy, xx = (y, x + after) if axis == 0 else (y + after, x)
                v += wb * image[yy, xx]
                s += wb * variance[yy, xx]
            value += w * v
            spread += w * s
            weight += w
        values[i] = value / weight if weight > 0 else fallback
        noises[i] = spread / weight if weight > 0 else noise
    return values, noises


@numba.njit(cache=True, nogil=True)
def _write_pixels(
    image: Any, variance: Any, mask: Any, found: Any, values: Any, noises: Any, bit: int
) -> None:
    for i in range(found.shape[0]):
        y, x = found[i, 0], found[i, 1]
        image[y, x] = values[i]
        variance[y, x] = noises[i]
        mask[y, x] |= bit


def find_pixels(mask: Mask, planes: Iterable[str]) -> NDArray[np.int32]:
    """Return where any of the planes is set.

    Parameters
    ----------
    mask : `Mask`
        Where to look.
    planes : iterable of `str`
        Plane names.

    Returns
    -------
    pixels : `numpy.ndarray`, shape (n, 2), int32 [pixels]
        Row and column of each, row by row.
    """
    found: NDArray[np.int32] = _pixels_with_bits(mask.array, mask.bitmask(planes))
    return found


def interpolate_pixels(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: Mask,
    planes: tuple[str, ...] = ("BAD", "SAT", "UNMASKEDNAN"),
    *,
    reach: int = 32,
    fallback: float | None = None,
    pixels: NDArray[np.int32] | None = None,
) -> int:
    """Interpolate over masked pixels in place.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Changed.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared]
        Changed. It becomes that of the neighbours used, not that of their mean: the pixel carries no
        information, and must not look as if it did.
    mask : `Mask`
        INTRP is set on the pixels changed.
    planes : `tuple` [`str`, ...]
        Which pixels.
    reach : `int`
        How far neighbours are looked for [pixels].
    fallback : `float`, optional
        Value of pixels with no neighbour in reach; the median of the good pixels (sampled) when not given.
    pixels : `numpy.ndarray`, shape (n, 2), int32 [pixels], optional
        What `find_pixels` returned for ``planes``, where it is known already.

    Returns
    -------
    n_pixels : `int`
        Pixels changed.
    """
    found = find_pixels(mask, planes) if pixels is None else pixels
    if len(found) == 0:
        return 0
    values, noises = _estimates_or_fallback(image, variance, mask, planes, found, reach, fallback)
    _write_pixels(image, variance, mask.array, found, values, noises, mask.bitmask("INTRP"))
    return len(found)


def _estimates_or_fallback(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: Mask,
    planes: tuple[str, ...],
    found: NDArray[np.int32],
    reach: int,
    fallback: float | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    bits = mask.bitmask(planes)
    noise = 0.0
    if fallback is None:
        step = max(int(np.sqrt(image.size / 200_000)), 1)
        good = (mask.array[::step, ::step] & bits) == 0
        fallback = float(np.median(image[::step, ::step][good])) if good.any() else 0.0
        noise = float(np.median(variance[::step, ::step][good])) if good.any() else 0.0
    values: NDArray[np.float32]
    noises: NDArray[np.float32]
    values, noises = _interpolate_each(image, variance, mask.array, bits, found, reach, fallback, noise)
    return values, noises


def estimate_pixels(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: Mask,
    planes: tuple[str, ...],
    *,
    reach: int = 32,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return where planes are set and what interpolation would put there, changing nothing.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Pixels.
    variance : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image squared]
        Their variance.
    mask : `Mask`
        Which pixels are masked.
    planes : `tuple` [`str`, ...]
        By which planes.
    reach : `int`
        How far neighbours are looked for [pixels].

    Returns
    -------
    pixels : `numpy.ndarray`, shape (n, 2), int32 [pixels]
        As `find_pixels` returns.
    values : `numpy.ndarray`, shape (n,), float32 [unit of the image]
        Estimates.
    """
    found = find_pixels(mask, planes)
    if len(found) == 0:
        return found, np.zeros(0, dtype=np.float32)
    return found, _estimates_or_fallback(image, variance, mask, planes, found, reach, None)[0]


def fill_pixels(
    image: NDArray[np.float32],
    mask: Mask,
    planes: tuple[str, ...],
    value: float,
    *,
    pixels: NDArray[np.int32] | None = None,
) -> int:
    """Set masked pixels to one value in place and return how many there are.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Changed.
    mask : `Mask`
        Which pixels.
    planes : `tuple` [`str`, ...]
        By which planes.
    value : `float`
        New value.
    pixels : `numpy.ndarray`, shape (n, 2), int32 [pixels], optional
        What `find_pixels` returned for these planes, among others maybe.
    """
    if pixels is None:
        pixels = find_pixels(mask, planes)
    y, x = pixels[:, 0], pixels[:, 1]
    chosen = (mask.array[y, x] & mask.bitmask(planes)) != 0
    image[y[chosen], x[chosen]] = value
    return int(np.count_nonzero(chosen))
