"""DatasetTransfers: how files and datasets come into a repository and leave it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike

from .dataset_files import DatasetURI, ingest, retrieve, tables_of_refs
from .dataset_removal import DatasetRemoval
from .datastore.datastore import Datastore
from .errors import DatasetNotFoundError, RepositoryError
from .registry.registry import Registry
from .repository_export import ExportContent, RepositoryExport, associate_content, register_content
from .vocabulary.collection import CollectionType
from .vocabulary.dataset import DatasetRef, DatasetTable
from .vocabulary.dimension_record import DimensionRecord
from .vocabulary.dimensions import DimensionUniverse
from .vocabulary.file_record import FileDataset


class DatasetTransfers(DatasetRemoval):
    """Transfers between a repository and the world; `Butler` inherits them."""

    _datastore: Datastore

    def ingest(
        self,
        *datasets: FileDataset,
        transfer: str | None = "auto",
        record_validation_info: bool = True,
        skip_existing: bool = False,
    ) -> list[DatasetRef]:
        """Take existing files in, all or none.

        Parameters
        ----------
        *datasets : `FileDataset`
            Files and what is in them; dataset types, runs and dimension records must be there.
        transfer : `str`, optional
            One of `butler_dask.datastore.file_ingest.TRANSFER_MODES`; `None` is "direct".
        record_validation_info : `bool`
            Not used; sizes are always recorded.
        skip_existing : `bool`
            Pass over files all of whose datasets (by id) are there.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            What was taken in.

        Raises
        ------
        ConflictingDefinitionError
            If a run has a dataset of the type for a data ID; nothing is changed.
        DatasetFileError
            If there is no such file, or it cannot be transferred.
        """
        self._require_writeable("ingest files")
        files = [(dataset, None) for dataset in datasets]
        return ingest(
            self._registry, self._datastore, self._files, files, transfer or "direct", skip_existing
        )

    def retrieveArtifacts(
        self,
        refs: Iterable[DatasetRef],
        destination: str | PathLike[str],
        transfer: str = "auto",
        preserve_path: bool = True,
        overwrite: bool = False,
    ) -> list[DatasetURI]:
        """Copy (or link) the files of datasets to a directory; see `butler_dask.dataset_files.retrieve`."""
        return retrieve(
            self._registry, self._datastore, list(refs), destination, transfer, preserve_path, overwrite
        )

    def transfer_from(
        self,
        source_butler: DatasetTransfers,
        source_refs: Iterable[DatasetRef],
        transfer: str = "auto",
        skip_missing: bool = True,
        register_dataset_types: bool = False,
        transfer_dimensions: bool = False,
        dry_run: bool = False,
    ) -> list[DatasetRef]:
        """Take datasets of another repository in, with their ids and runs; those that are there stay.

        Parameters
        ----------
        source_butler : `Butler`
            The other repository.
        source_refs : iterable of `DatasetRef`
            Its datasets.
        transfer : `str`
            How files are transferred; see `ingest`.
        skip_missing : `bool`
            Pass over datasets whose files are missing (otherwise that is an error).
        register_dataset_types : `bool`
            Register dataset types that are not.
        transfer_dimensions : `bool`
            Insert dimension records that are missing.
        dry_run : `bool`
            Only return what would be taken in.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            What was taken in.
        """
        self._require_writeable("transfer datasets")
        refs = list({ref.id: ref for ref in source_refs}.values())
        known = {r.id for r in self._registry.get_datasets([r.id for r in refs]) if r is not None}
        refs = [ref for ref in refs if ref.id not in known]
        files: dict[str, tuple[FileDataset, str | None]] = {}
        source = source_butler._registry, source_butler._datastore
        for ref, file in zip(refs, source[0].files_of_ids([r.id for r in refs]), strict=True):
            if file is None or not source[1].exists(file.path):
                if skip_missing:
                    continue
                raise DatasetNotFoundError(f"{ref.datasetType.name} {ref.dataId} in {ref.run!r} has no file")
            uri = source[1].uri(file.path)
            dataset = FileDataset(uri, [], file.formatter)
            files.setdefault(file.path, (dataset, file.storage_class))[0].refs.append(ref)
        taken = [ref for dataset, _ in files.values() for ref in dataset.refs]
        if dry_run:
            return taken
        tables = tables_of_refs(taken)
        if register_dataset_types:
            self._registry.register_dataset_types([t.dataset_type for t in tables])
        with self._files.begin():
            if transfer_dimensions:
                for name, records in _records_of(source[0], tables).items():
                    self._registry.insert_dimension_records(name, records, skip_existing=True)
            for run in dict.fromkeys(ref.run for ref in taken):
                doc = source[0].get_collection(run).doc
                self._registry.register_collection(run, CollectionType.RUN, doc)
            return ingest(self._registry, self._datastore, self._files, list(files.values()), transfer, False)

    @contextmanager
    def export(
        self,
        *,
        directory: str | PathLike[str] | None = None,
        filename: str | PathLike[str] | None = None,
        format: str | None = None,
        transfer: str | None = None,
    ) -> Iterator[RepositoryExport]:
        """Write part of the repository as an export file (the reference's ``export.yaml``) and copied files.

        Parameters
        ----------
        directory : path, optional
            Where to; the file's own directory when not given.
        filename : path, optional
            Name of the export file; ``export.yaml`` in the directory when not given.
        format : `str`, optional
            "yaml"; there is no other.
        transfer : `str`, optional
            How files come into the directory (see `retrieveArtifacts`); `None` leaves them where they are.

        Yields
        ------
        export : `RepositoryExport`
            Takes what is to be exported; the file is written at the end, unless there is an exception.
        """
        if format not in (None, "yaml"):
            raise RepositoryError(f"No export format {format!r}; there is 'yaml'")
        place = None if directory is None else os.path.abspath(os.fspath(directory))
        if filename is None and place is None:
            raise RepositoryError("Give the directory to export to, or the name of the export file")
        name = os.fspath(filename) if filename is not None else os.path.join(str(place), "export.yaml")
        if not os.path.isabs(name) and place is not None:
            name = os.path.join(place, name)
        os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
        export = RepositoryExport(
            self._registry, self._datastore, place or os.path.dirname(os.path.abspath(name)), transfer
        )
        yield export
        export.finish(name)

    def import_(
        self,
        *,
        directory: str | PathLike[str] | None = None,
        filename: str | PathLike[str] | None = None,
        format: str | None = None,
        transfer: str | None = None,
        skip_dimensions: Iterable[str] | None = None,
    ) -> list[DatasetRef]:
        """Take in what an export file says, of this package or the reference, all or nothing.

        Parameters
        ----------
        directory : path, optional
            Where the files are, and the export file if it is not named; by default this
            repository's root.
        filename : path, optional
            Name of the export file; ``export.yaml`` in the directory when not given.
        format : `str`, optional
            "yaml"; there is no other.
        transfer : `str`, optional
            How files are taken in (see `ingest`); "auto" when not given.
        skip_dimensions : iterable of `str`, optional
            Elements whose records are not taken in.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            New datasets; those that are there already stay.

        Raises
        ------
        RepositoryError
            If it is no export file.
        ConflictingDefinitionError
            If something in it contradicts the repository.
        """
        self._require_writeable("import")
        if format not in (None, "yaml"):
            raise RepositoryError(f"No export format {format!r}; there is 'yaml'")
        place = self._datastore.root if directory is None else os.fspath(directory)
        name = os.fspath(filename) if filename is not None else f"{place}/export.yaml"
        if directory is not None and not os.path.isabs(name) and not os.path.exists(name):
            name = f"{place}/{name}"
        content = ExportContent(name)
        with self._files.begin():
            register_content(self._registry, content, skip_dimensions or ())
            files = [(dataset, None) for dataset in content.files(self._registry, os.path.abspath(place))]
            refs = ingest(self._registry, self._datastore, self._files, files, transfer or "auto", True)
            associate_content(self._registry, content)
        return refs


def _records_of(registry: Registry, tables: list[DatasetTable]) -> dict[str, list[DimensionRecord]]:
    """Return the dimension records of datasets by element, in an order in which they can be inserted."""
    records: dict[str, dict[object, DimensionRecord]] = {}
    for table in tables:
        for data_id in registry.expand_data_ids(table.data_ids):
            for name, record in data_id.records.items():
                if record is not None:
                    records.setdefault(name, {})[record.dataId] = record
    return {name: list(records[name].values()) for name in DimensionUniverse().sorted(records)}
