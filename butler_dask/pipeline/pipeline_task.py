"""The base class of tasks, and what a task sees of the butler while it runs.

A task reads and writes through a `QuantumContext`, which knows one quantum only. The Protocol behind it is
declared here, by its consumer; both butlers fit it without inheriting.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lsst.pex.config import Config

from .quantized_connections import (
    DeferredDatasetRef,
    InputQuantizedConnection,
    OutputQuantizedConnection,
)
from .struct import Struct
from .task_config import PipelineTaskConfig
from .task_metadata import TaskMetadata

if TYPE_CHECKING:
    from ..vocabulary.data_id import DataCoordinate
    from ..vocabulary.dataset import DatasetRef

__all__ = ["ExecutionResources", "PipelineTask", "QuantumContext", "QuantumStore", "Task"]


class QuantumStore(Protocol):
    """What a quantum needs of a butler."""

    def get(self, ref: Any, /, *, parameters: Mapping[str, Any] | None = None) -> Any:
        """Read a dataset (or component)."""
        ...

    def getDeferred(self, ref: Any, /) -> Any:
        """Return a handle that reads when asked."""
        ...

    def put(self, obj: Any, ref: Any, /) -> Any:
        """Write a dataset under the identity the ref has."""
        ...


@dataclass(frozen=True)
class ExecutionResources:
    """What a quantum may use.

    Parameters
    ----------
    num_cores : `int`
        Number of cores.
    max_mem_bytes : `int`, optional
        Memory, if limited.
    """

    num_cores: int = 1
    max_mem_bytes: int | None = None


class QuantumContext:
    """The butler of one quantum, as a task sees it.

    Parameters
    ----------
    butler : `QuantumStore`
        Reads and writes.
    quantum : quantum with ``dataId``, ``inputs`` and ``outputs``
        The only datasets that can be read or written.
    resources : `ExecutionResources`, optional
        What the quantum may use.

    Attributes
    ----------
    quantum
        The quantum.
    allInputs, allOutputs : `set` of (dataset type name, data ID)
        What can be read and written.
    outputsPut : `set` of (dataset type name, data ID)
        What was written so far.
    """

    def __init__(
        self, butler: QuantumStore, quantum: Any, *, resources: ExecutionResources | None = None
    ) -> None:
        self._butler = butler
        self.quantum = quantum
        self.resources = resources or ExecutionResources()
        self.allInputs = {_identity(ref) for refs in quantum.inputs.values() for ref in refs}
        self.allOutputs = {_identity(ref) for refs in quantum.outputs.values() for ref in refs}
        self.outputsPut: set[tuple[str, DataCoordinate]] = set()

    @property
    def dataId(self) -> DataCoordinate:
        """Data ID of the quantum."""
        data_id: DataCoordinate = self.quantum.dataId
        return data_id

    def get(self, dataset: Any) -> Any:
        """Read datasets.

        Parameters
        ----------
        dataset : `InputQuantizedConnection`, list of refs, ref, deferred ref, or `None`
            What to read.

        Returns
        -------
        objects : `dict`, `list` or object
            By connection name for an `InputQuantizedConnection`, a list for a list; handles for deferred
            refs; `None` for `None`.

        Raises
        ------
        ValueError
            A dataset is no input of this quantum.
        """
        if isinstance(dataset, InputQuantizedConnection):
            return {name: self.get(refs) for name, refs in dataset}
        if isinstance(dataset, list | tuple):
            return [self.get(ref) for ref in dataset]
        if dataset is None:
            return None
        if isinstance(dataset, DeferredDatasetRef):
            self._check_known(dataset.datasetRef, self.allInputs, "input")
            return self._butler.getDeferred(dataset.datasetRef)
        self._check_known(dataset, self.allInputs, "input")
        return self._butler.get(dataset)

    def put(self, values: Any, dataset: Any) -> None:
        """Write datasets.

        Parameters
        ----------
        values : `Struct`, list or object
            A Struct with an attribute per connection for an `OutputQuantizedConnection`, a list for a list of
            refs, an object for one ref. An attribute that is missing or `None` is not written.
        dataset : `OutputQuantizedConnection`, list of refs, or ref
            What to write it as.

        Raises
        ------
        ValueError
            A dataset is no output of this quantum, or there are more or fewer values than refs.
        TypeError
            No `Struct` was given for an `OutputQuantizedConnection`.
        """
        if isinstance(dataset, OutputQuantizedConnection):
            if not isinstance(values, Struct):
                raise TypeError(
                    f"The outputs of a task are a Struct with the attributes {sorted(dataset.keys())}, "
                    f"not {type(values).__name__}"
                )
            for name, refs in dataset:
                value = getattr(values, name, None)
                if value is not None and refs is not None:
                    self._put_connection(name, value, refs)
        else:
            self._put_connection("", values, dataset)

    def _put_connection(self, name: str, value: Any, refs: Any) -> None:
        """Write what belongs to one connection."""
        if not isinstance(refs, list | tuple):
            self._put(value, refs)
            return
        values = value if isinstance(value, list | tuple) else list(value)
        if len(values) != len(refs):
            where = f"Output {name!r}" if name else "Outputs"
            raise ValueError(f"{where}: {len(values)} objects for {len(refs)} datasets")
        for one, ref in zip(values, refs, strict=True):
            if one is not None:
                self._put(one, ref)

    def _put(self, value: Any, ref: DatasetRef) -> None:
        self._check_known(ref, self.allOutputs, "output")
        self._butler.put(value, ref)
        self.outputsPut.add(_identity(ref))

    def _check_known(self, ref: DatasetRef, known: set[tuple[str, DataCoordinate]], kind: str) -> None:
        name, data_id = _identity(ref)
        parent = name.split(".", 1)[0]
        if (name, data_id) not in known and (parent, data_id) not in known:
            raise ValueError(f"{name!r} {data_id} is no {kind} of this quantum ({self.quantum.dataId})")


def _identity(ref: DatasetRef) -> tuple[str, DataCoordinate]:
    """Return what identifies a dataset inside a quantum."""
    return ref.datasetType.name, ref.dataId


class Task:
    """An algorithm with a configuration, a logger, metadata and subtasks.

    Parameters
    ----------
    config : `lsst.pex.config.Config`, optional
        Configuration; the defaults of ``ConfigClass`` where not given.
    name : `str`, optional
        Name inside the parent task; ``_DefaultName`` where not given.
    parentTask : `Task`, optional
        The task this one is part of.
    log : `logging.Logger`, optional
        Logger; by default the one named ``_DefaultName``, or the parent's child of this name.

    Attributes
    ----------
    config, log
        As given.
    metadata : `TaskMetadata`
        What is to be remembered about this execution.
    """

    ConfigClass: ClassVar[type[Any]] = Config
    _DefaultName: ClassVar[str] = ""

    def __init__(
        self,
        config: Any = None,
        name: str | None = None,
        parentTask: Task | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.config = self.ConfigClass() if config is None else config
        self.config.validate()
        self.metadata = TaskMetadata()
        self.log: logging.Logger
        self._name = name or self._DefaultName or type(self).__name__
        self._parent = parentTask
        self._subtasks: dict[str, Task] = {}
        if log is None and parentTask is not None:
            log = parentTask.log.getChild(self._name)
        self.log = log if log is not None else logging.getLogger(self._DefaultName or self._name)

    def getName(self) -> str:
        """Return the name inside the parent task."""
        return self._name

    def getFullName(self) -> str:
        """Return the dotted name from the top task down."""
        return f"{self._parent.getFullName()}.{self._name}" if self._parent else self._name

    def makeSubtask(self, name: str, **kwargs: Any) -> None:
        """Make the attribute ``name`` from the `lsst.pex.config.ConfigurableField` of that name."""
        field = getattr(self.config, name)
        subtask = field.apply(name=name, parentTask=self, **kwargs)
        self._subtasks[name] = subtask
        setattr(self, name, subtask)

    def emptyMetadata(self) -> None:
        """Forget the metadata of this task and its subtasks."""
        self.metadata = TaskMetadata()
        for subtask in self._subtasks.values():
            subtask.emptyMetadata()

    def getFullMetadata(self) -> TaskMetadata:
        """Return the metadata of this task and its subtasks, by full name with ``:`` between the parts."""
        result = TaskMetadata()
        for name, metadata in self._iter_metadata():
            result.metadata[name.replace(".", ":")] = metadata
        return result

    def _iter_metadata(self) -> list[tuple[str, TaskMetadata]]:
        found = [(self.getFullName(), self.metadata)]
        for subtask in self._subtasks.values():
            found += subtask._iter_metadata()
        return found


class PipelineTask(Task):
    """A task whose inputs and outputs are datasets.

    Parameters
    ----------
    config : `PipelineTaskConfig`, optional
        Configuration; defaults where not given.
    log : `logging.Logger`, optional
        Logger; by default the one named ``_DefaultName``.
    initInputs : `dict`, optional
        Objects by the names of the init-input connections.
    **kwargs
        Passed to `Task` (``name``, ``parentTask``).

    Notes
    -----
    A subclass sets ``ConfigClass`` and ``_DefaultName`` and defines ``run(**inputs) -> Struct`` with an
    argument per input connection and a result per output connection. Attributes named as init-output
    connections are stored once a run.
    """

    ConfigClass: ClassVar[type[PipelineTaskConfig]]

    run: Any
    """``run(**inputs) -> Struct``: the algorithm on objects in memory."""

    def __init__(
        self,
        *,
        config: Any = None,
        log: logging.Logger | None = None,
        initInputs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config=config, log=log, **kwargs)

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Read all inputs, call ``run``, write all outputs; override to do these otherwise.

        Parameters
        ----------
        butlerQC : `QuantumContext`
            Reads and writes the datasets of this quantum.
        inputRefs, outputRefs
            Refs by connection name.
        """
        outputs = self.run(**butlerQC.get(inputRefs))
        butlerQC.put(outputs, outputRefs)
