"""RepositoryExport: a part of a repository written as an export file."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from ..datastore.formatter import formatter_name
from ..datastore.local_root import LocalRoot
from ..errors import (
    DataIdValueError,
    DatasetFileError,
    DatasetNotFoundError,
)
from ..published_file import published
from ..vocabulary.collection import CollectionInfo, CollectionType
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, tables_of_refs
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.file_record import FileDataset, FileTable
from ..vocabulary.timespan import Timespan
from .dataset_files import member_of, retrieve
from .dimension_transfers import data_id_tables, records_of_data_ids
from .export_file import (
    dimension_entries,
    formatter_written,
    write_export,
)
from .open_repository import OpenRepository


class RepositoryExport:
    """What is to be exported, collected until `finish`; made by ``butler.export()``.

    Parameters
    ----------
    repository : `OpenRepository`
        What is exported from.
    directory : `str`, optional
        Where files are copied to.
    transfer : `str`, optional
        How; `None` leaves them where they are.
    """

    def __init__(
        self, repository: OpenRepository, directory: str | None = None, transfer: str | None = None
    ) -> None:
        self._repository, self._registry = repository, repository.registry
        self._directory, self._transfer = directory, transfer
        self._records: dict[str, dict[DataCoordinate, DimensionRecord]] = defaultdict(dict)
        self._collections: dict[str, None] = {}
        self._types: dict[str, DatasetType] = {}
        self._ids: set[uuid.UUID] = set()
        self._files: dict[tuple[str, str], list[FileDataset]] = defaultdict(list)
        self._made: list[str] = []

    def saveDimensionData(self, element: str, records: Iterable[DimensionRecord | Mapping[str, Any]]) -> None:
        """Export dimension records, given as records or as their fields.

        Raises
        ------
        DataIdValueError
            If a record is one of another element.
        """
        name = str(getattr(element, "name", element))
        for record in records:
            if not isinstance(record, DimensionRecord):
                record = DimensionUniverse().element(name).RecordClass(**record)
            elif record.definition.name != name:
                raise DataIdValueError(f"A record of {record.definition.name!r} was given as one of {name!r}")
            self._records[name].setdefault(record.dataId, record)

    def saveDataIds(
        self, dataIds: Iterable[DataCoordinate], *, elements: Iterable[str] | None = None
    ) -> None:
        """Export the dimension records of data IDs, and those these name.

        Parameters
        ----------
        dataIds : iterable of `DataCoordinate`
            Data IDs.
        elements : iterable of `str`, optional
            Only records of these elements.
        """
        self._save_records(data_id_tables(dataIds), elements)

    def _save_records(self, tables: Iterable[DataIdTable], elements: Iterable[str] | None) -> None:
        wanted = None if elements is None else {str(getattr(e, "name", e)) for e in elements}
        for name, records in records_of_data_ids(self._registry, tables, wanted).items():
            self.saveDimensionData(name, records)

    def saveCollection(self, name: str) -> None:
        """Export a collection; of a TAGGED or CALIBRATION one, the memberships of datasets exported too.

        Raises
        ------
        MissingCollectionError
            If there is none.
        """
        self._registry.collections.get(name)
        self._collections[name] = None

    def saveDatasets(
        self,
        refs: Iterable[DatasetRef],
        *,
        elements: Iterable[str] | None = None,
        rewrite: Callable[[FileDataset], FileDataset] | None = None,
        saveDimensions: bool = True,
    ) -> None:
        """Export datasets, their runs, dataset types and files, and the dimension records of their data IDs.

        Parameters
        ----------
        refs : iterable of `DatasetRef`
            Datasets; of a component the whole is exported.
        elements : iterable of `str`, optional
            Only dimension records of these elements.
        rewrite : callable, optional
            Takes each `FileDataset`, its path relative to the directory (or to the repository, if files are
            not transferred), and returns what the export file is to say of it.
        saveDimensions : `bool`
            Whether dimension records are exported at all.

        Raises
        ------
        DatasetNotFoundError
            If a dataset has no file.
        DatasetFileError
            If a file cannot be transferred.
        """
        new = {r.id: r for r in refs if r.id not in self._ids}
        parts = [id_ for id_, ref in new.items() if ref.isComponent()]
        for id_, whole in zip(parts, self._registry.datasets.find_many(parts), strict=True):
            if whole is None:
                raise DatasetNotFoundError(f"{new[id_]} is not in this repository")
            new[id_] = whole
        tables = tables_of_refs(new.values())
        for table in tables:
            self._types.setdefault(table.dataset_type.name, table.dataset_type)
            files = self._transferred(list(table), self._registry.datasets.files_of(table))
            for file in sorted(files, key=_path_of):
                said = rewrite(file) if rewrite is not None else file
                self._files[table.dataset_type.name, said.refs[0].run].append(said)
            self._collections.update(dict.fromkeys(table.runs))
        self._ids.update(new)
        if saveDimensions:
            self._save_records([t.data_ids for t in tables], elements)

    def _transferred(self, refs: Sequence[DatasetRef], files: FileTable) -> list[FileDataset]:
        """Return each file with all the datasets in it, after its transfer."""
        found: dict[str, FileDataset] = {}
        for ref, file in zip(refs, files, strict=True):
            if file is None:
                raise DatasetNotFoundError(
                    f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} has no file to export (unstored)"
                )
            member = member_of(self._repository.datastore, file, ref)
            if member is not None and self._transfer is None:
                raise DatasetFileError(
                    f"{ref.datasetType.name} {ref.dataId} is inside {file.path}; give a transfer mode, so "
                    "that it gets a file of its own."
                )
            path = file.path if member is None else f"{file.path}/{member}"
            entry = found.get(path)
            if entry is None:
                found[path] = FileDataset(path, [ref], file.formatter)
            else:
                entry.refs.append(ref)
        if self._transfer is None or self._directory is None:
            return list(found.values())
        firsts = [entry.refs[0] for entry in found.values()]
        uris = retrieve(self._repository, firsts, self._directory, self._transfer, overwrite=True)
        prefix = os.path.abspath(self._directory).rstrip("/") + "/"
        names = [uri.ospath for uri in uris]
        self._made += names
        for entry, name in zip(found.values(), names, strict=True):
            entry.path = name.removeprefix(prefix)
        return list(found.values())

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the export file."""
        out = dimension_entries({k: list(v.values()) for k, v in self._records.items()})
        infos = _children_first([self._registry.collections.get(name) for name in self._collections])
        for info in infos:
            entry: dict[str, Any] = {
                "type": "collection",
                "collection_type": info.type.name,
                "name": info.name,
            }
            if info.doc:
                entry["doc"] = info.doc
            if info.type is CollectionType.RUN:
                entry |= {"host": None, "timespan_begin": None, "timespan_end": None}
            elif info.type is CollectionType.CHAINED:
                entry["children"] = list(info.children)
            out.append(entry)
        for name, kind in sorted(self._types.items()):
            out.append(
                {
                    "type": "dataset_type",
                    "name": name,
                    "dimensions": list(kind.dimensions.names),
                    "storage_class": kind.storageClass_name,
                    "is_calibration": kind.isCalibration(),
                }
            )
            for run in sorted(run for of, run in self._files if of == name):
                records = [_file_document(file) for file in self._files[name, run]]
                out.append({"type": "dataset", "dataset_type": name, "run": run, "records": records})
        for info in infos:
            if info.type in (CollectionType.TAGGED, CollectionType.CALIBRATION):
                out.extend(self._associations(info.name, info.type))
        return out

    def _associations(self, name: str, kind: CollectionType) -> list[dict[str, Any]]:
        ranges: dict[Timespan | None, list[uuid.UUID]] = defaultdict(list)
        for dataset_type in sorted(self._types):
            for association in self._registry.associations.query(dataset_type, [name]):
                if association.ref.id in self._ids:
                    ranges[association.timespan].append(association.ref.id)
        if not ranges:
            return []
        entry: dict[str, Any] = {"type": "associations", "collection": name, "collection_type": kind.name}
        if kind is CollectionType.TAGGED:
            entry["dataset_ids"] = [i for ids in ranges.values() for i in ids]
        else:
            entry["validity_ranges"] = [{"timespan": t, "dataset_ids": ids} for t, ids in ranges.items()]
        return [entry]

    def finish(self, filename: str) -> None:
        """Write the export file, all at once."""
        entries = self.entries()
        with published(filename, "w") as stream:
            write_export(entries, stream)

    def discard(self) -> None:
        """Remove the files that came into the directory; to be called instead of `finish`."""
        if self._directory is not None:
            root = LocalRoot(self._directory)
            root.remove([os.path.relpath(name, root.url) for name in self._made])


def _path_of(file: FileDataset) -> str:
    return file.path


def _file_document(file: FileDataset) -> dict[str, Any]:
    refs = file.refs if len(file.refs) == 1 else sorted(file.refs)
    formatter = file.formatter if file.formatter is None else formatter_name(file.formatter)
    return {
        "dataset_id": [ref.id for ref in refs],
        "data_id": [dict(ref.dataId.required) for ref in refs],
        "path": file.path,
        "formatter": formatter_written(formatter, file.path),
    }


def _children_first(infos: Sequence[CollectionInfo]) -> list[CollectionInfo]:
    """Return collections so that no chain comes before its members."""
    known = {info.name: info for info in infos}
    graph = {i.name: [c for c in i.children if c in known] for i in sorted(infos, key=lambda i: i.name)}
    names = list(TopologicalSorter(graph).static_order())
    return [known[n] for n in sorted(names, key=lambda n: known[n].type is CollectionType.CHAINED)]
