"""Detection: where the smoothed image stands above its noise.

The image is correlated with the PSF's Gaussian (the matched filter of a point source in even noise), divided
by the noise that the variance plane gives the result, and cut at so many sigma. A footprint is a connected
patch of such pixels, grown by some PSF widths. This follows Rubin's ``SourceDetectionTask`` (Bosch et al.
2018, PASJ 70, S5; doi:10.1093/pasj/psx080), with the noise taken from the variance plane under the same
kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure
from .footprints import FineView, FootprintSet, find_footprints, gaussian_kernel


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detection found above and below the sky."""

    positive: FootprintSet
    negative: FootprintSet


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _convolve_separable(
    image: NDArray[np.float32], kernel: NDArray[np.float32], result: NDArray[np.float32]
) -> None:
    """Convolve with a symmetric kernel along x and y; what lies outside is 0.

    One pass over a ring of rows, so that every pixel is read from and written to memory once.
    """
    ny, nx = image.shape
    half = kernel.size - 1
    padded = np.zeros(nx + 2 * half, np.float32)
    ring = np.empty((2 * half + 1, nx), np.float32)
    filled = -half - 1
    for i in range(ny):
        while filled < i + half:
            filled += 1
            row = ring[filled % (2 * half + 1)]
            if filled < 0 or filled >= ny:
                row[:] = np.float32(0.0)
                continue
            for j in range(nx):
                v = image[filled, j]
                padded[half + j] = v if np.isfinite(v) else np.float32(0.0)
            for j in range(nx):
                row[j] = kernel[0] * padded[half + j]
            for m in range(1, half + 1):
                w = kernel[m]
                for j in range(nx):
                    row[j] += w * (padded[half + j - m] + padded[half + j + m])
        out = result[i]
        middle = ring[i % (2 * half + 1)]
        for j in range(nx):
            out[j] = kernel[0] * middle[j]
        for m in range(1, half + 1):
            w = kernel[m]
            above, below = ring[(i + m) % (2 * half + 1)], ring[(i - m) % (2 * half + 1)]
            for j in range(nx):
                out[j] += w * (above[j] + below[j])


def convolve_gaussian(image: NDArray[np.float32], sigma_pixels: float) -> NDArray[np.float32]:
    """Return an image convolved with a Gaussian that sums to 1.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Non-finite pixels, and what lies outside, count as 0.
    sigma_pixels : `float`
        Standard deviation [pixels].

    Returns
    -------
    smooth : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image]
    """
    result = np.empty_like(image)
    _convolve_separable(np.ascontiguousarray(image), gaussian_kernel(sigma_pixels), result)
    return result


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _to_significance(smooth: NDArray[np.float32], variance: NDArray[np.float32]) -> None:
    for i in range(smooth.shape[0]):
        for j in range(smooth.shape[1]):
            v = variance[i, j]
            smooth[i, j] = smooth[i, j] / np.sqrt(v) if v > 0 else np.float32(0.0)


def significance_image(exposure: Exposure, sigma_pixels: float) -> NDArray[np.float32]:
    """Return the image smoothed by a Gaussian, in units of its own noise.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted. Pixels without variance have significance 0.
    sigma_pixels : `float`
        Width of the Gaussian [pixels].

    Returns
    -------
    significance : `numpy.ndarray`, shape (ny, nx), float32 [sigma]

    Notes
    -----
    Noise is taken to be uncorrelated: var(sum k d) = sum k2 var(d).
    """
    smooth = np.empty_like(exposure.image)
    kernel = gaussian_kernel(sigma_pixels)
    _convolve_separable(np.ascontiguousarray(exposure.image), kernel, smooth)
    noise = np.empty_like(exposure.variance)
    # Squared, the kernel is narrower: beyond 3 of its own widths nothing is left.
    squared = kernel[: 1 + max(1, int(np.ceil(3.0 * sigma_pixels / np.sqrt(2.0))))] ** 2
    _convolve_separable(np.ascontiguousarray(exposure.variance), squared, noise)
    _to_significance(smooth, noise)
    return smooth


def detect_sources(
    exposure: Exposure,
    sigma_pixels: float,
    threshold: float = 5.0,
    *,
    grow_n_sigma: float = 2.4,
    negative: bool = True,
    min_pixels: int = 1,
    min_prominence: float = 3.0,
    min_contrast: float = 0.003,
    fine_prominence: float = 5.0,
) -> Detections:
    """Detect sources and mark them in the mask's DETECTED and DETECTED_NEGATIVE planes.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted; its mask planes are cleared and set anew.
    sigma_pixels : `float`
        Width of the PSF [pixels].
    threshold : `float`
        [sigma of the smoothed image].
    grow_n_sigma : `float`
        Footprints are grown by this many PSF widths.
    negative : `bool`
        Whether to look below the sky too.
    min_pixels, min_prominence, min_contrast
        See `find_footprints`.
    fine_prominence : `float`
        ``min_prominence`` in a view smoothed by 0.4 of the PSF's width, which parts close pairs; 0 for none.

    Returns
    -------
    detections : `Detections`
    """
    significance = significance_image(exposure, sigma_pixels)
    exposure.mask.clear(("DETECTED", "DETECTED_NEGATIVE"))
    found = []
    for sign, plane in ((1, "DETECTED"), (-1, "DETECTED_NEGATIVE")):
        footprints = find_footprints(
            significance,
            threshold if sign > 0 or negative else np.inf,
            sign=sign,
            grow_pixels=grow_n_sigma * sigma_pixels,
            min_pixels=min_pixels,
            min_prominence=min_prominence,
            min_contrast=min_contrast,
            fine=FineView(exposure, 0.4 * sigma_pixels, fine_prominence) if fine_prominence > 0 else None,
        )
        if len(footprints):
            exposure.mask.set_where(footprints.labels > 0, plane)
        found.append(footprints)
    return Detections(*found)
