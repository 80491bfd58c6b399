"""What a removal will do, in words and small tables, before it is asked for and done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

import butler_dask as bd

from .tables import text_table

if TYPE_CHECKING:
    from ..butler.butler import Butler
    from ..registry.dataset_census import DatasetCensus

_MOST_ROWS = 20
"""Longer tables are cut: a plan must fit where the question below it can be seen."""


def census_lines(census: DatasetCensus) -> list[str]:
    """Return counts of datasets by RUN and type, the collections that know them, and their size.

    Parameters
    ----------
    census : `DatasetCensus`
        What was counted.
    """
    if not census.counts:
        return ["No datasets."]
    rows = [[c.run, c.dataset_type, c.datasets, c.files, size_text(c.size)] for c in census.counts]
    lines = _cut(["run", "type", "datasets", "files", "size"], rows)
    files, size = sum(c.files for c in census.counts), sum(c.size for c in census.counts)
    lines.append(
        f"In all {counted(census.datasets, 'dataset')} with {counted(files, 'file')}, {size_text(size)}."
    )
    outside = sum(c.outside for c in census.counts)
    if outside:
        lines.append(
            f"{counted(outside, 'file')} ingested in place, outside the repository, will stay there."
        )
    if census.memberships:
        lines.append("Of these datasets are in other collections:")
        members = [[m.collection, m.type.name, m.dataset_type, m.datasets] for m in census.memberships]
        lines += _cut(["collection", "kind", "type", "datasets"], members)
    return lines


def _cut(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = text_table(headers, rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        lines.append(f"... and {len(rows) - _MOST_ROWS} more rows")
    return lines


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def size_text(size: int) -> str:
    """Return a number of bytes as people say it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal to be shown, asked for and done; the fields are the options' names.

    Parameters
    ----------
    repo : `str`
        The repository.
    confirm : `bool`
        Whether to ask.
    dry_run : `bool`
        Whether to show only.
    """

    repo: str
    confirm: bool
    dry_run: bool

    @contextmanager
    def opened(self) -> Iterator[Butler]:
        """Open the repository; what an interrupted removal left to do is done first.

        Yields
        ------
        butler : `Butler`
            For reading only where nothing is to be done.
        """
        with bd.Butler(self.repo, writeable=not self.dry_run) as butler:
            if not self.dry_run:
                left = butler.finish_removals()
                if left:
                    click.echo(f"Finished an interrupted removal: deleted {counted(left, 'file')}.", err=True)
            yield butler

    def confirmed(self, plan: Iterable[str], *, ask: bool = True) -> bool:
        """Show a plan and return whether to carry it out.

        Parameters
        ----------
        plan : iterable of `str`
            Lines that say what will be removed.
        ask : `bool`
            Whether this is to be asked for at all.

        Returns
        -------
        confirmed : `bool`
            Never where nothing is to be done.
        """
        for line in plan:
            click.echo(line)
        if self.dry_run:
            click.echo("Nothing was done (--dry-run).")
            return False
        if ask and self.confirm and not click.confirm("Continue?", default=False):
            click.echo("Nothing was done.")
            return False
        return True


def removes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a command its repository and the options ``--confirm`` and ``--dry-run`` as one `Removal`.

    Parameters
    ----------
    function : callable
        The command; its argument ``removal`` takes it.

    Returns
    -------
    command : callable
        Takes these one by one, as click gives them.
    """

    @wraps(function)
    def command(*, repo: str, confirm: bool, dry_run: bool, **values: Any) -> Any:
        return function(removal=Removal(repo, confirm, dry_run), **values)

    return command
