"""Aperture correction: what a flux must be multiplied by to be the flux in the reference circle.

For each kind of flux the ratio to the reference aperture is fitted over bright stars as a polynomial in
position, low enough for the number of stars. This follows Rubin's ``MeasureApCorrTask`` (Bosch et al. 2018,
PASJ 70, S5; doi:10.1093/pasj/psx080), which has Chebyshev terms where there are monomials here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .psf import polynomial_terms
from .psf_model import choose_degree

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class ApertureCorrection:
    """Correction of one flux field.

    Parameters
    ----------
    coefficients : `numpy.ndarray`, shape (n_terms,), float64 [1]
        Polynomial (order of `polynomial_terms`) over positions scaled to [-1, 1].
    rms : `float`
        Scatter of the stars about it [1].
    n_used : `int`
        Stars it rests on.
    """

    coefficients: NDArray[np.float64]
    rms: float
    n_used: int


def _scaled_positions(
    x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ny, nx = shape
    return (2 * np.asarray(x) + 1) / nx - 1, (2 * np.asarray(y) + 1) / ny - 1


def evaluate_correction(
    coefficients: float | NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Return a correction at positions.

    Parameters
    ----------
    coefficients : `float` or `numpy.ndarray`, shape (n_terms,), float64 [1]
        As in ``Exposure.ap_corr``: a constant or polynomial coefficients.
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the exposure.

    Returns
    -------
    correction : `numpy.ndarray`, shape (n,), float64 [1]
        Factor of the flux at each position.
    """
    values = np.atleast_1d(np.asarray(coefficients, np.float64))
    degree = round((float(np.sqrt(8 * len(values) + 1)) - 3) / 2)
    u, v = _scaled_positions(x, y, shape)
    result: NDArray[np.float64] = values @ polynomial_terms(u, v, degree)
    return result


def fit_aperture_correction(
    catalog: Table,
    rows: NDArray[np.bool_],
    field: str,
    reference: str,
    shape: tuple[int, int],
    *,
    degree: int = 2,
    n_sigma: float = 3.0,
    n_iterations: int = 4,
) -> ApertureCorrection | None:
    """Fit the correction of one flux field.

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Of `measure_sources`.
    rows : `numpy.ndarray`, shape (n,), bool [1]
        Stars to use.
    field, reference : `str`
        Stems of the flux to be corrected and of the one it should agree with.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the exposure.
    degree : `int`
        Of the polynomial; less with few stars.
    n_sigma, n_iterations : `float`, `int`
        Clipping.

    Returns
    -------
    correction : `ApertureCorrection` or `None`
        None if fewer than two stars have both fluxes.
    """
    flux = np.asarray(catalog[f"{field}_instFlux"], np.float64)
    target = np.asarray(catalog[f"{reference}_instFlux"], np.float64)
    target_err = np.asarray(catalog[f"{reference}_instFluxErr"], np.float64)
    good = (
        rows & ~np.asarray(catalog[f"{field}_flag"], bool) & ~np.asarray(catalog[f"{reference}_flag"], bool)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, noise = target / flux, target_err / flux
        good &= np.isfinite(ratio) & np.isfinite(noise) & (flux > 0) & (target > 0)
    if good.sum() < 2:
        return None
    u, v = _scaled_positions(
        np.asarray(catalog["base_SdssCentroid_x"]), np.asarray(catalog["base_SdssCentroid_y"]), shape
    )
    middle = np.median(ratio[good])
    spread = max(1.4826 * float(np.median(np.abs(ratio[good] - middle))), 1e-6)
    used = good & (np.abs(ratio - middle) < 5 * spread)
    coefficients, residual = np.array([middle]), ratio - middle
    for _ in range(n_iterations):
        d = choose_degree(int(used.sum()), degree, 5.0)
        terms = polynomial_terms(u, v, d)
        # A floor keeps a single very bright star from deciding alone.
        weight = 1.0 / np.sqrt(noise[used] ** 2 + 0.002**2)
        coefficients, *_ = np.linalg.lstsq((terms[:, used] * weight).T, ratio[used] * weight, rcond=None)
        residual = ratio - coefficients @ terms
        spread = max(1.4826 * float(np.median(np.abs(residual[used]))), 1e-6)
        allowed = n_sigma * np.hypot(spread, np.where(np.isfinite(noise), noise, 0.0))
        new = good & (np.abs(residual) < allowed)
        if new.sum() < 2 or np.array_equal(new, used):
            break
        used = new
    rms = float(np.sqrt(np.mean(residual[used] ** 2)))
    return ApertureCorrection(coefficients, rms, int(used.sum()))


def apply_aperture_corrections(
    catalog: Table, corrections: Mapping[str, Any], fields: Sequence[str], shape: tuple[int, int]
) -> int:
    """Multiply fluxes by their corrections, and add ``_apCorr`` columns.

    Parameters
    ----------
    catalog : `astropy.table.Table`
        Changed in place.
    corrections : mapping of `str` to `float` or `numpy.ndarray`, shape (n_terms,), float64 [1]
        ``Exposure.ap_corr``, by ``<field>_instFlux``.
    fields : sequence of `str`
        Stems of the flux fields to correct; those without a correction are left as they are.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the exposure.

    Returns
    -------
    n_applied : `int`
        Fields corrected.
    """
    x, y = np.asarray(catalog["base_SdssCentroid_x"]), np.asarray(catalog["base_SdssCentroid_y"])
    n_applied = 0
    for field in fields:
        coefficients = corrections.get(f"{field}_instFlux")
        if coefficients is None:
            continue
        factor = evaluate_correction(coefficients, x, y, shape)
        catalog[f"{field}_instFlux"] = np.asarray(catalog[f"{field}_instFlux"]) * factor
        catalog[f"{field}_instFluxErr"] = np.asarray(catalog[f"{field}_instFluxErr"]) * factor
        catalog[f"{field}_apCorr"] = factor
        n_applied += 1
    return n_applied
