"""HandOver: objects passed in memory from one quantum of a Dask task to the next.

Writing an exposure and not reading it back saves half of the I/O of a chain. Only what a later quantum of the
same Dask task reads is kept, and the last reader gets the object itself, not a copy.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..graph.quantum_graph import QuantumGraph


class HandOver:
    """What the quanta of one Dask task pass to one another.

    Parameters
    ----------
    graph : `QuantumGraph`
        Where the quanta are.
    rows : sequence of `int`
        The quanta of the task, in the order they run in.

    Attributes
    ----------
    objects : `dict` [`uuid.UUID`, object]
        What is held now.
    """

    def __init__(self, graph: QuantumGraph, rows: Sequence[int]) -> None:
        made = {d for row in rows for d in graph.outputs_of.of(row).tolist()}
        self._reads = {
            row: [graph.dataset_id(d) for d in sorted(set(graph.inputs_of.of(row).tolist()) & made)]
            for row in rows
        }
        self._readers = Counter(i for ids in self._reads.values() for i in ids)
        self.objects: dict[uuid.UUID, Any] = {}

    @property
    def kept(self) -> frozenset[uuid.UUID]:
        """Datasets some quantum still to run reads."""
        return frozenset(self._readers)

    def last_uses(self, row: int) -> frozenset[uuid.UUID]:
        """Return the datasets that no quantum after this one reads.

        Parameters
        ----------
        row : `int`
            Row of a quantum of the task.

        Returns
        -------
        ids : `frozenset` [`uuid.UUID`]
            Those it may take without a copy.
        """
        return frozenset(i for i in self._reads[row] if self._readers[i] == 1)

    def quantum_done(self, row: int) -> None:
        """Let go of what no later quantum reads.

        Parameters
        ----------
        row : `int`
            Row of the quantum that has ended.
        """
        for id_ in self._reads[row]:
            self._readers[id_] -= 1
            if self._readers[id_] == 0:
                del self._readers[id_]
                self.objects.pop(id_, None)
