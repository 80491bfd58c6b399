"""Queries, expressions, order and limits: documented behaviour."""

from typing import Any

import pytest
from astropy.time import Time
from compat_package import api
from compat_repository import NIGHT, square, timespan

CAM = {"instrument": "Cam"}


def exposures(butler: Any, where: str, **keywords: Any) -> list[int]:
    """Return the exposures of a condition."""
    found = butler.query_dimension_records("exposure", where=where, explain=False, **keywords)
    return sorted(r.id for r in found)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("instrument = 'Cam'", [1, 2, 3]),
        ("instrument = 'Cam' AND exposure = 2", [2]),
        ("instrument = 'Cam' AND exposure != 2", [1, 3]),
        ("instrument = 'Cam' AND exposure > 1 AND exposure <= 3", [2, 3]),
        ("instrument = 'Cam' AND exposure IN (1, 3)", [1, 3]),
        ("instrument = 'Cam' AND exposure IN (1..3:2)", [1, 3]),
        ("instrument = 'Cam' AND exposure IN (2..9)", [2, 3]),
        ("instrument = 'Cam' AND exposure NOT IN (2)", [1, 3]),
        ("instrument = 'Cam' AND NOT (exposure = 2)", [1, 3]),
        ("instrument = 'Cam' AND (exposure = 1 OR exposure = 3)", [1, 3]),
        ("instrument = 'Cam' AND (exposure = 1 OR exposure = 2 AND band = 'r')", [1]),
        ("instrument = 'Cam' and exposure = 2", [2]),
        ("instrument = 'Cam' AND exposure.exposure_time > 45", [2, 3]),
        ("instrument = 'Cam' AND exposure_time > 45.5", [2, 3]),
        ("instrument = 'Cam' AND exposure_time / 30.0 = 2.0", [2]),
        ("instrument = 'Cam' AND exposure_time - 30.0 > 40.0", [3]),
        ("instrument = 'Cam' AND exposure % 2 = 1", [1, 3]),
        ("instrument = 'Cam' AND exposure.observation_type = 'dark'", [1]),
        ("instrument = 'Cam' AND exposure.science_program = NULL", [1, 2, 3]),
        ("instrument = 'Cam' AND exposure.target_name != NULL", [1, 2, 3]),
        ("instrument = 'Cam' AND glob(exposure.target_name, 'field[12]')", []),
        ("instrument = 'Cam' AND glob(exposure.target_name, 'fie*')", [1, 2, 3]),
        ("instrument = 'Cam' AND glob(exposure.obs_id, '?3')", [3]),
        ("instrument = 'Cam' AND band = 'r'", [3]),
        ("instrument = 'Cam' AND physical_filter = 'Cam-G'", [1, 2]),
        ("instrument = 'Cam' AND physical_filter IN ('Cam-R', 'x')", [3]),
        ("instrument = 'Cam' AND day_obs = 20260110", [1, 2, 3]),
        ("instrument = 'Cam' AND day_obs > 20260110", []),
        ("instrument = 'Cam' AND visit = 3", [3]),
        ("instrument = 'Cam' AND exposure.timespan.begin < T'2026-01-10T00:15:00'", [1]),
        ("instrument = 'Cam' AND exposure.timespan.begin >= T'isot/2026-01-10T00:19:00'", [2, 3]),
        (
            "instrument = 'Cam' AND "
            "exposure.timespan OVERLAPS (T'2026-01-10T00:19:00', T'2026-01-10T00:31:00')",
            [2, 3],
        ),
        ("instrument = 'Cam' AND exposure.timespan OVERLAPS T'2026-01-10T00:10:00'", [1]),
        ("instrument = 'Cam' AND exposure.timespan.begin > T'mjd/61050.01'", [2, 3]),
        ("instrument = 'Cam' AND -1 < exposure", [1, 2, 3]),
    ],
)
def test_expressions_select_exposures(where: str, expected: list[int], shared: Any) -> None:
    assert exposures(shared, where) == expected


@pytest.mark.parametrize(
    ("where", "bind", "expected"),
    [
        ("exposure = :x", {"x": 2}, [2]),
        ("exposure = x", {"x": 2}, [2]),
        ("exposure IN (:x)", {"x": [1, 3]}, [1, 3]),
        ("exposure IN (:x)", {"x": (1, 3)}, [1, 3]),
        ("exposure IN (:x)", {"x": {3}}, [3]),
        ("exposure NOT IN (:x)", {"x": [1, 3]}, [2]),
        ("exposure IN (:x, 2)", {"x": 1}, [1, 2]),
        ("exposure.target_name = :name", {"name": "field3"}, [3]),
        ("exposure_time > :t", {"t": 45.0}, [2, 3]),
        ("exposure.timespan.begin > :t", {"t": Time("2026-01-10T00:15:00", scale="tai")}, [2, 3]),
        ("exposure.timespan OVERLAPS :t", {"t": timespan(9, 12)}, [1, 2]),
        ("exposure.timespan OVERLAPS :t", {"t": NIGHT}, []),
    ],
)
def test_values_are_bound(where: str, bind: dict[str, Any], expected: list[int], shared: Any) -> None:
    assert exposures(shared, f"instrument = 'Cam' AND {where}", bind=bind) == expected


