"""A repository for pipelines of `small_pipeline`: two detectors, two visits, a sky map, calibrations.

Detector 5 overlaps 12 patches (4 in right ascension, 3 in declination), detector 6 the 12 right of those, so
that two patches' columns are shared by none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from butler_dask.butler.butler import Butler
from butler_dask.pipeline import PipelineGraph
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileRecord, FileTable
from butler_dask.vocabulary.timespan import Timespan

RA, DEC = 150.0, 2.0
PATCH = 0.05  # degrees
DAY = 86_400_000_000_000
VISITS = (903344, 903346)
DETECTORS = (5, 6)
INPUTS = ("HSC/raw/all", "HSC/calib", "refcats", "skymaps")
WHERE = "instrument='HSC' AND visit=903344 AND detector=5"


def box(x0: float, y0: float, x1: float, y1: float) -> ConvexPolygon:
    """Return a region of great circles between corners, degrees from the survey's corner."""
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(RA + x, DEC + y)) for x, y in corners])


def make_survey(
    root: Path, *, visits: Sequence[int] = VISITS, detectors: Sequence[int] = DETECTORS
) -> Butler:
    """Make the repository and return a writeable butler."""
    Butler.makeRepo(str(root))
    butler = Butler(str(root), writeable=True)
    add = butler.repository.registry.records.insert
    add("instrument", [{"name": "HSC", "detector_max": 200, "visit_max": 10**7, "exposure_max": 10**7}])
    add("detector", [{"instrument": "HSC", "id": d, "full_name": f"d{d}"} for d in detectors])
    add("physical_filter", [{"instrument": "HSC", "name": "HSC-R", "band": "r"}])
    add("day_obs", [{"instrument": "HSC", "id": 20130617}])
    add("group", [{"instrument": "HSC", "name": str(v)} for v in visits])
    observation = {"instrument": "HSC", "physical_filter": "HSC-R", "day_obs": 20130617}
    times = {v: Timespan(i * DAY, i * DAY + DAY // 1000) for i, v in enumerate(visits)}
    add(
        "exposure",
        [
            {**observation, "id": v, "obs_id": f"HSCA{v}", "group": str(v), "timespan": times[v]}
            for v in visits
        ],
    )
    everywhere = box(0.0, 0.0, 0.02 + 0.2 * (max(detectors) - 4), 0.2)
    add(
        "visit",
        [
            {**observation, "id": v, "name": str(v), "timespan": times[v], "region": everywhere}
            for v in visits
        ],
    )
    add("visit_definition", [{"instrument": "HSC", "exposure": v, "visit": v} for v in visits])
    add(
        "visit_detector_region",
        [
            {"instrument": "HSC", "visit": v, "detector": d, "region": detector_region(d)}
            for v in visits
            for d in detectors
        ],
    )
    columns = 4 * (max(detectors) - 4)
    add("skymap", [{"name": "rings", "hash": "00", "tract_max": 1, "patch_nx_max": 99, "patch_ny_max": 9}])
    add("tract", [{"skymap": "rings", "id": 0, "region": box(0, 0, columns * PATCH, 4 * PATCH)}])
    add(
        "patch",
        [
            {
                "skymap": "rings",
                "tract": 0,
                "id": y * columns + x,
                "cell_x": x,
                "cell_y": y,
                "region": box(x * PATCH, y * PATCH, (x + 1) * PATCH, (y + 1) * PATCH),
            }
            for y in range(4)
            for x in range(columns)
        ],
    )
    _add_datasets(butler, visits, detectors)
    return butler


def detector_region(detector: int) -> ConvexPolygon:
    """Return the region of a detector: 12 patches, touching none at its edges."""
    x = 0.2 * (detector - 5)
    return box(x + 0.02, 0.02, x + 0.18, 0.13)


def _add_datasets(butler: Butler, visits: Sequence[int], detectors: Sequence[int]) -> None:
    registry = butler.repository.registry
    frame = ("instrument", "exposure", "detector")
    raw = DatasetType("raw", frame, "StructuredDataDict")
    bias = DatasetType("bias", ("instrument", "detector"), "StructuredDataDict", isCalibration=True)
    sky_map = DatasetType("skyMap", ("skymap",), "SkyMap")
    reference = DatasetType("reference_catalog", ("htm7",), "SimpleCatalog")
    registry.dataset_types.register([raw, bias, sky_map, reference])
    pairs = [(v, d) for v in visits for d in detectors]
    add_datasets(
        butler,
        raw,
        "HSC/raw/all",
        instrument=["HSC"] * len(pairs),
        exposure=[v for v, _ in pairs],
        detector=[d for _, d in pairs],
    )
    registry.collections.register("HSC/calib", CollectionType.CALIBRATION)
    # One bias a day: the look-up must take the one of the exposure's time.
    for day in range(len(visits)):
        run = f"HSC/calib/day{day}"
        table = add_datasets(butler, bias, run, instrument=["HSC"] * len(detectors), detector=list(detectors))
        registry.associations.certify("HSC/calib", table, Timespan(day * DAY, (day + 1) * DAY))
    add_datasets(butler, sky_map, "skymaps", skymap=["rings"])
    ranges = butler.dimensions["htm7"].pixelization.envelope(box(-2.0, -2.0, 3.0, 3.0)).ranges()
    add_datasets(butler, reference, "refcats", htm7=[i for begin, end in ranges for i in range(begin, end)])
    registry.collections.register("HSC/defaults", CollectionType.CHAINED)
    registry.collections.set_chain("HSC/defaults", INPUTS)


def add_datasets(butler: Butler, kind: DatasetType, run: str, **columns: Sequence[object]) -> DatasetTable:
    """Record datasets as stored; nothing reads the files while a graph is built."""
    butler.repository.registry.collections.register(run)
    butler.repository.registry.dataset_types.register([kind])
    data_ids = DataIdTable.from_values(kind.dimensions, columns, n_rows=1)
    table = DatasetTable.new(kind, data_ids, run)
    files = [
        FileRecord(f"{run}/{kind.name}/{i}.json", "butler_dask.datastore.document.Json", "", 10)
        for i in range(len(table))
    ]
    butler.repository.registry.inserts.insert(table, FileTable.from_records(files))
    return table


def small_graph(**overrides: object) -> PipelineGraph:
    """Return the pipeline raw -> clean -> catalog -> warp."""
    from small_pipeline import CatalogTask, CleanTask, WarpTask

    graph = PipelineGraph(description="raw to warps")
    config = CleanTask.ConfigClass()
    for name, value in overrides.items():
        setattr(config, name, value)
    graph.add_task("clean", CleanTask, config)
    graph.add_task("catalog", CatalogTask)
    graph.add_task("warp", WarpTask)
    return graph
