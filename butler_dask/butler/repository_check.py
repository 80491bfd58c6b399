"""RepositoryCheck: whether what is recorded is there, and whether what is there is recorded.

In a repository whose processes were killed the only debris is files: unfinished ones (``.tmp``), ones that
were not recorded yet, ones whose removal was not finished. After a power loss, with durability "rename",
files that are recorded may be damaged as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..datastore.datastore import Datastore
from ..errors import DatasetFileError, MissingCollectionError, RunInUseError
from ..published_file import is_temporary
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset import DatasetRef, DatasetTable, tables_of_refs
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileTable
from ..vocabulary.path_name import quoted_run
from .open_repository import OpenRepository

_LOG, _METADATA = "ButlerLogRecords", "TaskMetadata"
"""Storage classes of what is written about quanta."""


@dataclass(frozen=True, slots=True)
class FileFault:
    """A recorded file that is not what was recorded.

    Parameters
    ----------
    ref : `DatasetRef`
        Dataset it holds.
    path : `str`
        Recorded path.
    what : `str`
        What is wrong with it.
    """

    ref: DatasetRef
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.ref.datasetType.name} {self.ref.dataId} in {self.ref.run!r}: {self.path} {self.what}"


@dataclass(slots=True)
class RepositoryCheck:
    """What a check of a repository found.

    Parameters
    ----------
    schema : `list` [`str`]
        How the registry's tables differ from what its schema version says. Nothing here repairs that.
    checked : `int`
        Recorded files looked at.
    faults : `list` [`FileFault`]
        Recorded files that are missing or damaged.
    unrecorded : `list` [`str`]
        Files of runs that are not recorded. Those of a run that is going on are recorded within a second;
        those of one that died, when it is started again.
    unfinished : `list` [`str`]
        Temporary files; of processes that died, unless one is writing just now.
    pending : `list` [`str`]
        Files whose datasets were removed and that are to be deleted.
    """

    schema: list[str] = field(default_factory=list)
    checked: int = 0
    faults: list[FileFault] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to repair."""
        return not (self.schema or self.faults or self.unrecorded or self.unfinished or self.pending)

    def lines(self) -> list[str]:
        """Return a line for each thing found, and a summary at the end."""
        out = [f"schema: {what}" for what in self.schema]
        out += [f"damaged: {fault}" for fault in self.faults]
        for name in ("unrecorded", "unfinished", "pending"):
            out += [f"{name}: {path}" for path in getattr(self, name)]
        out.append(
            f"{self.checked} files checked: {len(self.faults)} missing or damaged, "
            f"{len(self.unrecorded)} not recorded, {len(self.unfinished)} unfinished, "
            f"{len(self.pending)} to be deleted."
        )
        return out


def check_repository(repository: OpenRepository, *, checksums: bool = False) -> RepositoryCheck:
    """Compare what is recorded with the files there are.

    Parameters
    ----------
    repository : `OpenRepository`
        What is recorded, and the files.
    checksums : `bool`
        Read all files and compare checksums (else existence and size only).
    """
    registry, datastore = repository.registry, repository.datastore
    out = RepositoryCheck(registry.schema_differences(), pending=registry.datasets.pending_deletions())
    pending = set(out.pending)
    state: dict[str, str | None] = {}
    runs = [i.name for i in registry.collections.query("*", types={CollectionType.RUN})]
    # Listed before the records are read: a file put meanwhile is recorded and not listed, never the reverse.
    listed = [path for path, _ in datastore.files()]
    for run in runs:
        for table, files in _recorded(repository, run):
            for row, file in enumerate(files):
                if file is None or file.path in pending:
                    continue
                if file.path not in state:
                    # Several datasets may be in one file: all are damaged with it.
                    state[file.path] = datastore.check(file, checksum=checksums)
                what = state[file.path]
                if what is not None:
                    out.faults.append(FileFault(table[row], file.path, what))
    out.faults = list(_still_there(repository, out.faults, checksums))
    out.checked = len(state)
    recorded = pending.union(state)
    prefixes = tuple(f"{quoted_run(run)}/" for run in runs)
    types = tuple(f"{t.name}_" for t in registry.dataset_types.query())
    for path in listed:
        if path in recorded or path.startswith("."):
            continue
        if is_temporary(path):
            out.unfinished.append(path)
        elif (prefixes and path.startswith(prefixes)) or (types and _of_a_dataset(path, types)):
            out.unrecorded.append(path)
    for paths in (out.unrecorded, out.unfinished):
        paths[:] = [p for p, there in zip(paths, datastore.exist(paths), strict=True) if there]
    return out


def _recorded(repository: OpenRepository, run: str) -> list[tuple[DatasetTable, FileTable]]:
    """Return the datasets of a run and their files as they are at one moment: none if it was just removed."""
    registry = repository.registry
    try:
        with registry.snapshot():
            tables = registry.datasets.existing_in_run(run).values()
            return [(table, registry.datasets.files_of(table)) for table in tables]
    except MissingCollectionError:
        return []


