"""Tables, lists and JSON on standard output.

Datasets are shown as the tutorial shows them: a blank line, centred headers, dashes, right-aligned values.
Written here because the library that draws such tables (astropy) takes longer to import than a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


def text_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, left: bool = False) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    headers : sequence of `str`
        Column names.
    rows : iterable of sequence
        Values; `None` is shown as ``--``.
    left : `bool`
        Align to the left (trees of names) and not to the right.
    """
    texts = [["--" if v is None else str(v) for v in row] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) if texts else len(h) for i, h in enumerate(headers)]
    lines = [" ".join(h.center(w) for h, w in zip(headers, widths, strict=True)).rstrip()]
    lines.append(" ".join("-" * w for w in widths))
    align = str.ljust if left else str.rjust
    lines.extend(" ".join(align(v, w) for v, w in zip(t, widths, strict=True)).rstrip() for t in texts)
    return lines


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, left: bool = False) -> None:
    """Print a blank line and a table."""
    click.echo("\n" + "\n".join(text_table(headers, rows, left=left)))


def print_rows(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    form: str,
    *,
    list_column: int = 0,
    left: bool = False,
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
    left : `bool`
        Align a table to the left.
    """
    if form == "json":
        click.echo(json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=1, default=str))
    elif form == "list":
        for row in rows:
            click.echo(str(row[list_column]))
    else:
        print_table(headers, rows, left=left)


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "list"]),
    default="table",
    help="How to print: a table, JSON, or one name a line.",
)
