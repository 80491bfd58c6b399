"""``butler query-...``: what is in a repository, apart from its collections.

Answers go to standard output, reasons for there being none to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import butler_dask as bd

from ..errors import did_you_mean
from ..vocabulary.collection import is_glob, split_names
from .command import log_options
from .options import (
    chooses_data_ids,
    chooses_datasets,
    collections_option,
    explain_query_option,
    explained,
    option_set,
    repo_argument,
    row_options,
    selection_options,
    warn_of_more,
    where_option,
)
from .tables import format_option, print_json, print_rows, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..butler.butler import Butler
    from ..butler.dataset_choice import DataIdChoice, DatasetChoice
    from ..vocabulary.dataset import DatasetTable

_answer_options = option_set(format_option, explain_query_option, log_options)
_MOST_ROWS = -20000
"""Rows shown by default, with a warning when there are more."""


@contextmanager
def _opened(repo: str, explain: bool) -> Iterator[Butler]:

    with bd.Butler(repo, writeable=False) as butler, explained(butler.repository.registry, explain):
        yield butler


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@selection_options()
@click.option("--show-uri", is_flag=True, help="Also show where each file is.")
@row_options(_MOST_ROWS)
@_answer_options
@chooses_datasets
def query_datasets(repo: str, choice: DatasetChoice, show_uri: bool, form: str, explain_query: bool) -> None:
    """List datasets of the types that match GLOB (all by default), a table for each type.

    Exit status 1 if dataset types are named and there is no such dataset; the reasons are on standard error.

    Example: butler query-datasets DATA raw --collections HSC/raw/all --where "exposure=903344"

    Example: butler query-datasets DATA 'calexp*' src --collections u/me/1 --find-first --show-uri
    """
    with _opened(repo, explain_query) as butler, butler.query() as query:
        results = choice.results(butler, query)
        shown, more = 0, False
        documents: list[dict[str, Any]] = []
        for table, cut in choice.tables(results):
            more = cut
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
        warn_of_more("datasets", more, choice.limit)
        if not shown:
            head, *reasons = choice.reasons_for_nothing(butler, results)
            click.echo("\n".join([head, *(f"  {reason}" for reason in reasons)]), err=True)
            if any(not is_glob(g) for g in choice.globs):
                raise SystemExit(1)


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
@_answer_options
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
@row_options(_MOST_ROWS)
@_answer_options
@chooses_data_ids
def query_data_ids(
    repo: str, dimensions: tuple[str, ...], choice: DataIdChoice, form: str, explain_query: bool
) -> None:
    """List the data IDs of DIMENSIONS and of all that these imply.

    Example: butler query-data-ids DATA visit detector --where "instrument='HSC' AND visit=903344"

    Example: butler query-data-ids DATA --datasets raw --collections HSC/raw/all --order-by=-exposure
    """
    if not dimensions and not choice.datasets:
        click.echo("No data ID without dimensions: name some, or dataset types with --datasets.", err=True)
        return
    _remark_collections(choice)
    with _opened(repo, explain_query) as butler, butler.query() as query:
        kinds, query = choice.joined(butler, query)
        group = butler.dimensions.conform(split_names(dimensions))
        if not dimensions:
            group = group.union(*(butler.get_dataset_type(name).dimensions for name in kinds))
        found, cut, reasons = choice.found(query.data_ids(group.names).where(choice.where), "data IDs")
    headers = list(group.required) + list(group.implied)
    print_rows(headers, [[d.get(n) for n in headers] for d in found], form)
    warn_of_more("data IDs", cut, choice.limit)
    _explain_nothing("data ID", found, reasons, choice.offset)


def _remark_collections(choice: DataIdChoice) -> None:
    if choice.collections and not choice.datasets:
        click.echo("--collections says where --datasets are; without these it has no effect.", err=True)


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
@row_options(_MOST_ROWS)
@click.option(
    "--no-check", is_flag=True, expose_value=False, help="Accepted; expressions are always checked."
)
@_answer_options
@chooses_data_ids
def query_dimension_records(
    repo: str, element: str, choice: DataIdChoice, form: str, explain_query: bool
) -> None:
    """List the records of a dimension ELEMENT (visit, detector, patch ...).

    Example: butler query-dimension-records DATA visit --where "instrument='HSC'" --order-by=-timespan.begin
    """
    _remark_collections(choice)
    with _opened(repo, explain_query) as butler, butler.query() as query:
        _, query = choice.joined(butler, query)
        results = query.where(choice.where).dimension_records(element)
        records, cut, reasons = choice.found(results, f"{element} records")
        headers = butler.dimensions[element].schema.names
    rows = [[r.get(n) for n in headers] for r in records]
    if form != "json" and "region" in headers:
        place = list(headers).index("region")
        for row in rows:
            row[place] = None if row[place] is None else "(region)"
    print_rows(headers, rows, form)
    warn_of_more(f"{element} records", cut, choice.limit)
    _explain_nothing(f"record of {element!r}", records, reasons, choice.offset)
