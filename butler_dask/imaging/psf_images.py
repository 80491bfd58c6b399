"""Images of a Psf at many positions at once, and the fit of one to a star.

`Psf.image_at` serves one position with scipy; measuring a thousand sources asks for compiled loops. Both
evaluate the same cubic spline through the kernel samples, so what is fitted is what is measured with. With a
separable spline one sub-pixel shift costs 4 + 4 products a pixel. Coefficients and weights are those of the
cubic B-spline (Unser 1999, IEEE Signal Process. Mag. 16(6), 22; doi:10.1109/79.799930).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import spline_filter1d

from .psf import Psf, polynomial_terms


class PsfSpline(NamedTuple):
    """A Psf made ready for compiled loops over n positions.

    Parameters
    ----------
    coefficients : `numpy.ndarray`, shape (n_terms, size + 6, size + 6), float64 [1]
        Cubic B-spline coefficients of each polynomial term's kernel, bordered by three zeros on each side, so
        that no tap falls outside.
    terms : `numpy.ndarray`, shape (n, n_terms), float64 [1]
        Polynomial terms at each position.
    step : `float`
        Kernel sampling [pixels].
    """

    coefficients: NDArray[np.float64]
    terms: NDArray[np.float64]
    step: float


def psf_spline(psf: Psf, x: ArrayLike, y: ArrayLike) -> PsfSpline:
    """Prepare a Psf for compiled loops.

    Parameters
    ----------
    psf : `Psf`
        The model.
    x, y : array_like, shape (n,), float64 [pixels]
        Positions.

    Returns
    -------
    spline : `PsfSpline`
    """
    filtered = np.zeros((len(psf.coefficients), psf.coefficients.shape[1] + 6, psf.coefficients.shape[1] + 6))
    for i, kernel in enumerate(psf.coefficients):
        once = spline_filter1d(kernel, order=3, axis=0)
        filtered[i, 3:-3, 3:-3] = spline_filter1d(once, order=3, axis=1)
    xa, ya = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
    terms = polynomial_terms(
        (xa - psf.center[0]) / psf.scale[0], (ya - psf.center[1]) / psf.scale[1], psf.degree
    )
    return PsfSpline(filtered, np.ascontiguousarray(terms.T), float(psf.step))


@numba.njit(cache=True, nogil=True)
def _spline_weights(
    offset: float, n: int, half: int, step: float, kernel_size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """First spline coefficient, weights and weight derivatives of each output row or column."""
    first = np.empty(n, np.int64)
    weights = np.empty((n, 4))
    slopes = np.empty((n, 4))
    middle = kernel_size // 2
    for j in range(n):
        position = (j - half - offset) / step + middle
        base = int(np.floor(position))
        t = position - base
        first[j] = base - 1 + 3
        u = 1.0 - t
        weights[j, 0] = u * u * u / 6.0
        weights[j, 1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
        weights[j, 2] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
        weights[j, 3] = t * t * t / 6.0
        # d position / d offset = -1 / step
        slopes[j, 0] = 0.5 * u * u / step
        slopes[j, 1] = (2.0 * t - 1.5 * t * t) / step
        slopes[j, 2] = -(2.0 * u - 1.5 * u * u) / step
        slopes[j, 3] = -0.5 * t * t / step
        if first[j] < 0 or first[j] + 3 >= kernel_size + 6:
            first[j] = 0
            for k in range(4):
                weights[j, k] = 0.0
                slopes[j, k] = 0.0
    return first, weights, slopes


@numba.njit(cache=True, nogil=True)
def kernel_spline(spline: PsfSpline, k: int) -> NDArray[np.float64]:
    """Return the spline coefficients of the kernel at one position.

    Parameters
    ----------
    spline : `PsfSpline`
        The model.
    k : `int`
        Which of its positions.

    Returns
    -------
    kernel : `numpy.ndarray`, shape (size + 6, size + 6), float64 [1]
    """
    size = spline.coefficients.shape[1]
    kernel = np.zeros((size, size))
    for t in range(spline.terms.shape[1]):
        w = spline.terms[k, t]
        coefficients = spline.coefficients[t]
        for i in range(size):
            for j in range(size):
                kernel[i, j] += w * coefficients[i, j]
    return kernel


@numba.njit(cache=True, nogil=True)
def render(
    kernel: NDArray[np.float64],
    dx: float,
    dy: float,
    half: int,
    step: float,
    gradient: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return a PSF image displaced by (dx, dy) and, if asked, its derivatives by dx and dy.

    Parameters
    ----------
    kernel : `numpy.ndarray`, shape (size + 6, size + 6), float64 [1]
        Of `kernel_spline`.
    dx, dy : `float`
        Displacement from the middle pixel [pixels].
    half : `int`
        The image has 2 half + 1 pixels a side.
    step : `float`
        Kernel sampling [pixels].
    gradient : `bool`
        Whether to fill the derivatives (else they are empty).

    Returns
    -------
    image : `numpy.ndarray`, shape (2 half + 1, 2 half + 1), float64 [1]
        Not normalised.
    by_dx, by_dy : `numpy.ndarray`, shape (2 half + 1, 2 half + 1), float64 [1 / pixel]
        Its derivatives; of shape (0, 2 half + 1) if not asked for.
    """
    size = kernel.shape[0]
    n = 2 * half + 1
    jx, wx, sx = _spline_weights(dx, n, half, step, size - 6)
    iy, wy, sy = _spline_weights(dy, n, half, step, size - 6)
    rows = np.empty((size, n))
    rows_slope = np.empty((size if gradient else 0, n))
    for i in range(iy.min(), min(iy.max() + 4, size)):
        for j in range(n):
            b = jx[j]
            rows[i, j] = (
                wx[j, 0] * kernel[i, b]
                + wx[j, 1] * kernel[i, b + 1]
                + wx[j, 2] * kernel[i, b + 2]
                + wx[j, 3] * kernel[i, b + 3]
            )
            if gradient:
                rows_slope[i, j] = (
                    sx[j, 0] * kernel[i, b]
                    + sx[j, 1] * kernel[i, b + 1]
                    + sx[j, 2] * kernel[i, b + 2]
                    + sx[j, 3] * kernel[i, b + 3]
                )
    image = np.empty((n, n))
    by_dx = np.empty((n if gradient else 0, n))
    by_dy = np.empty((n if gradient else 0, n))
    for i in range(n):
        b = iy[i]
        for j in range(n):
            image[i, j] = (
                wy[i, 0] * rows[b, j]
                + wy[i, 1] * rows[b + 1, j]
                + wy[i, 2] * rows[b + 2, j]
                + wy[i, 3] * rows[b + 3, j]
            )
            if gradient:
                by_dy[i, j] = (
                    sy[i, 0] * rows[b, j]
                    + sy[i, 1] * rows[b + 1, j]
                    + sy[i, 2] * rows[b + 2, j]
                    + sy[i, 3] * rows[b + 3, j]
                )
                by_dx[i, j] = (
                    wy[i, 0] * rows_slope[b, j]
                    + wy[i, 1] * rows_slope[b + 1, j]
                    + wy[i, 2] * rows_slope[b + 2, j]
                    + wy[i, 3] * rows_slope[b + 3, j]
                )
    return image, by_dx, by_dy


