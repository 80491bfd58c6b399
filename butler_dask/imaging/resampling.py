"""Resampling of an exposure onto another pixel grid: Lanczos-3, with mask and variance.

One pass over the output: the source position of a pixel comes from a cubic interpolation of a sparse grid
of nodes (astropy is asked for a few hundred positions, never for every pixel), the six weights of each axis
from a table. Image and variance share positions and weights; the mask is looked at under the same kernel.
Noise becomes correlated between neighbours, as with any such kernel; the variance plane holds the variance of
each pixel, not the covariance.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure, Pixels
from .mask import FULL_FOOTPRINT_PLANES, Mask
from .photo_calib import PhotoCalib
from .sky_wcs import SkyWcs
from .source_window import KERNEL_ORDER, NODE_SPACING_PIXELS, source_window

_TAPS = 2 * KERNEL_ORDER
_TABLE_STEPS = 1024


@lru_cache(maxsize=1)
def _weight_table() -> NDArray[np.float32]:
    """Tabulate the normalised Lanczos-3 weights, shape (steps + 2, 8), float32, by fractional position.

    Row k is the fraction k / steps; tap t is the pixel at floor(x) - 2 + t, the last two are zero. Each row
    is divided by its sum, so that a constant stays constant (Lanczos weights alone ripple by 1 %).
    """
    fraction = np.arange(_TABLE_STEPS + 2)[:, np.newaxis] / _TABLE_STEPS
    distance = fraction - (np.arange(_TAPS) - (KERNEL_ORDER - 1))[np.newaxis, :]
    weights = np.where(
        np.abs(distance) < KERNEL_ORDER, np.sinc(distance) * np.sinc(distance / KERNEL_ORDER), 0.0
    )
    result = np.zeros((_TABLE_STEPS + 2, 8), dtype=np.float32)
    result[:, :_TAPS] = weights / weights.sum(axis=1, keepdims=True)
    return result


@numba.njit(cache=True, nogil=True)
def _flagged_blocks(mask: NDArray[np.int32], planes: int) -> NDArray[np.bool_]:
    """Return where a kernel footprint may touch a pixel with any of ``planes`` set.

    Shape (ny // 8 + 2, nx // 8 + 2): element [j, i] tells for footprints whose first pixel is in the block of
    8 x 8 pixels [j, i]; they reach into the next block of each axis. A map this small costs nothing to make,
    and spares nearly every output pixel the look at 36 mask pixels.
    """
    ny, nx = mask.shape
    blocks = np.zeros((ny // 8 + 2, nx // 8 + 2), dtype=np.bool_)
    for y in range(ny):
        for x in range(nx):
            if mask[y, x] & planes != 0:
                j, i = y >> 3, x >> 3
                blocks[j, i] = True
                blocks[j, max(i - 1, 0)] = True
                blocks[max(j - 1, 0), i] = True
                blocks[max(j - 1, 0), max(i - 1, 0)] = True
    return blocks


@numba.njit(cache=True, nogil=True)
def _cubic_weights(t: float) -> tuple[float, float, float, float]:
    """Return the four-point Lagrange weights at a fraction t between the two middle points."""
    return (
        -t * (t - 1.0) * (t - 2.0) / 6.0,
        (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0,
        -(t + 1.0) * t * (t - 2.0) / 2.0,
        (t + 1.0) * t * (t - 1.0) / 6.0,
    )


class _MaskRules(NamedTuple):
    """Bits spread over the whole kernel, where they may be met (`_flagged_blocks`); the bit of no data."""

    full_planes: int
    blocks: NDArray[np.bool_]
    no_data: int


# Inlined: a call a row costs 3 %.
@numba.njit(cache=True, nogil=True, inline="always", fastmath={"reassoc", "contract", "nsz", "arcp"})
def _fill_positions(
    nodes: NDArray[np.float64],
    row: int,
    weights: NDArray[np.float64],
    line: NDArray[np.float64],
    position: NDArray[np.float64],
) -> None:
    """Interpolate the nodes at all pixels of one row of the box, in loops that become vector instructions.

    ``weights``, shape (4, spacing), are the cubic weights along x; ``line``, shape (3, nodes along x), is
    scratch.
    """
    spacing = weights.shape[1]
    n_x = position.shape[1]
    cell_y = row // spacing
    a, b, c, d = _cubic_weights((row - cell_y * spacing) / spacing)
    for k in range(3):
        for i in range(line.shape[1]):
            line[k, i] = (
                a * nodes[k, cell_y, i]
                + b * nodes[k, cell_y + 1, i]
                + c * nodes[k, cell_y + 2, i]
                + d * nodes[k, cell_y + 3, i]
            )
    for cell_x in range((n_x - 1) // spacing + 1):
        first = cell_x * spacing
        for k in range(3):
            n0, n1, n2, n3 = (
                line[k, cell_x],
                line[k, cell_x + 1],
                line[k, cell_x + 2],
                line[k, cell_x + 3],
            )
            for i in range(min(spacing, n_x - first)):
                position[k, first + i] = (
                    weights[0, i] * n0 + weights[1, i] * n1 + weights[2, i] * n2 + weights[3, i] * n3
                )


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _resample(
    source: Pixels,
    rules: _MaskRules,
    nodes: NDArray[np.float64],
    spacing: int,
    table: NDArray[np.float32],
    scale: float,
    box: tuple[int, int, int, int],
    out: Pixels,
) -> int:
    """Fill the output box; return the number of pixels with data.

    ``nodes`` has shape (3, ny, nx): source x, source y and source pixels per output pixel; node [1, 1] lies
    on the first pixel of the box.
    """
    image, mask, variance = source.image, source.mask, source.variance
    out_image, out_mask, out_variance = out.image, out.mask, out.variance
    blocks, full_planes, no_data = rules.blocks, rules.full_planes, rules.no_data
    x_begin, y_begin, x_end, y_end = box
    ny, nx = image.shape
    steps = table.shape[0] - 2
    pixels, variances = image.ravel(), variance.ravel()
    line = np.empty((3, nodes.shape[2]))
    position = np.empty((3, x_end - x_begin))
    weights = np.empty((4, spacing))
    for i in range(spacing):
        weights[0, i], weights[1, i], weights[2, i], weights[3, i] = _cubic_weights(i / spacing)
    filled = 0
    for y in range(y_begin, y_end):
        _fill_positions(nodes, y - y_begin, weights, line, position)
        for x in range(x_begin, x_end):
            sx, sy = position[0, x - x_begin], position[1, x - x_begin]
            ix, iy = int(np.floor(sx)), int(np.floor(sy))
            if ix < 2 or iy < 2 or ix + 3 >= nx or iy + 3 >= ny or (iy + 4 == ny and ix + 5 >= nx):
                continue
            area = position[2, x - x_begin]
            px, py = (sx - ix) * steps, (sy - iy) * steps
            kx, ky = int(px), int(py)
            fx, fy = np.float32(px - kx), np.float32(py - ky)
            # One loop of eight, two of its weights zero, without stores, on unsigned indices: LLVM makes it
            # vector instructions, three times faster than six by six. The two surplus pixels may lie in the
            # next row; a pixel that is not finite spoils what reads it there too.
            y0 = table[ky, 0] + fy * (table[ky + 1, 0] - table[ky, 0])
            y1 = table[ky, 1] + fy * (table[ky + 1, 1] - table[ky, 1])
            y2 = table[ky, 2] + fy * (table[ky + 1, 2] - table[ky, 2])
            y3 = table[ky, 3] + fy * (table[ky + 1, 3] - table[ky, 3])
            y4 = table[ky, 4] + fy * (table[ky + 1, 4] - table[ky, 4])
            y5 = table[ky, 5] + fy * (table[ky + 1, 5] - table[ky, 5])
            r0 = (iy - 2) * nx + ix - 2
            r1, r2, r3, r4, r5 = r0 + nx, r0 + 2 * nx, r0 + 3 * nx, r0 + 4 * nx, r0 + 5 * nx
            value, noise = np.float32(0.0), np.float32(0.0)
            for i in range(8):
                u = np.uint64(i)
                wx = table[kx, u] + fx * (table[kx + 1, u] - table[kx, u])
                value += wx * (
                    y0 * pixels[np.uint64(r0) + u]
                    + y1 * pixels[np.uint64(r1) + u]
                    + y2 * pixels[np.uint64(r2) + u]
                    + y3 * pixels[np.uint64(r3) + u]
                    + y4 * pixels[np.uint64(r4) + u]
                    + y5 * pixels[np.uint64(r5) + u]
                )
                noise += (wx * wx) * (
                    y0 * y0 * variances[np.uint64(r0) + u]
                    + y1 * y1 * variances[np.uint64(r1) + u]
                    + y2 * y2 * variances[np.uint64(r2) + u]
                    + y3 * y3 * variances[np.uint64(r3) + u]
                    + y4 * y4 * variances[np.uint64(r4) + u]
                    + y5 * y5 * variances[np.uint64(r5) + u]
                )
            factor = scale * area
            if not (np.isfinite(value) and np.isfinite(noise)):
                continue
            out_image[y, x] = value * factor
            out_variance[y, x] = noise * factor * factor
            bits = mask[iy, ix] | mask[iy, ix + 1] | mask[iy + 1, ix] | mask[iy + 1, ix + 1]
            if blocks[(iy - 2) >> 3, (ix - 2) >> 3]:
                touched = np.int32(0)
                for j in range(6):
                    for i in range(6):
                        touched |= mask[iy - 2 + j, ix - 2 + i]
                bits |= touched & full_planes
            out_mask[y, x] = bits
            if bits & no_data == 0:
                filled += 1
    return filled


def empty_warp(shape: tuple[int, int], wcs: SkyWcs, xy0: tuple[int, int] = (0, 0)) -> Exposure:
    """Make an exposure in nJy with no data: image NaN, variance infinite, NO_DATA set.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        (ny, nx).
    wcs : `SkyWcs`
        World coordinates of the array.
    xy0 : `tuple` [`int`, `int`]
        Place of the array in the tract [pixels].
    """
    mask = Mask.zeros(shape)
    mask.array[:] = mask.bitmask("NO_DATA")
    return Exposure(
        np.full(shape, np.nan, dtype=np.float32),
        mask,
        np.full(shape, np.inf, dtype=np.float32),
        xy0,
        wcs,
        photo_calib=PhotoCalib(1.0),
        metadata={"BUNIT": "nJy"},
    )


def resample_into(
    warp: Exposure,
    source: Exposure,
    *,
    full_footprint_planes: Iterable[str] = FULL_FOOTPRINT_PLANES,
) -> int:
    """Resample an exposure into the pixels of a warp that have no data yet.

    Parameters
    ----------
    warp : `Exposure`
        As made by `empty_warp`, perhaps with other detectors of the visit in it already; changed in place.
    source : `Exposure`
        Calibrated exposure with ``wcs`` and ``photo_calib``; not changed.
    full_footprint_planes : iterable of `str`
        Mask planes spread over the whole kernel footprint.

    Returns
    -------
    n_good : `int`
        Number of pixels this source filled with data.

    Raises
    ------
    ValueError
        If the source lacks a WCS or photometric calibration.

    Notes
    -----
    Value of an output pixel: sum of Lanczos-3 weights (Duchon 1979, J. Appl. Meteor. 18, 1016;
    doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2) times source pixels, times the photometric
    calibration [nJy per unit], times the output pixel's area in source pixels, so that the sum over a star is
    its flux in nJy. Variance: the same with squared weights and factors.
    """
    if source.wcs is None or source.photo_calib is None or warp.wcs is None:
        missing = [
            n
            for n, v in (
                ("source wcs", source.wcs),
                ("source photo_calib", source.photo_calib),
                ("warp wcs", warp.wcs),
            )
            if v is None
        ]
        raise ValueError(f"Cannot resample: no {', '.join(missing)}; run calibrate on the exposure first")
    window = source_window(source.shape, source.wcs, warp.shape, warp.wcs)
    if window is None:
        return 0
    for name in source.mask.planes:
        warp.mask.add_plane(name)
    box, nodes = window.target_box, window.nodes
    x0, y0, width, height = window.source_box
    x1, y1 = x0 + width, y0 + height
    nodes[0] -= x0
    nodes[1] -= y0
    part = (slice(y0, y1), slice(x0, x1))
    target_mask = _translated_planes(Mask(source.mask.array[part], source.mask.planes), warp.mask)
    full = warp.mask.bitmask(p for p in full_footprint_planes if p in source.mask.planes)
    no_data = warp.mask.bitmask("NO_DATA")
    first = bool(np.all(warp.mask.array[box[1] : box[3], box[0] : box[2]] & no_data))
    out = warp if first else empty_warp(warp.shape, warp.wcs)
    filled: int = _resample(
        Pixels(
            np.ascontiguousarray(source.image[part], dtype=np.float32),
            target_mask,
            np.ascontiguousarray(source.variance[part], dtype=np.float32),
        ),
        _MaskRules(full, _flagged_blocks(target_mask, full), no_data),
        nodes,
        NODE_SPACING_PIXELS,
        _weight_table(),
        float(source.photo_calib.calibration_mean),
        box,
        out.pixels,
    )
    if not first:
        over = (slice(box[1], box[3]), slice(box[0], box[2]))
        take = ((warp.mask.array[over] & no_data) != 0) & ((out.mask.array[over] & no_data) == 0)
        warp.image[over][take] = out.image[over][take]
        warp.variance[over][take] = out.variance[over][take]
        warp.mask.array[over][take] = out.mask.array[over][take]
        filled = int(take.sum())
    return filled


def _translated_planes(mask: Mask, target: Mask) -> NDArray[np.int32]:
    """Return the mask's pixels with the bit numbers of another mask's planes."""
    moved = {b: target.planes[n] for n, b in mask.planes.items() if target.planes[n] != b}
    if not moved:
        return np.ascontiguousarray(mask.array)
    result = mask.array & np.int32(~sum(1 << b for b in moved))
    for old, new in moved.items():
        result |= ((mask.array >> old) & 1) << new
    return result.astype(np.int32)
