"""Linearity: the detector's response to light, straightened channel by channel.

A linearizer is a dictionary ``{"amplifiers": {name: [c2, c3, ...]}}``: corrected = x + c2 x^2 + c3 x^3 + ...,
x in ADU above bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import did_you_mean
from .detector import Detector, box_slices


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


def linearize(values: ArrayLike, coefficients: Sequence[float]) -> NDArray[np.float32]:
    """Apply the polynomial to pixel values [ADU above bias]."""
    x = np.asarray(values, dtype=np.float32)
    term = np.zeros_like(x)
    for c in reversed(coefficients):
        term = (term + np.float32(c)) * x
    return x + term * x


def linearize_image(
    image: NDArray[np.float32], detector: Detector, coefficients: Mapping[str, Sequence[float]]
) -> None:
    """Linearise an assembled image in place.

    Parameters
    ----------
    image : `numpy.ndarray`, shape `Detector.shape`, float32
        [ADU above bias].
    detector : `Detector`
        Where the amplifiers are.
    coefficients : mapping of amplifier name to sequence of `float`
        As `linearity_coefficients` returns.
    """
    for amplifier in detector.amplifiers:
        if coefficients.get(amplifier.name):
            section = box_slices(amplifier.box)
            image[section] = linearize(image[section], coefficients[amplifier.name])
