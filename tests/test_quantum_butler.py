"""What one quantum can read and write."""

import numpy as np
import pytest
from round_trip import make_exposure, make_ref, make_table

from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.engine.quantum_butler import QuantumButler
from butler_dask.errors import DatasetNotFoundError, DatasetTypeError, MissingDatasetFileError


@pytest.fixture
def datastore(tmp_path):
    return FileDatastore(str(tmp_path))


def test_inputs_are_read_and_outputs_written_and_both_are_noted(datastore):
    raw, out = make_ref("ExposureF", name="raw"), make_ref("ExposureF", name="postISRCCD")
    butler = QuantumButler(datastore, {raw.id: datastore.put(make_exposure(), raw)}, {out.id: out})
    exposure = butler.get(raw)
    assert butler.put(exposure, out) == out
    assert butler.read == {raw.id}
    assert list(butler.written) == [out.id]
    assert butler.written[out.id].size > 0
    np.testing.assert_array_equal(butler.get(out).image, exposure.image)
    assert butler.get(raw.makeComponentRef("wcs")).has_sip
    assert butler.get(raw, parameters={"bbox": (1000, -20, 3, 2)}).shape == (2, 3)
    assert butler.get(raw, storageClass="NumpyArray").shape == exposure.shape


def test_handles_read_when_asked(datastore):
    ref = make_ref("SourceCatalog")
    record = datastore.predicted_record(ref)
    handle = QuantumButler(datastore, {ref.id: record}, {}).getDeferred(ref)
    with pytest.raises(MissingDatasetFileError):
        handle.get()
    datastore.put(make_table(), ref)
    assert handle.dataId["visit"] == 903344
    assert len(handle.get()) == 7
    assert handle.get(component="rowcount") == 7
    assert handle.get(parameters={"columns": ["id"]}).colnames == ["id"]


def test_what_is_not_of_this_quantum_is_refused(datastore):
    ref = make_ref("StructuredDataDict")
    butler = QuantumButler(datastore, {}, {})
    with pytest.raises(DatasetNotFoundError, match=r"thing .* is no input of this quantum"):
        butler.get(ref)
    with pytest.raises(DatasetNotFoundError, match="is no input"):
        butler.getDeferred(ref)
    with pytest.raises(DatasetTypeError, match="is no output of this quantum"):
        butler.put({}, ref)
    assert list(datastore.files()) == []


def test_object_in_memory_is_a_snapshot_of_what_was_put(datastore):
    """Neither its maker nor a reader who changes it changes what the next one reads."""
    ref = make_ref("ExposureF")
    memory = {}
    maker = QuantumButler(datastore, {}, {ref.id: ref}, memory=memory)
    exposure = make_exposure()
    truth = exposure.image.copy()
    maker.put(exposure, ref)
    exposure.image[:] = 0
    reader = QuantumButler(datastore, {ref.id: datastore.predicted_record(ref)}, {}, memory=memory)
    for _ in range(2):
        got = reader.get(ref)
        np.testing.assert_array_equal(got.image, truth)
        got.image[:] = -1
        got.mask.array[:] = -1
    np.testing.assert_array_equal(reader.get(ref.makeComponentRef("image")), truth)
    assert reader.get(ref.makeComponentRef("bbox")) == [1000, -20, 48, 64]
    np.testing.assert_array_equal(
        reader.get(ref, parameters={"bbox": (1000, -20, 2, 2)}).image, truth[:2, :2]
    )


def test_last_reader_gets_the_object_itself(datastore):
    ref, table_ref = make_ref("ExposureF"), make_ref("SourceCatalog", name="src")
    memory = {}
    maker = QuantumButler(datastore, {}, {r.id: r for r in (ref, table_ref)}, memory=memory, kept={ref.id})
    maker.put(make_exposure(), ref)
    maker.put(make_table(), table_ref)
    assert list(memory) == [ref.id]
    kept = memory[ref.id]
    reader = QuantumButler(
        datastore, {ref.id: datastore.predicted_record(ref)}, {}, memory=memory, last_uses={ref.id}
    )
    assert reader.get(ref) is kept
    assert memory == {}
    np.testing.assert_array_equal(reader.get(ref).image, kept.image)  # from the file now


def test_object_from_memory_equals_the_one_from_the_file(datastore):
    refs = {
        make_ref("ArrowAstropy", name="a"): make_table(),
        make_ref("StructuredDataDict", name="b"): {"x": [1, 2]},
        make_ref("NumpyArray", name="c"): np.arange(4.0),
    }
    memory = {}
    outputs = {r.id: r for r in refs}
    maker = QuantumButler(datastore, {}, outputs, memory=memory)
    for ref, obj in refs.items():
        maker.put(obj, ref)
    with_memory = QuantumButler(datastore, maker.written, {}, memory=memory)
    without = QuantumButler(datastore, maker.written, {})
    for ref in refs:
        a, b = with_memory.get(ref), without.get(ref)
        assert type(a) is type(b)
        assert str(a) == str(b)
    table_ref = next(iter(refs))
    for component in ("rowcount", "columns", "schema"):
        part = table_ref.makeComponentRef(component)
        assert with_memory.get(part) == without.get(part)
