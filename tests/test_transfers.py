"""Datasets on the move through Python: the reference's own export, Zip files, all or nothing, old files."""

import importlib.util
import json
import os
import zipfile
from pathlib import Path

import pytest
from small_repository import exposure_timespan, make_repository

from butler_dask import (
    Butler,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetFileError,
    DatasetRef,
    DatasetType,
    DatasetTypeError,
    FileDataset,
    MissingCollectionError,
    MissingDatasetFileError,
)

HERE = Path(__file__).parent
ID = {"instrument": "HSC", "visit": 903344, "detector": 5}


def _script(name):
    spec = importlib.util.spec_from_file_location(name, HERE / "compat" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    with Butler(make_repository(tmp_path / "SOURCE"), run="run/1") as butler:
        for d in (1, 2, 3):
            butler.put({"d": d}, "metric", ID, detector=d)
        yield butler


@pytest.fixture
def empty(tmp_path):
    Butler.makeRepo(tmp_path / "EMPTY")
    with Butler(tmp_path / "EMPTY", writeable=True) as butler:
        yield butler


def _files(butler):
    return sorted(path for path, _ in butler.datastore.files() if path.startswith("run"))


def test_what_the_reference_exported_is_all_there(tmp_path):
    pytest.importorskip("pyarrow")
    both_ways = _script("export_both_ways")
    with zipfile.ZipFile(HERE / "data/reference_export.zip") as archive:
        archive.extractall(tmp_path / "in")
    both_ways.take("butler_dask", str(tmp_path / "REPO"), str(tmp_path / "in"))
    both_ways.facts("butler_dask", str(tmp_path / "REPO"), str(tmp_path / "facts.json"))
    theirs = json.loads((tmp_path / "in/facts.json").read_text())
    assert len(theirs["datasets"]) == 39
    assert both_ways.differences(theirs, json.loads((tmp_path / "facts.json").read_text())) == []


def test_a_repository_with_everything_survives_two_moves(tmp_path):
    pytest.importorskip("pyarrow")
    both_ways = _script("export_both_ways")
    answers = []
    both_ways.make("butler_dask", str(tmp_path / "0"))
    for n in range(3):
        both_ways.facts("butler_dask", str(tmp_path / f"{n}"), str(tmp_path / f"{n}.json"))
        answers.append(json.loads((tmp_path / f"{n}.json").read_text()))
        if n < 2:
            both_ways.export("butler_dask", str(tmp_path / f"{n}"), str(tmp_path / f"out{n}"))
            both_ways.take("butler_dask", str(tmp_path / f"{n + 1}"), str(tmp_path / f"out{n}"))
    assert both_ways.differences(answers[0], answers[1]) == []
    assert both_ways.differences(answers[0], answers[2]) == []


def test_zip_file_holds_datasets_that_are_read_from_inside_it(source, empty, tmp_path):
    refs = source.query_all_datasets("run/1")
    name = source.retrieve_artifacts_zip(refs, tmp_path / "zips").ospath
    assert os.listdir(tmp_path / "zips") == [os.path.basename(name)]
    assert source.retrieve_artifacts_zip(refs, tmp_path / "zips").ospath == name
    with pytest.raises(DatasetFileError, match="is there already"):
        source.retrieve_artifacts_zip(refs, tmp_path / "zips", overwrite=False)
    assert set(empty.ingest_zip(name, dry_run=True)) == set(refs)
    assert empty.collections.query("*") == []
    taken = empty.ingest_zip(name, transfer="copy", transfer_dimensions=True)
    assert set(taken) == set(refs)
    assert [p.endswith(".zip") for p in _files(empty)] == [True]
    assert empty.get("metric", ID, detector=2, collections="run/1") == {"d": 2}
    assert all(empty.exists(ref) for ref in refs)
    with pytest.raises(ConflictingDefinitionError, match="3 of the 3 datasets"):
        empty.ingest_zip(name)
    assert empty.ingest_zip(name, skip_existing=True) == []


def test_zip_file_of_the_reference_is_taken_in(empty, tmp_path):
    pytest.importorskip("pyarrow")
    with zipfile.ZipFile(HERE / "data/reference_export.zip") as archive:
        text = archive.read("export.yaml").decode()
    # Such a Zip file has no dimension records.
    (tmp_path / "export.yaml").write_text(text.split("- type: collection")[0])
    with pytest.raises(DataIdValueError, match="no instrument"):
        empty.ingest_zip(HERE / "data/reference_datasets.zip", transfer="copy")
    assert _files(empty) == []
    empty.import_(directory=tmp_path)
    refs = empty.ingest_zip(HERE / "data/reference_datasets.zip", transfer="copy")
    assert len(refs) == 13
    assert empty.get("notes", collections="runs/ä-1") == {"note": "hello"}
    got = empty.get("facts", instrument="Cam", visit=3, detector=2, collections="runs/ä-1")
    assert (got["n"], got["d"], got["umlaut"]) == (3, 2, "ä")
    got = empty.get("facts", instrument="Cam", visit=1, detector=1, collections="runs/2")
    assert got == {"again": 1}
    table = empty.get("catalog", instrument="Cam", visit=1, collections="runs/ä-1")
    assert str(table["flux"].unit) == "nJy"
    assert table["name"].tolist() == list("abcdé")


def test_zip_file_is_one_that_the_reference_reads(source, tmp_path):
    # It asks for required dimensions alone, and for members by a quoted part of a URI.
    source.registry.registerRun("run/ä-1")
    ref = source.put({"d": 1}, "metric", ID, detector=4, run="run/ä-1")
    name = source.retrieve_artifacts_zip([ref], tmp_path / "zips").ospath
    with zipfile.ZipFile(name) as archive:
        index = json.loads(archive.read("_butler_zip_index.json"))
        (member,) = index["artifact_map"]
        assert json.loads(archive.read(member)) == {"d": 1}
    assert not {*"%#?"} & {*member}
    required = index["refs"]["dataset_types"]["metric"]["dimensions"]
    assert sorted(required) == ["detector", "instrument", "visit"]
    assert index["artifact_map"][member]["info"]["formatter"].startswith("lsst.daf.butler.formatters.")


def test_datasets_inside_a_zip_file_move_on_and_go_with_the_last(source, empty, tmp_path):
    refs = source.query_all_datasets("run/1")
    name = source.retrieve_artifacts_zip(refs, tmp_path / "zips").ospath
    empty.ingest_zip(name, transfer="copy", transfer_dimensions=True)
    uris = empty.retrieveArtifacts(refs, tmp_path / "single", preserve_path=False)
    assert sorted(json.loads(Path(u.ospath).read_text())["d"] for u in uris) == [1, 2, 3]
    with empty.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets(refs)
    Butler.makeRepo(tmp_path / "C")
    with Butler(tmp_path / "C", writeable=True) as third:
        assert len(third.import_(directory=tmp_path / "out", transfer="copy")) == 3
        assert third.get("metric", ID, detector=3, collections="run/1") == {"d": 3}
    Butler.makeRepo(tmp_path / "D")
    with Butler(tmp_path / "D", writeable=True) as fourth:
        fourth.transfer_from(empty, refs, "copy", register_dataset_types=True, transfer_dimensions=True)
        assert fourth.get("metric", ID, detector=1, collections="run/1") == {"d": 1}
    empty.pruneDatasets(refs[:2], purge=True, unstore=True)
    assert len(_files(empty)) == 1
    empty.pruneDatasets(refs[2:], purge=True, unstore=True)
    assert _files(empty) == []


def test_dataset_whose_id_is_known_in_another_run_is_not_taken_for_the_same(source, empty, tmp_path):
    (ref,) = source.query_datasets("metric", "run/1", data_id=ID | {"detector": 1})
    empty.transfer_from(source, [ref], "copy", register_dataset_types=True, transfer_dimensions=True)
    with Butler(make_repository(tmp_path / "B"), run="run/2") as other:
        other.collections.register("run/2")
        other.put({"d": "another"}, DatasetRef(ref.datasetType, ref.dataId, "run/2", id=ref.id))
        (same_id,) = other.query_datasets("metric", "run/2")
        with pytest.raises(ConflictingDefinitionError, match=r"in RUN 'run/1', not as .* in RUN 'run/2'"):
            empty.transfer_from(other, [same_id], "copy")
        with other.export(directory=tmp_path / "out", transfer="copy") as export:
            export.saveDatasets([same_id])
    with pytest.raises(ConflictingDefinitionError, match=r"in RUN 'run/1', not as .* in RUN 'run/2'"):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    assert empty.get(ref) == {"d": 1}


def test_file_that_is_no_zip_of_datasets_is_refused(empty, tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(DatasetFileError, match="not a readable Zip file"):
        empty.ingest_zip(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DatasetFileError, match="without datasets"):
        empty.ingest_zip(tmp_path / "other.zip")
    with pytest.raises(MissingDatasetFileError, match="no Zip file"):
        empty.ingest_zip(tmp_path / "none.zip")


def test_visit_takes_its_definition_and_exposure_along(source, empty):
    data_id = source.registry.expandDataId(instrument="HSC", visit=903344)
    empty.transfer_dimension_records_from(source, [data_id])
    (definition,) = empty.query_dimension_records("visit_definition", instrument="HSC")
    assert (definition.visit, definition.exposure) == (903344, 903344)
    for element in ("exposure", "visit", "physical_filter", "day_obs"):
        mine = empty.query_dimension_records(element, instrument="HSC")
        theirs = {r.dataId: r for r in source.query_dimension_records(element, instrument="HSC")}
        assert [theirs[r.dataId] for r in mine] == mine
        assert len(mine) == 1
    assert empty.query_dimension_records("detector", explain=False) == []


def test_transfer_that_fails_half_way_leaves_neither_rows_nor_files(source, empty):
    refs = source.query_all_datasets("run/1")
    os.unlink(source.getURI(refs[1]).ospath)
    os.mkdir(source.getURI(refs[1]).ospath)  # is there, and cannot be copied
    with pytest.raises(DatasetFileError):
        empty.transfer_from(source, refs, "copy", register_dataset_types=True, transfer_dimensions=True)
    assert _files(empty) == []
    assert empty.collections.query("*") == []
    assert list(empty.registry.queryDatasetTypes()) == []
    assert empty.query_dimension_records("detector", explain=False) == []


def _ingest_twice(butler, files, transfer):
    with butler.transaction():
        butler.ingest(*files, transfer=transfer)
        (ref,) = files[0].refs
        again = DatasetRef(ref.datasetType, ref.dataId, ref.run)
        butler.ingest(FileDataset(butler.getURI(ref).ospath, [again]), transfer="copy")


@pytest.mark.parametrize("transfer", ["copy", "link", "symlink", "relsymlink", "hardlink", "move"])
def test_files_are_taken_back_when_what_follows_fails(source, tmp_path, transfer):
    kind = source.get_dataset_type("metric")
    files = []
    for d in (4, 5):
        path = tmp_path / f"{d}.json"
        path.write_text(f'{{"d": {d}}}')
        files.append(FileDataset(path, [DatasetRef(kind, {**ID, "detector": d}, "run/1")]))
    before = _files(source)
    # The second of a transaction's ingests finds the data ID taken.
    with pytest.raises(ConflictingDefinitionError):
        _ingest_twice(source, files, transfer)
    assert _files(source) == before
    assert [Path(f.path).exists() for f in files] == [True, True]
    assert len(source.query_all_datasets("run/1")) == 3
    source.ingest(*files, transfer=transfer)
    assert source.get("metric", ID, detector=5) == {"d": 5}


def test_datasets_without_files_are_passed_over_or_only_recorded(source, empty):
    refs = source.query_all_datasets("run/1")
    source.pruneDatasets(refs[:1], unstore=True, disassociate=False)
    how = {"register_dataset_types": True, "transfer_dimensions": True}
    assert empty.transfer_from(source, refs, "copy", **how) == refs[1:]
    assert empty.transfer_from(source, refs, "copy", skip_missing=False, **how) == refs[:1]
    assert [bool(empty.exists(r)) for r in refs] == [False, True, True]
    assert len(empty.query_all_datasets("run/1")) == 3


def test_import_without_datastore_records_datasets_only(source, empty, tmp_path):
    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets(source.query_all_datasets("run/1"))
    refs = empty.import_(directory=tmp_path / "out", without_datastore=True)
    assert len(refs) == 3
    assert _files(empty) == []
    assert not any(empty.exists(r) for r in refs)


def test_sizes_are_recorded_unless_unwanted(source, empty, tmp_path):
    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets(source.query_all_datasets("run/1"))
    refs = empty.import_(directory=tmp_path / "out", transfer="copy", record_validation_info=False)
    assert {f.size for f in empty.repository.registry.datasets.files_of_ids([r.id for r in refs])} == {-1}
    sizes = {f.size for f in source.repository.registry.datasets.files_of_ids([r.id for r in refs])}
    assert sizes == {len('{"d": 1}')}


def test_export_says_what_rewrite_makes_of_each_file(source, empty, tmp_path):
    def renamed(file):
        name = f"{file.refs[0].dataId['detector']}.json"
        os.rename(tmp_path / "out" / file.path, tmp_path / "out" / name)
        return FileDataset(name, file.refs, file.formatter)

    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets(source.query_all_datasets("run/1"), rewrite=renamed, elements=["instrument"])
    text = (tmp_path / "out/export.yaml").read_text()
    assert "path: 2.json" in text
    assert text.count("element:") == 1
    empty.transfer_dimension_records_from(source, source.query_all_datasets("run/1"))
    empty.import_(directory=tmp_path / "out", transfer="copy")
    assert empty.get("metric", ID, detector=2, collections="run/1") == {"d": 2}


def _export_too_much(butler, directory):
    with butler.export(directory=directory, transfer="copy") as out:
        out.saveDatasets(butler.query_all_datasets("run/1"))
        out.saveCollection("nowhere")


def test_export_that_fails_leaves_no_files(source, tmp_path):
    with pytest.raises(MissingCollectionError):
        _export_too_much(source, tmp_path / "out")
    assert [name for _, _, names in os.walk(tmp_path / "out") for name in names] == []


def test_files_that_nothing_reads_are_refused_by_name(source, empty, tmp_path):
    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets(source.query_all_datasets("run/1"))
    file = tmp_path / "out/export.yaml"
    theirs = "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
    file.write_text(file.read_text().replace("lsst.daf.butler.formatters.json.JsonFormatter", theirs))
    with pytest.raises(DatasetTypeError, match=rf"{theirs} \(of metric\)(.|\n)*Install"):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    assert empty.collections.query("*") == []


def test_coadds_come_without_a_filter_of_their_band(source, empty, tmp_path):
    registry = source.registry
    registry.insertDimensionData("skymap", {"name": "s", "hash": "00ff"})
    registry.insertDimensionData("tract", {"skymap": "s", "id": 1})
    registry.insertDimensionData("patch", {"skymap": "s", "tract": 1, "id": 7})
    source.registry.registerDatasetType(DatasetType("coadd", ["patch", "band"], "StructuredDataDict"))
    ref = source.put({"c": 1}, "coadd", skymap="s", tract=1, patch=7, band="r")
    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets([ref])
    assert "element: band" not in (tmp_path / "out/export.yaml").read_text()
    empty.import_(directory=tmp_path / "out", transfer="copy")
    assert empty.get("coadd", skymap="s", tract=1, patch=7, band="r", collections="run/1") == {"c": 1}
    (record,) = empty.query_dimension_records("skymap", skymap="s")
    assert record.hash == "00ff"


def test_certifications_of_one_dataset_at_several_times_survive(source, empty, tmp_path):
    bias = source.put({"b": 1}, "bias", instrument="HSC", detector=5)
    for n in (0, 2):
        source.registry.certify("HSC/calib", [bias], exposure_timespan(n))
    with source.export(directory=tmp_path / "out", transfer="copy") as export:
        export.saveDatasets([bias])
        export.saveCollection("HSC/calib")
    for _ in range(2):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    found = empty.registry.queryDatasetAssociations("bias", "HSC/calib")
    assert sorted(a.timespan.begin_ns for a in found) == [exposure_timespan(n).begin_ns for n in (0, 2)]
