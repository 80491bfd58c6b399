"""Recorder: the one thread that writes a run to the registry.

Whoever hears from quanta (a Dask hook on the scheduler's event loop, a thread that just ran one) only puts an
event in a queue. This thread feeds the ledger and commits what it says in batches: 500 quanta or a quarter
of a second, whichever comes first (a commit per quantum costs 15 to 200 times more).
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph_columns import ABOUT_QUANTA
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.quantum_record import QuantumRecord, QuantumTable
from .quantum_report import QuantumReport
from .run_ledger import Event, QuantumFailure, RunLedger, StopRun, WriteReport

if TYPE_CHECKING:
    from ..graph.quantum_graph import QuantumGraph
    from ..registry import RunClaim
    from ..registry.registry import Registry

_LOG = logging.getLogger("butler_dask.recorder")

BATCH_QUANTA = 500
"""Quanta written in one transaction at most."""
BATCH_SECONDS = 0.25
"""Longest time a finished quantum waits to be written [s]."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    counts : mapping of `str` to mapping of `str` to `int`
        By task label, the number of quanta that are ``waiting``, ``running``, ``success`` (``no_work`` of
        them had nothing to do), ``failure`` and ``blocked``, and their ``total``.
    failures : `tuple` [`QuantumFailure`, ...]
        Those since the last progress.
    elapsed_s : `float`
        Time since the start [s].
    finished : `bool`
        Whether this is the last one.
    """

    counts: Mapping[str, Mapping[str, int]]
    failures: tuple[QuantumFailure, ...] = ()
    elapsed_s: float = 0.0
    finished: bool = False

    def total(self, state: str = "total") -> int:
        """Return the number of quanta of all tasks in a state.

        Parameters
        ----------
        state : `str`
            One of the states in ``counts``.

        Returns
        -------
        n : `int`
            Summed over tasks.
        """
        return sum(by[state] for by in self.counts.values())


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Drain:
    done: threading.Event = field(default_factory=threading.Event)


class Recorder:
    """Writes the quanta of a run to the registry as they end.

    Parameters
    ----------
    graph : `QuantumGraph`
        What is run.
    registry : `Registry`
        Where to write; used by this object's thread only.
    claim : `RunClaim`
        Right to write the run; nothing is written once another command has taken it over.
    fail_fast : `bool`
        Whether the first failure stops the run.
    on_progress : callable, optional
        Called with a `Progress` about four times a second, in the recorder's thread.
    on_stop : callable, optional
        Called with a reason when no further quantum should be started.
    """

    def __init__(
        self,
        graph: QuantumGraph,
        registry: Registry,
        claim: RunClaim,
        *,
        fail_fast: bool = False,
        on_progress: ProgressCallback | None = None,
        on_stop: Callable[[str], None] | None = None,
    ) -> None:
        self.graph, self._registry, self._claim = graph, registry, claim
        starts = [t.first_quantum for t in graph.tasks] or [0]
        self.ledger = RunLedger(graph.dependent_csr(), starts, fail_fast)
        self._on_progress, self._on_stop = on_progress, on_stop
        self._queue: queue.SimpleQueue[Event | _Drain | None] = queue.SimpleQueue()
        self._pending: list[QuantumReport] = []
        self._error: Exception | None = None
        self._began = time.monotonic()
        self._failures_told: set[int] = set()
        self._told_at = self._began
        self._thread = threading.Thread(target=self._run, name="butler-recorder", daemon=True)
        self.transactions = 0
        """Number of commits so far."""

    def start(self) -> Recorder:
        """Start the thread.

        Returns
        -------
        recorder : `Recorder`
            This one.
        """
        self._thread.start()
        return self

    def put(self, event: Event) -> None:
        """Take an event; returns at once.

        Parameters
        ----------
        event : `QuantumStarted`, `QuantumReport` or `QuantumGivenUp`
            What happened.
        """
        self._queue.put(event)

    @property
    def error(self) -> Exception | None:
        """What writing failed with, if it did; nothing is written after that."""
        return self._error

    def drain(self) -> None:
        """Wait until everything taken so far is in the registry.

        Raises
        ------
        Exception
            What writing failed with. Journals and files stay, so the same command recovers them.
        """
        if self._thread.is_alive():
            marker = _Drain()
            self._queue.put(marker)
            while not marker.done.wait(0.5):
                if not self._thread.is_alive():
                    break
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Drain and end the thread.

        Raises
        ------
        Exception
            As `drain`.
        """
        try:
            self.drain()
        finally:
            self._queue.put(None)
            if self._thread.is_alive():
                self._thread.join()

    def progress(self, finished: bool = False) -> Progress:
        """Return how far the run is; its ``failures`` are all so far.

        Parameters
        ----------
        finished : `bool`
            Whether nothing more will come.

        Returns
        -------
        progress : `Progress`
            As of now.
        """
        ledger = self.ledger
        tasks = zip(self.graph.tasks, ledger.counts.tolist(), strict=False)
        counts = {task.label: _state_counts(row) for task, row in tasks if len(task)}
        return Progress(counts, tuple(ledger.failures), time.monotonic() - self._began, finished)

    # -- the thread

    def _run(self) -> None:
        deadline = 0.0
        while True:
            wait = None
            if self._pending:
                wait = max(deadline - time.monotonic(), 0.0)
            elif self._on_progress is not None:
                wait = BATCH_SECONDS
            try:
                item = self._queue.get(timeout=wait)
            except queue.Empty:
                self._commit()
                self._tell_progress()
                continue
            if item is None:
                self._commit()
                self._tell_progress(finished=True)
                return
            if isinstance(item, _Drain):
                self._commit()
                self._tell_progress(now=True)
                item.done.set()
                continue
            if not self._pending:
                deadline = time.monotonic() + BATCH_SECONDS
            for instruction in self.ledger.handle(item):
                match instruction:
                    case WriteReport(report=report):
                        self._pending.append(report)
                    case StopRun(reason=reason):
                        self._stop(reason)
            if len(self._pending) >= BATCH_QUANTA or (self._pending and time.monotonic() >= deadline):
                self._commit()
            self._tell_progress()

    def _tell_progress(self, *, now: bool = False, finished: bool = False) -> None:
        if self._on_progress is None:
            return
        moment = time.monotonic()
        if now or finished or moment - self._told_at >= BATCH_SECONDS:
            self._told_at = moment
            progress = self.progress(finished)
            new = tuple(f for f in progress.failures if f.row not in self._failures_told)
            self._failures_told.update(f.row for f in new)
            self._on_progress(replace(progress, failures=new))

    def _stop(self, reason: str) -> None:
        if self._on_stop is not None:
            self._on_stop(reason)

    def _commit(self) -> None:
        if not self._pending or self._error is not None:
            self._pending.clear()
            return
        reports, self._pending = self._pending, []
        try:
            write_reports(self._registry, self.graph, reports, self._claim)
        except Exception as error:
            self._error = error
            _LOG.error(
                "Outputs cannot be recorded: %s. Files and journals stay; rerun to record them.", error
            )
            self._stop(f"outputs cannot be recorded: {error}")
        else:
            self.transactions += 1


