"""Formatter of tables in Parquet files, those of the reference among them; needs the extra ``parquet``.

Units, descriptions and metadata are kept as astropy and the reference do; see
`butler_dask.datastore.arrow_table`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, ClassVar

from .arrow_table import arrow_of_astropy, astropy_of_arrow, required
from .formatter import ReadRequest
from .storage_root import open_stream
from .table_conversion import columns_wanted, table_as, table_component, table_of

PARQUET_EXTENSIONS = (".parq", ".parquet")


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

    def read(self, request: ReadRequest) -> Any:
        """Read a table, some of its columns, or a component of it.

        Parameters
        ----------
        request : `ReadRequest`
            See `butler_dask.datastore.fits_table.TableFormatter.read`.

        Raises
        ------
        DatasetTypeError
            If there is no such column, or pyarrow is not installed.
        """
        storage_class, component = request.storage_class, request.component
        parquet = required("pyarrow.parquet", storage_class)
        with open_stream(request.path) as stream:
            file = parquet.ParquetFile(stream)
            if component == "rowcount":
                return file.metadata.num_rows
            known = [n for n in file.schema_arrow.names if not n.startswith("__index_level_")]
            if component == "columns":
                return known
            if component == "schema":
                return table_component(astropy_of_arrow(file.schema_arrow.empty_table()), "schema")
            wanted = request.parameters.get("columns")
            names = None if wanted is None else columns_wanted(wanted, known)
            table = file.read(columns=names, use_pandas_metadata=True)
        if storage_class == "ArrowTable":
            return table
        if storage_class == "DataFrame":
            required("pandas", storage_class)
            return table.to_pandas()
        return table_as(table, storage_class if storage_class.startswith("ArrowNumpy") else "ArrowAstropy")
