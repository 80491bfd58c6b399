"""IsrCalibrations: the calibrations one raw is corrected with, as far as its configuration wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .isr_config import CALIBRATION_SWITCHES, IsrTaskConfig

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy.typing import NDArray

    from ..imaging.exposure import Exposure

_NEEDED = ("bias", "dark", "flat", "defects")
"""Calibrations that isr cannot do without where they are switched on; the others have a substitute."""


@dataclass(frozen=True, slots=True)
class IsrCalibrations:
    """Calibrations of one raw; None where there is none, and where the configuration does not want it.

    Parameters
    ----------
    bias : `Exposure`, optional
        Combined bias [ADU].
    dark : `Exposure`, optional
        Combined dark, in electrons, or ADU where its ``BUNIT`` says so, in its own dark time.
    flat : `Exposure`, optional
        Combined flat, relative.
    fringe : `Exposure`, optional
        Fringe pattern, of any scale.
    defects : `astropy.table.Table`, optional
        x0, y0, width, height of rectangles of bad pixels [pixels].
    linearizer, crosstalk : mapping, optional
        Coefficients by amplifier; the detector's own serve where there are none.
    bfKernel : `numpy.ndarray`, shape (2 r + 1, 2 r + 1), floating, optional
        Brighter-fatter kernel [1/electrons].
    """

    bias: Exposure | None = None
    dark: Exposure | None = None
    flat: Exposure | None = None
    fringe: Exposure | None = None
    defects: Table | None = None
    linearizer: Mapping[str, Any] | None = None
    crosstalk: Mapping[str, Any] | None = None
    bfKernel: NDArray[np.floating[Any]] | None = None

    @classmethod
    def wanted(cls, config: IsrTaskConfig, **given: Any) -> IsrCalibrations:
        """Keep those of the calibrations given that a configuration applies.

        Parameters
        ----------
        config : `IsrTaskConfig`
            Its switches say which.
        **given
            By name, None where there is none.

        Raises
        ------
        ValueError
            If one that the configuration asks for, and that has no substitute, is not given; all such are
            named with their switches.
        """
        kept = {n: value for n, value in given.items() if getattr(config, CALIBRATION_SWITCHES[n])}
        missing = [n for n in _NEEDED if n in kept and kept[n] is None]
        if missing:
            wishes = ", ".join(f"isr:{CALIBRATION_SWITCHES[n]}=False" for n in missing)
            raise ValueError(f"isr needs {', '.join(missing)}; certify them, or switch off with -c {wishes}")
        return cls(**kept)

    @property
    def frames(self) -> list[Exposure]:
        """Combined frames whose masks the corrected exposure inherits: bias, dark and flat."""
        return [frame for frame in (self.bias, self.dark, self.flat) if frame is not None]


def noise_of(frame: Exposure | None) -> NDArray[np.float32] | None:
    """Return the variance of a combined frame, if it has any.

    Parameters
    ----------
    frame : `Exposure`, optional
        Bias, dark or flat.

    Returns
    -------
    variance : `numpy.ndarray`, shape (ny, nx), float32, or None
        In the frame's unit squared; None where the frame is missing or a look at 64 rows finds zeros only.
    """
    if frame is None or not frame.variance[:: max(frame.shape[0] // 64, 1)].any():
        return None
    return frame.variance
