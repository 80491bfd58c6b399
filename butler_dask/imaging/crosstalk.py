"""Crosstalk: the faint copy of one channel's signal in the others read at the same time.

A crosstalk calibration is ``{"amplifiers": [names], "coefficients": [[...]]}``; row i, column j is the
fraction of amplifier i's signal that appears in amplifier j, at the pixel read at the same moment (see
`butler_dask.imaging.detector.readout_view`). The method is that of Rubin's ``CrosstalkTask`` for one
detector: the measured signal of the source stands for the true one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .detector import Detector, readout_view
from .mask import Mask


def crosstalk_matrix(detector: Detector, crosstalk: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
    """Return the coefficients in the order of the detector's amplifiers.

    Parameters
    ----------
    detector : `Detector`
        Whose amplifiers; its own matrix is taken when ``crosstalk`` is not given.
    crosstalk : mapping, optional
        A ``crosstalk`` dataset.

    Returns
    -------
    matrix : `numpy.ndarray`, shape (n_amp, n_amp), float64 [1]
        Zero on the diagonal; all zero if nothing is known.

    Raises
    ------
    ValueError
        If the names or the shape do not fit the detector.
    """
    names = [a.name for a in detector.amplifiers]
    n = len(names)
    if crosstalk is None:
        matrix = np.zeros((n, n)) if detector.crosstalk is None else np.array(detector.crosstalk)
    else:
        given = [str(name) for name in crosstalk["amplifiers"]]
        if sorted(given) != sorted(names):
            raise ValueError(
                f"The crosstalk is for amplifiers {given}, detector {detector.name!r} has {names}"
            )
        order = [given.index(name) for name in names]
        matrix = np.array(crosstalk["coefficients"], dtype=np.float64)[np.ix_(order, order)]
    if matrix.shape != (n, n):
        raise ValueError(f"Crosstalk of {n} amplifiers needs {n} x {n} coefficients, not {matrix.shape}")
    np.fill_diagonal(matrix, 0.0)
    return matrix


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _subtract_rows(
    image: Any, mask: Any, geometry: Any, width: int, height: int, matrix: Any, threshold: float, bit: int
) -> None:
    n_amp = geometry.shape[0]
    rows = np.empty((n_amp, width), np.float32)
    total = np.empty(width, np.float32)
    for r in range(height):
        bright: Any = False
        for i in range(n_amp):
            x0, dx, y = geometry[i, 0], geometry[i, 1], geometry[i, 2] + geometry[i, 3] * r
            row = rows[i]
            # Slices instead of stepping indices: the compiler makes vector code of loops over them.
            if dx > 0:
                row[:] = image[y, x0 : x0 + width]
            else:
                row[:] = image[y, x0 - width + 1 : x0 + 1][::-1]
            top = np.float32(0.0)
            for k in range(width):
                top = max(top, row[k])
            bright = bright or top >= threshold
        for j in range(n_amp):
            for i in range(0, n_amp - 1, 2):
                c0, c1 = matrix[i, j], matrix[i + 1, j]
                first, second = rows[i], rows[i + 1]
                if i == 0:
                    for k in range(width):
                        total[k] = c0 * first[k] + c1 * second[k]
                else:
                    for k in range(width):
                        total[k] += c0 * first[k] + c1 * second[k]
            if n_amp % 2:
                c0, first = matrix[n_amp - 1, j], rows[n_amp - 1]
                if n_amp == 1:
                    total[:] = np.float32(0.0)
                for k in range(width):
                    total[k] += c0 * first[k]
            x0, dx, y = geometry[j, 0], geometry[j, 1], geometry[j, 2] + geometry[j, 3] * r
            if dx > 0:
                target = image[y, x0 : x0 + width]
                for k in range(width):
                    target[k] -= total[k]
            else:
                target = image[y, x0 - width + 1 : x0 + 1]
                backwards = total[::-1]
                for k in range(width):
                    target[k] -= backwards[k]
            if bright:
                for i in range(n_amp):
                    if matrix[i, j] != np.float32(0.0):
                        for k in range(width):
                            if rows[i, k] >= threshold:
                                mask[y, x0 + dx * k] |= bit


def _readout_steps(image: NDArray[Any], detector: Detector) -> NDArray[np.int64]:
    """First column, column step, first row, row step of each channel in reading order."""
    result = np.empty((len(detector.amplifiers), 4), dtype=np.int64)
    for n, amplifier in enumerate(detector.amplifiers):
        view = readout_view(image, amplifier)
        x0, y0, width, height = amplifier.box
        result[n] = (
            x0 if view.strides[1] > 0 else x0 + width - 1,
            1 if view.strides[1] > 0 else -1,
            y0 if view.strides[0] > 0 else y0 + height - 1,
            1 if view.strides[0] > 0 else -1,
        )
    return result


def subtract_crosstalk(
    image: NDArray[np.float32],
    mask: Mask,
    detector: Detector,
    matrix: NDArray[np.float64],
    *,
    threshold: float = 45000.0,
) -> None:
    """Subtract crosstalk in place and mask what bright sources may have spoiled.

    Parameters
    ----------
    image : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU above bias]
        Changed in place.
    mask : `Mask`
        CROSSTALK is set where a source pixel is at or above ``threshold``.
    detector : `Detector`
        Where the amplifiers are.
    matrix : `numpy.ndarray`, shape (n_amp, n_amp), float64 [1]
        As `crosstalk_matrix` returns.
    threshold : `float`
        [ADU].

    Raises
    ------
    ValueError
        If amplifiers differ in size, so that pixels are not read in step.

    Notes
    -----
    First order: the measured signal of the source stands for the true one. With coefficients of 1e-4 the
    error is 1e-8 of the source.
    """
    if not np.any(matrix):
        return
    sizes = {a.box[2:] for a in detector.amplifiers}
    if len(sizes) != 1:
        raise ValueError(f"Amplifiers of detector {detector.name!r} differ in size: {sorted(sizes)}")
    width, height = sizes.pop()
    _subtract_rows(
        image,
        mask.array,
        _readout_steps(image, detector),
        width,
        height,
        matrix.astype(np.float32),
        np.float32(threshold),
        mask.bitmask("CROSSTALK"),
    )


def add_crosstalk(
    image: NDArray[np.float32], detector: Detector, matrix: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return an image with crosstalk, for simulations: the inverse of `subtract_crosstalk` to first order.

    Parameters
    ----------
    image : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU above bias]
        Pixels without crosstalk.
    detector : `Detector`
        Where the amplifiers are.
    matrix : `numpy.ndarray`, shape (n_amp, n_amp), float64 [1]
        As `crosstalk_matrix` returns.

    Returns
    -------
    image : `numpy.ndarray`, shape `Detector.shape`, float32 [ADU above bias]
        Pixels with crosstalk.
    """
    result = image.copy()
    views = [readout_view(image, amplifier) for amplifier in detector.amplifiers]
    for j, victim in enumerate(detector.amplifiers):
        leak = np.zeros(views[j].shape, dtype=np.float32)
        for i, source in enumerate(views):
            if matrix[i, j] != 0.0:
                leak += np.float32(matrix[i, j]) * source
        readout_view(result, victim)[:] += leak
    return result
