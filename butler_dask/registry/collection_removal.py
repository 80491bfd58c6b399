"""CollectionRemoval: take whole collections out of a registry, with the datasets and memberships in them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CollectionTypeError, OrphanedRecordError
from ..vocabulary.collection import CollectionType
from ..vocabulary.file_record import FileRecord
from .associations import Associations
from .collections import Collections
from .database import Database, repeated
from .dataset_census import DatasetCensus
from .datasets import Datasets
from .definitions import CollectionRow, Definitions
from .run_claims import RunClaims


class CollectionRemoval:
    """Removal of collections.

    Parameters
    ----------
    database : `Database`
        Where they are.
    collections : `Collections`
        The collections.
    datasets : `Datasets`
        Datasets of RUN collections.
    associations : `Associations`
        Members of TAGGED and CALIBRATION collections.
    claims : `RunClaims`
        Who writes which RUN.
    """

    def __init__(
        self,
        database: Database,
        collections: Collections,
        datasets: Datasets,
        associations: Associations,
        claims: RunClaims,
    ) -> None:
        self._database = database
        self._collections, self._datasets, self._associations = collections, datasets, associations
        self._claims = claims

    @repeated
    def remove(self, name: str) -> None:
        """Remove a collection; what is in a TAGGED, CALIBRATION or CHAINED one stays.

        Raises
        ------
        OrphanedRecordError
            If it is in a chain, or is a RUN with stored files (see `remove_runs`).
        RunInUseError
            If it is a RUN that another command writes.
        """
        with self._database.write() as session:
            definitions = session.locked_definitions()
            row = definitions.own_collection(name, "remove")
            if row.type is CollectionType.RUN:
                if self._datasets.has_files(session, row):
                    raise OrphanedRecordError(
                        f"RUN {name!r} holds datasets with files; remove it with `butler remove-runs`."
                    )
                self._claims.refuse_others([name])
                self._datasets.remove_runs(session, [row])
                self._claims.forget(session, [name])
            elif row.type is not CollectionType.CHAINED:
                self._associations.remove_collection(session, row)
            self._collections.remove_rows(session, [row])

    @repeated
    def remove_runs(self, names: Sequence[str], *, unlink_from_chains: bool = False) -> list[FileRecord]:
        """Remove RUN collections with all their datasets, in one transaction.

        Parameters
        ----------
        names : sequence of `str`
            RUN collections.
        unlink_from_chains : `bool`
            Take them out of the chains they are in.

        Returns
        -------
        files : `list` [`FileRecord`]
            Files no dataset is in any more; they wait in `pending_deletions` until the datastore removed
            them.

        Raises
        ------
        OrphanedRecordError
            If one is in a chain and is not to be unlinked; the chains are named.
        CollectionTypeError
            If a collection is no RUN.
        RunInUseError
            If another command writes one.
        """
        with self._database.write() as session:
            definitions = session.locked_definitions()
            rows = _runs(definitions, names)
            for name in names:
                definitions.own_collection(name, "remove")
            self._claims.refuse_others(names)
            by_id = definitions.collections_by_id
            chains: dict[str, list[str]] = {}
            for row in rows:
                for parent in definitions.parents.get(row.id, ()):
                    chains.setdefault(by_id[parent].name, []).append(row.name)
            if chains and not unlink_from_chains:
                members = "; ".join(
                    f"{_shortened(runs)} {'is a member' if len(runs) == 1 else 'are members'} of {chain!r}"
                    for chain, runs in sorted(chains.items())
                )
                raise OrphanedRecordError(
                    f"RUN {members}. `butler remove-runs --force`, removeRuns(..., unlink_from_chains=True), "
                    "take it out of the chain."
                )
            for chain, runs in chains.items():
                self._collections.remove_from_chain(chain, runs)
            out = self._datasets.remove_runs(session, rows)
            self._collections.remove_rows(session, rows)
            self._claims.forget(session, names)
        return out

    def census(self, names: Sequence[str]) -> DatasetCensus:
        """Count the datasets of RUN collections, their files and memberships: what `remove_runs` removes.

        Raises
        ------
        CollectionTypeError
            If a collection is no RUN.
        """
        with self._database.read() as session:
            return self._datasets.census_of_runs(session, _runs(session.definitions, names))


def _runs(definitions: Definitions, names: Sequence[str]) -> list[CollectionRow]:
    rows = [definitions.collection(name) for name in dict.fromkeys(names)]
    for row in rows:
        if row.type is not CollectionType.RUN:
            raise CollectionTypeError(
                f"Collection {row.name!r} is {row.type.name}, not RUN; `butler remove-collections` is for it."
            )
    return rows


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
