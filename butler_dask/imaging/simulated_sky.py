"""SimulatedSky: stars and galaxies with known truth, and their image before any detector sees it.

Everything is drawn from one seed, so a test makes the truth anew instead of storing it. Every profile, of the
PSF as of the galaxies, is a sum of Gaussians: a convolution is then an addition of covariances, exact and
without Fourier transforms, and a Gaussian costs two multiplications a pixel by recurrence. What is given up
is the true power-law wing of a PSF beyond ten times its width. The mixtures for galaxies are those of Hogg &
Lang (2013, PASP 125, 719).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .sky_wcs import SkyWcs

if TYPE_CHECKING:
    from astropy.table import Table

BANDS = ("g", "r", "i", "z", "y")
"""Bands of the truth catalogue."""

ZERO_POINT_MAG: Mapping[str, float] = {"g": 28.7, "r": 28.7, "i": 28.4, "z": 27.6, "y": 26.9}
"""AB magnitude that gives one electron a second, about those of an 8 m telescope."""

SKY_MAG_ARCSEC2: Mapping[str, float] = {"g": 22.1, "r": 21.2, "i": 20.3, "z": 19.5, "y": 18.6}
"""Surface brightness of the night sky, AB magnitude per square arcsecond."""

PSF_MIXTURE = ((0.60, 1.0), (0.30, 1.6), (0.085, 2.9), (0.015, 6.0))
"""(weight, width) of the Gaussians of the PSF, widths in units of the narrowest: a seeing core with wings."""

_EXPONENTIAL = (
    (2.34853813e-03, 1.20078965e-03),
    (3.07995260e-02, 8.84526493e-03),
    (2.23364214e-01, 3.91463084e-02),
    (1.17949102e00, 1.39976817e-01),
    (4.33873750e00, 4.60962500e-01),
    (5.99820770e00, 1.50159566e00),
)
"""(amplitude, variance) of a disc of half-light radius 1 (Hogg & Lang 2013, PASP 125, 719, table 1)."""


@dataclass(frozen=True, slots=True)
class PsfField:
    """The PSF of one visit over the focal plane.

    Parameters
    ----------
    fwhm_arcsec : `float`
        Full width at half maximum in the middle.
    waves : `numpy.ndarray`, shape (3, 4), float64 [1, radians / mm, radians / mm, radians]
        For size, e1 and e2: amplitude, wave numbers along x and y, phase.
    mean_ellipticity : `tuple` [`float`, `float`]
        e1, e2 common to the whole field, in the detector's axes.
    """

    fwhm_arcsec: float
    waves: NDArray[np.float64]
    mean_ellipticity: tuple[float, float]

    @classmethod
    def random(cls, rng: np.random.Generator, fwhm_arcsec: float) -> PsfField:
        """Draw the field of one visit: 3 % of size and 0.03 of ellipticity over some 200 mm."""
        waves = np.empty((3, 4))
        for row, amplitude in enumerate((0.03, 0.03, 0.03)):
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(120.0, 250.0)
            k = 2 * np.pi / length
            waves[row] = amplitude, k * np.cos(angle), k * np.sin(angle), rng.uniform(0, 2 * np.pi)
        e1, e2 = rng.normal(0.0, 0.02, 2)
        return cls(fwhm_arcsec, waves, (float(e1), float(e2)))

    def covariance(self, x_mm: ArrayLike, y_mm: ArrayLike, pixel_scale_arcsec: float) -> NDArray[np.float64]:
        """Return the covariance of the narrowest Gaussian at focal-plane positions.

        Parameters
        ----------
        x_mm, y_mm : array_like, shape (n,), float64 [mm]
            Positions.
        pixel_scale_arcsec : `float`
            Pixel scale [arcsec].

        Returns
        -------
        covariance : `numpy.ndarray`, shape (n, 3), float64 [pixels^2]
            xx, yy and xy.
        """
        x, y = np.asarray(x_mm, dtype=np.float64), np.asarray(y_mm, dtype=np.float64)
        size, e1, e2 = (w[0] * np.sin(w[1] * x + w[2] * y + w[3]) for w in self.waves)
        sigma = self.fwhm_arcsec / mixture_fwhm() / pixel_scale_arcsec * (1.0 + size)
        e1, e2 = e1 + self.mean_ellipticity[0], e2 + self.mean_ellipticity[1]
        return np.stack([sigma**2 * (1 + e1), sigma**2 * (1 - e1), sigma**2 * e2], axis=-1)

    def image(
        self, x_mm: float, y_mm: float, pixel_scale_arcsec: float, size: int = 41
    ) -> NDArray[np.float64]:
        """Return the true PSF at a focal-plane position.

        Parameters
        ----------
        x_mm, y_mm : `float`
            Position [mm].
        pixel_scale_arcsec : `float`
            Pixel scale [arcsec].
        size : `int`
            Odd size [pixels].

        Returns
        -------
        image : `numpy.ndarray`, shape (size, size), float64 [1]
            Centred, of total flux 1.
        """
        image = np.zeros((size, size))
        middle = np.array([float(size // 2)])
        cov = self.covariance(np.array([x_mm]), np.array([y_mm]), pixel_scale_arcsec)
        _render_gaussians(
            image,
            middle,
            middle,
            np.ones(1),
            cov,
            np.zeros((1, 3)),
            np.zeros(1, bool),
            *_gaussian_mixtures(),
            1e-12,
        )
        return image


@lru_cache(maxsize=1)
def mixture_fwhm() -> float:
    """Return the full width at half maximum of the PSF mixture, in widths of its narrowest Gaussian."""
    from scipy.optimize import brentq

    def profile(r: float) -> float:
        return float(sum(w / s**2 * np.exp(-0.5 * (r / s) ** 2) for w, s in PSF_MIXTURE))

    return 2.0 * float(brentq(lambda r: profile(r) - 0.5 * profile(0.0), 0.5, 3.0))


@dataclass(frozen=True)
class SimulatedSky:
    """Stars and galaxies about a point of the sky.

    Parameters
    ----------
    ra_deg, dec_deg : `float`
        Centre, ICRS [deg].
    radius_deg : `float`
        Radius of the region with objects [deg].
    seed : `int`
        Everything follows from it.
    stars_per_arcmin2, galaxies_per_arcmin2 : `float`
        Number brighter than r = 22.5.
    faintest_mag : `float`
        Faintest r magnitude.
    brightest_star_mag : `float`
        Brightest r magnitude of a star; a star of 16.3 saturates in 30 s.
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float
    seed: int = 1
    stars_per_arcmin2: float = 3.0
    galaxies_per_arcmin2: float = 2.0
    faintest_mag: float = 26.0
    brightest_star_mag: float = 14.0

    @cached_property
    def truth(self) -> Table:
        """The truth catalogue.

        Columns: id (int64), ra, dec [deg], is_star (bool), mag_g ... mag_y (AB), half_light_arcsec, e1, e2
        (ellipticity of galaxies in detector axes; 0 for stars).

        Notes
        -----
        Counts rise as 10**(0.15 m) for stars, as 10**(0.35 m) for galaxies of r = 17 and fainter, the slopes
        seen at high galactic latitude.
        """
        from astropy.table import Table

        rng = np.random.default_rng([self.seed, 0])
        area = np.pi * (self.radius_deg * 60.0) ** 2
        columns: dict[str, list[NDArray[np.generic]]] = {}
        for is_star, density, slope, brightest in (
            (True, self.stars_per_arcmin2, 0.15, self.brightest_star_mag),
            (False, self.galaxies_per_arcmin2, 0.35, 17.0),
        ):
            count = rng.poisson(density * area * 10.0 ** (slope * (self.faintest_mag - 22.5)))
            low, high = 10.0 ** (slope * brightest), 10.0 ** (slope * self.faintest_mag)
            mag_r = np.log10(rng.uniform(low, high, count)) / slope
            g_r = rng.normal(0.8, 0.35, count) if is_star else rng.normal(0.7, 0.3, count)
            r_i = 0.45 * g_r + rng.normal(0.0, 0.05, count)
            i_z, z_y = 0.5 * r_i, 0.25 * r_i
            mags = {"g": mag_r + g_r, "r": mag_r, "i": mag_r - r_i}
            mags["z"] = mags["i"] - i_z
            mags["y"] = mags["z"] - z_y
            # Uniform in the circle, then onto the sphere.
            r, phi = self.radius_deg * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
            u, v = np.radians(r * np.cos(phi)), np.radians(r * np.sin(phi))
            ra, dec = _at_offsets(u, v, self.ra_deg, self.dec_deg)
            size = np.zeros(count)
            e1, e2 = np.zeros(count), np.zeros(count)
            if not is_star:
                # 0.3 arcsec at r = 25, a third larger a magnitude brighter towards 20; scatter 0.15 dex.
                size = 0.3 * 10.0 ** (0.11 * (25.0 - mag_r) + rng.normal(0.0, 0.15, count))
                size = np.clip(size, 0.1, 6.0)
                e = np.clip(np.abs(rng.normal(0.0, 0.3, count)), 0.0, 0.8)
                angle = rng.uniform(0, 2 * np.pi, count)
                e1, e2 = e * np.cos(angle), e * np.sin(angle)
            made: dict[str, NDArray[np.generic]] = {
                "ra": ra,
                "dec": dec,
                "is_star": np.full(count, is_star),
                **{f"mag_{b}": mags[b] for b in BANDS},
                "half_light_arcsec": size,
                "e1": e1,
                "e2": e2,
            }
            for name, values in made.items():
                columns.setdefault(name, []).append(values)
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        ids = np.arange(1, len(joined["ra"]) + 1, dtype=np.int64)
        return Table({"id": ids, **joined}, meta={"seed": self.seed})

    def objects_on(self, wcs: SkyWcs, shape: tuple[int, int], margin_pixels: float = 100.0) -> Table:
        """Return the truth of the objects on or near an array, with positions.

        Parameters
        ----------
        wcs : `SkyWcs`
            True world coordinates of the array.
        shape : `tuple` [`int`, `int`]
            (ny, nx).
        margin_pixels : `float`
            Objects this far outside are kept, for their wings [pixels].

        Returns
        -------
        table : `astropy.table.Table`
            Rows of `truth` with x, y [pixels].
        """
        truth = self.truth
        ny, nx = shape
        ra0, dec0 = wcs.pixel_to_sky(0.5 * (nx - 1), 0.5 * (ny - 1))
        reach = 0.5 * np.hypot(nx, ny) + 2 * margin_pixels
        near = _separation_deg(truth["ra"], truth["dec"], float(ra0), float(dec0)) < np.radians(
            90.0
        )  # the far hemisphere has no gnomonic projection
        scale = wcs.pixel_scale_arcsec(0.5 * (nx - 1), 0.5 * (ny - 1)) / 3600.0
        near &= _separation_deg(truth["ra"], truth["dec"], float(ra0), float(dec0)) < reach * scale * 1.05
        table = truth[near]
        x, y = wcs.sky_to_pixel(np.asarray(table["ra"]), np.asarray(table["dec"]))
        inside = (x > -margin_pixels) & (y > -margin_pixels)
        inside &= (x < nx - 1 + margin_pixels) & (y < ny - 1 + margin_pixels)
        table = table[inside]
        table["x"], table["y"] = x[inside], y[inside]
        return table


