"""What a removal will do, in words and small tables, before it is asked for and done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from .tables import text_table

if TYPE_CHECKING:
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


def confirmed(plan: Iterable[str], *, ask: bool, dry_run: bool) -> bool:
    """Show a plan and return whether to carry it out.

    Parameters
    ----------
    plan : iterable of `str`
        Lines that say what will be removed.
    ask : `bool`
        Whether to ask.
    dry_run : `bool`
        Only show.
    """
    for line in plan:
        click.echo(line)
    if dry_run:
        click.echo("Nothing was done (--dry-run).")
        return False
    if ask and not click.confirm("Continue?", default=False):
        click.echo("Nothing was done.")
        return False
    return True
