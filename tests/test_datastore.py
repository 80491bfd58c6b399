"""Where files go, how they appear and disappear, and what is left when something fails."""

import os
import pickle
import resource
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from round_trip import make_exposure, make_ref

from butler_dask.datastore.dataset_layout import DatasetLayout
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.datastore.path_template import default_template
from butler_dask.errors import (
    DatasetFileError,
    DatasetTypeError,
    MissingDatasetFileError,
    ReadOnlyRepositoryError,
    RepositoryError,
)
from butler_dask.published_file import is_temporary
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.dataset import DatasetRef, DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType


@pytest.fixture
def datastore(tmp_path):
    store = FileDatastore(str(tmp_path / "store"))
    yield store
    left = [path for path, _ in store.files() if is_temporary(path)]
    assert not left


def _paths(datastore):
    return sorted(path for path, _ in datastore.files())


def test_path_says_run_dataset_type_and_data_id():
    store = FileDatastore("/nowhere")
    assert store.predicted_record(make_ref("ExposureF", name="calexp")).path == (
        "u/someone/run/calexp/HSC/903344/calexp_HSC_903344_5_u_someone_run.fits"
    )
    config = DatasetRef(DatasetType("isr_config", [], "Config"), DataCoordinate.make_empty(), "u/x")
    assert store.predicted_record(config).path == "u/x/isr_config/isr_config_u_x.py"
    warp = DatasetType("warp", ["skymap", "tract", "patch", "visit"], "ExposureF")
    data_id = {"skymap": "rings", "tract": 9813, "patch": 42, "instrument": "HSC", "visit": 5}
    ref = DatasetRef(warp, DataCoordinate.standardize(data_id, dimensions=warp.dimensions), "r")
    assert store.predicted_record(ref).path == "r/warp/HSC/rings/9813/42/warp_HSC_rings_9813_42_5_r.fits"


_VALUES = st.text(min_size=1, max_size=5, alphabet="aB_/. %ü:-")


# The first text ever drawn has Hypothesis tabulate Unicode, which takes seconds on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(values=st.lists(st.tuples(_VALUES, _VALUES, st.integers(0, 9)), min_size=1, max_size=8, unique=True))
def test_column_of_paths_equals_path_of_each_row_and_all_differ(values):
    store = FileDatastore("/nowhere")
    flat = DatasetType("flat", ["detector", "physical_filter"], "ExposureF")
    refs = [
        DatasetRef(
            flat,
            DataCoordinate.standardize(
                {"instrument": instrument, "physical_filter": name, "detector": number},
                dimensions=flat.dimensions,
            ),
            "HSC/calib/curated/2013-01-31T00:00:00",
        )
        for instrument, name, number in values
    ]
    paths = store.predicted_records(DatasetTable.from_refs(flat, refs)).paths
    assert paths == [store.predicted_record(r).path for r in refs]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert os.path.normpath(path) == path
        assert path.startswith("HSC/calib/curated/2013-01-31T00:00:00/flat/")
        assert path.isascii()


def test_rows_of_several_runs_get_the_paths_of_their_runs():
    store = FileDatastore("/nowhere")
    refs = [make_ref("ExposureF", run=run, visit=v) for v, run in enumerate(["a", "b/c", "a", "100%"])]
    table = DatasetTable.from_refs(refs[0].datasetType, refs)
    assert store.predicted_records(table).paths == [store.predicted_record(r).path for r in refs]
    records = store.predicted_records(table)
    assert [records[i] for i in range(4)] == [store.predicted_record(r) for r in refs]


def test_overlong_names_are_cut_and_stay_apart():
    store = FileDatastore("/nowhere")
    run = "u/" + "x" * 100 + "/" + "y" * 180
    paths = [store.predicted_record(make_ref("ExposureF", run=run, detector=d)).path for d in range(3)]
    assert len(set(paths)) == 3
    assert all(len(p.rpartition("/")[2].encode()) <= 240 for p in paths)
    table = DatasetTable.from_refs(
        make_ref("ExposureF").datasetType, [make_ref("ExposureF", run=run, detector=0)]
    )
    assert store.predicted_records(table).paths == paths[:1]


