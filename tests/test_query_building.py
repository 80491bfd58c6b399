"""``butler.query()``: conditions in Python, joins, general rows; and the queries of ``butler.registry``."""

from uuid import UUID

import numpy as np
import pytest
from astropy.table import Table
from small_repository import VISITS, exposure_timespan, make_repository

from butler_dask import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetType,
    DimensionNameError,
    DimensionValueError,
    InvalidQueryError,
    MissingDatasetTypeError,
    Timespan,
)
from butler_dask.errors import DataIdValueError, DatasetTypeError
from butler_dask.vocabulary.expression import text_of

FIRST, SECOND, THIRD = VISITS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_repository(tmp_path_factory.mktemp("repo") / "DATA")
    with Butler(root, run="run/1") as butler:
        for visit in VISITS:
            for detector in (1, 2):
                butler.put({"n": detector}, "metric", instrument="HSC", visit=visit, detector=detector)
        for detector in (1, 2):
            bias = butler.put({}, "bias", instrument="HSC", detector=detector)
            span = Timespan(exposure_timespan(0).begin, exposure_timespan(1).begin)
            butler.registry.certify("HSC/calib", [bias], span)
        registry = butler.registry
        registry.insertDimensionData("instrument", {"name": "Other"})
        registry.insertDimensionData("detector", {"instrument": "Other", "id": 1, "full_name": "only"})
    with Butler(root, run="run/2") as butler:
        butler.put({"n": 0}, "metric", instrument="HSC", visit=FIRST, detector=1)
        butler.collections.register("chain", CollectionType.CHAINED)
        butler.collections.redefine_chain("chain", ["run/2", "run/1"])
    return root


@pytest.fixture(scope="module")
def butler(root):
    with Butler(root) as butler:
        yield butler


@pytest.fixture
def query(butler):
    with butler.query() as query:
        yield query.where(instrument="HSC")


def visits(results):
    return [d["visit"] for d in results.order_by("visit")]


# Conditions in Python


def test_operators_make_the_conditions_that_text_makes(query):
    x = query.expression_factory
    ids = query.data_ids("visit")
    assert visits(ids.where(x.visit == SECOND)) == [SECOND]
    assert visits(ids.where(x.visit.exposure_time > 30, x.band == "r")) == [THIRD]
    assert visits(ids.where(x.any(x.visit == FIRST, x.not_(x.visit.exposure_time < 32.0)))) == [FIRST, THIRD]
    assert visits(ids.where(x.all(x.visit != FIRST, x.visit != THIRD))) == [SECOND]
    assert visits(ids.where(2 * (x.visit.exposure_time - 30) + 1 >= 3)) == [SECOND, THIRD]
    assert visits(ids.where(-x.visit.exposure_time / 2 < -15.6)) == [THIRD]
    assert visits(ids.where(x.literal(FIRST) == x.visit)) == [FIRST]
    assert visits(ids.where(x.visit % 10 == 6)) == [SECOND]
    assert visits(ids.where(x.visit.name.glob("V*4"))) == [FIRST, THIRD]
    assert visits(ids.where(x.visit.target_name.is_null)) == list(VISITS)
    assert visits(ids.where(x.visit.timespan.begin > exposure_timespan(0).begin)) == [SECOND, THIRD]
    assert visits(ids.where(x.visit.timespan.overlaps(exposure_timespan(1)))) == [SECOND]
    assert visits(ids.where(x.visit.day_obs == 20130619)) == [THIRD]


def test_membership_is_by_values_ranges_and_other_queries(query):
    x = query.expression_factory
    ids = query.data_ids("visit")
    assert visits(ids.where(x.visit.in_iterable([FIRST, 5, np.int64(THIRD)]))) == [FIRST, THIRD]
    assert visits(ids.where(x.visit.in_iterable([]))) == []
    assert visits(ids.where(x.visit.in_range(FIRST, THIRD))) == [FIRST, SECOND]
    assert visits(ids.where(x.visit.in_range(FIRST, None, 5))) == [FIRST, THIRD]
    assert visits(ids.where(x.visit.in_range(5, 3))) == []
    red = query.where("band = 'r'").join_dimensions(["visit"])
    assert visits(ids.where(x.visit.in_query(x.visit, red))) == [FIRST, THIRD]


