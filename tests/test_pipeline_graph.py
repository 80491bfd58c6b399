from __future__ import annotations

import json
import pickle
import re

import pytest
from lsst.pex.config import Field
from small_pipeline import CatalogTask, CleanTask, WarpTask

from butler_dask.errors import (
    ConfigFieldError,
    ConnectionTypeConsistencyError,
    DatasetTypeError,
    DimensionNameError,
    DuplicateOutputError,
    FormatVersionError,
    IncompatibleDatasetTypeError,
    InvalidExpressionError,
    MissingDatasetTypeError,
    PipelineDataCycleError,
    PipelineLabelError,
)
from butler_dask.pipeline import (
    PipelineGraph,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    connectionTypes as cT,
    pipeline_text,
)
from butler_dask.vocabulary.dataset_type import DatasetType

FRAME = ("instrument", "exposure", "detector")


class Registry:
    """Dataset types by name, as a registry gives them."""

    def __init__(self, *dataset_types: DatasetType) -> None:
        self.known = {d.name: d for d in dataset_types}

    def getDatasetType(self, name, /):
        if name not in self.known:
            raise MissingDatasetTypeError(name)
        return self.known[name]


REFERENCES = DatasetType("reference_catalog", ("htm8",), "SimpleCatalog")
RAW = DatasetType("raw", FRAME, "StructuredDataDict")
BIAS = DatasetType("bias", ("instrument", "detector"), "StructuredDataDict", isCalibration=True)


def task_of(
    name: str, reads: dict[str, tuple], writes: dict[str, tuple], kind=cT.Input
) -> type[PipelineTask]:
    """Make a task class with dataset types by name -> (dimensions, storage class)."""
    body = {
        "in_" + n.replace(".", "_"): kind(doc=n, name=n, storageClass=s, dimensions=d, multiple=True)
        for n, (d, s) in reads.items()
    } | {"out_" + n: cT.Output(doc=n, name=n, storageClass=s, dimensions=d) for n, (d, s) in writes.items()}
    connections = type(PipelineTaskConnections)(
        f"{name}Connections", (PipelineTaskConnections,), body, dimensions=FRAME
    )
    config = type(PipelineTaskConfig)(
        f"{name}Config",
        (PipelineTaskConfig,),
        {"__module__": __name__, "__qualname__": f"{name}Config", "x": Field(dtype=int, doc="x", default=0)},
        pipelineConnections=connections,
    )
    return type(f"{name}Task", (PipelineTask,), {"ConfigClass": config, "_DefaultName": name})


def graph_of(*tasks: tuple[str, type[PipelineTask]]) -> PipelineGraph:
    graph = PipelineGraph(description="A test.")
    for label, task_class in tasks:
        graph.add_task(label, task_class)
    return graph


@pytest.fixture
def graph() -> PipelineGraph:
    graph = graph_of(("warp", WarpTask), ("catalog", CatalogTask), ("clean", CleanTask))
    graph.add_task_subset("visit", ["clean", "catalog"], "One visit.")
    return graph


def test_tasks_and_dataset_types_come_in_order(graph: PipelineGraph) -> None:
    assert list(graph.tasks) == ["clean", "catalog", "warp"]
    assert list(graph.dataset_types) == [
        "raw",
        "bias",
        "clean_config",
        "clean",
        "clean_metadata",
        "clean_log",
        "reference_catalog",
        "goodCatalog_schema",
        "catalog_config",
        "goodCatalog",
        "catalog_metadata",
        "catalog_log",
        "skyMap",
        "warp_config",
        "goodWarp",
        "warp_metadata",
        "warp_log",
    ]
    assert [name for name, _ in graph.iter_overall_inputs()] == ["raw", "bias", "reference_catalog", "skyMap"]
    assert graph.upstream() == {"clean": set(), "catalog": {"clean"}, "warp": {"catalog"}}


def test_independent_tasks_keep_the_order_given() -> None:
    raw = {"raw": (FRAME, "StructuredDataDict")}
    graph = graph_of(*((n, task_of(n, raw, {n: (FRAME, "StructuredDataDict")})) for n in ("z", "a", "m")))
    assert list(graph.tasks) == ["z", "a", "m"]


