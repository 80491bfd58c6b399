"""Parts of repositories on the move: export files, the reference's among them, and direct transfer."""

import io
import uuid

import pytest
import yaml
from registry_fixtures import SERVER, drop, new_url
from round_trip import make_exposure
from small_repository import exposure_timespan, fill_repository

from butler_dask import (
    Butler,
    CollectionType,
    ConflictingDefinitionError,
    DatasetType,
    FormatVersionError,
    ReadOnlyRepositoryError,
    RepositoryError,
)
from butler_dask.butler.export_file import read_export, write_export

ID = {"instrument": "HSC", "visit": 903344, "detector": 5}


_SERVERS = [("sqlite", "postgresql"), ("postgresql", "sqlite")] if SERVER else []
PAIRS = [("sqlite", "sqlite"), *(pytest.param(p, marks=pytest.mark.postgresql) for p in _SERVERS)]
both_databases = pytest.mark.parametrize("databases", PAIRS, ids="-to-".join)


@pytest.fixture
def databases():
    """Kinds of database of the repository data come from and of the one they go to."""
    return ("sqlite", "sqlite")


@pytest.fixture
def places(databases, tmp_path):
    urls = []
    for name, kind in zip(("SOURCE", "EMPTY"), databases, strict=True):
        where = {}
        if kind != "sqlite":
            where["registry"] = new_url(kind, tmp_path)
            urls.append(where["registry"])
        Butler.makeRepo(tmp_path / name, **where)
    yield tmp_path / "SOURCE", tmp_path / "EMPTY"
    for url in urls:
        drop(url)


@pytest.fixture
def source(places):
    fill_repository(places[0])
    with Butler(places[0], run="run/1") as butler:
        refs = [butler.put({"d": d}, "metric", ID, detector=d) for d in (1, 2)]
        butler.put(make_exposure(), "calexp", ID)
        butler.registry.associate("tagged", refs)
        bias = butler.put({"bias": 1}, "bias", instrument="HSC", detector=5)
        butler.registry.certify("HSC/calib", [bias], exposure_timespan(2))
        butler.collections.register("chain", CollectionType.CHAINED, "everything")
        butler.collections.redefine_chain("chain", ["run/1", "HSC/calib"])
        yield butler


@pytest.fixture
def empty(places):
    with Butler(places[1], writeable=True) as butler:
        yield butler


def _export(source, **how):
    with source.export(**how) as export:
        export.saveDatasets(source.query_all_datasets("run/1"))
        for name in ("tagged", "HSC/calib", "chain"):
            export.saveCollection(name)


@both_databases
@pytest.mark.parametrize(
    ("out", "into"), [("copy", "copy"), ("copy", "move"), ("symlink", "auto"), (None, "direct")]
)
def test_exported_part_is_the_same_in_another_repository(source, empty, tmp_path, out, into):
    directory = tmp_path / "out"
    _export(source, directory=directory, transfer=out)
    place = directory if out else source.root
    refs = empty.import_(directory=place, filename=directory / "export.yaml", transfer=into)
    assert len(refs) == 4
    mine = {r.id: r for r in source.query_all_datasets("run/1")}
    theirs = {r.id: r for r in empty.query_all_datasets("run/1")}
    assert mine == theirs
    for ref in mine.values():
        assert empty.exists(ref)
    assert empty.get("metric", ID, detector=2, collections="chain") == {"d": 2}
    assert empty.get("bias", visit=903344, detector=5, collections="HSC/calib") == {"bias": 1}
    assert empty.find_dataset("bias", ID, timespan=exposure_timespan(0), collections="HSC/calib") is None
    assert len(empty.query_datasets("metric", "tagged")) == 2
    assert empty.collections.get_info("chain").children == ("run/1", "HSC/calib")
    assert empty.collections.get_info("chain").doc == "everything"
    (record,) = empty.query_dimension_records("visit", instrument="HSC")
    (original,) = source.query_dimension_records("visit", visit=903344, instrument="HSC")
    assert record == original
    # Once more changes nothing.
    assert empty.import_(directory=place, filename=directory / "export.yaml", transfer="copy") == []
    assert len(empty.query_all_datasets("run/1")) == 4


