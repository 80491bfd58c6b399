"""RunSummary: how a run ended, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import QuantumExecutionError
from .run_ledger import QuantumFailure

if TYPE_CHECKING:
    from ..graph.quantum_graph import QuantumGraph


@dataclass(frozen=True, slots=True)
class FailedQuantum:
    """A quantum that failed, with all a user needs to find it.

    Parameters
    ----------
    label : `str`
        Task label.
    data_id : mapping
        Data ID.
    error_type, message, traceback : `str`
        What was raised.
    """

    label: str
    data_id: Mapping[str, Any]
    error_type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        inner = ", ".join(f"{k}: {v!r}" for k, v in self.data_id.items())
        return f"{self.label} {{{inner}}}: {self.error_type}: {self.message}"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended.

    Parameters
    ----------
    run : `str`
        RUN collection.
    counts : mapping of `str` to mapping of `str` to `int`
        As in `Progress`.
    failures : `tuple` [`FailedQuantum`, ...]
        All quanta that failed.
    adopted : `int`
        Quanta of ``success`` that an earlier attempt had finished.
    elapsed_s : `float`
        Time it took [s].
    stopped : `str`
        Why it was stopped early; empty if it was not.
    """

    run: str
    counts: Mapping[str, Mapping[str, int]]
    failures: tuple[FailedQuantum, ...] = ()
    adopted: int = 0
    elapsed_s: float = 0.0
    stopped: str = ""

    def total(self, state: str = "total") -> int:
        """Return the number of quanta of all tasks in a state.

        Parameters
        ----------
        state : `str`
            ``success``, ``no_work``, ``failure``, ``blocked``, ``waiting``, ``running`` or ``total``.

        Returns
        -------
        n : `int`
            Summed over tasks.
        """
        return sum(by[state] for by in self.counts.values())

    @property
    def succeeded(self) -> bool:
        """Whether every quantum succeeded."""
        return self.total("success") == self.total()

    @classmethod
    def of(cls, graph: QuantumGraph, end: RunEnd, elapsed_s: float) -> RunSummary:
        """Make from how a run ended, with labels and data IDs from its graph.

        Parameters
        ----------
        graph : `QuantumGraph`
            What was run.
        end : `RunEnd`
            How it ended.
        elapsed_s : `float`
            Time it took [s].

        Returns
        -------
        summary : `RunSummary`
            With a `FailedQuantum` for each failure.
        """
        failures = tuple(
            FailedQuantum(
                graph.task_of(f.row).label,
                dict(graph.data_id(f.row).required),
                f.error_type,
                f.message,
                f.traceback,
            )
            for f in end.failures
        )
        return cls(graph.run, end.counts, failures, end.adopted, elapsed_s, end.stopped)

    def describe(self) -> str:
        """Return one line of counts, such as ``15 quanta: 12 succeeded, 1 failed, 2 blocked``.

        Returns
        -------
        line : `str`
            Without a full stop.
        """
        total = self.total()
        parts = [f"{self.total('success')} succeeded"]
        parts += [
            f"{self.total(state)} {word}"
            for state, word in (("failure", "failed"), ("blocked", "blocked"), ("waiting", "not run"))
            if self.total(state)
        ]
        return f"{total} quant{'um' if total == 1 else 'a'}: {', '.join(parts)}"

    def raise_on_failure(self) -> None:
        """Raise if not every quantum succeeded.

        Raises
        ------
        QuantumExecutionError
            With the counts and every failed data ID.
        """
        if not self.succeeded:
            lines = [f"{self.describe()} (run {self.run!r}).", *(f"  {f}" for f in self.failures)]
            if self.stopped:
                lines.insert(1, f"  Stopped: {self.stopped}")
            raise QuantumExecutionError("\n".join(lines))

    def to_json(self) -> str:
        """Return the summary as JSON text.

        Returns
        -------
        text : `str`
            An object with the fields' names.
        """
        return json.dumps(
            {
                "run": self.run,
                "counts": {label: dict(by) for label, by in self.counts.items()},
                "failures": [
                    {
                        "label": f.label,
                        "dataId": dict(f.data_id),
                        "error_type": f.error_type,
                        "message": f.message,
                        "traceback": f.traceback,
                    }
                    for f in self.failures
                ],
                "adopted": self.adopted,
                "elapsed_s": self.elapsed_s,
                "stopped": self.stopped,
            },
            indent=2,
        )


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, as an executor tells it: failures by row.

    Parameters
    ----------
    counts, adopted, stopped
        As in `RunSummary`.
    failures : sequence of `QuantumFailure`
        What failed.
    """

    counts: Mapping[str, Mapping[str, int]]
    failures: Sequence[QuantumFailure]
    adopted: int
    stopped: str
