"""Query and its results: what ``butler.query()`` gives.

A query is a value: every method returns another one, and nothing is asked of the registry until a result is
iterated over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

from .errors import DimensionNameError, EmptyQueryResultError
from .registry.registry import Registry
from .vocabulary.data_id import DataCoordinate, DataIdTable, DataIdValue, dimension_value
from .vocabulary.dataset import DatasetRef, DatasetTable
from .vocabulary.dataset_type import DatasetType
from .vocabulary.dimension_record import DimensionRecord
from .vocabulary.dimensions import DimensionGroup, DimensionUniverse
from .vocabulary.search_defaults import SearchDefaults

T = TypeVar("T")


@dataclass(frozen=True)
class QueryTerms:
    """What a query asks for, whatever its results are.

    Parameters
    ----------
    where : `tuple` [`str`, ...]
        Expressions, all of which must hold.
    bind : mapping
        Values of names in them.
    data_id : mapping
        Values of dimensions.
    datasets : `tuple` of (`str`, `tuple` [`str`, ...])
        Dataset types, and collections, of which there must be one.
    order_by : `tuple` [`str`, ...]
        Names, ``-`` before those in falling order.
    limit, offset : `int`, optional
        Rows returned, and rows passed over before.
    """

    where: tuple[str, ...] = ()
    bind: Mapping[str, Any] = field(default_factory=dict)
    data_id: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    order_by: tuple[str, ...] = ()
    limit: int | None = None
    offset: int | None = None

    def narrowed(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> QueryTerms:
        """Return the terms with further conditions.

        Parameters
        ----------
        *args : `str`, mapping or `DataCoordinate`
            Expressions and data IDs.
        bind : mapping, optional
            Values of names in the expressions.
        **kwargs
            Values of dimensions.

        Raises
        ------
        DimensionNameError
            If a key is no dimension; the nearest match is named.
        """
        where, data_id = list(self.where), dict(self.data_id)
        for arg in args:
            if arg is None or arg == "":
                continue
            if isinstance(arg, str):
                where.append(arg)
            else:
                data_id.update(_checked(arg.mapping if isinstance(arg, DataCoordinate) else arg))
        data_id.update(_checked(kwargs))
        return replace(self, where=tuple(where), bind={**self.bind, **(bind or {})}, data_id=data_id)

    def ordered(self, *names: str) -> QueryTerms:
        """Return the terms with another order."""
        return replace(self, order_by=_order_names(names))

    def expression(self) -> str:
        """Return all expressions as one."""
        return self.where[0] if len(self.where) == 1 else " AND ".join(f"({w})" for w in self.where)

    def data_id_with(self, defaults: SearchDefaults) -> dict[str, DataIdValue]:
        """Return the data ID, and default values of dimensions an expression needs but does not constrain.

        A visit number means something beside its instrument only; so ``visit = 5`` is about the instrument of
        the butler, where it has just one.
        """
        out = dict(self.data_id)
        if self.where:
            text = self.expression()
            for name in DimensionUniverse().governor_dimensions.names:
                if name not in out and not re.search(rf"\b{name}\b", text) and _needs(text, name):
                    value = defaults.data_id.get(name)
                    if value is not None:
                        out[name] = value
        return out

    def keywords(self, defaults: SearchDefaults, *, limit: int | None = None) -> dict[str, Any]:
        """Return the arguments of the registry's query methods."""
        return {
            "where": self.expression(),
            "bind": dict(self.bind) or None,
            "data_id": self.data_id_with(defaults) or None,
            "order_by": self.order_by,
            "limit": limit if limit is not None else self.limit,
            "offset": self.offset,
        }


def _needs(text: str, governor: str) -> bool:
    """Return whether an expression names a dimension whose values depend on a governor dimension."""
    words = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))
    universe = DimensionUniverse()
    return any(w in universe and governor in universe[w].requires for w in words)


def _checked(values: Mapping[str, Any]) -> dict[str, DataIdValue]:
    universe = DimensionUniverse()
    out: dict[str, DataIdValue] = {}
    for name, value in values.items():
        if value is None:
            continue
        element = universe[name]
        if not element.is_dimension:
            raise DimensionNameError(f"{name!r} is a relation, not a dimension; it has no value")
        out[name] = dimension_value(name, value)
    return out


def _order_names(names: Iterable[Any] | str | None) -> tuple[str, ...]:
    if names is None:
        return ()
    parts = [names] if isinstance(names, str) else list(names)
    flat: list[str] = []
    for part in parts:
        flat += [p for p in re.split(r"[\s,]+", part) if p] if isinstance(part, str) else _order_names(part)
    return tuple(flat)


