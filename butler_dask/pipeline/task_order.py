"""The order in which tasks can run: each after those whose outputs it reads."""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Iterable, Sequence

from ..errors import DuplicateOutputError, PipelineDataCycleError
from .pipeline_nodes import Edge, TaskNode

__all__ = ["ordered", "tasks_read_by"]


def ordered(tasks: Sequence[TaskNode]) -> list[TaskNode]:
    """Return tasks in topological order; those that may run at the same time stay in the order given.

    Parameters
    ----------
    tasks : sequence of `TaskNode`
        The tasks, with different labels.

    Raises
    ------
    DuplicateOutputError
        Two connections write one dataset type.
    PipelineDataCycleError
        Tasks need one another's outputs in a circle.
    """
    place = {task.label: i for i, task in enumerate(tasks)}
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for label, sources in tasks_read_by(tasks).items():
        sorter.add(label, *sorted(sources))
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise PipelineDataCycleError(
            "Tasks need one another's outputs in a circle: "
            + " -> ".join(error.args[1])
            + ". Give one of the outputs another name with connections."
        ) from None
    order: list[TaskNode] = []
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for label in sorter.get_ready():
            heapq.heappush(ready, (place[label], label))
        index, label = heapq.heappop(ready)
        order.append(tasks[index])
        sorter.done(label)
    return order


def tasks_read_by(tasks: Iterable[TaskNode]) -> dict[str, set[str]]:
    """Return for each task the tasks whose outputs it reads directly, all by label.

    Parameters
    ----------
    tasks : iterable of `TaskNode`
        The tasks, with different labels.

    Raises
    ------
    DuplicateOutputError
        Two connections write one dataset type.
    """
    known = list(tasks)
    writers = _writing_edges(known)
    result: dict[str, set[str]] = {}
    for task in known:
        read = {e.parent_dataset_type_name for e in (*task.init_inputs.values(), *task.iter_all_inputs())}
        result[task.label] = {writers[name].task_label for name in read & writers.keys()}
    return result


def _writing_edges(tasks: Sequence[TaskNode]) -> dict[str, Edge]:
    """Return the edge that writes each dataset type."""
    writers: dict[str, Edge] = {}
    for task in tasks:
        for edge in (*task.iter_all_init_outputs(), *task.iter_all_outputs()):
            other = writers.setdefault(edge.dataset_type_name, edge)
            if other is not edge:
                raise DuplicateOutputError(
                    f"Dataset type {edge.dataset_type_name!r} is written by both "
                    f"{other.task_label}.{other.connection_name} and "
                    f"{edge.task_label}.{edge.connection_name}. Rename one with "
                    f"{edge.task_label}:connections.{edge.connection_name}=..., or select one of "
                    "the tasks (FILE#label)."
                )
    return writers
