"""The corners of distributed that are not public, all of them, each behind a function with a test.

Written against distributed 2026.8. When Dask moves one, `tests/test_scheduler_plugin.py` says which.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client, Future, Scheduler

    from .dask_graph import Key

_METADATA = "butler-dask"


async def wait_watched(futures: Sequence[Future], check: Callable[[], None], interval_s: float) -> None:
    """Wait until futures are done; for ``Client.sync``.

    Parameters
    ----------
    futures : sequence of `distributed.Future`
        What is waited for.
    check : callable
        Called again and again meanwhile; what it raises ends the waiting.
    interval_s : `float`
        How often [s].

    Raises
    ------
    FuturesCancelledError
        If the scheduler dropped them.
    """
    from distributed.client import _wait

    waiting = asyncio.ensure_future(_wait(futures))
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=interval_s)
            check()
    except BaseException:
        waiting.cancel()
        raise
    await waiting


def n_workers_known(client: Client) -> int:
    """Return how many workers a client's cluster had when it last heard of them, a few seconds ago.

    Parameters
    ----------
    client : `distributed.Client`
        The client.

    Returns
    -------
    n : `int`
        0 for none.
    """
    return len(client._scheduler_identity.get("workers", ()))


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


def fail_task(scheduler: Scheduler, key: Key, worker: str, error: Exception) -> None:
    """Fail a Dask task that a worker is at, without waiting for the worker.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    key : key
        The Dask task; nothing is done where it is not assigned to a worker.
    worker : `str`
        Address of the worker held responsible.
    error : `Exception`
        What the task is failed with.
    """
    task = scheduler.tasks.get(key)
    if task is None or task.state != "processing":
        return
    stimulus = f"butler-fail-{time.monotonic()}"
    after = scheduler.transition(
        key,
        "erred",
        exception=pickle.dumps(error),
        exception_text=f"{type(error).__name__}({str(error)!r})",
        cause=key,
        stimulus_id=stimulus,
        worker=worker,
    )
    scheduler.transitions(after, stimulus_id=stimulus)


def task_state(scheduler: Scheduler, key: Key) -> str:
    """Return the state of a Dask task, as Dask names it.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    key : key
        The Dask task.

    Returns
    -------
    state : `str`
        Empty if the scheduler does not know it.
    """
    task = scheduler.tasks.get(key)
    return "" if task is None else str(task.state)


def tasks_at_worker(scheduler: Scheduler, worker: str) -> tuple[Any, ...]:
    """Return the Dask tasks that are assigned to a worker.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    worker : `str`
        Address of the worker.

    Returns
    -------
    keys : `tuple`
        None if it is gone.
    """
    state = scheduler.workers.get(worker)
    return () if state is None else tuple(task.key for task in state.processing)


async def restart_worker(scheduler: Scheduler, worker: str) -> None:
    """End the process of a worker, whatever it is at; its nanny, if it has one, starts another.

    Parameters
    ----------
    scheduler : `distributed.Scheduler`
        The scheduler.
    worker : `str`
        Address of the worker.
    """
    await scheduler.restart_workers(
        [worker],
        wait_for_workers=False,
        on_error="return",
        stimulus_id=f"butler-restart-{time.monotonic()}",
    )


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