class QueryResults(Generic[T]):
    """Lazy results of a query; iterating over them asks the registry.

    Parameters
    ----------
    registry : `Registry`
        What is asked.
    defaults : `SearchDefaults`
        The butler's defaults.
    terms : `QueryTerms`
        What is asked for.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults, terms: QueryTerms) -> None:
        self._registry, self._defaults, self._terms = registry, defaults, terms

    def _with(self, terms: QueryTerms) -> Self:
        raise NotImplementedError

    def _fetch(self, limit: int | None = None) -> Sequence[T]:
        raise NotImplementedError

    def _dimensions(self) -> DimensionGroup:
        raise NotImplementedError

    def _searched(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return self._terms.datasets

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Return results with further conditions: expressions, data IDs, values by dimension name."""
        return self._with(self._terms.narrowed(*args, bind=bind, **kwargs))

    def order_by(self, *names: str) -> Self:
        """Return results in the order of names (``visit``, ``-exposure.timespan.begin``)."""
        return self._with(self._terms.ordered(*names))

    def limit(self, limit: int | None = None, offset: int | None = None) -> Self:
        """Return the first results only, some passed over before."""
        return self._with(replace(self._terms, limit=limit, offset=offset))

    def __iter__(self) -> Iterator[T]:
        return iter(self._fetch())

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of results."""
        return len(self._fetch())

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any result."""
        return len(self._fetch(1)) > 0

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no result, a sentence a reason."""
        keywords = self._terms.keywords(self._defaults)
        return self._registry.explain_data_ids(
            self._dimensions(),
            where=keywords["where"],
            bind=keywords["bind"],
            data_id=keywords["data_id"],
            datasets=self._searched(),
        )

    def all_or_explained(self, what: str, *, explain: bool, limit: int | None) -> tuple[list[T], bool]:
        """Return the results as a list, and whether a limit that was to be warned of cut it.

        Parameters
        ----------
        what : `str`
            What is looked for, for messages.
        explain : `bool`
            Raise with reasons when there is none.
        limit : `int` or `None`
            At most so many; negative: the same, and tell when there are more.

        Raises
        ------
        EmptyQueryResultError
            If there is none and ``explain`` is set.
        """
        if limit == 0:
            return [], False
        if limit is None or limit > 0:
            found = list(self.limit(limit, self._terms.offset))
            cut = False
        else:
            found = list(self.limit(-limit + 1, self._terms.offset))
            cut = len(found) > -limit
            del found[-limit:]
        if not found and explain:
            raise EmptyQueryResultError(f"No {what} found.", self.explain_no_results())
        return found, cut


class DataCoordinateQueryResults(QueryResults[DataCoordinate]):
    """Data IDs of some dimensions."""

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        terms: QueryTerms,
        dimensions: DimensionGroup,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, defaults, terms)
        self._group, self._expanded = dimensions, expanded

    def _with(self, terms: QueryTerms) -> DataCoordinateQueryResults:
        return DataCoordinateQueryResults(self._registry, self._defaults, terms, self._group, self._expanded)

    def _dimensions(self) -> DimensionGroup:
        return self._group

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the data IDs."""
        return self._group

    def table(self, limit: int | None = None) -> DataIdTable:
        """Return the data IDs as columns."""
        keywords = self._terms.keywords(self._defaults, limit=limit)
        return self._registry.query_data_ids(self._group, datasets=self._terms.datasets, **keywords)

    def _fetch(self, limit: int | None = None) -> Sequence[DataCoordinate]:
        table = self.table(limit)
        return expanded_data_ids(self._registry, table) if self._expanded else list(table)

    def with_dimension_records(self) -> DataCoordinateQueryResults:
        """Return results whose data IDs carry their records."""
        return DataCoordinateQueryResults(self._registry, self._defaults, self._terms, self._group, True)

    expanded = with_dimension_records


