"""A graph that is run more than once: each run has its own datasets, and none loses any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import noop_tasks
import pytest
from noop_tasks import MISCHIEF, add_raws, draft_graph
from registry_fixtures import SERVER, drop, new_url

from butler_dask import Butler
from butler_dask.butler.repository_check import check_repository
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.run_summary import RunSummary
from butler_dask.graph.kept_ids import keep_ids
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.graph.run_collections import RunOptions, plan_run_collections

BUILT_FOR = "u/me/planned"


@pytest.fixture(
    params=["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgresql)] if SERVER else [])]
)
def butler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Butler]:
    """A repository with raws."""
    place = tmp_path / "REPO"
    url = None if request.param == "sqlite" else new_url(request.param, tmp_path)
    Butler.makeRepo(place, registry=url)
    with Butler(place, writeable=True) as butler:
        yield butler
    if url is not None:
        drop(url)


@pytest.fixture
def mischief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of files that say what goes wrong; empty at first."""
    (tmp_path / "mischief").mkdir()
    monkeypatch.setenv(MISCHIEF, str(tmp_path / "mischief"))
    return tmp_path / "mischief"


@pytest.fixture
def saved(butler: Butler) -> QuantumGraph:
    return draft_graph(butler, add_raws(butler, 1, 2), BUILT_FOR)


def run(butler: Butler, graph: QuantumGraph, run: str, *, extend: bool = False) -> RunSummary:
    """Run a graph as `pipetask run -g` does."""
    options = RunOptions(inputs="HSC/raw/all", output_run=run, extend_run=extend)
    plan = plan_run_collections(butler.repository.registry, options)
    graph = write_init_outputs(butler.repository, graph, plan)
    return run_graph(graph, butler.repository, executor="sync")


def ids(butler: Butler, run: str) -> dict[tuple[str, str], str]:
    tables = butler.repository.registry.datasets.existing_in_run(run)
    return {(n, str(r.dataId)): str(r.id) for n, t in tables.items() for r in t}


def test_a_graph_run_in_two_runs_gives_two_whole_runs(butler: Butler, saved: QuantumGraph) -> None:
    for name in ("u/x1", "u/x2", BUILT_FOR):
        assert run(butler, saved, name).succeeded
    found = [ids(butler, name) for name in ("u/x1", "u/x2", BUILT_FOR)]
    assert found[0].keys() == found[1].keys() == found[2].keys()
    assert len({id_ for of_run in found for id_ in of_run.values()}) == 3 * len(found[0])
    check = check_repository(butler.repository, checksums=True)
    assert check.is_clean, check.lines()
    for table in butler.repository.registry.datasets.existing_in_run("u/x1").values():
        for file in butler.repository.registry.datasets.files_of(table):
            assert file is not None
            assert file.path.startswith("u/x1/")


def test_a_moved_graph_run_again_keeps_the_ids_of_what_its_run_has(
    butler: Butler, saved: QuantumGraph, mischief: Path
) -> None:
    (mischief / "characterize-1").write_text("fail 1")
    assert run(butler, saved, "u/x1").total("failure") == 1
    before = {key: id_ for key, id_ in ids(butler, "u/x1").items() if not key[0].endswith("_log")}
    assert run(butler, saved, "u/x1", extend=True).succeeded
    after = ids(butler, "u/x1")
    assert before.items() <= after.items()
    assert check_repository(butler.repository, checksums=True).is_clean


def test_a_graph_file_keeps_the_ids_of_what_others_put_into_its_run(
    butler: Butler, saved: QuantumGraph
) -> None:
    """The run was removed, and made anew by another graph."""
    registry = butler.repository.registry
    assert run(butler, saved.in_run("u/other").in_run(BUILT_FOR), BUILT_FOR).succeeded
    there = ids(butler, BUILT_FOR)
    kept = keep_ids(registry, saved)
    written = {
        (c.dataset_type.name, str(ref.dataId)): str(ref.id)
        for c in kept.dataset_types
        for ref in c.table
        if ref.run == BUILT_FOR
    }
    inits = {(i.ref.datasetType.name, str(i.ref.dataId)): str(i.ref.id) for i in kept.init_outputs}
    assert written | inits == there
    raws = [c for c in kept.dataset_types if c.dataset_type.name == "raw"]
    assert list(raws[0].table) == list(saved.dataset_type("raw").table)


assert noop_tasks  # the tasks are imported by their names
