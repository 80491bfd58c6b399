from __future__ import annotations

import pickle
import re
import subprocess
import sys

import pytest
from lsst.pex.config import Config, ConfigChoiceField, ConfigurableField, Field, FieldValidationError
from small_pipeline import CatalogConfig, CleanConfig, CleanConnections

from butler_dask.errors import ConfigFieldError, PipelineNotFoundError
from butler_dask.pipeline import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    NoWorkFound,
    PipelineTask,
    PipelineTaskConfig,
    Struct,
    Task,
    TaskMetadata,
)
from butler_dask.pipeline.config_overrides import ConfigOverride
from butler_dask.tasks.calibrate_config import CalibrateConfig
from butler_dask.tasks.calibration_error import CalibrationError
from butler_dask.tasks.calibration_products import CpFlatConfig
from butler_dask.tasks.characterize_config import CharacterizeImageConfig
from butler_dask.tasks.isr_config import IsrTaskConfig
from butler_dask.tasks.warp import MakeWarpConfig


def test_each_connection_and_template_has_a_field() -> None:
    config = CatalogConfig()
    assert config.connections.toDict() == {
        "cleaned": "clean",
        "reference": "reference_catalog",
        "schema": "{kind}Catalog_schema",
        "catalog": "{kind}Catalog",
        "kind": "good",
    }
    assert config.saveLogOutput is True
    assert config.saveMetadata is True


def test_a_config_survives_its_text_and_pickle() -> None:
    config = CleanConfig()
    config.connections.cleaned = "cleaner"
    config.gain = 2.5
    again = CleanConfig()
    again.loadFromString(config.saveToString())
    assert again == config
    assert pickle.loads(pickle.dumps(config)) == config
    other = CleanConfig()
    assert other != config
    messages: list[str] = []
    assert not config.compare(other, output=messages.append)
    assert any("gain" in message for message in messages)


def test_a_config_subclass_may_bring_other_connections() -> None:
    class Sub(CleanConfig):
        more = Field(dtype=int, doc="More.", default=1)

    class Other(CleanConfig, pipelineConnections=CatalogConfig.ConnectionsClass):
        pass

    assert Sub.ConnectionsClass is CleanConnections
    assert "cleaned" in Sub().connections
    assert "kind" in Other().connections
    assert "gain" in Other()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("doBias", "False", False),
        ("doBias", "no", False),
        ("gain", "2", 2.0),
        ("gain", "1e-3", 1e-3),
        ("iterations", "10", 10),
        ("title", "10", "10"),
        ("title", "'10'", "10"),
        ("title", "None", None),
        ("planes", "['BAD']", ["BAD"]),
        ("planes", "BAD,CR", ["BAD", "CR"]),
        ("planes", "[BAD, CR]", ["BAD", "CR"]),
        ("planes", "BAD", ["BAD"]),
        ("limits", "{'high': 3}", {"high": 3.0}),
        ("limits['high']", "3.5", {"low": 1.0, "high": 3.5}),
        ("repair.threshold", "7", 7.0),
        ("connections.raw", "raw2", "raw2"),
    ],
)
def test_text_is_read_as_the_field_wants(key: str, text: str, value: object) -> None:
    config = CleanConfig()
    ConfigOverride({key: text}).apply(config, "clean", {})
    found: object = config
    for part in key.partition("[")[0].split("."):
        found = getattr(found, part)
    if isinstance(value, list):
        found = list(found)
    if isinstance(value, dict):
        found = dict(found)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("doBais", "True", r"Task 'clean'.*CleanConfig has no field 'doBais'\. Did you mean 'doBias'\?"),
        ("repair.treshold", "1", r"RepairConfig has no field 'treshold' .*Did you mean 'threshold'"),
        ("conections.raw", "x", r"no field 'conections'.*Did you mean 'connections'"),
        ("no field", "x", "not a configuration field name"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigFieldError, match=message):
        ConfigOverride({key: text}).apply(CleanConfig(), "clean", {})


@pytest.mark.parametrize(
    ("key", "value"), [("doBias", "maybe"), ("iterations", "1.5"), ("repair.threshold", -1.0), ("gain", [1])]
)
def test_a_value_a_field_does_not_take_is_named(key: str, value: object) -> None:
    with pytest.raises(FieldValidationError, match=f"Task 'clean'.*{key} does not take") as caught:
        ConfigOverride({key: value}).apply(CleanConfig(), "clean", {})
    assert isinstance(caught.value, ConfigFieldError)
    assert "\n" not in str(caught.value)