def _state_counts(row: Sequence[int]) -> dict[str, int]:
    waiting, running, succeeded, no_work, failed, blocked = row
    return {
        "waiting": waiting,
        "running": running,
        "success": succeeded + no_work,
        "no_work": no_work,
        "failure": failed,
        "blocked": blocked,
        "total": sum(row),
    }


def write_reports(
    registry: Registry, graph: QuantumGraph, reports: Sequence[QuantumReport], claim: RunClaim
) -> None:
    """Write quanta and their datasets to the registry, in one transaction.

    Parameters
    ----------
    registry : `Registry`
        Where to.
    graph : `QuantumGraph`
        Where the reports' rows are.
    reports : sequence of `QuantumReport`
        What ended. What is recorded already is left as it is.
    claim : `RunClaim`
        Right to write the run.

    Raises
    ------
    RunInUseError
        If another command has taken over the run.
    """
    by_type: dict[int, tuple[list[int], list[FileRecord]]] = {}
    about = [c.dataset_type.name for t in graph.tasks for c in t.connections if c.name in ABOUT_QUANTA]
    of_tasks = [d.dataset_type.name not in about for d in graph.dataset_types]
    quanta = []
    for report in reports:
        n_outputs = 0
        for dataset_row, file in report.written:
            index = graph.type_index(dataset_row)
            rows, files = by_type.setdefault(index, ([], []))
            rows.append(dataset_row)
            files.append(file)
            n_outputs += of_tasks[index]
        quanta.append(quantum_record(graph, report, n_outputs))
    batches: list[tuple[DatasetTable, FileTable]] = []
    for index, (rows, files) in by_type.items():
        columns = graph.dataset_types[index]
        local = np.array(rows, dtype=np.int64) - columns.first_row
        batches.append((columns.table.take(local), FileTable.from_records(files)))
    registry.record_outputs(batches, QuantumTable.from_records(quanta), claim=claim)


def quantum_record(graph: QuantumGraph, report: QuantumReport, n_outputs: int) -> QuantumRecord:
    """Return what the registry keeps of a quantum.

    Parameters
    ----------
    graph : `QuantumGraph`
        Where the report's row is.
    report : `QuantumReport`
        How the quantum ended.
    n_outputs : `int`
        How many datasets it wrote beside log and metadata.

    Returns
    -------
    record : `QuantumRecord`
        One row of the registry.
    """
    task = graph.task_of(report.row)
    data_id = task.data_ids[report.row - task.first_quantum]
    return QuantumRecord(
        quantum_id=graph.quantum_ids[report.row].tobytes(),
        run=graph.run,
        label=task.label,
        data_id=json.dumps(dict(data_id.required)),
        status=report.status,
        attempt=report.attempt,
        host=report.host,
        start_ns=report.start_ns,
        end_ns=report.end_ns,
        cpu_s=report.cpu_s,
        peak_rss_bytes=report.peak_rss_bytes,
        error_type=report.error_type,
        error_message=report.error_message,
        error_traceback=report.error_traceback,
        n_outputs=n_outputs,
    )
