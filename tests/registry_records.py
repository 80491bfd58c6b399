"""Records of two instruments, a sky map and a few visits, for tests of the registry."""

from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.file_record import FileRecord, FileTable
from butler_dask.vocabulary.timespan import Timespan

universe = DimensionUniverse()
DAY = 86_400_000_000_000
RA, DEC = 150.0, 2.0
VISITS = range(1, 7)
DETECTORS = range(4)
FILTERS = {1: "HSC-R", 2: "HSC-I"}

RAW = DatasetType("raw", ["exposure", "detector"], "Exposure")
CALEXP = DatasetType("calexp", ["visit", "detector"], "ExposureF")
BIAS = DatasetType("bias", ["detector"], "ExposureF", isCalibration=True)
FLAT = DatasetType("flat", ["detector", "physical_filter"], "ExposureF", isCalibration=True)
PACKAGES = DatasetType("packages", [], "Packages")
REFERENCES = DatasetType("references", ["htm7"], "SimpleCatalog")


def box(x0: float, y0: float, x1: float, y1: float) -> ConvexPolygon:
    """Return a region between corners [deg from the field's corner]."""
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(RA + x, DEC + y)) for x, y in corners])


def visit_region(visit: int) -> ConvexPolygon:
    """Return a visit's region: each is half a degree right of the one before."""
    return box(0.5 * visit, 0.0, 0.5 * visit + 0.8, 0.2)


def detector_region(visit: int, detector: int) -> ConvexPolygon:
    """Return the region of one of a visit's detectors, side by side."""
    x = 0.5 * visit + 0.2 * detector
    return box(x, 0.0, x + 0.19, 0.2)


def patch_region(patch: int) -> ConvexPolygon:
    """Return a patch's region: 0.3 deg wide columns."""
    return box(0.3 * patch - 0.01, -0.1, 0.3 * patch + 0.31, 0.3)


def timespan_of(visit: int) -> Timespan:
    """Return when a visit was: a quarter of a day, on day number ``visit``."""
    return Timespan(visit * DAY, visit * DAY + DAY // 4)


def insert_records(registry: Registry) -> None:
    """Insert the dimension records."""
    add = registry.records.insert
    add("instrument", [{"name": "HSC", "detector_max": 200}, {"name": "LATISS", "detector_max": 1}])
    for instrument in ("HSC", "LATISS"):
        add(
            "physical_filter",
            [{"instrument": instrument, "name": name, "band": name[-1].lower()} for name in FILTERS.values()],
        )
        add("day_obs", [{"instrument": instrument, "id": 20130600 + v} for v in VISITS])
        add("group", [{"instrument": instrument, "name": f"g{v}"} for v in VISITS])
        add(
            "detector",
            [
                {
                    "instrument": instrument,
                    "id": d,
                    "full_name": f"{d // 2}_{d % 2}",
                    "raft": str(d // 2),
                    "purpose": "SCIENCE" if d < 3 else None,
                }
                for d in DETECTORS
            ],
        )
    shared = [
        {
            "instrument": "HSC",
            "id": v,
            "day_obs": 20130600 + v,
            "physical_filter": FILTERS[1 + v % 2],
            "exposure_time": 30.0 * v,
            "target_name": f"field_{v % 3}" if v != 6 else None,
            "seq_num": v,
            "timespan": timespan_of(v),
        }
        for v in VISITS
    ]
    add(
        "exposure",
        [
            {**s, "group": f"g{s['id']}", "obs_id": f"HSCA{s['id']}", "can_see_sky": bool(s["id"] % 2)}
            for s in shared
        ],
    )
    add("visit", [{**s, "name": f"v{s['id']}", "region": visit_region(s["id"])} for s in shared])
    add("visit_definition", [{"instrument": "HSC", "exposure": v, "visit": v} for v in VISITS])
    add(
        "visit_detector_region",
        [
            {"instrument": "HSC", "visit": v, "detector": d, "region": detector_region(v, d)}
            for v in VISITS
            for d in DETECTORS
        ],
    )
    add("skymap", [{"name": "rings", "hash": "00"}])
    add("tract", [{"skymap": "rings", "id": 7, "region": box(0, -0.1, 4.2, 0.3)}])
    add(
        "patch",
        [
            {"skymap": "rings", "tract": 7, "id": p, "cell_x": p, "cell_y": 0, "region": patch_region(p)}
            for p in range(14)
        ],
    )


def coordinate(**values: int | str) -> DataCoordinate:
    """Return a data ID of the HSC instrument."""
    return DataCoordinate.standardize({"instrument": "HSC", **values})


def data_ids(dataset_type: DatasetType, *rows: dict[str, int | str]) -> DataIdTable:
    """Return data IDs of the HSC instrument."""
    group = dataset_type.dimensions
    return DataIdTable.from_data_ids(
        group,
        [
            DataCoordinate.standardize(
                {**({"instrument": "HSC"} if "instrument" in group else {}), **row}, dimensions=group
            )
            for row in rows
        ],
    )


def exposures_and_detectors(dataset_type: DatasetType, name: str = "exposure") -> DataIdTable:
    """Return the data IDs of all detectors of all exposures (or visits)."""
    return data_ids(dataset_type, *({name: v, "detector": d} for v in VISITS for d in DETECTORS))


def files_for(table: DatasetTable, suffix: str = "") -> FileTable:
    """Return file records with paths like the datastore's."""
    name = table.dataset_type.name
    return FileTable.from_records(
        FileRecord(
            f"{table.run(i)}/{name}/{i}{suffix}.fits", "formats.Fits", "ExposureF", 100 + i, "crc32:00"
        )
        for i in range(len(table))
    )


def put(registry: Registry, dataset_type: DatasetType, run: str, *rows: dict[str, int | str]) -> DatasetTable:
    """Insert datasets into a run, both made when needed, and return them."""
    registry.dataset_types.register([dataset_type])
    registry.collections.register(run)
    ids = data_ids(dataset_type, *rows) if rows else exposures_and_detectors(dataset_type)
    table = DatasetTable.new(dataset_type, ids, run)
    registry.inserts.insert(table, files_for(table))
    return table
