"""``butler query-collections``: the collections of a repository, as lines, tables, trees or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import butler_dask as bd

from ..vocabulary.collection import CollectionType, glob_regex, split_names
from .command import log_options
from .options import explain_query_option, explained, repo_argument
from .tables import print_json, print_table

if TYPE_CHECKING:
    from ..vocabulary.collection import CollectionInfo

_Infos = Mapping[str, "CollectionInfo"]
_CHAINS = ("tree", "table", "flatten", "no-children", "inverse-tree", "inverse-table")


@click.command()
@repo_argument
@click.argument("glob", nargs=-1)
@click.option(
    "--collection-type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only collections of this type: RUN, CHAINED, TAGGED or CALIBRATION, in either letter case.",
)
@click.option("--flatten-chains", is_flag=True, help="List the members of chains, in search order, instead.")
@click.option(
    "--chains",
    type=click.Choice(_CHAINS, case_sensitive=False),
    help="A table instead of lines. tree: members below each chain; table: members in a column; "
    "inverse-tree, inverse-table: the chains each collection is in; flatten: members instead of chains; "
    "no-children: chains without their members.",
)
@click.option(
    "-t", "--show-dataset-types", is_flag=True, help="Also show the dataset types in each collection."
)
@click.option(
    "--exclude-dataset-types",
    default="*_config,*_log,*_metadata,packages",
    show_default=True,
    metavar="GLOB[,..]",
    help="Dataset types that --show-dataset-types leaves out.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "table", "json", "list"]),
    help="How to print: lines with name and type (the default, but for --chains), a table, JSON, or names.",
)
@explain_query_option
@log_options
def query_collections(
    repo: str,
    glob: tuple[str, ...],
    types: tuple[str, ...],
    flatten_chains: bool,
    chains: str | None,
    show_dataset_types: bool,
    exclude_dataset_types: str,
    form: str | None,
    explain_query: bool,
) -> None:
    """List the collections of REPO that match GLOB (all by default) with their types.

    The * of a glob also matches '/'. A plain name that does not exist is an error.

    Example: butler query-collections DATA 'HSC/calib/*' --collection-type RUN

    Example: butler query-collections DATA --chains tree u/me/1 -t
    """
    # Not a Butler: this command is typed so often that it should not wait for the imports of datastores.

    wanted = {CollectionType.from_name(t) for t in split_names(types)} or None
    inverse = chains is not None and chains.startswith("inverse")
    registry = bd.Repository.find(repo).open_registry(writeable=False)
    try:
        with explained(registry, explain_query):
            found = registry.collections.query(
                split_names(glob) or "*",
                types=wanted,
                flatten_chains=flatten_chains or chains == "flatten",
                include_parents=inverse,
                include_summary=show_dataset_types,
            )
            infos = {i.name: i for i in found}
            if chains in ("tree", "table", "inverse-tree"):
                others = registry.collections.query(
                    "*", include_parents=inverse, include_summary=show_dataset_types
                )
                infos = {i.name: i for i in others}
    finally:
        registry.close()
    if not found:
        names = ", ".join(repr(g) for g in split_names(glob)) or "'*'"
        kinds = f" of type {', '.join(sorted(t.name for t in wanted))}" if wanted else ""
        click.echo(f"No collection{kinds} matches {names}.", err=True)
    hidden = [glob_regex(g) for g in split_names(exclude_dataset_types)]

    def dataset_types(name: str) -> list[str]:
        info = infos[name]
        if info.type is CollectionType.CHAINED and chains is not None and chains.endswith("tree"):
            return []  # they stand beside its members
        shown = sorted(info.dataset_types or ())
        return [t for t in shown if not any(h.fullmatch(t) for h in hidden)]

    form = form or ("lines" if chains is None else "table")
    if form == "list":
        for info in found:
            click.echo(info.name)
    elif form == "json":
        print_json([_document(i, dataset_types(i.name) if show_dataset_types else None) for i in found])
    elif form == "lines":
        _print_lines(found, dataset_types if show_dataset_types else None)
    else:
        rows = _rows([i.name for i in found], infos, chains or "no-children")
        headers = ["Name", "Type"]
        if chains in ("table", "inverse-table"):
            headers.append("Parents" if inverse else "Children")
        if show_dataset_types:
            headers.append("Dataset Types")
            rows = _with_dataset_types(rows, dataset_types, member_column=chains == "table")
        print_table(headers, rows, left=True)


def _document(info: CollectionInfo, dataset_types: Sequence[str] | None) -> dict[str, Any]:
    """Return what JSON says of a collection."""
    out: dict[str, Any] = {"name": info.name, "type": info.type.name, "doc": info.doc}
    if info.type is CollectionType.CHAINED:
        out["children"] = list(info.children)
    if info.parents is not None:
        out["parents"] = sorted(info.parents)
    if dataset_types is not None:
        out["dataset_types"] = list(dataset_types)
    return out


def _print_lines(found: Sequence[CollectionInfo], dataset_types: Any) -> None:
    """Print the tutorial's list, the type of each collection beside it."""
    width = max((len(i.name) for i in found), default=0)
    kind_width = max((len(i.type.name) for i in found), default=0)
    lines = ["collections:"]
    for info in found:
        words = [info.name.ljust(width), info.type.name]
        if dataset_types is not None:
            words = [words[0], words[1].ljust(kind_width), ", ".join(dataset_types(info.name))]
        lines.append("- " + "  ".join(words).rstrip())
    click.echo("\n".join(lines))


def _rows(names: Sequence[str], infos: _Infos, chains: str) -> list[list[str]]:
    """Return name, type and, for the tables of members, member or parent of each row."""
    inverse = chains.startswith("inverse")

    def relatives(name: str) -> list[str]:
        info = infos[name]
        return sorted(info.parents or ()) if inverse else list(info.children)

    rows: list[list[str]] = []
    if chains.endswith("tree"):
        pending = [(name, 0) for name in sorted(names, reverse=True)]
        while pending:
            name, depth = pending.pop()
            rows.append(["  " * depth + name, infos[name].type.name])
            pending += [(other, depth + 1) for other in reversed(relatives(name))]
    elif chains.endswith("table"):
        for name in sorted(names):
            others = relatives(name) or [""]
            rows.append([name, infos[name].type.name, others[0]])
            rows += [["", "", other] for other in others[1:]]
    else:
        rows = [[name, infos[name].type.name] for name in names]
    return rows


def _with_dataset_types(rows: list[list[str]], dataset_types: Any, *, member_column: bool) -> list[list[str]]:
    """Return rows with a column of dataset types, one a line.

    They are those of the collection named first in the row or, in the table of members, of the member.
    """
    out = []
    for row in rows:
        name = (row[2] if member_column and row[2] else row[0]).strip()
        kinds = dataset_types(name) if name else []
        out.append([*row, kinds[0] if kinds else ""])
        out += [[*([""] * len(row)), kind] for kind in kinds[1:]]
    return out
