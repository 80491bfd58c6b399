"""What butler.yaml says of datastores, paths, formatters and storage classes."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.table import Table
from round_trip import make_exposure

from butler_dask import Butler, DatasetType, FileDataset, StorageClass
from butler_dask.errors import (
    ConflictingDefinitionError,
    DatasetFileError,
    DatasetNotFoundError,
    DatasetTypeError,
    MissingDatasetFileError,
    RepositoryError,
)
from butler_dask.vocabulary.dataset import DatasetRef

DATA_ID = {"instrument": "Cam", "detector": 1}


def fill(butler):
    for name in ("Cam", "Other"):
        butler.registry.insertDimensionData("instrument", {"name": name, "detector_max": 10})
        butler.registry.insertDimensionData(
            "detector", *[{"instrument": name, "id": i, "full_name": f"d{i}"} for i in range(5)]
        )
    for name, kind in (("doc", "StructuredDataDict"), ("image", "ExposureF"), ("table", "ArrowAstropy")):
        butler.registry.registerDatasetType(DatasetType(name, ["instrument", "detector"], kind))


@pytest.fixture
def opened(tmp_path):
    """Make a repository with some settings, and open it."""
    butlers = []

    def make(**config):
        Butler.makeRepo(tmp_path / "repo", config)
        butlers.append(Butler(tmp_path / "repo", run="u/me"))
        fill(butlers[-1])
        return butlers[-1]

    yield make
    for butler in butlers:
        butler.close()


def files(tmp_path, where="repo"):
    suffixes = (".json", ".fits", ".pickle", ".txt")
    found = (tmp_path / where).rglob("*")
    return sorted(str(p.relative_to(tmp_path / where)) for p in found if p.suffix in suffixes)


class Span:
    """A type somebody else wrote."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    @classmethod
    def from_dict(cls, values):
        return cls(**values)

    def __eq__(self, other):
        return (self.first, self.last) == (other.first, other.last)


class SpanFormatter:
    """Its formatter: ``first last`` in a text file."""

    extension = ".txt"

    def chunks(self, obj, storage_class):
        yield f"{obj.first} {obj.last}".encode()

    def read(self, request):
        first, last = map(int, Path(request.path).read_text().split())
        if request.component is not None:
            return {"first": first, "length": last - first}[request.component]
        return Span(first * request.parameters.get("factor", 1), last)


SPAN = {
    "pytype": "test_datastore_settings.Span",
    "components": {"first": "Integer"},
    "derivedComponents": {"length": "Integer"},
    "parameters": ["factor"],
    "converters": {"dict": "test_datastore_settings.Span.from_dict"},
}


class TestMemory:
    """Objects of this process."""

    @pytest.fixture
    def butler(self, opened):
        return opened(datastore={"type": "memory"})

    def test_objects_are_kept_without_files(self, butler, tmp_path):
        exposure, table = make_exposure(), Table({"x": [1, 2], "y": [3, 4]})
        butler.put({"a": [1]}, "doc", DATA_ID)
        butler.put(exposure, "image", DATA_ID)
        butler.put(table, "table", DATA_ID)
        assert files(tmp_path) == []
        assert butler.get("doc", DATA_ID) == {"a": [1]}
        np.testing.assert_array_equal(butler.get("image", DATA_ID).image, exposure.image)
        assert butler.get("image.photoCalib", DATA_ID) == exposure.photo_calib
        cut = butler.get("image.image", DATA_ID, parameters={"bbox": (*exposure.xy0, 3, 2)})
        np.testing.assert_array_equal(cut, exposure.image[:2, :3])
        assert butler.get("table", DATA_ID, parameters={"columns": ["y"]}).colnames == ["y"]
        assert butler.get("table.rowcount", DATA_ID) == 2
        assert butler.getURI("doc", DATA_ID).startswith("memory://")
        assert butler.exists("doc", DATA_ID).name == "VERIFIED"

    def test_changing_an_object_changes_nothing_stored(self, butler):
        document = {"a": [1]}
        butler.put(document, "doc", DATA_ID)
        document["a"].append(2)
        butler.get("doc", DATA_ID)["a"].append(3)
        assert butler.get("doc", DATA_ID) == {"a": [1]}

    def test_failed_transaction_and_removal_forget_objects(self, butler):
        def put_and_fail():
            with butler.transaction():
                butler.put({"a": 1}, "doc", DATA_ID)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            put_and_fail()
        assert list(butler.datastore.files()) == []
        ref = butler.put({"a": 2}, "doc", DATA_ID)
        with pytest.raises(ConflictingDefinitionError):
            butler.put({"a": 3}, "doc", DATA_ID)
        assert butler.get(ref) == {"a": 2}
        butler.removeRuns("u/me")
        assert list(butler.datastore.files()) == []

    def test_second_butler_of_the_process_has_them_and_another_process_says_so(self, butler):
        butler.put({"a": 1}, "doc", DATA_ID)
        with pickle.loads(pickle.dumps(butler)) as other:
            assert other.get("doc", DATA_ID) == {"a": 1}
        command = [
            "-c",
            f"from butler_dask import Butler; b = Butler({butler.root!r}, collections='u/me');"
            "print(b.get('doc', instrument='Cam', detector=1))",
        ]
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert "MissingDatasetFileError" in done.stderr
        assert "is not in the memory of this process" in done.stderr

    def test_files_are_refused(self, butler, tmp_path):
        (tmp_path / "x.json").write_text("{}")
        ref = DatasetRef(butler.get_dataset_type("doc"), DATA_ID, "u/me")
        with pytest.raises(DatasetFileError, match="keeps objects, not files"):
            butler.ingest(FileDataset(str(tmp_path / "x.json"), [ref]))


