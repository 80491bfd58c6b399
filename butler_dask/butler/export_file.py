"""The reference's ``export.yaml``: what it says of a part of a repository, written and read.

One list of entries: dimension records, collections, dataset types, datasets with the files they are in, and
memberships. UUIDs, times, timespans and regions have YAML tags of their own. Files written here are read by
the reference and the other way round, as far as the other side has a formatter for a file.
"""

from __future__ import annotations

import datetime
import gc
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, BinaryIO, TextIO

import yaml

from ..errors import UNREADABLE, FormatVersionError, RepositoryError
from ..vocabulary.data_id import DimensionRecord
from ..vocabulary.dimension_definitions import UNIVERSE_VERSION
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.timespan import Timespan

EXPORT_VERSION = (1, 0, 2)
"""Version of the format; a file of another first number, or a larger second one, is not read."""

_OURS = "butler_dask.datastore"
_THEIRS = "lsst.daf.butler.formatters"
_WRITTEN_AS: Mapping[str, str] = {
    f"{_OURS}.document.DocumentFormatter": f"{_THEIRS}.json.JsonFormatter",
    f"{_OURS}.document.ConfigFormatter": "lsst.pipe.base.formatters.pexConfig.PexConfigFormatter",
    f"{_OURS}.pickled_object.PickleFormatter": f"{_THEIRS}.pickle.PickleFormatter",
    f"{_OURS}.parquet_table.ParquetFormatter": f"{_THEIRS}.parquet.ParquetFormatter",
}
_READ_AS: Mapping[str, str] = {
    **{theirs: ours for ours, theirs in _WRITTEN_AS.items()},
    f"{_THEIRS}.pexConfig.PexConfigFormatter": f"{_OURS}.document.ConfigFormatter",
    f"{_THEIRS}.yaml.YamlFormatter": f"{_OURS}.document.DocumentFormatter",
    f"{_THEIRS}.packages.PackagesFormatter": f"{_OURS}.document.DocumentFormatter",
    f"{_THEIRS}.logs.ButlerLogRecordsFormatter": f"{_OURS}.document.DocumentFormatter",
}


def formatter_written(name: str | None, path: str) -> str | None:
    """Return the reference's name of a file's formatter, where it has one that reads the same files."""
    if name == f"{_OURS}.document.DocumentFormatter" and path.endswith((".yaml", ".yml")):
        return f"{_THEIRS}.yaml.YamlFormatter"
    return None if name is None else _WRITTEN_AS.get(name, name)


def formatter_read(name: str | None) -> str | None:
    """Return our name of the reference's formatter, where we have one that reads the same files."""
    if name is None:
        return None
    if name.startswith("lsst.obs.") and name.endswith("RawFormatter"):
        return "butler_dask.instruments.raw_frame.RawFormatter"
    return _READ_AS.get(name, name)


def dimension_entries(records: Mapping[str, Iterable[DimensionRecord]]) -> list[dict[str, Any]]:
    """Return the entries of dimension records, elements in an order in which they can be inserted.

    There are none of bands: to the reference a band is what filters have, and it refuses records of its own.

    Parameters
    ----------
    records : mapping of `str` to iterable of `DimensionRecord`
        Records by element name.
    """
    universe = DimensionUniverse()
    return [
        {"type": "dimension", "element": name, "records": [_record_document(r) for r in records[name]]}
        for name in universe.sorted(records)
        if records[name] and name != "band"
    ]


def _record_document(record: DimensionRecord) -> dict[str, Any]:
    document = record.toDict()
    if record.definition.temporal:
        timespan = document.pop("timespan")
        if timespan is not None and timespan.isEmpty():
            document["timespan"] = timespan
        elif timespan is not None:
            # Not there at all means not known; null is a bound at infinity.
            document |= {"datetime_begin": timespan.begin, "datetime_end": timespan.end}
    if record.definition.name == "skymap" and isinstance(document.get("hash"), str):
        document["hash"] = bytes.fromhex(document["hash"])
    return document


