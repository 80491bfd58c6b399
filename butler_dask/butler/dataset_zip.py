"""Datasets packed into one Zip file, on the way out and on the way in; the reference's layout.

The dimension records of the datasets are a member of their own, written as in an export file, so that
another repository can take them in; the reference passes over it.
"""

from __future__ import annotations

import io
import json
import os
import re
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..datastore.storage_path import file_uri
from ..datastore.storage_root import copy_chunks, open_stream
from ..datastore.zip_archive import INDEX, read_index, read_text, unpacked
from ..errors import (
    ButlerUserError,
    DatasetFileError,
    DatasetTypeError,
    MissingDatasetFileError,
    reading_description,
)
from ..published_file import published
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef, DatasetTable, tables_of_refs
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimension_definitions import UNIVERSE_VERSION
from ..vocabulary.file_record import FileRecord, FileTable
from .dataset_files import DatasetURI, check_movable, member_of
from .dimension_transfers import records_of_data_ids
from .export_file import (
    dimension_entries,
    formatter_read,
    formatter_written,
    read_export,
    record_fields,
    write_export,
)
from .open_repository import OpenRepository

_RECORDS = "_butler_dimension_records.yaml"
_NAMESPACE = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")


def write_zip(
    repository: OpenRepository,
    refs: Sequence[DatasetRef],
    destination: str | os.PathLike[str],
    overwrite: bool = True,
) -> DatasetURI:
    """Write the files of datasets into a Zip file, which gets its name from what is in it.

    Parameters
    ----------
    repository : `OpenRepository`
        Where they are.
    refs : sequence of `DatasetRef`
        Datasets.
    destination : path
        Local directory; made if it is not there.
    overwrite : `bool`
        Replace a file of that name.

    Returns
    -------
    uri : `DatasetURI`
        The Zip file.

    Raises
    ------
    MissingDatasetFileError
        If a dataset has no file.
    DatasetFileError
        If there are no datasets, or the Zip file is there and not to be replaced.
    """
    if not refs:
        raise DatasetFileError("There are no datasets to put into a Zip file")
    registry, datastore = repository.registry, repository.datastore
    tables = tables_of_refs(refs)
    members: dict[str, dict[str, Any]] = {}
    sources: dict[str, tuple[str, uuid.UUID]] = {}
    names: dict[str, str] = {}
    for table in tables:
        for ref, record in zip(table, registry.datasets.files_of(table), strict=True):
            if record is None:
                raise MissingDatasetFileError(
                    f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} has no file"
                )
            member = member_of(datastore, record, ref)
            source = record.path if member is None else f"{record.path}/{member}"
            if source not in names:
                # The reference finds members by a part of a URI, without quoting these signs.
                name = re.sub("[%#?]", "_", source.rpartition("/")[2])
                names[source] = f"{ref.id.hex[-12:]}-{name}"
                uri = datastore.uri(record.path)
                local = DatasetURI(uri).ospath if uri.startswith("file:") else uri
                sources[names[source]] = (local, ref.id)
                members[names[source]] = {"info": _info_document(record, source), "ids": []}
            members[names[source]]["ids"].append(str(ref.id))
    index = {
        "index_version": "V1",
        "refs": _refs_document(tables),
        "artifact_map": members,
    }
    place = os.path.abspath(os.fspath(destination))
    target = os.path.join(place, f"{uuid.uuid5(_NAMESPACE, ','.join(sorted(members)))}.zip")
    if os.path.lexists(target) and not overwrite:
        raise DatasetFileError(f"{target} is there already; use overwrite=True to replace it")
    records = io.StringIO()
    write_export(dimension_entries(records_of_data_ids(registry, [t.data_ids for t in tables])), records)
    os.makedirs(place, exist_ok=True)
    with published(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, (source, id_) in sources.items():
            with unpacked(source, id_) as path, archive.open(name, "w", force_zip64=True) as stream:
                for chunk in copy_chunks(open_stream(path)):
                    stream.write(chunk)
        archive.writestr(_RECORDS, records.getvalue())
        archive.writestr(INDEX, json.dumps(index))
    return DatasetURI(file_uri(target))


def _info_document(record: FileRecord, source: str) -> dict[str, Any]:
    return {
        "formatter": formatter_written(record.formatter, source),
        "path": source,
        "storage_class": record.storage_class,
        "component": None,
        "checksum": None,
        "file_size": record.size,
    }


def _refs_document(tables: Sequence[DatasetTable]) -> dict[str, Any]:
    return {
        "container_version": "V1",
        "universe_version": UNIVERSE_VERSION,
        "universe_namespace": "daf_butler",
        "dataset_types": {
            t.dataset_type.name: {
                "name": t.dataset_type.name,
                "storageClass": t.dataset_type.storageClass_name,
                # The reference counts on the required ones where its own universe is another.
                "dimensions": list(t.dataset_type.dimensions.required),
                "parentStorageClass": None,
                "isCalibration": t.dataset_type.isCalibration(),
            }
            for t in tables
        },
        "compact_refs": {
            str(ref.id): {
                "dataset_type_name": ref.datasetType.name,
                "run": ref.run,
                "data_id": dict(ref.dataId.required),
            }
            for t in tables
            for ref in t
        },
        "dimension_records": None,
    }


class ZipContent:
    """What a Zip file of datasets holds.

    Parameters
    ----------
    path : `str`
        Local file or URL.

    Raises
    ------
    DatasetFileError
        If it is not there, or no such file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            index = read_index(path)
        except FileNotFoundError as error:
            raise MissingDatasetFileError(f"There is no Zip file {path}") from error
        if index is None:
            raise DatasetFileError(
                f"{path} is a Zip file without datasets (no {INDEX} in it); "
                "`butler retrieve-artifacts --zip` makes those."
            )
        try:
            self._types = {
                name: DatasetType(
                    name, said["dimensions"], said["storageClass"], isCalibration=said["isCalibration"]
                )
                for name, said in index["refs"]["dataset_types"].items()
            }
            self._info = {uuid.UUID(i): e["info"] for e in index["artifact_map"].values() for i in e["ids"]}
            self.refs = [
                self._ref(uuid.UUID(id_), said) for id_, said in index["refs"]["compact_refs"].items()
            ]
            lacking = [ref for ref in self.refs if ref.id not in self._info]
        except ButlerUserError as error:
            raise DatasetFileError(f"The index of {path} is wrong: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DatasetFileError(f"The index of {path} is not complete: {error!r}") from error
        if lacking or not self.refs:
            what = f"has no file of {lacking[0]}" if lacking else "has no datasets"
            raise DatasetFileError(f"The index of {path} {what}")

    def _ref(self, id_: uuid.UUID, said: dict[str, Any]) -> DatasetRef:
        kind = self._types[said["dataset_type_name"]]
        data_id = DataCoordinate.standardize(said["data_id"], dimensions=kind.dimensions)
        return DatasetRef(kind, data_id, said["run"], id=id_)

    def ingest(self, repository: OpenRepository, transfer: str, transfer_dimensions: bool) -> None:
        """Take it in; see `Butler.ingest_zip`. To be called inside a transaction."""
        registry = repository.registry
        if transfer_dimensions:
            self._insert_records(registry)
        registry.dataset_types.register(list(self._types.values()))
        for run in dict.fromkeys(ref.run for ref in self.refs):
            registry.collections.register(run, CollectionType.RUN)
        first = self.refs[0]
        if transfer == "move":
            check_movable(repository, self._path, first)
        staged = repository.datastore.stage_ingest(self._path, first, transfer)
        try:
            for table in tables_of_refs(self.refs):
                rows = []
                for ref in table:
                    info = self._info[ref.id]
                    name = formatter_read(info["formatter"]) or staged.record.formatter
                    try:
                        repository.datastore.layout.trusted.load(name, info["storage_class"])
                    except DatasetTypeError as error:
                        kind = ref.datasetType.name
                        raise type(error)(
                            f"{self._path} ({kind} {ref.dataId}) is not taken in: {error}"
                        ) from error
                    rows.append(replace(staged.record, formatter=name, storage_class=info["storage_class"]))
                registry.inserts.insert(table, FileTable.from_records(rows))
            repository.publish(staged)
        except BaseException:
            staged.discard()
            raise

    def _insert_records(self, registry: Registry) -> None:
        text = read_text(self._path, _RECORDS)
        if text is None:
            return
        where = f"{self._path}:{_RECORDS}"
        with reading_description(where):
            for entry in read_export(io.BytesIO(text), where):
                name = str(entry["element"])
                records = [record_fields(name, fields) for fields in entry["records"]]
                registry.records.insert(name, records, skip_existing=True)
        bands = {str(r.dataId["band"]) for r in self.refs if "band" in r.dataId}
        registry.records.insert("band", [{"name": b} for b in sorted(bands)], skip_existing=True)
