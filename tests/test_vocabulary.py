"""Values of the data model."""

import pickle
import subprocess
import sys
import uuid

import numpy as np
import pytest
from hypothesis import given, strategies as st

from butler_dask.errors import DataIdValueError, DimensionNameError, DimensionValueError
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetRef, DatasetTable
from butler_dask.vocabulary.dataset_id import dataset_id_of_data_id, new_dataset_ids
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.timespan import Timespan

universe = DimensionUniverse()


def test_group_of_exposure_and_detector_has_the_reference_s_required_and_implied_dimensions():
    group = universe.conform(["exposure", "detector"])
    assert group.required == ("instrument", "detector", "exposure")
    assert set(group.implied) == {"band", "day_obs", "group", "physical_filter"}
    assert universe.conform(["detector", "physical_filter"]).required == (
        "instrument",
        "detector",
        "physical_filter",
    )
    assert universe.conform(["patch", "band"]).required == ("skymap", "band", "tract", "patch") or set(
        universe.conform(["patch", "band"]).required
    ) == {"skymap", "band", "tract", "patch"}


def test_spatial_element_of_visit_and_detector_is_their_common_region():
    assert universe.conform(["visit", "detector"]).spatial_elements == ("visit_detector_region",)
    assert universe.conform(["visit", "patch"]).spatial_elements == ("visit", "patch")
    assert universe.conform(["exposure"]).temporal_elements == ("exposure",)


def test_unknown_dimension_names_the_nearest():
    with pytest.raises(DimensionNameError, match="Did you mean 'detector'"):
        universe.conform(["detectr"])
    with pytest.raises(DimensionNameError, match="Did you mean 'visit'"):
        DataCoordinate.standardize(instrument="HSC", visitt=3)


def test_data_id_lacks_a_required_value():
    with pytest.raises(DimensionValueError, match="'instrument'"):
        DataCoordinate.standardize(visit=3, dimensions=["visit"])
    with pytest.raises(DataIdValueError, match="takes int"):
        DataCoordinate.standardize(instrument="HSC", visit="three")


def test_a_process_that_only_knows_of_dimensions_can_make_records():
    program = (
        "from butler_dask.vocabulary.dimensions import DimensionUniverse\n"
        "record = DimensionUniverse()['detector'].RecordClass(instrument='HSC', id=1, full_name='D1')\n"
        "print(record.dataId)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "{instrument: 'HSC', detector: 1}\n"


def test_data_ids_compare_by_required_values_and_survive_pickling():
    a = DataCoordinate.standardize(instrument="HSC", detector=5, physical_filter="HSC-R", band="r")
    b = DataCoordinate.standardize({"instrument": "HSC", "detector": "5", "physical_filter": "HSC-R"})
    assert a == b
    assert hash(a) == hash(b)
    assert a["band"] == "r"
    assert not b.hasFull()
    assert pickle.loads(pickle.dumps(a)) == a


_rows = st.lists(st.tuples(st.sampled_from(["HSC", "LATISS", "DECam"]), st.integers(0, 5), st.integers(0, 5)))


@given(_rows, _rows)
def test_table_agrees_with_its_rows(rows, others):
    group = universe.conform(["visit", "detector"])
    ids = [DataCoordinate.standardize(instrument=i, detector=d, visit=v) for i, d, v in rows]
    other_ids = [DataCoordinate.standardize(instrument=i, detector=d, visit=v) for i, d, v in others]
    table, other = DataIdTable.from_data_ids(group, ids), DataIdTable.from_data_ids(group, other_ids)
    assert list(table) == ids
    unique, inverse = table.unique()
    assert len(unique) == len(set(ids))
    assert [unique[i] for i in inverse] == ids
    match = table.match(other)
    assert [int(m) for m in match] == [other_ids.index(d) if d in other_ids else -1 for d in ids]
    if ids or other_ids:
        assert list(DataIdTable.concatenate([table, other])) == ids + other_ids


def test_dataset_table_agrees_with_refs():
    kind = DatasetType("calexp", ["visit", "detector"], "ExposureF")
    refs = [
        DatasetRef(kind, DataCoordinate.standardize(instrument="HSC", visit=v, detector=5), run)
        for v, run in ((1, "a"), (2, "b"), (3, "a"))
    ]
    table = DatasetTable.from_refs(kind, refs)
    assert list(table) == table.refs() == [table[i] for i in range(3)] == refs
    assert [ref.id for ref in table] == [table[i].id for i in range(3)] == [ref.id for ref in refs]
    assert [hash(ref) for ref in table] == [hash(ref) for ref in refs]
    assert [r.run for r in table] == ["a", "b", "a"]
    with pytest.raises(AttributeError, match="cannot be changed"):
        refs[0].run = "c"
    with pytest.raises(AttributeError, match="cannot be changed"):
        del next(iter(table)).run
    assert refs[0].makeComponentRef("wcs").datasetType.name == "calexp.wcs"
    assert pickle.loads(pickle.dumps(refs)) == refs


def test_new_ids_are_version_7_unique_and_in_order():
    ids = [uuid.UUID(bytes=row.tobytes()) for row in new_dataset_ids(5000)]
    assert {i.version for i in ids} == {7}
    assert {i.variant for i in ids} == {uuid.RFC_4122}
    assert ids == sorted(set(ids))


def test_id_of_a_raw_follows_from_its_data_id_alone():
    data_id = {"instrument": "HSC", "detector": 5, "exposure": 903344}
    assert dataset_id_of_data_id("raw", data_id) == dataset_id_of_data_id(
        "raw", dict(reversed(data_id.items()))
    )
    assert dataset_id_of_data_id("raw", data_id).version == 5


def test_timespans_are_half_open_and_exact_to_the_nanosecond():
    from astropy.time import Time

    begin = Time("2013-06-17T12:00:00", scale="tai")
    span = Timespan(begin, Time("2013-06-18", scale="tai"))
    assert span.begin.isot == "2013-06-17T12:00:00.000"
    assert span.contains(begin)
    assert not span.contains(span.end)
    assert span.overlaps(Timespan(None, None))
    assert not span.overlaps(Timespan(span.end, None))
    assert [t.end_ns for t in Timespan(None, None).difference(span)] == [
        span.begin_ns,
        Timespan(None, None).end_ns,
    ]
    assert Timespan(begin, begin).isEmpty()
    assert Timespan(span.begin_ns + 1, None).begin_ns == span.begin_ns + 1
    np.testing.assert_allclose((span.end - span.begin).to_value("h"), 12)
