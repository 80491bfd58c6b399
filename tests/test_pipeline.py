from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from butler_dask.errors import (
    ButlerUserError,
    ConfigFieldError,
    ContractError,
    PipelineDefinitionError,
    PipelineLabelError,
    PipelineNotFoundError,
    TaskImportError,
)
from butler_dask.pipeline import Pipeline, PipelineGraph

BASE = """
description: Frames to warps.
parameters:
  frames: clean
tasks:
  catalog:
    class: small_pipeline.CatalogTask
    config:
      connections.cleaned: parameters.frames
  clean:
    class: small_pipeline.CleanTask
    config:
      - gain: 2
        connections.cleaned: parameters.frames
      - python: |
          config.iterations = 5
  warp: small_pipeline.WarpTask
contracts:
  - contract: clean.connections.cleaned == catalog.connections.cleaned
    msg: frames must be handed over
  - clean.iterations > 0
subsets:
  visit: [clean, catalog]
  sky:
    subset: [warp]
    description: What lies on the sky map.
steps:
  - label: visit
    dimensions: [visit, detector]
  - label: sky
    dimensions: [tract]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_pipeline_is_read_configured_and_ordered(base: Path) -> None:
    pipeline = Pipeline.from_uri(base)
    assert pipeline.description == "Frames to warps."
    assert pipeline.task_labels == {"clean", "catalog", "warp"}
    assert pipeline.subsets == {"visit": {"clean", "catalog"}, "sky": {"warp"}}
    assert pipeline.steps == ["visit", "sky"]
    assert len(pipeline) == 3
    graph = pipeline.to_graph()
    assert list(graph.tasks) == ["clean", "catalog", "warp"]
    config = graph.tasks["clean"].config
    assert (config.gain, config.iterations) == (2.0, 5)
    assert graph.steps.get_dimensions("visit").required == ("instrument", "detector", "visit")
    assert graph.task_subsets["sky"].description == "What lies on the sky map."


def test_its_text_is_yaml_that_makes_the_same_pipeline(base: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.from_uri(base)
    pipeline.addConfigOverride("clean", "doBias", "False")
    assert Pipeline.fromString(str(pipeline)) == pipeline
    assert list(yaml.safe_load(str(pipeline))) == [
        "description",
        "parameters",
        "tasks",
        "contracts",
        "subsets",
        "steps",
    ]
    pipeline.write_to_uri(tmp_path / "copy.yaml")
    assert Pipeline.from_uri(tmp_path / "copy.yaml") == pipeline


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        ("clean", {"clean"}),
        ("clean,warp", {"clean", "warp"}),
        ("visit", {"clean", "catalog"}),
        ("sky,clean", {"clean", "warp"}),
        ("clean..catalog", {"clean", "catalog"}),
        ("catalog..", {"catalog", "warp"}),
        ("..clean", {"clean"}),
    ],
)
def test_labels_after_the_hash_select_tasks(base: Path, labels: str, tasks: set[str]) -> None:
    pipeline = Pipeline.from_uri(f"{base}#{labels}")
    assert pipeline.task_labels == tasks
    # Subsets that lost a task go, and contracts about lost tasks with them.
    assert all(members <= tasks for members in pipeline.subsets.values())
    pipeline.to_graph()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("claen,wrp", r"'claen'\. Did you mean 'clean'\?.*'wrp'\. Did you mean 'warp'\?"),
        ("visit..warp", "'visit' is a subset"),
        ("warp..clean", "'warp' runs after 'clean'"),
        ("clean..wrap", "'wrap'"),
    ],
)
def test_unknown_labels_are_named_with_the_nearest(base: Path, labels: str, message: str) -> None:
    with pytest.raises(PipelineLabelError, match=message):
        Pipeline.from_uri(f"{base}#{labels}")


def test_overrides_come_in_order_and_parameters_from_outside(base: Path, tmp_path: Path) -> None:
    config_file = write(tmp_path / "clean.py", "config.iterations = 8\nconfig.title = 'file'\n")
    pipeline = Pipeline.from_uri(base)
    pipeline.addConfigOverride("clean", "title", "first")
    pipeline.addConfigFile("clean", config_file)
    pipeline.addConfigPython("clean", "config.gain *= 2")
    pipeline.addConfigOverride("clean", "iterations", "9")
    pipeline.addConfigOverride("parameters", "frames", "scrubbed")
    graph = pipeline.to_graph()
    config = graph.tasks["clean"].config
    assert (config.title, config.gain, config.iterations) == ("file", 4.0, 9)
    assert graph.tasks["catalog"].inputs["cleaned"].dataset_type_name == "scrubbed"
    with pytest.raises(PipelineLabelError, match=r"no task 'claen'\. Did you mean 'clean'"):
        pipeline.addConfigOverride("claen", "doBias", "False")
    with pytest.raises(PipelineLabelError, match=r"no parameter 'frame'\. Did you mean 'frames'"):
        pipeline.addConfigOverride("parameters", "frame", "x")
    with pytest.raises(PipelineNotFoundError, match="no configuration file"):
        pipeline.addConfigFile("clean", tmp_path / "none.py")


def test_a_wrong_override_names_label_field_and_place(base: Path) -> None:
    pipeline = Pipeline.from_uri(base)
    pipeline.addConfigOverride("clean", "doBais", "False")
    with pytest.raises(ConfigFieldError, match=r"'clean'.*'doBais'\. Did you mean 'doBias'"):
        pipeline.to_graph()
    base.write_text(BASE.replace("gain: 2", "gian: 2"))
    with pytest.raises(
        ConfigFieldError, match=r"'clean' \(.*base\.yaml, line 13\).*'gian'\. Did you mean 'gain'"
    ):
        Pipeline.from_uri(base).to_graph()


def test_contracts_are_checked_when_the_graph_is_made(base: Path) -> None:
    pipeline = Pipeline.from_uri(base)
    pipeline.addConfigOverride("clean", "connections.cleaned", "other")
    pipeline.addConfigOverride("clean", "iterations", 0)
    with pytest.raises(ContractError) as caught:
        pipeline.to_graph()
    assert "frames must be handed over" in str(caught.value)
    assert "clean.iterations > 0" in str(caught.value)
    base.write_text(BASE.replace("- clean.iterations > 0", "- claen.iterations > 0"))
    with pytest.raises(ContractError, match=r"'claen'.*Did you mean 'clean'"):
        Pipeline.from_uri(base).to_graph()


def test_imports_are_merged_and_extended(base: Path, tmp_path: Path) -> None:
    top = write(
        tmp_path / "top.yaml",
        """
