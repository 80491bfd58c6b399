"""ChainedDatastore: several datastores as one.

A dataset is written to every member that accepts it, under one path, and read from the first that has it:
memory before files, a near disk before a far store. What is recorded is the first file, if any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..errors import DatasetTypeError, RepositoryError
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.file_record import FileRecord
from .dataset_constraints import DatasetConstraints
from .dataset_layout import DatasetLayout
from .datastore import Datastore, StagedDataset


@dataclass(slots=True)
class StagedCopies:
    """One object staged in several datastores.

    Parameters
    ----------
    record : `FileRecord`
        What to record of it.
    copies : sequence of `StagedDataset`
        One for each datastore.
    """

    record: FileRecord
    copies: Sequence[StagedDataset]

    def publish(self) -> None:
        """Give all copies their name, or none."""
        with ExitStack() as undo:
            for copy in self.copies:
                copy.publish()
                undo.callback(copy.retract)
            undo.pop_all()

    def discard(self) -> None:
        """Remove all copies."""
        for copy in self.copies:
            copy.discard()

    def retract(self) -> None:
        """Take back all copies."""
        for copy in self.copies:
            copy.retract()


class ChainedDatastore(Datastore):
    """Several datastores as one.

    Parameters
    ----------
    members : sequence of (`Datastore`, `DatasetConstraints`)
        Datastores in the order in which they are read, and what each takes.
    layout : `DatasetLayout`
        Path and formatter of each dataset, in all of them.

    Raises
    ------
    RepositoryError
        If there is none.
    """

    def __init__(
        self, members: Sequence[tuple[Datastore, DatasetConstraints]], layout: DatasetLayout
    ) -> None:
        if not members:
            raise RepositoryError("A chain of datastores needs at least one member")
        self._members, self.layout = list(members), layout
        self.members = [store for store, _ in members]
        """The datastores, in the order in which they are read."""
        self._main = _first_with_files(self.members)
        self.root, self.durability = self._main.root, self._main.durability

    def _accepting(self, ref: DatasetRef) -> list[Datastore]:
        found = [store for store, constraints in self._members if constraints.accepts(ref)]
        if not found:
            raise DatasetTypeError(
                f"No datastore of the chain accepts {ref.datasetType.name} "
                f"({ref.datasetType.storageClass_name}); see `datastore: members:` in butler.yaml."
            )
        return found

    # Looking

    def _having(self, path: str) -> Datastore | None:
        return next((store for store in self.members if store.exists(path)), None)

    def uri(self, path: str) -> str:
        """Return the URI in the first member that has the path, else in the first with files."""
        return (self._having(path) or self._main).uri(path)

    def exists(self, path: str) -> bool:
        """Return whether any member has it."""
        return self._having(path) is not None

    def exist(self, paths: Sequence[str]) -> list[bool]:
        """Return for each path whether any member has it."""
        return [any(found) for found in zip(*(store.exist(paths) for store in self.members), strict=True)]

    def modified(self, path: str) -> float:
        """Return when the first copy was written [s since 1970]."""
        return (self._having(path) or self._main).modified(path)

    def files(self) -> Iterator[tuple[str, int]]:
        """Return path and size of what any member has."""
        found: dict[str, int] = {}
        for store in reversed(self.members):
            found.update(store.files())
        yield from found.items()

    def check(self, file: FileRecord, *, checksum: bool = False) -> str | None:
        """Return what is wrong with the first copy that is not right, or `None`."""
        having = [store for store in self.members if store.exists(file.path)]
        if not having:
            return "is missing"
        problems = (store.check(file, checksum=checksum) for store in having)
        return next((p for p in problems if p), None)

    # Writing

    def stage(self, obj: Any, ref: DatasetRef, *, path: str | None = None) -> StagedCopies:
        """Prepare to put an object into every member that accepts it."""
        path = path or self.layout.path(ref)
        copies: list[StagedDataset] = []
        record: FileRecord | None = None
        with ExitStack() as undo:
            for store in self._accepting(ref):
                copy = store.stage(obj, ref, path=path)
                undo.callback(copy.discard)
                copies.append(copy)
                if record is None and store.keeps_files:
                    record = copy.record
            undo.pop_all()
        return StagedCopies(record or self.predicted_record(ref).moved(path), copies)

    def stage_ingest(
        self,
        path: str,
        ref: DatasetRef,
        transfer: str = "auto",
        formatter: Any = None,
        *,
        storage_class: str | None = None,
    ) -> StagedDataset:
        """Prepare to take a file into the first member that accepts it and keeps files, and no other."""
        store = _first_with_files(self._accepting(ref))
        return store.stage_ingest(path, ref, transfer, formatter, storage_class=storage_class)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove all copies."""
        wanted = list(paths)
        for store in self.members:
            store.remove(wanted)

    # Reading

    def get(
        self,
        file: FileRecord,
        ref: DatasetRef,
        *,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | None = None,
    ) -> Any:
        """Read an object, or part of it, from the first member that has it."""
        store = self._having(file.path) or self._main
        return store.get(file, ref, parameters=parameters, storage_class=storage_class)


def _first_with_files(stores: Sequence[Datastore]) -> Datastore:
    """Return the first of some datastores that keeps files, or the first where none does."""
    return next((store for store in stores if store.keeps_files), stores[0])
