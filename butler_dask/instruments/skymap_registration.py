"""Registration of sky maps: dimension records of tracts and patches, and the ``skyMap`` dataset itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..imaging.skymap import SkyMap
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType

if TYPE_CHECKING:
    from ..butler.butler import Butler

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
