"""What earlier attempts left in a run that is now to be done again.

A failed quantum leaves its log, which is recorded; one that lost some of its outputs leaves the others; with
``--clobber-outputs`` all outputs of finished quanta are to be made again. All are taken out of the repository
before anything runs: a dataset that is recorded is then never one that is being overwritten, and a quantum
never finds the marker of work that is to be redone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph_columns import ABOUT_QUANTA, METADATA_CONNECTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..butler.open_repository import OpenRepository
    from ..graph.quantum_graph import QuantumGraph
    from ..registry.registry import Registry
    from ..vocabulary.dataset import DatasetTable

    _Recorded = dict[str, tuple[DatasetTable, NDArray[np.int32]]]
    """Recorded outputs by type, and the row of the quantum that writes each."""

_LOG = logging.getLogger("butler_dask.earlier_outputs")


def clear_earlier_outputs(repository: OpenRepository, graph: QuantumGraph, *, clobber: bool) -> int:
    """Remove what earlier attempts at a graph's quanta recorded in its run.

    Parameters
    ----------
    repository : `OpenRepository`
        Open for writing.
    graph : `QuantumGraph`
        What will be run.
    clobber : `bool`
        Whether finished quanta are done again; otherwise only what is left of unfinished ones goes.

    Returns
    -------
    n : `int`
        Number of datasets removed.
    """
    registry = repository.registry
    repository.finish_removals()  # of an attempt that was killed: its files are about to be written anew
    recorded = _recorded_outputs(registry, graph)
    if not recorded:
        return 0
    finished = np.zeros(len(graph), dtype=bool) if clobber else _finished(registry, graph, recorded)
    tables = []
    for table, quanta in recorded.values():
        again = ~finished[quanta]
        if again.any():
            tables.append(table.take(np.flatnonzero(again)))
    count = sum(len(t) for t in tables)
    if count:
        repository.remove_datasets(tables)
        _LOG.info("Removed %d datasets of earlier attempts", count)
    return count


def _recorded_outputs(registry: Registry, graph: QuantumGraph) -> _Recorded:
    """Return what is recorded of a graph's outputs in its run."""
    summary = registry.collections.get(graph.run, include_summary=True).dataset_types or ()
    recorded = {}
    for columns in graph.dataset_types:
        name = columns.dataset_type.name
        makers = graph.producer[columns.first_row : columns.first_row + len(columns)]
        written = np.flatnonzero(makers >= 0)
        if name not in summary or not len(written):
            continue
        table, rows = registry.search.find(name, columns.table.data_ids.take(written), [graph.run])
        if len(table):
            there = rows >= 0
            recorded[name] = (table.take(rows[there]), makers[written[there]])
    return recorded


def _finished(registry: Registry, graph: QuantumGraph, recorded: _Recorded) -> NDArray[np.bool_]:
    """Return which quanta have their metadata and all else they wrote."""
    markers = {
        c.dataset_type.name for t in graph.tasks for c in t.connections if c.name == METADATA_CONNECTION
    }
    about = {c.dataset_type.name for t in graph.tasks for c in t.connections if c.name in ABOUT_QUANTA}
    finished = np.zeros(len(graph), dtype=bool)
    present = np.zeros(len(graph), dtype=np.int64)
    for name, (_, quanta) in recorded.items():
        if name in markers:
            finished[quanta] = True
        elif name not in about:
            present += np.bincount(quanta, minlength=len(graph))
    rows = np.flatnonzero(finished)
    finished[rows] = present[rows] >= registry.quanta.outputs_of(graph.quantum_ids[rows])
    return finished