@numba.njit(cache=True, nogil=True)
def _render_all(
    spline: PsfSpline, dx: NDArray[np.float64], dy: NDArray[np.float64], half: int
) -> NDArray[np.float32]:
    n = 2 * half + 1
    images = np.empty((dx.size, n, n), np.float32)
    for i in range(dx.size):
        image, _, _ = render(kernel_spline(spline, i), dx[i], dy[i], half, spline.step, False)
        total = image.sum()
        images[i] = image / total if total != 0 else image
    return images


def psf_images(
    psf: Psf, x: ArrayLike, y: ArrayLike, *, centered: bool = False, size: int | None = None
) -> NDArray[np.float32]:
    """Return the images of point sources at many positions, each summing to 1.

    Parameters
    ----------
    psf : `Psf`
        The model.
    x, y : array_like, shape (n,), float64 [pixels]
        Positions.
    centered : `bool`
        Centre each on its middle pixel (True), or leave it at its offset from the nearest pixel (False).
    size : `int`, optional
        Odd size of the images; the PSF's own when not given.

    Returns
    -------
    images : `numpy.ndarray`, shape (n, size, size), float32 [1]
        The same values as `Psf.image_at` to float32 precision, but for the outermost pixel.
    """
    xa, ya = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
    dx, dy = (np.zeros_like(xa), np.zeros_like(ya)) if centered else (xa - np.rint(xa), ya - np.rint(ya))
    half = (psf.size if size is None else size) // 2
    images: NDArray[np.float32] = _render_all(psf_spline(psf, xa, ya), dx, dy, half)
    return images
