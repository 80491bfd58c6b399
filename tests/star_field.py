"""A detector of stars and galaxies with known truth, small enough to live beside the tests.

Stars are three concentric elliptical Gaussians whose width and ellipticity vary over the detector;
galaxies are exponential disks as four Gaussians (Hogg & Lang 2013, PASP 125, 719) convolved with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from butler_dask.imaging.detector import Detector
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.imaging.visit_info import VisitInfo

PSF_AMPLITUDES = np.array([0.62, 0.31, 0.07])
PSF_WIDTHS2 = np.array([0.75, 1.9, 9.0])
DISK_AMPLITUDES = np.array([0.0223, 0.1640, 0.4337, 0.3800])
DISK_WIDTHS2 = np.array([0.0130, 0.1006, 0.4090, 1.2800])


@numba.njit(cache=True, nogil=True)
def add_gaussians(image, x, y, flux, xx, yy, xy, size):
    ny, nx = image.shape
    for i in range(x.size):
        half = size[i]
        j0, j1 = max(0, int(np.rint(x[i])) - half), min(nx, int(np.rint(x[i])) + half + 1)
        k0, k1 = max(0, int(np.rint(y[i])) - half), min(ny, int(np.rint(y[i])) + half + 1)
        n = xx.shape[1]
        for k in range(k0, k1):
            for j in range(j0, j1):
                near = (j - x[i]) ** 2 + (k - y[i]) ** 2 < 64.0
                m = 5 if near else 1
                total = 0.0
                for a in range(m):
                    v = k - y[i] + (a + 0.5) / m - 0.5
                    for b in range(m):
                        u = j - x[i] + (b + 0.5) / m - 0.5
                        for g in range(n):
                            det = xx[i, g] * yy[i, g] - xy[i, g] ** 2
                            q = (yy[i, g] * u * u - 2 * xy[i, g] * u * v + xx[i, g] * v * v) / det
                            if q < 60.0:
                                total += flux[i, g] * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))
                image[k, j] += total / (m * m)


@dataclass
class StarField:
    """A simulated exposure and what is in it."""

    exposure: Exposure
    truth: Table
    """x, y [pixels], ra, dec [rad], flux [e-], is_star."""
    reference: Table
    """What a reference catalogue would say: coord_ra, coord_dec [rad], r_flux, r_fluxErr [nJy]."""
    wcs: SkyWcs
    zero_point: float
    sky: NDArray[np.float64]
    cosmic_rays: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    deposits: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """Charge that cosmic rays left [electrons]."""


def psf_moments(x, y, shape, sigma, variation=1.0):
    """Return the (xx, yy, xy) scale matrix of the PSF at positions [pixels2]."""
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    size2 = sigma**2 * (1 + variation * (0.06 * u - 0.04 * v + 0.04 * (u * u + v * v)))
    e1 = variation * (0.02 + 0.03 * u * v)
    e2 = variation * (-0.01 + 0.03 * v)
    return size2 * (1 + e1), size2 * (1 - e1), size2 * e2


def true_wcs(shape, scale=0.2, ra=150.1, dec=2.2, distortion=1.0):
    """Return a TAN-SIP system with a cubic, barrel-like distortion."""
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    c3 = 2e-11 * distortion
    a[3, 0] = a[1, 2] = c3
    b[0, 3] = b[2, 1] = c3
    a[2, 0], b[1, 1] = 3e-8 * distortion, 5e-8 * distortion
    angle = np.radians(12.0)
    rotation = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return SkyWcs.tangent((shape[1] / 2, shape[0] / 2), (ra, dec), rotation * scale / 3600, sip_a=a, sip_b=b)


def make_star_field(
    shape=(1024, 1024),
    n_stars=200,
    n_galaxies=100,
    sky=600.0,
    read_noise=4.5,
    sigma=1.7,
    zero_point=31.0,
    magnitudes=(17.0, 25.5),
    slope=0.25,
    seed=1,
    pointing_error_arcsec=(0.0, 0.0),
    rotation_error_deg=0.0,
    cosmic_rays=0,
    saturation=np.inf,
    variation=1.0,
    sky_gradient=0.03,
    grid=None,
    scale=0.2,
) -> StarField:
    """Simulate one detector after isr: electrons, sky included."""
    rng = np.random.default_rng(seed)
    n = n_stars + n_galaxies
    is_star = np.arange(n) < n_stars
    lo, hi = magnitudes
    p = rng.random(n)
    mag = np.log10(10 ** (slope * lo) + p * (10 ** (slope * hi) - 10 ** (slope * lo))) / slope
    # Galaxies begin fainter than stars.
    mag[~is_star] = np.clip(mag[~is_star], lo + 2, None)
    flux = 10 ** (-0.4 * (mag - zero_point))
    x, y = rng.uniform(-0.5, shape[1] - 0.5, n), rng.uniform(-0.5, shape[0] - 0.5, n)
    if grid is not None:
        m = int(np.ceil(np.sqrt(n)))
        gy, gx = np.divmod(np.arange(n), m)
        x = (gx + 0.5) * shape[1] / m + rng.uniform(-0.5, 0.5, n)
        y = (gy + 0.5) * shape[0] / m + rng.uniform(-0.5, 0.5, n)
    xx, yy, xy = psf_moments(x, y, shape, sigma, variation)
    truth_image = np.zeros(shape)
    s = is_star
    add_gaussians(
        truth_image, x[s], y[s], flux[s, None] * PSF_AMPLITUDES,
        *(m[s, None] * PSF_WIDTHS2 for m in (xx, yy, xy)),
        np.where(flux[s] > 3e5, 60, 30),
    )  # fmt: skip
    if n_galaxies:
        g = ~is_star
        radius = rng.uniform(1.0, 3.5, n_galaxies)
        q, angle = rng.uniform(0.4, 1.0, n_galaxies), rng.uniform(0, np.pi, n_galaxies)
        c, d = np.cos(angle), np.sin(angle)
        gxx, gyy = radius**2 * (c * c + q * q * d * d), radius**2 * (d * d + q * q * c * c)
        gxy = radius**2 * c * d * (1 - q * q)
        amplitudes = (DISK_AMPLITUDES[:, None] / DISK_AMPLITUDES.sum() * PSF_AMPLITUDES).ravel()
        widths = [
            (gm[:, None, None] * DISK_WIDTHS2[:, None] + pm[g][:, None, None] * PSF_WIDTHS2).reshape(
                n_galaxies, -1
            )
            for gm, pm in ((gxx, xx), (gyy, yy), (gxy, xy))
        ]
        add_gaussians(truth_image, x[g], y[g], flux[g, None] * amplitudes, *widths, np.full(n_galaxies, 40))
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]]
    sky_image = sky * (1 + sky_gradient * (u / shape[1] - 0.5) - 0.5 * sky_gradient * (v / shape[0]) ** 2)
    image = rng.poisson(truth_image + sky_image).astype(np.float64)
    charge = np.zeros(shape)
    for _ in range(cosmic_rays):
        x0, y0 = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        length, theta = rng.exponential(6.0), rng.uniform(0, 2 * np.pi)
        deposit = np.exp(rng.normal(6.0, 0.8))
        # Charge along the track, spread over the pixels it crosses.
        for t in np.arange(0, length + 0.01, 0.2):
            j, k = int(np.rint(x0 + t * np.cos(theta))), int(np.rint(y0 + t * np.sin(theta)))
            if 0 <= j < shape[1] and 0 <= k < shape[0]:
                charge[k, j] += deposit * 0.2 if length > 0.5 else deposit
    # Charge spreads a little on its way down.
    charge = gaussian_filter(charge, 0.35)
    image += rng.poisson(charge) + rng.normal(0, read_noise, shape)
    exposure = Exposure(
        image.astype(np.float32), variance=(np.maximum(image, 0) + read_noise**2).astype(np.float32)
    )
    saturated = exposure.image > saturation
    exposure.image[saturated] = saturation
    exposure.mask.set_where(saturated, "SAT")
    wcs = true_wcs(shape, scale=scale)
    ra, dec = wcs.pixel_to_sky(x, y)
    dra, ddec = pointing_error_arcsec
    angle = np.radians(rotation_error_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    exposure.wcs = SkyWcs.tangent(
        (shape[1] / 2, shape[0] / 2),
        (150.1 + dra / 3600 / np.cos(np.radians(2.2)), 2.2 + ddec / 3600),
        turn @ (wcs.astropy.wcs.cd),
    )
    exposure.visit_info = VisitInfo(exposure_id=1234, exposure_time_s=30.0, instrument="Sim", airmass=1.1)
    exposure.detector = Detector(5, "S05", shape, shape, ())
    exposure.filter = FilterLabel("r", "sim-r")
    truth = Table(
        {
            "x": x,
            "y": y,
            "ra": np.radians(ra),
            "dec": np.radians(dec),
            "flux": flux,
            "mag": mag,
            "is_star": is_star,
        }
    )
    bright = mag < 23.5
    # AB magnitude of one electron is the zero point: nJy = flux * 10**(0.4 (31.4 - zp)).
    njy = flux * 10 ** (0.4 * (31.4 - zero_point))
    reference = Table(
        {
            "id": np.arange(n)[bright],
            "coord_ra": truth["ra"][bright] + rng.normal(0, 1e-9, bright.sum()),
            "coord_dec": truth["dec"][bright] + rng.normal(0, 1e-9, bright.sum()),
            "r_flux": njy[bright] * (1 + rng.normal(0, 0.005, bright.sum())),
            "r_fluxErr": njy[bright] * 0.005,
            "resolved": ~is_star[bright],
        }
    )
    return StarField(exposure, truth, reference, wcs, zero_point, sky_image, charge > 1.0, charge)