class TestChain:
    """Several datastores as one."""

    @pytest.fixture
    def butler(self, opened, tmp_path):
        members = [
            {"type": "memory", "constraints": {"reject": ["ExposureF", {"instrument<Other>": ["doc"]}]}},
            {"root": "<butlerRoot>/first", "constraints": {"accept": ["all"], "reject": ["table"]}},
            {"root": str(tmp_path / "second")},
        ]
        return opened(datastore={"type": "chained", "members": members})

    def test_every_member_that_accepts_it_has_it(self, butler, tmp_path):
        butler.put({"a": 1}, "doc", DATA_ID)
        butler.put({"a": 2}, "doc", DATA_ID, instrument="Other")
        butler.put(make_exposure(), "image", DATA_ID)
        butler.put(Table({"x": [1]}), "table", DATA_ID)
        in_memory = sorted(path for path, _ in butler.datastore.members[0].files())
        assert [p.split("/")[-1] for p in in_memory] == ["doc_Cam_1_u_me.json", "table_Cam_1_u_me.fits"]
        assert [p.split("/")[-1] for p in files(tmp_path, "repo/first")] == [
            "doc_Cam_1_u_me.json",
            "doc_Other_1_u_me.json",
            "image_Cam_1_u_me.fits",
        ]
        assert len(files(tmp_path, "second")) == 4
        assert butler.getURI("table", DATA_ID).startswith("memory://")

    def test_first_member_that_has_it_is_read(self, butler, tmp_path):
        ref = butler.put(make_exposure(), "image", DATA_ID)
        first = tmp_path / "repo/first" / files(tmp_path, "repo/first")[0]
        first.unlink()
        assert butler.exists(ref)
        assert butler.getURI(ref).startswith(f"file://{tmp_path}/second/")
        np.testing.assert_array_equal(butler.get(ref).image, make_exposure().image)
        (tmp_path / "second" / files(tmp_path, "second")[0]).unlink()
        with pytest.raises(MissingDatasetFileError):
            butler.get(ref)

    def test_removal_and_failure_leave_nothing_anywhere(self, butler, tmp_path):
        def put_and_fail():
            with butler.transaction():
                butler.put(make_exposure(), "image", DATA_ID)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            put_and_fail()
        butler.put({"a": 1}, "doc", DATA_ID)
        butler.removeRuns("u/me")
        assert files(tmp_path) == files(tmp_path, "second") == []
        assert list(butler.datastore.files()) == []

    def test_file_is_ingested_by_the_first_that_keeps_files(self, butler, tmp_path):
        (tmp_path / "x.json").write_text('{"n": 1}')
        ref = DatasetRef(butler.get_dataset_type("doc"), DATA_ID, "u/me")
        butler.ingest(FileDataset(str(tmp_path / "x.json"), [ref]), transfer="copy")
        assert butler.get(ref) == {"n": 1}
        assert len(files(tmp_path, "repo/first")) == 1

    def test_dataset_nobody_accepts_is_refused(self, opened):
        members = [{"type": "memory", "constraints": {"accept": ["table", "detector+instrument+visit"]}}]
        butler = opened(datastore={"type": "chained", "members": members})
        with pytest.raises(DatasetTypeError, match="No datastore of the chain accepts doc"):
            butler.put({"a": 1}, "doc", DATA_ID)
        assert butler.find_dataset("doc", DATA_ID) is None