@pytest.mark.parametrize(
    ("where", "bind", "expected"),
    [
        ("visit.region OVERLAPS :r", {"r": square(12.2, 5.2, 0.1)}, [2]),
        ("visit.region OVERLAPS :r", {"r": square(12.5, 5.2, 1.0)}, [2, 3]),
        ("visit.region OVERLAPS POINT(13.5, 5.5)", {}, [3]),
        ("visit.region OVERLAPS CIRCLE(12.5, 5.5, 0.1)", {}, [2]),
        ("visit.region OVERLAPS BOX(0.0, 0.0, 5.0, 5.0)", {}, []),
        ("tract = 1 AND patch = 0 AND skymap = 'sky' AND visit = 2", {}, [2]),
    ],
)
def test_regions_select_visits(where: str, bind: dict[str, Any], expected: list[int], shared: Any) -> None:
    rows = shared.query_data_ids(["visit"], where=f"instrument = 'Cam' AND {where}", bind=bind, explain=False)
    assert sorted({d["visit"] for d in rows}) == expected


@pytest.mark.parametrize(
    "where",
    [
        "instrument = 'Cam' AND",
        "instrument = ",
        "instrument = 'Cam' AND nope = 3",
        "instrument = 'Cam' AND exposure.nope = 3",
        "instrument = 'Cam' AND nope.id = 3",
        "(instrument = 'Cam'",
        "instrument = 'Cam' AND exposure = :missing",
        "instrument = 'Cam",
    ],
)
def test_bad_expressions_are_told(where: str, shared: Any) -> None:
    with pytest.raises(api.ButlerUserError if hasattr(api, "ButlerUserError") else Exception):
        shared.query_dimension_records("exposure", where=where)


def test_conditions_on_visits_need_their_instrument(repo: Any) -> None:
    with (
        api.Butler.from_config(str(repo)) as butler,
        pytest.raises(Exception, match="instrument"),
    ):
        butler.query_dimension_records("exposure", where="exposure = 2")


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("exposure", [1, 2, 3]),
        ("-exposure", [3, 2, 1]),
        (["physical_filter", "-exposure"], [2, 1, 3]),
        (["-physical_filter", "exposure"], [3, 1, 2]),
        ("-exposure_time", [3, 2, 1]),
        ("exposure.exposure_time", [1, 2, 3]),
        ("-exposure.timespan.begin", [3, 2, 1]),
        ("exposure.timespan.end", [1, 2, 3]),
        (["observation_type", "exposure"], [1, 2, 3]),
    ],
)
def test_records_are_ordered(order_by: Any, expected: list[int], shared: Any) -> None:
    found = shared.query_dimension_records("exposure", data_id=CAM, order_by=order_by)
    assert [r.id for r in found] == expected


@pytest.mark.parametrize("limit", [0, 1, 2, None])
def test_limits_cut(limit: int | None, shared: Any) -> None:
    found = shared.query_dimension_records(
        "exposure", data_id=CAM, order_by="exposure", limit=limit, explain=False
    )
    assert [r.id for r in found] == [1, 2, 3][:limit]


