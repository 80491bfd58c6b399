"""What every kind of datastore does alike: files here or far away, memory, and chains of them."""

import pickle
import time

import numpy as np
import pytest
from round_trip import assert_same, make_exposure, make_ref

from butler_dask.datastore.chained_datastore import ChainedDatastore
from butler_dask.datastore.dataset_constraints import DatasetConstraints
from butler_dask.datastore.dataset_layout import DatasetLayout
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.datastore.memory_datastore import MemoryDatastore
from butler_dask.errors import DatasetTypeError, MissingDatasetFileError
from butler_dask.vocabulary.dataset import DatasetTable

KINDS = ("local", "remote", "memory", "memory and files", "two places")


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    import fsspec

    layout, everything = DatasetLayout(), DatasetConstraints()
    memory = MemoryDatastore(f"memory://{tmp_path.name}", layout)
    near = FileDatastore(str(tmp_path / "near"), layout=layout)
    far = FileDatastore("memory://far/away", layout=layout)
    chained = {"memory and files": (memory, near), "two places": (near, far)}.get(request.param)
    if chained is not None:
        yield ChainedDatastore([(member, everything) for member in chained], layout)
    else:
        yield {"local": near, "remote": far, "memory": memory}[request.param]
    memory.remove([path for path, _ in memory.files()])
    fsspec.filesystem("memory").store.clear()


def _paths(store):
    return [path for path, _ in store.files()]


def test_what_is_put_is_had_whole_and_in_parts(store):
    exposure, ref = make_exposure(), make_ref("ExposureF")
    record = store.put(exposure, ref)
    assert_same(exposure, store.get(record, ref))
    assert_same(exposure.photo_calib, store.get(record, ref.makeComponentRef("photoCalib")))
    box = {"bbox": (*exposure.xy0, 3, 2)}
    assert_same(exposure.image[:2, :3], store.get(record, ref.makeComponentRef("image"), parameters=box))
    assert store.get(record, ref, parameters=box).shape == (2, 3)
    np.testing.assert_array_equal(store.get(record, ref, storage_class="NumpyArray"), exposure.image)
    with pytest.raises(DatasetTypeError, match="Did you mean 'bbox'"):
        store.get(record, ref, parameters={"bboks": (0, 0, 1, 1)})


def test_records_are_predicted_for_one_and_for_many(store):
    refs = [make_ref("StructuredDataDict", visit=v) for v in range(3)]
    predicted = [store.predicted_record(ref) for ref in refs]
    table = store.predicted_records(DatasetTable.from_refs(refs[0].datasetType, refs))
    assert list(table) == predicted
    for ref, known in zip(refs, predicted, strict=True):
        record = store.put({"v": 1}, ref)
        assert (record.path, record.storage_class) == (known.path, known.storage_class)
        assert store.get(known, ref) == {"v": 1}


def test_what_is_there_is_told_until_it_is_removed(store):
    refs = [make_ref("StructuredDataDict", visit=v) for v in range(3)]
    began = time.time() - 5
    records = [store.put({"v": 1}, ref) for ref in refs]
    paths = [record.path for record in records]
    assert sorted(_paths(store)) == sorted(paths)
    assert store.exist([*paths, "no/such"]) == [True, True, True, False]
    assert store.exists(paths[0])
    assert began < store.modified(paths[0]) < time.time() + 5
    assert store.uri(paths[0]).endswith(paths[0])
    assert [store.check(record, checksum=True) for record in records] == [None, None, None]
    store.remove([*paths[1:], "no/such"])
    assert _paths(store) == paths[:1]
    assert store.check(records[1])
    with pytest.raises(MissingDatasetFileError, match=r"thing.*HSC"):
        store.get(records[1], refs[1])
    with pytest.raises(MissingDatasetFileError):
        store.modified(paths[1])


def test_what_is_staged_is_there_once_it_is_published(store):
    ref = make_ref("StructuredDataDict")
    staged = store.stage({"v": 1}, ref)
    assert not store.exists(staged.record.path)
    staged.publish()
    assert store.get(staged.record, ref) == {"v": 1}
    staged.retract()
    assert not store.exists(staged.record.path)
    store.stage({"v": 2}, ref).discard()
    assert _paths(store) == []


def test_objects_of_another_kind_are_refused_and_those_that_convert_are_not(store):
    ref = make_ref("StructuredDataList")
    with pytest.raises(DatasetTypeError, match=r"thing \{instrument: 'HSC'.*nothing converts it"):
        store.put(5, ref)
    assert _paths(store) == []
    assert store.get(store.put((1, 2), ref), ref) == [1, 2]


def test_it_is_the_same_after_pickling(store):
    ref = make_ref("StructuredDataDict")
    record = store.put({"v": 1}, ref)
    again = pickle.loads(pickle.dumps(store))
    assert again.get(record, ref) == {"v": 1}
    assert (again.root, again.durability) == (store.root, store.durability)
