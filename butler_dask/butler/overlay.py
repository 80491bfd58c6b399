"""Overlay: a repository of one's own upon a shared one that is never written to.

The personal registry takes over the rows of the shared one (dimension records, dataset types, collections,
datasets), its files recorded where they are, by absolute URI: such files are never removed. From then on
every query, graph and run sees one repository, with the speed of one; whatever is written is personal. Each
opening of the personal repository compares a mark of the shared registry (a few system calls) and, if
something has changed there, takes over the differences in one transaction.

Attaching both databases to one connection was the alternative: nothing to copy, but only SQLite with
SQLite, every statement over a union of two tables whose row numbers must not meet, and a shared database on
a network disk asked by every query of a run. Given up for that: a gigabyte for some million datasets, unless
the collections are restricted.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ..datastore.datastore import Datastore
from ..datastore.storage_path import is_absolute
from ..errors import ReadOnlyRepositoryError
from ..published_file import published_name
from ..registry.registry import Registry
from ..vocabulary.collection import CollectionInfo, CollectionType
from ..vocabulary.dataset import DatasetAssociation, DatasetTable
from ..vocabulary.file_record import FileTable
from ..vocabulary.timespan import Timespan

_LOG = logging.getLogger("butler_dask.butler")
_MARK = "overlay_mark"


class OverlaySettings(Protocol):
    """What is asked here of a `Repository`."""

    @property
    def root(self) -> str:
        """Directory or URL."""

    @property
    def base(self) -> Mapping[str, Any]:
        """What is wanted of the shared repository."""

    @property
    def registry_url(self) -> str:
        """SQLAlchemy URL."""

    @property
    def lock_timeout_s(self) -> float:
        """How long to wait for other programs [s]."""

    def open_registry(self, *, writeable: bool) -> Registry:
        """Open its registry."""

    def open_datastore(self) -> Datastore:
        """Open its datastore."""


def open_overlay(settings: OverlaySettings, base: OverlaySettings, *, writeable: bool) -> Registry:
    """Open the registry of a repository upon a shared one; what is new there is taken over first.

    Parameters
    ----------
    settings, base : `Repository`
        The repository, and the shared one.
    writeable : `bool`
        Whether it may be changed.
    """
    own = _opened(settings, writeable)
    try:
        with closing(base.open_registry(writeable=False)) as shared:
            if own.overlay.note(_MARK) != shared.change_mark():
                _catch_up(own, shared, settings, base)
    except BaseException:
        own.close()
        raise
    return own


def _opened(settings: OverlaySettings, writeable: bool) -> Registry:
    return Registry.open(settings.registry_url, writeable=writeable, lock_timeout_s=settings.lock_timeout_s)


def _catch_up(own: Registry, shared: Registry, settings: OverlaySettings, base: OverlaySettings) -> None:
    patterns = settings.base.get("collections") or ["*"]
    names = [patterns] if isinstance(patterns, str) else list(patterns)
    try:
        with nullcontext(own) if own.writeable else closing(_opened(settings, True)) as writer:
            adopt(writer, shared, base.open_datastore(), names)
            adopt_cameras(settings.root, base.root)
    except ReadOnlyRepositoryError as error:
        _LOG.warning("What is new in the shared repository %s is not seen: %s", base.root, error)


def adopt(own: Registry, shared: Registry, datastore: Datastore, collections: Sequence[str] = ("*",)) -> None:
    """Take over what has changed in a shared repository, all or nothing.

    Parameters
    ----------
    own : `Registry`
        Personal registry, open for writing.
    shared : `Registry`
        The shared one; only read.
    datastore : `Datastore`
        Its files; only their URIs are asked for.
    collections : sequence of `str`
        Names and globs of the collections wanted; what they hold comes with them.

    Raises
    ------
    ConflictingDefinitionError
        If a dataset type is defined otherwise in both.
    """
    mark = shared.change_mark()  # before the first look: a change meanwhile is taken over the next time
    with shared.snapshot():
        wanted, memberships = _wanted(shared, collections)
        before = own.overlay.shared_collections
        mine = {info.name for info in own.collections.query("*")} - before
        for name in sorted(mine & set(wanted)):
            _LOG.warning("Collection %r is in both repositories: the shared one's is not seen.", name)
            del wanted[name]
        with own.overlay.adopting(wanted):
            _forget(own, before - set(wanted))
            own.dataset_types.register(shared.dataset_types.query())
            own.overlay.copy_dimension_records(shared.overlay)
            for info in wanted.values():
                own.collections.register(info.name, info.type, info.doc)
            for info in wanted.values():
                if info.type is CollectionType.RUN:
                    _adopt_run(own, shared, datastore, info.name)
            for info in wanted.values():
                if info.type in (CollectionType.TAGGED, CollectionType.CALIBRATION):
                    _adopt_members(own, info, memberships.get(info.name, {}))
            for info in wanted.values():
                if info.type is CollectionType.CHAINED:
                    children = tuple(c for c in info.children if c in wanted or c in mine)
                    if own.collections.get(info.name).children != children:
                        own.collections.set_chain(info.name, children)
            own.overlay.set_note(_MARK, mark)


def adopt_cameras(root: str, shared_root: str) -> None:
    """Copy the camera files of a shared repository that are not there."""
    source, target = os.path.join(shared_root, "instruments"), os.path.join(root, "instruments")
    for name in os.listdir(source) if os.path.isdir(source) else ():
        if not os.path.exists(os.path.join(target, name)):
            os.makedirs(target, exist_ok=True)
            with published_name(os.path.join(target, name)) as temporary:
                shutil.copyfile(os.path.join(source, name), temporary)


_Memberships = dict[str, dict[str, list[DatasetAssociation]]]


def _wanted(shared: Registry, collections: Sequence[str]) -> tuple[dict[str, CollectionInfo], _Memberships]:
    """Return the collections to take over, and the members of the tagged and calibration ones by type."""
    wanted: dict[str, CollectionInfo] = {}
    memberships: _Memberships = {}
    names = [info.name for info in shared.collections.query(collections, include_chains=True)]
    while names:
        name = names.pop()
        if name in wanted:
            continue
        info = wanted[name] = shared.collections.get(name, include_summary=True)
        names += info.children
        if info.type in (CollectionType.TAGGED, CollectionType.CALIBRATION):
            members = memberships[name] = {
                kind: shared.associations.query(kind, [name]) for kind in sorted(info.dataset_types or ())
            }
            names += {found.ref.run for kind in members.values() for found in kind}
    order = [info.name for info in shared.collections.query("*", include_chains=True)]
    return {name: wanted[name] for name in order if name in wanted}, memberships


def _forget(own: Registry, names: Iterable[str]) -> None:
    """Remove shared collections that are gone, out of personal chains too."""
    gone = [own.collections.get(name, include_parents=True) for name in sorted(names)]
    for info in gone:
        if info.type is CollectionType.CHAINED:
            own.collections.set_chain(info.name, ())
        for parent in info.parents or ():
            own.collections.remove_from_chain(parent, [info.name])
    for info in gone:
        if info.type is not CollectionType.RUN:
            own.removal.remove(info.name)
    own.removal.remove_runs([info.name for info in gone if info.type is CollectionType.RUN])


def _adopt_run(own: Registry, shared: Registry, datastore: Datastore, run: str) -> None:
    theirs, mine = shared.datasets.existing_in_run(run), own.datasets.existing_in_run(run)
    empty = np.zeros(0, dtype="V16")
    gone = []
    for name, table in mine.items():
        there = _keys(theirs[name]) if name in theirs else empty
        gone.append(table.take(~np.isin(_keys(table), there)))
    own.datasets.remove([table for table in gone if len(table)])
    for name, table in theirs.items():
        known = np.isin(_keys(table), _keys(mine[name]) if name in mine else empty)
        files = _absolute(shared.datasets.files_of(table), datastore)
        new = _without_rows(table.take(~known))
        if len(new):
            own.inserts.insert(new, _rows(files, ~known))
        if known.any():
            old = _without_rows(table.take(known))
            had, has = own.datasets.files_of(old), _rows(files, known)
            changed = _differ(had, has)
            stored = np.array([bool(path) for path in has.paths], dtype=bool)
            if (changed & stored).any():
                own.inserts.add_files(old.take(changed & stored), _rows(has, changed & stored))
            if (changed & ~stored).any():
                own.datasets.forget_files(old.take(changed & ~stored))


def _keys(table: DatasetTable) -> NDArray[np.void]:
    """Return dataset ids as one value a row, to be compared as columns."""
    return np.ascontiguousarray(table.ids).view("V16").reshape(-1)


def _without_rows(table: DatasetTable) -> DatasetTable:
    """Return a table without the row numbers of the registry it is from."""
    return DatasetTable(table.dataset_type, table.data_ids, table.ids, table.run_codes, table.runs)


def _absolute(files: FileTable, datastore: Datastore) -> FileTable:
    """Return file records with absolute URIs instead of paths."""
    paths = [p if not p or is_absolute(p) else datastore.uri(p) for p in files.paths]
    return FileTable(
        paths,
        files.formatter_codes,
        files.formatters,
        files.storage_class_codes,
        files.storage_classes,
        files.sizes,
        files.checksums,
    )


def _differ(first: FileTable, second: FileTable) -> NDArray[np.bool_]:
    """Return for each row whether two tables of file records differ in it."""
    out = first.sizes != second.sizes
    for a, b in ((first.paths, second.paths), (first.checksums, second.checksums)):
        out |= np.array(a, dtype=object) != np.array(b, dtype=object)
    kinds = [
        (
            np.array(table.formatters or ("",), dtype=object)[table.formatter_codes],
            np.array(table.storage_classes or ("",), dtype=object)[table.storage_class_codes],
        )
        for table in (first, second)
    ]
    for a, b in zip(*kinds, strict=True):
        out |= a != b
    return np.asarray(out, dtype=bool)


def _rows(files: FileTable, chosen: NDArray[np.bool_]) -> FileTable:
    rows = np.flatnonzero(chosen).tolist()
    return FileTable(
        [files.paths[i] for i in rows],
        files.formatter_codes[rows],
        files.formatters,
        files.storage_class_codes[rows],
        files.storage_classes,
        files.sizes[rows],
        [files.checksums[i] for i in rows],
    )


def _adopt_members(
    own: Registry, info: CollectionInfo, memberships: dict[str, list[DatasetAssociation]]
) -> None:
    known = own.collections.get(info.name, include_summary=True).dataset_types or ()
    for kind in sorted({*memberships, *known}):
        theirs, mine = memberships.get(kind, []), own.associations.query(kind, [info.name])
        has, had = {_membership(a) for a in theirs}, {_membership(a) for a in mine}
        if has == had:
            continue
        definition = own.dataset_types.get(kind)
        if info.type is CollectionType.TAGGED:
            gone = [a.ref for a in mine if _membership(a) not in has]
            new = [a.ref for a in theirs if _membership(a) not in had]
            own.associations.disassociate(info.name, DatasetTable.from_refs(definition, gone))
            own.associations.associate(info.name, DatasetTable.from_refs(definition, new))
            continue
        own.associations.decertify(info.name, kind, Timespan(None, None))
        ranges: dict[Timespan, list[DatasetAssociation]] = {}
        for found in theirs:
            ranges.setdefault(found.timespan or Timespan(None, None), []).append(found)
        for timespan, members in ranges.items():
            own.associations.certify(
                info.name, DatasetTable.from_refs(definition, [m.ref for m in members]), timespan
            )


def _membership(found: DatasetAssociation) -> tuple[UUID, Timespan | None]:
    return found.ref.id, found.timespan
