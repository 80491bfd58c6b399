"""A repository whose files are in an object store, over HTTP."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from astropy.table import Table
from round_trip import make_exposure

from butler_dask import Butler, DatasetType, FileDataset
from butler_dask.butler.dataset_files import DatasetURI
from butler_dask.butler.repository_check import check_repository, repair_repository
from butler_dask.datastore.file_cache import FileCache
from butler_dask.errors import DatasetFileError, DatasetNotFoundError, MissingDatasetFileError
from butler_dask.vocabulary.dataset import DatasetRef

moto_server = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")

BUCKET = "survey"
DATA_ID = {"instrument": "Cam", "detector": 1}


@pytest.fixture(scope="module")
def server():
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    changed = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    yield changed["AWS_ENDPOINT_URL"]
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    server.stop()


@pytest.fixture
def bucket(server):
    """An empty bucket, as boto3 sees it (not through our own code)."""
    found = boto3.resource("s3", endpoint_url=server).Bucket(BUCKET)
    found.create()
    yield found
    found.objects.all().delete()
    found.delete()


@pytest.fixture
def butler(bucket, tmp_path):
    Butler.makeRepo(tmp_path / "repo", datastore=f"s3://{BUCKET}/data")
    with Butler(tmp_path / "repo", run="u/me") as butler:
        fill(butler)
        yield butler


def fill(butler):
    butler.registry.insertDimensionData("instrument", {"name": "Cam", "detector_max": 10})
    butler.registry.insertDimensionData(
        "detector", *[{"instrument": "Cam", "id": i, "full_name": f"d{i}"} for i in range(5)]
    )
    for name, kind in (("doc", "StructuredDataDict"), ("image", "ExposureF"), ("table", "ArrowAstropy")):
        butler.registry.registerDatasetType(DatasetType(name, ["instrument", "detector"], kind))


def keys(bucket):
    return sorted(o.key for o in bucket.objects.all())


def test_datasets_go_to_the_bucket_and_come_back(butler, bucket):
    exposure = make_exposure()
    refs = [
        butler.put({"a": 1}, "doc", DATA_ID),
        butler.put(exposure, "image", DATA_ID),
        butler.put(Table({"x": [1, 2, 3], "y": [1.5, 2.5, 3.5]}), "table", DATA_ID),
    ]
    assert butler.get("doc", DATA_ID) == {"a": 1}
    np.testing.assert_array_equal(butler.get("image", DATA_ID).image, exposure.image)
    assert butler.get("image.photoCalib", DATA_ID) == exposure.photo_calib
    assert butler.get("table", DATA_ID, parameters={"columns": "y"}).colnames == ["y"]
    uris = [butler.getURI(ref) for ref in refs]
    assert sorted(uri.removeprefix(f"s3://{BUCKET}/") for uri in uris) == keys(bucket)
    assert all(uri.startswith(f"s3://{BUCKET}/data/u/me/") and uri.exists() for uri in uris)
    found = check_repository(butler.repository, checksums=True)
    assert found.is_clean
    assert found.checked == 3
    with Butler(butler.root, collections="u/me") as reader:
        assert reader.get("doc", DATA_ID) == {"a": 1}


def test_removed_datasets_leave_no_object(butler, bucket):
    refs = [butler.put({"d": d}, "doc", DATA_ID, detector=d) for d in range(4)]
    butler.pruneDatasets(refs[:2], purge=True, unstore=True)
    assert len(keys(bucket)) == 2
    butler.pruneDatasets(refs[2:3], unstore=True, disassociate=False)
    assert butler.exists(refs[2]).name == "RECORDED"
    butler.removeRuns("u/me")
    assert keys(bucket) == []


def test_put_that_fails_leaves_nothing(butler, bucket):
    def put_and_fail():
        with butler.transaction():
            butler.put({"a": 1}, "doc", DATA_ID)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        put_and_fail()
    assert keys(bucket) == []
    with pytest.raises(DatasetNotFoundError):
        butler.get("doc", DATA_ID)


def test_missing_object_is_reported_by_get_and_check(butler, bucket):
    ref = butler.put({"a": 1}, "doc", DATA_ID)
    bucket.objects.all().delete()
    assert not butler.exists(ref)
    with pytest.raises(MissingDatasetFileError, match=r"s3://survey/data/u/me/doc"):
        butler.get(ref)
    bucket.put_object(Key="data/u/me/stray.json", Body=b"{}")
    found = check_repository(butler.repository)
    assert [fault.what for fault in found.faults] == ["is missing"]
    assert found.unrecorded == ["u/me/stray.json"]
    repair_repository(butler.repository, found, older_than_s=-10)
    assert keys(bucket) == []


def test_files_are_ingested_and_retrieved(butler, bucket, tmp_path):
    (tmp_path / "one.json").write_text('{"n": 1}')
    ref = DatasetRef(butler.get_dataset_type("doc"), DATA_ID, "u/me")
    butler.ingest(FileDataset(str(tmp_path / "one.json"), [ref]), transfer="copy")
    assert len(keys(bucket)) == 1
    assert butler.get(ref) == {"n": 1}
    bucket.put_object(Key="elsewhere/two.json", Body=b'{"n": 2}')
    outside = DatasetRef(butler.get_dataset_type("doc"), {**DATA_ID, "detector": 2}, "u/me")
    butler.ingest(FileDataset(f"s3://{BUCKET}/elsewhere/two.json", [outside]), transfer="direct")
    assert butler.get(outside) == {"n": 2}
    out = butler.retrieveArtifacts([ref, outside], tmp_path / "out", preserve_path=False)
    assert [DatasetURI(uri).exists() for uri in out] == [True, True]
    butler.removeRuns("u/me")
    assert keys(bucket) == ["elsewhere/two.json"]


def test_local_repository_reads_an_object_ingested_in_place(bucket, tmp_path):
    bucket.put_object(Key="x.json", Body=b'{"n": 3}')
    Butler.makeRepo(tmp_path / "local")
    with Butler(tmp_path / "local", run="u/me") as butler:
        fill(butler)
        ref = DatasetRef(butler.get_dataset_type("doc"), DATA_ID, "u/me")
        butler.ingest(FileDataset(f"s3://{BUCKET}/x.json", [ref]), transfer="direct")
        assert butler.get(ref) == {"n": 3}
        assert butler.getURI(ref) == f"s3://{BUCKET}/x.json"
        assert butler.exists(ref)
        butler.pruneDatasets([ref], purge=True, unstore=True)
    assert keys(bucket) == ["x.json"]


def test_killed_upload_leaves_nothing_recorded_nor_readable(butler, bucket):
    code = textwrap.dedent(
        f"""
        import numpy as np
        from butler_dask import Butler
        from round_trip import make_exposure
        with Butler({butler.root!r}, run="u/me") as butler:
            print("ready", flush=True)
            while True:
                for d in range(5):
                    ref = butler.put(make_exposure(), "image", instrument="Cam", detector=d)
                butler.removeRuns("u/me")
                butler.registry.registerRun("u/me")
        """
    )
    for delay_s in (0.03, 0.1, 0.25):
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])},
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(delay_s)
            child.send_signal(signal.SIGKILL)
        found = check_repository(butler.repository, checksums=True)
        assert found.faults == []


def test_missing_bucket_is_one_clear_error(butler, tmp_path):
    Butler.makeRepo(tmp_path / "other", datastore="s3://nowhere/data")
    with Butler(tmp_path / "other", run="u/me") as other:
        fill(other)
        with pytest.raises(DatasetFileError, match=r"doc .* s3://nowhere/data"):
            other.put({"a": 1}, "doc", DATA_ID)
        assert other.find_dataset("doc", DATA_ID) is None


def test_cut_out_fetches_only_part_of_the_object(butler, caplog):
    image = np.arange(4000 * 4000, dtype=np.float32).reshape(4000, 4000)  # 64 MB
    butler.registry.registerDatasetType(DatasetType("big", ["instrument", "detector"], "ImageF"))
    butler.put(image, "big", DATA_ID)
    caplog.set_level("DEBUG", "s3fs")
    cut = butler.get("big", DATA_ID, parameters={"bbox": (10, 2000, 40, 8)})
    np.testing.assert_array_equal(cut, image[2000:2008, 10:50])
    ranges = re.findall(r"'Range': 'bytes=(\d+)-(\d+)'", caplog.text)
    assert ranges
    assert sum(int(last) - int(first) for first, last in ranges) < 10e6


class TestCache:
    """Local copies of remote files."""

    @pytest.fixture
    def cached(self, bucket, tmp_path):
        settings = {"root": f"s3://{BUCKET}/data", "cache": {"directory": str(tmp_path / "cache")}}
        Butler.makeRepo(tmp_path / "repo", datastore=settings)
        with Butler(tmp_path / "repo", run="u/me") as butler:
            fill(butler)
            yield butler

    def test_second_reading_needs_no_store(self, cached, bucket, tmp_path):
        ref = cached.put(make_exposure(), "image", DATA_ID)
        image = cached.get(ref).image
        bucket.objects.all().delete()
        np.testing.assert_array_equal(cached.get(ref.makeComponentRef("image")), image)
        files = [p for p in (tmp_path / "cache").iterdir() if p.is_file()]
        assert [p.suffix for p in files] == [".fits"]
        assert list((tmp_path / "cache" / "in-use").iterdir()) == []

    def test_dataset_written_anew_is_read_anew(self, cached):
        ref = cached.put({"a": 1}, "doc", DATA_ID)
        assert cached.get("doc", DATA_ID) == {"a": 1}
        cached.pruneDatasets([ref], purge=True, unstore=True)
        cached.put({"a": 2}, "doc", DATA_ID)
        assert cached.get("doc", DATA_ID) == {"a": 2}

    def test_what_was_used_longest_ago_is_dropped_first(self, butler, tmp_path, monkeypatch):
        monkeypatch.setenv("DAF_BUTLER_CACHE_DIRECTORY", str(tmp_path / "cache"))
        monkeypatch.setenv("DAF_BUTLER_CACHE_EXPIRATION_MODE", "files=2")
        with Butler(butler.root, run="u/me") as cached:
            refs = [cached.put({"d": d}, "doc", DATA_ID, detector=d) for d in range(3)]
            cached.get(refs[0])
            cached.get(refs[1])
            cached.get(refs[0])
            cached.get(refs[2])
            kept = [p.read_text() for p in (tmp_path / "cache").iterdir() if p.is_file()]
            assert sorted(kept) == ['{"d": 0}', '{"d": 2}']

    def test_local_repository_has_no_use_for_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DAF_BUTLER_CACHE_DIRECTORY", str(tmp_path / "cache"))
        Butler.makeRepo(tmp_path / "local")
        with Butler(tmp_path / "local", run="u/me") as local:
            fill(local)
            assert local.get(local.put({"a": 1}, "doc", DATA_ID)) == {"a": 1}
        assert not (tmp_path / "cache").exists()

    def test_processes_share_it_while_it_is_emptied(self, butler, tmp_path, monkeypatch):
        refs = [butler.put({"d": d}, "doc", DATA_ID, detector=d) for d in range(5)]
        assert len(refs) == 5
        code = textwrap.dedent(
            f"""
            from butler_dask import Butler
            with Butler({butler.root!r}, collections="u/me") as butler:
                for _ in range(8):
                    for d in range(5):
                        assert butler.get("doc", instrument="Cam", detector=d) == {{"d": d}}
            """
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DAF_BUTLER_CACHE_DIRECTORY": str(tmp_path / "cache"),
            "DAF_BUTLER_CACHE_EXPIRATION_MODE": "size=10",  # bytes: every copy drives out another
        }
        children = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [child.wait() for child in children] == [0, 0]

    def test_abandoned_copies_go(self, tmp_path):
        cache = FileCache(str(tmp_path), "files", 10)
        (tmp_path / "in-use").mkdir()
        left = tmp_path / "in-use" / "1-x.json"
        left.write_text("{}")
        cache.expire()
        assert left.exists()  # it may be in use
