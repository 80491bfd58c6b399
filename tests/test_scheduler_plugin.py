"""The plugin on a real scheduler, and the private corners of distributed it relies on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask.task_spec import Task
from distributed import Client, LocalCluster, SchedulerPlugin, wait
from noop_tasks import add_raws, draft_graph

from butler_dask.engine.cluster import existing_cluster, quiet_distributed
from butler_dask.engine.distributed_private import (
    add_to_task_metadata,
    fail_at_next_death,
    pardon_queued_tasks,
    rows_of_task,
    take_task_metadata,
)
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.quantum_report import QuantumReport
from butler_dask.vocabulary.file_record import FileRecord

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        quiet_distributed(),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def report_and_return(plan_id: str, rows: tuple[int, ...]) -> int:
    """Leave a report as task metadata, as a quantum does."""
    file = FileRecord("a/b", "x.Y", "StructuredDataDict", 3, "")
    add_to_task_metadata(QuantumReport(rows[0], "success", ((5, file),)).to_message())
    return rows[0]


class Listener(SchedulerPlugin):
    """Keeps what the private functions see in their hooks."""

    name = "listener"

    def __init__(self) -> None:
        self.seen: list = []

    async def start(self, scheduler) -> None:
        self.scheduler = scheduler
        scheduler.butler_test_seen = self.seen

    def transition(self, key, start, finish, *args, stimulus_id, **kwargs) -> None:
        if start == "processing" and finish == "memory":
            messages = take_task_metadata(self.scheduler, key, kwargs.get("metadata"))
            left = self.scheduler.tasks[key].metadata
            self.seen.append((key, messages, rows_of_task(self.scheduler, key), left))


def test_task_metadata_reaches_the_scheduler_with_the_completion_and_is_forgotten(client):
    client.register_plugin(Listener())
    key = ("icExp-0a1b2c3d", 903334, 5)
    (future,) = client.get({key: Task(key, report_and_return, "plan", (7, 8))}, [key], sync=False)
    wait([future])
    seen = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.butler_test_seen)
    client.unregister_scheduler_plugin("listener")
    ((seen_key, (message,), rows, left),) = seen
    assert seen_key == key
    assert QuantumReport.from_message(message).written[0][1].path == "a/b"
    assert rows == (7, 8)
    assert left is None


def test_blame_is_taken_back_and_the_last_warning_leaves_one_death(client):
    key = ("icExp-0a1b2c3e", 1)
    (future,) = client.get({key: Task(key, report_and_return, "plan", (1,))}, [key], sync=False)
    wait([future])

    def check(dask_scheduler) -> list[int]:
        task = dask_scheduler.tasks[key]
        task.suspicious = 2
        pardon_queued_tasks(dask_scheduler, [key, ("nobody", 1)])
        counts = [task.suspicious]
        fail_at_next_death(dask_scheduler, key)
        counts += [task.suspicious, dask_scheduler.allowed_failures]
        task.suspicious = 0
        return counts

    forgiven, warned, allowed = client.run_on_scheduler(check)
    assert forgiven == 1
    assert warned == allowed


def test_log_lines_of_workers_come_out_at_the_client(butler, client, caplog):
    graph = draft_graph(butler, add_raws(butler, 1, 2), RUN)
    write_init_outputs(butler.repository, graph)
    with caplog.at_level(logging.INFO):
        assert run_graph(graph, butler.repository, client=client).succeeded
    assert [r.message for r in caplog.records if r.name == "isr"][:1] == ["Applying dark correction."]


def test_plugins_leave_nothing_on_the_scheduler(butler, client):
    before = client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.plugins)))
    graph = draft_graph(butler, add_raws(butler, 1, 1), RUN)
    write_init_outputs(butler.repository, graph)
    run_graph(graph, butler.repository, client=client)
    after = client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.plugins)))
    assert after == before


def test_run_on_a_scheduler_of_its_own_named_by_its_file(butler, tmp_path):
    """Scheduler and worker are separate processes, as on a cluster."""
    file = tmp_path / "scheduler.json"
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    dask = [sys.executable, "-m", "dask"]
    common = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    where = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", *where, "--port", "0", "--dashboard-address", ":0", "--host", "127.0.0.1"],
        **common,
    )
    worker = subprocess.Popen([*dask, "worker", *where, "--nthreads", "1"], **common)
    try:
        graph = draft_graph(butler, add_raws(butler, 2, 2), RUN)
        write_init_outputs(butler.repository, graph)
        for _ in range(600):
            if file.exists():
                break
            assert scheduler.poll() is None
            time.sleep(0.05)
        with existing_cluster(str(file)) as client:
            assert run_graph(graph, butler.repository, client=client).describe() == "10 quanta: 10 succeeded"
        again = run_graph(graph, butler.repository, address=str(file))
        assert again.succeeded
        assert again.adopted == 10
    finally:
        # The worker first: a nanny that loses its scheduler while it shuts down may wait for ever.
        for process in (worker, scheduler):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    assert len(butler.repository.registry.datasets.existing_in_run(RUN)["warp"]) == 2
