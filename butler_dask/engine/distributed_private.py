"""The corners of distributed that are not public, all of them, each behind a function with a test.

Written against distributed 2026.8. When Dask moves one, `tests/test_scheduler_plugin.py` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Scheduler

    from .dask_graph import Key

_METADATA = "butler-dask"


def add_to_task_metadata(item: Any) -> None:
    """Attach a value to the Dask task this worker thread runs; it reaches the scheduler with its completion.

    Parameters
    ----------
    item : object
        What msgpack takes.

    Notes
    -----
    No message of its own, atomic with the completion, and absent for stale executions, which the scheduler
    rejects. Private: ``Worker.state.tasks[key].metadata``.
    """
    from distributed import get_worker
    from distributed.worker import thread_state

    task = get_worker().state.tasks[thread_state.key]
    task.metadata.setdefault(_METADATA, []).append(item)


def take_task_metadata(scheduler: Scheduler, key: Key, metadata: dict[str, Any] | None) -> tuple[Any, ...]:
    """Return what `add_to_task_metadata` attached, and let the scheduler forget it.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    key : key
        The finished task.
    metadata : `dict`
        Argument ``metadata`` of the plugin hook ``transition``.

    Returns
    -------
    items : `tuple`
        Values in the order they were attached.
    """
    task = scheduler.tasks.get(key)
    if task is not None:
        task.metadata = None  # else each report is kept as long as the task is
    return tuple((metadata or {}).get(_METADATA, ()))


def rows_of_task(scheduler: Scheduler, key: Key) -> tuple[int, ...]:
    """Return the quanta of a Dask task: the second argument of its `run_cluster`.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    key : key
        The Dask task.

    Returns
    -------
    rows : `tuple` [`int`, ...]
        Rows of its quanta; none if the scheduler does not know it.
    """
    task = scheduler.tasks.get(key)
    arguments: Sequence[Any] = getattr(getattr(task, "run_spec", None), "args", ())
    return tuple(arguments[1]) if len(arguments) > 1 else ()


def pardon_queued_tasks(scheduler: Scheduler, keys: Iterable[Key]) -> None:
    """Take back the blame for a worker's death from tasks that were only queued on it.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    keys : iterable of key
        The Dask tasks that were assigned to the worker.
    """
    for key in keys:
        task = scheduler.tasks.get(key)
        if task is not None and task.suspicious > 0:
            task.suspicious -= 1


def fail_at_next_death(scheduler: Scheduler, key: Key) -> None:
    """Make the next death of a worker under this task its failure (``KilledWorker``).

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    key : key
        The Dask task.
    """
    task = scheduler.tasks.get(key)
    if task is not None:
        task.suspicious = int(scheduler.allowed_failures)
