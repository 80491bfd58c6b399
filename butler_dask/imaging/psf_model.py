"""PSF model: kernel pixels that are polynomials in position, fitted to star images.

Each star's residual from the present model is carried to the model's grid by the same spline that renders the
model, and every kernel pixel is refitted as a polynomial over the stars; a few rounds give the least-squares
model *of that rendering*, so that interpolation errors are fitted away rather than left in the photometry. It
is the effective PSF of Anderson & King (2000, PASP 112, 1360; doi:10.1086/316632) with kernel pixels that
vary with position. Compared with solving for all pixels at once (PSFEx; Bertin 2011, ASP 442, 435) the
matrices stay at the size of the polynomial. Where stars say little, kernel pixels are drawn to the radial
profile and their changes with position to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d

from .exposure import Exposure
from .noise_model import NoiseModel, model_noise
from .psf import Psf, polynomial_terms
from .psf_images import kernel_spline, psf_images, psf_spline, render
from .psf_photometry import PsfFitOptions, PsfFits, fit_psfs
from .shapes import windowed_centroids
from .stamps import SourceList, Stamps, cut_stamps


@dataclass(frozen=True, slots=True)
class PsfFit:
    """Result of `fit_psf_model`.

    Parameters
    ----------
    psf : `Psf`
        The model.
    used : `numpy.ndarray`, shape (n,), bool [1]
        Stars that were not thrown out.
    chi2 : `numpy.ndarray`, shape (n,), float64 [1]
        Reduced chi2 of each star against the model.
    """

    psf: Psf
    used: NDArray[np.bool_]
    chi2: NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
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
    images : `numpy.ndarray`, shape (n, size, size), float64 [any unit]
        Odd size.
    dx, dy : `numpy.ndarray`, shape (n,), float64 [pixels]
        Displacements.

    Returns
    -------
    images : `numpy.ndarray`, shape (n, size, size), float64 [unit of the images]
        What lies outside counts as 0.
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
    kernels : `numpy.ndarray`, shape (n, size, size), float64 [1]
        Odd size.

    Returns
    -------
    kernels : `numpy.ndarray`, shape (n, 2 size - 1, 2 size - 1), float64 [1]
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
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
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
    n, half = len(stars), size // 2
    grid = _Grid.over(exposure, size, sigma_pixels)
    stamps = cut_stamps(exposure, labels, stars, half)
    noise = model_noise(exposure, labels, stamps)
    used = stamps.good[:, half - 1 : half + 2, half - 1 : half + 2].all(axis=(1, 2))
    used &= stamps.good.mean(axis=(1, 2)) > 0.5
    if not used.any():
        raise ValueError(f"None of {n} PSF stars has a clean centre")
    windowed = windowed_centroids(
        stamps.data, stamps.good, stars.x - stamps.x0, stars.y - stamps.y0, sigma_pixels
    )
    options = PsfFitOptions(fit_radius=3.5 * sigma_pixels, model_error=0.01, weighted=True)
    kernels = Psf.gaussian(sigma_pixels / grid.step, grid.kernel_size).coefficients
    psf = grid.psf(kernels, 0)
    chi2 = np.full(n, np.nan)
    keep_pixel = np.ones(stamps.data.shape, bool)
    for round_number in range(n_rounds):
        this_degree = choose_degree(int(used.sum()), degree) if round_number > 1 else 0
        good = (stamps.good > 0) & keep_pixel
        fits = fit_psfs(psf, stars, stamps._replace(good=good.astype(np.uint8)), noise, options)
        used &= np.isfinite(fits.flux) & (fits.flux > 0) & ~fits.flux_flag
        if not used.any():
            raise ValueError(f"No flux could be fitted to any of {n} PSF stars")
        dx, dy = _tied_to_light(fits, windowed, used, grid.terms(stars.x, stars.y, this_degree))
        drawn = _draw_stars(psf, stamps, noise, np.where(used, fits.flux, 1.0), dx, dy)
        if round_number >= 2:
            allowed = n_sigma_pixel * np.sqrt(drawn.variance + (0.03 * drawn.light) ** 2)
            keep_pixel = np.abs(drawn.difference) < allowed
            keep_pixel[:, half - 1 : half + 2, half - 1 : half + 2] = True
            chi2 = _core_chi2(drawn, good)
            used = used & _like_most_used(chi2, used, n_sigma_star)
        taken = (stamps.good > 0) & keep_pixel
        kernels = _refitted_kernels(kernels, psf.degree, drawn, taken, used, noise, grid, this_degree)
        kernels = kernels / kernels[0].sum()
        psf = grid.psf(kernels, this_degree)
    return PsfFit(psf, used, chi2)


@dataclass(frozen=True, slots=True)
class _Grid:
    """How a model is sampled, and the frame of its polynomials.

    A PSF that the detector resolves is fitted at its own sampling, an unresolved one at half of it.
    """

    center: tuple[float, float]
    scale: tuple[float, float]
    step: float
    kernel_size: int
    sigma_samples: float

    @classmethod
    def over(cls, exposure: Exposure, size: int, sigma_pixels: float) -> _Grid:
        ny, nx = exposure.shape
        step = 1.0 if sigma_pixels >= 1.2 else 0.5
        kernel_size = 2 * int((size // 2) / step) + 1
        return cls(((nx - 1) / 2, (ny - 1) / 2), (nx / 2, ny / 2), step, kernel_size, sigma_pixels / step)

    def terms(self, x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
        """Return the polynomial terms at positions [pixels], shape (n_terms, n)."""
        u, v = (x - self.center[0]) / self.scale[0], (y - self.center[1]) / self.scale[1]
        return polynomial_terms(u, v, degree)

    def psf(self, kernels: NDArray[np.float64], degree: int) -> Psf:
        """Return the Psf of such kernels; it is sampled at half a pixel."""
        return Psf(refined(kernels) if self.step == 1.0 else kernels, degree, self.center, self.scale, 0.5)


@dataclass(frozen=True, slots=True)
class _DrawnStars:
    """Stars as a model has them, and what the stamps have more; arrays of (n,) and (n, size, size)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    dx: NDArray[np.float64]
    dy: NDArray[np.float64]
    flux: NDArray[np.float64]
    light: NDArray[np.float64]
    difference: NDArray[np.float64]
    variance: NDArray[np.float64]


