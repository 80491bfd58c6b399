"""Queries through the butler: lists, lazy results, limits, explanations."""

import logging

import pytest
from small_repository import VISITS, make_repository

from butler_dask import (
    Butler,
    CollectionCycleError,
    CollectionType,
    DimensionNameError,
    EmptyQueryResultError,
    InvalidQueryError,
    MissingDatasetTypeError,
)

ID = {"instrument": "HSC", "visit": 903344, "detector": 5}


@pytest.fixture(scope="module")
def butler(tmp_path_factory):
    root = make_repository(tmp_path_factory.mktemp("repo") / "DATA")
    with Butler(root, run="run/1") as first:
        for visit in VISITS:
            for detector in (1, 2):
                first.put({"run": 1}, "metric", ID, visit=visit, detector=detector)
        first.put({}, "summary", instrument="HSC")
    with Butler(root, run="run/2") as second:
        second.put({"run": 2}, "metric", ID, detector=1)
        second.collections.register("chain", CollectionType.CHAINED)
        second.collections.redefine_chain("chain", ["run/2", "run/1"])
    with Butler(root, collections="chain") as butler:
        yield butler


def test_datasets_are_listed_first_match_or_all(butler):
    assert len(butler.query_datasets("metric")) == 6
    assert len(butler.query_datasets("metric", find_first=False)) == 7
    (shadowing,) = butler.query_datasets("metric", detector=1, visit=903344)
    assert shadowing.run == "run/2"
    assert len(butler.query_datasets("metric", "run/*", find_first=False)) == 7
    refs = butler.query_datasets("metric", where="visit > 903334 AND detector = 2", order_by="-visit")
    assert [r.dataId["visit"] for r in refs] == [903344, 903336]
    bound = butler.query_datasets("metric", where="visit IN (v)", bind={"v": [903334, 903336]})
    assert {r.dataId["visit"] for r in bound} == {903334, 903336}
    assert len(butler.query_datasets("metric", data_id={"visit": 903334})) == 2


def test_records_come_with_data_ids_when_asked_for(butler):
    refs = butler.query_datasets("metric", with_dimension_records=True, order_by=["visit", "detector"])
    assert refs[0].dataId.hasRecords()
    assert refs[0].dataId.records["visit"].exposure_time == 30.0
    assert refs[0].dataId["band"] == "r"
    assert refs[0].dataId.timespan is not None
    data_ids = butler.query_data_ids(["visit", "detector"], with_dimension_records=True, visit=903336)
    assert {d.records["physical_filter"].band for d in data_ids} == {"i"}
    ref = butler.find_dataset("metric", ID, detector=1, dimension_records=True)
    assert ref.dataId.records["detector"].full_name == "1_51"


def test_datasets_of_several_types_have_one_limit_and_offset(butler):
    with butler.query() as query:
        results = query.datasets_of_types(["metric", "summary"])
    whole = list(results)
    assert [r.datasetType.name for r in whole] == ["metric"] * 6 + ["summary"]
    for limit, offset in ((2, 0), (2, 5), (None, 6), (3, 6), (6, None), (0, 0), (1, 9), (None, 7)):
        part = results.limit(limit, offset)
        start = offset or 0
        expected = whole[start : None if limit is None else start + limit]
        assert list(part) == expected, (limit, offset)
        assert sum(map(len, part.tables)) == part.count() == len(part) == len(expected)
        assert list(part.at_most(1)) == expected[:1]
    assert results.first(-7) == (whole, False)
    assert results.first(-6) == (whole[:6], True)
    assert results.first(0) == ([], False)
    refs = results.order_by("-visit.exposure_time", "-detector").limit(1).expanded()
    assert refs[0].dataId.hasRecords()
    names = [r.datasetType.name for r in butler.registry.queryDatasets(["metric", "summary"], findFirst=True)]
    assert len(names) == 7


