"""Journal: one line a finished quantum, written by the worker that ran it.

It is read only where the registry lacks something: the registry is written in batches by one process, which
may be killed. Each worker appends its reports to a file of its own, beside a copy of the plan their row
numbers refer to::

    <root>/.journal/<run>/<plan id>.plan
    <root>/.journal/<run>/<plan id>.<host>-<pid>.jsonl

On Dask, `StartMarks` lie beside them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..butler.run_journals import journal_directory, made_in_directory, remove_empty_directories
from ..graph.graph_file import write_graph
from ..vocabulary.path_name import quoted
from .quantum_report import QuantumReport

if TYPE_CHECKING:
    from ..graph.quantum_graph import QuantumGraph

_LOG = logging.getLogger("butler_dask.recovery")


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """What there is of a plan in its repository while it runs: a copy of it, and journals.

    Parameters
    ----------
    root : `str`
        Root of the repository.
    run : `str`
        RUN collection.
    plan_id : `str`
        Identity of the plan.
    """

    root: str
    run: str
    plan_id: str

    @classmethod
    def of(cls, root: str | Path, graph: QuantumGraph) -> PlanFiles:
        """Return those of a graph in a repository.

        Parameters
        ----------
        root : `str` or `pathlib.Path`
            Root of the repository.
        graph : `QuantumGraph`
            The plan.

        Returns
        -------
        files : `PlanFiles`
            None of them need exist.
        """
        return cls(str(root), graph.run, graph.plan_id)

    @property
    def copy(self) -> Path:
        """The copy of the plan, which the row numbers in its journals refer to."""
        return journal_directory(self.root, self.run) / f"{quoted(self.plan_id)}.plan"

    @property
    def own_journal(self) -> Path:
        """The journal of this process."""
        name = f"{quoted(self.plan_id)}.{quoted(socket.gethostname())}-{os.getpid()}.jsonl"
        return journal_directory(self.root, self.run) / name

    def save(self, graph: QuantumGraph) -> None:
        """Write the copy of the plan.

        Parameters
        ----------
        graph : `QuantumGraph`
            The plan.

        Raises
        ------
        DatasetFileError
            If it cannot be written.
        """
        made_in_directory(self.copy, lambda path: write_graph(graph, path))

    def start_marks(self, worker: str) -> Path:
        """Return where a worker notes which quanta it is at.

        Parameters
        ----------
        worker : `str`
            Its address.

        Returns
        -------
        path : `pathlib.Path`
            See `StartMarks`.
        """
        return journal_directory(self.root, self.run) / f"{self.plan_id}.{quote(worker, safe='')}.started"

    def journals(self) -> list[Path]:
        """Return the journals that exist, those of all processes.

        Returns
        -------
        paths : `list` [`pathlib.Path`]
            Sorted.
        """
        return sorted(journal_directory(self.root, self.run).glob(f"{quoted(self.plan_id)}.*.jsonl"))

    def remove(self) -> None:
        """Remove the copy and the journals: all of the plan is recorded."""
        marks = journal_directory(self.root, self.run).glob(f"{self.plan_id}.*.started")
        for path in (*self.journals(), *marks):
            path.unlink(missing_ok=True)
        self.copy.unlink(missing_ok=True)
        remove_empty_directories(self.root, self.run)


class Journal:
    """The reports of one process.

    Parameters
    ----------
    path : `pathlib.Path`
        Its file, as `PlanFiles.own_journal` has it; made with the first report.
    fsync : `bool`
        Whether a line is on the disk, not only in the kernel, when `append` returns.

    Notes
    -----
    A line is one ``write`` to a file opened for appending, so lines of threads do not mix. Where the disk
    took a part of a line only, or a process of the same name died within one, the next line begins anew;
    `read` leaves out what is no report.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        self._descriptor = -1
        self._is_torn = False
        self._lock = threading.Lock()

    def append(self, report: QuantumReport) -> None:
        """Write a report down.

        Parameters
        ----------
        report : `QuantumReport`
            How a quantum ended.

        Raises
        ------
        OSError
            If the disk does not take it, or a part only.
        """
        line = json.dumps(report.to_message(), separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._descriptor < 0:
                self._open()
            left = memoryview(b"\n" + line if self._is_torn else line)
            self._is_torn = True
            while left:  # one write may take fewer: the disk is full, a quota is reached
                left = left[os.write(self._descriptor, left) :]
            self._is_torn = False
            if self._fsync:
                os.fsync(self._descriptor)

    def _open(self) -> None:
        self._descriptor = made_in_directory(
            self.path, lambda path: os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        )
        size = os.fstat(self._descriptor).st_size
        self._is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    @staticmethod
    def read(path: Path) -> Iterator[QuantumReport]:
        """Yield the reports of a journal; what is no report is left out, and said in the log at the end.

        Parameters
        ----------
        path : `pathlib.Path`
            The journal, of whatever process.

        Yields
        ------
        report : `QuantumReport`
            In the order they were written.
        """
        n_unreadable = 0
        with path.open("rb") as stream:
            for line in stream:
                if not line.strip():
                    continue
                try:
                    report = QuantumReport.from_message(json.loads(line))
                except (ValueError, TypeError, LookupError):
                    n_unreadable += 1
                else:
                    yield report
        if n_unreadable:
            _LOG.warning(
                "%d lines of the journal %s cannot be read (cut off or damaged) and are passed over; what "
                "they spoke of is found by its files when the run is extended.",
                n_unreadable,
                path,
            )