def test_wrong_use_of_fields_in_python_is_told_at_once(query):
    x = query.expression_factory
    with pytest.raises(InvalidQueryError, match=r"write exposure\.can_see_sky\.as_boolean\(\)"):
        _ = x.exposure.can_see_sky == 1
    with pytest.raises(InvalidQueryError, match="is not true or false"):
        x.visit.name.as_boolean()
    with pytest.raises(InvalidQueryError, match="A glob is a string"):
        x.visit.name.glob(1)
    with pytest.raises(AttributeError, match="Did you mean 'exposure_time'"):
        _ = x.visit.exposure_tim
    with pytest.raises(AttributeError, match="Did you mean 'visit'"):
        _ = x.visti
    with pytest.raises(AttributeError, match="Did you mean 'ingest_date'"):
        _ = x["raw"].ingest_dat
    with pytest.raises(InvalidQueryError, match="is an expression or a data ID, not int"):
        query.where(3)
    with pytest.raises(InvalidQueryError, match="ends too early"):
        query.where("visit =")


def test_results_are_sorted_by_fields_in_python_and_by_several_calls(query):
    x = query.expression_factory
    ids = query.data_ids("visit")
    assert [d["visit"] for d in ids.order_by(x.visit.desc)] == [THIRD, SECOND, FIRST]
    assert [d["visit"] for d in ids.order_by(x.band).order_by("-visit")] == [SECOND, THIRD, FIRST]
    assert [d["visit"] for d in ids.order_by("-timespan.begin").limit(2, offset=1)] == [SECOND, FIRST]
    for name in ("", "-"):
        with pytest.raises(InvalidQueryError, match="no name to sort by"):
            list(ids.order_by(name))
    with pytest.raises(
        InvalidQueryError, match=r"ambiguous here; write one of exposure\.exposure_time, visit"
    ):
        list(query.data_ids(["exposure", "visit"]).order_by("exposure_time"))
    with pytest.raises(InvalidQueryError, match=r"ambiguous here; write one of exposure\.timespan"):
        list(query.data_ids(["exposure", "visit"]).order_by("timespan.begin"))
    with pytest.raises(InvalidQueryError, match="limit is -3"):
        ids.limit(-3)


# Joins


def test_data_ids_given_narrow_a_query(butler, query):
    given = [DataCoordinate.standardize(instrument="HSC", visit=v) for v in (FIRST, SECOND, SECOND)]
    joined = query.join_data_coordinates(given)
    assert visits(joined.data_ids("visit")) == [FIRST, SECOND]
    assert len(list(joined.datasets("metric", "run/1"))) == 4
    assert [r.id for r in joined.where(band="i").dimension_records("visit")] == [SECOND]
    table = Table({"visit": [THIRD], "detector": [2]})
    (ref,) = query.join_data_coordinate_table(table).datasets("metric", "run/1")
    assert (ref.dataId["visit"], ref.dataId["detector"]) == (THIRD, 2)
    with pytest.raises(InvalidQueryError, match="no data ID to join"):
        query.join_data_coordinates([])
    with pytest.raises(InvalidQueryError, match="must have the same dimensions"):
        query.join_data_coordinates([*given, DataCoordinate.standardize(instrument="HSC")])
    with butler.query() as bare, pytest.raises(InvalidQueryError, match="no column 'instrument'"):
        bare.join_data_coordinate_table(table)


