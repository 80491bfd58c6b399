"""Registration of sky maps: dimension records of tracts and patches, and the ``skyMap`` dataset itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetNotFoundError
from ..imaging.skymap import SkyMap
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType

if TYPE_CHECKING:
    from ..butler import Butler

SKYMAP_RUN = "skymaps"
"""RUN collection of all sky maps, as in the reference."""

SKYMAP_DATASET_TYPE = "skyMap"
"""Dataset type of a sky map."""


def register_skymap(butler: Butler, skymap: SkyMap, *, run: str = SKYMAP_RUN) -> bool:
    """Register a sky map: records of its tracts and patches, and the ``skyMap`` dataset.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    skymap : `SkyMap`
        What to register.
    run : `str`
        RUN collection the dataset goes to, registered if new.

    Returns
    -------
    inserted : `bool`
        False if the very same sky map was registered before, in which case nothing changes.

    Raises
    ------
    ConflictingDefinitionError
        If another sky map has this name.
    """
    registry = butler.registry
    numbers = [tract.num_patches for tract in skymap]
    kind = DatasetType(SKYMAP_DATASET_TYPE, ("skymap",), "SkyMap", universe=butler.dimensions)
    registry.registerDatasetType(kind)
    butler.collections.register(run, CollectionType.RUN)
    with butler.transaction():
        inserted = registry.syncDimensionData(
            "skymap",
            {
                "name": skymap.name,
                "hash": skymap.sha1.hex(),
                "tract_max": len(skymap),
                "patch_nx_max": max(n[0] for n in numbers),
                "patch_ny_max": max(n[1] for n in numbers),
            },
        )
        if inserted:
            registry.insertDimensionData(
                "tract",
                *({"skymap": skymap.name, "id": tract.id, "region": tract.region} for tract in skymap),
            )
            for tract in skymap:
                registry.insertDimensionData("patch", *_patch_records(skymap.name, tract))
        if butler.find_dataset(kind, {"skymap": skymap.name}, collections=[run]) is None:
            butler.put(skymap, kind, {"skymap": skymap.name}, run=run)
    return bool(inserted)


def _patch_records(name: str, tract: Any) -> list[dict[str, Any]]:
    return [
        {
            "skymap": name,
            "tract": tract.id,
            "id": patch.id,
            "cell_x": patch.cell_x,
            "cell_y": patch.cell_y,
            "region": patch.region,
        }
        for patch in tract
    ]


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
