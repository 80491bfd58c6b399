"""QueryTable: data IDs, dimension records and datasets under a condition; and why there are none."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..errors import CalibrationLookupError
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, Name
from ..vocabulary.timespan import Timespan, time_of_tai_nanoseconds
from .data_id_query import DataIdQuery
from .database import Database
from .dataset_search import DatasetSearch, candidates_of_rows, first_of_each
from .definitions import DefinitionCache, Definitions
from .dimension_records import records_of_rows
from .empty_answer import EmptyAnswer
from .query_conditions import QueryConditions, data_id_values
from .query_constraints import Constraints, DatasetJoin, parse_where
from .schema import element_tables

OrderBy = Sequence[str | Expression]


class QueryTable:
    """Queries of a registry.

    Parameters
    ----------
    database : `Database`
        Where to ask.
    definitions : `DefinitionCache`
        The registry's cache of collections and dataset types.
    search : `DatasetSearch`
        Dataset searches.
    """

    def __init__(self, database: Database, definitions: DefinitionCache, search: DatasetSearch) -> None:
        self._database, self._definitions, self._search = database, definitions, search

    def data_ids(
        self,
        dimensions: DimensionGroup,
        conditions: QueryConditions,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> DataIdTable:
        """Return data IDs; see `Registry.query_data_ids`."""
        with self._database.read() as connection, ExitStack() as stack:
            constraints = self._constraints(connection, self._definitions.current(connection), conditions)
            query = DataIdQuery(
                self._database,
                connection,
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

    def _constraints(
        self, connection: sa.Connection, definitions: Definitions, conditions: QueryConditions
    ) -> Constraints:
        joins = []
        for name, collections in conditions.get("datasets", ()):
            kind = definitions.dataset_type(name)
            names = [collections] if isinstance(collections, str) else collections
            joins.append(DatasetJoin(kind, self._search.leaves(connection, definitions, kind, names)))
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
        conditions: QueryConditions,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[DimensionRecord]:
        """Return dimension records; see `Registry.query_dimension_records`."""
        element = DimensionUniverse().element(element_name)
        if not element.has_records:
            # Records of sky pixels are computed from their numbers.
            pixels = self.data_ids(element.dimensions, conditions, order_by, limit, offset)
            return [
                element.RecordClass(id=pixel, region=element.pixelization.pixel(pixel))
                for pixel in pixels.values(element_name).tolist()
            ]
        with self._database.read() as connection, ExitStack() as stack:
            constraints = self._constraints(connection, self._definitions.current(connection), conditions)
            query = DataIdQuery(
                self._database,
                connection,
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
        name: str,
        collections: Sequence[str],
        find_first: bool,
        conditions: QueryConditions,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> DatasetTable:
        """Return datasets; see `Registry.query_datasets`."""
        with self._database.read() as connection, ExitStack() as stack:
            definitions = self._definitions.current(connection)
            kind = definitions.dataset_type(name)
            leaves = self._search.leaves(connection, definitions, kind, collections)
            constraints = self._constraints(connection, definitions, conditions)
            own = DatasetJoin(kind, leaves)
            others = [d for d in constraints.datasets if d.name != name]
            constraints = replace(constraints, datasets=[own, *others])
            query = DataIdQuery(
                self._database,
                connection,
                stack,
                kind.definition.dimensions,
                constraints,
                order_by=order_by,
            )
            # Rows say which dataset they are of; so that there are several collections doubles none.
            query.unique = query.group.issubset(kind.definition.dimensions)
            c = query.dataset_columns(kind.definition.name)
            names = ["dataset_id", "uuid", "run_id"]
            if any(leaf.type is not CollectionType.RUN for leaf in leaves):
                names += ["collection_id", "begin_ns", "end_ns"]
            columns = [c[n] for n in (*kind.tables.keys, *names)]
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
            return self._search.table(definitions, kind, candidates, chosen.astype(np.int64))

    def rows(
        self,
        dimensions: DimensionGroup,
        fields: Sequence[str],
        find_first: str | None,
        conditions: QueryConditions,
        order_by: OrderBy = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return rows of data ID values and fields; see `Registry.query_rows`."""
        with self._database.read() as connection, ExitStack() as stack:
            constraints = self._constraints(connection, self._definitions.current(connection), conditions)
            nodes = [Name(0, f) for f in fields]
            query = DataIdQuery(
                self._database,
                connection,
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

    def count(self, dimensions: DimensionGroup, conditions: QueryConditions) -> int:
        """Return the number of data IDs; see `Registry.count_data_ids`."""
        with self._database.read() as connection, ExitStack() as stack:
            constraints = self._constraints(connection, self._definitions.current(connection), conditions)
            return DataIdQuery(self._database, connection, stack, dimensions, constraints).count()

    def explain(
        self, dimensions: DimensionGroup, conditions: QueryConditions, execute: bool = True
    ) -> list[str]:
        """Return why a query has no result; see `Registry.explain_data_ids`."""
        with self._database.read() as connection:
            constraints = self._constraints(connection, self._definitions.current(connection), conditions)
            searched = {n: [c] if isinstance(c, str) else c for n, c in conditions.get("datasets", ())}
            answer = EmptyAnswer(self._database, connection, dimensions, constraints, searched)
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
