"""Photometric zero point: the magnitude of one unit of flux, from stars of known brightness.

A weighted mean with clipping, the task of Rubin's ``PhotoCalTask``. What stars scatter beyond their errors is
estimated from the better half of them and added to every weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .photo_calib import AB_ZERO_POINT_NJY, PhotoCalib


@dataclass(frozen=True, slots=True)
class ZeroPoint:
    """Result of `fit_zero_point`.

    Parameters
    ----------
    zero_point_mag : `float`
        AB magnitude of one unit of instrumental flux [mag].
    error_mag : `float`
        Standard error [mag].
    scatter_mag : `float`
        Robust scatter of the stars used [mag].
    used : `numpy.ndarray`, shape (n,), bool [1]
        Stars it rests on.
    """

    zero_point_mag: float
    error_mag: float
    scatter_mag: float
    used: NDArray[np.bool_]

    @property
    def photo_calib(self) -> PhotoCalib:
        """The calibration it amounts to."""
        return PhotoCalib.from_zero_point(self.zero_point_mag, self.error_mag)


def fit_zero_point(
    flux: NDArray[np.float64],
    flux_err: NDArray[np.float64],
    reference_flux: NDArray[np.float64],
    reference_flux_err: NDArray[np.float64],
    *,
    floor_mag: float = 0.005,
    n_sigma: float = 3.0,
    n_iterations: int = 20,
    min_stars: int = 1,
) -> ZeroPoint | None:
    """Fit the zero point to matched stars.

    Parameters
    ----------
    flux, flux_err : `numpy.ndarray`, shape (n,), float64 [electrons of the whole exposure]
        Instrumental fluxes.
    reference_flux, reference_flux_err : `numpy.ndarray`, shape (n,), float64 [nJy]
        True fluxes.
    floor_mag : `float`
        Scatter of real stars beyond their errors [mag].
    n_sigma, n_iterations : `float`, `int`
        Clipping about the median, then about the weighted mean.
    min_stars : `int`
        Fewer are no solution.

    Returns
    -------
    zero_point : `ZeroPoint` or `None`
        None with too few stars.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = (AB_ZERO_POINT_NJY - 2.5 * np.log10(reference_flux)) + 2.5 * np.log10(flux)
        to_mag = 2.5 / np.log(10.0)
        error = to_mag * np.hypot(flux_err / flux, np.nan_to_num(reference_flux_err) / reference_flux)
    good = np.isfinite(offset) & np.isfinite(error)
    if good.sum() < max(min_stars, 1):
        return None
    used = good.copy()
    center = float(np.median(offset[used]))
    scatter = max(1.4826 * float(np.median(np.abs(offset[used] - center))), floor_mag)
    for _ in range(n_iterations):
        total = np.hypot(error, max(floor_mag, _scatter_beyond_errors(offset[used] - center, error[used])))
        new = good & (np.abs(offset - center) < n_sigma * np.maximum(total, 0.5 * scatter))
        if new.sum() < max(min_stars, 1):
            break
        weight = 1.0 / total[new] ** 2
        mean = float((weight * offset[new]).sum() / weight.sum())
        done = np.array_equal(new, used) and abs(mean - center) < 1e-6
        used, center = new, mean
        scatter = max(1.4826 * float(np.median(np.abs(offset[used] - center))), 1e-6)
        if done:
            break
    weight = 1.0 / (
        error[used] ** 2 + max(floor_mag, _scatter_beyond_errors(offset[used] - center, error[used])) ** 2
    )
    return ZeroPoint(center, float(1.0 / np.sqrt(weight.sum())), scatter, used)


def _scatter_beyond_errors(residual: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Scatter beyond the errors, robustly, from the better half of the stars."""
    best = error <= np.median(error)
    spread = 1.4826 * np.median(np.abs(residual[best]))
    return float(np.sqrt(max(spread**2 - np.median(error[best]) ** 2, 0.0)))
