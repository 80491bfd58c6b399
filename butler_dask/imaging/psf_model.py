"""PSF model: kernel pixels that are polynomials in position, fitted to star images.

Each star's residual from the present model is carried to the model's grid by the same spline that renders
the model, and every kernel pixel is refitted as a polynomial over the stars; a few rounds give the least-
squares model *of that rendering*, so that interpolation errors are fitted away rather than left in the
photometry. Compared with solving for all pixels at once (PSFEx; Bertin 2011, ASP 442, 435) the matrices
stay at the size of the polynomial. Where stars say little, kernel pixels are drawn to the radial profile
and their changes with position to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d

from .exposure import Exposure
from .photometry import fit_psfs
from .psf import Psf, polynomial_terms
from .psf_images import combine, position_terms, psf_images, render, spline_coefficients
from .shapes import windowed_centroids
from .stamps import SourceList, cut_stamps, sky_variances, variance_slope


@dataclass(frozen=True, slots=True)
class PsfFit:
    """Result of `fit_psf_model`.

    Parameters
    ----------
    psf : `Psf`
        The model.
    used : `numpy.ndarray`, shape (n,), bool
        Stars that were not thrown out.
    chi2 : `numpy.ndarray`, shape (n,), float64
        Reduced chi2 of each star against the model.
    """

    psf: Psf
    used: NDArray[np.bool_]
    chi2: NDArray[np.float64]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _shift_all(
    coefficients: NDArray[np.float64], dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> NDArray[np.float64]:
    n = coefficients.shape[0]
    size = coefficients.shape[1] - 6
    result = np.empty((n, size, size))
    for k in range(n):
        image, _, _ = render(coefficients[k], dx[k], dy[k], size // 2, 1.0, False)
        result[k] = image
    return result


def shifted(
    images: NDArray[np.float64], dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return images displaced by fractions of a pixel with a cubic spline.

    Parameters
    ----------
    images : `numpy.ndarray`, shape (n, size, size)
        Odd size.
    dx, dy : `numpy.ndarray`, shape (n,)
        Displacements [pixels].
    """
    n, size, _ = images.shape
    bordered = np.zeros((n, size + 6, size + 6))
    bordered[:, 3:-3, 3:-3] = spline_filter1d(spline_filter1d(images, order=3, axis=1), order=3, axis=2)
    result: NDArray[np.float64] = _shift_all(bordered, np.asarray(dx, np.float64), np.asarray(dy, np.float64))
    return result


