"""The one definition of a dataset type that all its connections have to fit.

A repository's definition comes before that of the task that writes it, and this before those that read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import (
    ConnectionTypeConsistencyError,
    IncompatibleDatasetTypeError,
    MissingDatasetTypeError,
    PipelineGraphError,
    did_you_mean,
)
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.storage_class import StorageClass, find_storage_class
from .pipeline_nodes import DatasetTypeNode, Edge, TaskNode, conform, required_names

__all__ = ["agreed", "check_definable", "convertible"]


def check_definable(node: DatasetTypeNode) -> None:
    """Check that the connections of an unregistered overall input define it.

    Raises
    ------
    MissingDatasetTypeError
        They leave open its pixelization, or the whole of which only a component is read.
    """
    for edge in node.consuming_edges:
        if edge.uses_skypix:
            raise MissingDatasetTypeError(
                f"Dataset type {node.name!r} of {edge.task_label}.{edge.connection_name} is not registered, "
                "and its sky pixelization (skypix) is whatever it is registered with. Register and ingest it "
                f"(`butler register-dataset-type REPO {node.name} {edge.storage_class_name} htm7`), or "
                "switch off what needs it in the configuration."
            )
    if all(edge.component for edge in node.consuming_edges):
        edge = node.consuming_edges[0]
        raise MissingDatasetTypeError(
            f"Dataset type {node.name!r}, whose component {edge.component!r} {edge.task_label} reads, is not "
            "registered and no task writes it. Give an --input collection of a repository that has it."
        )


def agreed(
    tasks: Mapping[str, TaskNode], registered: Mapping[str, DatasetType]
) -> tuple[dict[str, TaskNode], dict[str, DatasetTypeNode]]:
    """Find the one definition of each dataset type that tasks write and read.

    Parameters
    ----------
    tasks : mapping of `str` to `TaskNode`
        Tasks by label, in the order they run.
    registered : mapping of `str` to `DatasetType`
        Definitions of a repository, by name.

    Returns
    -------
    tasks : `dict` of `str` to `TaskNode`
        The tasks, their ``skypix`` connections with the pixelization of their dataset types.
    dataset_types : `dict` of `str` to `DatasetTypeNode`
        Dataset types by name, in the order the tasks name them.

    Raises
    ------
    IncompatibleDatasetTypeError
        A connection contradicts a registered definition.
    ConnectionTypeConsistencyError
        Connections contradict each other.
    """
    producing = {
        edge.dataset_type_name: edge
        for task in tasks.values()
        for edge in (*task.iter_all_init_outputs(), *task.iter_all_outputs())
    }
    defined = {n: edge.dimensions for n, edge in producing.items()}
    defined |= {n: dataset_type.dimensions for n, dataset_type in registered.items()}
    skypix = {n: dimensions.skypix[0] for n, dimensions in defined.items() if dimensions.skypix}
    resolved = {label: _with_skypix(task, skypix) for label, task in tasks.items()}
    consuming: dict[str, list[Edge]] = {}
    names: dict[str, None] = {}
    for task in resolved.values():
        for edge in (*task.init_inputs.values(), *task.iter_all_inputs()):
            names[edge.parent_dataset_type_name] = None
            consuming.setdefault(edge.parent_dataset_type_name, []).append(edge)
        for edge in (*task.iter_all_init_outputs(), *task.iter_all_outputs()):
            names[edge.dataset_type_name] = None
    nodes = {
        name: _agreed_node(name, producing.get(name), consuming.get(name, []), registered.get(name))
        for name in names
    }
    return resolved, nodes


def _with_skypix(task: TaskNode, skypix: Mapping[str, str]) -> TaskNode:
    """Return a task whose ``skypix`` connections have the pixelization of their dataset types.

    Parameters
    ----------
    task : `TaskNode`
        The task.
    skypix : mapping of `str` to `str`
        Pixelization (``htm7``) by dataset type name.
    """
    if not any(edge.uses_skypix for edge in task.iter_edges()):
        return task

    def resolved(edges: Mapping[str, Edge]) -> Mapping[str, Edge]:
        return {
            name: replace(
                edge, dimensions=conform(edge.raw_dimensions, skypix.get(edge.parent_dataset_type_name))
            )
            for name, edge in edges.items()
        }

    return replace(
        task,
        inputs=resolved(task.inputs),
        prerequisite_inputs=resolved(task.prerequisite_inputs),
    )


def _agreed_node(
    name: str, producing: Edge | None, consuming: list[Edge], registered: DatasetType | None
) -> DatasetTypeNode:
    """Return the node of a dataset type: the registered definition, else the writer's, else the readers'.

    Parameters
    ----------
    name : `str`
        Dataset type name.
    producing : `Edge` or `None`
        What writes it.
    consuming : `list` of `Edge`
        What reads it.
    registered : `DatasetType` or `None`
        The repository's definition.

    Raises
    ------
    IncompatibleDatasetTypeError
        A connection contradicts the registered definition.
    ConnectionTypeConsistencyError
        Connections contradict each other.
    """
    node_edges = ([producing] if producing else []) + consuming
    prerequisite = [edge for edge in consuming if edge.is_prerequisite]
    if prerequisite and producing is not None:
        raise ConnectionTypeConsistencyError(
            f"Dataset type {name!r} is a prerequisite input of {prerequisite[0].task_label!r}, so it "
            f"must exist before the run, but {producing.task_label!r} writes it. Declare it as Input, "
            f"or run the tasks one after the other (FILE#{producing.task_label} first)."
        )
    error: type[PipelineGraphError]
    if registered is not None:
        definition, origin, error = registered, "the repository", IncompatibleDatasetTypeError
    else:
        whole = next((edge for edge in node_edges if edge.component is None), None)
        first = whole or node_edges[0]
        # Without a repository nothing is known about the whole of which only a component is read.
        storage_class = first.storage_class_name if whole else "StructuredData"
        definition = DatasetType(name, first.dimensions, storage_class, isCalibration=first.is_calibration)
        origin, error = f"{first.task_label}.{first.connection_name}", ConnectionTypeConsistencyError
    for edge in node_edges:
        _check_edge(edge, definition, origin, error, known=registered is not None or producing is not None)
    if (
        registered is not None
        and producing is not None
        and producing.is_calibration != registered.isCalibration()
    ):
        raise IncompatibleDatasetTypeError(
            f"{producing.task_label}.{producing.connection_name} writes {name!r} with isCalibration="
            f"{producing.is_calibration}, but it is registered with {registered.isCalibration()}."
        )
    return DatasetTypeNode(name, definition, producing, tuple(consuming), registered is not None)


def _check_edge(
    edge: Edge, definition: DatasetType, origin: str, error: type[PipelineGraphError], known: bool
) -> None:
    """Raise if a connection does not fit the definition of its dataset type."""
    where = f"{edge.task_label}.{edge.connection_name}"
    if edge.dimensions != definition.dimensions:
        raise error(
            f"Dataset type {definition.name!r} has dimensions {required_names(edge.dimensions)} in {where}, "
            f"but {required_names(definition.dimensions)} in {origin}. Choose another dataset type name with "
            f"{edge.task_label}:connections.{edge.connection_name}=..."
        )
    stored = find_storage_class(definition.storageClass_name)
    if edge.component is not None:
        if not known and stored.name == "StructuredData":
            return
        if edge.component not in stored.components:
            raise error(
                f"{where} reads component {edge.component!r} of {definition.name!r}, but its storage class "
                f"{stored.name} ({origin}) has no such component."
                f"{did_you_mean(edge.component, stored.components)}"
            )
        stored = find_storage_class(stored.components[edge.component])
    wanted = find_storage_class(edge.storage_class_name)
    if not convertible(stored, wanted):
        raise error(
            f"Dataset type {edge.dataset_type_name!r} has storage class {wanted.name} in {where}, but "
            f"{stored.name} in {origin}, and one cannot be converted into the other."
        )


def convertible(stored: StorageClass, wanted: StorageClass) -> bool:
    """Return whether an object of one storage class serves where the other is declared."""
    if stored.name == wanted.name or stored.pytype_name == wanted.pytype_name:
        return True
    return "object" in (stored.pytype_name, wanted.pytype_name)
