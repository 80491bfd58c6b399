"""What the engine costs a quantum: tasks that do nothing, outputs of a few bytes, recorder on.

Workload: isr and characterize per detector, a warp per visit over its 10 detectors (2.1 quanta and 7.3 files
a detector; every quantum writes its metadata and log). Beside it, in the same run, what the bare file system
takes for as many files (temporary name, rename) and Dask alone for as many empty tasks.

Usage: ``python benchmarks/engine_noop.py [QUANTA] [sync|threads|processes ...]``.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from noop_tasks import add_raws, draft_graph

from butler_dask.butler.butler import Butler
from butler_dask.engine.dask_graph import DaskGraph
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs

DETECTORS = 10


def bare_files(root: str, count: int) -> float:
    """Return the time to write files of 300 bytes under a temporary name and rename them [s]."""
    began = time.perf_counter()
    for i in range(count):
        name = f"{root}/{i % 100:02d}_{i}"
        with open(name + ".tmp", "wb") as stream:
            stream.write(b"x" * 300)
        os.rename(name + ".tmp", name)
    return time.perf_counter() - began


def bare_dask(graph) -> float:
    """Return the time Dask's threaded scheduler takes for a task a quantum that does nothing [s]."""
    from dask.task_spec import Task, TaskRef
    from dask.threaded import get

    tasks, sinks = DaskGraph(graph, "none").tasks()
    empty = {k: Task(k, nothing, *(TaskRef(d) for d in t.dependencies)) for k, t in tasks.items()}
    began = time.perf_counter()
    get(empty, sinks, num_workers=2)
    return time.perf_counter() - began


def nothing(*args) -> None:
    """Do nothing."""


def main(quanta: int, executors: list[str]) -> None:
    """Run the workload under each executor and print milliseconds a quantum."""
    visits = max(1, round(quanta / (2 * DETECTORS + 1)))
    titles = ("executor", "quanta", "ms/quantum", "CPU ms", "wall s", "start s", "files")
    print("".join(f"{title:>12}" for title in titles))
    for executor in executors:
        with tempfile.TemporaryDirectory() as root:
            Butler.makeRepo(root)
            with Butler(root, writeable=True) as butler:
                raws = add_raws(butler, visits, DETECTORS)
                graph = write_init_outputs(butler.repository, draft_graph(butler, raws, "u/me/run"))
                began, used = time.perf_counter(), cpu()
                summary = run_graph(
                    graph, butler.repository, executor=executor, jobs=1 if executor == "sync" else 2
                )
                wall = time.perf_counter() - began
                assert summary.succeeded, summary.describe()
                records = butler.repository.registry.quanta.query("u/me/run").columns
                steady = (max(records["end_ns"]) - min(records["start_ns"])) * 1e-9
                n, files = len(graph), len(graph.outputs_of.indices)
                figures = (1e3 * steady / n, 1e3 * (cpu() - used) / n, wall, wall - steady)
                print(f"{executor:>12}{n:>12}{''.join(f'{f:>12.2f}' for f in figures)}{files:>12}")
    with tempfile.TemporaryDirectory() as root:
        seconds = bare_files(root, files)
    print(f"bare files {1e3 * seconds / n:.2f} ms/quantum, bare Dask {1e3 * bare_dask(graph) / n:.2f}")


def cpu() -> float:
    """Return the processor time of this process and its ended children [s]."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


if __name__ == "__main__":
    names = sys.argv[2:] or ["sync", "threads", "processes"]
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, names)