def test_materialized_queries_keep_their_rows_and_joins(query):
    found = query.join_dataset_search("metric", "run/2").materialize()
    assert found.constraint_dataset_types == {"metric"}
    assert visits(found.data_ids("visit")) == [FIRST]
    (ref,) = found.datasets("metric")
    assert ref.run == "run/2"
    assert not found.where(visit=SECOND).any()
    kept = query.where("visit.exposure_time > 30.5").materialize(dimensions=["visit"], datasets=())
    assert visits(kept.data_ids("visit")) == [SECOND, THIRD]
    with pytest.raises(InvalidQueryError, match="not joined into the query"):
        query.materialize(datasets=["metric"])
    with pytest.raises(InvalidQueryError, match="has dimensions beyond"):
        query.join_dataset_search("metric", "run/1").materialize(dimensions=["visit"])


def test_a_dataset_type_is_searched_in_one_list_of_collections_of_a_query(query):
    joined = query.join_dataset_search("metric", ["run/1"])
    assert joined.join_dataset_search("metric").constraint_dataset_types == {"metric"}
    with pytest.raises(InvalidQueryError, match="is searched in run/1 by this query already"):
        joined.datasets("metric", ["run/2"])
    with pytest.raises(MissingDatasetTypeError, match="Did you mean 'metric'"):
        query.join_dataset_search("metrc", "run/1")
    with pytest.raises(InvalidQueryError, match="globs have none"):
        query.datasets("metric", "run/*")
    assert len(list(query.datasets("metric", "run/*", find_first=False))) == 7


# General rows


def test_general_rows_hold_the_fields_asked_for(butler, query):
    rows = list(query.general("detector", "detector.full_name", "purpose").order_by("-detector").limit(2))
    assert rows == [
        {"instrument": "HSC", "detector": d, "detector.full_name": f"1_5{d}", "detector.purpose": "SCIENCE"}
        for d in (5, 4)
    ]
    found = query.join_dataset_search("metric", "chain")
    fields = {"metric": {"dataset_id", "run", "collection", "ingest_date"}}
    rows = list(found.general(["visit"], dataset_fields=fields, find_first=False).where(visit=FIRST))
    assert sorted((r["detector"], r["metric.run"]) for r in rows) == [
        (1, "run/1"),
        (1, "run/2"),
        (2, "run/1"),
    ]
    assert all(
        isinstance(r["metric.dataset_id"], UUID) and r["metric.ingest_date"].scale == "tai" for r in rows
    )
    results = found.general(["visit"], dataset_fields={"metric": ...}, find_first=True)
    kind = butler.get_dataset_type("metric")
    tuples = list(results.order_by("visit", "detector").iter_tuples(kind))
    assert [(t.data_id["visit"], t.refs[0].run) for t in tuples][:2] == [(FIRST, "run/2"), (FIRST, "run/1")]
    assert len(tuples) == 6
    with pytest.raises(InvalidQueryError, match=r"need the fields metric\.dataset_id"):
        list(found.general(["visit"], "metric.run", find_first=False).iter_tuples(kind))
    with pytest.raises(InvalidQueryError, match="Give find_first"):
        found.general(["visit"], "metric.run")
    with pytest.raises(InvalidQueryError, match=r"add join_dataset_search\('raw'"):
        query.general(["visit"], dataset_fields={"raw": ...}, find_first=False)


def test_general_rows_come_with_records_and_values_of_every_kind(query):
    (row,) = query.where(visit=FIRST).general("visit").with_dimension_records()
    assert row["visit.timespan"] == exposure_timespan(0)
    assert row["visit.exposure_time"] == 30.0
    assert row["visit.region"] is None
    (result,) = query.where(visit=FIRST).general("visit").with_dimension_records().iter_tuples()
    assert result.data_id.records["visit"].name == f"V{FIRST}"


