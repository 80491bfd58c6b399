"""Data IDs, dimensions, time ranges, dataset types and references as values: documented behaviour."""

import copy
import json
import pickle
import uuid
from typing import Any

import pytest
from compat_package import api, registry_api
from compat_repository import NIGHT, timespan

U = api.DimensionUniverse()
Id = api.DataCoordinate.standardize
VISIT_DETECTOR = U.conform(["visit", "detector"])
PLAIN = Id(instrument="Cam", visit=2, detector=1, universe=U)
FULL = Id(
    instrument="Cam", visit=2, detector=1, band="g", physical_filter="Cam-G", day_obs=20260110, universe=U
)
TABLE = api.DatasetType("table", VISIT_DETECTOR, "ArrowAstropy", universe=U)
BIAS = api.DatasetType(
    "bias", ["instrument", "detector"], "StructuredDataDict", universe=U, isCalibration=True
)
REF = api.DatasetRef(TABLE, PLAIN, run="u/one", id=uuid.UUID(int=5))


@pytest.mark.parametrize(
    ("names", "attribute", "expected"),
    [
        (["visit", "detector"], "required", ["instrument", "detector", "visit"]),
        (["visit", "detector"], "implied", ["band", "day_obs", "physical_filter"]),
        (
            ["visit", "detector"],
            "names",
            ["band", "instrument", "day_obs", "detector", "physical_filter", "visit"],
        ),
        (["exposure"], "names", ["band", "instrument", "day_obs", "group", "physical_filter", "exposure"]),
        (["patch", "band"], "required", ["band", "skymap", "tract", "patch"]),
        (["patch", "visit"], "governors", ["instrument", "skymap"]),
        (["visit", "htm7"], "skypix", ["htm7"]),
        (["physical_filter"], "required", ["instrument", "physical_filter"]),
        (["physical_filter", "band"], "implied", ["band"]),
        ([], "names", []),
        (["visit", "exposure"], "elements", None),
    ],
)
def test_a_dimension_group_is_closed_and_ordered(names: list[str], attribute: str, expected: Any) -> None:
    found = list(getattr(U.conform(names), attribute))
    if expected is None:
        assert "visit_definition" in found
    else:
        assert found == expected


def test_dimension_groups_combine_as_sets() -> None:
    a, b = U.conform(["visit"]), U.conform(["detector"])
    assert a | b == VISIT_DETECTOR == a.union(b)
    assert (a | b) & b == b == (a | b).intersection(b)
    assert a < a | b
    assert a <= a
    assert not b > a
    assert U.conform(["tract"]).isdisjoint(a)
    assert (a | b).issuperset(b)
    assert "band" in a
    assert "tract" not in a
    assert not U.empty
    assert set(a.required) == {"instrument", "visit"}
    assert a.required | b.required == {"instrument", "visit", "detector"}
    assert a.required == {"visit", "instrument"}


@pytest.mark.parametrize("names", [["nope"], ["visit", "nope"]])
def test_unknown_dimensions_are_key_errors(names: list[str]) -> None:
    with pytest.raises(KeyError):
        U.conform(names)
    with pytest.raises(KeyError):
        U[names[-1]]


def test_elements_say_what_they_are() -> None:
    visit = U["visit"]
    assert (visit.name, visit.primaryKey.name, str(visit)) == ("visit", "id", "visit")
    assert list(visit.alternateKeys.names) == ["name"]
    assert list(visit.required.names) == ["instrument", "visit"]
    assert set(visit.implied.names) == {"day_obs", "physical_filter"}
    assert visit.minimal_group == U.conform(["visit"])
    assert visit.hasTable()
    assert not U["htm7"].hasTable()
    assert U["visit_definition"].populated_by.name == "visit"
    assert visit.spatial
    assert visit.temporal
    assert not U["detector"].spatial
    assert U.commonSkyPix.name == "htm7"
    assert {d.name for d in U.governor_dimensions} == {"instrument", "skymap"}
    assert U.skypix["htm"][7] == U["htm7"]
    assert "exposure_time" in visit.schema.names


def test_elements_compare_with_their_names() -> None:
    assert U["visit"] == "visit"
    assert {U["visit"]: 1}["visit"] == 1
    assert [str(e) for e in U.sorted(["visit", "instrument"])] == ["instrument", "visit"]


