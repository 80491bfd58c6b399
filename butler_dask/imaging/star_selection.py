"""Star selection: point sources by the clump they form in size.

Bright stars share one size, galaxies do not; so the stars are the peak of the distribution of sizes, refined
by a polynomial in position because the PSF's size varies over a detector. This is the idea of Rubin's
``ObjectSizeStarSelectorTask``, with a kernel density for its clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure
from .psf import polynomial_terms
from .shapes import adaptive_moments, windowed_centroids

if TYPE_CHECKING:
    from astropy.table import Table

UNFIT_FLAGS = (
    "base_PixelFlags_flag_saturated",
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_badCenter",
    "base_PixelFlags_flag_interpolatedCenter",
    "base_PixelFlags_flag_crCenter",
    "base_PixelFlags_flag_suspectCenter",
    "base_SdssShape_flag",
    "base_PsfFlux_flag",
    "base_SdssCentroid_flag",
    "sky_source",
)


@dataclass(frozen=True, slots=True)
class StarSelection:
    """Result of `select_stars`.

    Parameters
    ----------
    selected : `numpy.ndarray`, shape (n,), bool [1]
        Rows that are stars.
    sigma_pixels : `float`
        Their median size, NaN if there are none [pixels].
    """

    selected: NDArray[np.bool_]
    sigma_pixels: float


def select_stars(
    catalog: Table,
    *,
    min_signal_to_noise: float = 50.0,
    max_stars: int = 300,
    window: float = 0.15,
    n_sigma: float = 3.0,
    min_half_width: float = 0.03,
    isolated: NDArray[np.bool_] | None = None,
) -> StarSelection:
    """Select bright, clean, point-like sources.

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Of `measure_sources`.
    min_signal_to_noise : `float`
        Of the PSF flux; if fewer than 10 sources reach it, the 40 brightest clean ones are considered.
    max_stars : `int`
        The brightest this many are kept.
    window : `float`
        Half width of the clump looked at first, in ln(sigma).
    n_sigma, min_half_width : `float`
        The clump's final half width: so many robust deviations, but not less than this in ln(sigma).
    isolated : `numpy.ndarray`, shape (n,), bool [1], optional
        Rows that have no close neighbour.

    Returns
    -------
    selection : `StarSelection`
    """
    n = len(catalog)
    none = StarSelection(np.zeros(n, bool), float("nan"))
    fit = np.ones(n, bool) if isolated is None else isolated.copy()
    for flag in UNFIT_FLAGS:
        if flag in catalog.colnames:
            fit &= ~np.asarray(catalog[flag], bool)
    if "deblend_nChild" in catalog.colnames:
        fit &= np.asarray(catalog["deblend_nChild"]) == 0
    size = 0.5 * (np.asarray(catalog["base_SdssShape_xx"]) + np.asarray(catalog["base_SdssShape_yy"]))
    flux = np.asarray(catalog["base_GaussianFlux_instFlux"], np.float64)
    err = np.asarray(catalog["base_GaussianFlux_instFluxErr"], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = np.where(fit & (err > 0) & (flux > 0) & (size > 0), flux / err, 0.0)
    fit &= signal > 0
    bright = np.flatnonzero(fit & (signal >= min_signal_to_noise))
    if len(bright) < 10:
        bright = np.flatnonzero(fit & (signal > 10))
        bright = bright[np.argsort(-signal[bright])][:40]
    if len(bright) == 0:
        return none
    log_sigma = 0.5 * np.log(size)
    center = _densest_place(log_sigma[bright])
    x, y = np.asarray(catalog["base_SdssCentroid_x"]), np.asarray(catalog["base_SdssCentroid_y"])
    near = bright[np.abs(log_sigma[bright] - center) < window]
    expected = np.full(n, center)
    half_width = window
    for degree in (0, 1, 2, 2):
        expected = _fitted_surface(x, y, log_sigma, near, degree)
        residual = log_sigma[near] - expected[near]
        # Galaxies only lie on the large side: the small side tells the stars' spread.
        below = -residual[residual <= 0]
        spread = 1.4826 * float(np.median(below)) if len(below) else 0.0
        half_width = float(np.clip(n_sigma * spread, min_half_width, window))
        near = bright[np.abs(log_sigma[bright] - expected[bright]) < half_width]
        if len(near) == 0:
            return none
    near = near[np.argsort(-signal[near], kind="stable")][:max_stars]
    selected = np.zeros(n, bool)
    selected[near] = True
    return StarSelection(selected, float(np.exp(np.median(log_sigma[near]))))


def reserve_stars(selected: NDArray[np.bool_], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose at random the stars kept out of the PSF fit, to test it.

    Parameters
    ----------
    selected : `numpy.ndarray`, shape (n,), bool [1]
        Stars.
    fraction : `float`
        Fraction of them that is reserved.
    seed : `int`
        The same for the same exposure, so that a rerun agrees.

    Returns
    -------
    reserved : `numpy.ndarray`, shape (n,), bool [1]
    """
    rows = np.flatnonzero(selected)
    reserved = np.zeros(len(selected), bool)
    chosen = np.random.default_rng(abs(int(seed))).permutation(rows)[: int(len(rows) * fraction)]
    reserved[chosen] = True
    return reserved


