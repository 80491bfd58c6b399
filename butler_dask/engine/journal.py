"""Journal: one line a finished quantum, written by the worker that ran it.

It is read only where the registry lacks something: the registry is written in batches by one process, which
may be killed. Each worker appends its reports to a file of its own, beside a copy of the plan their row
numbers refer to::

    <root>/.journal/<run>/<plan id>.plan
    <root>/.journal/<run>/<plan id>.<host>-<pid>.jsonl
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from ..butler.run_journals import journal_directory
from .quantum_report import QuantumReport


def plan_path(root: str | Path, run: str, plan_id: str) -> Path:
    """Return where the copy of a plan is while it runs."""
    return journal_directory(root, run) / f"{plan_id}.plan"


class Journal:
    """The reports of one process.

    Parameters
    ----------
    root : `str` or `pathlib.Path`
        Root of the repository.
    run : `str`
        RUN collection.
    plan_id : `str`
        Plan the row numbers refer to.
    fsync : `bool`
        Whether a line is on the disk, not only in the kernel, when `append` returns.

    Notes
    -----
    A line is one ``write`` to a file opened for appending, so lines of threads do not mix; a line cut off by
    a power loss is left out by `read`.
    """

    def __init__(self, root: str | Path, run: str, plan_id: str, *, fsync: bool = False) -> None:
        name = f"{plan_id}.{socket.gethostname()}-{os.getpid()}.jsonl"
        self.path = journal_directory(root, run) / name
        self._fsync = fsync
        self._descriptor = -1
        self._lock = threading.Lock()

    def append(self, report: QuantumReport) -> None:
        """Write a report down.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        line = json.dumps(report.to_message(), separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._descriptor < 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(self._descriptor, line)
            if self._fsync:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    @staticmethod
    def read(path: Path) -> Iterator[QuantumReport]:
        """Yield the reports of a journal, the cut-off last line left out."""
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield QuantumReport.from_message(json.loads(line))
