"""Results of queries: data IDs, datasets, dimension records, and rows of any fields.

``butler.query()`` and ``butler.registry`` give the same ones. Each asks the registry once, when it is first
looked at, and every method returns another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, Self, TypeVar

from ..errors import (
    DatasetTypeError,
    DimensionNameError,
    EmptyQueryResultError,
    InvalidQueryError,
    did_you_mean,
)
from ..vocabulary.collection import is_glob, split_names
from ..vocabulary.data_id import DataCoordinate, DataIdValue, dimension_value
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimension_record import DimensionRecord
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, parse_expression
from ..vocabulary.expression_factory import ExpressionProxy
from ..vocabulary.search_defaults import SearchDefaults
from .query_conditions import QueryConditions
from .registry import Registry

T = TypeVar("T")

DATASET_REF_FIELDS = ("dataset_id", "run")
"""Fields of a dataset that its reference needs."""


@dataclass(frozen=True)
class QueryTerms:
    """What a query asks for, whatever its results are.

    Parameters
    ----------
    where : `tuple` of `str` or `Expression`
        Conditions, all of which must hold.
    bind : mapping
        Values of names in them.
    data_id : mapping
        Values of dimensions.
    datasets : `tuple` of (`str`, `tuple` [`str`, ...])
        Dataset types, and collections, of which there must be one.
    among : `tuple` [`DataIdTable`, ...]
        Data IDs given.
    joined : `DimensionGroup`
        Dimensions joined beside those of the results.
    order_by : `tuple` of `str` or `Expression`
        Names, ``-`` before those in falling order.
    limit, offset : `int`, optional
        Rows returned, and rows passed over before.
    """

    where: tuple[str | Expression, ...] = ()
    bind: Mapping[str, Any] = field(default_factory=dict)
    data_id: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    among: tuple[DataIdTable, ...] = ()
    joined: DimensionGroup = field(default_factory=lambda: DimensionUniverse().empty)
    order_by: tuple[str | Expression, ...] = ()
    limit: int | None = None
    offset: int | None = None

    def narrowed(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> QueryTerms:
        """Return the terms with further conditions.

        Parameters
        ----------
        *args : `str`, `Expression`, mapping or `DataCoordinate`
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
            if arg is None or (isinstance(arg, str) and not arg.strip()):
                continue
            if isinstance(arg, str):
                parse_expression(arg)  # A slip of the pen is told where it was made.
                where.append(arg)
            elif isinstance(arg, Expression):
                where.append(arg)
            elif isinstance(arg, ExpressionProxy):
                where.append(arg.node)
            elif isinstance(arg, (DataCoordinate, Mapping)):
                data_id.update(_checked(arg.mapping if isinstance(arg, DataCoordinate) else arg))
            else:
                raise InvalidQueryError(
                    f"A condition is an expression or a data ID, not {type(arg).__name__} {arg!r}"
                )
        data_id.update(_checked(kwargs))
        return replace(self, where=tuple(where), bind={**self.bind, **(bind or {})}, data_id=data_id)

    def ordered(self, *names: Any) -> QueryTerms:
        """Return the terms with further names to sort by, after those known."""
        return replace(self, order_by=(*self.order_by, *_order_terms(names)))

    def conditions(self, defaults: SearchDefaults) -> QueryConditions:
        """Return what restricts the rows, as the registry takes it."""
        return {
            "where": self.where,
            "bind": dict(self.bind) or None,
            "data_id": self.data_id,
            "datasets": self.datasets,
            "among": self.among,
            "joined": self.joined,
            "default": defaults.value,
        }


def _checked(values: Mapping[str, Any]) -> dict[str, DataIdValue]:
    universe = DimensionUniverse()
    out: dict[str, DataIdValue] = {}
    for name, value in values.items():
        if value is None:
            continue
        element = universe[str(name)]
        if not element.is_dimension:
            raise DimensionNameError(f"{name!r} is a relation, not a dimension; it has no value")
        out[name] = dimension_value(name, value)
    return out


