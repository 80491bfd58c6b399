"""Queries: data IDs, dimension records and datasets under a condition; and why there are none."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from ..errors import CalibrationLookupError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, Name
from ..vocabulary.timespan import Timespan, time_of_tai_nanoseconds
from .data_id_query import DataIdQuery
from .database import Database
from .dataset_search import DatasetSearch, candidates_of_rows, first_of_each
from .dimension_records import records_of_rows
from .empty_answer import EmptyAnswer
from .incomplete_data_id import complete_data_id
from .query_conditions import QueryConditions, data_id_values
from .query_constraints import Constraints, DatasetJoin, parse_where
from .schema import element_tables
from .session import Session

OrderBy = Sequence[str | Expression]


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

    def data_ids(
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
        with self._database.read() as session, ExitStack() as stack:
            constraints = self._constraints(session, conditions)
            query = DataIdQuery(
                session,
                stack,
                dimensions,
                constraints,
                order_by=order_by,
                implied=True,
            )
            keys = dimensions.data_coordinate_keys
            if not keys:
                return DataIdTable.from_values(dimensions, {}, int(query.any()))
            rows = query.fetch(query.columns(keys), limit=limit, offset=offset)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(keys)
        # Implied values that records leave open (an exposure without day) are not known for any row then.
        values = {
            k: c for k, c in zip(keys, columns, strict=True) if k in dimensions.required or None not in c
        }
        return DataIdTable.from_values(dimensions, values, len(rows))

    def _constraints(self, session: Session, conditions: QueryConditions) -> Constraints:
        joins = []
        for name, collections in conditions.get("datasets", ()):
            kind = session.definitions.dataset_type(name)
            names = [collections] if isinstance(collections, str) else collections
            joins.append(DatasetJoin(kind, self._search.leaves(session, kind, names)))
        return Constraints(
            parse_where(conditions.get("where", ""), conditions.get("bind")),
            data_id_values(conditions.get("data_id")),
            joins,
            conditions.get("among", ()),
            conditions.get("joined", DimensionUniverse().empty),
            conditions.get("default"),
        )

    def records(
        self,
        element_name: str,
        *,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
        **conditions: Unpack[QueryConditions],
    ) -> list[DimensionRecord]:
        """Return records of one element; arguments as for `data_ids`."""
        element = DimensionUniverse().element(element_name)
        if not element.has_records:
            # Records of sky pixels are computed from their numbers.
            pixels = self.data_ids(
                element.dimensions, order_by=order_by, limit=limit, offset=offset, **conditions
            )
            return [
                element.RecordClass(id=pixel, region=element.pixelization.pixel(pixel))
                for pixel in pixels.values(element_name).tolist()
            ]
        with self._database.read() as session, ExitStack() as stack:
            constraints = self._constraints(session, conditions)
            query = DataIdQuery(
                session,
                stack,
                element.dimensions,
                constraints,
                order_by=order_by,
                elements=(element_name,),
            )
            columns = [query.table(element_name).c[c.name] for c in element_tables[element_name].columns]
            rows = query.fetch(columns, limit=limit, offset=offset)
        return list(records_of_rows(element, rows))

    def datasets(
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
            As for `data_ids`; the condition may also name ``<type>.run``, ``.collection``,
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
        name = dataset_type_name
        names = [collections] if isinstance(collections, str) else collections
        with self._database.read() as session, ExitStack() as stack:
            kind = session.definitions.dataset_type(name)
            leaves = self._search.leaves(session, kind, names)
            constraints = self._constraints(session, conditions)
            own = DatasetJoin(kind, leaves)
            others = [d for d in constraints.datasets if d.name != name]
            constraints = replace(constraints, datasets=[own, *others])
            query = DataIdQuery(
                session,
                stack,
                kind.definition.dimensions,
                constraints,
                order_by=order_by,
            )
            # Rows say which dataset they are of; so that there are several collections doubles none.
            query.unique = query.group.issubset(kind.definition.dimensions)
            c = query.dataset_columns(kind.definition.name)
            own_names = ["dataset_id", "uuid", "run_id"]
            if any(leaf.type is not CollectionType.RUN for leaf in leaves):
                own_names += ["collection_id", "begin_ns", "end_ns"]
            columns = [c[n] for n in (*kind.tables.keys, *own_names)]
            # Of one collection all are first; of several, the first are only known when all are read.
            at_once = len(leaves) == 1 and leaves[0].type is not CollectionType.CALIBRATION
            part = {"limit": limit, "offset": offset} if at_once else {}
            candidates = candidates_of_rows(kind, leaves, query.portions(columns, **part))
            if at_once:
                limit = offset = None
            if find_first:
                chosen = first_of_each(candidates, kind, leaves)
            else:
                chosen = np.sort(np.unique(candidates.row_ids, return_index=True)[1])
            if order_by:
                # `candidates` are in search order; the rows came in the order asked for.
                chosen = chosen[np.argsort(candidates.places[chosen], kind="stable")]
            start = offset or 0
            chosen = chosen[start : None if limit is None else start + limit]
            return self._search.table(session.definitions, kind, candidates, chosen.astype(np.int64))

    def rows(
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
            As for `data_ids`.
        """
        with self._database.read() as session, ExitStack() as stack:
            constraints = self._constraints(session, conditions)
            nodes = [Name(0, f) for f in fields]
            query = DataIdQuery(
                session,
                stack,
                dimensions,
                constraints,
                order_by=order_by,
                fields=nodes,
                implied=True,
            )
            keys = dimensions.data_coordinate_keys
            columns = query.columns(keys)
            operands = [query.operand(node) for node in nodes]
            readers = []
            for name, operand in zip(fields, operands, strict=True):
                own = query.columns_of(operand)
                readers.append((name, len(columns), operand.kind))
                columns += [c.label(f"field_{len(columns) + i}") for i, c in enumerate(own)]
            chosen = query.dataset_columns(find_first) if find_first is not None else None
            width = len(columns)
            if chosen is not None:
                columns += [chosen.collection_id, chosen.dataset_id]
            query.unique = False
            rows = query.fetch(
                columns, limit=limit if chosen is None else None, offset=offset if chosen is None else None
            )
            if chosen is not None:
                leaves = next(d.leaves for d in constraints.datasets if d.name == find_first)
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

    def count(self, dimensions: DimensionGroup, **conditions: Unpack[QueryConditions]) -> int:
        """Return how many rows `data_ids` would give; counted by the database."""
        with self._database.read() as session, ExitStack() as stack:
            constraints = self._constraints(session, conditions)
            return DataIdQuery(session, stack, dimensions, constraints).count()

    def explain(
        self, dimensions: DimensionGroup, *, execute: bool = True, **conditions: Unpack[QueryConditions]
    ) -> list[str]:
        """Return what leaves `data_ids` without result, one sentence a reason; empty if it has some.

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
        with self._database.read() as session:
            constraints = self._constraints(session, conditions)
            searched = {n: [c] if isinstance(c, str) else c for n, c in conditions.get("datasets", ())}
            answer = EmptyAnswer(session, dimensions, constraints, searched)
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
