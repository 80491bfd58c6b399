"""``butler check``: whether what is recorded is there."""

from __future__ import annotations

from contextlib import suppress

import click

import butler_dask as bd

from ..errors import RunInUseError
from ..vocabulary.collection import CollectionType
from .command import log_options
from .options import repo_argument


@click.command()
@repo_argument
@click.option("--checksums", is_flag=True, help="Read every file and compare its checksum.")
@click.option(
    "--repair",
    is_flag=True,
    help="Record what interrupted runs finished, un-record what is missing or damaged, delete stray files.",
)
@click.option(
    "--older-than",
    type=float,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --repair: leave stray files younger than this, somebody may be writing them.",
)
@log_options
def check(repo: str, checksums: bool, repair: bool, older_than: float) -> None:
    """Compare what REPO has recorded with its files; exit 1 if a recorded one is missing or damaged.

    The registry's tables are compared with what its schema version says, too. Runs that are being written
    just now are not repaired.
    """
    with bd.Butler(repo, writeable=repair) as butler:
        if repair:
            for info in butler.collections.query_info("*", collection_types={CollectionType.RUN}):
                with suppress(RunInUseError):  # it is told below
                    bd.engine.recover_run(butler.repository, info.name)
        found = bd.butler.check_repository(butler.repository, checksums=checksums)
        for line in found.lines():
            click.echo(line)
        if repair and not found.is_clean:
            for live in bd.butler.repair_repository(butler.repository, found, older_than_s=older_than):
                click.echo(f"left alone: {live}")
            found = bd.butler.check_repository(butler.repository, checksums=checksums)
            click.echo(f"After repair: {found.lines()[-1]}")
    if found.faults or found.schema:
        raise SystemExit(1)
