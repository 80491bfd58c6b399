from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
from small_pipeline import CatalogConnections, CatalogTask, CleanConnections, CleanTask

from butler_dask.pipeline import (
    NoWorkFound,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
    connectionTypes as cT,
)
from butler_dask.pipeline.quantum_outcome import ScalarError
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType

RAW = DatasetType("raw", ("instrument", "exposure", "detector"), "StructuredDataDict")
BIAS = DatasetType("bias", ("instrument", "detector"), "StructuredDataDict", isCalibration=True)
CLEAN = DatasetType("clean", ("instrument", "exposure", "detector"), "StructuredDataDict")
CATALOG = DatasetType("goodCatalog", ("instrument", "visit", "detector"), "ArrowAstropy")
WHERE = {"instrument": "HSC", "exposure": 903344, "visit": 903344, "detector": 5}


def ref(dataset_type: DatasetType, run: str = "run", **changes: object) -> DatasetRef:
    values = {name: (WHERE | changes)[name] for name in dataset_type.dimensions.required}
    return DatasetRef(
        dataset_type, DataCoordinate.standardize(values, dimensions=dataset_type.dimensions), run
    )


class Shelf:
    """A store of one quantum's datasets in memory."""

    def __init__(self, objects: dict[DatasetRef, object]) -> None:
        self.objects = objects

    def get(self, ref, /, *, parameters=None):
        return self.objects[ref]

    def getDeferred(self, ref, /):
        return SimpleNamespace(get=lambda: self.objects[ref])

    def put(self, obj, ref, /):
        self.objects[ref] = obj


def quantum(inputs: list[DatasetRef], outputs: list[DatasetRef]) -> SimpleNamespace:
    def by_type(refs):
        found = defaultdict(list)
        for one in refs:
            found[one.datasetType].append(one)
        return dict(found)

    return SimpleNamespace(inputs=by_type(inputs), outputs=by_type(outputs), dataId=outputs[0].dataId)


def test_connections_are_sorted_by_kind() -> None:
    connections = CleanConnections(config=CleanTask.ConfigClass())
    assert connections.inputs == {"raw"}
    assert connections.prerequisiteInputs == {"bias"}
    assert connections.outputs == {"cleaned"}
    assert connections.initInputs == connections.initOutputs == frozenset()
    assert connections.dimensions == {"instrument", "exposure", "detector"}
    assert connections.raw.dimensions == {"instrument", "exposure", "detector"}
    assert connections.raw.varName == "raw"


def test_a_connection_is_removed_by_configuration() -> None:
    config = CleanTask.ConfigClass()
    config.doBias = False
    connections = CleanConnections(config=config)
    assert not hasattr(connections, "bias")
    assert "bias" not in connections.allConnections
    assert connections.prerequisiteInputs == frozenset()
    # The class still has it: another configuration keeps it.
    assert CleanConnections.bias.name == "bias"
    assert "bias" in CleanConnections(config=CleanTask.ConfigClass()).allConnections


def test_templates_fill_names_and_a_name_can_be_overridden() -> None:
    config = CatalogTask.ConfigClass()
    config.connections.kind = "bad"
    connections = CatalogConnections(config=config)
    assert connections.catalog.name == "badCatalog"
    assert connections.schema.name == "badCatalog_schema"
    config.connections.catalog = "my{kind}Sources"
    assert CatalogConnections(config=config).catalog.name == "mybadSources"


