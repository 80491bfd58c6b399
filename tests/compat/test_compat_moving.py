"""Ingest, export, import, transfer, retrieval: documented behaviour."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from compat_package import api, registry_api
from compat_repository import insert_records, register_types

COADD = {"skymap": "sky", "tract": 1, "patch": 0, "band": "r"}


@pytest.fixture
def target(tmp_path: Path) -> Any:
    """Writing butler of a repository with dimension records alone."""
    root = tmp_path / "target"
    api.Butler.makeRepo(str(root))
    with api.Butler.from_config(str(root), writeable=True) as butler:
        yield butler


def document(directory: Path, name: str, content: Any) -> str:
    """Write a YAML file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(yaml.safe_dump(content))
    return str(path)


def file_dataset(butler: Any, path: str, run: str, detector: int) -> Any:
    """Return what is to be ingested as a bias."""
    data_id = api.DataCoordinate.standardize(instrument="Cam", detector=detector, universe=butler.dimensions)
    ref = api.DatasetRef(butler.get_dataset_type("bias"), data_id, run=run)
    return api.FileDataset(path=path, refs=[ref])


@pytest.mark.parametrize("transfer", ["copy", "move", "direct", "symlink", "hardlink", "link", "auto"])
def test_files_are_ingested(transfer: str, butler: Any, tmp_path: Path) -> None:
    path = document(tmp_path / "files", "b.yaml", {"from": "outside"})
    dataset = file_dataset(butler, path, "u/one", 1)
    butler.ingest(dataset, transfer=transfer)
    assert butler.get("bias", instrument="Cam", detector=1, collections="u/one") == {"from": "outside"}
    assert os.path.exists(path) is (transfer != "move")


def test_a_file_that_is_not_there_is_not_ingested(butler: Any, tmp_path: Path) -> None:
    dataset = file_dataset(butler, str(tmp_path / "absent.yaml"), "u/one", 1)
    with pytest.raises(FileNotFoundError):
        butler.ingest(dataset, transfer="copy")
    assert butler.find_dataset("bias", instrument="Cam", detector=1, collections="u/one") is None


def test_ingest_twice_conflicts(butler: Any, tmp_path: Path) -> None:
    path = document(tmp_path / "files", "b.yaml", {"from": "outside"})
    butler.ingest(file_dataset(butler, path, "u/one", 1), transfer="copy")
    with pytest.raises(registry_api.ConflictingDefinitionError):
        butler.ingest(file_dataset(butler, path, "u/one", 1), transfer="copy")


def test_an_unknown_transfer_is_refused(butler: Any, tmp_path: Path) -> None:
    path = document(tmp_path / "files", "b.yaml", {})
    with pytest.raises((ValueError, NotImplementedError)):
        butler.ingest(file_dataset(butler, path, "u/one", 1), transfer="teleport")


@pytest.mark.parametrize("transfer", ["copy", "symlink"])
def test_exports_are_imported(transfer: str, butler: Any, target: Any, tmp_path: Path) -> None:
    refs = butler.query_datasets("bias", "biases/*", find_first=False, instrument="Cam")
    butler.registry.associate("best", refs[:1])
    butler.registry.certify("calib", refs[1:2], api.Timespan(None, None))
    out = tmp_path / "out"
    out.mkdir()
    with butler.export(directory=str(out), format="yaml", transfer="copy") as export:
        export.saveDatasets(refs)
        for name in ("best", "calib", "biases/1", "biases/2"):
            export.saveCollection(name)
    target.import_(directory=str(out), format="yaml", transfer=transfer)
    found = target.query_datasets("bias", "biases/*", find_first=False, instrument="Cam")
    assert {r.id for r in found} == {r.id for r in refs}
    assert all(target.get(r) == butler.get(r) for r in refs)
    assert [r.id for r in target.query_datasets("bias", "best")] == [refs[0].id]
    (row,) = target.registry.queryDatasetAssociations("bias", collections="calib")
    assert (row.ref.id, row.timespan) == (refs[1].id, api.Timespan(None, None))


def test_exports_are_documents_of_known_sections(butler: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with butler.export(directory=str(out), filename="x.yaml", transfer=None) as export:
        export.saveDimensionData("detector", butler.query_dimension_records("detector", instrument="Cam"))
        export.saveCollection("best")
    text = (out / "x.yaml").read_text()
    assert text.startswith("description: Butler Data Repository Export")
    content = yaml.safe_load(text)
    kinds = {(e["type"], e.get("element") or e.get("name")) for e in content["data"]}
    assert ("dimension", "detector") in kinds
    assert any(e["type"] == "collection" and e["name"] == "best" for e in content["data"])


def test_datasets_are_transferred(butler: Any, target: Any) -> None:
    refs = butler.query_datasets("bias", "biases/1", instrument="Cam")
    moved = target.transfer_from(
        butler, refs, transfer="copy", register_dataset_types=True, transfer_dimensions=True
    )
    assert {r.id for r in moved} == {r.id for r in refs}
    assert target.get("bias", instrument="Cam", detector=1, collections="biases/1") == {
        "run": "biases/1",
        "detector": 1,
    }
    again = target.transfer_from(butler, refs, transfer="copy")
    assert len(list(again)) in (0, len(refs))
    assert len(target.query_datasets("bias", "biases/1", instrument="Cam")) == len(refs)


def test_transfers_need_the_dataset_type(butler: Any, target: Any) -> None:
    insert_records(target)
    refs = butler.query_datasets("bias", "biases/1", instrument="Cam")
    with pytest.raises(KeyError):
        target.transfer_from(butler, refs, transfer="copy")


def test_transfers_into_known_records(butler: Any, target: Any) -> None:
    insert_records(target)
    register_types(target)
    refs = butler.query_datasets("summary", "u/one", instrument="Cam")
    target.transfer_from(butler, refs, transfer="copy")
    assert target.get("summary", instrument="Cam", visit=3, collections="u/one")["visit"] == 3


@pytest.mark.parametrize("preserve_path", [True, False])
def test_artifacts_are_retrieved(preserve_path: bool, butler: Any, tmp_path: Path) -> None:
    refs = butler.query_datasets("bias", "biases/1", instrument="Cam")
    destination = tmp_path / "retrieved"
    destination.mkdir()
    paths = butler.retrieveArtifacts(refs, str(destination), transfer="copy", preserve_path=preserve_path)
    assert len(paths) == 3
    files = [p for p in destination.rglob("*") if p.is_file() and "bias" in p.name]
    assert len(files) == 3
    assert all((p.parent == destination) is not preserve_path for p in files)


def test_coadds_are_found_by_patch_and_by_the_visits_that_overlap(butler: Any) -> None:
    for band in "gr":
        butler.put({"coadd": band}, "coadd", {**COADD, "band": band}, run="u/one")
    assert butler.get("coadd", COADD, collections="u/one") == {"coadd": "r"}
    found = butler.query_datasets("coadd", "u/one", where="skymap = 'sky' AND patch = 0 AND tract = 1")
    assert sorted(r.dataId["band"] for r in found) == ["g", "r"]
    overlapping = butler.query_datasets(
        "coadd", "u/one", where="instrument = 'Cam' AND skymap = 'sky' AND visit = 2"
    )
    # A data ID has one band: that of the visit's filter.
    assert [(r.dataId["patch"], r.dataId["band"]) for r in overlapping] == [(0, "g")]
