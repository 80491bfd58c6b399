"""QuantumGraph: quanta and datasets as columns, the edges between them as CSR arrays.

Quanta are rows 0..n-1, grouped by task in topological order; datasets are rows 0..m-1, grouped by dataset
type. Everything done for all of them is done on arrays (a million quanta with their edges take some 200 MB,
as objects they would take 20 GB); a `Quantum` or `DatasetRef` is made when somebody asks for one.
"""

from __future__ import annotations

import bisect
import functools
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ButlerUserError, did_you_mean
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_id import new_dataset_ids
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.file_record import FileRecord
from .graph_columns import (
    DatasetColumns,
    Edges,
    InitDataset,
    TaskColumns,
)
from .quantum import Quantum
from .quantum_id import quantum_ids


@dataclass(frozen=True)
class QuantumGraph:
    """All executions a pipeline needs for some data, and the datasets between them.

    Parameters
    ----------
    run : `str`
        RUN collection of the outputs.
    tasks : `tuple` [`TaskColumns`, ...]
        Tasks in an order in which they can run, each with its quanta.
    dataset_types : `tuple` [`DatasetColumns`, ...]
        Dataset types, each with its datasets.
    inputs_of, outputs_of : `Edges`
        Datasets read and written by each quantum.
    quantum_ids : `numpy.ndarray`, shape (n_quanta, 16), uint8
        UUID bytes of each quantum.
    output : `str` or `None`
        CHAINED collection the run belongs to.
    inputs : `tuple` [`str`, ...]
        Collections the inputs were searched in.
    init_inputs, init_outputs : `tuple` [`InitDataset`, ...]
        Datasets read and written once a run; ``<label>_config`` and ``packages`` are among the latter.
    records : mapping of `str` to `dict`
        Dimension records by element name, then by required values; attached to the data IDs of quanta.
    pipeline : `str`
        The pipeline as YAML, for people.
    metadata : mapping
        Further facts (JSON values): expression, user, time, datastore root.
    plan_id : `str`
        Identity of this graph, 32 hexadecimal digits.

    Notes
    -----
    Equality is identity. `graph_file.write_graph` and `read_graph` save and open one.
    """

    run: str
    tasks: tuple[TaskColumns, ...]
    dataset_types: tuple[DatasetColumns, ...]
    inputs_of: Edges
    outputs_of: Edges
    quantum_ids: NDArray[np.uint8]
    output: str | None = None
    inputs: tuple[str, ...] = ()
    init_inputs: tuple[InitDataset, ...] = ()
    init_outputs: tuple[InitDataset, ...] = ()
    records: Mapping[str, Mapping[tuple[Any, ...], DimensionRecord]] = field(default_factory=dict, repr=False)
    pipeline: str = field(default="", repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    plan_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __post_init__(self) -> None:
        n = len(self.quantum_ids)
        for name, edges in (("inputs_of", self.inputs_of), ("outputs_of", self.outputs_of)):
            if len(edges.indptr) != n + 1:
                raise ValueError(f"{n} quanta, but {name}.indptr has {len(edges.indptr)} values")
        first = 0
        for task in self.tasks:
            if task.first_quantum != first:
                raise ValueError(f"Quanta of {task.label!r} start at {task.first_quantum}, not at {first}")
            first += len(task)
        if first != n:
            raise ValueError(f"{n} quantum ids, but the tasks have {first} quanta")

    # -- counts -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.quantum_ids)

    @property
    def n_datasets(self) -> int:
        """Number of datasets, read or written."""
        last = self.dataset_types[-1] if self.dataset_types else None
        return 0 if last is None else last.first_row + len(last)

    def summary(self) -> str:
        """Return the line users know: how many quanta for how many tasks.

        Returns
        -------
        line : `str`
            Without a full stop.
        """
        # Tasks that have nothing left to do count, and nothing is put into the singular, as in the tutorial.
        return f"QuantumGraph contains {len(self)} quanta for {len(self.tasks)} tasks"

    def counts(self) -> dict[str, int]:
        """Return the number of quanta by task label.

        Returns
        -------
        counts : `dict` [`str`, `int`]
            In the tasks' order.
        """
        return {t.label: len(t) for t in self.tasks}

    def __repr__(self) -> str:
        return f"QuantumGraph({self.run!r}, {len(self)} quanta, {self.n_datasets} datasets)"

    # -- edges --------------------------------------------------------------------------------------------

    @cached_property
    def producer(self) -> NDArray[np.int32]:
        """Row of the quantum that writes each dataset, -1 for those only read; shape (n_datasets,), int32."""
        producer = np.full(self.n_datasets, -1, dtype=np.int32)
        producer[self.outputs_of.indices] = self.outputs_of.quantum_rows()
        return producer

    def predecessors(self, row: int) -> NDArray[np.int32]:
        """Return the rows of the quanta that write what a quantum reads, sorted.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        rows : `numpy.ndarray`, shape (m,), int32
            Each once.
        """
        makers = np.unique(self.producer[self.inputs_of.of(row)])
        return makers[makers >= 0]

    def dependency_csr(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return which quanta each quantum waits for.

        Returns
        -------
        indptr : `numpy.ndarray`, shape (n_quanta + 1,), int64
            Those of quantum ``i`` are ``indices[indptr[i]:indptr[i + 1]]``.
        indices : `numpy.ndarray`, shape (n,), int32
            Quantum rows, sorted and unique within each quantum.
        """
        return self._dependencies

    @cached_property
    def _dependencies(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        makers = self.producer[self.inputs_of.indices].astype(np.int64)
        known = makers >= 0
        pairs = self.inputs_of.quantum_rows()[known].astype(np.int64) * max(len(self), 1) + makers[known]
        return _csr(np.unique(pairs), len(self))

    def dependent_csr(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return which quanta wait for each quantum, as `dependency_csr` does for the other direction.

        Returns
        -------
        indptr : `numpy.ndarray`, shape (n_quanta + 1,), int64
            Those of quantum ``i`` are ``indices[indptr[i]:indptr[i + 1]]``.
        indices : `numpy.ndarray`, shape (n,), int32
            Quantum rows, sorted and unique within each quantum.
        """
        return self._dependents

    @cached_property
    def _dependents(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        indptr, indices = self._dependencies
        rows = np.repeat(np.arange(len(self), dtype=np.int64), np.diff(indptr))
        return _csr(np.sort(indices.astype(np.int64) * max(len(self), 1) + rows), len(self))

    # -- look-up ------------------------------------------------------------------------------------------

    @cached_property
    def _first_quanta(self) -> list[int]:
        return [t.first_quantum for t in self.tasks]

    @cached_property
    def _first_datasets(self) -> list[int]:
        return [d.first_row for d in self.dataset_types]

    def task_index(self, row: int) -> int:
        """Return the index in ``tasks`` of a quantum row's task.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        index : `int`
            Of a task that has quanta.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        self._check(row, len(self), "quantum")
        # Empty tasks share their first row with the next one; the last of equals is the one that has it.
        return bisect.bisect_right(self._first_quanta, row) - 1

    def task_of(self, row: int) -> TaskColumns:
        """Return the task of a quantum row.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        task : `TaskColumns`
            Its task, with all quanta of it.
        """
        return self.tasks[self.task_index(row)]

    def task(self, label: str) -> TaskColumns:
        """Return a task by its label.

        Parameters
        ----------
        label : `str`
            Task label.

        Returns
        -------
        task : `TaskColumns`
            With its quanta.

        Raises
        ------
        ButlerUserError
            If the graph has none of that label.
        """
        for t in self.tasks:
            if t.label == label:
                return t
        labels = [t.label for t in self.tasks]
        raise ButlerUserError(
            f"The graph has no task {label!r}.{did_you_mean(label, labels)} It has {labels}."
        )

    def data_id(self, row: int) -> DataCoordinate:
        """Return the data ID of a quantum row, with dimension records where the graph has all of them.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        data_id : `DataCoordinate`
            Of the task's dimensions.
        """
        task = self.task_of(row)
        data_id = task.data_ids[row - task.first_quantum]
        return self._with_records(data_id) if self.records else data_id

    def _with_records(self, data_id: DataCoordinate) -> DataCoordinate:
        if not data_id.hasFull():
            return data_id
        group = data_id.dimensions
        values = data_id.mapping
        found: dict[str, DimensionRecord | None] = {}
        for name, required in _elements_with_records(group):
            of_element = self.records.get(name)
            key = tuple([values[r] for r in required])
            found[name] = None if of_element is None else of_element.get(key)
        return DataCoordinate(group, tuple(values.values()), found)

    def type_index(self, dataset_row: int) -> int:
        """Return the index in ``dataset_types`` of a dataset row.

        Parameters
        ----------
        dataset_row : `int`
            Row of the dataset.

        Returns
        -------
        index : `int`
            Of a type that has datasets.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        self._check(dataset_row, self.n_datasets, "dataset")
        return bisect.bisect_right(self._first_datasets, dataset_row) - 1

    def ref(self, dataset_row: int) -> DatasetRef:
        """Return the dataset of a row, as stored.

        Parameters
        ----------
        dataset_row : `int`
            Row of the dataset.

        Returns
        -------
        ref : `DatasetRef`
            In the run it is or will be in.
        """
        columns = self.dataset_types[self.type_index(dataset_row)]
        return columns.table[dataset_row - columns.first_row]

    def file_record(self, dataset_row: int) -> FileRecord | None:
        """Return where a dataset is stored, or `None` if it did not exist when the graph was made.

        Parameters
        ----------
        dataset_row : `int`
            Row of the dataset.

        Returns
        -------
        file : `FileRecord` or `None`
            As recorded when the graph was made.
        """
        columns = self.dataset_types[self.type_index(dataset_row)]
        return None if columns.files is None else columns.files[dataset_row - columns.first_row]

    def input_files(self, row: int) -> dict[uuid.UUID, FileRecord]:
        """Return where the existing inputs of a quantum are stored, by dataset id.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        files : `dict` [`uuid.UUID`, `FileRecord`]
            Without those that other quanta are to make.
        """
        found = {}
        for dataset_row in np.unique(self.inputs_of.of(row)).tolist():
            record = self.file_record(dataset_row)
            if record is not None:
                found[self.dataset_id(dataset_row)] = record
        return found

    def dataset_id(self, dataset_row: int) -> uuid.UUID:
        """Return the UUID of a dataset row.

        Parameters
        ----------
        dataset_row : `int`
            Row of the dataset.

        Returns
        -------
        id : `uuid.UUID`
            The dataset's.
        """
        columns = self.dataset_types[self.type_index(dataset_row)]
        return columns.table.id(dataset_row - columns.first_row)

    def quantum_id(self, row: int) -> uuid.UUID:
        """Return the UUID of a quantum row.

        Parameters
        ----------
        row : `int`
            Row of the quantum.

        Returns
        -------
        id : `uuid.UUID`
            The same in every graph of this run, task and data ID.
        """
        return uuid.UUID(bytes=self.quantum_ids[row].tobytes())

    def quantum(self, row: int) -> Quantum:
        """Return a quantum.

        Parameters
        ----------
        row : `int`
            Row in the graph.

        Returns
        -------
        quantum : `Quantum`
            Made anew at each call.
        """
        task = self.task_of(row)
        data_id = self.data_id(row)
        # Most datasets of a quantum have its data ID, in one shared table: one object serves all.
        data_ids = {(id(task.data_ids), row - task.first_quantum): data_id}
        inputs: dict[str, list[DatasetRef]] = {c.name: [] for c in task.connections if c.kind != "output"}
        outputs: dict[str, list[DatasetRef]] = {c.name: [] for c in task.connections if c.kind == "output"}
        for edges, refs in ((self.inputs_of, inputs), (self.outputs_of, outputs)):
            span = slice(int(edges.indptr[row]), int(edges.indptr[row + 1]))
            pairs = zip(edges.indices[span].tolist(), edges.connections[span].tolist(), strict=True)
            for dataset_row, code in pairs:
                connection = task.connections[code]
                columns = self.dataset_types[self.type_index(dataset_row)]
                table, place = columns.table, dataset_row - columns.first_row
                key = (id(table.data_ids), place)
                if key not in data_ids:
                    data_ids[key] = table.data_ids[place]
                ref = DatasetRef(connection.dataset_type, data_ids[key], table.run(place), id=table.id(place))
                refs[connection.name].append(ref)
        return Quantum(self.quantum_id(row), task.label, task.task_class_name, data_id, inputs, outputs, row)

    def __getitem__(self, row: int) -> Quantum:
        return self.quantum(row)

    def __iter__(self) -> Iterator[Quantum]:
        return (self.quantum(i) for i in range(len(self)))

    def quantum_row(self, label: str, data_id: Mapping[str, Any] | DataCoordinate) -> int:
        """Return the row of the quantum of a task and data ID.

        Parameters
        ----------
        label : `str`
            Task label.
        data_id : mapping or `DataCoordinate`
            At least the required values.

        Returns
        -------
        row : `int`
            Row in the graph.

        Raises
        ------
        KeyError
            If there is no such quantum.
        """
        task = self.task(label)
        wanted = DataCoordinate.standardize(data_id, dimensions=task.dimensions)
        found = np.ones(len(task), dtype=bool)
        for name, value in wanted.required.items():
            categories = task.data_ids.categories.get(name)
            if categories is not None:
                value = categories.index(str(value)) if value in categories else -1
            found &= task.data_ids.columns[name] == value
        rows = np.flatnonzero(found)
        if not len(rows):
            raise KeyError(f"No quantum of {label!r} for {wanted}")
        return task.first_quantum + int(rows[0])

    def dataset_type(self, name: str) -> DatasetColumns:
        """Return the datasets of a type by its name.

        Parameters
        ----------
        name : `str`
            Dataset type name.

        Returns
        -------
        datasets : `DatasetColumns`
            Those the graph reads or writes.

        Raises
        ------
        ButlerUserError
            If the graph has none.
        """
        for columns in self.dataset_types:
            if columns.dataset_type.name == name:
                return columns
        names = [d.dataset_type.name for d in self.dataset_types]
        raise ButlerUserError(f"The graph has no dataset type {name!r}.{did_you_mean(name, names)}")

    def output_dataset_types(self) -> list[DatasetType]:
        """Return the types of everything the graph writes, init-outputs included, each once.

        Returns
        -------
        types : `list` [`DatasetType`]
            Init-outputs first.
        """
        written = {t.ref.datasetType.name: t.ref.datasetType for t in self.init_outputs}
        # A task whose quanta were all skipped has connections but no datasets.
        agreed = {d.dataset_type.name: d.dataset_type for d in self.dataset_types}
        for task in self.tasks:
            for c in task.connections:
                if c.kind == "output":
                    name = c.dataset_type.name
                    written.setdefault(name, agreed.get(name, c.dataset_type))
        return list(written.values())

    def in_run(self, run: str) -> QuantumGraph:
        """Return the same graph writing to another RUN, as a plan of its own.

        What it writes has new ids, so that both may be executed: a dataset is in one RUN. Ids of quanta are
        those of the other run.

        Parameters
        ----------
        run : `str`
            The other RUN.

        Returns
        -------
        graph : `QuantumGraph`
            It shares what does not change.
        """
        types = []
        for d in self.dataset_types:
            t = d.table
            if self.run in t.runs:
                # What is only read stays where it is, even if it is in this run.
                written = (self.producer[d.first_row : d.first_row + len(d)] >= 0) & (
                    t.run_codes == t.runs.index(self.run)
                )
                codes = np.where(written, len(t.runs), t.run_codes).astype(np.int32)
                dataset_ids = t.ids.copy()
                dataset_ids[written] = new_dataset_ids(int(np.count_nonzero(written)))
                moved = DatasetTable(t.dataset_type, t.data_ids, dataset_ids, codes, (*t.runs, run))
                d = replace(d, table=moved)
            types.append(d)
        own = {
            item.ref.id: DatasetRef(item.ref.datasetType, item.ref.dataId, run) for item in self.init_outputs
        }
        inits = [replace(item, ref=own[item.ref.id], file=None) for item in self.init_outputs]
        reads = tuple(
            replace(i, ref=own[i.ref.id], file=None) if i.ref.id in own else i for i in self.init_inputs
        )
        ids = [quantum_ids(run, task.label, task.data_ids) for task in self.tasks]
        return replace(
            self,
            run=run,
            dataset_types=tuple(types),
            init_inputs=reads,
            init_outputs=tuple(inits),
            quantum_ids=np.concatenate(ids) if ids else self.quantum_ids,
            metadata={**self.metadata, "output_run": run},
            plan_id=uuid.uuid4().hex,
        )

    @staticmethod
    def _check(row: int, count: int, what: str) -> None:
        if not 0 <= row < count:
            raise IndexError(f"There is no {what} {row}; the graph has {count}")


@functools.lru_cache(maxsize=256)
def _elements_with_records(group: DimensionGroup) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the elements of a group that have records, and which values identify one."""
    elements = (group.universe[name] for name in group.elements)
    return tuple((e.name, e.required) for e in elements if e.has_records)


def _csr(pairs: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return compressed rows of sorted codes ``row * n + column``."""
    rows, columns = np.divmod(pairs, max(n, 1))
    indptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return indptr, columns.astype(np.int32)
