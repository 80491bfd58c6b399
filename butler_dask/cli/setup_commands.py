"""``butler register-...`` to ``butler demo``: filling a repository with what processing needs."""

from __future__ import annotations

import click

import butler_dask as bd

from ..errors import UNREADABLE, DescriptionError
from ..vocabulary.collection import split_names
from .command import log_options
from .options import collections_option, data_id_of, repo_argument, where_option


@click.command()
@repo_argument
@click.argument("instrument", nargs=-1, required=True)
@click.option("--update", is_flag=True, help="Change records that exist and differ.")
@log_options
def register_instrument(repo: str, instrument: tuple[str, ...], update: bool) -> None:
    """Register INSTRUMENT: a name known here (HSC, EFOSC2), a camera YAML file, or a class."""
    with bd.Butler(repo, writeable=True) as butler:
        for name in instrument:
            found = bd.Instrument.from_string(name)
            found.register(butler, update=update)
            click.echo(f"Registered {found.getName()}")


@click.command()
@repo_argument
@click.argument("instrument")
@log_options
def write_curated_calibrations(repo: str, instrument: str) -> None:
    """Write what the camera file of INSTRUMENT carries (camera, defects ...) and certify it."""
    with bd.Butler(repo, writeable=True) as butler:
        refs = bd.instruments.write_curated_calibrations(
            butler, bd.Instrument.from_repository(butler.root, instrument)
        )
    click.echo(f"Wrote {len(refs)} curated calibrations of {instrument}")


@click.command()
@repo_argument
@click.argument("skymap_file", type=click.Path(exists=True, dir_okay=False))
@log_options
def register_skymap(repo: str, skymap_file: str) -> None:
    """Register the sky map described by the YAML file SKYMAP_FILE."""
    import yaml

    with open(skymap_file, encoding="utf-8") as stream:
        try:
            content = yaml.safe_load(stream)
        except (yaml.YAMLError, *UNREADABLE) as error:
            raise DescriptionError(f"{skymap_file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise DescriptionError(f"{skymap_file} does not describe a sky map: a mapping is expected.")
    with bd.Butler(repo, writeable=True) as butler:
        skymap = bd.imaging.SkyMap.from_dict(content)
        bd.instruments.register_skymap(butler, skymap)
    click.echo(f"Registered sky map {skymap.name}")


@click.command()
@repo_argument
@click.argument("name")
@where_option
@click.option("--instrument", help="Only visits of this instrument.")
@click.option("--pixel-scale", type=float, default=0.2, show_default=True, help="[arcsec]")
@click.option(
    "--patch-size", type=int, default=4000, show_default=True, help="Inner size of a patch [pixels]."
)
@click.option("--patch-border", type=int, default=100, show_default=True, help="Overlap of patches [pixels].")
@log_options
def make_discrete_skymap(
    repo: str,
    name: str,
    where: str,
    instrument: str | None,
    pixel_scale: float,
    patch_size: int,
    patch_border: int,
) -> None:
    """Define the sky map NAME: one tract around the visits there are."""
    with bd.Butler(repo, writeable=True) as butler:
        skymap = bd.instruments.make_discrete_skymap(
            butler,
            name,
            instrument=instrument,
            where=where,
            pixel_scale_arcsec=pixel_scale,
            patch_inner_size=patch_size,
            patch_border=patch_border,
        )
    click.echo(f"Registered sky map {skymap.name}")


@click.command()
@repo_argument
@click.argument("catalog")
@click.argument("data_id", nargs=-1, metavar="[KEY=VALUE]...")
@collections_option(help_text="Where to find CATALOG if it is a dataset.")
@click.option("--dataset-type", default="reference_catalog", show_default=True)
@click.option("--run", default="refcats", show_default=True, help="RUN to put the shards in.")
@click.option("--band", help="Name of the flux columns when CATALOG is a source catalogue measured here.")
@log_options
def ingest_reference_catalog(
    repo: str,
    catalog: str,
    data_id: tuple[str, ...],
    collections: list[str],
    dataset_type: str,
    run: str,
    band: str | None,
) -> None:
    """Shard CATALOG by htm7 and put it as reference catalogue.

    CATALOG is a table file (FITS, ECSV ...) with id, coord_ra, coord_dec and <band>_flux columns, or a source
    catalogue; or, with KEY=VALUE and --collections, a dataset type such as src.
    """
    with bd.Butler(repo, writeable=True) as butler:
        keys = data_id_of(data_id)
        table = (
            butler.get(catalog, keys, collections=collections)
            if keys
            else bd.instruments.read_catalog(catalog)
        )
        shards = bd.instruments.ingest_reference_catalog(
            butler, table, dataset_type=dataset_type, run=run, band=band
        )
    click.echo(f"Put {shards} shards of {dataset_type} in {run}")


@click.command()
@repo_argument
@click.argument("name")
@click.argument("storage_class")
@click.argument("dimensions", nargs=-1)
@click.option("--is-calibration", is_flag=True, help="Whether it may be in CALIBRATION collections.")
@log_options
def register_dataset_type(
    repo: str, name: str, storage_class: str, dimensions: tuple[str, ...], is_calibration: bool
) -> None:
    """Register the dataset type NAME."""
    with bd.Butler(repo, writeable=True) as butler:
        kind = bd.DatasetType(
            name,
            split_names(dimensions),
            bd.vocabulary.find_storage_class(storage_class),
            isCalibration=is_calibration,
        )
        new = butler.registry.registerDatasetType(kind)
    click.echo("Registered" if new else "Already registered")


@click.command()
@repo_argument
@click.argument("instrument")
@click.option("--add", multiple=True, metavar="COLLECTION", help="Further collections, at the end.")
@log_options
def define_defaults(repo: str, instrument: str, add: tuple[str, ...]) -> None:
    """Make the chain INSTRUMENT/defaults of raws, calibrations, masks, refcats and skymaps there are."""
    with bd.Butler(repo, writeable=True) as butler:
        name, members = bd.instruments.define_default_collections(butler, instrument, split_names(add))
    click.echo(f"{name}: [{', '.join(members)}]")


@click.command()
@repo_argument
@click.option("--small", is_flag=True, help="Detectors of 1k x 1k pixels: quick to make and to process.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulated sky.")
@click.option("--registry", metavar="URL", help="Database URL; SQLite inside REPO by default.")
@log_options
def demo(repo: str, small: bool, seed: int, registry: str | None) -> None:
    """Make the tutorial's repository at REPO from a simulated survey.

    Simulates HSC raws of several visits and calibrations, then ingests them by the ordinary commands.
    """
    bd.instruments.make_demo(repo, small=small, seed=seed, registry=registry)
    click.echo(f"Made a demonstration repository at {repo}")
