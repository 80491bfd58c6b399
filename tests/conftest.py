"""Fixtures: the commands in a directory with the tutorial's repository."""

import signal
from pathlib import Path

import pytest
from command_line import Commands, Program, end_warm_commands
from demo_repository import copy_demo, made_once, make_demo, shared_directory

# Tests import it, and name it as a plugin: whichever comes first.
pytest.register_assert_rewrite("registry_fixtures")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell, tests and what they start would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    end_warm_commands()


@pytest.fixture(scope="session")
def demo_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the small demonstration repository as DATA, made once for all; not to be written to."""
    return made_once(shared_directory(tmp_path_factory) / "demo", make_demo)


@pytest.fixture(scope="module")
def commands(demo_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Commands in a directory with a fresh copy of the demonstration repository as DATA."""
    directory = tmp_path_factory.mktemp("work")
    copy_demo(demo_survey / "DATA", directory / "DATA")
    return Commands(directory)


@pytest.fixture
def butler_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Program:
    """`butler` run in this process."""
    return Program(capsys, monkeypatch, tmp_path)
