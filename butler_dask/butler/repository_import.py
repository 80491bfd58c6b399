"""ExportContent: what an export file says, and how it comes into a repository."""

from __future__ import annotations

import logging
import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..datastore.dataset_layout import DatasetLayout
from ..datastore.storage_path import file_name, is_absolute, is_remote
from ..datastore.storage_root import open_stream
from ..errors import (
    DatasetNotFoundError,
    DatasetTypeError,
    RepositoryError,
    UntrustedError,
    UntrustedFormatterError,
)
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef, DatasetTable, tables_of_refs
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.file_record import FileDataset
from ..vocabulary.timespan import Timespan
from .export_file import (
    formatter_read,
    read_export,
    record_fields,
)

_LOG = logging.getLogger("butler_dask.butler")


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

    def files(
        self, registry: Registry, directory: str, layout: DatasetLayout, *, trust_paths: bool = False
    ) -> list[FileDataset]:
        """Return the files with the datasets in them.

        Parameters
        ----------
        registry : `Registry`
            Knows the dataset types the file does not define.
        directory : `str`
            What relative paths are relative to.
        layout : `DatasetLayout`
            Knows which formatters are trusted.
        trust_paths : `bool`
            Take files outside the directory too.

        Raises
        ------
        UntrustedError
            If files outside the directory are named, and these are not trusted.
        UntrustedFormatterError
            If some of the files are for formatters that are not trusted here; all such are named.
        DatasetTypeError
            If there is no formatter here for some of the files.
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
                if formatter is not None and formatter not in unknown:
                    try:
                        layout.trusted.load(formatter, kind.storageClass_name)
                    except DatasetTypeError as error:
                        unknown[formatter] = f"of {kind.name}): {error}"
                where = path if is_absolute(path) else f"{prefix}/{path}"
                if not trust_paths and not is_below(where, prefix):
                    raise UntrustedError(
                        f"{self._filename} names a file outside {directory}: {path} (of {kind.name}). If you "
                        "know who made it, take it in with --trust-paths (trust_paths=True)."
                    )
                out.append(FileDataset(where, _refs_of(kind, entry["run"], record), formatter))
        if unknown:
            listed = "".join(f"\n  {name} ({why}" for name, why in unknown.items())
            raise UntrustedFormatterError(
                f"{self._filename} has files that nothing trusted here reads; their formatters are:{listed}\n"
                "Install the packages that have them and name them in butler.yaml if you trust them, export "
                "without these dataset types, or name formatters that read these files in the export file."
            )
        return out


def is_below(path: str, directory: str) -> bool:
    """Return whether a file is below a directory: its name says so, and no link on the way leads out.

    What the file itself links to is not looked at: exports may consist of links.

    Parameters
    ----------
    path : `str`
        Absolute name or URL.
    directory : `str`
        Absolute name or URL, without a slash at the end.
    """
    names = [path, unquote(path)] if "://" in path else [path]
    for name in names:
        parts = name.removeprefix(f"{directory}/").split("/")
        if not name.startswith(f"{directory}/") or ".." in parts or "\0" in name:
            return False
    if is_remote(path):
        return True
    local, root = file_name(path), os.path.realpath(file_name(directory))
    return f"{_real_directory(os.path.dirname(local))}/".startswith(root.rstrip("/") + "/")


@lru_cache(maxsize=256)
def _real_directory(directory: str) -> str:
    # 36 us for each file of a large export otherwise.
    return os.path.realpath(directory)


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


_OLD_IDS = uuid.UUID("4d4851f4-2890-4d41-8779-5f38a3f5062b")
"""Namespace the reference makes UUIDs of the integer ids of old export files in."""


def dataset_uuid(value: uuid.UUID | str | int) -> uuid.UUID:
    """Return a dataset id as UUID; the integers of old files give the same one as with the reference."""
    if isinstance(value, int):
        return uuid.uuid3(_OLD_IDS, str(value))
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def register_content(
    registry: Registry,
    content: ExportContent,
    skip_dimensions: Iterable[str] = (),
    *,
    overwrite_chains: bool = False,
) -> None:
    """Register what an export file says of dimensions, collections and dataset types; existing ones stay.

    Parameters
    ----------
    registry : `Registry`
        Where.
    content : `ExportContent`
        What.
    skip_dimensions : iterable of `str`
        Elements whose records are not inserted.
    overwrite_chains : `bool`
        Give chains that are there the members the file says; otherwise these stay, and a warning tells.
    """
    skipped = {str(n) for n in skip_dimensions}
    for name in DimensionUniverse().sorted(content.records):
        if name not in skipped:
            registry.records.insert(name, content.records[name], skip_existing=True)
    bands = [{"name": band} for band in sorted(content.bands())]
    registry.records.insert("band", bands, skip_existing=True)
    registry.dataset_types.register(list(content.dataset_types.values()))
    new = {name for name, kind, doc in content.collections if registry.collections.register(name, kind, doc)}
    for name, children in content.chains.items():
        if name in new or overwrite_chains:
            registry.collections.set_chain(name, children)
            continue
        held = registry.collections.get(name).children
        if held != tuple(children):
            _LOG.warning(
                "The chain %s is %s here and stays so; the file has %s (taken with --overwrite-chains)",
                name,
                ", ".join(held) or "empty",
                ", ".join(children) or "no members",
            )


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
