"""A QuantumGraph on disk: one file whose parts are read alone, memory-mapped by workers.

Layout (version 2): 8 bytes magic, uint32 version, uint32 CRC-32 of the rest of the prefix and the header,
uint64 length of the header, all little-endian; the header, JSON; then arrays, each beginning at a multiple of
64 bytes counted from the end of the header rounded up to one. The header says of each array its dtype, shape,
offset and XXH3 checksum (version 1 had neither kind of checksum). Columns that hold one value are in the
header alone. Opening a graph of a million quanta reads the header and maps the rest, so that
looking at one quantum touches a few pages. It was preferred to a zip of arrays, which cannot be mapped, and
to a database, which costs ten times the bytes.
"""

from __future__ import annotations

import bisect
import json
import mmap as memory_map
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from ..errors import ButlerUserError, DatasetFileError, FormatVersionError
from ..published_file import published
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.timespan import Timespan
from .graph_check import check_graph, check_texts
from .graph_columns import DatasetColumns, Edges, GraphConnection, InitDataset, TaskColumns
from .quantum_graph import QuantumGraph
from .string_column import StringColumn

MAGIC = b"\x93BDQGRPH"
VERSION = 2
_PREFIX = struct.Struct("<8sIIQ")
_ALIGNMENT = 64
_RECORDS_KEPT = 4096
"""Records of an element a reader keeps in memory: a worker's quanta mostly have the same few."""


def write_graph(graph: QuantumGraph, path: str | os.PathLike[str]) -> int:
    """Save a graph; the file appears whole or not at all.

    Parameters
    ----------
    graph : `QuantumGraph`
        What to save.
    path : `str`
        Local file, replaced if it exists.

    Returns
    -------
    size : `int`
        Bytes written.

    Raises
    ------
    DatasetFileError
        If the file cannot be written.
    """
    path = os.fspath(path)
    writer = _Writer()
    header: dict[str, Any] = {
        "plan_id": graph.plan_id,
        "run": graph.run,
        "output": graph.output,
        "inputs": list(graph.inputs),
        "pipeline": graph.pipeline,
        "metadata": dict(graph.metadata),
        "tasks": [_task_out(t, writer) for t in graph.tasks],
        "dataset_types": [_datasets_out(d, writer) for d in graph.dataset_types],
        "inputs_of": _edges_out(graph.inputs_of, writer),
        "outputs_of": _edges_out(graph.outputs_of, writer),
        "quantum_ids": writer.array(graph.quantum_ids),
        "init_inputs": [_init_out(i) for i in graph.init_inputs],
        "init_outputs": [_init_out(i) for i in graph.init_outputs],
        "records": {name: _records_out(name, rows, writer) for name, rows in graph.records.items()},
    }
    header["tables"] = writer.tables
    header["arrays"] = writer.specs
    header["size"] = writer.size
    text = json.dumps(header, separators=(",", ":")).encode()
    try:
        with published(path) as stream:
            stream.write(_PREFIX.pack(MAGIC, VERSION, _header_checksum(VERSION, text), len(text)))
            stream.write(text)
            start = _aligned(_PREFIX.size + len(text))
            for array, spec in zip(writer.arrays, writer.specs, strict=True):
                stream.seek(start + spec["offset"])
                np.ascontiguousarray(array).tofile(stream)
            # The last array may be empty or the file end in padding; its length is checked when reading.
            stream.truncate(start + writer.size)
    except OSError as error:
        raise DatasetFileError(
            f"The quantum graph could not be written to {path!r}: {error.strerror or error}. "
            "Give another path with --save-qgraph, or make room."
        ) from error
    return start + writer.size


def _header_checksum(version: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(struct.pack("<IQ", version, len(text))))