def test_dataset_of_an_overlong_name_is_written(datastore):
    """Its temporary name must not be too long either."""
    ref = make_ref("StructuredDataDict", run="u/" + "x" * 100 + "/" + "y" * 180)
    record = datastore.put({"a": 1}, ref)
    assert len(record.path.rpartition("/")[2]) == 240
    assert datastore.get(record, ref) == {"a": 1}


def test_template_of_the_repository_is_used_and_checked():
    store = FileDatastore(
        "/nowhere", layout=DatasetLayout({"calexp": "{run}/{visit}/{datasetType}-{instrument}-{detector}"})
    )
    assert (
        store.predicted_record(make_ref("ExposureF", name="calexp")).path
        == "u/someone/run/903344/calexp-HSC-5.fits"
    )
    assert store.predicted_record(make_ref("ExposureF", name="icExp")).path.startswith(
        "u/someone/run/icExp/HSC/903344/"
    )
    by_id = FileDatastore("/nowhere", layout=DatasetLayout({"ExposureF": "{id}"}))
    ref = make_ref("ExposureF")
    assert by_id.predicted_record(ref).path == f"{ref.id}.fits"
    wrong = FileDatastore("/nowhere", layout=DatasetLayout({"default": "{run}/{datasetType}/{vist}"}))
    with pytest.raises(DatasetTypeError, match="Did you mean 'visit'"):
        wrong.predicted_record(ref)
    ambiguous = FileDatastore("/nowhere", layout=DatasetLayout({"default": "{run}/{datasetType}/{visit}"}))
    with pytest.raises(DatasetTypeError, match="one path: it lacks instrument, detector"):
        ambiguous.predicted_record(ref)


def test_default_template_is_readable():
    dimensions = DatasetType("x", ["exposure", "detector"], "Exposure").dimensions
    assert default_template(dimensions).text == (
        "{run}/{datasetType}/{instrument}/{exposure}/{datasetType}_{instrument}_{exposure}_{detector}_{run}"
    )


def test_put_again_replaces_and_remove_clears_directories(datastore, tmp_path):
    refs = [make_ref("StructuredDataDict", visit=v) for v in (1, 2)]
    records = [datastore.put({"v": v}, ref) for v, ref in enumerate(refs)]
    records[0] = datastore.put({"v": "new"}, refs[0])
    assert datastore.get(records[0], refs[0]) == {"v": "new"}
    assert _paths(datastore) == sorted(r.path for r in records)
    datastore.remove([records[0].path])
    assert not datastore.exists(records[0].path)
    assert datastore.exists(records[1].path)
    datastore.remove([r.path for r in records])  # one is gone already
    assert os.listdir(tmp_path / "store") == []


def test_missing_file_is_reported_with_dataset_and_uri(datastore):
    ref = make_ref("StructuredDataDict")
    record = datastore.put({}, ref)
    datastore.remove([record.path])
    with pytest.raises(
        MissingDatasetFileError, match=r"thing \{instrument: 'HSC'.*file:///.*thing_HSC"
    ) as caught:
        datastore.get(record, ref)
    assert isinstance(caught.value, FileNotFoundError)
    assert datastore.check(record) == "is missing"


def test_checksum_finds_a_flipped_bit_and_size_a_missing_byte(datastore, tmp_path):
    for algorithm in ("xxh3", "crc32"):
        store = FileDatastore(datastore.root, checksum=algorithm)
        ref = make_ref("ExposureF")
        record = store.put(make_exposure(), ref)
        assert record.checksum.startswith(f"{algorithm}:")
        path = tmp_path / "store" / record.path
        data = bytearray(path.read_bytes())
        data[9000] ^= 4
        path.write_bytes(data)
        assert store.check(record) is None
        assert "has checksum" in store.check(record, checksum=True)
        path.write_bytes(data[:-1])
        assert "bytes" in store.check(record)
    assert (
        FileDatastore(datastore.root, checksum="none").put({}, make_ref("StructuredDataDict")).checksum == ""
    )
    with pytest.raises(RepositoryError, match="Did you mean 'crc32'"):
        FileDatastore(datastore.root, checksum="crc23")


