"""Registry: what exists in a repository: collections, dataset types, dimension records, datasets, quanta.

One object over one database. It knows no defaults and no files on disk; the Butler puts those on top. Every
method works on whole columns, so that a million datasets cost a few statements.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

from ..vocabulary.collection import CollectionInfo, CollectionType, NamesExpression
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from .collections import CollectionTable
from .database import LOCK_TIMEOUT_S, Database
from .definitions import DefinitionCache
from .schema_version import check_versions, create_tables, schema_differences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..vocabulary.chain_change import ChainChange
    from ..vocabulary.data_id import DataCoordinate, DimensionRecord
    from ..vocabulary.data_id_table import DataIdTable
    from ..vocabulary.dataset import DatasetAssociation, DatasetRef, DatasetTable
    from ..vocabulary.dataset_type import DatasetType
    from ..vocabulary.file_record import FileRecord, FileTable
    from ..vocabulary.quantum_record import QuantumTable
    from ..vocabulary.timespan import Timespan
    from .associations import AssociationTable
    from .collection_removal import CollectionRemoval
    from .dataset_census import DatasetCensus
    from .dataset_inserts import DatasetInserts
    from .dataset_search import DatasetSearch
    from .dataset_types import DatasetTypeTable
    from .datasets import DatasetRecordTable
    from .dimension_records import DimensionRecordTable
    from .explained_statement import ExplainedStatement
    from .quanta import QuantumRecordTable
    from .queries import OrderBy, QueryTable
    from .query_conditions import QueryConditions


class Registry:
    """The registry of a repository; made by `create` or `open`.

    Parameters
    ----------
    database : `Database`
        Where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._definitions = DefinitionCache(database)
        database.after_rollback = self._definitions.forget
        self._collections = CollectionTable(database, self._definitions)

    # Parts are imported when they are first needed: a list of collections should not wait for queries.

    @cached_property
    def _dataset_types(self) -> DatasetTypeTable:
        from .dataset_types import DatasetTypeTable

        return DatasetTypeTable(self._database, self._definitions)

    @cached_property
    def _records(self) -> DimensionRecordTable:
        from .dimension_records import DimensionRecordTable

        return DimensionRecordTable(self._database)

    @cached_property
    def _datasets(self) -> DatasetRecordTable:
        from .datasets import DatasetRecordTable

        return DatasetRecordTable(self._database, self._definitions)

    @cached_property
    def _inserts(self) -> DatasetInserts:
        from .dataset_inserts import DatasetInserts

        return DatasetInserts(self._database, self._definitions, self._records, self._datasets)

    @cached_property
    def _search(self) -> DatasetSearch:
        from .dataset_search import DatasetSearch

        return DatasetSearch(self._database, self._definitions)

    @cached_property
    def _associations(self) -> AssociationTable:
        from .associations import AssociationTable

        return AssociationTable(self._database, self._definitions, self._datasets)

    @cached_property
    def _removal(self) -> CollectionRemoval:
        from .collection_removal import CollectionRemoval

        return CollectionRemoval(
            self._database, self._definitions, self._collections, self._datasets, self._associations
        )

    @cached_property
    def _quanta(self) -> QuantumRecordTable:
        from .quanta import QuantumRecordTable

        return QuantumRecordTable(self._database, self._definitions)

    @cached_property
    def _queries(self) -> QueryTable:
        from .queries import QueryTable

        return QueryTable(self._database, self._definitions, self._search)

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

    def schema_differences(self) -> list[str]:
        """Return how the tables differ from what the schema version says, one sentence each; none is well."""
        return schema_differences(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @property
    def url(self) -> str:
        """URL of the database, its password hidden."""
        return self._database.url.render_as_string()

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
        self._definitions.forget()

    @contextmanager
    def explain_query(self) -> Iterator[list[ExplainedStatement]]:
        """Collect the statements that everything inside takes: SQL, the database's plan, rows and seconds.

        ``with registry.explain_query() as statements: registry.query_data_ids(...)``; printing a statement
        shows all of it.
        """
        before, self._database.explained = self._database.explained, []
        try:
            yield self._database.explained
        finally:
            self._database.explained = before

    # Collections

    def register_collection(
        self, name: str, type: CollectionType = CollectionType.RUN, doc: str = ""
    ) -> bool:
        """Make a collection unless it exists.

        Returns
        -------
        made : `bool`
            Whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If it exists with another type.
        """
        return self._collections.register(name, type, doc)

    def get_collection(
        self, name: str, *, include_parents: bool = False, include_summary: bool = False
    ) -> CollectionInfo:
        """Return what is known of one collection.

        Raises
        ------
        MissingCollectionError
            If there is none; the nearest match is named.
        """
        return self._collections.get(name, parents=include_parents, summary=include_summary)

    def query_collections(
        self,
        expressions: NamesExpression = "*",
        *,
        types: Collection[CollectionType] | None = None,
        flatten_chains: bool = False,
        include_chains: bool | None = None,
        include_parents: bool = False,
        include_summary: bool = False,
    ) -> list[CollectionInfo]:
        """Return collections.

        Parameters
        ----------
        expressions : `str`, `re.Pattern`, ``...`` or iterable of them
            Names and globs, comma-separated or as a list; regular expressions; ``...`` for all.
        types : collection of `CollectionType`, optional
            Only these types.
        flatten_chains : `bool`
            Replace chains by their members, in search order.
        include_chains : `bool`, optional
            Whether chains are in the result; by default unless they are flattened.
        include_parents, include_summary : `bool`
            Whether to fill in ``parents``, ``dataset_types``.

        Returns
        -------
        collections : `list` [`CollectionInfo`]
            In creation order for a glob, else in the order given; each once.

        Raises
        ------
        MissingCollectionError
            If a plain name names no collection.
        """
        return self._collections.query(
            expressions, types, flatten_chains, include_chains, include_parents, include_summary
        )

    def set_collection_doc(self, name: str, doc: str) -> None:
        """Replace the documentation of a collection."""
        self._collections.set_doc(name, doc)

    def flatten(self, names: str | Iterable[str]) -> list[CollectionInfo]:
        """Return the collections a search over names looks in: no chains, in order, each once."""
        return self._collections.flatten([names] if isinstance(names, str) else names)

    def governor_values(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return which instruments and skymaps the datasets in collections have, by dimension name."""
        return self._collections.governor_values(names)

    def set_chain(self, parent: str, children: Sequence[str]) -> None:
        """Define the members of a CHAINED collection, in search order.

        Raises
        ------
        CollectionCycleError
            If it would contain itself.
        CollectionTypeError
            If the parent is not CHAINED.
        """
        self._collections.set_chain(parent, children)

    def extend_chain(self, parent: str, children: Sequence[str]) -> None:
        """Put collections at the end of a chain, those in it already moved there."""
        self._collections.change_chain(parent, children, "back")

    def prepend_chain(self, parent: str, children: Sequence[str]) -> None:
        """Put collections at the front of a chain, those in it already moved there."""
        self._collections.change_chain(parent, children, "front")

    def remove_from_chain(self, parent: str, children: Sequence[str]) -> None:
        """Take collections out of a chain."""
        self._collections.change_chain(parent, children, "remove")

    def edit_chain(self, parent: str, edit: Callable[[tuple[str, ...]], Sequence[str]]) -> None:
        """Define a chain from what it holds at that moment, which nobody else changes in between.

        Parameters
        ----------
        parent : `str`
            The CHAINED collection.
        edit : callable
            Takes the members and returns those to be, in search order. May be called again if the database
            asks to begin anew; what it raises leaves the chain as it was.

        Raises
        ------
        MissingCollectionError, CollectionTypeError, CollectionCycleError
            As `set_chain`.
        """
        self._collections.edit_chain(parent, edit)

    def chain_history(self, name: str) -> list[ChainChange]:
        """Return every change of a chain, oldest first; also of one that was removed.

        Raises
        ------
        MissingCollectionError
            If there never was such a chain.
        CollectionTypeError
            If it is no chain.
        """
        return self._collections.chain_history(name)

    def undo_chain(self, name: str, steps: int = 1) -> tuple[str, ...]:
        """Give a chain the members it had before its last changes, and return them.

        Parameters
        ----------
        name : `str`
            Chain.
        steps : `int`
            How many changes to take back. An undo is a change as well: undoing it brings back what it undid.

        Raises
        ------
        MissingCollectionError
            If a member it had does not exist any more; nothing is changed then.
        CollectionError
            If it has not changed so often.
        """
        return self._collections.undo_chain(name, steps)

    def remove_collection(self, name: str) -> None:
        """Remove a collection; what is in a TAGGED, CALIBRATION or CHAINED one stays.

        Raises
        ------
        OrphanedRecordError
            If it is in a chain, or is a RUN with stored files (see `remove_runs`).
        """
        self._removal.remove(name)

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
        """
        return self._removal.remove_runs(names, unlink_from_chains)

    def census_of_runs(self, names: Sequence[str]) -> DatasetCensus:
        """Count the datasets of RUN collections, their files and memberships: what `remove_runs` removes.

        Raises
        ------
        CollectionTypeError
            If a collection is no RUN.
        """
        return self._removal.census(names)

    # Dataset types

    def register_dataset_type(self, dataset_type: DatasetType) -> bool:
        """Register a dataset type unless it is; return whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If it is registered with other dimensions or storage class.
        """
        return self._dataset_types.register([dataset_type])[0]

    def register_dataset_types(self, dataset_types: Sequence[DatasetType]) -> list[bool]:
        """Register dataset types, all or none; return for each whether it is new."""
        return self._dataset_types.register(dataset_types)

    def get_dataset_type(self, name: str) -> DatasetType:
        """Return a dataset type; ``name.component`` gives that of a component.

        Raises
        ------
        MissingDatasetTypeError
            If there is none; the nearest match is named.
        """
        return self._dataset_types.get(name)

    def query_dataset_types(
        self,
        expression: NamesExpression | DatasetType | Iterable[DatasetType] = ...,
        missing: list[str] | None = None,
    ) -> list[DatasetType]:
        """Return dataset types by name.

        Parameters
        ----------
        expression : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs and regular expressions; ``...`` for all.
        missing : `list` [`str`], optional
            Plain names that are not registered are appended to it instead of raising.
        """
        return self._dataset_types.query(expression, missing)

    def remove_dataset_type(self, name: str) -> None:
        """Remove a dataset type without datasets.

        Raises
        ------
        OrphanedRecordError
            If it has datasets.
        """
        self._dataset_types.remove(name)

    # Dimension records

    def insert_dimension_records(
        self,
        element_name: str,
        records: Iterable[DimensionRecord | Mapping[str, Any]],
        *,
        replace: bool = False,
        skip_existing: bool = False,
    ) -> None:
        """Insert records of one element, all or none.

        Parameters
        ----------
        element_name : `str`
            Dimension or relation.
        records : iterable of `DimensionRecord` or mapping
            Records, or their fields. The band of a physical filter is made when needed.
        replace : `bool`
            Replace records that exist.
        skip_existing : `bool`
            Leave records that exist as they are.

        Raises
        ------
        ConflictingDefinitionError
            If a record exists and neither option is given.
        DataIdValueError
            If a record refers to a dimension value without record.
        """
        self._records.insert(element_name, list(records), replace=replace, skip_existing=skip_existing)

    def sync_dimension_record(
        self, record: DimensionRecord, *, update: bool = False
    ) -> bool | dict[str, Any]:
        """Insert a record unless it exists.

        Returns
        -------
        result : `bool` or `dict`
            `True` if it is new, `False` if it was there alike, or the old values of the fields updated.

        Raises
        ------
        ConflictingDefinitionError
            If it exists and differs, and ``update`` is not set.
        """
        return self._records.sync(record, update=update)

    def fetch_records(self, element_name: str, data_ids: DataIdTable) -> list[DimensionRecord | None]:
        """Return the record of an element for each data ID, `None` where there is none."""
        return self._records.fetch(element_name, data_ids)

    def expand_data_id(self, data_id: DataCoordinate) -> DataCoordinate:
        """Return a data ID with the records of its elements and the values they imply.

        Raises
        ------
        DataIdValueError
            If the repository has no such dimension value.
        InconsistentDataIdError
            If its values contradict one another.
        """
        return self._records.expand(data_id)

    def expand_table(self, data_ids: DataIdTable) -> DataIdTable:
        """Return data IDs with columns of all implied dimensions that every row has a value of."""
        return self._records.expand_table(data_ids)

    def with_implied_values(self, ref: DatasetRef) -> DatasetRef:
        """Return a dataset whose data ID has the values its records imply, where they are known."""
        if ref.dataId.hasFull():
            return ref
        full = self.expand_data_id(ref.dataId)
        if not full.hasFull():
            return ref
        from ..vocabulary.data_id import DataCoordinate

        return ref.expanded(DataCoordinate.from_full_values(full.dimensions, full.full_values))

    def expand_data_ids(self, data_ids: DataIdTable) -> list[DataCoordinate]:
        """Return many data IDs with the records of their elements and the values they imply.

        Records are fetched at once for each element, and rows that have one in common share it.

        Raises
        ------
        DataIdValueError
            If the repository has no record that a value is implied by.
        """
        return self._records.expand_all(data_ids)

    def complete_data_id(self, mapping: Mapping[str, Any], dimensions: DimensionGroup) -> DataCoordinate:
        """Return the one data ID of some dimensions that the given values determine.

        Parameters
        ----------
        mapping : mapping of `str` to value
            Dimension values, also by a dimension's other keys: a detector's name under ``detector``,
            ``seq_num`` and ``day_obs``, ``exposure.target_name``; and values of further dimensions that the
            wanted ones follow from (the filter of a visit).
        dimensions : `DimensionGroup`
            Dimensions wanted.

        Raises
        ------
        DimensionNameError
            For an unknown key.
        DataIdValueError
            If no data ID matches.
        DimensionValueError
            If several do.
        """
        from .incomplete_data_id import complete_data_id

        return complete_data_id(self._database, mapping, dimensions)

    # Queries

    def query_data_ids(
        self,
        dimensions: DimensionGroup,
        *,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
        **conditions: Unpack[QueryConditions],
    ) -> DataIdTable:
        """Return the data IDs for which records, datasets and sky overlaps exist.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the result.
        order_by : sequence of `str` or `Expression`
            Dimensions and fields to sort by, ``-`` in front for falling; NULL is least.
        limit, offset : `int`, optional
            How many rows at most, after how many.
        **conditions
            See `QueryConditions`: ``where``, ``bind``, ``data_id``, ``datasets`` ...

        Returns
        -------
        data_ids : `DataIdTable`
            Unique rows with columns for required dimensions, and those implied ones that every row has a
            value of.

        Notes
        -----
        Exposures join visits by visit_definition; visits (with detectors) join tracts and patches, and any of
        these join sky pixels, where their regions overlap. A dataset in a CALIBRATION collection counts where
        its validity range overlaps the exposure or visit.
        """
        return self._queries.data_ids(dimensions, conditions, order_by, limit, offset)

    def count_data_ids(self, dimensions: DimensionGroup, **conditions: Unpack[QueryConditions]) -> int:
        """Return how many rows `query_data_ids` would give; counted by the database."""
        return self._queries.count(dimensions, conditions)

    def explain_data_ids(
        self, dimensions: DimensionGroup, *, execute: bool = True, **conditions: Unpack[QueryConditions]
    ) -> list[str]:
        """Return what leaves `query_data_ids` without result, one sentence a reason; empty if it has some.

        Dimensions without records and dataset types without datasets are named first; else the fewest
        constraints that together leave nothing, and how many rows there are without each.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the result.
        execute : `bool`
            Whether to ask the database; otherwise only what the summaries of collections tell.
        **conditions
            See `QueryConditions`.
        """
        return self._queries.explain(dimensions, conditions, execute)

    def query_dimension_records(
        self,
        element_name: str,
        *,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
        **conditions: Unpack[QueryConditions],
    ) -> list[DimensionRecord]:
        """Return records of one element; arguments as for `query_data_ids`."""
        return self._queries.records(element_name, conditions, order_by, limit, offset)

    def query_rows(
        self,
        dimensions: DimensionGroup,
        fields: Sequence[str] = (),
        *,
        find_first: str | None = None,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
        **conditions: Unpack[QueryConditions],
    ) -> list[dict[str, Any]]:
        """Return unique rows of data ID values and any fields, by name.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the rows.
        fields : sequence of `str`
            ``element.field`` and ``dataset_type.field``.
        find_first : `str`, optional
            Dataset type of which only the first dataset of each data ID counts.
        order_by, limit, offset, **conditions
            As for `query_data_ids`.
        """
        return self._queries.rows(dimensions, fields, find_first, conditions, order_by, limit, offset)

    def query_datasets(
        self,
        dataset_type_name: str,
        collections: str | Sequence[str],
        *,
        find_first: bool = True,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
        **conditions: Unpack[QueryConditions],
    ) -> DatasetTable:
        """Return datasets of one type.

        Parameters
        ----------
        dataset_type_name : `str`
            Type.
        collections : sequence of `str`
            Where to look, in this order.
        find_first : `bool`
            Only the first dataset of each data ID; else all, each once.
        order_by, limit, offset, **conditions
            As for `query_data_ids`; the condition may also name ``<type>.run``, ``.collection``,
            ``.ingest_date``, ``.dataset_id``, ``.timespan``.

        Returns
        -------
        datasets : `DatasetTable`
            In search order of their collections, unless sorted otherwise.

        Raises
        ------
        CalibrationLookupError
            With ``find_first``, if a CALIBRATION collection has several datasets for a data ID.
        """
        names = [collections] if isinstance(collections, str) else collections
        return self._queries.datasets(
            dataset_type_name, names, find_first, conditions, order_by, limit, offset
        )

    # Datasets

    def find_datasets(
        self,
        dataset_type: DatasetType | str,
        data_ids: DataIdTable,
        collections: Sequence[str],
        *,
        begin_ns: NDArray[np.int64] | None = None,
        end_ns: NDArray[np.int64] | None = None,
    ) -> tuple[DatasetTable, NDArray[np.int64]]:
        """Find the first dataset of a type for each data ID.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type.
        data_ids : `DataIdTable`
            Data IDs, with at least the type's required dimensions.
        collections : sequence of `str`
            Where to look, first match wins.
        begin_ns, end_ns : `numpy.ndarray`, shape (n,), int64, optional
            Time of each data ID for the look-up in CALIBRATION collections [TAI ns].

        Returns
        -------
        datasets : `DatasetTable`
            Those found, each once.
        rows : `numpy.ndarray`, shape (n,), int64
            Row in ``datasets`` for each data ID, -1 where there is none.

        Raises
        ------
        CalibrationLookupError
            If a CALIBRATION collection gives several for one data ID (and time).
        """
        return self._search.find(dataset_type, data_ids, collections, begin_ns, end_ns)

    def insert_datasets(self, table: DatasetTable, files: FileTable | None = None) -> None:
        """Insert datasets, and where their files are, all or none.

        Raises
        ------
        ConflictingDefinitionError
            If the RUN has a dataset of the type for a data ID, or a UUID is known; the first is named.
        DataIdValueError
            If a data ID has a value without dimension record.
        """
        self._inserts.insert(table, files)

    def record_outputs(
        self, batches: Sequence[tuple[DatasetTable, FileTable]], quanta: QuantumTable | None = None
    ) -> None:
        """Insert what quanta wrote, and how they went, in one transaction; repeating it changes nothing.

        Datasets whose UUID is known keep their row and get the new file record (a retried quantum overwrote
        its file); a dataset whose data ID is taken by another UUID in the RUN is passed over. Data IDs are
        not checked: those of a quantum graph come from this registry.
        """

        def record() -> None:
            with self._database.write():
                self._inserts.record(batches)
                if quanta is not None:
                    self._quanta.record(quanta)

        self._database.repeat(record)

    def existing_in_run(
        self, run: str, dataset_type_names: Iterable[str] | None = None
    ) -> dict[str, DatasetTable]:
        """Return all datasets of a RUN by dataset type name, those without any left out."""
        return self._datasets.existing_in_run(run, dataset_type_names)

    def files_of(self, table: DatasetTable) -> FileTable:
        """Return the file records of datasets, aligned; rows without file have an empty path."""
        return self._datasets.files_of(table)

    def files_of_ids(self, ids: Iterable[uuid.UUID]) -> FileTable:
        """Return the file records of datasets by UUID, aligned; rows without file have an empty path."""
        return self._datasets.files([i.bytes for i in ids])

    def get_dataset(self, id: uuid.UUID) -> DatasetRef | None:
        """Return the dataset of a UUID, or `None`."""
        return self._datasets.get([id])[0]

    def get_datasets(self, ids: Sequence[uuid.UUID]) -> list[DatasetRef | None]:
        """Return the datasets of UUIDs, `None` for unknown ones."""
        return self._datasets.get(ids)

    def remove_datasets(self, tables: Sequence[DatasetTable]) -> list[FileRecord]:
        """Remove datasets from the registry and all collections, in one transaction.

        Returns
        -------
        files : `list` [`FileRecord`]
            Files no dataset is in any more. They wait in `pending_deletions` until the datastore removed
            them. Files ingested in place are not among them.
        """
        return self._datasets.remove(tables)

    def census(self, tables: Sequence[DatasetTable]) -> DatasetCensus:
        """Count datasets, their files and memberships: what `remove_datasets` removes."""
        return self._datasets.census(tables)

    def forget_files(self, table: DatasetTable) -> list[FileRecord]:
        """Remove the file records of datasets that stay known; return the files to delete."""
        return self._datasets.forget_files(table)

    def add_files(self, table: DatasetTable, files: FileTable) -> None:
        """Insert or replace the file records of datasets that are in the registry."""
        self._inserts.add_files(table, files)

    def pending_deletions(self, limit: int | None = None) -> list[str]:
        """Return the paths of files whose datasets are gone and that are not yet reported deleted."""
        return self._datasets.pending_deletions(limit)

    def forget_deletions(self, paths: Sequence[str]) -> None:
        """Take paths off `pending_deletions`, their files having been deleted."""
        self._datasets.forget_deletions(paths)

    # Memberships

    def associate(self, collection: str, table: DatasetTable) -> None:
        """Put datasets into a TAGGED collection; those in it already stay.

        Raises
        ------
        ConflictingDefinitionError
            If it holds another dataset of the type for a data ID; nothing is changed then.
        """
        self._associations.associate(collection, table)

    def disassociate(self, collection: str, table: DatasetTable) -> None:
        """Take datasets out of a TAGGED collection; those not in it are passed over."""
        self._associations.disassociate(collection, table)

    def certify(self, collection: str, table: DatasetTable, timespan: Timespan) -> None:
        """Give datasets a validity range in a CALIBRATION collection.

        Raises
        ------
        ConflictingDefinitionError
            If a dataset of the type is certified for a data ID and an overlapping range.
        DatasetTypeError
            If the dataset type is not a calibration type.
        """
        self._associations.certify(collection, table, timespan)

    def decertify(
        self,
        collection: str,
        dataset_type: DatasetType | str,
        timespan: Timespan,
        data_ids: DataIdTable | None = None,
    ) -> None:
        """Cut a time range out of the validity ranges of a dataset type in a CALIBRATION collection.

        Parameters
        ----------
        collection : `str`
            CALIBRATION collection.
        dataset_type : `DatasetType` or `str`
            Type.
        timespan : `Timespan`
            Range in which nothing stays valid.
        data_ids : `DataIdTable`, optional
            Only these data IDs.
        """
        self._associations.decertify(collection, dataset_type, timespan, data_ids)

    def query_associations(
        self,
        dataset_type: DatasetType | str,
        collections: NamesExpression = "*",
        *,
        types: Collection[CollectionType] | None = None,
    ) -> list[DatasetAssociation]:
        """Return which collections hold which datasets of a type, with validity ranges.

        Parameters
        ----------
        dataset_type : `DatasetType` or `str`
            Type.
        collections : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs and regular expressions; a chain stands for its members.
        types : collection of `CollectionType`, optional
            Only collections of these types.
        """
        kinds = frozenset(CollectionType) if types is None else frozenset(types)
        infos = self.query_collections(collections, flatten_chains=True)
        return self._associations.query(dataset_type, [i.name for i in infos], kinds)

    # Quanta

    def query_quanta(self, run: str | Sequence[str]) -> QuantumTable:
        """Return the quantum records of one or several RUN collections, in the order they started."""
        return self._quanta.query([run] if isinstance(run, str) else run)
