"""One command at a time writes a run; the others are told which one it is, and change nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import noop_tasks
import pytest
import sqlalchemy as sa
from command_line import Commands
from noop_tasks import MISCHIEF, add_raws
from small_repository import NEW, OLD, add_two_runs, make_repository

from butler_dask import Butler
from butler_dask.butler import repository as repository_settings
from butler_dask.errors import MissingCollectionError, RunInUseError
from butler_dask.registry.database import Database
from butler_dask.registry.registry import Registry
from butler_dask.registry.run_claims import STALE_S, RunClaims

pytest_plugins = ("registry_fixtures",)

RUN = "u/me/run"

TAKE_AND_WAIT = """
import sys, time
from butler_dask.registry.registry import Registry
registry = Registry.open(sys.argv[1])
with registry.claims.kept():
    registry.claims.take(sys.argv[2])
    print("taken", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(url: str, run: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process claim a run, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_AND_WAIT, url, run], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def change_claim(url: str, run: str, change: Callable[[dict], None]) -> None:
    """Change what is stored of a claim."""
    name = {"name": f"writer of {run}"}
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            found = connection.execute(sa.text("SELECT value FROM repository WHERE name = :name"), name)
            values = json.loads(found.scalar_one())
            change(values)
            connection.execute(
                sa.text("UPDATE repository SET value = :value WHERE name = :name"),
                {**name, "value": json.dumps(values)},
            )
    finally:
        engine.dispose()


def let_claim_be_stale(claim: dict) -> None:
    """Make a claim one of a machine of which nothing was heard for more than a minute."""
    claim["process"]["machine"] = "elsewhere"
    claim["renewed_s"] -= STALE_S + 1


def test_a_run_has_one_writer_who_is_named(empty_registry: Registry, registry_url: str) -> None:
    with closing(Registry.open(registry_url)) as other, empty_registry.claims.kept():
        empty_registry.claims.take(RUN)
        empty_registry.claims.take(RUN)  # it has it
        with other.claims.kept():
            other.claims.take("u/me/another")
            with pytest.raises(RunInUseError, match=rf"'{RUN}' is being written by \S+@\S+ since 20.* UTC"):
                other.claims.take(RUN)
        assert list(other.claims.others()) == [RUN]
        assert list(empty_registry.claims.others()) == []
    with closing(Registry.open(registry_url)) as other, other.claims.kept():
        other.claims.take(RUN)


def test_another_thread_is_another_writer(empty_registry: Registry) -> None:
    refused = []

    def take() -> None:
        with empty_registry.claims.kept():
            try:
                empty_registry.claims.take(RUN)
            except RunInUseError as error:
                refused.append(error)

    with empty_registry.claims.kept():
        empty_registry.claims.take(RUN)
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_a_dead_process_is_in_nobodys_way(empty_registry: Registry, registry_url: str) -> None:
    with another_process(registry_url, RUN) as process, empty_registry.claims.kept():
        with pytest.raises(RunInUseError, match=f"process {process.pid}: "):
            empty_registry.claims.take(RUN)
        os.kill(process.pid, signal.SIGSTOP)  # it may go on
        with pytest.raises(RunInUseError):
            empty_registry.claims.take(RUN)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but a zombie
        empty_registry.claims.take(RUN)
        process.wait()
    assert empty_registry.claims.others() == {}


def test_another_process_with_the_number_of_a_dead_one_is_not_the_writer(
    empty_registry: Registry, registry_url: str
) -> None:
    with another_process(registry_url, RUN), empty_registry.claims.kept():
        change_claim(registry_url, RUN, lambda claim: claim["process"].update(began="1"))
        empty_registry.claims.take(RUN)


def test_a_writer_on_another_machine_is_believed_for_a_minute(
    empty_registry: Registry, registry_url: str
) -> None:
    with another_process(registry_url, RUN), empty_registry.claims.kept():
        change_claim(registry_url, RUN, lambda claim: claim["process"].update(machine="elsewhere"))
        with pytest.raises(RunInUseError):
            empty_registry.claims.take(RUN)
        change_claim(registry_url, RUN, let_claim_be_stale)
        empty_registry.claims.take(RUN)


def test_a_writer_whose_claim_was_taken_over_records_nothing_more(
    empty_registry: Registry, registry_url: str
) -> None:
    empty_registry.collections.register(RUN)
    with closing(Registry.open(registry_url)) as other, other.claims.kept():
        with empty_registry.claims.kept():
            claim = empty_registry.claims.take(RUN)
            empty_registry.record_outputs([], claim=claim)
            change_claim(registry_url, RUN, let_claim_be_stale)
            newer = other.claims.take(RUN)
            with pytest.raises(RunInUseError, match="has taken it over"):
                empty_registry.record_outputs([], claim=claim)
        other.record_outputs([], claim=newer)  # the first one's end took nothing from it
    with pytest.raises(RunInUseError, match="not this command's any more"):
        empty_registry.record_outputs([], claim=claim)


def test_a_claim_is_renewed_while_it_is_kept(empty_registry: Registry, registry_url: str) -> None:
    with closing(Database(registry_url)) as database:
        claims = RunClaims(database, renewal_s=0.02)
        with claims.kept():
            first = claims.take(RUN)
            deadline = time.monotonic() + 30
            while empty_registry.claims.others()[RUN].renewed_s < first.renewed_s + 0.1:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            empty_registry.record_outputs([], claim=first)  # it is the same claim all the time
        assert empty_registry.claims.others() == {}
        time.sleep(0.1)
        assert empty_registry.claims.others() == {}


def test_a_run_that_is_removed_takes_its_dead_writers_claim_along(
    empty_registry: Registry, registry_url: str
) -> None:
    empty_registry.collections.register(RUN)
    with another_process(registry_url, RUN):
        with pytest.raises(RunInUseError):
            empty_registry.removal.remove(RUN)
        with pytest.raises(RunInUseError):
            empty_registry.removal.remove_runs([RUN])
        empty_registry.collections.get(RUN)
    empty_registry.removal.remove_runs([RUN])
    with pytest.raises(MissingCollectionError):
        empty_registry.collections.get(RUN)
    with pytest.raises(sa.exc.NoResultFound):
        change_claim(registry_url, RUN, lambda claim: None)


def test_nothing_is_removed_from_a_run_that_another_command_writes(tmp_path: Path, butler_command) -> None:
    root = make_repository(tmp_path / "DATA")
    with Butler(root, writeable=True) as butler:
        add_two_runs(butler)
        before = sorted(root.rglob("*.json"))
        with Butler(root, writeable=True) as writer, writer.repository.registry.claims.kept():
            writer.repository.registry.claims.take(OLD)
            refs = butler.query_datasets("metric", OLD)
            for removal in (
                lambda: butler.removeRuns([OLD]),
                lambda: butler.pruneDatasets(refs, unstore=True),
                lambda: butler.pruneDatasets(refs, unstore=True, disassociate=True, purge=True),
            ):
                with pytest.raises(RunInUseError, match=f"'{OLD}' is being written by"):
                    removal()
            for command in (
                ("remove-runs", root, "u/me/1/*", "--no-confirm", "--force"),
                ("prune-datasets", root, "--purge", OLD, "--no-confirm"),
                ("prune-datasets", root, OLD, NEW, "--unstore", "--find-all", "--no-confirm"),
                ("prune-collection", root, OLD, "--purge", "--unstore"),
            ):
                butler_command(*command, code=1)
                assert f"'{OLD}' is being written by" in butler_command.errors
            assert sorted(root.rglob("*.json")) == before
            assert len(butler.query_datasets("metric", [OLD, NEW], find_first=False)) == 12
            # Its writer may, and other runs are anybody's.
            writer.pruneDatasets(refs[:1], unstore=True, disassociate=True, purge=True)
            butler.removeRuns([NEW])
        butler.removeRuns([OLD])


def test_repair_leaves_alone_a_run_that_another_command_writes(tmp_path: Path, butler_command) -> None:
    root = make_repository(tmp_path / "DATA")
    with Butler(root, writeable=True) as writer:
        add_two_runs(writer)
        damaged = []
        for run in (OLD, NEW):
            path = Path(writer.getURI(writer.query_datasets("metric", run)[0]).ospath)
            path.write_bytes(b"x")
            stray = path.with_name("stray.json")
            stray.write_text("{}")
            damaged.append((path, stray))
        repair = ("check", root, "--repair", "--older-than", "0")
        with writer.repository.registry.claims.kept():
            writer.repository.registry.claims.take(OLD)
            said = butler_command(*repair, code=1)
        assert f"left alone: Run '{OLD}' is being written by" in said
        assert "After repair: 11 files checked: 1 missing or damaged, 1 not recorded" in said
        assert all(path.exists() for path in damaged[0])
        assert not any(path.exists() for path in damaged[1])
        butler_command(*repair)
        assert not any(path.exists() for path in damaged[0])


# Commands


class Repository:
    """A repository with raws, commands on it, and a pipeline of a slow task.

    Parameters
    ----------
    directory : `Path`
        Where.
    registry : `str`
        URL of the database, which is empty.
    """

    def __init__(self, directory: Path, registry: str) -> None:
        repository_settings.Repository.create(directory / "DATA", registry=registry)
        with Butler(directory / "DATA", writeable=True) as butler:
            add_raws(butler, 10, 1)
        (directory / "isr.yaml").write_text(
            "description: isr\ntasks:\n  isr:\n    class: noop_tasks.IsrTask\n    config: {seconds: 0.5}\n"
        )
        self.commands = Commands(directory, fresh=True)
        self.executions = directory / "executions"
        self.commands.environment["PYTHONPATH"] += f":{Path(noop_tasks.__file__).parent}"
        self.commands.environment[MISCHIEF] = str(directory)
        self.run = ("run", "-b", "DATA", "-p", "isr.yaml", "-i", "HSC/raw/all", "--output-run", RUN)

    def count(self) -> int:
        """Return how many quanta were begun."""
        return len(self.executions.read_text().splitlines()) if self.executions.exists() else 0

    @contextmanager
    def live(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Begin the run, and wait until it is at its second quantum."""
        process = self.commands.start("pipetask", *self.run, *options)
        try:
            deadline = time.monotonic() + 200
            while self.count() < 2:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def repository(tmp_path: Path, registry_url: str) -> Repository:
    return Repository(tmp_path, registry_url)


def test_a_second_command_on_a_live_run_is_told_and_changes_nothing(repository: Repository) -> None:
    commands = repository.commands
    with repository.live() as process:
        os.kill(process.pid, signal.SIGSTOP)  # however slow this machine is
        text = f"Run '{RUN}' is being written by"
        for options in ((), ("--extend-run",), ("--extend-run", "--clobber-outputs")):
            said = commands("pipetask", *repository.run, *options, code=1).stderr
            assert text in said
            assert f"process {process.pid}: " in said
        assert text in commands("butler", "remove-runs", "DATA", RUN, "--no-confirm", code=1).stderr
        os.kill(process.pid, signal.SIGCONT)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        assert "10 succeeded" in printed
    assert repository.count() == 10
    listed = commands("butler", "query-collections", "DATA").stdout
    assert f"{RUN}_2" not in listed
    checked = commands("butler", "check", "DATA", "--checksums").stdout
    assert "0 missing or damaged, 0 not recorded, 0 unfinished" in checked
    assert "Nothing to do" in commands("pipetask", *repository.run, "--extend-run").stderr


def test_a_killed_command_is_followed_by_the_same_one_at_once(repository: Repository) -> None:
    with repository.live() as process:
        process.kill()
        process.wait()
        repository.commands("pipetask", *repository.run, "--extend-run")
    assert repository.count() <= 11
    checked = repository.commands("butler", "check", "DATA", "--checksums").stdout
    assert "0 missing or damaged, 0 not recorded, 0 unfinished" in checked


def test_of_two_commands_with_one_output_run_the_second_is_refused_before_the_first_has_made_it(
    repository: Repository, tmp_path: Path
) -> None:
    with Butler(tmp_path / "DATA", writeable=True) as first, first.repository.registry.claims.kept():
        first.repository.registry.claims.take(RUN)
        said = repository.commands("pipetask", *repository.run, code=1).stderr
        assert f"Run '{RUN}' is being written by" in said
        assert first.collections.query("u/*") == []
    assert repository.count() == 0
