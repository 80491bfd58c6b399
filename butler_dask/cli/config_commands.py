"""``butler create``, ``config-dump`` and ``config-validate``: a repository's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import click

import butler_dask as bd

from ..vocabulary.collection import glob_regex, split_names
from .command import log_options
from .options import repo_argument


@click.command()
@repo_argument
@click.option("--registry", metavar="URL", help="Database URL; SQLite inside REPO by default.")
@click.option("--datastore", metavar="URL", help="Where files go (s3://bucket/prefix); REPO by default.")
@click.option("--overlay", metavar="SHARED", help="Lay it upon the repository SHARED, which is only read.")
@click.option(
    "--seed-config",
    metavar="FILE",
    help="YAML file with settings of the new repository: templates, formatters, datastore ...",
)
@click.option(
    "--override",
    is_flag=True,
    help="Let --seed-config also say where the registry and the files are, not only how they are kept.",
)
@click.option("--dimension-config", metavar="FILE", help="Refused: the dimensions are the same everywhere.")
@click.option(
    "--standalone",
    is_flag=True,
    expose_value=False,
    help="Accepted; every repository is independent of this program's defaults.",
)
@click.option(
    "-f", "--outfile", metavar="FILE", help="Write the configuration there instead of REPO/butler.yaml."
)
@log_options
def create(
    repo: str,
    registry: str | None,
    datastore: str | None,
    overlay: str | None,
    seed_config: str | None,
    override: bool,
    dimension_config: str | None,
    outfile: str | None,
) -> None:
    """Make an empty repository at REPO, a directory that is made if it does not exist.

    Example: butler create DATA

    Example: butler create DATA --registry postgresql+psycopg://me@db.host/survey --datastore s3://survey/data
    """
    if dimension_config is not None:
        raise click.UsageError(
            f"The dimensions of a repository cannot be configured here: they are those of the reference's "
            f"universe, version {bd.vocabulary.UNIVERSE_VERSION}. Leave --dimension-config out."
        )
    settings = {} if seed_config is None else bd.butler.seed_settings(seed_config, with_places=override)
    bd.Butler.makeRepo(
        repo, config=settings, registry=registry, datastore=datastore, overlay=overlay, outfile=outfile
    )
    click.echo(f"Made an empty repository at {repo}")


@click.command()
@repo_argument
@click.option(
    "-s",
    "--subset",
    metavar="KEY",
    help="Only this part, such as '.datastore.root', the first character being what separates the names.",
)
@click.option(
    "-p",
    "--searchpath",
    multiple=True,
    metavar="DIRECTORY",
    help="Refused: a configuration is its file alone.",
)
@click.option("--file", "output", type=click.File("w", lazy=True), default="-", help="Write to a file.")
@log_options
def config_dump(repo: str, subset: str | None, searchpath: tuple[str, ...], output: IO[str]) -> None:
    """Print the configuration of REPO as YAML, with what it leaves to defaults.

    Example: butler config-dump DATA --subset .datastore.root
    """
    import yaml

    if searchpath:
        raise click.UsageError("There are no search paths: a configuration is its butler.yaml alone.")
    document: Any = bd.butler.full_settings(bd.Repository.find(repo))
    if subset is not None:
        document = bd.butler.part_of_settings(document, subset, repo)
    if isinstance(document, Mapping):
        output.write(yaml.safe_dump(document, sort_keys=False))
    else:
        output.write(f"{document}\n")


@click.command()
@repo_argument
@click.option("-q", "--quiet", is_flag=True, help="Do not report the single faults.")
@click.option(
    "-d", "--dataset-type", "types", multiple=True, metavar="GLOB[,..]", help="Only these dataset types."
)
@click.option(
    "-i", "--ignore", "ignored", multiple=True, metavar="GLOB[,..]", help="Not these dataset types."
)
@log_options
def config_validate(repo: str, quiet: bool, types: tuple[str, ...], ignored: tuple[str, ...]) -> None:
    """Check that each dataset type of REPO has a path template and a formatter that fit it.

    Exit status 1 if one has not.
    """
    left_out = [glob_regex(g) for g in split_names(ignored)]
    with bd.Butler(repo, writeable=False) as butler:
        kinds = [
            t
            for t in butler.registry.queryDatasetTypes(split_names(types) or ...)
            if not any(g.fullmatch(t.name) for g in left_out)
        ]
        found = butler.datastore.layout.problems(kinds)
    for text in found if not quiet else ():
        click.echo(text)
    if found:
        raise click.ClickException(f"{len(found)} faults in the configuration of {repo}.")
    click.echo("No problems encountered with configuration.")
