"""What users do with a Butler, written once for butler_dask and the reference, and measured.

Run by ``butler_side_by_side.py`` in a fresh process for each workload, under the interpreter of either
package: ``python butler_workloads.py PACKAGE WORKLOAD DIRECTORY SIZES DATABASE``; prints what it took as one
line of JSON. Only the few functions that ask `OURS` differ between the two.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measurement import Measurement, to_json

PACKAGE = sys.argv[1]
OURS = PACKAGE == "butler_dask"
DRIVER = "postgresql+psycopg" if OURS else "postgresql+psycopg2"
DETECTORS = 100
DEPTH = 20
FIRST_DAY = 20130101
RUN = "u/someone/run"
DOCUMENT = {"seeing": 0.71, "flags": [1, 2, 3], "comment": "a small document"}

Measurements = dict[str, Measurement]


def names() -> Any:
    """Return the package's public names."""
    return importlib.import_module(PACKAGE)


# Repositories


def create(root: Path, database: str | None = None) -> None:
    """Make an empty repository, in a SQLite file of its own or a new database of a PostgreSQL server."""
    butler_class = names().Butler
    if database is None:
        butler_class.makeRepo(str(root))
    elif OURS:
        butler_class.makeRepo(str(root), registry=new_database(database, root.parent))
    else:
        url = new_database(database, root.parent)
        butler_class.makeRepo(str(root), config=names().Config({"registry": {"db": url}}))


def new_database(server: str, place: Path) -> str:
    """Make a database on a PostgreSQL server, note its name, and return its URL."""
    import sqlalchemy as sa

    name = f"benchmark_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name}")
    with open(place / "databases", "a") as stream:
        stream.write(name + "\n")
    url = sa.make_url(server).set(database=name, drivername=DRIVER)
    text = url.render_as_string(hide_password=False)
    if not OURS:
        execute(text, "CREATE EXTENSION IF NOT EXISTS btree_gist")
    return text


