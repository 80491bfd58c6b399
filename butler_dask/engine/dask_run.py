"""Runs a graph on a Dask cluster: plugins in, windows of tasks, wait, drain, plugins out.

The client holds no state of the run; scheduler and workers do. It submits windows of Dask tasks, at most
three in flight, and lets finished ones go so that the scheduler forgets them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed import LocalCluster
from distributed.client import FuturesCancelledError

from ..errors import ButlerDaskError
from .cluster import Workers
from .dask_graph import Key
from .distributed_private import n_workers_known, wait_watched
from .run_ledger import QuantumFailure
from .run_request import RunRequest
from .run_summary import RunEnd
from .scheduler_plugin import (
    ButlerSchedulerPlugin,
    drain_on_scheduler,
    progress_of_message,
    progress_topic,
)
from .worker_plugin import ButlerWorkerPlugin, PlanLocation, log_topic, stop_on_worker

if TYPE_CHECKING:
    from dask.task_spec import Task
    from distributed import Client, Future

_LOG = logging.getLogger("butler_dask.execution")

WINDOWS_IN_FLIGHT = 3
"""Windows of Dask tasks the scheduler holds at a time."""
ROUNDS = 5
"""How often quanta left over by tasks that died are submitted again."""
_CHECK_S = 0.5
"""How often it is looked whether the cluster is still there [s]."""
_SCHEDULER_SILENCE_S = 2.0
"""How long a scheduler whose connection broke is waited for [s]."""


def run_on_dask(request: RunRequest, workers: Workers) -> RunEnd:
    """Run a graph on a Dask cluster.

    Parameters
    ----------
    request : `RunRequest`
        What to run; scheduler and workers open the repository under the same root, and read its copy of the
        plan.
    workers : `Workers`
        Where quanta run.

    Returns
    -------
    end : `RunEnd`
        How it ended.

    Raises
    ------
    ButlerDaskError
        If outputs could not be recorded, or the scheduler is gone.
    """
    files = request.files
    location = PlanLocation(
        replace(files, root=str(Path(files.root).absolute())),
        request.claim,
        request.repository.datastore,
        request.settings,
        _log_levels(),
        own_workers=workers.are_ours,
    )
    with workers.connected() as connected:
        run = _DaskRun(connected, request, location)
        with connected.as_current(), run.plugins():
            return run.run()


class _DaskRun:
    """One run on one cluster, seen from the client."""

    def __init__(self, client: Client, request: RunRequest, location: PlanLocation) -> None:
        self._client, self._request, self._location = client, request, location
        self._dask_graph, self._files = request.dask_graph, location.files
        self._stopped = ""
        self._in_flight: deque[list[Future]] = deque()
        self._scheduler_gone = False
        self._heard_s = self._workers_s = time.monotonic()

    @contextmanager
    def plugins(self) -> Iterator[None]:
        """Have the plugins registered, and hear of progress and log lines, inside the block."""
        client, location = self._client, self._location
        with ExitStack() as stack:
            topic = progress_topic(self._files.plan_id)
            client.subscribe_topic(topic, self._take_event)
            stack.callback(client.unsubscribe_topic, topic)
            lines = log_topic(self._files.plan_id)
            client.subscribe_topic(lines, _handle_line)
            stack.callback(client.unsubscribe_topic, lines)
            client.register_plugin(
                ButlerSchedulerPlugin(location, self._dask_graph.run_tag, self._request.fail_fast)
            )
            stack.callback(_taken_back, client.unregister_scheduler_plugin, location.topic)
            client.register_plugin(ButlerWorkerPlugin(location))
            stack.callback(_taken_back, client.unregister_worker_plugin, location.topic)
            try:
                yield
            except BaseException:
                if location.own_workers or self._scheduler_gone:
                    # They end with their cluster, in a moment; what they are at needs the plugins until then.
                    stack.pop_all()
                raise

    def run(self) -> RunEnd:
        """Submit all windows and wait; return how the run ended."""
        try:
            for part in self._dask_graph.windows(self._request.window):
                n_ended = part.index - len(self._in_flight)
                while self._in_flight and (
                    len(self._in_flight) >= WINDOWS_IN_FLIGHT or n_ended <= part.after
                ):
                    self._wait_for_oldest()
                    n_ended += 1
                if self._stopped:
                    break
                unusable = frozenset(self._drain(close=False)["unusable"] if part.after >= 0 else ())
                self._submit(*self._dask_graph.tasks(part.clusters, unusable))
            while self._in_flight:
                self._wait_for_oldest()
            self._run_left_over()
            if self._stopped:
                self._stop_workers(wait=True)
        except BaseException:
            if self._scheduler_gone:
                raise
            self._cancel()
            self._stop_workers(wait=False)
            self._drain(close=True)
            raise
        return self._run_end(self._drain(close=True))

    def _run_left_over(self) -> None:
        """Submit again what tasks that died left undone, quantum by quantum."""
        before = -1
        for attempt in range(1, ROUNDS + 1):
            if self._stopped:
                return
            state = self._drain(close=False)
            rows = np.array(state["unfinished"], dtype=np.int64)
            if not len(rows) or len(rows) == before:
                return
            before = len(rows)
            _LOG.info("%d quanta were left over by tasks that died; they are run again", len(rows))
            self._submit(*self._dask_graph.tasks_of_rows(rows, attempt, frozenset(state["unusable"])))
            while self._in_flight:
                self._wait_for_oldest()

    def _submit(self, tasks: dict[Key, Task], sinks: list[Key]) -> None:
        self._in_flight.append(self._client.get(tasks, sinks, sync=False))

    def _wait_for_oldest(self) -> None:
        futures = self._in_flight[0]
        try:
            self._client.sync(wait_watched, futures, self._check_cluster, _CHECK_S)
        except FuturesCancelledError as error:
            # A client that has lost its scheduler gives its futures up at once.
            self._scheduler_gone = self._client.status != "running"
            if not self._stopped or self._scheduler_gone:
                what = "is gone" if self._scheduler_gone else f"dropped it ({len(futures)} Dask tasks)"
                raise self._ended_by(what) from error
        self._in_flight.popleft()

    def _ended_by(self, what: str) -> ButlerDaskError:
        return ButlerDaskError(
            f"The Dask scheduler of the run {self._files.run!r} {what}. What had finished is kept; the same "
            "command with --extend-run runs the rest."
        )

    def _check_cluster(self) -> None:
        """Raise if the scheduler is gone, or if there have been no workers for too long."""
        now = time.monotonic()
        if self._client.status == "running":
            self._heard_s = now
        elif now - self._heard_s > _SCHEDULER_SILENCE_S:
            self._scheduler_gone = True
            raise self._ended_by("is gone")
        cluster = self._client.cluster
        if isinstance(cluster, LocalCluster) and n_workers_known(self._client) < len(cluster.worker_spec):
            # A worker killed while it starts is not started again by its nanny, but by the cluster if asked.
            cluster.scale(len(cluster.worker_spec))
        limit_s = self._request.worker_timeout_s
        if n_workers_known(self._client):
            self._workers_s = now
        elif limit_s is not None and now - self._workers_s > limit_s:
            raise ButlerDaskError(
                f"The Dask cluster has had no workers for {limit_s:g} s (--worker-timeout); the run "
                f"{self._files.run!r} is ended. What had finished is kept; the same command with "
                "--extend-run runs the rest."
            )

    def _cancel(self) -> None:
        for futures in self._in_flight:
            self._client.cancel(futures)
        self._in_flight.clear()

    def _stop_workers(self, wait: bool) -> None:
        self._client.run(stop_on_worker, self._files.plan_id, wait, on_error="ignore")

    def _drain(self, close: bool) -> dict[str, Any]:
        state: dict[str, Any] = self._client.run_on_scheduler(
            drain_on_scheduler, plan_id=self._files.plan_id, close=close
        )
        return state

    def _run_end(self, state: Mapping[str, Any]) -> RunEnd:
        if state["recording_error"] or state["hook_errors"]:
            raise ButlerDaskError(
                f"Outputs of run {self._files.run!r} could not all be recorded: "
                f"{state['recording_error'] or state['hook_errors'][0]}. The files are kept; the same "
                "command with --extend-run records them."
            )
        failures = [QuantumFailure(*f) for f in state["failures"]]
        return RunEnd(state["counts"], failures, state["adopted"], self._stopped)

    async def _take_event(self, event: tuple[float, Any]) -> None:
        """Take an event of the scheduler plugin; runs on the client's event loop."""
        _, message = event
        if "stop" in message:
            self._stopped = self._stopped or str(message["stop"])
            for futures in list(self._in_flight):
                await self._client.cancel(futures, asynchronous=True)
        elif self._request.progress is not None:
            self._request.progress(progress_of_message(message))


def _taken_back(unregister: Callable[[str], Any], name: str) -> None:
    """Take a plugin back; that a worker is lost meanwhile does not make a finished run a failed one."""
    try:
        unregister(name)
    except Exception as error:
        _LOG.debug("Plugin %s is not taken back: %r", name, error)


def _handle_line(event: tuple[float, Mapping[str, Any]]) -> None:
    """Handle a log line of a worker as one of this process."""
    record = logging.makeLogRecord(dict(event[1]))
    logging.getLogger(record.name).handle(record)


def _log_levels() -> dict[str, int]:
    """Return the levels that are set in this process, for the workers to take over.

    A logger of a class of its own is made by its package when that is imported, and a plain one that is there
    before breaks the import (astropy).
    """
    levels = {"": logging.getLogger().level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if type(logger) is logging.Logger and logger.level and not name.startswith(("distributed", "dask")):
            levels[name] = logger.level
    return levels