def _upsampled(
    images: NDArray[np.float64], dx: NDArray[np.float64], dy: NDArray[np.float64], size: int, step: float
) -> NDArray[np.float64]:
    """Sample star images, centred, on the model's grid."""
    if step == 1.0:
        return shifted(images, -dx, -dy)
    from scipy.ndimage import map_coordinates

    middle = images.shape[1] // 2
    grid = (np.arange(size) - size // 2) * step
    result = np.empty((len(images), size, size))
    for k, image in enumerate(images):
        yy, xx = np.meshgrid(grid + middle + dy[k], grid + middle + dx[k], indexing="ij")
        result[k] = map_coordinates(image, [yy, xx], order=3, mode="constant")
    return result


def refined(kernels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return kernels sampled twice as finely, by trigonometric interpolation.

    A resolved PSF has no power beyond the detector's own sampling, so nothing is invented; and a cubic spline
    through the finer samples is exact where one through the coarser ones errs by a thousandth.

    Parameters
    ----------
    kernels : `numpy.ndarray`, shape (n, size, size)
        Odd size.

    Returns
    -------
    kernels : `numpy.ndarray`, shape (n, 2 size - 1, 2 size - 1)
    """
    size = kernels.shape[1]
    t = np.pi * (np.arange(2 * size - 1)[:, np.newaxis] / 2 - np.arange(size)[np.newaxis, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.where(np.abs(np.sin(t / size)) < 1e-9, 1.0, np.sin(t) / (size * np.sin(t / size)))
    result: NDArray[np.float64] = weights @ kernels @ weights.T
    return result


def choose_degree(n_stars: int, wanted: int, stars_per_term: float = 3.0) -> int:
    """Return the highest polynomial degree, up to the wanted one, that so many stars can support."""
    degree = wanted
    while degree > 0 and n_stars < stars_per_term * (degree + 1) * (degree + 2) / 2:
        degree -= 1
    return degree


def fit_psf_model(
    exposure: Exposure,
    labels: NDArray[np.int32],
    stars: SourceList,
    *,
    sigma_pixels: float,
    degree: int = 2,
    size: int = 41,
    n_rounds: int = 6,
    n_sigma_star: float = 4.0,
    n_sigma_pixel: float = 5.0,
) -> PsfFit:
    """Fit a PSF model to stars.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    labels : `numpy.ndarray`, shape (ny, nx), int32
        Footprints, deep enough to mark the neighbours of stars.
    stars : `SourceList`
        The stars to fit.
    sigma_pixels : `float`
        Their width [pixels].
    degree : `int`
        Of the polynomial in position; less when there are few stars.
    size : `int`
        Odd size of the PSF's images [pixels].
    n_rounds : `int`
        Rounds of refinement.
    n_sigma_star, n_sigma_pixel : `float`
        Stars and pixels of stars that differ by more are left out.

    Returns
    -------
    fit : `PsfFit`

    Raises
    ------
    ValueError
        If no star is left.
    """
    n = len(stars)
    ny, nx = exposure.shape
    half = size // 2
    center, scale = ((nx - 1) / 2, (ny - 1) / 2), (nx / 2, ny / 2)
    # A PSF that the detector resolves is fitted at its own sampling, an unresolved one at half of it.
    resolved = sigma_pixels >= 1.2
    step = 1.0 if resolved else 0.5
    kernel_size = 2 * int(half / step) + 1
    stamps = cut_stamps(exposure, labels, stars, half)
    slope = variance_slope(exposure, labels)
    sky = sky_variances(stamps, slope)
    used = stamps.good[:, half - 1 : half + 2, half - 1 : half + 2].all(axis=(1, 2))
    used &= stamps.good.mean(axis=(1, 2)) > 0.5
    if not used.any():
        raise ValueError(f"None of {n} PSF stars has a clean centre")
    start_dx, start_dy = stars.x - stamps.x0, stars.y - stamps.y0
    win_dx, win_dy = windowed_centroids(stamps.data, stamps.good, start_dx, start_dy, sigma_pixels)
    kernels = Psf.gaussian(sigma_pixels / step, kernel_size).coefficients
    psf = Psf(refined(kernels) if resolved else kernels, 0, center, scale, 0.5)
    chi2 = np.full(n, np.nan)
    hole = stamps.good == 0
    keep_pixel = np.ones(stamps.data.shape, bool)
    for round_number in range(n_rounds):
        this_degree = choose_degree(int(used.sum()), degree) if round_number > 1 else 0
        good = (stamps.good > 0) & keep_pixel
        fits = fit_psfs(
            psf, stars.x, stars.y, stamps.x0, stamps.y0, stamps.data, stamps.variance,
            good.astype(np.uint8), sky, slope, fit_radius=3.5 * sigma_pixels, model_error=0.01, weighted=True,
        )  # fmt: skip
        used &= np.isfinite(fits.flux) & (fits.flux > 0) & ~fits.flux_flag
        if not used.any():
            raise ValueError(f"No flux could be fitted to any of {n} PSF stars")
        flux = np.where(used, fits.flux, 1.0)
        dx, dy = _anchored(fits.dx, fits.dy, win_dx, win_dy, used, stars, center, scale, this_degree)
        models = psf_images(psf, stamps.x0 + dx, stamps.y0 + dy, size=size).astype(np.float64)
        # psf_images rounds to the nearest pixel; a shift beyond half a pixel would move the stamp.
        moved = (np.rint(stamps.x0 + dx) != stamps.x0) | (np.rint(stamps.y0 + dy) != stamps.y0)
        if moved.any():
            models[moved] = _render_at(psf, stars, stamps.x0, stamps.y0, dx, dy, half, moved)
        light = flux[:, np.newaxis, np.newaxis] * models
        pixel_variance = sky[:, np.newaxis, np.newaxis] + slope * np.maximum(light, 0.0)
        difference = stamps.data - light
        if round_number >= 2:
            allowed = n_sigma_pixel * np.sqrt(pixel_variance + (0.03 * light) ** 2)
            keep_pixel = np.abs(difference) < allowed
            keep_pixel[:, half - 1 : half + 2, half - 1 : half + 2] = True
            used = _without_outliers(difference, pixel_variance, light, good, used, n_sigma_star, chi2)
        residual = np.where(hole | ~keep_pixel, 0.0, difference) / flux[:, np.newaxis, np.newaxis]
        on_grid = _upsampled(residual[used], dx[used], dy[used], kernel_size, step)
        terms_of = polynomial_terms(
            (stamps.x0 + dx - center[0])[used] / scale[0],
            (stamps.y0 + dy - center[1])[used] / scale[1],
            psf.degree,
        )
        present = np.tensordot(terms_of.T, kernels, axes=1)
        # The model sums to 1 over detector pixels, not over the finer samples.
        present /= present.sum(axis=(1, 2), keepdims=True) * step**2
        target = present + on_grid
        weight = _weights(flux[used], sky[used], slope, present)
        kernels = _fit_kernels(
            target, weight, stamps.x0[used] + dx[used], stamps.y0[used] + dy[used], center, scale, this_degree
        )
        kernels = _smoothed_wings(kernels, weight, sigma_pixels / step)
        kernels /= kernels[0].sum()
        psf = Psf(refined(kernels) if resolved else kernels, this_degree, center, scale, 0.5)
    return PsfFit(psf, used, chi2)


def _render_at(
    psf: Psf,
    stars: SourceList,
    x0: NDArray[np.int64],
    y0: NDArray[np.int64],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    half: int,
    rows: NDArray[np.bool_],
) -> NDArray[np.float64]:
    coefficients = spline_coefficients(psf)
    images = []
    for k in np.flatnonzero(rows):
        kernel = combine(coefficients, position_terms(psf, x0[k] + dx[k], y0[k] + dy[k])[0])
        image, _, _ = render(kernel, dx[k], dy[k], half, psf.step, False)
        images.append(image / image.sum())
    return np.array(images)


def _anchored(
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    win_dx: NDArray[np.float64],
    win_dy: NDArray[np.float64],
    used: NDArray[np.bool_],
    stars: SourceList,
    center: tuple[float, float],
    scale: tuple[float, float],
    degree: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take from fitted positions what a drift of the model's own centre has added.

    Moving the kernel and all stars oppositely changes nothing, so the windowed centroids (noisier, but tied
    to the light) say where the kernel's centre is.
    """
    terms = polynomial_terms((stars.x - center[0]) / scale[0], (stars.y - center[1]) / scale[1], degree)
    result = []
    for fitted, window in ((dx, win_dx), (dy, win_dy)):
        difference = fitted - window
        rows = used & np.isfinite(difference)
        middle = np.median(difference[rows]) if rows.any() else 0.0
        spread = 1.4826 * np.median(np.abs(difference[rows] - middle)) if rows.any() else 0.0
        rows &= np.abs(difference - middle) < 4 * spread + 1e-3
        if rows.sum() <= len(terms):
            result.append(fitted - middle)
            continue
        coefficients, *_ = np.linalg.lstsq(terms[:, rows].T, difference[rows], rcond=None)
        result.append(fitted - coefficients @ terms)
    return result[0], result[1]


def _without_outliers(
    difference: NDArray[np.float64],
    pixel_variance: NDArray[np.float64],
    light: NDArray[np.float64],
    good: NDArray[np.bool_],
    used: NDArray[np.bool_],
    n_sigma: float,
    chi2: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return the stars whose core agrees with the model about as well as most stars' do; fill ``chi2``."""
    core = good & (light > 0.02 * light.max(axis=(1, 2), keepdims=True))
    variance = pixel_variance + (0.005 * light) ** 2
    count = np.maximum(core.sum(axis=(1, 2)), 1)
    chi2[:] = np.where(core, difference**2 / variance, 0.0).sum(axis=(1, 2)) / count
    values = np.log(chi2[used] + 1e-9)
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), 0.15)
    agrees: NDArray[np.bool_] = np.log(chi2 + 1e-9) < middle + n_sigma * spread
    return used & agrees


def _weights(
    flux: NDArray[np.float64], sky: NDArray[np.float64], slope: float, present: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Inverse variance of each normalised star pixel; stars differ by 0.5 % of their light from any model."""
    light = np.maximum(present, 0.0)
    f = flux[:, np.newaxis, np.newaxis]
    weight: NDArray[np.float64] = 1.0 / (
        (sky[:, np.newaxis, np.newaxis] + slope * f * light) / f**2 + (0.005 * light) ** 2
    )
    return weight


def _fit_kernels(
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    center: tuple[float, float],
    scale: tuple[float, float],
    degree: int,
) -> NDArray[np.float64]:
    """Fit each kernel pixel by a polynomial, its changes with position held to a fraction of its value."""
    terms = polynomial_terms((x - center[0]) / scale[0], (y - center[1]) / scale[1], degree)
    n_terms, size = len(terms), target.shape[1]
    w = weight.reshape(len(target), -1)
    flat = target.reshape(len(target), -1)
    mean = (w * flat).sum(axis=0) / w.sum(axis=0)
    if degree == 0:
        return np.asarray(mean.reshape(1, size, size), np.float64)
    products = (terms[:, np.newaxis] * terms[np.newaxis]).reshape(n_terms * n_terms, -1)
    matrix = np.ascontiguousarray((products @ w).T).reshape(-1, n_terms, n_terms)
    vector = (terms @ (w * flat)).T
    # A kernel pixel changes by about 20 % of its value across the detector.
    prior = 1.0 / (0.2 * np.abs(mean) + 1e-6) ** 2
    for t in range(1, n_terms):
        matrix[:, t, t] += prior
    solution = np.linalg.solve(matrix, vector[:, :, np.newaxis])[:, :, 0]
    return np.ascontiguousarray(solution.T).reshape(n_terms, size, size)


def _smoothed_wings(
    coefficients: NDArray[np.float64], weight: NDArray[np.float64], sigma: float
) -> NDArray[np.float64]:
    """Draw the constant kernel's noisy outer pixels to the radial profile."""
    size = coefficients.shape[1]
    r = np.hypot(*np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1])
    kernel = coefficients[0]
    information = weight.sum(axis=0)
    ring = np.rint(r).astype(np.int64).ravel()
    norm = np.bincount(ring, information.ravel())
    profile = np.bincount(ring, (information * kernel).ravel()) / np.maximum(norm, 1e-300)
    expected = np.interp(r, np.arange(len(profile)), profile)
    # The kernel may differ from its ring by 30 % of it.
    prior = 1.0 / (0.3 * np.abs(expected) + 1e-7) ** 2
    blend = np.where(r > 2.5 * sigma, prior / (prior + information), 0.0)
    result = coefficients.copy()
    result[0] = kernel + blend * (expected - kernel)
    return result
