"""PSF photometry: positions and fluxes of point sources by fitting the PSF.

The position minimises chi2 over (flux, x, y) with Gauss-Newton steps; its noise is the Cramer-Rao bound if
the PSF is right. Weights come from a smooth model of the variance (sky plus the fitted source), never from
the pixel's own photons, which would bias faint fluxes low.

Fitting flux and position of a PSF by iterated linear least squares is DAOPHOT's way (Stetson 1987, PASP 99,
191; doi:10.1086/131977); weights from the model's variance are those of optimal extraction
(Horne 1986, PASP 98, 609; doi:10.1086/131801).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .noise_model import NoiseModel
from .psf import Psf
from .psf_images import PsfSpline, kernel_spline, psf_spline, render
from .stamps import SourceList, Stamps


@dataclass(frozen=True, slots=True)
class PsfFits:
    """Fits of the PSF to n sources.

    Parameters
    ----------
    dx, dy, dx_err, dy_err : `numpy.ndarray`, shape (n,), float64 [pixels]
        Position from the stamp's middle pixel, and its error.
    flux, flux_err : `numpy.ndarray`, shape (n,), float64 [unit of the image]
        Flux and its error.
    chi2 : `numpy.ndarray`, shape (n,), float64 [1]
        Reduced, over the fitted pixels.
    models : `numpy.ndarray`, shape (n, size, size), float32 [1]
        Unit PSF at the position found.
    centroid_flag, flux_flag : `numpy.ndarray`, shape (n,), bool [1]
        The position was not found (it stays where it was); the flux rests on too few pixels.
    """

    dx: NDArray[np.float64]
    dy: NDArray[np.float64]
    dx_err: NDArray[np.float64]
    dy_err: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    chi2: NDArray[np.float64]
    models: NDArray[np.float32]
    centroid_flag: NDArray[np.bool_]
    flux_flag: NDArray[np.bool_]


class PsfFitOptions(NamedTuple):
    """How `fit_psfs` goes about it.

    Parameters
    ----------
    fit_radius : `float`
        Positions are fitted to pixels this near; 3 PSF sigma when NaN [pixels].
    max_shift : `float`
        A position that moves farther is flagged [pixels].
    model_error : `float`
        Error of the PSF, as a fraction of its local value, added to the weights' variance.
    weighted : `bool`
        Weigh the flux's pixels by their variance, or evenly. Even weights make the flux independent of
        brightness where the PSF model is imperfect, at 15 % more noise for the brightest.
    n_iterations : `int`
        At most so many steps.
    """

    fit_radius: float = float("nan")
    max_shift: float = 3.0
    model_error: float = 0.0
    weighted: bool = False
    n_iterations: int = 25


class _Stamp(NamedTuple):
    """One stamp and its noise: arrays of shape (size, size); the fields are those of the two classes."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    good: NDArray[np.uint8]
    sky: float
    slope: float


class _Start(NamedTuple):
    """First position of each source from its stamp's middle pixel [pixels], and whether it is kept."""

    dx: NDArray[np.float64]
    dy: NDArray[np.float64]
    fixed: NDArray[np.bool_]


# The parts of one loop are inlined: compiled each by itself they would cost a second more at the first run.
@numba.njit(cache=True, nogil=True, inline="always")
def _first_flux(stamp: _Stamp, p: NDArray[np.float64]) -> float:
    """Flux of a PSF image about the stamp's middle by evenly weighted least squares; 0 without pixels."""
    data, good = stamp.data, stamp.good
    m = p.shape[0]
    first = (data.shape[0] - m) // 2
    num, den = 0.0, 0.0
    for i in range(m):
        for j in range(m):
            a, b = first + i, first + j
            if good[a, b]:
                num += p[i, j] * data[a, b]
                den += p[i, j] * p[i, j]
    return num / den if den > 0 else 0.0


@numba.njit(cache=True, nogil=True, inline="always")
def _normal_equations(
    stamp: _Stamp,
    rendered: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    flux: float,
    circle_x: float,
    circle_y: float,
    options: PsfFitOptions,
) -> tuple[NDArray[np.float64], float, float, float, int]:
    """Return matrix and vector of d = f p + (f dx) px + (f dy) py in a circle, and the pixels used."""
    p, px, py = rendered
    data, good = stamp.data, stamp.good
    fit_radius, model_error = options.fit_radius, options.model_error
    sky, slope = stamp.sky, stamp.slope
    m = p.shape[0]
    reach = m // 2
    first = data.shape[0] // 2 - reach
    a00, a01, a02, a11, a12, a22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    b0, b1, b2 = 0.0, 0.0, 0.0
    used = 0
    for i in range(m):
        for j in range(m):
            u, v = j - reach - circle_x, i - reach - circle_y
            if u * u + v * v > fit_radius * fit_radius:
                continue
            a, b = first + i, first + j
            if not good[a, b]:
                continue
            light = max(flux * p[i, j], 0.0)
            w = 1.0 / (sky + slope * light + (model_error * light) ** 2)
            gx, gy = flux * px[i, j], flux * py[i, j]
            r = data[a, b] - flux * p[i, j]
            a00 += w * p[i, j] * p[i, j]
            a01 += w * p[i, j] * gx
            a02 += w * p[i, j] * gy
            a11 += w * gx * gx
            a12 += w * gx * gy
            a22 += w * gy * gy
            b0 += w * p[i, j] * r
            b1 += w * gx * r
            b2 += w * gy * r
            used += 1
    return np.array([[a00, a01, a02], [a01, a11, a12], [a02, a12, a22]]), b0, b1, b2, used