def test_nodes_and_edges_say_what_connections_say(graph: PipelineGraph) -> None:
    catalog = graph.tasks["catalog"]
    assert catalog.task_class_name == "small_pipeline.CatalogTask"
    assert catalog.raw_dimensions == {"instrument", "visit", "detector"}
    assert catalog.dimensions.required == ("instrument", "detector", "visit")
    edge = catalog.inputs["cleaned"]
    assert (edge.parent_dataset_type_name, edge.multiple, edge.minimum, edge.defer_load) == (
        "clean",
        True,
        1,
        True,
    )
    assert catalog.prerequisite_inputs["reference"].minimum == 0
    assert catalog.init_outputs["schema"].dataset_type_name == "goodCatalog_schema"
    rows = graph.tasks["warp"].inputs["rows"]
    assert (rows.dataset_type_name, rows.parent_dataset_type_name, rows.component) == (
        "goodCatalog.rowcount",
        "goodCatalog",
        "rowcount",
    )
    assert rows.storage_class_name == "Integer"
    node = graph.dataset_types["goodCatalog"]
    assert (node.producer, node.consumers, node.storage_class_name) == ("catalog", ("warp",), "ArrowAstropy")
    assert graph.dataset_types["bias"].is_prerequisite
    assert graph.dataset_types["bias"].is_calibration
    assert graph.dataset_types["raw"].is_initial_query_constraint
    assert not graph.dataset_types["clean"].is_initial_query_constraint
    assert graph.dataset_types["clean_config"].is_init
    assert graph.dataset_types["clean_metadata"].dataset_type == DatasetType(
        "clean_metadata", FRAME, "TaskMetadata"
    )
    assert set(graph.inputs_of("warp")) == {"skyMap", "goodCatalog"}
    assert set(graph.inputs_of("warp", init=True)) == {"goodCatalog_schema"}
    assert set(graph.outputs_of("clean", include_automatic_connections=False)) == {"clean"}


def test_the_log_is_written_unless_switched_off() -> None:
    config = CleanTask.ConfigClass()
    config.saveLogOutput = False
    graph = PipelineGraph()
    graph.add_task("clean", CleanTask, config)
    assert "clean_log" not in graph.dataset_types
    assert "clean_metadata" in graph.dataset_types


def test_a_circle_of_tasks_is_refused() -> None:
    d = (FRAME, "StructuredDataDict")
    first = task_of("first", {"b": d}, {"a": d})
    second = task_of("second", {"a": d}, {"b": d})
    with pytest.raises(PipelineDataCycleError, match=r"first -> second -> first|second -> first -> second"):
        graph_of(("first", first), ("second", second))


def test_two_writers_of_one_dataset_type_are_refused(graph: PipelineGraph) -> None:
    with pytest.raises(
        DuplicateOutputError, match=r"'clean' is written by both clean\.cleaned and again\.cleaned"
    ):
        graph.add_task("again", CleanTask)
    # The graph is as before.
    assert list(graph.tasks) == ["clean", "catalog", "warp"]


def test_contradicting_dimensions_are_refused() -> None:
    reader = task_of("reader", {"clean": (("instrument", "visit"), "StructuredDataDict")}, {})
    with pytest.raises(
        ConnectionTypeConsistencyError, match=r"'clean' has dimensions \{instrument, visit\} in reader"
    ):
        graph_of(("clean", CleanTask), ("reader", reader))


def test_an_unknown_dimension_or_storage_class_names_the_connection() -> None:
    reader = task_of("reader", {"frame": (("instrument", "detektor"), "StructuredDataDict")}, {})
    with pytest.raises(DimensionNameError, match=r"'reader', connection 'in_frame'.*Did you mean 'detector'"):
        graph_of(("reader", reader))
    reader = task_of("reader", {"frame": (FRAME, "ExposreF")}, {})
    with pytest.raises(DatasetTypeError, match=r"'reader', connection 'in_frame'.*Did you mean 'ExposureF'"):
        graph_of(("reader", reader))


def test_storage_classes_must_convert() -> None:
    wrong = task_of("wrong", {"clean": (FRAME, "ArrowAstropy")}, {})
    with pytest.raises(
        ConnectionTypeConsistencyError, match=r"ArrowAstropy in wrong.*StructuredDataDict in clean"
    ):
        graph_of(("clean", CleanTask), ("wrong", wrong))
    same_type = task_of("same", {"goodCatalog": (("instrument", "visit", "detector"), "SourceCatalog")}, {})
    graph = graph_of(("catalog", CatalogTask), ("same", same_type))
    assert graph.dataset_types["goodCatalog"].storage_class_name == "ArrowAstropy"


def test_a_component_must_exist_in_its_parent() -> None:
    visit = ("instrument", "visit", "detector")
    reader = task_of("reader", {"goodCatalog.rowcnt": (visit, "Integer")}, {})
    with pytest.raises(ConnectionTypeConsistencyError, match=r"component 'rowcnt'.*Did you mean 'rowcount'"):
        graph_of(("catalog", CatalogTask), ("reader", reader))


