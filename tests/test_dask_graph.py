"""Dask tasks of a quantum graph."""

import numpy as np
import pytest
from dask.task_spec import Task, TaskRef
from dask.utils import key_split
from graph_draft import GraphDraft

from butler_dask.engine.dask_graph import DaskGraph
from butler_dask.graph.quantum_graph import QuantumGraph

EXPOSURE = ("instrument", "exposure", "detector")
VISIT = ("instrument", "visit", "detector")


def graph_of(visits: int, detectors: int, *, warps: bool = True) -> QuantumGraph:
    """Return isr -> characterize per detector, and a warp per visit over its detectors."""
    draft = GraphDraft("u/me/run")
    for name, dims in (("raw", EXPOSURE), ("postISRCCD", EXPOSURE), ("icExp", VISIT)):
        draft.add_dataset_type(name, dims)
    draft.add_dataset_type("warp", ("instrument", "visit"))
    draft.add_task("isr", "m.IsrTask", EXPOSURE)
    draft.add_task("characterize", "m.CharacterizeTask", VISIT)
    draft.add_task("warp", "m.WarpTask", ("instrument", "visit"))
    for v in range(visits):
        for d in range(detectors):
            flat = {"instrument": "HSC", "exposure": v, "detector": d}
            sky = {"instrument": "HSC", "visit": v, "detector": d}
            draft.add_quantum("isr", flat, {"i": [("raw", flat)]}, {"o": [("postISRCCD", flat)]})
            draft.add_quantum("characterize", sky, {"i": [("postISRCCD", flat)]}, {"o": [("icExp", sky)]})
        if warps:
            members = [{"instrument": "HSC", "visit": v, "detector": d} for d in range(detectors)]
            data_id = {"instrument": "HSC", "visit": v}
            draft.add_quantum(
                "warp", data_id, {"i": [("icExp", m) for m in members]}, {"o": [("warp", data_id)]}
            )
    return draft.finish()


def labels(dask_graph: DaskGraph, cluster: int) -> list[str]:
    return [dask_graph.graph.task_of(r).label for r in dask_graph.rows(cluster).tolist()]


def run_order(tasks: dict, sinks: list) -> list[int]:
    """Return the quantum rows in an order Dask could run them in, depth first; fails on a cycle."""
    done: dict = {}
    order: list[int] = []

    def visit(key):
        if key in done:
            assert done[key], "cycle"
            return
        done[key] = False
        for before in tasks[key].dependencies:
            visit(before)
        done[key] = True
        order.extend(tasks[key].args[1])

    for key in sinks:
        visit(key)
    return order


def test_chain_of_a_detector_is_one_task_named_by_what_it_makes_last():
    dask_graph = DaskGraph(graph_of(2, 3))
    assert dask_graph.n_clusters == 2 * 3 + 2
    tasks, sinks = dask_graph.tasks()
    (chain,) = [k for k in tasks if k[1:] == (2, 1) and k[0].startswith("icExp")]
    assert key_split(chain) == "icExp"
    task = tasks[chain]
    assert isinstance(task, Task)
    assert task.args[0] == dask_graph.graph.plan_id
    rows = task.args[1]
    assert [dask_graph.graph.task_of(r).label for r in rows] == ["isr", "characterize"]
    assert sorted(k[0].split("-")[0] for k in sinks) == ["warp", "warp"]
    assert len(next(iter(tasks)).__repr__()) < 60


def test_keys_of_two_runs_differ():
    one, two = DaskGraph(graph_of(1, 1)), DaskGraph(graph_of(1, 1))
    assert one.run_tag != two.run_tag


@pytest.mark.parametrize("clustering", ["none", "detector", "visit"])
@pytest.mark.parametrize("warps", [True, False])
def test_every_quantum_is_in_one_task_and_after_its_predecessors(clustering, warps):
    graph = graph_of(3, 4, warps=warps)
    tasks, sinks = DaskGraph(graph, clustering).tasks()
    order = run_order(tasks, sinks)
    assert sorted(order) == list(range(len(graph)))
    place = {row: i for i, row in enumerate(order)}
    for row in order:
        assert all(place[p] < place[row] for p in graph.predecessors(row).tolist())


def test_visit_clustering_makes_a_task_a_visit():
    dask_graph = DaskGraph(graph_of(3, 4), "visit")
    assert dask_graph.n_clusters == 3
    assert labels(dask_graph, 0) == ["isr"] * 4 + ["characterize"] * 4 + ["warp"]
    assert DaskGraph(graph_of(3, 4), "none").n_clusters == 27


def test_windows_keep_connected_tasks_together():
    dask_graph = DaskGraph(graph_of(5, 4))
    windows = list(dask_graph.windows(11))
    assert sorted(np.concatenate([w.clusters for w in windows]).tolist()) == list(range(25))
    assert [(w.index, len(w.clusters), w.after) for w in windows] == [(0, 10, -1), (1, 10, -1), (2, 5, -1)]
    for window in windows:
        tasks, _ = dask_graph.tasks(window.clusters)
        assert all(before in tasks for t in tasks.values() for before in t.dependencies)
        assert all(isinstance(a, TaskRef) for t in tasks.values() for a in t.args[2:])
    assert [len(w.clusters) for w in dask_graph.windows(100)] == [25]


@pytest.mark.parametrize("clustering", ["none", "detector"])
def test_component_larger_than_a_window_is_cut_and_later_parts_wait(clustering):
    dask_graph = DaskGraph(graph_of(3, 4), clustering)
    windows = list(dask_graph.windows(2))
    assert max(len(w.clusters) for w in windows) == 2
    ended: set[int] = set()
    window_of = {c: w.index for w in windows for c in w.clusters.tolist()}
    assert len(window_of) == dask_graph.n_clusters
    for window in windows:
        tasks, sinks = dask_graph.tasks(window.clusters, unusable={0})
        for row in run_order(tasks, sinks):
            before = set(dask_graph.graph.predecessors(row).tolist())
            assert before <= ended | {r for t in tasks.values() for r in t.args[1]}
            cut = {int(dask_graph.cluster_of[r]) for r in before} - set(window.clusters.tolist())
            assert all(window_of[c] <= window.after for c in cut)
        for task in tasks.values():
            for token in task.args[2:]:
                if not isinstance(token, TaskRef):
                    assert set(token[0]) <= {0}
                    assert 0 not in token[1]
        ended.update(r for t in tasks.values() for r in t.args[1])


def test_quanta_left_over_become_tasks_of_their_own_that_look_for_earlier_outputs():
    graph = graph_of(1, 2)
    dask_graph = DaskGraph(graph)
    sky = {"instrument": "HSC", "visit": 0, "detector": 1}
    row = graph.quantum_row("characterize", sky)
    warp = graph.quantum_row("warp", {"instrument": "HSC", "visit": 0})
    tasks, sinks = dask_graph.tasks_of_rows(np.array([row, warp]), 1)
    assert [k[0].split("-")[0] for k in sinks] == ["warp"]
    assert run_order(tasks, sinks) == [row, warp]
    (task,) = [t for t in tasks.values() if t.args[1] == (row,)]
    assert task.args[2] == ((), (graph.quantum_row("isr", {**sky, "exposure": 0}),))
    assert not set(tasks) & set(dask_graph.tasks()[0])


def test_empty_graph_has_no_window():
    assert list(DaskGraph(graph_of(0, 0)).windows()) == []