def _order_terms(terms: Iterable[Any]) -> list[str | Expression]:
    out: list[str | Expression] = []
    for term in terms:
        if isinstance(term, ExpressionProxy):
            out.append(term.node)
        elif isinstance(term, Expression):
            out.append(term)
        elif isinstance(term, str):
            out += split_names(term) or [term]
        else:
            raise InvalidQueryError(f"order_by takes names, not {term!r}")
    return out


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
        self._found: Sequence[T] | None = None

    @property
    def query_terms(self) -> QueryTerms:
        """What is asked for."""
        return self._terms

    def _with(self, terms: QueryTerms) -> Self:
        raise NotImplementedError

    def _fetch(self, limit: int | None = None) -> Sequence[T]:
        raise NotImplementedError

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the results."""
        raise NotImplementedError

    def _conditions(self) -> QueryConditions:
        return self._terms.conditions(self._defaults)

    def where(self, *args: Any, bind: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Return results with further conditions: expressions, data IDs, values by dimension name."""
        return self._with(self._terms.narrowed(*args, bind=bind, **kwargs))

    def order_by(self, *names: str | Expression | ExpressionProxy) -> Self:
        """Return results sorted by names (``visit``, ``-exposure.timespan.begin``), after any known ones."""
        return self._with(self._terms.ordered(*names))

    def limit(self, limit: int | None = None, offset: int | None = None) -> Self:
        """Return the first results only, some passed over before."""
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise InvalidQueryError(f"{name} is {value}; it cannot be negative here")
        return self._with(replace(self._terms, limit=limit, offset=offset))

    def _all(self) -> Sequence[T]:
        if self._found is None:
            self._found = self._fetch()
        return self._found

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of results.

        Parameters
        ----------
        exact, discard : `bool`
            Accepted as the reference does; the count is always exact.
        """
        return len(self)

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any result.

        Parameters
        ----------
        execute : `bool`
            Whether to ask the database; otherwise `False` only if the collections are known to hold nothing.
        exact : `bool`
            Whether the answer must be certain.

        Raises
        ------
        InvalidQueryError
            If it must be certain, the database is not to be asked, and nothing speaks against results.
        """
        if execute:
            return len(self._fetch(1) if self._found is None else self._found) > 0
        if self.explain_no_results(execute=False):
            return False
        if exact:
            raise InvalidQueryError("Whether there is any result is only known by execute=True.")
        return True

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no result, a sentence a reason; none if there is one."""
        return self._registry.explain_data_ids(self.dimensions, execute=execute, **self._conditions())

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
            # The query is made, to find its errors, and nothing is returned.
            self._fetch(0)
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

    def _most(self, limit: int | None) -> int | None:
        known = [n for n in (limit, self._terms.limit) if n is not None]
        return min(known) if known else None


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
        self._group, self.has_dimension_records = dimensions, expanded

    def _with(self, terms: QueryTerms) -> DataCoordinateQueryResults:
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, self._group, self.has_dimension_records
        )

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the data IDs."""
        return self._group

    def table(self, limit: int | None = None) -> DataIdTable:
        """Return the data IDs as columns."""
        return self._registry.query_data_ids(
            self._group,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._conditions(),
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DataCoordinate]:
        table = self.table(limit)
        return self._registry.expand_data_ids(table) if self.has_dimension_records else list(table)

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of data IDs, counted by the database."""
        if self._found is not None or self._terms.limit is not None or self._terms.offset:
            return len(self)
        return self._registry.count_data_ids(self._group, **self._conditions())

    def with_dimension_records(self) -> DataCoordinateQueryResults:
        """Return results whose data IDs carry their records."""
        return DataCoordinateQueryResults(self._registry, self._defaults, self._terms, self._group, True)

    expanded = with_dimension_records

    def hasFull(self) -> bool:
        """Return whether data IDs have values of implied dimensions; they do."""
        return True

    def hasRecords(self) -> bool:
        """Return whether data IDs carry their records."""
        return self.has_dimension_records

    def toSet(self) -> frozenset[DataCoordinate]:
        """Return the data IDs as a set."""
        return frozenset(self)

    def toSequence(self) -> list[DataCoordinate]:
        """Return the data IDs as a list."""
        return list(self)

    def subset(
        self, dimensions: DimensionGroup | Iterable[str] | str | None = None, *, unique: bool = False
    ) -> DataCoordinateQueryResults:
        """Return the data IDs of fewer dimensions, each once.

        Parameters
        ----------
        dimensions : iterable of `str`, optional
            Dimensions kept; all by default.
        unique : `bool`
            Accepted as the reference does; data IDs are always unique.

        Raises
        ------
        DimensionNameError
            If these data IDs do not have one of the dimensions.
        """
        group = self._group if dimensions is None else DimensionUniverse().conform(dimensions)
        if not group <= self._group:
            raise DimensionNameError(f"Data IDs of {self._group} have no subset of {group}.")
        terms = replace(self._terms, joined=self._terms.joined.union(self._group))
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, group, self.has_dimension_records
        )

    @contextmanager
    def materialize(self) -> Iterator[DataCoordinateQueryResults]:
        """Ask now, and give results that are looked up among these data IDs."""
        table = self.table()
        yield DataCoordinateQueryResults(
            self._registry,
            self._defaults,
            QueryTerms(among=(table,), order_by=self._terms.order_by),
            self._group,
            self.has_dimension_records,
        )

    def findDatasets(
        self,
        datasetType: DatasetType | str,
        collections: Any,
        *,
        findFirst: bool = True,
        components: bool = False,
    ) -> DatasetRefQueryResults:
        """Return the datasets of a type for these data IDs, whose dimensions are at least the type's.

        Raises
        ------
        DatasetTypeError
            If the type has dimensions beyond these.
        """
        kind = self._registry.get_dataset_type(
            datasetType if isinstance(datasetType, str) else datasetType.name
        )
        kind = with_storage_class(kind, datasetType)
        if not kind.dimensions <= self._group:
            raise DatasetTypeError(
                f"Datasets of type {kind.name!r} have dimensions {kind.dimensions}, beyond {self._group} of "
                "the data IDs; findRelatedDatasets joins them."
            )
        return self._datasets(kind, collections, findFirst)

    def findRelatedDatasets(
        self,
        datasetType: DatasetType | str,
        collections: Any,
        *,
        findFirst: bool = True,
        dimensions: DimensionGroup | Iterable[str] | None = None,
    ) -> Iterator[tuple[DataCoordinate, DatasetRef]]:
        """Yield data IDs with datasets of a type that relate to them, by dimensions or overlap.

        Parameters
        ----------
        datasetType : `DatasetType` or `str`
            Type.
        collections : `str` or iterable of `str`
            Where to look.
        findFirst : `bool`
            Only the first dataset of each of its data IDs.
        dimensions : iterable of `str`, optional
            Dimensions of the data IDs yielded; those of these results by default.
        """
        kind = self._registry.get_dataset_type(
            datasetType if isinstance(datasetType, str) else datasetType.name
        )
        own = self._group if dimensions is None else DimensionUniverse().conform(dimensions)
        datasets = self._datasets(kind, collections, findFirst)
        refs = {ref.dataId: ref for ref in datasets} if findFirst else None
        terms = datasets.data_ids.query_terms
        pairs = DataCoordinateQueryResults(
            self._registry, self._defaults, terms, own.union(kind.dimensions, self._group)
        )
        by_id: dict[DataCoordinate, list[DatasetRef]] = {}
        for ref in datasets if refs is None else refs.values():
            by_id.setdefault(ref.dataId, []).append(ref)
        seen = set()
        for data_id in pairs:
            key = data_id.subset(own)
            for ref in by_id.get(data_id.subset(kind.dimensions), ()):
                if (key, ref.id) not in seen:
                    seen.add((key, ref.id))
                    yield key, ref

    def _datasets(self, kind: DatasetType, collections: Any, find_first: bool) -> DatasetRefQueryResults:
        names = [collections] if isinstance(collections, str) else list(collections)
        terms = replace(
            self._terms,
            joined=self._terms.joined.union(self._group),
            order_by=(),
            limit=None,
            offset=None,
        )
        if self._terms.limit is not None or self._terms.offset:
            terms = QueryTerms(among=(self.table(),))
        return DatasetRefQueryResults(self._registry, self._defaults, terms, kind, names, find_first)


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
        self.has_dimension_records = expanded

    def _with(self, terms: QueryTerms) -> DatasetRefQueryResults:
        return self._same(terms, self.has_dimension_records)

    def _same(self, terms: QueryTerms, expanded: bool) -> DatasetRefQueryResults:
        return DatasetRefQueryResults(
            self._registry, self._defaults, terms, self._type, self._collections, self._find_first, expanded
        )

    @property
    def _name(self) -> str:
        return self._type.nameAndComponent()[0]

    def _conditions(self) -> QueryConditions:
        conditions = super()._conditions()
        others = [d for d in self._terms.datasets if d[0] != self._name]
        conditions["datasets"] = [*others, (self._name, self._collections)]
        return conditions

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the datasets."""
        return self._type.dimensions

    @property
    def dataset_type(self) -> DatasetType:
        """Type of the datasets."""
        return self._type

    @property
    def data_ids(self) -> DataCoordinateQueryResults:
        """The data IDs there are datasets for."""
        searched = tuple((n, tuple(c)) for n, c in self._conditions()["datasets"])
        terms = replace(self._terms, datasets=searched)
        return DataCoordinateQueryResults(
            self._registry, self._defaults, terms, self.dimensions, self.has_dimension_records
        )

    @property
    def parentDatasetType(self) -> DatasetType:
        """Type of the datasets, of which they may be components."""
        return self._registry.get_dataset_type(self._name) if self._type.isComponent() else self._type

    dataIds = data_ids

    def byParentDatasetType(self) -> Iterator[DatasetRefQueryResults]:
        """Yield the results of each type: these."""
        yield self

    def table(self, limit: int | None = None) -> DatasetTable:
        """Return the datasets as columns."""
        return self._registry.query_datasets(
            self._name,
            list(self._collections),
            find_first=self._find_first,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._terms.conditions(self._defaults),
        )

    def _fetch(self, limit: int | None = None) -> Sequence[DatasetRef]:
        table = self.table(limit)
        refs = list(table)
        if (
            self._type.storageClass_name != table.dataset_type.storageClass_name
            and not self._type.isComponent()
        ):
            refs = [ref.overrideStorageClass(self._type.storageClass_name) for ref in refs]
        if self.has_dimension_records:
            data_ids: Iterable[DataCoordinate] = self._registry.expand_data_ids(table.data_ids)
        elif self.dimensions.implied:
            data_ids = self._registry.expand_table(table.data_ids)
        else:
            data_ids = ()
        for i, data_id in enumerate(data_ids):
            refs[i] = refs[i].expanded(data_id)
        component = self._type.component()
        return refs if component is None else [ref.makeComponentRef(component) for ref in refs]

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of datasets."""
        return len(self.table() if self._found is None else self._found)

    def with_dimension_records(self) -> DatasetRefQueryResults:
        """Return results whose data IDs carry their records."""
        return self._same(self._terms, True)

    expanded = with_dimension_records


class DatasetQueryResults:
    """Datasets of several types, one after the other; what ``butler.registry.queryDatasets`` gives.

    Parameters
    ----------
    parts : sequence of `DatasetRefQueryResults`
        The results of each type.
    """

    def __init__(self, parts: Sequence[DatasetRefQueryResults]) -> None:
        self._parts = tuple(parts)

    def __iter__(self) -> Iterator[DatasetRef]:
        return (ref for part in self._parts for ref in part)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    @property
    def tables(self) -> list[DatasetTable]:
        """The datasets as columns, a table for each type that has any."""
        return [table for part in self._parts if len(table := part.table())]

    def byParentDatasetType(self) -> Iterator[DatasetRefQueryResults]:
        """Yield the results of each type."""
        return iter(self._parts)

    def expanded(self) -> DatasetQueryResults:
        """Return results whose data IDs carry their records."""
        return DatasetQueryResults([p.expanded() for p in self._parts])

    def count(self, *, exact: bool = True, discard: bool = False) -> int:
        """Return the number of datasets."""
        return sum(p.count() for p in self._parts)

    def any(self, *, execute: bool = True, exact: bool = True) -> bool:
        """Return whether there is any dataset; see `QueryResults.any`."""
        return any(p.any(execute=execute, exact=exact) for p in self._parts)

    def explain_no_results(self, execute: bool = True) -> list[str]:
        """Return why there is no dataset, a sentence a reason; none if there is one."""
        if not self._parts:
            return ["No dataset type matches."]
        reasons = [p.explain_no_results(execute) for p in self._parts]
        return [r for own in reasons for r in own] if all(reasons) else []


class DimensionRecordQueryResults(QueryResults[DimensionRecord]):
    """Records of one dimension element."""

    def __init__(self, registry: Registry, defaults: SearchDefaults, terms: QueryTerms, element: str) -> None:
        super().__init__(registry, defaults, terms)
        self._element = DimensionUniverse()[element]

    def _with(self, terms: QueryTerms) -> DimensionRecordQueryResults:
        return DimensionRecordQueryResults(self._registry, self._defaults, terms, self._element.name)

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions that identify a record."""
        return self._element.dimensions

    @property
    def element(self) -> DimensionElement:
        """Whose records they are."""
        return self._element

    def _fetch(self, limit: int | None = None) -> Sequence[DimensionRecord]:
        return self._registry.query_dimension_records(
            self._element.name,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._conditions(),
        )


