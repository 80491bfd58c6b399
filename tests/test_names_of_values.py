"""Names of the reference that nothing else here uses: each gives what its twin gives."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import CatalogTask, CleanTask

from butler_dask.pipeline import Pipeline, PipelineGraph, TaskMetadata
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.expression import Name
from butler_dask.vocabulary.expression_factory import ExpressionFactory, ExpressionProxy
from butler_dask.vocabulary.storage_class import StorageClassFactory, find_storage_class

universe = DimensionUniverse()
exposure, visit, htm7 = (universe[name] for name in ("exposure", "visit", "htm7"))
definition = universe["visit_definition"]
exposures = find_storage_class("ExposureF")
tables = find_storage_class("ArrowAstropy")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda: exposure.uniqueKeys.names, ("id", "obs_id")),
        (lambda: exposure.alternateKeys.names, ("obs_id",)),
        (lambda: "exposure_time" in exposure.metadata_columns.names, True),
        (lambda: exposure.minimal_group, universe.conform(["exposure"])),
        (lambda: [e.alwaysJoin for e in (exposure, definition)], [False, True]),
        (lambda: [e.defines_relationships for e in (exposure, definition, htm7)], [True, True, False]),
        (lambda: [e.hasTable() for e in (exposure, htm7)], [True, False]),
        (lambda: definition.populated_by, visit),
        (lambda: definition in universe.get_elements_populated_by("visit"), True),
        (lambda: universe.isCompatibleWith(universe), True),
        (lambda: htm7 in universe.skypix_dimensions, True),
        (lambda: "visit" in universe.getDatabaseElements(), True),
        (lambda: universe.getGovernorDimensions().names, ("instrument", "skymap")),
        (lambda: universe.getElementIndex("band"), 0),
        (lambda: universe.getDimensionIndex("band"), 0),
        (lambda: universe.conform(["visit", "detector"]).region_dimension, "visit_detector_region"),
        (lambda: universe.conform(["visit", "patch"]).region_dimension, None),
        (lambda: universe.conform(["exposure"]).timespan_dimension, "exposure"),
        (lambda: universe.conform(["patch"]).timespan_dimension, None),
    ],
)
def test_names_of_dimensions(given: Callable[[], Any], expected: Any) -> None:
    assert given() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda: exposures.knownParameters(), {"bbox"}),
        (lambda: exposures.validateParameters(["bbox"]), None),
        (lambda: exposures.filterParameters({"bbox": 1, "other": 2}), {"bbox": 1}),
        (lambda: exposures.filterParameters({"bbox": 1}, subset=["other"]), {}),
        (lambda: tables.allComponents()["rowcount"].name, "Integer"),
        (lambda: find_storage_class("StructuredDataDict").validateInstance({}), True),
        (lambda: StorageClassFactory().getStorageClass("ExposureF"), exposures),
        (lambda: StorageClassFactory().findStorageClass(dict).name, "StructuredDataDict"),
        (lambda: StorageClassFactory().registerStorageClass(exposures), None),
        (lambda: DatasetType("x", ["visit"], "ExposureF").componentTypeName("wcs"), "x.wcs"),
        (lambda: DatasetType.splitDatasetTypeName("x.wcs"), ("x", "wcs")),
    ],
)
def test_names_of_storage_classes(given: Callable[[], Any], expected: Any) -> None:
    assert given() == expected


def test_names_of_expressions() -> None:
    proxy = ExpressionProxy(Name(0, "visit"))
    assert ExpressionFactory.unwrap(proxy) is proxy.node


@pytest.fixture
def graph() -> PipelineGraph:
    graph = PipelineGraph()
    graph.add_task("clean", CleanTask)
    graph.add_task("catalog", CatalogTask)
    graph.add_task_subset("both", ["clean", "catalog"])
    return graph


def test_names_of_pipeline_graphs(graph: PipelineGraph) -> None:
    producer = graph.producer_of("clean")
    assert producer is not None
    assert producer.label == "clean"
    assert graph.producer_of("raw") is None
    assert [task.label for task in graph.consumers_of("clean")] == ["catalog"]
    written = graph.producing_edge_of("clean")
    assert written is not None
    assert (written.task_label, written.connection_name) == ("clean", "cleaned")
    assert [edge.task_label for edge in graph.consuming_edges_of("clean")] == ["catalog"]
    assert {"clean", "clean_metadata"} <= {name for name, _ in graph.iter_outputs()}
    assert graph.is_sorted
    graph.sort()
    assert list(graph.tasks) == ["clean", "catalog"]
    graph.remove_task_subset("both")
    assert not graph.task_subsets


def test_names_of_pipelines(tmp_path: Path) -> None:
    pipeline = Pipeline("one task")
    pipeline.addTask(CleanTask, "clean")
    pipeline.write_to_uri(tmp_path / "pipeline.yaml")
    for again in (Pipeline.fromFile(tmp_path / "pipeline.yaml"), Pipeline.fromPipeline(pipeline)):
        assert again == pipeline
        again.removeTask("clean")
        assert "clean" in pipeline


def test_names_of_tasks() -> None:
    connections = CleanTask.ConfigClass.ConnectionsClass()
    assert list(connections.getSpatialBoundsConnections()) == []
    assert list(connections.getTemporalBoundsConnections()) == []
    task = CleanTask()
    assert (task.getName(), task.getFullName(), task.log) == ("clean", "clean", logging.getLogger("clean"))


def test_names_of_metadata() -> None:
    metadata = TaskMetadata()
    metadata.set_dict("nested", {"inner": {"value": 1}})
    assert metadata.get_dict("nested") == {"inner": {"value": 1}}
    assert metadata.get_dict("absent") == {}
    metadata["values"] = [1, 2]
    assert metadata.getScalar("values") == 2
    with pytest.raises(KeyError, match="nested metadata"):
        metadata.getScalar("nested")
