"""``butler remove-...`` and ``prune-...``: a plan, one confirmation, then removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import butler_dask as bd

from ..errors import CollectionTypeError, OrphanedRecordError
from ..vocabulary.collection import CollectionInfo, CollectionType, is_glob, split_names
from .command import log_options
from .options import confirm_option, dry_run_option, repo_argument, where_option
from .progress import waiting
from .removal_plan import Removal, census_lines, counted, removes

if TYPE_CHECKING:
    from ..butler.butler import Butler


@click.command()
@repo_argument
@click.argument("collection", nargs=-1, required=True)
@confirm_option
@dry_run_option
@click.option("--force", is_flag=True, help="Also take the runs out of the chains they are in.")
@log_options
@removes
def remove_runs(removal: Removal, collection: tuple[str, ...], force: bool) -> None:
    """Remove the RUN collections that match COLLECTION (names or globs), with their datasets and files.

    The plan shows what goes, by run and dataset type, and is confirmed once. Files ingested where they lay
    outside the repository stay. A run that is a member of a chain takes a confirmed plan or --force.

    Example: butler remove-runs DATA 'u/me/old/*' --dry-run
    """
    with removal.opened() as butler:
        infos = butler.collections.query_info(
            split_names(collection), collection_types={CollectionType.RUN}, include_parents=True
        )
        if not infos:
            click.echo("No RUN collections were found.")
            return
        names = [i.name for i in infos]
        chained = [i for i in infos if i.parents]
        plan = ["The following RUN collections will be removed with all their datasets:"]
        plan += [f"  {i.name}{_unlinked(i)}" for i in infos]
        plan += census_lines(butler.repository.registry.removal.census(names))
        if chained and not force and not removal.confirm and not removal.dry_run:
            for line in plan:
                click.echo(line)
            raise click.ClickException(
                "Some runs are members of chains; without confirmation it takes --force to unlink them."
            )
        if removal.confirmed(plan):
            with waiting("Removing runs"):
                butler.removeRuns(names, unlink_from_chains=bool(chained))
            click.echo(f"Removed {counted(len(names), 'RUN collection')}.")


def _unlinked(info: CollectionInfo) -> str:
    return f" (will be taken out of {', '.join(sorted(info.parents))})" if info.parents else ""


@click.command()
@repo_argument
@click.argument("collection", nargs=-1, required=True)
@confirm_option
@dry_run_option
@click.option(
    "--remove-from-parents", is_flag=True, help="Also take the collections out of the chains they are in."
)
@log_options
@removes
def remove_collections(removal: Removal, collection: tuple[str, ...], remove_from_parents: bool) -> None:
    """Remove CHAINED, TAGGED and CALIBRATION collections; no dataset is touched.

    RUN collections that match COLLECTION (names or globs) are named and stay; `butler remove-runs` removes
    these.

    Example: butler remove-collections DATA 'u/me/*' --remove-from-parents
    """
    with removal.opened() as butler:
        found = butler.collections.query_info(split_names(collection), include_parents=True)
        infos = [i for i in found if i.type is not CollectionType.RUN]
        runs = [i.name for i in found if i.type is CollectionType.RUN]
        if not infos:
            click.echo("No non-RUN collections were found.")
            if runs:
                click.echo(f"`butler remove-runs` removes RUN collections: {', '.join(runs[:10])}")
            return
        going = {i.name for i in infos}
        kept = {i.name: sorted((i.parents or frozenset()) - going) for i in infos}
        plan = ["The following collections will be removed:"]
        plan += [f"  {i.name} ({i.type.name}){_unlinked(i)}" for i in infos]
        if runs:
            plan.append("The following RUN collections match too and stay (see `butler remove-runs`):")
            plan += [f"  {name}" for name in runs]
        if any(kept.values()) and not remove_from_parents:
            chains = "; ".join(
                f"{name!r} in {', '.join(parents)}" for name, parents in kept.items() if parents
            )
            raise OrphanedRecordError(
                f"Members of chains that stay are not removed ({chains}); --remove-from-parents takes them "
                "out first."
            )
        if removal.confirmed(plan):
            _remove(butler, infos)
            click.echo(f"Removed {counted(len(infos), 'collection')}.")


def _remove(butler: Butler, infos: Sequence[CollectionInfo]) -> None:
    """Remove collections that are no RUNs, each out of the chains it is in first; all of them or none."""
    with butler.transaction():
        for info in infos:
            for parent in sorted(info.parents or ()):
                butler.collections.remove_from_chain(parent, [info.name])
        for info in infos:
            butler.collections.x_remove(info.name)


@click.command()
@repo_argument
@click.argument("name", required=False)
@click.option("--collection", "option_name", help="The collection (the tutorial's spelling of the argument).")
@click.option("--purge", is_flag=True, help="Remove a RUN with its datasets.")
@click.option("--unstore", is_flag=True, help="Remove the files of the datasets.")
@click.option("--unlink", multiple=True, metavar="CHAIN", help="Take the collection out of this chain first.")
@click.option("--confirm/--no-confirm", default=False, help="Whether to ask first.")
@dry_run_option
@log_options
@removes
def prune_collection(
    removal: Removal,
    name: str | None,
    option_name: str | None,
    purge: bool,
    unstore: bool,
    unlink: tuple[str, ...],
) -> None:
    """Remove one collection; a RUN needs --purge --unstore, for its datasets go with it.

    Example: butler prune-collection DATA --purge --unstore --collection u/me/1/20201013T140417Z
    """
    if name is not None and option_name is not None and name != option_name:
        raise click.UsageError("Name one collection, as argument or with --collection.")
    target = name or option_name
    if target is None:
        raise click.UsageError("Name the collection, as argument or with --collection.")
    with removal.opened() as butler:
        info = butler.collections.get_info(target, include_parents=True)
        parents = set(info.parents or ())
        is_run = info.type is CollectionType.RUN
        if is_run and not (purge and unstore):
            raise click.UsageError(
                f"{target!r} is a RUN: its datasets go with it, which takes --purge --unstore."
            )
        if not is_run and purge:
            raise CollectionTypeError(f"--purge is for RUN collections, and {target!r} is {info.type.name}.")
        if parents - set(split_names(unlink)):
            left = ", ".join(sorted(parents - set(split_names(unlink))))
            raise click.UsageError(f"{target!r} is a member of {left}; take it out with --unlink.")
        plan = [f"{target} ({info.type.name}) will be removed{_unlinked(info)}."]
        if is_run:
            plan += census_lines(butler.repository.registry.removal.census([target]))
        if not removal.confirmed(plan):
            return
        if is_run:
            butler.removeRuns([target], unlink_from_chains=bool(parents))
        else:
            _remove(butler, [info])


@click.command()
@repo_argument
@click.argument("collections", nargs=-1)
@click.option(
    "--datasets", multiple=True, metavar="GLOB[,..]", help="Dataset types; all by default with --find-all."
)
@where_option
@click.option(
    "--find-all",
    is_flag=True,
    help="All datasets in COLLECTIONS, which may be globs; else of each data ID the first in their order.",
)
@click.option(
    "--disassociate",
    "tags",
    multiple=True,
    metavar="TAG[,..]",
    help="Take the datasets out of these TAGGED collections; without COLLECTIONS these are searched.",
)
@click.option(
    "--purge",
    metavar="RUN",
    help="Remove the datasets altogether, with their files and from all collections; "
    "without COLLECTIONS this RUN is searched.",
)
@click.option(
    "--unstore", is_flag=True, help="Remove the datasets' files and keep what is recorded of them otherwise."
)
@dry_run_option
@confirm_option
@click.option("--quiet", is_flag=True, help="Print nothing and do not ask.")
@log_options
@removes
def prune_datasets(
    removal: Removal,
    collections: tuple[str, ...],
    datasets: tuple[str, ...],
    where: str,
    find_all: bool,
    tags: tuple[str, ...],
    purge: str | None,
    unstore: bool,
    quiet: bool,
) -> None:
    """Remove datasets found in COLLECTIONS, their files, or their membership of TAGGED collections.

    One of --purge, --unstore and --disassociate says which; the plan shows how many of what before one
    confirmation.

    Example: butler prune-datasets DATA u/me/1 --datasets 'icExp*'
    --where "instrument='HSC' AND visit=903344" --unstore

    Example: butler prune-datasets DATA --purge u/me/1/20201013T140417Z --datasets calexp --dry-run
    """
    tag_names, searched = split_names(tags), split_names(collections)
    if quiet and removal.dry_run:
        raise click.ClickException("--quiet and --dry-run do not go together: there would be nothing to see.")
    if purge is not None and tag_names:
        raise click.ClickException(
            "--purge and --disassociate do not go together: --purge removes from all collections."
        )
    if purge is None and not tag_names and not unstore:
        raise click.ClickException("Say what to do: --purge, --unstore or --disassociate.")
    searched = searched or ([purge] if purge is not None else tag_names)
    if not searched:
        raise click.ClickException(
            "Name the collections to search ('*' with --find-all for all), a RUN with --purge, or TAGGED "
            "collections with --disassociate."
        )
    if not find_all and any(is_glob(c) for c in searched):
        raise click.ClickException("Globs of collections go with --find-all; the first of each has no order.")
    with removal.opened() as butler:
        _require_type(butler, [purge] if purge is not None else [], CollectionType.RUN, "--purge")
        _require_type(butler, tag_names, CollectionType.TAGGED, "--disassociate")
        choice = bd.butler.DatasetChoice(
            globs=split_names(datasets), collections=searched, where=where, find_first=not find_all
        )
        with butler.query() as query:
            tables = list(choice.results(butler, query).tables)
        if not tables:
            if not quiet:
                click.echo("No datasets were found.")
            return
        if purge is not None:
            task = "removed altogether, with their files"
        else:
            deeds = [f"taken out of {', '.join(tag_names)}"] if tag_names else []
            task = " and ".join([*deeds, *(["removed from the datastore"] if unstore else [])])
        plan = [f"The following datasets will be {task}:"]
        plan += census_lines(butler.repository.registry.datasets.census(tables))
        if quiet or removal.confirmed(plan):
            with waiting("Removing datasets"):
                butler.pruneDatasets(
                    tables,
                    disassociate=bool(tag_names) or purge is not None,
                    unstore=unstore or purge is not None,
                    tags=tag_names,
                    purge=purge is not None,
                )
            if not quiet:
                click.echo(f"Done: {counted(sum(map(len, tables)), 'dataset')} {task}.")


def _require_type(butler: Butler, names: Sequence[str], type_: CollectionType, option: str) -> None:

    for name in names:
        found = butler.collections.get_info(name).type
        if found is not type_:
            raise CollectionTypeError(
                f"{option} takes {type_.name} collections, and {name!r} is {found.name}."
            )


@click.command()
@repo_argument
@click.argument("dataset_type", nargs=-1, required=True)
@confirm_option
@dry_run_option
@log_options
@removes
def remove_dataset_type(removal: Removal, dataset_type: tuple[str, ...]) -> None:
    """Remove the dataset types that match DATASET_TYPE (names or globs) and have no dataset.

    It asks only where a glob is given.

    Example: butler remove-dataset-type DATA 'test_*'
    """
    with removal.opened() as butler:
        missing: list[str] = []
        expression = split_names(dataset_type)
        names = [t.name for t in butler.registry.queryDatasetTypes(expression, missing=missing)]
        for name in missing:
            click.echo(f"Dataset type {name!r} is not defined.", err=True)
        if not names:
            click.echo("No dataset types were found.")
            return
        plan = ["The following dataset types will be removed:", *(f"  {name}" for name in names)]
        several = len(names) > 1
        if removal.confirmed(plan if several or removal.dry_run else (), ask=several):
            with butler.transaction():
                for name in names:
                    butler.registry.removeDatasetType(name)
            click.echo(f"Removed {counted(len(names), 'dataset type')}.")
