"""What comes from elsewhere runs no code here, and reaches nothing it has no business with."""

import json
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from command_line import Commands
from config_for_tests import InnerConfig, ManyFields, OtherEngine
from small_repository import make_repository

from butler_dask import Butler, CollectionType, DatasetRef, DatasetType, FileDataset
from butler_dask.datastore.dataset_layout import DatasetLayout
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.errors import ButlerUserError, RepositoryError, UntrustedError
from butler_dask.pipeline.pipeline import Pipeline
from butler_dask.pipeline.pipeline_graph import PipelineGraph
from butler_dask.pipeline.task_class import config_of_text
from butler_dask.vocabulary.config_text import config_from_text, load_config_text

ID = {"instrument": "HSC", "visit": 903344, "detector": 5}
PICKLE = "butler_dask.datastore.pickled_object.PickleFormatter"
THEIR_PICKLE = "lsst.daf.butler.formatters.pickle.PickleFormatter"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def source(tmp_path):
    with Butler(make_repository(tmp_path / "SOURCE"), run="run/1") as butler:
        for d in (1, 2, 3):
            butler.put({"d": d}, "metric", ID, detector=d)
        yield butler


@pytest.fixture
def empty(tmp_path):
    Butler.makeRepo(tmp_path / "EMPTY")
    with Butler(tmp_path / "EMPTY", writeable=True) as butler:
        yield butler


def _exported(source, place):
    with source.export(directory=place, transfer="copy") as export:
        export.saveDatasets(source.query_all_datasets("run/1"))
    return place / "export.yaml"


