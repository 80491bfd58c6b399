"""Progress of a run: a live table on a terminal, now and then a log line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from ..engine.recorder import Progress

_LOG = logging.getLogger("butler_dask.progress")
_STATES = ("success", "failure", "blocked", "running")


def _is_wanted() -> bool:
    """Return whether the user wants to see progress and could."""
    context = click.get_current_context(silent=True)
    settings = context.find_root().obj if context is not None else None
    return bool((settings or {}).get("progress", True)) and sys.stderr.isatty()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something is being done whose end is not known, and for how long by now.

    Parameters
    ----------
    what : `str`
        What is being done.
    """
    if not _is_wanted():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        yield


class RunProgress:
    """Shows how far a run is.

    On a terminal: quanta by task and state, failures, time left, redrawn four times a second. Elsewhere:
    a plain log line each half minute.
    """

    def __init__(self) -> None:
        self._terminal = _is_wanted()
        self._started = self._last = time.monotonic()
        self._live: Live | None = None
        self._by_task: Mapping[str, Mapping[str, int]] = {}

    def __enter__(self) -> RunProgress:
        self._started = self._last = time.monotonic()
        if self._terminal:
            from rich.console import Console
            from rich.live import Live

            # Log lines go to standard error too; rich writes them above the table.
            self._live = Live(
                console=Console(stderr=True), get_renderable=self._table, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Take the present counts of a run."""
        self._by_task = progress.counts
        now = time.monotonic()
        if not self._terminal and now - self._last >= 30.0:
            self._last = now
            done, total, failed = self._done()
            _LOG.info("%d of %d quanta done, %d failed%s", done, total, failed, self._time_left(done, total))

    def _done(self) -> tuple[int, int, int]:
        states = self._by_task.values()
        failed = sum(s.get("failure", 0) for s in states)
        done = sum(s.get("success", 0) + s.get("failure", 0) + s.get("blocked", 0) for s in states)
        return done, sum(s.get("total", 0) for s in states), failed

    def _time_left(self, done: int, total: int) -> str:
        if not 0 < done < total:
            return ""
        seconds = (time.monotonic() - self._started) * (total - done) / done
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f", about {hours}:{minutes:02d}:{seconds:02d} left"

    def _table(self) -> Table:
        from rich.table import Table

        done, total, _ = self._done()
        table = Table(title=f"{done} of {total} quanta{self._time_left(done, total)}", title_justify="left")
        table.add_column("task")
        for state in (*_STATES, "total"):
            table.add_column(state, justify="right")
        for label, states in self._by_task.items():
            cells = [str(states.get(s, 0)) for s in (*_STATES, "total")]
            if states.get("failure"):
                cells[1] = f"[bold red]{cells[1]}[/bold red]"
            table.add_row(label, *cells)
        return table


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show on a terminal that something takes its time; elsewhere, nothing.

    Parameters
    ----------
    text : `str`
        What is done.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} ..."):
        yield
