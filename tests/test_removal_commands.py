"""What `butler remove-...` and `prune-...` plan, ask, remove and leave."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Commands
from small_repository import NEW, OLD, VISITS, add_two_runs, make_repository

from butler_dask import Butler, CollectionType, DatasetRef, FileDataset, Timespan
from butler_dask.butler.run_journals import journal_directory

BIAS_RUN = "HSC/calib/biases"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with runs in a chain, tagged and certified datasets, and a file taken in place."""
    directory = tmp_path_factory.mktemp("original")
    root = make_repository(directory / "DATA")
    with Butler(root, writeable=True) as butler:
        add_two_runs(butler)
        for run in (BIAS_RUN, "elsewhere"):
            butler.collections.register(run)
        biases = [butler.put({"b": d}, "bias", instrument="HSC", detector=d, run=BIAS_RUN) for d in (1, 2)]
        butler.registry.certify("HSC/calib", biases, Timespan(None, None))
        butler.collections.register("u/me/1", CollectionType.CHAINED)
        butler.collections.redefine_chain("u/me/1", [NEW, OLD, "HSC/calib"])
        mine = directory / "mine.json"
        mine.write_text('{"a": 1}')
        summary = DatasetRef(butler.get_dataset_type("summary"), {"instrument": "HSC"}, "elsewhere")
        butler.ingest(FileDataset(str(mine), [summary]), transfer="direct")
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(original, tmp_path / "DATA"))


def files(root: Path) -> list[str]:
    """Return the files of datasets and the directories below a repository."""
    return sorted(
        str(p.relative_to(root))
        for p in root.rglob("*")
        if not p.name.startswith(("registry.sqlite3", "butler.yaml"))
    )


def test_dry_run_shows_the_plan_and_changes_nothing(root, butler_command):
    before = files(root)
    text = butler_command("remove-runs", root, "u/me/1/*", "--dry-run")
    assert "u/me/1/old (will be taken out of u/me/1)" in text
    assert "In all 12 datasets with 12 files" in text
    assert "tagged TAGGED metric        3" in text
    assert "Nothing was done" in text
    for command in (
        ("prune-datasets", root, NEW, "--datasets", "metric", "--purge", NEW),
        ("prune-datasets", root, NEW, "--unstore"),
        ("prune-collection", root, NEW, "--purge", "--unstore", "--unlink", "u/me/1"),
        ("remove-collections", root, "tagged"),
        ("remove-dataset-type", root, "src"),
    ):
        assert "Nothing was done" in butler_command(*command, "--dry-run")
    assert files(root) == before
    with Butler(root) as butler:
        assert len(butler.query_datasets("metric", [OLD, NEW], find_first=False)) == 12
        assert butler.repository.registry.datasets.pending_deletions() == []
        assert set(butler.collections.query("*")) >= {OLD, NEW, "tagged"}


def test_refused_plan_changes_nothing(root, butler_command):
    before = files(root)
    assert "Nothing was done" in butler_command("remove-runs", root, "u/me/1/*", answer="n\n")
    assert files(root) == before


def test_confirmed_removal_takes_runs_out_of_chains_tags_and_calibrations(root, butler_command):
    journal = journal_directory(root, OLD)
    journal.mkdir(parents=True)
    (journal / "plan.host-1.jsonl").write_text("{}\n")
    assert "Removed 3 RUN collections" in butler_command(
        "remove-runs", root, "u/me/1/*", BIAS_RUN, answer="y\n"
    )
    with Butler(root) as butler:
        assert butler.collections.get_info("u/me/1").children == ("HSC/calib",)
        assert butler.query_datasets("metric", "tagged", explain=False) == []
        assert butler.query_datasets("bias", "HSC/calib", find_first=False, explain=False) == []
    # No file, no empty directory, no journal.
    assert files(root) == []


