"""RunSettings: how quanta are run, in a form that travels to workers; and the runner made from it there."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..pipeline.pipeline_task import ExecutionResources
from .journal import Journal
from .log_capture import LogCapture
from .quantum_runner import QuantumRunner

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore
    from ..graph.quantum_graph import QuantumGraph


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the quanta of a run are run.

    Parameters
    ----------
    retries : `int`
        How often a quantum that raises is run again.
    adopt_foreign : `bool`
        Whether finished work of an earlier plan found in the run is taken over.
    raise_on_partial_outputs : `bool`
        Whether a task that wrote part of its outputs and said so has failed.
    cores_per_quantum : `int`
        What tasks are told they may use.
    memory_per_quantum_bytes : `int`, optional
        What tasks are told they may use [bytes].
    timeout_s : `float`, optional
        Longest time for one attempt at a quantum [s].
    debug : `bool`
        Raise errors of tasks where they are, for a debugger.
    """

    retries: int = 0
    adopt_foreign: bool = True
    raise_on_partial_outputs: bool = True
    cores_per_quantum: int = 1
    memory_per_quantum_bytes: int | None = None
    timeout_s: float | None = None
    debug: bool = False


def open_runner(
    graph: QuantumGraph, datastore: Datastore, root: str, settings: RunSettings, stack: ExitStack
) -> tuple[QuantumRunner, Journal]:
    """Make a runner and a journal in this process.

    Parameters
    ----------
    graph : `QuantumGraph`
        What is run.
    datastore : `Datastore`
        Where datasets are.
    root : `str`
        Root of the repository, where the journal goes.
    settings : `RunSettings`
        How.
    stack : `contextlib.ExitStack`
        Takes what is to be undone at the end.
    """
    capture = stack.enter_context(LogCapture().installed())
    resources = ExecutionResources(settings.cores_per_quantum, settings.memory_per_quantum_bytes)
    runner = QuantumRunner(
        graph,
        datastore,
        capture,
        resources=resources,
        retries=settings.retries,
        adopt_foreign=settings.adopt_foreign,
        raise_on_partial_outputs=settings.raise_on_partial_outputs,
        timeout_s=settings.timeout_s,
        debug=settings.debug,
    )
    return runner, Journal(root, graph.run, graph.plan_id, fsync=datastore.durability == "fsync")
