"""Queries: data IDs, dimension records and datasets under a condition; and why there are none."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import CalibrationLookupError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Name
from ..vocabulary.selection import Selection
from ..vocabulary.timespan import Timespan, time_of_tai_nanoseconds
from .candidates import Candidates
from .data_id_query import DataIdQuery
from .database import Database
from .dataset_search import DatasetSearch
from .dimension_records import records_of_rows
from .empty_answer import EmptyAnswer
from .incomplete_data_id import complete_data_id
from .open_values import OpenValues
from .query_plans import QueryPlan, QueryPlans
from .resolved_selection import DatasetJoin, ResolvedSelection
from .schema import element_tables
from .session import Session

_EVERYTHING = Selection()


class Queries:
    """Queries of a registry.

    Parameters
    ----------
    database : `Database`
        Where to ask.
    search : `DatasetSearch`
        Dataset searches.
    """

    def __init__(self, database: Database, search: DatasetSearch) -> None:
        self._database, self._search = database, search
        self._plans = QueryPlans()

    def data_ids(self, dimensions: DimensionGroup, selection: Selection = _EVERYTHING) -> DataIdTable:
        """Return the data IDs for which records, datasets and sky overlaps exist.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the result.
        selection : `Selection`
            What is asked for; everything by default.

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
        keys = dimensions.data_coordinate_keys
        with self._database.read() as session, ExitStack() as stack:
            resolved = self._resolved(session, selection)

            def query(opened: OpenValues | None) -> DataIdQuery:
                return DataIdQuery(session, stack, dimensions, resolved, implied=True, opened=opened)

            if not keys:
                return DataIdTable.from_values(dimensions, {}, int(query(None).any()))
            portions = self._portions(
                session, ("data IDs", dimensions), resolved, query, lambda made: made.tables.labelled(keys)
            )
            rows = [row for part in portions for row in part]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(keys)
        # Implied values that records leave open (an exposure without day) are not known for any row then.
        values = {
            k: c for k, c in zip(keys, columns, strict=True) if k in dimensions.required or None not in c
        }
        return DataIdTable.from_values(dimensions, values, len(rows))

    def _resolved(self, session: Session, selection: Selection) -> ResolvedSelection:
        joins = []
        for name, collections in selection.datasets:
            kind = session.definitions.dataset_type(name)
            joins.append(DatasetJoin(kind, self._search.leaves(session, kind, collections)))
        return ResolvedSelection(selection, joins)

    def _portions(
        self,
        session: Session,
        about: Hashable,
        resolved: ResolvedSelection,
        make: Callable[[OpenValues | None], DataIdQuery],
        columns_of: Callable[[DataIdQuery], list[Any]],
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Return the rows of a query in portions, by a statement that is known, if one is.

        Parameters
        ----------
        session : `Session`
            From `Database.read`.
        about : hashable
            What is read, beside all that the selection says.
        resolved : `ResolvedSelection`
            What restricts it.
        make : callable
            Makes the query, some of its values left open.
        columns_of : callable
            Gives the columns that are read.
        """
        selection = resolved.selection
        opened = OpenValues(selection)
        key = self._plans.key(about, resolved, opened)
        plan = None if key is None else self._plans.find(key, resolved, opened)
        if plan is None:
            query = make(opened)
            columns = columns_of(query)
            part = {"limit": selection.limit, "offset": selection.offset}
            if key is None or not query.tables.are_lasting or not query.sorts_within:
                return query.portions(columns, **part)
            dialect, statement = session.connection.dialect, query.sorted_statement(columns, **part)
            plan = QueryPlan.of(statement, dialect, len(columns), query.defaults)
            self._plans.keep(key, opened, plan)
        return plan.portions(session, opened.values)

    def records(self, element_name: str, selection: Selection = _EVERYTHING) -> list[DimensionRecord]:
        """Return records of one element that are selected; see `data_ids`."""
        element = DimensionUniverse().element(element_name)
        if not element.has_records:
            # Records of sky pixels are computed from their numbers.
            pixels = self.data_ids(element.dimensions, selection)
            return [
                element.RecordClass(id=pixel, region=element.pixelization.pixel(pixel))
                for pixel in pixels.values(element_name).tolist()
            ]
        names = [c.name for c in element_tables[element_name].columns]
        with self._database.read() as session, ExitStack() as stack:
            resolved = self._resolved(session, selection)

            def query(opened: OpenValues | None) -> DataIdQuery:
                return DataIdQuery(
                    session,
                    stack,
                    element.dimensions,
                    resolved,
                    elements=(element_name,),
                    opened=opened,
                )

            portions = self._portions(
                session,
                ("records", element_name),
                resolved,
                query,
                lambda made: [made.tables.element(element_name).c[n] for n in names],
            )
            return list(records_of_rows(element, (row for part in portions for row in part)))

    def datasets(
        self,
        dataset_type_name: str,
        collections: str | Sequence[str],
        selection: Selection = _EVERYTHING,
        *,
        find_first: bool = True,
    ) -> DatasetTable:
        """Return datasets of one type.

        Parameters
        ----------
        dataset_type_name : `str`
            Type.
        collections : sequence of `str`
            Where to look, in this order.
        selection : `Selection`
            What is asked for; the condition may also name ``<type>.run``, ``.collection``,
            ``.ingest_date``, ``.dataset_id``, ``.timespan``.
        find_first : `bool`
            Only the first dataset of each data ID; else all, each once.

        Returns
        -------
        datasets : `DatasetTable`
            In search order of their collections, unless sorted otherwise.

        Raises
        ------
        CalibrationLookupError
            With ``find_first``, if a CALIBRATION collection has several datasets for a data ID.
        """
        name = dataset_type_name
        names = [collections] if isinstance(collections, str) else collections
        with self._database.read() as session, ExitStack() as stack:
            kind = session.definitions.dataset_type(name)
            leaves = self._search.leaves(session, kind, names)
            resolved = self._resolved(session, selection)
            others = [d for d in resolved.joins if d.name != name]
            # Of one collection all are first; of several, the first are only known when all are read.
            at_once = len(leaves) == 1 and leaves[0].type is not CollectionType.CALIBRATION
            asked = selection if at_once else selection.part(None)
            resolved = ResolvedSelection(asked, [DatasetJoin(kind, leaves), *others])
            own_names = ["dataset_id", "uuid", "run_id"]
            if any(leaf.type is not CollectionType.RUN for leaf in leaves):
                own_names += ["collection_id", "begin_ns", "end_ns"]

            def query(opened: OpenValues | None) -> DataIdQuery:
                group = kind.definition.dimensions
                made = DataIdQuery(session, stack, group, resolved, opened=opened)
                # Rows say which dataset they are of; so that there are several collections doubles none, but
                # those of other types do.
                made.unique = made.group.issubset(group) and (made.unique or not others)
                return made

            def columns_of(made: DataIdQuery) -> list[Any]:
                c = made.tables.dataset_columns(kind.definition.name)
                return [c[n] for n in (*kind.tables.keys, *own_names)]

            portions = self._portions(session, "datasets", resolved, query, columns_of)
            candidates = Candidates.of_rows(kind, leaves, portions)
            if find_first and not at_once:
                chosen = candidates.first_of_each()
            elif at_once:
                chosen = np.arange(len(candidates))
            else:
                chosen = np.sort(np.unique(candidates.row_ids, return_index=True)[1])
            if selection.order_by:
                # `candidates` are in search order; the rows came in the order asked for.
                chosen = chosen[np.argsort(candidates.places[chosen], kind="stable")]
            if not at_once:
                start, limit = selection.offset or 0, selection.limit
                chosen = chosen[start : None if limit is None else start + limit]
            return candidates.table(session.definitions, chosen.astype(np.int64))

    def rows(
        self,
        dimensions: DimensionGroup,
        fields: Sequence[str] = (),
        selection: Selection = _EVERYTHING,
        *,
        find_first: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return unique rows of data ID values and any fields, by name.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the rows.
        fields : sequence of `str`
            ``element.field`` and ``dataset_type.field``.
        selection : `Selection`
            What is asked for; everything by default.
        find_first : `str`, optional
            Dataset type of which only the first dataset of each data ID counts.
        """
        limit, offset = selection.limit, selection.offset
        with self._database.read() as session, ExitStack() as stack:
            resolved = self._resolved(session, selection)
            nodes = [Name(0, f) for f in fields]
            query = DataIdQuery(
                session,
                stack,
                dimensions,
                resolved,
                fields=nodes,
                implied=True,
            )
            keys = dimensions.data_coordinate_keys
            columns = query.tables.labelled(keys)
            operands = [query.operand(node) for node in nodes]
            readers = []
            for name, operand in zip(fields, operands, strict=True):
                own = query.tables.columns_of(operand)
                readers.append((name, len(columns), operand.kind))
                columns += [c.label(f"field_{len(columns) + i}") for i, c in enumerate(own)]
            chosen = query.tables.dataset_columns(find_first) if find_first is not None else None
            width = len(columns)
            if chosen is not None:
                columns += [chosen.collection_id, chosen.dataset_id]
            query.unique = False
            rows = query.fetch(
                columns, limit=limit if chosen is None else None, offset=offset if chosen is None else None
            )
            if chosen is not None:
                leaves = next(d.leaves for d in resolved.joins if d.name == find_first)
                rank = {leaf.id: i for i, leaf in enumerate(leaves)}
                certified = {x.id for x in leaves if x.type is CollectionType.CALIBRATION}
                rows = _first_rows(rows, len(keys), width, rank, certified, str(find_first))
                rows = rows[offset or 0 :][:limit]
        out = []
        for row in rows:
            values: dict[str, Any] = dict(zip(keys, row, strict=False))
            for name, i, kind in readers:
                values[name] = _python_value(kind, row[i : i + 2])
            out.append(values)
        return out

    def complete(self, mapping: Mapping[str, Any], dimensions: DimensionGroup) -> DataCoordinate:
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
        return complete_data_id(self._database, mapping, dimensions)

    def count(self, dimensions: DimensionGroup, selection: Selection = _EVERYTHING) -> int:
        """Return how many rows `data_ids` would give without a limit; counted by the database."""
        with self._database.read() as session, ExitStack() as stack:
            unsorted = replace(selection, order_by=())
            resolved = self._resolved(session, unsorted)
            return DataIdQuery(session, stack, dimensions, resolved).count()

    def explain(
        self, dimensions: DimensionGroup, selection: Selection = _EVERYTHING, *, execute: bool = True
    ) -> list[str]:
        """Return what leaves `data_ids` without result, one sentence a reason; empty if it has some.

        Dimensions without records and dataset types without datasets are named first; else the fewest
        constraints that together leave nothing, and how many rows there are without each.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            Dimensions of the result.
        selection : `Selection`
            What is asked for.
        execute : `bool`
            Whether to ask the database; otherwise only what the summaries of collections tell.
        """
        with self._database.read() as session:
            unsorted = replace(selection, order_by=())
            resolved = self._resolved(session, unsorted)
            answer = EmptyAnswer(session, dimensions, resolved)
            return answer.reasons() if execute else answer.doomed()


def _first_rows(
    rows: list[tuple[Any, ...]],
    n_keys: int,
    width: int,
    rank: Mapping[int, int],
    certified: Collection[int],
    dataset_type: str,
) -> list[tuple[Any, ...]]:
    # Rows end with the collection and the row number of the dataset.
    best: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        known = best.setdefault(row[:n_keys], row)
        if rank[row[width]] < rank[known[width]]:
            best[row[:n_keys]] = row
    for row in rows:
        first = best[row[:n_keys]]
        if row[width] == first[width] and row[width + 1] != first[width + 1] and row[width] in certified:
            raise CalibrationLookupError(
                f"Several {dataset_type!r} datasets are certified for one data ID; constrain their timespan, "
                "or join an exposure or visit."
            )
    # In the order of the rows, each data ID where its first row is.
    return [best[key] for key in dict.fromkeys(r[:n_keys] for r in rows)]


def _python_value(kind: str, values: Sequence[Any]) -> Any:
    value = values[0]
    if value is None:
        return None
    match kind:
        case "bool":
            return bool(value)
        case "time":
            return time_of_tai_nanoseconds(value)
        case "timespan":
            return Timespan(value, values[1])
        case "uuid":
            return uuid.UUID(bytes=bytes(value))
        case "region":
            from lsst.sphgeom import Region

            return Region.decode(bytes(value))
    return value
