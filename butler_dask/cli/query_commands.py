"""``butler query-...``: what is in a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..vocabulary.collection import CollectionType, is_glob, split_names
from .command import log_options
from .options import (
    collections_option,
    limit_option,
    offset_option,
    order_by_option,
    repo_argument,
    row_limit,
    where_option,
)
from .tables import format_option, print_rows, print_table

if TYPE_CHECKING:
    from ..butler import Butler
    from ..vocabulary.collection import CollectionInfo
    from ..vocabulary.dataset import DatasetRef


def _open(repo: str, **kwargs: Any) -> Butler:
    from ..butler import Butler

    return Butler(repo, writeable=False, **kwargs)


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@click.option(
    "--collection-type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only collections of this type: RUN, CHAINED, TAGGED or CALIBRATION.",
)
@click.option("--flatten-chains", is_flag=True, help="List the members of chains, in search order, instead.")
@click.option(
    "--chains",
    type=click.Choice(["tree", "table", "flatten", "no-children", "inverse-tree", "inverse-table"]),
    help="How to show chains and their members (as the reference's tables).",
)
@click.option("--show-dataset-types", is_flag=True, help="Also show the dataset types in each collection.")
@click.option("--format", "form", type=click.Choice(["lines", "table", "json", "list"]), default="lines")
@log_options
def query_collections(
    repo: str,
    glob: tuple[str, ...],
    types: tuple[str, ...],
    flatten_chains: bool,
    chains: str | None,
    show_dataset_types: bool,
    form: str,
) -> None:
    """List the collections of REPO that match GLOB (all by default) with their types.

    A glob's * also matches '/'. A plain name that does not exist is an error.
    """
    wanted = {CollectionType.from_name(t) for t in split_names(types)} or set(CollectionType)
    flatten = flatten_chains or chains == "flatten"
    with _open(repo) as butler:
        found = butler.collections.query_info(
            split_names(glob) or "*",
            collection_types=wanted,
            flatten_chains=flatten,
            include_parents=chains is not None and chains.startswith("inverse"),
            include_summary=show_dataset_types,
        )
        infos = {i.name: i for i in found}
        if chains in ("tree", "inverse-tree"):
            for name in list(infos):
                _add_relatives(butler, infos, name, inverse=chains.startswith("inverse"))
    shown = [i.name for i in found]
    if chains in ("tree", "table", "inverse-tree", "inverse-table"):
        headers, rows = _chain_rows(shown, infos, chains)
    else:
        headers, rows = ["Name", "Type"], [[i.name, i.type.name] for i in found]
    if show_dataset_types:
        headers = [*headers, "Dataset Types"]
        rows = [
            [*row, ", ".join(sorted(infos[row[0].strip()].dataset_types or ()))]
            if row[0].strip() in infos
            else [*row, ""]
            for row in rows
        ]
    if chains is not None and form == "lines":
        form = "table"
    if form == "lines":
        width = max((len(i.name) for i in found), default=0)
        click.echo("collections:")
        for row in rows:
            click.echo("- " + "  ".join([row[0].ljust(width), *row[1:]]).rstrip())
    else:
        print_rows(headers, rows, form, left=True)


def _add_relatives(butler: Butler, infos: dict[str, CollectionInfo], name: str, *, inverse: bool) -> None:
    info = infos[name]
    for other in sorted(info.parents or ()) if inverse else info.children:
        if other not in infos:
            infos[other] = butler.collections.get_info(other, include_parents=inverse)
            _add_relatives(butler, infos, other, inverse=inverse)


def _chain_rows(
    names: list[str], infos: dict[str, CollectionInfo], chains: str
) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of the reference's views of chains."""
    inverse = chains.startswith("inverse")

    def relatives(name: str) -> list[str]:
        info = infos[name]
        return sorted(info.parents or ()) if inverse else list(info.children)

    rows: list[list[str]] = []
    if chains.endswith("tree"):

        def walk(name: str, depth: int) -> None:
            rows.append(["  " * depth + name, infos[name].type.name])
            for other in relatives(name):
                walk(other, depth + 1)

        for name in names:
            walk(name, 0)
        return ["Name", "Type"], rows
    for name in names:
        others = relatives(name)
        rows.append([name, infos[name].type.name, others[0] if others else ""])
        rows.extend(["", "", other] for other in others[1:])
    return ["Name", "Type", "Parents" if inverse else "Children"], rows


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@collections_option()
@where_option
@click.option(
    "--find-first", is_flag=True, help="Of each data ID only the first in the order of collections."
)
@click.option("--show-uri", is_flag=True, help="Also show where each file is.")
@order_by_option
@limit_option
@offset_option
@format_option
@log_options
def query_datasets(
    repo: str,
    glob: tuple[str, ...],
    collections: list[str],
    where: str,
    find_first: bool,
    show_uri: bool,
    order_by: tuple[str, ...],
    limit: int,
    offset: int,
    form: str,
) -> None:
    """List datasets of the types that match GLOB (all by default), a table for each type."""
    with _open(repo) as butler:
        searched = collections or ["*"]
        names = [
            i.name
            for i in butler.collections.query_info(searched, flatten_chains=bool(collections))
            if i.type is not CollectionType.CHAINED
        ]
        types = _dataset_types(butler, split_names(glob), names)
        shown = 0
        everything: list[dict[str, Any]] = []
        for name in types:
            refs = list(
                butler.query_datasets(
                    name,
                    names,
                    find_first=find_first,
                    where=where,
                    order_by=split_names(order_by) or None,
                    limit=row_limit(limit),
                    explain=False,
                )
            )[offset:]
            if not refs:
                continue
            shown += len(refs)
            headers, rows = _dataset_rows(butler, refs, show_uri)
            if form == "json":
                everything += [dict(zip(headers, row, strict=True)) for row in rows]
            elif form == "list":
                print_rows(headers, rows, "list", list_column=headers.index("id"))
            else:
                print_table(headers, rows)
        if form == "json":
            import json

            click.echo(json.dumps(everything, indent=1, default=str))
        elif not shown:
            looked = ", ".join(repr(c) for c in collections) or "any collection"
            kinds = ", ".join(repr(g) for g in split_names(glob)) or "any type"
            click.echo(
                f"No dataset of {kinds} in {looked}" + (f" where {where}." if where else "."), err=True
            )


