"""Visits: which exposures make one observation of the sky, and where its detectors look.

Every science exposure is a visit of its own (the reference's visit system ``one-to-one``). Regions come from
the pointing and the camera, grown for pointing errors, so that what overlaps truly overlaps in the
registry too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from ..errors import RawIngestError
from ..imaging.camera import Camera
from .instrument import Instrument
from .raw_dataset import raw_dataset_type

if TYPE_CHECKING:
    from ..butler.butler import Butler

log = logging.getLogger("butler.define_visits")

ONE_TO_ONE_VISIT_SYSTEM = 0
"""The visit system in which every exposure is a visit of its own, as the reference numbers it."""


def define_visits(
    butler: Butler,
    instrument: Instrument | str,
    collections: str | Sequence[str] | None = None,
    *,
    where: str = "",
    padding_pixels: int = 250,
    update_records: bool = False,
) -> int:
    """Define a visit for every science exposure that has raws, with its region on the sky.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    instrument : `Instrument` or `str`
        Whose exposures.
    collections : `str` or sequence, optional
        Where raws are looked for; ``<NAME>/raw/all`` when not given.
    where : `str`, optional
        Restricts the exposures.
    padding_pixels : `int`
        Regions are those of the initial world coordinates grown by this much, for pointing errors [pixels].
    update_records : `bool`
        Whether visits that exist are replaced.

    Returns
    -------
    n_visits : `int`
        Visits defined now; what exists is left alone, so the call may be repeated.
    """
    if isinstance(instrument, str):
        instrument = Instrument.from_repository(butler, instrument)
    name = instrument.getName()
    camera = instrument.getCamera()
    collections = collections or instrument.makeDefaultRawIngestRunName()
    if isinstance(collections, str):
        collections = [collections]
    condition = f"instrument = '{name}'" + (f" AND ({where})" if where else "")
    registry = butler.registry
    detectors: dict[int, list[int]] = {}
    for ref in registry.queryDatasets(
        raw_dataset_type(butler.dimensions), collections=collections, where=condition
    ):
        detectors.setdefault(int(ref.dataId["exposure"]), []).append(int(ref.dataId["detector"]))
    if not detectors:
        raise RawIngestError(
            f"No raws of {name} in {', '.join(map(repr, collections))}"
            f"{' where ' + where if where else ''}; ingest some before defining visits."
        )
    existing = {int(r.id) for r in registry.queryDimensionRecords("visit", where=f"instrument = '{name}'")}
    exposures = [
        record
        for record in registry.queryDimensionRecords("exposure", where=condition)
        if int(record.id) in detectors
        and (update_records or int(record.id) not in existing)
        and record.observation_type == "science"
        and record.tracking_ra is not None
        and record.tracking_dec is not None
    ]
    registry.syncDimensionData(
        "visit_system", {"instrument": name, "id": ONE_TO_ONE_VISIT_SYSTEM, "name": "one-to-one"}
    )
    if not exposures:
        log.info("All visits of %s are defined already.", name)
        return 0
    records: Mapping[str, list[dict[str, Any]]] = {
        "visit": [],
        "visit_definition": [],
        "visit_system_membership": [],
        "visit_detector_region": [],
    }
    for exposure in exposures:
        visit = int(exposure.id)
        regions = {
            number: detector_region(
                camera,
                number,
                exposure.tracking_ra,
                exposure.tracking_dec,
                exposure.sky_angle or 0.0,
                padding_pixels=padding_pixels,
            )
            for number in sorted(detectors[visit])
        }
        records["visit"].append(_visit_record(exposure, _hull(list(regions.values()))))
        records["visit_definition"].append({"instrument": name, "exposure": visit, "visit": visit})
        records["visit_system_membership"].append(
            {"instrument": name, "visit_system": ONE_TO_ONE_VISIT_SYSTEM, "visit": visit}
        )
        records["visit_detector_region"] += [
            {"instrument": name, "visit": visit, "detector": number, "region": region}
            for number, region in regions.items()
        ]
    for element, rows in records.items():
        registry.insertDimensionData(element, *rows, replace=update_records, skip_existing=not update_records)
    log.info("Defined %d visits of %s.", len(exposures), name)
    return len(exposures)


def _visit_record(exposure: Any, region: Any) -> dict[str, Any]:
    return {
        "instrument": exposure.instrument,
        "id": int(exposure.id),
        "name": exposure.obs_id,
        "day_obs": exposure.day_obs,
        "physical_filter": exposure.physical_filter,
        "exposure_time": exposure.exposure_time,
        "observation_reason": exposure.observation_reason,
        "target_name": exposure.target_name,
        "science_program": exposure.science_program,
        "azimuth": exposure.azimuth,
        "zenith_angle": exposure.zenith_angle,
        "seq_num": exposure.seq_num,
        "timespan": exposure.timespan,
        "region": region,
    }


def detector_region(
    camera: Camera,
    detector: int,
    ra_deg: float,
    dec_deg: float,
    rotation_deg: float,
    *,
    padding_pixels: int = 0,
) -> Any:
    """Return the polygon a detector covers on the sky.

    Parameters
    ----------
    camera : `Camera`
        Focal plane.
    detector : `int`
        Detector number.
    ra_deg, dec_deg, rotation_deg : `float`
        Pointing, ICRS [deg].
    padding_pixels : `int`
        Growth on all sides [pixels].

    Returns
    -------
    region : `lsst.sphgeom.ConvexPolygon`
        Four corners.
    """
    wcs = camera.initial_wcs(detector, ra_deg, dec_deg, rotation_deg)
    ny, nx = camera[detector].shape
    low = -0.5 - padding_pixels
    x = np.array([low, nx - 0.5 + padding_pixels, nx - 0.5 + padding_pixels, low])
    y = np.array([low, low, ny - 0.5 + padding_pixels, ny - 0.5 + padding_pixels])
    ra, dec = wcs.pixel_to_sky(x, y)
    return ConvexPolygon(
        [UnitVector3d(LonLat.fromDegrees(float(r % 360.0), float(d))) for r, d in zip(ra, dec, strict=True)]
    )


def _hull(regions: Sequence[Any]) -> Any:
    return ConvexPolygon([vertex for region in regions for vertex in region.getVertices()])
