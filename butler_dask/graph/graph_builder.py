"""Builds a QuantumGraph from a pipeline and a repository, a column at a time.

For each connected part of the pipeline one query finds the data IDs of all its dimensions together, joined
with the overall inputs that exist. Then the tasks are taken in the order they run: what is finished already
is skipped, what lacks inputs left out, prerequisites are looked up for the rest, and what remains offers its
outputs to the tasks behind it. Nothing is written.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..butler.registry_names import ButlerRegistry
from ..errors import (
    EmptyQuantumGraphError,
    MissingCollectionError,
    OutputExistsError,
    QuantumGraphBuilderError,
)
from ..pipeline.pipeline_graph import PipelineGraph
from ..pipeline.pipeline_nodes import DatasetTypeNode, Edge, TaskNode
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.search_defaults import lone_values
from ..vocabulary.selection import Selection
from .common_data_ids import Projection
from .dataset_pool import DatasetPool
from .dataset_query_constraint import ALL, DatasetQueryConstraint
from .graph_assembly import DraftEdges, DraftTask, assemble
from .graph_columns import ConnectionKind, GraphConnection
from .init_datasets import find_init_datasets
from .input_search import Found, InputSearch, LackingQuanta, check_prerequisites
from .pipeline_parts import GraphQuestion, PipelinePart
from .quantum_adjustment import adjust_quanta, adjusts_quanta
from .quantum_graph import QuantumGraph
from .quantum_id import quantum_ids
from .record_cache import RecordCache

if TYPE_CHECKING:
    from ..butler.open_repository import OpenRepository

_CONNECTION_KINDS: Mapping[str, ConnectionKind] = {
    "inputs": "input",
    "prerequisite_inputs": "prerequisite",
    "outputs": "output",
}
"""What a graph calls a connection of one of a task's three groups."""
_EXAMPLES = 3
"""Data IDs shown of many."""


# More than ten parameters: the keywords are the reference's, which users give by name.
def build_quantum_graph(
    pipeline_graph: PipelineGraph,
    repository: OpenRepository,
    *,
    where: str = "",
    bind: Mapping[str, Any] | None = None,
    data_id: Mapping[str, Any] | None = None,
    input_collections: Sequence[str],
    output_run: str,
    output: str | None = None,
    skip_existing_in: Sequence[str] = (),
    clobber: bool = False,
    dataset_query_constraint: DatasetQueryConstraint = ALL,
    data_id_tables: Iterable[DataIdTable] = (),
    metadata: Mapping[str, Any] | None = None,
) -> QuantumGraph:
    """Build the graph of all executions a pipeline needs for some data.

    Parameters
    ----------
    pipeline_graph : `PipelineGraph`
        The tasks.
    repository : `OpenRepository`
        The repository; it is only read.
    where : `str`
        Expression that selects data IDs (``-d``).
    bind : mapping, optional
        Values of names in ``where``.
    data_id : mapping, optional
        Values that hold for all data IDs. Where the input collections have one instrument or one sky map
        only, and ``where`` names none, it is taken.
    input_collections : sequence of `str`
        Where inputs are searched, in order; chains are flattened.
    output_run : `str`
        RUN the outputs will be in; it need not exist.
    output : `str`, optional
        CHAINED collection the run will be in, kept for information.
    skip_existing_in : sequence of `str`
        Quanta are skipped whose metadata (or whose every output) exist there; what they made is read by the
        quanta behind them.
    clobber : `bool`
        Overwrite outputs that exist in ``output_run``, under the ids they have.
    dataset_query_constraint : `DatasetQueryConstraint`
        Which overall inputs must exist for a data ID to be considered at all.
    data_id_tables : iterable of `DataIdTable`
        Only data IDs found in each of these tables are considered.
    metadata : mapping, optional
        Facts to keep with the graph (JSON values).

    Returns
    -------
    graph : `QuantumGraph`
        It has no quantum if all were skipped: ``metadata["skipped"]`` counts them. ``metadata["notes"]`` says
        what was left out and why.

    Raises
    ------
    EmptyQuantumGraphError
        If there is nothing to do and nothing was done; the reasons are given.
    PrerequisiteMissingError
        If a prerequisite input is missing.
    OutputExistsError
        If an output exists in the run and nothing says to skip or overwrite it.
    InitInputMissingError
        If a dataset a task is constructed with is missing.
    """
    # What others write meanwhile must not give quanta whose inputs were counted but not found.
    with repository.registry.snapshot():
        inputs = tuple(c.name for c in repository.registry.collections.flatten(list(input_collections)))
        pipeline = pipeline_graph.copy()
        pipeline.resolve(ButlerRegistry(repository.registry))
        build = _Build(
            pipeline,
            repository,
            GraphQuestion(
                Selection(
                    default=lone_values(repository.registry.collections.governor_values(inputs)).get
                ).where(where, data_id, bind=bind),
                tuple(data_id_tables),
                dataset_query_constraint,
            ),
            inputs,
            output_run,
            tuple(skip_existing_in),
            clobber,
        )
        for task in pipeline.tasks.values():
            build.add_task(task)
        check_prerequisites(build.lacking, inputs)
        build.check_not_empty()
        init_inputs, init_outputs = find_init_datasets(
            pipeline, build.search, output_run, run_exists=build.run_exists
        )
        facts: dict[str, Any] = {
            "where": where,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "user": getpass.getuser(),
            "output_run": output_run,
            "datastore_root": str(repository.datastore.root),
            "skip_existing_in": list(skip_existing_in),
            "clobber": clobber,
            "skipped": build.skipped,
            "notes": build.notes,
        }
        return assemble(
            build.drafts,
            build.pools,
            build.records,
            run=output_run,
            output=output,
            inputs=inputs,
            init_inputs=init_inputs,
            init_outputs=init_outputs,
            metadata={**facts, **(metadata or {})},
        )


