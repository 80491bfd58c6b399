"""A sky map laid around the visits of a repository: one tract that covers them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetNotFoundError
from ..imaging.skymap import SkyMap
from .skymap_registration import register_skymap

if TYPE_CHECKING:
    from ..butler.butler import Butler


def make_discrete_skymap(
    butler: Butler,
    name: str,
    *,
    instrument: str | None = None,
    where: str = "",
    pixel_scale_arcsec: float = 0.2,
    patch_inner_size: int = 4000,
    patch_border: int = 100,
    tract_overlap_deg: float = 0.0,
) -> SkyMap:
    """Make and register a sky map of one tract that covers the visits of a repository.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing, with visits defined.
    name : `str`
        Value of the ``skymap`` dimension.
    instrument : `str`, optional
        Only visits of this instrument.
    where : `str`, optional
        Expression that selects visits.
    pixel_scale_arcsec : `float`
        Pixel scale [arcsec].
    patch_inner_size, patch_border : `int`
        Size of a patch without its border, and the border [pixels].
    tract_overlap_deg : `float`
        Margin around the visits [deg].

    Returns
    -------
    skymap : `SkyMap`
        Registered.

    Raises
    ------
    DatasetNotFoundError
        If no visit with a region fits.
    """
    condition = " AND ".join(
        part
        for part in (f"instrument = '{instrument}'" if instrument else "", f"({where})" if where else "")
        if part
    )
    regions = [
        record.region
        for record in butler.query_dimension_records("visit", where=condition, limit=None, explain=False)
        if record.region is not None
    ]
    if not regions:
        raise DatasetNotFoundError(
            f"No visits{f' where {condition}' if condition else ''} to lay the sky map {name!r} around; "
            "define some with `butler define-visits`."
        )
    center, radius = enclosing_circle(regions)
    skymap = SkyMap.discrete(
        name,
        [center[0]],
        [center[1]],
        [radius],
        pixel_scale_arcsec=pixel_scale_arcsec,
        patch_inner_dimensions=(patch_inner_size, patch_inner_size),
        patch_border=patch_border,
        tract_overlap_deg=tract_overlap_deg,
    )
    register_skymap(butler, skymap)
    return skymap


def enclosing_circle(regions: Sequence[Any]) -> tuple[tuple[float, float], float]:
    """Return a circle that encloses convex sky regions.

    Parameters
    ----------
    regions : sequence of `lsst.sphgeom.ConvexPolygon`
        Regions within one hemisphere.

    Returns
    -------
    center : `tuple` [`float`, `float`]
        Right ascension and declination of the mean of the vertices [deg].
    radius : `float`
        Distance of the farthest vertex [deg].
    """
    vertices = np.array([[v.x(), v.y(), v.z()] for region in regions for v in region.getVertices()])
    mean = vertices.mean(axis=0)
    mean /= np.linalg.norm(mean)
    # Chord, not arc cosine: exact for small circles.
    chord = float(np.max(np.linalg.norm(vertices - mean, axis=1)))
    radius = np.degrees(2.0 * np.arcsin(min(0.5 * chord, 1.0)))
    ra, dec = np.degrees(np.arctan2(mean[1], mean[0])) % 360.0, np.degrees(np.arcsin(mean[2]))
    return (float(ra), float(dec)), float(radius)
