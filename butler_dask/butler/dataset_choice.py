"""Which datasets or data IDs somebody means who names them from a command line.

Dataset types and collections are given by names and globs, how many by a number that may be negative. What
these words stand for is decided here, once for all commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidQueryError, MissingDatasetTypeError
from ..vocabulary.collection import CollectionType, glob_regex, is_glob
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import split_component

if TYPE_CHECKING:
    from .butler import Butler
    from .datasets_of_types import DatasetQueryResults
    from .query import Query
    from .query_results import QueryResults


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetChoice:
    """Datasets, as somebody describes them.

    Parameters
    ----------
    globs : sequence of `str`
        Names and globs of dataset types; none: all.
    collections : sequence of `str`
        Names and globs; none: all.
    where : `str`
        Expression they fulfil.
    find_first : `bool`
        Of each data ID only the first, in the order of ``collections``.
    order_by : sequence of `str`
        What they are sorted by.
    limit : `int`
        At most so many; negative: likewise, and whether there are more is of interest; 0: all.
    offset : `int`
        How many are left out at the start.
    """

    globs: Sequence[str] = ()
    collections: Sequence[str] = ()
    where: str = ""
    find_first: bool = False
    order_by: Sequence[str] = ()
    limit: int = 0
    offset: int = 0

    def results(self, butler: Butler, query: Query) -> DatasetQueryResults:
        """Return all of them, lazily, in their order.

        Parameters
        ----------
        butler : `Butler`
            Where to look.
        query : `Query`
            An open query of it.

        Returns
        -------
        results : `DatasetQueryResults`
            Without ``limit`` and ``offset``.

        Raises
        ------
        InvalidQueryError
            If the first dataset is asked for and there is no order to look in.
        MissingDatasetTypeError
            If a plain name is not registered; the nearest one is named.
        """
        names = _searched_collections(butler, self.collections, find_first=self.find_first)
        kinds = _dataset_types_in(butler, self.globs, names)
        results = query.where(self.where).datasets_of_types(kinds, names, find_first=self.find_first)
        return results.order_by(*self.order_by)

    def tables(self, results: DatasetQueryResults) -> Iterator[tuple[DatasetTable, bool]]:
        """Yield those to show, a table for each type and as the database answers.

        Parameters
        ----------
        results : `DatasetQueryResults`
            As `results` returns them.

        Yields
        ------
        table : `DatasetTable`
            It may be empty.
        cut : `bool`
            Whether there are more than a negative limit lets through; then this table is the last.
        """
        # One row more than shown is asked for where that is of interest.
        most = None if self.limit == 0 else abs(self.limit) + (self.limit < 0)
        asked = 0
        for table in results.limit(most, self.offset).tables:
            asked += len(table)
            cut = self.limit < 0 and asked == most
            yield (table.take(np.arange(len(table) - 1)) if cut else table), cut

    def refs(self, butler: Butler) -> tuple[list[DatasetRef], bool]:
        """Return the datasets, each once, and whether a negative limit left some out.

        Parameters
        ----------
        butler : `Butler`
            Where to look.

        Returns
        -------
        refs : `list` [`DatasetRef`]
            In their order.
        cut : `bool`
            Whether there are more.
        """
        with butler.query() as query:
            refs, cut = self.results(butler, query).first(self.limit or None)
        return list({ref.id: ref for ref in refs}.values()), cut

    def reasons_for_nothing(self, butler: Butler, results: DatasetQueryResults) -> list[str]:
        """Say why there is no such dataset.

        Parameters
        ----------
        butler : `Butler`
            Where was looked.
        results : `DatasetQueryResults`
            As `results` returned them.

        Returns
        -------
        reasons : `list` [`str`]
            First what was looked for, then why it is not there.
        """
        looked = ", ".join(repr(c) for c in self.collections) or "any collection"
        kinds = ", ".join(repr(g) for g in self.globs) or "any type"
        head = f"No dataset of {kinds} in {looked}" + (f" where {self.where}." if self.where else ".")
        asked = list(results.byParentDatasetType())
        reasons = [reason for part in asked[:3] for reason in part.explain_no_results()]
        if not asked:
            known = {t.name for t in butler.registry.queryDatasetTypes(list(self.globs) or ...)}
            if not known:
                reasons = ["No dataset type matches; `butler query-dataset-types` lists them."]
            elif self.collections:
                reasons = [f"The collections hold none of the types {', '.join(sorted(known)[:10])}."]
        return [head, *dict.fromkeys(reasons)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIdChoice:
    """Data IDs or dimension records, as somebody describes them.

    Parameters
    ----------
    datasets : sequence of `str`
        Names and globs of dataset types: only what has a dataset of each.
    collections : sequence of `str`
        Names and globs of the collections of these datasets; none: all.
    where : `str`
        Expression they fulfil.
    order_by : sequence of `str`
        What they are sorted by.
    limit : `int`
        At most so many; negative: likewise, and whether there are more is of interest; 0: all.
    offset : `int`
        How many are left out at the start.
    """

    datasets: Sequence[str] = ()
    collections: Sequence[str] = ()
    where: str = ""
    order_by: Sequence[str] = ()
    limit: int = 0
    offset: int = 0

    def joined(self, butler: Butler, query: Query) -> tuple[list[str], Query]:
        """Return the dataset types meant, and the query for what has a dataset of each.

        Parameters
        ----------
        butler : `Butler`
            Where to look.
        query : `Query`
            An open query of it.

        Returns
        -------
        dataset_types : `list` [`str`]
            Their names.
        query : `Query`
            Joined with them.

        Raises
        ------
        MissingDatasetTypeError
            If no type matches.
        """
        globs = self.datasets
        if not globs:
            return [], query
        names = _searched_collections(butler, self.collections, find_first=False)
        plain = [g for g in globs if not is_glob(g)]
        patterns = [g for g in globs if is_glob(g)]
        matching = _dataset_types_in(butler, patterns, names) if patterns else []
        kinds = list(dict.fromkeys([*plain, *matching]))
        if not kinds:
            raise MissingDatasetTypeError(f"No dataset type in the collections matches {', '.join(globs)}.")
        for name in kinds:
            query = query.join_dataset_search(name, names)
        return kinds, query

    def found(self, results: QueryResults[Any], what: str) -> tuple[list[Any], bool, list[str]]:
        """Return those to show, whether there are more, and why there is none.

        Parameters
        ----------
        results : `QueryResults`
            All that fulfil the conditions.
        what : `str`
            What they are, for messages.

        Returns
        -------
        found : `list`
            Data IDs or records, in their order.
        cut : `bool`
            Whether there are more than a negative limit lets through.
        reasons : `list` [`str`]
            Why nothing was found; empty if something was.
        """
        results = results.order_by(*self.order_by)
        found, cut = results.limit(None, self.offset or None).all_or_explained(
            what, explain=False, limit=self.limit or None
        )
        return found, cut, [] if found else list(results.explain_no_results())


def _searched_collections(butler: Butler, collections: Sequence[str], *, find_first: bool) -> list[str]:
    """Return the collections, none of them a chain, that names and globs (none: all) are about, in order."""
    if find_first and (not collections or any(is_glob(c) for c in collections)):
        raise InvalidQueryError(
            "The first dataset of each data ID is found in collections searched in an order: name them "
            "(--collections A,B), without globs."
        )
    infos = butler.collections.query_info(collections or "*", flatten_chains=bool(collections))
    return [i.name for i in infos if i.type is not CollectionType.CHAINED]


def _dataset_types_in(butler: Butler, globs: Sequence[str], collections: Sequence[str]) -> list[str]:
    """Return the names of the dataset types that match globs (none: all) and are in collections."""
    plain = [g for g in globs if not is_glob(g)]
    for name in plain:
        butler.get_dataset_type(name)
    summaries = butler.collections.query_info(collections, include_summary=True) if collections else []
    present = {t for i in summaries for t in i.dataset_types or ()}
    if not globs:
        return sorted(present)
    patterns = [glob_regex(g) for g in globs]
    matching = {n for n in present if any(p.fullmatch(n) for p in patterns)}
    return sorted(matching | {n for n in plain if split_component(n)[0] in present})
