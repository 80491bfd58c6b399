"""The question a quantum graph is asked with, and its answer for each connected part of the pipeline.

Tasks that share datasets must be asked for together, or the join between their dimensions would be lost;
tasks that share none must not, or their data IDs would multiply. Hence one query for each connected part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import did_you_mean
from ..pipeline.pipeline_graph import PipelineGraph
from ..pipeline.pipeline_nodes import DatasetTypeNode
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.selection import Selection
from .common_data_ids import CommonDataIds
from .dataset_query_constraint import DatasetQueryConstraint
from .input_search import InputSearch

if TYPE_CHECKING:
    from ..registry.registry import Registry


@dataclass
class PipelinePart:
    """A connected part of the pipeline and the answer to its query.

    Parameters
    ----------
    labels : `list` [`str`]
        Its tasks, in the pipeline's order.
    dimensions : `DimensionGroup`
        Those of all its tasks and datasets together.
    datasets : `list`
        Overall inputs that must exist, each with the collections searched.
    common : `CommonDataIds`
        The data IDs found.
    """

    labels: list[str]
    dimensions: DimensionGroup
    datasets: list[tuple[str, tuple[str, ...]]]
    common: CommonDataIds


@dataclass(frozen=True)
class GraphQuestion:
    """What was asked for.

    Parameters
    ----------
    selection : `Selection`
        The expression that selects data IDs, values that hold for all of them, and the instrument and sky map
        that hold where these say no other.
    tables : `tuple` [`DataIdTable`]
        Only data IDs found in each of these are considered.
    constraint : `DatasetQueryConstraint`
        Which overall inputs must exist for a data ID to be considered at all.
    """

    selection: Selection
    tables: tuple[DataIdTable, ...]
    constraint: DatasetQueryConstraint

    def parts(self, pipeline: PipelineGraph, search: InputSearch) -> list[PipelinePart]:
        """Ask one query for each connected part of the pipeline.

        Parameters
        ----------
        pipeline : `PipelineGraph`
            The tasks, resolved.
        search : `InputSearch`
            Knows which dataset types are registered, the collections searched for overall inputs, and where
            data IDs are asked for.

        Returns
        -------
        parts : `list` [`PipelinePart`]
            In the order of their first tasks.
        """
        parts = []
        for labels in _connected_labels(pipeline):
            nodes = _regular_nodes(pipeline, labels)
            group = DimensionUniverse().empty.union(
                *(pipeline.tasks[label].dimensions for label in labels), *(node.dimensions for node in nodes)
            )
            datasets = [(node.name, search.collections) for node in nodes if self.constraint.applies_to(node)]
            if any(not where or not search.is_registered(name) for name, where in datasets):
                table = DataIdTable.empty(group)
            else:
                table = self._data_ids(search.registry, group, datasets)
            parts.append(PipelinePart(labels, group, datasets, CommonDataIds(table)))
        return parts

    def _data_ids(
        self, registry: Registry, group: DimensionGroup, datasets: Sequence[tuple[str, tuple[str, ...]]]
    ) -> DataIdTable:
        table: DataIdTable = registry.queries.data_ids(group, replace(self.selection, datasets=datasets))
        for given in self.tables:
            names = [n for n in given.dimensions.required if n in table.columns]
            if names:
                table = table.take(table.match(given, names) >= 0)
        return table

    def reasons_for_nothing(self, part: PipelinePart, search: InputSearch) -> list[str]:
        """Say why a part has no data ID.

        Parameters
        ----------
        part : `PipelinePart`
            One of `parts`.
        search : `InputSearch`
            As there.

        Returns
        -------
        reasons : `list` [`str`]
            At least one sentence.
        """
        inputs, registry = search.collections, search.registry
        where = ", ".join(map(repr, inputs)) or "no collection (name some with --input)"
        known = [t.name for t in registry.dataset_types.query()]
        labels = ", ".join(map(repr, part.labels))
        unknown = [
            f"Dataset type {name!r} is not registered in this repository: no run has made any. Needed for "
            f"{labels}.{did_you_mean(name, known)}"
            for name, _ in part.datasets
            if not search.is_registered(name)
        ]
        if unknown:
            return unknown
        if not inputs and part.datasets:
            names = ", ".join(repr(name) for name, _ in part.datasets)
            return [f"No input collections are given to search for {names}: name them with --input (-i)."]
        selection, condition = self.selection, self.selection.condition.text
        reasons: list[str] = registry.queries.explain(
            part.dimensions, replace(selection, datasets=part.datasets)
        )
        for name, collections in part.datasets:
            if not len(registry.queries.datasets(name, collections, selection.part(1), find_first=False)):
                what = f"fulfils {condition!r}" if condition else "is there"
                reasons.insert(0, f"No {name!r} in {where} {what}. It is an input of {labels}.")
        if not reasons:
            names = ", ".join(repr(name) for name, _ in part.datasets) or "no dataset"
            reasons = [f"No data ID of {part.dimensions} has {names} in {where} and fulfils {condition!r}."]
        return reasons


def _connected_labels(pipeline: PipelineGraph) -> list[list[str]]:
    """Return the labels of tasks that share regular inputs or outputs, part by part."""
    parts: list[tuple[set[str], list[str]]] = []
    for task in pipeline.tasks.values():
        edges = (*task.inputs.values(), *task.iter_all_outputs())
        names, labels = {e.parent_dataset_type_name for e in edges}, [task.label]
        apart = []
        for known, members in parts:
            if known & names:
                names |= known
                labels = [*members, *labels]
            else:
                apart.append((known, members))
        parts = [*apart, (names, labels)]
    order = list(pipeline.tasks)
    return [sorted(labels, key=order.index) for _, labels in parts]


def _regular_nodes(pipeline: PipelineGraph, labels: Iterable[str]) -> list[DatasetTypeNode]:
    names: dict[str, None] = {}
    for label in labels:
        task = pipeline.tasks[label]
        for edge in (*task.inputs.values(), *task.iter_all_outputs()):
            names[edge.parent_dataset_type_name] = None
    return [pipeline.dataset_types[n] for n in names]
