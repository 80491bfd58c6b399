"""DimensionRecords: insert records of dimensions, look them up by key, expand data IDs with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..errors import ConflictingDefinitionError, DataIdValueError, InconsistentDataIdError, RefusedRowError
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable, coded_column, first_rows, plain_column, row_codes
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.timespan import Timespan
from .bulk_rows import insert_rows, temporary_rows
from .database import Database, repeated
from .schema import element_tables, overlap_tables
from .session import Session

_FEW_KEYS = 40
"""Keys looked up one statement each rather than through a temporary table."""

RecordKey = tuple[int | str, ...]
ExistenceQuestion = tuple[str, Sequence[int]]
"""SQL that gives a row if a record exists, and which of a data ID's required values it asks about."""


class DimensionRecords:
    """Records of the dimension elements of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql: dict[tuple[str, ...], str] = {}
        self._existence_questions: dict[DimensionGroup, Sequence[ExistenceQuestion]] = {}

    @repeated
    def insert(
        self,
        element_name: str,
        records: Iterable[DimensionRecord | Mapping[str, Any]],
        *,
        replace: bool = False,
        skip_existing: bool = False,
    ) -> int:
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

        Returns
        -------
        changed : `int`
            How many are new or replaced.

        Raises
        ------
        ConflictingDefinitionError
            If a record exists and neither option is given.
        DataIdValueError
            If a record refers to a dimension value without record.
        """
        element = DimensionUniverse().element(element_name)
        if not element.has_records:
            raise DataIdValueError(f"Dimension {element_name!r} has no records: its values are computed")
        rows = [conformed(element, r) for r in records]
        if not rows:
            return 0
        table = element_tables[element_name]
        columns = [c.name for c in table.columns]
        values = [row_of_record(r) for r in rows]
        with self._database.write() as session:
            if element_name == "physical_filter":
                bands = sorted({r.band for r in rows if r.band is not None})
                insert_rows(
                    session, element_tables["band"], ("name",), [(b,) for b in bands], on_conflict="ignore"
                )
            try:
                with self._database.write():
                    if skip_existing:
                        rows = self._absent(session, element, rows)
                        values = [row_of_record(r) for r in rows]
                    # What another process inserted since we looked is skipped as well.
                    count = insert_rows(
                        session,
                        table,
                        columns,
                        values,
                        on_conflict="replace" if replace else "ignore" if skip_existing else "raise",
                    )
            except (sa.exc.IntegrityError, RefusedRowError) as error:
                self._explain_conflict(session, element, rows, error)
            if element.spatial:
                self._insert_overlaps(session, element, rows, replace, skip_existing)
        return count

    def _absent(
        self, session: Session, element: DimensionElement, rows: Sequence[DimensionRecord]
    ) -> list[DimensionRecord]:
        unique = {key_of_record(r): r for r in reversed(rows)}
        present = self._fetch_keys(session, element, list(unique))
        return [r for k, r in reversed(unique.items()) if k not in present]

    def _explain_conflict(
        self,
        session: Session,
        element: DimensionElement,
        rows: Sequence[DimensionRecord],
        error: sa.exc.IntegrityError | RefusedRowError,
    ) -> None:
        seen: set[RecordKey] = set()
        present = self._fetch_keys(session, element, [key_of_record(r) for r in rows])
        for record in rows:
            key = key_of_record(record)
            if key in present:
                raise ConflictingDefinitionError(
                    f"A record of {element.name!r} exists for {record.dataId}: {present[key]!r}. "
                    "Use replace or skip_existing, or syncDimensionData."
                ) from error
            if key in seen:
                raise ConflictingDefinitionError(
                    f"Two records of {element.name!r} were given for {record.dataId}."
                ) from error
            seen.add(key)
        for record in rows:
            for name in (*element.requires, *element.implies):
                parent = element.universe[name]
                if not parent.has_records or record.get(name) is None:
                    continue
                values = {n: record.get(n) for n in (*parent.requires, name)}
                key = tuple(values.values())
                if not self._fetch_keys(session, parent, [key]):
                    raise DataIdValueError(
                        f"A record of {element.name!r} names {name!r} {record.get(name)!r}, which has no "
                        f"record of its own for {values!r}; insert that one first."
                    ) from error
        raise error

    def _insert_overlaps(
        self,
        session: Session,
        element: DimensionElement,
        rows: Sequence[DimensionRecord],
        replace: bool,
        skip_existing: bool,
    ) -> None:
        pixelization = element.universe.commonSkyPix.pixelization
        table = overlap_tables[element.name]
        keys = [c for c in table.columns if c.name != "htm7"]
        pixels: list[tuple[Any, ...]] = []
        for record in rows:
            key = key_of_record(record)
            if replace:
                session.execute(table.delete().where(*(c == v for c, v in zip(keys, key, strict=True))))
            if record.region is not None:
                for begin, end in pixelization.envelope(record.region):
                    pixels.extend((*key, i) for i in range(begin, end))
        insert_rows(
            session,
            table,
            [*(c.name for c in keys), "htm7"],
            pixels,
            on_conflict="ignore" if skip_existing else "raise",
        )

    @repeated
    def sync(self, record: DimensionRecord, *, update: bool = False) -> bool | dict[str, Any]:
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
        element = record.definition
        with self._database.write() as session:
            present = self._fetch_keys(session, element, [key_of_record(record)])
            if not present:
                if self.insert(element.name, [record], replace=False, skip_existing=True):
                    return True
                # Another process did it since we looked.
                present = self._fetch_keys(session, element, [key_of_record(record)])
            old = present[key_of_record(record)]
            changed = {
                name: old.get(name)
                for name in element.schema.names
                if not _same(old.get(name), record.get(name))
            }
            if not changed:
                return False
            if not update:
                difference = ", ".join(f"{n}: {v!r} != {record.get(n)!r}" for n, v in changed.items())
                raise ConflictingDefinitionError(
                    f"The record of {element.name!r} for {record.dataId} differs: {difference}. "
                    "Use update to change it."
                )
            self.insert(element.name, [record], replace=True, skip_existing=False)
            return changed

    # Look-ups

    def _look_up(self, session: Session, name: str, wanted: Sequence[str] = ()) -> str:
        """Return the SQL that finds a record, or some columns of it, by its key."""
        sql = self._sql.get((name, *wanted))
        if sql is None:
            quote = session.quote
            columns = ", ".join(map(quote, wanted or element_tables[name].columns.keys()))
            keys = " AND ".join(f"{quote(c.name)} = ?" for c in key_columns(name))
            sql = self._sql[name, *wanted] = f"SELECT {columns} FROM {quote(name)} WHERE {keys}"
        return sql

    def _fetch_keys(
        self, session: Session, element: DimensionElement, keys: Sequence[RecordKey]
    ) -> dict[RecordKey, DimensionRecord]:
        name = element.name
        rows: list[tuple[Any, ...]] = []
        if len(keys) <= _FEW_KEYS:
            for key in dict.fromkeys(keys):
                rows.extend(session.fetch_sql(self._look_up(session, name), key))
        else:
            own = key_columns(name)
            table = element_tables[name]
            with temporary_rows(session, {c.name: c.type for c in own}, list(dict.fromkeys(keys))) as wanted:
                rows = session.fetch(sa.select(table).where(*(c == wanted.c[c.name] for c in own)))
        return {key_of_record(r): r for r in records_of_rows(element, rows)}

    def fetch(self, element_name: str, data_ids: DataIdTable) -> list[DimensionRecord | None]:
        """Return the record of an element for each data ID, `None` where there is none."""
        element = DimensionUniverse().element(element_name)
        required = element.required
        inverse = data_ids.codes(required)
        first = first_rows(inverse)
        columns = [data_ids.values(n)[first].tolist() for n in required]
        keys: list[RecordKey] = list(zip(*columns, strict=True)) if columns else [()] * len(first)
        with self._database.read() as session:
            found = self._fetch_keys(session, element, keys)
        return [found.get(keys[i]) for i in inverse.tolist()]

    def expand(self, data_id: DataCoordinate) -> DataCoordinate:
        """Return a data ID with the records of its elements and the values they imply.

        Raises
        ------
        DataIdValueError
            If the repository has no such dimension value.
        InconsistentDataIdError
            If its values contradict one another.
        """
        group = data_id.dimensions
        values: dict[str, Any] = dict(data_id.mapping)
        known = data_id.records if data_id.hasRecords() else {}
        records: dict[str, DimensionRecord | None] = {}
        universe = group.universe
        with self._database.read() as session:
            # From the most specific to the most general, so that implied values are known when needed.
            for name in reversed(group.elements):
                element = universe[name]
                if not element.has_records:
                    continue
                record = known.get(name)
                if record is None:
                    if any(values.get(n) is None for n in element.required):
                        continue
                    key = tuple(values[n] for n in element.required)
                    found = self._fetch_keys(session, element, [key])
                    record = found.get(key)
                if record is None:
                    self._check_absent(element, values, data_id)
                else:
                    for implied in element.implies:
                        value = record.get(implied)
                        if values.setdefault(implied, value) != value and value is not None:
                            raise InconsistentDataIdError(
                                f"Data ID {data_id} has {implied}={values[implied]!r}, but its {name} "
                                f"has {implied}={value!r}."
                            )
                records[name] = record
        keys = group.data_coordinate_keys
        full = all(values.get(k) is not None for k in keys)
        return DataCoordinate(group, tuple(values[k] for k in (keys if full else group.required)), records)

    @staticmethod
    def _check_absent(element: DimensionElement, values: Mapping[str, Any], data_id: DataCoordinate) -> None:
        shown = {n: values[n] for n in element.required}
        if element.is_dimension:
            raise DataIdValueError(
                f"The repository has no {element.name} for {shown!r} (from data ID {data_id}). "
                f"See `butler query-dimension-records REPO {element.name}`."
            )
        if element.always_join:
            raise InconsistentDataIdError(
                f"Data ID {data_id} joins {shown!r}, but the repository has no such {element.name}."
            )

    def with_implied_values(self, ref: DatasetRef) -> DatasetRef:
        """Return a dataset whose data ID has the values its records imply, where they are known."""
        if ref.dataId.hasFull():
            return ref
        full = self.expand(ref.dataId)
        if not full.hasFull():
            return ref
        return ref.expanded(DataCoordinate.from_full_values(full.dimensions, full.full_values))

    def expand_table(self, data_ids: DataIdTable) -> DataIdTable:
        """Return data IDs with columns of all implied dimensions that every row has a value of."""
        group, n = data_ids.dimensions, len(data_ids)
        if data_ids.columns.keys() >= set(group.names):
            return data_ids
        universe = group.universe
        columns, categories = dict(data_ids.columns), dict(data_ids.categories)
        with self._database.read() as session:
            for name in reversed(group.names):
                element = universe.element(name)
                required = element.required
                wanted = [i for i in element.implies if i not in columns]
                if not wanted or not columns.keys() >= set(required):
                    continue
                inverse = row_codes([columns[r] for r in required], n)
                first = first_rows(inverse)
                values = [plain_column(columns[r][first], categories.get(r)) for r in required]
                keys: list[RecordKey] = list(zip(*values, strict=True))
                found = self._implied_values(session, element, wanted, keys)
                for key in keys:
                    if key not in found:
                        raise DataIdValueError(
                            f"The repository has no {name} for {dict(zip(required, key, strict=True))!r}."
                        )
                for i, implied in enumerate(wanted):
                    own = [found[key][i] for key in keys]
                    if None in own:
                        continue
                    column, names = coded_column(implied, own)
                    columns[implied] = column[inverse]
                    if names is not None:
                        categories[implied] = names
        return DataIdTable(group, columns, categories, n)

    def expand_all(self, data_ids: DataIdTable) -> list[DataCoordinate]:
        """Return many data IDs with the records of their elements and the values they imply.

        Records are fetched at once for each element, and rows that have one in common share it.

        Raises
        ------
        DataIdValueError
            If the repository has no record that a value is implied by.
        """
        if not len(data_ids):
            return []
        with self._database.read():
            table = self.expand_table(data_ids)
            group = table.dimensions
            found = {
                name: self.fetch(name, table)
                for name in group.elements
                if group.universe[name].has_records
                and all(n in table.columns for n in group.universe[name].required)
            }
        names = tuple(found)
        rows = zip(*found.values(), strict=True) if names else itertools.repeat(())
        records = (dict(zip(names, row, strict=True)) for row in rows)
        if all(n in table.columns for n in group.names):
            keys = group.data_coordinate_keys
            columns = [table.values(k).tolist() for k in keys]
            values = zip(*columns, strict=True) if keys else itertools.repeat((), len(table))
            return [DataCoordinate(group, v, r) for v, r in zip(values, records, strict=False)]
        # Some rows lack an implied value.
        return [d.expanded(r) for d, r in zip(table, records, strict=False)]

    def _implied_values(
        self,
        session: Session,
        element: DimensionElement,
        wanted: Sequence[str],
        keys: Sequence[RecordKey],
    ) -> dict[RecordKey, tuple[Any, ...]]:
        if len(keys) <= _FEW_KEYS:
            sql = self._look_up(session, element.name, wanted)
            found = ((key, session.fetch_sql(sql, key)) for key in keys)
            return {key: rows[0] for key, rows in found if rows}
        table, own = element_tables[element.name], key_columns(element.name)
        n = len(own)
        with temporary_rows(session, {c.name: c.type for c in own}, keys) as rows:
            statement = sa.select(*own, *(table.c[w] for w in wanted)).where(
                *(c == rows.c[c.name] for c in own)
            )
            return {r[:n]: r[n:] for r in session.fetch(statement)}

    def existence_questions(self, session: Session, group: DimensionGroup) -> Sequence[ExistenceQuestion]:
        """Return what to ask so as to know that all values of a data ID have records."""
        found = self._existence_questions.get(group)
        if found is None:
            questions: list[ExistenceQuestion] = []
            for name in _telling_names(group):
                keys = " AND ".join(f"{session.quote(c.name)} = ?" for c in key_columns(name))
                places = [group.required.index(n) for n in group.universe[name].required]
                questions.append((f"SELECT 1 FROM {session.quote(name)} WHERE {keys}", places))
            found = self._existence_questions[group] = questions
        return found

    def check_values(self, session: Session, table: DatasetTable) -> None:
        """Check that all data ID values of datasets to be inserted have records.

        Raises
        ------
        DataIdValueError
            If one has none; the first is named.
        """
        names = table.data_ids.dimensions.required
        if self._missing_value(session, table.data_ids, _telling_names(table.data_ids.dimensions)) is None:
            return
        # The most general one is named: of an unknown instrument the detectors are unknown as well.
        missing = self._missing_value(session, table.data_ids, names)
        assert missing is not None
        name, values = missing
        raise DataIdValueError(
            f"Cannot insert {table.dataset_type.name!r} datasets: the repository has no {name} for "
            f"{values!r}. Insert its dimension record first."
        )

    def _missing_value(
        self, session: Session, data_ids: DataIdTable, names: Sequence[str]
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the first of some dimensions with a value that has no record, with that value; or `None`."""
        universe = data_ids.dimensions.universe
        for name in names:
            element = universe[name]
            if not element.has_records:
                continue
            keys = _unique_keys(data_ids, element.required)
            own = key_columns(name)
            if len(keys) <= _FEW_KEYS:
                present = {k for k in keys if session.fetch_sql(self._look_up(session, name), k)}
            else:
                with temporary_rows(session, {c.name: c.type for c in own}, keys) as rows:
                    statement = sa.select(*own).where(*(c == rows.c[c.name] for c in own))
                    present = set(session.fetch(statement))
            for key in keys:
                if key not in present:
                    return name, dict(zip(element.required, key, strict=True))
        return None


def _telling_names(group: DimensionGroup) -> list[str]:
    """Return the dimensions whose records vouch for the others: a detector's for its instrument."""
    elements = [group.universe[n] for n in group.required]
    vouched = {n for e in elements if e.has_records for n in e.requires}
    return [e.name for e in elements if e.has_records and e.name not in vouched]


def _unique_keys(data_ids: DataIdTable, names: Sequence[str]) -> list[RecordKey]:
    if len(data_ids) <= _FEW_KEYS:
        rows = zip(*([data_ids.value(n, i) for i in range(len(data_ids))] for n in names), strict=True)
        return list(dict.fromkeys(rows))
    first = first_rows(data_ids.codes(names))
    return list(zip(*(data_ids.values(n)[first].tolist() for n in names), strict=True))


def key_columns(element_name: str) -> list[sa.Column[Any]]:
    """Return the columns that identify an element's records, in the order of ``element.required``."""
    element, table = DimensionUniverse()[element_name], element_tables[element_name]
    return [table.c[column_name(element, n)] for n in element.required]


def column_name(element: DimensionElement, dimension: str) -> str:
    """Return the name of the column of an element's table that holds a dimension's values."""
    if element.key is not None and dimension == element.name:
        return element.key.name
    return dimension


def key_of_record(record: DimensionRecord) -> RecordKey:
    """Return the values that identify a record, in the order of ``element.required``."""
    element = record.definition
    return tuple(record.get(column_name(element, n)) for n in element.required)


def conformed(element: DimensionElement, record: DimensionRecord | Mapping[str, Any]) -> DimensionRecord:
    """Return a record of the element from a record or its fields."""
    if isinstance(record, DimensionRecord):
        if record.definition != element:
            raise DataIdValueError(
                f"A record of {record.definition.name!r} was given as one of {element.name!r}"
            )
        return record
    made: DimensionRecord = element.RecordClass(**record)
    return made


def row_of_record(record: DimensionRecord) -> tuple[Any, ...]:
    """Return the values of a record in the order of its table's columns."""
    element = record.definition
    values = [record.get(f.name) for f in element.fields]
    if element.spatial:
        values.append(None if record.region is None else record.region.encode())
    if element.temporal:
        span = record.timespan
        values += [None, None] if span is None else [span.begin_ns, span.end_ns]
    return tuple(values)


def records_of_rows(element: DimensionElement, rows: Iterable[Sequence[Any]]) -> Iterator[DimensionRecord]:
    """Make records of rows whose values are in the order of the table's columns."""
    fields = element.fields
    names = [f.name for f in fields]
    flags = [f.name for f in fields if f.type is bool]
    n = len(names)
    if element.spatial:
        from lsst.sphgeom import Region
    restored = element.RecordClass.restored
    for row in rows:
        values: dict[str, Any] = dict(zip(names, row, strict=False))
        for name in flags:
            if values[name] is not None:
                values[name] = bool(values[name])
        i = n
        region = timespan = None
        if element.spatial:
            if row[i] is not None:
                region = Region.decode(bytes(row[i]))
            i += 1
        if element.temporal and row[i] is not None:
            timespan = Timespan(row[i], row[i + 1])
        yield restored(values, region, timespan)


def _same(old: Any, new: Any) -> bool:
    return bool(old == new)
