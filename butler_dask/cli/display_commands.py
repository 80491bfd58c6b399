"""``butler display``: an image dataset as a picture."""

from __future__ import annotations

import click

import butler_dask as bd

from ..vocabulary.collection import split_names
from .command import log_options
from .options import collections_option, data_id_of, repo_argument


@click.command()
@repo_argument
@click.argument("dataset_type")
@click.argument("data_id", nargs=-1, metavar="[KEY=VALUE]...")
@collections_option(required=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="PNG file to write.")
@click.option(
    "--stretch", type=click.Choice(["zscale", "asinh", "minmax"]), default="asinh", show_default=True
)
@click.option(
    "--mask", "planes", multiple=True, metavar="PLANE[,..]", help="Mask planes to overlay; 'all'; 'none'."
)
@click.option("--sources", metavar="TYPE", help="Mark the sources of this catalogue (src, icSrc).")
@log_options
def display(
    repo: str,
    dataset_type: str,
    data_id: tuple[str, ...],
    collections: list[str],
    output: str,
    stretch: str,
    planes: tuple[str, ...],
    sources: str | None,
) -> None:
    """Draw the image DATASET_TYPE (raw, postISRCCD, calexp, deepCoadd_directWarp ...) of a data ID.

    Example: butler display DATA calexp visit=903344 detector=5 --collections u/me/1 -o calexp.png
    """
    keys = data_id_of(data_id)
    with bd.Butler(repo, collections=collections, writeable=False) as butler:
        exposure = butler.get(dataset_type, keys)
        catalog = butler.get(sources, keys) if sources else None
    title = f"{dataset_type} {', '.join(f'{k}={v}' for k, v in keys.items())}"
    figure = bd.imaging.draw_exposure(
        exposure, title=title, stretch=stretch, mask_planes=split_names(planes) or None, sources=catalog
    )
    bd.imaging.write_picture(figure, output)
    click.echo(f"Wrote {output}")
