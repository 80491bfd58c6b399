"""Tables in their various Python types: astropy, Arrow, pandas, arrays, dictionaries of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DatasetTypeError, did_you_mean
from .arrow_table import arrow_of_astropy, astropy_of_arrow, required

if TYPE_CHECKING:
    from astropy.table import Table

TABLE_CLASSES = frozenset({"ArrowAstropy", "ArrowTable", "ArrowNumpy", "ArrowNumpyDict", "DataFrame"})
"""Storage classes that convert to each other."""


def is_table(obj: Any) -> bool:
    """Return whether an object is a table of one of the types `table_of` takes."""
    return (
        hasattr(obj, "colnames")
        or bool(getattr(getattr(obj, "dtype", None), "names", None))
        or _type_name(obj) in ("pyarrow.Table", "pandas.DataFrame")
        or (isinstance(obj, Mapping) and bool(obj) and all(hasattr(v, "dtype") for v in obj.values()))
    )


def _type_name(obj: Any) -> str:
    """Return the public dotted name of the type of an object of pyarrow or pandas, else empty."""
    kind = type(obj)
    top = kind.__module__.partition(".")[0]
    return f"{top}.{kind.__name__}" if top in ("pyarrow", "pandas") else ""


def table_of(obj: Any) -> Table:
    """Return a table as an `astropy.table.Table`.

    Parameters
    ----------
    obj : table
        See `is_table`; also what `astropy.table.Table` takes.
    """
    from astropy.table import Table

    if isinstance(obj, Table):
        return obj
    name = _type_name(obj)
    if name == "pandas.DataFrame":
        indexed = any(n is not None for n in obj.index.names)
        return Table.from_pandas(obj, index=indexed)
    if name == "pyarrow.Table":
        return astropy_of_arrow(obj)
    return Table(obj)


def table_as(obj: Any, storage_class: str) -> Any:
    """Return a table as the Python type of one of `TABLE_CLASSES`.

    Raises
    ------
    DatasetTypeError
        If the package of that type is not installed.
    """
    if _type_name(obj) == {"DataFrame": "pandas.DataFrame", "ArrowTable": "pyarrow.Table"}.get(storage_class):
        return obj
    table = table_of(obj)
    if storage_class == "ArrowAstropy":
        return table
    if storage_class == "ArrowNumpy":
        return table.as_array()
    if storage_class == "ArrowNumpyDict":
        return {name: table[name].data for name in table.colnames}
    if storage_class == "DataFrame":
        required("pandas", storage_class)
        return table.to_pandas()
    return arrow_of_astropy(table)


def table_component(table: Table, component: str) -> Any:
    """Return a component of a table in memory: ``columns``, ``rowcount`` or ``schema``."""
    if component == "columns":
        return list(table.colnames)
    if component == "rowcount":
        return len(table)
    return {
        name: {
            "dtype": table[name].dtype.str.lstrip("<>|="),
            "shape": list(table[name].shape[1:]),
            "unit": str(table[name].unit or ""),
            "description": table[name].description or "",
        }
        for name in table.colnames
    }


def columns_wanted(wanted: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names of the columns that the parameter ``columns`` asks for.

    Raises
    ------
    DatasetTypeError
        If there is no such column; the nearest match is named.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in known:
            raise DatasetTypeError(f"The table has no column {name!r}.{did_you_mean(name, known)}")
    return names
