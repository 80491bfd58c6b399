"""``butler query-...``: what is in a repository, apart from its collections.

Answers go to standard output, reasons for there being none to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import butler_dask as bd

from ..errors import InvalidQueryError, MissingDatasetTypeError, did_you_mean
from ..vocabulary.collection import CollectionType, glob_regex, is_glob, split_names
from .command import log_options
from .options import (
    collections_option,
    explain_query_option,
    explained,
    find_first_option,
    limit_option,
    offset_option,
    order_by_option,
    repo_argument,
    row_limit,
    where_option,
)
from .tables import format_option, print_json, print_rows, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..butler.butler import Butler
    from ..butler.datasets_of_types import DatasetQueryResults
    from ..butler.query import Query
    from ..butler.query_results import QueryResults
    from ..vocabulary.dataset import DatasetTable


@contextmanager
def _opened(repo: str, explain: bool) -> Iterator[Butler]:

    with bd.Butler(repo, writeable=False) as butler, explained(butler.repository.registry, explain):
        yield butler


def _warn_of_more(what: str, cut: bool, limit: int) -> None:
    if cut:
        click.echo(f"More {what} are there than the {-limit} shown; --limit 0 shows all.", err=True)


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@collections_option()
@where_option
@find_first_option
@click.option("--show-uri", is_flag=True, help="Also show where each file is.")
@order_by_option
@limit_option(-20000)
@offset_option
@format_option
@explain_query_option
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
    explain_query: bool,
) -> None:
    """List datasets of the types that match GLOB (all by default), a table for each type.

    Exit status 1 if dataset types are named and there is no such dataset; the reasons are on standard error.

    Example: butler query-datasets DATA raw --collections HSC/raw/all --where "exposure=903344"

    Example: butler query-datasets DATA 'calexp*' src --collections u/me/1 --find-first --show-uri
    """
    import numpy as np

    globs = split_names(glob)
    with _opened(repo, explain_query) as butler, butler.query() as query:
        results = found_datasets(butler, query.where(where), globs, collections, find_first=find_first)
        results = results.order_by(*split_names(order_by))
        # One row more than shown is asked for where there may be a warning.
        most = None if limit == 0 else abs(limit) + (limit < 0)
        shown, cut = 0, False
        documents: list[dict[str, Any]] = []
        for table in results.limit(most, offset).tables:
            cut = limit < 0 and shown + len(table) == most
            if cut:
                table = table.take(np.arange(len(table) - 1))
            if not len(table):
                continue
            shown += len(table)
            headers, columns = _dataset_columns(butler, table, show_uri)
            if form == "json":
                rows = zip(*columns, strict=True)
                documents += [dict(zip(headers, row, strict=True)) for row in rows]
            elif form == "list":
                click.echo("\n".join(columns[headers.index("id")]))
            else:
                click.echo()
                print_table(headers, list(zip(*columns, strict=True)))
        if form == "json":
            print_json(documents)
        _warn_of_more("datasets", cut, limit)
        if not shown:
            _explain_no_datasets(butler, globs, collections, where, list(results.byParentDatasetType()))
            if any(not is_glob(g) for g in globs):
                raise SystemExit(1)


def found_datasets(
    butler: Butler, query: Query, globs: Sequence[str], collections: Sequence[str], *, find_first: bool
) -> DatasetQueryResults:
    """Return the datasets of the types that names and globs (none: all) are about, lazily.

    Parameters
    ----------
    butler : `Butler`
        Where to look.
    query : `Query`
        Has the condition.
    globs : sequence of `str`
        Names and globs of dataset types.
    collections : sequence of `str`
        Names and globs; none: all.
    find_first : `bool`
        Of each data ID only the first.
    """
    names = searched_collections(butler, collections, find_first=find_first)
    return query.datasets_of_types(dataset_types_in(butler, globs, names), names, find_first=find_first)


def searched_collections(butler: Butler, collections: Sequence[str], *, find_first: bool) -> list[str]:
    """Return the collections, none of them a chain, that names and globs (none: all) are about, in order.

    Raises
    ------
    InvalidQueryError
        If the first dataset is asked for and there is no order to look in.
    """
    if find_first and (not collections or any(is_glob(c) for c in collections)):
        raise InvalidQueryError(
            "The first dataset of each data ID is found in collections searched in an order: name them "
            "(--collections A,B), without globs."
        )
    infos = butler.collections.query_info(collections or "*", flatten_chains=bool(collections))
    return [i.name for i in infos if i.type is not CollectionType.CHAINED]


def dataset_types_in(butler: Butler, globs: Sequence[str], collections: Sequence[str]) -> list[str]:
    """Return the names of the dataset types that match globs (none: all) and are in collections.

    Raises
    ------
    MissingDatasetTypeError
        If a plain name is not registered; the nearest one is named.
    """
    plain = [g for g in globs if not is_glob(g)]
    for name in plain:
        butler.get_dataset_type(name)
    summaries = butler.collections.query_info(collections, include_summary=True) if collections else []
    present = {t for i in summaries for t in i.dataset_types or ()}
    if not globs:
        return sorted(present)
    patterns = [glob_regex(g) for g in globs]
    matching = {n for n in present if any(p.fullmatch(n) for p in patterns)}
    return sorted(matching | {n for n in plain if bd.vocabulary.split_component(n)[0] in present})


def _explain_no_datasets(
    butler: Butler,
    globs: Sequence[str],
    collections: Sequence[str],
    where: str,
    asked: Sequence[QueryResults[Any]],
) -> None:
    """Say on standard error why no dataset was found."""
    looked = ", ".join(repr(c) for c in collections) or "any collection"
    kinds = ", ".join(repr(g) for g in globs) or "any type"
    click.echo(f"No dataset of {kinds} in {looked}" + (f" where {where}." if where else "."), err=True)
    reasons = [reason for results in asked[:3] for reason in results.explain_no_results()]
    if not asked:
        known = {t.name for t in butler.registry.queryDatasetTypes(list(globs) or ...)}
        if not known:
            reasons = ["No dataset type matches; `butler query-dataset-types` lists them."]
        elif collections:
            reasons = [f"The collections hold none of the types {', '.join(sorted(known)[:10])}."]
    for reason in dict.fromkeys(reasons):
        click.echo(f"  {reason}", err=True)


def _dataset_columns(
    butler: Butler, table: DatasetTable, show_uri: bool
) -> tuple[list[str], list[Sequence[Any]]]:
    """Return headers and columns of datasets; whole columns, for there may be a million of them."""
    kind = table.dataset_type
    required = kind.dimensions.required
    n = len(table)
    columns: list[Sequence[Any]] = [
        [kind.name] * n,
        [table.runs[i] for i in table.run_codes.tolist()],
        table.id_texts(),
        *(table.data_ids.values(name).tolist() for name in required),
    ]
    headers = ["type", "run", "id", *required]
    if show_uri:
        files = butler.repository.registry.datasets.files_of(table)
        uri = butler.datastore.uri
        columns.append([uri(path) if path else None for path in files.paths])
        headers.append("URI")
    return headers, columns


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Also show dimensions and storage class.")
@collections_option(help_text="Only dataset types with datasets in these collections.")
@format_option
@explain_query_option
@log_options
def query_dataset_types(
    repo: str, glob: tuple[str, ...], verbose: bool, collections: list[str], form: str, explain_query: bool
) -> None:
    """List the dataset types that match GLOB (all by default).

    Example: butler query-dataset-types DATA 'calexp*' -v --collections u/me/1
    """
    missing: list[str] = []
    with _opened(repo, explain_query) as butler:
        types = sorted(butler.registry.queryDatasetTypes(split_names(glob) or ..., missing=missing))
        if collections:
            infos = butler.collections.query_info(collections, flatten_chains=True, include_summary=True)
            present = {t for i in infos for t in i.dataset_types or ()}
            types = [t for t in types if t.name in present]
        known = [] if types else [t.name for t in butler.registry.queryDatasetTypes()]
    headers = ["name", "dimensions", "storage class"] if verbose else ["name"]
    rows = [[t.name, list(t.dimensions.names), t.storageClass_name] if verbose else [t.name] for t in types]
    if verbose and form == "json":
        headers.append("is calibration")
        rows = [[*row, t.isCalibration()] for row, t in zip(rows, types, strict=True)]
    print_rows(headers, rows, form, left=True)
    if not types:
        names = ", ".join(repr(g) for g in split_names(glob)) or "'*'"
        where = f" in {', '.join(map(repr, collections))}" if collections else ""
        hint = did_you_mean(missing[0], known) if missing else ""
        click.echo(f"No dataset type matches {names}{where}.{hint}", err=True)


@click.command()
@repo_argument
@click.argument("dimensions", nargs=-1)
@collections_option(help_text="Collections of the datasets asked for by --datasets; all by default.")
@click.option(
    "--datasets",
    multiple=True,
    metavar="GLOB[,..]",
    help="Only data IDs that have a dataset of each of these types; without DIMENSIONS, of their dimensions.",
)
@where_option
@order_by_option
@limit_option(-20000)
@offset_option
@format_option
@explain_query_option
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
    explain_query: bool,
) -> None:
    """List the data IDs of DIMENSIONS and of all that these imply.

    Example: butler query-data-ids DATA visit detector --where "instrument='HSC' AND visit=903344"

    Example: butler query-data-ids DATA --datasets raw --collections HSC/raw/all --order-by=-exposure
    """
    if not dimensions and not datasets:
        click.echo("No data ID without dimensions: name some, or dataset types with --datasets.", err=True)
        return
    _remark_collections(collections, datasets)
    with _opened(repo, explain_query) as butler, butler.query() as query:
        kinds, query = _joined(butler, query, datasets, collections)
        group = butler.dimensions.conform(split_names(dimensions))
        if not dimensions:
            group = group.union(*(butler.get_dataset_type(name).dimensions for name in kinds))
        result = query.data_ids(group.names).where(where).order_by(*split_names(order_by))
        found, cut = result.limit(None, offset or None).all_or_explained(
            "data IDs", explain=False, limit=row_limit(limit)
        )
        reasons = [] if found else list(result.explain_no_results())
    headers = list(group.required) + list(group.implied)
    print_rows(headers, [[d.get(n) for n in headers] for d in found], form)
    _warn_of_more("data IDs", cut, limit)
    _explain_nothing("data ID", found, reasons, offset)


def _remark_collections(collections: Sequence[str], datasets: Sequence[str]) -> None:
    if collections and not datasets:
        click.echo("--collections says where --datasets are; without these it has no effect.", err=True)


def _joined(
    butler: Butler, query: Query, datasets: Sequence[str], collections: Sequence[str]
) -> tuple[list[str], Query]:
    """Return the dataset types that names and globs are about, and the query for data IDs with all."""
    globs = split_names(datasets)
    if not globs:
        return [], query
    names = searched_collections(butler, collections, find_first=False)
    plain = [g for g in globs if not is_glob(g)]
    matching = dataset_types_in(butler, [g for g in globs if is_glob(g)], names) if plain != globs else []
    kinds = list(dict.fromkeys([*plain, *matching]))
    if not kinds:
        raise MissingDatasetTypeError(f"No dataset type in the collections matches {', '.join(globs)}.")
    for name in kinds:
        query = query.join_dataset_search(name, names)
    return kinds, query


def _explain_nothing(what: str, found: Sequence[Any], reasons: Sequence[str], offset: int) -> None:
    if found:
        return
    if not reasons:
        reasons = [f"No {what} after the first {offset} (--offset)." if offset else f"No {what} matches."]
    for reason in reasons:
        click.echo(reason, err=True)


@click.command()
@repo_argument
@click.argument("element")
@click.option("--datasets", multiple=True, metavar="GLOB[,..]", help="Only records that have such a dataset.")
@collections_option(help_text="Collections of the datasets asked for by --datasets; all by default.")
@where_option
@order_by_option
@limit_option(-20000)
@offset_option
@click.option(
    "--no-check", is_flag=True, expose_value=False, help="Accepted; expressions are always checked."
)
@format_option
@explain_query_option
@log_options
def query_dimension_records(
    repo: str,
    element: str,
    datasets: tuple[str, ...],
    collections: list[str],
    where: str,
    order_by: tuple[str, ...],
    limit: int,
    offset: int,
    form: str,
    explain_query: bool,
) -> None:
    """List the records of a dimension ELEMENT (visit, detector, patch ...).

    Example: butler query-dimension-records DATA visit --where "instrument='HSC'" --order-by=-timespan.begin
    """
    _remark_collections(collections, datasets)
    with _opened(repo, explain_query) as butler, butler.query() as query:
        _, query = _joined(butler, query, datasets, collections)
        result = query.where(where).dimension_records(element).order_by(*split_names(order_by))
        records, cut = result.limit(None, offset or None).all_or_explained(
            f"{element} records", explain=False, limit=row_limit(limit)
        )
        reasons = [] if records else list(result.explain_no_results())
        headers = butler.dimensions[element].schema.names
    rows = [[r.get(n) for n in headers] for r in records]
    if form != "json" and "region" in headers:
        place = list(headers).index("region")
        for row in rows:
            row[place] = None if row[place] is None else "(region)"
    print_rows(headers, rows, form)
    _warn_of_more(f"{element} records", cut, limit)
    _explain_nothing(f"record of {element!r}", records, reasons, offset)
