"""Projections of a table of data IDs and the pairs of rows they share, against plain Python."""

import numpy as np
from hypothesis import given, settings, strategies as st

from butler_dask.graph.common_data_ids import CommonDataIds
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dimensions import DimensionUniverse

UNIVERSE = DimensionUniverse()
ALL = UNIVERSE.conform(["detector", "visit", "patch"])
KEYS = ("instrument", "skymap", "detector", "tract", "patch", "visit")
GROUPS = [
    UNIVERSE.conform(names)
    for names in (
        [],
        ["instrument"],
        ["visit"],
        ["detector"],
        ["visit", "detector"],
        ["patch"],
        ["visit", "patch"],
    )
]

rows = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.just("s"),
        st.integers(0, 3),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(-(2**60), 2**60) | st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
    unique=True,
)


def table_of(values: list[tuple]) -> DataIdTable:
    columns = dict(zip(KEYS, zip(*values, strict=True), strict=True))
    # Implied values follow from the visit.
    columns["physical_filter"] = [f"f{hash(v[-1]) % 2}" for v in values]
    columns["band"] = columns["physical_filter"]
    columns["day_obs"] = [v[-1] for v in values]
    return DataIdTable.from_values(ALL, columns, len(values))


@settings(deadline=None)
@given(rows, st.sampled_from(GROUPS))
def test_projections_are_the_distinct_rows(values: list[tuple], group) -> None:
    common = CommonDataIds(table_of(values))
    projection = common.project(group)
    found = [d.required_values for d in projection.table]
    expected = {tuple(dict(zip(KEYS, v, strict=True))[n] for n in group.required) for v in values}
    assert len(found) == len(set(found))
    assert set(found) == expected
    for row, value in enumerate(values):
        own = tuple(dict(zip(KEYS, value, strict=True))[n] for n in group.required)
        assert found[projection.rows[row]] == own
    assert np.array_equal(projection.rows[projection.first], np.arange(len(projection)))


@settings(deadline=None)
@given(rows, st.sampled_from(GROUPS), st.sampled_from(GROUPS))
def test_pairs_are_those_that_occur_in_one_row(values: list[tuple], a, b) -> None:
    common = CommonDataIds(table_of(values))
    left, right = common.pairs(a, b)
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    expected = set(zip(common.project(a).rows.tolist(), common.project(b).rows.tolist(), strict=True))
    assert len(pairs) == len(expected)
    assert set(pairs) == expected
    assert np.all(np.diff(left) >= 0)


def test_no_rows_project_to_no_rows() -> None:
    common = CommonDataIds(DataIdTable.empty(ALL))
    assert all(len(common.project(g)) == 0 for g in GROUPS)
    assert all(len(common.pairs(a, b)[0]) == 0 for a in GROUPS for b in GROUPS)
