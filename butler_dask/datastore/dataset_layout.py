"""DatasetLayout: where datasets go below a root, and which formatter writes them.

What a repository's ``butler.yaml`` says of templates, formatters and storage classes ends up here, and goes
with the datastore to every worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import ButlerUserError, DatasetTypeError, RepositoryError
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from ..vocabulary.storage_class import storage_class_names
from ..vocabulary.storage_class_definitions import define_storage_classes
from .formatter import DEFAULT_FORMATTERS
from .path_template import PathTemplate, default_template
from .trusted_formatters import TrustedFormatters


class Placement(NamedTuple):
    """How datasets of one type are written."""

    template: PathTemplate
    formatter_name: str
    formatter: Any


class DatasetLayout:
    """Path and formatter of each dataset.

    Parameters
    ----------
    templates : mapping of `str` to `str` or mapping, optional
        `PathTemplate` texts by dataset type name, dimensions joined by ``+``, storage class name or
        "default", looked up in that order; ``instrument<NAME>`` has such a mapping that wins
        for its datasets.
    formatters : mapping of `str` to `str` or mapping, optional
        Dotted formatter names by the same keys.
    storage_classes : mapping of `str` to mapping, optional
        Definitions of further storage classes (see `define_storage_classes`).
    repository : `str`
        Root of the repository, where formatters find what else they need (camera files).
    trust : mapping, optional
        What of elsewhere is trusted (see `TrustedFormatters`).

    Raises
    ------
    RepositoryError
        If a setting has another form.
    DatasetTypeError
        If a storage class is defined otherwise already.
    """

    def __init__(
        self,
        templates: Mapping[str, Any] | None = None,
        formatters: Mapping[str, Any] | None = None,
        storage_classes: Mapping[str, Any] | None = None,
        repository: str = "",
        trust: Mapping[str, Any] | None = None,
    ) -> None:
        self.repository = repository
        self._texts = _by_instrument("templates", templates)
        self._names = _by_instrument("formatters", formatters)
        self._instruments = {*self._texts, *self._names} - {""}
        """Instruments that have settings of their own."""
        configured = {name for values in self._names.values() for name in values.values()}
        self.trusted = TrustedFormatters(trust, configured)
        """Which classes read files."""
        self._storage_classes = dict(storage_classes or {})
        define_storage_classes(self._storage_classes)
        self._placements: dict[tuple[DatasetType, str], Placement] = {}
        self._templates: dict[tuple[DatasetType, str], PathTemplate] = {}
        self._needs_records: dict[DatasetType, bool] = {}

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return DatasetLayout, (
            _as_given(self._texts),
            _as_given(self._names),
            self._storage_classes,
            self.repository,
            self.trusted.settings,
        )

    def _instrument_of(self, ref: DatasetRef) -> str:
        """Return the instrument whose settings count for a dataset, empty for those of all others."""
        instrument = str(ref.dataId.mapping.get("instrument", ""))
        return instrument if instrument in self._instruments else ""

    def formatter_name(self, dataset_type: DatasetType, instrument: str = "") -> str:
        """Return the dotted name of what writes a dataset type.

        Raises
        ------
        DatasetTypeError
            If nothing does.
        """
        found = _setting_of(self._names, dataset_type, instrument)
        if found is None:
            found = DEFAULT_FORMATTERS.get(dataset_type.storageClass_name)
        if found is None:
            raise DatasetTypeError(
                f"No formatter writes storage class {dataset_type.storageClass_name!r} (of "
                f"{dataset_type.name!r}); name one under `formatters:` in the repository's butler.yaml."
            )
        return found

    def _template(self, dataset_type: DatasetType, instrument: str) -> PathTemplate:
        found = self._templates.get((dataset_type, instrument))
        if found is None:
            text = _setting_of(self._texts, dataset_type, instrument)
            if text is None:
                found = default_template(dataset_type.dimensions)
            else:
                found = PathTemplate(text).resolved(dataset_type)
            self._templates[dataset_type, instrument] = found
        return found

    def placement(self, dataset_type: DatasetType, instrument: str = "") -> Placement:
        """Return how datasets of a type are written.

        Parameters
        ----------
        dataset_type : `DatasetType`
            The type.
        instrument : `str`, optional
            Instrument in the data ID, where it has settings of its own.

        Raises
        ------
        DatasetTypeError
            If nothing writes them, or the template would not keep them apart.
        """
        found = self._placements.get((dataset_type, instrument))
        if found is None:
            name = self.formatter_name(dataset_type, instrument)
            formatter = self.trusted.load(name, dataset_type.storageClass_name)
            found = Placement(self._template(dataset_type, instrument), name, formatter)
            self._placements[dataset_type, instrument] = found
        return found

    def placement_of(self, ref: DatasetRef) -> Placement:
        """Return how a dataset is written."""
        instrument = self._instrument_of(ref) if self._instruments else ""
        return self._placements.get((ref.datasetType, instrument)) or self.placement(
            ref.datasetType, instrument
        )

    def needs_records(self, dataset_type: DatasetType) -> bool:
        """Return whether a path takes more than the required values of a data ID."""
        if not self._texts:  # the default template takes required values only
            return False
        found = self._needs_records.get(dataset_type)
        if found is None:
            known = {"run", "datasetType", "id", *dataset_type.dimensions.required}
            found = self._needs_records[dataset_type] = any(
                not known.issuperset(self._template(dataset_type, instrument).fields)
                for instrument in ("", *self._instruments)
            )
        return found

    def path(self, ref: DatasetRef, extension: str | None = None) -> str:
        """Return the path a dataset is written to, relative to the root.

        Parameters
        ----------
        ref : `DatasetRef`
            Dataset.
        extension : `str`, optional
            File extension, when it is not its formatter's.
        """
        if extension is not None:
            return self._template(ref.datasetType, self._instrument_of(ref)).path(ref, extension)
        placement = self.placement_of(ref)
        return placement.template.path(ref, placement.formatter.extension)

    def _split(self, table: DatasetTable) -> list[tuple[str, Any]]:
        """Return instrument and rows of each part of a table that is placed in its own way."""
        names = self._instruments & set(table.data_ids.categories.get("instrument", ()))
        if not names:
            return [("", slice(None))]
        column = np.array(table.data_ids.categories["instrument"])[table.data_ids.columns["instrument"]]
        parts = [(name, np.flatnonzero(column == name)) for name in sorted(names)]
        return [*parts, ("", np.flatnonzero(~np.isin(column, sorted(names))))]

    def paths(self, table: DatasetTable, extension: str | None = None) -> list[str]:
        """Return the path each dataset of a table is written to (0.5 us a row).

        Parameters
        ----------
        table : `DatasetTable`
            Datasets of one type.
        extension : `str`, optional
            File extension, when it is not their formatter's.
        """
        out = np.empty(len(table), dtype=object)
        for instrument, rows in self._split(table):
            part = table if isinstance(rows, slice) else table.take(rows)
            ending = extension
            if ending is None:
                ending = self.placement(table.dataset_type, instrument).formatter.extension
            out[rows] = self._template(table.dataset_type, instrument).paths(part, ending)
        return out.tolist()

    def record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a file that will be written; size and checksum are not known."""
        template, name, formatter = self.placement_of(ref)
        return FileRecord(template.path(ref, formatter.extension), name, ref.datasetType.storageClass_name)

    def records(self, table: DatasetTable) -> FileTable:
        """Return the records of files that will be written, as columns."""
        n = len(table)
        names: dict[str, int] = {}
        codes = np.zeros(n, dtype=np.int16)
        for instrument, rows in self._split(table):
            name = self.placement(table.dataset_type, instrument).formatter_name
            codes[rows] = names.setdefault(name, len(names))
        return FileTable(
            self.paths(table),
            codes,
            tuple(names),
            np.zeros(n, dtype=np.int16),
            (table.dataset_type.storageClass_name,),
            np.full(n, -1, dtype=np.int64),
            [""] * n,
        )

    def problems(
        self, dataset_types: Iterable[DatasetType], known_names: Iterable[str] | None = None
    ) -> list[str]:
        """Return what would fail for some dataset types, and what settings name nothing.

        Parameters
        ----------
        dataset_types : iterable of `DatasetType`
            Those to be checked.
        known_names : iterable of `str`, optional
            Further names settings may have; `None` if names in them are not to be checked.
        """
        found: list[str] = []
        kinds = list(dataset_types)
        known = {"default", *storage_class_names(), *(k.name for k in kinds), *(known_names or ())}
        known |= {"+".join(sorted(k.dimensions.required)) for k in kinds}
        for instrument in ("", *sorted(self._instruments)):
            for kind in kinds:
                try:
                    self.placement(kind, instrument)
                except ButlerUserError as error:
                    found.append(str(error))
            settings = (("templates", self._texts), ("formatters", self._names))
            for setting, values in settings if known_names is not None else ():
                found += [
                    f"{setting}: {key!r} is no dataset type, storage class or set of dimensions of one here"
                    for key in values.get(instrument, {})
                    if key not in known
                ]
        return list(dict.fromkeys(found))


