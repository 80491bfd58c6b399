"""Quantum: one execution of a task, with the datasets it reads and writes.

A Quantum exists only while somebody looks at one; a million of them are columns of a QuantumGraph.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType


class RefsByType(Mapping[DatasetType, Sequence[DatasetRef]]):
    """Datasets by their type; a dataset type's name serves as key too.

    Parameters
    ----------
    refs : mapping of `DatasetType` to sequence of `DatasetRef`
        The datasets, one entry a type name.
    """

    __slots__ = ("_by_name", "_types")

    def __init__(self, refs: Mapping[DatasetType, Sequence[DatasetRef]]) -> None:
        self._types = {t.name: t for t in refs}
        self._by_name = {t.name: tuple(r) for t, r in refs.items()}

    def __getitem__(self, key: DatasetType | str) -> Sequence[DatasetRef]:
        return self._by_name[key if isinstance(key, str) else key.name]

    def __contains__(self, key: object) -> bool:
        return (key.name if isinstance(key, DatasetType) else key) in self._by_name

    def __iter__(self) -> Iterator[DatasetType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dataset types."""
        return tuple(self._types)

    def __repr__(self) -> str:
        return f"RefsByType({ {n: len(r) for n, r in self._by_name.items()} })"

    def __reduce__(self) -> tuple[Any, ...]:
        return RefsByType, ({t: self._by_name[t.name] for t in self},)


@dataclass(frozen=True, slots=True)
class Quantum:
    """One execution of a task.

    Parameters
    ----------
    id : `uuid.UUID`
        Its identity, the same in every attempt.
    taskLabel : `str`
        Label of the task in the pipeline.
    taskName : `str`
        Dotted name of the task class.
    dataId : `DataCoordinate`
        Data ID.
    inputs_by_connection, outputs_by_connection : mapping of `str` to sequence of `DatasetRef`
        Datasets by connection name, as the task sees them (component, storage class). The outputs have
        ``_metadata`` and ``_log`` beside the task's own connections.
    row : `int`
        Row in its graph, -1 for one made by hand.
    """

    id: uuid.UUID
    taskLabel: str
    taskName: str
    dataId: DataCoordinate
    inputs_by_connection: Mapping[str, Sequence[DatasetRef]] = field(default_factory=dict)
    outputs_by_connection: Mapping[str, Sequence[DatasetRef]] = field(default_factory=dict)
    row: int = -1

    @property
    def inputs(self) -> RefsByType:
        """Datasets it reads, by dataset type (or its name)."""
        return _by_type(self.inputs_by_connection)

    @property
    def outputs(self) -> RefsByType:
        """Datasets it writes, by dataset type (or its name); metadata and log included."""
        return _by_type(self.outputs_by_connection)

    @property
    def metadata_ref(self) -> DatasetRef | None:
        """The metadata dataset, whose existence means success."""
        return next(iter(self.outputs_by_connection.get("_metadata", ())), None)

    @property
    def log_ref(self) -> DatasetRef | None:
        """The log dataset."""
        return next(iter(self.outputs_by_connection.get("_log", ())), None)

    def __repr__(self) -> str:
        return f"Quantum({self.taskLabel}, {self.dataId}, {self.id})"


def _by_type(connections: Mapping[str, Sequence[DatasetRef]]) -> RefsByType:
    # Two connections may read one dataset type; each dataset counts once.
    types: dict[str, DatasetType] = {}
    refs: dict[str, dict[uuid.UUID, DatasetRef]] = {}
    for group in connections.values():
        for ref in group:
            types.setdefault(ref.datasetType.name, ref.datasetType)
            refs.setdefault(ref.datasetType.name, {}).setdefault(ref.id, ref)
    return RefsByType({t: tuple(refs[n].values()) for n, t in types.items()})
