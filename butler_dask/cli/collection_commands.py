"""``butler collection-chain``, ``associate``, ``certify-calibrations``: putting datasets in collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import butler_dask as bd

from ..errors import DatasetNotFoundError
from ..vocabulary.collection import CollectionType, split_names
from .command import log_options
from .options import chooses_datasets, limit_option, repo_argument, selection_options
from .tables import format_option, print_rows

if TYPE_CHECKING:
    from astropy.time import Time

    from ..butler.dataset_choice import DatasetChoice
    from ..vocabulary.chain_change import ChainChange


@click.command()
@repo_argument
@click.argument("parent")
@click.argument("children", nargs=-1)
@click.option(
    "--mode",
    type=click.Choice(["redefine", "extend", "prepend", "remove", "pop"]),
    default="redefine",
    show_default=True,
    help="What to do with CHILDREN; pop removes by position, 0 (the default) being the first and, after --, "
    "-1 the last.",
)
@click.option(
    "--flatten/--no-flatten", default=False, help="Use the members of chained children in their place."
)
@click.option("--doc", default=None, help="Documentation of the chain.")
@click.option("--history", is_flag=True, help="Show every change of PARENT, the last one first.")
@click.option(
    "--undo",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=1,
    default=None,
    metavar="[N]",
    help="Take back the last N changes of PARENT (default 1), undone ones counted too.",
)
@format_option
@log_options
def collection_chain(
    repo: str,
    parent: str,
    children: tuple[str, ...],
    mode: str,
    flatten: bool,
    doc: str | None,
    history: bool,
    undo: int | None,
    form: str,
) -> None:
    """Define or edit the CHAINED collection PARENT; prints its members afterwards.

    Example: butler collection-chain DATA HSC/defaults HSC/raw/all,HSC/calib refcats skymaps

    Example: butler collection-chain DATA u/me/1 --mode pop -- -1

    CHILDREN are collection names or globs, also comma-separated. --history and --undo take none.
    """
    if (history or undo is not None) and children:
        raise click.UsageError("--history and --undo take no CHILDREN")
    if history:
        with bd.Butler(repo) as butler:
            _print_history(butler.collections.chain_history(parent), form)
        return
    if undo is not None:
        with bd.Butler(repo, writeable=True) as butler:
            click.echo(f"[{', '.join(butler.collections.undo(parent, undo))}]")
        return
    with bd.Butler(repo, writeable=True) as butler:
        names = split_names(children)
        collections = butler.collections
        if mode == "pop":
            members = list(collections.get_info(parent).children)
            try:
                positions = [int(n) for n in names] or [0]
            except ValueError:
                raise click.UsageError(
                    f"--mode pop takes positions (0 the first, -1 the last), not {', '.join(names)}"
                ) from None
            for position in positions:
                if not -len(members) <= position < len(members):
                    raise click.UsageError(f"{parent!r} has {len(members)} members, none at {position}")
            gone = {members[p] for p in positions}
            collections.redefine_chain(parent, [m for m in members if m not in gone])
        elif mode == "remove":
            collections.remove_from_chain(parent, names)
        else:
            chosen = [i.name for i in collections.query_info(names, flatten_chains=flatten)] if names else []
            if mode == "redefine":
                collections.register(parent, CollectionType.CHAINED, doc)
                collections.redefine_chain(parent, chosen)
            elif mode == "extend":
                collections.extend_chain(parent, chosen)
            else:
                collections.prepend_chain(parent, chosen)
        members = list(collections.get_info(parent).children)
    click.echo(f"[{', '.join(members)}]")


def _print_history(changes: list[ChainChange], form: str) -> None:
    headers = ("undo", "time (TAI)", "who", "mode", "added", "removed", "members", "command")
    rows = [
        (n, c.isot, c.who, c.mode, *map(",".join, (c.added, c.removed, c.after)), c.command)
        for n, c in enumerate(reversed(changes), start=1)
    ]
    print_rows(headers, rows, form, list_column=6, left=True)


@click.command()
@repo_argument
@click.argument("collection")
@click.option(
    "-d",
    "--dataset-type",
    "dataset_type",
    multiple=True,
    metavar="GLOB[,..]",
    help="Dataset types to add; all by default.",
)
@selection_options("Collections to search, in order; names or globs; all by default.")
@limit_option(0)
@log_options
@chooses_datasets
def associate(repo: str, collection: str, choice: DatasetChoice) -> None:
    """Add datasets to the TAGGED COLLECTION, which is made if it does not exist.

    Example: butler associate DATA u/me/best -d calexp --collections u/me/1 --find-first
    """
    with bd.Butler(repo, writeable=True) as butler, butler.query() as query:
        results = choice.results(butler, query)
        tables = list(results.at_most(abs(choice.limit) or None).tables)
        count = sum(map(len, tables))
        if not count:
            click.echo("No datasets were found; nothing was changed.")
            return
        with butler.transaction():
            butler.collections.register(collection, CollectionType.TAGGED)
            for table in tables:
                butler.repository.registry.associations.associate(collection, table)
    click.echo(f"{count} datasets are now in {collection}")


@click.command()
@repo_argument
@click.argument("input_collection", metavar="INPUT_COLLECTION")
@click.argument("calibration_collection", metavar="CALIBRATION_COLLECTION")
@click.argument("dataset_type", metavar="DATASET_TYPE")
@click.option(
    "--begin-date", metavar="TAI", help="ISO-8601 time (TAI) from which the calibrations are valid."
)
@click.option("--end-date", metavar="TAI", help="ISO-8601 time (TAI) at which they stop being valid.")
@click.option(
    "--search-all-inputs",
    is_flag=True,
    help="Use all members of an INPUT_COLLECTION chain, in order, not only the first.",
)
@log_options
def certify_calibrations(
    repo: str,
    input_collection: str,
    calibration_collection: str,
    dataset_type: str,
    begin_date: str | None,
    end_date: str | None,
    search_all_inputs: bool,
) -> None:
    """Certify the calibrations of DATASET_TYPE in INPUT_COLLECTION into CALIBRATION_COLLECTION.

    That is made if it does not exist. Of an INPUT_COLLECTION chain the first member is used.

    Example: butler certify-calibrations DATA u/me/flats HSC/calib flat --begin-date 2013-06-17T00:00:00
    """
    timespan = bd.Timespan(_time(begin_date, "--begin-date"), _time(end_date, "--end-date"))
    if timespan.isEmpty():
        raise click.UsageError(f"--end-date {end_date} is not after --begin-date {begin_date}")
    with bd.Butler(repo, writeable=True) as butler:
        info = butler.collections.get_info(input_collection)
        searched = (
            list(info.children)[:1]
            if info.type is CollectionType.CHAINED and not search_all_inputs
            else [input_collection]
        )
        found = butler.query_datasets(dataset_type, searched, limit=None, explain=False) if searched else []
        refs = list(found)
        if not refs:
            where = ", ".join(map(repr, searched)) or f"the empty chain {input_collection!r}"
            raise DatasetNotFoundError(f"No {dataset_type!r} in {where} to certify.")
        with butler.transaction():
            butler.collections.register(calibration_collection, CollectionType.CALIBRATION)
            butler.registry.certify(calibration_collection, refs, timespan)
    click.echo(f"Certified {len(refs)} {dataset_type} in {calibration_collection} for {timespan}")


def _time(text: str | None, option: str) -> Time | None:
    if text is None:
        return None
    from astropy.time import Time

    try:
        return Time(text, scale="tai", format="isot" if "T" in text else "iso")
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an ISO-8601 time such as 2013-06-17T00:00:00", param_hint=option
        ) from None
