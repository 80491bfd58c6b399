"""What a user does with a butler: put, get, find, ingest; and what happens when it goes wrong."""

import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from round_trip import make_exposure, make_table
from small_repository import exposure_timespan, make_repository

from butler_dask import (
    Butler,
    CalibrationLookupError,
    CollectionError,
    CollectionType,
    CollectionTypeError,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetExistence,
    DatasetFileError,
    DatasetNotFoundError,
    DatasetRef,
    DatasetType,
    DatasetTypeError,
    DimensionNameError,
    DimensionValueError,
    FileDataset,
    InconsistentDataIdError,
    MissingCollectionError,
    MissingDatasetFileError,
    MissingDatasetTypeError,
    NoDefaultCollectionError,
    OrphanedRecordError,
    ReadOnlyRepositoryError,
    Repository,
    RepositoryError,
    Timespan,
)

ID = {"instrument": "HSC", "visit": 903344, "detector": 5}


@pytest.fixture
def root(tmp_path):
    return make_repository(tmp_path / "DATA")


@pytest.fixture
def butler(root):
    with Butler(root, run="u/someone/1") as butler:
        yield butler
        check_invariants(butler)


def check_invariants(butler):
    """Every recorded file is there and whole, every file is recorded, nothing waits or is left over."""
    registry = butler.repository.registry
    recorded = set()
    for info in registry.collections.query("*", types={CollectionType.RUN}):
        for table in registry.datasets.existing_in_run(info.name).values():
            for file in registry.datasets.files_of(table):
                if file is not None:
                    assert butler.datastore.check(file, checksum=True) is None
                    recorded.add(file.path)
    own = ("butler.yaml", "registry.sqlite3")
    present = {p for p, _ in butler.datastore.files() if not p.startswith(own) and "://" not in p}
    assert present == {p for p in recorded if "://" not in p}
    assert registry.datasets.pending_deletions() == []


# Opening


def test_repository_is_found_by_path_file_uri_label_and_index(root, monkeypatch, tmp_path):
    for place in (root, str(root), root / "butler.yaml", root.as_uri()):
        with Butler(place) as butler:
            assert butler.root == str(root)
            assert not butler.isWriteable()
    monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", json.dumps({"main": str(root)}))
    assert Butler.get_known_repos() == {"main"}
    with Butler.from_config("main") as butler:
        assert butler.root == str(root)
    monkeypatch.delenv("DAF_BUTLER_REPOSITORIES")
    index = tmp_path / "index.yaml"
    index.write_text(f"other: {root}\n")
    monkeypatch.setenv("DAF_BUTLER_REPOSITORY_INDEX", str(index))
    with Butler("other", writeable=True) as butler:
        assert butler.isWriteable()
    with pytest.raises(RepositoryError, match="Did you mean 'other'"):
        Butler("othr")


def test_place_without_repository_and_damaged_settings_are_explained(tmp_path, root):
    with pytest.raises(FileNotFoundError, match=r"No repository at .*nowhere.*butler create"):
        Butler(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match="There is a repository already"):
        Butler.makeRepo(root)
    config = root / "butler.yaml"
    text = config.read_text()
    for wrong, message in (
        ("version: 99\n", "version 99"),
        (text + "template: {}\n", "no setting 'template'. Did you mean 'templates'"),
        ("version: 1\n", "does not say where the registry is"),
        ("a: [", "cannot be read"),
        ("just text", "not a mapping"),
    ):
        config.write_text(wrong)
        with pytest.raises((RepositoryError, ValueError), match=message):
            Butler(root)


def test_settings_of_the_repository_are_used(root):
    config = root / "butler.yaml"
    template = '"{run}/{datasetType}/v{visit}-{detector}-{instrument}"'
    config.write_text(
        config.read_text()
        .replace("templates: {}", f"templates: {{metric: {template}}}")
        .replace("xxh3", "crc32")
    )
    with Butler(root, run="r") as butler:
        ref = butler.put({}, "metric", ID)
        assert butler.getURI(ref).ospath == str(root / "r/metric/v903344-5-HSC.json")
        assert butler.repository.registry.datasets.files_of_ids([ref.id])[0].checksum.startswith("crc32:")
        assert isinstance(butler.repository.settings, Repository)


