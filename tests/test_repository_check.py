"""Damage done to a repository on disk is found and repaired, and nothing else is touched."""

import os
from pathlib import Path

import pytest
from small_repository import make_repository

from butler_dask import Butler, FileDataset
from butler_dask.butler.repository_check import check_repository, repair_repository

ID = {"instrument": "HSC", "visit": 903344}


@pytest.fixture
def butler(tmp_path):
    with Butler(make_repository(tmp_path / "DATA"), run="run/1") as butler:
        for detector in range(6):
            butler.put({"d": detector, "fill": "x" * 50}, "metric", ID, detector=detector)
        outside = tmp_path / "raw.json"
        outside.write_text("{}")
        raw = butler.get_dataset_type("raw")
        data_id = {"instrument": "HSC", "exposure": 903344, "detector": 1}
        from butler_dask import DatasetRef

        butler.ingest(FileDataset(str(outside), [DatasetRef(raw, data_id, "run/1")]), transfer="direct")
        yield butler


def _check(butler, **how):
    return check_repository(butler.repository, **how)


def test_sound_repository_is_clean(butler):
    found = _check(butler, checksums=True)
    assert found.is_clean
    assert found.checked == 7
    assert found.lines() == [
        "7 files checked: 0 missing or damaged, 0 not recorded, 0 unfinished, 0 to be deleted."
    ]


def test_damage_is_found_and_repaired(butler):
    paths = [Path(butler.getURI("metric", ID, detector=d).ospath) for d in range(6)]
    paths[0].unlink()
    paths[1].write_text("{}")
    paths[2].write_bytes(paths[2].read_bytes().replace(b"x", b"y"))
    unfinished = paths[3].with_name(paths[3].name + ".77-abcdef01.tmp")
    unfinished.write_text("{")
    stray = paths[3].with_name("metric_HSC_903344_99_run_1.json")
    stray.write_text("{}")
    other = Path(butler.root) / "gone/run/metric/HSC/5/metric_HSC_5_1_gone_run.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    notes = Path(butler.root) / "notes.txt"
    notes.write_text("mine")
    for path in (stray, other):
        os.utime(path, (1, 1))
    registry = butler.repository.registry
    table = registry.datasets.existing_in_run("run/1")["metric"]
    removed = butler.find_dataset("metric", ID, detector=5)
    registry.datasets.remove([table.take((table.ids == list(removed.id.bytes)).all(axis=1))])

    quick = _check(butler)
    assert [f.ref.dataId["detector"] for f in quick.faults] == [0, 1]
    found = _check(butler, checksums=True)
    assert [f.ref.dataId["detector"] for f in found.faults] == [0, 1, 2]
    assert "is missing" in str(found.faults[0])
    assert "2 bytes" in str(found.faults[1])
    assert "has checksum" in str(found.faults[2])
    assert found.unfinished == [str(unfinished.relative_to(butler.root))]
    assert sorted(found.unrecorded) == sorted(str(p.relative_to(butler.root)) for p in (stray, other))
    assert found.pending == [str(paths[5].relative_to(butler.root))]
    assert len(found.lines()) == 8

    repair_repository(butler.repository, found)
    assert unfinished.exists(), "it may be being written"
    assert not stray.exists()
    assert not other.exists()
    assert not paths[5].exists()
    assert notes.exists()
    assert {r.dataId["detector"] for r in butler.query_datasets("metric")} == {3, 4}
    butler.put({}, "metric", ID, detector=0)
    repair_repository(butler.repository, _check(butler), older_than_s=-1.0)
    assert not unfinished.exists()
    assert _check(butler, checksums=True).is_clean
