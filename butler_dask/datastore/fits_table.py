"""Formatter of tables (`astropy.table.Table`): one binary table unit, as TOPCAT and astropy read it.

Written as one structured array in a single pass (FITS standard 4.0, section 7.3). What FITS cannot say (a
masked column, text as bytes or characters, nested metadata) goes into the card BDTABLE as JSON. Tables with
mixin columns (times, coordinates) are left to astropy, and so is every file that has no such card.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetTypeError, FormatVersionError
from .document import from_json, to_json
from .fits_hdu import HeaderDataUnit, read_rows, scan_units, table_chunks
from .fits_header import Card, primary_bytes
from .formatter import ReadRequest, converted
from .storage_root import open_stream
from .table_conversion import columns_wanted, table_component, table_of

if TYPE_CHECKING:
    from astropy.table import Table

LAYOUT_VERSION = 1
_CODES: Mapping[str, tuple[str, int]] = {
    "b1": ("L", 0),
    "u1": ("B", 0),
    "i1": ("B", -128),
    "i2": ("I", 0),
    "i4": ("J", 0),
    "i8": ("K", 0),
    "u2": ("I", 1 << 15),
    "u4": ("J", 1 << 31),
    "u8": ("K", 1 << 63),
    "f4": ("E", 0),
    "f8": ("D", 0),
    "c8": ("C", 0),
    "c16": ("M", 0),
}
"""TFORM letter and TZERO of each type (FITS 4.0, table 18; unsigned integers by their offset)."""


class TableFormatter:
    """Formatter of `astropy.table.Table`."""

    extension: ClassVar[str] = ".fits"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the bytes of the file."""
        table = table_of(obj)
        if table.has_mixin_columns:
            return (_through_astropy(table),)
        return _table_chunks(table)

    def read(self, request: ReadRequest) -> Any:
        """Read a table, some of its columns, or a component of it.

        Parameters
        ----------
        request : `ReadRequest`
            Components are ``columns`` (names), ``rowcount``, ``schema`` (type, shape, unit and description by
            column); parameter ``columns`` is the name or names of the columns to read.

        Raises
        ------
        DatasetTypeError
            If there is no such column; the nearest match is named.
        """
        component, wanted = request.component, request.parameters.get("columns")
        with open_stream(request.path) as stream:
            unit = _table_unit(scan_units(stream))
            if "BDTABLE" not in unit.values:
                table = _read_by_astropy(request.path)
                if component is not None:
                    return table_component(table, component)
                table = table if wanted is None else table[columns_wanted(wanted, table.colnames)]
                return converted(table, request.storage_class)
            layout = _TableLayout(unit)
            if component is not None:
                return layout.component(component)
            names = layout.names if wanted is None else columns_wanted(wanted, layout.names)
            rows = read_rows(stream, unit, layout.dtype)
        return converted(layout.table(rows, names), request.storage_class)


def _table_unit(units: list[HeaderDataUnit]) -> HeaderDataUnit:
    for unit in units:
        if unit.values.get("XTENSION") == "BINTABLE":
            return unit
    raise ValueError("the file has no table")


def _through_astropy(table: Table) -> bytes:
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # long keywords in the metadata: still written
        table.write(stream, format="fits")
    return stream.getvalue()


