"""run_graph: runs a quantum graph, by whatever executor.

The same Dask tasks run under ``sync`` (one thread, this one), ``threads``, ``processes`` (a Dask cluster
of this machine) and ``dask`` (a cluster that is there). Whatever ends the run (success, failure, Ctrl-C),
what finished is recorded before `run_graph` returns or raises; whatever is killed, journals let the next
run record it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import ButlerDaskError, ButlerUserError, did_you_mean
from .cluster import Workers
from .dask_graph import WINDOW_TASKS, Clustering, DaskGraph
from .earlier_outputs import clear_earlier_outputs
from .local_run import run_locally
from .recovery import recover_plan
from .run_request import RunRequest
from .run_settings import RunSettings
from .run_summary import RunSummary
from .time_limit import checked_time_limit

if TYPE_CHECKING:
    from distributed import Client

    from ..butler.open_repository import OpenRepository
    from ..graph.quantum_graph import QuantumGraph
    from .recorder import ProgressCallback

_LOG = logging.getLogger("butler_dask.execution")

Executor: TypeAlias = Literal["sync", "threads", "processes", "dask"]
EXECUTORS: tuple[Executor, ...] = ("sync", "threads", "processes", "dask")
WORKER_TIMEOUT_S = 600.0
"""How long a Dask cluster may be without workers, if nothing else is said [s]."""


# More than ten parameters: each is a keyword a user gives, of the kind `pipetask run` has an option for.
def run_graph(
    graph: QuantumGraph,
    repository: OpenRepository,
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    address: str | None = None,
    client: Client | None = None,
    cluster: Clustering = "detector",
    progress: ProgressCallback | None = None,
    fail_fast: bool = False,
    settings: RunSettings | None = None,
    window: int = WINDOW_TASKS,
    dashboard: str | None = None,
    worker_timeout_s: float | None = WORKER_TIMEOUT_S,
) -> RunSummary:
    """Run all quanta of a graph and record what they write.

    Parameters
    ----------
    graph : `QuantumGraph`
        What to run; its RUN collection and dataset types are registered (`write_init_outputs`).
    repository : `OpenRepository`
        Open for writing.
    executor : `str`, optional
        ``sync``: in this thread; ``threads``: ``jobs`` threads of this process; ``processes``: ``jobs``
        worker processes of this machine; ``dask``: a Dask cluster that is there. By default ``dask`` with
        an address or client, else ``threads`` for one job and ``processes`` for more.
    jobs : `int`
        How many quanta at once.
    address : `str`, optional
        Scheduler address (``tcp://host:8786``) or scheduler file.
    client : `distributed.Client`, optional
        A connected client, in place of ``address``.
    cluster : `str`
        Which quanta make a Dask task: ``none``, ``detector`` or ``visit``.
    progress : callable, optional
        Called with a `Progress` about four times a second, in another thread.
    fail_fast : `bool`
        Start nothing more after the first failure.
    settings : `RunSettings`, optional
        How each quantum is run.
    window : `int`
        Dask tasks submitted together.
    dashboard : `str`, optional
        Where ``processes`` serve Dask's dashboard, ``":8787"`` (for this machine alone).
    worker_timeout_s : `float`, optional
        How long a Dask cluster may be without workers before the run is ended [s]; `None` for ever.

    Returns
    -------
    summary : `RunSummary`
        Counts and failures. A failed quantum is no exception here; see `RunSummary.raise_on_failure`.

    Raises
    ------
    ButlerUserError
        If the executor is not known or no scheduler answers.
    ButlerDaskError
        If outputs could not be recorded, the scheduler is gone, or there were no workers. Journals stay: the
        same command with ``--extend-run`` records what finished and runs the rest.
    RunInUseError
        If another command writes the run; nothing was changed.
    KeyboardInterrupt
        If interrupted, after what had finished was recorded.
    """
    workers = Workers(jobs, address, client, dashboard)
    chosen = choose_executor(executor, workers)
    settings = settings or RunSettings()
    clobber = bool(graph.metadata.get("clobber"))
    if clobber:
        # What is being done again must not be taken over.
        settings = replace(settings, adopt_foreign=False)
    claims = repository.registry.claims
    with claims.kept():
        request = RunRequest(
            dask_graph=DaskGraph(graph, cluster),
            repository=repository,
            claim=claims.take(graph.run),
            settings=settings,
            progress=progress,
            fail_fast=fail_fast,
            window=window,
            worker_timeout_s=checked_time_limit(worker_timeout_s),
        )
        return _run(request, chosen, workers, clobber=clobber)


def _run(request: RunRequest, chosen: Executor, workers: Workers, *, clobber: bool) -> RunSummary:
    repository, graph = request.repository, request.graph
    began = time.monotonic()
    clear_earlier_outputs(repository, graph, clobber=clobber)
    files = request.files
    files.save(graph)
    heard_all = False
    try:
        if chosen in ("sync", "threads"):
            end = run_locally(request, threads=1 if chosen == "sync" else workers.jobs)
        else:
            # It imports distributed, which takes longer than a small run in threads.
            from .dask_run import run_on_dask

            end = run_on_dask(request, workers)
        heard_all = not end.stopped
    finally:
        if not heard_all:
            _recover(request, workers_ended=chosen != "dask")
    files.remove()
    return RunSummary.of(graph, end, time.monotonic() - began)


def choose_executor(executor: str | None, workers: Workers) -> Executor:
    """Return the executor meant by what a user gave.

    Parameters
    ----------
    executor : `str` or `None`
        What the user names; `None` for nothing.
    workers : `Workers`
        Where quanta are to run.

    Returns
    -------
    executor : `str`
        One of `EXECUTORS`.

    Raises
    ------
    ButlerUserError
        If there is none of that name, or the choices contradict one another.
    """
    there = not workers.are_ours
    if executor is None:
        return "dask" if there else "threads" if workers.jobs == 1 else "processes"
    if executor not in EXECUTORS:
        raise ButlerUserError(
            f"No executor {executor!r}.{did_you_mean(executor, EXECUTORS)} There are: {', '.join(EXECUTORS)}."
        )
    if executor == "dask" and not there:
        raise ButlerUserError("Executor 'dask' needs the address of a scheduler or a scheduler file.")
    if executor != "dask" and there:
        raise ButlerUserError(f"Executor {executor!r} does not go with the address of a Dask cluster.")
    return executor


def _recover(request: RunRequest, *, workers_ended: bool) -> None:
    """Record what finished without the recorder hearing of it: the run is being interrupted or has failed."""
    try:
        recover_plan(request.repository, request.graph, request.claim)
    except (ButlerDaskError, OSError) as error:
        # The reason the run ended matters more, and the journals are still there.
        _LOG.warning("Some finished quanta are not recorded yet (%s); rerun with --extend-run.", error)
    else:
        if workers_ended:
            request.files.remove()