def render_objects(
    shape: tuple[int, int],
    objects: Table,
    psf_covariance: NDArray[np.float64],
    pixel_scale_arcsec: float,
    *,
    threshold_electrons: float = 0.02,
) -> NDArray[np.float32]:
    """Draw objects seen through a PSF.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        (ny, nx).
    objects : `astropy.table.Table`
        x, y [pixels], flux [electrons], is_star, half_light_arcsec, e1, e2.
    psf_covariance : `numpy.ndarray`, shape (n, 3), float64 [pixels^2]
        As `PsfField.covariance` gives at the objects.
    pixel_scale_arcsec : `float`
        Pixel scale [arcsec].
    threshold_electrons : `float`
        Each Gaussian is drawn out to this surface brightness [electrons / pixel].

    Returns
    -------
    image : `numpy.ndarray`, shape (ny, nx), float32 [electrons]
        Expectation, without noise.
    """
    half_light = np.asarray(objects["half_light_arcsec"]) / pixel_scale_arcsec
    e1, e2 = np.asarray(objects["e1"]), np.asarray(objects["e2"])
    galaxy = half_light[:, np.newaxis] ** 2 * np.stack([1 + e1, 1 - e1, e2], axis=-1)
    image = np.zeros(shape, dtype=np.float32)
    _render_gaussians(
        image,
        np.asarray(objects["x"], dtype=np.float64),
        np.asarray(objects["y"], dtype=np.float64),
        np.asarray(objects["flux"], dtype=np.float64),
        np.ascontiguousarray(psf_covariance),
        np.ascontiguousarray(galaxy),
        ~np.asarray(objects["is_star"], dtype=bool),
        *_gaussian_mixtures(),
        threshold_electrons,
    )
    return image


