"""``butler remove-...`` and ``prune-...``: a plan, one confirmation, then removal."""

from __future__ import annotations

import click

from ..errors import CollectionTypeError
from ..vocabulary.collection import CollectionType, split_names
from .command import log_options
from .options import confirm_option, confirmed, dry_run_option, repo_argument


@click.command()
@repo_argument
@click.argument("collection", nargs=-1, required=True)
@confirm_option
@dry_run_option
@click.option("--force", is_flag=True, help="Also take the runs out of the chains they are in.")
@log_options
def remove_runs(repo: str, collection: tuple[str, ...], confirm: bool, dry_run: bool, force: bool) -> None:
    """Remove the RUN collections that match COLLECTION (names or globs), with their datasets and files."""
    from ..butler import Butler

    with Butler(repo, writeable=True) as butler:
        infos = butler.collections.query_info(
            split_names(collection),
            collection_types={CollectionType.RUN},
            include_parents=True,
            include_summary=True,
        )
        if not infos:
            click.echo("No RUN collection matches; nothing to remove.")
            return
        plan = ["The following RUN collections will be removed with all their datasets:"]
        for info in infos:
            kinds = ", ".join(sorted(info.dataset_types or ())) or "no datasets"
            chains = f" (in the chains {', '.join(sorted(info.parents))})" if info.parents else ""
            plan.append(f"  {info.name}{chains}: {kinds}")
        if any(i.parents for i in infos) and not force:
            for line in plan:
                click.echo(line)
            raise click.UsageError("Some runs are members of chains; --force takes them out of these first.")
        if confirmed(plan, ask=confirm, dry_run=dry_run):
            butler.removeRuns([i.name for i in infos], unlink_from_chains=force)
            click.echo(f"Removed {len(infos)} RUN collections.")


@click.command()
@repo_argument
@click.argument("collection", nargs=-1, required=True)
@confirm_option
@dry_run_option
@click.option(
    "--remove-from-parents", is_flag=True, help="Also take the collections out of the chains they are in."
)
@log_options
def remove_collections(
    repo: str, collection: tuple[str, ...], confirm: bool, dry_run: bool, remove_from_parents: bool
) -> None:
    """Remove CHAINED, TAGGED and CALIBRATION collections; no dataset is touched."""
    from ..butler import Butler

    with Butler(repo, writeable=True) as butler:
        types = set(CollectionType) - {CollectionType.RUN}
        infos = butler.collections.query_info(
            split_names(collection), collection_types=types, include_parents=True
        )
        if not infos:
            click.echo("No such collection matches (RUN collections are removed by `butler remove-runs`).")
            return
        plan = ["The following collections will be removed:", *(f"  {i.name} ({i.type.name})" for i in infos)]
        if confirmed(plan, ask=confirm, dry_run=dry_run):
            with butler.transaction():
                for info in infos:
                    if remove_from_parents:
                        for parent in sorted(info.parents or ()):
                            butler.collections.remove_from_chain(parent, [info.name])
                    butler.collections.x_remove(info.name)
            click.echo(f"Removed {len(infos)} collections.")


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
def prune_collection(
    repo: str,
    name: str | None,
    option_name: str | None,
    purge: bool,
    unstore: bool,
    unlink: tuple[str, ...],
    confirm: bool,
    dry_run: bool,
) -> None:
    """Remove one collection; a RUN needs --purge --unstore, for its datasets go with it."""
    from ..butler import Butler

    target = name or option_name
    if target is None:
        raise click.UsageError("Name the collection, as argument or with --collection.")
    with Butler(repo, writeable=True) as butler:
        info = butler.collections.get_info(target, include_parents=True)
        parents = set(info.parents or ())
        if info.type is CollectionType.RUN and not (purge and unstore):
            raise click.UsageError(
                f"{target!r} is a RUN: its datasets go with it, which takes --purge --unstore."
            )
        if info.type is not CollectionType.RUN and purge:
            raise CollectionTypeError(f"--purge is for RUN collections, and {target!r} is {info.type.name}.")
        if parents - set(split_names(unlink)):
            left = ", ".join(sorted(parents - set(split_names(unlink))))
            raise click.UsageError(f"{target!r} is a member of {left}; take it out with --unlink.")
        if not confirmed([f"{target} ({info.type.name}) will be removed."], ask=confirm, dry_run=dry_run):
            return
        if info.type is CollectionType.RUN:
            butler.removeRuns([target], unlink_from_chains=bool(parents))
        else:
            for parent in sorted(parents):
                butler.collections.remove_from_chain(parent, [target])
            butler.collections.x_remove(target)


@click.command()
@repo_argument
@click.argument("dataset_type", nargs=-1, required=True)
@log_options
def remove_dataset_type(repo: str, dataset_type: tuple[str, ...]) -> None:
    """Remove the dataset types that match DATASET_TYPE (names or globs) and have no dataset."""
    from ..butler import Butler

    with Butler(repo, writeable=True) as butler:
        types = list(butler.registry.queryDatasetTypes(split_names(dataset_type)))
        for found in types:
            butler.registry.removeDatasetType(found.name)
    click.echo(f"Removed {len(types)} dataset types.")
