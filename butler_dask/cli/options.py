"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

import butler_dask as bd

from ..vocabulary.collection import split_names

if TYPE_CHECKING:
    from ..registry.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

_MAX_ROWS = 2**62
"""More than any table has; a database takes no larger number."""


def _a_number_of_rows(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if param.name == "offset" and value < 0:
        raise click.BadParameter(f"{value} is not a number of rows to leave out", param=param)
    return max(-_MAX_ROWS, min(_MAX_ROWS, value))


def option_set(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return one decorator that adds several options.

    Parameters
    ----------
    *options : callable
        Decorators of click, in the order the help is to list them.

    Returns
    -------
    decorator : callable
        Adds them all to a command.
    """

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


repo_argument = click.argument("repo", metavar="REPO")

where_option = click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="Only what fulfils this expression, e.g. \"instrument='HSC' AND visit=903344\".",
)
order_by_option = click.option(
    "--order-by",
    multiple=True,
    metavar="KEY",
    callback=lambda ctx, param, value: split_names(value),
    help="Sort by dimension or field; '-' in front sorts down.",
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


def row_options(limit: int) -> Callable[[F], F]:
    """Return the options that say which rows of an answer are shown, and in what order.

    Parameters
    ----------
    limit : `int`
        How many by default; see `limit_option`.

    Returns
    -------
    decorator : callable
        Adds ``--order-by``, ``--limit`` and ``--offset``.
    """
    return option_set(order_by_option, limit_option(limit), offset_option)


def selection_options(help_text: str = "") -> Callable[[F], F]:
    """Return the options that say which datasets are meant.

    Parameters
    ----------
    help_text : `str`
        Help of ``--collections``, if it has one of its own.

    Returns
    -------
    decorator : callable
        Adds ``--collections``, ``--where`` and ``--find-first``.
    """
    return option_set(collections_option(help_text=help_text), where_option, find_first_option)


def chooses_datasets(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a command the options about datasets as one `DatasetChoice`, its argument ``choice``.

    Parameters
    ----------
    function : callable
        The command; it has `selection_options`, and maybe arguments ``glob`` or ``dataset_type`` and
        options about rows.

    Returns
    -------
    command : callable
        Takes these one by one, as click gives them.
    """
    names = ("collections", "where", "find_first", "order_by", "limit", "offset")

    @wraps(function)
    def command(*, glob: tuple[str, ...] = (), dataset_type: tuple[str, ...] = (), **values: Any) -> Any:
        given = {name: values.pop(name) for name in names if name in values}
        choice = bd.butler.DatasetChoice(globs=split_names((*glob, *dataset_type)), **given)
        return function(choice=choice, **values)

    return command


def chooses_data_ids(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a command the options about data IDs as one `DataIdChoice`, its argument ``choice``.

    Parameters
    ----------
    function : callable
        The command; it has options ``--datasets``, ``--collections``, ``--where`` and `row_options`.

    Returns
    -------
    command : callable
        Takes these one by one, as click gives them.
    """
    names = ("collections", "where", "order_by", "limit", "offset")

    @wraps(function)
    def command(*, datasets: tuple[str, ...], **values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        choice = bd.butler.DataIdChoice(datasets=split_names(datasets), **given)
        return function(choice=choice, **values)

    return command


def warn_of_more(what: str, cut: bool, limit: int, *, deed: str = "shown", word: str = "shows") -> None:
    """Say on standard error that there are more than a limit lets through.

    Parameters
    ----------
    what : `str`
        What there are more of.
    cut : `bool`
        Whether there are.
    limit : `int`
        The limit, which is negative.
    deed, word : `str`
        What is done with those within it: ``taken``, ``takes``.
    """
    if cut:
        click.echo(f"More {what} are there than the {-limit} {deed}; --limit 0 {word} all.", err=True)


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
