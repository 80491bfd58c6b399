"""The README's commands are true: they are run, or checked against the programs' own help."""

import re
import shlex

import pytest
from command_line import ROOT, Commands

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def processed(commands):
    """Commands where the main job of the README's first block has been run."""
    first = blocks("bash")[0]
    assert "pip install" in first
    assert "butler demo DATA --small" in first
    (run,) = [part.strip() for part in first.split("&&") if part.strip().startswith("pipetask")]
    # Started as users start it, Python and all.
    Commands(commands.directory, fresh=True)(*shlex.split(run))
    return commands


def test_second_command_sets_up_and_tests():
    assert blocks("bash")[1].strip() == "bash .ci/test"
    assert (ROOT / ".ci" / "test").exists()
    assert "bash .ci/test" in (ROOT / ".ci" / "run").read_text()


def test_first_look_works_as_written(processed):
    fresh = Commands(processed.directory, fresh=True)
    for line in blocks("bash")[2].strip().splitlines():
        fresh(*shlex.split(line, comments=True))
    picture = processed.directory / "calexp.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000


def test_collections_queries_and_removal_work_as_written(processed):
    for line in blocks("bash")[3].strip().splitlines():
        done = processed(*shlex.split(line, comments=True))
        assert done.stdout, line
    members = processed("butler", "query-collections", "DATA", "--chains", "no-children", "u/me/mine")
    assert "CHAINED" in members.stdout


def test_python_queries_work_as_written(processed, monkeypatch, capsys):
    monkeypatch.chdir(processed.directory)
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert "903344" in printed[0]
    assert printed[1] == "1 [903344]"
    assert "HSC/calib" in printed[2]


def test_python_example_works_as_written(processed, monkeypatch):
    monkeypatch.chdir(processed.directory)
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    names["butler"].close()  # type: ignore[attr-defined]
    assert names["calexp"].image.shape == (1024, 1024)  # type: ignore[attr-defined]


def test_commands_and_options_named_in_the_readme_exist(commands):
    text = "\n".join(blocks("bash")) + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", README))
    for program, command in set(re.findall(r"\b(butler|pipetask|dask-submit) ([a-z][a-z-]+)", text)):
        helped = commands(program, command, "--help").stdout
        for line in re.findall(rf"\b{program} {command} ([^\n]*)", text):
            for option in re.findall(r"(?<!\S)(--[a-z][a-z-]+)", line.split("&&")[0]):
                assert option in helped, f"{program} {command} {option}"
