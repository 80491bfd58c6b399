"""Journals that were cut off or damaged: nothing readable is lost, and nothing stands in the way."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from noop_tasks import add_raws, draft_graph

from butler_dask.butler import Butler
from butler_dask.butler.run_journals import journal_directory
from butler_dask.cli.butler import main as butler_program
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.engine.journal import Journal, PlanFiles
from butler_dask.engine.quantum_report import QuantumReport
from butler_dask.engine.recovery import recover_run
from butler_dask.graph.graph_file import write_graph
from butler_dask.pipeline import TaskMetadata

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the system take only the beginning of what makes a file longer, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_line_the_disk_took_a_part_of_is_an_error_and_spoils_no_other(tmp_path):
    journal = Journal(tmp_path / "plan.host-1.jsonl")
    journal.append(QuantumReport(0, "success"))
    with files_no_longer_than(journal.path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
        journal.append(QuantumReport(1, "success"))
    journal.append(QuantumReport(2, "success"))
    journal.close()
    assert [r.row for r in Journal.read(journal.path)] == [0, 2]


def test_process_of_the_same_name_does_not_go_on_in_a_torn_line(tmp_path):
    path = tmp_path / "plan.host-1.jsonl"
    path.write_text('[0, "success", [[7, "a/b')
    journal = Journal(path)
    journal.append(QuantumReport(1, "success"))
    journal.close()
    assert [r.row for r in Journal.read(path)] == [1]


@pytest.fixture
def interrupted(butler) -> tuple[Butler, PlanFiles, Path]:
    """A run of which two quanta are in a journal only."""
    graph = write_init_outputs(butler.repository, draft_graph(butler, add_raws(butler, 1, 2), RUN))
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
    journal.close()
    return butler, files, journal.path


DAMAGE = {
    "torn in the middle": b'[2, "success", [[7, "a/b\n',
    "two in one line": b'[2, "succ[3, "success"]\n',
    "no text": b"\xff\xfe\x00\n",
    "no list": b"17\n",
    "no report": b'["x", {}, [], 1]\n',
    "of another graph": json.dumps(QuantumReport(10**6, "success").to_message()).encode() + b"\n",
    "nulls": b"\0" * 512 + b"\n",
    "too few in a file": b'[2, "success", [[7, "a/b"]]]\n',
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_line_is_passed_over_and_told(interrupted, caplog, damage):
    butler, files, path = interrupted
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + DAMAGE[damage] + second)
    assert recover_run(butler.repository, RUN) == 2
    assert any("passed over" in r.message and str(path) in r.getMessage() for r in caplog.records)
    assert not files.copy.exists()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeroed(data: bytes) -> bytes:
    return data[:16] + b"\0" * (len(data) - 16)


def spoiled(data: bytes) -> bytes:
    return data.replace(b'"tasks"', b'"tusks"')


def emptied(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, zeroed, spoiled, emptied])
def test_damaged_plan_is_told_and_the_run_goes_on(interrupted, caplog, damage):
    butler, files, _ = interrupted
    files.copy.write_bytes(damage(files.copy.read_bytes()))
    with pytest.raises(SystemExit) as ended:
        butler_program(["check", str(butler.root), "--repair"])
    assert ended.value.code == 0
    with caplog.at_level(logging.WARNING):
        assert recover_run(butler.repository, RUN) == 0
    assert any(str(files.copy) in r.getMessage() for r in caplog.records)
    graph = draft_graph(butler, list(butler.registry.queryDatasets("raw", collections=...)), RUN)
    assert run_graph(write_init_outputs(butler.repository, graph), butler.repository).succeeded


def test_run_whose_journal_the_disk_does_not_take_goes_on_and_says_so(butler, caplog):
    graph = write_init_outputs(butler.repository, draft_graph(butler, add_raws(butler, 1, 2), RUN))
    journal = PlanFiles.of(butler.root, graph).own_journal
    journal.parent.mkdir(parents=True)
    journal.symlink_to("/dev/full")
    assert run_graph(graph, butler.repository, executor="sync").succeeded
    said = [r for r in caplog.records if "cannot be written" in r.message]
    assert len(said) == 1
    assert not journal_directory(butler.root, RUN).exists()


def test_runs_that_begin_and_end_together_do_not_trip_over_empty_directories(butler):
    graph = draft_graph(butler, add_raws(butler, 1, 1), RUN)

    def begin_and_end(name: str) -> None:
        files = PlanFiles(butler.root, f"u/me/{name}", graph.plan_id)
        for _ in range(100):
            files.save(graph)
            files.remove()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin_and_end, "abcd"))
    assert not (Path(butler.root) / ".journal").exists()
