"""Linearity: the detector's response to light, straightened channel by channel.

A linearizer is a dictionary ``{"amplifiers": {name: [c2, c3, ...]}}``: corrected = x + c2 x^2 + c3 x^3 + ...,
x in ADU above bias, as in Rubin's ``LinearizePolynomial``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import did_you_mean
from .detector import Detector


def linearity_coefficients(
    detector: Detector, linearizer: Mapping[str, Any] | None = None
) -> dict[str, tuple[float, ...]]:
    """Return the coefficients of every amplifier: the linearizer's, else the camera's.

    Parameters
    ----------
    detector : `Detector`
        Whose amplifiers.
    linearizer : mapping, optional
        ``{"amplifiers": {name: [c2, ...]}}``.

    Raises
    ------
    ValueError
        If the linearizer names an amplifier the detector does not have.
    """
    result = {a.name: a.linearity_coefficients for a in detector.amplifiers}
    for name, coefficients in (linearizer or {}).get("amplifiers", {}).items():
        if name not in result:
            raise ValueError(
                f"The linearizer has amplifier {name!r}, detector {detector.name!r} has {sorted(result)}."
                f"{did_you_mean(str(name), result)}"
            )
        result[name] = tuple(float(c) for c in coefficients)
    return result
