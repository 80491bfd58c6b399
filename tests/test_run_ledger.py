"""The bookkeeping of a run, with plain values."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, strategies as st

from butler_dask.engine.quantum_report import QuantumReport
from butler_dask.engine.run_ledger import (
    QuantumGivenUp,
    QuantumStarted,
    QuantumState,
    RunLedger,
    StopRun,
    StrikeBook,
    WriteReport,
)
from butler_dask.vocabulary.file_record import FileRecord


def ledger_of(dependents: list[list[int]], **kwargs) -> RunLedger:
    indptr = np.cumsum([0, *(len(d) for d in dependents)]).astype(np.int64)
    indices = np.array([i for d in dependents for i in d], dtype=np.int32)
    return RunLedger((indptr, indices), **kwargs)


def failure(row: int) -> QuantumReport:
    return QuantumReport(row, "failure", error_type="ValueError", error_message="no stars")


def test_success_is_recorded_once_however_often_it_is_reported():
    ledger = ledger_of([[1], []])
    report = QuantumReport(0, "success")
    assert ledger.handle(report) == [WriteReport(report)]
    assert ledger.handle(report) == []
    assert ledger.state(0) is QuantumState.SUCCEEDED
    assert not ledger.is_finished
    ledger.handle(QuantumReport(1, "no_work"))
    assert ledger.is_finished


def test_failing_quantum_blocks_all_that_follow_from_it_and_nothing_else():
    #  0 -> 1 -> 2,  3 -> 2,  3 -> 4
    ledger = ledger_of([[1], [2], [], [2, 4], []])
    assert ledger.handle(failure(0)) == [WriteReport(failure(0))]
    assert [ledger.state(i).name for i in range(5)] == ["FAILED", "BLOCKED", "BLOCKED", "WAITING", "WAITING"]
    assert ledger.unfinished().tolist() == [3, 4]
    assert [f.row for f in ledger.failures] == [0]


def test_fail_fast_stops_the_run_at_the_first_failure():
    ledger = ledger_of([[], []], fail_fast=True)
    written, stop = ledger.handle(failure(1))
    assert isinstance(written, WriteReport)
    assert isinstance(stop, StopRun)
    assert "no stars" in stop.reason


def test_outputs_that_arrive_after_the_worker_was_given_up_are_recorded():
    ledger = ledger_of([[]])
    ledger.handle(QuantumStarted(0, "tcp://a"))
    ledger.handle(QuantumGivenUp(0, "KilledWorker", "its worker died"))
    assert ledger.state(0) is QuantumState.FAILED
    assert ledger.handle(QuantumReport(0, "success")) == [WriteReport(QuantumReport(0, "success"))]
    assert ledger.state(0) is QuantumState.SUCCEEDED
    assert ledger.failures == []


def test_a_success_costs_the_same_however_many_failed():
    n = 5000
    ledger = ledger_of([[] for _ in range(n + 1)])
    for row in range(n):
        ledger.handle(failure(row))
    tracemalloc.start()
    try:
        ledger.handle(QuantumReport(n, "success"))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Looking through the failures takes a list of them, eight bytes each.
    assert peak_bytes < n


def test_counts_by_task_follow_the_states():
    ledger = ledger_of([[], [], []], task_starts=[0, 2])
    ledger.handle(QuantumStarted(0, "w"))
    ledger.handle(QuantumReport(2, "success"))
    assert ledger.counts.tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert ledger.totals[QuantumState.RUNNING] == 1


@given(st.data())
def test_counts_agree_with_states_after_any_events(data):
    n = data.draw(st.integers(1, 8))
    edges = [data.draw(st.lists(st.integers(i + 1, n), max_size=3, unique=True)) for i in range(n)] + [[]]
    ledger = ledger_of(edges, task_starts=[0, (n + 1) // 2])
    kinds = (
        lambda r: QuantumStarted(r, "w"),
        lambda r: QuantumReport(r, "success"),
        lambda r: QuantumReport(r, "no_work"),
        failure,
        lambda r: QuantumGivenUp(r, "KilledWorker", ""),
    )
    recorded = []
    for _ in range(data.draw(st.integers(0, 20))):
        event = data.draw(st.sampled_from(kinds))(data.draw(st.integers(0, n)))
        recorded += [i.report for i in ledger.handle(event) if isinstance(i, WriteReport)]
        assert ledger.counts.sum() == n + 1
        for state in QuantumState:
            assert ledger.totals[state] == int((ledger.states == state).sum())
    successes = [r.row for r in recorded if r.succeeded]
    assert len(successes) == len(set(successes))
    done = (ledger.states == QuantumState.SUCCEEDED) | (ledger.states == QuantumState.NO_WORK)
    assert set(successes) == set(np.flatnonzero(done).tolist())


def test_dead_worker_is_blamed_on_the_quantum_it_was_running():
    book = StrikeBook(allowed=3)
    for strike in (1, 2, 3):
        book.started("tcp://a", 7)
        (verdict,) = book.worker_died("tcp://a", running=[7])
        assert (verdict.row, verdict.strikes, verdict.final) == (7, strike, strike == 3)
    # What it said last is not what it was at.
    book.started("tcp://b", 8)
    assert book.worker_died("tcp://b", running=[]) == []


def test_worker_that_closes_in_order_costs_no_strike():
    book = StrikeBook(allowed=3)
    book.started("tcp://a", 7)
    book.forget("tcp://a")
    assert book.running("tcp://a") == ()
    assert book.worker_died("tcp://b", running=[7])[0].strikes == 1


def test_quantum_is_overdue_once():
    book = StrikeBook()
    book.started("tcp://a", 1, slot=11, now_s=5.0)
    book.started("tcp://a", 2, slot=12, now_s=8.0)
    assert book.overdue(now_s=9.0, longest_s=3.0) == [("tcp://a", 1)]
    assert book.overdue(now_s=10.0, longest_s=3.0) == []
    book.ended("tcp://a", 2)
    assert book.overdue(now_s=99.0, longest_s=3.0) == []


def test_next_quantum_of_a_thread_replaces_the_one_before():
    book = StrikeBook()
    book.started("tcp://a", 1, slot=11)
    book.started("tcp://a", 2, slot=11)
    book.started("tcp://a", 3, slot=12)
    assert sorted(book.running("tcp://a")) == [2, 3]


@pytest.mark.parametrize("status", ["success", "failure", "no_work"])
def test_report_survives_the_journal(status):
    file = FileRecord("u/run/a.json", "x.Y", "StructuredDataDict", 12, "crc32:00000001")
    report = QuantumReport(3, status, ((17, file),), complete=False, host="h", start_ns=5, cpu_s=0.5)
    assert QuantumReport.from_message(json.loads(json.dumps(report.to_message()))) == report
