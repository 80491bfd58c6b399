"""Whether and where datasets are; clones, labels and butlers opened for reading."""

import json
import os
import pickle
import re
import uuid

import pytest
from small_repository import VISITS, exposure_timespan, make_repository

from butler_dask import Butler, CollectionType, DatasetType, FileDataset
from butler_dask.errors import (
    ButlerUserError,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetNotFoundError,
    DatasetTypeError,
    DimensionNameError,
    DimensionValueError,
    MissingDatasetFileError,
    MissingDatasetTypeError,
    NoDefaultCollectionError,
    ReadOnlyRepositoryError,
    RepositoryError,
)
from butler_dask.vocabulary.dataset import DatasetRef

DATA_ID = {"instrument": "Cam", "detector": 1}


@pytest.fixture
def root(tmp_path):
    Butler.makeRepo(tmp_path / "repo")
    with Butler(tmp_path / "repo", writeable=True) as butler:
        butler.registry.insertDimensionData("instrument", {"name": "Cam", "detector_max": 10})
        butler.registry.insertDimensionData(
            "detector", *[{"instrument": "Cam", "id": i, "full_name": f"d{i}"} for i in range(5)]
        )
        dimensions = ["instrument", "detector"]
        butler.registry.registerDatasetType(DatasetType("doc", dimensions, "StructuredDataDict"))
    return tmp_path / "repo"


@pytest.fixture
def butler(root):
    with Butler(root, run="r1") as butler:
        yield butler


@pytest.fixture
def refs(butler):
    """A stored dataset, an unstored one, one whose file is lost, and one that is nowhere."""
    stored, unstored, lost = (butler.put({"d": d}, "doc", instrument="Cam", detector=d) for d in range(3))
    butler.pruneDatasets([unstored], unstore=True, disassociate=False)
    os.unlink(butler.getURI(lost).ospath)
    return stored, unstored, lost, DatasetRef(stored.datasetType, {**DATA_ID, "detector": 4}, "r1")


def test_many_datasets_are_looked_up_at_once(butler, refs):
    found = butler._exists_many(refs)
    assert [found[ref].name for ref in refs] == [butler.exists(ref).name for ref in refs]
    assert [found[ref].name for ref in refs] == ["VERIFIED", "RECORDED", "RECORDED|DATASTORE", "UNRECOGNIZED"]
    quick = butler._exists_many(refs, full_check=False)
    assert [bool(quick[ref]) for ref in refs] == [True, False, True, False]
    assert list(butler.stored_many(refs).values()) == [True, False, False, False]
    assert butler.stored(refs[0])
    assert butler.exists("no_such_type", DATA_ID).name == "UNRECOGNIZED"


def test_uris_of_many_datasets(butler, refs):
    stored, unstored, lost, nowhere = refs
    uris = butler.get_many_uris([stored, lost])
    assert uris[stored].primaryURI == butler.getURI(stored)
    assert butler.getURIs(stored) == (butler.getURI(stored), {})
    with pytest.raises(MissingDatasetFileError, match="has no file"):
        butler.get_many_uris(refs)
    assert set(butler.get_many_uris(refs, allow_missing=True)) == {stored, lost}
    predicted = butler.get_many_uris(refs, predict=True)
    assert predicted[nowhere].primaryURI.endswith("r1/doc/Cam/doc_Cam_4_r1.json")
    assert unstored in predicted


def test_dataset_is_found_by_its_id(butler, refs):
    stored = refs[0]
    assert butler.get_dataset(stored.id) == stored
    assert butler.get_dataset(str(stored.id)) == stored
    assert butler.get_dataset(uuid.uuid4()) is None
    record = butler.get_dataset(stored.id, dimension_records=True).dataId.records["detector"]
    assert record.full_name == "d0"
    overridden = butler.get_dataset(stored.id, storage_class="StructuredData")
    assert overridden.datasetType.storageClass_name == "StructuredData"
    assert butler.get_many_datasets([stored.id, uuid.uuid4(), refs[1].id]) == [stored, refs[1]]
    with pytest.raises(DatasetTypeError, match="'x' is no dataset id"):
        butler.get_dataset("x")


def test_unstored_dataset_can_be_put_again_under_its_id(butler, refs):
    stored, unstored, _, _ = refs
    assert butler.put({"d": "anew"}, unstored).id == unstored.id
    assert butler.get(unstored) == {"d": "anew"}
    with pytest.raises(ConflictingDefinitionError):
        butler.put({"d": "again"}, stored)
    other = DatasetRef(unstored.datasetType, {**DATA_ID, "detector": 3}, "r1", id=unstored.id)
    with pytest.raises(ConflictingDefinitionError):
        butler.put({"d": "other"}, other)
    assert butler.get(stored) == {"d": 0}


