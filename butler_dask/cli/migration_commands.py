"""``butler migrate``: the tables of an older registry brought up to date."""

from __future__ import annotations

import click

import butler_dask as bd

from .command import log_options
from .options import dry_run_option, repo_argument


@click.command()
@repo_argument
@dry_run_option
@log_options
def migrate(repo: str, dry_run: bool) -> None:
    """Bring the registry of REPO to the schema version of this program, all or nothing.

    The file of a SQLite registry is copied beside itself first. Nobody else should use REPO meanwhile.
    """
    url = bd.Repository.find(repo).registry_url
    plan = bd.registry.plan_migration(url) if dry_run else bd.registry.migrate(url)
    for line in plan.lines():
        click.echo(line)
    if plan.steps:
        click.echo("Nothing was changed." if dry_run else "Done.")
