"""Where the journals of runs are inside a repository, and their removal with the run.

The engine writes them (`butler_dask.engine.journal`); they are known here because a removed run must not
leave one: a later run of the same name would be told of outputs that are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..vocabulary.path_name import quoted_run

T = TypeVar("T")

_ATTEMPTS = 100
"""How often a directory that is removed meanwhile is made anew."""


def journal_directory(root: str | Path, run: str) -> Path:
    """Return where a run's plans and journals are, inside a repository."""
    return Path(root) / ".journal" / quoted_run(run)


def made_in_directory(path: Path, make: Callable[[Path], T]) -> T:
    """Make a file and the directories above it, which another run that ends may be removing as empty.

    Parameters
    ----------
    path : `pathlib.Path`
        The file.
    make : callable
        Makes it, given its path.

    Returns
    -------
    made : object
        What ``make`` returns.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return make(path)
        except OSError as error:
            if not isinstance(error.__cause__ or error, FileNotFoundError):
                raise
    return make(path)


def remove_journals(root: str | Path, run: str) -> None:
    """Remove all plans and journals of a run; those of runs whose names begin with its name stay."""
    directory = journal_directory(root, run)
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in directory.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)
    remove_empty_directories(root, run)


def remove_empty_directories(root: str | Path, run: str) -> None:
    """Remove a run's journal directory if it is empty, and those above it that are empty then."""
    top = Path(root)
    directory = journal_directory(root, run)
    while directory != top:
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass  # another run that ended took it away; those above may be left
        except OSError:
            return  # something is in it, or was put there just now
        directory = directory.parent