def _setting_of(
    settings: Mapping[str, Mapping[str, str]], dataset_type: DatasetType, instrument: str
) -> str | None:
    """Return the setting for a dataset type, the most specific one."""
    if not settings:
        return None
    dimensions = "+".join(sorted(dataset_type.dimensions.required))
    for values in (settings.get(instrument, {}), settings.get("", {})):
        for key in (dataset_type.name, dimensions, dataset_type.storageClass_name, "default"):
            if key in values:
                return values[key]
    return None


def _by_instrument(what: str, settings: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """Return settings by instrument; the empty one has those of all others."""
    out: dict[str, dict[str, str]] = {}
    for key, value in (settings or {}).items():
        name = str(key)
        if name.startswith("instrument<") and name.endswith(">") and isinstance(value, Mapping):
            for inner, text in _by_instrument(what, value).get("", {}).items():
                out.setdefault(name[len("instrument<") : -1], {})[inner] = text
        elif isinstance(value, str):
            out.setdefault("", {})["+".join(sorted(name.split("+")))] = value
        else:
            raise RepositoryError(f"{what}: {name}: is a text, or instrument<NAME>: a mapping; not {value!r}")
    return out


def _as_given(settings: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what `_by_instrument` was given."""
    return {
        **settings.get("", {}),
        **{f"instrument<{name}>": dict(values) for name, values in settings.items() if name},
    }