@pytest.mark.parametrize("name", ["../../victim", "..", ".journal", ".journal/u/me/1/old", "u/\u202egnp"])
def test_a_run_that_an_older_version_let_be_called_anything_is_read_and_removed_alone(
    root, butler_command, name
):
    kept = [root.parent / "victim" / "precious", root / ".journal" / "u" / "me" / "1" / "old" / "p.h-1.jsonl"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("x")
    before = files(root)
    with Butler(root, writeable=True) as butler:
        butler.collections.register("plain")
    with closing(sqlite3.connect(root / "registry.sqlite3")) as connection, connection:
        connection.execute("UPDATE collection SET name = ? WHERE name = 'plain'", (name,))
    with Butler(root, run=name, writeable=True) as butler:
        ref = butler.put({"a": 1}, "summary", instrument="HSC")
        assert butler.get("summary", instrument="HSC", collections=name) == {"a": 1}
        path = Path(butler.getURI(ref).ospath)
    assert root in path.parents
    assert root / ".journal" not in path.parents
    butler_command("remove-runs", root, name, "--no-confirm")
    assert files(root) == before
    assert all(path.exists() for path in (*kept, root / "butler.yaml", root / "registry.sqlite3"))


def test_runs_in_chains_need_force_where_nobody_is_asked(root, butler_command):
    before = files(root)
    text = butler_command("remove-runs", root, OLD, "--no-confirm", code=1)
    assert "u/me/1" in text
    assert "--force" in butler_command.errors
    assert files(root) == before
    butler_command("remove-runs", root, OLD, "--no-confirm", "--force")
    with Butler(root) as butler:
        assert butler.collections.get_info("u/me/1").children == (NEW, "HSC/calib")


def test_files_taken_in_place_are_never_removed(root, original, butler_command):
    text = butler_command("remove-runs", root, "elsewhere", "--no-confirm")
    assert "1 file ingested in place, outside the repository, will stay there" in text
    assert (original.parent / "mine.json").read_text() == '{"a": 1}'


def test_nothing_that_matches_is_no_failure_but_a_mistyped_name_is(root, butler_command):
    assert "No RUN collections were found" in butler_command("remove-runs", root, "v/*")
    assert "No RUN collections were found" in butler_command("remove-runs", root, "tagged")
    butler_command("remove-runs", root, OLD + "d", code=1)
    assert f"Did you mean {OLD!r}" in butler_command.errors
    assert "No non-RUN collections" in butler_command("remove-collections", root, "v/*")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((NEW, "--datasets", "metric"), "--purge, --unstore or --disassociate"),
        ((NEW, "--purge", NEW, "--disassociate", "tagged"), "do not go together"),
        (("--unstore", "--datasets", "metric"), "Name the collections"),
        (("--purge", "tagged", "--datasets", "metric"), "'tagged' is TAGGED"),
        (("--disassociate", NEW, "--datasets", "metric"), f"'{NEW}' is RUN"),
        (("u/*", "--unstore"), "--find-all"),
        ((NEW, "--unstore", "--quiet", "--dry-run"), "do not go together"),
        ((NEW, "--unstore", "--datasets", "metrc"), "Did you mean 'metric'"),
    ],
)
def test_prune_datasets_says_which_options_do_not_fit(root, butler_command, arguments, words):
    before = files(root)
    butler_command("prune-datasets", root, *arguments, code=1)
    assert words in butler_command.errors
    assert files(root) == before


def test_unstored_datasets_stay_known(root, butler_command):
    where = f"instrument='HSC' AND visit={VISITS[0]}"
    butler_command("prune-datasets", root, NEW, "--where", where, "--unstore", "--no-confirm")
    with Butler(root) as butler:
        refs = butler.query_datasets("metric", NEW)
        stored = [r for r in refs if butler.exists(r)]
        assert (len(refs), len(stored)) == (6, 4)