ODD_TEXTS = [
    "a.json",
    "a b: c # d.json",
    'it\'s "quoted".json',
    "two\n lines\t.json",
    "ä/é🙂.json",
    "- x",
    "2024-01-01",
    "1e3",
    "0x1F",
    "012",
    "~",
    "Null",
    "NO",
    "y",
    "=",
    "<<",
    "12:30",
    "file:///a%20b#c.json",
    "x" * 300 + " " + "y" * 300,
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_texts_that_look_like_something_else_stay_texts(text):
    ids = [uuid.uuid4(), uuid.uuid4()]
    data_ids = [{"instrument": text, "visit": 10}, {}]
    record = {"dataset_id": ids, "data_id": data_ids, "path": text, "formatter": None}
    entry = {"type": "dataset", "dataset_type": "metric", "run": text, "records": [record, record]}
    stream = io.StringIO()
    write_export([entry, {"type": "collection", "name": text}], stream)
    back = read_export(io.BytesIO(stream.getvalue().encode()), "it")
    assert back == [entry, {"type": "collection", "name": text}]


def test_export_of_nothing_is_read_as_nothing():
    stream = io.StringIO()
    write_export([], stream)
    assert read_export(io.BytesIO(stream.getvalue().encode()), "it") == []


def test_anchors_merges_and_tags_of_other_writers_are_understood():
    text = """
version: 1.0.2
universe_version: 7
data:
- {type: collection, name: &n r, more: {<<: &m {a: 1, b: 0x10}, c: 012, 3: [*n, *m, ~, yes, 1.5]}}
- !!map {type: !!str 12, id: !uuid 'c5bf5d0e-3a4a-4d2a-9c53-1b9d6f8d5b11', all: &all [*n, *n], again: *all}
"""
    first, second = read_export(io.BytesIO(text.encode()), "it")
    assert first["more"] == {"a": 1, "b": 16, "c": 10, 3: ["r", {"a": 1, "b": 16}, None, True, 1.5]}
    assert second["id"] == uuid.UUID("c5bf5d0e-3a4a-4d2a-9c53-1b9d6f8d5b11")
    assert (second["type"], second["again"]) == ("12", ["r", "r"])


def test_export_file_has_the_reference_s_form(source, tmp_path):
    _export(source, filename=tmp_path / "e.yaml")
    text = (tmp_path / "e.yaml").read_text()
    ref = source.find_dataset("metric", ID, detector=1)
    assert f"!uuid {ref.id}" in text.replace("'", "")
    assert "datetime_begin: !butler_time/tai/iso 2013-06-19 13:30:00.000000000" in text.replace("'", "")
    assert "timespan: !lsst.daf.butler.Timespan" in text
    assert "formatter: lsst.daf.butler.formatters.json.JsonFormatter" in text
    document = yaml.load(text, Loader=yaml.BaseLoader)
    assert document["description"] == "Butler Data Repository Export"
    assert document["version"] == "1.0.2"
    assert document["universe_namespace"] == "daf_butler"
    elements = [e["element"] for e in document["data"] if e["type"] == "dimension"]
    assert elements == [
        "instrument",
        "day_obs",
        "detector",
        "group",
        "physical_filter",
        "exposure",
        "visit",
        "visit_definition",
    ]
    types = [e["type"] for e in document["data"]]
    assert [t for t in dict.fromkeys(types)] == [
        "dimension",
        "collection",
        "dataset_type",
        "dataset",
        "associations",
    ]


THEIRS = """
description: Butler Data Repository Export
version: 0
data:
- type: dimension
  element: instrument
  records:
  - {name: HSC, visit_max: 21474800, exposure_max: 21474800, detector_max: 200, class_name: x.HyperSuprimeCam}
- type: dimension
  element: physical_filter
  records: [{instrument: HSC, name: HSC-R, band: r}]
- type: dimension
  element: detector
  records: [{instrument: HSC, id: 22, full_name: '1_22', name_in_raft: '22', raft: '1', purpose: SCIENCE}]
- type: dimension
  element: visit_system
  records: [{instrument: HSC, id: 0, name: one-to-one}]
- type: dimension
  element: visit
  records:
  - instrument: HSC
    id: 903334
    physical_filter: HSC-R
    visit_system: 0
    name: HSCA90333400
    day_obs: 20130617
    exposure_time: 30.0
    datetime_begin: !butler_time/tai/iso '2013-06-17 13:33:06.000000000'
    datetime_end: !butler_time/tai/iso '2013-06-17 13:33:36.000000000'
    region: !<lsst.sphgeom.ConvexPolygon>
      encoded: {polygon}
- type: dimension
  element: exposure
  records:
  - {instrument: HSC, id: 903334, physical_filter: HSC-R, obs_id: HSCA90333400, exposure_time: 30.0,
     group_name: '903334', group_id: 903334, day_obs: 20130617, seq_num: 1,
     datetime_begin: 2013-06-17 13:32:31, datetime_end: 2013-06-17 13:33:01}
- type: run
  name: run
- type: collection
  collection_type: CALIBRATION
  name: calib
- type: dataset_type
  name: facts
  dimensions: [instrument, band, physical_filter, visit_system, visit, detector]
  storage_class: StructuredDataDict
  is_calibration: true
- type: dataset
  dataset_type: facts
  run: run
  records:
  - dataset_id: [7]
    data_id: [{instrument: HSC, visit: 903334, visit_system: 0, detector: 22}]
    path: facts.yaml
    formatter: lsst.daf.butler.formatters.yaml.YamlFormatter
- type: associations
  collection: calib
  collection_type: CALIBRATION
  validity_ranges:
  - {begin: !butler_time/tai/iso '2013-06-01 00:00:00', end: null, dataset_ids: [7]}
"""


def test_old_export_file_of_the_reference_is_taken_in(empty, tmp_path):
    """Regions, integer ids, times in UTC, days and groups that were no dimensions yet."""
    from lsst.sphgeom import ConvexPolygon, UnitVector3d

    corners = [UnitVector3d(1, 0, 0), UnitVector3d(0.99, 0.1, 0), UnitVector3d(0.99, 0.1, 0.1)]
    polygon = ConvexPolygon(corners).encode().hex()
    text = (
        THEIRS.replace("{polygon}", polygon)
        .replace("visit_system, visit", "visit")
        .replace("visit_system: 0, detector", "detector")
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in/export.yaml").write_text(text)
    (tmp_path / "in/facts.yaml").write_text("{a: [1, 2]}")
    (ref,) = empty.import_(directory=tmp_path / "in", transfer="copy")
    assert ref.id == uuid.uuid3(uuid.UUID("4d4851f4-2890-4d41-8779-5f38a3f5062b"), "7")
    assert empty.get(ref) == {"a": [1, 2]}
    assert empty.get("facts", visit=903334, detector=22, instrument="HSC", collections="calib") == {
        "a": [1, 2]
    }
    (visit,) = empty.query_dimension_records("visit", instrument="HSC")
    assert visit.region.encode().hex() == polygon
    assert visit.timespan.begin.isot == "2013-06-17T13:33:06.000"
    (exposure,) = empty.query_dimension_records("exposure", instrument="HSC")
    assert exposure.group == "903334"
    assert exposure.timespan.begin.utc.isot == "2013-06-17T13:32:31.000"
    assert [r.id for r in empty.query_dimension_records("day_obs", instrument="HSC")] == [20130617]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a: [", RepositoryError, "not a readable export file"),
        ("text", RepositoryError, "not an export file"),
        ("{version: 2.0.0, data: []}", FormatVersionError, "2.0.0"),
        ("{version: 1.0.2, data: [{type: wishes}]}", RepositoryError, "unknown type 'wishes'"),
        ("{version: 1.0.2, data: [{type: dataset, run: r}]}", RepositoryError, "lacks 'dataset_type'"),
    ],
)
def test_file_that_is_no_export_is_refused(empty, tmp_path, text, error, message):
    (tmp_path / "export.yaml").write_text(text)
    with pytest.raises(error, match=message):
        empty.import_(filename=tmp_path / "export.yaml")
    with pytest.raises(RepositoryError, match="There is no export file"):
        empty.import_(directory=tmp_path / "nowhere")


def test_import_that_fails_changes_nothing(source, empty, tmp_path):
    _export(source, directory=tmp_path / "out", transfer="copy")
    empty.registry.registerDatasetType(DatasetType("metric", ["visit"], "StructuredDataDict"))
    with pytest.raises(ConflictingDefinitionError, match="metric"):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    assert empty.collections.query("*") == []
    assert empty.query_dimension_records("detector", explain=False) == []
    assert not [p for p, _ in empty.datastore.files() if p.startswith("run")]


@both_databases
def test_transfer_from_another_repository_keeps_ids_and_objects(source, empty):
    refs = source.query_all_datasets("run/1")
    assert len(empty.transfer_from(source, refs, dry_run=True)) == 4
    taken = empty.transfer_from(
        source, refs, transfer="copy", register_dataset_types=True, transfer_dimensions=True
    )
    assert set(taken) == set(refs)
    assert empty.get("metric", ID, detector=1, collections="run/1") == {"d": 1}
    assert empty.get("calexp.photoCalib", ID, collections="run/1") == make_exposure().photo_calib
    assert empty.transfer_from(source, refs, register_dataset_types=True) == []
    with Butler(empty.root) as reader, pytest.raises(ReadOnlyRepositoryError):
        reader.transfer_from(source, refs)
