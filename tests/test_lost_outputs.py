"""Outputs that were lost are made again by ``--extend-run``, and nothing else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import noop_tasks
import pytest
from noop_tasks import MISCHIEF, add_raws
from registry_fixtures import SERVER, drop, new_url

from butler_dask import Butler, DatasetRef, Pipeline
from butler_dask.butler.repository_check import check_repository, repair_repository
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.run_summary import RunSummary
from butler_dask.errors import OutputExistsError
from butler_dask.graph.graph_builder import build_quantum_graph
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.graph.run_collections import RunCollections, RunOptions, plan_run_collections
from butler_dask.pipeline import (
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)

RUN = "u/me/run"
DETECTOR = {"instrument": "HSC", "visit": 903334, "detector": 1}
TASKS = [
    (label, f"{noop_tasks.__name__}.{name}")
    for label, name in (("isr", "IsrTask"), ("characterize", "CharacterizeTask"), ("warp", "WarpTask"))
]


class SplitConnections(PipelineTaskConnections, dimensions=("instrument", "exposure")):
    raws = cT.Input(
        "raw", "StructuredDataDict", dimensions=("instrument", "exposure", "detector"), multiple=True
    )
    parts = cT.Output(
        "part", "StructuredDataDict", dimensions=("instrument", "exposure", "detector"), multiple=True
    )


class SplitConfig(PipelineTaskConfig, pipelineConnections=SplitConnections):
    pass


class SplitTask(PipelineTask):
    """Writes a dataset a detector in one quantum."""

    ConfigClass = SplitConfig
    _DefaultName = "split"

    def run(self, raws):
        return Struct(parts=raws)


@pytest.fixture(
    params=["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgresql)] if SERVER else [])]
)
def butler(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Butler]:
    """A repository with raws of two visits; executions are counted in ``mischief``."""
    (tmp_path / "mischief").mkdir()
    monkeypatch.setenv(MISCHIEF, str(tmp_path / "mischief"))
    place = tmp_path / "REPO"
    url = None if request.param == "sqlite" else new_url(request.param, tmp_path)
    Butler.makeRepo(place, registry=url)
    with Butler(place, writeable=True) as butler:
        for raw in add_raws(butler, 2, 3):
            same = {"instrument": "HSC", "exposure": raw.dataId["exposure"], "visit": raw.dataId["exposure"]}
            butler.repository.registry.records.insert("visit_definition", [same], skip_existing=True)
        yield butler
    if url is not None:
        drop(url)


def planned(
    butler: Butler, *, where: str = "", extend: bool = True, tasks: Sequence[tuple[str, str]] = TASKS
) -> tuple[RunCollections, QuantumGraph]:
    """Plan a run as `pipetask run --extend-run` does."""
    pipeline = Pipeline("Small tasks.")
    for label, name in tasks:
        pipeline.addTask(name, label)
    options = RunOptions(inputs="HSC/raw/all", output_run=RUN, extend_run=extend)
    plan = plan_run_collections(butler.repository.registry, options)
    graph = build_quantum_graph(
        pipeline.to_graph(butler.registry),
        butler.repository,
        where=where,
        input_collections=plan.inputs,
        output_run=RUN,
        skip_existing_in=plan.skip_existing_in,
    )
    return plan, graph


def run(butler: Butler, *, extend: bool = True, tasks: Sequence[tuple[str, str]] = TASKS) -> RunSummary:
    plan, graph = planned(butler, extend=extend, tasks=tasks)
    graph = write_init_outputs(butler.repository, graph, plan)
    return run_graph(graph, butler.repository, executor="sync")


def executions(tmp_path: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (tmp_path / "mischief/executions").read_text().splitlines())


def find(butler: Butler, name: str) -> DatasetRef:
    ref = butler.find_dataset(name, DETECTOR, collections=RUN)
    assert ref is not None
    return ref


def test_what_a_repair_unrecorded_is_made_again_and_nothing_else(butler: Butler, tmp_path: Path) -> None:
    assert run(butler, extend=False).succeeded
    icsrc = find(butler, "icSrc")
    path = Path(butler.getURI(find(butler, "icExp")).ospath)
    path.write_bytes(path.read_bytes()[:3])
    found = check_repository(butler.repository)
    assert len(found.faults) == 1
    repair_repository(butler.repository, found)
    assert butler.find_dataset("characterize_metadata", DETECTOR, collections=RUN) is None
    before = executions(tmp_path)
    assert run(butler).succeeded
    assert executions(tmp_path) - before == {"characterize": 1}
    assert butler.get("icExp", DETECTOR, collections=RUN) == {"value": 0}
    assert find(butler, "icSrc").id == icsrc.id
    assert check_repository(butler.repository, checksums=True).is_clean
    assert len(planned(butler)[1]) == 0


def test_what_was_purged_without_its_metadata_is_made_again(butler: Butler, tmp_path: Path) -> None:
    assert run(butler, extend=False).succeeded
    butler.pruneDatasets([find(butler, "icSrc")], unstore=True, purge=True)
    before = executions(tmp_path)
    assert planned(butler)[1].counts() == {"isr": 0, "characterize": 1, "warp": 0}
    (tmp_path / "mischief/characterize-1").write_text("fail 1")
    assert run(butler).total("failure") == 1
    assert check_repository(butler.repository, checksums=True).is_clean
    assert run(butler).succeeded
    assert executions(tmp_path) - before == {"characterize": 2}
    assert butler.get("icSrc", DETECTOR, collections=RUN) == {"n": 3}
    assert check_repository(butler.repository, checksums=True).is_clean


def test_quanta_that_lost_nothing_they_wrote_are_not_run_again(butler: Butler, tmp_path: Path) -> None:
    """Not those that had nothing to do, nor those whose logs were purged or files unstored."""
    (tmp_path / "mischief/characterize-2").write_text("nowork")
    assert run(butler, extend=False).succeeded
    for name in ("isr_log", "characterize_log"):
        butler.pruneDatasets(butler.query_datasets(name, RUN), unstore=True, purge=True)
    butler.pruneDatasets([find(butler, "icSrc")], unstore=True)
    assert len(planned(butler)[1]) == 0
    assert len(planned(butler, where="instrument='HSC' AND detector=1")[1]) == 0


def test_quanta_that_write_several_datasets_are_believed_for_part_of_them_too(butler: Butler) -> None:
    tasks = [("split", f"{__name__}.SplitTask")]
    assert run(butler, extend=False, tasks=tasks).succeeded
    part = "instrument='HSC' AND detector=1"
    assert len(planned(butler, where=part, tasks=tasks)[1]) == 0
    butler.pruneDatasets(
        butler.query_datasets("part", RUN, where=part + " AND exposure=903334"), unstore=True, purge=True
    )
    assert planned(butler, where=part, tasks=tasks)[1].counts() == {"split": 1}
    assert planned(butler, tasks=tasks)[1].counts() == {"split": 1}


def test_repair_of_a_lost_log_or_metadata_makes_nothing_again(butler: Butler) -> None:
    assert run(butler, extend=False).succeeded
    for name in ("characterize_log", "isr_metadata"):
        (ref, *_) = butler.query_datasets(name, RUN)
        Path(butler.getURI(ref).ospath).unlink()
    found = check_repository(butler.repository)
    repair_repository(butler.repository, found)
    assert len(found.faults) == 2
    assert check_repository(butler.repository).is_clean
    assert len(planned(butler)[1]) == 0


def test_outputs_somebody_put_into_a_run_are_still_in_the_way(butler: Butler) -> None:
    """Only what a quantum left there itself may be written anew."""
    _, graph = planned(butler, extend=False)
    butler.repository.registry.collections.register(RUN)
    butler.repository.registry.dataset_types.register(graph.output_dataset_types())
    butler.put({"mine": 1}, "icSrc", DETECTOR, run=RUN)
    with pytest.raises(OutputExistsError, match="'icSrc'"):
        planned(butler)
