"""The PSF of a warp: those of the exposures in it, seen through the map between the pixel grids.

Rubin's ``WarpedPsf`` does so wherever the PSF is asked for; here it is done at a grid of positions, and a
polynomial fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from .psf import Psf, polynomial_terms
from .sky_wcs import SkyWcs
from .source_window import overlap_box


def local_affine(source: SkyWcs, target: SkyWcs, x: float, y: float) -> NDArray[np.float64]:
    """Return the derivative of source pixels by output pixels at an output position.

    Parameters
    ----------
    source, target : `SkyWcs`
        World coordinates of the two arrays.
    x, y : `float`
        Output position [pixels].

    Returns
    -------
    matrix : `numpy.ndarray`, shape (2, 2), float64 [source pixels / output pixel]
        [[dx_s/dx, dx_s/dy], [dy_s/dx, dy_s/dy]].
    """
    h = 8.0
    ra, dec = target.pixel_to_sky(np.array([x - h, x + h, x, x]), np.array([y, y, y - h, y + h]))
    sx, sy = source.sky_to_pixel(ra, dec)
    return np.array([[sx[1] - sx[0], sx[3] - sx[2]], [sy[1] - sy[0], sy[3] - sy[2]]]) / (2 * h)


def warped_psf_image(
    psf: Psf, source_xy: tuple[float, float], matrix: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Return the PSF at a source position as seen in the output's pixels, centred, summing to 1.

    Parameters
    ----------
    psf : `Psf`
        PSF of the source.
    source_xy : `tuple` [`float`, `float`]
        Position in the source [pixels].
    matrix : `numpy.ndarray`, shape (2, 2), float64 [source pixels / output pixel]
        From `local_affine`.
    size : `int`
        Odd size of the image [output pixels].

    Returns
    -------
    image : `numpy.ndarray`, shape (size, size), float64 [1]

    Notes
    -----
    The Lanczos-3 kernel keeps the shape of a critically sampled PSF to better than 1e-3 of its peak, so the
    warp's PSF is the source's under the local affine map and no kernel is convolved in.
    """
    kernel = psf.kernel_at(*source_xy)
    half = size // 2
    r = np.arange(-half, half + 1, dtype=np.float64)
    v, u = np.meshgrid(r, r, indexing="ij")
    middle = kernel.shape[0] // 2
    x = (matrix[0, 0] * u + matrix[0, 1] * v) / psf.step + middle
    y = (matrix[1, 0] * u + matrix[1, 1] * v) / psf.step + middle
    image: NDArray[np.float64] = map_coordinates(kernel, [y, x], order=3, mode="constant")
    image /= image.sum()
    return image


class PsfSource(NamedTuple):
    """What the PSF of a warp needs of one exposure in it, its pixels left behind."""

    psf: Psf
    wcs: SkyWcs
    shape: tuple[int, int]


def warped_psf(
    warp_wcs: SkyWcs, shape: tuple[int, int], sources: Sequence[PsfSource], *, n_samples: int = 5
) -> Psf | None:
    """Fit the PSF of a warp from those of the exposures in it.

    Parameters
    ----------
    warp_wcs : `SkyWcs`
        World coordinates of the warp's array.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the warp.
    sources : sequence of `PsfSource`
        PSF, world coordinates and shape of each exposure.
    n_samples : `int`
        Samples along each axis of the part of the warp an exposure covers.

    Returns
    -------
    psf : `Psf` or None
        Polynomial of degree 2, 1 or 0 as the number of samples allows; None if no source reaches the warp.
    """
    positions: list[tuple[float, float]] = []
    images: list[NDArray[np.float64]] = []
    size = max((s.psf.size for s in sources), default=1)
    for source in sources:
        x_begin, y_begin, x_end, y_end = overlap_box(source.shape, source.wcs, shape, warp_wcs)
        if x_end <= x_begin or y_end <= y_begin:
            continue
        gx, gy = np.meshgrid(
            np.linspace(x_begin, x_end - 1, n_samples), np.linspace(y_begin, y_end - 1, n_samples)
        )
        sx, sy = source.wcs.sky_to_pixel(*warp_wcs.pixel_to_sky(gx.ravel(), gy.ravel()))
        ny, nx = source.shape
        # A little outside is inside enough for a PSF model, and an overlap may be a sliver.
        inside = (sx > -0.05 * nx) & (sy > -0.05 * ny) & (sx < 1.05 * nx) & (sy < 1.05 * ny)
        for x, y, px, py in zip(gx.ravel()[inside], gy.ravel()[inside], sx[inside], sy[inside], strict=True):
            matrix = local_affine(source.wcs, warp_wcs, float(x), float(y))
            images.append(warped_psf_image(source.psf, (float(px), float(py)), matrix, size))
            positions.append((float(x), float(y)))
    if not images:
        return None
    degree = 2 if len(images) >= 12 else 1 if len(images) >= 5 else 0
    center = (0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1))
    scale = (max(center[0], 1.0), max(center[1], 1.0))
    xy = np.array(positions)
    terms = polynomial_terms((xy[:, 0] - center[0]) / scale[0], (xy[:, 1] - center[1]) / scale[1], degree)
    while degree > 0 and np.linalg.cond(terms) > 1e3:
        # Samples in one line, or in a corner, do not fix a surface over the whole warp.
        degree -= 1
        terms = terms[: (degree + 1) * (degree + 2) // 2]
    flat = np.stack(images).reshape(len(images), -1)
    coefficients = np.linalg.lstsq(terms.T, flat, rcond=None)[0].reshape(-1, size, size)
    return Psf(np.asarray(coefficients, dtype=np.float64), degree, center, scale)
