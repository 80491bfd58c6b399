"""RunLedger: the bookkeeping of a run. Events go in, instructions come out; it does nothing itself.

No clock, thread, file or event loop is in here, so every rule (what is recorded, who is blocked, when a run
stops, which quantum a dead worker is blamed on) is tested with plain values. Shells feed it: `Recorder` in
the process that writes the registry, `ButlerSchedulerPlugin` on a cluster.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .quantum_report import QuantumReport

STRIKES_ALLOWED = 3
"""Workers a quantum may take down before it is failed."""


class QuantumState(enum.IntEnum):
    """Where a quantum stands in a run."""

    WAITING = 0
    RUNNING = 1
    SUCCEEDED = 2
    NO_WORK = 3
    FAILED = 4
    BLOCKED = 5
    """It needs outputs of one that failed; it is never run."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it in this run."""
        return self >= QuantumState.SUCCEEDED


# -- events


@dataclass(frozen=True, slots=True)
class QuantumStarted:
    """A worker begins a quantum.

    Parameters
    ----------
    row : `int`
        Row in the graph.
    worker : `str`
        Address of the worker; empty in a local run.
    """

    row: int
    worker: str = ""


@dataclass(frozen=True, slots=True)
class QuantumGivenUp:
    """A quantum ended without a report: its worker died, or the executor dropped it.

    Parameters
    ----------
    row : `int`
        Row in the graph.
    error_type : `str`
        Name of what is held to have gone wrong.
    message : `str`
        What is known of it.
    """

    row: int
    error_type: str
    message: str


Event: TypeAlias = QuantumStarted | QuantumReport | QuantumGivenUp

# -- instructions


@dataclass(frozen=True, slots=True)
class WriteReport:
    """Write the datasets and the quantum of a report to the registry.

    Parameters
    ----------
    report : `QuantumReport`
        What to write.
    """

    report: QuantumReport


@dataclass(frozen=True, slots=True)
class StopRun:
    """Start no further quantum.

    Parameters
    ----------
    reason : `str`
        Why, for people.
    """

    reason: str


Instruction: TypeAlias = WriteReport | StopRun


@dataclass(frozen=True, slots=True)
class QuantumFailure:
    """A quantum that failed, for people.

    Parameters
    ----------
    row : `int`
        Row in the graph.
    error_type, message, traceback : `str`
        What was raised.
    """

    row: int
    error_type: str
    message: str
    traceback: str = ""


