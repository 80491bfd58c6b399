"""Whatever is typed or read ends in an answer or one message.

The default run takes two hundred of each kind; ``pytest tests/test_random_input.py -m slow --timeout 3600``
takes 10 000 command lines and 10 000 documents (about twenty minutes).
"""

import io
import logging
import os
import shutil
import signal
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from random_input import command_line, damaged
from small_repository import NEW, OLD, add_two_runs, make_repository

from butler_dask import Butler, CollectionType, Timespan
from butler_dask.cli.butler import butler as butler_group, main as butler
from butler_dask.cli.pipetask import main as pipetask, pipetask as pipetask_group

ROOT = Path(__file__).resolve().parent.parent
INSTRUMENTS = ROOT / "butler_dask" / "instruments"


class Directory:
    """A directory with a repository and documents, in which commands are run one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sound = make_repository(path / "sound")
        with Butler(self.sound, writeable=True) as butler:
            refs = add_two_runs(butler)
            for run in ("HSC/calib/biases", "elsewhere"):
                butler.collections.register(run)
            bias = butler.put({"b": 1}, "bias", instrument="HSC", detector=1, run="HSC/calib/biases")
            butler.registry.certify("HSC/calib", [bias], Timespan(None, None))
            butler.collections.register("u/me/1", CollectionType.CHAINED)
            butler.collections.redefine_chain("u/me/1", [NEW, OLD, "HSC/calib"])
            with butler.export(directory=path / "exported", transfer="copy") as export:
                export.saveDatasets([*refs, bias])
                for name in ("u/me/1", "tagged", "HSC/calib"):
                    export.saveCollection(name)
        (path / "skymap.yaml").write_text(SKYMAP)
        shutil.copy(ROOT / "pipelines" / "example.yaml", path / "pipeline.yaml")
        shutil.copy(INSTRUMENTS / "efosc2.yaml", path / "camera.yaml")
        shutil.copy(self.sound / "butler.yaml", path / "butler.yaml")
        shutil.copy(path / "exported" / "export.yaml", path / "export.yaml")
        (path / "empty.yaml").write_text("")
        (path / "text.txt").write_text("no YAML: [")
        self.renew()

    def renew(self) -> None:
        """Put the repository back as it was."""
        shutil.rmtree(self.path / "DATA", ignore_errors=True)
        shutil.copytree(self.sound, self.path / "DATA")

    def run(self, program, words: list[str]) -> str:
        """Run a command; return what is wrong with how it ended, or nothing."""
        out, err = io.StringIO(), io.StringIO()
        signal.alarm(120)
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program(words)
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
            logging.root.setLevel(logging.WARNING)
        said = err.getvalue()
        if code not in (0, 1, 2):
            return f"exit status {code}"
        if "fault of the program" in said or "Traceback" in said:
            return said
        if code and not said.strip() and not out.getvalue().strip():
            return f"exit status {code} without a word"
        if said.count("\nError:") + said.startswith("Error:") > 1:
            return f"several errors: {said}"
        return ""


SKYMAP = """\
name: small
kind: discrete
pixel_scale_arcsec: 0.5
patch_inner_dimensions: [1000, 1000]
patch_border: 50
tract_overlap_deg: 0.0
rotation_deg: 0.0
ra_deg: [320.0]
dec_deg: [-0.5]
radius_deg: [0.2]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("random")
    where = os.getcwd()
    os.chdir(path)
    before = signal.signal(signal.SIGALRM, _too_long)
    stdin, sys.stdin = sys.stdin, io.StringIO()
    made = Directory(path)
    yield made
    sys.stdin = stdin
    signal.signal(signal.SIGALRM, before)
    os.chdir(where)


def _too_long(number, frame):
    raise TimeoutError("longer than two minutes")


FILES = ("DATA", "pipeline.yaml", "camera.yaml", "skymap.yaml", "export.yaml", "empty.yaml", "text.txt", ".")
LEFT_OUT = ("demo",)  # minutes of simulation, whatever its arguments are


def fails_of_command_lines(directory: Directory, numbers: range) -> list[str]:
    fails = []
    for number in numbers:
        if number % 50 == 0:
            directory.renew()
        program, group = (pipetask, pipetask_group) if number % 4 == 3 else (butler, butler_group)
        words = command_line(number, group, FILES, LEFT_OUT)
        wrong = directory.run(program, words)
        if wrong:
            fails.append(f"{number}: {group.name} {words!r}: {wrong[-1500:]}")
    return fails


DOCUMENTS = {
    "pipeline.yaml": (pipetask, ["build", "-p", "FILE", "--show", "tasks", "--show", "pipeline-graph"]),
    "butler.yaml": (butler, ["query-collections", "FILE"]),
    "camera.yaml": (butler, ["register-instrument", "DATA", "FILE"]),
    "skymap.yaml": (butler, ["register-skymap", "DATA", "FILE"]),
    "export.yaml": (butler, ["import", "DATA", "exported", "--export-file", "FILE"]),
}


def fails_of_documents(directory: Directory, numbers: range) -> list[str]:
    fails = []
    sound = {name: (directory.path / name).read_text() for name in DOCUMENTS}
    for number in numbers:
        name = list(DOCUMENTS)[number % len(DOCUMENTS)]
        program, words = DOCUMENTS[name]
        if number % 50 == 0:
            directory.renew()
        file = directory.path / ("DATA/damaged.yaml" if name == "butler.yaml" else "damaged.yaml")
        file.write_text(damaged(number, sound[name]), encoding="utf-8")
        wrong = directory.run(program, [str(file) if w == "FILE" else w for w in words])
        if wrong:
            fails.append(f"{number}: {name}: {wrong[-1500:]}")
    return fails


def test_random_command_lines_end_in_an_answer_or_one_message(directory):
    assert fails_of_command_lines(directory, range(200)) == []


def test_damaged_documents_end_in_an_answer_or_one_message(directory):
    assert fails_of_documents(directory, range(200)) == []


@pytest.mark.slow
def test_ten_thousand_command_lines_end_in_an_answer_or_one_message(directory):
    assert fails_of_command_lines(directory, range(200, 10_200)) == []


@pytest.mark.slow
def test_ten_thousand_documents_end_in_an_answer_or_one_message(directory):
    assert fails_of_documents(directory, range(200, 10_200)) == []
