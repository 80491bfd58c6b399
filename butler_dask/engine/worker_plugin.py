"""ButlerWorkerPlugin: opens the graph and the datastore once a Dask worker."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from ..errors import RepositoryError
from ..graph.graph_file import read_graph
from .clean_text import clean_text
from .distributed_private import add_to_task_metadata
from .journal import PlanFiles
from .log_capture import LogCapture
from .open_plan import find_open, opened
from .quantum_report import QuantumReport
from .run_settings import RunSettings
from .start_marks import StartMarks

_SENT = (
    *(
        "name",
        "levelno",
        "levelname",
        "created",
        "msecs",
        "relativeCreated",
        "pathname",
        "filename",
        "module",
    ),
    *("lineno", "funcName", "process", "processName", "thread", "threadName", "exc_text", "quantum"),
)
"""What of a log record goes to the client."""

if TYPE_CHECKING:
    from distributed import Worker

    from ..datastore.datastore import Datastore
    from ..registry import RunClaim


@dataclass(frozen=True, slots=True)
class PlanLocation:
    """Where workers and scheduler find a plan.

    Parameters
    ----------
    files : `PlanFiles`
        Its copy and journals, under the root as they see it.
    claim : `RunClaim`
        That the process that started the run writes it.
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

    files: PlanFiles
    claim: RunClaim
    datastore: Datastore
    settings: RunSettings
    log_levels: Mapping[str, int] = field(default_factory=dict)
    own_workers: bool = False

    @property
    def topic(self) -> str:
        """Topic of the events workers send to the scheduler."""
        return f"butler-{self.files.plan_id}"


class DaskReporter:
    """Tells the scheduler: starts at once by an event, ends with the completion of the Dask task.

    Parameters
    ----------
    worker : `distributed.Worker`
        This worker.
    topic : `str`
        Topic of the plan's events.
    marks : `StartMarks`
        What of it is left if the worker dies.
    """

    def __init__(self, worker: Worker, topic: str, marks: StartMarks) -> None:
        self._worker, self._topic, self._marks = worker, topic, marks

    def started(self, row: int) -> None:
        """Say that a quantum begins.

        Parameters
        ----------
        row : `int`
            Row of the quantum.
        """
        with suppress(OSError):  # a full disk; then the event must do
            self._marks.set(row)
        self._worker.log_event(self._topic, {"action": "started", "row": row, "slot": threading.get_ident()})

    def ended(self, report: QuantumReport) -> None:
        """Say how a quantum ended.

        Parameters
        ----------
        report : `QuantumReport`
            How.
        """
        add_to_task_metadata(report.to_message())
        with suppress(OSError):
            self._marks.set()


class _LogForwarder(logging.Handler):
    """Sends the log lines of a plan to the client that runs it.

    Dask's own forwarding is one for a cluster: the first of two clients to finish ends it for both.
    """

    def __init__(self, worker: Worker, topic: str, capture: LogCapture) -> None:
        super().__init__()
        self._worker, self._topic, self._capture = worker, topic, capture

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line, unless it is of another plan or came from here."""
        if not self._capture.is_ours(record) or hasattr(record, "worker"):
            return
        values = {name: getattr(record, name, None) for name in _SENT}
        line = {name: clean_text(v) if isinstance(v, str) else v for name, v in values.items()}
        self._worker.log_event(self._topic, line | {"msg": record.getMessage(), "args": None})

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand on the root logger inside the block."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)


def log_topic(plan_id: str) -> str:
    """Return the topic clients hear the log lines of a run on.

    Parameters
    ----------
    plan_id : `str`
        Which plan.

    Returns
    -------
    topic : `str`
        For `distributed.Client.subscribe_topic`.
    """
    return f"butler-log-{plan_id}"


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

        Parameters
        ----------
        worker : `distributed.Worker`
            The worker it is registered with.

        Raises
        ------
        RepositoryError
            If this host does not see the repository.
        """
        location, files = self.location, self.location.files
        if location.own_workers and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # While it ends, lines that can no longer be sent are dropped, not printed bare.
            logging.lastResort = logging.NullHandler()
        for name, level in location.log_levels.items():
            logging.getLogger(name or None).setLevel(level)
        try:
            graph = read_graph(files.copy, check=False)
        except OSError as error:
            raise RepositoryError(
                f"Worker {worker.address} cannot read the plan {str(files.copy)!r}: {error}. The repository "
                "must be on a file system that all workers see under the same path."
            ) from error
        marks = StartMarks(files.start_marks(worker.address))
        self._stack.callback(marks.close)
        reporter = DaskReporter(worker, location.topic, marks)
        plan = self._stack.enter_context(
            opened(graph, location.datastore, files.root, location.settings, reporter)
        )
        forwarder = _LogForwarder(worker, log_topic(files.plan_id), plan.runner.capture)
        self._stack.enter_context(forwarder.installed())

    def teardown(self, worker: Worker) -> None:
        """Close it.

        Parameters
        ----------
        worker : `distributed.Worker`
            As for `setup`.
        """
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
