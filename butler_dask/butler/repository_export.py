"""RepositoryExport: a part of a repository written as an export file; and an export file taken in."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..datastore.datastore import Datastore
from ..datastore.formatter import formatter_name, load_formatter
from ..datastore.local_root import LocalRoot
from ..datastore.storage_path import is_absolute
from ..datastore.storage_root import open_stream
from ..errors import (
    DataIdValueError,
    DatasetFileError,
    DatasetNotFoundError,
    DatasetTypeError,
    RepositoryError,
)
from ..published_file import published
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionInfo, CollectionType
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.file_record import FileDataset, FileTable
from ..vocabulary.timespan import Timespan
from .dataset_files import member_of, retrieve, tables_of_refs
from .dimension_transfers import data_id_tables, records_of_data_ids
from .export_file import (
    dimension_entries,
    formatter_read,
    formatter_written,
    read_export,
    record_fields,
    write_export,
)


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
            member = member_of(self._datastore, file, ref)
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
        uris = retrieve(
            self._registry, self._datastore, firsts, self._directory, self._transfer, overwrite=True
        )
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
    from graphlib import TopologicalSorter

    known = {info.name: info for info in infos}
    graph = {i.name: [c for c in i.children if c in known] for i in sorted(infos, key=lambda i: i.name)}
    names = list(TopologicalSorter(graph).static_order())
    return [known[n] for n in sorted(names, key=lambda n: known[n].type is CollectionType.CHAINED)]


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
        self._filename = filename
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

    def bands(self) -> set[str]:
        """Return the bands of datasets: there are no records of them, and maybe no filters either."""
        found = set()
        for entry in self._datasets:
            for record in entry["records"]:
                data_ids = record["data_id"] if isinstance(record["data_id"], list) else [record["data_id"]]
                found |= {d["band"] for d in data_ids if d.get("band") is not None}
        return found

    def _read_associations(self, entry: Mapping[str, Any]) -> None:
        name = entry["collection"]
        if CollectionType.from_name(entry["collection_type"]) is CollectionType.TAGGED:
            self.tags[name] += [dataset_uuid(i) for i in entry["dataset_ids"]]
            return
        for item in entry["validity_ranges"]:
            span = item["timespan"] if "timespan" in item else Timespan(item["begin"], item["end"])
            self.certifications.append((name, span, [dataset_uuid(i) for i in item["dataset_ids"]]))

    def refs(self, registry: Registry) -> list[DatasetRef]:
        """Return the datasets, whatever their files; see `files`."""
        return [
            ref
            for entry in self._datasets
            for record in entry["records"]
            for ref in _refs_of(self._type_of(registry, entry), entry["run"], record)
        ]

    def _type_of(self, registry: Registry, entry: Mapping[str, Any]) -> DatasetType:
        kind = self.dataset_types.get(entry["dataset_type"])
        return registry.dataset_types.get(entry["dataset_type"]) if kind is None else kind

    def files(self, registry: Registry, directory: str) -> list[FileDataset]:
        """Return the files with the datasets in them.

        Parameters
        ----------
        registry : `Registry`
            Knows the dataset types the file does not define.
        directory : `str`
            What relative paths are relative to.

        Raises
        ------
        DatasetTypeError
            If there is no formatter here for some of the files; all such are named.
        RepositoryError
            If an entry makes no sense.
        """
        out = []
        unknown: dict[str, str] = {}
        prefix = directory.rstrip("/")
        for entry in self._datasets:
            kind = self._type_of(registry, entry)
            for record in entry["records"]:
                path = record["path"]
                formatter = formatter_read(record.get("formatter"))
                if formatter is not None and not _is_known(formatter):
                    unknown.setdefault(formatter, kind.name)
                where = path if is_absolute(path) else f"{prefix}/{path}"
                out.append(FileDataset(where, _refs_of(kind, entry["run"], record), formatter))
        if unknown:
            listed = "".join(f"\n  {name} (of {kind})" for name, kind in unknown.items())
            raise DatasetTypeError(
                f"{self._filename} has files that nothing here reads; their formatters cannot be imported:"
                f"{listed}\nInstall the packages that have them, export without these dataset types, or name "
                "formatters that read these files in the export file."
            )
        return out


def _refs_of(kind: DatasetType, run: str, record: Mapping[str, Any]) -> list[DatasetRef]:
    ids, data_ids = record["dataset_id"], record["data_id"]
    ids = ids if isinstance(ids, list) else [ids]
    data_ids = data_ids if isinstance(data_ids, list) else [data_ids]
    if len(ids) != len(data_ids):
        raise RepositoryError(f"{record['path']} has {len(ids)} dataset ids but {len(data_ids)} data IDs")
    return [
        DatasetRef(
            kind, DataCoordinate.standardize(data_id, dimensions=kind.dimensions), run, id=dataset_uuid(id_)
        )
        for id_, data_id in zip(ids, data_ids, strict=True)
    ]


def _is_known(formatter: str) -> bool:
    try:
        load_formatter(formatter)
    except DatasetTypeError:
        return False
    return True


_OLD_IDS = uuid.UUID("4d4851f4-2890-4d41-8779-5f38a3f5062b")
"""Namespace the reference makes UUIDs of the integer ids of old export files in."""


def dataset_uuid(value: uuid.UUID | str | int) -> uuid.UUID:
    """Return a dataset id as UUID; the integers of old files give the same one as with the reference."""
    if isinstance(value, int):
        return uuid.uuid3(_OLD_IDS, str(value))
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def register_content(registry: Registry, content: ExportContent, skip_dimensions: Iterable[str] = ()) -> None:
    """Register what an export file says of dimensions, collections and dataset types; existing ones stay.

    Parameters
    ----------
    registry : `Registry`
        Where.
    content : `ExportContent`
        What.
    skip_dimensions : iterable of `str`
        Elements whose records are not inserted.
    """
    skipped = {str(n) for n in skip_dimensions}
    for name in DimensionUniverse().sorted(content.records):
        if name not in skipped:
            registry.records.insert(name, content.records[name], skip_existing=True)
    bands = [{"name": band} for band in sorted(content.bands())]
    registry.records.insert("band", bands, skip_existing=True)
    registry.dataset_types.register(list(content.dataset_types.values()))
    for name, kind, doc in content.collections:
        registry.collections.register(name, kind, doc)
    for name, children in content.chains.items():
        registry.collections.set_chain(name, children)


def associate_content(registry: Registry, content: ExportContent) -> None:
    """Put the datasets of an export file, which are in the registry, into its collections."""
    for name, ids in content.tags.items():
        for table in _tables_of_ids(registry, ids):
            registry.associations.associate(name, table)
    held: dict[tuple[str, str], set[tuple[uuid.UUID, Timespan | None]]] = {}
    for name, timespan, ids in content.certifications:
        for table in _tables_of_ids(registry, ids):
            kind = table.dataset_type.name
            known = held.get((name, kind))
            if known is None:
                found = registry.associations.query(kind, [name])
                known = held[name, kind] = {(a.ref.id, a.timespan) for a in found}
            new = [row for row in range(len(table)) if (table.id(row), timespan) not in known]
            if new:
                registry.associations.certify(name, table.take(np.array(new)), timespan)


def _tables_of_ids(registry: Registry, ids: list[uuid.UUID]) -> list[DatasetTable]:
    refs = registry.datasets.find_many(ids)
    missing = [str(i) for i, ref in zip(ids, refs, strict=True) if ref is None]
    if missing:
        raise DatasetNotFoundError(
            f"The export file names datasets it does not hold: {', '.join(missing[:3])}"
        )
    return tables_of_refs(ref for ref in refs if ref is not None)
