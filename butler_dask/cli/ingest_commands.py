"""``butler ingest-files`` to ``butler define-visits``: files that come into a repository as they are."""

from __future__ import annotations

import click

import butler_dask as bd

from ..vocabulary.collection import split_names
from .command import log_options
from .options import collections_option, data_id_of, repo_argument, transfer_option, where_option
from .progress import busy
from .transfer_commands import track_file_attrs_option


@click.command()
@repo_argument
@click.argument("dataset_type")
@click.argument("run")
@click.argument("table_file")
@click.option("--formatter", metavar="CLASS", help="Dotted name of what reads the files.")
@click.option(
    "--id-generation-mode",
    type=click.Choice(["UNIQUE", "DATAID_TYPE", "DATAID_TYPE_RUN"], case_sensitive=False),
    default="UNIQUE",
    show_default=True,
    help="New ids, or ids that follow from data ID and dataset type, and run.",
)
@click.option(
    "--data-id", multiple=True, metavar="KEY=VALUE[,..]", help="Data ID values of all files of the table."
)
@click.option(
    "--prefix", default="", metavar="PATH", help="What file names are relative to; by default this directory."
)
@track_file_attrs_option
@transfer_option("auto")
@log_options
def ingest_files(
    repo: str,
    dataset_type: str,
    run: str,
    table_file: str,
    formatter: str | None,
    id_generation_mode: str,
    data_id: tuple[str, ...],
    prefix: str,
    track_file_attrs: bool,
    transfer: str,
) -> None:
    """Ingest the files that TABLE_FILE lists as datasets of DATASET_TYPE into RUN. All of them, or none.

    The first column of the table (ECSV, CSV, FITS ...) has the files, the others are dimensions. Dataset type
    and dimension records must be there. A file may be in several rows.

    Example: butler ingest-files DATA bias HSC/biases biases.ecsv --data-id instrument=HSC --transfer copy
    """
    # It imports what data IDs and paths are made of, which the help of these commands need not wait for.
    from .ingest_table import files_of_table, read_table

    with bd.Butler(repo, writeable=True) as butler:
        kind = butler.get_dataset_type(dataset_type)
        files = files_of_table(
            read_table(table_file),
            kind,
            run,
            data_id=data_id_of(data_id),
            formatter=formatter,
            prefix=prefix,
            id_mode=id_generation_mode.upper(),
            name=table_file,
        )
        with busy(f"Ingesting {len(files)} files"), butler.transaction():
            butler.collections.register(run)
            refs = butler.ingest(*files, transfer=transfer, record_validation_info=track_file_attrs)
    click.echo(f"Ingested {len(refs)} datasets of {dataset_type} into {run}")


@click.command()
@repo_argument
@click.argument("zip_file", metavar="ZIP")
@transfer_option("auto")
@click.option(
    "--transfer-dimensions/--no-transfer-dimensions",
    default=False,
    help="Whether dimension records that are missing come along, as far as the file has them.",
)
@click.option("--dry-run/--no-dry-run", default=False, help="Only say what would be ingested.")
@click.option("--skip-existing", is_flag=True, help="Do nothing if the datasets are there already.")
@log_options
def ingest_zip(
    repo: str, zip_file: str, transfer: str, transfer_dimensions: bool, dry_run: bool, skip_existing: bool
) -> None:
    """Ingest the Zip file that butler retrieve-artifacts --zip made. The files are read from inside it.

    Runs and dataset types are made as needed.
    """
    with bd.Butler(repo, writeable=True) as butler, busy("Ingesting"):
        refs = butler.ingest_zip(
            zip_file,
            transfer,
            transfer_dimensions=transfer_dimensions,
            dry_run=dry_run,
            skip_existing=skip_existing,
        )
    would = " (not done: --dry-run)" if dry_run else ""
    click.echo(f"Ingested {len(refs)} datasets from {zip_file}{would}")


