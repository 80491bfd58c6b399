"""Astrometry: a TAN-SIP world coordinate system fitted to matched stars.

On the tangent plane the reference positions are polynomials of the pixel positions, so each fit is linear;
its constant part moves the tangent point, its linear part is the CD matrix and the rest, seen through the CD
matrix, the SIP coefficients (Shupe et al. 2005, ASP 347, 491). Higher orders are kept only where they lower
the Bayesian information criterion: distortion that is not there is not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .matching import match_nearest, match_pattern
from .psf import polynomial_terms
from .sky_wcs import SkyWcs

MAS_PER_RAD = 180.0 / np.pi * 3600e3


@dataclass(frozen=True, slots=True)
class AstrometricFit:
    """Result of `fit_astrometry`.

    Parameters
    ----------
    wcs : `SkyWcs`
        Fitted.
    source, reference : `numpy.ndarray`, shape (n,), int64
        Rows of the matched pairs.
    used : `numpy.ndarray`, shape (n,), bool
        Pairs the fit rests on.
    separation_arcsec : `numpy.ndarray`, shape (n,), float64
        Great-circle separation after the fit [arcsec].
    n_iterations : `int`
        Rounds of matching and fitting.
    order : `int`
        Order of the polynomial (1: no SIP).
    offset_arcsec : `float`
        How far the centre moved from the first WCS [arcsec].
    """

    wcs: SkyWcs
    source: NDArray[np.int64]
    reference: NDArray[np.int64]
    used: NDArray[np.bool_]
    separation_arcsec: NDArray[np.float64]
    n_iterations: int
    order: int
    offset_arcsec: float

    @property
    def scatter_mean_arcsec(self) -> float:
        """Mean separation of the pairs used [arcsec]."""
        return float(self.separation_arcsec[self.used].mean())

    @property
    def scatter_std_arcsec(self) -> float:
        """Standard deviation of their separations [arcsec]."""
        return float(self.separation_arcsec[self.used].std())


def tangent_plane(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: float, dec0: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project positions [rad] gnomonically about (ra0, dec0) [rad]; returns xi, eta [rad]."""
    cos_c = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    xi = np.cos(dec) * np.sin(ra - ra0) / cos_c
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cos_c
    return xi, eta


def from_tangent_plane(xi: float, eta: float, ra0: float, dec0: float) -> tuple[float, float]:
    """Return the position [rad] of a point of the tangent plane [rad]."""
    rho = np.hypot(xi, eta)
    if rho == 0.0:
        return ra0, dec0
    c = np.arctan(rho)
    dec = np.arcsin(np.cos(c) * np.sin(dec0) + eta * np.sin(c) * np.cos(dec0) / rho)
    ra = ra0 + np.arctan2(xi * np.sin(c), rho * np.cos(dec0) * np.cos(c) - eta * np.sin(dec0) * np.sin(c))
    return float(ra), float(dec)


