"""Tract and patch: one tangent-plane pixel grid of a sky map, and the boxes it is cut into.

The geometry is that of ``lsst.skymap.TractInfo`` and ``PatchInfo``, with patches counted from 0 along x
first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from .detector import Box
from .sky_wcs import SkyWcs


def box_polygon(wcs: SkyWcs, box: Box) -> ConvexPolygon:
    """Return the sky region of a pixel box, its outermost pixels included whole.

    Parameters
    ----------
    wcs : `SkyWcs`
        World coordinates of the frame the box is in.
    box : `tuple`
        (x0, y0, width, height) [pixels].
    """
    x0, y0, width, height = box
    left, bottom = x0 - 0.5, y0 - 0.5
    xs = np.array([left, left + width, left + width, left])
    ys = np.array([bottom, bottom, bottom + height, bottom + height])
    ra, dec = wcs.pixel_to_sky(xs, ys)
    return ConvexPolygon(
        [UnitVector3d(LonLat.fromDegrees(float(a), float(d))) for a, d in zip(ra, dec, strict=True)]
    )


@dataclass(frozen=True)
class PatchInfo:
    """One patch of a tract.

    Parameters
    ----------
    id : `int`
        Number in the tract, ``cell_y * nx + cell_x``.
    cell_x, cell_y : `int`
        Column and row.
    inner_box, outer_box : `tuple`
        (x0, y0, width, height) in the tract's pixels, without and with the border; the outer box ends at the
        tract's edge.
    tract_wcs : `SkyWcs`
        World coordinates of the tract's pixels.
    """

    id: int
    cell_x: int
    cell_y: int
    inner_box: Box
    outer_box: Box
    tract_wcs: SkyWcs

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of an image of this patch, border included."""
        return (self.outer_box[3], self.outer_box[2])

    @cached_property
    def wcs(self) -> SkyWcs:
        """World coordinates of an array that holds the outer box."""
        return self.tract_wcs.shifted(self.outer_box[0], self.outer_box[1])

    @cached_property
    def region(self) -> ConvexPolygon:
        """Sky region of the outer box."""
        return box_polygon(self.tract_wcs, self.outer_box)

    @cached_property
    def inner_region(self) -> ConvexPolygon:
        """Sky region of the inner box."""
        return box_polygon(self.tract_wcs, self.inner_box)


@dataclass(frozen=True)
class TractInfo:
    """One tract: a tangent plane cut into patches.

    Parameters
    ----------
    id : `int`
        Number in the sky map.
    wcs : `SkyWcs`
        World coordinates of the tract's pixels; the box begins at pixel (0, 0).
    num_patches : `tuple` [`int`, `int`]
        (nx, ny).
    patch_inner_dimensions : `tuple` [`int`, `int`]
        (width, height) of a patch without border [pixels].
    patch_border : `int`
        Border of a patch [pixels].
    center_deg : `tuple` [`float`, `float`]
        Right ascension and declination of the tract's centre [deg].
    """

    id: int
    wcs: SkyWcs
    num_patches: tuple[int, int]
    patch_inner_dimensions: tuple[int, int]
    patch_border: int
    center_deg: tuple[float, float]

    @property
    def box(self) -> Box:
        """(x0, y0, width, height) of the whole tract [pixels]."""
        return (
            0,
            0,
            self.num_patches[0] * self.patch_inner_dimensions[0],
            self.num_patches[1] * self.patch_inner_dimensions[1],
        )

    @cached_property
    def region(self) -> ConvexPolygon:
        """Sky region of the whole tract."""
        return box_polygon(self.wcs, self.box)

    def getWcs(self) -> SkyWcs:
        """Return the world coordinates (the field's accessor; same as ``wcs``)."""
        return self.wcs

    def __len__(self) -> int:
        return self.num_patches[0] * self.num_patches[1]

    def __getitem__(self, patch: int | tuple[int, int]) -> PatchInfo:
        """Return a patch by number, or by (cell_x, cell_y).

        Raises
        ------
        IndexError
            If the tract has no such patch.
        """
        nx, ny = self.num_patches
        cell_x, cell_y = (int(patch) % nx, int(patch) // nx) if not isinstance(patch, tuple) else patch
        if not (0 <= cell_x < nx and 0 <= cell_y < ny):
            raise IndexError(f"Tract {self.id} has {nx} x {ny} patches, numbered from 0; no patch {patch!r}")
        width, height = self.patch_inner_dimensions
        inner = (cell_x * width, cell_y * height, width, height)
        _, _, tract_width, tract_height = self.box
        x0, y0 = max(inner[0] - self.patch_border, 0), max(inner[1] - self.patch_border, 0)
        x1 = min(inner[0] + width + self.patch_border, tract_width)
        y1 = min(inner[1] + height + self.patch_border, tract_height)
        return PatchInfo(cell_y * nx + cell_x, cell_x, cell_y, inner, (x0, y0, x1 - x0, y1 - y0), self.wcs)

    def __iter__(self) -> Iterator[PatchInfo]:
        return (self[i] for i in range(len(self)))

    def find_patch(self, ra_deg: float, dec_deg: float) -> PatchInfo:
        """Return the patch whose inner box holds a position.

        Parameters
        ----------
        ra_deg, dec_deg : `float`
            ICRS [deg].

        Raises
        ------
        LookupError
            If the position is outside the tract.
        """
        x, y = self.wcs.sky_to_pixel(ra_deg, dec_deg)
        cell_x = int(np.floor((float(x) + 0.5) / self.patch_inner_dimensions[0]))
        cell_y = int(np.floor((float(y) + 0.5) / self.patch_inner_dimensions[1]))
        if not (0 <= cell_x < self.num_patches[0] and 0 <= cell_y < self.num_patches[1]):
            raise LookupError(f"({ra_deg}, {dec_deg}) deg is outside tract {self.id}")
        return self[cell_x, cell_y]
