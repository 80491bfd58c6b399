"""OpenPlan: what a process holds while it runs quanta, and `run_cluster`, the body of every Dask task.

Tasks name their plan by its id; each process opens a plan once (a worker by `ButlerWorkerPlugin`, a local
run by `execution`). The same function runs under ``sync``, ``threads`` and on a cluster; only the
`Reporter` differs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..errors import ButlerDaskError
from .hand_over import HandOver
from .journal import Journal
from .quantum_report import QuantumReport
from .quantum_runner import QuantumRunner

if TYPE_CHECKING:
    from ..graph.quantum_graph import QuantumGraph

Token: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""What a Dask task returns: rows of its quanta that dependents must not use (failed, blocked, not run), and
rows that did not write all their outputs. Mostly both are empty."""


class Reporter(Protocol):
    """Where a process says what happens."""

    def started(self, row: int) -> None:
        """Say that a quantum begins."""
        ...

    def ended(self, report: QuantumReport) -> None:
        """Say how a quantum ended."""
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
    journal : `Journal`, optional
        Where successes are written down.
    """

    def __init__(
        self, graph: QuantumGraph, runner: QuantumRunner, reporter: Reporter, journal: Journal | None = None
    ) -> None:
        self.graph, self.runner, self.reporter, self.journal = graph, runner, reporter, journal
        self.stopping = threading.Event()
        """Set when no further quantum is to be started."""
        self.n_running = 0
        """Number of Dask tasks this process is at."""
        self._lock = threading.Lock()

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
                if self.journal is not None:
                    self.journal.append(report)
            self.reporter.ended(report)
            if hand_over is not None:
                hand_over.quantum_done(row)
        own = set(rows)
        return tuple(sorted(unusable & own)), tuple(sorted(doubtful & own))

    def close(self) -> None:
        """Close the journal."""
        if self.journal is not None:
            self.journal.close()


_open: dict[str, OpenPlan] = {}


def keep_open(plan: OpenPlan) -> None:
    """Make a plan known to `run_cluster` in this process."""
    _open[plan.graph.plan_id] = plan


def find_open(plan_id: str) -> OpenPlan | None:
    """Return a plan that is open in this process, or `None`."""
    return _open.get(plan_id)


def let_go(plan_id: str) -> None:
    """Close a plan, if it is open in this process."""
    plan = _open.pop(plan_id, None)
    if plan is not None:
        plan.close()


@contextmanager
def opened(plan: OpenPlan) -> Iterator[OpenPlan]:
    """Make a plan known to `run_cluster` inside the block."""
    keep_open(plan)
    try:
        yield plan
    finally:
        let_go(plan.graph.plan_id)


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
