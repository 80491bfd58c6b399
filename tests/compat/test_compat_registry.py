"""Collections, memberships, calibrations, dimension records, dataset types: documented behaviour."""

import re
import uuid
from typing import Any

import pytest
from compat_package import api, registry_api
from compat_repository import NIGHT, timespan

TAGGED, CHAINED, CALIBRATION, RUN = (
    api.CollectionType[n] for n in ("TAGGED", "CHAINED", "CALIBRATION", "RUN")
)
EVER = api.Timespan(None, None)


def bias(butler: Any, run: str, detector: int) -> Any:
    """Return a bias of a run."""
    return butler.find_dataset("bias", instrument="Cam", detector=detector, collections=run)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"expression": "biases/*"}, {"biases/1", "biases/2"}),
        ({"expression": ["u/*", "best"]}, {"u/one", "u/two", "best"}),
        ({"expression": "*", "collection_types": CALIBRATION}, {"calib"}),
        ({"expression": "*", "collection_types": {TAGGED, CHAINED}}, {"best", "defaults"}),
        ({"expression": "defaults"}, {"defaults"}),
        ({"expression": "nothing*"}, set()),
        ({"expression": "u/???"}, {"u/one", "u/two"}),
    ],
)
def test_collections_are_queried(arguments: dict[str, Any], expected: set[str], shared: Any) -> None:
    assert set(shared.collections.query(**arguments)) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"expression": "defaults", "flatten_chains": True}, ["u/two", "u/one", "raws"]),
        (
            {"expression": "defaults", "flatten_chains": True, "include_chains": True},
            ["defaults", "u/two", "u/one", "raws"],
        ),
        ({"expression": "defaults", "include_chains": False}, []),
        ({"expression": ["raws", "biases/1"]}, ["raws", "biases/1"]),
    ],
)
def test_collections_are_queried_in_order(
    arguments: dict[str, Any], expected: list[str], shared: Any
) -> None:
    assert list(shared.collections.query(**arguments)) == expected


