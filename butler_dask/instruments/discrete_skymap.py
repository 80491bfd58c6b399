"""A sky map laid around the visits of a repository: one tract that covers them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DatasetNotFoundError
from ..imaging.skymap import SkyMap
from .skymap_registration import register_skymap

if TYPE_CHECKING:
    from ..butler import Butler


def make_discrete_skymap(
    butler: Butler,
    name: str,
    *,
    instrument: str | None = None,
    where: str = "",
    pixel_scale_arcsec: float = 0.2,
    patch_inner_size: int = 4000,
    patch_border: int = 100,
) -> SkyMap:
    """Define and register a sky map of one tract around the visits there are.

    Parameters
    ----------
    butler : `Butler`
        Writeable butler.
    name : `str`
        Value of the ``skymap`` dimension.
    instrument : `str`, optional
        Only visits of this instrument.
    where : `str`
        Only visits that fulfil this expression.
    pixel_scale_arcsec : `float`
        Pixel scale [arcsec].
    patch_inner_size, patch_border : `int`
        Patch size without border, and border [pixels].

    Returns
    -------
    skymap : `SkyMap`
        The smallest tract that holds every visit's region.

    Raises
    ------
    DatasetNotFoundError
        If there is no visit with a region.
    """
    data_id = {"instrument": instrument} if instrument else {}
    records = butler.query_dimension_records("visit", where=where, limit=None, explain=False, **data_id)
    vertices = [v for r in records if r.region is not None for v in r.region.getVertices()]
    if not vertices:
        what = f"of {instrument!r} " if instrument else ""
        raise DatasetNotFoundError(
            f"No visit {what}{f'where {where} ' if where else ''}has a region to lay a sky map around. "
            "Define visits with `butler define-visits`."
        )
    points = np.array([[v.x(), v.y(), v.z()] for v in vertices])
    center = points.mean(axis=0)
    center /= np.linalg.norm(center)
    # The sine of half the chord is exact for small angles, where the cosine is not.
    radius = 2.0 * math.asin(float(np.linalg.norm(points - center, axis=1).max()) / 2.0)
    skymap = SkyMap.discrete(
        name,
        [math.degrees(math.atan2(center[1], center[0]))],
        [math.degrees(math.asin(center[2]))],
        [math.degrees(radius)],
        patch_inner_dimensions=(patch_inner_size, patch_inner_size),
        patch_border=patch_border,
        tract_overlap_deg=0.0,
        pixel_scale_arcsec=pixel_scale_arcsec,
    )
    register_skymap(butler, skymap)
    return skymap
