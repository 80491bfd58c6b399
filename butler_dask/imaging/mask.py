"""Mask: a plane of bits, one bit a reason why a pixel is special.

The plane names are those of the field's catalogues and pictures (``BAD``, ``SAT``, ``CR`` ...). The bit of
a name is a property of one Mask, written beside the pixels in the file, so a file made with another set of
planes still reads rightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

DEFAULT_MASK_PLANES: Mapping[str, int] = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "CROSSTALK": 9,
    "UNMASKEDNAN": 10,
    "NOT_DEBLENDED": 11,
    "VIGNETTED": 12,
    "CLIPPED": 13,
    "SENSOR_EDGE": 14,
    "INEXACT_PSF": 15,
}
"""Bit numbers of the planes every new Mask starts with."""

FULL_FOOTPRINT_PLANES = ("BAD", "SAT", "EDGE", "NO_DATA", "UNMASKEDNAN")
"""Planes that resampling spreads over every pixel the kernel touches. Other planes (repaired cosmic rays,
detections) are spread over the four pixels nearest to the position only, as the field's warper does with its
bilinear mask kernel: spread over 6 x 6 pixels, a repaired cosmic ray would cost ten times its area."""


class Mask:
    """An int32 bit plane with named bits.

    Parameters
    ----------
    array : `numpy.ndarray`, shape (ny, nx), int32 [bits]
        Bits; taken as it is, not copied.
    planes : mapping of `str` to `int`, optional
        Bit number of each plane name.
    """

    __slots__ = ("array", "planes")

    def __init__(self, array: NDArray[np.int32], planes: Mapping[str, int] | None = None) -> None:
        if array.ndim != 2:
            raise ValueError(f"A mask has two axes, not shape {array.shape!r}")
        self.array: NDArray[np.int32] = array.astype(np.int32, copy=False)
        self.planes: dict[str, int] = dict(DEFAULT_MASK_PLANES if planes is None else planes)

    @classmethod
    def zeros(cls, shape: tuple[int, int], planes: Mapping[str, int] | None = None) -> Mask:
        """Make a mask with no bit set.

        Parameters
        ----------
        shape : `tuple` [`int`, `int`]
            (ny, nx).
        planes : mapping, optional
            Bit number of each plane name.
        """
        return cls(np.zeros(shape, dtype=np.int32), planes)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx)."""
        return (self.array.shape[0], self.array.shape[1])

    def bit(self, name: str) -> int:
        """Return the bit number of one plane.

        Raises
        ------
        KeyError
            If there is no such plane; the planes there are are named.
        """
        try:
            return self.planes[name]
        except KeyError:
            raise KeyError(f"No mask plane {name!r}; there are {sorted(self.planes)}") from None

    def bitmask(self, names: Iterable[str] | str) -> int:
        """Return the integer with the bits of the named planes set.

        Parameters
        ----------
        names : `str` or iterable of `str`
            Plane names.
        """
        if isinstance(names, str):
            names = (names,)
        value = 0
        for name in names:
            value |= 1 << self.bit(name)
        return value

    getPlaneBitMask = bitmask

    def add_plane(self, name: str) -> int:
        """Add a plane unless it is there and return its bit number.

        Raises
        ------
        ValueError
            If all 31 bits are taken.
        """
        if name not in self.planes:
            free = next((b for b in range(31) if b not in self.planes.values()), None)
            if free is None:
                raise ValueError(f"No bit left for mask plane {name!r}")
            self.planes[name] = free
        return self.planes[name]

    def is_set(self, names: Iterable[str] | str) -> NDArray[np.bool_]:
        """Return where any of the named planes is set, shape (ny, nx), bool [1]."""
        result: NDArray[np.bool_] = (self.array & self.bitmask(names)) != 0
        return result

    def set_where(self, where: NDArray[np.bool_], names: Iterable[str] | str) -> None:
        """Set the named planes at some pixels.

        Parameters
        ----------
        where : `numpy.ndarray`, shape (ny, nx), bool [1]
            Which pixels.
        names : `str` or iterable of `str`
            Plane names.
        """
        self.array[where] |= np.int32(self.bitmask(names))

    def clear(self, names: Iterable[str] | str) -> None:
        """Clear the named planes everywhere."""
        self.array &= np.int32(~self.bitmask(names))

    def copy(self) -> Mask:
        """Return a deep copy."""
        return Mask(self.array.copy(), self.planes)

    def __repr__(self) -> str:
        return f"Mask({self.shape[0]} x {self.shape[1]}, planes {sorted(self.planes)})"