class GeneralResultTuple(NamedTuple):
    """One row of general results: its data ID, datasets, and all of its values by name."""

    data_id: DataCoordinate
    refs: list[DatasetRef]
    raw_row: dict[str, Any]


class GeneralQueryResults(QueryResults[dict[str, Any]]):
    """Rows of data ID values and fields, as `dict`.

    Parameters
    ----------
    registry, defaults, terms
        See `QueryResults`.
    dimensions : `DimensionGroup`
        Dimensions of the rows.
    fields : sequence of `str`
        ``element.field`` and ``dataset_type.field``.
    find_first : `str` or `None`
        Dataset type of which only the first dataset of each data ID counts.
    expanded : `bool`
        Whether rows hold all fields of the dimensions' records.
    """

    def __init__(
        self,
        registry: Registry,
        defaults: SearchDefaults,
        terms: QueryTerms,
        dimensions: DimensionGroup,
        fields: Sequence[str],
        find_first: str | None,
        expanded: bool = False,
    ) -> None:
        super().__init__(registry, defaults, terms)
        self._group, self._fields, self._find_first = dimensions, tuple(fields), find_first
        self.has_dimension_records = expanded

    def _with(self, terms: QueryTerms) -> GeneralQueryResults:
        return self._same(terms, self.has_dimension_records)

    def _same(self, terms: QueryTerms, expanded: bool) -> GeneralQueryResults:
        return GeneralQueryResults(
            self._registry, self._defaults, terms, self._group, self._fields, self._find_first, expanded
        )

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the rows."""
        return self._group

    def with_dimension_records(self) -> GeneralQueryResults:
        """Return results whose rows hold the fields of dimension records, and data IDs the records."""
        return self._same(self._terms, True)

    def _record_fields(self) -> list[str]:
        universe = DimensionUniverse()
        out = []
        for name in self._group.elements if self.has_dimension_records else ():
            element = universe[name]
            if element.has_own_table:
                out += [f"{name}.{f}" for f in element.schema.names if f not in self._group.names]
        own = {f"{n}.{key.name}" for n in self._group.names if (key := universe[n].key) is not None}
        return [f for f in dict.fromkeys(out) if f not in own]

    def _fetch(self, limit: int | None = None) -> Sequence[dict[str, Any]]:
        return self._registry.query_rows(
            self._group,
            list(dict.fromkeys([*self._fields, *self._record_fields()])),
            find_first=self._find_first,
            order_by=self._terms.order_by,
            limit=self._most(limit),
            offset=self._terms.offset,
            **self._conditions(),
        )

    def iter_tuples(self, *dataset_types: DatasetType) -> Iterator[GeneralResultTuple]:
        """Yield rows as data ID, references to datasets of some types, and values.

        Raises
        ------
        InvalidQueryError
            If the fields a reference needs were not asked for.
        """
        for kind in dataset_types:
            needed = [f"{kind.name}.{f}" for f in DATASET_REF_FIELDS]
            absent = [f for f in needed if f not in self._fields]
            if absent:
                raise InvalidQueryError(
                    f"References to {kind.name!r} need the fields {', '.join(absent)}; "
                    f"ask for them by dataset_fields={{{kind.name!r}: ...}}."
                )
        rows = list(self)
        keys = self._group.data_coordinate_keys
        table = DataIdTable.from_values(self._group, {k: [r[k] for r in rows] for k in keys}, len(rows))
        data_ids = self._registry.expand_data_ids(table) if self.has_dimension_records else list(table)
        for row, data_id in zip(rows, data_ids, strict=True):
            refs = [
                DatasetRef(
                    kind,
                    data_id.subset(kind.dimensions),
                    row[f"{kind.name}.run"],
                    id=row[f"{kind.name}.dataset_id"],
                )
                for kind in dataset_types
            ]
            yield GeneralResultTuple(data_id, refs, row)


def require_order(collections: Any) -> None:
    """Raise if collections are given by globs, which have no order in which a dataset is first.

    Raises
    ------
    InvalidQueryError
        If they are.
    """
    given = [collections] if isinstance(collections, str) else collections or ()
    if collections is ... or any(map(is_glob, given)):
        raise InvalidQueryError(
            f"Which dataset is the first depends on the order of collections, and globs have none: name the "
            f"collections instead of {collections!r}, or give find_first=False to get all datasets."
        )


def with_storage_class(registered: DatasetType, asked: DatasetType | str) -> DatasetType:
    """Return a registered dataset type, to be read as the storage class it was asked for with."""
    if isinstance(asked, str) or asked.storageClass_name == registered.storageClass_name:
        return registered
    return registered.overrideStorageClass(asked.storageClass_name)


def general_fields(
    names: Iterable[str],
    dimension_fields: Mapping[str, Iterable[str]],
    dataset_fields: Mapping[str, Any],
    dataset_types: Iterable[str],
    dimensions: DimensionGroup,
) -> list[str]:
    """Return the qualified names of the fields asked for, in order.

    Raises
    ------
    InvalidQueryError
        If one is none, or of a dataset type that is not joined.
    """
    universe, known = DimensionUniverse(), list(dataset_types)
    out = list(names)
    for element, fields in dimension_fields.items():
        out += [f"{universe[element].name}.{f}" for f in fields]
    for name, fields in dataset_fields.items():
        if name not in known:
            raise InvalidQueryError(
                f"Dataset type {name!r} is not in the query; add join_dataset_search({name!r}, ...)."
                f"{did_you_mean(name, known)}"
            )
        out += [f"{name}.{f}" for f in (DATASET_REF_FIELDS if fields is ... else fields)]
    return [_qualified(n, dimensions) for n in dict.fromkeys(out)]


def _qualified(name: str, dimensions: DimensionGroup) -> str:
    # `purpose` is `detector.purpose` where only the detector has one; anything else the registry judges.
    if "." in name:
        return name
    universe = DimensionUniverse()
    owners = [n for n in dimensions.elements if name in universe[n].schema.names]
    return f"{owners[0]}.{name}" if len(owners) == 1 else name
