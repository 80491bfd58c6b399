"""DatasetRemoval: how datasets leave a repository for good; a butler's face of `OpenRepository`'s removal."""

from __future__ import annotations

from collections.abc import Iterable

from ..vocabulary.collection import split_names
from ..vocabulary.dataset import DatasetRef, DatasetTable, tables_of_refs
from .butler_parts import ButlerParts


class DatasetRemoval(ButlerParts):
    """Removal of datasets and runs; `Butler` inherits it."""

    def pruneDatasets(
        self,
        refs: Iterable[DatasetRef | DatasetTable],
        *,
        disassociate: bool = True,
        unstore: bool = False,
        tags: Iterable[str] = (),
        purge: bool = False,
    ) -> None:
        """Take datasets out of collections, remove their files, or remove them altogether.

        Parameters
        ----------
        refs : iterable of `DatasetRef` or of `DatasetTable`
            Datasets; tables of many cost a few statements each.
        disassociate : `bool`
            Take them out of the ``tags``.
        unstore : `bool`
            Remove their files; that they existed stays recorded.
        tags : iterable of `str`
            TAGGED collections.
        purge : `bool`
            Remove them with their files from the repository; needs ``disassociate`` and ``unstore``.

        Raises
        ------
        TypeError
            If the arguments do not go together.
        CollectionTypeError
            If one of the ``tags`` is not TAGGED; nothing is changed then.
        DatasetFileError
            If a file cannot be removed; the datasets are gone, and the next removal tries the file again.
        """
        self.repository.require_writeable("remove datasets")
        if purge and not (disassociate and unstore):
            raise TypeError("purge=True removes everything and needs disassociate=True and unstore=True")
        tags = [tags] if isinstance(tags, str) else list(tags)
        if disassociate and not purge and not tags and not unstore:
            raise TypeError("Nothing to do: give tags to disassociate from, or unstore=True, or purge=True")
        given = list(refs)
        tables = [t for t in given if isinstance(t, DatasetTable)]
        single = [r for r in given if isinstance(r, DatasetRef)]
        if purge:  # those that are gone already are no fault
            known = self._registry.datasets.find_many([ref.id for ref in single])
            single = [ref for ref, there in zip(single, known, strict=True) if there is not None]
        tables += tables_of_refs(single)
        if purge:
            self.repository.remove_datasets(tables)
            return
        with self.repository.transaction():
            for tag in tags if disassociate else ():
                for table in tables:
                    self._registry.associations.disassociate(tag, table)
            if unstore:
                self.repository.remove_files(tables)

    def removeRuns(
        self, names: str | Iterable[str], *, unlink_from_chains: bool = False, unstore: bool = True
    ) -> None:
        """Remove RUN collections with all their datasets and files.

        Datasets leave the TAGGED and CALIBRATION collections they are in as well.

        Parameters
        ----------
        names : `str` or iterable of `str`
            RUN collections.
        unlink_from_chains : `bool`
            Take them out of the chains they are in (otherwise that is an error).
        unstore : `bool`
            Accepted for the reference's sake; files are always removed.

        Raises
        ------
        OrphanedRecordError
            If one is in a chain; nothing is changed then.
        DatasetFileError
            If a file cannot be removed; the datasets are gone, and the next removal tries the file again.
        """
        self.repository.require_writeable("remove runs")
        self.repository.remove_runs(split_names(names), unlink_from_chains=unlink_from_chains)

    def finish_removals(self) -> int:
        """Delete the files that a removal which was interrupted left, and return how many these were.

        Raises
        ------
        DatasetFileError
            If a file cannot be removed.
        """
        self.repository.require_writeable("remove files")
        return self.repository.finish_removals()
