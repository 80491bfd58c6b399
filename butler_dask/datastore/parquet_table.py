"""Formatter of tables as Parquet files, with pyarrow, which is not installed by default.

FITS is the default form of tables here. Parquet is what the reference keeps them in: its files are read,
and a repository that names this formatter under ``formatters:`` writes files the reference reads. Units,
descriptions and metadata are in the schema as astropy's YAML header, columns of arrays are lists of fixed
length with their shape noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import DatasetTypeError
from .fits_table import checked_columns, table_component
from .formatter import converted
from .storage_root import open_stream

if TYPE_CHECKING:
    from astropy.table import Table

_ROWS = b"lsst::arrow::rowcount"
_SHAPE = "lsst::arrow::shape::"
_LENGTH = "lsst::arrow::len::"
_HEADER = b"table_meta_yaml"


class ParquetFormatter:
    """Formatter of `astropy.table.Table` as Parquet."""

    extension: ClassVar[str] = ".parq"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the bytes of the file."""
        arrow = _pyarrow()
        stream = BytesIO()
        arrow.parquet.write_table(_to_arrow(arrow, converted(obj, storage_class)), stream)
        return (stream.getbuffer(),)

    def read(
        self,
        path: str,
        *,
        storage_class: str,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        root: str = "",
        data_id: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read a table, some of its columns, or a component of it.

        Parameters
        ----------
        path, storage_class, root, data_id
            See `FileReader.read`.
        component : `str`, optional
            ``columns`` (names), ``rowcount``, ``schema`` (type, shape, unit and description by column).
        parameters : mapping, optional
            ``columns``: name or names of the columns to read; others are not read from the file.

        Raises
        ------
        DatasetTypeError
            If there is no such column (the nearest match is named), or pyarrow is not installed.
        """
        arrow = _pyarrow()
        wanted = (parameters or {}).get("columns")
        with open_stream(path) as stream:
            file = arrow.parquet.ParquetFile(stream)
            names = list(file.schema_arrow.names)
            if component == "columns":
                return names
            if component == "rowcount":
                return file.metadata.num_rows
            columns = names if wanted is None else checked_columns(wanted, names)
            table = _from_arrow(file.read(columns=columns))
        return table if component is None else table_component(table, component)


def _pyarrow() -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetTypeError(
            "Parquet files are read with pyarrow, which is not installed; `pip install pyarrow`."
        ) from error
    return arrow


def _to_arrow(arrow: Any, table: Table) -> Any:
    from astropy.table import meta, serialize

    plain = serialize.represent_mixins_as_columns(table)
    header = {_ROWS: str(len(plain)), _HEADER: "\n".join(meta.get_yaml_from_table(plain))}
    arrays, fields = [], []
    for name in plain.colnames:
        column = plain[name]
        mask = np.ma.getmaskarray(column) if hasattr(column, "mask") else None
        values = np.ma.getdata(column)
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


def _from_arrow(content: Any) -> Table:
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
    if _HEADER in metadata:
        _apply_header(table, metadata[_HEADER].decode())
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
