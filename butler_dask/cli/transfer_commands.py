"""``butler export`` to ``butler transfer-datasets``: parts of a repository on their way to another place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import butler_dask as bd

from ..errors import RepositoryError
from ..vocabulary.collection import CollectionType, split_names
from .command import log_options
from .options import (
    chooses_datasets,
    limit_option,
    option_set,
    order_by_option,
    repo_argument,
    selection_options,
    transfer_option,
    warn_of_more,
)
from .progress import busy
from .tables import format_option, print_rows

if TYPE_CHECKING:
    from ..butler.butler import Butler
    from ..butler.dataset_choice import DatasetChoice
    from ..vocabulary.dataset import DatasetRef

dataset_type_option = click.option(
    "-d",
    "--dataset-type",
    "dataset_type",
    multiple=True,
    metavar="GLOB[,..]",
    help="Names or globs of dataset types; all when not given.",
)
track_file_attrs_option = click.option(
    "--track-file-attrs/--no-track-file-attrs",
    default=True,
    help="Whether to record size and checksum of the files.",
)


_taken_options = option_set(
    selection_options(), limit_option(-20000), order_by_option, transfer_option("auto")
)


def _taken(butler: Butler, choice: DatasetChoice) -> list[DatasetRef]:
    """Return the datasets a transfer is about, each once; say so if a limit leaves some out."""
    refs, cut = choice.refs(butler)
    warn_of_more("datasets", cut, choice.limit, deed="taken", word="takes")
    return refs


@click.command()
@repo_argument
@click.argument("directory")
@click.argument("glob", nargs=-1)
@selection_options()
@transfer_option("copy")
@log_options
@chooses_datasets
def export(repo: str, directory: str, choice: DatasetChoice, transfer: str) -> None:
    """Export datasets of the types that match GLOB (all by default) to DIRECTORY, which must not exist.

    DIRECTORY gets export.yaml and the files. With --collections, these collections go along: chains with
    their members, tagged and calibration collections with the memberships of the datasets exported.
    `butler import` takes the directory in, here or with Rubin's Butler.

    Example: butler export DATA /tmp/out 'calexp*' --collections u/me/1
    --where "instrument='HSC' AND visit=903344"
    """
    with bd.Butler(repo, writeable=False) as butler:
        refs = _taken(butler, choice)
        names = _with_members(butler, choice.collections) if choice.collections else []
        with busy(f"Exporting {len(refs)} datasets"), _new_export(butler, directory, transfer) as out:
            for name in names:
                out.saveCollection(name)
            out.saveDatasets(refs)
    click.echo(f"Exported {len(refs)} datasets to {directory}")


def _with_members(butler: Butler, collections: Sequence[str]) -> list[str]:
    flat = butler.collections.query_info(collections, flatten_chains=True, include_chains=True)
    return [info.name for info in flat]


@contextmanager
def _new_export(butler: Butler, directory: str, transfer: str) -> Iterator[Any]:
    """Export to a directory made for it and, on an error, removed."""
    import os
    import shutil

    if os.path.lexists(directory):
        raise RepositoryError(f"{directory} is there already; export to a new directory.")
    os.makedirs(directory)
    try:
        with butler.export(directory=directory, format="yaml", transfer=transfer) as out:
            yield out
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


@click.command()
@repo_argument
@click.argument("directory")
@click.argument("collections", nargs=-1)
@dataset_type_option
@transfer_option("auto")
@format_option
@log_options
def export_calibs(
    repo: str,
    directory: str,
    collections: tuple[str, ...],
    dataset_type: tuple[str, ...],
    transfer: str,
    form: str,
) -> None:
    """Export calibrations with their validity ranges to DIRECTORY, which must not exist.

    COLLECTIONS (all by default) are calibration collections and chains of them.

    Example: butler export-calibs DATA /tmp/calibs HSC/calib --dataset-type bias,dark
    """
    with bd.Butler(repo, writeable=False) as butler:
        infos = butler.collections.query_info(
            split_names(collections) or "*",
            flatten_chains=True,
            include_chains=True,
            collection_types={CollectionType.CALIBRATION, CollectionType.CHAINED},
        )
        held = [i.name for i in infos if i.type is CollectionType.CALIBRATION]
        if not held:
            raise RepositoryError("There is no calibration collection in " + (", ".join(collections) or repo))
        globs = split_names(dataset_type)
        kinds = [k for k in butler.registry.queryDatasetTypes(globs or ...) if k.isCalibration()]
        found = [
            association.ref
            for kind in kinds
            for association in butler.repository.registry.associations.query(kind, held)
        ]
        refs = sorted({ref.id: ref for ref in found}.values(), key=lambda r: (r.datasetType.name, r.dataId))
        with busy(f"Exporting {len(refs)} calibrations"), _new_export(butler, directory, transfer) as out:
            for info in infos:
                out.saveCollection(info.name)
            out.saveDatasets(refs)
    names = list(dict.fromkeys(n for kind in kinds for n in kind.dimensions.required))
    rows = [[r.datasetType.name, r.run, *(r.dataId.get(n) for n in names)] for r in refs]
    print_rows(["calibrationType", "run", *names], rows, form)


@click.command("import")
@repo_argument
@click.argument("directory")
@transfer_option("auto")
@click.option(
    "--export-file",
    metavar="FILE",
    help="Name of the export file, looked for here and in DIRECTORY.  [default: export.yaml in DIRECTORY]",
)
@click.option(
    "-s",
    "--skip-dimensions",
    multiple=True,
    metavar="ELEMENT[,..]",
    help="Elements whose dimension records are not taken in.",
)
@track_file_attrs_option
@click.option(
    "--overwrite-chains",
    is_flag=True,
    help="Give chains that are there the members the export file says; otherwise they stay as they are.",
)
@click.option(
    "--trust-paths",
    is_flag=True,
    help="Take files outside DIRECTORY too, if the export file names them; they are never moved.",
)
@log_options
def import_(
    repo: str,
    directory: str,
    transfer: str,
    export_file: str | None,
    skip_dimensions: tuple[str, ...],
    track_file_attrs: bool,
    overwrite_chains: bool,
    trust_paths: bool,
) -> None:
    """Take in what was exported to DIRECTORY, here or by Rubin's Butler. REPO is made if it is not there.

    All or nothing; what is there already stays, so that the command may be repeated.

    Example: butler import DATA /tmp/out --transfer copy
    """
    with _repository_for(repo), bd.Butler(repo, writeable=True) as butler, busy("Importing"):
        refs = butler.import_(
            directory=directory,
            filename=export_file,
            transfer=transfer,
            skip_dimensions=split_names(skip_dimensions),
            record_validation_info=track_file_attrs,
            overwrite_chains=overwrite_chains,
            trust_paths=trust_paths,
        )
    click.echo(f"Imported {len(refs)} datasets into {repo}")


@contextmanager
def _repository_for(repo: str) -> Iterator[None]:
    """Make a repository if there is none; one made here is removed on an error."""
    import os
    import shutil

    if os.path.lexists(repo) or "://" in repo or repo in bd.butler.known_repositories():
        yield
        return
    bd.Butler.makeRepo(repo)
    try:
        yield
    except BaseException:
        shutil.rmtree(repo, ignore_errors=True)
        raise


@click.command()
@click.argument("source")
@click.argument("dest")
@click.argument("glob", nargs=-1)
@dataset_type_option
@_taken_options
@click.option(
    "--register-dataset-types", is_flag=True, help="Register dataset types that DEST does not have."
)
@click.option(
    "--transfer-dimensions/--no-transfer-dimensions",
    default=True,
    help="Whether dimension records that DEST lacks go along.",
)
@click.option("--dry-run/--no-dry-run", default=False, help="Only say how many would be transferred.")
@log_options
@chooses_datasets
def transfer_datasets(
    source: str,
    dest: str,
    choice: DatasetChoice,
    transfer: str,
    register_dataset_types: bool,
    transfer_dimensions: bool,
    dry_run: bool,
) -> None:
    """Transfer datasets of the types that match GLOB (all by default) from SOURCE to DEST, two repositories.

    They keep their ids and runs; those that are there already stay.

    Example: butler transfer-datasets DATA OTHER 'calexp*' --collections u/me/1 --register-dataset-types
    """
    with bd.Butler(source, writeable=False) as theirs, bd.Butler(dest, writeable=True) as ours:
        refs = _taken(theirs, choice)
        with busy(f"Transferring {len(refs)} datasets"):
            taken = ours.transfer_from(
                theirs,
                refs,
                transfer=transfer,
                register_dataset_types=register_dataset_types,
                transfer_dimensions=transfer_dimensions,
                dry_run=dry_run,
            )
    would = " (not done: --dry-run)" if dry_run else ""
    click.echo(f"Number of datasets transferred: {len(taken)}{would}")


@click.command()
@repo_argument
@click.argument("destination")
@dataset_type_option
@_taken_options
@click.option("-v", "--verbose", is_flag=True, help="List the new files.")
@click.option(
    "--preserve-path/--no-preserve-path",
    default=True,
    help="Whether the directories below the datastore's root are made at the destination too.",
)
@click.option("--clobber/--no-clobber", default=False, help="Whether files that are there are replaced.")
@click.option(
    "--zip/--no-zip", "zip_", default=False, help="Put them into one Zip file (see butler ingest-zip)."
)
@log_options
@chooses_datasets
def retrieve_artifacts(
    repo: str,
    destination: str,
    choice: DatasetChoice,
    transfer: str,
    verbose: bool,
    preserve_path: bool,
    clobber: bool,
    zip_: bool,
) -> None:
    """Copy the files of datasets to the directory DESTINATION.

    Example: butler retrieve-artifacts DATA out -d calexp --collections u/me/1
    --where "instrument='HSC' AND visit=903344"
    """
    made: list[str] = []
    with bd.Butler(repo, writeable=False) as butler:
        refs = _taken(butler, choice)
        with busy(f"Retrieving {len(refs)} datasets"):
            if refs and zip_:
                made = [str(butler.retrieve_artifacts_zip(refs, destination, overwrite=clobber))]
            elif refs:
                uris = butler.retrieveArtifacts(refs, destination, transfer, preserve_path, clobber)
                made = [str(uri) for uri in uris]
    if not refs:
        click.echo("No datasets matched query.")
    elif zip_:
        click.echo(f"Zip file written to {made[0]}")
    else:
        if verbose:
            click.echo("\n".join([f"Transferred the following to {destination}:", *made, ""]))
        click.echo(f"Number of artifacts retrieved into destination {destination}: {len(made)}")