def test_mistyped_default_collection_is_named_when_opening(root):
    with pytest.raises(MissingCollectionError, match="Did you mean 'HSC/calib'"):
        Butler(root, collections="HSC/calibs")


def test_butler_survives_pickling_and_cloning(butler):
    butler.put({"a": 1}, "metric", ID)
    with pickle.loads(pickle.dumps(butler)) as other:
        assert other.get("metric", ID) == {"a": 1}
        assert other.run == "u/someone/1"
    with butler.clone(run="u/someone/2") as other:
        assert other.run == "u/someone/2"
        assert list(other.collections) == ["u/someone/2"]  # the run's, as none were given


# Put and get


def test_put_and_get_by_keywords_mapping_ref_and_type(butler):
    ref = butler.put({"a": 1}, "metric", visit=903344, detector=5, instrument="HSC")
    assert ref.run == "u/someone/1"
    assert ref.id.version == 7
    for got in (
        butler.get("metric", **ID),
        butler.get("metric", ID),
        butler.get("metric", {"visit": 903344}, detector=5),
        butler.get(ref),
        butler.get(ref.datasetType, ref.dataId),
        butler.get("metric", ID, collections=["u/someone/1"]),
        butler.get("metric", {"visit": np.int64(903344), "detector": "5"}),
        butler.getDeferred("metric", ID).get(),
    ):
        assert got == {"a": 1}


def test_components_and_parameters_are_read_alone(butler):
    exposure, table = make_exposure(), make_table()
    butler.put(exposure, "calexp", ID)
    butler.put(table, "src", ID)
    assert butler.get("calexp.photoCalib", ID) == exposure.photo_calib
    assert butler.get("calexp.wcs", ID).has_sip
    assert butler.get("calexp", ID, parameters={"bbox": (1000, -20, 4, 3)}).shape == (3, 4)
    assert butler.get("src.rowcount", ID) == 7
    assert butler.get("src", ID, parameters={"columns": ["id"]}).colnames == ["id"]
    assert butler.get("src", ID, storageClass="StructuredDataDict")["flag"][0] is True
    handle = butler.getDeferred("calexp", ID)
    assert handle.get(component="xy0") == [1000, -20]
    assert handle.dataId["visit"] == 903344
    wcs_ref = butler.find_dataset("calexp.wcs", ID)
    assert wcs_ref.dataId["band"] == "r"
    assert butler.registry.findDataset("calexp", ID).dataId["physical_filter"] == "HSC-R"
    assert wcs_ref.datasetType.name == "calexp.wcs"
    assert butler.get(wcs_ref).has_sip
    other = DatasetType("src", ["visit", "detector"], "StructuredDataDict")
    assert isinstance(butler.get(other, ID), dict)
    with pytest.raises(DatasetTypeError, match="Did you mean 'wcs'"):
        butler.get("calexp.wc", ID)
    with pytest.raises(DatasetTypeError, match="is a part"):
        butler.put(exposure.wcs, "calexp.wcs", ID)


def test_data_id_is_completed_from_what_is_given(butler):
    butler.put({"a": 1}, "metric", ID)
    butler.put({"r": 1}, "raw", instrument="HSC", exposure=903344, detector=5)
    for given in (
        {"visit": 903344, "detector": "1_55"},
        {"visit": 903344, "detector.full_name": "1_55"},
        {"visit": 903344, "full_name": "1_55"},
        {"visit.name": "V903344", "detector": 5},
        {"visit": 903344, "detector": 5, "physical_filter": "HSC-R", "band": "r"},
        {"exposure": 903344, "detector": 5},
    ):
        assert butler.get("metric", given) == {"a": 1}, given
    for given in (
        {"exposure.obs_id": "HSCA903344", "detector": 5},
        {"obs_id": "HSCA903344", "detector": 5},
        {"day_obs": 20130619, "seq_num": 2, "detector": 5},
        {"visit": 903344, "detector": 5},
    ):
        assert butler.get("raw", given) == {"r": 1}, given


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"vist": 903344, "detector": 5}, DimensionNameError, "Did you mean 'visit'"),
        ({"visit_definition": 5}, DimensionNameError, "relation"),
        ({"detector": 5}, DimensionValueError, "visit"),
        ({"visit": "abc", "detector": 5}, DataIdValueError, "visit|abc"),
        ({"visit": 903344, "detector": "9_99"}, DataIdValueError, "9_99"),
        ({"visit": 903344, "detector": 5, "physical_filter": "HSC-I"}, InconsistentDataIdError, "HSC-I"),
        ({"visit": 903344, "detector": 5.5}, DataIdValueError, "5.5"),
    ],
)
def test_wrong_data_id_is_explained(butler, given, error, message):
    butler.put({"a": 1}, "metric", ID)
    with pytest.raises(error, match=message):
        butler.get("metric", given)