def test_calibrations_join_exposures_by_their_validity(butler, query):
    found = query.join_dimensions(["exposure"]).join_dataset_search("bias", ["HSC/calib"])
    results = found.general(["exposure", "detector"], dataset_fields={"bias": ...}, find_first=True)
    pairs = {
        (t.data_id["exposure"], t.data_id["detector"])
        for t in results.iter_tuples(butler.get_dataset_type("bias"))
    }
    assert pairs == {(FIRST, 1), (FIRST, 2)}
    (span,) = {r["bias.timespan"] for r in found.general(["detector"], "bias.timespan", find_first=False)}
    assert span.begin == exposure_timespan(0).begin


# Defaults


def test_a_default_instrument_counts_only_where_the_condition_names_none(root):
    with Butler(root, instrument="HSC") as butler:
        assert {d["instrument"] for d in butler.query_data_ids("detector")} == {"HSC"}
        assert len(butler.query_data_ids("detector", where="detector = 1")) == 1
        assert len(butler.query_data_ids("detector", where="instrument = 'Other'")) == 1
        assert len(butler.query_data_ids("detector", instrument="Other")) == 1
        everywhere = butler.query_data_ids("detector", where="instrument != '' AND detector = 1")
        assert {d["instrument"] for d in everywhere} == {"HSC", "Other"}
        assert len(butler.registry.queryDataIds("detector", where="instrument IN ('HSC', 'Other')")) == 7
        assert len(butler.registry.queryDimensionRecords("detector")) == 6
    with Butler(root, collections="run/1") as inferred:
        assert len(inferred.query_data_ids("detector", where="detector = 1")) == 1
        assert len(inferred.query_data_ids("detector", where="GLOB(instrument, '*') AND detector = 1")) == 2


# Results of butler.registry


def test_registry_results_find_datasets_of_their_data_ids(butler):
    registry = butler.registry
    ids = registry.queryDataIds(["visit", "detector"], instrument="HSC", where="visit.exposure_time < 32")
    assert ids.count() == 12
    assert len(ids.subset(["detector"], unique=True)) == 6
    refs = ids.findDatasets("metric", collections=["run/2", "run/1"])
    assert sorted(r.run for r in refs) == ["run/1", "run/1", "run/1", "run/2"]
    assert len(ids.findDatasets("metric", collections=["run/2", "run/1"], findFirst=False)) == 5
    related = list(ids.subset(["visit"]).findRelatedDatasets("metric", ["run/1"]))
    assert {(d["visit"], r.dataId["detector"]) for d, r in related} == {
        (v, d) for v in (FIRST, SECOND) for d in (1, 2)
    }
    with ids.materialize() as kept:
        assert set(kept) == set(ids)
        assert kept.order_by("-visit", "detector")[0]["visit"] == SECOND
    assert ids.expanded().hasRecords()
    with pytest.raises(DatasetTypeError, match="findRelatedDatasets joins them"):
        ids.subset(["visit"]).findDatasets("metric", collections="run/1")
    with pytest.raises(DimensionNameError, match="have no subset"):
        ids.subset(["exposure"])


def test_registry_datasets_come_by_type_and_as_the_storage_class_asked_for(butler):
    registry = butler.registry
    both = registry.queryDatasets(["metric", "bias"], collections=["run/1"])
    assert {p.parentDatasetType.name: p.count() for p in both.byParentDatasetType()} == {
        "metric": 6,
        "bias": 2,
    }
    assert both.count() == len(both) == 8
    one = registry.queryDatasets("metric", collections=["run/1"], instrument="HSC", detector=2)
    assert {d["detector"] for d in one.dataIds} == {2}
    assert one.expanded()[0].dataId.hasRecords()
    changed = DatasetType("metric", ["visit", "detector"], "StructuredDataList")
    assert registry.queryDatasets(changed, collections=["run/1"])[0].datasetType == changed
    nothing = registry.queryDatasets("metric", collections=["run/2"], where="instrument='HSC' AND detector=5")
    assert not nothing.any()
    assert any("detector = 5" in reason for reason in nothing.explain_no_results())
    with pytest.raises(InvalidQueryError, match="globs have none"):
        registry.queryDatasets("metric", collections="run/*", findFirst=True)


