"""QuantumButler: reads and writes the datasets of one quantum, without a database.

Where its inputs are is known from the quantum graph, where its outputs go follows from their references.
What an earlier quantum of the same process put can be handed over in memory: a snapshot is taken at the
put, so a task that goes on changing its object changes nothing for others.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from uuid import UUID

from ..datastore.datastore import Datastore
from ..datastore.deferred_dataset import DeferredDatasetHandle
from ..datastore.formatter import converted
from ..datastore.snapshot import component_of, snapshot
from ..errors import DatasetNotFoundError, DatasetTypeError, RunInUseError
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.file_record import FileRecord
from ..vocabulary.storage_class import StorageClass


class QuantumButler:
    """The datasets of one quantum.

    Parameters
    ----------
    datastore : `Datastore`
        The files.
    files : mapping of `uuid.UUID` to `FileRecord`
        Where the inputs are.
    outputs : mapping of `uuid.UUID` to `DatasetRef`
        What may be put.
    memory : mutable mapping of `uuid.UUID` to object, optional
        Objects put earlier in this process, looked into before the files; what is put goes in as well.
    last_uses : container of `uuid.UUID`, optional
        Objects in ``memory`` nobody else will read: handed over without a copy, and forgotten.
    kept : container of `uuid.UUID`, optional
        Outputs a later quantum will read from ``memory``; all of them when not given.
    plan_copy : `pathlib.Path`, optional
        The copy of the plan in the repository; without it nothing is written, see `require_plan`.

    Attributes
    ----------
    written : `dict` [`uuid.UUID`, `FileRecord`]
        What was put, to be recorded.
    read : `set` [`uuid.UUID`]
        What was read.
    """

    def __init__(
        self,
        datastore: Datastore,
        files: Mapping[UUID, FileRecord],
        outputs: Mapping[UUID, DatasetRef],
        *,
        memory: MutableMapping[UUID, Any] | None = None,
        last_uses: Container[UUID] = (),
        kept: Container[UUID] | None = None,
        plan_copy: Path | None = None,
    ) -> None:
        self._datastore, self._files, self._outputs = datastore, files, outputs
        self._memory, self._last_uses, self._kept = memory, last_uses, kept
        self._plan_copy = plan_copy
        self.written: dict[UUID, FileRecord] = {}
        self.read: set[UUID] = set()

    @property
    def datastore(self) -> Datastore:
        """The files."""
        return self._datastore

    def get(
        self,
        ref: DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: StorageClass | str | None = None,
    ) -> Any:
        """Read an input (or what this quantum has put), or a component of it.

        Parameters
        ----------
        ref : `DatasetRef`
            The dataset.
        parameters : mapping, optional
            What the storage class allows (``bbox``, ``columns``).
        storageClass : `str` or `StorageClass`, optional
            Kind of object wanted.

        Returns
        -------
        obj : object
            Of the storage class wanted.

        Raises
        ------
        DatasetNotFoundError
            If it is no dataset of this quantum.
        DatasetFileError
            If its file is missing or damaged.
        """
        name = storageClass.name if isinstance(storageClass, StorageClass) else storageClass
        if self._memory is not None and not parameters and ref.id in self._memory:
            obj = self._from_memory(ref)
            self.read.add(ref.id)
            wanted = name or (None if ref.isComponent() else ref.datasetType.storageClass_name)
            return obj if wanted is None or obj is None else converted(obj, wanted)
        file = self._files.get(ref.id) or self.written.get(ref.id)
        if file is None:
            raise DatasetNotFoundError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is no input of this quantum"
            )
        obj = self._datastore.get(file, ref, parameters=parameters, storage_class=name)
        self.read.add(ref.id)
        return obj

    def _from_memory(self, ref: DatasetRef) -> Any:
        assert self._memory is not None
        component = ref.datasetType.component()
        if component is not None:
            part = component_of(self._memory[ref.id], component)
            return snapshot(part)
        if ref.id in self._last_uses:
            return self._memory.pop(ref.id)
        return snapshot(self._memory[ref.id])

    def getDeferred(
        self,
        ref: DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: StorageClass | str | None = None,
    ) -> DeferredDatasetHandle:
        """Return a handle that reads when asked.

        Parameters
        ----------
        ref : `DatasetRef`
            The dataset.
        parameters : mapping, optional
            As for `get`; may be given when reading, too.
        storageClass : `str` or `StorageClass`, optional
            As for `get`.

        Returns
        -------
        handle : `DeferredDatasetHandle`
            It reads at each ``get``.

        Raises
        ------
        DatasetNotFoundError
            If it is no dataset of this quantum.
        """
        if ref.id not in self._files and ref.id not in self.written and ref.id not in (self._memory or ()):
            raise DatasetNotFoundError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is no input of this quantum"
            )
        return DeferredDatasetHandle(self, ref, parameters, storageClass)

    def put(self, obj: Any, ref: DatasetRef, /) -> DatasetRef:
        """Write an output.

        Parameters
        ----------
        obj : object
            What to write.
        ref : `DatasetRef`
            Which output it is. Written twice, the second replaces the first.

        Returns
        -------
        ref : `DatasetRef`
            As given.

        Raises
        ------
        DatasetTypeError
            If it is no output of this quantum.
        DatasetFileError
            If it cannot be written; nothing is left behind.
        RunInUseError
            If another command has taken over the run.
        """
        if ref.id not in self._outputs:
            raise DatasetTypeError(
                f"{ref.datasetType.name} {ref.dataId} in run {ref.run!r} is no output of this quantum"
            )
        self.require_plan()
        self.written[ref.id] = self._datastore.put(obj, ref)
        if self._memory is not None and (self._kept is None or ref.id in self._kept):
            self._memory[ref.id] = snapshot(obj)
        return ref

    def require_plan(self) -> None:
        """Raise if the run is another command's by now.

        Who takes over a run that was left drops the plan in the repository. The command that had it may be
        gone, and workers of its cluster still at a quantum: its files must not replace those of the same
        quantum under the new plan.

        Raises
        ------
        RunInUseError
            If the plan was dropped.
        """
        if self._plan_copy is not None and not self._plan_copy.exists():
            raise RunInUseError(
                f"The plan {self._plan_copy} is gone: its run was removed, or taken over by another command. "
                "Nothing more is written under it."
            )
