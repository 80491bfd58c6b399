"""PathTemplate: from run, dataset type and data ID to a relative path, for one dataset or a column of them.

The layout follows the reference's: directories for run, dataset type and data ID, and a file name that says
it all again, so that a file that was copied elsewhere still tells what it is. Unlike there only required
dimensions are used, and characters are quoted instead of replaced, so two data IDs never share a path.
"""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..errors import DatasetTypeError, DimensionValueError, did_you_mean
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.path_name import quoted, quoted_run

_ORDER = (
    "instrument",
    "skymap",
    "tract",
    "patch",
    "band",
    "subfilter",
    "physical_filter",
    "day_obs",
    "group",
    "visit_system",
    "visit",
    "exposure",
)
"""Directories from the outside in; detectors and sky pixels come last, in the file name only."""

_NAME_MAX = 240
"""Bytes of a file name; the limit is 255 nearly everywhere, and a temporary name's suffix must fit too."""


class _Part(NamedTuple):
    """Literal text, then a field (or none), its format, and whether it may be missing."""

    literal: str
    field: str
    spec: str
    optional: bool


_SPEC = re.compile(r"/|-?0?\d*[dsx]?|0\d+")


class PathTemplate:
    """A format string for paths, in the reference's notation.

    Parameters
    ----------
    text : `str`
        With ``{run}``, ``{datasetType}``, ``{id}``, dimension names and ``element.field`` as fields; a file
        extension is added. ``{visit:08d}`` formats a number; ``{band:?}`` is left out, with the text before
        it up to a ``/``, where the dataset type has no such dimension (``{component:?}`` always is: files
        hold whole datasets).

    Raises
    ------
    DatasetTypeError
        If it is no format string.
    """

    __slots__ = ("_formats", "_parts", "_variable", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._parts = [
                _part(text, literal, field, spec)
                for literal, field, spec, _ in string.Formatter().parse(text)
            ]
        except ValueError as error:
            raise DatasetTypeError(f"Path template {text!r} cannot be read: {error}") from error
        self._formats: dict[tuple[str, str], str] = {}
        self._variable = _variable(self._parts)
        if text.startswith("/") or ".." in text.split("/"):
            raise DatasetTypeError(f"Path template {text!r} leads out of the datastore's root")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in it."""
        return tuple(part.field for part in self._parts if part.field)

    def resolved(self, dataset_type: DatasetType) -> PathTemplate:
        """Return the template for a dataset type, without the optional fields it does not have.

        Raises
        ------
        DatasetTypeError
            If a field is unknown, or the paths of two datasets would not differ: a required dimension, the
            run or the dataset type is missing.
        """
        dimensions = dataset_type.dimensions
        elements = [e for e in dimensions.universe.getStaticElements() if e.name in dimensions.elements]
        known = {"run", "datasetType", "id", *dimensions.names}
        known |= {f"{e.name}.{f}" for e in elements for f in e.schema.names}
        parts, literal = [], ""
        for part in self._parts:
            if part.optional and part.field not in known:
                literal += part.literal if "/" in part.literal else ""
                continue
            if part.field and part.field not in known:
                raise DatasetTypeError(
                    f"Path template {self.text!r} of {dataset_type.name!r}: no field {part.field!r}."
                    f"{did_you_mean(part.field, known)} There are: {', '.join(sorted(known))}."
                )
            field = part.field
            element, _, name = field.partition(".")
            if name:  # a value of the data ID where it is one: records need not be known then
                key = dimensions.universe[element].key
                field = element if key is not None and key.name == name else field
                field = name if name in dimensions.names else field
            parts.append(part._replace(literal=literal + part.literal, field=field))
            literal = ""
        out = PathTemplate(self.text)
        out._parts = [*parts, _Part(literal, "", "", False)] if literal else parts
        out._variable = _variable(out._parts)
        needed = ("run", "datasetType", *dimensions.required)
        missing = [f for f in needed if f not in out.fields]
        if missing and "id" not in out.fields:
            raise DatasetTypeError(
                f"Path template {self.text!r} would give several datasets of {dataset_type.name!r} one path: "
                f"it lacks {', '.join(missing)} (or id)."
            )
        return out

    def _row_format(self, run: str, dataset_type: str) -> str:
        """Return a ``%`` format that takes the values of `_variable` in order."""
        known = self._formats.get((run, dataset_type))
        if known is not None:
            return known
        last = max((n for n, part in enumerate(self._parts) if "/" in part.literal), default=-1)
        out = []
        for n, part in enumerate(self._parts):
            out.append(part.literal.replace("%", "%%"))
            if part.field == "run":
                text = quoted_run(run)
                text = text.replace("/", "_") if n >= last else text
                out.append(text.replace("%", "%%"))
            elif part.field == "datasetType":
                out.append(dataset_type)
            elif part.field:
                out.append("%s")
        return self._formats.setdefault((run, dataset_type), "".join(out))

    def paths(self, table: DatasetTable, extension: str) -> list[str]:
        """Return the path of each row.

        Parameters
        ----------
        table : `DatasetTable`
            Datasets of one type; implied dimensions the template names must be there.
        extension : `str`
            File extension with its dot.

        Returns
        -------
        paths : `list` [`str`], length n
            Relative to the datastore's root.
        """
        name = table.dataset_type.name
        # A dimension used twice gets its column twice: the format takes values by position.
        columns = [self._column(part, table) for part in self._variable]
        formats = [self._row_format(run, name) + extension.replace("%", "%%") for run in table.runs]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(table))
        if len(formats) == 1:
            paths = [formats[0] % row for row in rows]
        else:
            codes = table.run_codes.tolist()
            paths = [formats[code] % row for code, row in zip(codes, rows, strict=True)]
        # Lengths differ little within a table, so mostly one look at the longest decides.
        if paths and max(map(len, paths)) > _NAME_MAX:
            paths = [_shortened(path, extension) for path in paths]
        return paths

    @staticmethod
    def _column(part: _Part, table: DatasetTable) -> Sequence[object]:
        if part.field == "id":
            return [table.id(row) for row in range(len(table))]
        column = _quoted_column(part.field, table.data_ids)
        return [format(value, part.spec) for value in column] if part.spec else column

    def path(self, ref: DatasetRef, extension: str) -> str:
        """Return the path of one dataset, equal to the one `paths` gives."""
        values = ref.dataId.mapping
        row: list[object] = []
        for _, field, spec, _ in self._variable:
            value = values[field] if field in values else _value_of(ref, field)
            if type(value) is int and not spec:  # digits and a sign need no quotes
                row.append(value)
                continue
            try:
                row.append(quoted(format(value, spec) if spec else str(value)))
            except ValueError as error:
                raise DatasetTypeError(
                    f"Path template {self.text!r}: {value!r} of {field} has no format {spec!r}: {error}"
                ) from error
        path = (self._row_format(ref.run, ref.datasetType.name) + extension.replace("%", "%%")) % tuple(row)
        return _shortened(path, extension) if len(path) > _NAME_MAX else path

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r})"


def _variable(parts: list[_Part]) -> list[_Part]:
    """Return the parts whose fields differ from dataset to dataset of one run and type."""
    return [part for part in parts if part.field not in ("", "run", "datasetType")]


def _value_of(ref: DatasetRef, field: str) -> object:
    """Return the value of a field that is no value of the data ID."""
    if field == "id":
        return ref.id
    element, _, name = field.partition(".")
    record = ref.dataId.records.get(element) if name and ref.dataId.hasRecords() else None
    if record is None:
        raise _missing_value(field, str(ref.dataId))
    return getattr(record, name)


def _part(text: str, literal: str, field: str | None, spec: str | None) -> _Part:
    """Return a part of a template as parsed."""
    field, spec = field or "", spec or ""
    optional = spec.endswith("?")
    spec = spec.removesuffix("?")
    if not _SPEC.fullmatch(spec):
        raise DatasetTypeError(
            f"Path template {text!r}: {{{field}:{spec}}} is no format of a number (08d), nor '/' or '?'"
        )
    field = _SYNONYMS.get(field, field)
    return _Part(literal, field, "" if field == "run" else spec.replace("/", ""), optional)


_SYNONYMS = {"collection": "run", "datasetType.name": "datasetType"}
"""Fields the reference has under two names."""


def _quoted_column(name: str, data_ids: DataIdTable) -> Sequence[object]:
    if name not in data_ids.columns:
        raise _missing_value(name, repr(data_ids))
    if name in data_ids.categories:
        texts = np.array([quoted(c) for c in data_ids.categories[name]] or [""], dtype=object)
        quotes: list[object] = texts[data_ids.columns[name]].tolist()
        return quotes
    values: list[object] = data_ids.columns[name].tolist()
    return values


def _missing_value(name: str, where: str) -> DimensionValueError:
    return DimensionValueError(
        f"A path template names {name!r}, whose value is not known in {where}; expand the data ID first."
    )


def _shortened(path: str, extension: str) -> str:
    """Return the path with an overlong file name cut, a checksum of the whole keeping it unique."""
    directory, slash, name = path.rpartition("/")
    if len(name.encode()) <= _NAME_MAX:
        return path
    stem = name.removesuffix(extension).encode()
    mark = f"_{zlib.crc32(stem):08x}{extension}"
    return directory + slash + stem[: _NAME_MAX - len(mark)].decode(errors="ignore") + mark


@lru_cache(maxsize=1024)
def default_template(dimensions: DimensionGroup) -> PathTemplate:
    """Return the template for dataset types of these dimensions that have none of their own.

    Directories are run, dataset type and all dimensions but the last; the file name holds all of them.
    """
    required = [n for n in _ORDER if n in dimensions.required]
    required += [n for n in dimensions.required if n not in _ORDER]
    values = [f"{{{n}}}" for n in required]
    return PathTemplate(
        "/".join(["{run}", "{datasetType}", *values[:-1], "_".join(["{datasetType}", *values, "{run}"])])
    )
