"""Overscan: the level of the electronics, read with every row, and its removal.

The level is estimated from the serial overscan columns, row by row or as a smooth function of the row, then
optionally from the parallel overscan rows, column by column.

Context: whatever error the level of a row has is in every pixel of the row, as a stripe. The mean of 16
pixels adds 3 % to the read noise, that of 6 adds 8 %. Where the level changes slowly, that is needless: the
default (``ROBUST_PER_ROW``) averages over neighbouring rows and adds only as much of a row's own deviation
as is real, judged by how much larger deviations are than pixel noise explains. What is given up: in a
detector with true row-to-row jumps of the size of that error, half of each jump stays.

Sources: the other fit types are those of Rubin's ``OverscanCorrectionTask``; ``ROBUST_PER_ROW`` is a filter
of Savitzky & Golay (1964, Anal. Chem. 36, 1627; doi:10.1021/ac60214a047) with the shrinkage of James & Stein
(1961, Proc. 4th Berkeley Symp. Math. Stat. Prob. 1, 361).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .detector import Amplifier, box_slices

FIT_TYPES = (
    "ROBUST_PER_ROW",
    "MEAN_PER_ROW",
    "MEDIAN_PER_ROW",
    "MEAN",
    "MEANCLIP",
    "MEDIAN",
    "POLY",
    "CHEB",
    "LEG",
    "NATURAL_SPLINE",
    "CUBIC_SPLINE",
    "AKIMA_SPLINE",
)
"""Ways to model the level along the rows; the names are those of the reference's ``overscan.fitType``."""


def row_levels(
    overscan: NDArray[Any], fit_type: str = "ROBUST_PER_ROW", *, order: int = 1, clip_sigma: float = 3.0
) -> NDArray[np.float32]:
    """Estimate the level of every row from its overscan pixels.

    Parameters
    ----------
    overscan : `numpy.ndarray`, shape (n_rows, n_columns), any number type [ADU]
        Overscan pixels.
    fit_type : `str`
        One of `FIT_TYPES`.
    order : `int`
        Polynomial order, or number of pieces of a spline.
    clip_sigma : `float`
        Rejection limit [standard deviations].

    Returns
    -------
    levels : `numpy.ndarray`, shape (n_rows,), float32 [ADU]
        Level of each row.

    Raises
    ------
    ValueError
        If the fit type is unknown or there is no pixel.
    """
    if fit_type not in FIT_TYPES:
        raise ValueError(f"Unknown overscan fit type {fit_type!r}; there are {', '.join(FIT_TYPES)}")
    if overscan.size == 0:
        raise ValueError(f"The overscan region has no pixels (shape {overscan.shape})")
    values = overscan.astype(np.float32)
    n_rows = len(values)
    if fit_type in ("MEAN", "MEDIAN", "MEANCLIP"):
        if fit_type == "MEDIAN":
            level = float(np.median(values))
        elif fit_type == "MEAN":
            level = float(values.mean(dtype=np.float64))
        else:
            level = float(_clipped_row_means(values.ravel()[None, :], clip_sigma)[0][0])
        return np.full(n_rows, level, dtype=np.float32)
    if fit_type == "MEDIAN_PER_ROW":
        return np.median(values, axis=1).astype(np.float32)
    rows, sigma = _clipped_row_means(values, clip_sigma)
    if fit_type == "MEAN_PER_ROW":
        return rows
    if fit_type == "ROBUST_PER_ROW":
        return _shrunk_to_smooth_level(rows, sigma**2 / values.shape[1])
    return _fitted_along_rows(rows, fit_type, order, clip_sigma)


def _clipped_row_means(values: NDArray[np.float32], clip_sigma: float) -> tuple[NDArray[np.float32], float]:
    """Mean of each row without what lies beyond ``clip_sigma`` of its median, and the pixels' sigma."""
    means = np.empty(len(values), dtype=np.float32)
    residual = np.empty_like(values)
    _row_medians(values, means, residual)
    absolute = np.abs(residual)
    # The median of |residual| is quantised for integer pixels, so the width is taken from the inner 90 %:
    # a normal distribution cut at its 90 % quantile has 0.787 of its sigma.
    limit = np.partition(absolute, int(0.9 * (absolute.size - 1)), axis=None)[int(0.9 * (absolute.size - 1))]
    inner = float(np.sqrt(np.mean(residual[absolute <= limit] ** 2))) / 0.787
    sigma = _clip_rows(values, residual, np.float32(clip_sigma * max(inner, 0.3)), means)
    return means, float(sigma)