def test_purge_takes_the_first_found_and_find_all_every_one(root, butler_command):
    assert "2 datasets removed altogether" in butler_command(
        *("prune-datasets", root, "u/me/1", "--purge", NEW, "--datasets", "metric"),
        *("--where", f"instrument='HSC' AND visit={VISITS[0]}", "--no-confirm"),
    )
    with Butler(root) as butler:
        assert len(butler.query_datasets("metric", NEW)) == 4
        assert len(butler.query_datasets("metric", OLD)) == 6
    quietly = ("--find-all", "--purge", NEW, "--datasets", "met*", "--quiet")
    assert butler_command("prune-datasets", root, "u/me/1/*", *quietly) == ""
    with Butler(root) as butler:
        assert butler.query_datasets("metric", [NEW, OLD], explain=False) == []


def test_disassociated_datasets_keep_their_files(root, butler_command):
    before = files(root)
    butler_command("prune-datasets", root, "--disassociate", "tagged", "--datasets", "metric", "--no-confirm")
    assert files(root) == before
    with Butler(root) as butler:
        assert butler.query_datasets("metric", "tagged", explain=False) == []
        assert len(butler.query_datasets("metric", OLD)) == 6


def test_collections_go_together_with_the_chain_they_are_in(root, butler_command):
    butler_command("remove-collections", root, "HSC/calib", code=1)
    assert "--remove-from-parents" in butler_command.errors
    text = butler_command("remove-collections", root, "HSC/calib", "u/me/*", answer="y\n")
    assert "RUN collections match too and stay" in text
    with Butler(root) as butler:
        assert set(butler.collections.query("*")) == {"tagged", OLD, NEW, BIAS_RUN, "elsewhere"}
        assert len(butler.query_datasets("bias", BIAS_RUN)) == 2


def test_dataset_types_with_datasets_stay_and_so_do_all_others_of_the_command(root, butler_command):
    butler_command("remove-dataset-type", root, "src", "metric", "--no-confirm", code=1)
    assert "'metric' has datasets" in butler_command.errors
    assert "Removed 1 dataset type" in butler_command("remove-dataset-type", root, "sr*", answer="y\n")
    with Butler(root) as butler:
        assert {"metric", "src"} & {t.name for t in butler.registry.queryDatasetTypes()} == {"metric"}


@pytest.mark.parametrize("gone", [1, 250])
def test_killed_removal_is_finished_by_the_next_command(root, gone, butler_command):
    """Kill -9 after some files are gone; what is recorded stays readable, and nothing stays behind."""
    with Butler(root, writeable=True) as butler, butler.transaction():
        dimensions = [{"instrument": "HSC", "id": 100 + d, "full_name": f"x{d}"} for d in range(300)]
        butler.registry.insertDimensionData("detector", *dimensions)
        butler.collections.register("u/me/many")
        for record in dimensions:
            butler.put({}, "bias", instrument="HSC", detector=record["id"], run="u/me/many")
    directory = root / "u/me/many/bias/HSC"
    process = Commands(root.parent).start("butler", "remove-runs", str(root), "u/me/many", "--no-confirm")
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if len(os.listdir(directory)) <= 300 - gone:
                break
        except FileNotFoundError:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Butler(root) as butler:
        for ref in butler.query_datasets("bias", ..., find_first=False):
            assert butler.get(ref) is not None
        left = len(butler.repository.registry.datasets.pending_deletions())
    butler_command("remove-runs", root, "none/*", "--no-confirm")
    assert ("Finished an interrupted removal" in butler_command.errors) == (left > 0)
    assert not (root / "u/me/many").exists()
    butler_command("check", root)


def test_check_repair_finishes_a_removal_too(root, butler_command):
    with Butler(root, writeable=True) as butler:
        # What a process leaves that died between the registry's transaction and the files' removal.
        butler.repository.registry.removal.remove_runs([OLD], unlink_from_chains=True)
    assert (root / OLD).exists()
    assert "6 to be deleted" in butler_command("check", root)
    butler_command("check", root, "--repair")
    assert not (root / OLD).exists()
