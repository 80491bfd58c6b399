"""Several runs on one Dask cluster, and clusters that go away or never come."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client
from noop_tasks import add_raws, draft_graph

from butler_dask.butler import Butler
from butler_dask.engine.cluster import local_cluster
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs

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
        with Butler(butler.root, writeable=True) as own, Client(client.scheduler.address) as connection:
            return run_graph(graph, own.repository, client=connection).describe()

    with caplog.at_level(logging.INFO), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, graphs)) == ["20 quanta: 20 succeeded"] * 2
    said = [r for r in caplog.records if r.getMessage() == "Applying dark correction."]
    assert len(said) == 16
    assert all("isr:" in r.quantum for r in said)
