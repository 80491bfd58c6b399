"""Quanta that end in unusual ways: each is one failure, recorded, and the others go on."""

from __future__ import annotations

import pytest
from noop_tasks import ENDINGS, add_raws, draft_graph

from butler_dask.butler import Butler
from butler_dask.cli.pipetask import main as pipetask
from butler_dask.engine.cluster import local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.errors import TaskImportError
from butler_dask.pipeline.task_class import import_task_class

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


@pytest.fixture(scope="module")
def client(mischief_directory):
    with local_cluster(2) as client:
        yield client


def prepared(butler: Butler, visits: int = 1, detectors: int = 3, **kwargs):
    graph = draft_graph(butler, add_raws(butler, visits, detectors), RUN, **kwargs)
    return write_init_outputs(butler.repository, graph)


def counts(summary) -> dict[str, int]:
    return {k: summary.total(k) for k in ("success", "failure", "blocked", "waiting")}


def arguments(mode: str, client) -> dict:
    return {
        "sync": {"executor": "sync"},
        "threads": {"executor": "threads", "jobs": 2},
        "dask": {"client": client},
    }[mode]


ALL_MODES = pytest.mark.parametrize("mode", ["sync", "threads", "dask"])


@ALL_MODES
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_whatever_a_task_raises_fails_its_quantum_and_no_other(butler, client, mischief, mode, ending):
    (mischief / "isr-1").write_text(ending)
    summary = run_graph(prepared(butler), butler.repository, **arguments(mode, client))
    assert counts(summary) == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}
    (failure,) = summary.failures
    assert failure.error_type.endswith(type(ENDINGS[ending]).__name__)
    (record,) = [q for q in butler.repository.registry.quanta.query(RUN) if q.status == "failure"]
    assert record.error_type == failure.error_type
    assert (mischief / "executions").read_text().count("isr") == 3


def test_code_that_ends_the_program_is_no_success(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text("import sys\nsys.exit(0)\n")
    words = ["build", "-t", "noop_tasks.IsrTask", "-C", f"isr:{config}", "--show", "config"]
    with pytest.raises(SystemExit) as ended:
        pipetask(words)
    assert ended.value.code == 1
    assert "called sys.exit()" in capsys.readouterr().err


def test_module_that_ends_the_program_when_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskImportError, match=r"leaving.Task.*ends the program"):
        import_task_class("leaving.Task")