def test_a_prerequisite_cannot_be_made_by_the_same_pipeline() -> None:
    reader = task_of("reader", {"clean": (FRAME, "StructuredDataDict")}, {}, kind=cT.PrerequisiteInput)
    with pytest.raises(
        ConnectionTypeConsistencyError, match=r"prerequisite input of 'reader'.*'clean' writes it"
    ):
        graph_of(("clean", CleanTask), ("reader", reader))


def test_registered_definitions_win(graph: PipelineGraph) -> None:
    assert not graph.is_fully_resolved
    graph.resolve(
        Registry(
            REFERENCES,
            RAW,
            BIAS,
            DatasetType("goodCatalog", ("instrument", "visit", "detector"), "SourceCatalog"),
        )
    )
    assert graph.is_fully_resolved
    assert graph.dataset_types["goodCatalog"].storage_class_name == "SourceCatalog"
    assert graph.dataset_types["goodCatalog"].is_registered
    assert not graph.dataset_types["clean"].is_registered
    # skypix becomes what the reference catalogue is registered with.
    assert graph.dataset_types["reference_catalog"].dimensions.skypix == ("htm8",)
    assert graph.tasks["catalog"].prerequisite_inputs["reference"].dimensions.skypix == ("htm8",)


def test_contradictions_with_the_repository_are_refused(graph: PipelineGraph) -> None:
    other = DatasetType("raw", ("instrument", "exposure"), "StructuredDataDict")
    with pytest.raises(
        IncompatibleDatasetTypeError, match=r"'raw' has dimensions .* \{instrument, exposure\} in the rep"
    ):
        graph.resolve(Registry(REFERENCES, other))
    assert not graph.is_fully_resolved
    table = DatasetType("clean", FRAME, "ArrowAstropy")
    with pytest.raises(IncompatibleDatasetTypeError, match="ArrowAstropy in the repository"):
        graph.resolve(dataset_types={"clean": table, "reference_catalog": REFERENCES})


def test_skypix_needs_a_registered_dataset_type(graph: PipelineGraph) -> None:
    with pytest.raises(
        MissingDatasetTypeError, match=r"'reference_catalog' of catalog\.reference is not registered"
    ):
        graph.resolve(Registry(RAW, BIAS))
    graph.resolve()  # without a repository the common pixelization is taken
    assert graph.dataset_types["reference_catalog"].dimensions.skypix == ("htm7",)


def test_skypix_follows_a_task_that_writes_the_dataset_type() -> None:
    maker = task_of("maker", {}, {"shards": (("healpix9",), "SimpleCatalog")})
    reader = task_of("reader", {"shards": (("skypix",), "SimpleCatalog")}, {})
    graph = graph_of(("reader", reader), ("maker", maker))
    assert graph.tasks["reader"].inputs["in_shards"].dimensions.skypix == ("healpix9",)


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("clean", {"clean"}),
        ("visit", {"clean", "catalog"}),
        ("S:visit & ~T:clean", {"catalog"}),
        ("~visit", {"warp"}),
        ("clean | warp", {"clean", "warp"}),
        ("<warp", {"clean", "catalog"}),
        ("<=catalog", {"clean", "catalog"}),
        ("> clean", {"catalog", "warp"}),
        (">=T:clean", {"clean", "catalog", "warp"}),
        ("goodCatalog", {"catalog"}),
        ("raw", set()),
        ("<=goodCatalog", {"clean", "catalog"}),
        ("<goodCatalog", {"clean"}),
        (">D:clean", {"catalog", "warp"}),
        (">=goodCatalog", {"catalog", "warp"}),
        (">goodCatalog_schema", {"warp"}),
        ("~(clean | <=catalog)", {"warp"}),
        ("clean | catalog & warp", {"clean"}),
    ],
)
def test_expressions_select_tasks(expression: str, labels: set[str]) -> None:
    # The task clean writes the dataset type clean: the task is meant where nothing is said.
    graph = graph_of(("warp", WarpTask), ("catalog", CatalogTask), ("clean", CleanTask))
    graph.add_task_subset("visit", ["clean", "catalog"])
    expression = re.sub(r"(?<!:)\bclean\b", "T:clean", expression)
    assert set(graph.select(expression).tasks) == labels


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("clean", "ambiguous; write one of T:clean, D:clean"),
        ("catalogue", r"no task, subset or dataset type 'catalogue'\. Did you mean 'catalog'"),
        ("T:wrap", r"no task 'wrap'\. Did you mean 'warp'"),
        ("visit &", "not well formed at its end"),
        ("(visit", "not well formed"),
        ("visit warp", "not well formed at column 7"),
        (">visit", "'visit' is a subset"),
        ("goodCatalog_schema", "written when tasks are constructed"),
        ("<goodCatalog_schema", "written when tasks are constructed"),
    ],
)
def test_faulty_expressions_are_explained(graph: PipelineGraph, expression: str, message: str) -> None:
    with pytest.raises(InvalidExpressionError, match=message):
        graph.select(expression)


