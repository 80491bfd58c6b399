"""Tables as `pyarrow.Table` and back; needs the extra ``parquet``.

Units, descriptions and metadata are kept as astropy and the reference do, as YAML under ``table_meta_yaml``
in the table's metadata.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetTypeError

if TYPE_CHECKING:
    from astropy.table import Table

_META = b"table_meta_yaml"
_ROWS = b"lsst::arrow::rowcount"
_SHAPE = "lsst::arrow::shape::"
_LENGTH = "lsst::arrow::len::"


def required(package: str, storage_class: str) -> Any:
    """Return an optional package.

    Raises
    ------
    DatasetTypeError
        If it is not installed; says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DatasetTypeError(
            f"{storage_class} needs {package}, which is not installed: `pip install 'butler-dask[parquet]'`."
        ) from error


def arrow_of_astropy(table: Table) -> Any:
    """Return a table as `pyarrow.Table`; what Arrow does not know of columns goes into its metadata.

    Columns of arrays become lists of fixed length, their shape and that of texts noted as the reference does.
    """
    arrow = required("pyarrow", "ArrowTable")
    from astropy.table import meta, serialize

    plain = serialize.represent_mixins_as_columns(table)
    header = {_ROWS: str(len(plain)), _META: "\n".join(meta.get_yaml_from_table(plain))}
    arrays, fields = [], []
    for name in plain.colnames:
        column = plain[name]
        mask = np.ma.getmaskarray(column) if np.any(getattr(column, "mask", False)) else None
        values = np.ma.getdata(column)
        values = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "iufc" else values
        values = values.astype(str) if values.dtype.kind == "S" else values
        if column.ndim > 1:
            header[f"{_SHAPE}{name}".encode()] = str(tuple(column.shape[1:]))
            flat = arrow.array(np.ascontiguousarray(values).reshape(-1))
            array = arrow.FixedSizeListArray.from_arrays(flat, int(np.prod(column.shape[1:])))
        else:
            if values.dtype.kind == "U":
                header[f"{_LENGTH}{name}".encode()] = str(max(values.dtype.itemsize // 4, 1))
            array = arrow.array(values, mask=mask)
        notes = {"description": column.description or "", "unit": str(column.unit or "")}
        fields.append(arrow.field(name, array.type, metadata=notes))
        arrays.append(array)
    return arrow.Table.from_arrays(arrays, schema=arrow.schema(fields, metadata=header))


def astropy_of_arrow(content: Any) -> Table:
    """Return a `pyarrow.Table` as `astropy.table.Table`, units and descriptions put back."""
    from astropy.table import MaskedColumn, Table, serialize

    metadata = content.schema.metadata or {}
    table = Table()
    for name in content.schema.names:
        field, column = content.schema.field(name), content[name].combine_chunks()
        shape = _shape(metadata, name, field.type)
        if shape is not None:
            flat = column.flatten().to_numpy(zero_copy_only=False)
            table[name] = flat.reshape(len(column), *shape)
        elif str(field.type) in ("string", "large_string"):
            length = metadata.get(f"{_LENGTH}{name}".encode())
            kind = f"U{int(length)}" if length else "U"
            texts = np.array(["" if v is None else v for v in column.to_pylist()], dtype=kind)
            table[name] = (
                MaskedColumn(texts, column.is_null().to_numpy(False)) if column.null_count else texts
            )
        elif column.null_count:
            filled = column.fill_null(False if str(field.type) == "bool" else 0).to_numpy(
                zero_copy_only=False
            )
            table[name] = MaskedColumn(filled, column.is_null().to_numpy(zero_copy_only=False))
        else:
            table[name] = column.to_numpy(zero_copy_only=False)
        notes = field.metadata or {}
        table[name].description = notes.get(b"description", b"").decode() or None
        table[name].unit = notes.get(b"unit", b"").decode() or None
    if _META in metadata:
        _apply_header(table, metadata[_META].decode())
    return serialize._construct_mixins_from_columns(table)


def _shape(metadata: Mapping[bytes, bytes], name: str, kind: Any) -> tuple[int, ...] | None:
    """Return the shape of one row's value; `None` of scalars."""
    size = getattr(kind, "list_size", None)
    if size is None:
        return None
    text = metadata.get(f"{_SHAPE}{name}".encode())
    if text is None:
        return (int(size),)
    return tuple(int(n) for n in text.decode().strip("()").split(",") if n.strip())


def _apply_header(table: Table, header: str) -> None:
    """Give a table what astropy's YAML header says of its columns and of itself."""
    from astropy.table import meta

    document = meta.get_header_from_yaml(header.split("\n"))
    for said in document["datatype"]:
        if said["name"] in table.colnames:
            for attribute in ("description", "format", "unit", "meta"):
                if attribute in said:
                    setattr(table[said["name"]], attribute, said[attribute])
    table.meta.update(document.get("meta") or {})
