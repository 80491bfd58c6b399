"""Cosmic rays: pixels sharper than any star can be.

A star's light falls off from a pixel to its neighbours no faster than the PSF does. A pixel is struck if,
in one of four directions, the mean of its two neighbours is less than the PSF allows, beyond the noise
(condition 3 of the SDSS, Lupton et al. 2001, ASP 238, 269; as in Rubin's ``findCosmicRays``). From such seeds
the track is followed with lower limits, which finds its faint ends and the inside of thick tracks. One pass
looks at every pixel once; all else visits only the few that are struck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure, Pixels
from .psf import Psf


@dataclass(frozen=True, slots=True)
class CosmicRays:
    """Result of `find_cosmic_rays`.

    Parameters
    ----------
    y, x : `numpy.ndarray`, shape (n_pixels,), int64 [pixels]
        Pixels struck.
    n_objects : `int`
        Connected groups of them.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    n_objects: int


class _Limits(NamedTuple):
    """What a pixel must exceed to be struck, see `find_cosmic_rays`; ``fall`` is that of four directions."""

    min_sigma: float
    grow_sigma: float
    fall: NDArray[np.float64]
    grow_fall: float
    noise_factor: float
    n_rounds: int


# The judgement of one pixel is inlined: a call for each would cost 5 %.
@numba.njit(cache=True, nogil=True, inline="always")
def _is_sharp(pixels: Pixels, blocked_bits: int, i: int, j: int, limits: _Limits) -> bool:
    """Whether the pixel stands above the pair of neighbours in some direction by more than the PSF allows."""
    image, mask, variance = pixels.image, pixels.mask, pixels.variance
    ratios, noise_factor = limits.fall, limits.noise_factor
    ny, nx = image.shape
    peak = image[i, j]
    sigma = np.sqrt(variance[i, j])
    for k in range(4):
        if k == 0:
            di, dj = 0, 1
        elif k == 1:
            di, dj = 1, 0
        elif k == 2:
            di, dj = 1, 1
        else:
            di, dj = 1, -1
        total, var, n = 0.0, 0.0, 0
        for sign in (-1, 1):
            a, b = i + sign * di, j + sign * dj
            if a < 0 or b < 0 or a >= ny or b >= nx or mask[a, b] & blocked_bits:
                continue
            total += image[a, b]
            var += variance[a, b]
            n += 1
        if n < 2:
            continue
        mean, mean_sigma = total / n, np.sqrt(var) / n
        if ratios[k] * (peak - noise_factor * sigma) > mean + noise_factor * mean_sigma:
            return True
    return False


