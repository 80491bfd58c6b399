"""PhotoCalib: from instrumental flux to nanojansky and AB magnitude (Oke & Gunn 1983; doi:10.1086/160817)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

AB_ZERO_POINT_NJY = 31.4
"""AB magnitude of 1 nJy: m = 31.4 - 2.5 log10(flux / nJy) (Oke & Gunn 1983, ApJ 266, 713)."""


@dataclass(frozen=True, slots=True)
class PhotoCalib:
    """Photometric calibration of an exposure.

    Parameters
    ----------
    calibration_mean : `float`
        nJy per unit of instrumental flux (electrons of the whole exposure).
    calibration_err : `float`
        Its uncertainty, same unit.
    """

    calibration_mean: float
    calibration_err: float = 0.0

    @property
    def zero_point_mag(self) -> float:
        """AB magnitude of one unit of instrumental flux."""
        return float(AB_ZERO_POINT_NJY - 2.5 * np.log10(self.calibration_mean))

    @classmethod
    def from_zero_point(cls, zero_point_mag: float, err_mag: float = 0.0) -> PhotoCalib:
        """Make from the AB magnitude of one unit of instrumental flux, and its error [mag]."""
        mean = 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - zero_point_mag))
        return cls(mean, mean * err_mag * np.log(10.0) / 2.5)

    def instFluxToNanojansky(self, inst_flux: ArrayLike) -> NDArray[np.float64]:
        """Convert instrumental flux to nJy.

        Parameters
        ----------
        inst_flux : array_like, shape (...), float64 [electrons of the whole exposure]
            Instrumental flux.

        Returns
        -------
        flux : `numpy.ndarray`, shape (...), float64 [nJy]
        """
        return np.asarray(inst_flux, dtype=np.float64) * self.calibration_mean

    def instFluxToMagnitude(self, inst_flux: ArrayLike) -> NDArray[np.float64]:
        """Convert instrumental flux to AB magnitude.

        Parameters
        ----------
        inst_flux : array_like, shape (...), float64 [electrons of the whole exposure]
            Instrumental flux.

        Returns
        -------
        mag : `numpy.ndarray`, shape (...), float64 [mag]
            NaN where the flux is not positive.
        """
        flux = np.asarray(inst_flux, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: NDArray[np.float64] = self.zero_point_mag - 2.5 * np.log10(
                np.where(flux > 0, flux, np.nan)
            )
        return result