def _draw_stars(
    psf: Psf,
    stamps: Stamps,
    noise: NoiseModel,
    flux: NDArray[np.float64],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
) -> _DrawnStars:
    size = stamps.data.shape[1]
    x, y = stamps.x0 + dx, stamps.y0 + dy
    models = psf_images(psf, x, y, size=size).astype(np.float64)
    # psf_images rounds to the nearest pixel; a shift beyond half a pixel would move the stamp.
    moved = np.flatnonzero((np.rint(x) != stamps.x0) | (np.rint(y) != stamps.y0))
    spline = psf_spline(psf, x[moved], y[moved])
    for k, row in enumerate(moved):
        image, _, _ = render(kernel_spline(spline, k), dx[row], dy[row], size // 2, psf.step, False)
        models[row] = image / image.sum()
    light = flux[:, np.newaxis, np.newaxis] * models
    variance = noise.sky[:, np.newaxis, np.newaxis] + noise.slope * np.maximum(light, 0.0)
    return _DrawnStars(x, y, dx, dy, flux, light, stamps.data - light, variance)


def _tied_to_light(
    fits: PsfFits,
    windowed: tuple[NDArray[np.float64], NDArray[np.float64]],
    used: NDArray[np.bool_],
    terms: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take from fitted positions what a drift of the model's own centre has added.

    Moving the kernel and all stars oppositely changes nothing, so the windowed centroids (noisier, but tied
    to the light) say where the kernel's centre is.
    """
    result = []
    for fitted, window in zip((fits.dx, fits.dy), windowed, strict=True):
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


def _core_chi2(drawn: _DrawnStars, good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the reduced chi2 of each star's core; models err by 0.5 %."""
    core = good & (drawn.light > 0.02 * drawn.light.max(axis=(1, 2), keepdims=True))
    variance = drawn.variance + (0.005 * drawn.light) ** 2
    count = np.maximum(core.sum(axis=(1, 2)), 1)
    chi2: NDArray[np.float64] = np.where(core, drawn.difference**2 / variance, 0.0).sum(axis=(1, 2)) / count
    return chi2


def _like_most_used(chi2: NDArray[np.float64], used: NDArray[np.bool_], n_sigma: float) -> NDArray[np.bool_]:
    """Return the stars that agree with the model about as well as most of those used do."""
    values = np.log(chi2[used] + 1e-9)
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), 0.15)
    agrees: NDArray[np.bool_] = np.log(chi2 + 1e-9) < middle + n_sigma * spread
    return agrees


def _refitted_kernels(
    kernels: NDArray[np.float64],
    old_degree: int,
    drawn: _DrawnStars,
    taken: NDArray[np.bool_],
    used: NDArray[np.bool_],
    noise: NoiseModel,
    grid: _Grid,
    degree: int,
) -> NDArray[np.float64]:
    """Carry what the stars have more than the model to its grid, and fit the kernels anew."""
    residual = np.where(taken, drawn.difference, 0.0) / drawn.flux[:, np.newaxis, np.newaxis]
    on_grid = _upsampled(residual[used], drawn.dx[used], drawn.dy[used], grid.kernel_size, grid.step)
    x, y = drawn.x[used], drawn.y[used]
    present = np.tensordot(grid.terms(x, y, old_degree).T, kernels, axes=1)
    # The model sums to 1 over detector pixels, not over the finer samples.
    present /= present.sum(axis=(1, 2), keepdims=True) * grid.step**2
    weight = _weights(drawn.flux[used], noise.sky[used], noise.slope, present)
    fitted = _fit_kernels(present + on_grid, weight, grid.terms(x, y, degree))
    return _smoothed_wings(fitted, weight, grid.sigma_samples)


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
    target: NDArray[np.float64], weight: NDArray[np.float64], terms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit each kernel pixel by a polynomial, its changes with position held to a fraction of its value."""
    n_terms, size = len(terms), target.shape[1]
    w = weight.reshape(len(target), -1)
    flat = target.reshape(len(target), -1)
    mean = (w * flat).sum(axis=0) / w.sum(axis=0)
    if n_terms == 1:
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