def test_full_disk_is_one_error_and_leaves_nothing(datastore):
    """A limit on file size stands in for a disk that fills up in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DatasetFileError, match=r"Cannot write thing .*visit: 903344.* to file:///"):
            datastore.put(make_exposure((200, 200)), make_ref("ExposureF"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _paths(datastore) == []


def test_object_that_cannot_be_written_leaves_nothing_and_keeps_the_old_file(datastore):
    ref = make_ref("StructuredDataDict")
    record = datastore.put({"old": 1}, ref)
    with pytest.raises(DatasetTypeError):
        datastore.put({"new": object()}, ref)
    assert datastore.get(record, ref) == {"old": 1}
    assert _paths(datastore) == [record.path]


def test_place_that_cannot_be_written_is_a_read_only_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetFileError, match="Not a directory"):
        FileDatastore(str(tmp_path / "file")).put({}, make_ref("StructuredDataDict"))
    with pytest.raises((ReadOnlyRepositoryError, DatasetFileError), match="Cannot write"):
        FileDatastore("/proc/self").put({}, make_ref("StructuredDataDict"))


def test_process_killed_while_writing_leaves_only_a_temporary_file(tmp_path):
    code = """
        import os, sys
        from butler_dask.datastore.storage_root import open_root

        def chunks():
            yield bytes(2880)
            os.kill(os.getpid(), 9)

        open_root(sys.argv[1]).stage("run/thing/thing_1.fits", chunks())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
    )
    assert done.returncode == -9
    left = [path for path, _ in FileDatastore(str(tmp_path)).files()]
    assert len(left) == 1
    assert is_temporary(left[0])


def test_fsync_durability_writes_the_same(tmp_path):
    store = FileDatastore(str(tmp_path), durability="fsync")
    ref = make_ref("StructuredDataDict")
    assert store.get(store.put({"a": 1}, ref), ref) == {"a": 1}
    with pytest.raises(DatasetTypeError, match="Did you mean 'fsync'"):
        FileDatastore(str(tmp_path), durability="fsyn")


@pytest.mark.parametrize(
    "mode", ["auto", "copy", "move", "link", "hardlink", "symlink", "relsymlink", "direct"]
)
def test_every_transfer_mode_makes_the_dataset_readable(tmp_path, mode):
    source = tmp_path / "outside" / "f ü.npy"
    source.parent.mkdir()
    np.save(source, np.arange(5))
    store = FileDatastore(str(tmp_path / "store"))
    ref = make_ref("NumpyArray")
    record = store.ingest(str(source), ref, mode)
    np.testing.assert_array_equal(store.get(record, ref), np.arange(5))
    assert source.exists() == (mode != "move")
    assert record.path == (source.as_uri() if mode == "direct" else store.predicted_record(ref).path)
    assert store.check(record, checksum=True) is None
    assert bool(record.checksum) == (mode == "copy")
    stored = tmp_path / "store" / store.predicted_record(ref).path
    assert stored.is_symlink() == mode.endswith("symlink")
    store.remove([record.path])
    assert source.exists() == (mode != "move"), "what was ingested from elsewhere is not ours to remove"
    if mode != "direct":
        assert not store.exists(record.path)


def test_file_below_the_root_is_ingested_where_it_is(datastore, tmp_path):
    inside = tmp_path / "store" / "given" / "x.json"
    inside.parent.mkdir(parents=True)
    inside.write_text("{}")
    ref = make_ref("StructuredDataDict")
    assert datastore.ingest(str(inside), ref).path == "given/x.json"
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    assert datastore.ingest(str(tmp_path / "alias/given/x.json"), ref, "direct").path == "given/x.json"


def test_ingest_of_nothing_or_by_no_known_mode_says_so(datastore, tmp_path):
    ref = make_ref("StructuredDataDict")
    with pytest.raises(MissingDatasetFileError, match=r"Cannot ingest thing .*no file .*nothing\.json"):
        datastore.ingest(str(tmp_path / "nothing.json"), ref)
    with pytest.raises(DatasetFileError, match="Did you mean 'symlink'"):
        datastore.ingest(str(tmp_path / "nothing.json"), ref, "simlink")