def _read_by_astropy(path: str) -> Table:
    from astropy.io.fits import VerifyError
    from astropy.table import Table

    with open_stream(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that are none: kept as they are
        try:
            return Table.read(stream, format="fits", hdu=1, astropy_native=True)
        except (VerifyError, AssertionError) as error:
            raise ValueError(f"not a table that can be read: {error}") from error


def _table_chunks(table: Table) -> Iterator[Any]:
    columns: list[tuple[NDArray[Any], str, list[Card]]] = []
    kinds: dict[str, str] = {}
    masked: list[str] = []
    for name in table.colnames:
        column = table[name]
        data = np.asarray(column)
        if hasattr(column, "mask"):
            masked.append(name)
        values, form, cards = _column(name, data, getattr(column, "mask", None))
        if data.dtype.kind in "SU":
            kinds[name] = data.dtype.str.lstrip("<>|=")
        if column.unit is not None:
            cards.append(("TUNIT", _unit_text(column.unit), ""))
        columns.append((values, form, cards))
    dtype = np.dtype(
        [(n, c[0].dtype, c[0].shape[1:]) for n, c in zip(table.colnames, columns, strict=True)], align=False
    )
    rows = np.zeros(len(table) if columns else 0, dtype=dtype)
    for name, (values, _, _) in zip(table.colnames, columns, strict=True):
        rows[name] = values
    layout = {"version": LAYOUT_VERSION, "text": kinds, "masked": masked}
    layout["descriptions"] = {n: table[n].description for n in table.colnames if table[n].description}
    layout["meta"] = dict(table.meta)
    if not all(n.isascii() for n in table.colnames):
        layout["names"] = list(table.colnames)
    yield primary_bytes([])
    yield from table_chunks(
        table.colnames,
        rows,
        [c[1] for c in columns],
        [c[2] for c in columns],
        "TABLE",
        [("BDTABLE", to_json(layout, ascii_only=True), "")],
    )


def _unit_text(unit: Any) -> str:
    try:
        return str(unit.to_string("fits"))
    except ValueError:  # a unit FITS does not know
        return str(unit)


def _column(name: str, data: NDArray[Any], mask: Any) -> tuple[NDArray[Any], str, list[Card]]:
    """Return a column as big-endian values, its TFORM (table 18), and further cards (section 7.3.2).

    Texts are stored as UTF-8 of one width, as nothing else is told apart from bytes (section 7.3.3.1).
    """
    cards: list[Card] = []
    shape = data.shape[1:]
    count = int(np.prod(shape)) if shape else 1
    if data.dtype.kind == "U":
        data = np.char.encode(data, "utf-8") if data.size else data.astype("S")
    if data.dtype.kind == "S":
        width = max(1, data.dtype.itemsize)
        values = data.astype(f"S{width}")
        if mask is not None:
            values = np.where(mask, b"", values).astype(f"S{width}")
        if shape:
            cards.append(("TDIM", _tdim((*shape, width)), ""))
        return values, f"{count * width}A", cards
    code = data.dtype.str[1:]
    if code not in _CODES:
        raise DatasetTypeError(f"Column {name!r} of type {data.dtype} has no form in a FITS table")
    letter, zero = _CODES[code]
    if shape:
        cards.append(("TDIM", _tdim(shape), ""))
    if mask is not None:
        data = _filled(data, np.asarray(mask), cards)
    if letter == "L":
        values = np.where(data, ord("T"), ord("F")).astype(np.uint8)
        if mask is not None:
            values[np.asarray(mask)] = 0
    elif zero:
        cards += [("TZERO", zero, ""), ("TSCAL", 1, "")]
        stored = data.view(f"u{data.dtype.itemsize}") ^ np.array(
            1 << (8 * data.dtype.itemsize - 1), dtype=f"u{data.dtype.itemsize}"
        )
        values = stored.astype(stored.dtype.newbyteorder(">"))
    else:
        values = data.astype(data.dtype.newbyteorder(">"))
    return values, f"{count}{letter}", cards


def _filled(data: NDArray[Any], mask: NDArray[np.bool_], cards: list[Card]) -> NDArray[Any]:
    """Return the data with masked values replaced: NaN, or an integer that does not occur, card TNULL."""
    if not mask.any():
        return data
    if data.dtype.kind in "fc":
        return np.where(mask, np.array(np.nan, dtype=data.dtype), data)
    if data.dtype.kind not in "iu":
        return data
    present = set(np.unique(data[~mask]).tolist())
    limits = np.iinfo(data.dtype)
    null = next(
        (v for v in (int(limits.min), int(limits.max)) if v not in present),
        next((v for v in range(int(limits.min), int(limits.max)) if v not in present), int(limits.min)),
    )
    # TNULL is the number as stored, before TZERO is added (section 7.3.2).
    cards.append(("TNULL", null - _CODES[data.dtype.str[1:]][1], ""))
    return np.where(mask, np.array(null, dtype=data.dtype), data)


def _tdim(shape: tuple[int, ...]) -> str:
    """Return the value of TDIM: axes in the order of Fortran (section 7.3.2)."""
    return "(" + ",".join(str(n) for n in reversed(shape)) + ")"


class _TableLayout:
    """Columns of a table written by this package, from its header."""

    def __init__(self, unit: HeaderDataUnit) -> None:
        v = unit.values
        self._unit = unit
        extra = from_json(str(v["BDTABLE"]))
        if extra["version"] > LAYOUT_VERSION:
            raise FormatVersionError(
                f"The table file has layout version {extra['version']}, this version of butler_dask reads "
                f"up to {LAYOUT_VERSION}; install a newer one."
            )
        self._extra = extra
        count = int(v["TFIELDS"])
        self.names: list[str] = extra.get("names") or [str(v[f"TTYPE{i}"]) for i in range(1, count + 1)]
        self._columns = {name: i for i, name in enumerate(self.names, start=1)}
        self.dtype = np.dtype([(n, *self._field(i)) for n, i in self._columns.items()])

    def _field(self, i: int) -> tuple[str, tuple[int, ...]]:
        """Return type and shape of a column's values as stored."""
        v = self._unit.values
        found = re.fullmatch(r"(\d*)([A-Z])", str(v[f"TFORM{i}"]))
        if found is None:
            raise ValueError(f"column {i} has the form {v[f'TFORM{i}']!r}")
        count, letter = int(found.group(1) or 1), found.group(2)
        text = v.get(f"TDIM{i}")
        shape = tuple(int(n) for n in reversed(text.strip("()").split(","))) if text else ()
        if letter == "A":
            width = shape[-1] if shape else count
            return f"S{width}", shape[:-1]
        stored = {"L": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8"}.get(letter)
        stored = stored or {"E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"}[letter]
        return stored, shape or (() if count == 1 else (count,))

    def _is_bool(self, i: int) -> bool:
        return str(self._unit.values[f"TFORM{i}"]).endswith("L")

    def component(self, name: str) -> Any:
        if name == "columns":
            return list(self.names)
        if name == "rowcount":
            return int(self._unit.values["NAXIS2"])
        if name == "schema":
            return {n: self._description(n) for n in self.names}
        raise DatasetTypeError(f"A table has no component {name!r}")

    def _description(self, name: str) -> dict[str, Any]:
        i = self._columns[name]
        empty = self._values(np.zeros(0, dtype=self.dtype), name)
        return {
            "dtype": empty.dtype.str.lstrip("<>|="),
            "shape": list(empty.shape[1:]),
            "unit": str(self._unit.values.get(f"TUNIT{i}", "")),
            "description": self._extra["descriptions"].get(name, ""),
        }

    def _values(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        """Return a column in native byte order and its own type."""
        i = self._columns[name]
        stored = rows[name]
        kind = self._extra["text"].get(name)
        if kind is not None:
            if kind.startswith("U"):
                return np.char.decode(stored, "utf-8").astype(kind) if stored.size else stored.astype(kind)
            return stored.astype(kind)
        if self._is_bool(i):
            return np.asarray(stored == ord("T"))
        values: NDArray[Any] = stored.astype(stored.dtype.newbyteorder("="))
        zero = self._unit.values.get(f"TZERO{i}", 0)
        if zero:
            size = values.dtype.itemsize
            top = np.array(1 << (8 * size - 1), dtype=f"u{size}")
            values = values.view(f"u{size}") ^ top
            if zero < 0:
                values = values.view(f"i{size}")
        return values

    def table(self, rows: NDArray[Any], names: list[str]) -> Table:
        """Return the table of some columns."""
        from astropy.table import Column, MaskedColumn, Table

        columns = []
        for name in names:
            values = self._values(rows, name)
            i = self._columns[name]
            unit = self._unit.values.get(f"TUNIT{i}")
            description = self._extra["descriptions"].get(name)
            if name in self._extra["masked"]:
                mask = self._mask(rows[name], values, i)
                columns.append(MaskedColumn(values, name=name, mask=mask, unit=unit, description=description))
            else:
                columns.append(Column(values, name=name, unit=unit, description=description))
        return Table(columns, meta=self._extra["meta"], copy=False)

    def _mask(self, stored: NDArray[Any], values: NDArray[Any], i: int) -> NDArray[np.bool_]:
        if self._is_bool(i):
            return np.asarray(stored == 0)
        if values.dtype.kind in "fc":
            return np.asarray(np.isnan(values))
        if values.dtype.kind in "SU":
            return np.asarray(stored == b"")
        null = self._unit.values.get(f"TNULL{i}")
        if null is None:
            return np.zeros(values.shape, dtype=bool)
        return np.asarray(stored == null)