@pytest.mark.parametrize("data_id", [PLAIN, FULL], ids=["plain", "full"])
def test_data_ids_give_required_values(data_id: Any) -> None:
    assert dict(data_id.required) == {"instrument": "Cam", "detector": 1, "visit": 2}
    assert data_id.required_values == ("Cam", 1, 2)
    assert data_id["visit"] == 2
    assert data_id.get("nope") is None
    assert data_id.get("nope", 7) == 7
    assert "visit" in data_id
    assert "tract" not in data_id
    assert data_id.dimensions == VISIT_DETECTOR
    assert not data_id.hasRecords()
    assert data_id == {"instrument": "Cam", "detector": 1, "visit": 2}


def test_full_data_ids_give_implied_values() -> None:
    assert FULL.hasFull()
    assert not PLAIN.hasFull()
    assert FULL["band"] == "g"
    assert "band" not in PLAIN
    with pytest.raises(KeyError):
        PLAIN["band"]
    assert FULL.full_values == ("Cam", 1, 2, "g", 20260110, "Cam-G")
    with pytest.raises(ValueError):
        _ = PLAIN.full_values
    assert FULL == PLAIN
    assert hash(FULL) == hash(PLAIN)
    assert str(FULL) == str(dict(FULL.mapping)).replace("'instrument'", "instrument").replace(
        "'detector'", "detector"
    ).replace("'visit'", "visit").replace("'band'", "band").replace("'day_obs'", "day_obs").replace(
        "'physical_filter'", "physical_filter"
    )


def test_data_ids_are_made_of_values() -> None:
    assert api.DataCoordinate.from_required_values(VISIT_DETECTOR, ("Cam", 1, 2)) == PLAIN
    made = api.DataCoordinate.from_full_values(VISIT_DETECTOR, ("Cam", 1, 2, "g", 20260110, "Cam-G"))
    assert made.hasFull()
    assert dict(made.mapping) == dict(FULL.mapping)
    assert dict(api.DataCoordinate.make_empty(U).mapping) == {}


def test_data_ids_are_cut_and_joined() -> None:
    assert dict(PLAIN.subset(["detector"]).mapping) == {"instrument": "Cam", "detector": 1}
    assert dict(FULL.subset(["band"]).mapping) == {"band": "g"}
    with pytest.raises(KeyError):
        PLAIN.subset(["band"])
    with pytest.raises(KeyError):
        PLAIN.subset(["exposure"])
    joined = PLAIN.union(Id(skymap="sky", tract=1, universe=U))
    assert dict(joined.required) == {
        "instrument": "Cam",
        "skymap": "sky",
        "detector": 1,
        "tract": 1,
        "visit": 2,
    }


@pytest.mark.parametrize(
    ("mapping", "keywords", "expected"),
    [
        ({"instrument": "Cam", "visit": 2}, {}, {"instrument": "Cam", "visit": 2}),
        ({"instrument": "Cam"}, {"visit": 2}, {"instrument": "Cam", "visit": 2}),
        ({"instrument": "Cam", "visit": 1}, {"visit": 2}, {"instrument": "Cam", "visit": 2}),
        (PLAIN, {"dimensions": ["visit"]}, {"instrument": "Cam", "visit": 2}),
        (PLAIN, {"exposure": 4}, {"instrument": "Cam", "detector": 1, "exposure": 4, "visit": 2}),
    ],
)
def test_standardize(mapping: Any, keywords: Any, expected: Any) -> None:
    assert dict(Id(mapping, universe=U, **keywords).required) == expected


@pytest.mark.parametrize("mapping", [{"visit": 1}, {"instrument": "Cam", "patch": 1, "skymap": "s"}])
def test_standardize_misses_required_values(mapping: Any) -> None:
    with pytest.raises(api.DimensionNameError):
        Id(mapping, universe=U)


def test_standardize_refuses_unknown_keys() -> None:
    with pytest.raises(KeyError):
        Id({"instrument": "Cam", "nope": 1}, universe=U)


@pytest.mark.parametrize("data_id", [PLAIN, FULL], ids=["plain", "full"])
def test_data_ids_are_json(data_id: Any) -> None:
    text = data_id.to_json()
    assert json.loads(text) == {"dataId": dict(data_id.mapping)}
    read = api.DataCoordinate.from_json(text, universe=U)
    assert dict(read.mapping) == dict(data_id.mapping)


@pytest.mark.parametrize(
    "value",
    [
        PLAIN,
        FULL,
        TABLE,
        BIAS,
        REF,
        U,
        VISIT_DETECTOR,
        U["visit"],
        timespan(1),
        api.CollectionType.RUN,
        api.Timespan(None, None),
    ],
    ids=["plain", "full", "table", "bias", "ref", "universe", "group", "element", "span", "type", "ever"],
)
def test_values_survive_pickling_and_copying(value: Any) -> None:
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert again == value
        assert hash(again) == hash(value)


