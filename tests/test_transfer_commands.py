"""The commands that move data, as a user runs them."""

import json
from pathlib import Path

import pytest
from command_line import Commands
from small_repository import exposure_timespan, make_repository

from butler_dask import Butler, CollectionType


@pytest.fixture
def commands(tmp_path):
    return Commands(tmp_path)


@pytest.fixture
def data(tmp_path):
    root = make_repository(tmp_path / "DATA")
    with Butler(root, run="run/1") as butler:
        for d in (1, 2, 3):
            butler.put({"d": d}, "metric", instrument="HSC", visit=903344, detector=d)
        for d in (4, 5):
            bias = butler.put({"bias": d}, "bias", instrument="HSC", detector=d)
            butler.registry.certify("HSC/calib", [bias], exposure_timespan(1))
        butler.collections.register("chain", CollectionType.CHAINED, "everything")
        butler.collections.redefine_chain("chain", ["run/1", "HSC/calib"])
    return root


def test_export_and_import_bring_collections_and_datasets_to_a_new_repository(commands, data):
    done = commands("butler", "export", "DATA", "out", "metric", "--collections", "chain")
    assert "Exported 3 datasets to out" in done.stdout
    assert "already" in commands("butler", "export", "DATA", "out", "metric", code=1).stderr
    done = commands("butler", "import", "NEW", "out", "--transfer", "copy", "--no-track-file-attrs")
    assert "Imported 3 datasets into NEW" in done.stdout
    assert "Imported 0 datasets" in commands("butler", "import", "NEW", "out", "-t", "copy").stdout
    with Butler(commands.directory / "NEW") as butler:
        assert butler.collections.get_info("chain").children == ("run/1", "HSC/calib")
        got = butler.get("metric", instrument="HSC", visit=903344, detector=2, collections="chain")
        assert got == {"d": 2}


def test_failed_export_and_import_leave_nothing(commands, data):
    commands("butler", "export", "DATA", "out", "metric", "--where", "instrument='HSC' AND vissit=1", code=1)
    assert not (commands.directory / "out").exists()
    done = commands("butler", "import", "NEW", "nowhere", code=1)
    assert "There is no export file" in done.stderr
    assert not (commands.directory / "NEW").exists()


def test_import_skips_dimensions_and_finds_the_export_file(commands, data):
    commands("butler", "export", "DATA", "out", "metric")
    (commands.directory / "out/export.yaml").rename(commands.directory / "elsewhere.yaml")
    options = ("--export-file", "elsewhere.yaml", "-t", "copy")
    done = commands("butler", "import", "NEW", "out", *options, "-s", "detector", code=1)
    assert "detector" in done.stderr
    assert "Imported 3" in commands("butler", "import", "NEW", "out", *options).stdout


def test_calibrations_are_exported_with_their_validity(commands, data):
    done = commands("butler", "export-calibs", "DATA", "calibs", "chain", "--dataset-type", "bias")
    assert done.stdout.split()[:4] == ["calibrationType", "run", "instrument", "detector"]
    assert done.stdout.count("bias") == 2
    commands("butler", "import", "NEW", "calibs", "--transfer", "move")
    with Butler(commands.directory / "NEW") as butler:
        (a, b) = butler.registry.queryDatasetAssociations("bias", "HSC/calib")
        assert a.timespan == b.timespan == exposure_timespan(1)
    done = commands("butler", "export-calibs", "DATA", "other", "run/1", code=1)
    assert "no calibration collection" in done.stderr
    assert not (commands.directory / "other").exists()


def test_datasets_are_transferred_once_and_only_with_their_type(commands, data):
    commands("butler", "create", "OTHER")
    asked = ("transfer-datasets", "DATA", "OTHER", "metr*", "--collections", "chain", "--transfer", "copy")
    where = ("--where", "instrument='HSC' AND detector IN (1, 2)")
    done = commands("butler", *asked, *where, "--dry-run")
    assert "Number of datasets transferred: 2 (not done: --dry-run)" in done.stdout
    done = commands("butler", *asked, *where, code=1)
    assert "metric" in done.stderr
    done = commands("butler", *asked, *where, "--register-dataset-types")
    assert "Number of datasets transferred: 2\n" in done.stdout
    done = commands("butler", *asked, "--limit", "-1", "--order-by", "-detector")
    assert "More datasets are there than the 1 taken" in done.stderr
    assert "Number of datasets transferred: 1\n" in done.stdout
    assert "Number of datasets transferred: 0\n" in commands("butler", *asked).stdout