@numba.njit(cache=True, nogil=True, inline="always")
def _solvable(matrix: NDArray[np.float64]) -> bool:
    """Whether the determinant of a symmetric 3 x 3 matrix is more than rounding."""
    a00, a01, a02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    a11, a12, a22 = matrix[1, 1], matrix[1, 2], matrix[2, 2]
    det = a00 * (a11 * a22 - a12 * a12) - a01 * (a01 * a22 - a12 * a02) + a02 * (a01 * a12 - a11 * a02)
    return bool(abs(det) > 1e-30 * a00 * a11 * a22)


@numba.njit(cache=True, nogil=True, inline="always")
def _fit_position(
    stamp: _Stamp,
    kernel: NDArray[np.float64],
    step: float,
    start_dx: float,
    start_dy: float,
    options: PsfFitOptions,
) -> tuple[bool, float, float, float, float]:
    """Return whether a position was found, the position (else the start) and its variance per axis."""
    half = stamp.data.shape[0] // 2
    reach = min(half, int(np.ceil(options.fit_radius)) + 1)
    dx, dy = start_dx, start_dy
    circle_x, circle_y = dx, dy
    flux = 0.0
    var_x, var_y = np.nan, np.nan
    for iteration in range(options.n_iterations):
        # The circle of fitted pixels stays put once it is about right: a pixel that enters and leaves
        # with every step would keep the fit from settling.
        if iteration < 3:
            circle_x, circle_y = dx, dy
        rendered = render(kernel, dx, dy, reach, step, True)
        if iteration == 0:
            flux = _first_flux(stamp, rendered[0])
        if not flux > 0.0:
            break
        matrix, b0, b1, b2, used = _normal_equations(stamp, rendered, flux, circle_x, circle_y, options)
        if used < 6 or not _solvable(matrix):
            break
        inverse = np.linalg.inv(matrix)
        step0 = inverse[0, 0] * b0 + inverse[0, 1] * b1 + inverse[0, 2] * b2
        step1 = inverse[1, 0] * b0 + inverse[1, 1] * b1 + inverse[1, 2] * b2
        step2 = inverse[2, 0] * b0 + inverse[2, 1] * b1 + inverse[2, 2] * b2
        length = np.sqrt(step1 * step1 + step2 * step2)
        if length > 0.7:
            step1, step2 = step1 * 0.7 / length, step2 * 0.7 / length
        dx, dy = dx + step1, dy + step2
        flux = max(flux + step0, 0.1 * flux)
        var_x, var_y = inverse[1, 1], inverse[2, 2]
        shift2 = (dx - start_dx) ** 2 + (dy - start_dy) ** 2
        if shift2 > options.max_shift * options.max_shift:
            break
        if length < 1e-4 + 5e-3 * np.sqrt(var_x):
            return True, dx, dy, var_x, var_y
    return False, start_dx, start_dy, var_x, var_y


@numba.njit(cache=True, nogil=True, inline="always")
def _fit_flux(stamp: _Stamp, p: NDArray[np.float64], options: PsfFitOptions) -> tuple[float, float, float]:
    """Return flux, its variance and the fraction of the PSF on usable pixels."""
    data, variance, good = stamp.data, stamp.variance, stamp.good
    sky, slope = stamp.sky, stamp.slope
    model_error, weighted = options.model_error, options.weighted
    size = data.shape[0]
    # Twice: the second time the weights know the flux.
    estimate = 0.0
    err2, coverage = np.nan, 0.0
    for _ in range(2 if weighted else 1):
        num, den, noise = 0.0, 0.0, 0.0
        coverage = 0.0
        for i in range(size):
            for j in range(size):
                if not good[i, j]:
                    continue
                w = 1.0
                if weighted:
                    light = max(estimate * p[i, j], 0.0)
                    w = sky / (sky + slope * light + (model_error * light) ** 2)
                num += w * p[i, j] * data[i, j]
                den += w * p[i, j] * p[i, j]
                noise += (w * p[i, j]) ** 2 * variance[i, j]
                coverage += p[i, j]
        if den <= 0.0:
            return np.nan, err2, coverage
        estimate = num / den
        err2 = noise / (den * den)
    return estimate, err2, coverage


