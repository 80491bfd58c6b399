"""Input that is almost right: changed export files, pipelines and headers end in one error or in none."""

import random
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.table import Table
from hsc_header import HSC_CARDS
from round_trip import make_exposure, make_ref
from small_repository import make_repository

from butler_dask import Butler, DatasetType
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.datastore.fits_header import header_values
from butler_dask.errors import (
    ButlerUserError,
    DatasetFileError,
    DatasetTypeError,
    FormatVersionError,
    PipelineDefinitionError,
    RefusedRowError,
)
from butler_dask.instruments.instrument import Instrument
from butler_dask.instruments.raw_headers import translate_header
from butler_dask.pipeline.pipeline import Pipeline

ID = {"instrument": "HSC", "visit": 903344, "detector": 5}
ODD = (
    "null", "1e999", "-1", "2013-13-45", "[]", "{}", "!!int ''", "!!bool x", "'\\0'", "1" * 5000, "[" * 2000,
    "*a", "&a [*a]", "!!binary x", "!uuid x", "~", ".nan", "true", "..", "!!timestamp x", "? [a]", "1:2:3",
    "!!python/name:os.system", "{[a]: b}", "lsst", "!!set {a}",
)  # fmt: skip


def _mutations(text, count, seed):
    """Yield texts with a value replaced by an odd one, a line lost or doubled, or characters changed."""
    generator = random.Random(seed)
    lines = text.splitlines()
    for _ in range(count):
        changed = list(lines)
        for _ in range(generator.choice((1, 1, 2))):
            row = generator.randrange(len(changed))
            kind = generator.randrange(6)
            if kind < 3 and ": " in changed[row]:
                changed[row] = f"{changed[row].partition(': ')[0]}: {generator.choice(ODD)}"
            elif kind == 3:
                del changed[row]
            elif kind == 4:
                changed.insert(row, generator.choice(lines))
            else:
                characters = list(changed[row])
                if characters:
                    characters[generator.randrange(len(characters))] = chr(generator.randrange(32, 127))
                changed[row] = "".join(characters)
        yield "\n".join(changed) + "\n"


def test_changed_export_files_are_taken_in_or_refused_with_one_error(tmp_path):
    with Butler(make_repository(tmp_path / "SOURCE"), run="run/1") as source:
        for d in (1, 2):
            source.put({"d": d}, "metric", ID, detector=d)
        with source.export(directory=tmp_path / "out", transfer="copy") as export:
            export.saveDatasets(source.query_all_datasets("run/1"))
    file = tmp_path / "out/export.yaml"
    Butler.makeRepo(tmp_path / "R")
    refused = 0
    with Butler(tmp_path / "R", writeable=True) as butler:
        for text in _mutations(file.read_text(), 400, 3):
            file.write_text(text, errors="surrogateescape")
            with suppress(Undo):
                refused += _refused(butler, tmp_path / "out")
        assert butler.collections.query("*") == []
    assert refused > 150


def _refused(butler, directory):
    """Return whether an import ended in an error without SQL; it is taken back."""
    with butler.transaction():
        try:
            butler.import_(directory=directory, transfer="copy")
        except ButlerUserError as error:
            return not re.search(r"INSERT|SELECT|sqlalche\.me", str(error))
        raise Undo


class Undo(Exception):
    """Takes a transaction back."""


def test_changed_pipelines_are_read_or_refused_with_one_error():
    text = (Path(__file__).parent.parent / "pipelines/example.yaml").read_text()
    for changed in _mutations(text, 400, 4):
        with suppress(ButlerUserError):
            Pipeline.fromString(changed).to_graph()
    for value in ("2013-13-45", "!!int ''", "[" * 3000):
        with pytest.raises(PipelineDefinitionError):
            Pipeline.fromString(f"description: d\ninstrument: {value}\n")


@pytest.mark.parametrize("number", ["1e999", "-1E999", "1D400", "NaN", "-1", "9" * 30, "'x'", "T", ""])
def test_odd_numbers_in_raw_headers_are_errors_of_the_file(number):
    camera = Instrument.from_camera_file("hsc_small").getCamera()
    for keyword in HSC_CARDS:
        header = {**HSC_CARDS, **header_values(f"{keyword:<8}= {number}".ljust(80))}
        with suppress(ButlerUserError):
            translate_header(header, camera, path="x.fits")


@pytest.mark.parametrize("kind", ["ExposureF", "ImageF", "ArrowAstropy"])
def test_odd_cards_of_a_fits_file_are_errors_of_the_file(tmp_path, kind):
    objects = {
        "ExposureF": make_exposure(),
        "ImageF": np.ones((20, 20), dtype=np.float32),
        "ArrowAstropy": Table({"a": [1, 2], "b": ["x", "yy"]}),
    }
    datastore, ref = FileDatastore(str(tmp_path)), make_ref(kind)
    record = datastore.put(objects[kind], ref)
    path = tmp_path / record.path
    whole = path.read_bytes()
    numbers = [m.start() for m in re.finditer(rb"[A-Z0-9_-]{1,8} *= {1,20}\d", whole) if not m.start() % 80]
    assert len(numbers) >= 3
    # A negative number of bytes once led back to the same header for ever.
    for place in numbers:
        for value in (b"1e999", b"-2880", b"-5760", b"9" * 19, b"NaN", b"'x'"):
            path.write_bytes(whole[: place + 10] + value.rjust(20) + whole[place + 30 :])
            with suppress(DatasetFileError, FormatVersionError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                datastore.get(record, ref)


def test_dataset_type_without_storage_class_is_refused_by_name():
    with pytest.raises(DatasetTypeError, match="'metric' is None, which is no name"):
        DatasetType("metric", (), None)


def test_row_that_the_database_does_not_take_is_an_error_without_sql(tmp_path):
    Butler.makeRepo(tmp_path / "R")
    with Butler(tmp_path / "R", writeable=True) as butler:
        table = sa.table("collection", sa.column("name"), sa.column("type"))
        with (
            pytest.raises(RefusedRowError, match=r"take a row: NOT NULL.*Nothing was") as caught,
            butler.repository.registry._database.write() as session,
        ):
            session.execute(table.insert().values(name=None, type=1))
    assert "INSERT" not in str(caught.value)