A, B = timespan(0), timespan(1)
EVER, EMPTY = api.Timespan(None, None), api.Timespan.makeEmpty()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda: A < B, True),
        (lambda: B > A, True),
        (lambda: B < A, False),
        (lambda: A < EMPTY, False),
        (lambda: EMPTY < A, False),
        (lambda: NIGHT < B or B > NIGHT, True),
        (lambda: A > NIGHT, False),
        (lambda: A.overlaps(B), False),
        (lambda: A.overlaps(EVER), True),
        (lambda: A.overlaps(EMPTY), False),
        (lambda: A.overlaps(NIGHT), True),
        (lambda: A.contains(NIGHT), True),
        (lambda: A.contains(A.end), False),
        (lambda: EVER.contains(A), True),
        (lambda: A.contains(EVER), False),
        (lambda: A.contains(EMPTY), True),
        (lambda: A.isEmpty(), False),
        (lambda: EMPTY.isEmpty(), True),
        (lambda: api.Timespan(A.end, A.begin).isEmpty(), True),
        (lambda: EVER.begin is None and EVER.end is None, True),
        (lambda: api.Timespan(A.begin, A.end) == A, True),
        (lambda: A.intersection(B).isEmpty(), True),
        (lambda: EVER.intersection(A) == A, True),
        (lambda: list(EVER.difference(A)) == [api.Timespan(None, A.begin), api.Timespan(A.end, None)], True),
        (lambda: list(A.difference(EVER)), []),
        (lambda: list(A.difference(B)) == [A], True),
        (lambda: api.Timespan.fromInstant(NIGHT).contains(NIGHT), True),
        (lambda: api.Timespan.from_day_obs(20260110).contains(NIGHT), True),
        (lambda: api.Timespan.from_day_obs(20260110, offset=43200).contains(NIGHT), False),
        (lambda: str(A), "[2026-01-10T00:00:00, 2026-01-10T00:01:00)"),
        (lambda: str(EVER), "(-∞, ∞)"),
        (lambda: str(EMPTY), "(empty)"),
        (lambda: A.nsec[1] - A.nsec[0], 60_000_000_000),
    ],
)
def test_timespans(what: Any, expected: Any) -> None:
    assert what() == expected


def test_dataset_types_compare_and_name_their_parts() -> None:
    assert api.DatasetType("table", ["visit", "detector"], "ArrowAstropy", universe=U) == TABLE
    assert TABLE != BIAS
    assert BIAS < TABLE
    assert BIAS.isCalibration()
    assert TABLE.nameAndComponent() == ("table", None)
    part = TABLE.makeComponentDatasetType("rowcount")
    assert (part.name, part.component(), part.isComponent()) == ("table.rowcount", "rowcount", True)
    assert part.nameAndComponent() == ("table", "rowcount")
    assert part.makeCompositeDatasetType() == TABLE
    assert TABLE.componentTypeName("rowcount") == "table.rowcount"
    assert {t.component() for t in TABLE.makeAllComponentDatasetTypes()} == {"columns", "rowcount", "schema"}
    assert api.DatasetType.splitDatasetTypeName("a.b") == ("a", "b")
    assert api.DatasetType.nameWithComponent("a", "b") == "a.b"
    with pytest.raises(KeyError):
        TABLE.makeComponentDatasetType("nope")


def test_dataset_types_convert_or_do_not() -> None:
    other = TABLE.overrideStorageClass("StructuredDataDict")
    assert other.storageClass_name == "StructuredDataDict"
    assert other != TABLE
    assert TABLE.is_compatible_with(other)
    assert not TABLE.is_compatible_with(api.DatasetType("table", ["visit"], "ArrowAstropy", universe=U))
    assert not TABLE.is_compatible_with(BIAS)


@pytest.mark.parametrize("name", ["a b", "", "9", "a.b.c", "a-b"])
def test_bad_dataset_type_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        api.DatasetType(name, ["visit"], "StructuredDataDict", universe=U)


def test_dataset_types_are_json() -> None:
    assert json.loads(BIAS.to_json()) == {
        "name": "bias",
        "storageClass": "StructuredDataDict",
        "dimensions": ["instrument", "detector"],
        "isCalibration": True,
    }
    assert api.DatasetType.from_json(BIAS.to_json(), universe=U) == BIAS