def test_formatter_of_the_repository_is_used(tmp_path):
    own = {"thing": "butler_dask.datastore.document.DocumentFormatter"}
    store = FileDatastore(str(tmp_path), layout=DatasetLayout(formatters=own))
    ref = make_ref("NumpyArray")
    record = store.put(np.arange(2), ref)
    assert record.path.endswith(".json")
    # A datastore without that setting still reads it: the record says by what.
    assert FileDatastore(str(tmp_path)).get(record, ref) == [0, 1]
    ref = make_ref("StructuredDataDict")
    missing = FileDatastore(str(tmp_path), layout=DatasetLayout(formatters={"thing": "no.such.Formatter"}))
    with pytest.raises(
        DatasetTypeError, match=r"Cannot import formatter 'no\.such\.Formatter': there is no module 'no'"
    ):
        missing.put({}, ref)
    older = {"thing": "test_datastore.SixKeywordsFormatter"}
    with pytest.raises(DatasetTypeError, match=r"SixKeywordsFormatter' has no method read\(request\).*path"):
        FileDatastore(str(tmp_path), layout=DatasetLayout(formatters=older)).put("text", ref)


def test_unknown_component_or_parameter_names_the_nearest(datastore):
    ref = make_ref("ExposureF")
    record = datastore.put(make_exposure(), ref)
    with pytest.raises(DatasetTypeError, match=r"no component 'photocalib'.*Did you mean 'photo\w+'"):
        ref.makeComponentRef("photocalib")
    part = replace(record, storage_class="ImageF")
    with pytest.raises(DatasetTypeError, match=r"\(ImageF\) has no component 'wcs'"):
        datastore.get(part, ref.makeComponentRef("wcs"))
    with pytest.raises(DatasetTypeError, match=r"no parameter 'bboks'.*Did you mean 'bbox'"):
        datastore.get(record, ref, parameters={"bboks": (0, 0, 1, 1)})


def test_datastore_survives_pickling(datastore):
    ref = make_ref("StructuredDataDict")
    record = datastore.put({"a": 1}, ref)
    assert pickle.loads(pickle.dumps(datastore)).get(record, ref) == {"a": 1}


@pytest.fixture
def bucket():
    import fsspec

    filesystem = fsspec.filesystem("memory")
    yield FileDatastore("memory://bucket/prefix")
    filesystem.store.clear()


def test_object_store_serves_the_same_interface(bucket, tmp_path):
    exposure, ref = make_exposure(), make_ref("ExposureF")
    record = bucket.put(exposure, ref)
    np.testing.assert_array_equal(bucket.get(record, ref).image, exposure.image)
    assert bucket.get(record, ref.makeComponentRef("photoCalib")) == exposure.photo_calib
    assert bucket.uri(record.path).startswith("memory://bucket/prefix/u/someone/run/thing/")
    assert bucket.check(record, checksum=True) is None
    assert [path for path, _ in bucket.files()] == [record.path]
    source = tmp_path / "x.npy"
    np.save(source, np.ones(3))
    other = make_ref("NumpyArray", name="array")
    for mode in ("auto", "copy", "direct"):
        ingested = bucket.ingest(str(source), other, mode)
        np.testing.assert_array_equal(bucket.get(ingested, other), np.ones(3))
    with pytest.raises(DatasetFileError, match="needs local files"):
        bucket.ingest(str(source), other, "symlink")
    with pytest.raises(MissingDatasetFileError):
        bucket.get(record.moved("no/such.fits"), ref)
    bucket.remove([record.path, "no/such.fits"])
    assert not bucket.exists(record.path)


def test_reader_that_needs_a_local_file_gets_a_copy_of_the_remote_one(bucket):
    ref = make_ref("StructuredData")
    layout = DatasetLayout(formatters={"thing": "test_datastore.LocalOnlyFormatter"})
    store = FileDatastore("memory://bucket/prefix", layout=layout)
    assert store.get(store.put("text", ref), ref) == (True, "text")


class LocalOnlyFormatter:
    """A formatter somebody wrote for local files only."""

    extension = ".txt"

    def chunks(self, obj, storage_class):
        return (obj.encode(),)

    def read(self, request):
        return os.path.isfile(request.path), Path(request.path).read_text()


class SixKeywordsFormatter(LocalOnlyFormatter):
    """One written before there were requests."""

    def read(self, path, *, storage_class, component=None, parameters=None, root="", data_id=None):
        return Path(path).read_text()
