"""Opening, put, get, deferred and partial reads, existence, deletion, transactions: documented behaviour."""

import pickle
import uuid
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from compat_package import api, registry_api
from compat_repository import timespan

BIAS = {"instrument": "Cam", "detector": 2}
VISIT = {"instrument": "Cam", "visit": 2}
TABLE = {"instrument": "Cam", "visit": 2, "detector": 1}


def test_a_repository_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        api.Butler.from_config(str(tmp_path / "nothing"))


def test_a_butler_opens_for_reading_without_run(repo: Path) -> None:
    with api.Butler.from_config(str(repo)) as butler:
        assert not butler.isWriteable()
        assert butler.run is None
        assert tuple(butler.collections.defaults) == ()


def test_a_run_makes_a_butler_writing_and_is_its_default_collection(repo: Path) -> None:
    with api.Butler.from_config(str(repo), run="u/three") as butler:
        assert butler.isWriteable()
        assert butler.run == "u/three"
        assert tuple(butler.collections.defaults) == ("u/three",)


def test_a_missing_default_collection_is_told_by_the_first_search(repo: Path) -> None:
    with (
        pytest.raises(api.MissingCollectionError),
        api.Butler.from_config(str(repo), collections=["nowhere"]) as butler,
    ):
        butler.find_dataset("bias", BIAS)


