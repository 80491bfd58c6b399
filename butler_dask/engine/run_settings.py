"""RunSettings: how quanta are run, in a form that travels to workers."""

from __future__ import annotations

from dataclasses import dataclass

from ..pipeline.pipeline_task import ExecutionResources
from .time_limit import GRACE_S, checked_time_limit


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the quanta of a run are run.

    Parameters
    ----------
    retries : `int`
        How often a quantum that raises is run again, `RepeatableQuantumError` excepted.
    adopt_foreign : `bool`
        Whether work that another plan finished in this run is taken over; work of this plan always is.
    raise_on_partial_outputs : `bool`
        Whether `AnnotatedPartialOutputsError` is a failure; otherwise what was written counts.
    cores_per_quantum : `int`
        What tasks are told they may use.
    memory_per_quantum_bytes : `int`, optional
        What tasks are told they may use [bytes].
    timeout_s : `float`, optional
        Longest time for one attempt at a quantum [s]; positive and finite.
    debug : `bool`
        Whether an error of a task is raised where it is, for a debugger, and not reported.

    Raises
    ------
    ButlerUserError
        If the time limit is none.
    """

    retries: int = 0
    adopt_foreign: bool = True
    raise_on_partial_outputs: bool = True
    cores_per_quantum: int = 1
    memory_per_quantum_bytes: int | None = None
    timeout_s: float | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        checked_time_limit(self.timeout_s)

    @property
    def longest_s(self) -> float | None:
        """How long a quantum may take with all its attempts before it is held to be stuck [s]."""
        return None if self.timeout_s is None else self.timeout_s * (self.retries + 1) + GRACE_S

    @property
    def resources(self) -> ExecutionResources:
        """What a quantum may use, as tasks are told it."""
        return ExecutionResources(self.cores_per_quantum, self.memory_per_quantum_bytes)
