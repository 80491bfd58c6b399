"""OpenPlan: what a process holds while it runs quanta, and `run_cluster`, the body of every Dask task.

Tasks name their plan by its id; each process opens a plan once (a worker by `ButlerWorkerPlugin`, a local
run by `execution`). The same function runs under ``sync``, ``threads`` and on a cluster; only the
`Reporter` differs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..errors import ButlerDaskError
from .hand_over import HandOver
from .journal import Journal, PlanFiles
from .log_capture import LogCapture
from .quantum_report import QuantumReport
from .quantum_runner import QuantumRunner
from .run_settings import RunSettings

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore
    from ..graph.quantum_graph import QuantumGraph

_LOG = logging.getLogger("butler_dask.execution")

Token: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""What a Dask task returns: rows of its quanta that dependents must not use (failed, blocked, not run), and
rows that did not write all their outputs. Mostly both are empty."""


class Reporter(Protocol):
    """Where a process says what happens."""

    def started(self, row: int) -> None:
        """Say that a quantum begins.

        Parameters
        ----------
        row : `int`
            Row of the quantum.
        """
        ...

    def ended(self, report: QuantumReport) -> None:
        """Say how a quantum ended.

        Parameters
        ----------
        report : `QuantumReport`
            How.
        """
        ...


class OpenPlan:
    """A graph with all that is needed to run its quanta in this process.

    Parameters
    ----------
    graph : `QuantumGraph`
        The plan.
    runner : `QuantumRunner`
        Runs one quantum.
    reporter : `Reporter`
        Told of starts and ends.
    journal : `Journal`
        Where successes are written down.
    """

    def __init__(
        self, graph: QuantumGraph, runner: QuantumRunner, reporter: Reporter, journal: Journal
    ) -> None:
        self.graph, self.runner, self.reporter, self.journal = graph, runner, reporter, journal
        self.stopping = threading.Event()
        """Set when no further quantum is to be started."""
        self.n_running = 0
        """Number of Dask tasks this process is at."""
        self._lock = threading.Lock()
        self._said_journal = False

    def run(self, rows: Sequence[int], tokens: Iterable[Token]) -> Token:
        """Run the quanta of one Dask task in order.

        Parameters
        ----------
        rows : sequence of `int`
            Rows of the quanta, predecessors first.
        tokens : iterable of `Token`
            What the tasks this one waited for returned.

        Returns
        -------
        token : `Token`
            For the tasks that wait for this one.
        """
        with self._lock:
            self.n_running += 1
        try:
            return self._run(rows, tokens)
        finally:
            with self._lock:
                self.n_running -= 1

    def _run(self, rows: Sequence[int], tokens: Iterable[Token]) -> Token:
        unusable: set[int] = set()
        doubtful: set[int] = set()
        for failed, partial in tokens:
            unusable.update(failed)
            doubtful.update(partial)
        hand_over = HandOver(self.graph, rows) if len(rows) > 1 else None
        for row in rows:
            if self.stopping.is_set():
                unusable.add(row)
                continue
            if unusable and not unusable.isdisjoint(self.graph.predecessors(row).tolist()):
                unusable.add(row)
                continue
            self.reporter.started(row)
            report = self.runner.run(row, doubtful=doubtful, hand_over=hand_over)
            if not report.succeeded:
                unusable.add(row)
            else:
                if not report.complete:
                    doubtful.add(row)
                self._note(report)
            self.reporter.ended(report)
            if hand_over is not None:
                hand_over.quantum_done(row)
        own = set(rows)
        return tuple(sorted(unusable & own)), tuple(sorted(doubtful & own))

    def _note(self, report: QuantumReport) -> None:
        """Write a success into the journal; a disk that does not take it costs no finished quantum."""
        try:
            self.journal.append(report)
        except OSError as error:
            if not self._said_journal:
                _LOG.warning(
                    "The journal %s cannot be written: %s. The run goes on. What it finishes is recorded "
                    "all the same; if it is killed, --extend-run finds it by its files.",
                    self.journal.path,
                    error,
                )
            self._said_journal = True


_open: dict[str, OpenPlan] = {}


def find_open(plan_id: str) -> OpenPlan | None:
    """Return a plan that is open in this process, or `None`.

    Parameters
    ----------
    plan_id : `str`
        Which plan.

    Returns
    -------
    plan : `OpenPlan` or `None`
        As `opened` yields it.
    """
    return _open.get(plan_id)


@contextmanager
def opened(
    graph: QuantumGraph, datastore: Datastore, root: str, settings: RunSettings, reporter: Reporter
) -> Iterator[OpenPlan]:
    """Make a plan known to `run_cluster` inside the block.

    Parameters
    ----------
    graph : `QuantumGraph`
        The plan.
    datastore : `Datastore`
        Where datasets are.
    root : `str`
        Root of the repository, where the journal goes.
    settings : `RunSettings`
        How its quanta are run.
    reporter : `Reporter`
        Told of starts and ends.

    Yields
    ------
    plan : `OpenPlan`
        With the log lines of its quanta captured.
    """
    files = PlanFiles.of(root, graph)
    journal = Journal(files.own_journal, fsync=datastore.durability == "fsync")
    with LogCapture().installed() as capture:
        runner = QuantumRunner(graph, datastore, capture, settings, files.copy)
        plan = OpenPlan(graph, runner, reporter, journal)
        _open[graph.plan_id] = plan
        try:
            yield plan
        finally:
            # Two workers of one process may have opened it; each takes back its own.
            if _open.get(graph.plan_id) is plan:
                del _open[graph.plan_id]
            journal.close()


def run_cluster(plan_id: str, rows: tuple[int, ...], *tokens: Token) -> Token:
    """Run some quanta of a plan; the function every Dask task calls.

    Parameters
    ----------
    plan_id : `str`
        Which plan; this process must have it open.
    rows : `tuple` [`int`, ...]
        Rows of the quanta, predecessors first.
    *tokens : `Token`
        Results of the tasks before.

    Returns
    -------
    token : `Token`
        For the tasks that wait for this one.

    Raises
    ------
    ButlerDaskError
        If the plan is not open here.
    """
    plan = find_open(plan_id)
    if plan is None:
        raise ButlerDaskError(
            f"Plan {plan_id} is not open in this process; its worker plugin was not set up or is gone."
        )
    return plan.run(rows, tokens)
