"""Source window: where two pixel grids meet, and which pixels of the one the other needs.

World coordinates are asked for on a sparse grid of nodes only, with what lies between interpolated, as
Rubin's ``warpExposure`` does (there linearly).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .detector import Box
from .sky_wcs import SkyWcs

NODE_SPACING_PIXELS = 64
"""Distance of the nodes at which world coordinates are evaluated. Cubic interpolation between them is good to
1e-6 pixels for the distortion of a wide-field corrector, so the spacing is not a tuning matter."""


KERNEL_ORDER = 3
"""Lanczos order: the kernel reaches this many pixels to each side."""


def map_nodes(
    source: SkyWcs, target: SkyWcs, x_begin: int, y_begin: int, x_end: int, y_end: int
) -> NDArray[np.float64]:
    """Evaluate where output pixels lie in the source, on sparse nodes.

    Parameters
    ----------
    source, target : `SkyWcs`
        World coordinates of the source and output arrays.
    x_begin, y_begin, x_end, y_end : `int`
        Output box, half-open [pixels].

    Returns
    -------
    nodes : `numpy.ndarray`, shape (3, n_nodes_y, n_nodes_x), float64 [pixels, the last square pixels]
        Source x, source y and the area of an output pixel in source pixels, every
        `NODE_SPACING_PIXELS` from one spacing before the box's first pixel to two after its last.
    """
    h = NODE_SPACING_PIXELS
    xs = x_begin + h * np.arange(-1, (x_end - x_begin - 1) // h + 3, dtype=np.float64)
    ys = y_begin + h * np.arange(-1, (y_end - y_begin - 1) // h + 3, dtype=np.float64)
    # One more ring, so that the derivative at every node is a central difference.
    xw = np.concatenate([[xs[0] - h], xs, [xs[-1] + h]])
    yw = np.concatenate([[ys[0] - h], ys, [ys[-1] + h]])
    grid_x, grid_y = np.meshgrid(xw, yw)
    ra, dec = target.pixel_to_sky(grid_x.ravel(), grid_y.ravel())
    sx, sy = (v.reshape(grid_x.shape) for v in source.sky_to_pixel(ra, dec))
    dxdu, dydu = ((v[1:-1, 2:] - v[1:-1, :-2]) / (2 * h) for v in (sx, sy))
    dxdv, dydv = ((v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * h) for v in (sx, sy))
    return np.stack([sx[1:-1, 1:-1], sy[1:-1, 1:-1], np.abs(dxdu * dydv - dxdv * dydu)])


def overlap_box(
    source_shape: tuple[int, int], source: SkyWcs, target_shape: tuple[int, int], target: SkyWcs
) -> tuple[int, int, int, int]:
    """Return the part of the output array that the source covers.

    Parameters
    ----------
    source_shape, target_shape : `tuple` [`int`, `int`]
        (ny, nx).
    source, target : `SkyWcs`
        World coordinates of the two arrays.

    Returns
    -------
    box : `tuple`
        (x_begin, y_begin, x_end, y_end), half-open [pixels]; empty (x_end <= x_begin or y_end <= y_begin)
        where they do not meet.
    """
    ny, nx = source_shape
    along = np.linspace(0.0, 1.0, 9)
    x = np.concatenate([along * (nx - 1), np.full(9, nx - 1.0), along * (nx - 1), np.zeros(9)])
    y = np.concatenate([np.zeros(9), along * (ny - 1), np.full(9, ny - 1.0), along * (ny - 1)])
    ra, dec = source.pixel_to_sky(x, y)
    center_ra, center_dec = target.pixel_to_sky(0.5 * (target_shape[1] - 1), 0.5 * (target_shape[0] - 1))
    # A gnomonic projection mirrors the far side of the sky onto the plane.
    a, d, ca, cd = np.radians(ra), np.radians(dec), np.radians(center_ra), np.radians(center_dec)
    if np.min(np.sin(d) * np.sin(cd) + np.cos(d) * np.cos(cd) * np.cos(a - ca)) < 0.1:
        return (0, 0, 0, 0)
    tx, ty = target.sky_to_pixel(ra, dec)
    margin = 2  # the edge between two of the points may bulge
    return (
        max(0, int(np.floor(tx.min())) - margin),
        max(0, int(np.floor(ty.min())) - margin),
        min(target_shape[1], int(np.ceil(tx.max())) + margin + 1),
        min(target_shape[0], int(np.ceil(ty.max())) + margin + 1),
    )


class SourceWindow(NamedTuple):
    """Where a source and an output array meet.

    Parameters
    ----------
    target_box : `tuple`
        (x_begin, y_begin, x_end, y_end) of the output, half-open [pixels].
    source_box : `tuple`
        (x0, y0, width, height) of the source that is needed for it, kernel included [pixels].
    nodes : `numpy.ndarray`, shape (3, n_nodes_y, n_nodes_x), float64 [pixels, the last square pixels]
        From `map_nodes`, for the target box.
    """

    target_box: tuple[int, int, int, int]
    source_box: Box
    nodes: NDArray[np.float64]


def source_window(
    source_shape: tuple[int, int], source: SkyWcs, target_shape: tuple[int, int], target: SkyWcs
) -> SourceWindow | None:
    """Return which part of a source an output array needs, so that the rest need not be read.

    Parameters
    ----------
    source_shape, target_shape : `tuple` [`int`, `int`]
        (ny, nx).
    source, target : `SkyWcs`
        World coordinates of the two arrays.

    Returns
    -------
    window : `SourceWindow` or None
        None where they do not meet.
    """
    box = overlap_box(source_shape, source, target_shape, target)
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    nodes = map_nodes(source, target, *box)
    # All but the outermost nodes surround the box closely, and bound what lies between them to a pixel.
    inner = nodes[:2, 1:-1, 1:-1]
    ny, nx = source_shape
    x0, y0 = (max(0, int(inner[k].min()) - KERNEL_ORDER - 1) for k in (0, 1))
    x1, y1 = (min(n, int(inner[k].max()) + KERNEL_ORDER + 3) for k, n in ((0, nx), (1, ny)))
    if min(x1 - x0, y1 - y0) < 2 * KERNEL_ORDER:
        return None
    return SourceWindow(box, (x0, y0, x1 - x0, y1 - y0), nodes)