@pytest.mark.parametrize(
    ("expression", "keywords", "expected"),
    [
        (..., {"collectionTypes": TAGGED}, ["best"]),
        ("biases/*", {}, ["biases/1", "biases/2"]),
        (re.compile("bias.*"), {}, ["biases/1", "biases/2"]),
        (re.compile("bias"), {}, []),
        ([re.compile("u/.*"), "best"], {}, ["best", "u/one", "u/two"]),
        ("defaults", {"flattenChains": True}, ["raws", "u/one", "u/two"]),
        ("defaults", {"flattenChains": True, "includeChains": True}, ["defaults", "raws", "u/one", "u/two"]),
        ("*", {"collectionTypes": {CHAINED}, "flattenChains": False}, ["defaults"]),
        ([], {}, []),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_registry_query_collections(expression: Any, keywords: Any, expected: list[str], shared: Any) -> None:
    assert sorted(shared.registry.queryCollections(expression, **keywords)) == expected


def test_a_missing_collection_is_told(shared: Any) -> None:
    for call in (
        lambda: shared.collections.query("nope"),
        lambda: shared.collections.get_info("nope"),
        lambda: shared.registry.getCollectionType("nope"),
        lambda: list(shared.registry.queryCollections("nope")),
    ):
        with pytest.raises(api.MissingCollectionError):
            call()


def test_something_else_is_no_collection_expression(shared: Any) -> None:
    with pytest.raises(registry_api.CollectionExpressionError):
        shared.registry.queryCollections(3)


def test_collections_say_what_they_are(shared: Any) -> None:
    info = shared.collections.get_info("u/one", include_parents=True, include_summary=True)
    assert (info.name, info.type, info.doc, info.children) == ("u/one", RUN, "", ())
    assert info.parents == {"defaults"}
    assert info.dataset_types == {"summary", "table"}
    plain = shared.collections.get_info("u/one")
    assert plain.parents is None
    assert plain.dataset_types is None
    assert shared.collections.get_info("defaults").children == ("u/two", "u/one", "raws")


def test_summaries_are_restricted_to_dataset_types(shared: Any) -> None:
    (info,) = shared.collections.query_info("u/one", include_summary=True, summary_datasets=["table", "bias"])
    assert info.dataset_types == {"table"}


def test_registration_tells_whether_it_is_new(butler: Any) -> None:
    assert butler.collections.register("x/run")
    assert not butler.collections.register("x/run")
    assert butler.collections.register("x/tag", TAGGED, doc="Good ones")
    assert butler.collections.get_info("x/tag").doc in ("Good ones", "")
    assert butler.registry.getCollectionDocumentation("x/tag") == "Good ones"
    assert butler.registry.registerRun("x/run2")
    assert butler.registry.registerCollection("x/tag2")
    assert butler.registry.getCollectionType("x/tag2") is TAGGED
    assert butler.registry.getCollectionDocumentation("x/run") is None
    butler.registry.setCollectionDocumentation("x/run", "later")
    assert butler.registry.getCollectionDocumentation("x/run") == "later"
    butler.registry.setCollectionDocumentation("x/run", None)
    assert butler.registry.getCollectionDocumentation("x/run") is None


@pytest.mark.parametrize(
    ("edit", "children", "expected"),
    [
        ("redefine_chain", ["raws", "u/one"], ("raws", "u/one")),
        ("redefine_chain", "raws", ("raws",)),
        ("redefine_chain", ["raws", "raws"], ("raws",)),
        ("redefine_chain", [], ()),
        ("extend_chain", ["best", "flats"], ("u/two", "u/one", "raws", "best", "flats")),
        ("extend_chain", ["u/two"], ("u/one", "raws", "u/two")),
        ("prepend_chain", ["best", "flats"], ("best", "flats", "u/two", "u/one", "raws")),
        ("prepend_chain", ["raws"], ("raws", "u/two", "u/one")),
        ("prepend_chain", [], ("u/two", "u/one", "raws")),
        ("remove_from_chain", ["u/one"], ("u/two", "raws")),
        ("remove_from_chain", ["best"], ("u/two", "u/one", "raws")),
        ("remove_from_chain", ["raws", "u/two"], ("u/one",)),
    ],
)
def test_chains_are_edited(edit: str, children: Any, expected: tuple[str, ...], butler: Any) -> None:
    getattr(butler.collections, edit)("defaults", children)
    assert butler.collections.get_info("defaults").children == expected
    assert tuple(butler.registry.getCollectionChain("defaults")) == expected


@pytest.mark.parametrize("edit", ["redefine_chain", "extend_chain", "prepend_chain", "remove_from_chain"])
def test_only_chains_are_edited(edit: str, butler: Any) -> None:
    with pytest.raises(api.CollectionTypeError):
        getattr(butler.collections, edit)("best", ["raws"])
    with pytest.raises(api.MissingCollectionError):
        getattr(butler.collections, edit)("defaults", ["nope"])
    with pytest.raises(api.MissingCollectionError):
        getattr(butler.collections, edit)("nope", ["raws"])
    assert butler.collections.get_info("defaults").children == ("u/two", "u/one", "raws")


@pytest.mark.parametrize("edit", ["redefine_chain", "extend_chain", "prepend_chain"])
def test_cycles_are_refused(edit: str, butler: Any) -> None:
    butler.collections.register("outer", CHAINED)
    butler.collections.redefine_chain("outer", ["defaults"])
    for parent, child in (("defaults", "outer"), ("outer", "outer")):
        with pytest.raises(api.CollectionCycleError):
            getattr(butler.collections, edit)(parent, [child])
    with pytest.raises(ValueError):
        butler.registry.setCollectionChain("defaults", ["outer"])
    assert butler.collections.get_info("defaults").children == ("u/two", "u/one", "raws")


def test_chains_nest_and_search_depth_first(butler: Any) -> None:
    butler.collections.register("outer", CHAINED)
    butler.collections.redefine_chain("outer", ["u/one", "defaults"])
    assert list(butler.collections.query("outer", flatten_chains=True)) == ["u/one", "u/two", "raws"]
    assert butler.get("summary", instrument="Cam", visit=3, collections="outer")["run"] == "u/one"
    butler.registry.setCollectionChain("outer", ["defaults"], flatten=True)
    assert tuple(butler.registry.getCollectionChain("outer")) == ("u/two", "u/one", "raws")
    assert butler.registry.getCollectionParentChains("raws") == {"defaults", "outer"}


def test_members_of_chains_are_not_removed(butler: Any) -> None:
    with pytest.raises(registry_api.OrphanedRecordError):
        butler.collections.x_remove("u/one")
    assert butler.collections.get_info("u/one").type is RUN


def test_collections_are_removed(butler: Any) -> None:
    butler.registry.associate("best", [bias(butler, "biases/1", 0)])
    for name in ("defaults", "best", "calib"):
        butler.collections.x_remove(name)
        with pytest.raises(api.MissingCollectionError):
            butler.collections.get_info(name)
    assert bias(butler, "biases/1", 0) is not None
    with pytest.raises(api.MissingCollectionError):
        butler.collections.x_remove("best")


def test_chain_getters_want_chains(shared: Any) -> None:
    with pytest.raises(api.CollectionTypeError):
        shared.registry.getCollectionChain("best")


def test_summaries_tell_types_and_governors(shared: Any) -> None:
    summary = shared.registry.getCollectionSummary("biases/1")
    assert set(summary.dataset_types.names) == {"bias"}
    assert dict(summary.governors) == {"instrument": {"Cam"}}
    assert {t.name for t in shared.registry.getCollectionSummary("defaults").dataset_types} == {
        "raw",
        "summary",
        "table",
    }


def test_tags_hold_one_dataset_of_a_data_id(butler: Any) -> None:
    one, two, other = bias(butler, "biases/1", 0), bias(butler, "biases/2", 0), bias(butler, "biases/2", 1)
    butler.registry.associate("best", [one])
    butler.registry.associate("best", [one])
    with pytest.raises(registry_api.ConflictingDefinitionError):
        butler.registry.associate("best", [other, two])
    assert bias(butler, "best", 0) == one
    assert bias(butler, "best", 1) is None
    butler.registry.disassociate("best", [two])
    assert bias(butler, "best", 0) == one
    butler.registry.disassociate("best", [one])
    assert bias(butler, "best", 0) is None


@pytest.mark.parametrize("collection", ["u/one", "defaults", "calib"])
def test_only_tags_are_tagged(collection: str, butler: Any) -> None:
    with pytest.raises(api.CollectionTypeError):
        butler.registry.associate(collection, [bias(butler, "biases/1", 0)])
    with pytest.raises(api.CollectionTypeError):
        butler.registry.disassociate(collection, [bias(butler, "biases/1", 0)])


def test_validity_ranges_do_not_overlap(butler: Any) -> None:
    one, two = bias(butler, "biases/1", 0), bias(butler, "biases/2", 0)
    certify = butler.registry.certify
    certify("calib", [one], timespan(0, 10))
    with pytest.raises(registry_api.ConflictingDefinitionError):
        certify("calib", [two], timespan(9, 10))
    certify("calib", [two], timespan(10, 10))
    certify("calib", [bias(butler, "biases/2", 1)], timespan(0, 10))
    with pytest.raises(registry_api.ConflictingDefinitionError):
        certify("calib", [one], EVER)
    found = {
        (a.ref.id, a.timespan) for a in butler.registry.queryDatasetAssociations("bias", collections="calib")
    }
    assert (one.id, timespan(0, 10)) in found
    assert len(found) == 3


@pytest.mark.parametrize("collection", ["u/one", "defaults", "best"])
def test_only_calibration_collections_are_certified(collection: str, butler: Any) -> None:
    with pytest.raises(api.CollectionTypeError):
        butler.registry.certify(collection, [bias(butler, "biases/1", 0)], EVER)
    with pytest.raises(api.CollectionTypeError):
        butler.registry.decertify(collection, "bias", EVER)


def test_only_calibrations_are_certified(butler: Any) -> None:
    ref = butler.find_dataset("summary", instrument="Cam", visit=2, collections="u/one")
    with pytest.raises(registry_api.DatasetTypeError):
        butler.registry.certify("calib", [ref], EVER)


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        (timespan(10, 5), [timespan(0, 10), timespan(15, 15)]),
        (timespan(0, 5), [timespan(5, 25)]),
        (timespan(25, 10), [timespan(0, 25)]),
        (EVER, []),
        (timespan(30, 10), [timespan(0, 30)]),
    ],
    ids=["middle", "begin", "end", "all", "outside"],
)
def test_decertifying_cuts_ranges(cut: Any, left: list[Any], butler: Any) -> None:
    one, other = bias(butler, "biases/1", 0), bias(butler, "biases/1", 1)
    butler.registry.certify("calib", [one, other], timespan(0, 30))
    butler.registry.decertify("calib", "bias", cut, dataIds=[{"instrument": "Cam", "detector": 0}])
    rows = list(butler.registry.queryDatasetAssociations("bias", collections="calib"))
    assert sorted(a.timespan.nsec for a in rows if a.ref == one) == sorted(t.nsec for t in left)
    assert [a.timespan for a in rows if a.ref == other] == [timespan(0, 30)]
    butler.registry.decertify("calib", "bias", EVER)
    assert not list(butler.registry.queryDatasetAssociations("bias", collections="calib"))


