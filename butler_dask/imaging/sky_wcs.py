"""SkyWcs: pixel to sky and back, FITS TAN or TAN-SIP.

A thin, immutable cover over `astropy.wcs.WCS` that fixes the conventions of this package: array pixel
coordinates (0 is the centre of the first pixel), degrees, ICRS. FITS standard 4.0, section 8; Calabretta &
Greisen (2002, A&A 395, 1077; doi:10.1051/0004-6361:20021327).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS


class SkyWcs:
    """World coordinates of an image.

    Parameters
    ----------
    wcs : `astropy.wcs.WCS`
        Two celestial axes, TAN with or without SIP distortion (Shupe et al. 2005, ASP 347, 491).
    """

    __slots__ = ("_wcs",)

    def __init__(self, wcs: WCS) -> None:
        # wcslib sets itself up at first use and is not thread-safe until then.
        wcs.wcs.set()
        self._wcs = wcs

    @classmethod
    def tangent(
        cls,
        crpix: tuple[float, float],
        crval_deg: tuple[float, float],
        cd_deg: NDArray[np.float64],
        *,
        sip_a: NDArray[np.float64] | None = None,
        sip_b: NDArray[np.float64] | None = None,
    ) -> SkyWcs:
        """Make a TAN (or TAN-SIP) world coordinate system.

        Parameters
        ----------
        crpix : `tuple` [`float`, `float`]
            Reference position (x, y), 0-based array coordinates [pixels].
        crval_deg : `tuple` [`float`, `float`]
            Right ascension and declination there [deg].
        cd_deg : `numpy.ndarray`, shape (2, 2), float64 [deg / pixel]
            CD matrix.
        sip_a, sip_b : `numpy.ndarray`, shape (order + 1, order + 1), float64 [pixels^(1 - p - q)], optional
            Forward SIP coefficients A_pq and B_pq; the inverse is solved iteratively by wcslib where it is
            asked for.
        """
        from astropy.wcs import WCS, Sip

        wcs = WCS(naxis=2)
        suffix = "-SIP" if sip_a is not None else ""
        wcs.wcs.ctype = ["RA---TAN" + suffix, "DEC--TAN" + suffix]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.crpix = [crpix[0] + 1.0, crpix[1] + 1.0]
        wcs.wcs.crval = list(crval_deg)
        wcs.wcs.cd = np.asarray(cd_deg, dtype=np.float64)
        if sip_a is not None and sip_b is not None:
            wcs.sip = Sip(sip_a, sip_b, None, None, wcs.wcs.crpix)
        return cls(wcs)

    @classmethod
    def from_header(cls, header: Header) -> SkyWcs:
        """Read from FITS cards (FITS standard 4.0, section 8)."""
        from astropy.wcs import WCS

        return cls(WCS(header, naxis=2))

    def to_header(self) -> Header:
        """Return FITS cards, SIP included."""
        return self._wcs.to_header(relax=True)

    @property
    def astropy(self) -> WCS:
        """The `astropy.wcs.WCS` inside; not to be changed."""
        return self._wcs

    @property
    def has_sip(self) -> bool:
        """Whether there is a SIP distortion."""
        return self._wcs.sip is not None

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sky positions of array positions.

        Parameters
        ----------
        x, y : array_like, shape (...), float64 [pixels]
            Positions, 0-based.

        Returns
        -------
        ra, dec : `numpy.ndarray`, shape (...), float64 [deg]
            Right ascension and declination, ICRS.
        """
        ra, dec = self._wcs.all_pix2world(x, y, 0)
        return np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)

    def sky_to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the array positions of sky positions.

        Parameters
        ----------
        ra, dec : array_like, shape (...), float64 [deg]
            Right ascension and declination, ICRS.

        Returns
        -------
        x, y : `numpy.ndarray`, shape (...), float64 [pixels]
            Positions, 0-based.
        """
        if self.has_sip:
            x, y = self._wcs.all_world2pix(ra, dec, 0, tolerance=1e-6, maxiter=50, quiet=True)
        else:
            x, y = self._wcs.wcs_world2pix(ra, dec, 0)
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    def pixel_scale_arcsec(self, x: float | None = None, y: float | None = None) -> float:
        """Return the pixel scale (square root of the pixel area) at a position [arcsec]."""
        if x is None or y is None:
            x, y = self._wcs.wcs.crpix[0] - 1.0, self._wcs.wcs.crpix[1] - 1.0
        ra, dec = self.pixel_to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        dra = (np.diff(ra[[0, 1]])[0], ra[2] - ra[0])
        dra1 = (dra[0] + 180.0) % 360.0 - 180.0
        dra2 = (dra[1] + 180.0) % 360.0 - 180.0
        cos_dec = np.cos(np.radians(dec[0]))
        area = abs(dra1 * cos_dec * (dec[2] - dec[0]) - dra2 * cos_dec * (dec[1] - dec[0]))
        return float(np.sqrt(area) * 3600.0)

    def shifted(self, dx: float, dy: float) -> SkyWcs:
        """Return the same sky for an array whose pixel (0, 0) is this one's pixel (dx, dy)."""
        wcs = self._wcs.deepcopy()
        wcs.wcs.crpix = wcs.wcs.crpix - np.array([dx, dy])
        if wcs.sip is not None:
            from astropy.wcs import Sip

            wcs.sip = Sip(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp, wcs.wcs.crpix)
        return SkyWcs(wcs)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _from_header_text, (self.to_header().tostring(sep="\n"),)

    def __repr__(self) -> str:
        ra, dec = self._wcs.wcs.crval
        kind = "TAN-SIP" if self.has_sip else "TAN"
        return f"SkyWcs({kind} at ({ra:.5f}, {dec:+.5f}) deg, {self.pixel_scale_arcsec():.4f} arcsec/pixel)"


def _from_header_text(text: str) -> SkyWcs:
    from astropy.io.fits import Header

    return SkyWcs.from_header(Header.fromstring(text, sep="\n"))
