"""Puts what the builder decided into a QuantumGraph: rows without gaps, edges in compressed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.pipeline_nodes import TaskNode
from ..vocabulary.data_id_table import DataIdTable
from .dataset_pool import DatasetPool, SharedRows
from .graph_columns import DatasetColumns, Edges, GraphConnection, InitDataset, TaskColumns
from .quantum_graph import QuantumGraph
from .quantum_id import quantum_ids
from .record_cache import RecordCache


@dataclass(slots=True)
class DraftEdges:
    """Edges of one connection.

    Parameters
    ----------
    connection : `int`
        Index in the task's connections.
    pool : `str`
        Dataset type name.
    quanta : `numpy.ndarray`, shape (n,), int32
        Row in the task's data IDs of each edge, ascending.
    datasets : `numpy.ndarray`, shape (n,), int64
        Row in the pool of each edge.
    """

    connection: int
    pool: str
    quanta: NDArray[np.int32]
    datasets: NDArray[np.int64]


@dataclass(slots=True)
class DraftTask:
    """A task and its quanta in the making.

    Parameters
    ----------
    node : `TaskNode`
        The task.
    data_ids : `DataIdTable`, n rows
        Data IDs of all quanta thought of.
    alive : `numpy.ndarray`, shape (n,), bool
        Which are in the graph.
    connections : `tuple` [`GraphConnection`, ...]
        Its connections.
    inputs, outputs : `list` [`DraftEdges`]
        Edges by connection; those of quanta that are out are ignored.
    """

    node: TaskNode
    data_ids: DataIdTable
    alive: NDArray[np.bool_]
    connections: tuple[GraphConnection, ...]
    inputs: list[DraftEdges] = field(default_factory=list)
    outputs: list[DraftEdges] = field(default_factory=list)


def assemble(
    drafts: Sequence[DraftTask],
    pools: Mapping[str, DatasetPool],
    records: RecordCache,
    *,
    run: str,
    output: str | None,
    inputs: Sequence[str],
    init_inputs: Sequence[InitDataset],
    init_outputs: Sequence[InitDataset],
    metadata: Mapping[str, Any],
) -> QuantumGraph:
    """Make the graph.

    Parameters
    ----------
    drafts : sequence of `DraftTask`
        The tasks in the order they run.
    pools : mapping of `str` to `DatasetPool`
        Datasets by type name.
    records : `RecordCache`
        Dimension records to attach.
    run, output, inputs, init_inputs, init_outputs, metadata
        As for `QuantumGraph`.

    Returns
    -------
    graph : `QuantumGraph`
        With the quanta that are alive and the datasets they read or write.
    """
    used = {name: np.zeros(len(pool), dtype=bool) for name, pool in pools.items()}
    for draft in drafts:
        for edges in (*draft.inputs, *draft.outputs):
            alive = draft.alive[edges.quanta]
            if not alive.all():
                edges.quanta, edges.datasets = edges.quanta[alive], edges.datasets[alive]
            edges.datasets = pools[edges.pool].resolve(edges.datasets)
            used[edges.pool][edges.datasets] = True

    taken = SharedRows()
    # Dataset types in the order they are met; each pool's rows get their place in the graph.
    columns: list[DatasetColumns] = []
    places: dict[str, NDArray[np.int64]] = {}
    first = 0
    for name, pool in pools.items():
        rows = np.flatnonzero(used[name])
        if not len(rows):
            continue
        table, files = pool.select(rows, run, taken)
        columns.append(DatasetColumns(table, first, files))
        place = np.full(len(pool), -1, dtype=np.int64)
        place[rows] = first + np.arange(len(rows))
        places[name] = place
        first += len(rows)

    tasks: list[TaskColumns] = []
    ids: list[NDArray[np.uint8]] = []
    first_quantum = 0
    parts: tuple[list[Edges], list[Edges]] = ([], [])
    for draft in drafts:
        data_ids = taken.take(draft.data_ids, np.flatnonzero(draft.alive))
        number = np.cumsum(draft.alive) - 1
        for into, group in zip(parts, (draft.inputs, draft.outputs), strict=True):
            into.append(_edges(group, number, places, len(data_ids)))
        node = draft.node
        tasks.append(
            TaskColumns(
                node.label,
                node.task_class_name,
                node.get_str_config(),
                node.dimensions,
                first_quantum,
                data_ids,
                draft.connections,
            )
        )
        ids.append(quantum_ids(run, node.label, data_ids))
        first_quantum += len(data_ids)
    return QuantumGraph(
        run=run,
        tasks=tuple(tasks),
        dataset_types=tuple(columns),
        inputs_of=_joined(parts[0]),
        outputs_of=_joined(parts[1]),
        quantum_ids=np.concatenate(ids) if ids else np.zeros((0, 16), dtype=np.uint8),
        output=output,
        inputs=tuple(inputs),
        init_inputs=tuple(init_inputs),
        init_outputs=tuple(init_outputs),
        records=records.kept([t.data_ids for t in tasks]),
        metadata=metadata,
    )


def _edges(
    group: Sequence[DraftEdges],
    number: NDArray[np.int64],
    places: Mapping[str, NDArray[np.int64]],
    n_quanta: int,
) -> Edges:
    """Return the edges of a task's quanta, by quantum, then connection."""
    group = [e for e in group if len(e.quanta)]
    indptr = np.zeros(n_quanta + 1, dtype=np.int64)
    if not group:
        return Edges(indptr, np.zeros(0, np.int32), np.zeros(0, np.int16))
    counts = [np.bincount(number[e.quanta], minlength=n_quanta) for e in group]
    total = np.sum(counts, axis=0)
    np.cumsum(total, out=indptr[1:])
    indices = np.empty(int(indptr[-1]), dtype=np.int32)
    connections = np.empty(int(indptr[-1]), dtype=np.int16)
    # Each connection's edges are in quantum order already, so their places follow from counts; no sort.
    before = indptr[:-1].copy()
    for edges, count in zip(group, counts, strict=True):
        quanta = number[edges.quanta]
        own = np.arange(len(quanta)) - (np.cumsum(count) - count)[quanta]
        where = before[quanta] + own
        indices[where] = places[edges.pool][edges.datasets]
        connections[where] = edges.connection
        before += count
    return Edges(indptr, indices, connections)


def _joined(parts: Sequence[Edges]) -> Edges:
    if not parts:
        return Edges(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int16))
    starts = np.cumsum([0, *(int(p.indptr[-1]) for p in parts)])
    indptr = np.concatenate([*(p.indptr[:-1] + s for p, s in zip(parts, starts, strict=False)), starts[-1:]])
    return Edges(
        indptr,
        np.concatenate([p.indices for p in parts]),
        np.concatenate([p.connections for p in parts]),
    )
