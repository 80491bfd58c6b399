"""What earlier attempts left in a run that is now to be done again.

A failed quantum leaves its log, which is recorded; with ``--clobber-outputs`` all outputs of finished quanta
are to be made again. Both are taken out of the repository before anything runs: a dataset that is recorded is
then never one that is being overwritten, and a quantum never finds the marker of work that is to be redone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph_columns import LOG_CONNECTION, METADATA_CONNECTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..butler.open_repository import OpenRepository
    from ..graph.quantum_graph import QuantumGraph
    from ..vocabulary.dataset import DatasetTable

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
        Whether finished quanta are done again; otherwise only logs of unfinished ones go.

    Returns
    -------
    n : `int`
        Number of datasets removed.
    """
    registry = repository.registry
    repository.finish_removals()  # of an attempt that was killed: its files are about to be written anew
    connections = [(t, c) for t in graph.tasks for c in t.connections if c.kind == "output"]
    wanted = {c.dataset_type.name for _, c in connections if clobber or c.name == LOG_CONNECTION}
    existing = registry.datasets.existing_in_run(graph.run, sorted(wanted))
    if not existing:
        return 0
    finished = np.zeros(len(graph), dtype=bool)
    if not clobber:
        markers = {c.dataset_type.name for _, c in connections if c.name == METADATA_CONNECTION}
        for name, table in registry.datasets.existing_in_run(graph.run, sorted(markers)).items():
            rows = _graph_rows(graph, name, table)
            finished[graph.producer[rows[rows >= 0]]] = True
    tables = []
    for name, table in existing.items():
        rows = _graph_rows(graph, name, table)
        again = rows >= 0
        again[again] = ~finished[graph.producer[rows[again]]]
        if again.any():
            tables.append(table.take(np.flatnonzero(again)))
    count = sum(len(t) for t in tables)
    if count:
        repository.remove_datasets(tables)
        _LOG.info("Removed %d datasets of earlier attempts", count)
    return count


def _graph_rows(graph: QuantumGraph, name: str, table: DatasetTable) -> NDArray[np.int64]:
    """Return the graph's dataset row with the data ID of each recorded one, -1 where it writes none."""
    columns = next((d for d in graph.dataset_types if d.dataset_type.name == name), None)
    if columns is None:  # all its quanta are done
        return np.full(len(table), -1, dtype=np.int64)
    rows = table.data_ids.match(columns.table.data_ids)
    rows[rows >= 0] += columns.first_row
    written = rows >= 0
    written[written] = graph.producer[rows[written]] >= 0
    return np.where(written, rows, -1)
