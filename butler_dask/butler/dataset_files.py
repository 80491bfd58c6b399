"""Files that come into a repository and go out of it as they are: ingest, retrieval, removal by reference."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ..datastore.datastore import Datastore, StagedDataset
from ..datastore.local_root import link_or_move
from ..datastore.storage_path import file_name, file_uri
from ..datastore.storage_root import copy_chunks, open_stream
from ..datastore.zip_archive import EXTENSION, members_of, unpacked
from ..errors import ConflictingDefinitionError, DatasetFileError, MissingDatasetFileError
from ..published_file import published
from ..registry.registry import Registry
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.file_record import FileDataset, FileRecord, FileTable
from .open_repository import OpenRepository


class DatasetURI(str):
    """URI of a dataset's file; a text with a few properties."""

    __slots__ = ()

    @property
    def ospath(self) -> str:
        """Local file name.

        Raises
        ------
        ValueError
            If it is not a local file.
        """
        if not self.startswith("file://"):
            raise ValueError(f"{self} is not a local file")
        return file_name(self)

    def geturl(self) -> str:
        """Return the URI as plain text."""
        return str(self)

    def exists(self) -> bool:
        """Return whether the file is there."""
        if self.startswith("file://"):
            return os.path.exists(self.ospath)
        try:
            open_stream(self).close()
        except FileNotFoundError:
            return False
        return True


def ingest(
    repository: OpenRepository,
    datasets: Sequence[tuple[FileDataset, str | None]],
    transfer: str,
    skip_existing: bool,
    record_sizes: bool = True,
) -> list[DatasetRef]:
    """Take existing files in, all or none; see `Butler.ingest`.

    Parameters
    ----------
    repository : `OpenRepository`
        Where to.
    datasets : sequence of (`FileDataset`, `str` or `None`)
        Files, and the storage class of each if it is not that of the dataset type.
    transfer : `str`
        Transfer mode.
    skip_existing : `bool`
        Pass over datasets (by id) that are there, and files that hold no other.
    record_sizes : `bool`
        Record size and checksum of the files.
    """
    registry, datastore = repository.registry, repository.datastore
    if skip_existing:
        datasets = _new_datasets(registry, datasets)
    with ExitStack() as stack:
        staged: list[StagedDataset] = []
        groups: dict[str, tuple[list[DatasetRef], list[FileRecord]]] = {}
        out: list[DatasetRef] = []
        for dataset, kind in datasets:
            if transfer == "move":
                check_movable(repository, dataset.path, dataset.refs[0])
            one = datastore.stage_ingest(
                dataset.path, dataset.refs[0], transfer, dataset.formatter, storage_class=kind
            )
            stack.callback(one.discard)
            staged.append(one)
            record = one.record if record_sizes else replace(one.record, size=-1, checksum="")
            for ref in dataset.refs:
                refs, records = groups.setdefault(ref.datasetType.name, ([], []))
                refs.append(ref)
                records.append(record)
                out.append(ref)
        with repository.transaction():
            for refs, records in groups.values():
                table = DatasetTable.from_refs(refs[0].datasetType, refs)
                registry.inserts.insert(table, FileTable.from_records(records))
            for one in staged:
                repository.publish(one)
        stack.pop_all()
    return out


def check_movable(repository: OpenRepository, path: str, ref: DatasetRef) -> None:
    """Raise if a file that is to be moved is a dataset's already, which would lose it.

    Parameters
    ----------
    repository : `OpenRepository`
        Where it is moved to.
    path : `str`
        The file.
    ref : `DatasetRef`
        Dataset it is to be.

    Raises
    ------
    ConflictingDefinitionError
        If a dataset of the repository is recorded there.
    """
    where = repository.datastore.stage_ingest(path, ref, "direct").record.path
    if repository.registry.datasets.recorded_paths([where]):
        raise ConflictingDefinitionError(
            f"{path} is the file of a dataset in this repository, which would lose it; take it in with "
            "--transfer auto, which lets both have it, or copy."
        )


def _new_datasets(
    registry: Registry, datasets: Sequence[tuple[FileDataset, str | None]]
) -> list[tuple[FileDataset, str | None]]:
    """Return files with those of their datasets that the registry does not have."""
    known = known_ids(registry, (ref for dataset, _ in datasets for ref in dataset.refs))
    out = []
    for dataset, kind in datasets:
        new = [ref for ref in dataset.refs if ref.id not in known]
        if new:
            out.append((FileDataset(dataset.path, new, dataset.formatter), kind))
    return out