@dataclass
class _CandidateQuanta:
    """The quanta of one task, while it is decided which of them are in the graph.

    Parameters
    ----------
    task : `TaskNode`
        The task.
    part : `PipelinePart`
        The connected part of the pipeline it is in.
    projection : `Projection`
        Data IDs of its quanta, n rows.
    alive : `numpy.ndarray`, shape (n,), bool
        Which may still be in the graph.
    """

    task: TaskNode
    part: PipelinePart
    projection: Projection
    alive: NDArray[np.bool_]

    def pairs(self, group: DimensionGroup) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return quantum rows and rows of the data IDs of other dimensions that go together."""
        return self.part.common.pairs(self.task.dimensions, group)


@dataclass
class _Build:
    """A graph in the making."""

    pipeline: PipelineGraph
    repository: OpenRepository
    question: GraphQuestion
    inputs: tuple[str, ...]
    run: str
    skip_in: tuple[str, ...]
    clobber: bool
    drafts: list[DraftTask] = field(default_factory=list)
    pools: dict[str, DatasetPool] = field(default_factory=dict)
    lacking: list[LackingQuanta] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = RecordCache(self.repository.registry)
        self.search = InputSearch(self.repository, self.inputs, self.records)
        self.parts = self.question.parts(self.pipeline, self.search)
        self._part_of = {label: part for part in self.parts for label in part.labels}
        # Predicted datasets by type: 1 will exist, 0 will not, -1 not known yet (its quantum was skipped).
        self._available: dict[str, NDArray[np.int8]] = {}
        self._overall: dict[str, NDArray[np.int64]] = {}
        try:
            self.repository.registry.collections.get(self.run)
            self.run_exists = True
        except MissingCollectionError:
            self.run_exists = False

    def check_not_empty(self) -> None:
        """Raise if no quantum is left and none was skipped."""
        if any(d.alive.any() for d in self.drafts) or any(self.skipped.values()):
            return
        reasons = list(self.notes)
        for part in self.parts:
            if not len(part.common):
                reasons += self.question.reasons_for_nothing(part, self.search)
        raise EmptyQuantumGraphError(
            "There is nothing to run: no data ID fulfils all conditions of the pipeline.", reasons
        )

    # -- tasks --------------------------------------------------------------------------------------------

    def add_task(self, task: TaskNode) -> None:
        """Decide which quanta of a task are in the graph, and connect them."""
        part = self._part_of[task.label]
        projection = part.common.project(task.dimensions)
        for edge in task.iter_all_outputs():
            pool = self._pool(edge)
            pool.predict(part.common.project(pool.dataset_type.dimensions).table)
        candidates = _CandidateQuanta(task, part, projection, np.ones(len(projection), dtype=bool))
        done = self._finished(candidates)
        if done.any():
            self.skipped[task.label] = int(np.count_nonzero(done))
        candidates.alive = ~done
        edges: list[DraftEdges] = []
        connections = _connections_of(task, self.pipeline)
        codes = {c.name: i for i, c in enumerate(connections)}
        for edge in task.inputs.values():
            quanta, datasets = self._regular_input(edge, candidates)
            edges.append(
                DraftEdges(codes[edge.connection_name], edge.parent_dataset_type_name, quanta, datasets)
            )
            candidates.alive &= self._with_enough_inputs(edge, candidates, quanta)
        for edge in task.prerequisite_inputs.values():
            if candidates.alive.any():
                rows = np.flatnonzero(candidates.alive)
                quanta, datasets = self._search_for(edge, candidates, rows)
                quanta = rows[quanta].astype(np.int32)
                edges.append(
                    DraftEdges(codes[edge.connection_name], edge.parent_dataset_type_name, quanta, datasets)
                )
                self._note_lacking(edge, candidates, quanta)
        outputs = []
        for edge in task.iter_all_outputs():
            quanta, made = candidates.pairs(self._pool(edge).dataset_type.dimensions)
            outputs.append(
                DraftEdges(codes[edge.connection_name], edge.dataset_type_name, quanta, made.astype(np.int64))
            )
        draft = DraftTask(task, projection.table, candidates.alive, connections, edges, outputs)
        if adjusts_quanta(task) and candidates.alive.any():
            self.notes += adjust_quanta(draft, self.pools, self.records, self.run)
        self._predict_outputs(draft, done)
        self.drafts.append(draft)

    def _search_for(
        self, edge: Edge, candidates: _CandidateQuanta, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Look up existing datasets of one connection for some of a task's quanta."""
        node = self._node(edge)
        spans = self._timespans(candidates) if node.is_calibration else None
        return self.search.prerequisites(
            edge,
            candidates.projection.table.take(rows),
            self._pool(edge),
            None if spans is None else (spans[0][rows], spans[1][rows]),
        )

    def _timespans(self, candidates: _CandidateQuanta) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Return begin and end of the observations each quantum is about [TAI ns].

        A quantum without a time of its own (a combined bias) has that of all exposures it is made from.
        """
        elements = candidates.part.dimensions.temporal_elements
        if candidates.task.dimensions.temporal_elements or not elements:
            return self.records.timespans(candidates.projection.table)
        group = DimensionUniverse()[elements[0]].dimensions
        spans = self.records.timespans(candidates.part.common.project(group).table)
        quanta, observations = candidates.pairs(group)
        if spans is None or not len(quanta):
            return None
        starts = np.searchsorted(quanta, np.arange(len(candidates.projection)))
        return (
            np.minimum.reduceat(spans[0][observations], starts),
            np.maximum.reduceat(spans[1][observations], starts),
        )

    def _node(self, edge: Edge) -> DatasetTypeNode:
        return self.pipeline.dataset_types[edge.parent_dataset_type_name]

    def _pool(self, edge: Edge) -> DatasetPool:
        name = edge.parent_dataset_type_name
        if name not in self.pools:
            self.pools[name] = DatasetPool(self._node(edge).dataset_type)
        return self.pools[name]

    def _finished(self, candidates: _CandidateQuanta) -> NDArray[np.bool_]:
        """Return which quanta need not run because what they make exists."""
        done = np.zeros(len(candidates.projection), dtype=bool)
        if not self.skip_in or not len(candidates.projection):
            return done
        kind = self._node(candidates.task.metadata_output).dataset_type
        found = self.search.find(kind, candidates.projection.table, self.skip_in)
        lacking = np.zeros_like(done)
        if found is not None:
            lacking = self._lacking_outputs(candidates, found)
            done |= found.stored & ~lacking
        if done.all() or not candidates.task.outputs:
            return done
        # Without metadata (outputs transferred from elsewhere) every output must be there.
        complete = ~done & ~lacking
        for edge in candidates.task.outputs.values():
            group = self._node(edge).dimensions
            made = candidates.part.common.project(group)
            quanta, rows = candidates.pairs(group)
            wanted = complete[quanta]
            needed, places = np.unique(rows[wanted].astype(np.int64), return_inverse=True)
            found = self.search.find(self._node(edge).dataset_type, made.table.take(needed), self.skip_in)
            if found is None:
                return done
            missing = quanta[wanted][~found.stored[places]]
            complete[missing] = False
        return done | complete

    def _lacking_outputs(self, candidates: _CandidateQuanta, metadata: Found) -> NDArray[np.bool_]:
        """Return which quanta with metadata wrote outputs that are not recorded any more."""
        table = candidates.projection.table
        runs = np.append(metadata.table.run_codes, -1)[np.where(metadata.stored, metadata.rows, -1)]
        lacking = np.zeros(len(table), dtype=bool)
        for code in np.unique(runs[runs >= 0]).tolist():
            run, rows = metadata.table.runs[code], np.flatnonzero(runs == code)
            ids = quantum_ids(run, candidates.task.label, table.take(rows))
            left = np.zeros(len(table), dtype=np.int64)
            left[rows] = np.maximum(self.repository.registry.quanta.outputs_of(ids), 0)
            for edge in candidates.task.outputs.values():
                if (left > 0).any():
                    left -= self._count_recorded(edge, candidates, left > 0, run)
            lacking |= left > 0
        return lacking

    def _count_recorded(
        self, edge: Edge, candidates: _CandidateQuanta, wanted: NDArray[np.bool_], run: str
    ) -> NDArray[np.int64]:
        """Return how many datasets of one connection quanta have in a run, 0 for those not wanted."""
        node, n = self._node(edge), len(wanted)
        if set(node.dimensions.required) > set(candidates.task.dimensions.required):
            # A quantum may have written more of them than the data IDs asked for now.
            tables = self.repository.registry.datasets.existing_in_run(run, [node.name]).values()
            rows = [t.data_ids.match(candidates.projection.table) for t in tables]
            quanta = np.concatenate([r[r >= 0] for r in rows]) if rows else np.zeros(0, dtype=np.int64)
            return np.where(wanted, np.bincount(quanta, minlength=n), 0)
        quanta, made = candidates.pairs(node.dimensions)
        quanta, made = quanta[wanted[quanta]], made[wanted[quanta]]
        needed, places = np.unique(made.astype(np.int64), return_inverse=True)
        data_ids = candidates.part.common.project(node.dimensions).table.take(needed)
        found = self.search.find(node.dataset_type, data_ids, [run])
        if found is None:
            return np.zeros(n, dtype=np.int64)
        return np.bincount(quanta[found.rows[places] >= 0], minlength=n)

    def _regular_input(
        self, edge: Edge, candidates: _CandidateQuanta
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the edges of one input connection, to datasets that exist or will."""
        node = self._node(edge)
        if node.producing_edge is None and edge.is_calibration:
            rows = np.flatnonzero(candidates.alive)
            quanta, found = self._search_for(edge, candidates, rows)
            return rows[quanta].astype(np.int32), found
        quanta, datasets = candidates.pairs(node.dimensions)
        wanted = candidates.alive[quanta]
        if not wanted.all():
            quanta, datasets = quanta[wanted], datasets[wanted]
        if node.producing_edge is None:
            into = self._overall_rows(node, candidates.part)
            rows = into[datasets]
            return quanta[rows >= 0], rows[rows >= 0]
        self._find_what_skipped_quanta_left(node, datasets)
        usable = self._available[node.name][datasets] == 1
        return quanta[usable], datasets[usable].astype(np.int64)

    def _overall_rows(self, node: DatasetTypeNode, part: PipelinePart) -> NDArray[np.int64]:
        """Return the pool's row of each data ID of an overall input, -1 where none exists."""
        if node.name not in self._overall:
            table = part.common.project(node.dimensions).table
            pool = self.pools.setdefault(node.name, DatasetPool(node.dataset_type))
            found = self.search.find(node.dataset_type, table)
            self._overall[node.name] = (
                np.full(len(table), -1, dtype=np.int64) if found is None else found.add_to(pool)
            )
        return self._overall[node.name]

    def _find_what_skipped_quanta_left(self, node: DatasetTypeNode, rows: NDArray[np.int32]) -> None:
        """Find out what skipped quanta left of the datasets in these rows."""
        state = self._available[node.name]
        unknown = np.unique(rows[state[rows] < 0].astype(np.int64))
        if not len(unknown):
            return
        pool = self.pools[node.name]
        found = self.search.find(node.dataset_type, pool.predicted.take(unknown), self.skip_in)
        state[unknown] = 0
        if found is not None:
            existing = found.add_to(pool)
            there = existing >= 0
            state[unknown[there]] = 1
            pool.substitute(unknown[there], existing[there])

    def _with_enough_inputs(
        self, edge: Edge, candidates: _CandidateQuanta, quanta: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Return which quanta have as many datasets as a connection needs; note those that have not."""
        counts = np.bincount(quanta, minlength=len(candidates.projection))
        self._check_single(edge, candidates, counts)
        enough: NDArray[np.bool_] = counts >= edge.minimum
        short = np.flatnonzero(candidates.alive & ~enough)
        if len(short):
            examples = "; ".join(
                str(dict(candidates.projection.table[i].required)) for i in short[:_EXAMPLES].tolist()
            )
            more = ", ..." if len(short) > _EXAMPLES else ""
            self.notes.append(
                f"{len(short)} of {np.count_nonzero(candidates.alive)} quanta of "
                f"{candidates.task.label!r} are left out: they have fewer than "
                f"{edge.minimum} {edge.dataset_type_name!r}: {examples}{more}."
            )
        return enough

    def _note_lacking(self, edge: Edge, candidates: _CandidateQuanta, quanta: NDArray[np.int32]) -> None:
        counts = np.bincount(quanta, minlength=len(candidates.projection))
        self._check_single(edge, candidates, counts)
        short = np.flatnonzero(candidates.alive & (counts < edge.minimum))
        if len(short):
            examples = [candidates.projection.table[i] for i in short[:_EXAMPLES].tolist()]
            self.lacking.append(
                LackingQuanta(candidates.task.label, edge, self._node(edge).dimensions, examples, len(short))
            )

    @staticmethod
    def _check_single(edge: Edge, candidates: _CandidateQuanta, counts: NDArray[np.int64]) -> None:
        if edge.multiple:
            return
        several = np.flatnonzero(candidates.alive & (counts > 1))
        if len(several):
            row = int(several[0])
            raise QuantumGraphBuilderError(
                f"Connection {edge.connection_name!r} of {candidates.task.label!r} takes one "
                f"{edge.dataset_type_name!r}, but {counts[row]} were found for "
                f"{candidates.projection.table[row]}. Declare it with multiple=True, or give the "
                "task more dimensions."
            )

    def _predict_outputs(self, draft: DraftTask, done: NDArray[np.bool_]) -> None:
        """Say which outputs will exist, and check that none is in the way."""
        task = draft.node
        conflicts: list[str] = []
        for edge, made in zip(task.iter_all_outputs(), draft.outputs, strict=True):
            pool = self._pool(edge)
            state = np.zeros(pool.n_predicted, dtype=np.int8)
            state[made.datasets[done[made.quanta]]] = -1
            rows = np.unique(made.datasets[draft.alive[made.quanta]])
            state[rows] = 1
            self._available[pool.dataset_type.name] = state
            if not self.run_exists or not len(rows):
                continue
            found = self.search.find(pool.dataset_type, pool.predicted.take(rows), [self.run])
            if found is None:
                continue
            there = found.rows >= 0
            # The dataset is written again under the id it has: nobody's reference to it breaks.
            pool.keep_ids(rows[there], found.table.ids[found.rows[there]])
            stored = rows[found.stored]
            # A failed quantum leaves its log; that must not keep it from being tried again.
            if not len(stored) or self.clobber or edge is task.log_output:
                continue
            if self.run in self.skip_in:
                # Nor what a quantum of the run has left of its outputs, of which others are lost.
                ids = quantum_ids(self.run, task.label, draft.data_ids)
                recorded = self.repository.registry.quanta.outputs_of(ids) > -2
                own = np.zeros(pool.n_predicted, dtype=bool)
                own[made.datasets[recorded[made.quanta]]] = True
                stored = stored[~own[stored]]
            if len(stored):
                first = pool.predicted[int(stored[0])]
                conflicts.append(f"{len(stored)} {pool.dataset_type.name!r}, e.g. {first}")
        if conflicts:
            raise OutputExistsError(
                f"Outputs of {task.label!r} exist in {self.run!r}: {'; '.join(conflicts)}. Skip what is "
                "finished with --skip-existing, overwrite with --clobber-outputs, or write to a new run."
            )


def _connections_of(task: TaskNode, pipeline: PipelineGraph) -> tuple[GraphConnection, ...]:
    connections = []
    for edge in (*task.iter_all_inputs(), *task.iter_all_outputs()):
        stored = pipeline.dataset_types[edge.parent_dataset_type_name].dataset_type
        if edge.component is not None:
            seen = DatasetType(edge.dataset_type_name, stored.dimensions, edge.storage_class_name)
        else:
            seen = stored.overrideStorageClass(edge.storage_class_name)
        connections.append(GraphConnection(edge.connection_name, _CONNECTION_KINDS[edge.kind], seen))
    return tuple(connections)
