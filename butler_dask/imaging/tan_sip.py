"""TAN-SIP fit: a world coordinate system of a given order, fitted to positions.

On the tangent plane sky positions are polynomials of the pixel positions, so each fit is linear; its constant
part moves the tangent point, its linear part is the CD matrix and the rest, seen through the CD matrix, the
SIP coefficients (Shupe et al. 2005, ASP 347, 491). The projection is TAN of Calabretta & Greisen (2002, A&A
395, 1077; doi:10.1051/0004-6361:20021327, section 5.1.3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .psf import polynomial_terms
from .sky_wcs import SkyWcs


def tangent_plane(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: float, dec0: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project positions gnomonically (Calabretta & Greisen 2002, section 5.1.3, TAN).

    Parameters
    ----------
    ra, dec : `numpy.ndarray`, shape (n,), float64 [rad]
        Positions, less than 90 deg from the tangent point.
    ra0, dec0 : `float`
        Tangent point [rad].

    Returns
    -------
    xi, eta : `numpy.ndarray`, shape (n,), float64 [rad]
        Standard coordinates, towards east and north.
    """
    cos_c = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    xi = np.cos(dec) * np.sin(ra - ra0) / cos_c
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cos_c
    return xi, eta


def from_tangent_plane(xi: float, eta: float, ra0: float, dec0: float) -> tuple[float, float]:
    """Return the position of a point of the tangent plane: the inverse of `tangent_plane`.

    Parameters
    ----------
    xi, eta : `float`
        Standard coordinates [rad].
    ra0, dec0 : `float`
        Tangent point [rad].

    Returns
    -------
    ra, dec : `float`
        Position [rad].
    """
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
    """Return great-circle separations by the haversine formula, which is exact for small ones.

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : `numpy.ndarray`, shape (n,), float64 [rad]
        Positions.

    Returns
    -------
    separation : `numpy.ndarray`, shape (n,), float64 [rad]
    """
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
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions on the array.
    ra, dec : `numpy.ndarray`, shape (n,), float64 [rad]
        Positions on the sky.
    weight : `numpy.ndarray`, shape (n,), float64 [1 / rad^2]
        Inverse variance of a position along one axis.
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