def test_references_give_their_parts() -> None:
    assert (REF.id.int, REF.run, REF.dataId, REF.datasetType) == (5, "u/one", PLAIN, TABLE)
    part = REF.makeComponentRef("columns")
    assert part.isComponent()
    assert part.makeCompositeRef() == REF
    assert part != REF
    other = REF.overrideStorageClass("StructuredDataDict")
    assert other.datasetType.storageClass_name == "StructuredDataDict"
    assert REF.is_compatible_with(other)
    assert not REF.is_compatible_with(part)
    moved = REF.replace(run="u/two", id=uuid.UUID(int=6))
    assert (moved.run, moved.id.int) == ("u/two", 6)
    assert str(REF.id) in str(REF)
    assert "u/one" in str(REF)


def test_references_are_grouped_and_sorted() -> None:
    bias = api.DatasetRef(BIAS, Id(instrument="Cam", detector=1, universe=U), run="a")
    groups = api.DatasetRef.groupByType([REF, bias])
    assert list(groups[TABLE]) == [REF]
    assert {t.name: list(refs) for t, refs in api.DatasetRef.iter_by_type([REF, bias])} == {
        "table": [REF],
        "bias": [bias],
    }
    assert sorted([REF, bias]) == [bias, REF]
    assert len({REF, pickle.loads(pickle.dumps(REF))}) == 1


def test_references_are_json() -> None:
    read = json.loads(REF.to_json())
    assert read["id"] == str(REF.id)
    assert read["run"] == "u/one"
    assert read["datasetType"]["name"] == "table"
    assert api.DatasetRef.from_json(REF.to_json(), universe=U) == REF
    assert json.loads(REF.to_json(minimal=True)) == {"id": str(REF.id)}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("DATAID_TYPE", "3600c74f-0dd8-5016-b75b-e69ba10eaeed"),
        ("DATAID_TYPE_RUN", "c6221cdc-5fab-565c-9109-b47dd088f5f1"),
    ],
)
def test_reproducible_ids_are_the_same_everywhere(mode: str, expected: str) -> None:
    kind = api.DatasetType("cat", ["instrument", "visit"], "StructuredDataDict", universe=U)
    data_id = Id(instrument="A", visit=1, universe=U)
    ref = api.DatasetRef(kind, data_id, run="r", id_generation_mode=api.DatasetIdGenEnum[mode])
    assert str(ref.id) == expected


def test_collection_types_by_name() -> None:
    assert api.CollectionType.from_name("run") is api.CollectionType.RUN
    assert len(api.CollectionType.all()) == 4
    assert api.CollectionType.from_names(["tagged", "RUN"]) == {
        api.CollectionType.RUN,
        api.CollectionType.TAGGED,
    }
    assert [t.value for t in api.CollectionType] == [1, 2, 3, 4]


def test_storage_classes_by_name() -> None:
    factory = api.StorageClassFactory()
    table = factory.getStorageClass("ArrowAstropy")
    assert table.name == "ArrowAstropy"
    assert table.pytype.__name__ == "Table"
    assert "columns" in table.parameters
    assert set(table.allComponents()) == {"columns", "rowcount", "schema"}
    assert table.can_convert(factory.getStorageClass("StructuredDataDict"))
    assert not factory.getStorageClass("ArrowAstropy").validateInstance({})
    with pytest.raises((KeyError, ValueError)):
        factory.getStorageClass("nope")


def test_records_give_fields(shared: Any) -> None:
    (record,) = shared.query_dimension_records("visit", instrument="Cam", visit=2)
    assert (record.id, record.name, record.physical_filter, record.exposure_time) == (2, "V2", "Cam-G", 60.0)
    assert record.timespan == timespan(20)
    assert dict(record.dataId.required) == {"instrument": "Cam", "visit": 2}
    assert record.definition.name == "visit"
    assert record.get("name") == "V2"
    assert {"id", "region", "timespan", "target_name"} <= set(record.toDict())
    assert {"datetime_begin", "datetime_end"} <= set(record.toDict(splitTimespan=True))
    assert record == type(record).from_json(record.to_json(), universe=shared.dimensions)
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(AttributeError):
        _ = record.nope


def test_records_are_made_of_fields() -> None:
    record = U["detector"].RecordClass(instrument="Cam", id=1, full_name="D1")
    assert (record.instrument, record.id, record.full_name, record.raft) == ("Cam", 1, "D1", None)
    assert record == U["detector"].RecordClass(instrument="Cam", detector=1, full_name="D1")


def test_registry_defaults_are_values() -> None:
    defaults = registry_api.RegistryDefaults(collections=["a", "b"], run="c")
    assert tuple(defaults.collections) == ("a", "b")
    assert defaults.run == "c"
    assert tuple(registry_api.RegistryDefaults(run="c").collections) == ("c",)