def test_the_only_instrument_of_the_default_collections_is_the_default(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"]) as butler:
        assert dict(butler.registry.defaults.dataId.mapping) == {"instrument": "Cam"}
        assert butler.get("bias", detector=2) == {"run": "biases/1", "detector": 2}


def test_inference_of_defaults_can_be_turned_off(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"], inferDefaults=False) as butler:
        assert dict(butler.registry.defaults.dataId.mapping) == {}


def test_default_data_id_values_are_given_as_keywords(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"], instrument="Cam") as butler:
        assert butler.registry.defaults.dataId["instrument"] == "Cam"


def test_a_clone_changes_only_what_is_said(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"], writeable=True) as butler:
        clone = butler.clone(collections=["biases/2"])
        assert tuple(clone.collections.defaults) == ("biases/2",)
        assert tuple(butler.collections.defaults) == ("biases/1",)
        clone.close()


def test_a_butler_survives_pickling(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"]) as butler:
        copy = pickle.loads(pickle.dumps(butler))
        assert copy.get("bias", BIAS)["run"] == "biases/1"
        copy.close()


def test_reading_butlers_do_not_put(repo: Path) -> None:
    with api.Butler.from_config(str(repo), collections=["biases/1"]) as butler, pytest.raises(TypeError):
        butler.put({}, "note", run="u/one")


def test_put_returns_the_reference(butler: Any) -> None:
    ref = butler.put({"a": 1}, "note", run="u/one")
    assert (ref.run, ref.datasetType.name, dict(ref.dataId.mapping)) == ("u/one", "note", {})
    assert butler.get(ref) == {"a": 1}


def test_put_of_a_reference_keeps_its_id_and_run(butler: Any) -> None:
    kind = butler.get_dataset_type("note")
    data_id = api.DataCoordinate.make_empty(butler.dimensions)
    ref = api.DatasetRef(kind, data_id, run="u/two")
    stored = butler.put({"b": 2}, ref)
    assert (stored.id, stored.run) == (ref.id, "u/two")


def test_put_twice_conflicts(butler: Any) -> None:
    butler.put({"a": 1}, "note", run="u/one")
    with pytest.raises(registry_api.ConflictingDefinitionError):
        butler.put({"a": 2}, "note", run="u/one")
    assert butler.get("note", collections="u/one") == {"a": 1}


def test_put_without_run_is_refused(butler: Any) -> None:
    with pytest.raises(registry_api.CollectionError):
        butler.put({}, "note")


def test_put_into_a_run_that_is_not_there_is_refused(butler: Any) -> None:
    with pytest.raises(api.MissingCollectionError):
        butler.put({}, "note", run="u/nine")


def test_put_into_a_tagged_collection_is_refused(butler: Any) -> None:
    with pytest.raises(api.CollectionTypeError):
        butler.put({}, "note", run="best")


def test_put_of_an_unknown_dataset_type_is_refused(butler: Any) -> None:
    with pytest.raises(api.MissingDatasetTypeError):
        butler.put({}, "nope", run="u/one")


def test_put_with_an_incomplete_data_id_is_refused(butler: Any) -> None:
    with pytest.raises(api.DimensionNameError):
        butler.put({}, "bias", instrument="Cam", run="u/one")


def test_put_with_an_unknown_value_is_refused(butler: Any) -> None:
    with pytest.raises(api.DataIdValueError):
        butler.put({}, "bias", instrument="Cam", detector=77, run="u/one")


def test_put_of_the_wrong_kind_is_refused_and_leaves_nothing(butler: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        butler.put(3.5, "note", run="u/one")
    assert butler.find_dataset("note", collections="u/one") is None


@pytest.mark.parametrize(
    "how",
    [
        lambda b: b.get("bias", BIAS, collections="biases/1"),
        lambda b: b.get("bias", BIAS, collections=["biases/1", "biases/2"]),
        lambda b: b.get("bias", collections="biases/1", **BIAS),
        lambda b: b.get("bias", {"instrument": "Cam"}, detector=2, collections="biases/1"),
        lambda b: b.get("bias", {"detector": 1, "instrument": "Cam"}, detector=2, collections="biases/1"),
        lambda b: b.get(b.find_dataset("bias", BIAS, collections="biases/1")),
        lambda b: b.get(b.get_dataset_type("bias"), BIAS, collections="biases/1"),
        lambda b: b.getDeferred("bias", BIAS, collections="biases/1").get(),
        lambda b: b.get("bias", instrument="Cam", detector="D2", collections="biases/1"),
        lambda b: b.get("bias", {"instrument": "Cam", "full_name": "D2"}, collections="biases/1"),
        lambda b: b.get("bias", {"instrument": "Cam", "detector.full_name": "D2"}, collections="biases/1"),
    ],
    ids=[
        "mapping",
        "order",
        "keywords",
        "both",
        "keywords-win",
        "reference",
        "type",
        "deferred",
        "alternate-key",
        "field",
        "element-field",
    ],
)
def test_a_dataset_is_read_by(how: Any, shared: Any) -> None:
    assert how(shared) == {"run": "biases/1", "detector": 2}


@pytest.mark.parametrize(
    ("data_id", "exposure"),
    [
        ({"exposure": 2}, 2),
        ({"exposure": "O2"}, 2),
        ({"obs_id": "O3"}, 3),
        ({"exposure.obs_id": "O3"}, 3),
        ({"day_obs": 20260110, "seq_num": 1}, 1),
        ({"exposure.day_obs": 20260110, "exposure.seq_num": 2}, 2),
    ],
)
def test_exposures_are_known_by_other_keys(data_id: dict[str, Any], exposure: int, shared: Any) -> None:
    found = shared.get("raw", {"instrument": "Cam", "detector": 0, **data_id}, collections="raws")
    assert found == {"exposure": exposure, "detector": 0}


def test_the_first_collection_wins(shared: Any) -> None:
    assert shared.get("summary", instrument="Cam", visit=3)["run"] == "u/two"
    assert shared.get("summary", instrument="Cam", visit=2)["run"] == "u/one"
    assert shared.get("summary", instrument="Cam", visit=3, collections=["u/one", "u/two"])["run"] == "u/one"


def test_a_missing_dataset_is_told(shared: Any) -> None:
    with pytest.raises(api.DatasetNotFoundError):
        shared.get("bias", instrument="Cam", detector=3, collections="biases/1")
    with pytest.raises(LookupError):
        shared.get("bias", instrument="Cam", detector=3, collections="biases/1")


def test_get_of_an_incomplete_data_id_is_told(shared: Any) -> None:
    with pytest.raises(LookupError):
        shared.get("bias", instrument="Cam", collections="biases/1")


@pytest.mark.parametrize("name", ["get", "getDeferred", "find_dataset"])
def test_an_unknown_dataset_type_is_told(name: str, shared: Any) -> None:
    with pytest.raises(api.MissingDatasetTypeError):
        getattr(shared, name)("nope", BIAS, collections="biases/1")


@pytest.mark.parametrize("name", ["get", "getDeferred", "find_dataset"])
def test_an_unknown_collection_is_told(name: str, shared: Any) -> None:
    with pytest.raises(api.MissingCollectionError):
        getattr(shared, name)("bias", BIAS, collections="nope")


def test_deferred_handles_know_what_they_read(shared: Any) -> None:
    handle = shared.getDeferred("table", TABLE)
    assert handle.ref.datasetType.name == "table"
    assert dict(handle.dataId.required) == {"instrument": "Cam", "visit": 2, "detector": 1}
    assert handle.get(component="rowcount") == 3
    assert handle.get(parameters={"columns": ["x"]}).colnames == ["x"]


def test_deferred_parameters_are_joined_by_those_of_the_read(shared: Any) -> None:
    handle = shared.getDeferred("table", TABLE, parameters={"columns": ["x", "flux"]})
    assert handle.get().colnames == ["x", "flux"]
    assert handle.get(parameters={"columns": ["flux"]}).colnames == ["flux"]


@pytest.mark.parametrize(
    ("component", "value"), [("rowcount", 3), ("columns", ["x", "flux"])], ids=["rowcount", "columns"]
)
def test_components_are_read_alone(component: str, value: Any, shared: Any) -> None:
    assert shared.get(f"table.{component}", TABLE) == value


def test_a_component_reference_reads_the_component(shared: Any) -> None:
    ref = shared.find_dataset("table", TABLE)
    part = ref.makeComponentRef("rowcount")
    assert part.isComponent()
    assert part.id == ref.id
    assert shared.get(part) == 3


def test_an_unknown_component_is_told(shared: Any) -> None:
    with pytest.raises(KeyError):
        shared.get("table.nope", TABLE)


def test_an_unknown_parameter_is_told(shared: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        shared.get("table", TABLE, parameters={"nope": 1})


def test_columns_are_a_parameter(shared: Any) -> None:
    table = shared.get("table", TABLE, parameters={"columns": ["flux"]})
    assert table.colnames == ["flux"]
    assert list(table["flux"]) == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("storage_class", ["ArrowNumpy", "ArrowNumpyDict", "ArrowTable"])
def test_tables_are_read_as_other_kinds(storage_class: str, shared: Any) -> None:
    if storage_class == "ArrowTable":
        pytest.importorskip("pyarrow")
    found = shared.get("table", TABLE, storageClass=storage_class)
    assert [
        int(x) for x in (found.column("x").to_pylist() if storage_class == "ArrowTable" else found["x"])
    ] == [1, 2, 3]


def test_a_kind_nothing_converts_to_is_refused(shared: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        shared.get("summary", VISIT, storageClass="ArrowAstropy")


def test_exists_says_how_far(butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    found = butler.exists(ref)
    assert found
    assert api.DatasetExistence.RECORDED in found
    assert api.DatasetExistence.DATASTORE in found
    assert found == api.DatasetExistence.VERIFIED
    assert butler.exists(ref, full_check=False) == api.DatasetExistence.KNOWN
    assert not butler.exists("bias", instrument="Cam", detector=3, collections="biases/1")
    (recorded,) = butler.registry.insertDatasets("bias", [{"instrument": "Cam", "detector": 3}], "biases/1")
    assert butler.exists(recorded) == api.DatasetExistence.RECORDED
    assert not butler.exists(recorded)


def test_find_dataset_finds_or_gives_none(shared: Any) -> None:
    ref = shared.find_dataset("bias", BIAS, collections=["biases/2", "biases/1"])
    assert ref.run == "biases/2"
    assert shared.find_dataset("bias", instrument="Cam", detector=3, collections="biases/1") is None


def test_find_dataset_attaches_records_on_request(shared: Any) -> None:
    ref = shared.find_dataset("summary", VISIT, dimension_records=True)
    assert ref.dataId.hasRecords()
    assert ref.dataId.records["visit"].name == "V2"
    assert ref.dataId["band"] == "g"


def test_find_dataset_takes_another_storage_class(shared: Any) -> None:
    ref = shared.find_dataset("table", TABLE, storage_class="ArrowTable")
    assert ref.datasetType.storageClass_name == "ArrowTable"


def test_get_dataset_by_its_id(shared: Any) -> None:
    ref = shared.find_dataset("bias", BIAS, collections="biases/1")
    assert shared.get_dataset(ref.id) == ref
    assert shared.get_dataset(str(ref.id)) == ref
    assert shared.get_dataset(uuid.uuid4()) is None


def test_uris_point_to_files(shared: Any) -> None:
    ref = shared.find_dataset("bias", BIAS, collections="biases/1")
    uri = shared.getURI(ref)
    assert uri.exists()
    primary = shared.getURIs(ref).primaryURI
    assert str(primary) == str(uri)


def test_stored_many_tells_which_have_files(butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    (recorded,) = butler.registry.insertDatasets("bias", [{"instrument": "Cam", "detector": 3}], "biases/1")
    assert butler.stored(ref)
    assert butler.stored_many([ref, recorded]) == {ref: True, recorded: False}


def test_get_many_datasets_by_their_ids(shared: Any) -> None:
    refs = [shared.find_dataset("bias", {**BIAS, "detector": d}, collections="biases/1") for d in (0, 1)]
    found = shared.get_many_datasets([refs[0].id, str(refs[1].id), uuid.uuid4()])
    assert {r.id for r in found} == {r.id for r in refs}


def test_dataset_types_are_found_by_name(shared: Any) -> None:
    kind = shared.get_dataset_type("flat")
    assert kind.isCalibration()
    assert kind.storageClass_name == "StructuredDataDict"
    with pytest.raises(api.MissingDatasetTypeError):
        shared.get_dataset_type("nope")


def test_pruning_disassociates(butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    butler.registry.associate("best", [ref])
    butler.pruneDatasets([ref], disassociate=True, tags=["best"])
    assert butler.find_dataset("bias", BIAS, collections="best") is None
    assert butler.get(ref)["detector"] == 2


def test_pruning_unstores(butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    path = butler.getURI(ref)
    butler.pruneDatasets([ref], disassociate=False, unstore=True)
    assert not path.exists()
    assert butler.find_dataset("bias", BIAS, collections="biases/1") == ref
    assert butler.exists(ref) == api.DatasetExistence.RECORDED
    with pytest.raises(FileNotFoundError):
        butler.get(ref)


def test_pruning_purges(butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    path = butler.getURI(ref)
    butler.pruneDatasets([ref], disassociate=True, unstore=True, purge=True)
    assert not path.exists()
    assert butler.find_dataset("bias", BIAS, collections="biases/1") is None
    assert butler.exists(ref) == api.DatasetExistence.UNRECOGNIZED


@pytest.mark.parametrize(
    "options",
    [{"purge": True, "unstore": False}, {"purge": True, "unstore": True, "disassociate": False}],
    ids=["without-unstore", "without-disassociate"],
)
def test_purging_wants_its_company(options: dict[str, bool], butler: Any) -> None:
    ref = butler.find_dataset("bias", BIAS, collections="biases/1")
    with pytest.raises(TypeError):
        butler.pruneDatasets([ref], **options)


def test_removing_runs_removes_their_files(butler: Any) -> None:
    path = butler.getURI(butler.find_dataset("bias", BIAS, collections="biases/1"))
    butler.removeRuns(["biases/1"])
    assert not path.exists()
    with pytest.raises(api.MissingCollectionError):
        butler.collections.get_info("biases/1")


def test_runs_in_chains_are_removed_only_when_unlinked(butler: Any) -> None:
    with pytest.raises(registry_api.OrphanedRecordError):
        butler.removeRuns(["u/one"])
    assert butler.get("summary", VISIT, collections="u/one")["visit"] == 2
    butler.removeRuns(["u/one"], unlink_from_chains=True)
    assert butler.collections.get_info("defaults").children == ("u/two", "raws")


def test_only_runs_are_removed_as_runs(butler: Any) -> None:
    with pytest.raises((TypeError, registry_api.OrphanedRecordError)):
        butler.removeRuns(["best"])


def test_a_transaction_rolls_back_datasets_and_files(butler: Any) -> None:
    paths = []
    with pytest.raises(RuntimeError, match="stop"), butler.transaction():
        ref = butler.put({"a": 1}, "note", run="u/one")
        paths.append(butler.getURI(ref))
        butler.collections.register("u/four")
        raise RuntimeError("stop")
    assert not paths[0].exists()
    assert butler.find_dataset("note", collections="u/one") is None
    assert butler.put({"a": 2}, "note", run="u/one")


def test_a_transaction_commits_at_its_end(butler: Any) -> None:
    with butler.transaction():
        butler.put({"a": 1}, "note", run="u/one")
        with butler.transaction():
            butler.put({"a": 2}, "note", run="u/two")
    assert butler.get("note", collections="u/two") == {"a": 2}


def test_calibrations_are_found_by_the_time_of_the_exposure(butler: Any) -> None:
    one, two = (butler.find_dataset("bias", BIAS, collections=f"biases/{i}") for i in (1, 2))
    butler.registry.certify("calib", [one], timespan(0, 15))
    butler.registry.certify("calib", [two], timespan(15, 50))
    found = [
        butler.get("bias", instrument="Cam", detector=2, exposure=e, collections="calib")["run"]
        for e in (1, 2, 3)
    ]
    assert found == ["biases/1", "biases/2", "biases/2"]
    assert butler.find_dataset("bias", BIAS, collections="calib", timespan=timespan(1)) == one
    assert butler.find_dataset("bias", BIAS, collections="calib", timespan=timespan(300)) is None


def test_calibrations_are_completed_from_the_exposure(butler: Any) -> None:
    flats = [
        butler.find_dataset("flat", instrument="Cam", detector=1, physical_filter=f, collections="flats")
        for f in ("Cam-G", "Cam-R")
    ]
    butler.registry.certify("calib", flats, api.Timespan(None, None))
    assert butler.get("flat", instrument="Cam", detector=1, exposure=3, collections="calib") == {
        "filter": "Cam-R"
    }
    assert butler.get("flat", instrument="Cam", detector=1, visit=2, collections="calib") == {
        "filter": "Cam-G"
    }


def test_a_time_that_fits_two_calibrations_is_ambiguous(butler: Any) -> None:
    one, two = (butler.find_dataset("bias", BIAS, collections=f"biases/{i}") for i in (1, 2))
    butler.registry.certify("calib", [one], timespan(0, 15))
    butler.registry.certify("calib", [two], timespan(15, 50))
    with pytest.raises(api.CalibrationLookupError):
        butler.find_dataset("bias", BIAS, collections="calib", timespan=timespan(10, 20))


def certified(butler: Any) -> tuple[Any, Any]:
    """Certify a bias for the first exposure's time and one for later, which a day of its own falls into."""
    one, two = (butler.find_dataset("bias", BIAS, collections=f"biases/{i}") for i in (1, 2))
    butler.registry.certify("calib", [one], timespan(0, 15))
    butler.registry.certify("calib", [two], timespan(15, 50))
    butler.registry.insertDimensionData(
        "day_obs", {"instrument": "Cam", "id": 20260111, "timespan": timespan(20)}
    )
    return one, two


def test_calibrations_are_read_by_the_time_of_a_day(butler: Any) -> None:
    _, two = certified(butler)
    data_id = {**BIAS, "day_obs": 20260111}
    assert butler.get("bias", data_id, collections="calib") == {"run": "biases/2", "detector": 2}
    assert butler.getURI("bias", data_id, collections="calib") == butler.getURI(two)
    assert butler.exists("bias", data_id, collections="calib")


@pytest.mark.parametrize("find", ["find_dataset", "registry.findDataset"])
def test_without_any_time_no_calibration_is_found(butler: Any, find: str) -> None:
    one, two = certified(butler)
    found = attrgetter(find)(butler)
    assert found("bias", BIAS, collections="calib") is None
    assert found("bias", BIAS, collections=["calib", "biases/1"]) == one
    assert found("bias", BIAS, collections="calib", timespan=timespan(20)) == two
    assert found("bias", BIAS, collections=["biases/2", "calib"], timespan=timespan(1)) == two


@pytest.mark.parametrize("find", ["find_dataset", "registry.findDataset"])
def test_what_is_beside_a_data_id_is_no_fault(butler: Any, find: str) -> None:
    one, _ = certified(butler)
    found = attrgetter(find)(butler)
    assert found("bias", BIAS, day_obs=20260111, collections="biases/1") == one
    assert found("bias", {**BIAS, "exposure": 1}, collections="biases/1") == one


@pytest.mark.parametrize("find", ["find_dataset", "registry.findDataset"])
def test_a_dataset_is_found_as_its_type_is_given(butler: Any, find: str) -> None:
    found = attrgetter(find)(butler)
    kind = butler.get_dataset_type("table").overrideStorageClass("ArrowTable")
    ref = found(kind, TABLE, collections="u/one")
    assert ref.datasetType.storageClass_name == "ArrowTable"
    expanded = butler.registry.expandDataId(TABLE)
    assert found("table", expanded, collections="u/one").dataId.hasRecords()


@pytest.mark.parametrize("find", ["find_dataset", "registry.findDataset"])
def test_what_is_not_found_or_cannot_be_looked_for(butler: Any, find: str) -> None:
    found = attrgetter(find)(butler)
    assert found("bias", BIAS, collections=[]) is None
    assert found("bias", BIAS, collections="u/one") is None
    with pytest.raises(registry_api.NoDefaultCollectionError):
        found("bias", BIAS)
    with pytest.raises(api.MissingDatasetTypeError):
        found("bais", BIAS, collections="biases/1")
    with pytest.raises(api.MissingCollectionError):
        found("bias", BIAS, collections="biases/9")
    with pytest.raises(api.DimensionNameError):
        found("bias", instrument="Cam", collections="biases/1")


def test_without_any_time_the_only_calibration_is_read(butler: Any) -> None:
    one, two = (butler.find_dataset("bias", BIAS, collections=f"biases/{i}") for i in (1, 2))
    butler.registry.certify("calib", [one], timespan(0, 15))
    assert butler.get("bias", BIAS, collections="calib")["run"] == "biases/1"
    butler.registry.certify("calib", [two], timespan(15, 50))
    with pytest.raises(api.CalibrationLookupError):
        butler.get("bias", BIAS, collections="calib")


def test_an_exposure_there_is_not_gives_no_time(butler: Any) -> None:
    certified(butler)
    with pytest.raises(api.DataIdValueError):
        butler.get("bias", BIAS, exposure=99, collections="calib")