def test_missing_dataset_says_what_was_searched_and_where_one_is(butler, root):
    butler.put({}, "metric", ID)
    butler.collections.register("empty")
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", ["empty"])
    with pytest.raises(DatasetNotFoundError) as caught:
        butler.get("metric", ID, collections="chain")
    assert "No 'metric' for {instrument: 'HSC', detector: 5, visit: 903344}." in str(caught.value)
    assert "Searched, in order: 'empty'." in str(caught.value)
    assert "There is one in 'u/someone/1'." in str(caught.value)
    with pytest.raises(DatasetNotFoundError, match="7"):
        butler.get("metric", {**ID, "visit": 7})
    with pytest.raises(MissingDatasetTypeError, match="Did you mean 'metric'"):
        butler.get("metrik", ID)
    with pytest.raises(MissingCollectionError, match="Did you mean 'empty'"):
        butler.get("metric", ID, collections="emty")
    with Butler(root) as bare, pytest.raises(CollectionError, match="No collections to search"):
        bare.get("metric", ID)
    unknown = DatasetRef(butler.get_dataset_type("metric"), ID, "u/someone/1")
    with pytest.raises(DatasetNotFoundError, match="There is no dataset"):
        butler.get(unknown)
    assert butler.find_dataset("metric", ID, collections="empty") is None


def test_first_collection_with_a_match_wins(butler):
    butler.put({"from": 1}, "metric", ID)
    with butler.clone(run="u/someone/2", collections=["u/someone/2", "u/someone/1"]) as second:
        assert second.get("metric", ID) == {"from": 1}
        second.put({"from": 2}, "metric", ID)
        assert second.get("metric", ID) == {"from": 2}
        assert second.get("metric", ID, collections="u/someone/*") == {"from": 1}
        assert second.find_dataset("metric", ID, collections="u/someone/1").run == "u/someone/1"


def test_lone_instrument_of_the_collections_is_taken_as_given(butler, root):
    butler.put({"a": 1}, "summary", instrument="HSC")
    with Butler(root, collections="u/someone/1") as inferred:
        assert inferred.get("summary") == {"a": 1}
        assert inferred.query_datasets("summary", where="detector < 3")
    with Butler(root, inferDefaults=False) as plain, pytest.raises(CollectionError, match="No collections"):
        plain.get("summary")
    with Butler(root, collections="u/someone/1", inferDefaults=False, instrument="HSC") as named:
        assert named.get("summary") == {"a": 1}


def test_calibration_is_found_for_the_time_of_the_observation(butler):
    for n in range(3):
        run = f"calib/{n}"
        butler.collections.register(run)
        bias = butler.put({"n": n}, "bias", instrument="HSC", detector=5, run=run)
        flat = butler.put({"n": n}, "flat", instrument="HSC", detector=5, physical_filter="HSC-R", run=run)
        when = exposure_timespan(n)
        butler.registry.certify("HSC/calib", [bias, flat], when)
    calib = {"collections": "HSC/calib"}
    for n, visit in ((0, 903334), (2, 903344)):
        assert butler.get("bias", visit=visit, detector=5, **calib) == {"n": n}
        assert butler.get("bias", exposure=visit, detector=5, **calib) == {"n": n}
        assert butler.get("flat", visit=visit, detector=5, **calib) == {"n": n}
        named = {"instrument": "HSC", "exposure.obs_id": f"HSCA{visit}", "detector": "1_55"}
        assert butler.get("flat", named, **calib) == {"n": n}
        assert butler.get("bias", named, **calib) == {"n": n}
    assert butler.get("bias", detector=5, timespan=exposure_timespan(1), **calib) == {"n": 1}
    with pytest.raises(DatasetNotFoundError, match=r"HSC-I.* valid at 2013-06-18T13:30:00"):
        butler.get("flat", visit=903336, detector=5, **calib)
    with pytest.raises(CalibrationLookupError):
        butler.get("bias", detector=5, **calib)
    with pytest.raises(CalibrationLookupError):
        butler.get("bias", detector=5, timespan=Timespan(None, None), **calib)