def test_datasets_already_purged_are_passed_over(butler, refs):
    butler.pruneDatasets(refs, purge=True, unstore=True)
    butler.pruneDatasets(refs, purge=True, unstore=True)
    assert not any(butler._exists_many(refs).values())


def test_object_of_another_kind_is_a_type_error_and_leaves_nothing(butler):
    with pytest.raises(TypeError, match="nothing converts it"):
        butler.put(object(), "doc", DATA_ID)
    assert butler.find_dataset("doc", DATA_ID) is None
    assert not [path for path, _ in butler.datastore.files() if path.startswith("r1/")]


class TestClone:
    """Further butlers on one connection."""

    def test_what_is_not_given_is_kept(self, butler):
        butler.put({"a": 1}, "doc", DATA_ID)
        other = butler.clone()
        assert (list(other.collections), other.run, other.isWriteable()) == (["r1"], "r1", True)
        moved = butler.clone(run="r2")
        assert (list(moved.collections), moved.run) == (["r2"], "r2")
        reader = butler.clone(collections=["r1"], run=None)
        assert reader.run is None
        with pytest.raises(NoDefaultCollectionError, match="No run to put 'doc' in"):
            reader.put({"a": 1}, "doc", DATA_ID, detector=2)
        narrow = butler.clone(dataId={"instrument": "Cam"}, inferDefaults=False)
        assert narrow.get("doc", detector=1) == {"a": 1}
        assert narrow.clone().get("doc", detector=1) == {"a": 1}
        with pickle.loads(pickle.dumps(narrow)) as restored:
            assert restored.get("doc", detector=1) == {"a": 1}

    def test_clone_is_in_the_same_transaction(self, butler):
        def put_both_and_fail():
            with butler.transaction():
                butler.put({"a": 1}, "doc", DATA_ID)
                other = butler.clone(run="r2", collections=["r1", "r2"])
                other.put({"a": 2}, "doc", DATA_ID)
                assert other.get("doc", DATA_ID) == {"a": 1}
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            put_both_and_fail()
        assert "r2" not in butler.collections.query("*")
        assert butler.find_dataset("doc", DATA_ID) is None
        assert not [path for path, _ in butler.datastore.files() if path.endswith(".json")]


class TestLabels:
    """Repositories by label."""

    def test_label_is_a_place(self, root, monkeypatch, tmp_path):
        monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", json.dumps({"main": str(root)}))
        assert Butler.get_known_repos() == {"main"}
        assert Butler.get_repo_uri("main") == str(root)
        assert Butler.get_repo_uri("other", return_label=True) == "other"
        with Butler("main") as butler:
            assert butler.root == str(root)
        with pytest.raises(KeyError, match=r"No repository is labelled 'maine'\. Did you mean 'main'"):
            Butler.get_repo_uri("maine")
        monkeypatch.delenv("DAF_BUTLER_REPOSITORIES")
        (tmp_path / "index.yaml").write_text(f"second: {root}\n")
        monkeypatch.setenv("DAF_BUTLER_REPOSITORY_INDEX", str(tmp_path / "index.yaml"))
        with Butler.from_config("second") as butler:
            assert butler.root == str(root)

    def test_repository_is_there_or_not(self, root, tmp_path):
        assert Butler.has_repo_config(root)
        assert not Butler.has_repo_config(tmp_path / "nowhere")
        with pytest.raises(FileExistsError, match="There is a repository already"):
            Butler.makeRepo(root)
        with pytest.raises(RepositoryError, match="No repository at"):
            Butler(tmp_path / "nowhere")


def test_butler_opened_for_reading_refuses_every_change(root, tmp_path):
    with Butler(root, run="r1") as writer:
        ref = writer.put({"a": 1}, "doc", DATA_ID)
        writer.registry.registerCollection("tag", CollectionType.TAGGED)
    (tmp_path / "x.json").write_text("{}")
    new = DatasetRef(ref.datasetType, {**DATA_ID, "detector": 2}, "r1")
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.json")}
    with Butler(root, collections="r1", writeable=False) as reader:
        attempts = [
            lambda: reader.put({"a": 1}, "doc", DATA_ID, detector=2, run="r1"),
            lambda: reader.put({"a": 1}, new),
            lambda: reader.ingest(FileDataset(str(tmp_path / "x.json"), [new])),
            lambda: reader.pruneDatasets([ref], purge=True, unstore=True),
            lambda: reader.removeRuns(["r1"]),
            lambda: reader.registry.registerRun("r2"),
            lambda: reader.registry.registerDatasetType(DatasetType("x", ["instrument"], "Integer")),
            lambda: reader.registry.associate("tag", [ref]),
            lambda: reader.registry.insertDimensionData("instrument", {"name": "New"}),
            lambda: reader.collections.register("r3"),
            lambda: reader.collections.x_remove("tag"),
            lambda: reader.transfer_from(reader, [ref]),
            lambda: reader.import_(directory=tmp_path),
        ]
        for attempt in attempts:
            with pytest.raises(ReadOnlyRepositoryError, match="opened for reading"):
                attempt()
        with reader.transaction():
            assert reader.get(ref) == {"a": 1}
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.json")} == before