@pytest.mark.parametrize(
    ("begin", "length", "run"),
    [
        (0, 1, "biases/1"),
        (9, 1, "biases/1"),
        (10, 1, "biases/2"),
        (19, 1, "biases/2"),
        (20, 1, None),
        (-5, 5, None),
    ],
)
def test_calibrations_are_found_by_time(begin: float, length: float, run: str | None, butler: Any) -> None:
    butler.registry.certify("calib", [bias(butler, "biases/1", 0)], timespan(0, 10))
    butler.registry.certify("calib", [bias(butler, "biases/2", 0)], timespan(10, 10))
    found = butler.registry.findDataset(
        "bias", instrument="Cam", detector=0, collections="calib", timespan=timespan(begin, length)
    )
    assert (None if found is None else found.run) == run


def test_associations_are_told(butler: Any) -> None:
    one = bias(butler, "biases/1", 0)
    butler.registry.associate("best", [one])
    butler.registry.certify("calib", [one], timespan(0))
    rows = {
        (a.collection, a.timespan)
        for a in butler.registry.queryDatasetAssociations("bias")
        if a.ref.id == one.id
    }
    assert rows == {("biases/1", None), ("best", None), ("calib", timespan(0))}
    only = butler.registry.queryDatasetAssociations("bias", collectionTypes={CALIBRATION})
    assert {a.collection for a in only} == {"calib"}


