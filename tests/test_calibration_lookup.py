"""Bulk look-ups of calibrations, and tables of datasets, beside the plainest statement of their answers."""

import itertools
import random
import uuid

import numpy as np
import pytest
from registry_records import BIAS, DAY, RAW, data_ids, put

from butler_dask.errors import CalibrationLookupError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.data_id_table import DataIdTable, first_rows, row_codes
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)

DETECTORS = (0, 1, 2)
SEARCHES = (
    ["early", "late"],
    ["late", "early"],
    ["early", "plain", "late"],
    ["tagged", "late"],
    ["chain"],
)


def certified(registry: Registry) -> dict[str, list[tuple[int, int, int, str]]]:
    """Fill collections; return (detector, begin, end, run) of what each holds, times in days."""
    random.seed(5)
    held: dict[str, list[tuple[int, int, int, str]]] = {}
    for collection in ("early", "late"):
        registry.collections.register(collection, CollectionType.CALIBRATION)
        for detector in DETECTORS[:2] if collection == "early" else DETECTORS:
            edges = sorted(random.sample(range(60), 9))
            for begin, end in itertools.pairwise(edges):
                if random.random() < 0.3:
                    continue  # a gap
                run = f"{collection}/{detector}/{begin}"
                table = put(registry, BIAS, run, {"detector": detector})
                middle = begin + (end - begin) // 2
                # One dataset may hold for ranges that follow one another.
                for part in {(begin, middle), (middle, end)}:
                    if part[0] < part[1]:
                        registry.associations.certify(
                            collection, table, Timespan(part[0] * DAY, part[1] * DAY)
                        )
                        held.setdefault(collection, []).append((detector, *part, run))
    put(registry, BIAS, "plain", {"detector": 2})
    held["plain"] = [(2, -(10**6), 10**6, "plain")]
    tagged = put(registry, BIAS, "other", {"detector": 1})
    registry.collections.register("tagged", CollectionType.TAGGED)
    registry.associations.associate("tagged", tagged)
    held["tagged"] = [(1, -(10**6), 10**6, "other")]
    registry.collections.register("chain", CollectionType.CHAINED)
    registry.collections.set_chain("chain", ["tagged", "early", "late"])
    held["chain"] = []
    return held


def expected(held, search, detector, begin, end) -> set[str]:
    """Return the runs of the datasets that hold in the first collection where any does."""
    flat = ["tagged", "early", "late"] if search == ["chain"] else search
    for collection in flat:
        runs = {
            r for d, b, e, r in held[collection] if d == detector and b < max(end, begin + 1e-9) and begin < e
        }
        if runs:
            return runs
    return set()


def test_many_times_find_what_each_alone_must(registry):
    with registry.transaction():
        held = certified(registry)
    rows = [(d, t / 2, t / 2) for d in DETECTORS for t in range(-4, 130)]
    ids = data_ids(BIAS, *({"detector": d} for d, _, _ in rows))
    begin = np.array([int(b * DAY) for _, b, _ in rows])
    for search in SEARCHES:
        table, found = registry.search.find(BIAS, ids, search, begin_ns=begin, end_ns=begin)
        runs = [set() if i < 0 else {table.run(i)} for i in found.tolist()]
        assert runs == [expected(held, search, *row) for row in rows]
        assert len({table.id(i) for i in range(len(table))}) == len(table)


def test_spans_of_time_find_the_one_that_holds_or_say_that_several_do(registry):
    with registry.transaction():
        held = certified(registry)
    for search in SEARCHES:
        sure, unsure = [], []
        for detector, begin, length in itertools.product(DETECTORS, range(0, 60, 3), (1, 2, 7)):
            row = (detector, begin, begin + length)
            (sure if len(expected(held, search, *row)) < 2 else unsure).append(row)
        assert sure
        for rows in (sure, *([row, sure[0]] for row in unsure[:6])):
            ids = data_ids(BIAS, *({"detector": d} for d, _, _ in rows))
            begin, end = (np.array([r[i] * DAY for r in rows]) for i in (1, 2))
            if rows is sure:
                table, found = registry.search.find(BIAS, ids, search, begin_ns=begin, end_ns=end)
                runs = [set() if i < 0 else {table.run(i)} for i in found.tolist()]
                assert runs == [expected(held, search, *row) for row in rows]
            else:
                with pytest.raises(CalibrationLookupError, match="Several 'bias' datasets"):
                    registry.search.find(BIAS, ids, search, begin_ns=begin, end_ns=end)


def test_query_of_one_exposure_finds_all_its_detectors_in_a_chain(registry):
    group = [{"exposure": e, "detector": d} for e in (1, 2, 3) for d in (0, 1)]
    put(registry, RAW, "first", *group[:4])
    put(registry, RAW, "second", *group)
    for where, n in (("exposure=2", 2), ("exposure IN (1..3)", 6), ("exposure=3", 2), ("exposure=9", 0)):
        found = registry.queries.datasets(
            "raw", ["first", "second"], Selection().where(f"instrument='HSC' AND {where}")
        )
        assert len(found) == n
        for ref in found:
            assert ref.run == ("second" if ref.dataId["exposure"] == 3 else "first")


def test_table_iterates_as_it_is_indexed():
    kind = DatasetType("raw", ["exposure", "detector"], "Exposure")
    rng = np.random.default_rng(3)
    columns = {
        "instrument": rng.integers(0, 2, 50),
        "exposure": rng.integers(0, 10**12, 50),
        "detector": np.arange(50),
    }
    data_ids = DataIdTable(kind.dimensions, columns, {"instrument": ["HSC", "LATISS"]})
    whole = DatasetTable.new(kind, data_ids, "a")
    table = DatasetTable(kind, data_ids, whole.ids, np.arange(50) % 2, ("a", "b"))
    for i, ref in enumerate(table):
        assert ref == table[i]
        assert (ref.id, ref.run, hash(ref)) == (table.id(i), table.run(i), hash(table[i]))
        assert ref.id == uuid.UUID(str(ref.id))
        assert repr(ref.id.is_safe) == repr(table.id(i).is_safe)
    assert table.id_texts() == [str(ref.id) for ref in table]
    assert table.take(np.zeros(0, dtype=np.int64)).id_texts() == []
    assert list(data_ids) == [data_ids[i] for i in range(50)]


def test_data_ids_that_need_nothing_else_become_columns():
    group = DatasetType("raw", ["exposure", "detector"], "Exposure").dimensions
    rows = [{"instrument": "HSC", "exposure": e, "detector": 3} for e in (5, 4, 5)]
    assert list(DataIdTable.from_mappings(group, rows)) == rows
    for odd in ({"exposure": 5, "detector": 3}, {**rows[0], "detector": "3"}, {**rows[0], "band": "r"}):
        assert DataIdTable.from_mappings(group, [rows[0], odd]) is None


def test_row_codes_rank_rows_whether_values_lie_close_or_far_apart():
    rng = np.random.default_rng(4)
    for width in (1, 3, 200, 2**60):
        columns = [rng.integers(-width, width, 300), rng.integers(0, 4, 300)]
        rows = list(zip(*(c.tolist() for c in columns), strict=True))
        rank = {row: i for i, row in enumerate(sorted(set(rows)))}
        codes = row_codes(columns, 300)
        assert codes.tolist() == [rank[row] for row in rows]
        assert first_rows(codes).tolist() == [rows.index(row) for row in sorted(set(rows))]
    assert row_codes(columns[:0], 4).tolist() == [0] * 4
    assert len(first_rows(row_codes([np.zeros(0, dtype=np.int64)], 0))) == 0
