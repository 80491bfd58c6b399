"""Tables, lists and JSON on standard output.

Datasets are shown as the tutorial shows them: a blank line, centred headers, dashes, right-aligned values.
Written here because the library that draws such tables (astropy) takes longer to import than a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


def text_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    headers : sequence of `str`
        Column names.
    rows : iterable of sequence
        Values; `None` is shown as ``--``.
    """
    texts = [["--" if v is None else str(v) for v in row] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) if texts else len(h) for i, h in enumerate(headers)]
    lines = [" ".join(h.center(w) for h, w in zip(headers, widths, strict=True)).rstrip()]
    lines.append(" ".join("-" * w for w in widths))
    lines.extend(" ".join(v.rjust(w) for v, w in zip(t, widths, strict=True)) for t in texts)
    return lines


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a blank line and a table."""
    click.echo("\n" + "\n".join(text_table(headers, rows)))


def print_rows(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], form: str, *, list_column: int = 0
) -> None:
    """Print rows as a table, as JSON objects, or one column of them as lines.

    Parameters
    ----------
    headers : sequence of `str`
        Column names.
    rows : sequence of sequence
        Values.
    form : `str`
        ``table``, ``json`` or ``list``.
    list_column : `int`
        Which column ``list`` prints.
    """
    if form == "json":
        click.echo(json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=1, default=str))
    elif form == "list":
        for row in rows:
            click.echo(str(row[list_column]))
    else:
        print_table(headers, rows)


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "list"]),
    default="table",
    help="How to print: a table, JSON, or one name a line.",
)
