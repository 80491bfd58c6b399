"""Shapes: second moments under an elliptical Gaussian that fits the source itself.

Bernstein & Jarvis (2002, AJ 123, 583; doi:10.1086/338085, section 3): the weight's own moments W and the
moments M measured under it satisfy M = W / 2 when the weight matches a Gaussian source, so W is replaced by
(M^-1 - W^-1)^-1 until nothing changes. The flux that belongs to the matched Gaussian is the field's
``base_GaussianFlux``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Adaptive moments of n sources.

    Parameters
    ----------
    xx, yy, xy : `numpy.ndarray`, shape (n,), float64 [pixels^2]
        Second moments; NaN where ``flag``.
    flux, flux_err : `numpy.ndarray`, shape (n,), float64 [unit of the image]
        Of the Gaussian that matches.
    size_err : `numpy.ndarray`, shape (n,), float64 [pixels^2]
        Error of (xx + yy) / 2, from the noise, for a Gaussian source.
    flag : `numpy.ndarray`, shape (n,), bool [1]
        Not converged.
    """

    xx: NDArray[np.float64]
    yy: NDArray[np.float64]
    xy: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    size_err: NDArray[np.float64]
    flag: NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def _measure_moments(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    start: NDArray[np.float64],
    n_iterations: int,
    out: NDArray[np.float64],
) -> None:
    n, size, _ = data.shape
    half = size // 2
    largest = 0.35 * size * size
    for s in range(n):
        wxx, wyy, wxy = start[s], start[s], 0.0
        converged = False
        flux, err2 = np.nan, np.nan
        for _ in range(n_iterations):
            det = wxx * wyy - wxy * wxy
            if not (det > 1e-4) or wxx + wyy > largest:
                break
            ixx, iyy, ixy = wyy / det, wxx / det, -wxy / det
            # Beyond 4 sigma the weight is 3e-4: nothing but noise.
            reach_x, reach_y = 4.0 * np.sqrt(wxx), 4.0 * np.sqrt(wyy)
            i0, i1 = max(0, int(half + dy[s] - reach_y)), min(size, int(half + dy[s] + reach_y) + 2)
            j0, j1 = max(0, int(half + dx[s] - reach_x)), min(size, int(half + dx[s] + reach_x) + 2)
            s0, sxx, syy, sxy, sw, sv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(i0, i1):
                v = i - half - dy[s]
                for j in range(j0, j1):
                    u = j - half - dx[s]
                    q = ixx * u * u + 2.0 * ixy * u * v + iyy * v * v
                    if q > 16.0:
                        continue
                    w = np.exp(-0.5 * q)
                    f = w * data[s, i, j]
                    s0 += f
                    sxx += f * u * u
                    syy += f * v * v
                    sxy += f * u * v
                    sw += w * w
                    sv += w * w * variance[s, i, j]
            if not s0 > 0.0:
                break
            # A pixel's own width adds 1/12 to both sides alike and cancels in the comparison with the PSF.
            mxx, myy, mxy = sxx / s0, syy / s0, sxy / s0
            flux, err2 = s0 / (sw / (np.pi * np.sqrt(det))) * 2.0, sv * 4.0
            mdet = mxx * myy - mxy * mxy
            if not (mdet > 1e-5):
                break
            axx, ayy, axy = myy / mdet - ixx, mxx / mdet - iyy, -mxy / mdet - ixy
            adet = axx * ayy - axy * axy
            if not (adet > 0.0 and axx > 0.0):
                # Flatter than any Gaussian of this width: widen.
                wxx, wyy, wxy = 1.4 * wxx, 1.4 * wyy, 1.4 * wxy
                continue
            nxx, nyy, nxy = ayy / adet, axx / adet, -axy / adet
            change = abs(nxx - wxx) + abs(nyy - wyy) + abs(nxy - wxy)
            wxx, wyy, wxy = nxx, nyy, nxy
            if change < 1e-5 * (wxx + wyy):
                converged = True
                break
        out[s, 0], out[s, 1], out[s, 2] = wxx, wyy, wxy
        out[s, 3] = flux
        out[s, 4] = np.sqrt(err2)
        out[s, 5] = 1.0 if converged else 0.0


