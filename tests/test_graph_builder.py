"""Building quantum graphs from a pipeline and a repository."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_survey import DAY, INPUTS, WHERE, add_datasets, detector_region, make_survey, small_graph

from butler_dask.butler.butler import Butler
from butler_dask.errors import (
    CalibrationLookupError,
    EmptyQuantumGraphError,
    InitInputMissingError,
    InvalidQueryError,
    OutputExistsError,
    PrerequisiteMissingError,
)
from butler_dask.graph.graph_builder import build_quantum_graph
from butler_dask.graph.graph_file import read_graph, write_graph
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.pipeline import (
    NoWorkFound,
    PipelineGraph,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    connectionTypes as cT,
)
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileRecord, FileTable

RUN = "u/me/run"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("survey") / "repo"
    make_survey(root).close()
    return root


@pytest.fixture
def butler(survey: Path, tmp_path: Path) -> Iterator[Butler]:
    """A survey of its own for each test."""
    shutil.copytree(survey, tmp_path / "repo")
    with Butler(tmp_path / "repo", writeable=True) as butler:
        yield butler


def build(
    butler: Butler, where: str = WHERE, pipeline: PipelineGraph | None = None, **kwargs
) -> QuantumGraph:
    kwargs = {"input_collections": ["HSC/defaults"], "output_run": RUN, **kwargs}
    return build_quantum_graph(pipeline or small_graph(), butler.repository, where=where, **kwargs)


def run_quanta(butler: Butler, graph: QuantumGraph, rows: list[int], suffixes: tuple[str, ...] = ()) -> None:
    """Record the outputs of quanta as an execution does (only those ending so, if said)."""
    registry = butler.repository.registry
    registry.collections.register(graph.run)
    registry.dataset_types.register(graph.output_dataset_types())
    for columns in graph.dataset_types:
        made = [d for r in rows for d in graph.outputs_of.of(r).tolist() if d in columns.rows]
        name = columns.dataset_type.name
        if made and (not suffixes or name.endswith(suffixes)):
            table = columns.table.take(np.array(made) - columns.first_row)
            record(butler, table)


def record(butler: Butler, table: DatasetTable) -> None:
    kind = table.dataset_type
    files = [
        FileRecord(f"{kind.name}/{table.id(i)}", "x.Json", kind.storageClass_name, 1)
        for i in range(len(table))
    ]
    butler.repository.registry.inserts.insert(table, FileTable.from_records(files))


def test_one_detector_of_one_visit_needs_a_warp_for_each_patch_it_overlaps(butler: Butler) -> None:
    graph = build(butler)
    assert graph.summary() == "QuantumGraph contains 14 quanta for 3 tasks"
    assert graph.counts() == {"clean": 1, "catalog": 1, "warp": 12}


def test_nothing_is_written(butler: Butler) -> None:
    before = butler.repository.registry.collections.query(), butler.repository.registry.dataset_types.query()
    build(butler)
    assert before == (
        butler.repository.registry.collections.query(),
        butler.repository.registry.dataset_types.query(),
    )


def test_quanta_are_connected_through_their_datasets(butler: Butler) -> None:
    graph = build(butler)
    clean, catalog = (graph.task(label).first_quantum for label in ("clean", "catalog"))
    assert graph.predecessors(clean).tolist() == []
    assert graph.predecessors(catalog).tolist() == [clean]
    assert all(graph.predecessors(w).tolist() == [catalog] for w in graph.task("warp").rows)
    rows = graph.quantum(graph.task("warp").first_quantum).inputs_by_connection["rows"]
    assert [r.datasetType.name for r in rows] == ["goodCatalog.rowcount"]
    assert rows[0].id == graph.quantum(catalog).outputs["goodCatalog"][0].id
    assert graph.quantum(clean).outputs["clean"] == graph.quantum(catalog).inputs["clean"]


def test_patches_are_those_the_detector_overlaps(butler: Butler) -> None:
    graph = build(butler)
    patches = {graph.data_id(r)["patch"] for r in graph.task("warp").rows}
    assert patches == {y * 8 + x for x in range(4) for y in range(3)}


def test_warps_of_a_whole_visit_read_the_detectors_they_overlap(butler: Butler) -> None:
    graph = build(butler, "instrument='HSC' AND visit=903344")
    assert graph.counts() == {"clean": 2, "catalog": 2, "warp": 24}
    for row in graph.task("warp").rows:
        (ref,) = graph.quantum(row).inputs_by_connection["rows"]
        assert ref.dataId["detector"] == (5 if graph.data_id(row)["patch"] % 8 < 4 else 6)


def test_each_output_has_an_id_of_its_own_in_the_output_run(butler: Butler) -> None:
    graph = build(butler, "instrument='HSC'")
    outputs = [ref for q in graph for refs in q.outputs.values() for ref in refs]
    assert len({ref.id for ref in outputs}) == len(outputs)
    assert {ref.run for ref in outputs} == {RUN}
    assert {"clean_metadata", "clean_log"} <= set(graph.quantum(0).outputs.names)


def test_data_ids_carry_implied_values_and_records(butler: Butler) -> None:
    data_id = build(butler).quantum(0).dataId
    assert data_id["band"] == "r"
    assert data_id.records["exposure"].obs_id == "HSCA903344"
    assert data_id.timespan.begin_ns == 0


def test_calibrations_are_those_valid_when_the_exposure_was_taken(butler: Butler) -> None:
    graph = build(butler, "instrument='HSC' AND detector=5")
    runs = {
        graph.data_id(r)["exposure"]: graph.quantum(r).inputs["bias"][0].run for r in graph.task("clean").rows
    }
    assert runs == {903344: "HSC/calib/day0", 903346: "HSC/calib/day1"}
    files = graph.input_files(graph.task("clean").first_quantum)
    assert {f.path.split("/")[-2] for f in files.values()} == {"raw", "bias"}


def test_reference_catalogues_are_those_whose_trixels_touch_the_detector(butler: Butler) -> None:
    graph = build(butler)
    found = {
        r.dataId["htm7"]
        for r in graph.quantum(graph.task("catalog").first_quantum).inputs["reference_catalog"]
    }
    htm7, region = butler.dimensions["htm7"].pixelization, detector_region(5)
    ranges = htm7.envelope(region).ranges()
    touching = {
        i
        for begin, end in ranges
        for i in range(begin, end)
        if htm7.pixel(i).getBoundingBox().overlaps(region.getBoundingBox())
    }
    assert found
    assert found <= touching
    from lsst.sphgeom import UnitVector3d

    corners = {htm7.index(UnitVector3d(v)) for v in region.getVertices()}
    assert corners <= found


def test_optional_prerequisites_may_be_missing(butler: Butler) -> None:
    graph = build(butler, input_collections=["HSC/raw/all", "HSC/calib", "skymaps"])
    assert "reference_catalog" not in graph.quantum(graph.task("catalog").first_quantum).inputs


def test_missing_prerequisites_are_all_named_at_once(butler: Butler) -> None:
    with pytest.raises(PrerequisiteMissingError) as caught:
        build(butler, input_collections=["HSC/raw/all", "refcats"])
    message = str(caught.value)
    assert "No 'bias' {instrument, detector} for 'clean' (connection 'bias')" in message
    assert "'exposure': 903344" in message
    assert "No 'skyMap' {skymap} for 'warp'" in message
    assert "and 9 more" in message
    assert "'HSC/raw/all', 'refcats'" in message


def test_calibrations_out_of_their_time_are_missing(butler: Butler) -> None:
    from butler_dask.vocabulary.timespan import Timespan

    butler.repository.registry.associations.decertify("HSC/calib", "bias", Timespan(DAY, 2 * DAY))
    build(butler)
    with pytest.raises(PrerequisiteMissingError, match=r"'bias'.*903346"):
        build(butler, "instrument='HSC'")


def test_an_expression_that_selects_nothing_is_explained(butler: Butler) -> None:
    with pytest.raises(EmptyQuantumGraphError) as caught:
        build(butler, "instrument='HSC' AND visit=903344 AND detector=55")
    assert caught.value.reasons
    assert "55" in str(caught.value)


def test_inputs_that_do_not_exist_are_explained(butler: Butler) -> None:
    with pytest.raises(EmptyQuantumGraphError, match="raw"):
        build(butler, input_collections=["HSC/calib", "refcats", "skymaps"])
    with pytest.raises(EmptyQuantumGraphError, match=r"No input collections.*'raw'.*--input"):
        build(butler, input_collections=[])


def test_a_lone_instrument_need_not_be_named(butler: Butler) -> None:
    assert build(butler, "visit=903344 AND detector=5").counts() == build(butler).counts()


def test_a_lone_instrument_need_not_be_named_by_an_expression_with_its_name_in_a_string(
    butler: Butler,
) -> None:
    where = "visit=903344 AND detector=5 AND exposure.obs_id {} 'instrument check of the skymap'"
    assert build(butler, where.format("!=")).counts() == build(butler).counts()
    with pytest.raises(EmptyQuantumGraphError, match="instrument check"):
        build(butler, where.format("="))


def test_mistyped_expressions_are_refused(butler: Butler) -> None:
    with pytest.raises(InvalidQueryError):
        build(butler, "instrument='HSC' AND vist=3")


def test_finished_quanta_are_skipped_and_their_outputs_read_where_they_are(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0])
    second = build(butler, skip_existing_in=[RUN])
    assert second.counts() == {"clean": 0, "catalog": 1, "warp": 12}
    assert second.summary() == "QuantumGraph contains 13 quanta for 3 tasks"
    assert second.metadata["skipped"] == {"clean": 1}
    catalog = second.task("catalog").first_quantum
    assert second.quantum(catalog).inputs["clean"] == first.quantum(0).outputs["clean"]
    (row,) = second.dataset_type("clean").rows
    assert second.file_record(row).path.startswith("clean/")
    assert second.producer[row] == -1
    assert second.predecessors(catalog).tolist() == []


def test_a_finished_run_has_nothing_to_do(butler: Butler) -> None:
    first = build(butler, "instrument='HSC'")
    run_quanta(butler, first, list(range(len(first))))
    second = build(butler, "instrument='HSC'", skip_existing_in=[RUN])
    assert len(second) == 0
    assert second.metadata["skipped"] == first.counts()
    assert second.summary() == "QuantumGraph contains 0 quanta for 3 tasks"


def test_quanta_whose_every_output_exists_are_skipped_without_metadata(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0], suffixes=("clean",))
    assert build(butler, skip_existing_in=[RUN]).counts()["clean"] == 0


def test_outputs_in_the_way_are_an_error_unless_skipped_or_clobbered(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0, 2])
    with pytest.raises(
        OutputExistsError, match=r"'clean_metadata'.*903344.*--skip-existing.*--clobber-outputs"
    ):
        build(butler)
    clobbering = build(butler, clobber=True)
    assert len(clobbering) == len(first)
    # The dataset keeps its id: whoever refers to it gets the new content.
    assert clobbering.quantum(0).outputs["clean"] == first.quantum(0).outputs["clean"]
    assert clobbering.file_record(clobbering.dataset_type("clean").first_row) is None


def test_a_log_left_by_a_failure_does_not_keep_a_quantum_from_running_again(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0], suffixes=("_log",))
    second = build(butler, skip_existing_in=[RUN])
    assert second.counts() == first.counts()
    assert second.quantum(0).log_ref == first.quantum(0).log_ref
    assert second.quantum(0).id == first.quantum(0).id


def test_unstored_outputs_are_made_again_under_their_ids(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, list(range(len(first))))
    for table in butler.repository.registry.datasets.existing_in_run(RUN).values():
        butler.repository.registry.datasets.forget_files(table)
    second = build(butler, skip_existing_in=[RUN])
    assert second.counts() == first.counts()
    assert second.quantum(0).outputs["clean"] == first.quantum(0).outputs["clean"]


def test_what_a_skipped_quantum_did_not_write_is_not_awaited(butler: Butler) -> None:
    first = build(butler, "instrument='HSC' AND visit=903344")
    # Detector 5 was cleaned without a result: no work found. Its catalogue and warps cannot be made.
    row = first.quantum_row("clean", {"instrument": "HSC", "exposure": 903344, "detector": 5})
    run_quanta(butler, first, [row], suffixes=("_metadata", "_log"))
    second = build(butler, "instrument='HSC' AND visit=903344", skip_existing_in=[RUN])
    assert second.counts() == {"clean": 1, "catalog": 1, "warp": 12}
    assert any("'catalog' are left out" in note for note in second.metadata["notes"])
    assert any("12 of 24 quanta of 'warp'" in note for note in second.metadata["notes"])


def test_earlier_outputs_in_input_collections_are_made_anew(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, list(range(len(first))))
    second = build(butler, input_collections=[RUN, *INPUTS], output_run="u/me/next")
    assert second.counts() == first.counts()
    assert second.quantum(0).outputs["clean"][0].run == "u/me/next"


def test_part_of_a_pipeline_reads_what_an_earlier_run_made(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0])
    rest = small_graph()
    rest.remove_tasks(["clean"])
    graph = build(butler, pipeline=rest, input_collections=[RUN, *INPUTS], output_run="u/me/next")
    assert graph.counts() == {"catalog": 1, "warp": 12}
    assert graph.quantum(0).inputs["clean"] == first.quantum(0).outputs["clean"]


def test_configs_schemas_and_packages_are_written_once_a_run(butler: Butler) -> None:
    graph = build(butler)
    names = {i.ref.datasetType.name for i in graph.init_outputs}
    assert names == {"clean_config", "catalog_config", "warp_config", "packages", "goodCatalog_schema"}
    (schema,) = graph.init_inputs
    assert schema.ref in [i.ref for i in graph.init_outputs]
    record(butler_with_run(butler), table_of(graph, "clean_config"))
    again = build(butler)
    assert find_init(again, "clean_config").ref == find_init(graph, "clean_config").ref
    assert find_init(again, "clean_config").file is not None
    assert find_init(again, "packages").file is None


def find_init(graph: QuantumGraph, name: str):
    return next(i for i in graph.init_outputs if i.ref.datasetType.name == name)


def table_of(graph: QuantumGraph, name: str) -> DatasetTable:
    ref = find_init(graph, name).ref
    return DatasetTable.from_refs(ref.datasetType, [ref])


def butler_with_run(butler: Butler) -> Butler:
    butler.repository.registry.collections.register(RUN)
    butler.repository.registry.dataset_types.register([DatasetType("clean_config", (), "Config")])
    return butler


def test_missing_init_inputs_are_named(butler: Butler) -> None:
    first = build(butler)
    run_quanta(butler, first, [0, 1])
    rest = small_graph()
    rest.remove_tasks(["clean", "catalog"])
    with pytest.raises(InitInputMissingError, match=r"'goodCatalog_schema' for 'warp'.*u/me/run"):
        build(butler, pipeline=rest, input_collections=[RUN, *INPUTS], output_run="u/me/next")


def test_adjust_quantum_may_leave_quanta_out_and_drop_inputs(butler: Butler) -> None:
    from small_pipeline import CatalogConnections

    class Choosy(CatalogConnections, dimensions=("instrument", "visit", "detector")):
        def adjustQuantum(self, inputs, outputs, label, data_id):
            if data_id["detector"] == 6:
                raise NoWorkFound("not this detector")
            assert data_id.records["visit"].name == str(data_id["visit"])
            connection, refs = inputs["reference"]
            return {"reference": (connection, list(refs)[:1])}, {}

    pipeline = small_graph()
    node = pipeline.tasks["catalog"]
    pipeline.remove_tasks(["catalog"])
    pipeline.add_task("catalog", node.task_class, node.config, Choosy(config=node.config))
    graph = build(butler, "instrument='HSC' AND visit=903344", pipeline=pipeline)
    assert graph.counts() == {"clean": 2, "catalog": 1, "warp": 12}
    assert len(graph.quantum(graph.task("catalog").first_quantum).inputs["reference_catalog"]) == 1
    assert any("left out by the task: not this detector" in n for n in graph.metadata["notes"])


def test_the_same_quantum_has_the_same_id_in_every_graph_of_a_run(butler: Butler) -> None:
    assert np.array_equal(build(butler).quantum_ids, build(butler).quantum_ids)
    assert not np.array_equal(build(butler).quantum_ids, build(butler, output_run="u/me/b").quantum_ids)


def test_a_built_graph_survives_its_file(butler: Butler, tmp_path: Path) -> None:
    graph = build(butler, "instrument='HSC'")
    write_graph(graph, tmp_path / "plan.qgraph")
    copy = read_graph(tmp_path / "plan.qgraph")
    assert [repr(q) for q in copy] == [repr(q) for q in graph]
    data_id = copy.quantum(0).dataId
    assert data_id.records["exposure"] == graph.quantum(0).dataId.records["exposure"]
    assert copy.quantum(len(copy) - 1).dataId.records["patch"].region is not None


def test_data_id_tables_restrict_the_graph(butler: Butler) -> None:
    from butler_dask.vocabulary.data_id_table import DataIdTable
    from butler_dask.vocabulary.dimensions import DimensionUniverse

    group = DimensionUniverse().conform(["visit", "detector"])
    table = DataIdTable.from_values(
        group, {"instrument": ["HSC", "HSC"], "detector": [6, 99], "visit": [903346, 903346]}
    )
    graph = build(butler, "instrument='HSC'", data_id_tables=[table])
    assert graph.counts() == {"clean": 1, "catalog": 1, "warp": 12}
    assert graph.data_id(0)["detector"] == 6


def test_inputs_of_part_of_the_data_give_part_of_the_graph(butler: Butler) -> None:
    kind = butler.repository.registry.dataset_types.get("raw")
    add_datasets(butler, kind, "HSC/some", instrument=["HSC"], exposure=[903344], detector=[6])
    graph = build(butler, "instrument='HSC'", input_collections=["HSC/some", "HSC/calib", "skymaps"])
    assert graph.counts() == {"clean": 1, "catalog": 1, "warp": 12}


def made_task(name: str, dimensions: tuple[str, ...], **connections: object) -> type[PipelineTask]:
    """Make a task class with these connections."""
    namespace = {**connections, "__module__": __name__, "__qualname__": name}
    kind = type(PipelineTaskConnections)(name, (PipelineTaskConnections,), namespace, dimensions=dimensions)

    class Config(PipelineTaskConfig, pipelineConnections=kind):
        pass

    class Task(PipelineTask):
        ConfigClass = Config
        _DefaultName = name

    return Task


def test_combined_calibrations_are_made_with_those_of_their_exposures_times(butler: Butler) -> None:
    raws = cT.Input(
        name="raw",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
    )
    bias = cT.PrerequisiteInput(
        name="bias",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    dark = cT.Output(name="dark", storageClass="StructuredDataDict", dimensions=("instrument", "detector"))
    task = made_task("combine", ("instrument", "detector"), raws=raws, bias=bias, dark=dark)
    pipeline = PipelineGraph()
    pipeline.add_task("combine", task)
    graph = build(butler, "exposure=903346", pipeline=pipeline)
    assert graph.counts() == {"combine": 2}
    assert {q.inputs["bias"][0].run for q in graph} == {"HSC/calib/day1"}
    with pytest.raises(CalibrationLookupError):
        build(butler, "instrument='HSC'", pipeline=pipeline)


def test_tasks_may_have_no_dimensions_and_no_inputs(butler: Butler) -> None:
    first = made_task("first", (), number=cT.Output(name="number", storageClass="StructuredDataDict"))
    second = made_task(
        "second",
        (),
        number=cT.Input(name="number", storageClass="StructuredDataDict"),
        square=cT.Output(name="square", storageClass="StructuredDataDict"),
    )
    pipeline = PipelineGraph()
    pipeline.add_task("second", second)
    pipeline.add_task("first", first)
    graph = build(butler, "", pipeline=pipeline, input_collections=[])
    assert graph.counts() == {"first": 1, "second": 1}
    assert graph.predecessors(1).tolist() == [0]
    rest = PipelineGraph()
    rest.add_task("second", second)
    with pytest.raises(EmptyQuantumGraphError, match="'number' is not registered"):
        build(butler, "", pipeline=rest)
    add_datasets(butler, DatasetType("number", (), "StructuredDataDict"), "numbers")
    assert build(butler, "", pipeline=rest, input_collections=["numbers"]).counts() == {"second": 1}


def test_separate_parts_of_a_pipeline_do_not_restrict_one_another(butler: Butler) -> None:
    pipeline = small_graph()
    lone = made_task(
        "lone",
        ("instrument",),
        census=cT.Output(name="census", storageClass="StructuredDataDict", dimensions=("instrument",)),
    )
    pipeline.add_task("lone", lone)
    graph = build(butler, pipeline=pipeline)
    assert graph.counts() == {"clean": 1, "catalog": 1, "warp": 12, "lone": 1}
    nothing = build(butler, pipeline=pipeline, input_collections=["HSC/calib", "skymaps"])
    assert nothing.counts() == {"clean": 0, "catalog": 0, "warp": 0, "lone": 1}


def test_lookup_functions_find_prerequisites_their_own_way(butler: Butler) -> None:
    asked = []

    def first_of_all(dataset_type, registry, data_id, collections):
        asked.append((dataset_type.name, data_id["detector"], collections))
        return list(registry.queryDatasets(dataset_type, collections=collections))[:1]

    raw = cT.Input(
        name="raw", storageClass="StructuredDataDict", dimensions=("instrument", "exposure", "detector")
    )
    sky = cT.PrerequisiteInput(
        name="skyMap", storageClass="SkyMap", dimensions=("skymap",), lookupFunction=first_of_all
    )
    done = cT.Output(name="done", storageClass="Integer", dimensions=("instrument", "exposure", "detector"))
    pipeline = PipelineGraph()
    pipeline.add_task(
        "look", made_task("look", ("instrument", "exposure", "detector"), raw=raw, sky=sky, done=done)
    )
    graph = build(butler, pipeline=pipeline)
    assert asked == [("skyMap", 5, ("HSC/raw/all", "HSC/calib", "refcats", "skymaps"))]
    assert graph.quantum(0).inputs["skyMap"][0].dataId["skymap"] == "rings"
    assert len(graph.input_files(0)) == 2
