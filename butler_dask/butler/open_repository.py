"""OpenRepository: a repository's registry and datastore, and the one way to change both together.

A file gets its name inside the database transaction that records it and after its row was accepted, so two
processes that put the same dataset at once never overwrite each other's file, and what is recorded is
readable at every instant. Removal goes the other way: the record first, with the path entered into the
registry's journal of deletions in the same transaction; then the file, under the write lock, so that a
dataset put anew under the same path comes wholly before or wholly after. If a process dies in between, the
next removal finishes it.

Whoever has to do with datasets by the column (graph, engine, commands) takes this; a Butler puts one user's
defaults on top of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Self

from ..errors import ButlerUserError, ReadOnlyRepositoryError
from .repository import Repository
from .run_journals import remove_journals

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore, StagedDataset
    from ..registry.registry import Registry
    from ..vocabulary.dataset import DatasetTable

_LOG = logging.getLogger("butler_dask.butler")
_BATCH = 20_000
"""Files deleted in one transaction: about a second."""


class _Transaction(threading.local):
    """The transaction of one thread: how to take back what it published, and whether it removed."""

    undo: list[Callable[[], None]] | None = None
    removes: bool = False


class OpenRepository:
    """A repository that is open; transactions are nested as savepoints.

    Parameters
    ----------
    settings : `Repository`
        Where it is, and what its ``butler.yaml`` says.
    registry : `Registry`
        What exists in it: by the column, without defaults.
    datastore : `Datastore`
        Where the files are.
    """

    def __init__(self, settings: Repository, registry: Registry, datastore: Datastore) -> None:
        self.settings, self.registry, self.datastore = settings, registry, datastore
        self._transaction = _Transaction()

    @classmethod
    def open(cls, config: str | PathLike[str] | Repository, *, writeable: bool) -> Self:
        """Open a repository.

        Parameters
        ----------
        config : `str`, path or `Repository`
            See `Repository.find`.
        writeable : `bool`
            Whether it may be changed.

        Raises
        ------
        RepositoryError
            If there is no such repository.
        """
        settings = Repository.find(config)
        datastore = settings.open_datastore()
        return cls(settings, settings.open_registry(writeable=writeable), datastore)

    @property
    def root(self) -> str:
        """Directory or URL of the repository."""
        return self.settings.root

    @property
    def writeable(self) -> bool:
        """Whether it may be changed."""
        return self.registry.writeable

    def require_writeable(self, what: str) -> None:
        """Raise `ReadOnlyRepositoryError` if it may not be changed; ``what`` was to be done."""
        if not self.registry.writeable:
            raise ReadOnlyRepositoryError(
                f"Cannot {what}: {self.root} was opened for reading; open it with writeable=True or a run."
            )

    def close(self) -> None:
        """Close the connections to the database."""
        self.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Changing both

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside take effect together, or on an exception none of them, files included."""
        state = self._transaction
        outermost = state.undo is None
        undo = state.undo = [] if state.undo is None else state.undo
        mark = len(undo)
        try:
            with self.registry.transaction():
                try:
                    yield
                except BaseException:
                    # While nobody else can put the same datasets, whose files would be taken back instead.
                    _take_back(undo, mark)
                    raise
        except BaseException:
            _take_back(undo, mark)  # the commit failed
            raise
        finally:
            if outermost:
                state.undo = None
                removes, state.removes = state.removes, False
        if outermost and removes:
            self.finish_removals()

    def publish(self, staged: StagedDataset) -> None:
        """Give a staged file its name, until the transaction fails; to be called inside `transaction`."""
        assert self._transaction.undo is not None
        staged.publish()
        self._transaction.undo.append(staged.retract)

    def remove_datasets(self, tables: Sequence[DatasetTable]) -> None:
        """Remove datasets from the registry and all collections, and their files.

        Parameters
        ----------
        tables : sequence of `DatasetTable`
            Datasets.

        Raises
        ------
        RunInUseError
            If another command writes their RUN.
        DatasetFileError
            If a file cannot be removed; the datasets are gone, and the next removal tries the file again.
        """
        with self._removal():
            self.registry.claims.refuse_others(run for table in tables for run in table.runs)
            self.registry.datasets.remove(tables)

    def remove_files(self, tables: Iterable[DatasetTable]) -> None:
        """Remove the files of datasets that stay recorded; arguments and errors are `remove_datasets`'."""
        with self._removal():
            for table in tables:
                self.registry.claims.refuse_others(table.runs)
                self.registry.datasets.forget_files(table)

    def remove_runs(self, runs: Sequence[str], *, unlink_from_chains: bool = False) -> None:
        """Remove RUN collections with all their datasets, files and journals.

        Parameters
        ----------
        runs : sequence of `str`
            RUN collections.
        unlink_from_chains : `bool`
            Take them out of the chains they are in (otherwise that is an error).

        Raises
        ------
        OrphanedRecordError
            If one is in a chain; nothing is changed then.
        RunInUseError
            If another command writes one; nothing is changed then.
        DatasetFileError
            If a file cannot be removed; the datasets are gone, and the next removal tries the file again.
        """
        with self._removal():
            self.registry.removal.remove_runs(runs, unlink_from_chains=unlink_from_chains)
            # Before the end of the transaction: a journal without its run would be told to a later one.
            for run in runs:
                remove_journals(self.root, run)

    def remove_unrecorded(self, paths: Sequence[str]) -> int:
        """Delete those of some files that are no dataset's; to be called inside a transaction.

        Parameters
        ----------
        paths : sequence of `str`
            Paths below the datastore's root.

        Returns
        -------
        n : `int`
            Number of files deleted.
        """
        used = self.registry.datasets.recorded_paths(paths)
        if used:
            paths = [path for path in paths if path not in used]
        self.datastore.remove(paths)
        return len(paths)

    @contextmanager
    def _removal(self) -> Iterator[None]:
        """Change records inside; the files left over go after the end of the outermost transaction."""
        with self.transaction():
            yield
            self._transaction.removes = True

    def finish_removals(self) -> int:
        """Delete the files whose datasets are gone, those left by interrupted removals too.

        Returns
        -------
        n : `int`
            Number of files deleted by now; inside `transaction` it is done after its end.

        Raises
        ------
        DatasetFileError
            If a file cannot be deleted; it stays in the journal.
        """
        if self._transaction.undo is not None:
            self._transaction.removes = True
            return 0
        deleted = 0
        while self.registry.datasets.pending_deletions(1):
            # Taken off the journal, then deleted, all under the write lock: a dataset put anew under the same
            # path takes it off the journal too, and thus comes wholly before or wholly after.
            with self.registry.transaction():
                paths = self.registry.datasets.take_deletions(_BATCH)
                deleted += self.remove_unrecorded(paths)
            if not paths:  # another process is about to delete them
                break
        return deleted


def _take_back(undo: list[Callable[[], None]], mark: int) -> None:
    """Take back all files but the first so many."""
    while len(undo) > mark:
        try:
            undo.pop()()
        except ButlerUserError as error:
            # What made us undo matters more to the user; an unrecorded file does no harm.
            _LOG.warning("An unrecorded file is left over: %s", error)
