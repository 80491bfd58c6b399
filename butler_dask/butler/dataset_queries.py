"""DatasetQueries: the queries of a butler, each a list at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import MissingDatasetTypeError
from ..vocabulary.collection import split_names
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.selection import Selection
from .butler_parts import ButlerParts
from .dataset_finder import DataIdLike
from .dataset_results import require_order
from .query import Query

_LOG = logging.getLogger("butler_dask.butler")

DEFAULT_LIMIT = -20_000
"""Rows a query returns before it warns that there are more."""


class DatasetQueries(ButlerParts):
    """Queries over a registry, with a butler's defaults; `Butler` inherits them."""

    def _query(
        self, data_id: DataIdLike, where: str, bind: Mapping[str, Any] | None, kwargs: Mapping[str, Any]
    ) -> Query:
        selection = Selection(default=self._defaults.value).where(data_id, where, bind=bind, **kwargs)
        return Query(self._registry, self._finder.searched, selection)

    @contextmanager
    def query(self) -> Iterator[Query]:
        """Give a query to build on: ``with butler.query() as q: q.data_ids(["visit"]).where(...)``."""
        yield self._query(None, "", None, {})

    # The reference's keywords, each one's own.
    def query_datasets(
        self,
        dataset_type: str | DatasetType,
        collections: str | Iterable[str] | None = None,
        *,
        find_first: bool = True,
        data_id: DataIdLike = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        with_dimension_records: bool = False,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = DEFAULT_LIMIT,
        explain: bool = True,
        **kwargs: Any,
    ) -> list[DatasetRef]:
        """Return the datasets of a type.

        Parameters
        ----------
        dataset_type : `str` or `DatasetType`
            Type.
        collections : `str` or iterable of `str`, optional
            Names and globs; the butler's when not given.
        find_first : `bool`
            Only the first for each data ID, in the order of the collections.
        data_id : mapping or `DataCoordinate`, optional
            Values of dimensions.
        where : `str`
            Expression of the query language.
        bind : mapping, optional
            Values of names in the expression.
        with_dimension_records : `bool`
            Whether data IDs carry their records.
        order_by : `str` or iterable of `str`, optional
            Names, ``-`` before those in falling order.
        limit : `int`, optional
            At most so many; negative: the same, with a warning when there are more; `None`: all.
        explain : `bool`
            Raise `EmptyQueryResultError` with the reasons when there is none.
        **kwargs
            Further values of dimensions.

        Raises
        ------
        EmptyQueryResultError
            If there is none and ``explain`` is set.
        InvalidQueryError
            If the expression is not well formed.
        MissingDatasetTypeError, MissingCollectionError
            If there is no such dataset type or collection.
        """
        query = self._query(data_id, where, bind, kwargs)
        with self._registry.snapshot():  # one state of the database for all of it, and one connection
            results = query.datasets(dataset_type, collections, find_first=find_first)
            results = results.order_by(*split_names(order_by or ()))
            if with_dimension_records:
                results = results.with_dimension_records()
            what = f"{results.dataset_type.name!r} datasets"
            found, cut = results.all_or_explained(what, explain=explain, limit=limit)
        _warn_of_more(what, cut, limit)
        return found

    def query_data_ids(
        self,
        dimensions: DimensionGroup | Iterable[str] | str,
        *,
        data_id: DataIdLike = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        with_dimension_records: bool = False,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = DEFAULT_LIMIT,
        explain: bool = True,
        **kwargs: Any,
    ) -> list[DataCoordinate]:
        """Return data IDs of some dimensions; other arguments are those of `query_datasets`."""
        results = self._query(data_id, where, bind, kwargs).data_ids(dimensions)
        results = results.order_by(*split_names(order_by or ()))
        if with_dimension_records:
            results = results.with_dimension_records()
        found, cut = results.all_or_explained("data IDs", explain=explain, limit=limit)
        _warn_of_more("data IDs", cut, limit)
        return found

    def query_dimension_records(
        self,
        element: str,
        *,
        data_id: DataIdLike = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = DEFAULT_LIMIT,
        explain: bool = True,
        **kwargs: Any,
    ) -> list[DimensionRecord]:
        """Return records of a dimension element; other arguments are those of `query_datasets`."""
        results = self._query(data_id, where, bind, kwargs).dimension_records(element)
        results = results.order_by(*split_names(order_by or ()))
        found, cut = results.all_or_explained(f"{element} records", explain=explain, limit=limit)
        _warn_of_more(f"{element} records", cut, limit)
        return found

    def query_all_datasets(
        self,
        collections: str | Iterable[str] | None = None,
        *,
        name: str | Iterable[str] = "*",
        find_first: bool = True,
        data_id: DataIdLike = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        limit: int | None = DEFAULT_LIMIT,
        **kwargs: Any,
    ) -> list[DatasetRef]:
        """Return the datasets of several types, in the order of their names.

        Parameters
        ----------
        name : `str` or iterable of `str`
            Names and globs of dataset types.
        collections, find_first, data_id, where, bind, limit, **kwargs
            See `query_datasets`.

        Raises
        ------
        InvalidQueryError
            If collections are given by globs, and the first datasets are asked for.
        MissingDatasetTypeError
            If no dataset type matches.
        """
        if find_first:
            require_order(collections)
        query = self._query(data_id, where, bind, kwargs)
        searched = self._finder.searched(collections)
        infos = self._registry.collections.query(searched, flatten_chains=True, include_summary=True)
        held = {n for info in infos for n in info.dataset_types or ()}
        kinds = self._registry.dataset_types.query(name)
        if not kinds and name != "*":
            raise MissingDatasetTypeError(f"No dataset type matches {name!r}.")
        present = [kind for kind in kinds if kind.name in held]
        found, cut = query.datasets_of_types(present, searched, find_first=find_first).first(limit)
        _warn_of_more("datasets", cut, limit)
        return found


def _warn_of_more(what: str, cut: bool, limit: int | None) -> None:
    if cut and limit is not None:
        _LOG.warning("More %s are available than the %d returned; give limit=None for all.", what, -limit)
