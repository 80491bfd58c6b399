"""Stamps: square cut-outs around sources, each with only its own light.

A pixel of a stamp belongs to the source wholly (its own footprint, or sky), in part (a deblended child has a
fraction of its parent's pixels), or not at all (another source's footprint, a bad pixel, off the image).
Measuring from stamps makes every algorithm one compiled loop over an (n, size, size) block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure, Pixels

DEFAULT_BAD_PLANES = ("BAD", "SAT", "CR", "INTRP", "NO_DATA")


def _empty_floats() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


@dataclass(slots=True)
class SourceList:
    """Where sources are, before they are measured.

    Parameters
    ----------
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        First positions.
    footprint : `numpy.ndarray`, shape (n,), int64 [1]
        Footprint number in the label image, 0 for none.
    boxes : `numpy.ndarray`, shape (n, 4), int64 [pixels]
        x0, y0, x1, y1 (exclusive) of the footprint.
    parent_index : `numpy.ndarray`, shape (n,), int64 [1]
        Row of the parent, -1 for a source that is nobody's child.
    n_child : `numpy.ndarray`, shape (n,), int64 [1]
        Children of each.
    fixed : `numpy.ndarray`, shape (n,), bool [1]
        Measured where it is said to be (a sky source), not where light is found.
    significance : `numpy.ndarray`, shape (n,), float64 [sigma]
        Height of the peak.
    share_offset : `numpy.ndarray`, shape (n,), int64 [1]
        Where a child's shares begin in ``shares`` (its box, row by row); -1: it owns its pixels.
    shares : `numpy.ndarray`, shape (n_shares,), float32 [1]
        Fraction of each pixel of the box that is this child's.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    footprint: NDArray[np.int64]
    boxes: NDArray[np.int64]
    parent_index: NDArray[np.int64]
    n_child: NDArray[np.int64]
    fixed: NDArray[np.bool_]
    significance: NDArray[np.float64]
    share_offset: NDArray[np.int64]
    shares: NDArray[np.float32] = field(default_factory=_empty_floats)

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> SourceList:
        """Return some of the sources; their parents are no longer known.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (m,), int64 or bool [1]
            Their row numbers, or of each source whether it is taken.
        """
        columns = {
            f.name: getattr(self, f.name)[rows].copy() for f in fields(self) if f.name not in ("shares",)
        }
        columns["parent_index"][:] = -1
        return SourceList(**columns, shares=self.shares)


class Stamps(NamedTuple):
    """Cut-outs of sources.

    Parameters
    ----------
    x0, y0 : `numpy.ndarray`, shape (n,), int64 [pixels]
        Image pixel of each stamp's middle.
    data : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image]
        The source's light; where ``good`` is 0 the value means nothing.
    variance : `numpy.ndarray`, shape (n, size, size), float32 [unit of the image squared]
        Variance plane.
    good : `numpy.ndarray`, shape (n, size, size), uint8 [1]
        1 where the pixel can be used.
    flags : `numpy.ndarray`, shape (n,), int64 [bits]
        Mask bits of all pixels of the source's footprint, or'ed.
    center_flags : `numpy.ndarray`, shape (n,), int64 [bits]
        Mask bits of the middle 3 x 3 pixels.
    """

    x0: NDArray[np.int64]
    y0: NDArray[np.int64]
    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    good: NDArray[np.uint8]
    flags: NDArray[np.int64]
    center_flags: NDArray[np.int64]


class _Outlines(NamedTuple):
    """Which pixels belong to each source; the fields are those of `SourceList`."""

    labels: NDArray[np.int32]
    footprint: NDArray[np.int64]
    boxes: NDArray[np.int64]
    share_offset: NDArray[np.int64]
    shares: NDArray[np.float32]


@numba.njit(cache=True, nogil=True)
def _cut(pixels: Pixels, outlines: _Outlines, bad_bits: int, stamps: Stamps) -> None:
    """Fill stamps that come zeroed, but for their places."""
    image, mask, variance = pixels.image, pixels.mask, pixels.variance
    labels, boxes, shares = outlines.labels, outlines.boxes, outlines.shares
    flags, center_flags = stamps.flags, stamps.center_flags
    ny, nx = image.shape
    size = stamps.data.shape[1]
    half = size // 2
    for s in range(stamps.x0.size):
        own, offset = outlines.footprint[s], outlines.share_offset[s]
        bx0, by0, bx1 = boxes[s, 0], boxes[s, 1], boxes[s, 2]
        data, noise, good = stamps.data[s], stamps.variance[s], stamps.good[s]
        for i in range(size):
            yy = stamps.y0[s] - half + i
            if yy < 0 or yy >= ny:
                continue
            for j in range(size):
                xx = stamps.x0[s] - half + j
                if xx < 0 or xx >= nx:
                    continue
                label = labels[yy, xx]
                bits = mask[yy, xx]
                share = np.float32(1.0)
                usable = (label == 0 or label == own) and (bits & bad_bits) == 0
                if own != 0 and label == own:
                    if offset >= 0:
                        share = shares[offset + (yy - by0) * (bx1 - bx0) + (xx - bx0)]
                    if share >= 0.5:
                        flags[s] |= bits
                if -1 <= i - half <= 1 and -1 <= j - half <= 1:
                    center_flags[s] |= bits
                    if own == 0:
                        flags[s] |= bits
                v, var = image[yy, xx], variance[yy, xx]
                if not (np.isfinite(v) and np.isfinite(var)):
                    usable = False
                data[i, j] = share * v
                noise[i, j] = var
                good[i, j] = 1 if usable else 0
        if own != 0 and offset < 0:
            for yy in range(by0, boxes[s, 3]):
                for xx in range(bx0, bx1):
                    if labels[yy, xx] == own:
                        flags[s] |= mask[yy, xx]


def cut_stamps(
    exposure: Exposure,
    labels: NDArray[np.int32],
    sources: SourceList,
    half: int,
    bad_planes: Sequence[str] = DEFAULT_BAD_PLANES,
) -> Stamps:
    """Cut out every source.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
        Footprint numbers.
    sources : `SourceList`
        Stamps are centred on the pixels nearest to their positions.
    half : `int`
        Stamps have 2 half + 1 pixels a side.
    bad_planes : sequence of `str`
        Pixels with these mask planes are not good.

    Returns
    -------
    stamps : `Stamps`
    """
    n, size = len(sources), 2 * half + 1
    stamps = Stamps(
        np.rint(sources.x).astype(np.int64),
        np.rint(sources.y).astype(np.int64),
        np.zeros((n, size, size), np.float32),
        np.zeros((n, size, size), np.float32),
        np.zeros((n, size, size), np.uint8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
    bad_bits = exposure.mask.bitmask([p for p in bad_planes if p in exposure.mask.planes])
    outlines = _Outlines(labels, sources.footprint, sources.boxes, sources.share_offset, sources.shares)
    _cut(exposure.pixels, outlines, bad_bits, stamps)
    return stamps
