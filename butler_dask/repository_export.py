"""RepositoryExport: a part of a repository written as an export file; and an export file taken in."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .dataset_files import DatasetURI, retrieve, tables_of_refs
from .datastore.datastore import Datastore
from .datastore.storage_root import is_absolute, open_stream
from .errors import DatasetNotFoundError, RepositoryError
from .export_file import (
    dimension_entries,
    formatter_read,
    formatter_written,
    read_export,
    record_fields,
    write_export,
)
from .registry.registry import Registry
from .vocabulary.collection import CollectionType
from .vocabulary.data_id import DataCoordinate, DataIdTable
from .vocabulary.dataset import DatasetRef, DatasetTable
from .vocabulary.dataset_type import DatasetType
from .vocabulary.dimension_record import DimensionRecord
from .vocabulary.dimensions import DimensionUniverse
from .vocabulary.file_record import FileDataset
from .vocabulary.timespan import Timespan


class RepositoryExport:
    """What is to be exported, collected until `finish`; made by ``butler.export()``.

    Parameters
    ----------
    registry : `Registry`
        What is exported from.
    datastore : `Datastore`
        Where its files are.
    directory : `str`, optional
        Where files are copied to.
    transfer : `str`, optional
        How; `None` leaves them where they are.
    """

    def __init__(
        self,
        registry: Registry,
        datastore: Datastore,
        directory: str | None = None,
        transfer: str | None = None,
    ) -> None:
        self._registry, self._datastore = registry, datastore
        self._directory, self._transfer = directory, transfer
        self._records: dict[str, dict[DataCoordinate, DimensionRecord]] = defaultdict(dict)
        self._collections: dict[str, None] = {}
        self._refs: dict[tuple[str, str], dict[uuid.UUID, DatasetRef]] = defaultdict(dict)

    def saveDimensionData(self, element: str, records: Iterable[DimensionRecord]) -> None:
        """Export dimension records."""
        for record in records:
            self._records[str(element)].setdefault(record.dataId, record)

    def saveDataIds(
        self, dataIds: Iterable[DataCoordinate], *, elements: Iterable[str] | None = None
    ) -> None:
        """Export the dimension records of data IDs.

        Parameters
        ----------
        dataIds : iterable of `DataCoordinate`
            Data IDs.
        elements : iterable of `str`, optional
            Only records of these elements.
        """
        wanted = None if elements is None else {str(e) for e in elements}
        groups: dict[Any, list[DataCoordinate]] = defaultdict(list)
        for data_id in dataIds:
            groups[data_id.dimensions].append(data_id)
        for group, members in groups.items():
            table = DataIdTable.from_data_ids(group, members)
            for data_id in self._registry.expand_data_ids(table):
                for name, record in data_id.records.items():
                    if record is not None and (wanted is None or name in wanted):
                        self._records[name].setdefault(record.dataId, record)

    def saveCollection(self, name: str) -> None:
        """Export a collection; of a TAGGED or CALIBRATION one, the memberships of datasets exported too."""
        self._registry.get_collection(name)
        self._collections[name] = None

    def saveDatasets(
        self,
        refs: Iterable[DatasetRef],
        *,
        elements: Iterable[str] | None = None,
        saveDimensions: bool = True,
    ) -> None:
        """Export datasets, their runs, dataset types and files, and the dimension records of their data IDs.

        Parameters
        ----------
        refs : iterable of `DatasetRef`
            Datasets.
        elements : iterable of `str`, optional
            Only dimension records of these elements.
        saveDimensions : `bool`
            Whether dimension records are exported at all.
        """
        rows = list(refs)
        for ref in rows:
            self._refs[ref.datasetType.name, ref.run][ref.id] = ref
            self._collections[ref.run] = None
        if saveDimensions:
            self.saveDataIds([ref.dataId for ref in rows], elements=elements)

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the export file; files are transferred now."""
        out = dimension_entries({k: list(v.values()) for k, v in self._records.items()})
        infos = [self._registry.get_collection(name) for name in self._collections]
        for info in sorted(infos, key=lambda i: i.type is CollectionType.CHAINED):
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
        written: set[str] = set()
        for (name, run), refs in self._refs.items():
            kind = next(iter(refs.values())).datasetType
            if name not in written:
                written.add(name)
                out.append(
                    {
                        "type": "dataset_type",
                        "name": name,
                        "dimensions": list(kind.dimensions.names),
                        "storage_class": kind.storageClass_name,
                        "is_calibration": kind.isCalibration(),
                    }
                )
            out.append({"type": "dataset", "dataset_type": name, "run": run, "records": self._files(refs)})
        for info in infos:
            if info.type in (CollectionType.TAGGED, CollectionType.CALIBRATION):
                out.extend(self._associations(info.name, info.type))
        return out

    def _files(self, refs: Mapping[uuid.UUID, DatasetRef]) -> list[dict[str, Any]]:
        """Return a record for each file, with all the datasets in it."""
        files = self._registry.files_of_ids(list(refs))
        paths: dict[str, list[DatasetRef]] = defaultdict(list)
        formatters: dict[str, str] = {}
        for ref, file in zip(refs.values(), files, strict=True):
            if file is None:
                raise DatasetNotFoundError(
                    f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} has no file to export (unstored)"
                )
            paths[file.path].append(ref)
            formatters[file.path] = file.formatter
        moved = {path: path for path in paths}
        if self._transfer is not None and self._directory is not None:
            firsts = [members[0] for members in paths.values()]
            uris = retrieve(
                self._registry, self._datastore, firsts, self._directory, self._transfer, overwrite=True
            )
            base = os.path.abspath(self._directory)
            moved = {p: os.path.relpath(u.ospath, base) for p, u in zip(paths, uris, strict=True)}
        return [
            {
                "dataset_id": [ref.id for ref in sorted(members)],
                "data_id": [dict(ref.dataId.required) for ref in sorted(members)],
                "path": moved[path],
                "formatter": formatter_written(formatters[path]),
            }
            for path, members in paths.items()
        ]

    def _associations(self, name: str, kind: CollectionType) -> list[dict[str, Any]]:
        exported = {id_ for refs in self._refs.values() for id_ in refs}
        types = {n for n, _ in self._refs}
        ranges: dict[Timespan | None, list[uuid.UUID]] = defaultdict(list)
        for dataset_type in sorted(types):
            for association in self._registry.query_associations(dataset_type, [name]):
                if association.ref.id in exported:
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
        temporary = f"{filename}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8") as stream:
            write_export(entries, stream)
        os.replace(temporary, filename)


