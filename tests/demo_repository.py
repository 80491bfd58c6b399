"""The small demonstration repository: made once for all test processes, copied for those who write to it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Commands


def shared_directory(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary directory of all test processes (of pytest-xdist) together."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(directory: Path, make: Callable[[Path], None]) -> Path:
    """Return a directory that the first process to ask for it makes, while others wait.

    Parameters
    ----------
    directory : `pathlib.Path`
        Where it is to be.
    make
        Fills the empty directory it is given.
    """
    with directory.with_suffix(".lock").open("w") as lock:
        # Freed by the system if its holder dies.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            unfinished = directory.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(directory)
    return directory


def make_demo(directory: Path) -> None:
    """Make the repository as DATA in a directory, by the command."""
    commands = Commands(directory, fresh=True)
    commands("butler", "demo", "DATA", "--small")
    commands.pipelines.unlink()


def copy_demo(source: Path, target: Path, link: Callable[[str, str], None] = os.link) -> Path:
    """Copy a repository, of its 400 MiB of pixels only links to the files, and return where it is.

    Files of a repository are never written to, only replaced; tests that damage one do so too.
    """

    def copy(file: str, copied: str) -> None:
        if file.endswith(".fits"):
            link(file, copied)
        else:
            shutil.copy2(file, copied)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)
    return target
