"""PSF matching: convolve an exposure so that its PSF becomes a given one everywhere.

The matching kernel is the ratio of the two PSFs' Fourier transforms, damped where the exposure's own has no
power. It varies over the image as the PSF does: kernels are solved at a grid of positions and fitted by a
polynomial, so that a handful of convolutions with constant kernels, weighted by the polynomial's terms, does
for the whole image, as in image subtraction with a space-varying kernel (Alard 2000, A&AS 144, 363;
doi:10.1051/aas:2000214).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure
from .mask import Mask
from .psf import Psf, polynomial_terms


def gaussian_psf(fwhm_pixels: float) -> Psf:
    """Return the fixed Gaussian PSF of a full width at half maximum [pixels]."""
    sigma = fwhm_pixels / 2.3548200450309493
    size = 2 * int(np.ceil(5.0 * sigma)) + 1
    return Psf.gaussian(sigma, size)


def matching_kernel(
    source: NDArray[np.float64], target: NDArray[np.float64], size: int, *, damping: float = 1e-4
) -> NDArray[np.float64]:
    """Return the kernel that turns one PSF into another.

    Parameters
    ----------
    source, target : `numpy.ndarray`, shape (n, n), float64 [1]
        Centred images of the PSFs, each of its own odd size.
    size : `int`
        Odd size of the kernel [pixels].
    damping : `float`
        Power of the source, relative to its highest, below which it is not divided by.

    Returns
    -------
    kernel : `numpy.ndarray`, shape (size, size), float64 [1]
        Summing to 1.

    Notes
    -----
    K = T conj(S) / (abs(S)**2 + damping max abs(S)**2), the Wiener filter with white noise (as in the
    ratio-of-Fourier-transforms method, Gordon et al. 2008, ApJ 682, 336, section 4.2).
    """
    padded = 2 * max(source.shape[0], target.shape[0], size) + 1
    s, t = (np.fft.rfft2(_with_middle_at_origin(p, padded)) for p in (source, target))
    power = np.abs(s) ** 2
    ratio = t * np.conj(s) / (power + damping * power.max())
    kernel = np.roll(np.fft.irfft2(ratio, (padded, padded)), (size // 2, size // 2), axis=(0, 1))[
        :size, :size
    ]
    # A smooth edge: a kernel cut off sharply rings.
    r = np.abs(np.arange(size) - size // 2) / (size // 2 + 1)
    taper = np.where(r > 0.75, np.cos(0.5 * np.pi * (r - 0.75) / 0.25), 1.0)
    kernel = kernel * np.outer(taper, taper)
    result: NDArray[np.float64] = kernel / kernel.sum()
    return result


def _with_middle_at_origin(image: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Pad an image with zeros and roll its middle to [0, 0]."""
    padded = np.zeros((size, size))
    padded[: image.shape[0], : image.shape[1]] = image
    half = image.shape[0] // 2
    return np.roll(padded, (-half, -half), axis=(0, 1))


def match_psf(
    exposure: Exposure, target: Psf, *, kernel_size: int = 21, n_samples: int = 5, degree: int = 2
) -> Exposure:
    """Convolve an exposure to a given PSF.

    Parameters
    ----------
    exposure : `Exposure`
        With a PSF; not changed. Pixels without data may be NaN.
    target : `Psf`
        Fixed PSF wanted; broader than the exposure's, or noise is amplified.
    kernel_size : `int`
        Odd size of the kernel [pixels].
    n_samples : `int`
        Positions along each axis where kernels are solved.
    degree : `int`
        Of the polynomial the kernel's pixels follow.

    Returns
    -------
    matched : `Exposure`
        Image, mask and variance convolved; pixels within half a kernel of one without data have none either,
        flagged pixels are spread over the kernel's core.

    Raises
    ------
    ValueError
        If the exposure has no PSF.
    """
    from scipy.ndimage import maximum_filter
    from scipy.signal import oaconvolve

    if exposure.psf is None:
        raise ValueError("Cannot match the PSF of an exposure that has none; run characterizeImage first")
    ny, nx = exposure.shape
    xs, ys = np.linspace(0, nx - 1, n_samples), np.linspace(0, ny - 1, n_samples)
    gx, gy = (g.ravel() for g in np.meshgrid(xs, ys))
    wanted = target.image_at(0.0, 0.0)
    degree = degree if exposure.psf.degree > 0 else 0
    if degree == 0:
        gx, gy = np.array([0.5 * (nx - 1)]), np.array([0.5 * (ny - 1)])
    kernels = np.stack(
        [
            matching_kernel(exposure.psf.image_at(float(x), float(y)), wanted, kernel_size)
            for x, y in zip(gx, gy, strict=True)
        ]
    )
    u = (gx - 0.5 * (nx - 1)) / max(0.5 * (nx - 1), 1.0)
    v = (gy - 0.5 * (ny - 1)) / max(0.5 * (ny - 1), 1.0)
    terms = polynomial_terms(u, v, degree)
    coefficients = np.linalg.lstsq(terms.T, kernels.reshape(len(kernels), -1), rcond=None)[0]
    coefficients = coefficients.reshape(-1, kernel_size, kernel_size)

    no_data = ~np.isfinite(exposure.image) | ~np.isfinite(exposure.variance)
    image = np.where(no_data, np.float32(0.0), exposure.image)
    variance = np.where(no_data, np.float32(0.0), exposure.variance)
    u_row = ((np.arange(nx) - 0.5 * (nx - 1)) / max(0.5 * (nx - 1), 1.0)).astype(np.float32)
    v_row = ((np.arange(ny) - 0.5 * (ny - 1)) / max(0.5 * (ny - 1), 1.0)).astype(np.float32)
    result = np.zeros_like(image)
    for (i, j), kernel in zip(_powers_of_terms(degree), coefficients, strict=True):
        part = oaconvolve(image, kernel.astype(np.float32), mode="same")
        part *= u_row[np.newaxis, :] ** i * v_row[:, np.newaxis] ** j
        result += part
    # The variance changes little with the kernel's variation: one kernel, that of the middle.
    middle = kernels[len(kernels) // 2]
    noise = oaconvolve(variance, (middle**2).astype(np.float32), mode="same")
    spread = maximum_filter(no_data, size=kernel_size)
    core = 2 * int(np.ceil(np.sqrt((middle > 0.05 * middle.max()).sum()) / 2.0)) - 1
    mask = Mask(_spread_bits(exposure.mask.array, core), exposure.mask.planes)
    result[spread], noise[spread] = np.nan, np.inf
    mask.set_where(spread, "NO_DATA")
    matched = exposure.copy()
    matched.image, matched.mask = result.astype(np.float32), mask
    matched.variance = np.maximum(noise, np.float32(0.0)).astype(np.float32)
    matched.psf = target
    return matched


def _powers_of_terms(degree: int) -> list[tuple[int, int]]:
    """Return the powers of x and y of the terms, in the order of `polynomial_terms`."""
    return [(d - j, j) for d in range(degree + 1) for j in range(d + 1)]


def _spread_bits(mask: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """OR the bits of the size x size pixels about each pixel."""
    half = size // 2
    rows = mask.copy()
    for shift in range(1, half + 1):
        rows[shift:] |= mask[:-shift]
        rows[:-shift] |= mask[shift:]
    result = rows.copy()
    for shift in range(1, half + 1):
        result[:, shift:] |= rows[:, :-shift]
        result[:, :-shift] |= rows[:, shift:]
    return result
