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

import numpy as np

from ..errors import DatasetTypeError, DimensionValueError, did_you_mean
from ..vocabulary.data_id import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup

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

_UNSAFE = re.compile(r"[^A-Za-z0-9._+\-]")
_UNSAFE_IN_RUN = re.compile(r"[^A-Za-z0-9._+\-:=@]")
_NAME_MAX = 240
"""Bytes of a file name; the limit is 255 nearly everywhere, and a temporary name's suffix must fit too."""


def quoted(value: object, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Return a value as part of a path: unsafe characters as ``%XX`` of their UTF-8 bytes."""
    text = str(value)
    if text in ("", ".", ".."):
        return "%2E" * len(text) if text else "%00"
    return unsafe.sub(lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), text)


def quoted_run(run: str) -> str:
    """Return a RUN collection's name as directories."""
    return "/".join(quoted(part, _UNSAFE_IN_RUN) for part in run.split("/"))


class PathTemplate:
    """A format string for paths.

    Parameters
    ----------
    text : `str`
        With ``{run}``, ``{datasetType}``, ``{id}`` and dimension names as fields; a file extension is added.
    """

    __slots__ = ("_formats", "_parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = [(literal, field) for literal, field, _, _ in string.Formatter().parse(text)]
        self._formats: dict[tuple[str, str], str] = {}

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in it."""
        return tuple(field for _, field in self._parts if field)

    def check(self, dataset_type: DatasetType) -> None:
        """Raise unless the paths of all datasets of a type differ.

        Raises
        ------
        DatasetTypeError
            If a field is unknown, or a required dimension, the run or the dataset type is missing.
        """
        known = ("run", "datasetType", "id", *dataset_type.dimensions.names)
        for field in self.fields:
            if field not in known:
                raise DatasetTypeError(
                    f"Path template {self.text!r} of {dataset_type.name!r}: no field {field!r}."
                    f"{did_you_mean(field, known)} There are: {', '.join(known)}."
                )
        needed = ("run", "datasetType", *dataset_type.dimensions.required)
        missing = [f for f in needed if f not in self.fields]
        if missing and "id" not in self.fields:
            raise DatasetTypeError(
                f"Path template {self.text!r} would give several datasets of {dataset_type.name!r} one path: "
                f"it lacks {', '.join(missing)} (or id)."
            )

    def _row_format(self, run: str, dataset_type: str) -> str:
        """Return a ``%`` format that takes the values of `_columns` in order."""
        known = self._formats.get((run, dataset_type))
        if known is not None:
            return known
        directory_end = self.text.rfind("/")
        out, position = [], 0
        for literal, field in self._parts:
            position += len(literal)
            out.append(literal.replace("%", "%%"))
            if not field:
                continue
            if field == "run":
                text = quoted_run(run)
                text = text.replace("/", "_") if position > directory_end else text
                out.append(text.replace("%", "%%"))
            elif field == "datasetType":
                out.append(dataset_type)
            else:
                out.append("%s")
            position += len(field) + 2
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
        columns = [self._column(f, table) for f in self.fields if f not in ("run", "datasetType")]
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
    def _column(field: str, table: DatasetTable) -> Sequence[object]:
        if field == "id":
            return [table.id(row) for row in range(len(table))]
        return _quoted_column(field, table.data_ids)

    def path(self, ref: DatasetRef, extension: str) -> str:
        """Return the path of one dataset, equal to the one `paths` gives."""
        values = ref.dataId.mapping
        row: list[object] = []
        for field in self.fields:
            if field == "id":
                row.append(ref.id)
            elif field not in ("run", "datasetType"):
                if field not in values:
                    raise _missing_value(field, str(ref.dataId))
                row.append(quoted(values[field]))
        path = (self._row_format(ref.run, ref.datasetType.name) + extension.replace("%", "%%")) % tuple(row)
        return _shortened(path, extension) if len(path) > _NAME_MAX else path

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r})"


def _quoted_column(name: str, data_ids: DataIdTable) -> Sequence[object]:
    if name not in data_ids.columns:
        raise _missing_value(name, repr(data_ids))
    if name in data_ids.categories:
        texts = np.array([quoted(c) for c in data_ids.categories[name]] or [""], dtype=object)
        return texts[data_ids.columns[name]].tolist()  # type: ignore[no-any-return]
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