def test_a_selection_is_a_graph_of_its_own(graph: PipelineGraph) -> None:
    part = graph.select("warp")
    assert list(part.task_subsets) == []
    assert [name for name, _ in part.iter_overall_inputs()] == ["goodCatalog_schema", "goodCatalog", "skyMap"]
    assert list(graph.copy().tasks) == list(graph.tasks)
    changed = graph.copy()
    changed.remove_tasks(["clean"])
    assert "clean" in graph.tasks
    assert changed.task_subsets["visit"].members == {"catalog"}
    with pytest.raises(PipelineLabelError, match="no task 'clean'"):
        changed.remove_tasks(["clean"])


def test_a_graph_survives_json_and_pickle(graph: PipelineGraph) -> None:
    graph.resolve(Registry(REFERENCES, RAW, BIAS))
    document = json.loads(json.dumps(graph.to_document()))
    for again in (PipelineGraph.from_document(document), pickle.loads(pickle.dumps(graph))):
        assert again.to_document() == graph.to_document()
        assert list(again.tasks) == list(graph.tasks)
        assert again.is_fully_resolved
        assert {n: d.dataset_type for n, d in again.dataset_types.items()} == {
            n: d.dataset_type for n, d in graph.dataset_types.items()
        }
        assert again.task_subsets["visit"].description == "One visit."


def test_a_graph_in_a_form_of_another_version_is_refused(graph: PipelineGraph) -> None:
    document = graph.to_document() | {"version": 99}
    with pytest.raises(FormatVersionError, match="form 99"):
        PipelineGraph.from_document(document)


def test_an_empty_graph_has_nothing() -> None:
    graph = PipelineGraph()
    graph.resolve()
    assert len(graph) == 0
    assert list(graph.dataset_types) == []


def test_views_show_tasks_subsets_inputs_and_edges(graph: PipelineGraph) -> None:
    tasks = pipeline_text.show_tasks(graph).splitlines()
    assert tasks[2].split() == ["clean", "small_pipeline.CleanTask", "{instrument,", "detector,", "exposure}"]
    assert pipeline_text.show_subsets(graph) == "visit: One visit.\n  clean\n  catalog"
    assert "bias {instrument, detector} StructuredDataDict (prerequisite)" in pipeline_text.show_inputs(graph)
    tree = pipeline_text.show_pipeline_graph(graph)
    assert "■ warp: {instrument, skymap, tract, patch, visit}, small_pipeline.WarpTask" in tree
    assert "│  ← goodCatalog.rowcount" in tree
    assert "clean_config" not in tree
    assert "clean_config" in pipeline_text.show_pipeline_graph(graph, automatic=True)
    assert "└─ after catalog" in pipeline_text.show_task_graph(graph)


def test_diagrams_have_every_task_and_edge(graph: PipelineGraph) -> None:
    dot = pipeline_text.dot(graph)
    assert dot.startswith("digraph")
    assert '"task:clean" -> "clean";' in dot
    assert '"bias" -> "task:clean" [style=dashed];' in dot
    mermaid = pipeline_text.mermaid(graph)
    assert mermaid.startswith("flowchart TD")
    assert mermaid.count("-.->") == 3


def test_configuration_is_shown_by_label_and_glob(graph: PipelineGraph) -> None:
    text = pipeline_text.show_config(graph, "clean::do*")
    assert text == "### Configuration for task `clean'\nconfig.doBias=True"
    everywhere = pipeline_text.show_config(graph, "saveLog*")
    assert everywhere.count("config.saveLogOutput=True") == 3
    assert "config.repair.threshold=5.0" in pipeline_text.show_config(graph, "clean")
    assert "# Gain [e-/ADU]." in pipeline_text.show_config(graph, "clean::gain", docs=True)
    assert pipeline_text.show_config(graph, "clean::DOBIAS").endswith("True")
    with pytest.raises(ConfigFieldError, match="No configuration field matches"):
        pipeline_text.show_config(graph, "clean::DOBIAS:NOIGNORECASE")
    with pytest.raises(ConfigFieldError, match=r"no task 'claen'\. Did you mean 'clean'"):
        pipeline_text.show_config(graph, "claen::*")
    assert "default" in pipeline_text.show_history(graph, "clean", "repair.threshold")
    with pytest.raises(ConfigFieldError, match=r"no configuration field 'repair\.x'"):
        pipeline_text.show_history(graph, "clean", "repair.x")