def execute(url: str, sql: str) -> None:
    """Execute a statement outside of transactions."""
    import sqlalchemy as sa

    engine = sa.create_engine(sa.make_url(url).set(drivername=DRIVER), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
    engine.dispose()


def drop_databases(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Remove all databases that were made."""
    noted = place / "databases"
    if database is not None and noted.exists():
        for name in noted.read_text().split():
            execute(database, f"DROP DATABASE {name} WITH (FORCE)")
    return {}


@contextmanager
def opened(root: Path, **arguments: Any) -> Iterator[Any]:
    """Give a butler."""
    butler = names().Butler.from_config(str(root), **arguments)
    yield butler
    if hasattr(butler, "close"):
        butler.close()


@contextmanager
def scratch(place: Path, exposures: int, database: str | None = None) -> Iterator[tuple[Path, Any]]:
    """Give a new repository with a run, dataset types and exposures; remove it in the end."""
    root = place / f"scratch_{os.getpid()}"
    create(root, database)
    try:
        with opened(root, writeable=True) as butler:
            add_records(butler, exposures)
            register(butler)
            yield root, butler
    finally:
        shutil.rmtree(root)


def add_records(butler: Any, exposures: int) -> None:
    """Insert an instrument of 100 detectors and its exposures, a minute each, five minutes apart."""
    from astropy.time import Time

    insert = butler.registry.insertDimensionData
    insert("instrument", {"name": "Cam", "detector_max": 200, "visit_max": 10**9, "exposure_max": 10**9})
    insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
    insert("detector", *({"instrument": "Cam", "id": d, "full_name": f"d{d}"} for d in range(DETECTORS)))
    insert("day_obs", {"instrument": "Cam", "id": FIRST_DAY})
    insert("group", *({"instrument": "Cam", "name": str(e)} for e in range(exposures)))
    first = Time("2013-01-01T00:00:00", scale="tai")
    seconds = [300 * e for e in range(exposures)]
    begins, ends = (
        Time(first.mjd + [(s + d) / 86400 for s in seconds], format="mjd", scale="tai") for d in (0, 60)
    )
    common = {"instrument": "Cam", "physical_filter": "r1", "day_obs": FIRST_DAY}
    timespan = names().Timespan
    insert(
        "exposure",
        *(
            {**common, "id": e, "obs_id": f"o{e}", "group": str(e), "timespan": timespan(begins[e], ends[e])}
            for e in range(exposures)
        ),
    )


def register(butler: Any) -> None:
    """Register the run and the dataset types."""
    butler.registry.registerRun(RUN)
    for name, dimensions, calibration in (
        ("document", ("instrument", "exposure", "detector"), False),
        ("bias", ("instrument", "detector"), True),
    ):
        kind = names().DatasetType(
            name, dimensions, "StructuredDataDict", universe=butler.dimensions, isCalibration=calibration
        )
        butler.registry.registerDatasetType(kind)


def data_ids(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return data IDs of documents as users write them."""
    return [
        {"instrument": "Cam", "exposure": i // DETECTORS, "detector": i % DETECTORS}
        for i in range(first, first + count)
    ]


def exposures_for(documents: int) -> int:
    """Return how many exposures so many documents are of."""
    return -(-documents // DETECTORS)


def write_files(directory: Path, count: int) -> list[Path]:
    """Write small documents."""
    directory.mkdir()
    text = json.dumps(DOCUMENT)
    paths = [directory / f"{i}.json" for i in range(count)]
    for path in paths:
        path.write_text(text)
    return paths


def file_datasets(butler: Any, paths: list[Path]) -> list[Any]:
    """Return files and the new datasets they hold."""
    public = names()
    kind = butler.get_dataset_type("document")
    formatter = None if OURS else "lsst.daf.butler.formatters.json.JsonFormatter"
    standardize = public.DataCoordinate.standardize
    return [
        public.FileDataset(
            path=str(path),
            refs=[
                public.DatasetRef(
                    kind, standardize(d, dimensions=kind.dimensions, universe=butler.dimensions), RUN
                )
            ],
            formatter=formatter,
        )
        for path, d in zip(paths, data_ids(len(paths)), strict=True)
    ]


# Workloads. Sizes are those of the package that runs.


def insert(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Insert datasets without files."""
    n = sizes["insert"]
    out = {}
    with scratch(place, exposures_for(n), database) as (_, butler):
        rows = data_ids(n)
        for name, keywords in (("insert", {"expand": False}), ("insert expanded", {})):
            run = f"{RUN}/{name.split()[-1]}"
            butler.registry.registerRun(run)
            out[name] = Measurement(n)
            with out[name].watch():
                refs = butler.registry.insertDatasets("document", rows, run=run, **keywords)
            assert len(refs) == n
    return out


def ingest(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Ingest files where they are."""
    n = sizes["ingest"]
    taken = Measurement(n)
    with scratch(place, exposures_for(n), database) as (root, butler):
        files = file_datasets(butler, write_files(root / "incoming", n))
        with taken.watch():
            butler.ingest(*files, transfer="direct")
    return {"ingest": taken}


def put_get(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Put and get small documents by data ID, one by one and in a transaction."""
    n = sizes["put"]
    out = {name: Measurement(n) for name in ("put", "get", "put in transaction")}
    with scratch(place, 3 * exposures_for(n), database) as (root, _), opened(root, run=RUN) as butler:
        butler.put(DOCUMENT, "document", instrument="Cam", exposure=0, detector=99)
        rows = data_ids(n, 100)
        with out["put"].watch():
            for row in rows:
                butler.put(DOCUMENT, "document", row)
        butler.get("document", rows[0])
        with out["get"].watch():
            for row in rows:
                butler.get("document", row)
        rows = data_ids(n, 100 + n)
        with out["put in transaction"].watch(), butler.transaction():
            for row in rows:
                butler.put(DOCUMENT, "document", row)
        assert butler.get("document", rows[-1]) == DOCUMENT
    return out


def prepare_rows(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Make the repository that is queried: one run of many datasets."""
    n = sizes["rows"]
    create(place / "rows", database)
    with opened(place / "rows", writeable=True) as butler:
        add_records(butler, exposures_for(n))
        register(butler)
        butler.registry.insertDatasets("document", data_ids(n), run=RUN, expand=False)
    return {}


def query(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Query all datasets of a run, and those of one exposure."""
    n = sizes["rows"]
    out = {"query": Measurement(n), "query where": Measurement(20)}
    with opened(place / "rows") as butler:
        with out["query"].watch():
            refs = butler.query_datasets("document", RUN, limit=None)
        assert len(refs) == n
        del refs
        with out["query where"].watch():
            for e in range(20):
                where = f"instrument='Cam' AND exposure={e} AND detector IN (1, 5..9)"
                assert len(butler.query_datasets("document", RUN, where=where)) == 6
        if OURS:
            out["query as table"] = Measurement(n)
            with out["query as table"].watch():
                found = butler.repository.registry.queries.datasets("document", RUN)
            assert len(found) == n
    return out


def prepare_chain(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Make a chain of 20 runs, each of which has data IDs of its own and 19 in 20 of the run before."""
    per_run = sizes["chain"] // DEPTH
    step = per_run // DEPTH
    create(place / "chain", database)
    with opened(place / "chain", writeable=True) as butler:
        add_records(butler, exposures_for(per_run + DEPTH * step))
        register(butler)
        runs = [f"{RUN}/{i:02d}" for i in range(DEPTH)]
        for i, run in enumerate(runs):
            butler.registry.registerRun(run)
            butler.registry.insertDatasets("document", data_ids(per_run, i * step), run=run, expand=False)
        butler.registry.registerCollection("chain", names().CollectionType.CHAINED)
        butler.registry.setCollectionChain("chain", runs)
    return {}


def find_first(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Find the first dataset of each data ID in the chain; of one; of those a condition is true of."""
    per_run = sizes["chain"] // DEPTH
    step = per_run // DEPTH
    unique = per_run + (DEPTH - 1) * step
    times = sizes["find"]
    out = {
        "find-first all": Measurement(sizes["chain"]),
        "find-first one": Measurement(times),
        "find-first where": Measurement(20),
    }
    with opened(place / "chain", collections="chain") as butler:
        rows = data_ids(unique)
        butler.find_dataset("document", rows[0])
        with out["find-first one"].watch():
            for i in range(times):
                row = i * (unique - 1) // times
                ref = butler.find_dataset("document", rows[row])
                assert ref.run == f"{RUN}/{max(0, (row - per_run) // step + 1):02d}"
        with out["find-first where"].watch():
            for i in range(20):
                where = f"instrument='Cam' AND exposure={i * (unique // DETECTORS) // 20}"
                assert len(butler.query_datasets("document", "chain", where=where)) == DETECTORS
        with out["find-first all"].watch():
            refs = butler.query_datasets("document", "chain", limit=None)
        assert len(refs) == unique
        assert sum(ref.run == f"{RUN}/00" for ref in refs) == per_run
    return out


def prepare_calibrations(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Certify biases of all detectors for ranges of time that follow one another and cover all exposures."""
    from astropy.time import Time, TimeDelta

    ranges, exposures = sizes["ranges"], sizes["exposures"]
    create(place / "calibrations", database)
    with opened(place / "calibrations", writeable=True) as butler:
        add_records(butler, exposures)
        register(butler)
        butler.registry.registerCollection("calib", names().CollectionType.CALIBRATION)
        rows = [{"instrument": "Cam", "detector": d} for d in range(DETECTORS)]
        first = Time("2013-01-01T00:00:00", scale="tai")
        first -= TimeDelta(100, format="sec", scale="tai")
        length = TimeDelta(300 * exposures / ranges, format="sec", scale="tai")
        for i in range(ranges):
            butler.registry.registerRun(f"bias/{i}")
            refs = butler.registry.insertDatasets("bias", rows, run=f"bias/{i}", expand=False)
            timespan = names().Timespan(first + i * length, first + (i + 1) * length)
            butler.registry.certify("calib", refs, timespan)
    return {}


def calibrations(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Find the bias of a detector for every exposure at once, and of single exposures."""
    n, ranges = sizes["exposures"], sizes["ranges"]
    out = {"calibration all": Measurement(n), "calibration one": Measurement(100)}
    with opened(place / "calibrations", collections="calib") as butler:
        butler.find_dataset("bias", instrument="Cam", exposure=1, detector=3, timespan=timespan_of(butler, 1))
        with out["calibration one"].watch():
            for e in range(0, n, n // 100)[:100]:
                when = timespan_of(butler, e)
                ref = butler.find_dataset("bias", instrument="Cam", detector=3, timespan=when)
                assert ref.run == f"bias/{e * ranges // n}"
        found: dict[int, str] = {}
        with out["calibration all"].watch():
            found = runs_of_biases(butler)
        assert len(found) == n
        assert all(found[e] == f"bias/{e * ranges // n}" for e in range(0, n, n // 100))
    return out


def timespan_of(butler: Any, exposure: int) -> Any:
    """Return the time of an exposure."""
    where = f"instrument='Cam' AND exposure={exposure}"
    return butler.query_dimension_records("exposure", where=where)[0].timespan


def runs_of_biases(butler: Any) -> dict[int, str]:
    """Return the run of the bias of detector 3 for every exposure."""
    if OURS:
        import numpy as np

        from butler_dask.vocabulary.data_id_table import DataIdTable

        registry = butler.repository.registry
        records = registry.queries.records("exposure")
        group = butler.dimensions.conform(["detector"])
        columns = {"instrument": ["Cam"] * len(records), "detector": [3] * len(records)}
        table, rows = registry.search.find(
            "bias",
            DataIdTable.from_values(group, columns),
            ["calib"],
            begin_ns=np.array([r.timespan.begin_ns for r in records]),
            end_ns=np.array([r.timespan.end_ns for r in records]),
        )
        runs = np.array(table.runs)[table.run_codes[rows]].tolist()
        return dict(zip((r.id for r in records), runs, strict=True))
    with butler.query() as query:
        query = query.join_dataset_search("bias", "calib").where("instrument='Cam' AND detector=3")
        results = query.general(["exposure", "detector"], dataset_fields={"bias": {"run"}}, find_first=True)
        return {row["exposure"]: row["bias.run"] for row in results}


def remove(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Remove a run with files."""
    n = sizes["remove"]
    taken = Measurement(n)
    with scratch(place, exposures_for(n), database) as (root, butler):
        fill(butler, root, n)
        with taken.watch():
            butler.removeRuns([RUN])
        assert not list(root.glob("**/*.json"))
    return {"remove run": taken}


def prepare_removal(place: Path, sizes: dict[str, int], database: str | None) -> Measurements:
    """Make the repository whose run is removed by the command line, anew for every time."""
    root, n = place / "removal", sizes["remove"]
    shutil.rmtree(root, ignore_errors=True)
    create(root, database)
    with opened(root, writeable=True) as butler:
        add_records(butler, exposures_for(n))
        register(butler)
        fill(butler, root, n)
    return {}


def fill(butler: Any, root: Path, count: int) -> None:
    """Move new files into the run."""
    files = file_datasets(butler, write_files(root / "incoming", count))
    butler.ingest(*files, transfer="move")


WORKLOADS: dict[str, Callable[[Path, dict[str, int], str | None], Measurements]] = {
    f.__name__: f
    for f in (
        drop_databases,
        insert,
        ingest,
        put_get,
        prepare_rows,
        query,
        prepare_chain,
        find_first,
        prepare_calibrations,
        calibrations,
        remove,
        prepare_removal,
    )
}


if __name__ == "__main__":
    _, _, workload, directory, numbers, server = sys.argv[:6]
    result = WORKLOADS[workload](Path(directory), json.loads(numbers), server or None)
    print(to_json(result))
