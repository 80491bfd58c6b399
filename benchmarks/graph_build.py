"""How long a quantum graph takes to build and how much memory and disk it needs.

Workload: 20 detectors a visit through isr, characterizeImage and calibrate, then makeWarp per patch and
visit; about 90 quanta a visit. Usage: ``python benchmarks/graph_build.py [QUANTA ...]``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from butler_dask.butler.butler import Butler
from butler_dask.graph.graph_builder import build_quantum_graph
from butler_dask.graph.graph_file import read_graph, write_graph
from butler_dask.pipeline import (
    PipelineGraph,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileTable
from butler_dask.vocabulary.timespan import Timespan

RAW = ("instrument", "exposure", "detector")
FRAME = ("instrument", "visit", "detector")
WARP = ("instrument", "skymap", "tract", "patch", "visit")
SIZE = 0.2  # degrees of a detector and of a patch
NX, NY = 5, 4  # detectors


def _task(
    label: str, dimensions: tuple[str, ...], reads: str, read_dims: tuple[str, ...], writes: str
) -> type:
    """Make a no-op task with one input and one output."""

    class Connections(PipelineTaskConnections, dimensions=dimensions):
        source = cT.Input(
            name=reads, storageClass="StructuredDataDict", dimensions=read_dims, multiple=dimensions == WARP
        )
        product = cT.Output(name=writes, storageClass="StructuredDataDict", dimensions=dimensions)

    class Config(PipelineTaskConfig, pipelineConnections=Connections):
        pass

    class NoOp(PipelineTask):
        ConfigClass = Config
        _DefaultName = label

        def run(self, source: object) -> Struct:
            return Struct(product={})

    return NoOp


def pipeline() -> PipelineGraph:
    graph = PipelineGraph()
    graph.add_task("isr", _task("isr", RAW, "raw", RAW, "postISRCCD"))
    graph.add_task("charImage", _task("charImage", FRAME, "postISRCCD", RAW, "icExp"))
    graph.add_task("calibrate", _task("calibrate", FRAME, "icExp", FRAME, "calexp"))
    graph.add_task("makeWarp", _task("makeWarp", WARP, "calexp", FRAME, "warp"))
    return graph


def box(x: float, y: float, width: float, height: float) -> ConvexPolygon:
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(150 + a, 2 + b)) for a, b in corners])


def make_repository(root: Path, n_visits: int) -> None:
    Butler.makeRepo(str(root))
    butler = Butler(str(root), writeable=True)
    registry = butler.repository.registry
    add = registry.records.insert
    visits = range(1, n_visits + 1)
    detectors = range(NX * NY)
    add("instrument", [{"name": "Cam", "detector_max": 100, "visit_max": 10**8, "exposure_max": 10**8}])
    add("detector", [{"instrument": "Cam", "id": d, "full_name": f"d{d}"} for d in detectors])
    add("physical_filter", [{"instrument": "Cam", "name": "r1", "band": "r"}])
    add("day_obs", [{"instrument": "Cam", "id": 20130617}])
    add("group", [{"instrument": "Cam", "name": f"g{v}"} for v in visits])
    observation = {"instrument": "Cam", "physical_filter": "r1", "day_obs": 20130617}
    spans = {v: Timespan(v * 10**10, v * 10**10 + 10**9) for v in visits}
    offset = {v: (0.011 * (v % 13), 0.007 * (v % 11)) for v in visits}
    add(
        "exposure",
        [{**observation, "id": v, "obs_id": f"o{v}", "group": f"g{v}", "timespan": spans[v]} for v in visits],
    )
    add(
        "visit",
        [
            {
                **observation,
                "id": v,
                "name": f"v{v}",
                "timespan": spans[v],
                "region": box(*offset[v], NX * SIZE, NY * SIZE),
            }
            for v in visits
        ],
    )
    add("visit_definition", [{"instrument": "Cam", "exposure": v, "visit": v} for v in visits])
    add(
        "visit_detector_region",
        [
            {
                "instrument": "Cam",
                "visit": v,
                "detector": d,
                "region": box(
                    offset[v][0] + SIZE * (d % NX), offset[v][1] + SIZE * (d // NX), SIZE * 0.98, SIZE * 0.98
                ),
            }
            for v in visits
            for d in detectors
        ],
    )
    add("skymap", [{"name": "grid", "hash": "0", "tract_max": 1, "patch_nx_max": 20, "patch_ny_max": 20}])
    add("tract", [{"skymap": "grid", "id": 0, "region": box(-0.01, -0.01, 2, 2)}])
    add(
        "patch",
        [
            {
                "skymap": "grid",
                "tract": 0,
                "id": y * 10 + x,
                "cell_x": x,
                "cell_y": y,
                "region": box(x * SIZE, y * SIZE, SIZE, SIZE),
            }
            for y in range(8)
            for x in range(10)
        ],
    )
    raw = DatasetType("raw", RAW, "StructuredDataDict")
    registry.dataset_types.register([raw])
    registry.collections.register("raws")
    n = n_visits * len(detectors)
    columns = {
        "instrument": np.zeros(n, dtype=np.int64),
        "detector": np.tile(np.arange(len(detectors)), n_visits),
        "exposure": np.repeat(np.arange(1, n_visits + 1), len(detectors)),
    }
    table = DatasetTable.new(raw, DataIdTable(raw.dimensions, columns, {"instrument": ["Cam"]}), "raws")
    zeros = np.zeros(n, dtype=np.int16)
    paths = [
        f"raws/raw/{e}/raw_{e}_{d}.fits"
        for e, d in zip(columns["exposure"], columns["detector"], strict=True)
    ]
    files = FileTable(paths, zeros, ["m.F"], zeros, ["StructuredDataDict"], np.full(n, 100), [""] * n)
    registry.inserts.insert(table, files)
    butler.close()


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_kib() -> int:
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmRSS"))


def main() -> None:
    counts = [int(a) for a in sys.argv[1:]] or [10_000, 100_000]
    print(
        "quanta    CPU s  ms/quantum  KiB/quantum(peak)  file B/quantum  one of them [ms]  finished [CPU s]"
    )
    for wanted in counts:
        with tempfile.TemporaryDirectory() as directory:
            # In a process of its own, so that the peak of memory is that of the build.
            root = Path(directory) / "repo"
            maker = get_context("spawn").Process(
                target=make_repository, args=(root, max(1, round(wanted / 90)))
            )
            maker.start()
            maker.join()
            butler = Butler(root, writeable=True)
            graph_tasks = pipeline()
            before = resident_kib()
            start = time.process_time()
            graph = build_quantum_graph(
                graph_tasks,
                butler.repository,
                where="instrument='Cam' AND skymap='grid'",
                input_collections=["raws"],
                output_run="run",
            )
            seconds = time.process_time() - start
            memory = peak_kib() - before
            path = Path(directory) / "plan.qgraph"
            size = write_graph(graph, path)
            n = len(graph)
            start = time.perf_counter()
            read_graph(path).quantum(n // 2)
            one = time.perf_counter() - start
            record(butler, graph)
            start = time.process_time()
            again = build_quantum_graph(
                graph_tasks,
                butler.repository,
                where="instrument='Cam' AND skymap='grid'",
                input_collections=["raws"],
                output_run="run",
                skip_existing_in=["run"],
            )
            finished = time.process_time() - start
            assert len(again) == 0
            print(
                f"{n:8d} {seconds:6.2f} {1e3 * seconds / n:11.4f} {memory / n:18.2f} {size / n:15.1f} "
                f"{1e3 * one:17.1f} {finished:19.2f}"
            )
            butler.close()


def record(butler: Butler, graph: object) -> None:
    """Record the metadata of all quanta, which marks them finished."""
    registry = butler.repository.registry
    registry.collections.register("run")
    registry.dataset_types.register(graph.output_dataset_types())
    for columns in graph.dataset_types:
        if columns.dataset_type.name.endswith("_metadata"):
            n = len(columns)
            zeros = np.zeros(n, dtype=np.int16)
            files = FileTable(
                [f"run/{columns.dataset_type.name}/{i}.json" for i in range(n)],
                zeros,
                ["m.F"],
                zeros,
                ["TaskMetadata"],
                np.full(n, 100),
                [""] * n,
            )
            registry.inserts.insert(columns.table, files)


if __name__ == "__main__":
    main()
