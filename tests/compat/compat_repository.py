"""A repository with an instrument, observations, a sky map and datasets, made by the documented API."""

from typing import Any

from astropy.time import Time, TimeDelta
from compat_package import api
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

NIGHT = Time("2026-01-10T00:00:00", scale="tai")


def square(ra: float, dec: float, size: float) -> ConvexPolygon:
    """Return a square region, in degrees."""
    corners = [(0, 0), (size, 0), (size, size), (0, size)]
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra + x, dec + y)) for x, y in corners])


def timespan(start_minutes: float, minutes: float = 1.0) -> Any:
    """Return a time range of the night."""
    begin = NIGHT + TimeDelta(start_minutes * 60, format="sec")
    return api.Timespan(begin, begin + TimeDelta(minutes * 60, format="sec"))


def insert_records(butler: Any) -> None:
    """Insert the dimension records."""
    insert = butler.registry.insertDimensionData
    insert("instrument", {"name": "Cam", "detector_max": 4, "visit_max": 100, "exposure_max": 100})
    insert(
        "physical_filter",
        {"instrument": "Cam", "name": "Cam-G", "band": "g"},
        {"instrument": "Cam", "name": "Cam-R", "band": "r"},
    )
    insert(
        "detector",
        *(
            {
                "instrument": "Cam",
                "id": i,
                "full_name": f"D{i}",
                "raft": "A" if i < 2 else "B",
                "purpose": "SCIENCE",
            }
            for i in range(4)
        ),
    )
    insert("day_obs", {"instrument": "Cam", "id": 20260110})
    insert("group", *({"instrument": "Cam", "name": f"G{i}"} for i in (1, 2, 3)))
    insert(
        "exposure",
        *(
            {
                "instrument": "Cam",
                "id": i,
                "obs_id": f"O{i}",
                "day_obs": 20260110,
                "group": f"G{i}",
                "physical_filter": "Cam-R" if i == 3 else "Cam-G",
                "exposure_time": 30.0 * i,
                "observation_type": "science" if i > 1 else "dark",
                "target_name": f"field{i}",
                "seq_num": i,
                "timespan": timespan(10 * i),
            }
            for i in (1, 2, 3)
        ),
    )
    insert("visit_system", {"instrument": "Cam", "id": 0, "name": "one-to-one"})
    insert(
        "visit",
        *(
            {
                "instrument": "Cam",
                "id": i,
                "name": f"V{i}",
                "day_obs": 20260110,
                "physical_filter": "Cam-R" if i == 3 else "Cam-G",
                "exposure_time": 30.0 * i,
                "target_name": f"field{i}",
                "timespan": timespan(10 * i),
                "region": square(10.0 + i, 5.0, 1.0),
            }
            for i in (2, 3)
        ),
    )
    insert("visit_definition", *({"instrument": "Cam", "exposure": i, "visit": i} for i in (2, 3)))
    insert(
        "visit_detector_region",
        *(
            {
                "instrument": "Cam",
                "visit": v,
                "detector": d,
                "region": square(10.0 + v + 0.5 * (d % 2), 5.0 + 0.5 * (d // 2), 0.5),
            }
            for v in (2, 3)
            for d in range(4)
        ),
    )
    insert("skymap", {"name": "sky", "tract_max": 2, "patch_nx_max": 2, "patch_ny_max": 1})
    insert("tract", {"skymap": "sky", "id": 1, "region": square(12.0, 5.0, 2.0)})
    insert(
        "patch",
        *(
            {
                "skymap": "sky",
                "tract": 1,
                "id": i,
                "cell_x": i,
                "cell_y": 0,
                "region": square(12.0 + i, 5.0, 1.0),
            }
            for i in (0, 1)
        ),
    )


TYPES = (
    ("bias", ["instrument", "detector"], "StructuredDataDict", True),
    ("flat", ["instrument", "detector", "physical_filter"], "StructuredDataDict", True),
    ("raw", ["instrument", "exposure", "detector"], "StructuredDataDict", False),
    ("table", ["instrument", "visit", "detector"], "ArrowAstropy", False),
    ("summary", ["instrument", "visit"], "StructuredDataDict", False),
    ("coadd", ["skymap", "tract", "patch", "band"], "StructuredDataDict", False),
    ("note", [], "StructuredDataDict", False),
)


def register_types(butler: Any) -> None:
    """Register the dataset types."""
    for name, dimensions, storage_class, calibration in TYPES:
        butler.registry.registerDatasetType(
            api.DatasetType(
                name,
                dimensions,
                storage_class,
                universe=butler.dimensions,
                isCalibration=calibration,
            )
        )


def put_datasets(butler: Any) -> None:
    """Put datasets: biases in two runs, a flat for each filter, raws, summaries and tables."""
    from astropy.table import Table

    register = butler.collections.register
    for run in ("biases/1", "biases/2", "flats", "raws", "u/one", "u/two"):
        register(run)
    for run, n in (("biases/1", 3), ("biases/2", 4)):
        for detector in range(n):
            butler.put(
                {"run": run, "detector": detector}, "bias", instrument="Cam", detector=detector, run=run
            )
    for physical_filter in ("Cam-G", "Cam-R"):
        data_id = {"instrument": "Cam", "detector": 1, "physical_filter": physical_filter}
        butler.put({"filter": physical_filter}, "flat", data_id, run="flats")
    for exposure in (1, 2, 3):
        for detector in (0, 1):
            data_id = {"instrument": "Cam", "exposure": exposure, "detector": detector}
            butler.put({"exposure": exposure, "detector": detector}, "raw", data_id, run="raws")
    for run, visits in (("u/one", (2, 3)), ("u/two", (3,))):
        for visit in visits:
            butler.put({"run": run, "visit": visit}, "summary", instrument="Cam", visit=visit, run=run)
    table = Table({"x": [1, 2, 3], "flux": [0.5, 1.5, 2.5]})
    butler.put(table, "table", instrument="Cam", visit=2, detector=1, run="u/one")
    register("best", api.CollectionType.TAGGED)
    register("calib", api.CollectionType.CALIBRATION)
    register("defaults", api.CollectionType.CHAINED)
    butler.collections.redefine_chain("defaults", ["u/two", "u/one", "raws"])