def test_second_put_of_a_data_id_is_refused_and_the_first_stays(butler):
    butler.put({"first": 1}, "metric", ID)
    uri = butler.getURI("metric", ID)
    for again in (
        lambda: butler.put({"second": 2}, "metric", ID),
        lambda: butler.put({"second": 2}, DatasetRef(butler.get_dataset_type("metric"), ID, "u/someone/1")),
    ):
        with pytest.raises(ConflictingDefinitionError, match=r"metric.*903344"):
            again()
        assert butler.get("metric", ID) == {"first": 1}
        assert uri.exists()


def test_put_without_place_or_permission_is_explained(butler, root):
    with Butler(root, writeable=True) as runless:
        with pytest.raises(NoDefaultCollectionError, match="No run to put 'metric' in"):
            runless.put({}, "metric", ID)
        with pytest.raises(MissingCollectionError, match="Did you mean 'u/someone/1'"):
            runless.put({}, "metric", ID, run="u/someone/i")
        with pytest.raises((CollectionTypeError, MissingCollectionError), match="tagged"):
            runless.put({}, "metric", ID, run="tagged")
    with Butler(root, collections="u/someone/1") as reader:
        for act in (
            lambda: reader.put({}, "metric", ID, run="u/someone/1"),
            lambda: reader.removeRuns(["u/someone/1"]),
            lambda: reader.ingest(),
            lambda: reader.pruneDatasets([], unstore=True),
        ):
            with pytest.raises(ReadOnlyRepositoryError, match="opened for reading"):
                act()
    with pytest.raises(DataIdValueError, match="77"):
        butler.put({}, "metric", {**ID, "visit": 77})
    with pytest.raises(DatasetTypeError, match=r"takes a dict|nothing converts"):
        butler.put("text", "metric", ID)
    with pytest.raises(DatasetTypeError, match="dimensions"):
        butler.put({}, DatasetType("metric", ["visit"], "StructuredDataDict"), ID)


def test_transaction_undoes_puts_and_files(butler):
    kept = butler.put({"kept": 1}, "metric", ID)
    with pytest.raises(RuntimeError, match="stop"), butler.transaction():  # noqa: PT012  it fails at its end
        butler.put({}, "metric", ID, visit=903334)
        with pytest.raises(ValueError, match="inner"), butler.transaction():  # noqa: PT012
            inner = butler.put({}, "metric", ID, visit=903336)
            raise ValueError("inner")
        assert not butler.exists(inner)
        assert butler.exists("metric", ID, visit=903334)
        raise RuntimeError("stop")
    assert [r.id for r in butler.query_datasets("metric")] == [kept.id]
    with butler.transaction():
        butler.put({}, "metric", ID, visit=903334)
    assert len(butler.query_datasets("metric")) == 2


def test_dataset_removed_and_put_again_in_one_transaction_is_readable(butler):
    ref = butler.put({"old": 1}, "metric", ID)
    with butler.transaction():
        butler.pruneDatasets([ref], purge=True, unstore=True)
        butler.put({"new": 1}, "metric", ID)
    assert butler.get("metric", ID) == {"new": 1}
    ref = butler.find_dataset("metric", ID)
    with pytest.raises(RuntimeError), butler.transaction():  # noqa: PT012
        butler.pruneDatasets([ref], purge=True, unstore=True)
        raise RuntimeError
    assert butler.get("metric", ID) == {"new": 1}


def _race(root, n, barrier, queue):
    with Butler(root, run="race") as butler:
        barrier.wait()
        for visit in (903334, 903336, 903344):
            try:
                butler.put({"by": n, "fill": "x" * 100_000}, "metric", ID, visit=visit)
                queue.put((visit, n))
            except ConflictingDefinitionError:
                pass
    queue.put(None)