@numba.njit(cache=True, nogil=True, inline="always")
def _reduced_chi2(
    stamp: _Stamp, p: NDArray[np.float64], flux: float, dx: float, dy: float, fit_radius: float
) -> float:
    """Reduced chi2 of flux times p within the circle about (dx, dy)."""
    data, good, sky, slope = stamp.data, stamp.good, stamp.sky, stamp.slope
    size = data.shape[0]
    half = size // 2
    chi2, used = 0.0, 0
    for i in range(size):
        for j in range(size):
            u, v = j - half - dx, i - half - dy
            if good[i, j] and u * u + v * v <= fit_radius * fit_radius:
                r = data[i, j] - flux * p[i, j]
                chi2 += r * r / (sky + slope * max(flux * p[i, j], 0.0))
                used += 1
    return chi2 / max(used - 3, 1)


@numba.njit(cache=True, nogil=True)
def _fit_all(
    stamps: Stamps,
    noise: NoiseModel,
    spline: PsfSpline,
    start: _Start,
    options: PsfFitOptions,
    out: NDArray[np.float64],
    models: NDArray[np.float32],
) -> None:
    for s in range(stamps.data.shape[0]):
        stamp = _Stamp(stamps.data[s], stamps.variance[s], stamps.good[s], noise.sky[s], noise.slope)
        kernel = kernel_spline(spline, s)
        dx, dy = start.dx[s], start.dy[s]
        found, var_x, var_y = True, np.nan, np.nan
        if not start.fixed[s]:
            found, dx, dy, var_x, var_y = _fit_position(stamp, kernel, spline.step, dx, dy, options)
        p, _, _ = render(kernel, dx, dy, stamp.data.shape[0] // 2, spline.step, False)
        total = p.sum()
        if total > 0:
            p /= total
        models[s] = p
        flux, err2, coverage = _fit_flux(stamp, p, options)
        out[s, 0], out[s, 1] = dx, dy
        out[s, 2], out[s, 3] = np.sqrt(var_x), np.sqrt(var_y)
        out[s, 4], out[s, 5] = flux, np.sqrt(err2)
        out[s, 6] = _reduced_chi2(stamp, p, flux, dx, dy, options.fit_radius)
        out[s, 7] = 1.0 if found else 0.0
        out[s, 8] = coverage


def fit_psfs(
    psf: Psf,
    sources: SourceList,
    stamps: Stamps,
    noise: NoiseModel,
    options: PsfFitOptions | None = None,
) -> PsfFits:
    """Fit the PSF's position and flux to every stamp.

    Parameters
    ----------
    psf : `Psf`
        The model.
    sources : `SourceList`
        First positions, and which of them are kept.
    stamps : `Stamps`
        Cut-outs of the sources.
    noise : `NoiseModel`
        Their noise.
    options : `PsfFitOptions`, optional
        Radius, limits and weights.

    Returns
    -------
    fits : `PsfFits`
    """
    options = options or PsfFitOptions()
    out = np.full((len(sources), 9), np.nan)
    models = np.zeros(stamps.data.shape, np.float32)
    radius = options.fit_radius if np.isfinite(options.fit_radius) else 3.0 * psf.sigma_at(*psf.center)
    start = _Start(
        np.asarray(sources.x - stamps.x0, np.float64),
        np.asarray(sources.y - stamps.y0, np.float64),
        sources.fixed,
    )
    spline = psf_spline(psf, sources.x, sources.y)
    _fit_all(
        stamps, noise, spline, start, _with_exact_types(options._replace(fit_radius=radius)), out, models
    )
    # At least half of the PSF's light must lie on usable pixels.
    return PsfFits(
        dx=out[:, 0],
        dy=out[:, 1],
        dx_err=out[:, 2],
        dy_err=out[:, 3],
        flux=out[:, 4],
        flux_err=out[:, 5],
        chi2=out[:, 6],
        models=models,
        centroid_flag=out[:, 7] != 1.0,
        flux_flag=~(out[:, 8] > 0.5) | ~np.isfinite(out[:, 4]),
    )


def _with_exact_types(options: PsfFitOptions) -> PsfFitOptions:
    """Return options whose numbers have one type each: another would compile the loops again."""
    return PsfFitOptions(
        float(options.fit_radius),
        float(options.max_shift),
        float(options.model_error),
        bool(options.weighted),
        int(options.n_iterations),
    )