def _changed(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _trusting(root, **trust):
    path = root / "butler.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "trust": trust}))


@pytest.mark.parametrize("formatter", [PICKLE, THEIR_PICKLE])
def test_pickle_of_a_foreign_export_is_refused_and_not_read(source, empty, tmp_path, formatter):
    file = _exported(source, tmp_path / "out")
    _changed(file, "lsst.daf.butler.formatters.json.JsonFormatter", formatter)
    for data in (tmp_path / "out").rglob("*.json"):
        data.write_bytes(pickle.dumps(Bomb(tmp_path / "struck")))
    with pytest.raises(UntrustedError, match="Only datasets of storage class Pickle are pickled"):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    _changed(file, "storage_class: StructuredDataDict", "storage_class: Pickle")
    with pytest.raises(UntrustedError, match="pickle: true"):
        empty.import_(directory=tmp_path / "out", transfer="copy")
    assert not (tmp_path / "struck").exists()


@pytest.mark.parametrize(
    "formatter",
    ["os.system", "subprocess.Popen", "test_trust.Striker", "butler_dask.published_file.os.abort", "nodots"],
)
def test_formatter_of_a_foreign_export_is_neither_imported_nor_called(source, empty, tmp_path, formatter):
    file = _exported(source, tmp_path / "out")
    _changed(file, "lsst.daf.butler.formatters.json.JsonFormatter", formatter)
    with pytest.raises(ButlerUserError, match=rf"{formatter} \(of metric\)") as caught:
        empty.import_(directory=tmp_path / "out", transfer="copy")
    assert "export.yaml" in str(caught.value)
    assert empty.collections.query("*") == []


class Striker:
    """A formatter of somebody else that does something when it is made."""

    extension = ".json"

    def __init__(self):
        raise AssertionError("was called")

    def read(self, request):
        raise AssertionError("was called")


class Own:
    """A formatter of one's own."""

    extension = ".txt"

    def chunks(self, obj, storage_class):
        return (json.dumps(obj).encode(),)

    def read(self, request):
        with open(request.path) as stream:
            return {"own": json.load(stream)}


def test_formatter_named_in_butler_yaml_is_taken(source, tmp_path):
    file = _exported(source, tmp_path / "out")
    _changed(file, "lsst.daf.butler.formatters.json.JsonFormatter", "test_trust.Own")
    Butler.makeRepo(tmp_path / "OURS")
    _trusting(tmp_path / "OURS", formatters=["test_trust.Own"])
    with Butler(tmp_path / "OURS", writeable=True) as butler:
        refs = butler.import_(directory=tmp_path / "out", transfer="copy")
        assert sorted(butler.get(ref)["own"]["d"] for ref in refs) == [1, 2, 3]
    # Whoever does not trust it any more does not read its files either, and is told which.
    _trusting(tmp_path / "OURS")
    with (
        Butler(tmp_path / "OURS") as butler,
        pytest.raises(UntrustedError, match=r"metric .*test_trust\.Own"),
    ):
        butler.get(refs[0])


@pytest.mark.parametrize("formatter", ["os.system", PICKLE, "test_trust.Striker"])
def test_formatter_of_a_foreign_zip_is_refused(source, empty, tmp_path, formatter):
    made = source.retrieve_artifacts_zip(source.query_all_datasets("run/1"), tmp_path / "zip")
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(made.ospath) as old, zipfile.ZipFile(foreign, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith("index.json"):
                text = text.replace(b"lsst.daf.butler.formatters.json.JsonFormatter", formatter.encode())
            new.writestr(name, text)
    with pytest.raises(UntrustedError, match=r"foreign\.zip \(metric .*not taken in"):
        empty.ingest_zip(foreign, transfer="copy", transfer_dimensions=True)
    assert empty.collections.query("*") == []


def test_formatter_of_another_repository_or_of_an_ingest_must_be_named_too(source, tmp_path):
    source.registry.registerDatasetType(
        DatasetType("other", source.get_dataset_type("metric").dimensions, "StructuredDataDict")
    )
    (tmp_path / "x.json").write_text("{}")
    ref = DatasetRef(source.get_dataset_type("other"), source.registry.expandDataId(ID), "run/1")
    with pytest.raises(UntrustedError, match=r"x\.json \(other .*test_trust\.Own.*butler\.yaml"):
        source.ingest(FileDataset(str(tmp_path / "x.json"), [ref], Own), transfer="copy")


def test_pickle_is_written_and_read_where_butler_yaml_allows_it(tmp_path):
    Butler.makeRepo(tmp_path / "R")
    kind = DatasetType("thing", (), "Pickle")
    with Butler(tmp_path / "R", run="r") as butler:
        butler.registry.registerDatasetType(kind)
        with pytest.raises(UntrustedError, match="pickle: true"):
            butler.put({1, 2}, "thing")
    _trusting(tmp_path / "R", pickle=True)
    with Butler(tmp_path / "R", run="r") as butler:
        butler.put({1, 2}, "thing")
        assert butler.get("thing") == {1, 2}
    layout = DatasetLayout(formatters={"thing": PICKLE}, trust={"pickle": True})
    with pytest.raises(UntrustedError, match="Only datasets of storage class Pickle"):
        layout.placement(DatasetType("thing", (), "StructuredDataDict"))


def test_what_is_trusted_goes_to_workers_and_is_checked(tmp_path):
    store = FileDatastore(str(tmp_path), layout=DatasetLayout(trust={"pickle": True}))
    assert pickle.loads(pickle.dumps(store)).layout.trusted.settings == {"pickle": True}
    for trust, said in (
        ({"pickel": True}, "'pickle'"),
        ({"pickle": 1}, "true or false"),
        ({"formatters": "x"}, "a list"),
    ):
        with pytest.raises(RepositoryError, match=said):
            DatasetLayout(trust=trust)


def test_a_repository_upon_a_shared_one_trusts_what_that_trusts(tmp_path):
    Butler.makeRepo(tmp_path / "SHARED")
    _trusting(tmp_path / "SHARED", formatters=["test_trust.Own"], pickle=True)
    Commands(tmp_path)("butler", "create", "MINE", "--overlay", "SHARED")
    with Butler(tmp_path / "MINE") as butler:
        assert butler.datastore.layout.trusted.load("test_trust.Own", "StructuredDataDict")
        assert butler.datastore.layout.trusted.load(PICKLE, "Pickle")


# ---- configurations


def _config_text(*lines):
    return ManyFields().saveToString() + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.mkdir('struck')",
        "__import__('os').mkdir('struck')",
        "config.number = __import__('os').mkdir('struck')",
        "config.number = [x for x in ().__class__.__base__.__subclasses__()]",
        "config.__class__ = 5",
        "config.__dict__['x'] = 5",
        "for x in [1]: pass",
        "config.load('struck')",
        "config.number = os.system('mkdir struck')",
        "config.number = subprocess.Popen()",
        "config.engine.retarget(target=os.system)",
    ],
)
def test_config_from_elsewhere_is_read_as_data(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ButlerUserError, match=r"(?s)x\.py.*(not run|not called|no field|set a value)"):
        config_from_text(_config_text(line), "x.py")
    assert os.listdir(tmp_path) == []


