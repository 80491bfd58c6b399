"""Aperture photometry: fluxes in circles that cut pixels exactly.

The area of a pixel within a circle is put together from four quadrants with their closed form; results agree
with those of ``sep`` (``sum_circle`` with ``subpix=0``).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def _quadrant_area(x: float, y: float, r: float) -> float:
    """Area of the disc of radius r within 0..x times 0..y; odd in x and in y."""
    sign = 1.0
    if x < 0:
        x, sign = -x, -sign
    if y < 0:
        y, sign = -y, -sign
    if x * x + y * y <= r * r:
        return float(sign * x * y)
    x, y = min(x, r), min(y, r)
    a = np.sqrt(max(r * r - y * y, 0.0))
    if a >= x:
        return float(sign * x * y)
    # Flat part up to where the circle meets y, then the integral of sqrt(r2 - u2).
    upper = 0.5 * (x * np.sqrt(max(r * r - x * x, 0.0)) + r * r * np.arcsin(min(x / r, 1.0)))
    lower = 0.5 * (a * y + r * r * np.arcsin(min(a / r, 1.0)))
    return float(sign * (y * a + upper - lower))


@numba.njit(cache=True, nogil=True)
def _circle_sums(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    radii: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    n, size, _ = data.shape
    half = size // 2
    for s in range(n):
        for k in range(radii.size):
            r = radii[k]
            total, noise = 0.0, 0.0
            for i in range(max(0, int(half + dy[s] - r - 1)), min(size, int(half + dy[s] + r + 3))):
                v = i - half - dy[s]
                for j in range(max(0, int(half + dx[s] - r - 1)), min(size, int(half + dx[s] + r + 3))):
                    u = j - half - dx[s]
                    d2 = u * u + v * v
                    if d2 <= (r - 0.7072) ** 2 and r > 0.7072:
                        f = 1.0
                    elif d2 >= (r + 0.7072) ** 2:
                        continue
                    else:
                        f = (
                            _quadrant_area(u + 0.5, v + 0.5, r)
                            - _quadrant_area(u - 0.5, v + 0.5, r)
                            - _quadrant_area(u + 0.5, v - 0.5, r)
                            + _quadrant_area(u - 0.5, v - 0.5, r)
                        )
                    total += f * data[s, i, j]
                    noise += f * f * variance[s, i, j]
            out[s, k, 0] = total
            out[s, k, 1] = np.sqrt(noise)


def circular_aperture_fluxes(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    radii: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum stamps within circles, cutting pixels exactly.

    Parameters
    ----------
    data : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image]
        Cut-outs without holes.
    variance : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image squared]
        Their variance.
    dx, dy : `numpy.ndarray`, shape (n,), float64 [pixels]
        Centre from the middle pixel.
    radii : `numpy.ndarray`, shape (n_radii,), float64 [pixels]
        What a circle has beyond the stamp counts as nothing.

    Returns
    -------
    flux, flux_err : `numpy.ndarray`, shape (n, n_radii), float64 [unit of the image]
    """
    out = np.zeros((len(data), len(radii), 2))
    _circle_sums(data, variance, dx, dy, np.asarray(radii, np.float64), out)
    return out[:, :, 0], out[:, :, 1]
