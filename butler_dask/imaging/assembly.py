"""Assembly: from the channels of a raw array to one detector image, in one pass over the pixels.

Overscan, bias, linearity and the saturation masks all belong to single pixels of one channel. They are
applied in the same pass that moves the pixel to its place, since each further pass over 34 MB of pixels
costs as much as all this arithmetic. The steps are those of Rubin's ``IsrTask``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .detector import Detector, box_slices
from .mask import Mask


class _Corrections(NamedTuple):
    """What is removed from a channel; an array without elements stands for nothing to remove."""

    row_levels: NDArray[np.float32]
    column_levels: NDArray[np.float32]
    bias: NDArray[np.float32]
    linearity: NDArray[np.float32]


class _BrightLevels(NamedTuple):
    """Levels above the overscan [ADU] from which mask bits are set."""

    saturation: np.float32
    suspect: np.float32
    sat_bit: int
    suspect_bit: int


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _assemble_channel(
    raw: Any,
    corrections: _Corrections,
    bright: _BrightLevels,
    flip_x: bool,
    flip_y: bool,
    image: Any,
    mask: Any,
) -> None:
    levels, columns = corrections.row_levels, corrections.column_levels
    bias, coefficients = corrections.bias, corrections.linearity
    saturation, suspect = bright.saturation, bright.suspect
    sat_bit, suspect_bit = bright.sat_bit, bright.suspect_bit
    height, width = raw.shape
    has_bias = bias.size > 0
    has_columns = columns.size > 0
    n_coefficients = coefficients.size
    for y in range(height):
        target = height - 1 - y if flip_y else y
        level = levels[y]
        # Slices instead of reversed indices: the compiler makes vector code of loops over them.
        source = raw[y, ::-1] if flip_x else raw[y, ::1]
        line, bits = image[target], mask[target]
        top = np.float32(-1e30)
        for x in range(width):
            line[x] = np.float32(source[x]) - level
        if has_columns:
            for x in range(width):
                line[x] -= columns[width - 1 - x] if flip_x else columns[x]
        for x in range(width):
            top = max(top, line[x])
        if top >= suspect or top >= saturation:
            for x in range(width):
                if line[x] >= saturation:
                    bits[x] |= sat_bit
                elif line[x] >= suspect:
                    bits[x] |= suspect_bit
        if has_bias:
            zero = bias[target]
            for x in range(width):
                line[x] -= zero[x]
        if n_coefficients > 0:
            for x in range(width):
                value = line[x]
                term = np.float32(0.0)
                for k in range(n_coefficients - 1, -1, -1):
                    term = (term + coefficients[k]) * value
                line[x] = value + term * value


_NOTHING = np.zeros(0, dtype=np.float32)
_NO_IMAGE = np.zeros((0, 0), dtype=np.float32)


def assemble(
    raw: NDArray[Any],
    detector: Detector,
    row_levels: Mapping[str, NDArray[np.float32]] | None = None,
    *,
    column_levels: Mapping[str, NDArray[np.float32]] | None = None,
    bias: NDArray[np.float32] | None = None,
    linearity: Mapping[str, Sequence[float]] | None = None,
    mask_saturation: bool = True,
    suspect_levels: Mapping[str, float] | None = None,
) -> tuple[NDArray[np.float32], Mask]:
    """Trim, mirror and join the channels of a raw array, removing what belongs to single pixels.

    Parameters
    ----------
    raw : `numpy.ndarray`, shape `Detector.raw_shape`, any number type [ADU]
        Raw pixels.
    detector : `Detector`
        Whose amplifiers say where everything is.
    row_levels : mapping of `str` to `numpy.ndarray`, shape (data rows,), float32 [ADU], optional
        Serial overscan level of every data row, by amplifier, in raw order.
    column_levels : mapping of `str` to `numpy.ndarray`, shape (data columns,), float32 [ADU], optional
        Parallel overscan level of every data column, by amplifier, in raw order.
    bias : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU], optional
        Subtracted after the overscan.
    linearity : mapping of amplifier name to sequence of `float`, optional
        Coefficients c of ``x + sum_k c[k] x**(k + 2)``, applied after the bias.
    mask_saturation : `bool`
        Set SAT at and above each amplifier's saturation.
    suspect_levels : mapping of amplifier name to `float`, optional
        Set SUSPECT from here to saturation [ADU above overscan].

    Returns
    -------
    image : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU]
        Assembled pixels.
    mask : `Mask`
        SAT and SUSPECT.

    Raises
    ------
    ValueError
        If the raw array or the bias has another shape than the detector; both shapes are named.
    """
    if raw.shape != detector.raw_shape:
        raise ValueError(
            f"The raw image has shape {raw.shape}, detector {detector.name!r} needs {detector.raw_shape}"
        )
    if bias is not None and bias.shape != detector.shape:
        raise ValueError(f"The bias has shape {bias.shape}, detector {detector.name!r} {detector.shape}")
    image = np.empty(detector.shape, dtype=np.float32)
    mask = Mask.zeros(detector.shape)
    for amplifier in detector.amplifiers:
        section = raw[box_slices(amplifier.raw_data_box)]
        if section.dtype.byteorder == ">":
            section = section.astype(section.dtype.newbyteorder("="))
        levels = (row_levels or {}).get(amplifier.name)
        columns = (column_levels or {}).get(amplifier.name)
        coefficients = (linearity or {}).get(amplifier.name, ())
        target = box_slices(amplifier.box)
        corrections = _Corrections(
            np.zeros(section.shape[0], dtype=np.float32) if levels is None else levels,
            _NOTHING if columns is None or not columns.any() else columns,
            _NO_IMAGE if bias is None else bias[target],
            np.array(coefficients, dtype=np.float32),
        )
        bright = _BrightLevels(
            np.float32(amplifier.saturation if mask_saturation else np.inf),
            np.float32((suspect_levels or {}).get(amplifier.name, np.inf)),
            mask.bitmask("SAT"),
            mask.bitmask("SUSPECT"),
        )
        _assemble_channel(
            section,
            corrections,
            bright,
            amplifier.flip_x,
            amplifier.flip_y,
            image[target],
            mask.array[target],
        )
    return image, mask
