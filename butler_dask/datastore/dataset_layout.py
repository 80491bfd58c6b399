"""DatasetLayout: where datasets go below a root, and which formatter writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileRecord, FileTable
from .formatter import FormatterTable, load_formatter
from .path_template import PathTemplate, default_template


class Placement(NamedTuple):
    """How datasets of one type are written."""

    template: PathTemplate
    formatter_name: str
    formatter: Any


class DatasetLayout:
    """Path and formatter of each dataset.

    Parameters
    ----------
    templates : mapping of `str` to `str`, optional
        `PathTemplate` texts by dataset type or storage class name, or "default".
    formatters : mapping of `str` to `str`, optional
        Dotted formatter names by dataset type or storage class name.
    """

    def __init__(
        self, templates: Mapping[str, str] | None = None, formatters: Mapping[str, str] | None = None
    ) -> None:
        self._texts, self._names = dict(templates or {}), dict(formatters or {})
        self._formatters = FormatterTable(formatters)
        self._placements: dict[DatasetType, Placement] = {}
        self._templates: dict[DatasetType, PathTemplate] = {}

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return DatasetLayout, (self._texts, self._names)

    def _template(self, dataset_type: DatasetType) -> PathTemplate:
        found = self._templates.get(dataset_type)
        if found is None:
            found = self._templates[dataset_type] = self._new_template(dataset_type)
        return found

    def _new_template(self, dataset_type: DatasetType) -> PathTemplate:
        texts = self._texts
        text = (
            texts.get(dataset_type.name) or texts.get(dataset_type.storageClass_name) or texts.get("default")
        )
        if text is None:
            return default_template(dataset_type.dimensions)
        template = PathTemplate(text)
        template.check(dataset_type)
        return template

    def formatter_name(self, dataset_type: DatasetType) -> str:
        """Return the dotted name of what writes a dataset type.

        Raises
        ------
        DatasetTypeError
            If nothing does.
        """
        return self._formatters.name_for(dataset_type.name, dataset_type.storageClass_name)

    def placement(self, dataset_type: DatasetType) -> Placement:
        """Return how datasets of a type are written.

        Raises
        ------
        DatasetTypeError
            If nothing writes them, or the template would not keep them apart.
        """
        found = self._placements.get(dataset_type)
        if found is None:
            name = self.formatter_name(dataset_type)
            found = Placement(self._template(dataset_type), name, load_formatter(name))
            self._placements[dataset_type] = found
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
            return self._template(ref.datasetType).path(ref, extension)
        placement = self.placement(ref.datasetType)
        return placement.template.path(ref, placement.formatter.extension)

    def paths(self, table: DatasetTable) -> list[str]:
        """Return the path each dataset of a table is written to (0.5 us a row)."""
        placement = self.placement(table.dataset_type)
        return placement.template.paths(table, placement.formatter.extension)

    def record(self, ref: DatasetRef) -> FileRecord:
        """Return the record of a file that will be written; size and checksum are not known."""
        name = self.placement(ref.datasetType).formatter_name
        return FileRecord(self.path(ref), name, ref.datasetType.storageClass_name)

    def records(self, table: DatasetTable) -> FileTable:
        """Return the records of files that will be written, as columns."""
        n = len(table)
        codes = np.zeros(n, dtype=np.int16)
        return FileTable(
            self.paths(table),
            codes,
            (self.placement(table.dataset_type).formatter_name,),
            codes,
            (table.dataset_type.storageClass_name,),
            np.full(n, -1, dtype=np.int64),
            [""] * n,
        )