def test_limit_cuts_and_a_negative_one_warns(butler, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(butler.query_datasets("metric", limit=2)) == 2
        assert len(butler.query_datasets("metric", limit=None)) == 6
        assert len(butler.query_datasets("metric", limit=-6)) == 6
        assert butler.query_datasets("metric", limit=0) == []
        assert not caplog.records
        assert len(butler.query_datasets("metric", limit=-2)) == 2
        assert len(butler.query_data_ids("visit", limit=-2)) == 2
        assert len(butler.query_dimension_records("detector", limit=-2)) == 2
        assert len(butler.query_all_datasets(limit=-3)) == 3
    assert [r.args[1] for r in caplog.records] == [2, 2, 2, 3]


def test_nothing_found_is_explained_or_empty(butler):
    with pytest.raises(EmptyQueryResultError) as caught:
        butler.query_datasets("metric", where="detector = 99")
    assert caught.value.reasons
    assert butler.query_datasets("metric", where="detector = 99", explain=False) == []
    with pytest.raises(EmptyQueryResultError, match="visit"):
        butler.query_data_ids("visit", where="visit = 1")
    with pytest.raises(EmptyQueryResultError):
        butler.query_dimension_records("visit", where="visit = 1")
    assert butler.query_dimension_records("visit", where="visit = 1", explain=False) == []


def test_mistakes_in_queries_name_the_nearest(butler):
    with pytest.raises(MissingDatasetTypeError, match="Did you mean 'metric'"):
        butler.query_datasets("metrics")
    with pytest.raises(DimensionNameError, match="Did you mean 'detector'"):
        butler.query_datasets("metric", detectr=5)
    with pytest.raises(InvalidQueryError):
        butler.query_datasets("metric", where="visit >")


def test_dimension_records_are_queried(butler):
    records = butler.query_dimension_records(
        "visit", where="band = 'r' AND instrument = 'HSC'", order_by="-visit"
    )
    assert [r.id for r in records] == [903344, 903334]
    assert records[0].timespan.begin.isot == "2013-06-19T13:30:00.000"
    (detector,) = butler.query_dimension_records("detector", detector=3, instrument="HSC")
    assert detector.full_name == "1_53"


def test_lazy_query_is_a_value_that_can_be_narrowed(butler):
    with butler.query() as query:
        joined = query.join_dataset_search("metric", "run/2")
        data_ids = joined.data_ids(["visit", "detector"])
        assert [(d["visit"], d["detector"]) for d in data_ids] == [(903344, 1)]
        visits = query.data_ids("visit").where(instrument="HSC")
        assert visits.count() == 3
        assert [d["visit"] for d in visits.order_by("-visit").limit(1)] == [903344]
        assert [d["visit"] for d in visits.order_by("visit").limit(1, 1)] == [903336]
        assert visits.count() == 3
        assert not visits.where("visit = :v", bind={"v": 5}).any()
        assert visits.where({"visit": 903334}).any()
        assert visits.where("visit = 5").explain_no_results()
        datasets = query.where("visit = 903344 AND instrument = 'HSC'").datasets("metric")
        assert {r.run for r in datasets} == {"run/1", "run/2"}
        assert datasets.with_dimension_records().count() == 2
        records = joined.dimension_records("visit")
        assert [r.id for r in records] == [903344]
        assert query.dimension_records("detector").where(instrument="HSC").count() == 6
        assert query.dimension_records("visit").order_by("exposure_time").limit(1).any()


def test_all_dataset_types_are_queried_at_once(butler):
    refs = butler.query_all_datasets()
    assert [r.datasetType.name for r in refs] == ["metric"] * 6 + ["summary"]
    assert len(butler.query_all_datasets("run/*", name="met*", find_first=False)) == 7
    assert len(butler.query_all_datasets(name=["summary"])) == 1
    assert len(butler.query_all_datasets(name="metric", visit=903334)) == 2


def test_collections_are_listed_and_chained(butler):
    collections = butler.collections
    assert list(collections) == ["chain"]
    assert collections.defaults == ("chain",)
    assert collections.query("run/*") == ["run/1", "run/2"]
    assert collections.query("chain", flatten_chains=True) == ["run/2", "run/1"]
    info = collections.get_info("run/1", include_parents=True, include_summary=True)
    assert info.parents == {"chain"}
    assert info.dataset_types == {"metric", "summary"}
    assert [i.name for i in collections.query_info("*", CollectionType.CALIBRATION)] == ["HSC/calib"]
    with Butler(butler.root, writeable=True) as writer:
        assert writer.collections.register("other", CollectionType.CHAINED, "doc")
        assert not writer.collections.register("other", CollectionType.CHAINED)
        assert writer.collections.get_info("other").doc == "doc"
        writer.collections.extend_chain("other", "run/1")
        writer.collections.prepend_chain("other", ["run/2"])
        assert writer.collections.get_info("other").children == ("run/2", "run/1")
        writer.collections.remove_from_chain("other", "run/2")
        assert writer.collections.query("other", flatten_chains=True) == ["run/1"]
        with pytest.raises(CollectionCycleError):
            writer.collections.redefine_chain("other", ["other"])
        writer.collections.x_remove("other")


def test_instrument_is_implied_only_where_an_expression_needs_it(butler):
    """The lone instrument of the default collections stands beside ``visit = ...``, and nowhere else."""
    assert butler.query_data_ids("visit", where="visit = 903344")
    assert len(butler.query_dimension_records("instrument")) == 1