def known_ids(registry: Registry, refs: Iterable[DatasetRef]) -> set[uuid.UUID]:
    """Return the ids of those of some datasets that the registry has.

    Raises
    ------
    ConflictingDefinitionError
        If an id is known for another type, data ID or RUN.
    """
    refs = list(refs)
    known = set()
    for ref, there in zip(refs, registry.datasets.find_many([r.id for r in refs]), strict=True):
        if there is None:
            continue
        if (there.datasetType.name, there.dataId, there.run) != (ref.datasetType.name, ref.dataId, ref.run):
            raise ConflictingDefinitionError(
                f"Dataset {ref.id} is there as {there.datasetType.name!r} {there.dataId} in RUN "
                f"{there.run!r}, not as {ref.datasetType.name!r} {ref.dataId} in RUN {ref.run!r}. Nothing "
                "was taken in; leave it out, or remove the one that is there."
            )
        known.add(ref.id)
    return known


def retrieve(
    repository: OpenRepository,
    refs: Sequence[DatasetRef],
    destination: str | os.PathLike[str],
    transfer: str = "auto",
    preserve_path: bool = True,
    overwrite: bool = False,
) -> list[DatasetURI]:
    """Copy the files of datasets to a directory.

    Parameters
    ----------
    repository : `OpenRepository`
        Where they are.
    refs : sequence of `DatasetRef`
        Datasets.
    destination : path
        Local directory; made if it is not there.
    transfer : `str`
        "auto" and "copy" copy; "link", "hardlink", "symlink", "relsymlink" link.
    preserve_path : `bool`
        Keep the directories below the datastore's root, else all files lie side by side.
    overwrite : `bool`
        Replace files that are there.

    Returns
    -------
    uris : `list` [`DatasetURI`]
        The new files.

    Raises
    ------
    MissingDatasetFileError
        If a dataset has no file.
    DatasetFileError
        If a file is there and not to be replaced.
    """
    if transfer not in ("auto", "copy", "link", "hardlink", "symlink", "relsymlink"):
        raise DatasetFileError(f"Files are retrieved by copy or a kind of link, not {transfer!r}")
    place = os.path.abspath(os.fspath(destination))
    registry, datastore = repository.registry, repository.datastore
    records = registry.datasets.files_of_ids([ref.id for ref in refs])
    targets: dict[str, str] = {}
    packed: dict[str, uuid.UUID] = {}
    for ref, record in zip(refs, records, strict=True):
        if record is None:
            raise MissingDatasetFileError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} has no file"
            )
        path = source = record.path
        member = member_of(datastore, record, ref)
        if member is not None:
            path = source = f"{record.path}/{member}"
        absolute = "://" in path
        name = path if preserve_path and not absolute else path.rpartition("/")[2]
        target = os.path.join(place, name)
        if targets.setdefault(target, source) != source:
            raise DatasetFileError(f"Two files would be called {target}; use preserve_path=True")
        if os.path.lexists(target) and not overwrite:
            raise DatasetFileError(f"{target} is there already; use overwrite=True to replace it")
        if member is not None:
            targets[target], packed[target] = record.path, ref.id
    for target, path in targets.items():
        os.makedirs(os.path.dirname(target), exist_ok=True)
        uri = datastore.uri(path)
        is_local = uri.startswith("file:")
        local = DatasetURI(uri).ospath if is_local else uri
        if target in packed:
            with unpacked(local, packed[target]) as name:
                _copy(name, target)
        elif transfer in ("auto", "copy"):
            _copy(local, target)
        else:
            link_or_move(local if is_local else DatasetURI(uri).ospath, target, transfer)
    return [DatasetURI(file_uri(t)) for t in targets]


def _copy(source: str, target: str) -> None:
    with published(target) as stream:
        for chunk in copy_chunks(open_stream(source)):
            stream.write(chunk)


def member_of(datastore: Datastore, record: FileRecord, ref: DatasetRef) -> str | None:
    """Return the member of a Zip file that a dataset is in; `None` when it has a file of its own."""
    if not record.path.endswith(EXTENSION):
        return None
    uri = datastore.uri(record.path)
    return members_of(DatasetURI(uri).ospath if uri.startswith("file:") else uri).get(ref.id)
