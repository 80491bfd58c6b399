"""The main job with a PostgreSQL registry: the demonstration survey, processed from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Commands
from registry_fixtures import SERVER, drop, new_url

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(not SERVER, reason="BUTLER_DASK_TEST_POSTGRESQL names no server"),
]

RUN = (
    *("pipetask", "run", "-b", "DATA", "-p", "pipelines/example.yaml", "-i", "HSC/defaults", "-o", "u/me/1"),
    *("-d", "instrument='HSC' AND visit=903344 AND detector=5"),
)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    directory: Path = tmp_path_factory.mktemp("postgresql")
    url = new_url("postgresql", directory)
    commands = Commands(directory)
    commands("butler", "demo", "DATA", "--small", "--registry", url)
    yield commands
    drop(url)


def rows(commands: Commands, *types: str) -> dict[str, int]:
    """Return how many datasets of each type the newest run holds."""
    done = commands(
        *("butler", "query-datasets", "DATA", *types, "--collections", "u/me/1", "--find-first"),
        *("--format", "json"),
    )
    found = json.loads(done.stdout)
    counts: dict[str, int] = {}
    for row in found:
        counts[row["type"]] = counts.get(row["type"], 0) + 1
    return counts


def test_main_job_is_recorded_and_not_done_twice(commands):
    done = commands(*RUN, "-j", "2")
    assert "QuantumGraph contains 15 quanta for 4 tasks" in done.stderr
    assert rows(commands, "postISRCCD", "icExp", "calexp", "deepCoadd_directWarp") == {
        "postISRCCD": 1,
        "icExp": 1,
        "calexp": 1,
        "deepCoadd_directWarp": 12,
    }
    again = commands(*RUN, "--extend-run")
    assert "nothing to do" in (again.stderr + again.stdout).lower()
    checked = commands("butler", "check", "DATA", "--checksums").stdout
    assert "0 missing or damaged, 0 not recorded, 0 unfinished, 0 to be deleted" in checked
