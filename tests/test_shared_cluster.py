"""Several runs on one Dask cluster, and clusters that go away or never come."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from noop_tasks import add_raws, draft_graph

from butler_dask.butler import Butler
from butler_dask.engine.cluster import existing_cluster, local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.errors import ButlerDaskError

pytest_plugins = ("engine_fixtures",)


@pytest.fixture(scope="module")
def client(mischief_directory):
    with local_cluster(2) as client:
        yield client


def test_two_runs_on_one_cluster_hear_their_own_lines_and_both_succeed(butler, client, mischief, caplog):
    raws = add_raws(butler, 4, 2)
    graphs = [
        write_init_outputs(
            butler.repository, draft_graph(butler, raws, f"u/{who}", config=f"config.seconds = {seconds}\n")
        )
        for who, seconds in (("first", 0.0), ("second", 0.3))
    ]

    def run(graph) -> str:
        another = Client(client.scheduler.address, security=client.security)
        with Butler(butler.root, writeable=True) as own, another as connection:
            return run_graph(graph, own.repository, client=connection).describe()

    with caplog.at_level(logging.INFO), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, graphs)) == ["20 quanta: 20 succeeded"] * 2
    said = [r for r in caplog.records if r.getMessage() == "Applying dark correction."]
    assert len(said) == 16
    assert all("isr:" in r.quantum for r in said)


@contextmanager
def processes_of_a_cluster(tmp_path, n_workers: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler and workers in processes of their own; yields the scheduler's file and process."""
    file = tmp_path / "scheduler.json"
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    where = ["--scheduler-file", str(file)]
    address = ["--port", "0", "--dashboard-address", ":0", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen([*dask, "scheduler", *where, *address], **quiet)
    worker = [*dask, "worker", *where, "--nthreads", "1", "--no-nanny"]
    processes = [*(subprocess.Popen(worker, **quiet) for _ in range(n_workers)), scheduler]
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield str(file), scheduler
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_scheduler_that_is_killed_is_told_within_five_seconds(butler, mischief, tmp_path):
    graph = draft_graph(butler, add_raws(butler, 40, 1), "u/me", config="config.seconds = 0.5\n")
    graph = write_init_outputs(butler.repository, graph)
    killed_s = []
    with processes_of_a_cluster(tmp_path, 1) as (file, scheduler):

        def kill(progress) -> None:
            if progress.total("success") and not killed_s:
                killed_s.append(time.monotonic())
                scheduler.kill()

        with existing_cluster(file) as client:
            with pytest.raises(ButlerDaskError, match=r"scheduler of the run 'u/me' is gone.*--extend-run"):
                run_graph(graph, butler.repository, client=client, progress=kill)
            assert time.monotonic() - killed_s[0] < 5


def test_cluster_without_workers_ends_the_run_in_time(butler, mischief, tmp_path):
    graph = write_init_outputs(butler.repository, draft_graph(butler, add_raws(butler, 1, 1), "u/me"))
    with (
        processes_of_a_cluster(tmp_path, 0) as (file, _),
        pytest.raises(ButlerDaskError, match=r"no workers for 1.5 s \(--worker-timeout\)"),
    ):
        run_graph(graph, butler.repository, address=file, worker_timeout_s=1.5)
    assert run_graph(graph, butler.repository).succeeded
