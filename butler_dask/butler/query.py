"""Query: what ``butler.query()`` gives: conditions and joins, from which results are made.

A query is a value: every method returns another one, and nothing is asked of the registry until a result is
iterated over (but for `Query.materialize`, whose purpose that is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InvalidQueryError
from ..registry.expression_names import NameScope
from ..registry.registry import Registry
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset_type import DatasetType, split_component
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, Name
from ..vocabulary.expression_factory import ExpressionFactory
from ..vocabulary.selection import Selection
from .dataset_results import (
    DataCoordinateQueryResults,
    DatasetRefQueryResults,
    require_order,
    with_storage_class,
)
from .datasets_of_types import DatasetQueryResults
from .record_results import DimensionRecordQueryResults
from .row_results import GeneralQueryResults, general_fields

if TYPE_CHECKING:
    from astropy.table import Table


class Query:
    """What to look for; made by ``butler.query()``.

    Parameters
    ----------
    registry : `Registry`
        What is asked.
    search : callable
        Turns collections a user gives, or `None`, into names to search.
    selection : `Selection`
        What is asked for so far; it has the butler's defaults.
    """

    def __init__(self, registry: Registry, search: Callable[[Any], list[str]], selection: Selection) -> None:
        self._registry, self._search, self._selection = registry, search, selection

    def _with(self, selection: Selection) -> Query:
        return Query(self._registry, self._search, selection)

    @property
    def expression_factory(self) -> ExpressionFactory:
        """Gives names of the query language as Python values: ``x.visit.exposure_time > 30``."""
        return ExpressionFactory()

    @property
    def constraint_dataset_types(self) -> frozenset[str]:
        """Names of the dataset types joined."""
        return frozenset(n for n, _ in self._selection.datasets)

    @property
    def constraint_dimensions(self) -> DimensionGroup:
        """Dimensions of everything joined and of all conditions."""
        groups = [self._registry.dataset_types.get(n).dimensions for n, _ in self._selection.datasets]
        groups += [t.dimensions for t in self._selection.among]
        groups.append(DimensionUniverse().conform(self._selection.data_id))
        group = self._selection.joined.union(*groups)
        where = self._selection.condition
        scope = NameScope(group, where.bind, self.constraint_dataset_types, where.text)
        return group.union(*(scope.dimensions_of(term) for term in where.terms))

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Query:
        """Return a query with further conditions.

        Parameters
        ----------
        *args : `str`, `Expression`, mapping or `DataCoordinate`
            Expressions, as text or made by `expression_factory`, and data IDs; all must hold.
        bind : mapping, optional
            Values of names in the expressions.
        **kwargs
            Values by dimension name, which win over those of data IDs.
        """
        return self._with(self._selection.where(*args, bind=bind, **kwargs))

    def join_dimensions(self, dimensions: DimensionGroup | Iterable[str] | str) -> Query:
        """Return a query that joins further dimensions."""
        group = DimensionUniverse().conform(dimensions)
        return self._with(replace(self._selection, joined=self._selection.joined.union(group)))

    def join_dataset_search(self, dataset_type: str | DatasetType, collections: Any = None) -> Query:
        """Return a query for data IDs of which there is a dataset.

        Parameters
        ----------
        dataset_type : `str` or `DatasetType`
            Of which type.
        collections : `str` or iterable of `str`, optional
            In which collections; the butler's when not given.

        Raises
        ------
        MissingDatasetTypeError
            If there is no such type; the nearest match is named.
        InvalidQueryError
            If it is joined already with other collections.
        """
        name = _name(dataset_type)
        self._registry.dataset_types.get(name)
        searched = self._searched(name, collections)
        if name in self.constraint_dataset_types:
            return self
        return self._with(self._selection.joining(name, searched))

    def _searched(self, name: str, collections: Any) -> tuple[str, ...]:
        known = dict(self._selection.datasets).get(name)
        if known is not None and collections is None:
            return known
        searched = tuple(self._search(collections))
        if known is not None and known != searched:
            raise InvalidQueryError(
                f"Dataset type {name!r} is searched in {', '.join(known)} by this query already, and cannot "
                f"also be in {', '.join(searched)}."
            )
        return searched

    def join_data_coordinates(self, iterable: Iterable[DataCoordinate]) -> Query:
        """Return a query for data IDs that agree with one of those given, which all have the same dimensions.

        Raises
        ------
        InvalidQueryError
            If there is none, or their dimensions differ.
        """
        data_ids = list(iterable)
        if not data_ids:
            raise InvalidQueryError("There is no data ID to join.")
        group = data_ids[0].dimensions
        other = next((d.dimensions for d in data_ids if d.dimensions != group), None)
        if other is not None:
            raise InvalidQueryError(
                f"Data IDs to join must have the same dimensions, not {group} and {other}."
            )
        return self._among(DataIdTable.from_data_ids(group, data_ids))

    def join_data_coordinate_table(self, table: Table) -> Query:
        """Return a query for data IDs that agree with a row of an `astropy.table.Table`.

        Its columns are named by dimensions; a required one that is missing is taken from the data ID given
        before.

        Raises
        ------
        InvalidQueryError
            If there is no row, or a required dimension has no value.
        """
        if not len(table):
            raise InvalidQueryError("There is no data ID to join.")
        group = DimensionUniverse().conform(table.colnames)
        columns: dict[str, Any] = {}
        for name in group.required:
            if name in table.colnames:
                columns[name] = table[name].tolist()
            elif name in self._selection.data_id:
                columns[name] = [self._selection.data_id[name]] * len(table)
            else:
                raise InvalidQueryError(f"The table of data IDs has no column {name!r}.")
        return self._among(DataIdTable.from_values(group, columns, len(table)))

    def _among(self, table: DataIdTable) -> Query:
        return self._with(replace(self._selection, among=(*self._selection.among, table)))

    def materialize(
        self,
        *,
        dimensions: DimensionGroup | Iterable[str] | None = None,
        datasets: Iterable[str] | None = None,
    ) -> Query:
        """Ask for the data IDs now and return a query among them.

        Parameters
        ----------
        dimensions : iterable of `str`, optional
            Dimensions of the data IDs kept; by default all of the query.
        datasets : iterable of `str`, optional
            Dataset types that stay joined; by default all.

        Raises
        ------
        InvalidQueryError
            If a dataset type is not joined, or has dimensions that are not kept.
        """
        kept = self.constraint_dataset_types if datasets is None else frozenset(datasets)
        if not kept <= self.constraint_dataset_types:
            absent = ", ".join(sorted(kept - self.constraint_dataset_types))
            raise InvalidQueryError(f"Dataset types {absent} are not joined into the query.")
        results = self.data_ids(dimensions)
        for name in kept:
            if not self._registry.dataset_types.get(name).dimensions <= results.dimensions:
                raise InvalidQueryError(
                    f"Dataset type {name!r} has dimensions beyond {results.dimensions}; keep those too, "
                    "or leave the type out."
                )
        joined = tuple(d for d in self._selection.datasets if d[0] in kept)
        return self._with(replace(self._selection.among_only(results.table()), datasets=joined))

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any data ID; see `QueryResults.any`."""
        return self.data_ids().any(execute=execute, exact=exact)

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no data ID, a sentence a reason; none if there is one."""
        return self.data_ids().explain_no_results(execute)

    def data_ids(
        self, dimensions: DimensionGroup | Iterable[str] | str | None = None
    ) -> DataCoordinateQueryResults:
        """Return the data IDs of some dimensions, by default those of the query."""
        group = self.constraint_dimensions if dimensions is None else DimensionUniverse().conform(dimensions)
        return DataCoordinateQueryResults(self._registry, self._selection, group)

    def datasets(
        self, dataset_type: str | DatasetType, collections: Any = None, *, find_first: bool = True
    ) -> DatasetRefQueryResults:
        """Return the datasets of a type.

        Parameters
        ----------
        dataset_type : `str` or `DatasetType`
            Type.
        collections : `str` or iterable of `str`, optional
            Names and globs; those the type was joined with, else the butler's, when not given.
        find_first : `bool`
            Only the first for each data ID, in the order of the collections.

        Raises
        ------
        MissingDatasetTypeError
            If there is no such type; the nearest match is named.
        """
        if find_first:
            require_order(collections)
        found = self._registry.dataset_types.get(_name(dataset_type))
        found = with_storage_class(found, dataset_type)
        searched = self._searched(split_component(found.name)[0], collections)
        return DatasetRefQueryResults(self._registry, self._selection, found, searched, find_first)

    def datasets_of_types(
        self, dataset_types: Iterable[str | DatasetType], collections: Any = None, *, find_first: bool = True
    ) -> DatasetQueryResults:
        """Return the datasets of several types, one type after the other; see `datasets`."""
        return DatasetQueryResults(
            [self.datasets(kind, collections, find_first=find_first) for kind in dataset_types]
        )

    def dimension_records(self, element: str) -> DimensionRecordQueryResults:
        """Return the records of a dimension element."""
        return DimensionRecordQueryResults(self._registry, self._selection, element)

    def general(
        self,
        dimensions: DimensionGroup | Iterable[str] | str,
        *names: str,
        dimension_fields: Mapping[str, Iterable[str]] | None = None,
        dataset_fields: Mapping[str, Any] | None = None,
        find_first: bool | None = None,
    ) -> GeneralQueryResults:
        """Return rows of data ID values and fields.

        Parameters
        ----------
        dimensions : iterable of `str`
            Dimensions of the rows, at least; those of the fields are added.
        *names : `str`
            Fields, as ``element.field`` or ``dataset_type.field``.
        dimension_fields : mapping of `str` to set of `str`, optional
            Fields by dimension element.
        dataset_fields : mapping of `str` to set of `str`, optional
            Fields by dataset type; ``...`` for those that a `DatasetRef` needs.
        find_first : `bool`, optional
            Only the first dataset for each data ID; `False` when there are fields of several dataset types.

        Raises
        ------
        InvalidQueryError
            If a field is none of a dimension or a joined dataset type, or find_first has to be given.
        """
        universe = DimensionUniverse()
        group = universe.conform(dimensions)
        fields = general_fields(
            names, dimension_fields or {}, dataset_fields or {}, self.constraint_dataset_types, group
        )
        kinds = []
        for name in fields:
            head = name.partition(".")[0]
            if head in universe:
                group = group.union(universe[head].dimensions)
            elif head in self.constraint_dataset_types:
                kinds.append(head)
                group = group.union(self._registry.dataset_types.get(head).dimensions)
        kinds = list(dict.fromkeys(kinds))
        if find_first is None and kinds:
            raise InvalidQueryError("Give find_first=True or False: there are fields of datasets.")
        if find_first and len(kinds) > 1:
            raise InvalidQueryError("find_first=True is for the fields of one dataset type.")
        first = kinds[0] if find_first and kinds else None
        return GeneralQueryResults(self._registry, self._selection, group, fields, first)

    def values_of(self, column: Expression) -> Iterator[Any]:
        """Yield the values a field has in the rows of this query; for `ScalarExpressionProxy.in_query`."""
        if not isinstance(column, Name):
            raise InvalidQueryError("in_query takes a field of the other query")
        head = column.text.partition(".")[0]
        group = self.constraint_dimensions
        if head in DimensionUniverse():
            group = group.union(DimensionUniverse()[head].dimensions)
        rows = GeneralQueryResults(self._registry, self._selection, group, [column.text], None)
        return (row[column.text] for row in rows)


def _name(dataset_type: str | DatasetType) -> str:
    return dataset_type if isinstance(dataset_type, str) else dataset_type.name