class DatasetRefQueryResults(QueryResults[DatasetRef]):
    """Datasets of one type."""

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        terms: QueryTerms,
        dataset_type: DatasetType,
        collections: Sequence[str],
        find_first: bool,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, defaults, terms)
        self._type, self._collections, self._find_first = dataset_type, tuple(collections), find_first
        self._expanded = expanded

    def _with(self, terms: QueryTerms) -> DatasetRefQueryResults:
        return self._same(terms, self._expanded)

    def _same(self, terms: QueryTerms, expanded: bool) -> DatasetRefQueryResults:
        return DatasetRefQueryResults(
            self._registry, self._defaults, terms, self._type, self._collections, self._find_first, expanded
        )

    def _dimensions(self) -> DimensionGroup:
        return self._type.dimensions

    def _searched(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (*self._terms.datasets, (self._type.nameAndComponent()[0], self._collections))

    @property
    def dataset_type(self) -> DatasetType:
        """Type of the datasets."""
        return self._type

    def table(self, limit: int | None = None) -> DatasetTable:
        """Return the datasets as columns."""
        return self._registry.query_datasets(
            self._type.nameAndComponent()[0],
            list(self._collections),
            find_first=self._find_first,
            **self._terms.keywords(self._defaults, limit=limit),
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DatasetRef]:
        table = self.table(limit)
        refs = list(table)
        if self._expanded:
            data_ids = expanded_data_ids(self._registry, table.data_ids)
            refs = [ref.expanded(data_id) for ref, data_id in zip(refs, data_ids, strict=True)]
        component = self._type.component()
        return refs if component is None else [ref.makeComponentRef(component) for ref in refs]

    def with_dimension_records(self) -> DatasetRefQueryResults:
        """Return results whose data IDs carry their records."""
        return self._same(self._terms, True)

    expanded = with_dimension_records


class DimensionRecordQueryResults(QueryResults[DimensionRecord]):
    """Records of one dimension element."""

    def __init__(self, registry: Registry, defaults: SearchDefaults, terms: QueryTerms, element: str) -> None:
        super().__init__(registry, defaults, terms)
        self._element = DimensionUniverse()[element]

    def _with(self, terms: QueryTerms) -> DimensionRecordQueryResults:
        return DimensionRecordQueryResults(self._registry, self._defaults, terms, self._element.name)

    def _dimensions(self) -> DimensionGroup:
        return self._element.dimensions

    def _fetch(self, limit: int | None = None) -> Sequence[DimensionRecord]:
        keywords = self._terms.keywords(self._defaults, limit=limit)
        if self._terms.datasets:
            group = self._element.dimensions.union(
                *(self._registry.get_dataset_type(n).dimensions for n, _ in self._terms.datasets)
            )
            table = self._registry.query_data_ids(group, datasets=self._terms.datasets, **keywords)
            own = table.subset(self._element.dimensions)
            rows = _first_rows(own)
            records = self._registry.fetch_records(self._element.name, own.take(rows))
            return [r for r in records if r is not None]
        return self._registry.query_dimension_records(self._element.name, **keywords)


def _first_rows(table: DataIdTable) -> Any:
    """Return the first row of each distinct data ID, in order."""
    import numpy as np

    return np.sort(np.unique(table.codes(), return_index=True)[1])


class Query:
    """What to look for; made by ``butler.query()``.

    Parameters
    ----------
    registry : `Registry`
        What is asked.
    defaults : `SearchDefaults`
        The butler's defaults.
    search : callable
        Turns collections a user gives, or `None`, into names to search.
    terms : `QueryTerms`, optional
        Conditions so far.
    """

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        search: Callable[[Any], list[str]],
        terms: QueryTerms | None = None,
    ) -> None:
        self._registry, self._defaults, self._search = registry, defaults, search
        self._terms = terms or QueryTerms()

    def _with(self, terms: QueryTerms) -> Query:
        return Query(self._registry, self._defaults, self._search, terms)

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Query:
        """Return a query with further conditions: expressions, data IDs, values by dimension name."""
        return self._with(self._terms.narrowed(*args, bind=bind, **kwargs))

    def join_dataset_search(self, dataset_type: str | DatasetType, collections: Any = None) -> Query:
        """Return a query for data IDs of which there is a dataset.

        Parameters
        ----------
        dataset_type : `str` or `DatasetType`
            Of which type.
        collections : `str` or iterable of `str`, optional
            In which collections; the butler's when not given.
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        searched = tuple(self._search(collections))
        return self._with(replace(self._terms, datasets=(*self._terms.datasets, (name, searched))))

    def data_ids(self, dimensions: DimensionGroup | Iterable[str] | str) -> DataCoordinateQueryResults:
        """Return the data IDs of some dimensions."""
        group = DimensionUniverse().conform(dimensions)
        return DataCoordinateQueryResults(self._registry, self._defaults, self._terms, group)

    def datasets(
        self, dataset_type: str | DatasetType, collections: Any = None, *, find_first: bool = True
    ) -> DatasetRefQueryResults:
        """Return the datasets of a type.

        Parameters
        ----------
        dataset_type : `str` or `DatasetType`
            Type.
        collections : `str` or iterable of `str`, optional
            Names and globs; the butler's when not given.
        find_first : `bool`
            Only the first for each data ID, in the order of the collections.

        Raises
        ------
        MissingDatasetTypeError
            If there is no such type; the nearest match is named.
        """
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        found = self._registry.get_dataset_type(name)
        searched = self._search(collections)
        return DatasetRefQueryResults(
            self._registry, self._defaults, self._terms, found, searched, find_first
        )

    def dimension_records(self, element: str) -> DimensionRecordQueryResults:
        """Return the records of a dimension element."""
        return DimensionRecordQueryResults(self._registry, self._defaults, self._terms, element)


def expanded_data_ids(registry: Registry, table: DataIdTable) -> list[DataCoordinate]:
    """Return data IDs with records, fetched in one go for each element.

    Parameters
    ----------
    registry : `Registry`
        Where records are.
    table : `DataIdTable`
        Data IDs.
    """
    if not len(table):
        return []
    table = registry.expand_table(table)
    group = table.dimensions
    records: dict[str, list[DimensionRecord | None]] = {}
    for name in group.elements:
        element = group.universe[name]
        if element.has_own_table and all(n in table.columns for n in element.required):
            records[name] = registry.fetch_records(name, table)
    return [
        data_id.expanded({name: column[row] for name, column in records.items()})
        for row, data_id in enumerate(table)
    ]
