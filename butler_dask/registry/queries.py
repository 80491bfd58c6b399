"""QueryTable: data IDs, dimension records and datasets under a condition; and why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..errors import (
    DataIdValueError,
    DimensionNameError,
    DimensionValueError,
    InvalidQueryError,
    did_you_mean,
)
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate, DataIdTable
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.dimension_record import DimensionRecord
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from .data_id_query import DataIdQuery, DatasetJoin, UnlistableDimensionError, Where, parse_where
from .database import Database
from .dataset_search import DatasetSearch, candidates_of_rows, empty_candidates, first_of_each
from .definitions import DefinitionCache, Definitions
from .dimension_records import records_of_rows
from .schema import element_tables

DataIdLike = DataCoordinate | Mapping[str, Any] | None
DatasetConstraint = tuple[str, Sequence[str]]


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
        where: str,
        bind: Mapping[str, Any] | None,
        data_id: DataIdLike,
        datasets: Sequence[DatasetConstraint],
        order_by: Sequence[str],
        limit: int | None,
        offset: int | None,
    ) -> DataIdTable:
        """Return data IDs; see `Registry.query_data_ids`."""
        parsed = parse_where(where, bind)
        with self._database.read() as connection, ExitStack() as stack:
            joins = self._joins(connection, self._definitions.current(connection), datasets)
            query = DataIdQuery(
                self._database,
                connection,
                stack,
                dimensions,
                where=parsed,
                data_id=_values(data_id),
                datasets=joins,
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

    def _joins(
        self, connection: sa.Connection, definitions: Definitions, datasets: Sequence[DatasetConstraint]
    ) -> list[DatasetJoin]:
        out = []
        for name, collections in datasets:
            kind = definitions.dataset_type(name)
            names = [collections] if isinstance(collections, str) else collections
            out.append(DatasetJoin(kind, self._search.leaves(connection, definitions, kind, names)))
        return out

    def records(
        self,
        element_name: str,
        where: str,
        bind: Mapping[str, Any] | None,
        data_id: DataIdLike,
        datasets: Sequence[DatasetConstraint],
        order_by: Sequence[str],
        limit: int | None,
        offset: int | None,
    ) -> list[DimensionRecord]:
        """Return dimension records; see `Registry.query_dimension_records`."""
        element = DimensionUniverse().element(element_name)
        if not element.has_own_table:
            raise InvalidQueryError(f"Dimension {element_name!r} has no records: its values are computed")
        parsed = parse_where(where, bind)
        with self._database.read() as connection, ExitStack() as stack:
            joins = self._joins(connection, self._definitions.current(connection), datasets)
            query = DataIdQuery(
                self._database,
                connection,
                stack,
                element.dimensions,
                where=parsed,
                data_id=_values(data_id),
                datasets=joins,
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
        where: str,
        bind: Mapping[str, Any] | None,
        data_id: DataIdLike,
        order_by: Sequence[str],
        limit: int | None,
        offset: int | None,
    ) -> DatasetTable:
        """Return datasets; see `Registry.query_datasets`."""
        parsed = parse_where(where, bind)
        with self._database.read() as connection, ExitStack() as stack:
            definitions = self._definitions.current(connection)
            kind = definitions.dataset_type(name)
            leaves = self._search.leaves(connection, definitions, kind, collections)
            if not leaves:
                return self._search.table(definitions, kind, empty_candidates(kind), np.zeros(0, np.int64))
            query = DataIdQuery(
                self._database,
                connection,
                stack,
                kind.definition.dimensions,
                where=parsed,
                data_id=_values(data_id),
                datasets=[DatasetJoin(kind, leaves)],
                order_by=order_by,
            )
            # Rows say which dataset they are of; so that there are several collections doubles none.
            query.unique = query.group.issubset(kind.definition.dimensions)
            c = query.dataset_columns(kind.definition.name)
            names = ["dataset_id", "uuid", "run_id"]
            if any(leaf.type is not CollectionType.RUN for leaf in leaves):
                names += ["collection_id", "begin_ns", "end_ns"]
            columns = [c[n] for n in (*kind.tables.keys, *names)]
            candidates = candidates_of_rows(kind, leaves, query.portions(columns))
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

    # Explanations

    def explain(
        self,
        dimensions: DimensionGroup,
        where: str,
        bind: Mapping[str, Any] | None,
        data_id: DataIdLike,
        datasets: Sequence[DatasetConstraint],
    ) -> list[str]:
        """Return why a query has no result; see `Registry.explain_data_ids`."""
        parsed, values = parse_where(where, bind), _values(data_id)
        with self._database.read() as connection:
            definitions = self._definitions.current(connection)
            joins = self._joins(connection, definitions, datasets)
            names = {id(j): list(c) for j, (_, c) in zip(joins, datasets, strict=True)}

            def has_rows(
                group: DimensionGroup,
                terms: Sequence[Any],
                data_id: Mapping[str, Any],
                joined: Sequence[DatasetJoin],
            ) -> bool:
                with ExitStack() as stack:
                    try:
                        query = DataIdQuery(
                            self._database,
                            connection,
                            stack,
                            group,
                            where=parsed.of(terms),
                            data_id=data_id,
                            datasets=joined,
                            # A term by itself may lack its instrument.
                            check=list(terms) == list(parsed.terms),
                        )
                    except UnlistableDimensionError:
                        return True
                    return query.any()

            if has_rows(dimensions, parsed.terms, values, joins):
                return []
            reasons = self._absent_records(connection, dimensions, values)
            for join in joins:
                where_ = ", ".join(map(repr, names[id(join)]))
                if not join.leaves or not has_rows(join.dimensions, (), {}, [join]):
                    reasons.append(f"There is no dataset of type {join.name!r} in {where_}.")
                elif values and not has_rows(join.dimensions, (), values, [join]):
                    reasons.append(f"There is no dataset of type {join.name!r} for {values} in {where_}.")
            if reasons:
                return reasons
            return self._culprits(dimensions, parsed, values, joins, names, has_rows)

    def _absent_records(
        self, connection: sa.Connection, dimensions: DimensionGroup, values: Mapping[str, Any]
    ) -> list[str]:
        universe, out = DimensionUniverse(), []
        for name in dimensions.names:
            if not universe[name].has_own_table:
                continue
            table = element_tables[name]
            if not self._database.fetch(connection, sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(f"Dimension {name!r} has no records in the repository.")
            elif name in values and all(n in values for n in universe[name].requires):
                key = universe[name].key
                assert key is not None
                known = {n: values[n] for n in (*universe[name].requires, name)}
                conditions = [table.c[key.name if n == name else n] == v for n, v in known.items()]
                statement = sa.select(sa.literal(1)).select_from(table).where(*conditions).limit(1)
                if not self._database.fetch(connection, statement):
                    out.append(f"The repository has no {name} {values[name]!r} (data ID {known}).")
        always = [
            e
            for e in universe.getStaticElements()
            if e.always_join and set(e.requires) <= set(dimensions.names)
        ]
        for element in always:
            table = element_tables[element.name]
            if not self._database.fetch(connection, sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(
                    f"There are no {element.name} records, which join {', '.join(element.requires)}; "
                    "define visits first (`butler define-visits`)."
                )
        return out

    @staticmethod
    def _culprits(
        dimensions: DimensionGroup,
        parsed: Where,
        values: Mapping[str, Any],
        joins: Sequence[DatasetJoin],
        names: Mapping[int, list[str]],
        has_rows: Any,
    ) -> list[str]:
        terms = parsed.terms
        out: list[str] = []
        if not has_rows(dimensions, (), values, joins):
            kinds = " and ".join(repr(j.name) for j in joins) or "the dimensions"
            for join in joins:
                rest = [j for j in joins if j is not join]
                if has_rows(dimensions, (), values, rest):
                    where_ = ", ".join(map(repr, names[id(join)]))
                    out.append(
                        f"No data ID of {dimensions} has a dataset of type {join.name!r} in {where_}"
                        + (f" together with {', '.join(repr(j.name) for j in rest)}." if rest else ".")
                    )
            if not out and not has_rows(dimensions, (), {}, ()):
                out.append(
                    f"No data ID joins the dimensions {dimensions}: their records do not belong together "
                    "(visit definitions) or their regions do not overlap."
                )
            return out or [f"No data ID of {dimensions} satisfies {kinds}."]
        for i, term in enumerate(terms):
            text = _text_of(parsed.text, terms, i)
            if not has_rows(dimensions, [term], values, ()):
                out.append(f"No data ID of {dimensions} satisfies {text!r}.")
            elif joins and not has_rows(dimensions, [term], values, joins):
                kinds = ", ".join(repr(j.name) for j in joins)
                out.append(f"No data ID with datasets of type {kinds} satisfies {text!r}.")
        if out:
            return out
        clashing = [
            repr(_text_of(parsed.text, terms, i))
            for i in range(len(terms))
            if has_rows(dimensions, [t for k, t in enumerate(terms) if k != i], values, joins)
        ]
        if clashing:
            out.append(f"Each term has results, but not together; drop one of: {', '.join(clashing)}.")
        for join in joins:
            if has_rows(dimensions, terms, values, [j for j in joins if j is not join]):
                where_ = ", ".join(map(repr, names[id(join)]))
                out.append(
                    f"The condition has results, but none with a dataset of type {join.name!r} in {where_}."
                )
        return out or [f"The condition {parsed.text!r} has no result, though each of its terms has."]

    # Incomplete data IDs

    def complete(self, mapping: Mapping[str, Any], dimensions: DimensionGroup) -> DataCoordinate:
        """Return the one data ID that values determine; see `Registry.complete_data_id`."""
        universe = DimensionUniverse()
        values: dict[str, Any] = {}
        fields: dict[tuple[str, str], Any] = {}
        for name, value in mapping.items():
            if value is None:
                continue
            if name in universe and universe[name].is_dimension:
                element = universe[name]
                assert element.key is not None
                if element.key.type is int and isinstance(value, str) and not value.lstrip("+-").isdigit():
                    if not element.alternate_keys:
                        raise DataIdValueError(f"Dimension {name!r} takes int values, not {value!r}")
                    fields[name, element.alternate_keys[0].name] = value
                else:
                    values[name] = value
            else:
                owner, field = self._owner(name, dimensions, mapping)
                fields[owner.name, field] = value
        if not fields and all(n in values for n in dimensions.required):
            return DataCoordinate.standardize(values, dimensions=dimensions)
        group = dimensions.union(universe.conform(values), *(universe[e].dimensions for e, _ in fields))
        known = {n: _conformed(n, v) for n, v in values.items()}
        text = " AND ".join(f"{e}.{f} = :value_{i}" for i, (e, f) in enumerate(fields))
        bind = {f"value_{i}": v for i, v in enumerate(fields.values())}
        parsed = parse_where(text, bind)
        missing = [g for g in group.governors if g not in known]
        with self._database.read() as connection, ExitStack() as stack:
            if fields and missing:
                raise DimensionValueError(
                    f"Data ID {dict(mapping)!r} has no value for {', '.join(map(repr, missing))}."
                )
            keys = dimensions.data_coordinate_keys
            query = DataIdQuery(
                self._database, connection, stack, dimensions, where=parsed, data_id=known, implied=True
            )
            rows = query.fetch(query.columns(keys), limit=2)
        shown = {k: v for k, v in mapping.items() if v is not None}
        if not rows:
            raise DataIdValueError(f"No data ID of {dimensions} in the repository matches {shown!r}.")
        if len(rows) > 1:
            absent = [n for n in dimensions.required if n not in values]
            raise DimensionValueError(
                f"Data ID {shown!r} has no value for {', '.join(map(repr, absent))}, and what is given "
                f"matches several: {dict(zip(keys, rows[0], strict=True))!r}, "
                f"{dict(zip(keys, rows[1], strict=True))!r}, ..."
            )
        full = None not in rows[0]
        return DataCoordinate(dimensions, rows[0] if full else rows[0][: len(dimensions.required)])

    @staticmethod
    def _owner(
        name: str, dimensions: DimensionGroup, mapping: Mapping[str, Any]
    ) -> tuple[DimensionElement, str]:
        universe = DimensionUniverse()
        head, _, field = name.partition(".")
        if field and head in universe:
            element = universe[head]
            if field in (f.name for f in element.fields):
                return element, field
            known = element.schema.names
            raise DimensionNameError(
                f"{head!r} has no field {field!r} (in data ID {dict(mapping)!r}).{did_you_mean(field, known)}"
            )
        candidates = [
            universe[n]
            for n in dimensions.names
            if any(f.name == name for f in (*universe[n].alternate_keys, *universe[n].metadata))
        ]
        # Of exposure and visit the one asked for counts; where both are, the exposure's numbers are unique.
        if candidates:
            return candidates[0], name
        known = [d.name for d in universe.getStaticDimensions()]
        known += [f.name for n in dimensions.names for f in universe[n].fields]
        raise DimensionNameError(
            f"Unknown key {name!r} in data ID {dict(mapping)!r}.{did_you_mean(name, known)}"
        )


def _values(data_id: DataIdLike) -> dict[str, Any]:
    if data_id is None:
        return {}
    if isinstance(data_id, DataCoordinate):
        return dict(data_id.mapping)
    universe = DimensionUniverse()
    known = [d.name for d in universe.getStaticDimensions()]
    out: dict[str, Any] = {}
    for name, value in data_id.items():
        if name not in universe or not universe[name].is_dimension:
            raise DimensionNameError(
                f"Unknown key {name!r} in data ID {dict(data_id)!r}.{did_you_mean(name, known)}"
            )
        if value is not None:
            out[name] = _conformed(name, value)
    return out


def _conformed(name: str, value: Any) -> Any:
    key = DimensionUniverse()[name].key
    assert key is not None
    if key.type is int:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return int(value)
        if isinstance(value, str) and value.lstrip("+-").isdigit():
            return int(value)
    elif isinstance(value, str):
        return str(value)
    raise DataIdValueError(f"Dimension {name!r} takes {key.type.__name__} values, not {value!r}")


def _text_of(text: str, terms: Sequence[Any], i: int) -> str:
    start = terms[i].position
    end = terms[i + 1].position if i + 1 < len(terms) else len(text)
    part = text[start:end].strip()
    return part[:-3].rstrip(" (") if part[-3:].upper() == "AND" else part
