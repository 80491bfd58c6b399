"""What the construction of the tasks reads and writes, once a graph: configurations, schemas, packages."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InitInputMissingError
from ..pipeline.pipeline_graph import PipelineGraph
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse
from .graph_columns import InitDataset
from .input_search import InputSearch


def find_init_datasets(
    pipeline: PipelineGraph, search: InputSearch, run: str, *, run_exists: bool
) -> tuple[tuple[InitDataset, ...], tuple[InitDataset, ...]]:
    """Return what the construction of the tasks reads and writes.

    Parameters
    ----------
    pipeline : `PipelineGraph`
        The tasks, resolved.
    search : `InputSearch`
        Finds what exists, and no task of the pipeline writes, in its collections.
    run : `str`
        RUN that takes what is written.
    run_exists : `bool`
        Whether it is there, and may hold some already: those keep their ids.

    Returns
    -------
    read, written : `tuple` [`InitDataset`, ...]
        Both by task in the pipeline's order; ``written`` ends with the versions of packages.

    Raises
    ------
    InitInputMissingError
        If a dataset a task is constructed with does not exist; all are named.
    """
    nothing = DataIdTable.from_values(DimensionUniverse().empty, {}, 1)
    written: dict[str, InitDataset] = {}
    read: list[InitDataset] = []

    def existing(kind: DatasetType, collections: Sequence[str]) -> InitDataset | None:
        found = search.find(kind, nothing, collections)
        if found is None or found.rows[0] < 0:
            return None
        row = int(found.rows[0])
        return InitDataset("", "", found.table[row], found.files[row])

    def output(label: str, connection: str, kind: DatasetType) -> InitDataset:
        known = existing(kind, [run]) if run_exists else None
        if known is not None:
            return InitDataset(label, connection, known.ref, known.file)
        return InitDataset(label, connection, DatasetRef(kind, DataCoordinate.make_empty(), run))

    missing = []
    for task in pipeline.tasks.values():
        for edge in task.init_inputs.values():
            kind = pipeline.dataset_types[edge.parent_dataset_type_name].dataset_type
            made = written.get(kind.name) or existing(kind, search.collections)
            if made is None:
                missing.append(f"{kind.name!r} for {task.label!r} (connection {edge.connection_name!r})")
            else:
                read.append(InitDataset(task.label, edge.connection_name, made.ref, made.file))
        for edge in task.iter_all_init_outputs():
            kind = pipeline.dataset_types[edge.parent_dataset_type_name].dataset_type
            written[kind.name] = output(task.label, edge.connection_name, kind)
    if missing:
        where = ", ".join(map(repr, search.collections)) or "none"
        raise InitInputMissingError(
            f"Datasets needed to construct tasks do not exist: {', '.join(missing)}. Searched, in order: "
            f"{where}. Add the collection that holds them with --input, or the task that makes them."
        )
    packages = output("", "_packages", pipeline.packages_dataset_type)
    return tuple(read), (*written.values(), packages)
