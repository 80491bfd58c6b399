"""The columns of a quantum graph: tasks with their quanta, dataset types with their datasets, edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.file_record import FileRecord, FileTable

METADATA_CONNECTION = "_metadata"
"""Connection name of the metadata every quantum writes last."""
LOG_CONNECTION = "_log"
"""Connection name of the log every quantum writes."""
ABOUT_QUANTA = frozenset((METADATA_CONNECTION, LOG_CONNECTION))
"""Connection names of what is written about quanta, not by tasks."""

ConnectionKind: TypeAlias = Literal["input", "prerequisite", "output"]
"""What a connection is for a quantum."""


@dataclass(frozen=True, slots=True)
class GraphConnection:
    """One connection of a task, as far as its quanta need it.

    Parameters
    ----------
    name : `str`
        Attribute of the connections class, or ``_metadata``, ``_log``.
    kind : `str`
        ``input``, ``prerequisite`` or ``output``.
    dataset_type : `DatasetType`
        As the task sees it: maybe a component, maybe another storage class than the stored one.
    """

    name: str
    kind: ConnectionKind
    dataset_type: DatasetType


@dataclass(frozen=True, slots=True)
class TaskColumns:
    """One task and its quanta.

    Parameters
    ----------
    label, task_class_name : `str`
        Label in the pipeline, dotted name of the class.
    config_text : `str`
        Overrides that make its configuration, as `lsst.pex.config` writes them.
    dimensions : `DimensionGroup`
        Of its quanta.
    first_quantum : `int`
        Row of its first quantum; its quanta are ``rows``.
    data_ids : `DataIdTable`
        Data ID of each of its quanta.
    connections : `tuple` [`GraphConnection`, ...]
        Its connections; the graph's connection columns are indices into this tuple.
    """

    label: str
    task_class_name: str
    config_text: str
    dimensions: DimensionGroup
    first_quantum: int
    data_ids: DataIdTable
    connections: tuple[GraphConnection, ...]

    def __len__(self) -> int:
        return len(self.data_ids)

    @property
    def rows(self) -> range:
        """Rows of its quanta."""
        return range(self.first_quantum, self.first_quantum + len(self.data_ids))


@dataclass(frozen=True, slots=True)
class DatasetColumns:
    """One dataset type and its datasets in the graph.

    Parameters
    ----------
    table : `DatasetTable`
        The datasets: data IDs, UUIDs, runs. ``table.dataset_type`` is as stored.
    first_row : `int`
        Row of the first in the graph; they are ``rows``.
    files : `FileTable` or `None`
        Where existing ones are stored, row by row; `None` if none exists.
    """

    table: DatasetTable
    first_row: int
    files: FileTable | None = None

    @property
    def dataset_type(self) -> DatasetType:
        """Their type, as stored."""
        return self.table.dataset_type

    @property
    def rows(self) -> range:
        """Rows of the datasets in the graph."""
        return range(self.first_row, self.first_row + len(self.table))

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True, slots=True)
class InitDataset:
    """A dataset read or written once a run, not once a quantum.

    Parameters
    ----------
    label : `str`
        Task label; empty for ``packages``.
    connection : `str`
        Name of the init connection; ``_config`` and ``_packages`` for the implicit ones.
    ref : `DatasetRef`
        The dataset.
    file : `FileRecord` or `None`
        Where it is stored, if it exists already.
    """

    label: str
    connection: str
    ref: DatasetRef
    file: FileRecord | None = None


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges from quanta to datasets, in compressed rows.

    Parameters
    ----------
    indptr : `numpy.ndarray`, shape (n_quanta + 1,), int64
        Edges of quantum ``i`` are ``indptr[i]:indptr[i + 1]``.
    indices : `numpy.ndarray`, shape (n_edges,), int32
        Dataset row of each edge.
    connections : `numpy.ndarray`, shape (n_edges,), int16
        Index into the task's ``connections`` of each edge.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    connections: NDArray[np.int16]

    def __post_init__(self) -> None:
        n = int(self.indptr[-1])
        if len(self.indices) != n or len(self.connections) != n:
            raise ValueError(
                f"{n} edges by indptr, {len(self.indices)} indices, {len(self.connections)} connections"
            )

    def of(self, row: int) -> NDArray[np.int32]:
        """Return the dataset rows of a quantum.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        dataset_rows : `numpy.ndarray`, shape (m,), int32
            A view, in the order of the task's connections.
        """
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def quantum_rows(self) -> NDArray[np.int32]:
        """Return the quantum row of each edge, shape (n_edges,).

        Returns
        -------
        rows : `numpy.ndarray`, shape (n_edges,), int32
            Rising.
        """
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int32), np.diff(self.indptr))


def edges_of_lists(rows: Sequence[Sequence[tuple[int, int]]]) -> Edges:
    """Make edges from a list of (dataset row, connection index) for each quantum.

    Parameters
    ----------
    rows : sequence of sequences of (`int`, `int`)
        For each quantum its edges.

    Returns
    -------
    edges : `Edges`
        In the same order.
    """
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(r) for r in rows], out=indptr[1:])
    flat = np.array([pair for r in rows for pair in r], dtype=np.int64).reshape(-1, 2)
    return Edges(indptr, flat[:, 0].astype(np.int32), flat[:, 1].astype(np.int16))