def _dataset_types(butler: Butler, globs: list[str], collections: list[str]) -> list[str]:
    """Return the names of the dataset types that match and are in the collections."""
    from ..vocabulary.collection import glob_regex
    from ..vocabulary.dataset_type import split_component

    plain = [g for g in globs if not is_glob(g)]
    for name in plain:
        butler.get_dataset_type(split_component(name)[0])  # unknown: an error that names the nearest
    summaries = butler.collections.query_info(collections, include_summary=True) if collections else []
    present = {t for i in summaries for t in i.dataset_types or ()}
    if not globs:
        return sorted(present)
    patterns = [glob_regex(g) for g in globs]
    return sorted({n for n in present if any(p.fullmatch(n) for p in patterns)})


def _dataset_rows(
    butler: Butler, refs: list[DatasetRef], show_uri: bool
) -> tuple[list[str], list[list[Any]]]:
    dimensions = refs[0].datasetType.dimensions.required
    headers = ["type", "run", "id", *dimensions, *(["URI"] if show_uri else [])]
    rows = []
    for ref in refs:
        row: list[Any] = [ref.datasetType.name, ref.run, str(ref.id), *ref.dataId.required_values]
        if show_uri:
            row.append(str(butler.getURI(ref)))
        rows.append(row)
    return headers, rows


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Also show dimensions and storage class.")
@collections_option(help_text="Only dataset types with datasets in these collections.")
@format_option
@log_options
def query_dataset_types(
    repo: str, glob: tuple[str, ...], verbose: bool, collections: list[str], form: str
) -> None:
    """List the dataset types that match GLOB (all by default)."""
    with _open(repo) as butler:
        types = sorted(butler.registry.queryDatasetTypes(split_names(glob) or ...))
        if collections:
            infos = butler.collections.query_info(collections, flatten_chains=True, include_summary=True)
            present = {t for i in infos for t in i.dataset_types or ()}
            types = [t for t in types if t.name in present]
    headers = ["name", "dimensions", "storage class"] if verbose else ["name"]
    rows = [[t.name, list(t.dimensions.names), t.storageClass_name] if verbose else [t.name] for t in types]
    print_rows(headers, rows, form)


@click.command()
@repo_argument
@click.argument("dimensions", nargs=-1)
@collections_option(help_text="Collections of the datasets asked for by --datasets.")
@click.option("--datasets", multiple=True, metavar="TYPE", help="Only data IDs that have such a dataset.")
@where_option
@order_by_option
@limit_option
@offset_option
@format_option
@log_options
def query_data_ids(
    repo: str,
    dimensions: tuple[str, ...],
    collections: list[str],
    datasets: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int,
    offset: int,
    form: str,
) -> None:
    """List the data IDs of DIMENSIONS."""
    with _open(repo) as butler:
        from ..vocabulary.data_id import DataCoordinate

        group = butler.dimensions.conform(split_names(dimensions))
        with butler.query() as query:
            for name in split_names(datasets):
                group = group | butler.get_dataset_type(name).dimensions if not dimensions else group
                query = query.join_dataset_search(name, collections or None)
            result = query.data_ids(group.names).where(where)
            if order_by:
                result = result.order_by(*split_names(order_by))
            found: list[DataCoordinate] = list(result.limit(row_limit(abs(limit))))[offset:]
            reasons = [] if found else list(result.explain_no_results())
    headers = list(group.required) + list(group.implied)
    rows = [[d.get(n) for n in headers] for d in found]
    if rows or form != "table":
        print_rows(headers, rows, form)
    for reason in reasons:
        click.echo(reason, err=True)


@click.command()
@repo_argument
@click.argument("element")
@where_option
@order_by_option
@limit_option
@offset_option
@format_option
@log_options
def query_dimension_records(
    repo: str, element: str, where: str, order_by: tuple[str, ...], limit: int, offset: int, form: str
) -> None:
    """List the records of a dimension ELEMENT (visit, detector, patch ...)."""
    with _open(repo) as butler:
        records = butler.query_dimension_records(
            element,
            where=where,
            order_by=split_names(order_by) or None,
            limit=row_limit(limit),
            explain=False,
        )[offset:]
        headers = butler.dimensions[element].schema.names
    rows = [
        ["(region)" if n == "region" and r.region is not None else r.get(n) for n in headers] for r in records
    ]
    if rows or form != "table":
        print_rows(headers, rows, form)
    else:
        click.echo(f"No record of {element!r}" + (f" where {where}." if where else "."), err=True)