def separation(
    ra1: NDArray[np.float64], dec1: NDArray[np.float64], ra2: NDArray[np.float64], dec2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return great-circle separations [rad] of positions [rad] (haversine, exact for small ones)."""
    h = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    result: NDArray[np.float64] = 2 * np.arcsin(np.sqrt(h))
    return result


def fit_tan_sip(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    crpix: tuple[float, float],
    crval: tuple[float, float],
    order: int,
) -> tuple[SkyWcs, float]:
    """Fit a TAN-SIP system of a given order to positions.

    Parameters
    ----------
    x, y : `numpy.ndarray`, shape (n,)
        [pixels].
    ra, dec : `numpy.ndarray`, shape (n,)
        [rad].
    weight : `numpy.ndarray`, shape (n,)
        Inverse variance of a position along one axis [1 / rad2].
    crpix : `tuple`
        Reference pixel, kept [pixels].
    crval : `tuple`
        First tangent point [rad].
    order : `int`
        1 for a plain TAN.

    Returns
    -------
    wcs : `SkyWcs`
        Fitted.
    chi2 : `float`
        Of both axes together.
    """
    ra0, dec0 = crval
    u, v = x - crpix[0], y - crpix[1]
    scale = max(float(np.max(np.hypot(u, v))), 1.0)
    terms = polynomial_terms(u / scale, v / scale, order)
    root = np.sqrt(weight)
    a: NDArray[np.float64] = np.zeros(len(terms))
    b: NDArray[np.float64] = np.zeros(len(terms))
    chi2 = 0.0
    for _ in range(5):
        xi, eta = tangent_plane(ra, dec, ra0, dec0)
        both, *_ = np.linalg.lstsq(
            (terms * root).T, np.column_stack([xi, eta]) * root[:, np.newaxis], rcond=None
        )
        a, b = np.asarray(both[:, 0], np.float64), np.asarray(both[:, 1], np.float64)
        chi2 = float((weight * ((xi - a @ terms) ** 2 + (eta - b @ terms) ** 2)).sum())
        moved = float(np.hypot(a[0], b[0]))
        ra0, dec0 = from_tangent_plane(float(a[0]), float(b[0]), ra0, dec0)
        if moved < 1e-14:
            break
    cd = np.array([[a[1], a[2]], [b[1], b[2]]]) / scale
    sip_a = sip_b = None
    if order > 1:
        inverse = np.linalg.inv(cd)
        sip_a, sip_b = np.zeros((order + 1, order + 1)), np.zeros((order + 1, order + 1))
        k = 0
        for d in range(order + 1):
            for j in range(d + 1):
                if d >= 2:
                    f, g = inverse @ np.array([a[k], b[k]]) / scale**d
                    sip_a[d - j, j], sip_b[d - j, j] = f, g
                k += 1
    ra_deg = np.degrees(ra0) % 360.0
    wcs = SkyWcs.tangent(
        crpix, (float(ra_deg), float(np.degrees(dec0))), np.degrees(cd), sip_a=sip_a, sip_b=sip_b
    )
    return wcs, chi2


def _order_allowed(n: int, order: int, pairs_per_term: float = 2.5) -> int:
    while order > 1 and n < pairs_per_term * (order + 1) * (order + 2) / 2:
        order -= 1
    return order


def fit_astrometry(
    wcs: SkyWcs,
    shape: tuple[int, int],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    error: NDArray[np.float64],
    flux: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    reference_error: NDArray[np.float64],
    reference_flux: NDArray[np.float64],
    *,
    order: int = 3,
    max_offset_arcsec: float = 30.0,
    max_rotation_deg: float = 1.0,
    match_radius_arcsec: float = 1.0,
    n_sigma: float = 3.5,
    n_iterations: int = 8,
    min_matches: int = 3,
    floor_mas: float = 1.0,
) -> AstrometricFit | None:
    """Match sources to a reference catalogue and fit the world coordinates.

    Parameters
    ----------
    wcs : `SkyWcs`
        First guess, from the telescope's pointing.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the image.
    x, y, error : `numpy.ndarray`, shape (n,)
        Positions of sources and their error along one axis [pixels].
    flux : `numpy.ndarray`, shape (n,)
        Their fluxes.
    ra, dec, reference_error : `numpy.ndarray`, shape (m,)
        Reference positions and errors along one axis [rad].
    reference_flux : `numpy.ndarray`, shape (m,)
        Their fluxes.
    order : `int`
        Highest order of the distortion; less if there are few pairs or it does not help.
    max_offset_arcsec, max_rotation_deg : `float`
        How wrong the first guess may be [arcsec, deg].
    match_radius_arcsec : `float`
        Largest separation of a pair [arcsec].
    n_sigma, n_iterations : `float`, `int`
        Clipping.
    min_matches : `int`
        Fewer pairs are no solution.
    floor_mas : `float`
        Error added to every pair [mas].

    Returns
    -------
    fit : `AstrometricFit` or `None`
        None when no match was found.
    """
    ny, nx = shape
    scale = wcs.pixel_scale_arcsec((nx - 1) / 2, (ny - 1) / 2)
    reference_x, reference_y = wcs.sky_to_pixel(np.degrees(ra), np.degrees(dec))
    sane = np.isfinite(reference_x) & np.isfinite(reference_y)
    reference_x, reference_y = np.where(sane, reference_x, 1e9), np.where(sane, reference_y, 1e9)
    match = match_pattern(
        x,
        y,
        flux,
        reference_x,
        reference_y,
        np.nan_to_num(reference_flux),
        max_offset=max_offset_arcsec / scale,
        max_rotation_deg=max_rotation_deg,
        final_radius=max(match_radius_arcsec / scale, 2.0),
        min_matches=min_matches,
    )
    if match is None:
        return None
    crpix = ((nx - 1) / 2, (ny - 1) / 2)
    start = wcs.pixel_to_sky(np.array([crpix[0]]), np.array([crpix[1]]))
    crval = (float(np.radians(start[0][0])), float(np.radians(start[1][0])))
    pixel_rad = np.radians(scale / 3600)
    rows, references = match.source, match.reference
    used = np.ones(len(rows), bool)
    fitted, chosen = wcs, 1
    iteration = 0
    radius = max(match_radius_arcsec / scale, 2.0)
    for iteration in range(1, n_iterations + 1):
        variance = (
            (error[rows] * pixel_rad) ** 2 + reference_error[references] ** 2 + (floor_mas / MAS_PER_RAD) ** 2
        )
        n_used = int(used.sum())
        candidates = []
        # Early rounds stay stiff: a wrong pair at the edge must not bend the plane.
        highest = _order_allowed(n_used, order if iteration > 1 else min(order, 2))
        for k in range(1, highest + 1):
            trial, chi2 = fit_tan_sip(
                x[rows[used]], y[rows[used]], ra[references[used]], dec[references[used]],
                1.0 / variance[used], crpix=crpix, crval=crval, order=k,
            )  # fmt: skip
            n_parameters = (k + 1) * (k + 2)
            freedom = max(2 * n_used - n_parameters, 1)
            # With errors known only up to a factor, BIC = n ln(chi2 / n) + k ln n.
            bic = 2 * n_used * np.log(max(chi2, 1e-9) / (2 * n_used)) + 2.0 * n_parameters
            candidates.append((bic, k, trial, chi2 / freedom))
        _, chosen, fitted, reduced = min(candidates, key=lambda c: c[0])
        new_x, new_y = fitted.sky_to_pixel(np.degrees(ra), np.degrees(dec))
        new_x, new_y = np.nan_to_num(new_x, nan=1e9), np.nan_to_num(new_y, nan=1e9)
        new_rows, new_references, _ = match_nearest(x, y, new_x, new_y, radius)
        if len(new_rows) < min_matches:
            return None
        sep = _separations(fitted, x, y, ra, dec, new_rows, new_references)
        variance = (
            (error[new_rows] * pixel_rad) ** 2
            + reference_error[new_references] ** 2
            + (floor_mas / MAS_PER_RAD) ** 2
        )
        pull = sep / np.sqrt(2 * variance * max(reduced, 0.25))
        new_used = pull < n_sigma
        if new_used.sum() < min_matches:
            new_used = pull <= np.sort(pull)[min(min_matches, len(pull)) - 1]
        same = (
            len(new_rows) == len(rows)
            and np.array_equal(new_rows, rows)
            and np.array_equal(new_references, references)
            and np.array_equal(new_used, used)
        )
        rows, references, used = new_rows, new_references, new_used
        radius = max(min(radius, 10.0 * float(np.median(sep)) / pixel_rad + 0.5), 0.75)
        if same and iteration > 2:
            break
    sep = _separations(fitted, x, y, ra, dec, rows, references)
    end = fitted.pixel_to_sky(np.array([crpix[0]]), np.array([crpix[1]]))
    offset = separation(np.array([crval[0]]), np.array([crval[1]]), np.radians(end[0]), np.radians(end[1]))
    return AstrometricFit(
        fitted,
        rows,
        references,
        used,
        np.degrees(sep) * 3600,
        iteration,
        chosen,
        float(np.degrees(offset[0]) * 3600),
    )


def _separations(
    wcs: SkyWcs,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    rows: NDArray[np.int64],
    references: NDArray[np.int64],
) -> NDArray[np.float64]:
    found_ra, found_dec = wcs.pixel_to_sky(x[rows], y[rows])
    return separation(np.radians(found_ra), np.radians(found_dec), ra[references], dec[references])