@numba.njit(cache=True, nogil=True)
def _row_medians(values: Any, medians: Any, residual: Any) -> None:
    n_rows, n = values.shape
    line = np.empty(n, np.float32)
    for y in range(n_rows):
        if n <= 64:
            for k in range(n):  # insertion sort: a few dozen values at most
                v = values[y, k]
                j = k - 1
                while j >= 0 and line[j] > v:
                    line[j + 1] = line[j]
                    j -= 1
                line[j + 1] = v
        else:
            line[:] = np.sort(values[y])
        medians[y] = np.float32(0.5) * (line[(n - 1) // 2] + line[n // 2])
        for k in range(n):
            residual[y, k] = values[y, k] - medians[y]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clip_rows(values: Any, residual: Any, limit: float, means: Any) -> Any:
    """Replace each row's median by the mean of what is within the limit of it; return the pixels' sigma."""
    n_rows, n = values.shape
    square = 0.0
    freedom = 0
    for y in range(n_rows):
        total = 0.0
        count = 0
        for k in range(n):
            if abs(residual[y, k]) <= limit:
                total += residual[y, k]
                count += 1
        shift = total / max(count, 1)
        for k in range(n):
            if abs(residual[y, k]) <= limit:
                square += (residual[y, k] - shift) ** 2
        freedom += max(count - 1, 0)
        means[y] += shift
    return np.sqrt(square / max(freedom, 1))


def _shrunk_to_smooth_level(
    rows: NDArray[np.float32], noise_variance: float, half_window: int = 25
) -> NDArray[np.float32]:
    """Smooth row levels, keeping the part of each row's deviation that noise does not explain.

    The smooth level is a Savitzky-Golay filter of second order (follows curvature, leaves a part ``own`` of
    a row's noise in it); the factor is the James-Stein one, 1 - noise / (noise + signal).
    """
    window = 2 * half_window + 1
    if len(rows) < 3 * window:
        return rows
    from scipy.ndimage import median_filter
    from scipy.signal import savgol_coeffs, savgol_filter

    # A few rows with a bleed trail in their overscan must not bend the smooth level.
    local = median_filter(rows, size=9, mode="nearest")
    limit = 5.0 * max(float(np.sqrt(noise_variance)), 1e-3)
    tame = np.clip(rows, local - limit, local + limit)
    smooth = savgol_filter(tame.astype(np.float64), window, 2)
    own = float(savgol_coeffs(window, 2)[half_window])
    deviation = rows - smooth
    centre = float(np.median(deviation))
    total = (1.4826 * float(np.median(np.abs(deviation - centre)))) ** 2
    expected = noise_variance * (1.0 - own)
    keep = max(1.0 - expected / total, 0.0) if total > 0 else 0.0
    if keep < 0.15:  # within the error of the two variances
        keep = 0.0
    result: NDArray[np.float32] = (smooth + keep * deviation).astype(np.float32)
    return result


def _fitted_along_rows(
    rows: NDArray[np.float32], fit_type: str, order: int, clip_sigma: float
) -> NDArray[np.float32]:
    x = np.linspace(-1.0, 1.0, len(rows))
    if fit_type in ("POLY", "CHEB", "LEG"):
        kind: Any = {
            "POLY": np.polynomial.Polynomial,
            "CHEB": np.polynomial.Chebyshev,
            "LEG": np.polynomial.Legendre,
        }[fit_type]
        good = np.ones(len(rows), dtype=bool)
        for _ in range(3):
            fit = kind.fit(x[good], rows[good].astype(np.float64), order, domain=[-1.0, 1.0])
            residual = rows - fit(x)
            good = np.abs(residual) <= clip_sigma * max(float(np.std(residual[good])), 1e-6)
        polynomial: NDArray[np.float32] = fit(x).astype(np.float32)
        return polynomial
    from scipy import interpolate

    n_pieces = max(min(order, len(rows) // 4), 2)
    pieces = np.array_split(np.arange(len(rows)), n_pieces)
    centres = np.array([x[p].mean() for p in pieces])
    levels = np.array([np.median(rows[p]) for p in pieces], dtype=np.float64)
    if fit_type == "AKIMA_SPLINE" and n_pieces > 2:
        spline: Any = interpolate.Akima1DInterpolator(centres, levels, extrapolate=True)
    else:
        boundary: Any = "natural" if fit_type == "NATURAL_SPLINE" or n_pieces < 4 else "not-a-knot"
        spline = interpolate.CubicSpline(centres, levels, bc_type=boundary)
    levels_of_rows: NDArray[np.float32] = spline(x).astype(np.float32)
    return levels_of_rows


def serial_levels(
    raw: NDArray[Any],
    amplifier: Amplifier,
    fit_type: str = "ROBUST_PER_ROW",
    *,
    order: int = 1,
    clip_sigma: float = 3.0,
    skip_leading: int = 0,
    skip_trailing: int = 0,
) -> NDArray[np.float32]:
    """Estimate the level of every data row of an amplifier from its serial overscan.

    Parameters
    ----------
    raw : `numpy.ndarray`, shape (ny, nx), any number type [ADU]
        Raw array.
    amplifier : `Amplifier`
        Whose boxes.
    fit_type, order, clip_sigma
        As of `row_levels`.
    skip_leading, skip_trailing : `int`
        Overscan columns left out: those read first, which deferred charge contaminates, and last.

    Returns
    -------
    levels : `numpy.ndarray`, shape (data rows,), float32 [ADU]
        Level; zero where the amplifier has no overscan.

    Raises
    ------
    ValueError
        If the overscan box does not hold the data rows, or nothing of it is left.
    """
    data, box = amplifier.raw_data_box, amplifier.raw_serial_overscan_box
    n_rows = data[3]
    if box[2] * box[3] == 0:
        return np.zeros(n_rows, dtype=np.float32)
    if box[1] > data[1] or box[1] + box[3] < data[1] + n_rows:
        raise ValueError(
            f"Serial overscan {box} of amplifier {amplifier.name!r} does not hold the rows of its data {data}"
        )
    first, last = skip_leading, box[2] - skip_trailing
    if first >= last:
        raise ValueError(
            f"Serial overscan of amplifier {amplifier.name!r} has {box[2]} columns; "
            f"{skip_leading} + {skip_trailing} are to be skipped"
        )
    section = raw[data[1] : data[1] + n_rows, box[0] : box[0] + box[2]]
    if box[0] < data[0]:  # read from high to low columns
        section = section[:, ::-1]
    return row_levels(section[:, first:last], fit_type, order=order, clip_sigma=clip_sigma)


def parallel_levels(
    raw: NDArray[Any], amplifier: Amplifier, serial_level: float, *, skip_leading: int = 0
) -> NDArray[np.float32]:
    """Estimate what every data column still has in the parallel overscan, the serial level removed.

    Parameters
    ----------
    raw : `numpy.ndarray`, shape (ny, nx), any number type [ADU]
        Raw array.
    amplifier : `Amplifier`
        Whose boxes.
    serial_level : `float`
        Level of the serial overscan near the parallel one [ADU].
    skip_leading : `int`
        Overscan rows left out next to the data, which deferred charge contaminates.

    Returns
    -------
    levels : `numpy.ndarray`, shape (data columns,), float32 [ADU]
        Level; zero where the amplifier has no such overscan.
    """
    box = amplifier.raw_parallel_overscan_box
    n_columns = amplifier.raw_data_box[2]
    if box[2] * box[3] == 0 or box[2] != n_columns:
        return np.zeros(n_columns, dtype=np.float32)
    section = raw[box_slices(box)].astype(np.float32)
    section = section[skip_leading:] if box[1] > amplifier.raw_data_box[1] else section[::-1][skip_leading:]
    if len(section) == 0:
        return np.zeros(n_columns, dtype=np.float32)
    return (np.median(section, axis=0) - np.float32(serial_level)).astype(np.float32)