def test_processes_that_put_the_same_dataset_never_overwrite_each_other(butler, root):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_race, args=(root, n, barrier, queue)) for n in range(3)]
    for p in processes:
        p.start()
    winners, done = {}, 0
    while done < 3:
        item = queue.get(timeout=60)
        if item is None:
            done += 1
        else:
            assert item[0] not in winners
            winners[item[0]] = item[1]
    for p in processes:
        p.join()
    assert len(winners) == 3
    for visit, n in winners.items():
        assert butler.get("metric", ID, visit=visit, collections="race")["by"] == n


def test_threads_share_a_butler(butler):
    def work(detector):
        butler.put({"d": detector}, "metric", ID, detector=detector)
        return butler.get("metric", ID, detector=detector)["d"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(6))) == list(range(6))


# Existence


def test_existence_tells_recorded_stored_and_readable_apart(butler):
    assert butler.exists("metric", ID) == DatasetExistence.UNRECOGNIZED
    assert not butler.exists("metric", ID)
    ref = butler.put({}, "metric", ID)
    assert butler.exists("metric", ID) == DatasetExistence.VERIFIED
    assert butler.exists(ref, full_check=False) == DatasetExistence.KNOWN
    assert butler.exists(ref)
    path = Path(butler.getURI(ref).ospath)
    text = path.read_text()
    path.unlink()
    lost = butler.exists(ref)
    assert not lost
    assert lost == DatasetExistence.RECORDED | DatasetExistence.DATASTORE
    assert butler.exists(ref, full_check=False)
    with pytest.raises(MissingDatasetFileError, match=r"metric .*is not there.*butler check"):
        butler.get(ref)
    path.write_text(text)
    butler.pruneDatasets([ref], disassociate=False, unstore=True)
    assert butler.exists(ref) == DatasetExistence.RECORDED
    assert not butler.exists(ref)
    with pytest.raises(MissingDatasetFileError, match="unstored"):
        butler.get(ref)


def test_uri_of_a_dataset_and_of_one_that_would_be_put(butler, root):
    with pytest.raises(DatasetNotFoundError):
        butler.getURI("metric", ID)
    predicted = butler.getURI("metric", ID, predict=True)
    ref = butler.put({}, "metric", ID)
    assert butler.getURI(ref) == predicted
    assert predicted.ospath == str(
        root / "u/someone/1/metric/HSC/903344/metric_HSC_903344_5_u_someone_1.json"
    )


# Ingest and retrieval


def test_ingest_takes_all_files_or_none(butler, tmp_path):
    raw = butler.get_dataset_type("raw")
    files = []
    for d in range(4):
        path = tmp_path / f"raw{d}.json"
        path.write_text(json.dumps({"d": d}))
        ref = DatasetRef(raw, {"instrument": "HSC", "exposure": 903344, "detector": d}, "u/someone/1")
        files.append(FileDataset(path=str(path), refs=[ref]))
    butler.ingest(files[0], transfer="copy")
    wrong = DatasetRef(raw, {"instrument": "HSC", "exposure": 1, "detector": 1}, "u/someone/1")
    for mode in ("copy", "move", "symlink", "direct"):
        fresh = [FileDataset(f.path, [DatasetRef(raw, f.refs[0].dataId, "u/someone/1")]) for f in files]
        with pytest.raises(ConflictingDefinitionError):
            butler.ingest(*fresh, transfer=mode)
        with pytest.raises(DataIdValueError):
            butler.ingest(*files[1:], FileDataset(files[1].path, [wrong]), transfer=mode)
        with pytest.raises(MissingDatasetFileError):
            butler.ingest(files[1], FileDataset(str(tmp_path / "no.json"), files[2].refs), transfer=mode)
        assert all((tmp_path / f"raw{d}.json").exists() for d in range(4)), mode
        assert len(butler.query_datasets("raw")) == 1
        check_invariants(butler)
    butler.ingest(*files, transfer="move", skip_existing=True)
    assert [butler.get("raw", exposure=903344, detector=d) for d in range(4)] == [{"d": d} for d in range(4)]
    assert (tmp_path / "raw0.json").exists()
    assert not (tmp_path / "raw1.json").exists()


