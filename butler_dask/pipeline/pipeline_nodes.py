"""Nodes and edges of a pipeline graph: tasks, dataset types, and the connections between them.

All are immutable; `PipelineGraph` replaces them when it resolves dataset types.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DatasetTypeError, DimensionNameError
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.dotted_name import dotted_name
from ..vocabulary.storage_class import find_storage_class
from .connection_types import (
    BaseConnection,
    BaseInput,
    DimensionedConnection,
    Input,
    LookupFunction,
    PrerequisiteInput,
)
from .connections import PipelineTaskConnections

__all__ = ["DatasetTypeNode", "Edge", "TaskNode"]

CONFIG_STORAGE_CLASS = "Config"
LOG_STORAGE_CLASS = "ButlerLogRecords"
METADATA_STORAGE_CLASS = "TaskMetadata"


def conform(names: Iterable[str], skypix: str | None = None) -> DimensionGroup:
    """Return the group of dimensions as connections declare them.

    Parameters
    ----------
    names : iterable of `str`
        Dimensions; ``skypix`` stands for a pixelization.
    skypix : `str`, optional
        Which one (``htm7``); the common one where not said.
    """
    universe = DimensionUniverse()
    default = skypix or universe.commonSkyPix.name
    return universe.conform([default if name == "skypix" else name for name in names])


def required_names(dimensions: DimensionGroup) -> str:
    """Return the dimensions that identify a data ID, as people read them: ``{instrument, visit}``."""
    return "{" + ", ".join(dimensions.required) + "}"


@dataclass(frozen=True)
class Edge:
    """A connection between a task and a dataset type.

    Parameters
    ----------
    task_label : `str`
        The task.
    connection_name : `str`
        The attribute of its connections.
    dataset_type_name : `str`
        Dataset type as the task names it, component included.
    storage_class_name : `str`
        Storage class the task reads or writes.
    kind : `str`
        ``inputs``, ``prerequisite_inputs``, ``outputs``, ``init_inputs`` or ``init_outputs``.
    raw_dimensions : `frozenset` of `str`
        Dimensions as declared (may hold ``skypix``).
    dimensions : `DimensionGroup`
        Dimensions of the dataset type; ``skypix`` is the common one until the graph is resolved.
    is_calibration : `bool`
        Whether the task expects datasets with validity ranges.
    multiple : `bool`
        Whether a quantum has several.
    minimum : `int`
        Least number a quantum needs.
    defer_load : `bool`
        Whether handles are passed.
    defer_query_constraint : `bool`
        Whether the input is left out of the query for data IDs.
    lookup_function : callable, optional
        The author's own search for a prerequisite.
    """

    task_label: str
    connection_name: str
    dataset_type_name: str
    storage_class_name: str
    kind: str
    raw_dimensions: frozenset[str]
    dimensions: DimensionGroup
    is_calibration: bool = False
    multiple: bool = False
    minimum: int = 1
    defer_load: bool = False
    defer_query_constraint: bool = False
    lookup_function: LookupFunction | None = field(default=None, compare=False)

    @classmethod
    def from_connection(cls, label: str, connection: BaseConnection, kind: str) -> Edge:
        """Make the edge of a resolved connection.

        Parameters
        ----------
        label : `str`
            The task.
        connection : `BaseConnection`
            Its connection, with name and templates filled in.
        kind : `str`
            See `Edge`.

        Raises
        ------
        DimensionNameError
            It has a dimension there is none of.
        DatasetTypeError
            There is no such storage class.
        """
        dimensions: frozenset[str] = frozenset()
        if isinstance(connection, DimensionedConnection):
            dimensions = frozenset(connection.dimensions)
        try:
            group = conform(dimensions)
            find_storage_class(connection.storageClass)
        except (DimensionNameError, DatasetTypeError) as error:
            raise type(error)(f"Task {label!r}, connection {connection.varName!r}: {error}") from None
        return cls(
            label,
            connection.varName,
            connection.name,
            connection.storageClass,
            kind,
            dimensions,
            group,
            is_calibration=getattr(connection, "isCalibration", False),
            multiple=connection.multiple,
            minimum=connection.minimum if isinstance(connection, BaseInput) else 1,
            defer_load=connection.deferLoad if isinstance(connection, BaseInput) else False,
            defer_query_constraint=connection.deferGraphConstraint
            if isinstance(connection, Input)
            else False,
            lookup_function=connection.lookupFunction if isinstance(connection, PrerequisiteInput) else None,
        )

    @property
    def parent_dataset_type_name(self) -> str:
        """Dataset type without the component."""
        return self.dataset_type_name.partition(".")[0]

    @property
    def component(self) -> str | None:
        """Component the task reads, or `None`."""
        return self.dataset_type_name.partition(".")[2] or None

    @property
    def is_init(self) -> bool:
        """Whether it is read or written when tasks are constructed, not by quanta."""
        return self.kind.startswith("init")

    @property
    def is_prerequisite(self) -> bool:
        """Whether the dataset must exist before the graph is built."""
        return self.kind == "prerequisite_inputs"

    @property
    def uses_skypix(self) -> bool:
        """Whether the pixelization is taken from the registered dataset type."""
        return "skypix" in self.raw_dimensions

    def __str__(self) -> str:
        arrow = "->" if self.kind.endswith("outputs") else "<-"
        return f"{self.task_label}.{self.connection_name} {arrow} {self.dataset_type_name}"


@dataclass(frozen=True, eq=False)
class TaskNode:
    """A configured task.

    Parameters
    ----------
    label : `str`
        Its name in the pipeline.
    task_class : `type`
        The class.
    config : `PipelineTaskConfig`
        Frozen configuration.
    connections : `PipelineTaskConnections`
        Connections resolved with the configuration.
    inputs, prerequisite_inputs, outputs, init_inputs, init_outputs : mapping of `str` to `Edge`
        Edges by connection name. ``outputs`` and ``init_outputs`` hold the author's connections only.
    """

    label: str
    task_class: Any
    config: Any
    connections: PipelineTaskConnections
    inputs: Mapping[str, Edge]
    prerequisite_inputs: Mapping[str, Edge]
    outputs: Mapping[str, Edge]
    init_inputs: Mapping[str, Edge]
    init_outputs: Mapping[str, Edge]

    @classmethod
    def from_config(
        cls, label: str, task_class: Any, config: Any, connections: PipelineTaskConnections | None = None
    ) -> TaskNode:
        """Make the node of a task class with its configuration.

        Parameters
        ----------
        label : `str`
            Its name in the pipeline.
        task_class : `type`
            A `PipelineTask`.
        config : `PipelineTaskConfig`
            Its configuration, frozen.
        connections : `PipelineTaskConnections`, optional
            Resolved connections; made from the configuration where not given.
        """
        if connections is None:
            connections = config.ConnectionsClass(config=config)
        all_connections = connections.allConnections

        def edges(names: Iterable[str], kind: str) -> dict[str, Edge]:
            wanted = set(names)
            return {
                name: Edge.from_connection(label, connection, kind)
                for name, connection in all_connections.items()
                if name in wanted
            }

        return cls(
            label,
            task_class,
            config,
            connections,
            inputs=edges(connections.inputs, "inputs"),
            prerequisite_inputs=edges(connections.prerequisiteInputs, "prerequisite_inputs"),
            outputs=edges(connections.outputs, "outputs"),
            init_inputs=edges(connections.initInputs, "init_inputs"),
            init_outputs=edges(connections.initOutputs, "init_outputs"),
        )

    @property
    def task_class_name(self) -> str:
        """Dotted name of the class."""
        return dotted_name(self.task_class)

    @property
    def default_name(self) -> str:
        """The class's own name for itself, which its logger has."""
        return str(self.task_class._DefaultName)

    @property
    def raw_dimensions(self) -> frozenset[str]:
        """Dimensions of the quanta as declared."""
        dimensions: frozenset[str] = self.connections.dimensions
        return dimensions

    @functools.cached_property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the quanta."""
        return conform(self.raw_dimensions)

    @functools.cached_property
    def config_output(self) -> Edge:
        """The configuration, written once a run as ``<label>_config``."""
        return self._automatic_edge("config", CONFIG_STORAGE_CLASS, "init_outputs", ())

    @functools.cached_property
    def metadata_output(self) -> Edge:
        """What a quantum reports, written as ``<label>_metadata``: the mark of its success."""
        return self._automatic_edge("metadata", METADATA_STORAGE_CLASS, "outputs", self.raw_dimensions)

    @functools.cached_property
    def log_output(self) -> Edge | None:
        """The log lines of a quantum, ``<label>_log``; `None` where ``saveLogOutput`` is off."""
        if not self.config.saveLogOutput:
            return None
        return self._automatic_edge("log", LOG_STORAGE_CLASS, "outputs", self.raw_dimensions)

    def _automatic_edge(self, suffix: str, storage_class: str, kind: str, dimensions: Iterable[str]) -> Edge:
        names = frozenset(dimensions)
        return Edge(
            self.label, f"_{suffix}", f"{self.label}_{suffix}", storage_class, kind, names, conform(names)
        )

    def iter_all_inputs(self) -> Iterator[Edge]:
        """Iterate over inputs and prerequisite inputs of the quanta."""
        yield from self.inputs.values()
        yield from self.prerequisite_inputs.values()

    def iter_all_outputs(self) -> Iterator[Edge]:
        """Iterate over outputs of the quanta, metadata and log included."""
        yield from self.outputs.values()
        yield self.metadata_output
        if self.log_output is not None:
            yield self.log_output

    def iter_all_init_outputs(self) -> Iterator[Edge]:
        """Iterate over what is written once a run, the configuration included."""
        yield from self.init_outputs.values()
        yield self.config_output

    def iter_edges(self) -> Iterator[Edge]:
        """Iterate over all edges."""
        yield from self.init_inputs.values()
        yield from self.iter_all_inputs()
        yield from self.iter_all_init_outputs()
        yield from self.iter_all_outputs()

    def get_str_config(self) -> str:
        """Return the configuration as Python text."""
        return str(self.config.saveToString())

    def __repr__(self) -> str:
        return f"TaskNode({self.label!r}: {self.task_class_name}, {self.dimensions})"


@dataclass(frozen=True, eq=False)
class DatasetTypeNode:
    """A dataset type and who writes and reads it.

    Parameters
    ----------
    name : `str`
        Dataset type name (never a component).
    dataset_type : `DatasetType`
        The definition that holds throughout the graph. Before the graph is resolved with a repository it
        follows from the connections alone.
    producing_edge : `Edge`, optional
        What writes it; `None` for an overall input.
    consuming_edges : `tuple` of `Edge`
        What reads it.
    is_registered : `bool`
        Whether the definition is a repository's.
    """

    name: str
    dataset_type: DatasetType
    producing_edge: Edge | None
    consuming_edges: tuple[Edge, ...]
    is_registered: bool = False

    @property
    def producer(self) -> str | None:
        """Label of the task that writes it, or `None`."""
        return self.producing_edge.task_label if self.producing_edge else None

    @property
    def consumers(self) -> tuple[str, ...]:
        """Labels of the tasks that read it, each once."""
        return tuple(dict.fromkeys(edge.task_label for edge in self.consuming_edges))

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of its data IDs."""
        return self.dataset_type.dimensions

    @property
    def storage_class_name(self) -> str:
        """Storage class it is stored with."""
        return self.dataset_type.storageClass_name

    @property
    def is_calibration(self) -> bool:
        """Whether it has validity ranges."""
        return self.dataset_type.isCalibration()

    @property
    def is_prerequisite(self) -> bool:
        """Whether it is a prerequisite input of the whole pipeline."""
        return any(edge.is_prerequisite for edge in self.consuming_edges)

    @property
    def is_init(self) -> bool:
        """Whether it belongs to the construction of tasks."""
        edges = (self.producing_edge,) if self.producing_edge else self.consuming_edges
        return all(edge.is_init for edge in edges)

    @property
    def is_initial_query_constraint(self) -> bool:
        """Whether its existence may constrain the query for data IDs."""
        return (
            self.producing_edge is None
            and not self.is_prerequisite
            and not self.is_init
            and not all(edge.defer_query_constraint for edge in self.consuming_edges)
        )

    def __repr__(self) -> str:
        return f"DatasetTypeNode({self.name!r}, {self.dimensions}, {self.storage_class_name})"
