"""Tables, lists and JSON on standard output.

Datasets are shown as the tutorial shows them: centred headers, dashes, right-aligned values.
Written here because the library that draws such tables (astropy) takes longer to import than a query.
"""

from __future__ import annotations

import json
import uuid
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
        Align to the left (names) and not to the right.

    Returns
    -------
    lines : `list` [`str`]
        Without line ends.
    """
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(headers)
    cells, titles, dashes, forms = [], [], [], []
    for header, column in zip(headers, columns, strict=True):
        texts = ["--" if v is None else v for v in column] if None in column else column
        texts = list(map(str, texts))
        width = max(len(header), max(map(len, texts), default=0))
        cells.append(texts)
        titles.append(header.center(width))
        dashes.append("-" * width)
        forms.append(f"%{'-' if left else ''}{width}s")
    # One format for the whole line: there may be a million.
    form = " ".join(forms)
    lines = [" ".join(titles).rstrip(), " ".join(dashes)]
    lines.extend((form % line).rstrip() for line in zip(*cells, strict=True))
    return lines


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, left: bool = False) -> None:
    """Print a table.

    Parameters
    ----------
    headers : sequence of `str`
        Names of the columns.
    rows : sequence of sequences
        Values, one for each column.
    left : `bool`
        Whether they stand at the left of their column.
    """
    click.echo("\n".join(text_table(headers, rows, left=left)))


def print_json(document: Any) -> None:
    """Print one JSON document; times, regions and UUIDs become texts.

    Parameters
    ----------
    document : object
        What JSON takes, and what has a text.
    """
    click.echo(json.dumps(document, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    """Return what JSON can say of a value."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if hasattr(value, "begin_ns"):
        return {k: None if t is None else t.isot for k, t in (("begin", value.begin), ("end", value.end))}
    if hasattr(value, "to_ivoa_pos"):
        return value.to_ivoa_pos()
    return value.item() if hasattr(value, "item") else str(value)


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
        print_json([dict(zip(headers, row, strict=True)) for row in rows])
    elif form == "list":
        for row in rows:
            click.echo(str(row[list_column]))
    elif rows:
        print_table(headers, rows, left=left)


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "list"]),
    default="table",
    show_default=True,
    help="How to print: a table, one JSON document, or one name (of data IDs and records: one row) a line.",
)