def test_dimensions_and_connections_can_change_in_init_only() -> None:
    class Flexible(PipelineTaskConnections, dimensions=("instrument",)):
        a = cT.Input(doc="a", name="a", storageClass="StructuredDataDict", dimensions=("instrument",))
        b = cT.Output(doc="b", name="b", storageClass="StructuredDataDict", dimensions=("instrument",))

        def __init__(self, *, config=None):
            self.dimensions.add("detector")
            self.b = dataclasses.replace(self.b, dimensions=("instrument", "detector"))
            self.a = cT.PrerequisiteInput(
                doc="a", name="a", storageClass="StructuredDataDict", dimensions=("instrument",)
            )
            self.c = cT.Input(
                doc="c", name="c", storageClass="StructuredDataDict", dimensions=("instrument",)
            )

    connections = Flexible()
    assert connections.dimensions == {"instrument", "detector"}
    assert connections.b.dimensions == {"instrument", "detector"}
    assert connections.prerequisiteInputs == {"a"}
    assert connections.inputs == {"c"}
    with pytest.raises(AttributeError, match="only be changed in __init__"):
        connections.b = connections.a
    with pytest.raises(AttributeError, match="only be removed in __init__"):
        del connections.b
    # The declaration is untouched.
    assert Flexible.b.dimensions == {"instrument"}


def test_the_older_way_of_removing_a_connection_works() -> None:
    class Older(PipelineTaskConnections, dimensions=("instrument",)):
        a = cT.Input(doc="a", name="a", storageClass="StructuredDataDict", dimensions=("instrument",))
        b = cT.Input(doc="b", name="b", storageClass="StructuredDataDict", dimensions=("instrument",))

        def __init__(self, *, config=None):
            super().__init__(config=config)
            self.inputs.remove("a")

    connections = Older()
    assert set(connections.allConnections) == {"b"}
    assert not hasattr(connections, "a")


def test_connections_are_inherited_with_templates_and_dimensions() -> None:
    class More(CatalogConnections, defaultTemplates={"kind": "new"}):
        extra = cT.Output(
            doc="x", name="{kind}Extra", storageClass="StructuredDataDict", dimensions=("instrument", "visit")
        )

    connections = More()
    assert connections.catalog.name == "newCatalog"
    assert connections.extra.name == "newExtra"
    assert connections.dimensions == {"instrument", "visit", "detector"}


def test_faulty_declarations_are_refused() -> None:
    with pytest.raises(TypeError, match="needs the dimensions"):

        class NoDimensions(PipelineTaskConnections):
            a = cT.InitInput(doc="a", name="a", storageClass="StructuredDataDict")

    with pytest.raises(TypeError, match=r"templates without a value: \['kind'\]"):

        class NoTemplate(PipelineTaskConnections, dimensions=()):
            a = cT.InitInput(doc="a", name="{kind}", storageClass="StructuredDataDict")

    with pytest.raises(TypeError, match="must not have the same name"):

        class Clash(PipelineTaskConnections, dimensions=(), defaultTemplates={"a": "b"}):
            a = cT.InitInput(doc="a", name="a", storageClass="StructuredDataDict")

    with pytest.raises(TypeError, match="not one string"):
        cT.Input(doc="a", name="a", storageClass="StructuredDataDict", dimensions="visit")
    with pytest.raises(ValueError, match="component cannot be written"):
        cT.Output(doc="a", name="a.wcs", storageClass="Wcs", dimensions=("visit",))
    with pytest.raises(ValueError, match="minimum=2"):
        cT.Input(doc="a", name="a", storageClass="Wcs", dimensions=("visit",), minimum=2)
    with pytest.raises(NameError, match="pipelineConnections"):

        class Unconnected(PipelineTaskConfig):
            pass


def test_adjust_quantum_leaves_out_quanta_without_inputs() -> None:
    connections = CleanConnections(config=CleanTask.ConfigClass())
    data_id = ref(RAW).dataId
    outputs = {"cleaned": (connections.cleaned, [ref(CLEAN)])}
    bias = (connections.bias, [ref(BIAS)])
    assert connections.adjustQuantum(
        {"raw": (connections.raw, [ref(RAW)]), "bias": bias}, outputs, "clean", data_id
    ) == ({}, {})
    with pytest.raises(NoWorkFound, match="needs 1 'raw', found 0"):
        connections.adjustQuantum({"raw": (connections.raw, []), "bias": bias}, outputs, "clean", data_id)
    with pytest.raises(FileNotFoundError, match="needs 1 'bias', found 0"):
        connections.adjustQuantum({"bias": (connections.bias, [])}, outputs, "clean", data_id)
    with pytest.raises(ScalarError, match="takes one dataset, found 2"):
        connections.adjustQuantum(
            {"raw": (connections.raw, [ref(RAW), ref(RAW, detector=6)])}, outputs, "clean", data_id
        )