def test_registry_datasets_without_files(butler: Any) -> None:
    insert = butler.registry.insertDatasets
    refs = insert("bias", [{"instrument": "Cam", "detector": d} for d in (0, 1)], run="u/two")
    assert [r.dataId["detector"] for r in refs] == [0, 1]
    assert all(r.dataId.hasRecords() for r in refs)
    assert butler.registry.getDataset(refs[0].id) == refs[0]
    with pytest.raises(registry_api.ConflictingDefinitionError):
        insert("bias", [{"instrument": "Cam", "detector": d} for d in (2, 1)], run="u/two")
    assert bias(butler, "u/two", 2) is None
    butler.registry.removeDatasets(refs)
    assert butler.registry.getDataset(refs[0].id) is None
    (plain,) = insert("bias", [{"instrument": "Cam", "detector": 0}], run="u/two", expand=False)
    assert not plain.dataId.hasRecords()


def test_registry_ids_of_data_ids(butler: Any) -> None:
    data_id = [{"instrument": "Cam", "exposure": 1, "detector": 2}]
    mode = api.DatasetIdGenEnum.DATAID_TYPE_RUN
    (ref,) = butler.registry.insertDatasets("raw", data_id, run="raws", idGenerationMode=mode)
    assert ref.id.version == 5
    assert butler.registry.supportsIdGenerationMode(mode)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nope", [{"instrument": "Cam", "detector": 3}], "biases/1"), "MissingDatasetTypeError"),
        (("bias", [{"instrument": "Cam", "detector": 3}], "nope"), "MissingCollectionError"),
        (("bias", [{"instrument": "Cam", "detector": 3}], "best"), "CollectionTypeError"),
        (("bias", [{"instrument": "Cam"}], "biases/1"), "DimensionNameError"),
    ],
)
def test_registry_insertions_that_are_refused(arguments: Any, error: str, butler: Any) -> None:
    with pytest.raises(getattr(api, error)):
        butler.registry.insertDatasets(*arguments)