def electrons(mag: ArrayLike, band: str, exposure_time_s: float) -> NDArray[np.float64]:
    """Return the electrons that an AB magnitude gives in an exposure.

    Parameters
    ----------
    mag : array_like, shape (...), float64 [mag]
        AB magnitudes.
    band : `str`
        One of `BANDS`.
    exposure_time_s : `float`
        Exposure time [s].

    Returns
    -------
    electrons : `numpy.ndarray`, shape (...), float64 [electrons]
    """
    m = np.asarray(mag, dtype=np.float64)
    return exposure_time_s * 10.0 ** (-0.4 * (m - ZERO_POINT_MAG[band]))


def sky_electrons(band: str, exposure_time_s: float, pixel_scale_arcsec: float) -> float:
    """Return the electrons of the night sky in one pixel."""
    return float(electrons(SKY_MAG_ARCSEC2[band], band, exposure_time_s)) * pixel_scale_arcsec**2


def _gaussian_mixtures() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (weight, variance) of the PSF's and the exponential disc's Gaussians."""
    psf = np.array([(w, s**2) for w, s in PSF_MIXTURE])
    disc = np.array(_EXPONENTIAL)
    disc[:, 0] /= disc[:, 0].sum()
    return psf, disc


@numba.njit(cache=True, nogil=True)
def _render_gaussians(
    image: NDArray[np.float32],
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    fluxes: NDArray[np.float64],
    psf_covariance: NDArray[np.float64],
    galaxy_covariance: NDArray[np.float64],
    is_galaxy: NDArray[np.bool_],
    psf_mixture: NDArray[np.float64],
    disc_mixture: NDArray[np.float64],
    threshold: float,
) -> None:
    ny, nx = image.shape
    for n in range(xs.size):
        x, y = xs[n], ys[n]
        n_disc = disc_mixture.shape[0] if is_galaxy[n] else 1
        for p in range(psf_mixture.shape[0]):
            for d in range(n_disc):
                weight, disc_variance = psf_mixture[p, 0], 0.0
                if is_galaxy[n]:
                    weight *= disc_mixture[d, 0]
                    disc_variance = disc_mixture[d, 1]
                vxx = psf_mixture[p, 1] * psf_covariance[n, 0] + disc_variance * galaxy_covariance[n, 0]
                vyy = psf_mixture[p, 1] * psf_covariance[n, 1] + disc_variance * galaxy_covariance[n, 1]
                vxy = psf_mixture[p, 1] * psf_covariance[n, 2] + disc_variance * galaxy_covariance[n, 2]
                determinant = vxx * vyy - vxy * vxy
                peak = fluxes[n] * weight / (2.0 * np.pi * np.sqrt(determinant))
                # At least 4 sigma of any Gaussian, so that faint objects keep their flux to 3e-4.
                reach = np.sqrt(max(16.0, min(81.0, 2.0 * np.log(max(peak / threshold, 1.0)))))
                half_x, half_y = reach * np.sqrt(vxx), reach * np.sqrt(vyy)
                x0, x1 = max(0, int(np.ceil(x - half_x))), min(nx - 1, int(np.floor(x + half_x)))
                y0, y1 = max(0, int(np.ceil(y - half_y))), min(ny - 1, int(np.floor(y + half_y)))
                if x0 > x1 or y0 > y1:
                    continue
                a, b, c = vyy / determinant, -vxy / determinant, vxx / determinant
                # exp(-(a dx^2)/2 ...) along a row by the ratio of neighbours and the ratio of ratios.
                step = np.exp(-a)
                for row in range(y0, y1 + 1):
                    dx, dy = x0 - x, row - y
                    value = peak * np.exp(-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
                    ratio = np.exp(-(a * (dx + 0.5) + b * dy))
                    for column in range(x0, x1 + 1):
                        image[row, column] += value
                        value *= ratio
                        ratio *= step


def _at_offsets(
    u: NDArray[np.float64], v: NDArray[np.float64], ra_deg: float, dec_deg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions [deg] at offsets [radians] east and north along great circles of a centre."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    center = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    distance = np.hypot(u, v)
    direction = (np.outer(u, east) + np.outer(v, north)) / np.maximum(distance, 1e-300)[:, np.newaxis]
    p = np.cos(distance)[:, np.newaxis] * center + np.sin(distance)[:, np.newaxis] * direction
    return np.degrees(np.arctan2(p[:, 1], p[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(p[:, 2], -1, 1)))


def _separation_deg(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> NDArray[np.float64]:
    a, d = np.radians(np.asarray(ra)), np.radians(np.asarray(dec))
    a0, d0 = np.radians(ra0), np.radians(dec0)
    h = np.sin(0.5 * (d - d0)) ** 2 + np.cos(d) * np.cos(d0) * np.sin(0.5 * (a - a0)) ** 2
    result: NDArray[np.float64] = np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))
    return result