def test_negative_limits_cut_and_warn(shared: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = shared.query_dimension_records("exposure", data_id=CAM, order_by="exposure", limit=-2)
    assert [r.id for r in found] == [1, 2]
    assert "more" in caplog.text.lower()


def test_unknown_order_is_told(shared: Any) -> None:
    with pytest.raises(Exception, match="nope"):
        shared.query_dimension_records("exposure", data_id=CAM, order_by="nope")


@pytest.mark.parametrize(
    ("dimensions", "keywords", "expected"),
    [
        (["detector"], {}, 4),
        (["visit"], {}, 2),
        (["visit", "detector"], {}, 8),
        (["exposure", "visit"], {}, 2),
        (["visit"], {"data_id": {"band": "g"}}, 1),
        (["physical_filter"], {}, 2),
        (["detector"], {"where": "detector.raft = 'A'"}, 2),
        (["instrument"], {}, 1),
        (["visit", "patch"], {"skymap": "sky"}, 4),
    ],
)
def test_data_ids_are_counted(dimensions: list[str], keywords: Any, expected: int, shared: Any) -> None:
    assert len(shared.query_data_ids(dimensions, instrument="Cam", **keywords)) == expected


def test_data_ids_carry_records_on_request(shared: Any) -> None:
    (found,) = shared.query_data_ids(["visit"], instrument="Cam", visit=2, with_dimension_records=True)
    assert found.records["visit"].name == "V2"
    assert found["band"] == "g"


def test_an_empty_answer_explains_itself(shared: Any) -> None:
    with pytest.raises(api.EmptyQueryResultError) as caught:
        shared.query_data_ids(["visit"], instrument="Cam", where="visit = 99")
    assert caught.value.reasons is not None
    with pytest.raises(api.EmptyQueryResultError):
        shared.query_datasets("coadd", "u/one")
    assert shared.query_datasets("coadd", "u/one", explain=False) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"collections": "biases/1"}, [("biases/1", 0), ("biases/1", 1), ("biases/1", 2)]),
        (
            {"collections": ["biases/1", "biases/2"]},
            [("biases/1", 0), ("biases/1", 1), ("biases/1", 2), ("biases/2", 3)],
        ),
        ({"collections": "biases/*", "find_first": False, "detector": 1}, [("biases/1", 1), ("biases/2", 1)]),
        ({"collections": "biases/2", "where": "detector > 1"}, [("biases/2", 2), ("biases/2", 3)]),
        ({"collections": "biases/2", "where": "detector.full_name = 'D3'"}, [("biases/2", 3)]),
        ({"collections": "biases/2", "data_id": {"detector": 2}}, [("biases/2", 2)]),
        ({"collections": "biases/2", "detector": 2}, [("biases/2", 2)]),
        ({"collections": "biases/2", "order_by": "-detector", "limit": 1}, [("biases/2", 3)]),
    ],
)
def test_datasets_are_queried(arguments: dict[str, Any], expected: list[Any], shared: Any) -> None:
    found = shared.query_datasets("bias", instrument="Cam", **arguments)
    assert sorted((r.run, r.dataId["detector"]) for r in found) == expected


def test_datasets_are_ordered(shared: Any) -> None:
    found = shared.query_datasets("raw", "raws", instrument="Cam", order_by=["-exposure", "detector"])
    assert [(r.dataId["exposure"], r.dataId["detector"]) for r in found] == [
        (3, 0),
        (3, 1),
        (2, 0),
        (2, 1),
        (1, 0),
        (1, 1),
    ]


def test_datasets_carry_records_on_request(shared: Any) -> None:
    (ref,) = shared.query_datasets("table", with_dimension_records=True)
    assert ref.dataId.hasRecords()
    assert ref.dataId.records["detector"].full_name == "D1"


def test_datasets_of_many_types_are_queried(shared: Any) -> None:
    found = {(r.datasetType.name, r.run) for r in shared.query_all_datasets("defaults")}
    assert found == {("summary", "u/two"), ("summary", "u/one"), ("table", "u/one"), ("raw", "raws")}
    only = shared.query_all_datasets("defaults", name="s*", find_first=False)
    assert sorted((r.run, r.dataId["visit"]) for r in only) == [("u/one", 2), ("u/one", 3), ("u/two", 3)]


def test_queries_for_what_is_not_there_are_told(shared: Any) -> None:
    with pytest.raises(api.MissingDatasetTypeError):
        shared.query_datasets("nope", "raws")
    with pytest.raises(api.MissingCollectionError):
        shared.query_datasets("bias", "nope")
    with pytest.raises(KeyError):
        shared.query_data_ids(["nope"])


def test_queries_are_built_step_by_step(shared: Any) -> None:
    with shared.query() as query:
        found = query.join_dataset_search("raw", "raws").data_ids(["exposure"]).where(instrument="Cam")
        assert sorted(d["exposure"] for d in found) == [1, 2, 3]
        ordered = query.data_ids(["detector"]).where(CAM).order_by("-detector").limit(2)
        assert [d["detector"] for d in ordered] == [3, 2]
        assert query.datasets("bias", ["biases/1", "biases/2"], find_first=False).where(CAM).count() == 7
        records = query.dimension_records("visit").where("visit > 2", instrument="Cam")
        assert [r.name for r in records] == ["V3"]
        assert records.any()


def test_registry_queries_filter_by_datasets(shared: Any) -> None:
    registry = shared.registry
    found = registry.queryDataIds(["exposure"], datasets="raw", collections="raws", instrument="Cam")
    assert {d["exposure"] for d in found} == {1, 2, 3}
    records = registry.queryDimensionRecords("visit", datasets="summary", collections="u/two", **CAM)
    assert [r.id for r in records] == [3]
    refs = registry.queryDatasets("bias", collections=["biases/1", "biases/2"], findFirst=True, **CAM)
    assert {(r.run, r.dataId["detector"]) for r in refs} == {
        ("biases/1", 0),
        ("biases/1", 1),
        ("biases/1", 2),
        ("biases/2", 3),
    }
    assert len(list(registry.queryDatasets("bias", collections=..., instrument="Cam"))) == 7
    two = registry.queryDatasets(["raw", "bias"], collections=...)
    assert {r.datasetType.name for r in two} == {"raw", "bias"}
    (ref,) = registry.queryDatasets("table", collections="u/one").expanded()
    assert ref.dataId.records["visit"].name == "V2"