# Other keys of data IDs


def test_data_ids_by_other_keys_are_completed(butler):
    wanted = {"instrument": "HSC", "visit": FIRST, "detector": 1}
    ref = butler.find_dataset("metric", wanted, collections="run/1")
    for other in ({"detector": "1_51"}, {"full_name": "1_51"}, {"detector.full_name": "1_51"}):
        given = {"instrument": "HSC", "visit": FIRST, **other}
        assert butler.find_dataset("metric", given, collections="run/1") == ref
    by_name = butler.find_dataset(
        "metric", instrument="HSC", detector=1, visit=f"V{FIRST}", collections="run/1"
    )
    assert by_name == ref
    by_day = {"instrument": "HSC", "day_obs": 20130617, "exposure.seq_num": 0, "detector": 1}
    assert butler.find_dataset("metric", by_day, collections="run/1") == ref
    with pytest.raises(DimensionValueError, match="matches several"):
        butler.find_dataset("metric", instrument="HSC", visit=FIRST, collections="run/1")
    with pytest.raises(DataIdValueError, match="matches"):
        butler.find_dataset("metric", instrument="HSC", visit=FIRST, detector="nope", collections="run/1")
    with pytest.raises(DataIdValueError, match="full_name takes str values, not 3"):
        butler.find_dataset("metric", instrument="HSC", visit=FIRST, full_name=3, collections="run/1")
    with pytest.raises(DimensionNameError, match="Did you mean"):
        butler.find_dataset("metric", instrument="HSC", visti=FIRST, collections="run/1")


# Explanations


def test_every_empty_answer_names_a_smallest_set_of_culprits(butler):
    with butler.query() as query:
        results = query.data_ids("visit").where("visit.exposure_time > 31 AND band = 'i'", instrument="HSC")
        assert results.explain_no_results() == [
            f"No data ID of {results.dimensions} satisfies 'visit.exposure_time > 31' and satisfies "
            "\"band = 'i'\". There are 1 without 'visit.exposure_time > 31', 1 without \"band = 'i'\"."
        ]
        x = query.expression_factory
        (reason,) = query.data_ids("visit").where(x.visit == 5, instrument="HSC").explain_no_results()
        assert "satisfies 'visit = 5'" in reason
        absent = query.join_dataset_search("raw", "run/1").data_ids("exposure")
        assert absent.any(execute=False, exact=False) is False
        assert absent.explain_no_results(execute=False) == ["There is no dataset of type 'raw' in 'run/1'."]
        present = query.join_dataset_search("metric", "run/1").data_ids("visit")
        assert present.any(execute=False, exact=False)
        with pytest.raises(InvalidQueryError, match="only known by execute=True"):
            present.any(execute=False)


def test_statements_of_a_query_are_explained_by_the_database(butler):
    with butler.repository.registry.explain_query() as statements:
        butler.query_datasets("metric", "run/1", where="instrument = 'HSC' AND visit > 3")
    (main,) = [s for s in statements if "dataset_" in s.sql and "SELECT" in s.sql and s.rows == 6]
    assert main.plan
    assert main.seconds > 0
    assert "6 rows in" in str(main)
    before = len(statements)
    butler.query_datasets("metric", "run/1")
    assert len(statements) == before


def test_expressions_are_written_as_text():
    from butler_dask.vocabulary.expression import parse_expression

    for text in (
        "NOT (a = 1 OR b IN (1, 2..5:2, :c)) AND x.y IS NOT NULL",
        "t OVERLAPS (T'2020-01-01T00:00:00.5/tai', NULL)",
        "GLOB(a, 'x*') AND -(a + 2) * 3 < 5.5",
        "(a AND b) OR c != TRUE",
    ):
        tree = parse_expression(text)
        assert text_of(parse_expression(text_of(tree))) == text_of(tree)
