"""Dimension records that go along with data IDs when they leave a repository.

A data ID names records (its visit, its detector), these name others (the visit's filter, that filter's band),
and a visit is nothing without the exposures it is made of and the sky its detectors see. All of them are
found element by element, the most specific first, with one query each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ..registry.registry import Registry
from ..vocabulary.data_id import DataCoordinate, DimensionRecord
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.selection import Selection

_OF_A_VISIT = ("visit_definition", "visit_detector_region", "visit_system_membership")
"""Elements that are filled when visits are defined; a visit takes its records of them along."""

_FEW = 1000
"""So many visits are named in a query; of more, the instrument's records are all read."""

Key = tuple[Any, ...]


def records_of_data_ids(
    registry: Registry, tables: Iterable[DataIdTable], elements: Collection[str] | None = None
) -> dict[str, list[DimensionRecord]]:
    """Return the records that data IDs name, and all that those name.

    Parameters
    ----------
    registry : `Registry`
        Where they are.
    tables : iterable of `DataIdTable`
        Data IDs.
    elements : collection of `str`, optional
        Only records of these elements.

    Returns
    -------
    records : `dict` of `str` to `list` [`DimensionRecord`]
        By element, in an order in which they can be inserted.
    """
    universe = DimensionUniverse()
    order = universe.sorted(e.name for e in universe.elements if e.has_records)
    needed: dict[str, dict[Key, None]] = defaultdict(dict)
    for table in tables:
        for name in table.dimensions.elements:
            element = universe[name]
            if element.has_records and all(n in table.columns for n in element.required):
                needed[name].update(dict.fromkeys(_unique_keys(table, element.required)))
    found: dict[str, list[DimensionRecord]] = {}
    for name in _OF_A_VISIT:
        if name not in needed and needed.get("visit"):
            found[name] = _of_visits(registry, name, needed["visit"])
    for name in reversed(order):
        element = universe[name]
        if name not in found:
            found[name] = _fetched(registry, name, list(needed[name]))
        for parent in (universe[n] for n in (*element.requires, *element.implies)):
            if parent.has_records:
                keys = needed[parent.name]
                for record in found[name]:
                    key = tuple(record.get(n) for n in parent.required)
                    if None not in key:
                        keys[key] = None
    return {n: found[n] for n in order if found[n] and (elements is None or n in elements)}


def _unique_keys(table: DataIdTable, names: tuple[str, ...]) -> Iterable[Key]:
    first = np.unique(table.codes(names), return_index=True)[1]
    return zip(*(table.values(n)[first].tolist() for n in names), strict=True)


def _fetched(registry: Registry, name: str, keys: list[Key]) -> list[DimensionRecord]:
    if not keys:
        return []
    universe = DimensionUniverse()
    group = universe.conform(universe[name].required)
    columns = dict(zip(universe[name].required, zip(*keys, strict=True), strict=True))
    table = DataIdTable.from_values(group, columns, len(keys))
    return [r for r in registry.records.fetch(name, table) if r is not None]


def _of_visits(registry: Registry, name: str, visits: Iterable[Key]) -> list[DimensionRecord]:
    """Return the records of an element for visits, given as instrument and number."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for instrument, visit in visits:
        numbers[instrument].add(visit)
    out = []
    for instrument, wanted in numbers.items():
        selection = Selection(data_id={"instrument": instrument})
        if len(wanted) <= _FEW:
            selection = selection.where("visit IN (these_visits)", bind={"these_visits": sorted(wanted)})
        records = registry.queries.records(name, selection)
        out += [r for r in records if r.get("visit") in wanted]
    return out


def data_id_tables(data_ids: Iterable[DataCoordinate]) -> list[DataIdTable]:
    """Return data IDs as a table for each group of dimensions."""
    groups: dict[Any, list[DataCoordinate]] = defaultdict(list)
    for data_id in data_ids:
        groups[data_id.dimensions].append(data_id)
    return [DataIdTable.from_data_ids(group, members) for group, members in groups.items()]


def insert_records(registry: Registry, records: Mapping[str, Iterable[DimensionRecord]]) -> None:
    """Insert records of many elements, those that are there aside.

    Parameters
    ----------
    registry : `Registry`
        Where to.
    records : mapping of `str` to iterable of `DimensionRecord`
        By element, parents first.
    """
    for name, rows in records.items():
        registry.records.insert(name, list(rows), skip_existing=True)
