"""FileTransactions: registry and datastore changed together.

A file gets its name inside the database transaction that records it and after its row was accepted, so two
processes that put the same dataset at once never overwrite each other's file, and what is recorded is
readable at every instant. Removal goes the other way: the record first, with the path entered into the
registry's journal of deletions in the same transaction; then the file. If a process dies in between, the
next removal finishes it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..datastore.datastore import Datastore, StagedDataset
from ..errors import ButlerUserError
from ..registry.registry import Registry

_LOG = logging.getLogger("butler_dask.butler")
_BATCH = 20_000
"""Files deleted in one transaction: about a second."""


class _State(threading.local):
    undo: list[Callable[[], None]] | None = None
    delete: bool = False


class FileTransactions:
    """Transactions over a registry and a datastore; nested ones are savepoints.

    Parameters
    ----------
    registry : `Registry`
        Where datasets are recorded.
    datastore : `Datastore`
        Where their files are.
    """

    def __init__(self, registry: Registry, datastore: Datastore) -> None:
        self._registry, self._datastore = registry, datastore
        self._state = _State()

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Make all changes inside take effect together, or on an exception none of them."""
        state = self._state
        outermost = state.undo is None
        undo = state.undo = [] if state.undo is None else state.undo
        mark = len(undo)
        try:
            with self._registry.transaction():
                yield
        except BaseException:
            while len(undo) > mark:
                self._undo(undo.pop())
            raise
        finally:
            if outermost:
                state.undo = None
                delete, state.delete = state.delete, False
        if outermost and delete:
            self.delete_pending()

    @staticmethod
    def _undo(action: Callable[[], None]) -> None:
        try:
            action()
        except ButlerUserError as error:
            # What made us undo matters more to the user; an unrecorded file does no harm.
            _LOG.warning("An unrecorded file is left over: %s", error)

    def publish(self, staged: StagedDataset) -> None:
        """Give a staged file its name, until the transaction fails; to be called inside `begin`."""
        assert self._state.undo is not None
        staged.publish()
        self._state.undo.append(staged.retract)

    def delete_pending(self) -> int:
        """Delete the files whose datasets are gone; inside `begin` it is done after its end.

        Returns
        -------
        n : `int`
            Number of files deleted by now.

        Raises
        ------
        DatasetFileError
            If a file cannot be deleted; it stays in the journal.
        """
        if self._state.undo is not None:
            self._state.delete = True
            return 0
        deleted = 0
        while True:
            # Taken off the journal, then deleted, all under the write lock: a dataset put anew under the same
            # path takes it off the journal too, and thus comes wholly before or wholly after.
            with self._registry.transaction():
                paths = self._registry.datasets.pending_deletions(_BATCH)
                if not paths:
                    return deleted
                self._registry.datasets.forget_deletions(paths)
                self._datastore.remove(paths)
                deleted += len(paths)