def write_export(entries: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """Write entries as an export file."""
    head = {
        "description": "Butler Data Repository Export",
        "version": ".".join(map(str, EXPORT_VERSION)),
        "universe_version": UNIVERSE_VERSION,
        "universe_namespace": "daf_butler",
    }
    stream.write(_text(head))
    said = False
    for entry in entries:
        stream.write("" if said else "data:\n")
        said = True
        if entry["type"] == "dataset" and entry["records"]:
            stream.write(_text([{k: v for k, v in entry.items() if k != "records"}]))
            stream.write("  records:\n")
            stream.writelines(map(_file_text, entry["records"]))
        else:
            stream.write(_text([entry]))
    if not said:
        stream.write("data: []\n")


def _text(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    return text


def _file_text(record: Mapping[str, Any]) -> str:
    """Return what `_text` gives of a file and its datasets, at its place in an entry.

    There are as many as datasets; the emitter takes 20 times as long.
    """
    ids = "".join(f"    - !uuid '{id_}'\n" for id_ in record["dataset_id"])
    data_ids = "".join(
        "    - " + "      ".join([f"{_scalar(k)}: {_scalar(v)}\n" for k, v in data_id.items()] or ["{}\n"])
        for data_id in record["data_id"]
    )
    return (
        f"  - dataset_id:\n{ids}    data_id:\n{data_ids}"
        f"    path: {_scalar(record['path'])}\n    formatter: {_scalar(record['formatter'])}\n"
    )


_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[^\W\d][\w./+-]*", re.IGNORECASE)
"""Texts that are the same in YAML, and nothing else than texts."""


def _scalar(value: Any) -> str:
    if type(value) is int or (type(value) is str and _PLAIN.fullmatch(value)):
        return str(value)
    return _other_scalar(value)


@lru_cache(maxsize=1024)
def _other_scalar(value: Any) -> str:
    # In one line however long, breaks of lines escaped: it may stand at any depth.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text: str = yaml.dump([value], Dumper=_dumper(), allow_unicode=True, width=1 << 30, default_style=style)
    return text.removeprefix("- ").removesuffix("\n")


def read_export(stream: BinaryIO, name: str) -> list[dict[str, Any]]:
    """Return the entries of an export file.

    Parameters
    ----------
    stream : binary file
        Open for reading.
    name : `str`
        Its name, for messages.

    Raises
    ------
    RepositoryError
        If it is no export file.
    FormatVersionError
        If it is of a version that is not known here.
    """
    try:
        with _without_collection():
            document = yaml.load(stream, Loader=_loader())
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise RepositoryError(f"{name} is not a readable export file: {error}") from error
    if not isinstance(document, dict) or "data" not in document:
        raise RepositoryError(f"{name} is not an export file (no entry 'data')")
    text = str(document.get("version", 0))
    version = (1, 0, 0) if text == "0" else tuple(int(n) if n.isdigit() else -1 for n in text.split("."))
    if version[0] != EXPORT_VERSION[0] or version[1:2] > EXPORT_VERSION[1:2]:
        raise FormatVersionError(
            f"{name} is of export version {text}; this version of butler_dask reads "
            f"{'.'.join(map(str, EXPORT_VERSION))}."
        )
    entries: list[dict[str, Any]] = list(document["data"])
    old = int(document.get("universe_version", 0)) < UNIVERSE_VERSION
    return _of_old_universe(entries) if old else entries


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage: searched for among a file's nodes, all alive, that takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def record_fields(element: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record as this package's records take them."""
    out = dict(fields)
    for key, value in fields.items():
        if isinstance(value, datetime.datetime):
            from astropy.time import Time

            out[key] = Time(value, scale="utc")
    if element == "skymap" and isinstance(out.get("hash"), bytes):
        out["hash"] = out["hash"].hex()
    if element in ("exposure", "visit") and "datetime_begin" not in out and "timespan" not in out:
        out["timespan"] = None
    return out


def _of_old_universe(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries with the fields that dimension records had in earlier universes put where they are now.

    Days and groups were numbers and names of exposures before they were dimensions of their own.
    """
    days: dict[tuple[str, int], None] = {}
    groups: dict[tuple[str, str], None] = {}
    memberships: list[dict[str, Any]] = []
    known = {n: {*e.schema.names, "datetime_begin", "datetime_end"} for n, e in _elements().items()}
    out = []
    for entry in entries:
        element = entry.get("element")
        if entry["type"] != "dimension" or element not in known:
            out.append(entry)
            continue
        records = []
        for fields in entry["records"]:
            record = dict(fields)
            if element == "exposure" and "group_name" in record:
                record["group"] = str(record.pop("group_name"))
            if element == "visit" and record.get("visit_system") is not None:
                memberships.append(
                    {
                        "instrument": record["instrument"],
                        "visit_system": record["visit_system"],
                        "visit": record["id"],
                    }
                )
            if element in ("exposure", "visit"):
                if isinstance(record.get("day_obs"), int):
                    days[record["instrument"], record["day_obs"]] = None
                if element == "exposure" and record.get("group") is not None:
                    groups[record["instrument"], record["group"]] = None
            records.append({k: v for k, v in record.items() if k in known[element]})
        out.append({**entry, "records": records})
    extra = [
        {"type": "dimension", "element": name, "records": rows}
        for name, rows in (
            ("day_obs", [{"instrument": i, "id": d} for i, d in days]),
            ("group", [{"instrument": i, "name": g} for i, g in groups]),
        )
        if rows
    ]
    if memberships:
        out.append({"type": "dimension", "element": "visit_system_membership", "records": memberships})
    return extra + out


def _elements() -> Mapping[str, Any]:
    return {e.name: e for e in DimensionUniverse()}


@cache
def _dumper() -> Any:
    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # chosen at run time
        """Writes UUIDs, times, timespans and regions by the reference's tags."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def timespan(dumper: Any, value: Timespan) -> Any:
        if value.isEmpty():
            return dumper.represent_scalar("!lsst.daf.butler.Timespan", "EMPTY")
        bounds = {"begin": value.begin, "end": value.end}
        return dumper.represent_mapping("!lsst.daf.butler.Timespan", bounds)

    from astropy.time import Time
    from lsst import sphgeom

    def time(dumper: Any, value: Any) -> Any:
        text = Time(value.tai, precision=9).to_value("iso")
        return dumper.represent_scalar("!butler_time/tai/iso", str(text))

    def region(dumper: Any, value: Any) -> Any:
        tag = f"lsst.sphgeom.{type(value).__name__}"
        return dumper.represent_mapping(tag, {"encoded": value.encode().hex()})

    Dumper.add_representer(uuid.UUID, lambda d, v: d.represent_scalar("!uuid", str(v)))
    Dumper.add_representer(Timespan, timespan)
    Dumper.add_representer(Time, time)
    Dumper.add_multi_representer(sphgeom.Region, region)
    return Dumper


_TEXT, _NUMBER, _LIST, _MAPPING = (f"tag:yaml.org,2002:{n}" for n in ("str", "int", "seq", "map"))
_DECIMAL = re.compile("0|-?[1-9][0-9]*")


@cache
def _loader() -> Any:
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
        """Reads UUIDs, times, timespans and regions by the reference's tags."""

        def construct_document(self, node: Any) -> Any:
            return self._value(node, {})

        def _value(self, node: Any, made: dict[Any, Any]) -> Any:
            """Return what a node is; lists, texts and mappings of texts without the detours of PyYAML."""
            tag = node.tag
            if tag == _TEXT:
                return node.value
            if tag == _NUMBER and _DECIMAL.fullmatch(node.value):
                return int(node.value)
            if node in made:  # by an alias
                return made[node]
            if tag == _LIST:
                items = made[node] = []
                items += [self._value(item, made) for item in node.value]
                return items
            if tag == _MAPPING and all(key.tag == _TEXT for key, _ in node.value):
                fields = made[node] = {}
                fields |= {key.value: self._value(item, made) for key, item in node.value}
                return fields
            made[node] = self.construct_object(node, deep=True)
            return made[node]

    def timespan(loader: Any, node: Any) -> Timespan:
        if isinstance(node, yaml.ScalarNode):
            return Timespan.makeEmpty()
        bounds = loader.construct_mapping(node, deep=True)
        return Timespan(bounds["begin"], bounds["end"])

    def time(loader: Any, node: Any) -> Any:
        from astropy.time import Time

        return Time(loader.construct_scalar(node), format="iso", scale="tai")

    def region(loader: Any, suffix: str, node: Any) -> Any:
        from lsst.sphgeom import Region

        return Region.decode(bytes.fromhex(loader.construct_mapping(node)["encoded"]))

    constructors: Mapping[str, Callable[[Any, Any], Any]] = {
        "!uuid": lambda loader, node: uuid.UUID(loader.construct_scalar(node)),
        "!lsst.daf.butler.Timespan": timespan,
        "!butler_time/tai/iso": time,
    }
    for tag, constructor in constructors.items():
        Loader.add_constructor(tag, constructor)
    Loader.add_multi_constructor("lsst.sphgeom.", region)
    return Loader