@dataclass
class RunLedger:
    """State of every quantum of a run.

    Parameters
    ----------
    dependents : `tuple` of `numpy.ndarray`
        ``indptr``, shape (n + 1,), int64, and ``indices``, shape (n edges,), int32: which quanta wait for
        each quantum, as `QuantumGraph.dependent_csr` gives them.
    task_starts : sequence of `int`
        Row of the first quantum of each task, rising; for counts by task.
    fail_fast : `bool`
        Whether the first failure stops the run.
    """

    dependents: tuple[NDArray[np.int64], NDArray[np.int32]]
    task_starts: Sequence[int] = (0,)
    fail_fast: bool = False

    def __post_init__(self) -> None:
        n = len(self.dependents[0]) - 1
        self.states: NDArray[np.int8] = np.zeros(n, dtype=np.int8)
        """`QuantumState` of each quantum, shape (n,), int8."""
        self._task_starts = np.asarray(self.task_starts, dtype=np.int64)
        sizes = np.diff(np.append(self._task_starts, n))
        self.counts: NDArray[np.int64] = np.zeros((len(sizes), len(QuantumState)), dtype=np.int64)
        """Quanta by task and state, shape (n tasks, n states), int64."""
        self.counts[:, QuantumState.WAITING] = sizes
        self.adopted = 0
        """Quanta that an earlier attempt had finished."""
        # By row, so that a success takes the failure before it back without a look at all others.
        self._failures: dict[int, QuantumFailure] = {}

    def __len__(self) -> int:
        return len(self.states)

    @property
    def failures(self) -> list[QuantumFailure]:
        """What failed so far, in order."""
        return list(self._failures.values())

    def state(self, row: int) -> QuantumState:
        """Return the state of a quantum.

        Parameters
        ----------
        row : `int`
            Row in the graph.

        Returns
        -------
        state : `QuantumState`
            Where it stands.
        """
        return QuantumState(int(self.states[row]))

    @property
    def totals(self) -> Mapping[QuantumState, int]:
        """Quanta by state."""
        return {s: int(self.counts[:, s].sum()) for s in QuantumState}

    @property
    def is_finished(self) -> bool:
        """Whether every quantum is in a final state."""
        return not self.counts[:, : QuantumState.SUCCEEDED].any()

    def handle(self, event: Event) -> list[Instruction]:
        """Take note of an event.

        Parameters
        ----------
        event : `QuantumStarted`, `QuantumReport` or `QuantumGivenUp`
            What happened.

        Returns
        -------
        instructions : `list`
            What the shell is to do.

        Notes
        -----
        Events may come twice or late (a worker declared dead may still report; a token lost with a worker is
        made again). The first success counts, and a success after a failure or block counts too: its outputs
        exist, so they are recorded.
        """
        match event:
            case QuantumStarted(row=row):
                if self.states[row] == QuantumState.WAITING:
                    self._move(row, QuantumState.RUNNING)
                return []
            case QuantumReport():
                return self._ended(event)
            case QuantumGivenUp(row=row):
                if self.state(row).is_final:
                    return []
                report = QuantumReport(
                    row, "failure", error_type=event.error_type, error_message=event.message
                )
                return self._ended(report)

    def unfinished(self) -> NDArray[np.int64]:
        """Return the rows of quanta that are not in a final state.

        Returns
        -------
        rows : `numpy.ndarray`, shape (m,), int64
            Rising.
        """
        return np.flatnonzero(self.states < QuantumState.SUCCEEDED)

    def unusable(self) -> NDArray[np.int64]:
        """Return the rows of quanta that failed or are blocked.

        Returns
        -------
        rows : `numpy.ndarray`, shape (m,), int64
            Rising.
        """
        return np.flatnonzero(self.states >= QuantumState.FAILED)

    def _ended(self, report: QuantumReport) -> list[Instruction]:
        row = report.row
        before = self.state(row)
        if before in (QuantumState.SUCCEEDED, QuantumState.NO_WORK):
            return []
        if report.succeeded:
            self.adopted += report.adopted
            self._move(row, QuantumState.NO_WORK if report.status == "no_work" else QuantumState.SUCCEEDED)
            self._failures.pop(row, None)
            return [WriteReport(report)]
        if before == QuantumState.FAILED:
            return []
        self._move(row, QuantumState.FAILED)
        self._failures[row] = QuantumFailure(
            row, report.error_type, report.error_message, report.error_traceback
        )
        self._block_dependents(row)
        instructions: list[Instruction] = [WriteReport(report)]
        if self.fail_fast:
            instructions.append(StopRun(f"{report.error_type}: {report.error_message}"))
        return instructions

    def _block_dependents(self, row: int) -> None:
        indptr, indices = self.dependents
        stack = [row]
        while stack:
            current = stack.pop()
            for dependent in indices[indptr[current] : indptr[current + 1]].tolist():
                if self.states[dependent] in (QuantumState.WAITING, QuantumState.RUNNING):
                    self._move(dependent, QuantumState.BLOCKED)
                    stack.append(dependent)

    def _move(self, row: int, state: QuantumState) -> None:
        task = int(np.searchsorted(self._task_starts, row, side="right")) - 1
        self.counts[task, self.states[row]] -= 1
        self.counts[task, state] += 1
        self.states[row] = state


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is blamed for a dead worker.

    Parameters
    ----------
    row : `int`
        Quantum that was running.
    strikes : `int`
        How many workers it has taken down, this one included.
    final : `bool`
        Whether it is to be failed.
    """

    row: int
    strikes: int
    final: bool


class StrikeBook:
    """Which quantum runs where and since when, and how many workers each has taken down.

    Parameters
    ----------
    allowed : `int`
        Strike at which a quantum is failed.

    Notes
    -----
    Dask blames a worker's death on every task assigned to the worker, those still queued included. Here only
    the quantum that was running gets a strike.
    """

    def __init__(self, allowed: int = STRIKES_ALLOWED) -> None:
        self.allowed = allowed
        self._running: dict[str, dict[int, tuple[int, float]]] = {}
        self._strikes: dict[int, int] = {}

    def started(self, worker: str, row: int, slot: int = 0, now_s: float = 0.0) -> None:
        """Take note that a thread (slot) of a worker begins a quantum, and is done with the one before.

        Parameters
        ----------
        worker : `str`
            Its address.
        row : `int`
            The quantum.
        slot : `int`
            Which of its threads.
        now_s : `float`
            Time on any clock that rises [s].
        """
        self._running.setdefault(worker, {})[slot] = (row, now_s)

    def ended(self, worker: str, row: int) -> None:
        """Take note that a worker is done with a quantum.

        Parameters
        ----------
        worker : `str`
            Its address.
        row : `int`
            The quantum.
        """
        slots = self._running.get(worker, {})
        for slot in [s for s, (r, _) in slots.items() if r == row]:
            del slots[slot]

    def overdue(self, now_s: float, longest_s: float) -> list[tuple[str, int]]:
        """Return the quanta that have run too long, each once.

        Parameters
        ----------
        now_s : `float`
            Time on the clock of `started` [s].
        longest_s : `float`
            How long a quantum may take [s].

        Returns
        -------
        overdue : `list` of (`str`, `int`)
            Worker and row of each.
        """
        found = []
        for worker, slots in self._running.items():
            for slot, (row, since_s) in slots.items():
                if now_s - since_s > longest_s:
                    slots[slot] = (row, float("inf"))
                    found.append((worker, row))
        return found

    def forget(self, worker: str) -> None:
        """Take note that a worker is gone, and nobody's fault.

        Parameters
        ----------
        worker : `str`
            Its address.
        """
        self._running.pop(worker, None)

    def running(self, worker: str) -> tuple[int, ...]:
        """Return the quanta a worker is at.

        Parameters
        ----------
        worker : `str`
            Its address.

        Returns
        -------
        rows : `tuple` [`int`, ...]
            One for each busy thread.
        """
        return tuple(row for row, _ in self._running.get(worker, {}).values())

    def worker_died(self, worker: str, running: Iterable[int]) -> list[Verdict]:
        """Return whom to blame for a worker's death.

        Parameters
        ----------
        worker : `str`
            Its address.
        running : iterable of `int`
            The quanta it was at, as its marks say: what it sent last may not have arrived.

        Returns
        -------
        verdicts : `list` [`Verdict`]
            One a quantum that was running; none where nobody is to blame.
        """
        self._running.pop(worker, None)
        verdicts = []
        for row in running:
            strikes = self._strikes[row] = self._strikes.get(row, 0) + 1
            verdicts.append(Verdict(row, strikes, strikes >= self.allowed))
        return verdicts