def _densest_place(values: NDArray[np.float64]) -> float:
    """Return the densest place of a set, by a Gaussian kernel; the smaller one of nearly equal peaks."""
    if len(values) < 4:
        return float(np.median(values))
    width = 0.03
    grid = np.arange(values.min() - width, values.max() + width, width / 4)
    density = np.exp(-0.5 * ((grid[:, np.newaxis] - values) / width) ** 2).sum(axis=1)
    inner = density[1:-1]
    peaks = 1 + np.flatnonzero((inner >= density[:-2]) & (inner > density[2:]))
    if len(peaks) == 0:
        return float(grid[np.argmax(density)])
    high = peaks[density[peaks] > 0.7 * density.max()]
    return float(grid[high[0]])


def _fitted_surface(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    degree: int,
) -> NDArray[np.float64]:
    if degree == 0:
        return np.full(len(values), float(np.median(values[rows])))
    scale = max(float(np.ptp(x[rows])), float(np.ptp(y[rows])), 1.0) / 2
    x0, y0 = float(np.mean(x[rows])), float(np.mean(y[rows]))
    terms = polynomial_terms((x - x0) / scale, (y - y0) / scale, degree)
    # A PSF changes by a few per cent over a detector: with few stars that is what decides.
    prior = np.concatenate([[0.0], np.full(len(terms) - 1, (0.01 / 0.04) ** 2)])
    use = terms[:, rows]
    coefficients = np.linalg.solve(use @ use.T + np.diag(prior), use @ values[rows])
    surface: NDArray[np.float64] = coefficients @ terms
    return surface


@numba.njit(cache=True, nogil=True)
def _bright_maxima(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad_bits: int,
    n_sigma: float,
    half: int,
    capacity: int,
) -> NDArray[np.int64]:
    """Return x and y of pixels higher than all around them and than the noise, away from bad ones."""
    ny, nx = image.shape
    found = np.empty((capacity, 2), np.int64)
    n = 0
    limit2 = np.float32(n_sigma * n_sigma)
    for i in range(half, ny - half):
        for j in range(half, nx - half):
            v = image[i, j]
            if not v > 0 or v * v < limit2 * variance[i, j]:
                continue
            highest = True
            for a in range(i - half, i + half + 1):
                for b in range(j - half, j + half + 1):
                    if (mask[a, b] & bad_bits) or image[a, b] > v:
                        highest = False
                        break
                if not highest:
                    break
            if highest and n < capacity:
                found[n, 0], found[n, 1] = j, i
                n += 1
    return found[:n]


def estimate_seeing(
    exposure: Exposure, *, n_sigma: float = 30.0, half: int = 6, min_count: int = 12
) -> float:
    """Estimate the width of the stars before anything else is known, cosmic rays among them.

    Cosmic rays have all shapes and stars one: the densest place among the sizes of bright, round maxima.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    n_sigma : `float`
        Least height of a maximum [sigma of a pixel].
    half : `int`
        A maximum is the highest pixel this far around [pixels].
    min_count : `int`
        Fewer round maxima of about one size say nothing.

    Returns
    -------
    sigma : `float`
        [pixels]; NaN if there are too few.
    """
    bits = exposure.mask.bitmask([p for p in ("BAD", "SAT", "NO_DATA") if p in exposure.mask.planes])
    places = _bright_maxima(exposure.image, exposure.variance, exposure.mask.array, bits, n_sigma, half, 2000)
    if len(places) < min_count:
        return float("nan")
    rows = places[:, 1, np.newaxis, np.newaxis] + np.arange(-half, half + 1)[np.newaxis, :, np.newaxis]
    columns = places[:, 0, np.newaxis, np.newaxis] + np.arange(-half, half + 1)[np.newaxis, np.newaxis, :]
    data = exposure.image[rows, columns]
    variance = exposure.variance[rows, columns]
    zero = np.zeros(len(data))
    dx, dy = windowed_centroids(data, np.ones(data.shape, np.uint8), zero, zero, 1.2)
    moments = adaptive_moments(data, variance, dx, dy, 1.2)
    size = 0.5 * (moments.xx + moments.yy)
    with np.errstate(invalid="ignore", divide="ignore"):
        ellipticity = np.hypot(moments.xx - moments.yy, 2 * moments.xy) / (moments.xx + moments.yy)
        log_sigma = 0.5 * np.log(size)
    round_ones = ~moments.flag & np.isfinite(log_sigma) & (ellipticity < 0.25) & (size > 0.3)
    if round_ones.sum() < min_count:
        return float("nan")
    center = _densest_place(log_sigma[round_ones])
    if (np.abs(log_sigma[round_ones] - center) < 0.1).sum() < min_count:
        return float("nan")
    return float(np.exp(center))