class TestTemplates:
    """Paths by configuration."""

    def test_fields_of_the_reference(self, opened, tmp_path):
        butler = opened(
            templates={
                "default": "{run:/}/{datasetType}.{component:?}/{instrument}/{band:?}/{detector:04d}",
                "doc": "{run}/docs/{datasetType}/{instrument}_{detector.full_name}_{detector}",
                "instrument<Other>": {
                    "StructuredDataDict": "other/{run}/{datasetType}{instrument}{detector}"
                },
            }
        )
        butler.put(Table({"x": [1]}), "table", DATA_ID)
        butler.put({"a": 1}, "doc", DATA_ID)
        butler.put({"a": 2}, "doc", DATA_ID, instrument="Other")
        assert files(tmp_path) == [
            "other/u/me/docOther1.json",
            "u/me/docs/doc/Cam_d1_1.json",
            "u/me/table/Cam/0001.fits",
        ]
        assert butler.get("doc", instrument="Other", detector=1) == {"a": 2}
        table = butler.query_datasets("doc", with_dimension_records=False)
        assert len(table) == 2
        predicted = butler.getURI("doc", DATA_ID, detector=3, predict=True)
        assert predicted.endswith("u/me/docs/doc/Cam_d3_3.json")

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{run}/{datasetType}/{instrument}/{detectr}", "Did you mean 'detector'"),
            ("{run}/{datasetType}/{instrument}", "it lacks detector"),
            ("{run}/{datasetType", "cannot be read"),
            ("../{run}/{datasetType}/{instrument}/{detector}", "leads out"),
            ("{run}/{datasetType}/{instrument}/{detector:>9}", "is no format"),
        ],
    )
    def test_wrong_template_is_one_clear_error(self, opened, template, message):
        butler = opened(templates={"doc": template})
        with pytest.raises(DatasetTypeError, match=message):
            butler.put({"a": 1}, "doc", DATA_ID)
        assert any(message in problem for problem in butler.configuration_problems())

    def test_problems_of_a_configuration_are_all_named(self, opened):
        butler = opened(
            templates={"doc": "{run}/{datasetType}", "dok": "{id}"},
            formatters={"ExposureF": "no.such.Formatter"},
        )
        problems = "\n".join(butler.configuration_problems())
        for text in ("it lacks instrument, detector", "'dok' is no dataset type", "no.such.Formatter"):
            assert text in problems
        butler.validateConfiguration(datasetTypeNames=["table"])
        with pytest.raises(RepositoryError, match="it lacks instrument"):
            butler.validateConfiguration()
        butler.validateConfiguration(ignore=["doc", "dok", "image", "ExposureF"])