class ExportContent:
    """What an export file says, as values of this package.

    Parameters
    ----------
    filename : `str`
        Export file.

    Raises
    ------
    RepositoryError
        If it is no export file, or an entry of it is not understood.
    """

    def __init__(self, filename: str) -> None:
        try:
            stream = open_stream(filename)
        except FileNotFoundError:
            raise RepositoryError(f"There is no export file {filename}") from None
        with stream:
            entries = read_export(stream, filename)
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.collections: list[tuple[str, CollectionType, str]] = []
        self.chains: dict[str, list[str]] = {}
        self.dataset_types: dict[str, DatasetType] = {}
        self.tags: dict[str, list[uuid.UUID]] = defaultdict(list)
        self.certifications: list[tuple[str, Timespan, list[uuid.UUID]]] = []
        self._datasets: list[dict[str, Any]] = []
        for entry in entries:
            reader = getattr(self, f"_read_{entry.get('type')}", None)
            if reader is None:
                raise RepositoryError(f"{filename} has an entry of unknown type {entry.get('type')!r}")
            try:
                reader(entry)
            except KeyError as error:
                raise RepositoryError(f"{filename}: an entry {entry['type']!r} lacks {error}") from error

    def _read_dimension(self, entry: Mapping[str, Any]) -> None:
        name = str(entry["element"])
        self.records[name] += [record_fields(name, fields) for fields in entry["records"]]

    def _read_collection(self, entry: Mapping[str, Any]) -> None:
        kind = CollectionType.from_name(entry["collection_type"])
        self.collections.append((entry["name"], kind, entry.get("doc") or ""))
        if kind is CollectionType.CHAINED:
            # Once a child came with the dataset types it was searched for.
            self.chains[entry["name"]] = [c if isinstance(c, str) else c[0] for c in entry["children"]]

    def _read_run(self, entry: Mapping[str, Any]) -> None:
        self.collections.append((entry["name"], CollectionType.RUN, ""))

    def _read_dataset_type(self, entry: Mapping[str, Any]) -> None:
        dimensions = [d for d in entry["dimensions"] if d in DimensionUniverse()]
        self.dataset_types[entry["name"]] = DatasetType(
            entry["name"],
            dimensions,
            entry["storage_class"],
            isCalibration=bool(entry.get("is_calibration", False)),
        )

    def _read_dataset(self, entry: Mapping[str, Any]) -> None:
        entry["dataset_type"], entry["run"], entry["records"]
        self._datasets.append(dict(entry))

    def _read_associations(self, entry: Mapping[str, Any]) -> None:
        name = entry["collection"]
        if CollectionType.from_name(entry["collection_type"]) is CollectionType.TAGGED:
            self.tags[name] += [dataset_uuid(i) for i in entry["dataset_ids"]]
            return
        for item in entry["validity_ranges"]:
            span = item["timespan"] if "timespan" in item else Timespan(item["begin"], item["end"])
            self.certifications.append((name, span, [dataset_uuid(i) for i in item["dataset_ids"]]))

    def files(self, registry: Registry, directory: str) -> list[FileDataset]:
        """Return the files with the datasets in them.

        Parameters
        ----------
        registry : `Registry`
            Knows the dataset types the file does not define.
        directory : `str`
            What relative paths are relative to.
        """
        out = []
        for entry in self._datasets:
            kind = self.dataset_types.get(entry["dataset_type"])
            if kind is None:
                kind = registry.get_dataset_type(entry["dataset_type"])
            for record in entry["records"]:
                ids = (
                    record["dataset_id"] if isinstance(record["dataset_id"], list) else [record["dataset_id"]]
                )
                data_ids = record["data_id"] if isinstance(record["data_id"], list) else [record["data_id"]]
                refs = [
                    DatasetRef(
                        kind,
                        DataCoordinate.standardize(data_id, dimensions=kind.dimensions),
                        entry["run"],
                        id=dataset_uuid(id_),
                    )
                    for id_, data_id in zip(ids, data_ids, strict=True)
                ]
                path = record["path"]
                if not is_absolute(path):
                    path = f"{directory.rstrip('/')}/{path}"
                out.append(FileDataset(path, refs, formatter_read(record.get("formatter"))))
        return out


