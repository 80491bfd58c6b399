"""ButlerSchedulerPlugin: hears from quanta on Dask's scheduler and hands on to the recorder.

Hooks run on the scheduler's event loop, so they only put events in a queue; the recorder's thread does the
rest. Successes and failures arrive with the completion of a Dask task, as its metadata; starts arrive as
events. When a worker dies the plugin takes Dask's blame back from the tasks that were only queued on it,
and fails the quantum that was running at its third strike.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

from ..butler.open_repository import OpenRepository
from ..errors import QuantumExecutionError, QuantumTimeoutError
from ..graph.graph_file import read_graph
from ..vocabulary.dotted_name import dotted_name
from .clean_text import clean_text
from .distributed_private import (
    fail_at_next_death,
    fail_task,
    pardon_queued_tasks,
    restart_worker,
    rows_of_task,
    take_task_metadata,
    task_state,
    tasks_at_worker,
)
from .quantum_report import QuantumReport
from .recorder import Progress, Recorder
from .run_ledger import QuantumFailure, QuantumGivenUp, QuantumStarted, StrikeBook
from .start_marks import StartMarks
from .worker_plugin import PlanLocation

if TYPE_CHECKING:
    from distributed import Scheduler

    from .dask_graph import Key

_LOG = logging.getLogger("butler_dask.scheduler")


class ButlerSchedulerPlugin(SchedulerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Records a run from the scheduler's side.

    Parameters
    ----------
    location : `PlanLocation`
        The plan; the scheduler's host must see the repository.
    run_tag : `str`
        Ending of the keys' first element, by which the plugin knows its tasks.
    fail_fast : `bool`
        Whether the first failure stops the run.

    Notes
    -----
    An error in a hook is swallowed by Dask; hooks therefore catch, count and report them (`hook_errors`).
    """

    def __init__(self, location: PlanLocation, run_tag: str, fail_fast: bool = False) -> None:
        self.name = location.topic
        self.location, self.run_tag, self.fail_fast = location, run_tag, fail_fast
        self.hook_errors: list[str] = []
        self._finished = False

    async def start(self, scheduler: Scheduler) -> None:
        """Open the plan and the registry, start the recorder.

        Parameters
        ----------
        scheduler : `distributed.Scheduler`
            The scheduler it is registered with.
        """
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._book = StrikeBook()
        self._stack = ExitStack()
        self._watching: set[asyncio.Task[None]] = set()
        if self.location.settings.longest_s is not None:
            self._in_background(self._end_overdue(self.location.settings.longest_s))
        self.recorder = await asyncio.to_thread(self._open)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._watching.add(task)  # the loop itself keeps none alive
        task.add_done_callback(self._watching.discard)

    async def _end_overdue(self, longest_s: float) -> None:
        """Fail quanta that are stuck in a call past their time limit, and end their workers."""
        while not self._finished:
            await asyncio.sleep(min(longest_s / 10, 0.5))
            try:
                for worker, row in self._book.overdue(time.monotonic(), longest_s):
                    self._end_worker_of(worker, row)
            except Exception as error:
                self._hook_failed(error)

    def _end_worker_of(self, worker: str, row: int) -> None:
        keys = [k for k in tasks_at_worker(self._scheduler, worker) if self._is_ours(k)]
        found = [k for k in keys if row in rows_of_task(self._scheduler, k)]
        self._book.ended(worker, row)
        if not found:  # it has ended, and the worker is at something else
            return
        error = QuantumTimeoutError(
            f"The quantum took longer than the {self.location.settings.timeout_s:g} s of --timeout, in a "
            "call that could not be ended; its worker was."
        )
        _LOG.warning("Worker %s is ended: quantum %d is over its time limit", worker, row)
        self.recorder.put(QuantumGivenUp(row, dotted_name(QuantumTimeoutError), str(error)))
        for key in found:
            fail_task(self._scheduler, key, worker, error)
        self._in_background(restart_worker(self._scheduler, worker))

    def _open(self) -> Recorder:
        graph = read_graph(self.location.files.copy, check=False)
        repository = OpenRepository.open(self.location.files.root, writeable=True)
        self._stack.callback(repository.close)
        return Recorder(
            graph,
            repository.registry,
            self.location.claim,
            fail_fast=self.fail_fast,
            on_progress=self._on_progress,
            on_stop=self._on_stop,
        ).start()

    async def finish(self) -> dict[str, Any]:
        """Write all that has arrived, end the recorder; return the state of the run as plain values.

        Returns
        -------
        state : `dict`
            As `state`.
        """
        # Workers that go away from now on are not lost to the run.
        self._finished = True
        await asyncio.to_thread(self._close)
        return self.state()

    async def drain(self) -> dict[str, Any]:
        """Write all that has arrived; return the state of the run as plain values.

        Returns
        -------
        state : `dict`
            As `state`.
        """
        await asyncio.to_thread(self._drain)
        return self.state()

    def _drain(self) -> None:
        try:
            self.recorder.drain()
        except Exception as error:
            _LOG.debug("drain: %r", error)

    def _close(self) -> None:
        try:
            self.recorder.close()
        except Exception as error:
            _LOG.debug("close: %r", error)
        self._stack.close()

    def state(self) -> dict[str, Any]:
        """Return the state of the run as plain values.

        Returns
        -------
        state : `dict`
            What `progress_message` has, rows of quanta that are ``unfinished`` and ``unusable``, the numbers
            ``adopted`` and of ``transactions``, and what went wrong in recording (``recording_error``,
            ``hook_errors``).
        """
        message = progress_message(self.recorder.progress())
        error = self.recorder.error
        return message | {
            "unfinished": self.recorder.ledger.unfinished().tolist(),
            "unusable": self.recorder.ledger.unusable().tolist(),
            "adopted": self.recorder.ledger.adopted,
            "transactions": self.recorder.transactions,
            "recording_error": "" if error is None else f"{type(error).__name__}: {error}",
            "hook_errors": list(self.hook_errors),
        }

    async def before_close(self) -> None:
        """Write all that has arrived before the scheduler ends."""
        await asyncio.to_thread(self._close)

    # -- hooks

    def log_event(self, topic: str, msg: Any) -> None:
        """Take note of starts, and of workers that died.

        Parameters
        ----------
        topic : `str`
            Where the event was logged.
        msg : object
            The event.
        """
        if self._finished:
            return
        try:
            if topic == self.location.topic and msg.get("action") == "started":
                worker, row = msg["worker"], int(msg["row"])
                self._book.started(worker, row, int(msg["slot"]), time.monotonic())
                self.recorder.put(QuantumStarted(row, worker))
            elif topic == "all" and isinstance(msg, dict) and msg.get("action") == "remove-worker":
                self._worker_removed(msg["worker"], msg["processing-tasks"], msg["expected"])
        except Exception as error:
            self._hook_failed(error)

    def transition(
        self, key: Key, start: str, finish: str, *args: Any, stimulus_id: str, **kwargs: Any
    ) -> None:
        """Take the reports of a Dask task that ended.

        Parameters
        ----------
        key : key
            The Dask task.
        start : `str`
            State it leaves.
        finish : `str`
            State it enters.
        *args : object
            Further ones of Dask's, not looked at.
        stimulus_id : `str`
            Dask's name of the cause, not looked at.
        **kwargs : object
            Dask's details: ``metadata`` and ``worker`` of a success, ``exception_text`` of a failure.
        """
        if start != "processing" or finish not in ("memory", "erred") or not self._is_ours(key):
            return
        try:
            if finish == "memory":
                for message in take_task_metadata(self._scheduler, key, kwargs.get("metadata")):
                    report = QuantumReport.from_message(message)
                    self._book.ended(kwargs["worker"], report.row)
                    self.recorder.put(report)
            else:
                self._task_failed(key, kwargs)
        except Exception as error:
            self._hook_failed(error)

    def _task_failed(self, key: Key, details: Mapping[str, Any]) -> None:
        """Fail the quantum a Dask task was at: the engine itself failed."""
        text = clean_text(str(details.get("exception_text") or ""))
        if not text or "KilledWorker" in text:
            # Who is to blame for a dead worker `_worker_removed` finds out; the others are run again.
            return
        rows = rows_of_task(self._scheduler, key)
        states = self.recorder.ledger.states
        running = [r for r in self._book.running(details.get("worker") or "") if r in rows]
        guilty = running or [r for r in rows if states[r] < 2][:1] or list(rows[:1])
        for row in guilty:
            self.recorder.put(QuantumGivenUp(row, text.split("(", 1)[0], text))

    def _worker_removed(self, worker: str, keys: Any, expected: bool) -> None:
        ours = [k for k in keys if self._is_ours(k)]
        if expected:
            self._book.forget(worker)
            return
        pardon_queued_tasks(self._scheduler, ours)
        rows_of = {k: rows_of_task(self._scheduler, k) for k in ours}
        for verdict in self._book.worker_died(worker, self._running_at_death(worker, rows_of)):
            _LOG.warning(
                "Worker %s died at quantum %d (%d of %d times)",
                worker,
                verdict.row,
                verdict.strikes,
                self._book.allowed,
            )
            (key,) = [k for k, rows in rows_of.items() if verdict.row in rows][:1]
            if verdict.final:
                self._fail_for_good(key, verdict.row, worker)
            elif verdict.strikes == self._book.allowed - 1:
                fail_at_next_death(self._scheduler, key)

    def _running_at_death(self, worker: str, rows_of: Mapping[Any, Sequence[int]]) -> list[int]:
        """Return the quanta a dead worker was at: by its marks, those that had finished aside."""
        assigned = {row for rows in rows_of.values() for row in rows}
        graph, datastore = self.recorder.graph, self.location.datastore
        running = []
        path = self.location.files.start_marks(worker)
        rows = StartMarks.read(path)
        path.unlink(missing_ok=True)  # a worker of the same address begins anew
        for row in rows:
            if row not in assigned:
                continue
            marker = graph.quantum(row).metadata_ref
            if marker is None or not datastore.exists(datastore.predicted_record(marker).path):
                running.append(row)
        return running

    def _fail_for_good(self, key: Key, row: int, worker: str) -> None:
        text = (
            f"Its worker died {self._book.allowed} times while running it; the last was {worker}. Likely "
            "causes: not enough memory (the metadata datasets of its siblings say what these took at their "
            "peak), or a crash in compiled code."
        )
        self.recorder.put(QuantumGivenUp(row, "KilledWorker", text))
        # Mostly Dask has failed the task by now; one that it gives to another worker is taken back from that.
        self._in_background(self._fail_when_assigned(key, text))

    async def _fail_when_assigned(self, key: Key, text: str) -> None:
        while not self._finished:
            state = task_state(self._scheduler, key)
            if state in ("", "memory", "erred", "released", "forgotten"):
                return
            if state == "processing":
                fail_task(self._scheduler, key, "", QuantumExecutionError(text))
                return
            await asyncio.sleep(0.05)

    def _is_ours(self, key: Any) -> bool:
        return isinstance(key, tuple) and isinstance(key[0], str) and key[0].endswith(self.run_tag)

    def _hook_failed(self, error: Exception) -> None:
        _LOG.exception("Hook of butler_dask failed", exc_info=error)
        self.hook_errors.append(f"{type(error).__name__}: {error}")

    # -- from the recorder's thread

    def _on_progress(self, progress: Progress) -> None:
        self._publish(progress_message(progress))

    def _on_stop(self, reason: str) -> None:
        self._publish({"stop": reason})

    def _publish(self, message: dict[str, Any]) -> None:
        if not self._loop.is_closed():
            topic = progress_topic(self.location.files.plan_id)
            self._loop.call_soon_threadsafe(self._scheduler.log_event, topic, message)