@click.command()
@repo_argument
@click.argument("locations", nargs=-1, required=True)
@click.option(
    "-r",
    "--regex",
    default=r"\.fits?(\.gz|\.fz)?$",
    show_default=True,
    help="Names of raws in directories: a regular expression found in them.",
)
@click.option(
    "-c",
    "--config",
    multiple=True,
    metavar="KEY=VALUE",
    help="failFast=true|false, transfer=MODE: the options of that name, as Rubin's Butler takes them.",
)
@click.option("--output-run", metavar="RUN", help="RUN to put the raws in; INSTRUMENT/raw/all by default.")
@click.option("-I", "--instrument", help="Only needed where files do not say which of several they are from.")
@click.option("-j", "--processes", type=click.IntRange(1), default=1, help="Threads that read headers.")
@click.option(
    "--fail-fast",
    is_flag=True,
    help="Ingest nothing if any file is bad; otherwise the good ones are ingested (exit status 1).",
)
@click.option(
    "--skip-existing/--no-skip-existing",
    default=False,
    help="Pass over files whose raws are in the repository already.",
)
@click.option("--update-records", is_flag=True, help="Replace exposure records that exist and differ.")
@track_file_attrs_option
@transfer_option("link")
@log_options
# More than ten parameters: each is an option of this command alone.
def ingest_raws(
    repo: str,
    locations: tuple[str, ...],
    regex: str,
    config: tuple[str, ...],
    output_run: str | None,
    instrument: str | None,
    processes: int,
    fail_fast: bool,
    skip_existing: bool,
    update_records: bool,
    track_file_attrs: bool,
    transfer: str,
) -> None:
    """Ingest raw FITS files (LOCATIONS: files, directories or globs).

    Each bad file is named with what is wrong; the others are ingested, unless there is --fail-fast. Exit
    status 1 if any file was bad.

    Example: butler ingest-raws DATA raws/ --transfer link
    """
    for text in split_names(config):
        key, equals, value = text.partition("=")
        if key == "failFast" and value.lower() in ("true", "false"):
            fail_fast = value.lower() == "true"
        elif key == "transfer" and equals:
            transfer = value.strip("'\"")
        else:
            raise click.BadParameter(
                f"{text!r} is neither failFast=true|false nor transfer=MODE", param_hint="--config"
            )
    with bd.Butler(repo, writeable=True) as butler:
        files = bd.instruments.find_raw_files(locations, regex)
        with busy(f"Ingesting {len(files)} raws"):
            ingested = bd.instruments.ingest_raws(
                butler,
                files,
                run=output_run,
                transfer=transfer,
                instrument=bd.Instrument.from_repository(butler.root, instrument) if instrument else None,
                processes=processes,
                fail_fast=fail_fast,
                skip_existing=skip_existing,
                update_exposure_records=update_records,
                record_validation_info=track_file_attrs,
            )
    runs = ", ".join(sorted({r.run for r in ingested.refs}))
    click.echo(f"Ingested {len(ingested.refs)} raws" + (f" into {runs}" if runs else ""))
    if ingested.problems:
        click.echo(f"{len(ingested.problems)} of {len(files)} raw files could not be ingested.", err=True)
        raise SystemExit(1)


@click.command()
@repo_argument
@click.argument("instrument")
@collections_option(help_text="Where the raws are; INSTRUMENT/raw/all by default.")
@where_option
@click.option(
    "--update-records/--no-update-records",
    default=False,
    help="Replace visit records that exist and differ.",
)
@click.option("--incremental", is_flag=True, help="Accepted: visits may always be defined anew as raws come.")
@log_options
def define_visits(
    repo: str, instrument: str, collections: list[str], where: str, update_records: bool, incremental: bool
) -> None:
    """Define a visit for each on-sky exposure of INSTRUMENT, with the regions its detectors cover."""
    with bd.Butler(repo, writeable=True) as butler:
        count = bd.instruments.define_visits(
            butler,
            bd.Instrument.from_repository(butler.root, instrument),
            collections=collections or None,
            where=where,
            update_records=update_records,
        )
    click.echo(f"Defined {count} visits")