def read_graph(path: str | os.PathLike[str], *, mmap: bool = True, check: bool = True) -> QuantumGraph:
    """Open a saved graph.

    Parameters
    ----------
    path : `str`
        Local file.
    mmap : `bool`
        Map the arrays into memory instead of reading them; pages are read when looked at.
    check : `bool`
        Compare the arrays with their checksums and each other, which reads the whole file once (0.1 s per
        GB); workers leave it to the program that made the plan. The header is checked in any case.

    Returns
    -------
    graph : `QuantumGraph`
        Its arrays read-only views of the file, if mapped.

    Raises
    ------
    DatasetFileError
        If the file cannot be read, is cut short or has been changed.
    FormatVersionError
        If it is not a quantum graph, or of a version not known here.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            prefix = stream.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size or prefix[:8] != MAGIC:
                raise FormatVersionError(f"{path!r} is not a quantum graph of butler_dask.")
            _, version, checksum, length = _PREFIX.unpack(prefix)
            if not 1 <= version <= VERSION:
                raise FormatVersionError(
                    f"{path!r} is a quantum graph of version {version}; this software reads version "
                    f"{VERSION}. Make the graph again with `pipetask qgraph`."
                )
            size = os.fstat(stream.fileno()).st_size
            # A length that was changed may be more than fits into memory.
            text = stream.read(min(length, size))
            header, start = None, _aligned(_PREFIX.size + length)
            if len(text) == length:
                if version > 1 and checksum != _header_checksum(version, text):
                    raise _damaged(path, "its header does not have the checksum written with it")
                with _reading(path):
                    header = dict(json.loads(text))
                    header["size"] = int(header["size"])
            if header is None or size < start + header["size"]:
                raise DatasetFileError(
                    f"The quantum graph {path!r} is cut short ({size} bytes). Make it again with "
                    "`pipetask qgraph`."
                )
            buffer: Any
            if mmap:
                buffer = memory_map.mmap(stream.fileno(), 0, access=memory_map.ACCESS_READ)
            else:
                stream.seek(0)
                buffer = stream.read()
    except OSError as error:
        if isinstance(error, ButlerUserError):
            raise
        raise DatasetFileError(
            f"The quantum graph {path!r} cannot be read: {error.strerror or error}."
        ) from error
    with _reading(path):
        reader = _Reader(header, buffer, start)
        if check:
            reader.compare_checksums()
        graph = _graph_of(header, reader)
        if check:
            check_graph(graph)
    return graph


def _damaged(path: str, why: object) -> DatasetFileError:
    return DatasetFileError(
        f"The quantum graph {path!r} is damaged: {why}. Make it again with `pipetask qgraph`."
    )


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Make one error of what goes wrong with a file that is not as it was written."""
    try:
        yield
    except KeyError as error:
        raise _damaged(path, f"it lacks {error}") from error
    except (
        ButlerUserError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise _damaged(path, error) from error


def _graph_of(header: Mapping[str, Any], reader: _Reader) -> QuantumGraph:
    return QuantumGraph(
        run=header["run"],
        tasks=tuple(_task_in(t, reader) for t in header["tasks"]),
        dataset_types=tuple(_datasets_in(d, reader) for d in header["dataset_types"]),
        inputs_of=_edges_in(header["inputs_of"], reader),
        outputs_of=_edges_in(header["outputs_of"], reader),
        quantum_ids=reader.array(header["quantum_ids"]),
        output=header["output"],
        inputs=tuple(header["inputs"]),
        init_inputs=tuple(_init_in(i) for i in header["init_inputs"]),
        init_outputs=tuple(_init_in(i) for i in header["init_outputs"]),
        records={name: _StoredRecords(name, spec, reader) for name, spec in header["records"].items()},
        pipeline=header["pipeline"],
        metadata=header["metadata"],
        plan_id=header["plan_id"],
    )


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class _Writer:
    """Collects arrays and data ID tables; a table used twice is stored once."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.specs: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []
        self.size = 0
        self._table_numbers: dict[int, int] = {}
        self._column_numbers: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._kept: list[Any] = []

    def array(self, array: NDArray[Any]) -> dict[str, Any]:
        """Add an array and return how to find it; a column of one value is told in place."""
        array = np.asarray(array)
        if array.ndim == 1 and len(array) > 1 and array.dtype.kind in "iu" and _is_constant(array):
            return {"constant": int(array[0]), "count": len(array), "dtype": array.dtype.str}
        # Tables made from one another share columns; each is stored once.
        key = (array.__array_interface__["data"][0], array.dtype.str, array.shape)
        if array.nbytes and array.flags.c_contiguous and key in self._column_numbers:
            return self._column_numbers[key]
        self._kept.append(array)  # keeps the address from being used again
        number = {"array": len(self.arrays)}
        self._column_numbers[key] = number
        self.arrays.append(array)
        checksum = xxh3_64_hexdigest(_bytes_of(np.ascontiguousarray(array)))
        spec = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "offset": self.size,
            "xxh3": checksum,
        }
        self.specs.append(spec)
        self.size = _aligned(self.size + array.nbytes)
        return number

    def table(self, table: DataIdTable) -> int:
        """Add a data ID table and return its number."""
        known = self._table_numbers.get(id(table))
        if known is not None:
            return known
        self._kept.append(table)
        self._table_numbers[id(table)] = len(self.tables)
        self.tables.append(
            {
                "dimensions": list(table.dimensions.names),
                "count": len(table),
                "columns": {name: self._narrow(column) for name, column in table.columns.items()},
                "categories": {name: list(values) for name, values in table.categories.items()},
            }
        )
        return len(self.tables) - 1

    def _narrow(self, column: NDArray[np.int64]) -> dict[str, Any]:
        """Add a column of a data ID table in the fewest bytes that hold its range."""
        key = ("narrow", column.__array_interface__["data"][0], column.shape, column.strides)
        if len(column) and key in self._column_numbers:
            return self._column_numbers[key]
        low = int(column.min()) if len(column) else 0
        spread = int(column.max()) - low if len(column) else 0
        if spread and spread < 2**32:
            number = {**self.array((column - low).astype(np.min_scalar_type(spread))), "low": low}
        else:
            number = self.array(column)
        self._column_numbers[key] = number
        self._kept.append(column)
        return number

    def strings(self, texts: Sequence[str]) -> dict[str, Any]:
        """Add a column of texts."""
        packed = StringColumn.from_strings(texts)
        return {"offsets": self.array(packed.offsets), "data": self.array(packed.data)}


def _bytes_of(array: NDArray[Any]) -> Any:
    return array.reshape(-1).view(np.uint8).data if array.nbytes else b""


def _is_constant(array: NDArray[Any]) -> bool:
    return array.strides == (0,) or (array[0] == array[-1] and bool((array == array[0]).all()))


class _Reader:
    """Makes arrays and tables from the mapped file."""

    def __init__(self, header: Mapping[str, Any], buffer: Any, start: int) -> None:
        self._specs, self._tables = header["arrays"], header["tables"]
        self._buffer, self._start = buffer, start
        self._made: dict[int, DataIdTable] = {}

    def compare_checksums(self) -> None:
        """Raise ValueError unless all arrays have the checksums written with them (version 1 has none)."""
        for number, spec in enumerate(self._specs):
            if "xxh3" in spec and xxh3_64_hexdigest(_bytes_of(self.array({"array": number}))) != spec["xxh3"]:
                raise ValueError(f"array {number} does not have the checksum written with it")

    def array(self, where: Mapping[str, Any]) -> NDArray[Any]:
        if "constant" in where:
            value = np.array(where["constant"], dtype=where["dtype"])
            return np.broadcast_to(value, (where["count"],))
        if "low" in where:
            stored: NDArray[Any] = self.array({"array": where["array"]})
            return stored.astype(np.int64) + np.int64(where["low"])
        spec = self._specs[where["array"]]
        dtype = np.dtype(spec["dtype"])
        if dtype.kind not in "iub":
            raise ValueError(f"an array of type {dtype}")
        count = int(np.prod(spec["shape"], dtype=np.int64))
        if count == 0:
            return np.zeros(spec["shape"], dtype=dtype)
        flat = np.frombuffer(self._buffer, dtype=dtype, count=count, offset=self._start + spec["offset"])
        return flat.reshape(spec["shape"])

    def table(self, number: int) -> DataIdTable:
        if number not in self._made:
            spec = self._tables[number]
            self._made[number] = DataIdTable(
                DimensionUniverse().conform(spec["dimensions"]),
                {name: self.array(where) for name, where in spec["columns"].items()},
                spec["categories"],
                spec["count"],
            )
        return self._made[number]

    def strings(self, where: Mapping[str, Any]) -> StringColumn:
        return StringColumn(self.array(where["offsets"]), self.array(where["data"]))


def _type_out(dataset_type: DatasetType) -> list[Any]:
    return [
        dataset_type.name,
        list(dataset_type.dimensions.names),
        dataset_type.storageClass_name,
        dataset_type.isCalibration(),
    ]


def _type_in(spec: Sequence[Any]) -> DatasetType:
    name, dimensions, storage_class, is_calibration = spec
    return DatasetType(name, dimensions, storage_class, isCalibration=is_calibration)


def _task_out(task: TaskColumns, writer: _Writer) -> dict[str, Any]:
    return {
        "label": task.label,
        "class": task.task_class_name,
        "config": task.config_text,
        "dimensions": list(task.dimensions.names),
        "first": task.first_quantum,
        "data_ids": writer.table(task.data_ids),
        "connections": [[c.name, c.kind, _type_out(c.dataset_type)] for c in task.connections],
    }


def _task_in(spec: Mapping[str, Any], reader: _Reader) -> TaskColumns:
    connections = tuple(GraphConnection(name, kind, _type_in(t)) for name, kind, t in spec["connections"])
    return TaskColumns(
        spec["label"],
        spec["class"],
        spec["config"],
        DimensionUniverse().conform(spec["dimensions"]),
        spec["first"],
        reader.table(spec["data_ids"]),
        connections,
    )


def _datasets_out(columns: DatasetColumns, writer: _Writer) -> dict[str, Any]:
    table, files = columns.table, columns.files
    out: dict[str, Any] = {
        "type": _type_out(table.dataset_type),
        "first": columns.first_row,
        "data_ids": writer.table(table.data_ids),
        "ids": writer.array(table.ids),
        "run_codes": writer.array(table.run_codes),
        "runs": list(table.runs),
        "files": None,
    }
    if files is not None:
        out["files"] = {
            "paths": writer.strings(files.paths),
            "formatter_codes": writer.array(files.formatter_codes),
            "formatters": list(files.formatters),
            "storage_class_codes": writer.array(files.storage_class_codes),
            "storage_classes": list(files.storage_classes),
            "sizes": writer.array(files.sizes),
            "checksums": writer.strings(files.checksums),
        }
    return out


def _datasets_in(spec: Mapping[str, Any], reader: _Reader) -> DatasetColumns:
    table = DatasetTable(
        _type_in(spec["type"]),
        reader.table(spec["data_ids"]),
        reader.array(spec["ids"]).reshape(-1, 16),
        reader.array(spec["run_codes"]),
        spec["runs"],
    )
    stored = spec["files"]
    files = None
    if stored is not None:
        files = FileTable(
            reader.strings(stored["paths"]),
            reader.array(stored["formatter_codes"]),
            stored["formatters"],
            reader.array(stored["storage_class_codes"]),
            stored["storage_classes"],
            reader.array(stored["sizes"]),
            reader.strings(stored["checksums"]),
        )
    return DatasetColumns(table, spec["first"], files)


def _edges_out(edges: Edges, writer: _Writer) -> dict[str, Any]:
    return {name: writer.array(getattr(edges, name)) for name in ("indptr", "indices", "connections")}


def _edges_in(spec: Mapping[str, Any], reader: _Reader) -> Edges:
    return Edges(
        reader.array(spec["indptr"]), reader.array(spec["indices"]), reader.array(spec["connections"])
    )


def _init_out(item: InitDataset) -> dict[str, Any]:
    file = item.file
    return {
        "label": item.label,
        "connection": item.connection,
        "type": _type_out(item.ref.datasetType),
        "run": item.ref.run,
        "id": item.ref.id.hex,
        "file": file and [file.path, file.formatter, file.storage_class, file.size, file.checksum],
    }


def _init_in(spec: Mapping[str, Any]) -> InitDataset:
    file = spec["file"]
    ref = DatasetRef(
        _type_in(spec["type"]), DataCoordinate.make_empty(), spec["run"], id=uuid.UUID(hex=spec["id"])
    )
    return InitDataset(spec["label"], spec["connection"], ref, file and FileRecord(*file))


def _records_out(
    name: str, rows: Mapping[tuple[Any, ...], DimensionRecord], writer: _Writer
) -> dict[str, Any]:
    keys = sorted(rows)
    return {
        "keys": writer.strings([json.dumps(k, separators=(",", ":")) for k in keys]),
        "rows": writer.strings([_record_text(rows[k]) for k in keys]),
    }


def _record_text(record: DimensionRecord) -> str:
    fields = record.toDict()
    region, timespan = fields.pop("region", None), fields.pop("timespan", None)
    values: list[Any] = [
        {k: v for k, v in fields.items() if v is not None},
        None if region is None else region.encode().hex(),
        None if timespan is None else [timespan.begin_ns, timespan.end_ns],
    ]
    return json.dumps(values, separators=(",", ":"))


class _StoredRecords(Mapping[tuple[Any, ...], DimensionRecord]):
    """Records of one element in the file, in the order of their keys; a record is read when it is wanted."""

    def __init__(self, name: str, spec: Mapping[str, Any], reader: _Reader) -> None:
        self._element = DimensionUniverse()[name]
        self._rows = reader.strings(spec["rows"])
        self._keys = reader.strings(spec["keys"])
        self._seen: dict[tuple[Any, ...], DimensionRecord] = {}
        for texts in (self._rows, self._keys):
            check_texts(texts, f"records of {name!r}")
        if len(self._rows) != len(self._keys):
            raise ValueError(f"{len(self._keys)} keys of {name!r}, but {len(self._rows)} records")

    def _key(self, row: int) -> tuple[Any, ...]:
        return tuple(json.loads(self._keys[row]))

    def __getitem__(self, key: tuple[Any, ...]) -> DimensionRecord:
        record = self._seen.get(key)
        if record is None:
            if len(self._seen) >= _RECORDS_KEPT:
                self._seen.clear()
            record = self._seen[key] = self._read(key)
        return record

    def _read(self, key: tuple[Any, ...]) -> DimensionRecord:
        # A search in the file: making a dictionary of ten thousand visits would cost more than all the rest
        # of looking at one quantum.
        row = bisect.bisect_left(range(len(self)), key, key=self._key)
        if row == len(self) or self._key(row) != key:
            raise KeyError(key)
        fields, region, timespan = json.loads(self._rows[row])
        if region is not None:
            from lsst.sphgeom import Region

            fields["region"] = Region.decode(bytes.fromhex(region))
        if timespan is not None:
            fields["timespan"] = Timespan(*timespan)
        record: DimensionRecord = self._element.RecordClass(**fields)
        return record

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self._key(row) for row in range(len(self)))

    def __len__(self) -> int:
        return len(self._rows)
