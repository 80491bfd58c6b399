"""Detector and Amplifier: where the pixels of a raw file lie and what they are worth.

All boxes are (x0, y0, width, height) in pixels, 0-based: those named ``raw_`` in the raw file's array, the
others in the assembled (trimmed) detector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""(x0, y0, width, height) [pixels]."""


def box_slices(box: Box) -> tuple[slice, slice]:
    """Return the (y, x) slices of a box."""
    x0, y0, width, height = box
    return slice(y0, y0 + height), slice(x0, x0 + width)


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One readout channel of a detector.

    Parameters
    ----------
    name : `str`
        As on the detector's drawing.
    box : `tuple`
        Place of the data section in the assembled detector.
    raw_box, raw_data_box, raw_serial_overscan_box, raw_parallel_overscan_box, raw_prescan_box : `tuple`
        Boxes in the raw array; an area of zero means there is none. ``raw_box`` is the whole channel.
    gain : `float`
        e- / ADU.
    read_noise : `float`
        e- rms.
    saturation : `float`
        ADU, overscan-subtracted: at and above it a pixel is saturated.
    flip_x, flip_y : `bool`
        Whether the raw data section is mirrored when assembled.
    linearity_coefficients : `tuple` [`float`, ...]
        Powers >= 2: corrected = x + sum_k c[k] x**(k + 2), x in ADU. Empty: linear.
    """

    name: str
    box: Box
    raw_box: Box
    raw_data_box: Box
    raw_serial_overscan_box: Box = (0, 0, 0, 0)
    raw_parallel_overscan_box: Box = (0, 0, 0, 0)
    raw_prescan_box: Box = (0, 0, 0, 0)
    gain: float = 1.0
    read_noise: float = 0.0
    saturation: float = 65535.0
    flip_x: bool = False
    flip_y: bool = False
    linearity_coefficients: tuple[float, ...] = ()


def readout_view(assembled: NDArray[Any], amplifier: Amplifier) -> NDArray[Any]:
    """Return an amplifier's section of an assembled array with its columns in the order they are read.

    Channels read at the same time cross-talk: column k of one channel's view meets column k of another's.
    The serial overscan follows the last column read, so its side tells the direction.

    Parameters
    ----------
    assembled : `numpy.ndarray`, shape (ny, nx), any type [any unit]
        Assembled detector.
    amplifier : `Amplifier`
        Which channel.

    Returns
    -------
    view : `numpy.ndarray`, shape (height, width), any type [unit of the array]
        A view, mirrored where the channel is read from high to low columns.
    """
    view = assembled[box_slices(amplifier.box)]
    overscan, data = amplifier.raw_serial_overscan_box, amplifier.raw_data_box
    read_from_right_in_raw = overscan[2] > 0 and overscan[0] < data[0]
    if read_from_right_in_raw != amplifier.flip_x:
        view = view[:, ::-1]
    return view[::-1] if amplifier.flip_y else view


@dataclass(frozen=True, slots=True)
class Detector:
    """One sensor of a camera.

    Parameters
    ----------
    id : `int`
        Number, the value of the ``detector`` dimension.
    name, serial, purpose, raft, name_in_raft : `str`
        Purpose is SCIENCE, FOCUS, GUIDE or WAVEFRONT.
    shape : `tuple` [`int`, `int`]
        (ny, nx) assembled.
    raw_shape : `tuple` [`int`, `int`]
        (ny, nx) of the raw array.
    amplifiers : `tuple` [`Amplifier`, ...]
        In readout order.
    focal_plane_x_mm, focal_plane_y_mm : `float`
        Centre on the focal plane [mm].
    yaw_deg : `float`
        Rotation of the detector's +x from the focal plane's +x, counter-clockwise [deg].
    pixel_size_mm : `float`
        Pixel size [mm].
    crosstalk : `numpy.ndarray`, shape (n_amp, n_amp), float64 [1], or None
        Row i, column j: fraction of amplifier i's signal that appears in amplifier j.
    """

    id: int
    name: str
    shape: tuple[int, int]
    raw_shape: tuple[int, int]
    amplifiers: tuple[Amplifier, ...]
    serial: str = ""
    purpose: str = "SCIENCE"
    raft: str = ""
    name_in_raft: str = ""
    focal_plane_x_mm: float = 0.0
    focal_plane_y_mm: float = 0.0
    yaw_deg: float = 0.0
    pixel_size_mm: float = 0.015
    crosstalk: NDArray[np.float64] | None = field(default=None, compare=False)

    def __getitem__(self, name: str) -> Amplifier:
        for amplifier in self.amplifiers:
            if amplifier.name == name:
                return amplifier
        raise KeyError(
            f"Detector {self.name!r} has no amplifier {name!r}: {[a.name for a in self.amplifiers]}"
        )