description: On top.
imports:
  - location: base.yaml
    exclude: [warp]
    labeledSubsetModifyMode: EDIT
tasks:
  clean:
    class: small_pipeline.CleanTask
    config:
      iterations: 11
  catalog: small_pipeline.WarpTask
subsets:
  all: [clean]
""",
    )
    pipeline = Pipeline.from_uri(top)
    assert pipeline.task_labels == {"clean", "catalog"}
    assert pipeline.subsets == {"visit": {"clean", "catalog"}, "all": {"clean"}}
    assert pipeline.steps == ["visit"]
    pipeline.removeTask("catalog")
    graph = pipeline.to_graph()
    # The same class is extended; another class replaces the imported task.
    assert graph.tasks["clean"].config.iterations == 11
    assert graph.tasks["clean"].config.gain == 2.0
    assert "small_pipeline.WarpTask" in str(Pipeline.from_uri(top))


def test_subsets_that_lose_a_task_are_dropped_unless_edited(base: Path, tmp_path: Path) -> None:
    top = "description: x\nimports:\n  - location: base.yaml\n    exclude: catalog\n"
    assert Pipeline.from_uri(write(tmp_path / "a.yaml", top)).subsets == {"sky": {"warp"}}
    edited = top + "    labeledSubsetModifyMode: EDIT\n"
    assert Pipeline.from_uri(write(tmp_path / "b.yaml", edited)).subsets == {
        "sky": {"warp"},
        "visit": {"clean"},
    }
    included = (
        "description: x\nimports:\n  location: base.yaml\n  include: [visit]\n  importContracts: false\n"
    )
    pipeline = Pipeline.from_uri(write(tmp_path / "c.yaml", included))
    assert pipeline.task_labels == {"clean", "catalog"}
    assert "contracts" not in yaml.safe_load(str(pipeline))


def test_a_pipeline_imported_by_two_ways_counts_once(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "left.yaml", "description: l\nimports: base.yaml\n")
    write(tmp_path / "right.yaml", "description: r\nimports: [base.yaml]\n")
    top = write(tmp_path / "top.yaml", "description: t\nimports: [left.yaml, right.yaml]\n")
    pipeline = Pipeline.from_uri(top)
    assert len(yaml.safe_load(str(pipeline))["tasks"]["clean"]["config"]) == 2
    assert len(yaml.safe_load(str(pipeline))["contracts"]) == 2
    assert pipeline.steps == ["visit", "sky"]


def test_imports_that_contradict_each_other_are_refused(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "other.yaml", "description: o\ntasks:\n  warp: small_pipeline.CleanTask\n")
    top = "description: t\nimports: [base.yaml, other.yaml]\n"
    with pytest.raises(PipelineDefinitionError, match=r"task 'warp' is small_pipeline\.CleanTask here and"):
        Pipeline.from_uri(write(tmp_path / "top.yaml", top))
    own = top + "tasks:\n  warp: small_pipeline.WarpTask\n"
    Pipeline.from_uri(write(tmp_path / "top.yaml", own))
    write(tmp_path / "hsc.yaml", "description: h\ninstrument: a.Hsc\nimports: base.yaml\n")
    write(tmp_path / "dec.yaml", "description: d\ninstrument: a.Decam\nimports: base.yaml\n")
    both = "description: t\nimports: [hsc.yaml, dec.yaml]\n"
    with pytest.raises(PipelineDefinitionError, match=r"instrument a\.Decam contradicts a\.Hsc"):
        Pipeline.from_uri(write(tmp_path / "both.yaml", both))
    without = (
        "description: t\nimports:\n  - {location: hsc.yaml, instrument: null}\n  - {location: dec.yaml}\n"
    )
    assert Pipeline.from_uri(write(tmp_path / "both.yaml", without)).getInstrument() == "a.Decam"


def test_pipelines_that_import_one_another_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "description: a\nimports: b.yaml\n")
    write(tmp_path / "b.yaml", "description: b\nimports: $HERE/a.yaml\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERE", str(tmp_path))
        with pytest.raises(PipelineDefinitionError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
            Pipeline.from_uri(tmp_path / "a.yaml")
    with pytest.raises(PipelineNotFoundError, match="variable that is not set"):
        Pipeline.from_uri(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: x\ntasks:\n  a: [b\n", r"line \d, column \d+: "),
        ("description: x\ntsks:\n  a: b\n", r"line 2: unknown key 'tsks' .*Did you mean 'tasks'"),
        ("tasks:\n  a: b\n", "needs a 'description'"),
        ("description: x\n", "needs 'tasks'"),
        ("description: x\ntasks:\n  a: b.C\n  a: b.D\n", r"line 4.*'a' is given twice \(first in line 3\)"),
        ("description: x\ntasks:\n  a: {klass: b}\n", r"line 3: unknown key 'klass'.*Did you mean 'class'"),
        ("description: x\ntasks:\n  a: {config: {b: 1}}\n", "task 'a' needs a 'class'"),
        ("description: x\ntasks:\n  a: b.C\nsubsets:\n  s: [aa]\n", "'aa', which is no task"),
        ("description: x\ntasks:\n  a: b.C\nsubsets:\n  a: [a]\n", "'a' is both a task and a subset"),
        ("description: x\ntasks:\n  a: b.C\nsteps:\n  - label: s\n", "step 's' is no subset"),
        ("description: x\ntasks:\n  a: b.C\ncontracts: ['a.b ==']\n", "is not Python"),
        ("description: x\nimports: [{include: a}]\n", "an import needs a 'location'"),
        ("description: x\nimports: [{location: a, include: a, exclude: b}]\n", "not both"),
        ("- a\n", "must be a mapping"),
    ],
)
def test_a_faulty_file_gives_one_message_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "faulty.yaml", text)
    with pytest.raises(PipelineDefinitionError, match=message) as caught:
        Pipeline.from_uri(path)
    assert "faulty.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_the_nearest(base: Path) -> None:
    with pytest.raises(PipelineNotFoundError, match=r"bsae\.yaml.*Did you mean 'base\.yaml'") as caught:
        Pipeline.from_uri(base.with_name("bsae.yaml"))
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.Task", "'no_such_package.Task': there is no module 'no_such_package'"),
        ("small_pipeline.CleenTask", r"has no 'CleenTask'\. Did you mean 'CleanTask'"),
        ("small_pipeline.NotATask", "is no pipeline task"),
        ("butler_dask.tasks.no_such.Task", "butler_dask.tasks.no_such"),
        ("lsst.nothing.here.NoSuchTask", r"lsst\.nothing\.here"),
        ("Plain", "full name"),
    ],
)
def test_a_task_class_that_cannot_be_imported_is_named(name: str, message: str) -> None:
    with pytest.raises(TaskImportError, match=message) as caught:
        Pipeline.fromString(f"description: x\ntasks:\n  a: {name}\n").to_graph()
    assert isinstance(caught.value, ImportError)


def test_tasks_and_subsets_are_added_and_removed(base: Path) -> None:
    from small_pipeline import CleanTask

    pipeline = Pipeline("New.")
    pipeline.addTask(CleanTask, "clean")
    pipeline.addTask("small_pipeline.CatalogTask", "")
    assert pipeline.task_labels == {"clean", "catalog"}
    pipeline.addLabeledSubset("visit", "One visit.", ["clean"])
    pipeline.addLabelToSubset("visit", "catalog")
    assert pipeline.findSubsetsWithLabel("catalog") == {"visit"}
    pipeline.removeLabelFromSubset("visit", "clean")
    assert pipeline.subsets == {"visit": {"catalog"}}
    with pytest.raises(PipelineDefinitionError, match="'clean' already"):
        pipeline.addLabeledSubset("clean", "", ["clean"])
    with pytest.raises(PipelineLabelError, match="no subset 'vist'"):
        pipeline.removeLabeledSubset("vist")
    pipeline.removeLabeledSubset("visit")
    pipeline.removeTask("clean")
    assert "clean" not in pipeline
    with pytest.raises(PipelineLabelError, match="no task 'clean'"):
        pipeline.removeTask("clean")
    pipeline.mergePipeline(Pipeline.from_uri(f"{base}#clean"))
    assert list(pipeline.to_graph().tasks) == ["clean", "catalog"]


def test_an_instrument_configures_tasks_before_the_pipeline_does(
    base: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SMALL_PIPELINE_CONFIG", str(tmp_path))
    write(tmp_path / "clean.py", "config.gain = 7.0\nconfig.title = 'camera'\n")
    pipeline = Pipeline.from_uri(base)
    pipeline.addInstrument("small_pipeline.Camera")
    graph = pipeline.to_graph()
    config = graph.tasks["clean"].config
    assert (config.title, config.gain) == ("camera", 2.0)
    assert graph.data_id["instrument"] == "SmallCam"
    assert PipelineGraph.from_document(graph.to_document()).data_id == graph.data_id
    assert pipeline.getInstrument() == "small_pipeline.Camera"
    assert Pipeline.fromString(str(pipeline)).getInstrument() == "small_pipeline.Camera"


def test_a_relative_configuration_file_is_beside_its_pipeline(base: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner / "more.py", "config.iterations = 21\n")
    write(
        inner / "inner.yaml",
        "description: i\ntasks:\n  clean: {class: small_pipeline.CleanTask, config: {file: more.py}}\n",
    )
    top = write(tmp_path / "top.yaml", "description: t\nimports: inner/inner.yaml\n")
    assert Pipeline.from_uri(top).to_graph().tasks["clean"].config.iterations == 21


def test_an_instrument_of_the_reference_is_ours(base: Path) -> None:
    base.write_text("instrument: lsst.obs.subaru.HyperSuprimeCam\n" + BASE)
    assert Pipeline.from_uri(base).to_graph().data_id["instrument"] == "HSC"
    base.write_text("instrument: lsst.obs.subaru.HyperSuprimeCan\n" + BASE)
    with pytest.raises(ButlerUserError, match="HyperSuprimeCan"):
        Pipeline.from_uri(base).to_graph()


def test_tasks_of_the_reference_are_ours_where_it_is_not_installed() -> None:
    pipeline = Pipeline.fromString(
        "description: x\n"
        "tasks:\n"
        "  isr: lsst.ip.isr.IsrTask\n"
        "  makeWarp: {class: lsst.pipe.tasks.makeWarp.MakeWarpTask}\n"
    )
    graph = pipeline.to_graph()
    assert graph.tasks["isr"].task_class_name == "butler_dask.tasks.isr.IsrTask"
    assert graph.tasks["makeWarp"].task_class_name == "butler_dask.tasks.warp.MakeWarpTask"


def test_the_example_pipeline_has_the_four_labels_of_the_tutorial() -> None:
    pipelines = Path(__file__).parent.parent / "pipelines"
    example = Pipeline.from_uri(pipelines / "example.yaml")
    assert list(example) == ["isr", "charImage", "calibrate", "makeWarp"]
    calibs = Pipeline.from_uri(pipelines / "calibs.yaml")
    assert list(calibs) == ["cpBias", "cpDark", "cpFlat"]
