"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..vocabulary.collection import split_names

if TYPE_CHECKING:
    from ..registry.registry import Registry

_MAX_ROWS = 2**62
"""More than any table has; a database takes no larger number."""


def _a_number_of_rows(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if param.name == "offset" and value < 0:
        raise click.BadParameter(f"{value} is not a number of rows to leave out", param=param)
    return max(-_MAX_ROWS, min(_MAX_ROWS, value))


repo_argument = click.argument("repo", metavar="REPO")

where_option = click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="Only what fulfils this expression, e.g. \"instrument='HSC' AND visit=903344\".",
)
order_by_option = click.option(
    "--order-by", multiple=True, metavar="KEY", help="Sort by dimension or field; '-' in front sorts down."
)


def limit_option(default: int) -> Callable[[Any], Any]:
    """Return the ``--limit`` option."""
    return click.option(
        "--limit",
        type=int,
        callback=_a_number_of_rows,
        default=default,
        metavar="N",
        help="At most N rows; negative: at most -N, with a warning when there are more; 0: all.",
        show_default=True,
    )


offset_option = click.option(
    "--offset",
    type=int,
    callback=_a_number_of_rows,
    default=0,
    metavar="N",
    help="Leave out the first N rows.",
)
find_first_option = click.option(
    "--find-first/--no-find-first",
    default=False,
    help="Of each data ID only the first in the order of --collections, which must be names, not globs.",
)
explain_query_option = click.option(
    "--explain-query",
    is_flag=True,
    help="Print on standard error what the database was asked, its plan, rows and seconds.",
)
confirm_option = click.option(
    "--confirm/--no-confirm", default=True, help="Whether to ask before anything is removed."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")


def collections_option(required: bool = False, help_text: str = "") -> Callable[[Any], Any]:
    """Return the ``--collections`` option: repeatable, comma-separated."""
    return click.option(
        "--collections",
        "collections",
        multiple=True,
        required=required,
        metavar="COLLECTION[,..]",
        help=help_text or "Collections to search, in order; names or globs.",
        callback=lambda ctx, param, value: split_names(value),
    )


def transfer_option(default: str = "direct") -> Callable[[Any], Any]:
    """Return the ``--transfer`` option."""
    return click.option(
        "-t",
        "--transfer",
        type=click.Choice(
            ["auto", "copy", "direct", "hardlink", "link", "move", "relsymlink", "split", "symlink"]
        ),
        default=default,
        show_default=True,
        help="How files come into the repository.",
    )


def data_id_of(words: Iterable[str]) -> dict[str, str]:
    """Return the data ID of ``KEY=VALUE`` words.

    Raises
    ------
    click.BadParameter
        If a word is something else.
    """
    keys: dict[str, str] = {}
    for text in split_names(words):
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="data ID")
        keys[key.strip()] = value.strip().strip("'\"")
    return keys


def row_limit(limit: int) -> int | None:
    """Return the ``limit`` argument of the butler's query methods for that of the command line."""
    return None if limit == 0 else limit


@contextmanager
def explained(registry: Registry, wanted: bool) -> Iterator[None]:
    """Print on standard error what the database was asked inside, if that is wanted."""
    if not wanted:
        yield
        return
    with registry.explain_query() as statements:
        try:
            yield
        finally:
            for statement in statements:
                click.echo(f"{statement}\n", err=True)
