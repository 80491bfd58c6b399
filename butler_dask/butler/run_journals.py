"""Where the journals of runs are inside a repository, and their removal with the run.

The engine writes them (`butler_dask.engine.journal`); they are known here because a removed run must not
leave one: a later run of the same name would be told of outputs that are gone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..vocabulary.path_name import quoted_run


def journal_directory(root: str | Path, run: str) -> Path:
    """Return where a run's plans and journals are, inside a repository."""
    return Path(root) / ".journal" / quoted_run(run)


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
    while directory != top and directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