_OLD_IDS = uuid.UUID("4d4851f4-2890-4d41-8779-5f38a3f5062b")
"""Namespace the reference makes UUIDs of the integer ids of old export files in."""


def dataset_uuid(value: uuid.UUID | str | int) -> uuid.UUID:
    """Return a dataset id as UUID; the integers of old files give the same one as with the reference."""
    if isinstance(value, int):
        return uuid.uuid3(_OLD_IDS, str(value))
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def register_content(registry: Registry, content: ExportContent, skip_dimensions: Iterable[str] = ()) -> None:
    """Register what an export file says of dimensions, collections and dataset types; existing ones stay."""
    skipped = {str(n) for n in skip_dimensions}
    for name in DimensionUniverse().sorted(content.records):
        if name not in skipped:
            registry.insert_dimension_records(name, content.records[name], skip_existing=True)
    registry.register_dataset_types(list(content.dataset_types.values()))
    for name, kind, doc in content.collections:
        registry.register_collection(name, kind, doc)
    for name, children in content.chains.items():
        registry.set_chain(name, children)


def associate_content(registry: Registry, content: ExportContent) -> None:
    """Put the datasets of an export file, which are in the registry, into its collections."""
    for name, ids in content.tags.items():
        for table in _tables_of_ids(registry, ids):
            registry.associate(name, table)
    for name, timespan, ids in content.certifications:
        for table in _tables_of_ids(registry, ids):
            held = {a.ref.id: a.timespan for a in registry.query_associations(table.dataset_type, [name])}
            new = [row for row in range(len(table)) if held.get(table.id(row)) != timespan]
            if new:
                import numpy as np

                registry.certify(name, table.take(np.array(new)), timespan)


def _tables_of_ids(registry: Registry, ids: list[uuid.UUID]) -> list[DatasetTable]:
    refs = registry.get_datasets(ids)
    missing = [str(i) for i, ref in zip(ids, refs, strict=True) if ref is None]
    if missing:
        raise DatasetNotFoundError(
            f"The export file names datasets it does not hold: {', '.join(missing[:3])}"
        )
    return tables_of_refs(ref for ref in refs if ref is not None)


__all__ = ["DatasetURI", "ExportContent", "RepositoryExport", "associate_content", "register_content"]