class TestStorageClasses:
    """Kinds of objects by configuration."""

    @pytest.fixture
    def butler(self, opened):
        butler = opened(
            storage_classes={"Span": SPAN, "LongSpan": {"inheritsFrom": "Span"}},
            formatters={"Span": "test_datastore_settings.SpanFormatter"},
        )
        butler.registry.registerDatasetType(DatasetType("span", ["instrument", "detector"], "Span"))
        return butler

    def test_type_of_the_user_has_components_parameters_and_converters(self, butler, tmp_path):
        ref = butler.put(Span(3, 10), "span", DATA_ID)
        assert files(tmp_path) == ["u/me/span/Cam/span_Cam_1_u_me.txt"]
        assert butler.get("span", DATA_ID) == Span(3, 10)
        assert butler.get("span.first", DATA_ID) == 3
        assert butler.get(ref.makeComponentRef("length")) == 7
        assert butler.get("span", DATA_ID, parameters={"factor": 2}) == Span(6, 10)
        assert butler.getDeferred(ref).get(component="length") == 7
        butler.put({"first": 1, "last": 2}, "span", DATA_ID, detector=2)
        assert butler.get("span", DATA_ID, detector=2) == Span(1, 2)
        with pytest.raises(DatasetTypeError, match="no parameter 'faktor'"):
            butler.get("span", DATA_ID, parameters={"faktor": 2})

    def test_other_process_knows_it(self, butler):
        butler.put(Span(3, 10), "span", DATA_ID)
        code = (
            f"from butler_dask import Butler; b = Butler({butler.root!r}, collections='u/me');"
            "print(b.get('span.length', instrument='Cam', detector=1))"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
        assert subprocess.check_output([sys.executable, "-c", code], env=environment) == b"7\n"

    @pytest.mark.parametrize(
        ("definition", "message"),
        [
            ({"pytyp": "x"}, "Did you mean 'pytype'"),
            ({"pytype": "dict", "components": {"a": "Integr"}}, "Did you mean 'Integer'"),
            ({"inheritsFrom": "NoSuchClass"}, "No storage class 'NoSuchClass'"),
            ({"inheritsFrom": "Wrong"}, "inherits from itself"),
            (["dict"], "is a mapping"),
        ],
    )
    def test_wrong_definition_is_one_clear_error(self, tmp_path, definition, message):
        with pytest.raises(DatasetTypeError, match=message):
            Butler.makeRepo(tmp_path / "wrong", {"storage_classes": {"Wrong": definition}})
        assert not (tmp_path / "wrong").exists()

    def test_missing_python_type_is_one_clear_error(self, opened):
        butler = opened(
            storage_classes={"Lost": {"pytype": "no.such.Type"}},
            formatters={"Lost": "butler_dask.datastore.document.DocumentFormatter"},
        )
        butler.registry.registerDatasetType(DatasetType("lost", ["instrument", "detector"], "Lost"))
        with pytest.raises(
            DatasetTypeError, match=r"Cannot import type 'no\.such\.Type' of storage class 'Lost'"
        ):
            butler.put({"a": 1}, "lost", DATA_ID)


class TestTables:
    """Conversion among the types of tables."""

    def test_types_that_need_no_further_package(self, opened):
        butler = opened()
        butler.put(Table({"x": [1, 2], "y": [0.5, 1.5]}), "table", DATA_ID)
        structured = butler.get("table", DATA_ID, storageClass="ArrowNumpy")
        assert structured.dtype.names == ("x", "y")
        columns = butler.get("table", DATA_ID, storageClass="ArrowNumpyDict")
        assert columns["y"].tolist() == [0.5, 1.5]
        assert butler.get("table", DATA_ID, storageClass="StructuredDataDict") == {
            "x": [1, 2],
            "y": [0.5, 1.5],
        }
        butler.put(structured, "table", DATA_ID, detector=2)
        assert butler.get("table", DATA_ID, detector=2)["x"].tolist() == [1, 2]
        butler.registry.registerDatasetType(DatasetType("array", ["instrument", "detector"], "ArrowNumpy"))
        butler.put(structured, "array", DATA_ID)
        assert butler.get("array", DATA_ID)["x"].tolist() == [1, 2]
        assert butler.get("array.rowcount", DATA_ID) == 2
        assert butler.get("array", DATA_ID, storageClass="ArrowAstropy").colnames == ["x", "y"]

    def test_missing_package_is_named(self, opened):
        try:
            import pyarrow
        except ImportError:
            pass
        else:
            pytest.skip(f"pyarrow {pyarrow.__version__} is installed")
        butler = opened()
        butler.put(Table({"x": [1, 2]}), "table", DATA_ID)
        with pytest.raises(DatasetTypeError, match=r"needs pyarrow, .*butler-dask\[parquet\]"):
            butler.get("table", DATA_ID, storageClass="ArrowTable")

    def test_parquet_files_keep_units_and_read_single_columns(self, opened, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        pandas = pytest.importorskip("pandas")
        butler = opened()
        dimensions = ["instrument", "detector"]
        for name, kind in (("arrow", "ArrowTable"), ("frame", "DataFrame")):
            butler.registry.registerDatasetType(DatasetType(name, dimensions, kind))
        table = Table({"x": [1, 2], "y": [0.5, 1.5], "s": ["a", "bc"], "v": [[1, 2], [3, 4]]})
        table["y"].unit, table["x"].description = "Jy", "where"
        table.meta["night"] = 7
        butler.put(table, "arrow", DATA_ID)
        assert butler.getURI("arrow", DATA_ID).endswith(".parq")
        assert isinstance(butler.get("arrow", DATA_ID), pyarrow.Table)
        back = butler.get("arrow", DATA_ID, storageClass="ArrowAstropy")
        assert (str(back["y"].unit), back["x"].description, back.meta["night"]) == ("Jy", "where", 7)
        assert back["v"].tolist() == [[1, 2], [3, 4]]
        assert butler.get("arrow", DATA_ID, parameters={"columns": "y"}).column_names == ["y"]
        assert butler.get("arrow.columns", DATA_ID) == ["x", "y", "s", "v"]
        assert butler.get("arrow.rowcount", DATA_ID) == 2
        assert butler.get("arrow.schema", DATA_ID)["y"]["unit"] == "Jy"
        with pytest.raises(DatasetTypeError, match="no column 'z'"):
            butler.get("arrow", DATA_ID, parameters={"columns": "z"})
        frame = pandas.DataFrame({"a": [1.5, 2.5]}, index=pandas.Index([10, 20], name="id"))
        butler.put(frame, "frame", DATA_ID)
        pandas.testing.assert_frame_equal(butler.get("frame", DATA_ID), frame)
        ref = DatasetRef(butler.get_dataset_type("table"), DATA_ID, "u/me")
        butler.ingest(FileDataset(butler.getURI("arrow", DATA_ID).ospath, [ref]), transfer="copy")
        assert butler.get(ref)["x"].tolist() == [1, 2]


class TestMakeRepo:
    """`Butler.makeRepo` and the settings it writes."""

    def test_settings_come_from_a_mapping_or_a_file(self, tmp_path):
        (tmp_path / "seed.yaml").write_text(yaml.safe_dump({"templates": {"doc": "{id}"}}))
        made = Butler.makeRepo(tmp_path / "one", str(tmp_path / "seed.yaml"))
        assert made.templates == {"doc": "{id}"}
        assert yaml.safe_load((tmp_path / "one/butler.yaml").read_text())["templates"] == {"doc": "{id}"}

    def test_configuration_may_lie_elsewhere(self, tmp_path):
        Butler.makeRepo(tmp_path / "one", outfile=tmp_path / "config.yaml")
        assert not (tmp_path / "one/butler.yaml").exists()
        with Butler(tmp_path / "config.yaml", run="u/me") as butler:
            assert butler.root == str(tmp_path / "one")
            fill(butler)
            butler.put({"a": 1}, "doc", DATA_ID)
        assert len(files(tmp_path, "one")) == 1

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"datastor": {}}, "Did you mean 'datastore'"),
            ({"datastore": {"type": "fil"}}, "Did you mean 'file'"),
            ({"datastore": {"roote": "x"}}, "Did you mean 'root'"),
            ({"datastore": {"type": "chained", "members": 3}}, "is a list"),
            ({"datastore": {"type": "chained", "members": []}}, "at least one"),
            ({"datastore": {"cache": {"directory": "/tmp/x", "mode": "sice"}}}, "Did you mean 'size'"),
            ({"datastore": {"checksum": "md5"}}, "No checksum 'md5'"),
            ({"templates": {"doc": 3}}, "is a text"),
            ({"registry": {"db": "sqlite://"}}, "Rubin's own Butler"),
        ],
    )
    def test_wrong_settings_make_nothing(self, tmp_path, config, message):
        with pytest.raises((RepositoryError, DatasetTypeError), match=message):
            Butler.makeRepo(tmp_path / "repo", config)
        assert not (tmp_path / "repo").exists()

    def test_dimensions_are_fixed(self, tmp_path):
        with pytest.raises(RepositoryError, match="dimension universe"):
            Butler.makeRepo(tmp_path / "repo", dimensionConfig={"version": 1})

    def test_missing_protocol_names_the_extra(self, tmp_path):
        code = (
            "import sys; sys.modules['s3fs'] = None\n"
            "from butler_dask import Butler\n"
            f"Butler.makeRepo({str(tmp_path / 'repo')!r}, datastore='s3://bucket/data')"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert "pip install 'butler-dask[s3]'" in done.stderr
        assert not (tmp_path / "repo").exists()


def test_storage_class_travels_by_value():
    kind = StorageClass("Far", "dict", {"a": "Integer"}, frozenset({"p"}), {"list": "builtins.dict"})
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert json.dumps(dict(kind.components)) == '{"a": "Integer"}'


def test_dataset_that_is_nowhere_is_not_found(opened):
    butler = opened()
    with pytest.raises(DatasetNotFoundError):
        butler.get("doc", DATA_ID)
