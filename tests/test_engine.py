"""Runs of quantum graphs, by every executor, with failures, interrupts and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import noop_tasks
import pytest
from graph_draft import GraphDraft
from noop_tasks import add_raws, draft_graph

from butler_dask.butler.butler import Butler
from butler_dask.butler.run_journals import journal_directory, remove_journals
from butler_dask.engine.cluster import local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.journal import Journal, PlanFiles
from butler_dask.engine.open_plan import find_open, opened
from butler_dask.engine.quantum_report import QuantumReport
from butler_dask.engine.recovery import recover_run
from butler_dask.engine.run_settings import RunSettings
from butler_dask.errors import ButlerUserError, QuantumExecutionError
from butler_dask.graph.graph_file import write_graph
from butler_dask.pipeline import TaskMetadata
from butler_dask.vocabulary.dataset import DatasetRef

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


@pytest.fixture(scope="module")
def client(mischief_directory):
    with local_cluster(2) as client:
        yield client


def executions(directory: Path) -> Counter:
    path = directory / "executions"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def recorded(butler: Butler, run: str = RUN) -> dict[str, int]:
    tables = butler.repository.registry.datasets.existing_in_run(run)
    return {name: len(t) for name, t in tables.items() if "_" not in name and name != "packages"}


def values(butler: Butler, name: str, run: str = RUN) -> list:
    table = butler.repository.registry.datasets.existing_in_run(run).get(name, ())
    refs: list[DatasetRef] = sorted(table, key=lambda r: r.dataId.required_values)
    return [butler.get(ref) for ref in refs]


def the_type(butler: Butler, name: str, run: str = RUN):
    return butler.repository.registry.datasets.existing_in_run(run)[name]


def prepared(butler: Butler, visits: int = 2, detectors: int = 3, **kwargs):
    graph = draft_graph(butler, add_raws(butler, visits, detectors), RUN, **kwargs)
    return write_init_outputs(butler.repository, graph)


def modes(client) -> dict[str, dict]:
    return {
        "sync": {"executor": "sync"},
        "one thread": {},
        "sync, in windows": {"executor": "sync", "window": 2},
        "threads": {"executor": "threads", "jobs": 3},
        "dask": {"client": client},
        "dask, a task a quantum": {"client": client, "cluster": "none"},
        "dask, in windows": {"client": client, "window": 2},
        "dask, a task a visit": {"client": client, "cluster": "visit"},
    }


@pytest.mark.parametrize("mode", list(modes(None)))
def test_every_executor_gives_the_same_datasets(butler, client, mischief, mode):
    graph = prepared(butler)
    summary = run_graph(graph, butler.repository, **modes(client)[mode])
    assert summary.describe() == "14 quanta: 14 succeeded"
    assert recorded(butler) == {"icExp": 6, "icSrc": 6, "postISRCCD": 6, "warp": 2}
    assert values(butler, "warp") == [
        {"value": 2 * (3 * (100 * v - 1) + 0 + 1 + 2), "n": 3} for v in range(2)
    ]
    assert set(executions(mischief).values()) == {1}
    quanta = butler.repository.registry.quanta.query(RUN)
    assert Counter(q.label for q in quanta) == {"isr": 6, "characterize": 6, "warp": 2}
    assert all(q.status == "success" and q.end_ns > q.start_ns and q.host for q in quanta)
    assert not journal_directory(butler.root, RUN).exists()


def test_local_cluster_is_started_for_several_jobs(butler, mischief):
    graph = prepared(butler, 1, 2)
    seen = []
    summary = run_graph(graph, butler.repository, jobs=2, progress=seen.append)
    assert summary.succeeded
    assert seen[-1].finished
    assert seen[-1].total("success") == 5
    assert seen[-1].counts["isr"]["total"] == 2


@pytest.mark.parametrize(
    "mode", ["sync", "sync, in windows", "threads", "dask", "dask, a task a visit", "dask, in windows"]
)
def test_failing_quantum_fails_its_dependents_only(butler, client, mischief, mode):
    (mischief / "characterize-1").write_text("fail 1")
    graph = prepared(butler)
    summary = run_graph(graph, butler.repository, **modes(client)[mode])
    counts = {k: summary.total(k) for k in ("success", "failure", "blocked", "waiting", "running")}
    assert counts == {"success": 12, "failure": 1, "blocked": 1, "waiting": 0, "running": 0}
    (failure,) = summary.failures
    assert failure.label == "characterize"
    assert failure.data_id["detector"] == 1
    assert failure.error_type == "ValueError"
    assert "noop_tasks.py" in failure.traceback
    with pytest.raises(QuantumExecutionError, match=r"12 succeeded, 1 failed, 1 blocked.*\n.*no stars"):
        summary.raise_on_failure()
    assert recorded(butler) == {"icExp": 5, "icSrc": 5, "postISRCCD": 6, "warp": 1}
    (record,) = [q for q in butler.repository.registry.quanta.query(RUN) if q.status == "failure"]
    assert "no stars on detector 1" in record.error_traceback


@pytest.mark.parametrize("mode", ["sync", "dask, a task a quantum"])
def test_quantum_with_nothing_to_do_succeeds_and_what_follows_adjusts(butler, client, mischief, mode):
    (mischief / "isr-1").write_text("nowork 2")
    graph = prepared(butler)
    summary = run_graph(graph, butler.repository, **modes(client)[mode])
    assert summary.succeeded
    assert summary.total("no_work") == 4
    assert [w["n"] for w in values(butler, "warp")] == [2, 2]
    assert recorded(butler)["postISRCCD"] == 4
    # Success without outputs still leaves its metadata and log.
    assert len(butler.repository.registry.datasets.existing_in_run(RUN)["isr_metadata"]) == 6


def test_log_and_metadata_of_each_quantum_are_datasets(butler, mischief):
    import logging

    graph = prepared(butler, 1, 2, config="config.doDark = False\n")
    logging.getLogger("isr").setLevel(logging.INFO)
    run_graph(graph, butler.repository)
    lines = values(butler, "isr_log")[0]
    assert [(line["name"], line["levelname"], line["message"]) for line in lines] == [
        ("isr", "INFO", "Applying dark correction.")
    ]
    assert lines[0]["MDC"]["LABEL"].startswith("isr:{instrument: 'HSC'")
    metadata = values(butler, "isr_metadata")[1]
    assert metadata["isr.value"] == 1  # raw value 1, nothing subtracted
    facts = metadata["quantum"]
    assert facts["startUtc"] < facts["endUtc"]
    assert len(facts.arrays["outputs"]) == 2
    assert len(facts.arrays["inputs"]) == 1


def test_run_again_adopts_what_is_finished(butler, client, mischief):
    graph = prepared(butler)
    (mischief / "characterize-2").write_text("fail 2")
    assert run_graph(graph, butler.repository).total("failure") == 2
    for mode in ("sync", "dask"):
        summary = run_graph(graph, butler.repository, **modes(client)[mode])
        assert summary.succeeded
    assert summary.adopted == 14
    assert sum(executions(mischief).values()) == 14 + 2
    quanta = list(butler.repository.registry.quanta.query(RUN))
    assert [q.status for q in quanta] == ["success"] * 14
    tried_twice = {(q.label, q.data_id) for q in quanta if q.attempt == 2}
    assert {label for label, _ in tried_twice} == {"characterize"}
    assert len(tried_twice) == 2


def test_retry_gives_a_quantum_another_chance(butler, mischief):
    graph = prepared(butler, 1, 1)
    (mischief / "isr-0").write_text("fail 2")
    summary = run_graph(graph, butler.repository, settings=RunSettings(retries=2))
    assert summary.succeeded
    assert {q.label: q.attempt for q in butler.repository.registry.quanta.query(RUN)}["isr"] == 3


def test_failed_quantum_leaves_its_log_until_it_is_tried_again(butler, mischief):
    graph = prepared(butler, 1, 1)
    (mischief / "isr-0").write_text("fail 1")
    assert not run_graph(graph, butler.repository).succeeded
    assert recorded(butler) == {}
    (lines,) = values(butler, "isr_log")
    assert "no stars on detector 0" in lines[-1]["message"]
    assert "Traceback" in lines[-1]["exc_info"]
    assert run_graph(graph, butler.repository).succeeded
    (lines,) = values(butler, "isr_log")
    assert not any(line["exc_info"] for line in lines)


def test_extended_run_runs_what_is_left_of_a_pipeline(butler, client, mischief):
    """As `pipetask run --extend-run` does: the graph has only what was not recorded."""
    raws = add_raws(butler, 1, 3)
    graph = write_init_outputs(butler.repository, draft_graph(butler, raws, RUN))
    (mischief / "characterize-1").write_text("fail 1")
    assert run_graph(graph, butler.repository).total("failure") == 1
    registry = butler.repository.registry
    left = GraphDraft(RUN)
    for task in graph.tasks:
        left.add_task(task.label, task.task_class_name, task.dimensions.names)
    for columns in graph.dataset_types:
        name = columns.dataset_type.name
        if not name.endswith(("_log", "_metadata")):
            left.add_dataset_type(columns.dataset_type)
            known = registry.datasets.existing_in_run("HSC/raw/all" if name == "raw" else RUN).get(name, [])
            for ref, file in zip(known, registry.datasets.files_of(known) if len(known) else (), strict=True):
                left.add_existing(ref, file)
    sky = {"instrument": "HSC", "visit": 903334}
    flat = {"instrument": "HSC", "exposure": 903334, "detector": 1}
    left.add_quantum(
        "characterize",
        {**sky, "detector": 1},
        {"exposure": [("postISRCCD", flat)]},
        {
            "characterized": [("icExp", {**sky, "detector": 1})],
            "sources": [("icSrc", {**sky, "detector": 1})],
        },
    )
    members = [("icExp", {**sky, "detector": d}) for d in range(3)]
    left.add_quantum("warp", sky, {"exposures": members}, {"warp": [("warp", sky)]})
    assert run_graph(
        write_init_outputs(butler.repository, left.finish()), butler.repository, client=client
    ).succeeded
    assert values(butler, "warp") == [{"value": 2 * (-1 + 0 + 1), "n": 3}]
    assert sum(executions(mischief).values()) == 7 + 1


def test_clobber_makes_finished_outputs_again(butler, mischief):
    raws = add_raws(butler, 1, 2)
    graph = write_init_outputs(butler.repository, draft_graph(butler, raws, RUN))
    run_graph(graph, butler.repository)
    files = {f.path for f in butler.repository.registry.datasets.files_of(the_type(butler, "icExp"))}
    again = replace(graph, metadata={"clobber": True}, plan_id=uuid.uuid4().hex)
    (mischief / "characterize-1").write_text("fail")
    assert run_graph(again, butler.repository).total("success") == 3
    assert sum(executions(mischief).values()) == 5 + 4
    left = {f.path for f in butler.repository.registry.datasets.files_of(the_type(butler, "icExp"))}
    assert len(left) == 1
    assert left < files
    assert not any(butler.datastore.exists(path) for path in files - left)
    assert "warp" not in recorded(butler)


@pytest.mark.parametrize("mode", ["sync", "threads", "dask"])
def test_quantum_that_takes_too_long_fails(butler, client, mischief, mode):
    (mischief / "isr-1").write_text("hang")
    graph = prepared(butler, 1, 2)
    summary = run_graph(graph, butler.repository, settings=RunSettings(timeout_s=0.5), **modes(client)[mode])
    (failure,) = summary.failures
    assert failure.error_type.endswith("QuantumTimeoutError")
    assert "0.5 s" in failure.message
    assert summary.total("success") == 2


@pytest.mark.parametrize("mode", ["sync", "dask"])
def test_fail_fast_starts_nothing_after_the_first_failure(butler, client, mischief, mode):
    (mischief / "isr-0").write_text("fail 1")
    graph = prepared(butler, 12, 1, config="config.seconds = 0.1\n")
    summary = run_graph(graph, butler.repository, fail_fast=True, **modes(client)[mode])
    assert summary.stopped.startswith("ValueError")
    assert summary.total("waiting") > 0
    assert not summary.succeeded


@pytest.mark.parametrize("mode", ["sync", "threads"])
def test_interrupt_keeps_what_has_finished(butler, mischief, mode):
    (mischief / "characterize-2").write_text("interrupt 1")
    graph = prepared(butler)
    with pytest.raises(KeyboardInterrupt):
        run_graph(graph, butler.repository, **modes(None)[mode])
    before = recorded(butler)
    assert 0 < before["postISRCCD"] <= 6
    assert run_graph(graph, butler.repository).succeeded
    assert recorded(butler) == {"icExp": 6, "icSrc": 6, "postISRCCD": 6, "warp": 2}
    counts = executions(mischief)
    # In threads the interrupt arrives in the main one, and the quantum that was running finishes, if the
    # machine lets it in time: it alone may be done again.
    again = [k for k, v in counts.items() if v > 1]
    assert len(counts) == 14
    assert sum(counts.values()) <= 15
    assert all(k.startswith("characterize") and "'detector': 2" in k for k in again)
    assert mode == "threads" or len(again) == 1
    assert max(v for k, v in counts.items() if k.startswith("isr")) == 1


def test_killed_worker_costs_one_execution(butler, client, mischief):
    (mischief / "isr-2").write_text("kill 1")
    graph = prepared(butler, 6, 4)
    summary = run_graph(graph, butler.repository, client=client)
    assert summary.describe() == "54 quanta: 54 succeeded"
    assert recorded(butler) == {"icExp": 24, "icSrc": 24, "postISRCCD": 24, "warp": 6}
    assert sum(executions(mischief).values()) == 54 + 1


def test_quantum_that_kills_its_worker_three_times_is_the_only_one_to_fail(butler, client, mischief):
    (mischief / "isr-2").write_text("kill")
    graph = prepared(butler, 1, 4)
    summary = run_graph(graph, butler.repository, client=client)
    assert [str(f.data_id["detector"]) for f in summary.failures] == ["2"]
    assert summary.failures[0].error_type == "KilledWorker"
    assert "memory" in summary.failures[0].message
    counts = {k: summary.total(k) for k in ("success", "failure", "blocked", "waiting")}
    assert counts == {"success": 6, "failure": 1, "blocked": 2, "waiting": 0}
    isr = [n for k, n in executions(mischief).items() if k.startswith("isr") and "'detector': 2" in k]
    # A worker that is killed before its nanny is up counts as closed in order, which costs no strike.
    assert len(isr) == 1
    assert 3 <= isr[0] <= 6


def test_other_quanta_of_a_task_whose_worker_dies_are_run_on_their_own(butler, client, mischief):
    (mischief / "isr-0").write_text("kill")
    graph = prepared(butler, 1, 3)
    summary = run_graph(graph, butler.repository, client=client, cluster="visit")
    counts = {k: summary.total(k) for k in ("success", "failure", "blocked", "waiting")}
    assert counts == {"success": 4, "failure": 1, "blocked": 2, "waiting": 0}


def test_recovery_records_what_is_there_and_nothing_else(butler, mischief):
    """A journal may speak of files that are gone since; a torn last line is no report."""
    graph = prepared(butler, 1, 2)
    files = PlanFiles.of(butler.root, graph)
    files.copy.parent.mkdir(parents=True)
    write_graph(graph, files.copy)
    journal = Journal(files.own_journal)
    for row in (0, 1):
        written = []
        for dataset_row in graph.outputs_of.of(row).tolist():
            ref = graph.ref(dataset_row)
            kind = ref.datasetType.name.partition("_")[2]
            value = {"metadata": TaskMetadata(), "log": []}.get(kind, {"value": row})
            written.append((dataset_row, butler.datastore.put(value, ref)))
        journal.append(QuantumReport(row, "success", tuple(written)))
        if row == 1:
            butler.datastore.remove([written[0][1].path])
    journal.close()
    with journal.path.open("a") as stream:
        stream.write('[2, "success", [[7, "a/b')
    assert recover_run(butler.repository, RUN) == 1
    assert recorded(butler) == {"postISRCCD": 1}
    assert recover_run(butler.repository, RUN) == 0
    assert not files.copy.exists()


def test_what_a_command_was_at_when_another_took_over_its_run_changes_nothing(butler, mischief):
    """Workers of a cluster go on for a while when their client is gone; the next command must not suffer."""
    graph = prepared(butler, 1, 3, config="config.seconds = 1.0\n")
    first = graph.ref(int(graph.outputs_of.of(0)[0]))
    theirs = Path(butler.datastore.root) / butler.datastore.predicted_record(first).path

    def take_over() -> None:
        wait_for(lambda: executions(mischief))
        remove_journals(butler.root, RUN)
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_text("of the other command")

    other = threading.Thread(target=take_over)
    other.start()
    summary = run_graph(graph, butler.repository, executor="sync")
    other.join()
    assert summary.total("success") == 0
    assert "taken over by another command" in summary.failures[0].message
    assert sum(executions(mischief).values()) == 1
    assert theirs.read_text() == "of the other command"
    written = [p for p in (Path(butler.root) / RUN).rglob("*_HSC_*") if p.is_file()]
    assert written == [theirs]
    theirs.unlink()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from butler_dask.butler.butler import Butler
from butler_dask.engine.execution import run_graph
from butler_dask.graph.graph_file import read_graph

if __name__ == "__main__":
    butler = Butler({root!r}, writeable=True)
    print("start", flush=True)
    run_graph(read_graph({graph!r}), butler.repository, **{arguments!r})
"""