def test_artifacts_are_retrieved_as_files_or_as_one_zip_file(commands, data):
    asked = ("retrieve-artifacts", "DATA", "out", "-d", "metric", "--collections", "chain")
    done = commands("butler", *asked, "--no-preserve-path", "-v")
    assert "Number of artifacts retrieved into destination out: 3" in done.stdout
    assert done.stdout.count("file://") == 3
    files = sorted((commands.directory / "out").iterdir())
    assert [json.loads(p.read_text())["d"] for p in files] == [1, 2, 3]
    assert "is there already" in commands("butler", *asked, "--no-preserve-path", code=1).stderr
    commands("butler", *asked, "--no-preserve-path", "--clobber")
    done = commands("butler", *asked, "--where", "instrument='HSC' AND detector = 0")
    assert "No datasets matched query." in done.stdout
    done = commands("butler", *asked, "--zip", "--find-first")
    name = done.stdout.split("Zip file written to file://")[1].strip()
    commands("butler", "create", "OTHER")
    done = commands("butler", "ingest-zip", "OTHER", name, "--transfer-dimensions", "--dry-run")
    assert "Ingested 3 datasets" in done.stdout
    commands("butler", "ingest-zip", "OTHER", name, code=1)
    commands("butler", "ingest-zip", "OTHER", name, "--transfer-dimensions", "--transfer", "copy")
    Path(name).unlink()
    with Butler(commands.directory / "OTHER") as butler:
        got = butler.get("metric", instrument="HSC", visit=903344, detector=3, collections="run/1")
        assert got == {"d": 3}
    commands("butler", "check", "OTHER", "--checksums")


TABLES = {
    "t.csv": "file,detector,visit\na.json,1,903334\nb.json,2,903334\nb.json,3,903334\n",
    "t.ecsv": "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: file, datatype: string}\n"
    "# - {name: detector, datatype: int64}\n# - {name: visit, datatype: int64}\n"
    "file detector visit\na.json 1 903334\nb.json 2 903334\nb.json 3 903334\n",
    "t.fits": None,
}


@pytest.mark.parametrize("name", TABLES)
def test_files_of_a_table_are_ingested(commands, data, name):
    place = commands.directory / "files"
    place.mkdir()
    (place / "a.json").write_text('{"x": 1}')
    (place / "b.json").write_text('{"x": 2}')
    if TABLES[name] is None:
        from astropy.table import Table

        rows = Table.read(TABLES["t.csv"], format="ascii.csv")
        rows.write(commands.directory / name)
    else:
        (commands.directory / name).write_text(TABLES[name])
    asked = ("ingest-files", "DATA", "metric", "run/in", name, "--data-id", "instrument=HSC")
    mode = ("--id-generation-mode", "dataid_type_run", "--transfer", "copy", "--no-track-file-attrs")
    done = commands("butler", *asked, "--prefix", "files", *mode)
    assert "Ingested 3 datasets of metric into run/in" in done.stdout
    with Butler(data, collections="run/in") as butler:
        refs = {r.dataId["detector"]: r for r in butler.query_datasets("metric")}
        assert [butler.get(refs[d])["x"] for d in (1, 2, 3)] == [1, 2, 2]
        assert butler.getURI(refs[2]) == butler.getURI(refs[3])
        assert {r.id.version for r in refs.values()} == {5}
    assert "metric" in commands("butler", *asked, "--prefix", "files", *mode, code=1).stderr


def test_every_bad_row_of_a_table_is_named_and_nothing_is_ingested(commands, data):
    (commands.directory / "a.json").write_text("{}")
    (commands.directory / "bad.csv").write_text(
        "file,instrument,visit,detector\n"
        "a.json,HSC,903334,1\n"
        "a.json,HSC,903334,one\n"
        "gone.json,HSC,903334,2\n"
        "a.json,HSC,903334,1\n"
    )
    done = commands("butler", "ingest-files", "DATA", "metric", "run/in", "bad.csv", code=1)
    assert "3 of 4 rows of bad.csv are wrong" in done.stderr
    for text in ("row 2: Dimension 'detector' takes int", "row 3: there is no file", "row 4:"):
        assert text in done.stderr
    (commands.directory / "typo.csv").write_text("file,instrument,visit,detectr\na.json,HSC,903334,1\n")
    done = commands("butler", "ingest-files", "DATA", "metric", "run/in", "typo.csv", code=1)
    assert "no dimension 'detectr'. Did you mean 'detector'?" in done.stderr
    assert "no value for detector" in done.stderr
    done = commands("butler", "ingest-files", "DATA", "metric", "run/in", "none.csv", code=1)
    assert "no table file" in done.stderr
    (commands.directory / "t.csv").write_text("file,instrument,visit,detector\na.json,HSC,903334,77\n")
    done = commands("butler", "ingest-files", "DATA", "metric", "run/in", "t.csv", code=1)
    assert "77" in done.stderr
    with Butler(data) as butler:
        assert "run/in" not in butler.collections.query("*")