def _still_there(
    repository: OpenRepository, faults: Sequence[FileFault], checksums: bool
) -> Iterator[FileFault]:
    """Yield the faults that are no datasets just being removed, or put anew, by others."""
    files = repository.registry.datasets.files_of_ids([fault.ref.id for fault in faults])
    for fault, file in zip(faults, files, strict=True):
        if file is not None and file.path == fault.path:
            what = repository.datastore.check(file, checksum=checksums)
            if what is not None:
                yield FileFault(fault.ref, fault.path, what)


def _of_a_dataset(path: str, types: tuple[str, ...]) -> bool:
    """Return whether a path looks like a dataset's: type as a directory, and at the start of the name."""
    *directories, name = path.split("/")
    return any(name.startswith(t) and t[:-1] in directories for t in types)


def repair_repository(
    repository: OpenRepository, found: RepositoryCheck, *, older_than_s: float = 3600.0
) -> list[str]:
    """Make a repository consistent again.

    Datasets whose files are missing or damaged are removed, with the metadata of the quanta that wrote them,
    so that a rerun makes them again; files that are not recorded or not finished are deleted, as are those
    that were to be deleted anyway. Nobody begins to write a run meanwhile.

    Parameters
    ----------
    repository : `OpenRepository`
        What is recorded, and the files.
    found : `RepositoryCheck`
        What `check_repository` found.
    older_than_s : `float`
        Files younger than this are left: somebody may be writing them [s].

    Returns
    -------
    left : `list` [`str`]
        Who writes which run just now, a sentence each; these were left alone.
    """
    runs = [i.name for i in repository.registry.collections.query("*", types={CollectionType.RUN})]
    by_directory = {quoted_run(run): run for run in runs}
    stray = [*found.unrecorded, *found.unfinished]
    run_of = {path: _run_above(path, by_directory) for path in stray}
    datastore, claims = repository.datastore, repository.registry.claims
    limit = time.time() - older_than_s
    left: dict[str, str] = {}
    with claims.kept():
        for run in sorted({*run_of.values(), *(fault.ref.run for fault in found.faults)} - {""}):
            try:
                claims.take(run)
            except RunInUseError as error:
                left[run] = str(error)
        # Under the write lock, as every removal: nobody puts a dataset under such a path meanwhile.
        with repository.transaction():
            faults = [fault for fault in found.faults if fault.ref.run not in left]
            known = repository.registry.datasets.find_many([fault.ref.id for fault in faults])
            # Others may have removed some since they were found.
            faults = [fault for fault, ref in zip(faults, known, strict=True) if ref is not None]
            lost = {fault.ref.id: fault.ref for fault in faults}
            for ref in _metadata_of(repository, faults):
                lost.setdefault(ref.id, ref)
            repository.remove_unrecorded(
                _older(datastore, [p for p in stray if run_of[p] not in left], limit)
            )
            repository.remove_datasets(tables_of_refs(lost.values()))
    return list(left.values())


def _run_above(path: str, by_directory: Mapping[str, str]) -> str:
    """Return the run a file is of, the innermost if the name of one is above another's; empty if of none."""
    while path:
        path = path.rpartition("/")[0]
        if path in by_directory:
            return by_directory[path]
    return ""


def _metadata_of(repository: OpenRepository, faults: Sequence[FileFault]) -> Iterator[DatasetRef]:
    """Yield the metadata of the quanta that wrote damaged files: it would say that they are finished.

    The data ID of a quantum is part of that of each dataset it writes, so there is one to look at for each
    task of that run. A log that is lost is no reason to do a quantum again.
    """
    registry, datastore = repository.registry, repository.datastore
    kinds: dict[str, list[DatasetType]] = {}
    for fault in faults:
        ref = fault.ref
        if ref.datasetType.storageClass_name in (_LOG, _METADATA):
            continue
        if ref.run not in kinds:
            names = sorted(registry.collections.get(ref.run, include_summary=True).dataset_types or ())
            types = registry.dataset_types.query(names)
            kinds[ref.run] = [t for t in types if t.storageClass_name == _METADATA]
        for kind in kinds[ref.run]:
            if not set(kind.dimensions.required) <= set(ref.datasetType.dimensions.required):
                continue
            metadata = registry.search.find_one(kind, ref.dataId.subset(kind.dimensions), [ref.run])
            file = None if metadata is None else registry.datasets.files_of_ids([metadata.id])[0]
            if metadata is None or file is None:
                continue
            try:
                written = datastore.get(file, metadata).metadata["quantum"].arrays["outputPaths"]
            except (DatasetFileError, KeyError, ValueError, AttributeError):
                continue  # damaged itself, or not of a quantum that was run here
            if fault.path in written:
                yield metadata


def _older(datastore: Datastore, paths: Iterable[str], limit: float) -> list[str]:
    out = []
    for path in paths:
        try:
            if datastore.modified(path) < limit:
                out.append(path)
        except DatasetFileError:  # gone meanwhile
            continue
    return out
