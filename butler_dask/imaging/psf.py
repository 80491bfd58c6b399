"""Psf: the image of a point source, as a polynomial in pixel position.

One class serves a fixed Gaussian guess (degree 0) and a fitted model that varies over the detector: each
pixel of the kernel is a polynomial in the scaled position, as in PSFEx (Bertin 2011, ASP 442, 435, eq. 1).
The kernel may be sampled more finely than the detector (``step`` < 1), and is resampled to the sub-pixel
position asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates


def polynomial_terms(x: ArrayLike, y: ArrayLike, degree: int) -> NDArray[np.float64]:
    """Evaluate the monomials x**i y**j, i + j <= degree.

    Parameters
    ----------
    x, y : array_like, shape (...), float64 [1]
        Scaled positions, same shape.
    degree : `int`
        Total degree.

    Returns
    -------
    terms : `numpy.ndarray`, shape (n_terms, ...), float64 [1]
        Ordered by total degree, then by the power of y: 1, x, y, x2, xy, y2 ...
    """
    xa, ya = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.stack([xa ** (d - j) * ya**j for d in range(degree + 1) for j in range(d + 1)])


class Psf:
    """A point-spread function that varies polynomially over a detector.

    Parameters
    ----------
    coefficients : `numpy.ndarray`, shape (n_terms, size, size), float64 [1]
        Kernel image of each polynomial term (order of `polynomial_terms`); size is odd and the PSF is
        centred on the middle sample.
    degree : `int`
        Degree of the polynomial.
    center : `tuple` [`float`, `float`]
        Position (x, y) in pixels that is the polynomial's origin.
    scale : `tuple` [`float`, `float`]
        Pixels per unit of the scaled position.
    step : `float`
        Kernel sampling in detector pixels (1 = native).
    """

    __slots__ = ("center", "coefficients", "degree", "scale", "step")

    def __init__(
        self,
        coefficients: NDArray[np.float64],
        degree: int = 0,
        center: tuple[float, float] = (0.0, 0.0),
        scale: tuple[float, float] = (1.0, 1.0),
        step: float = 1.0,
    ) -> None:
        n_terms = (degree + 1) * (degree + 2) // 2
        if coefficients.ndim != 3 or coefficients.shape[0] != n_terms:
            raise ValueError(
                f"PSF of degree {degree} needs {n_terms} kernels, not an array of {coefficients.shape!r}"
            )
        if coefficients.shape[1] != coefficients.shape[2] or coefficients.shape[1] % 2 == 0:
            raise ValueError(f"PSF kernels are square with an odd size, not {coefficients.shape[1:]!r}")
        self.coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)
        self.degree, self.center, self.scale, self.step = degree, center, scale, step

    @classmethod
    def gaussian(cls, sigma_pixels: float, size: int = 41) -> Psf:
        """Make a fixed circular Gaussian, integrated to 1.

        Parameters
        ----------
        sigma_pixels : `float`
            Standard deviation [pixels].
        size : `int`
            Odd kernel size [pixels].
        """
        r = np.arange(size) - size // 2
        g = np.exp(-0.5 * (r / sigma_pixels) ** 2)
        kernel = np.outer(g, g)
        return cls(kernel[np.newaxis] / kernel.sum())

    @property
    def size(self) -> int:
        """Odd size of an image returned by `image_at` [detector pixels]."""
        native = int((self.coefficients.shape[1] - 1) * self.step)
        return native + 1 if native % 2 == 0 else native

    def kernel_at(self, x: float, y: float) -> NDArray[np.float64]:
        """Return the model kernel at a position, not normalised.

        Parameters
        ----------
        x, y : `float`
            Position in the array's pixel coordinates [pixels].

        Returns
        -------
        kernel : `numpy.ndarray`, shape (size, size), float64 [1]
            Centred, in the sampling of ``coefficients``.
        """
        terms = polynomial_terms(
            (x - self.center[0]) / self.scale[0], (y - self.center[1]) / self.scale[1], self.degree
        )
        result: NDArray[np.float64] = np.tensordot(terms, self.coefficients, axes=1)
        return result

    def image_at(self, x: float, y: float, *, centered: bool = True) -> NDArray[np.float64]:
        """Return the PSF at a position, sampled by detector pixels, summing to 1.

        Parameters
        ----------
        x, y : `float`
            Position in the array's pixel coordinates [pixels].
        centered : `bool`
            Centre the PSF on the middle pixel (True), or leave it at its sub-pixel offset from the pixel
            nearest to (x, y), as a star at (x, y) is seen (False).

        Returns
        -------
        image : `numpy.ndarray`, shape (size, size), float64 [1]
        """
        kernel = self.kernel_at(x, y)
        dx, dy = (0.0, 0.0) if centered else (x - np.rint(x), y - np.rint(y))
        if self.step != 1.0 or dx or dy:
            half = self.size // 2
            grid = np.arange(-half, half + 1)
            middle = kernel.shape[0] // 2
            yy, xx = np.meshgrid(
                (grid - dy) / self.step + middle, (grid - dx) / self.step + middle, indexing="ij"
            )
            kernel = map_coordinates(kernel, [yy, xx], order=3, mode="constant")
        total = kernel.sum()
        return kernel / total if total != 0 else kernel

    def sigma_at(self, x: float, y: float) -> float:
        """Return the Gaussian-weighted rms size (trace radius) at a position [pixels].

        Adaptive moments with a circular weight (Bernstein & Jarvis 2002, AJ 123, 583;
        doi:10.1086/338085, section 3), iterated
        until weight and source agree; a Gaussian PSF gives its own sigma.
        """
        image = self.image_at(x, y)
        half = image.shape[0] // 2
        r = np.arange(-half, half + 1, dtype=np.float64)
        r2 = r[:, np.newaxis] ** 2 + r[np.newaxis, :] ** 2
        sigma2 = 4.0
        for _ in range(100):
            weight = image * np.exp(-0.5 * r2 / sigma2)
            measured = 0.5 * (weight * r2).sum() / weight.sum()
            # Steeper than any Gaussian of this width would allow: widen the weight.
            fits = 0 < measured < sigma2
            new = 1.0 / (1.0 / measured - 1.0 / sigma2) if fits else sigma2 * 1.5
            new = min(max(new, 0.1), float(half * half))
            if abs(new - sigma2) < 1e-6 * sigma2:
                break
            sigma2 = 0.5 * (sigma2 + new)
        return float(np.sqrt(sigma2))

    def __repr__(self) -> str:
        return f"Psf(degree {self.degree}, size {self.size}, sigma {self.sigma_at(*self.center):.2f} pixels)"
