"""Tables that list files to ingest: one row a dataset, the file first, then its data ID."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..datastore.storage_path import is_absolute
from ..errors import ButlerUserError, DatasetFileError, did_you_mean
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_id import dataset_id_of_data_id
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileDataset

if TYPE_CHECKING:
    from astropy.table import Table

_SHOWN = 20
"""Bad rows listed in a message."""


def read_table(name: str) -> Table:
    """Read a table file: ECSV, CSV, FITS or whatever astropy knows by its name or content.

    Parameters
    ----------
    name : `str`
        Local file.

    Returns
    -------
    table : `astropy.table.Table`
        As astropy reads it.

    Raises
    ------
    DatasetFileError
        If there is none, or it cannot be read.
    """
    import warnings

    from astropy.table import Table

    if not os.path.isfile(name):
        raise DatasetFileError(f"There is no table file {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units astropy does not know: of no use here
            return Table.read(name)
    except Exception as first:  # whatever the readers of a dozen formats raise
        error = first
        kind = {".csv": "ascii.csv", ".txt": "ascii", ".dat": "ascii"}.get(os.path.splitext(name)[1])
        try:
            if kind is not None:
                return Table.read(name, format=kind)
        except Exception as second:
            error = second
        raise DatasetFileError(
            f"{name} cannot be read as a table: {next(iter(str(error).splitlines()), '')}"
        ) from error


def files_of_table(
    table: Table,
    dataset_type: DatasetType,
    run: str,
    *,
    data_id: Mapping[str, Any] | None = None,
    formatter: str | None = None,
    prefix: str = "",
    id_mode: str = "UNIQUE",
    name: str = "the table",
) -> list[FileDataset]:
    """Return the files a table lists with the datasets in them.

    Parameters
    ----------
    table : `astropy.table.Table`
        Files in the first column, dimensions in the others; a file in several rows holds several datasets.
    dataset_type : `DatasetType`
        What they are.
    run : `str`
        Where they go.
    data_id : mapping, optional
        Values of all rows; they count more than columns.
    formatter : `str`, optional
        What reads the files.
    prefix : `str`
        What relative names are relative to; by default the working directory.
    id_mode : `str`
        How datasets get their ids. ``UNIQUE``: new ones; ``DATAID_TYPE``, ``DATAID_TYPE_RUN``: ones that
        follow from dataset type and data ID (and run), so that the same file has the same id in every
        repository.
    name : `str`
        Of the table, for messages.

    Returns
    -------
    files : `list` [`FileDataset`]
        Each file once, with all its datasets.

    Raises
    ------
    DatasetFileError
        If columns are missing or unknown, or rows make no sense or repeat a data ID; all of them are named.
    """
    common = dict(data_id or {})
    if not table.colnames:
        raise DatasetFileError(f"{name} has no columns")
    first, *columns = table.colnames
    known = dataset_type.dimensions.names
    wrong = [f"no dimension {c!r}.{did_you_mean(c, known)}" for c in (*columns, *common) if c not in known]
    missing = [d for d in dataset_type.dimensions.required if d not in columns and d not in common]
    if missing:
        wrong.append(f"no value for {', '.join(missing)}: add columns, or give --data-id")
    if wrong:
        raise DatasetFileError(
            f"{name} does not fit {dataset_type.name!r} ({', '.join(known)}): {'; '.join(wrong)}"
        )
    values = {c: table[c].tolist() for c in columns if c not in common}
    files: dict[str, FileDataset] = {}
    rows: dict[DataCoordinate, int] = {}
    bad: list[str] = []
    for i, path in enumerate(table[first].tolist()):
        row = {**{c: v[i] for c, v in values.items()}, **common}
        try:
            coordinate = DataCoordinate.standardize(
                {k: v.strip() if isinstance(v, str) else v for k, v in row.items()},
                dimensions=dataset_type.dimensions,
            ).subset(dataset_type.dimensions)
        except ButlerUserError as error:
            bad.append(f"row {i + 1}: {error}")
            continue
        if rows.setdefault(coordinate, i) != i:
            bad.append(f"row {i + 1}: {coordinate} is in row {rows[coordinate] + 1} already")
            continue
        where = _location(path, prefix)
        if "://" not in where and not os.path.isfile(where):
            bad.append(f"row {i + 1}: there is no file {where}")
            continue
        ref = _ref(dataset_type, coordinate, run, id_mode)
        file = files.setdefault(where, FileDataset(where, [], formatter))
        file.refs.append(ref)
    if bad:
        more = [f"... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        lines = "\n  ".join([*bad[:_SHOWN], *more])
        raise DatasetFileError(f"{len(bad)} of {len(table)} rows of {name} are wrong:\n  {lines}")
    return list(files.values())


def _location(path: Any, prefix: str) -> str:
    text = (path.decode() if isinstance(path, bytes) else str(path)).strip()
    if is_absolute(text):
        return text
    if "://" in prefix:
        return f"{prefix.rstrip('/')}/{text}"
    return os.path.abspath(os.path.join(prefix, text))


def _ref(kind: DatasetType, data_id: DataCoordinate, run: str, id_mode: str) -> DatasetRef:
    if id_mode == "UNIQUE":
        return DatasetRef(kind, data_id, run)
    named_run = run if id_mode == "DATAID_TYPE_RUN" else None
    return DatasetRef(
        kind, data_id, run, id=dataset_id_of_data_id(kind.name, dict(data_id.required), named_run)
    )