def start_run(butler: Butler, graph, tmp_path: Path, **arguments) -> subprocess.Popen:
    """Run a graph in a process group of its own."""
    path = str(tmp_path / "graph.qg")
    write_graph(graph, path)
    script = tmp_path / "run.py"
    tests = str(Path(noop_tasks.__file__).parent)
    script.write_text(SCRIPT.format(tests=tests, root=butler.root, graph=path, arguments=arguments))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), tests])}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, start_new_session=True, stderr=subprocess.PIPE
    )


def wait_for(condition, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("arguments", [{"executor": "sync"}, {"jobs": 2}], ids=["sync", "processes"])
def test_same_command_finishes_a_run_whose_every_process_was_killed(butler, mischief, tmp_path, arguments):
    graph = prepared(butler, 8, 2, config="config.seconds = 0.05\n")
    process = start_run(butler, graph, tmp_path, **arguments)
    wait_for(lambda: sum(executions(mischief).values()) >= 10)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed_at = sum(executions(mischief).values())
    recover_run(butler.repository, RUN)
    done = recorded(butler).get("postISRCCD", 0)
    assert done > 0
    assert run_graph(graph, butler.repository).succeeded
    assert recorded(butler) == {"icExp": 16, "icSrc": 16, "postISRCCD": 16, "warp": 8}
    # At most the quantum each of the processes was at is run again.
    assert sum(executions(mischief).values()) <= len(graph) + 2
    assert killed_at < len(graph)
    assert not journal_directory(butler.root, RUN).exists()


@pytest.mark.parametrize("arguments", [{"executor": "sync"}, {"jobs": 2}], ids=["sync", "processes"])
def test_interrupt_from_the_keyboard_records_what_has_finished(butler, mischief, tmp_path, arguments):
    graph = prepared(butler, 12, 2, config="config.seconds = 0.1\n")
    process = start_run(butler, graph, tmp_path, **arguments)
    wait_for(lambda: sum(executions(mischief).values()) >= 8)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert 0 < recorded(butler)["postISRCCD"] < 24
    assert run_graph(graph, butler.repository).succeeded
    assert sum(executions(mischief).values()) <= len(graph) + 2


def test_workers_can_import_astropy_when_this_process_has(butler, mischief):
    import astropy

    assert astropy.log.level > 0
    with local_cluster(1) as client:
        assert run_graph(prepared(butler, 1, 1), butler.repository, client=client).succeeded
        # A plain logger of that name, made for its level, would be in the way.
        (kind,) = client.run(lambda: type(__import__("astropy").log).__name__).values()
    assert kind == "AstropyLogger"


class Silent:
    """Tells nobody."""

    def started(self, row: int) -> None:
        pass

    def ended(self, report: QuantumReport) -> None:
        pass


def test_a_worker_that_leaves_takes_no_plan_from_another_in_its_process(butler):
    graph = prepared(butler, 1, 1)
    arguments = (graph, butler.datastore, butler.root, RunSettings(), Silent())
    with ExitStack() as first:
        first.enter_context(opened(*arguments))
        with opened(*arguments) as second:
            first.close()
            assert find_open(graph.plan_id) is second
    assert find_open(graph.plan_id) is None


def test_unknown_executor_names_the_nearest(butler):
    graph = prepared(butler, 1, 1)
    with pytest.raises(ButlerUserError, match="Did you mean 'threads'"):
        run_graph(graph, butler.repository, executor="thread")  # type: ignore[arg-type]  # mistyped
    with pytest.raises(ButlerUserError, match="needs the address"):
        run_graph(graph, butler.repository, executor="dask")


def test_scheduler_that_does_not_answer_is_named(butler):
    from butler_dask.engine.cluster import existing_cluster

    with (
        pytest.raises(ButlerUserError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        existing_cluster("tcp://127.0.0.1:9", timeout_s=1.0),
    ):
        pass
