"""Whether the columns of a graph read from a file fit each other, so that no row of it leads nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable
from .graph_columns import DatasetColumns, Edges
from .quantum_graph import QuantumGraph
from .string_column import StringColumn


def check_graph(graph: QuantumGraph) -> None:
    """Raise unless all rows, codes and offsets of a graph lie within what they point into.

    Parameters
    ----------
    graph : `QuantumGraph`
        As it was read.

    Raises
    ------
    ValueError
        If one does not; says which.
    """
    texts = (graph.run, graph.pipeline, graph.plan_id, graph.output or "", *graph.inputs)
    if not all(isinstance(text, str) for text in texts) or not isinstance(graph.metadata, dict):
        raise ValueError("names that are no texts")
    row = 0
    for columns in graph.dataset_types:
        if columns.first_row != row:
            raise ValueError(
                f"datasets of {columns.dataset_type.name!r} start at {columns.first_row}, not {row}"
            )
        row += len(columns)
        _check_datasets(columns)
    for task in graph.tasks:
        _check_data_ids(task.data_ids, task.label)
    for name, edges in (("inputs", graph.inputs_of), ("outputs", graph.outputs_of)):
        _check_edges(graph, edges, name)


def _check_datasets(columns: DatasetColumns) -> None:
    name, table, files = columns.dataset_type.name, columns.table, columns.files
    _check_data_ids(table.data_ids, name)
    _check_codes(table.run_codes, len(columns), len(table.runs), f"runs of {name!r}")
    if files is not None:
        _check_codes(files.formatter_codes, len(columns), len(files.formatters), f"formatters of {name!r}")
        _check_codes(
            files.storage_class_codes,
            len(columns),
            len(files.storage_classes),
            f"storage classes of {name!r}",
        )
        for texts in (files.paths, files.checksums):
            check_texts(texts, f"files of {name!r}")


def _check_data_ids(table: DataIdTable, owner: str) -> None:
    for name, column in table.columns.items():
        if column.shape != (len(table),):
            raise ValueError(f"column {name!r} of {owner!r} has shape {column.shape}, not {(len(table),)}")
        if name in table.categories:
            # -1 is a value that is not known.
            _check_codes(column, len(table), len(table.categories[name]), f"{name} of {owner!r}", lowest=-1)


def _check_codes(codes: NDArray[Any], length: int, count: int, what: str, lowest: int = 0) -> None:
    """Raise unless there are so many codes, each below a count."""
    if codes.shape != (length,):
        raise ValueError(f"{what} have shape {codes.shape}, not {(length,)}")
    if length and not lowest <= int(codes.min()) <= int(codes.max()) < count:
        raise ValueError(f"{what}: numbers from {int(codes.min())} to {int(codes.max())}, but {count} names")


def check_texts(texts: Any, what: str) -> None:
    """Raise unless the offsets of a column of texts rise and end within its bytes.

    Parameters
    ----------
    texts : sequence of `str`
        The column.
    what : `str`
        What it is, for the message.

    Raises
    ------
    ValueError
        If they do not.
    """
    if not isinstance(texts, StringColumn):
        return
    offsets = texts.offsets
    if offsets.ndim != 1 or not len(offsets) or offsets[0] < 0 or offsets[-1] > len(texts.data):
        raise ValueError(f"texts of {what} end outside their bytes")
    if (np.diff(offsets) < 0).any():
        raise ValueError(f"texts of {what} end before they begin")


def _check_edges(graph: QuantumGraph, edges: Edges, name: str) -> None:
    indptr, indices = edges.indptr, edges.indices
    if int(indptr[0]) != 0 or (np.diff(indptr) < 0).any():
        raise ValueError(f"{name} of quanta end before they begin")
    _check_codes(indices, len(indices), graph.n_datasets, f"{name} of quanta")
    for task in graph.tasks:
        first, last = indptr[task.first_quantum], indptr[task.first_quantum + len(task)]
        codes = edges.connections[first:last]
        _check_codes(codes, int(last - first), len(task.connections), f"connections of {task.label!r}")