def test_insertions_want_a_run(butler: Any) -> None:
    with pytest.raises(registry_api.NoDefaultCollectionError):
        butler.registry.insertDatasets("bias", [{"instrument": "Cam", "detector": 3}])


def test_searches_want_collections(butler: Any) -> None:
    with pytest.raises(registry_api.NoDefaultCollectionError):
        butler.registry.findDataset("bias", instrument="Cam", detector=3)


def test_defaults_are_assigned(butler: Any) -> None:
    butler.registry.defaults = registry_api.RegistryDefaults(collections="biases/1", run="u/one")
    assert butler.registry.findDataset("bias", detector=1).run == "biases/1"
    assert butler.run == "u/one"
    assert tuple(butler.collections.defaults) == ("biases/1",)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("bias", ["bias"]),
        ("*a*", ["bias", "coadd", "flat", "raw", "summary", "table"]),
        (["raw", "bi*"], ["bias", "raw"]),
        (["nope", "bias"], ["bias"]),
    ],
)
def test_dataset_types_are_queried(expression: Any, expected: list[str], shared: Any) -> None:
    missing: list[str] = []
    found = shared.registry.queryDatasetTypes(expression, missing=missing)
    assert sorted(t.name for t in found) == expected
    assert missing == (["nope"] if "nope" in expression else [])


def test_all_dataset_types_are_queried(shared: Any) -> None:
    assert len(list(shared.registry.queryDatasetTypes())) == 7
    assert shared.registry.getDatasetType("bias").isCalibration()
    with pytest.raises(api.MissingDatasetTypeError):
        shared.registry.getDatasetType("nope")


def test_dataset_types_register_once(butler: Any) -> None:
    kind = api.DatasetType("new", ["visit"], "StructuredDataDict", universe=butler.dimensions)
    assert butler.registry.registerDatasetType(kind)
    assert not butler.registry.registerDatasetType(kind)
    for other in (["instrument"], "StructuredDataDict"), (["visit"], "StructuredDataList"):
        with pytest.raises(registry_api.ConflictingDefinitionError):
            butler.registry.registerDatasetType(api.DatasetType("new", *other, universe=butler.dimensions))
    butler.registry.removeDatasetType("new")
    with pytest.raises(api.MissingDatasetTypeError):
        butler.registry.getDatasetType("new")


def test_dataset_types_in_use_stay(butler: Any) -> None:
    with pytest.raises(registry_api.OrphanedRecordError):
        butler.registry.removeDatasetType("bias")
    with pytest.raises(registry_api.OrphanedRecordError):
        butler.registry.removeDatasetType(("b*", "n*"))
    butler.registry.removeDatasetType("absent*")
    with pytest.raises(ValueError):
        butler.registry.registerDatasetType(
            butler.get_dataset_type("table").makeComponentDatasetType("rowcount")
        )


def test_dimension_records_are_inserted_once(butler: Any) -> None:
    row = {"instrument": "Cam", "id": 9, "full_name": "D9"}
    butler.registry.insertDimensionData("detector", row)
    butler.registry.insertDimensionData("detector", {**row, "raft": "Z"}, skip_existing=True)
    assert butler.registry.expandDataId(instrument="Cam", detector=9).records["detector"].raft is None
    butler.registry.insertDimensionData("detector", {**row, "raft": "Z"}, replace=True)
    assert butler.registry.expandDataId(instrument="Cam", detector=9).records["detector"].raft == "Z"
    record = butler.dimensions["detector"].RecordClass(instrument="Cam", id=10, full_name="D10")
    butler.registry.insertDimensionData("detector", record)
    with pytest.raises(Exception):  # noqa: B017  the reference lets its database's error through
        butler.registry.insertDimensionData("detector", row)


