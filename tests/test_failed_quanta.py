"""Quanta that end in unusual ways: each is one failure, recorded, and the others go on."""

from __future__ import annotations

import time

import pytest
from noop_tasks import ENDINGS, add_raws, draft_graph
from registry_fixtures import SERVER, drop, new_url

from butler_dask.butler import Butler
from butler_dask.cli.pipetask import main as pipetask
from butler_dask.engine.cluster import local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.run_settings import RunSettings
from butler_dask.errors import ButlerUserError, TaskImportError
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


TEXT_KEPT = {"surrogate": r"file caf\udce9.fits", "nul": r"header \x00 ends", "mute": "cannot be made"}


@ALL_MODES
@pytest.mark.parametrize("what", list(TEXT_KEPT))
def test_text_of_an_error_that_goes_nowhere_is_escaped(butler, client, mischief, mode, what):
    (mischief / "isr-1").write_text(what)
    summary = run_graph(prepared(butler), butler.repository, **arguments(mode, client))
    assert counts(summary) == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}
    assert TEXT_KEPT[what] in summary.failures[0].message
    (record,) = [q for q in butler.repository.registry.quanta.query(RUN) if q.status == "failure"]
    assert TEXT_KEPT[what] in record.error_message
    log = next(iter(butler.registry.queryDatasets("isr_log", collections=RUN, detector=1, instrument="HSC")))
    lines = [line["message"] for line in butler.get(log)]
    assert any("fit" in line if what == "mute" else TEXT_KEPT[what] in line for line in lines)


@pytest.mark.postgresql
@pytest.mark.skipif(not SERVER, reason="BUTLER_DASK_TEST_POSTGRESQL names no server")
@pytest.mark.parametrize("what", list(TEXT_KEPT))
def test_text_of_an_error_is_recorded_in_postgresql(tmp_path, mischief, what):
    (mischief / "isr-1").write_text(what)
    url = new_url("postgresql", tmp_path)
    try:
        Butler.makeRepo(str(tmp_path / "repo"), registry=url)
        with Butler(str(tmp_path / "repo"), writeable=True) as butler:
            summary = run_graph(prepared(butler), butler.repository)
            assert counts(summary) == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}
            statuses = sorted(q.status for q in butler.repository.registry.quanta.query(RUN))
            assert statuses == ["failure", *["success"] * 4]
    finally:
        drop(url)


@pytest.mark.parametrize("mode", ["sync", "dask"])
@pytest.mark.parametrize("what", ["sleep", "lock", "read", "swallow"])
def test_time_limit_ends_a_quantum_stuck_in_a_call(butler, client, mischief, mode, what):
    (mischief / "isr-1").write_text(what)
    began = time.monotonic()
    settings = RunSettings(timeout_s=0.5)
    summary = run_graph(prepared(butler), butler.repository, settings=settings, **arguments(mode, client))
    assert counts(summary) == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}
    assert summary.failures[0].error_type == "butler_dask.errors.QuantumTimeoutError"
    assert "0.5 s of --timeout" in summary.failures[0].message
    assert (mischief / "executions").read_text().count("isr") == 3
    assert time.monotonic() - began < 60


def test_thread_past_its_time_limit_is_told_and_waited_for(butler, mischief, caplog):
    (mischief / "isr-1").write_text("nap")
    settings = RunSettings(timeout_s=0.5)
    summary = run_graph(prepared(butler), butler.repository, settings=settings, **arguments("threads", None))
    assert counts(summary) == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}
    assert [r.getMessage() for r in caplog.records if "it is waited for" in r.getMessage()]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_time_limit_is_a_positive_number(seconds, capsys):
    with pytest.raises(ButlerUserError, match="positive number of seconds"):
        RunSettings(timeout_s=seconds)
    with pytest.raises(SystemExit) as ended:
        pipetask(["run", "-b", "DATA", "-p", "p.yaml", "-o", "u/x", "--timeout", str(seconds)])
    assert ended.value.code == 2
    assert "positive number of seconds" in capsys.readouterr().err


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
