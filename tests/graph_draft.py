"""GraphDraft: a QuantumGraph written down by hand, quantum by quantum.

For tests; `graph_builder` makes big ones from a pipeline and a repository.

>>> draft = GraphDraft("u/me/run")
>>> draft.add_dataset_type("raw", ("instrument", "exposure", "detector"), "StructuredDataDict")
>>> draft.add_dataset_type("flattened", ("instrument", "exposure", "detector"), "StructuredDataDict")
>>> draft.add_task("isr", "package.module.IsrTask", ("instrument", "exposure", "detector"))
>>> data_id = {"instrument": "HSC", "exposure": 903344, "detector": 5}
>>> inputs, outputs = {"ccdExposure": [("raw", data_id)]}, {"outputExposure": [("flattened", data_id)]}
>>> draft.add_quantum("isr", data_id, inputs, outputs)
>>> draft.finish().summary()
'QuantumGraph contains 1 quanta for 1 tasks'
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from butler_dask.graph.graph_columns import (
    LOG_CONNECTION,
    METADATA_CONNECTION,
    DatasetColumns,
    GraphConnection,
    InitDataset,
    TaskColumns,
    edges_of_lists,
)
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.graph.quantum_id import quantum_ids
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetRef, DatasetTable
from butler_dask.vocabulary.dataset_id import new_dataset_ids
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.dimensions import DimensionGroup, DimensionUniverse
from butler_dask.vocabulary.file_record import FileRecord, FileTable

Datasets = Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]
"""By connection name, the (dataset type name, data ID) of each dataset."""


class GraphDraft:
    """A quantum graph in the making.

    Parameters
    ----------
    run : `str`
        RUN collection of the outputs.
    output : `str`, optional
        CHAINED collection the run belongs to.
    inputs : sequence of `str`, optional
        Collections of the inputs.
    """

    def __init__(self, run: str, *, output: str | None = None, inputs: Sequence[str] = ()) -> None:
        self.run, self.output, self.inputs = run, output, tuple(inputs)
        self._types: dict[str, DatasetType] = {}
        self._tasks: dict[str, tuple[str, DimensionGroup, str]] = {}
        self._quanta: dict[str, list[tuple[DataCoordinate, Datasets, Datasets]]] = {}
        self._existing: dict[tuple[str, DataCoordinate], tuple[DatasetRef, FileRecord | None]] = {}

    def add_dataset_type(
        self,
        dataset_type: DatasetType | str,
        dimensions: Iterable[str] = (),
        storage_class: str = "StructuredDataDict",
    ) -> None:
        """Add a dataset type, or make one from its name, dimensions and storage class."""
        if isinstance(dataset_type, str):
            dataset_type = DatasetType(dataset_type, dimensions, storage_class)
        self._types[dataset_type.name] = dataset_type

    def add_task(
        self, label: str, task_class_name: str, dimensions: Iterable[str], config_text: str = ""
    ) -> None:
        """Add a task; tasks run in the order they are added."""
        group = DimensionUniverse().conform(dimensions)
        self._tasks[label] = (task_class_name, group, config_text)
        self._quanta[label] = []
        self.add_dataset_type(f"{label}_metadata", group.names, "TaskMetadata")
        self.add_dataset_type(f"{label}_log", group.names, "ButlerLogRecords")

    def add_existing(self, ref: DatasetRef, file: FileRecord | None = None) -> None:
        """Say that a dataset exists, under which id, and where it is stored."""
        self.add_dataset_type(ref.datasetType)
        self._existing[ref.datasetType.name, ref.dataId] = (ref, file)

    def add_quantum(
        self,
        label: str,
        data_id: Mapping[str, Any],
        inputs: Datasets | None = None,
        outputs: Datasets | None = None,
    ) -> None:
        """Add a quantum; its metadata and log outputs are added with it.

        Parameters
        ----------
        label : `str`
            Its task.
        data_id : mapping
            Its data ID.
        inputs, outputs : mapping of `str` to sequence of (`str`, mapping)
            By connection name, the (dataset type name, data ID) of each dataset.
        """
        _, group, _ = self._tasks[label]
        key = DataCoordinate.standardize(data_id, dimensions=group)
        implicit: Datasets = {
            METADATA_CONNECTION: [(f"{label}_metadata", key.mapping)],
            LOG_CONNECTION: [(f"{label}_log", key.mapping)],
        }
        self._quanta[label].append((key, inputs or {}, {**(outputs or {}), **implicit}))

    def finish(self, **metadata: Any) -> QuantumGraph:
        """Return the graph.

        Parameters
        ----------
        **metadata
            Facts to keep with it (JSON values).
        """
        rows: dict[str, dict[DataCoordinate, int]] = {name: {} for name in self._types}

        def number(name: str, data_id: Mapping[str, Any]) -> tuple[str, int]:
            group = self._types[name].dimensions
            known = rows[name]
            return name, known.setdefault(DataCoordinate.standardize(data_id, dimensions=group), len(known))

        numbered: list[tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]] = []
        connections: dict[str, dict[str, GraphConnection]] = {label: {} for label in self._tasks}
        for label, quanta in self._quanta.items():
            known = connections[label]
            for _, inputs, outputs in quanta:
                found: tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]] = ([], [])
                kinds: tuple[tuple[Literal["input", "output"], Datasets], ...] = (
                    ("input", inputs),
                    ("output", outputs),
                )
                for edges, (kind, datasets) in zip(found, kinds, strict=True):
                    for connection, pairs in datasets.items():
                        for name, data_id in pairs:
                            known.setdefault(connection, GraphConnection(connection, kind, self._types[name]))
                            edges.append((*number(name, data_id), list(known).index(connection)))
                numbered.append(found)

        columns: list[DatasetColumns] = []
        first = 0
        for name, data_ids in rows.items():
            if data_ids:
                columns.append(self._dataset_columns(self._types[name], list(data_ids), first))
                first += len(data_ids)
        first_rows = {c.dataset_type.name: c.first_row for c in columns}

        tasks = []
        ids = []
        first = 0
        for label, (class_name, group, config) in self._tasks.items():
            table = DataIdTable.from_data_ids(group, (q[0] for q in self._quanta[label]))
            every = tuple(connections[label].values())
            tasks.append(TaskColumns(label, class_name, config, group, first, table, every))
            ids.append(quantum_ids(self.run, label, table))
            first += len(table)
        return QuantumGraph(
            run=self.run,
            tasks=tuple(tasks),
            dataset_types=tuple(columns),
            inputs_of=edges_of_lists([[(first_rows[t] + i, c) for t, i, c in q[0]] for q in numbered]),
            outputs_of=edges_of_lists([[(first_rows[t] + i, c) for t, i, c in q[1]] for q in numbered]),
            quantum_ids=np.concatenate(ids) if ids else np.zeros((0, 16), dtype=np.uint8),
            output=self.output,
            inputs=self.inputs,
            init_outputs=(*(self._config(label) for label in self._tasks), self._packages()),
            metadata=metadata,
        )

    def _dataset_columns(
        self, dataset_type: DatasetType, data_ids: list[DataCoordinate], first: int
    ) -> DatasetColumns:
        refs: list[DatasetRef] = []
        files: list[FileRecord | None] = []
        for data_id in data_ids:
            ref, file = self._existing.get((dataset_type.name, data_id), (None, None))
            refs.append(ref or DatasetRef(dataset_type, data_id, self.run, id=_new_id()))
            files.append(file)
        table = DatasetTable.from_refs(dataset_type, refs)
        return DatasetColumns(table, first, FileTable.from_records(files) if any(files) else None)

    def _config(self, label: str) -> InitDataset:
        kind = DatasetType(f"{label}_config", (), "Config")
        return InitDataset(label, "_config", DatasetRef(kind, DataCoordinate.make_empty(), self.run))

    def _packages(self) -> InitDataset:
        kind = DatasetType("packages", (), "Packages")
        return InitDataset("", "_packages", DatasetRef(kind, DataCoordinate.make_empty(), self.run))


def _new_id() -> uuid.UUID:
    return uuid.UUID(bytes=np.ascontiguousarray(new_dataset_ids(1)[0]).tobytes())