def progress_topic(plan_id: str) -> str:
    """Return the topic clients hear of a run's progress on.

    Parameters
    ----------
    plan_id : `str`
        Which plan.

    Returns
    -------
    topic : `str`
        For `distributed.Client.subscribe_topic`.
    """
    return f"butler-progress-{plan_id}"


def progress_message(progress: Progress) -> dict[str, Any]:
    """Return a progress as plain values.

    Parameters
    ----------
    progress : `Progress`
        How far the run is.

    Returns
    -------
    message : `dict`
        What msgpack takes.
    """
    return {
        "counts": {label: dict(by) for label, by in progress.counts.items()},
        "failures": [[f.row, f.error_type, f.message, f.traceback] for f in progress.failures],
        "elapsed_s": progress.elapsed_s,
        "finished": progress.finished,
    }


def progress_of_message(message: Mapping[str, Any]) -> Progress:
    """Return the progress of a message.

    Parameters
    ----------
    message : mapping
        As `progress_message` makes it.

    Returns
    -------
    progress : `Progress`
        The same.
    """
    return Progress(
        message["counts"],
        tuple(QuantumFailure(*f) for f in message["failures"]),
        message["elapsed_s"],
        message["finished"],
    )


async def drain_on_scheduler(plan_id: str, close: bool, dask_scheduler: Any = None) -> dict[str, Any]:
    """Write all that has arrived of a run; for ``Client.run_on_scheduler``.

    Parameters
    ----------
    plan_id : `str`
        Which run.
    close : `bool`
        Whether it has ended.
    dask_scheduler : `distributed.Scheduler`
        Filled in by Dask.

    Returns
    -------
    state : `dict`
        As `ButlerSchedulerPlugin.state`.
    """
    plugin: ButlerSchedulerPlugin = dask_scheduler.plugins[f"butler-{plan_id}"]
    return await (plugin.finish() if close else plugin.drain())