def test_relative_file_is_below_the_root_or_here(butler, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (root / "inside.json").write_text('{"at": "root"}')
    (tmp_path / "here.json").write_text('{"at": "here"}')
    kind = butler.get_dataset_type("doc")
    first = DatasetRef(kind, DATA_ID, "r1")
    second = DatasetRef(kind, {**DATA_ID, "detector": 2}, "r1")
    butler.ingest(FileDataset("inside.json", [first]))
    butler.ingest(FileDataset("here.json", [second]), transfer="copy")
    assert butler.getURI(first) == f"file://{root}/inside.json"
    assert (butler.get(first), butler.get(second)) == ({"at": "root"}, {"at": "here"})
    with pytest.raises(MissingDatasetFileError, match=r"no file .*nowhere\.json"):
        butler.ingest(FileDataset("nowhere.json", [DatasetRef(kind, {**DATA_ID, "detector": 3}, "r1")]))
    with pytest.raises(DatasetNotFoundError):
        butler.get("doc", DATA_ID, detector=3)


def outcome(find, *given, **keywords):
    """Return what a look-up gives, or the class of its error."""
    try:
        return find(*given, **keywords)
    except ButlerUserError as error:
        return type(error)


def test_both_interfaces_find_the_same_calibrations(tmp_path):
    root = make_repository(tmp_path / "DATA")
    bias, flat = {"instrument": "HSC", "detector": 3}, {"instrument": "HSC", "detector": 3}
    with Butler(root, writeable=True) as butler:
        for n, run in enumerate(("b/0", "b/1")):
            butler.collections.register(run)
            refs = [butler.put({}, "bias", bias, run=run)]
            refs += [butler.put({}, "flat", flat, physical_filter=f, run=run) for f in ("HSC-R", "HSC-I")]
            night = exposure_timespan(2 * n)
            butler.registry.certify("HSC/calib", refs, night)
        butler.registry.insertDimensionData(
            "day_obs", {"instrument": "HSC", "id": 20130619, "timespan": exposure_timespan(2)}, replace=True
        )
    with Butler(root, collections="HSC/calib", instrument="HSC") as butler:
        first, last = VISITS[0], VISITS[2]
        cases = {
            "b/0": [
                ("bias", {"exposure": first, "detector": 3}),
                ("bias", {"visit": first, "detector": "1_53"}),
                ("bias", {"exposure": f"HSCA{first}", "detector": 3}),
                ("bias", {"exposure": first, "visit": last, "day_obs": 20130619, "detector": 3}),
                ("flat", {"exposure": first, "detector": 3}),
            ],
            "b/1": [
                ("bias", {"exposure": last, "detector": 3}),
                ("bias", {"day_obs": 20130619, "detector": 3}),
                ("bias", {"day_obs": 20130619, "detector": "1_53"}),
                ("bias", {"day_obs": 20130619, "seq_num": 2, "detector": 3}),
                ("flat", {"visit": last, "detector": 3}),
            ],
            None: [
                ("bias", bias),
                ("bias", {"exposure": VISITS[1], "detector": 3}),
                ("flat", {**flat, "physical_filter": "HSC-R"}),
                ("metric", {"visit": first, "detector": 3}),
            ],
            DataIdValueError: [("bias", {"exposure": 1, "detector": 3})],
            DimensionNameError: [("bias", {"detector": 3, "visti": first})],
            DimensionValueError: [("bias", {"exposure": first})],
            MissingDatasetTypeError: [("bais", bias)],
        }
        for expected, given in cases.items():
            for name, data_id in given:
                found = outcome(butler.find_dataset, name, data_id)
                assert outcome(butler.registry.findDataset, name, **data_id) == found, data_id
                assert getattr(found, "run", found) == expected, data_id
        for collections in ("nothing", [], ["HSC/calib", "nothing"]):
            found = outcome(butler.find_dataset, "bias", bias, collections=collections)
            assert outcome(butler.registry.findDataset, "bias", bias, collections=collections) == found
        for collections in (..., "b/*", re.compile("b/."), ["b/0", "b/1"], "b/0,b/1"):
            found = butler.find_dataset("bias", bias, collections=collections)
            assert butler.registry.findDataset("bias", bias, collections=collections) == found
            assert found.run == "b/0"
