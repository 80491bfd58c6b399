"""A pipeline from Python."""

from __future__ import annotations

from pathlib import Path

import noop_tasks
import pytest
from noop_tasks import MISCHIEF, add_raws

from butler_dask.butler.butler import Butler
from butler_dask.engine.simple_pipeline_executor import SimplePipelineExecutor
from butler_dask.errors import CollectionError

PIPELINE = f"""
description: isr, characterize, warp
tasks:
  isr: {noop_tasks.__name__}.IsrTask
  characterize: {noop_tasks.__name__}.CharacterizeTask
  warp: {noop_tasks.__name__}.WarpTask
"""


@pytest.fixture
def repo(tmp_path) -> str:
    root = str(tmp_path / "repo")
    Butler.makeRepo(root)
    with Butler(root, writeable=True) as butler:
        add_raws(butler, 2, 3)
        registry = butler.repository.registry
        registry.records.insert("visit_system", [{"instrument": "HSC", "id": 0, "name": "one-to-one"}])
        records = registry.queries.records("exposure")
        registry.records.insert(
            "visit_definition", [{"instrument": "HSC", "exposure": r.id, "visit": r.id} for r in records]
        )
    return root


@pytest.fixture
def pipeline(tmp_path) -> str:
    path: Path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    return str(path)


def test_pipeline_runs_from_python(repo, pipeline):
    with SimplePipelineExecutor.prep_butler(repo, ["HSC/raw/all"], "u/me/out") as butler:
        executor = SimplePipelineExecutor.from_pipeline(
            pipeline, where="instrument='HSC' AND visit=:v", bind={"v": 903336}, butler=butler
        )
        assert executor.quantum_graph.metadata["output_run"] == butler.run
        quanta = executor.run(register_dataset_types=True)
        assert [q.taskLabel for q in quanta] == ["isr"] * 3 + ["characterize"] * 3 + ["warp"]
        assert butler.get("warp", instrument="HSC", visit=903336)["n"] == 3
        assert butler.get("isr_config").doDark is True


def test_error_of_a_task_comes_out_as_it_is(repo, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv(MISCHIEF, str(tmp_path))
    (tmp_path / "characterize-1").write_text("fail")
    with SimplePipelineExecutor.prep_butler(repo, "HSC/raw/all", "u/me/out", "u/me/run") as butler:
        executor = SimplePipelineExecutor.from_pipeline(pipeline, butler=butler)
        with pytest.raises(ValueError, match="no stars on detector 1"):
            executor.run()
        assert len(butler.repository.registry.datasets.existing_in_run("u/me/run")["postISRCCD"]) > 0


def test_butler_without_run_is_refused(repo, pipeline):
    with (
        Butler(repo, collections=["HSC/raw/all"]) as butler,
        pytest.raises(CollectionError, match="prep_butler"),
    ):
        SimplePipelineExecutor.from_pipeline(pipeline, butler=butler)
