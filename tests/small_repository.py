"""A repository with one instrument, a few detectors, exposures and visits, and no pixels."""

from __future__ import annotations

from pathlib import Path

from astropy.time import Time

from butler_dask import Butler, CollectionType, DatasetRef, DatasetType, Timespan

VISITS = (903334, 903336, 903344)
OLD, NEW = "u/me/1/old", "u/me/1/new"


def exposure_timespan(n: int) -> Timespan:
    """Return half a minute on the n-th night."""
    return Timespan(
        Time(f"2013-06-{17 + n:02d}T13:30:00", scale="tai"),
        Time(f"2013-06-{17 + n:02d}T13:30:30", scale="tai"),
    )


def make_repository(root: Path) -> Path:
    """Make the repository: instrument HSC, detectors 0-5, filters HSC-R and HSC-I, one exposure a night."""
    Butler.makeRepo(root)
    fill_repository(root)
    return root


def fill_repository(root: Path) -> None:
    """Put the records, dataset types and collections into an empty repository."""
    with Butler(root, writeable=True) as butler:
        registry = butler.registry
        registry.insertDimensionData("instrument", {"name": "HSC", "detector_max": 112, "class_name": "x"})
        registry.insertDimensionData(
            "detector",
            *[
                {"instrument": "HSC", "id": d, "full_name": f"1_5{d}", "purpose": "SCIENCE" if d else "GUIDE"}
                for d in range(6)
            ],
        )
        registry.insertDimensionData(
            "physical_filter",
            {"instrument": "HSC", "name": "HSC-R", "band": "r"},
            {"instrument": "HSC", "name": "HSC-I", "band": "i"},
        )
        for n, visit in enumerate(VISITS):
            registry.insertDimensionData("day_obs", {"instrument": "HSC", "id": 20130617 + n})
            registry.insertDimensionData("group", {"instrument": "HSC", "name": str(visit)})
            common = {
                "instrument": "HSC",
                "id": visit,
                "day_obs": 20130617 + n,
                "physical_filter": "HSC-I" if n == 1 else "HSC-R",
                "timespan": exposure_timespan(n),
                "exposure_time": 30.0 + n,
            }
            registry.insertDimensionData(
                "exposure", {**common, "group": str(visit), "obs_id": f"HSCA{visit}", "seq_num": n}
            )
            registry.insertDimensionData("visit", {**common, "name": f"V{visit}"})
            registry.insertDimensionData(
                "visit_definition", {"instrument": "HSC", "exposure": visit, "visit": visit}
            )
        for name, dimensions, kind, calibration in (
            ("raw", ["exposure", "detector"], "StructuredDataDict", False),
            ("calexp", ["visit", "detector"], "ExposureF", False),
            ("src", ["visit", "detector"], "SourceCatalog", False),
            ("metric", ["visit", "detector"], "StructuredDataDict", False),
            ("summary", ["instrument"], "StructuredDataDict", False),
            ("bias", ["instrument", "detector"], "StructuredDataDict", True),
            ("flat", ["detector", "physical_filter"], "StructuredDataDict", True),
        ):
            registry.registerDatasetType(DatasetType(name, dimensions, kind, isCalibration=calibration))
        butler.collections.register("tagged", CollectionType.TAGGED)
        butler.collections.register("HSC/calib", CollectionType.CALIBRATION)


def add_two_runs(butler: Butler) -> list[DatasetRef]:
    """Put metrics of every visit and two detectors into the runs OLD and then NEW, tag three of them, and
    return all.

    The chain u/me/1 of both, NEW first, is for the caller to make.
    """
    refs = []
    for run in (OLD, NEW):
        butler.collections.register(run)
        for visit in VISITS:
            for detector in (1, 2):
                data_id = {"instrument": "HSC", "visit": visit, "detector": detector}
                refs.append(butler.put({"v": visit}, "metric", data_id, run=run))
    butler.registry.associate("tagged", refs[:3])
    return refs
