"""Runs a graph in this process, in one thread or several, with Dask's local schedulers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .open_plan import opened
from .quantum_report import QuantumReport
from .recorder import Recorder
from .run_ledger import QuantumStarted, StrikeBook
from .run_request import RunRequest
from .run_summary import RunEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = logging.getLogger("butler_dask.execution")


class _LocalReporter:
    """Tells the recorder of this process."""

    def __init__(self, put: Callable[[Any], None]) -> None:
        self._put = put
        self._book = StrikeBook()
        self._lock = threading.Lock()

    def started(self, row: int) -> None:
        with self._lock:
            self._book.started("", row, threading.get_ident(), time.monotonic())
        self._put(QuantumStarted(row))

    def ended(self, report: QuantumReport) -> None:
        with self._lock:
            self._book.ended("", report.row)
        self._put(report)

    @contextmanager
    def telling_overdue(self, request: RunRequest) -> Iterator[None]:
        """Say inside the block which quanta are over their time limit: no thread is taken out of a call."""
        longest_s = request.settings.longest_s
        if longest_s is None:
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                with self._lock:
                    overdue = self._book.overdue(time.monotonic(), longest_s)
                for _, row in overdue:
                    _LOG.warning(
                        "%s %s is over the %g s of --timeout, in a call that no thread can be taken out of; "
                        "it is waited for. In processes (-j 2 and more) its process is ended.",
                        request.graph.task_of(row).label,
                        request.graph.data_id(row),
                        request.settings.timeout_s,
                    )

        thread = threading.Thread(target=watch, name="butler-overdue", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def run_locally(request: RunRequest, threads: int) -> RunEnd:
    """Run a graph in this process.

    Parameters
    ----------
    request : `RunRequest`
        What to run.
    threads : `int`
        How many at once; one means this thread, where Ctrl-C stops a quantum in its middle.

    Returns
    -------
    end : `RunEnd`
        How it ended.
    """
    from dask.local import get_sync
    from dask.threaded import get as get_threaded

    graph, repository, dask_graph = request.graph, request.repository, request.dask_graph
    stopped: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(single_threaded_algebra())

        def stop(reason: str) -> None:
            stopped.append(reason)
            plan.stopping.set()

        recorder = Recorder(
            graph,
            repository.registry,
            request.claim,
            fail_fast=request.fail_fast,
            on_progress=request.progress,
            on_stop=stop,
        )
        reporter = _LocalReporter(recorder.put)
        plan = stack.enter_context(
            opened(graph, repository.datastore, repository.root, request.settings, reporter)
        )
        pool = stack.enter_context(ThreadPoolExecutor(threads, "quantum")) if threads > 1 else None
        stack.enter_context(reporter.telling_overdue(request))
        recorder.start()
        try:
            for part in dask_graph.windows(request.window):
                unusable: frozenset[int] = frozenset()
                if part.after >= 0:
                    recorder.drain()
                    unusable = frozenset(recorder.ledger.unusable().tolist())
                tasks, sinks = dask_graph.tasks(part.clusters, unusable)
                if pool is None:
                    get_sync(tasks, sinks)
                else:
                    get_threaded(tasks, sinks, pool=pool)
                if plan.stopping.is_set():
                    break
        except BaseException:
            # Quanta that run in other threads finish and are recorded; no further one starts.
            plan.stopping.set()
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            recorder.close()
    state = recorder.progress()
    return RunEnd(state.counts, state.failures, recorder.ledger.adopted, stopped[0] if stopped else "")


@contextmanager
def single_threaded_algebra() -> Iterator[None]:
    """Hold BLAS to one thread inside the block, so that quanta are the only parallel thing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # the limit is the process's; it is not ours to change from a thread
        return
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield
