"""The ids of what a RUN has already, for a graph that was not built for the RUN as it is now.

The builder gives each output that is there the id it has. A graph from a file may be run when others wrote to
its RUN meanwhile, or in another RUN that was begun before: what it writes anew must not get a second id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..vocabulary.dataset import DatasetRef, DatasetTable
from .graph_columns import DatasetColumns, InitDataset
from .quantum_graph import QuantumGraph

if TYPE_CHECKING:
    from ..registry.registry import Registry


def keep_ids(registry: Registry, graph: QuantumGraph) -> QuantumGraph:
    """Return a graph that writes what its RUN has already under the ids it has there.

    Parameters
    ----------
    registry : `Registry`
        Where the RUN is.
    graph : `QuantumGraph`
        A graph from a file, or one that was moved to the RUN.

    Returns
    -------
    graph : `QuantumGraph`
        It shares what does not change.
    """
    names = {
        *(d.dataset_type.name for d in graph.dataset_types),
        *(item.ref.datasetType.name for item in graph.init_outputs),
    }
    existing = registry.datasets.existing_in_run(graph.run, names)
    if not existing:
        return graph
    refs: dict[uuid.UUID, DatasetRef] = {}
    for item in graph.init_outputs:
        there = existing.get(item.ref.datasetType.name)
        if there is not None:
            refs[item.ref.id] = DatasetRef(item.ref.datasetType, item.ref.dataId, graph.run, id=there.id(0))

    def kept(items: tuple[InitDataset, ...]) -> tuple[InitDataset, ...]:
        return tuple(replace(i, ref=refs.get(i.ref.id, i.ref)) for i in items)

    return replace(
        graph,
        dataset_types=tuple(_with_ids(graph, d, existing) for d in graph.dataset_types),
        init_inputs=kept(graph.init_inputs),
        init_outputs=kept(graph.init_outputs),
    )


def _with_ids(
    graph: QuantumGraph, columns: DatasetColumns, existing: Mapping[str, DatasetTable]
) -> DatasetColumns:
    there = existing.get(columns.dataset_type.name)
    if there is None:
        return columns
    table = columns.table
    written = np.flatnonzero(graph.producer[columns.first_row : columns.first_row + len(columns)] >= 0)
    rows = table.data_ids.take(written).match(there.data_ids)
    ids = table.ids.copy()
    ids[written[rows >= 0]] = there.ids[rows[rows >= 0]]
    return replace(
        columns, table=DatasetTable(table.dataset_type, table.data_ids, ids, table.run_codes, table.runs)
    )
