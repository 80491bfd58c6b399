"""Formatter of tables in Parquet files, those of the reference among them; needs the extra ``parquet``.

Units, descriptions and metadata are kept as astropy and the reference do, as YAML under ``table_meta_yaml``
in the file's metadata.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import DatasetTypeError, did_you_mean
from .storage_root import open_stream
from .table_conversion import required, table_as, table_of

if TYPE_CHECKING:
    from astropy.table import Table

PARQUET_EXTENSIONS = (".parq", ".parquet")
_META = b"table_meta_yaml"


class ParquetFormatter:
    """Formatter of tables of all types."""

    extension: ClassVar[str] = ".parq"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the bytes of the file."""
        arrow = required("pyarrow", storage_class)
        parquet = required("pyarrow.parquet", storage_class)
        kind = type(obj)
        if isinstance(obj, arrow.Table):
            table = obj
        elif kind.__module__.partition(".")[0] == "pandas":
            table = arrow.Table.from_pandas(obj)
        else:
            table = arrow_of_astropy(table_of(obj))
        stream = io.BytesIO()
        parquet.write_table(table, stream)
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
        path, storage_class, component, parameters, root, data_id
            See `TableFormatter.read`.

        Raises
        ------
        DatasetTypeError
            If there is no such column, or pyarrow is not installed.
        """
        parquet = required("pyarrow.parquet", storage_class)
        with open_stream(path) as stream:
            file = parquet.ParquetFile(stream)
            if component == "rowcount":
                return file.metadata.num_rows
            known = [n for n in file.schema_arrow.names if not n.startswith("__index_level_")]
            if component == "columns":
                return known
            if component == "schema":
                from .fits_table import table_component

                return table_component(astropy_of_arrow(file.schema_arrow.empty_table()), "schema")
            wanted = (parameters or {}).get("columns")
            names = [wanted] if isinstance(wanted, str) else wanted
            for name in names or ():
                if name not in known:
                    raise DatasetTypeError(f"The table has no column {name!r}.{did_you_mean(name, known)}")
            table = file.read(columns=None if names is None else list(names), use_pandas_metadata=True)
        if storage_class == "ArrowTable":
            return table
        if storage_class == "DataFrame":
            required("pandas", storage_class)
            return table.to_pandas()
        return table_as(table, storage_class if storage_class.startswith("ArrowNumpy") else "ArrowAstropy")


def arrow_of_astropy(table: Table) -> Any:
    """Return a table as `pyarrow.Table`; what Arrow does not know of columns goes into its metadata."""
    arrow = required("pyarrow", "ArrowTable")
    from astropy.table import meta, serialize

    plain = serialize.represent_mixins_as_columns(table)
    columns: list[Any] = []
    for name in plain.colnames:
        values = plain[name]
        mask = getattr(values, "mask", None)
        data = values.data.data if mask is not None else values.data
        data = data.astype(data.dtype.newbyteorder("=")) if data.dtype.kind in "iufc" else data
        if data.dtype.kind == "S":
            data = data.astype(str)
        if data.ndim > 1:
            columns.append(arrow.array(data.reshape(len(data), -1).tolist()))
        else:
            columns.append(arrow.array(data, mask=mask if mask is not None and mask.any() else None))
    text = "\n".join(meta.get_yaml_from_table(plain))
    return arrow.table(columns, names=plain.colnames).replace_schema_metadata({_META: text.encode()})


def astropy_of_arrow(table: Any) -> Table:
    """Return a `pyarrow.Table` as `astropy.table.Table`, units and descriptions put back."""
    import numpy as np
    from astropy.table import Column, MaskedColumn, Table, meta, serialize

    text = (table.schema.metadata or {}).get(_META)
    header = meta.get_header_from_yaml(text.decode().split("\n")) if text else {}
    specs = {column["name"]: column for column in header.get("datatype", ())}
    out = Table(meta=header.get("meta"))
    for name in table.column_names:
        chunk = table.column(name).combine_chunks()
        spec = specs.get(name, {})
        null = chunk.is_null().to_numpy(zero_copy_only=False)
        if str(chunk.type).startswith(("list", "fixed_size_list")):
            values = np.array(chunk.to_pylist())
        else:
            filled = chunk.drop_null() if null.any() else chunk
            values = filled.to_numpy(zero_copy_only=False)
            if values.dtype == object and all(isinstance(v, str) for v in values):
                values = values.astype(str)
            if null.any():
                whole = np.zeros(len(null), dtype=values.dtype)
                whole[~null] = values
                values = whole
        known = {"unit": spec.get("unit"), "description": spec.get("description")}
        if null.any():
            out[name] = MaskedColumn(values, mask=null, **known)
        else:
            out[name] = Column(values, **known)
    return serialize._construct_mixins_from_columns(out) if header else out
