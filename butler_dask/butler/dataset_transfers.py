"""DatasetTransfers: how files and datasets come into a repository and leave it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike

from ..datastore.storage_path import is_absolute
from ..errors import ConflictingDefinitionError, RepositoryError, reading_description
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef, tables_of_refs
from ..vocabulary.file_record import FileDataset
from .butler_parts import ButlerParts
from .dataset_files import DatasetURI, ingest, known_ids, retrieve
from .dataset_zip import ZipContent, write_zip
from .dimension_transfers import data_id_tables, insert_records, records_of_data_ids
from .repository_export import RepositoryExport
from .repository_import import ExportContent, associate_content, register_content


class DatasetTransfers(ButlerParts):
    """Transfers between a repository and the world; `Butler` inherits them."""

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
            Record size and checksum of the files; not for files that will change (be compressed in place).
        skip_existing : `bool`
            Pass over datasets (by id) that are there.

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
        self.repository.require_writeable("ingest files")
        files = [(dataset, None) for dataset in datasets]
        how = transfer or "direct"
        return ingest(self.repository, files, how, skip_existing, record_validation_info)

    def retrieveArtifacts(
        self,
        refs: Iterable[DatasetRef],
        destination: str | PathLike[str],
        transfer: str = "auto",
        preserve_path: bool = True,
        overwrite: bool = False,
    ) -> list[DatasetURI]:
        """Copy (or link) the files of datasets to a directory; see `dataset_files.retrieve`."""
        return retrieve(self.repository, list(refs), destination, transfer, preserve_path, overwrite)

    def retrieve_artifacts_zip(
        self, refs: Iterable[DatasetRef], destination: str | PathLike[str], overwrite: bool = True
    ) -> DatasetURI:
        """Put the files of datasets into one Zip file; see `butler_dask.butler.dataset_zip.write_zip`."""
        return write_zip(self.repository, list(refs), destination, overwrite)

    def ingest_zip(
        self,
        zip_file: str | PathLike[str],
        transfer: str = "auto",
        *,
        transfer_dimensions: bool = False,
        dry_run: bool = False,
        skip_existing: bool = False,
    ) -> list[DatasetRef]:
        """Take a Zip file of `retrieve_artifacts_zip` in, as one file, and all datasets in it; all or none.

        Runs and dataset types are made as needed.

        Parameters
        ----------
        zip_file : path
            Local file or URL; the reference's are read too.
        transfer : `str`
            How the Zip file is taken in; see `ingest`.
        transfer_dimensions : `bool`
            Insert dimension records that are missing, as far as the file has them.
        dry_run : `bool`
            Only return what would be taken in.
        skip_existing : `bool`
            Do nothing if all its datasets are there (otherwise that is an error).

        Returns
        -------
        refs : `list` [`DatasetRef`]
            What was taken in.

        Raises
        ------
        DatasetFileError
            If it is no such file.
        ConflictingDefinitionError
            If some of the datasets are there already.
        """
        self.repository.require_writeable("ingest a Zip file")
        content = ZipContent(_absolute(os.fspath(zip_file)))
        refs = content.refs
        if dry_run:
            return refs
        known = known_ids(self._registry, refs)
        if known and (len(known) < len(refs) or not skip_existing):
            raise ConflictingDefinitionError(
                f"{len(known)} of the {len(refs)} datasets in {zip_file} are in the repository already"
                + ("; skip_existing=True passes over it." if len(known) == len(refs) else ".")
            )
        if known:
            return []
        with self.repository.transaction():
            content.ingest(self.repository, transfer, transfer_dimensions)
        return refs

    def transfer_dimension_records_from(
        self, source_butler: ButlerParts, source_refs: Iterable[DatasetRef | DataCoordinate]
    ) -> None:
        """Take in the dimension records that datasets or data IDs of another repository name.

        Records that are there stay as they are. A visit takes its definition and detector regions along.

        Parameters
        ----------
        source_butler : `Butler`
            The other repository.
        source_refs : iterable of `DatasetRef` or `DataCoordinate`
            Its datasets or data IDs.
        """
        self.repository.require_writeable("transfer dimension records")
        data_ids = (r.dataId if isinstance(r, DatasetRef) else r for r in source_refs)
        records = records_of_data_ids(source_butler._registry, data_id_tables(data_ids))
        with self.repository.transaction():
            insert_records(self._registry, records)

    def transfer_from(
        self,
        source_butler: ButlerParts,
        source_refs: Iterable[DatasetRef],
        transfer: str = "auto",
        skip_missing: bool = True,
        register_dataset_types: bool = False,
        transfer_dimensions: bool = False,
        dry_run: bool = False,
    ) -> list[DatasetRef]:
        """Take datasets of another repository in, with their ids and runs; those that are there stay.

        All or nothing: after an error neither a row nor a file of it is here.

        Parameters
        ----------
        source_butler : `Butler`
            The other repository.
        source_refs : iterable of `DatasetRef`
            Its datasets.
        transfer : `str`
            How files are transferred; see `ingest`.
        skip_missing : `bool`
            Pass over datasets whose files are missing (otherwise they are recorded without a file).
        register_dataset_types : `bool`
            Register dataset types that are not.
        transfer_dimensions : `bool`
            Insert dimension records that are missing.
        dry_run : `bool`
            Only return what would be taken in by a repository without any of them.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            What was taken in.

        Raises
        ------
        MissingDatasetTypeError, DataIdValueError
            If a dataset type or a dimension record is not here, and not to be taken along.
        ConflictingDefinitionError
            If a dataset type differs, or a run has another dataset for a data ID.
        """
        self.repository.require_writeable("transfer datasets")
        refs = list({ref.id: ref for ref in source_refs}.values())
        if not dry_run:
            known = known_ids(self._registry, refs)
            refs = [ref for ref in refs if ref.id not in known]
        registry, datastore = source_butler._registry, source_butler._datastore
        files: dict[tuple[str, str, str], tuple[FileDataset, str | None]] = {}
        there: dict[str, bool] = {}
        unstored: list[DatasetRef] = []
        for ref, file in zip(refs, registry.datasets.files_of_ids([r.id for r in refs]), strict=True):
            if file is not None and file.path not in there:
                there[file.path] = datastore.exists(file.path)
            if file is None or not there[file.path]:
                unstored.append(ref)
                continue
            key = (file.path, file.formatter, file.storage_class)
            if key in files:
                files[key][0].refs.append(ref)
            else:
                dataset = FileDataset(datastore.uri(file.path), [ref], file.formatter)
                files[key] = (dataset, file.storage_class)
        if skip_missing:
            unstored = []
        taken = [ref for dataset, _ in files.values() for ref in dataset.refs] + unstored
        if dry_run:
            return taken
        tables = tables_of_refs(taken)
        with self.repository.transaction():
            if register_dataset_types:
                self._registry.dataset_types.register([t.dataset_type for t in tables])
            if transfer_dimensions:
                records = records_of_data_ids(registry, [t.data_ids for t in tables])
                insert_records(self._registry, records)
            for run in dict.fromkeys(ref.run for ref in taken):
                self._registry.collections.register(
                    run, CollectionType.RUN, registry.collections.get(run).doc
                )
            for table in tables_of_refs(unstored):
                self._registry.inserts.insert(table)
            ingest(self.repository, list(files.values()), transfer, False)
        return taken

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
        export = RepositoryExport(self.repository, place or os.path.dirname(os.path.abspath(name)), transfer)
        try:
            yield export
            export.finish(name)
        except BaseException:
            export.discard()
            raise

    def import_(
        self,
        *,
        directory: str | PathLike[str] | None = None,
        filename: str | PathLike[str] | None = None,
        format: str | None = None,
        transfer: str | None = None,
        skip_dimensions: Iterable[str] | None = None,
        record_validation_info: bool = True,
        without_datastore: bool = False,
        overwrite_chains: bool = False,
        trust_paths: bool = False,
    ) -> list[DatasetRef]:
        """Take in what an export file says, of this package or the reference, all or nothing.

        What is there already stays; importing the same file again changes nothing.

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
        record_validation_info : `bool`
            Record size and checksum of the files.
        without_datastore : `bool`
            Take in what the file says of dimensions, collections and datasets, but no files.
        overwrite_chains : `bool`
            Give chains that are there the members the file says; otherwise they stay as they are.
        trust_paths : `bool`
            Take files outside the directory too, which the file names absolutely or with ``..``; they are
            never moved.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            New datasets; those that are there already stay.

        Raises
        ------
        RepositoryError
            If it is no export file.
        DatasetTypeError
            If nothing here reads some of the files.
        UntrustedError
            If it names files outside the directory, or formatters that are not trusted here.
        ConflictingDefinitionError
            If something in it contradicts the repository.
        """
        self.repository.require_writeable("import")
        if format not in (None, "yaml"):
            raise RepositoryError(f"No export format {format!r}; there is 'yaml'")
        place = self._datastore.root if directory is None else _absolute(os.fspath(directory))
        name = os.fspath(filename) if filename is not None else f"{place}/export.yaml"
        if directory is not None and not os.path.isabs(name) and not os.path.exists(name):
            name = f"{place}/{name}"
        with reading_description(f"Export file {name!r}"):
            content = ExportContent(_absolute(name))
        with self.repository.transaction():
            with reading_description(f"Export file {name!r}"):
                register_content(
                    self._registry, content, skip_dimensions or (), overwrite_chains=overwrite_chains
                )
            if without_datastore:
                with reading_description(f"Export file {name!r}"):
                    refs = content.refs(self._registry)
                known = known_ids(self._registry, refs)
                refs = [ref for ref in refs if ref.id not in known]
                for table in tables_of_refs(refs):
                    self._registry.inserts.insert(table)
            else:
                with reading_description(f"Export file {name!r}"):
                    # What lies elsewhere is taken by whoever trusts it, but never taken away from there.
                    trusted = trust_paths and transfer != "move"
                    layout = self._datastore.layout
                    found = content.files(self._registry, place, layout, trust_paths=trusted)
                    files = [(dataset, None) for dataset in found]
                refs = ingest(self.repository, files, transfer or "auto", True, record_validation_info)
            with reading_description(f"Export file {name!r}"):
                associate_content(self._registry, content)
        return refs


def _absolute(place: str) -> str:
    return place if is_absolute(place) else os.path.abspath(place)