def adaptive_moments(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    start_sigma: float | NDArray[np.float64],
    n_iterations: int = 100,
) -> Moments:
    """Measure adaptive moments about given centres.

    Parameters
    ----------
    data : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image]
        Cut-outs, without holes, background subtracted.
    variance : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image squared]
        Their variance.
    dx, dy : `numpy.ndarray`, shape (n,), float64 [pixels]
        Centre from the middle pixel.
    start_sigma : `float` or `numpy.ndarray`, shape (n,), float64 [pixels]
        Width of the first weight.
    n_iterations : `int`
        Gives up, with ``flag``, after so many.

    Returns
    -------
    moments : `Moments`
    """
    n = len(data)
    out = np.full((n, 6), np.nan)
    start = np.broadcast_to(np.asarray(start_sigma, np.float64) ** 2, (n,)).copy()
    _measure_moments(data, variance, np.asarray(dx), np.asarray(dy), start, n_iterations, out)
    bad = out[:, 5] != 1.0
    xx, yy, xy = (np.where(bad, np.nan, out[:, k]) for k in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        # Moments of a Gaussian in even noise: sigma(T)/T = sqrt(2) sigma(F)/F for the matched weight.
        size_err = 0.5 * (xx + yy) * np.sqrt(2.0) * out[:, 4] / out[:, 3]
    return Moments(xx, yy, xy, out[:, 3], out[:, 4], size_err, bad)


@numba.njit(cache=True, nogil=True)
def _move_to_centroids(
    data: NDArray[np.float32],
    good: NDArray[np.uint8],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sigma: float,
    n_iterations: int,
) -> None:
    n, size, _ = data.shape
    half = size // 2
    reach = 4.0 * sigma
    for s in range(n):
        start_x, start_y = x[s], y[s]
        for _ in range(n_iterations):
            total, sx, sy = 0.0, 0.0, 0.0
            for i in range(max(0, int(half + y[s] - reach)), min(size, int(half + y[s] + reach) + 2)):
                v = i - half - y[s]
                for j in range(max(0, int(half + x[s] - reach)), min(size, int(half + x[s] + reach) + 2)):
                    if not good[s, i, j]:
                        continue
                    u = j - half - x[s]
                    w = np.exp(-0.5 * (u * u + v * v) / (sigma * sigma)) * data[s, i, j]
                    total += w
                    sx += w * u
                    sy += w * v
            if not total > 0.0:
                break
            # Weight and source are about equally wide, so the weighted mean goes half way.
            ux, uy = 2.0 * sx / total, 2.0 * sy / total
            x[s] += ux
            y[s] += uy
            if (x[s] - start_x) ** 2 + (y[s] - start_y) ** 2 > 4.0 * sigma * sigma:
                x[s], y[s] = start_x, start_y
                break
            if ux * ux + uy * uy < 1e-10:
                break


def windowed_centroids(
    data: NDArray[np.float32],
    good: NDArray[np.uint8],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    sigma_pixels: float,
    n_iterations: int = 50,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centroids under a circular Gaussian window, as SExtractor's XWIN_IMAGE and YWIN_IMAGE.

    Parameters
    ----------
    data : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image]
        Cut-outs.
    good : `numpy.ndarray`, shape (n, size, size), uint8 [1]
        Pixels where it is 0 are left out.
    dx, dy : `numpy.ndarray`, shape (n,), float64 [pixels]
        First positions from the middle pixel.
    sigma_pixels : `float`
        Width of the window [pixels].
    n_iterations : `int`
        At most so many steps.

    Returns
    -------
    dx, dy : `numpy.ndarray`, shape (n,), float64 [pixels]
        Centroids; where none is found within two widths, the first positions.
    """
    x, y = np.array(dx, np.float64), np.array(dy, np.float64)
    _move_to_centroids(data, good, x, y, float(sigma_pixels), n_iterations)
    return x, y
