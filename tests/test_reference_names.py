"""Names of the reference that no other test uses: each is called, and its value is the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from small_pipeline import CatalogConnections, CatalogTask, CleanConnections, CleanTask
from small_repository import make_repository
from small_survey import small_graph

from butler_dask import (
    Butler,
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    DatasetType,
    DimensionGroup,
    DimensionUniverse,
    Instrument,
    Pipeline,
    StorageClass,
    TaskMetadata,
    Timespan,
)
from butler_dask.errors import DatasetTypeError

UNIVERSE = DimensionUniverse()
VISIT = UNIVERSE["visit"]
CAMERA = Instrument.from_camera_file("hsc_small")
KIND = DatasetType("metric", ["visit", "detector"], "StructuredDataDict")
EXPOSURE = DatasetType("calexp", ["visit", "detector"], "ExposureF")
WCS = EXPOSURE.makeComponentDatasetType("wcs")
DATA_ID = DataCoordinate.standardize(
    {"instrument": "HSC", "visit": 903334, "detector": 5}, dimensions=KIND.dimensions
)
REF = DatasetRef(KIND, DATA_ID, "u/me")
SPAN = Timespan(1_000_000_000, 2_000_000_000)
TABLE = StorageClass("Rows", "dict", parameters=["columns"])
EXAMPLE = Pipeline.from_uri(str(ROOT / "pipelines" / "example.yaml"))
ALL_TASKS = {"isr", "charImage", "calibrate", "makeWarp"}


@dataclass
class Place:
    """A repository with a metric of one visit and detector, and a bias of the detector."""

    butler: Butler
    metric: DatasetRef
    bias: DatasetRef


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = make_repository(tmp_path_factory.mktemp("names") / "REPO")
    with Butler(root, run="u/me", instrument="HSC", collections=["u/me", "HSC/calib"]) as butler:
        metric = butler.put({"a": 1}, "metric", visit=903334, detector=5)
        bias = butler.put({"b": 2}, "bias", detector=5)
        yield Place(butler, metric, bias)


def metadata() -> TaskMetadata:
    """Return metadata with a number, a list and a dictionary."""
    made = TaskMetadata()
    made["stars"] = 3
    made["psf.sigma"] = [1.5, 2.5]
    made.set_dict("counts", {"r": 7})
    return made


def subset_graph() -> Any:
    """Return the small pipeline's graph with a subset of two tasks."""
    graph = small_graph()
    graph.add_task_subset("few", {"clean", "catalog"}, "two of three")
    return graph


def without_subset() -> dict[str, Any]:
    """Return the subsets of the graph after its only one was removed."""
    graph = subset_graph()
    graph.remove_task_subset("few")
    return dict(graph.task_subsets)


def names(elements: Any) -> list[str]:
    """Return the names of elements or fields, in their order."""
    return [e.name for e in elements]


IN_REPOSITORY: dict[str, tuple[Callable[[Place], Any], Any]] = {
    "Butler.get_datastore_names": (
        lambda p: p.butler.get_datastore_names(),
        lambda p: (f"FileDatastore@{p.butler.root}",),
    ),
    "Butler.get_datastore_roots": (
        lambda p: list(p.butler.get_datastore_roots().values()),
        lambda p: [f"file://{p.butler.root}/"],
    ),
    "Butler.finish_removals": (lambda p: p.butler.finish_removals(), lambda p: 0),
    "Registry.getDatasetLocations": (
        lambda p: [Path(x).name for x in p.butler.registry.getDatasetLocations(p.metric)],
        lambda p: ["metric_HSC_903334_5_u_me.json"],
    ),
    "Registry.refresh_collection_summaries": (
        lambda p: (
            p.butler.registry.refresh_collection_summaries(),
            p.butler.collections.get_info("u/me", include_summary=True).dataset_types,
        ),
        lambda p: (None, frozenset({"metric", "bias"})),
    ),
    "Registry.resetConnectionPool": (
        lambda p: (p.butler.registry.resetConnectionPool(), p.butler.get("metric", p.metric.dataId)),
        lambda p: (None, {"a": 1}),
    ),
    "Registry.storageClasses": (
        lambda p: p.butler.registry.storageClasses.getStorageClass("StructuredDataDict"),
        lambda p: p.metric.datasetType.storageClass,
    ),
    "DeferredDatasetHandle.storageClass": (
        lambda p: [
            p.butler.getDeferred(p.metric, storageClass=s).storageClass for s in (None, "TaskMetadata")
        ],
        lambda p: [None, "TaskMetadata"],
    ),
    "DataCoordinate.to_simple": (
        lambda p: p.butler.registry.expandDataId(p.metric.dataId).to_simple()["records"]["detector"],
        lambda p: p.butler.query_dimension_records("detector", detector=5)[0].to_simple(),
    ),
    "DimensionRecord.to_simple": (
        lambda p: p.butler.query_dimension_records("detector", detector=5)[0].to_simple()["record"][
            "full_name"
        ],
        lambda p: "1_55",
    ),
    "DimensionRecord.from_simple": (
        lambda p: UNIVERSE["detector"].RecordClass.from_simple(
            p.butler.query_dimension_records("detector", detector=5)[0].to_simple(), universe=UNIVERSE
        ),
        lambda p: p.butler.query_dimension_records("detector", detector=5)[0],
    ),
}

ROWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "DataCoordinate.from_simple": (
        lambda: DataCoordinate.from_simple(DATA_ID.to_simple(), universe=UNIVERSE),
        DATA_ID,
    ),
    "DatasetRef.to_simple": (lambda: REF.to_simple()["dataId"]["dataId"], dict(DATA_ID.required)),
    "DatasetRef.from_simple": (lambda: DatasetRef.from_simple(REF.to_simple(), universe=UNIVERSE), REF),
    "DatasetRef.isComposite": (lambda: REF.isComposite(), False),
    "DatasetType.isComposite": (
        lambda: [t.isComposite() for t in (KIND, EXPOSURE, WCS)],
        [False, True, False],
    ),
    "DatasetType.storageClass": (lambda: EXPOSURE.storageClass.name, "ExposureF"),
    "DatasetType.parentStorageClass": (lambda: WCS.parentStorageClass, EXPOSURE.storageClass),
    "DatasetType.to_simple": (lambda: KIND.to_simple()["storageClass"], "StructuredDataDict"),
    "DatasetType.from_simple": (lambda: DatasetType.from_simple(KIND.to_simple(), universe=UNIVERSE), KIND),
    "DatasetIdGenEnum": (
        lambda: [DatasetIdGenEnum[n].value for n in ("UNIQUE", "DATAID_TYPE", "DATAID_TYPE_RUN")],
        [0, 1, 2],
    ),
    "DimensionElement.alternate_keys": (lambda: names(VISIT.alternate_keys), ["name"]),
    "DimensionElement.uniqueKeys": (lambda: names(UNIVERSE["detector"].uniqueKeys), ["id", "full_name"]),
    "DimensionElement.metadata_columns": (
        lambda: names(VISIT.metadata_columns)[:3],
        ["exposure_time", "observation_reason", "target_name"],
    ),
    "DimensionElement.always_join": (
        lambda: [UNIVERSE[n].always_join for n in ("visit", "visit_definition")],
        [False, True],
    ),
    "DimensionElement.alwaysJoin": (
        lambda: [UNIVERSE[n].alwaysJoin for n in ("visit", "visit_definition")],
        [False, True],
    ),
    "DimensionElement.defines_relationships": (
        lambda: [UNIVERSE[n].defines_relationships for n in ("detector", "visit_definition")],
        [False, True],
    ),
    "DimensionElement.governor": (lambda: [UNIVERSE[n].governor for n in ("skymap", "tract")], [True, False]),
    "DimensionElement.implies": (lambda: list(VISIT.implies), ["day_obs", "physical_filter"]),
    "DimensionElement.requires": (lambda: list(UNIVERSE["patch"].requires), ["skymap", "tract"]),
    "DimensionElement.is_dimension": (
        lambda: [UNIVERSE[n].is_dimension for n in ("visit", "visit_definition")],
        [True, False],
    ),
    "DimensionElement.skypix_level": (lambda: UNIVERSE["htm7"].skypix_level, 7),
    "DimensionGroup.data_coordinate_keys": (
        lambda: list(DATA_ID.dimensions.data_coordinate_keys),
        ["instrument", "detector", "visit", "band", "day_obs", "physical_filter"],
    ),
    "DimensionGroup.to_simple": (
        lambda: sorted(DATA_ID.dimensions.to_simple()),
        sorted(DATA_ID.dimensions.names),
    ),
    "DimensionGroup.from_simple": (
        lambda: DimensionGroup.from_simple(DATA_ID.dimensions.to_simple(), universe=UNIVERSE),
        DATA_ID.dimensions,
    ),
    "DimensionGroup.issubset": (
        lambda: [
            KIND.dimensions.issubset(UNIVERSE.conform(g)) for g in (["visit", "detector", "tract"], ["visit"])
        ],
        [True, False],
    ),
    "DimensionGroup.region_dimension": (
        lambda: UNIVERSE.conform(["visit", "detector"]).region_dimension,
        "visit_detector_region",
    ),
    "DimensionGroup.timespan_dimension": (
        lambda: UNIVERSE.conform(["visit", "patch"]).timespan_dimension,
        "visit",
    ),
    "DimensionUniverse.getStaticElements": (
        lambda: names(UNIVERSE.getStaticElements())[-3:],
        ["visit_detector_region", "visit_definition", "visit_system_membership"],
    ),
    "DimensionUniverse.getStaticDimensions": (
        lambda: [
            e for e in names(UNIVERSE.getStaticElements()) if e not in names(UNIVERSE.getStaticDimensions())
        ],
        ["visit_detector_region", "visit_definition", "visit_system_membership"],
    ),
    "DimensionUniverse.getGovernorDimensions": (
        lambda: names(UNIVERSE.getGovernorDimensions()),
        ["instrument", "skymap"],
    ),
    "DimensionUniverse.getDatabaseElements": (
        lambda: set(names(UNIVERSE.getStaticElements())) - set(names(UNIVERSE.getDatabaseElements())),
        {"instrument", "skymap"},
    ),
    "DimensionUniverse.database_elements": (
        lambda: UNIVERSE.database_elements,
        UNIVERSE.getDatabaseElements(),
    ),
    "DimensionUniverse.getDimensionIndex": (
        lambda: sorted(("visit", "detector", "instrument"), key=UNIVERSE.getDimensionIndex),
        ["instrument", "detector", "visit"],
    ),
    "DimensionUniverse.getElementIndex": (
        lambda: sorted(("visit_definition", "visit", "instrument"), key=UNIVERSE.getElementIndex),
        ["instrument", "visit", "visit_definition"],
    ),
    "DimensionUniverse.get_elements_populated_by": (
        lambda: set(names(UNIVERSE.get_elements_populated_by(VISIT))),
        {"visit", "visit_detector_region", "visit_definition", "visit_system_membership"},
    ),
    "DimensionUniverse.isCompatibleWith": (lambda: UNIVERSE.isCompatibleWith(DimensionUniverse()), True),
    "DimensionUniverse.skypix_dimensions": (
        lambda: {"htm7", "healpix9"} <= set(names(UNIVERSE.skypix_dimensions)),
        True,
    ),
    "Instrument.filterDefinitions": (
        lambda: {f.physical_filter: f.band for f in CAMERA.filterDefinitions}["HSC-R2"],
        "r",
    ),
    "Instrument.getRawFormatter": (lambda: CAMERA.getRawFormatter({}).__name__, "RawFormatter"),
    "Instrument.makeCuratedCalibrationRunName": (
        lambda: CAMERA.makeCuratedCalibrationRunName("2020-01-01"),
        "HSC/calib/curated/2020-01-01",
    ),
    "Instrument.makeUmbrellaCollectionName": (lambda: CAMERA.makeUmbrellaCollectionName(), "HSC/defaults"),
    "Pipeline.fromFile": (
        lambda: Pipeline.fromFile(str(ROOT / "pipelines" / "example.yaml")).task_labels,
        ALL_TASKS,
    ),
    "Pipeline.fromPipeline": (lambda: Pipeline.fromPipeline(EXAMPLE).task_labels, ALL_TASKS),
    "Pipeline.subsetFromLabels": (lambda: EXAMPLE.subsetFromLabels({"isr"}).task_labels, {"isr"}),
    "PipelineGraph.is_sorted": (lambda: small_graph().is_sorted, True),
    "PipelineGraph.producer_of": (lambda: small_graph().producer_of("clean").label, "clean"),
    "PipelineGraph.producing_edge_of": (
        lambda: small_graph().producing_edge_of("clean").connection_name,
        "cleaned",
    ),
    "PipelineGraph.consumers_of": (
        lambda: [n.label for n in small_graph().consumers_of("clean")],
        ["catalog"],
    ),
    "PipelineGraph.consuming_edges_of": (
        lambda: [(e.task_label, e.connection_name) for e in small_graph().consuming_edges_of("goodCatalog")],
        [("warp", "rows")],
    ),
    "PipelineGraph.iter_edges": (
        lambda: {e.connection_name for e in small_graph().iter_edges() if e.task_label == "warp"},
        {"skyMap", "schema", "rows", "warp", "_config", "_log", "_metadata"},
    ),
    "PipelineGraph.iter_outputs": (
        lambda: (
            {"clean", "goodCatalog", "goodWarp", "warp_log"}
            - {name for name, _ in small_graph().iter_outputs()}
        ),
        set(),
    ),
    "PipelineGraph.packages_dataset_type": (
        lambda: small_graph().packages_dataset_type,
        DatasetType("packages", [], "Packages"),
    ),
    "PipelineGraph.task_subsets": (
        lambda: {s.label: set(s.members) for s in subset_graph().task_subsets.values()},
        {"few": {"clean", "catalog"}},
    ),
    "PipelineGraph.remove_task_subset": (without_subset, {}),
    "PipelineGraph.select_tasks": (lambda: subset_graph().select_tasks("few"), {"clean", "catalog"}),
    "PipelineTask.getFullName": (
        lambda: CleanTask(config=CleanTask.ConfigClass()).getFullName(),
        "clean",
    ),
    "PipelineTaskConnections.defaultTemplates": (
        lambda: dict(CatalogConnections.defaultTemplates),
        {"kind": "good"},
    ),
    "PipelineTaskConnections.deprecatedTemplates": (lambda: dict(CleanConnections.deprecatedTemplates), {}),
    "PipelineTaskConnections.getSpatialBoundsConnections": (
        lambda: CatalogConnections(config=CatalogTask.ConfigClass()).getSpatialBoundsConnections(),
        (),
    ),
    "PipelineTaskConnections.getTemporalBoundsConnections": (
        lambda: CatalogConnections(config=CatalogTask.ConfigClass()).getTemporalBoundsConnections(),
        (),
    ),
    "StorageClass.filterParameters": (
        lambda: TABLE.filterParameters({"columns": ["id"], "bbox": 3}),
        {"columns": ["id"]},
    ),
    "StorageClass.knownParameters": (lambda: TABLE.knownParameters(), {"columns"}),
    "StorageClass.is_type": (
        lambda: [TABLE.is_type(dict), TABLE.is_type(list), EXPOSURE.storageClass.is_type(dict)],
        [True, False, False],
    ),
    "StorageClass.converters": (lambda: dict(TABLE.converters), {}),
    "StorageClass.isComposite": (
        lambda: [TABLE.isComposite(), EXPOSURE.storageClass.isComposite()],
        [False, True],
    ),
    "StorageClass.pytype_name": (lambda: TABLE.pytype_name, "dict"),
    "StorageClass.validateParameters": (lambda: TABLE.validateParameters(["columns"]), None),
    "TaskMetadata.getScalar": (lambda: [metadata().getScalar(n) for n in ("stars", "psf.sigma")], [3, 2.5]),
    "TaskMetadata.get_dict": (lambda: metadata().get_dict("counts"), {"r": 7}),
    "TaskMetadata.to_json_dict": (lambda: metadata().to_json_dict()["scalars"], {"stars": 3}),
    "TaskMetadata.from_json_dict": (
        lambda: TaskMetadata.from_json_dict(metadata().to_json_dict()),
        metadata(),
    ),
    "Timespan.to_simple": (lambda: SPAN.to_simple(), (1_000_000_000, 2_000_000_000)),
    "Timespan.from_simple": (lambda: Timespan.from_simple([1_000_000_000, 2_000_000_000]), SPAN),
}


@pytest.mark.parametrize("name", ROWS)
def test_name_of_the_reference_gives_what_it_is_for(name: str) -> None:
    call, expected = ROWS[name]
    assert call() == expected


@pytest.mark.parametrize("name", IN_REPOSITORY)
def test_name_of_the_reference_works_on_a_repository(place: Place, name: str) -> None:
    call, expected = IN_REPOSITORY[name]
    assert call(place) == expected(place)


def test_a_parameter_that_a_storage_class_does_not_know_is_named() -> None:
    with pytest.raises(DatasetTypeError, match="Rows takes no parameter 'bbox'"):
        TABLE.validateParameters({"bbox": 3})