def test_files_come_before_fields_and_python_comes_last(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path))
    (tmp_path / "more.py").write_text("config.gain = 2.0\nconfig.iterations = 7\nconfig.title = 'file'\n")
    config = CleanConfig()
    ConfigOverride(
        {"iterations": 8, "title": "parameters.name"},
        ("$CONFIG_DIR/more.py",),
        "config.title = config.title + '+' + parameters.name",
    ).apply(config, "clean", {"name": "field"})
    assert (config.gain, config.iterations, config.title) == (2.0, 8, "field+field")


def test_faults_in_files_and_python_name_the_task(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    bad = tmp_path / "bad.py"
    bad.write_text("config.gian = 2\n")
    with pytest.raises(ConfigFieldError, match=r"Task 'clean'.*bad\.py.*gian"):
        ConfigOverride(files=(str(bad),)).apply(CleanConfig(), "clean", {})
    with pytest.raises(PipelineNotFoundError, match=r"cannot read configuration file .*none\.py"):
        ConfigOverride(files=(str(tmp_path / "none.py"),)).apply(CleanConfig(), "clean", {})
    with pytest.raises(PipelineNotFoundError, match="environment variable that is not set"):
        ConfigOverride(files=("$NO_SUCH_VARIABLE/x.py",)).apply(CleanConfig(), "clean", {})
    with pytest.raises(ConfigFieldError, match="Python configuration, line 1"):
        ConfigOverride(python="config.gain =").apply(CleanConfig(), "clean", {})
    with pytest.raises(FieldValidationError, match=r"Task 'clean'.*threshold"):
        ConfigOverride(python="config.repair.threshold = -2.0").apply(CleanConfig(), "clean", {})
    with pytest.raises(ConfigFieldError, match=r"no parameter 'nmae'\. Did you mean 'name'"):
        ConfigOverride({"title": "parameters.nmae"}).apply(CleanConfig(), "clean", {"name": "x"})


def test_a_subtask_has_the_parents_logger_and_metadata() -> None:
    class InnerConfig(Config):
        level = Field(dtype=int, doc="Level.", default=1)

    class Inner(Task):
        ConfigClass = InnerConfig
        _DefaultName = "inner"

        def work(self) -> None:
            self.metadata["n"] = self.config.level

    class OuterConfig(PipelineTaskConfig, pipelineConnections=CleanConnections):
        detection = ConfigurableField(target=Inner, doc="Detection.")

    class Outer(PipelineTask):
        ConfigClass = OuterConfig
        _DefaultName = "characterizeImage"

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.makeSubtask("detection")

        def run(self, raw):
            self.detection.work()
            self.metadata["done"] = True
            return Struct(cleaned=raw)

    config = OuterConfig()
    ConfigOverride({"detection.level": "4"}).apply(config, "outer", {})
    task = Outer(config=config)
    assert task.detection.log.name == "characterizeImage.detection"
    task.run(1)
    full = task.getFullMetadata()
    assert full["characterizeImage.done"] is True
    assert full.metadata["characterizeImage:detection"]["n"] == 4
    task.emptyMetadata()
    assert len(task.detection.metadata) == 0


def test_choices_are_overridden_by_key_and_name() -> None:
    class One(Config):
        width = Field(dtype=float, doc="Width.", default=1.0)

    class ChoosyConfig(PipelineTaskConfig, pipelineConnections=CleanConnections):
        selector = ConfigChoiceField(doc="s", typemap={"one": One, "two": One}, default="one")
        plugins = ConfigChoiceField(doc="p", typemap={"a": One, "b": One}, default=["a"], multi=True)

    config = ChoosyConfig()
    ConfigOverride(
        {"selector.name": "two", "selector['two'].width": "2.5", "plugins.names": "['a', 'b']"}
    ).apply(config, "choosy", {})
    assert config.selector.name == "two"
    assert config.selector.active.width == 2.5
    assert set(config.plugins.names) == {"a", "b"}


def test_timed_methods_write_to_the_metadata() -> None:
    from lsst.utils.timer import timeMethod

    class Timed(Task):
        _DefaultName = "timed"

        @timeMethod
        def work(self) -> int:
            return 3

    task = Timed()
    assert task.work() == 3
    assert task.metadata["workStartCpuTime"] <= task.metadata["workEndCpuTime"]


def test_a_difference_is_reported_as_field_and_both_values() -> None:
    here, there = CleanConfig(), CleanConfig()
    here.doBias = False
    messages: list[str] = []
    assert not here.compare(there, output=messages.append)
    assert messages == ["doBias: False != True"]


def test_a_task_refuses_an_invalid_config() -> None:
    class NeedyConfig(PipelineTaskConfig, pipelineConnections=CleanConnections):
        needed = Field(dtype=int, doc="Needed.", optional=False)

    class Needy(PipelineTask):
        ConfigClass = NeedyConfig
        _DefaultName = "needy"

    with pytest.raises(FieldValidationError, match="needed"):
        Needy()


def test_metadata_is_nested_by_dots_and_survives_json() -> None:
    import numpy as np

    metadata = TaskMetadata()
    metadata["isr.sky.level"] = np.float32(1.5)
    metadata["isr.names"] = ["a", "b"]
    metadata.add("count", 1)
    metadata.add("count", 2)
    metadata["isr.counts"] = np.array([1, 2])
    assert metadata["isr.sky.level"] == 1.5
    assert metadata["isr.names"] == "b"
    assert metadata.getArray("isr.names") == ["a", "b"]
    assert metadata.getArray("count") == [1, 2]
    assert "isr.sky" in metadata
    assert "isr.moon" not in metadata
    assert metadata.names() == {
        "isr",
        "count",
        "isr.sky",
        "isr.sky.level",
        "isr.names",
        "isr.counts",
    }
    assert metadata.get("isr.moon", 7) == 7
    again = TaskMetadata.model_validate_json(metadata.model_dump_json())
    assert again == metadata
    assert TaskMetadata.from_dict(metadata.to_dict()) == metadata
    del metadata["isr.sky"]
    assert metadata != again
    with pytest.raises(KeyError, match=r"isr\.sky"):
        metadata["isr.sky"]
    with pytest.raises(TypeError, match="values are str"):
        metadata["x"] = object()
    with pytest.raises(TypeError, match="one type"):
        metadata["x"] = [1, "a"]


def test_a_struct_holds_and_merges_results() -> None:
    struct = Struct(a=1)
    struct.mergeItems(Struct(b=2, c=3), "b")
    assert struct.getDict() == {"a": 1, "b": 2}
    assert struct == Struct(a=1, b=2)
    assert len(struct) == 2
    copy = struct.copy()
    copy.a = 5
    assert struct.a == 1
    with pytest.raises(RuntimeError, match="'b' already"):
        struct.mergeItems(Struct(b=0), "b")


def test_no_work_found_passes_by_except_exception() -> None:
    assert not issubclass(NoWorkFound, Exception)


def test_partial_outputs_are_annotated(caplog) -> None:
    import logging

    class TooFew(AlgorithmError):
        @property
        def metadata(self):
            return {"n": 3}

    task = Task(config=Config(), name="t")
    error = AnnotatedPartialOutputsError.annotate(TooFew("3 stars"), task, None, log=logging.getLogger("t"))
    assert task.metadata["failure.message"] == "3 stars"
    assert task.metadata["failure.metadata.n"] == 3
    assert "3 stars" in str(error)
    assert "only partial outputs" in caplog.text


@pytest.mark.parametrize("module", ["isr", "characterize", "calibrate", "warp", "calibration_products"])
def test_a_task_class_is_loaded_without_what_only_running_it_needs(module):
    code = (
        f"import sys, butler_dask.tasks.{module}; "
        "print(sorted(sys.modules.keys() & {'numba', 'scipy', 'astropy', 'sqlalchemy', 'dask'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stored_configuration_imports_what_it_always_did():
    """The text goes into repositories, so that the names of these modules are for good."""
    names = {
        CharacterizeImageConfig: {"characterize_config", "source_detection"},
        CalibrateConfig: {"calibrate_config", "source_detection"},
        IsrTaskConfig: {"isr_config"},
        CpFlatConfig: {"calibration_products", "isr_config"},
        MakeWarpConfig: {"warp"},
    }
    for config_class, modules in names.items():
        text = config_class().saveToString()
        assert set(re.findall(r"^import butler_dask\.tasks\.(\w+)", text, re.M)) == modules


def test_a_failed_calibration_is_recorded_under_the_name_of_its_task():
    error = pickle.loads(pickle.dumps(CalibrationError("no match")))
    assert f"{type(error).__module__}.{type(error).__qualname__}" == (
        "butler_dask.tasks.calibrate.CalibrationError"
    )
    assert error.metadata == {"reason": "no match"}
