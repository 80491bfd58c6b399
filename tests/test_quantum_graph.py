"""QuantumGraph: rows, edges and the objects made from them."""

import itertools
import pickle

import numpy as np
import pytest
from graph_draft import GraphDraft

from butler_dask.errors import ButlerUserError
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileRecord

DIMENSIONS = ("instrument", "exposure", "detector")


def data_id(detector: int) -> dict[str, object]:
    return {"instrument": "HSC", "exposure": 903344, "detector": detector}


@pytest.fixture
def graph() -> QuantumGraph:
    """Two detectors through isr and calibrate, and one task that reads both detectors."""
    draft = GraphDraft("u/me/run", output="u/me", inputs=("HSC/raw/all",))
    raw = DatasetType("raw", DIMENSIONS, "Exposure")
    for name, kind in (("flattened", "Exposure"), ("calexp", "ExposureF"), ("mosaic", "StructuredDataDict")):
        draft.add_dataset_type(name, DIMENSIONS[: 2 if name == "mosaic" else 3], kind)
    draft.add_task("isr", "m.IsrTask", DIMENSIONS, "config.doDark=False\n")
    draft.add_task("calibrate", "m.CalibrateTask", DIMENSIONS)
    draft.add_task("mosaic", "m.MosaicTask", DIMENSIONS[:2])
    for detector in (5, 6):
        key = data_id(detector)
        ref = DatasetRef(raw, key, "HSC/raw/all")
        draft.add_existing(ref, FileRecord(f"raw{detector}.fits", "m.RawFormatter", "Exposure", 10))
        draft.add_quantum(
            "isr", key, {"ccdExposure": [("raw", key)]}, {"outputExposure": [("flattened", key)]}
        )
        draft.add_quantum("calibrate", key, {"exposure": [("flattened", key)]}, {"output": [("calexp", key)]})
    draft.add_quantum(
        "mosaic",
        data_id(5),
        {"calexps": [("calexp", data_id(d)) for d in (5, 6)]},
        {"mosaic": [("mosaic", data_id(5))]},
    )
    return draft.finish(where="detector IN (5, 6)")


def test_summary_is_the_line_users_know(graph: QuantumGraph) -> None:
    assert graph.summary() == "QuantumGraph contains 5 quanta for 3 tasks"
    assert graph.counts() == {"isr": 2, "calibrate": 2, "mosaic": 1}
    assert len(graph) == 5


def test_quanta_are_grouped_by_task_in_order(graph: QuantumGraph) -> None:
    assert [q.taskLabel for q in graph] == ["isr", "isr", "calibrate", "calibrate", "mosaic"]


def test_quantum_has_its_datasets_by_type_and_by_connection(graph: QuantumGraph) -> None:
    quantum = graph.quantum(graph.quantum_row("isr", data_id(6)))
    (raw,) = quantum.inputs["raw"]
    assert dict(raw.dataId.required) == data_id(6)
    assert quantum.inputs_by_connection["ccdExposure"] == [raw]
    assert set(quantum.outputs.names) == {"flattened", "isr_metadata", "isr_log"}
    assert all(r.run == "u/me/run" for refs in quantum.outputs.values() for r in refs)
    assert quantum.metadata_ref == quantum.outputs["isr_metadata"][0]
    assert quantum.log_ref == quantum.outputs["isr_log"][0]


def test_quanta_that_share_a_dataset_share_its_id(graph: QuantumGraph) -> None:
    made = graph.quantum(graph.quantum_row("isr", data_id(5))).outputs["flattened"][0]
    read = graph.quantum(graph.quantum_row("calibrate", data_id(5))).inputs["flattened"][0]
    assert made == read


def test_dependencies_follow_datasets(graph: QuantumGraph) -> None:
    assert graph.predecessors(4).tolist() == [2, 3]
    assert graph.predecessors(0).tolist() == []
    indptr, indices = graph.dependency_csr()
    assert [indices[a:b].tolist() for a, b in itertools.pairwise(indptr)] == [
        graph.predecessors(i).tolist() for i in range(5)
    ]
    indptr, indices = graph.dependent_csr()
    assert [indices[a:b].tolist() for a, b in itertools.pairwise(indptr)] == [
        [2],
        [3],
        [4],
        [4],
        [],
    ]


def test_producer_is_minus_one_for_what_is_only_read(graph: QuantumGraph) -> None:
    raws = graph.dataset_type("raw").rows
    assert graph.producer[raws.start : raws.stop].tolist() == [-1, -1]
    assert np.count_nonzero(graph.producer < 0) == 2


def test_files_are_known_for_existing_inputs_only(graph: QuantumGraph) -> None:
    files = graph.input_files(graph.quantum_row("isr", data_id(5)))
    assert [f.path for f in files.values()] == ["raw5.fits"]
    assert graph.input_files(graph.quantum_row("calibrate", data_id(5))) == {}


def test_unknown_names_get_the_nearest_match(graph: QuantumGraph) -> None:
    with pytest.raises(ButlerUserError, match="Did you mean 'calibrate'"):
        graph.task("calibrat")
    with pytest.raises(ButlerUserError, match="Did you mean 'calexp'"):
        graph.dataset_type("calexps")
    with pytest.raises(KeyError, match="No quantum of 'isr'"):
        graph.quantum_row("isr", data_id(7))
    with pytest.raises(IndexError, match="There is no quantum 5"):
        graph.quantum(5)


def test_output_dataset_types_include_configs_and_packages(graph: QuantumGraph) -> None:
    names = {t.name for t in graph.output_dataset_types()}
    assert names >= {"flattened", "calexp", "mosaic", "isr_metadata", "isr_log", "isr_config", "packages"}
    assert "raw" not in names


def test_a_graph_may_be_moved_to_another_run(graph: QuantumGraph) -> None:
    moved = graph.in_run("u/me/other")
    assert {r.run for q in moved for refs in q.outputs.values() for r in refs} == {"u/me/other"}
    assert moved.quantum(0).inputs["raw"] == graph.quantum(0).inputs["raw"]
    assert moved.plan_id != graph.plan_id
    assert moved.quantum(0).id != graph.quantum(0).id
    assert moved.in_run(graph.run).quantum(0).id == graph.quantum(0).id


def test_quantum_survives_pickling(graph: QuantumGraph) -> None:
    quantum = graph.quantum(4)
    copy = pickle.loads(pickle.dumps(quantum))
    assert copy == quantum
    assert copy.inputs["calexp"] == quantum.inputs["calexp"]
