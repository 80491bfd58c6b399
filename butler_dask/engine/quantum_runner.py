"""QuantumRunner: runs one quantum and says how it ended.

Order of what reaches the disk: the task's outputs, the log, and last the metadata, each under a temporary
name and then renamed. The metadata file is therefore the commit marker: where it exists, everything of the
quantum does. It lists the files of the quantum, so a quantum that finds its marker (its worker died before
it could report, or the registry was never told) reports the same again and runs nothing.

This is the one place where errors of tasks are caught, whatever their class: only the user's interrupt ends a
run.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ButlerDaskError
from ..graph.quantum import Quantum
from ..pipeline.pipeline_task import PipelineTask, QuantumContext
from ..pipeline.quantum_outcome import AnnotatedPartialOutputsError, NoWorkFound, RepeatableQuantumError
from ..pipeline.task_class import config_of_text, import_task_class
from ..pipeline.task_metadata import TaskMetadata
from ..vocabulary.dotted_name import dotted_name
from ..vocabulary.file_record import FileRecord
from .clean_text import clean_text, text_of_error, traceback_of_error
from .commit_marker import describe_files, find_finished, number_of
from .hand_over import HandOver
from .log_capture import LogCapture, LogRecords
from .quantum_butler import QuantumButler
from .quantum_report import QuantumReport, QuantumStatus
from .resource_usage import PeakRss, note_resources
from .run_settings import RunSettings
from .time_limit import time_limit

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore
    from ..graph.graph_columns import TaskColumns
    from ..graph.quantum_graph import QuantumGraph
    from ..vocabulary.dataset import DatasetRef

_LOG = logging.getLogger("butler_dask.quantum")
_HOST = socket.gethostname()


@dataclass
class _Attempt:
    """One attempt at a quantum.

    Parameters
    ----------
    start_ns : `int`
        When it began [ns since 1970, UTC].
    number : `int`
        Which attempt it is, from 1.
    row : `int`
        Row in the graph.
    quantum : `Quantum`
        The quantum.
    butler : `QuantumButler`
        Reads and writes its datasets.
    doubtful : collection of `int`
        Rows of quanta that did not write all their outputs.
    marker : `TaskMetadata`
        What its commit marker will say.
    """

    start_ns: int
    number: int
    row: int
    quantum: Quantum
    butler: QuantumButler
    doubtful: Collection[int]
    marker: TaskMetadata = field(default_factory=TaskMetadata)

    def __post_init__(self) -> None:
        self.marker.scalars |= {"attempt": self.number, "startNs": self.start_ns}

    def discard(self) -> None:
        """Remove the files written so far."""
        written = self.butler.written
        try:
            self.butler.require_plan()  # else they may be another command's
            self.butler.datastore.remove([r.path for r in written.values()])
        except (ButlerDaskError, OSError) as problem:
            # They are not recorded, and the next attempt overwrites them.
            _LOG.warning("Outputs of a failed quantum are left over: %s", problem)
        written.clear()

    def commit(self, lines: LogRecords, plan_id: str, status: QuantumStatus) -> dict[uuid.UUID, FileRecord]:
        """Write log and, last, metadata; return all files of the quantum."""
        quantum, butler, marker = self.quantum, self.butler, self.marker
        log_ref, metadata_ref = quantum.log_ref, quantum.metadata_ref
        if log_ref is not None:
            butler.put(lines, log_ref)
        full = marker.metadata.pop("task")
        describe_files(marker, quantum, plan_id, status, butler.written, butler.read)
        full.metadata["quantum"] = marker
        if metadata_ref is not None:
            butler.put(full, metadata_ref)
        return dict(butler.written)

    def keep_log(self, lines: LogRecords, error_traceback: str) -> dict[uuid.UUID, FileRecord]:
        """Write the log of a failed quantum, the traceback with its last line; return its file."""
        log_ref = self.quantum.log_ref
        if log_ref is None:
            return {}
        if lines:
            lines[-1]["exc_info"] = error_traceback
        try:
            self.butler.put(lines, log_ref)
        except (ButlerDaskError, OSError, ValueError) as problem:
            _LOG.warning("The log of a failed quantum cannot be written: %s", problem)
            return {}
        return dict(self.butler.written)


class QuantumRunner:
    """Runs quanta of one graph in one process.

    Parameters
    ----------
    graph : `QuantumGraph`
        Where they are.
    datastore : `Datastore`
        Where datasets are read and written; the registry is never touched.
    capture : `LogCapture`
        Installed on the root logger; keeps the log lines of each quantum.
    settings : `RunSettings`
        How they are run.
    plan_copy : `pathlib.Path`, optional
        The copy of the plan in the repository, without which no quantum writes anything.

    Notes
    -----
    A task object is made once a thread and task, and used for all its quanta.
    """

    def __init__(
        self,
        graph: QuantumGraph,
        datastore: Datastore,
        capture: LogCapture,
        settings: RunSettings,
        plan_copy: Path | None = None,
    ) -> None:
        self.graph, self.datastore, self.capture, self.settings = graph, datastore, capture, settings
        self._plan_copy = plan_copy
        self._local = threading.local()
        self._peak_rss = PeakRss()

    def run(
        self,
        row: int,
        *,
        doubtful: Collection[int] = (),
        hand_over: HandOver | None = None,
    ) -> QuantumReport:
        """Run a quantum, or find that it was finished before.

        Parameters
        ----------
        row : `int`
            Row in the graph.
        doubtful : collection of `int`
            Rows of quanta that did not write all their outputs: those inputs are looked for.
        hand_over : `HandOver`, optional
            Objects handed over inside this process.

        Returns
        -------
        report : `QuantumReport`
            How it ended; errors of the task are in it.
        """
        quantum = self.graph.quantum(row)
        retries = self.settings.retries
        adopted = find_finished(
            self.graph, self.datastore, row, quantum, adopt_foreign=self.settings.adopt_foreign
        )
        if adopted is not None:
            return adopted
        for attempt_number in itertools.count(1):
            # The time is taken first: what a quantum waits for its butler is its own.
            attempt = _Attempt(
                time.time_ns(), attempt_number, row, quantum, self._butler(row, quantum, hand_over), doubtful
            )
            report, may_retry = self._run_attempt(attempt)
            if report.succeeded or not may_retry or attempt_number > retries:
                break
            _LOG.warning(
                "%s %s failed, attempt %d of %d: %s: %s",
                quantum.taskLabel,
                quantum.dataId,
                attempt_number,
                retries + 1,
                report.error_type,
                report.error_message,
            )
        return report

    # -- one attempt

    def _butler(self, row: int, quantum: Quantum, hand_over: HandOver | None) -> QuantumButler:
        """Return a butler that knows the datasets of a quantum."""
        outputs = {ref.id: ref for refs in quantum.outputs_by_connection.values() for ref in refs}
        files = self._input_files(row)
        if hand_over is None:
            return QuantumButler(self.datastore, files, outputs, plan_copy=self._plan_copy)
        return QuantumButler(
            self.datastore,
            files,
            outputs,
            memory=hand_over.objects,
            last_uses=hand_over.last_uses(row),
            kept=hand_over.kept,
            plan_copy=self._plan_copy,
        )

    def _run_attempt(self, attempt: _Attempt) -> tuple[QuantumReport, bool]:
        """Run a quantum once; return the report, and whether another attempt can help."""
        self._peak_rss.forget()
        row, quantum, marker = attempt.row, attempt.quantum, attempt.marker
        report = QuantumReport(row, "success", attempt=attempt.number, host=_HOST, start_ns=attempt.start_ns)
        error: BaseException | None = None
        with self.capture.quantum(f"{quantum.taskLabel}:{quantum.dataId}", self.graph.run) as lines:
            try:
                with time_limit(self.settings.timeout_s):
                    status = self._run_task(attempt)
                written = attempt.commit(lines, self.graph.plan_id, status)
            except BaseException as raised:
                # What a failed or interrupted quantum wrote is of no use to anybody.
                attempt.discard()
                if _is_interrupt(raised):
                    raise KeyboardInterrupt from raised
                if self.settings.debug:
                    raise
                # `sys.exit()` or a cancellation inside a task too: the quantum did not do its work.
                error = raised
                kind = type(error).__name__
                _LOG.error(
                    "%s %s failed: %s: %s", quantum.taskLabel, quantum.dataId, kind, text_of_error(error)
                )
                report = _failure(report, error)
        rows = self._output_rows(row)
        if error is None:
            report = replace(report, status=status, complete=len(written) == len(rows))
        else:
            written = attempt.keep_log(lines, report.error_traceback)
        if "endCpuTime" not in marker.scalars:
            note_resources(marker, "end")
        report = replace(
            report,
            written=tuple((rows[id_], record) for id_, record in written.items()),
            end_ns=time.time_ns(),
            cpu_s=max(number_of(marker, "endCpuTime") - number_of(marker, "startCpuTime"), 0.0),
            peak_rss_bytes=int(number_of(marker, "endMaxResidentSetSize")),
        )
        return report, error is not None and not isinstance(error, RepeatableQuantumError)

    def _run_task(self, attempt: _Attempt) -> QuantumStatus:
        """Run the task of a quantum and fill in the marker; return ``success`` or ``no_work``."""
        quantum, marker = attempt.quantum, attempt.marker
        attempt.butler.require_plan()
        marker.scalars["prepUtc"] = datetime.now(UTC).isoformat()
        status: QuantumStatus = "success"
        task, connections = self._task(self.graph.task_of(attempt.row))
        task.emptyMetadata()
        note_resources(marker, "start")
        try:
            if attempt.doubtful:
                quantum = self._without_missing_inputs(attempt, connections)
            inputs, outputs = connections.buildDatasetRefs(quantum)
            context = QuantumContext(attempt.butler, quantum, resources=self.settings.resources)
            task.runQuantum(context, inputs, outputs)
        except NoWorkFound as reason:
            task.log.info("Nothing to do for %s: %s", quantum.dataId, reason)
            status = "no_work"
        except AnnotatedPartialOutputsError as error:
            if self.settings.raise_on_partial_outputs:
                raise
            task.log.warning("Partial outputs of %s are kept: %s", quantum.dataId, error)
        note_resources(marker, "end")
        own = task.getFullMetadata() if task.config.saveMetadata else TaskMetadata()
        marker.metadata["task"] = own  # taken out again by the commit
        return status

    # -- inputs

    def _output_rows(self, row: int) -> dict[uuid.UUID, int]:
        return {self.graph.dataset_id(i): i for i in self.graph.outputs_of.of(row).tolist()}

    def _input_files(self, row: int) -> dict[uuid.UUID, FileRecord]:
        """Return where the inputs are stored: as recorded, or where this graph's quanta put them."""
        graph = self.graph
        files: dict[uuid.UUID, FileRecord] = {}
        for dataset_row in dict.fromkeys(graph.inputs_of.of(row).tolist()):
            ref = graph.ref(dataset_row)
            files[ref.id] = graph.file_record(dataset_row) or self.datastore.predicted_record(ref)
        return files

    def _without_missing_inputs(self, attempt: _Attempt, connections: Any) -> Quantum:
        """Return the quantum without inputs that were not written after all, adjusted by its task.

        Raises
        ------
        NoWorkFound
            If what is left is too little.
        """
        graph, quantum = self.graph, attempt.quantum
        missing: set[uuid.UUID] = set()
        for dataset_row in graph.inputs_of.of(attempt.row).tolist():
            if int(graph.producer[dataset_row]) in attempt.doubtful:
                ref = graph.ref(dataset_row)
                if not self.datastore.exists(self.datastore.predicted_record(ref).path):
                    missing.add(ref.id)
        if not missing:
            return quantum
        inputs: dict[str, Sequence[DatasetRef]] = {
            name: [r for r in refs if r.id not in missing]
            for name, refs in quantum.inputs_by_connection.items()
        }
        known = connections.allConnections
        adjusted, _ = connections.adjustQuantum(
            {name: (known[name], refs) for name, refs in inputs.items()},
            {n: (known[n], refs) for n, refs in quantum.outputs_by_connection.items() if n in known},
            quantum.taskLabel,
            quantum.dataId,
        )
        inputs |= {name: list(refs) for name, (_, refs) in adjusted.items()}
        return replace(quantum, inputs_by_connection=inputs)

    # -- tasks

    def _task(self, columns: TaskColumns) -> tuple[PipelineTask, Any]:
        """Return the task object of this thread and its connections."""
        known: dict[str, tuple[PipelineTask, Any]] = self._local.__dict__
        found = known.get(columns.label)
        if found is None:
            found = known[columns.label] = self._make_task(columns)
        return found

    def _make_task(self, columns: TaskColumns) -> tuple[PipelineTask, Any]:
        task_class = import_task_class(columns.task_class_name)
        config = config_of_text(task_class, columns.config_text)
        init_inputs = {
            d.connection: self.datastore.get(d.file or self.datastore.predicted_record(d.ref), d.ref)
            for d in self.graph.init_inputs
            if d.label == columns.label
        }
        task = task_class(config=config, initInputs=init_inputs)
        return task, config.ConnectionsClass(config=config)


def _failure(report: QuantumReport, error: BaseException) -> QuantumReport:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else dotted_name(kind)
    return replace(
        report,
        status="failure",
        error_type=clean_text(name),
        error_message=text_of_error(error),
        error_traceback=traceback_of_error(error),
    )


def _is_interrupt(error: BaseException) -> bool:
    """Return whether an error is the user's Ctrl-C, maybe in disguise.

    An interrupt that arrives inside compiled code comes out of it as a `SystemError` that carries it. Python
    gives the user's interrupts to the main thread; in another one (a worker's) it is a task that raised it.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    known: set[int] = set()
    seen: BaseException | None = error
    while seen is not None and id(seen) not in known:
        if isinstance(seen, KeyboardInterrupt):
            return True
        known.add(id(seen))  # a chain may be made to end in itself
        seen = seen.__cause__ or seen.__context__
    return False
