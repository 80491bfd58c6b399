"""Calls ``adjustQuantum`` of the tasks that override it.

This is the one step of building that makes objects for every quantum, so it is left out where the base
class's checks would be made: the builder makes those on columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PrerequisiteMissingError, QuantumGraphBuilderError
from ..pipeline.connections import PipelineTaskConnections
from ..pipeline.pipeline_nodes import TaskNode
from ..pipeline.quantum_outcome import NoWorkFound
from ..vocabulary.dataset import DatasetRef, DatasetTable
from .dataset_pool import DatasetPool
from .graph_assembly import DraftEdges, DraftTask
from .record_cache import RecordCache


def adjusts_quanta(task: TaskNode) -> bool:
    """Return whether a task's connections class has an ``adjustQuantum`` of its own.

    Parameters
    ----------
    task : `TaskNode`
        The task.

    Returns
    -------
    adjusts : `bool`
        If not, `adjust_quanta` changes nothing.
    """
    return type(task.connections).adjustQuantum is not PipelineTaskConnections.adjustQuantum


def adjust_quanta(
    draft: DraftTask, pools: Mapping[str, DatasetPool], records: RecordCache, run: str
) -> list[str]:
    """Let a task look at each of its quanta: leave it out, or take datasets from it.

    Parameters
    ----------
    draft : `DraftTask`
        The task; its ``alive``, ``inputs`` and ``outputs`` are changed.
    pools : mapping of `str` to `DatasetPool`
        Datasets by type name.
    records : `RecordCache`
        Dimension records for the data IDs.
    run : `str`
        RUN of the outputs.

    Returns
    -------
    notes : `list` [`str`]
        What was left out.

    Raises
    ------
    PrerequisiteMissingError
        If the task misses a prerequisite.
    QuantumGraphBuilderError
        If it returns what it was not given.
    """
    node = draft.node
    connections = node.connections.allConnections
    groups = (_Group(draft.inputs, draft, pools, run), _Group(draft.outputs, draft, pools, run))
    missing: list[str] = []
    left_out: list[str] = []
    for row in np.flatnonzero(draft.alive).tolist():
        data_id = records.expanded(draft.data_ids[row])
        given: list[dict[str, tuple[Any, list[DatasetRef]]]] = [
            {name: (connections[name], refs) for name, refs in group.refs(row).items() if name in connections}
            for group in groups
        ]
        try:
            changes = node.connections.adjustQuantum(given[0], given[1], node.label, data_id)
        except NoWorkFound as reason:
            draft.alive[row] = False
            left_out.append(f"{reason}")
            continue
        except FileNotFoundError as reason:
            missing.append(f"{reason}")
            continue
        for group, change, known in zip(groups, changes, given, strict=True):
            for name, (_, refs) in change.items():
                if name not in known:
                    raise QuantumGraphBuilderError(
                        f"adjustQuantum of {node.label!r} returned {name!r}, which is none of {sorted(known)}"
                    )
                group.keep(row, name, refs)
    for group in groups:
        group.finish()
    if missing:
        shown = "\n".join(missing[:5])
        more = f"\nand {len(missing) - 5} more quanta" if len(missing) > 5 else ""
        raise PrerequisiteMissingError(f"Prerequisites of {node.label!r} are missing:\n{shown}{more}")
    if not left_out:
        return []
    return [f"{len(left_out)} quanta of {node.label!r} are left out by the task: {left_out[0]}"]


class _Group:
    """Inputs or outputs of a task, and which edges stay."""

    def __init__(
        self, edges: list[DraftEdges], draft: DraftTask, pools: Mapping[str, DatasetPool], run: str
    ) -> None:
        self._edges = {draft.connections[e.connection].name: e for e in edges}
        self._seen = {c.name: c.dataset_type for c in draft.connections}
        self._keep = {name: np.ones(len(e.quanta), dtype=bool) for name, e in self._edges.items()}
        n = len(draft.data_ids)
        self._starts = {name: np.searchsorted(e.quanta, np.arange(n + 1)) for name, e in self._edges.items()}
        self._tables: dict[str, tuple[DatasetTable, NDArray[np.int64]]] = {}
        for e in self._edges.values():
            if e.pool not in self._tables:
                pool = pools[e.pool]
                table, _ = pool.select(np.arange(len(pool)), run)
                self._tables[e.pool] = (table, pool.resolve(np.arange(len(pool), dtype=np.int32)))

    def refs(self, row: int) -> dict[str, list[DatasetRef]]:
        """Return the datasets of a quantum by connection, as the task sees them."""
        found = {}
        for name, edges in self._edges.items():
            table, resolved = self._tables[edges.pool]
            refs = []
            for edge in range(int(self._starts[name][row]), int(self._starts[name][row + 1])):
                ref = table[int(resolved[edges.datasets[edge]])]
                refs.append(DatasetRef(self._seen[name], ref.dataId, ref.run, id=ref.id))
            found[name] = refs
        return found

    def keep(self, row: int, name: str, refs: Any) -> None:
        """Drop the edges of a quantum's connection to datasets that are not in ``refs``."""
        wanted = {ref.id for ref in refs}
        edges = self._edges[name]
        table, resolved = self._tables[edges.pool]
        for edge in range(int(self._starts[name][row]), int(self._starts[name][row + 1])):
            self._keep[name][edge] = table.id(int(resolved[edges.datasets[edge]])) in wanted

    def finish(self) -> None:
        """Take the dropped edges out."""
        for name, keep in self._keep.items():
            if not keep.all():
                edges = self._edges[name]
                edges.quanta, edges.datasets = edges.quanta[keep], edges.datasets[keep]