def test_config_that_sets_values_of_every_kind_comes_back(tmp_path):
    config = ManyFields()
    config.number, config.text = float("nan"), None
    config.numbers, config.values = [-float("inf"), 1e300, 2], {"a": -1}
    config.inner.threshold = 7
    config.choice.name = "inner"
    config.choice["inner"].threshold = 8
    config.engine.retarget(target=OtherEngine)
    config.engine.threshold = 9
    config.parts["x"] = InnerConfig()
    config.parts["x"].threshold = 10
    again = config_from_text(config.saveToString(), "x.py")
    assert again.saveToString() == config.saveToString()
    assert again.engine.target is OtherEngine
    load_config_text(again, "config.number = 3.5\nconfig.numbers = [float('inf'), nan]\n", "x.py")
    assert again.number == 3.5


def test_config_of_another_class_or_none_says_so():
    for text, said in (
        ("config.x = 1", "no line says"),
        ("assert type(config) is os.system", "not called"),
        ("assert type(config) is no.such", "Cannot import"),
        ("assert type(", "not a saved configuration"),
    ):
        with pytest.raises(ButlerUserError, match=said):
            config_from_text(text, "x.py")
    with pytest.raises(ButlerUserError, match="of class"):
        load_config_text(InnerConfig(), ManyFields().saveToString(), "x.py")


# ---- paths, chains and sizes


def test_import_takes_no_file_outside_its_directory(source, empty, tmp_path):
    file = _exported(source, tmp_path / "out")
    (secret := tmp_path / "secret.json").write_text('{"secret": 1}')
    text = file.read_text()
    first = next(line for line in text.splitlines() if line.startswith("    path:")).split()[1]
    os.symlink(tmp_path, tmp_path / "out/link")
    for path in (
        str(secret),
        "../secret.json",
        "link/secret.json",
        f"file://{secret}",
        "a/../../secret.json",
    ):
        file.write_text(text.replace(first, path))
        for transfer in ("copy", "move", "auto", "direct"):
            with pytest.raises(UntrustedError, match=r"export\.yaml names a file outside .*--trust-paths"):
                empty.import_(directory=tmp_path / "out", transfer=transfer)
    with pytest.raises(UntrustedError, match="names a file outside"):
        empty.import_(directory=tmp_path / "out", transfer="move", trust_paths=True)
    refs = empty.import_(directory=tmp_path / "out", transfer="copy", trust_paths=True)
    assert {"secret": 1} in [empty.get(ref) for ref in refs]
    assert secret.exists()


def test_import_command_takes_paths_and_chains_only_when_told(source, tmp_path):
    file = _exported(source, tmp_path / "out")
    source.collections.register("mine", CollectionType.CHAINED)
    source.collections.register("run/2")
    source.collections.redefine_chain("mine", ["run/2", "run/1"])
    chain = "- {type: collection, collection_type: CHAINED, name: mine, children: [run/1]}\n"
    file.write_text(file.read_text() + chain)
    commands = Commands(tmp_path)
    said = commands("butler", "import", "SOURCE", "out", "--transfer", "copy")
    assert "The chain mine is run/2, run/1 here and stays so" in said.stdout + said.stderr
    assert source.collections.get_info("mine").children == ("run/2", "run/1")
    commands("butler", "import", "SOURCE", "out", "--transfer", "copy", "--overwrite-chains")
    with Butler(tmp_path / "SOURCE") as butler:
        assert butler.collections.get_info("mine").children == ("run/1",)
    _changed(file, "path: ", f"path: {tmp_path}/out/../out/")
    said = commands("butler", "import", "NEW", "out", "--transfer", "copy", code=1)
    assert "--trust-paths" in said.stdout + said.stderr
    commands("butler", "import", "NEW", "out", "--transfer", "copy", "--trust-paths")


def _zip_with(source, tmp_path, change, compression=zipfile.ZIP_STORED):
    made = source.retrieve_artifacts_zip(source.query_all_datasets("run/1"), tmp_path / "zip")
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(made.ospath) as old, zipfile.ZipFile(foreign, "w", compression) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return foreign