def test_a_quantum_reads_runs_and_writes() -> None:
    raw, bias, clean = ref(RAW), ref(BIAS), ref(CLEAN)
    shelf = Shelf({raw: {"value": 10}, bias: {"value": 3}})
    task = CleanTask()
    work = quantum([raw, bias], [clean])
    context = QuantumContext(shelf, work)
    task.runQuantum(context, *task.config.ConnectionsClass(config=task.config).buildDatasetRefs(work))
    assert shelf.objects[clean] == {"value": 7}
    assert context.outputsPut == {("clean", clean.dataId)}
    assert context.dataId == clean.dataId


def test_deferred_inputs_arrive_as_handles_in_a_list() -> None:
    frames = [ref(CLEAN), ref(CLEAN, exposure=903346)]
    catalog = ref(CATALOG)
    shelf = Shelf({frames[0]: "a", frames[1]: "b"})
    task = CatalogTask()
    work = quantum(frames, [catalog])
    inputs, outputs = task.config.ConnectionsClass(config=task.config).buildDatasetRefs(work)
    assert [name for name, _ in inputs] == ["cleaned", "reference"]
    assert [r.dataId for r in inputs.cleaned] == [r.dataId for r in frames]
    task.runQuantum(QuantumContext(shelf, work), inputs, outputs)
    assert shelf.objects[catalog] == ["a", "b"]


def test_a_missing_optional_single_input_is_none_and_a_component_follows_its_parent() -> None:
    class Optional(PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
        rows = cT.Input(
            doc="n",
            name="goodCatalog.rowcount",
            storageClass="Integer",
            dimensions=("instrument", "visit", "detector"),
        )
        bias = cT.PrerequisiteInput(
            doc="b",
            name="bias",
            storageClass="StructuredDataDict",
            dimensions=("instrument", "detector"),
            minimum=0,
        )

    inputs, _ = Optional().buildDatasetRefs(quantum([ref(CATALOG)], [ref(CLEAN)]))
    assert inputs.bias is None
    assert inputs.rows.datasetType.name == "goodCatalog.rowcount"


def test_a_quantum_sees_only_its_own_datasets() -> None:
    raw, clean = ref(RAW), ref(CLEAN)
    context = QuantumContext(Shelf({raw: 1}), quantum([raw], [clean]))
    with pytest.raises(ValueError, match=r"'raw' .* is no input of this quantum"):
        context.get(ref(RAW, detector=6))
    with pytest.raises(ValueError, match=r"'raw' .* is no output of this quantum"):
        context.put(1, raw)
    assert context.get([raw, None]) == [1, None]


def test_outputs_are_a_struct_with_one_object_per_dataset() -> None:
    class Many(PipelineTaskConnections, dimensions=("instrument", "exposure")):
        cleaned = cT.Output(
            doc="c",
            name="clean",
            storageClass="StructuredDataDict",
            dimensions=("instrument", "exposure", "detector"),
            multiple=True,
        )

    refs = [ref(CLEAN), ref(CLEAN, detector=6)]
    shelf = Shelf({})
    context = QuantumContext(shelf, quantum([], refs))
    _, outputs = Many().buildDatasetRefs(context.quantum)
    with pytest.raises(TypeError, match=r"Struct with the attributes \['cleaned'\]"):
        context.put({"cleaned": [1, 2]}, outputs)
    with pytest.raises(ValueError, match="1 objects for 2 datasets"):
        context.put(Struct(cleaned=[1]), outputs)
    context.put(Struct(cleaned=[1, None]), outputs)
    assert shelf.objects == {refs[0]: 1}
