"""ButlerWorkerPlugin: opens the graph and the datastore once a Dask worker."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from ..errors import RepositoryError
from ..graph.graph_file import read_graph
from .distributed_private import add_to_task_metadata
from .open_plan import OpenPlan, find_open, keep_open, let_go
from .quantum_report import QuantumReport
from .run_settings import RunSettings, open_runner

if TYPE_CHECKING:
    from distributed import Worker

    from ..datastore.datastore import Datastore


@dataclass(frozen=True, slots=True)
class PlanLocation:
    """Where workers and scheduler find a plan.

    Parameters
    ----------
    root : `str`
        Root of the repository, as they see it.
    path : `str`
        File of the plan.
    plan_id : `str`
        Its identity.
    run : `str`
        RUN collection.
    datastore : `Datastore`
        Where datasets are.
    settings : `RunSettings`
        How to run its quanta.
    log_levels : mapping of `str` to `int`
        Levels by logger name, as they are in the process that started the run.
    own_workers : `bool`
        Whether the workers were started for this run alone. A terminal sends Ctrl-C to them too; such workers
        leave it to the client, which first records what they finished and then ends them.
    """

    root: str
    path: str
    plan_id: str
    run: str
    datastore: Datastore
    settings: RunSettings
    log_levels: Mapping[str, int] = field(default_factory=dict)
    own_workers: bool = False

    @property
    def topic(self) -> str:
        """Topic of the events workers send to the scheduler."""
        return f"butler-{self.plan_id}"


class DaskReporter:
    """Tells the scheduler: starts at once by an event, ends with the completion of the Dask task.

    Parameters
    ----------
    worker : `distributed.Worker`
        This worker.
    topic : `str`
        Topic of the plan's events.
    """

    def __init__(self, worker: Worker, topic: str) -> None:
        self._worker, self._topic = worker, topic

    def started(self, row: int) -> None:
        """Say that a quantum begins."""
        self._worker.log_event(self._topic, {"action": "started", "row": row, "slot": threading.get_ident()})

    def ended(self, report: QuantumReport) -> None:
        """Say how a quantum ended."""
        add_to_task_metadata(report.to_message())


class ButlerWorkerPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Has a plan open on a worker.

    Parameters
    ----------
    location : `PlanLocation`
        Where it is.
    """

    def __init__(self, location: PlanLocation) -> None:
        self.name = location.topic
        self.location = location
        self._stack = ExitStack()

    def setup(self, worker: Worker) -> None:
        """Open the plan.

        Raises
        ------
        RepositoryError
            If this host does not see the repository.
        """
        location = self.location
        if location.own_workers and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # While it ends, lines that can no longer be sent are dropped, not printed bare.
            logging.lastResort = logging.NullHandler()
        for name, level in location.log_levels.items():
            logging.getLogger(name or None).setLevel(level)
        try:
            graph = read_graph(location.path)
        except OSError as error:
            raise RepositoryError(
                f"Worker {worker.address} cannot read the plan {location.path!r}: {error}. The repository "
                "must be on a file system that all workers see under the same path."
            ) from error
        stack = ExitStack()
        runner, journal = open_runner(graph, location.datastore, location.root, location.settings, stack)
        reporter = DaskReporter(worker, location.topic)
        keep_open(OpenPlan(graph, runner, reporter, journal))
        stack.callback(let_go, location.plan_id)
        self._stack = stack

    def teardown(self, worker: Worker) -> None:
        """Close it."""
        self._stack.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "location": self.location}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._stack = ExitStack()


async def stop_on_worker(plan_id: str, wait: bool) -> None:
    """Start no further quantum of a plan on this worker; for ``Client.run``.

    Parameters
    ----------
    plan_id : `str`
        Which plan.
    wait : `bool`
        Whether to return only when the quanta it is at have ended.
    """
    plan = find_open(plan_id)
    if plan is None:
        return
    plan.stopping.set()
    while wait and plan.n_running:
        await asyncio.sleep(0.02)
