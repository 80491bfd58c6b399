"""AllDimensionsQuantumGraphBuilder: the reference's way to ask for a graph, over `build_quantum_graph`.

Its graph is seen by UUID and data ID rather than by row, for notebooks and small programs: every view here
makes an object for each quantum.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CollectionError, UnimplementedQueryError
from ..pipeline.pipeline_graph import PipelineGraph
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from .dataset_query_constraint import ALL, DatasetQueryConstraint
from .graph_builder import build_quantum_graph
from .quantum import Quantum
from .quantum_graph import QuantumGraph

if TYPE_CHECKING:
    from ..butler.butler import Butler


@dataclass(frozen=True)
class QuantumLinks:
    """Which quantum follows which.

    Parameters
    ----------
    nodes : `tuple` [`uuid.UUID`, ...]
        Ids of all quanta, in an order in which they can run.
    edges : `tuple` [`tuple` [`uuid.UUID`, `uuid.UUID`], ...]
        Pairs of a quantum and one that reads what it writes.
    """

    nodes: tuple[uuid.UUID, ...]
    edges: tuple[tuple[uuid.UUID, uuid.UUID], ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Any:
        return iter(self.nodes)


class PredictedQuantumGraph:
    """A graph seen by the ids of its quanta.

    Parameters
    ----------
    graph : `QuantumGraph`
        The columns.
    """

    def __init__(self, graph: QuantumGraph) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return len(self.graph)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts kept with the graph; ``output_run`` among them."""
        return self.graph.metadata

    @cached_property
    def quanta_by_task(self) -> dict[str, dict[DataCoordinate, uuid.UUID]]:
        """Ids of the quanta by task label and data ID."""
        return {
            task.label: {self.graph.data_id(row): self.graph.quantum_id(row) for row in task.rows}
            for task in self.graph.tasks
        }

    def build_execution_quanta(self) -> dict[uuid.UUID, Quantum]:
        """Return all quanta by id.

        Returns
        -------
        quanta : `dict` [`uuid.UUID`, `Quantum`]
            In an order in which they can run.
        """
        return {quantum.id: quantum for quantum in self.graph}

    @cached_property
    def quantum_only_xgraph(self) -> QuantumLinks:
        """Links between quanta."""
        nodes = tuple(self.graph.quantum_id(row) for row in range(len(self.graph)))
        indptr, indices = self.graph.dependency_csr()
        after = np.repeat(np.arange(len(nodes)), np.diff(indptr))
        pairs = zip(indices.tolist(), after.tolist(), strict=True)
        return QuantumLinks(nodes, tuple((nodes[a], nodes[b]) for a, b in pairs))


@dataclass(frozen=True)
class FinishedBuild:
    """A built graph, as ``finish`` returns it.

    Parameters
    ----------
    graph : `QuantumGraph`
        The graph, as columns.
    """

    graph: QuantumGraph

    def assemble(self) -> PredictedQuantumGraph:
        """Return the graph, seen by ids.

        Returns
        -------
        graph : `PredictedQuantumGraph`
            A view; nothing is copied.
        """
        return PredictedQuantumGraph(self.graph)


class AllDimensionsQuantumGraphBuilder:
    """Builds quantum graphs by one query of all dimensions.

    Parameters
    ----------
    pipeline_graph : `PipelineGraph`
        The tasks.
    butler : `Butler`
        The repository.
    where : `str`
        Expression that selects data IDs.
    bind : mapping, optional
        Values of names in ``where``.
    input_collections : sequence of `str`, optional
        Where inputs are searched; the butler's collections when not given.
    output_run : `str`, optional
        RUN of the outputs; the butler's when not given.
    skip_existing_in : sequence of `str`
        Collections whose datasets make quanta unnecessary.
    clobber : `bool`
        Overwrite what exists in the run.
    dataset_query_constraint : `DatasetQueryConstraint`
        Which overall inputs constrain the query.
    data_id_tables : iterable of `DataIdTable`
        Only data IDs found in each of them.
    prune_unanchored_quanta : optional
        Accepted as in the reference; `None` only.

    Raises
    ------
    CollectionError
        If there is neither an output run nor one of the butler.
    """

    # More than ten parameters: the keywords are the reference's, which users give by name.
    def __init__(
        self,
        pipeline_graph: PipelineGraph,
        butler: Butler,
        *,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        input_collections: Sequence[str] | None = None,
        output_run: str | None = None,
        skip_existing_in: Sequence[str] = (),
        clobber: bool = False,
        dataset_query_constraint: DatasetQueryConstraint = ALL,
        data_id_tables: Iterable[DataIdTable] = (),
        prune_unanchored_quanta: None = None,
    ) -> None:
        run = butler.run if output_run is None else output_run
        if run is None:
            raise CollectionError("Give an output_run, or a butler with a run.")
        if prune_unanchored_quanta is not None:
            raise UnimplementedQueryError(
                "Quanta cannot be pruned by prune_unanchored_quanta; leave it out and narrow `where` instead."
            )
        if isinstance(input_collections, str):
            input_collections = [input_collections]
        self._arguments: dict[str, Any] = {
            "where": where,
            "bind": bind,
            "input_collections": list(butler.collections if input_collections is None else input_collections),
            "output_run": run,
            "skip_existing_in": tuple(skip_existing_in),
            "clobber": clobber,
            "dataset_query_constraint": dataset_query_constraint,
            "data_id_tables": tuple(data_id_tables),
        }
        self.pipeline_graph, self.butler = pipeline_graph, butler

    def build(self, metadata: Mapping[str, Any] | None = None) -> QuantumGraph:
        """Build the graph as columns; see `build_quantum_graph` for the errors.

        Parameters
        ----------
        metadata : mapping, optional
            Facts to keep with it (JSON values).

        Returns
        -------
        graph : `QuantumGraph`
            The graph.
        """
        return build_quantum_graph(
            self.pipeline_graph, self.butler.repository, metadata=metadata, **self._arguments
        )

    def finish(
        self,
        output: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attach_datastore_records: bool = True,
    ) -> FinishedBuild:
        """Build the graph.

        Parameters
        ----------
        output : `str`, optional
            CHAINED collection the run will be in.
        metadata : mapping, optional
            Facts to keep with it.
        attach_datastore_records : `bool`
            Accepted as in the reference; file records are always attached.

        Returns
        -------
        build : `FinishedBuild`
            Holds the graph.
        """
        self._arguments["output"] = output
        return FinishedBuild(self.build(metadata))
