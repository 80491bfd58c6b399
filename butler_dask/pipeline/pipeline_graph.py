"""PipelineGraph: the tasks of a pipeline and their dataset types, ordered and checked.

Everything that can be wrong without looking at data is found here: circles, two writers of one dataset type,
contradicting dimensions. A graph is always sorted. `PipelineGraph.resolve` compares it with the dataset types
of a repository; before that, definitions follow from the connections alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from ..errors import (
    FormatVersionError,
    MissingDatasetTypeError,
    PipelineGraphError,
    PipelineLabelError,
    did_you_mean,
)
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from .dataset_type_agreement import agreed, check_definable
from .pipeline_nodes import DatasetTypeNode, Edge, TaskNode, conform
from .task_class import config_of_text, import_task_class
from .task_order import ordered, tasks_read_by
from .task_selection import select_tasks
from .task_subsets import StepDefinitions, TaskSubset

__all__ = ["DatasetTypeSource", "PipelineGraph", "StepDefinitions", "TaskSubset"]

DOCUMENT_VERSION = 1
"""Form of `PipelineGraph.to_document`."""


class DatasetTypeSource(Protocol):
    """What resolving needs of a registry."""

    def getDatasetType(self, name: str, /) -> DatasetType:
        """Return a dataset type; `MissingDatasetTypeError` where there is none."""
        ...


class PipelineGraph:
    """Tasks and dataset types of a pipeline.

    Parameters
    ----------
    tasks : iterable of `TaskNode`, optional
        The tasks, in any order.
    description : `str`, optional
        What the pipeline is for.
    instrument : `str`, optional
        Dotted name of the instrument class the pipeline is for.
    data_id : mapping of `str` to object, optional
        Values that all data IDs of the pipeline have: its instrument.
    subsets : iterable of `TaskSubset`, optional
        Named groups of tasks.
    steps : `StepDefinitions`, optional
        Steps of a campaign.

    Raises
    ------
    DuplicateOutputError
        Two connections write one dataset type.
    PipelineDataCycleError
        Tasks need one another's outputs in a circle.
    ConnectionTypeConsistencyError
        Connections contradict each other about a dataset type.

    Notes
    -----
    Tasks come in topological order, those that may run at the same time in the order they were given.
    """

    def __init__(
        self,
        tasks: Iterable[TaskNode] = (),
        *,
        description: str = "",
        instrument: str | None = None,
        data_id: Mapping[str, Any] | None = None,
        subsets: Iterable[TaskSubset] = (),
        steps: StepDefinitions | None = None,
    ) -> None:
        self.description = description
        self.instrument = instrument
        values = dict(data_id or {})
        self.data_id = DataCoordinate.standardize(values, dimensions=conform(values))
        self._subsets = {subset.label: subset for subset in subsets}
        self.steps = steps or StepDefinitions()
        self._tasks: dict[str, TaskNode] = {}
        self._dataset_types: dict[str, DatasetTypeNode] = {}
        self._registered: dict[str, DatasetType] = {}
        self._is_resolved = False
        self._set_tasks(list(tasks))

    # Looking -------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Mapping[str, TaskNode]:
        """Tasks by label, in topological order."""
        return MappingProxyType(self._tasks)

    @property
    def dataset_types(self) -> Mapping[str, DatasetTypeNode]:
        """Dataset types by name (components belong to their parents), in topological order."""
        return MappingProxyType(self._dataset_types)

    @property
    def task_subsets(self) -> Mapping[str, TaskSubset]:
        """Named groups of tasks."""
        return MappingProxyType(self._subsets)

    @property
    def universe(self) -> DimensionUniverse:
        """The universe of the dimensions."""
        return DimensionUniverse()

    @property
    def is_sorted(self) -> bool:
        """Whether tasks come in topological order: always."""
        return True

    @property
    def is_fully_resolved(self) -> bool:
        """Whether `resolve` was called since the last change."""
        return self._is_resolved

    @property
    def packages_dataset_type(self) -> DatasetType:
        """The dataset type of the software versions of a run."""
        return DatasetType("packages", (), "Packages")

    def sort(self) -> None:
        """Do nothing: a graph is always sorted."""

    def producer_of(self, dataset_type_name: str) -> TaskNode | None:
        """Return the task that writes a dataset type, or `None`."""
        label = self._dataset_types[dataset_type_name].producer
        return None if label is None else self._tasks[label]

    def consumers_of(self, dataset_type_name: str) -> list[TaskNode]:
        """Return the tasks that read a dataset type."""
        return [self._tasks[label] for label in self._dataset_types[dataset_type_name].consumers]

    def producing_edge_of(self, dataset_type_name: str) -> Edge | None:
        """Return the edge that writes a dataset type, or `None`."""
        return self._dataset_types[dataset_type_name].producing_edge

    def consuming_edges_of(self, dataset_type_name: str) -> list[Edge]:
        """Return the edges that read a dataset type."""
        return list(self._dataset_types[dataset_type_name].consuming_edges)

    def inputs_of(self, label: str, init: bool = False) -> dict[str, DatasetTypeNode]:
        """Return the dataset types a task reads, by name.

        Parameters
        ----------
        label : `str`
            The task.
        init : `bool`, optional
            Those read once a run, when it is constructed, instead of those its quanta read.
        """
        task = self._tasks[label]
        edges = task.init_inputs.values() if init else task.iter_all_inputs()
        return {e.parent_dataset_type_name: self._dataset_types[e.parent_dataset_type_name] for e in edges}

    def outputs_of(
        self, label: str, init: bool = False, include_automatic_connections: bool = True
    ) -> dict[str, DatasetTypeNode]:
        """Return the dataset types a task writes, by name.

        Parameters
        ----------
        label : `str`
            The task.
        init : `bool`, optional
            Those written once a run, when it is constructed, instead of those its quanta write.
        include_automatic_connections : `bool`, optional
            Whether configuration, metadata and log are among them.
        """
        task = self._tasks[label]
        edges = task.iter_all_init_outputs() if init else task.iter_all_outputs()
        return {
            e.parent_dataset_type_name: self._dataset_types[e.parent_dataset_type_name]
            for e in edges
            if include_automatic_connections or not e.connection_name.startswith("_")
        }

    def iter_edges(self) -> Iterator[Edge]:
        """Iterate over all edges."""
        for task in self._tasks.values():
            yield from task.iter_edges()

    def iter_overall_inputs(self) -> Iterator[tuple[str, DatasetTypeNode]]:
        """Iterate over (name, node) of the dataset types that no task writes."""
        return ((n, node) for n, node in self._dataset_types.items() if node.producing_edge is None)

    def iter_outputs(self) -> Iterator[tuple[str, DatasetTypeNode]]:
        """Iterate over (name, node) of the dataset types that tasks write, implicit ones included."""
        return ((n, node) for n, node in self._dataset_types.items() if node.producing_edge is not None)

    def upstream(self) -> dict[str, set[str]]:
        """Return for each task the tasks it reads from directly."""
        return tasks_read_by(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, label: object) -> bool:
        return label in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __repr__(self) -> str:
        return f"PipelineGraph({self.description!r}, tasks={list(self._tasks)})"

    # Changing ------------------------------------------------------------------------------------------

    def add_task(self, label: str, task_class: Any, config: Any = None, connections: Any = None) -> TaskNode:
        """Add a task; the graph must be resolved again.

        Parameters
        ----------
        label : `str`
            Its name; the class's ``_DefaultName`` where empty.
        task_class : `type`
            A `PipelineTask`.
        config : `PipelineTaskConfig`, optional
            Configuration; it is validated and frozen.
        connections : `PipelineTaskConnections`, optional
            Resolved connections, made from the configuration where not given.
        """
        label = label or task_class._DefaultName
        if label in self._tasks:
            raise PipelineGraphError(f"The pipeline has a task {label!r} already.")
        config = task_class.ConfigClass() if config is None else config
        config.validate()
        config.freeze()
        node = TaskNode.from_config(label, task_class, config, connections)
        self._set_tasks([*self._tasks.values(), node])
        return self._tasks[label]

    def remove_tasks(self, labels: Iterable[str]) -> None:
        """Remove tasks; subsets lose them. The graph must be resolved again."""
        gone = set(labels)
        self._check_labels(gone)
        self._subsets = {
            name: replace(subset, members=subset.members - gone) for name, subset in self._subsets.items()
        }
        self._set_tasks([task for label, task in self._tasks.items() if label not in gone])

    def add_task_subset(self, subset_label: str, task_labels: Iterable[str], description: str = "") -> None:
        """Add a named group of tasks.

        Parameters
        ----------
        subset_label : `str`
            Its name.
        task_labels : iterable of `str`
            Its tasks.
        description : `str`, optional
            What it is for.

        Raises
        ------
        PipelineLabelError
            A task label is unknown.
        """
        members = frozenset(task_labels)
        self._check_labels(members)
        self._subsets[subset_label] = TaskSubset(subset_label, members, description)

    def remove_task_subset(self, subset_label: str) -> None:
        """Remove a named group of tasks; the tasks stay."""
        if subset_label not in self._subsets:
            raise PipelineLabelError(
                f"The pipeline has no subset {subset_label!r}.{did_you_mean(subset_label, self._subsets)}"
            )
        del self._subsets[subset_label]

    def copy(self) -> PipelineGraph:
        """Return an independent copy (nodes are immutable and shared)."""
        return self._with_tasks(self._tasks)

    def select(self, expression: str) -> PipelineGraph:
        """Return a graph of the tasks an expression selects.

        Parameters
        ----------
        expression : `str`
            Task labels, subsets and dataset types (``T:``, ``S:``, ``D:`` where a name is several of these)
            with ``~``, ``&``, ``|``, parentheses, and ``<a``, ``<=a``, ``>a``, ``>=a`` for all tasks before
            or after one.

        Raises
        ------
        InvalidExpressionError
            The expression is not well formed or names what does not exist.
        """
        keep = self.select_tasks(expression)
        return self._with_tasks({label: task for label, task in self._tasks.items() if label in keep})

    def select_tasks(self, expression: str) -> set[str]:
        """Return the labels an expression selects; see `select`."""
        return select_tasks(expression, self._tasks, self._subsets, self._dataset_types)

    def _with_tasks(self, tasks: Mapping[str, TaskNode]) -> PipelineGraph:
        result = PipelineGraph.__new__(PipelineGraph)
        result.description = self.description
        result.instrument = self.instrument
        result.data_id = self.data_id
        result._subsets = {
            name: subset for name, subset in self._subsets.items() if subset.members <= tasks.keys()
        }
        result.steps = StepDefinitions(
            {n: names for n, names in self.steps._dimensions.items() if n in result._subsets}
        )
        result._registered = dict(self._registered)
        result._is_resolved = self._is_resolved
        result._tasks = dict(tasks)
        result._dataset_types = {}
        result._agree()
        return result

    def _check_labels(self, labels: Iterable[str]) -> None:
        for label in labels:
            if label not in self._tasks:
                raise PipelineLabelError(
                    f"The pipeline has no task {label!r}.{did_you_mean(label, self._tasks)}"
                )

    # Ordering and agreeing -----------------------------------------------------------------------------

    def _set_tasks(self, tasks: list[TaskNode]) -> None:
        """Take a new set of tasks, or leave everything as it was."""
        before = self._tasks, self._dataset_types, self._is_resolved
        try:
            self._tasks = {task.label: task for task in ordered(tasks)}
            self._is_resolved = False
            self._agree()
        except BaseException:
            self._tasks, self._dataset_types, self._is_resolved = before
            raise

    def _agree(self) -> None:
        """Find the one definition of each dataset type."""
        self._tasks, self._dataset_types = agreed(self._tasks, self._registered)

    def resolve(
        self,
        registry: DatasetTypeSource | None = None,
        dimensions: DimensionUniverse | None = None,
        dataset_types: Mapping[str, DatasetType | None] | None = None,
    ) -> None:
        """Compare the dataset types with those of a repository, whose definitions win.

        Parameters
        ----------
        registry : `DatasetTypeSource`, optional
            The registry of the repository.
        dimensions : `DimensionUniverse`, optional
            Accepted as in the reference; there is one universe.
        dataset_types : mapping of `str` to `DatasetType`, optional
            Definitions used instead of the registry's.

        Raises
        ------
        IncompatibleDatasetTypeError
            A connection contradicts a registered dataset type.
        MissingDatasetTypeError
            A connection leaves open what only the registered dataset type can say (``skypix``, or the whole
            of which it reads a component), and it is not registered.
        """
        registered: dict[str, DatasetType] = {}
        for name in self._dataset_types:
            found = (dataset_types or {}).get(name)
            if found is None and registry is not None:
                try:
                    found = registry.getDatasetType(name)
                except MissingDatasetTypeError:
                    found = None
            if found is not None:
                registered[name] = found
        if registry is not None or dataset_types is not None:
            for node in self._dataset_types.values():
                if node.name not in registered and node.producing_edge is None:
                    check_definable(node)
        before = self._registered, self._dataset_types, self._tasks
        try:
            self._registered = registered
            self._agree()
        except BaseException:
            self._registered, self._dataset_types, self._tasks = before
            raise
        self._is_resolved = True

    # Storing -------------------------------------------------------------------------------------------

    def to_document(self) -> dict[str, Any]:
        """Return plain values (for JSON) from which `from_document` makes the graph again."""
        return {
            "version": DOCUMENT_VERSION,
            "description": self.description,
            "instrument": self.instrument,
            "data_id": dict(self.data_id.required),
            "tasks": [
                {"label": t.label, "class": t.task_class_name, "config": t.get_str_config()}
                for t in self._tasks.values()
            ],
            "subsets": [
                {"label": s.label, "members": list(s), "description": s.description}
                for s in self._subsets.values()
            ],
            "steps": {label: list(names) for label, names in self.steps._dimensions.items()},
            "resolved": self._is_resolved,
            "dataset_types": [
                {
                    "name": d.name,
                    "dimensions": list(d.dimensions.names),
                    "storage_class": d.storageClass_name,
                    "is_calibration": d.isCalibration(),
                }
                for d in self._registered.values()
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PipelineGraph:
        """Make a graph from `to_document`'s values.

        Raises
        ------
        FormatVersionError
            Another version of this package wrote it in another form.
        TaskImportError
            A task class is not installed here.
        """
        if document["version"] != DOCUMENT_VERSION:
            raise FormatVersionError(
                f"This is a pipeline graph in form {document['version']}; this version of the package reads "
                f"form {DOCUMENT_VERSION}."
            )
        tasks = []
        for entry in document["tasks"]:
            task_class = import_task_class(entry["class"])
            config = config_of_text(task_class, entry["config"])
            config.freeze()
            tasks.append(TaskNode.from_config(entry["label"], task_class, config))
        result = cls(
            tasks,
            description=document["description"],
            instrument=document["instrument"],
            data_id=document["data_id"],
            subsets=[
                TaskSubset(s["label"], frozenset(s["members"]), s["description"]) for s in document["subsets"]
            ],
            steps=StepDefinitions(document["steps"]),
        )
        if document["resolved"]:
            result.resolve(
                dataset_types={
                    d["name"]: DatasetType(
                        d["name"], d["dimensions"], d["storage_class"], isCalibration=d["is_calibration"]
                    )
                    for d in document["dataset_types"]
                }
            )
        return result

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        return PipelineGraph.from_document, (self.to_document(),)