def test_dimension_records_are_synchronized(butler: Any) -> None:
    sync = butler.registry.syncDimensionData
    row = {"instrument": "Cam", "id": 9, "full_name": "D9"}
    assert sync("detector", row) is True
    assert sync("detector", row) is False
    with pytest.raises(registry_api.ConflictingDefinitionError):
        sync("detector", {**row, "full_name": "E9"})
    assert sync("detector", {**row, "full_name": "E9"}, update=True) == {"full_name": "D9"}
    assert butler.registry.expandDataId(instrument="Cam", detector=9).records["detector"].full_name == "E9"


def test_data_ids_are_expanded(shared: Any) -> None:
    found = shared.registry.expandDataId(instrument="Cam", visit=3, detector=1)
    assert found.hasFull()
    assert found.hasRecords()
    assert (found["band"], found["physical_filter"], found["day_obs"]) == ("r", "Cam-R", 20260110)
    assert found.records["visit"].name == "V3"
    assert found.timespan == timespan(30)
    assert found.region is not None
    assert shared.registry.expandDataId(found) == found


@pytest.mark.parametrize(
    ("data_id", "error"),
    [
        ({"instrument": "Nope"}, "DataIdValueError"),
        ({"instrument": "Cam", "visit": 99}, "DataIdValueError"),
        ({"instrument": "Cam", "visit": 2, "exposure": 3}, "InconsistentDataIdError"),
        ({"instrument": "Cam", "physical_filter": "Cam-R", "band": "g"}, "InconsistentDataIdError"),
    ],
)
def test_data_ids_that_cannot_be_expanded(data_id: dict[str, Any], error: str, shared: Any) -> None:
    with pytest.raises(getattr(api, error)):
        shared.registry.expandDataId(data_id, withDefaults=False)


def test_registry_transactions_roll_back(butler: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"), butler.registry.transaction():
        butler.registry.insertDimensionData("detector", {"instrument": "Cam", "id": 9, "full_name": "D9"})
        butler.registry.associate("best", [bias(butler, "biases/1", 0)])
        butler.collections.prepend_chain("defaults", ["best"])
        raise RuntimeError("stop")
    butler.registry.refresh()
    assert bias(butler, "best", 0) is None
    assert butler.collections.get_info("defaults").children == ("u/two", "u/one", "raws")
    with pytest.raises(api.DataIdValueError):
        butler.registry.expandDataId(instrument="Cam", detector=9)


def test_savepoints_roll_back_alone(butler: Any) -> None:
    with butler.registry.transaction():
        butler.registry.associate("best", [bias(butler, "biases/1", 0)])
        with pytest.raises(RuntimeError, match="stop"), butler.registry.transaction(savepoint=True):
            butler.registry.associate("best", [bias(butler, "biases/1", 1)])
            raise RuntimeError("stop")
    assert bias(butler, "best", 0) is not None
    assert bias(butler, "best", 1) is None


def test_registry_find_dataset_in_globs_and_everywhere(shared: Any) -> None:
    data_id = {"instrument": "Cam", "detector": 3}
    assert shared.registry.findDataset("bias", data_id, collections="biases/*").run == "biases/2"
    assert shared.registry.findDataset("bias", data_id, collections=...).run == "biases/2"
    assert shared.registry.getDataset(uuid.uuid4()) is None
    expanded = shared.registry.expandDataId(data_id)
    assert shared.registry.findDataset("bias", expanded, collections="biases/2").dataId.hasRecords()


def test_caching_contexts_nest(shared: Any) -> None:
    with shared.registry.caching_context(), shared.registry.caching_context():
        assert shared.registry.getCollectionType("best") is TAGGED
    assert NIGHT is not None
