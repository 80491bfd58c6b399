"""Many processes at once on one repository: nothing is lost, doubled or refused, whoever is killed."""

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import busy_process
import pytest
from busy_process import CALIB, METRIC
from command_line import Commands, warm_commands
from small_repository import fill_repository
from warm_commands import WarmProcess

from butler_dask import Butler
from butler_dask.butler.repository import Repository

pytest_plugins = ("registry_fixtures",)

ROOT = Path(__file__).parent.parent
PROCESSES = 8


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Repository with records of an instrument, on each kind of database."""
    root = tmp_path / "REPO"
    if request.param == "postgresql":
        Repository.create(root, registry=request.getfixturevalue("server"))
    else:
        Repository.create(root)
    fill_repository(root)
    return root


class Busy:
    """Processes that work on a repository, see `busy_process`."""

    def __init__(self, repository: Path, rounds: int) -> None:
        self.repository, self.rounds = repository, rounds
        self.complaints = repository.with_suffix(".txt")
        self.processes = {f"p{n}": self.start(f"p{n}") for n in range(PROCESSES)}

    def start(self, name: str) -> WarmProcess:
        arguments = [str(self.repository), name, str(self.rounds)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with open(os.devnull, "wb") as nothing, self.complaints.open("ab") as complaints:
            return warm_commands().start(
                busy_process.__file__, arguments, ROOT, environment, nothing, complaints
            )

    def kill_one(self) -> bool:
        """Kill one that is still running and start it anew; return whether there was one."""
        running = [n for n, p in self.processes.items() if p.poll() is None]
        if not running:
            return False
        name = random.choice(running)
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name] = self.start(name)
        return True

    def finish(self) -> None:
        """Wait until all are done; none may have complained."""
        codes = {name: process.wait(500) for name, process in self.processes.items()}
        assert self.complaints.read_text() == ""
        assert set(codes.values()) == {0}

    def stop(self) -> None:
        """Kill whoever is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def busy(repository: Path) -> Iterator[list[Busy]]:
    """List to put the processes in, which are then stopped in any case."""
    out: list[Busy] = []
    yield out
    for processes in out:
        processes.stop()


def check_content(repository: Path, rounds: int) -> int:
    """Check that the repository has all that the processes did, once; return how many datasets that is."""
    with Butler(repository) as butler:
        runs = {f"p{p}/{n}" for p in range(PROCESSES) for n in range(rounds)}
        children = butler.collections.get_info("all").children
        assert sorted(children) == sorted(runs)
        for p in range(PROCESSES):
            mine = [c for c in children if c.startswith(f"p{p}/")]
            expected: list[str] = []
            for n in range(rounds):
                if n % 4 == 3:
                    expected.remove(f"p{p}/{n - 1}")
                    expected.append(f"p{p}/{n - 1}")
                expected.insert(0, f"p{p}/{n}")
            assert mine == expected
        history = butler.collections.chain_history("all")
        assert all(new.before == old.after for old, new in itertools.pairwise(history))
        count = 0
        for name in (METRIC[0], CALIB[0]):
            refs = butler.query_datasets(name, "*", find_first=False, limit=None)
            keys = [(ref.run, ref.dataId) for ref in refs]
            assert len(set(keys)) == len({ref.id for ref in refs}) == len(refs)
            for ref in refs:
                required = dict(ref.dataId.required)
                if name == CALIB[0]:
                    del required["instrument"]
                assert butler.get(ref) == {**required, "run": ref.run}
            assert {ref.run for ref in refs} == runs
            count += len(refs)
        for run in runs:
            n = int(run.rpartition("/")[2])
            at_least = 6 if n % 2 else 12
            assert len(butler.query_datasets(METRIC[0], run)) >= at_least
            assert len(butler.query_datasets(CALIB[0], run)) == 6
        certified = list(butler.registry.queryDatasetAssociations(CALIB[0], ["calibs"]))
        spans = {(a.timespan.begin_ns, a.timespan.end_ns, a.ref.dataId) for a in certified}
        assert len(spans) == len(certified) == 6 * len(runs)
        for p in range(PROCESSES):
            tagged = butler.query_datasets(METRIC[0], f"p{p}/tags", limit=None)
            assert {ref.run for ref in tagged} == {f"p{p}/{n}" for n in range(rounds)}
        assert not butler.collections.query("*/removed")
    return count


def test_eight_processes_at_once_lose_and_double_nothing(repository: Path, busy: list[Busy]) -> None:
    rounds = 4
    busy.append(Busy(repository, rounds))
    busy[0].finish()
    assert check_content(repository, rounds) >= PROCESSES * rounds * 12
    report = Commands(repository.parent)("butler", "check", "REPO", "--checksums").stdout
    assert "0 missing or damaged, 0 not recorded, 0 unfinished, 0 to be deleted" in report


@pytest.mark.chaos
def test_killing_any_of_eight_processes_fifty_times_leaves_a_sound_repository(
    repository: Path, busy: list[Busy]
) -> None:
    rounds, kills, start = int(os.environ.get("BUTLER_DASK_TEST_ROUNDS", "60")), 0, time.monotonic()
    busy.append(Busy(repository, rounds))
    while kills < 50:
        time.sleep(random.uniform(0.2, 2.5))
        if not busy[0].kill_one():
            pytest.fail(f"all were done after {kills} kills; make more rounds with BUTLER_DASK_TEST_ROUNDS")
        kills += 1
    busy[0].finish()
    count = check_content(repository, rounds)
    commands = Commands(repository.parent)
    # Exits 0: nothing that is recorded is missing or damaged.
    report = commands("butler", "check", "REPO", "--checksums").stdout.splitlines()
    kinds = {line.partition(":")[0] for line in report[:-1]}
    assert kinds <= {"unrecorded", "unfinished", "pending"}
    print(f"{kills} kills in {time.monotonic() - start:.0f} s; {count} datasets; {report[-1]}")
    commands("butler", "check", "REPO", "--repair", "--older-than", "0")
    report = commands("butler", "check", "REPO", "--checksums").stdout
    assert "0 missing or damaged, 0 not recorded, 0 unfinished, 0 to be deleted" in report
    assert check_content(repository, rounds) == count


@pytest.mark.chaos
def test_repairs_among_eight_writers_take_nothing_that_is_sound(repository: Path, busy: list[Busy]) -> None:
    rounds, repairs, start = int(os.environ.get("BUTLER_DASK_TEST_ROUNDS", "30")), 0, time.monotonic()
    busy.append(Busy(repository, rounds))
    commands = Commands(repository.parent)
    while any(process.poll() is None for process in busy[0].processes.values()):
        commands("butler", "check", "REPO", "--repair", "--checksums")
        repairs += 1
    busy[0].finish()
    assert repairs > 3
    count = check_content(repository, rounds)
    report = commands("butler", "check", "REPO", "--checksums").stdout
    print(
        f"{repairs} repairs in {time.monotonic() - start:.0f} s; {count} datasets; {report.splitlines()[-1]}"
    )
    assert "0 missing or damaged, 0 not recorded, 0 unfinished, 0 to be deleted" in report