@numba.njit(cache=True, nogil=True, inline="always")
def _median_around(pixels: Pixels, blocked_bits: int, struck: NDArray[np.uint8], i: int, j: int) -> float:
    """Lower median of the unstruck pixels in a 5 x 5 box; 0 if there are fewer than three."""
    image, mask = pixels.image, pixels.mask
    ny, nx = image.shape
    values = np.empty(25)
    n = 0
    for a in range(max(0, i - 2), min(ny, i + 3)):
        for b in range(max(0, j - 2), min(nx, j + 3)):
            if not (mask[a, b] & blocked_bits) and not struck[a, b] and not (a == i and b == j):
                values[n] = image[a, b]
                n += 1
    if n < 3:
        return 0.0
    ordered = np.sort(values[:n])
    return float(ordered[(n - 1) // 2])


@numba.njit(cache=True, nogil=True)
def _find_struck(
    pixels: Pixels, blocked_bits: int, limits: _Limits, struck: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return the flat indices of struck pixels, and mark them in ``struck``, which comes zeroed."""
    image, mask, variance = pixels.image, pixels.mask, pixels.variance
    min_sigma, grow_sigma = limits.min_sigma, limits.grow_sigma
    ny, nx = image.shape
    limit2 = np.float32(min_sigma * min_sigma)
    n = 0
    capacity = 4096
    found = np.empty(capacity, np.int64)
    for i in range(ny):
        for j in range(nx):
            v = image[i, j]
            if v <= 0 or v * v <= limit2 * variance[i, j] or mask[i, j] & blocked_bits:
                continue
            if _is_sharp(pixels, blocked_bits, i, j, limits):
                if n == capacity:
                    bigger = np.empty(2 * capacity, np.int64)
                    bigger[:n] = found
                    found, capacity = bigger, 2 * capacity
                found[n] = i * nx + j
                n += 1
    for k in range(n):
        struck[found[k] // nx, found[k] % nx] = 1
    # Follow the tracks: neighbours of struck pixels are judged with those taken out, and less strictly.
    first = 0
    for _ in range(limits.n_rounds):
        last = n
        for k in range(first, last):
            i, j = found[k] // nx, found[k] % nx
            for a in range(max(0, i - 1), min(ny, i + 2)):
                for b in range(max(0, j - 1), min(nx, j + 2)):
                    if struck[a, b] or mask[a, b] & blocked_bits:
                        continue
                    v = image[a, b]
                    if v <= 0 or v * v <= grow_sigma * grow_sigma * variance[a, b]:
                        continue
                    level = _median_around(pixels, blocked_bits, struck, a, b)
                    excess = v - max(level, 0.0) / limits.grow_fall
                    if excess <= grow_sigma * np.sqrt(variance[a, b]):
                        continue
                    if n == capacity:
                        bigger = np.empty(2 * capacity, np.int64)
                        bigger[:n] = found
                        found, capacity = bigger, 2 * capacity
                    struck[a, b] = 1
                    found[n] = a * nx + b
                    n += 1
        if n == last:
            break
        first = last
    return found[:n]


@numba.njit(cache=True, nogil=True)
def _connected_groups(found: NDArray[np.int64], slot: NDArray[np.int32]) -> tuple[int, NDArray[np.int64]]:
    """Return how many connected groups of struck pixels there are, and the group of each pixel."""
    ny, nx = slot.shape
    group = np.full(found.size, -1, np.int64)
    for k in range(found.size):
        slot[found[k] // nx, found[k] % nx] = k + 1
    stack = np.empty(found.size, np.int64)
    count = 0
    for k in range(found.size):
        if group[k] >= 0:
            continue
        group[k] = count
        stack[0] = k
        top = 1
        while top:
            top -= 1
            p = found[stack[top]]
            i, j = p // nx, p % nx
            for a in range(max(0, i - 1), min(ny, i + 2)):
                for b in range(max(0, j - 1), min(nx, j + 2)):
                    m = slot[a, b] - 1
                    if m >= 0 and group[m] < 0:
                        group[m] = count
                        stack[top] = m
                        top += 1
        count += 1
    return count, group


@numba.njit(cache=True, nogil=True)
def _replace_pixels(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    bad: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> None:
    """Replace pixels by the mean of the good ones around, nearest counting most."""
    ny, nx = image.shape
    new_image = np.empty(rows.size, np.float32)
    new_variance = np.empty(rows.size, np.float32)
    for k in range(rows.size):
        i, j = rows[k], columns[k]
        new_image[k], new_variance[k] = 0.0, variance[i, j]
        for radius in range(1, 9):
            total, var, norm, n = 0.0, 0.0, 0.0, 0
            for a in range(max(0, i - radius), min(ny, i + radius + 1)):
                for b in range(max(0, j - radius), min(nx, j + radius + 1)):
                    if bad[a, b] or not np.isfinite(image[a, b]):
                        continue
                    w = 1.0 / ((a - i) ** 2 + (b - j) ** 2) ** 2
                    total += w * image[a, b]
                    var += w * variance[a, b]
                    norm += w
                    n += 1
            if n >= 3:
                new_image[k], new_variance[k] = total / norm, var / norm
                break
    for k in range(rows.size):
        image[rows[k], columns[k]] = new_image[k]
        variance[rows[k], columns[k]] = new_variance[k]


def find_cosmic_rays(
    exposure: Exposure,
    psf: Psf,
    *,
    min_sigma: float = 6.0,
    grow_sigma: float = 2.5,
    contrast: float = 0.6,
    grow_contrast: float = 0.8,
    noise_factor: float = 2.5,
    min_electrons: float = 150.0,
    n_rounds: int = 12,
) -> CosmicRays:
    """Find struck pixels.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted; left as it is.
    psf : `Psf`
        The model, or a guess that is not wider than the truth.
    min_sigma : `float`
        A seed stands this far above the sky.
    grow_sigma : `float`
        A neighbour of a struck pixel is struck too if it exceeds its surroundings by this.
    contrast, grow_contrast : `float`
        Fraction of the PSF's own fall-off that a seed, and a neighbour, must not reach. 1 would be the PSF;
        less leaves room for its errors.
    noise_factor : `float`
        Sigma of the noise granted to pixel and neighbours.
    min_electrons : `float`
        Least charge of an object [unit of the image].
    n_rounds : `int`
        How far, in pixels, a track is followed from its seeds.

    Returns
    -------
    cosmic_rays : `CosmicRays`
    """
    center = psf.image_at(*psf.center)
    h = center.shape[0] // 2
    peak = center[h, h]
    fall = np.array(
        [
            0.5 * (center[h, h - 1] + center[h, h + 1]),
            0.5 * (center[h - 1, h] + center[h + 1, h]),
            0.5 * (center[h - 1, h - 1] + center[h + 1, h + 1]),
            0.5 * (center[h - 1, h + 1] + center[h + 1, h - 1]),
        ]
    ) / peak  # fmt: skip
    mask = exposure.mask
    blocked = mask.bitmask([p for p in ("BAD", "SAT", "NO_DATA", "INTRP", "SUSPECT") if p in mask.planes])
    limits = _Limits(
        float(min_sigma),
        float(grow_sigma),
        contrast * fall,
        float(grow_contrast * fall[:2].mean()),
        float(noise_factor),
        int(n_rounds),
    )
    found = _find_struck(exposure.pixels, blocked, limits, np.zeros(exposure.shape, np.uint8))
    nx = exposure.shape[1]
    count, group = _connected_groups(found, np.zeros(exposure.shape, np.int32))
    charge = np.bincount(group, exposure.image.ravel()[found], minlength=count)
    kept = charge >= min_electrons
    found = found[kept[group]] if count else found
    return CosmicRays(found // nx, found % nx, int(kept.sum()))


def repair_cosmic_rays(exposure: Exposure, cosmic_rays: CosmicRays) -> None:
    """Mask struck pixels (CR and INTRP) and replace them from their surroundings, in place."""
    planes = [p for p in ("BAD", "SAT", "NO_DATA") if p in exposure.mask.planes]
    bad = exposure.mask.is_set(planes).astype(np.uint8)
    bad[cosmic_rays.y, cosmic_rays.x] = 1
    _replace_pixels(exposure.image, exposure.variance, bad, cosmic_rays.y, cosmic_rays.x)
    exposure.mask.array[cosmic_rays.y, cosmic_rays.x] |= np.int32(exposure.mask.bitmask(("CR", "INTRP")))
