"""CollectionRemoval: take whole collections out of a registry, with the datasets and memberships in them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OrphanedRecordError
from ..vocabulary.collection import CollectionType
from ..vocabulary.file_record import FileRecord
from .associations import AssociationTable
from .collections import CollectionTable
from .database import Database
from .datasets import DatasetRecordTable
from .definitions import DefinitionCache


class CollectionRemoval:
    """Removal of collections.

    Parameters
    ----------
    database : `Database`
        Where they are.
    definitions : `DefinitionCache`
        The registry's cache of collections and dataset types.
    collections : `CollectionTable`
        The collections.
    datasets : `DatasetRecordTable`
        Datasets of RUN collections.
    associations : `AssociationTable`
        Members of TAGGED and CALIBRATION collections.
    """

    def __init__(
        self,
        database: Database,
        definitions: DefinitionCache,
        collections: CollectionTable,
        datasets: DatasetRecordTable,
        associations: AssociationTable,
    ) -> None:
        self._database, self._definitions = database, definitions
        self._collections, self._datasets, self._associations = collections, datasets, associations

    def remove(self, name: str) -> None:
        """Remove one collection; see `Registry.remove_collection`."""
        with self._database.write() as connection:
            definitions = self._definitions.locked(connection)
            row = definitions.collection(name)
            if row.type is CollectionType.RUN:
                if self._datasets.has_files(connection, row):
                    raise OrphanedRecordError(
                        f"RUN {name!r} holds datasets with files; remove it with `butler remove-runs`."
                    )
                self._datasets.remove_run(connection, definitions, row)
            elif row.type is not CollectionType.CHAINED:
                self._associations.remove_collection(connection, definitions, row)
            self._collections.remove_row(connection, row, definitions)

    def remove_runs(self, names: Sequence[str], unlink_from_chains: bool) -> list[FileRecord]:
        """Remove RUN collections with their datasets; see `Registry.remove_runs`."""
        out: list[FileRecord] = []
        with self._database.write() as connection:
            for name in names:
                definitions = self._definitions.locked(connection)
                row = definitions.collection(name)
                if row.type is not CollectionType.RUN:
                    raise OrphanedRecordError(f"Collection {name!r} is {row.type.name}, not RUN")
                if unlink_from_chains:
                    for parent in definitions.parents.get(row.id, ()):
                        chain = definitions.collections_by_id[parent].name
                        self._collections.change_chain(chain, [name], "remove")
                    definitions = self._definitions.current(connection)
                out += self._datasets.remove_run(connection, definitions, row)
                self._collections.remove_row(connection, row, definitions)
        return out