def test_zip_members_that_unpack_to_far_more_are_refused(source, empty, tmp_path):
    zeros = b"0" * (80 << 20)
    for part in ("index.json", "records.yaml"):
        bomb = _zip_with(
            source,
            tmp_path,
            lambda name, text, part=part: (name, text + zeros if name.endswith(part) else text),
            zipfile.ZIP_DEFLATED,
        )
        with pytest.raises(UntrustedError, match=r"would unpack to 8\d+"):
            empty.ingest_zip(bomb, transfer="copy", transfer_dimensions=True)
    bomb = _zip_with(
        source,
        tmp_path,
        lambda name, text: (name, text if name.startswith("_butler") else zeros),
        zipfile.ZIP_DEFLATED,
    )
    refs = empty.ingest_zip(bomb, transfer="copy", transfer_dimensions=True)
    with pytest.raises(UntrustedError, match="would unpack to 8"):
        empty.get(refs[0])


def test_zip_members_get_no_names_outside_a_directory(source, empty, tmp_path):
    for name in ("../../struck", "/tmp/struck", "a/../b", "a\nb"):
        escaped = json.dumps(name).encode()

        def change(member, text, escaped=escaped):
            if not member.endswith("index.json"):
                return member, text
            index = json.loads(text)
            old = next(iter(index["artifact_map"]))
            return member, text.replace(json.dumps(old).encode(), escaped)

        with pytest.raises(UntrustedError, match=r"foreign\.zip: the name of member"):
            empty.ingest_zip(_zip_with(source, tmp_path, change), transfer="copy", transfer_dimensions=True)


def test_a_changed_zip_file_says_so_whatever_was_changed(source, empty, tmp_path):
    import random

    whole = _zip_with(source, tmp_path, lambda name, text: (name, text)).read_bytes()
    generator = random.Random(5)
    for n in range(300):
        broken = bytearray(whole)
        for _ in range(generator.choice((1, 1, 4, 50))):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        (tmp_path / f"{n}.zip").write_bytes(
            broken[: generator.choice((len(broken), generator.randrange(len(broken))))]
        )
        with suppress(ButlerUserError, Undo), empty.transaction():
            for ref in empty.ingest_zip(tmp_path / f"{n}.zip", transfer="copy", transfer_dimensions=True):
                empty.get(ref)
            raise Undo


class Undo(Exception):
    """Takes a transaction back."""


def test_config_of_a_foreign_graph_is_read_as_data(tmp_path, monkeypatch):
    class Task:
        ConfigClass = ManyFields

    monkeypatch.chdir(tmp_path)
    evil = ManyFields().saveToString() + "import os\nos.mkdir('struck')\n"
    with pytest.raises(UntrustedError, match=r"configuration of Task, line .*os\.mkdir.*not run"):
        config_of_text(Task, evil)
    assert os.listdir(tmp_path) == []
    assert config_of_text(Task, "config.number = 2.0\n").number == 2
    assert config_of_text(Task, "").number == 0.5


def test_saved_configurations_of_our_tasks_are_read_as_they_were():
    pipeline = Pipeline.fromFile(str(Path(__file__).parent.parent / "pipelines/example.yaml"))
    graph = pipeline.to_graph()
    for label, node in graph.tasks.items():
        text = node.get_str_config()
        assert config_of_text(node.task_class, text).saveToString() == text, label
    document = graph.to_document()
    document["tasks"][0]["config"] += "\n__import__('os').abort()\n"
    with pytest.raises(UntrustedError, match="not run"):
        PipelineGraph.from_document(document)


def test_the_page_on_trust_names_options_and_settings_that_exist(tmp_path):
    page = (Path(__file__).parent.parent / "docs/trust.md").read_text()
    commands = Commands(tmp_path)
    helped = commands("butler", "import", "--help").stdout + commands("pipetask", "qgraph", "--help").stdout
    for option in ("--trust-paths", "--overwrite-chains", "--transfer", "--show", "-g"):
        assert option in page
        assert option in helped
    settings = yaml.safe_load(page.partition("```yaml\n")[2].partition("  ```")[0])
    assert DatasetLayout(trust=settings["trust"]).trusted.settings == settings["trust"]
