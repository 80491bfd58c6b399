"""Workers that die: who is blamed, how often it is tried, and that nobody else pays."""

from __future__ import annotations

from collections import Counter

import dask
import pytest
from noop_tasks import add_raws, draft_graph

from butler_dask.engine.cluster import local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.start_marks import StartMarks

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


@pytest.fixture(scope="module")
def client(mischief_directory):
    with local_cluster(2) as client:
        yield client


@pytest.mark.parametrize("label", ["isr", "characterize"])
@pytest.mark.parametrize("cluster", ["none", "detector", "visit"])
def test_quantum_that_kills_its_worker_at_once_alone_fails_after_three_strikes(
    butler, client, mischief, cluster, label
):
    (mischief / f"{label}-1").write_text("kill")
    graph = write_init_outputs(butler.repository, draft_graph(butler, add_raws(butler, 1, 3), RUN))
    summary = run_graph(graph, butler.repository, client=client, cluster=cluster)
    failed = [(f.label, f.data_id["detector"], f.error_type) for f in summary.failures]
    assert failed == [(label, 1, "KilledWorker")]
    assert summary.total("success") == (4 if label == "isr" else 5)
    assert summary.total("waiting") == 0
    lines = (mischief / "executions").read_text().splitlines()
    starts = Counter(line for line in lines if "'detector': 1" in line and line.startswith(label))
    # A worker killed before its nanny knows that it is up is reported as closed in order, which is no strike:
    # then there are more. There are never fewer.
    (n_starts,) = starts.values()
    assert 3 <= n_starts <= 6


def test_workers_that_are_gone_with_their_nannies_are_started_again(butler, client, mischief):
    graph = write_init_outputs(butler.repository, draft_graph(butler, add_raws(butler, 1, 2), RUN))
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        for nanny in list(client.cluster.workers.values()):
            client.sync(nanny.close)
        summary = run_graph(graph, butler.repository, client=client, worker_timeout_s=60)
    assert summary.describe() == "5 quanta: 5 succeeded"


def test_marks_say_what_each_thread_of_a_dead_worker_was_at(tmp_path):
    marks = StartMarks(tmp_path / "a" / "plan.w.started")
    assert StartMarks.read(marks.path) == []
    marks.set(7)
    assert StartMarks.read(marks.path) == [7]
    marks.set()
    assert StartMarks.read(marks.path) == []
    marks.set(8)
    marks.close()
    assert not marks.path.exists()
