"""Saved quantum graphs: everything comes back, and a bad file says what is wrong with it."""

import os
import pathlib
import random
import struct
from contextlib import suppress

import numpy as np
import pytest
from graph_draft import GraphDraft

from butler_dask.errors import ButlerUserError, DatasetFileError, FormatVersionError
from butler_dask.graph.graph_file import read_graph, write_graph
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.graph.string_column import StringColumn
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileRecord

DIMENSIONS = ("instrument", "exposure", "detector")


def make_graph(detectors: int = 3) -> QuantumGraph:
    draft = GraphDraft("u/me/run", output="u/me", inputs=("HSC/raw/all",))
    raw = DatasetType("raw", DIMENSIONS, "Exposure")
    draft.add_dataset_type("flattened", DIMENSIONS, "Exposure")
    draft.add_task("isr", "m.IsrTask", DIMENSIONS, "config.doDark=False\n")
    for detector in range(detectors):
        key = {"instrument": "HSC", "exposure": 903344, "detector": detector}
        file = FileRecord(f"raw/R{detector}-\u03b1.fits", "m.RawFormatter", "Exposure", 10, "crc32:0a")
        draft.add_existing(DatasetRef(raw, key, "HSC/raw/all"), file)
        inputs, outputs = {"ccdExposure": [("raw", key)]}, {"outputExposure": [("flattened", key)]}
        draft.add_quantum("isr", key, inputs, outputs)
    return draft.finish(where="exposure=903344", bind={"x": 1})


@pytest.mark.parametrize("mmap", [True, False])
def test_a_graph_read_back_is_the_graph_written(tmp_path: pathlib.Path, mmap: bool) -> None:
    graph = make_graph()
    path = tmp_path / "plan.qgraph"
    assert write_graph(graph, path) == path.stat().st_size
    copy = read_graph(path, mmap=mmap)
    for name in ("run", "output", "inputs", "init_inputs", "init_outputs", "plan_id", "metadata"):
        assert getattr(copy, name) == getattr(graph, name)
    assert [copy.quantum(i) for i in range(len(copy))] == [graph.quantum(i) for i in range(len(graph))]
    assert [copy.quantum(i).inputs["raw"] for i in range(3)] == [
        graph.quantum(i).inputs["raw"] for i in range(3)
    ]
    assert [copy.file_record(i) for i in range(copy.n_datasets)] == [
        graph.file_record(i) for i in range(graph.n_datasets)
    ]
    assert copy.tasks[0].config_text == "config.doDark=False\n"
    assert np.array_equal(copy.producer, graph.producer)


def test_a_graph_can_be_written_again_after_reading(tmp_path: pathlib.Path) -> None:
    write_graph(make_graph(), tmp_path / "a")
    write_graph(read_graph(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_writing_leaves_no_other_file_behind(tmp_path: pathlib.Path) -> None:
    write_graph(make_graph(), tmp_path / "plan.qgraph")
    assert os.listdir(tmp_path) == ["plan.qgraph"]


def test_an_empty_graph_can_be_saved(tmp_path: pathlib.Path) -> None:
    write_graph(make_graph(0), tmp_path / "plan.qgraph")
    assert len(read_graph(tmp_path / "plan.qgraph")) == 0


def test_other_files_are_refused_by_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(FormatVersionError, match="is not a quantum graph"):
        read_graph(path)
    with pytest.raises(DatasetFileError, match=r"missing.*cannot be read: No such file"):
        read_graph(tmp_path / "missing")
    with pytest.raises(DatasetFileError, match="could not be written"):
        write_graph(make_graph(), tmp_path / "no" / "directory")


def test_later_versions_are_refused_with_the_way_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "plan.qgraph"
    write_graph(make_graph(), path)
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 99)
    path.write_bytes(data)
    with pytest.raises(FormatVersionError, match=r"version 99.*pipetask qgraph"):
        read_graph(path)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9])
def test_files_cut_short_are_noticed(tmp_path: pathlib.Path, fraction: float) -> None:
    path = tmp_path / "plan.qgraph"
    size = write_graph(make_graph(50), path)
    os.truncate(path, int(size * fraction))
    with pytest.raises(DatasetFileError, match="cut short"):
        read_graph(path)


