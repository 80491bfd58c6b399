"""Registry: what exists in a repository: collections, dataset types, dimension records, datasets, quanta.

One object over one database. It knows no defaults and no files on disk; the Butler puts those on top. Every
method works on whole columns, so that a million datasets cost a few statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Self

from .. import registry as parts
from ..vocabulary.dimensions import DimensionUniverse
from .collections import Collections
from .database import LOCK_TIMEOUT_S, Database
from .schema_version import check_versions, create_tables, schema_differences

if TYPE_CHECKING:
    from ..vocabulary.dataset import DatasetTable
    from ..vocabulary.file_record import FileTable
    from ..vocabulary.quantum_record import QuantumTable
    from .explained_statement import ExplainedStatement


class Registry:
    """The registry of a repository; made by `create` or `open`.

    Parameters
    ----------
    database : `Database`
        Where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.collections = Collections(database)
        """Collections, and the chains of them."""

    # Parts are loaded when they are first needed, by the package: a list of collections should not wait for
    # queries.

    @cached_property
    def dataset_types(self) -> parts.DatasetTypes:
        """Dataset types."""
        return parts.DatasetTypes(self._database)

    @cached_property
    def records(self) -> parts.DimensionRecords:
        """Dimension records."""
        return parts.DimensionRecords(self._database)

    @cached_property
    def datasets(self) -> parts.Datasets:
        """Datasets and where their files are: read, count, remove."""
        return parts.Datasets(self._database)

    @cached_property
    def inserts(self) -> parts.DatasetInserts:
        """Datasets and where their files are: insert."""
        return parts.DatasetInserts(self._database, self.records, self.datasets)

    @cached_property
    def search(self) -> parts.DatasetSearch:
        """The first dataset of a type for each of many data IDs."""
        return parts.DatasetSearch(self._database)

    @cached_property
    def associations(self) -> parts.Associations:
        """Memberships of TAGGED and validity ranges of CALIBRATION collections."""
        return parts.Associations(self._database, self.collections, self.datasets)

    @cached_property
    def removal(self) -> parts.CollectionRemoval:
        """Removal of whole collections."""
        return parts.CollectionRemoval(
            self._database, self.collections, self.datasets, self.associations, self.claims
        )

    @cached_property
    def claims(self) -> parts.RunClaims:
        """Which command writes which run."""
        return parts.RunClaims(self._database)

    @cached_property
    def quanta(self) -> parts.Quanta:
        """How each quantum of each run went."""
        return parts.Quanta(self._database)

    @cached_property
    def overlay(self) -> parts.Overlay:
        """What belongs to a shared registry below this one."""
        return parts.Overlay(self._database)

    @cached_property
    def queries(self) -> parts.Queries:
        """Data IDs, records and datasets under conditions."""
        return parts.Queries(self._database, self.search)

    @classmethod
    def create(cls, url: str) -> Self:
        """Make the tables of a new registry.

        Parameters
        ----------
        url : `str`
            SQLAlchemy URL of the database: ``sqlite:////path/registry.sqlite3``, or of an existing PostgreSQL
            database.

        Raises
        ------
        RepositoryError
            If there is a registry already.
        """
        database = Database(url, writeable=True, create=True)
        create_tables(database)
        return cls(database)

    @classmethod
    def open(cls, url: str, *, writeable: bool = True, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Self:
        """Open a registry.

        Parameters
        ----------
        url : `str`
            SQLAlchemy URL.
        writeable : `bool`
            Whether it may be changed.
        lock_timeout_s : `float`
            How long to wait for other programs that use it, before giving up [s].

        Raises
        ------
        RepositoryError
            If there is no registry.
        FormatVersionError
            If its tables are of another version than this program's.
        """
        database = Database(url, writeable=writeable, lock_timeout_s=lock_timeout_s)
        try:
            check_versions(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def change_mark(self) -> str:
        """Return a text that is another one after every change of the registry (and seldom without one)."""
        return self._database.change_mark()

    def schema_differences(self) -> list[str]:
        """Return how the tables differ from what the schema version says, one sentence each; none is well."""
        return schema_differences(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @property
    def url(self) -> str:
        """URL of the database, its password hidden."""
        return self._database.shown_url

    @property
    def writeable(self) -> bool:
        """Whether it may be changed."""
        return self._database.writeable

    @property
    def dimensions(self) -> DimensionUniverse:
        """The dimension universe."""
        return DimensionUniverse()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside take effect together or, on an exception, not at all; may be nested."""
        with self._database.write():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads inside see one state of the database, whatever others write meanwhile."""
        with self._database.read():
            yield

    def refresh(self) -> None:
        """Forget what is kept in memory; seldom needed, since changes by others are noticed."""
        self._database.forget_definitions()

    @contextmanager
    def explain_query(self) -> Iterator[list[ExplainedStatement]]:
        """Collect the statements that everything inside takes: SQL, the database's plan, rows and seconds.

        ``with registry.explain_query() as statements: registry.queries.data_ids(...)``; printing a statement
        shows all of it.
        """
        log = self._database.log
        before, log.statements = log.statements, []
        try:
            yield log.statements
        finally:
            log.statements = before

    def record_outputs(
        self,
        batches: Sequence[tuple[DatasetTable, FileTable]],
        quanta: QuantumTable | None = None,
        *,
        claim: parts.RunClaim | None = None,
    ) -> None:
        """Insert what quanta wrote, and how they went, in one transaction; repeating it changes nothing.

        Datasets whose UUID is known keep their row and get the new file record (a retried quantum overwrote
        its file); a dataset whose data ID is taken by another UUID in the RUN is passed over. Data IDs are
        not checked: those of a quantum graph come from this registry.

        Raises
        ------
        RunInUseError
            If the ``claim`` of who writes the RUN, where given, was taken over by another command.
        """

        def record() -> None:
            with self._database.write() as session:
                if claim is not None:
                    self.claims.confirm(session, claim)
                self.inserts.record(batches)
                if quanta is not None:
                    self.quanta.record(quanta)

        self._database.repeat(record)