def test_files_in_place_stay_when_their_datasets_are_removed(butler, tmp_path):
    path = tmp_path / "raw.json"
    path.write_text("{}")
    raw = butler.get_dataset_type("raw")
    ref = DatasetRef(raw, {"instrument": "HSC", "exposure": 903344, "detector": 1}, "u/someone/1")
    butler.ingest(FileDataset(str(path), [ref]), transfer="direct")
    assert butler.get(ref) == {}
    assert butler.getURI(ref).ospath == str(path)
    butler.pruneDatasets([ref], purge=True, unstore=True)
    assert path.exists()


def test_artifacts_are_retrieved(butler, tmp_path):
    refs = [butler.put({"d": d}, "metric", ID, detector=d) for d in range(2)]
    uris = butler.retrieveArtifacts(refs, tmp_path / "out")
    assert [json.loads(Path(u.ospath).read_text())["d"] for u in uris] == [0, 1]
    assert uris[0].endswith("out/u/someone/1/metric/HSC/903344/metric_HSC_903344_0_u_someone_1.json")
    with pytest.raises(DatasetFileError, match="overwrite=True"):
        butler.retrieveArtifacts(refs, tmp_path / "out")
    butler.retrieveArtifacts(refs, tmp_path / "out", overwrite=True)
    flat = butler.retrieveArtifacts(refs, tmp_path / "flat", "symlink", preserve_path=False)
    assert os.path.islink(flat[1].ospath)
    assert sorted(os.listdir(tmp_path / "flat")) == [u.rpartition("/")[2] for u in flat]


# Removal


def test_prune_disassociates_unstores_or_purges(butler):
    refs = [butler.put({"d": d}, "metric", ID, detector=d) for d in range(3)]
    butler.registry.associate("tagged", refs)
    butler.pruneDatasets(refs[:1], tags=["tagged"])
    assert len(butler.query_datasets("metric", "tagged")) == 2
    assert butler.exists(refs[0])
    butler.pruneDatasets(refs[:1], disassociate=False, unstore=True)
    assert butler.exists(refs[0]) == DatasetExistence.RECORDED
    butler.pruneDatasets(refs[1:2], purge=True, unstore=True)
    assert butler.exists(refs[1]) == DatasetExistence.UNRECOGNIZED
    assert [r.id for r in butler.query_datasets("metric", "tagged")] == [refs[2].id]
    for wrong in ({"purge": True}, {"purge": True, "unstore": True, "disassociate": False}, {}):
        with pytest.raises(TypeError):
            butler.pruneDatasets(refs, **wrong)


def test_removed_run_is_gone_with_its_files(butler, root):
    butler.put({}, "metric", ID)
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", ["u/someone/1"])
    with pytest.raises(CollectionError, match="chain"):
        butler.removeRuns(["u/someone/1"])
    assert butler.exists("metric", ID)
    butler.removeRuns(["u/someone/1"], unlink_from_chains=True)
    assert not (root / "u").exists()
    assert butler.collections.query("u/*") == []
    assert butler.collections.get_info("chain").children == ()


def test_removal_that_was_interrupted_is_finished_by_the_next(butler, root):
    """The records are gone and the paths in the journal, as after a crash between the two steps."""
    refs = [butler.put({"d": d}, "metric", ID, detector=d) for d in range(3)]
    butler.repository.registry.datasets.remove(
        [
            t.take(np.arange(2))
            for t in butler.repository.registry.datasets.existing_in_run("u/someone/1").values()
        ]
    )
    assert len(butler.repository.registry.datasets.pending_deletions()) == 2
    again = butler.put({"again": 1}, "metric", ID, detector=0)  # over a file that waits for its removal
    butler.pruneDatasets([refs[2]], purge=True, unstore=True)
    assert butler.repository.registry.datasets.pending_deletions() == []
    assert butler.get(again) == {"again": 1}
    assert [r.id for r in butler.query_datasets("metric")] == [again.id]


def test_collection_with_datasets_is_not_removed_as_if_it_were_empty(butler):
    butler.put({}, "metric", ID)
    with pytest.raises(OrphanedRecordError, match="remove-runs"):
        butler.collections.x_remove("u/someone/1")
    butler.collections.register("empty")
    butler.collections.x_remove("empty")
    butler.collections.x_remove("tagged")
    assert butler.collections.query("*", CollectionType.TAGGED) == []