def test_a_file_of_version_1_can_be_read() -> None:
    graph = read_graph(pathlib.Path(__file__).parent / "data" / "quantum_graph_v1.qgraph")
    assert graph.summary() == "QuantumGraph contains 2 quanta for 1 tasks"
    quantum = graph.quantum(1)
    assert dict(quantum.dataId.required) == {"instrument": "HSC", "exposure": 903344, "detector": 1}
    assert [f.path for f in graph.input_files(1).values()] == ["raw/R1-\u03b1.fits"]
    assert quantum.outputs["flattened"][0].run == "u/me/run"
    assert [i.ref.datasetType.name for i in graph.init_outputs] == ["isr_config", "packages"]


def test_string_columns_take_rows_as_lists_do() -> None:
    texts = ["", "abc", "\u03b1\u03b2", "d", ""]
    column = StringColumn.from_strings(texts)
    assert list(column) == texts
    assert column[-2] == "d"
    assert list(column.take(np.array([2, 0, 2, 4, 1]))) == ["\u03b1\u03b2", "", "\u03b1\u03b2", "", "abc"]
    assert column[1:3] == texts[1:3]
    with pytest.raises(IndexError):
        column[5]


def _mutations(whole: bytes, count: int, seed: int) -> list[bytes]:
    generator = random.Random(seed)
    out = []
    for n in range(count):
        data = bytearray(whole)
        # Half of them in the prefix and the header, where all is told.
        end = min(len(data), 24 + int.from_bytes(whole[16:24], "little")) if n % 2 else len(data)
        for _ in range(generator.choice((1, 1, 2, 20))):
            data[generator.randrange(end)] = generator.randrange(256)
        if n % 10 == 9:
            del data[generator.randrange(len(data)) :]
        out.append(bytes(data))
    return out


def _everything_of(graph: QuantumGraph) -> object:
    return (
        [graph.quantum(row) for row in range(len(graph))],
        [graph.file_record(row) for row in range(graph.n_datasets)],
        [(name, dict(rows)) for name, rows in graph.records.items()],
        (graph.run, graph.output, graph.inputs, graph.init_inputs, graph.init_outputs, graph.pipeline),
        [(t.label, t.task_class_name, t.config_text) for t in graph.tasks],
        graph.dependency_csr(),
    )


def test_a_changed_file_is_the_graph_written_or_one_error(tmp_path: pathlib.Path) -> None:
    write_graph(make_graph(5), tmp_path / "plan.qgraph")
    expected = repr(_everything_of(read_graph(tmp_path / "plan.qgraph")))
    refused = 0
    for data in _mutations((tmp_path / "plan.qgraph").read_bytes(), 600, 1):
        (tmp_path / "changed").write_bytes(data)
        try:
            graph = read_graph(tmp_path / "changed")
        except (DatasetFileError, FormatVersionError) as error:
            refused += str(tmp_path / "changed") in str(error)
        else:  # what was changed lies between the arrays
            assert repr(_everything_of(graph)) == expected
    assert refused > 400


def test_a_changed_file_of_version_1_is_refused_or_can_be_looked_at(tmp_path: pathlib.Path) -> None:
    """It has no checksums: a name may be another one, but no row leads nowhere."""
    whole = (pathlib.Path(__file__).parent / "data" / "quantum_graph_v1.qgraph").read_bytes()
    for data in _mutations(whole, 600, 2):
        (tmp_path / "changed").write_bytes(data)
        with suppress(ButlerUserError):
            graph = read_graph(tmp_path / "changed")
            len(graph), graph.n_datasets, graph.dependency_csr(), graph.counts(), graph.summary()


def test_a_worker_notices_a_changed_header(tmp_path: pathlib.Path) -> None:
    write_graph(make_graph(), tmp_path / "plan.qgraph")
    data = bytearray((tmp_path / "plan.qgraph").read_bytes())
    data[data.index(b"u/me/run")] = ord("v")
    (tmp_path / "plan.qgraph").write_bytes(data)
    with pytest.raises(DatasetFileError, match=r"damaged: its header.*pipetask qgraph"):
        read_graph(tmp_path / "plan.qgraph", check=False)
