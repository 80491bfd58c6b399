"""QuantumReport: what a worker says when a quantum has ended, and its form on the wire and in the journal.

A report is small (a kilobyte) and made of plain values: it travels as task metadata of Dask, which takes what
msgpack takes, and as one line of JSON in the worker's journal. Pixels never travel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..vocabulary.file_record import FileRecord

QuantumStatus = Literal["success", "no_work", "failure"]
"""``no_work`` is a success that wrote no output beside log and metadata."""


@dataclass(frozen=True, slots=True)
class QuantumReport:
    """How one attempt at one quantum ended.

    Parameters
    ----------
    row : `int`
        Row of the quantum in its graph.
    status : `str`
        ``success``, ``no_work`` or ``failure``.
    written : `tuple` of (`int`, `FileRecord`)
        Dataset row and file of each output; for a failure that of the log alone.
    complete : `bool`
        Whether all predicted outputs were written; where not, dependents look which of their inputs exist.
    adopted : `bool`
        Whether an earlier attempt had finished it: found by its commit marker, nothing was run.
    attempt : `int`
        1 for the first.
    host : `str`
        Name of the machine.
    start_ns, end_ns : `int`
        Unix time [ns].
    cpu_s : `float`
        Processor time [s].
    peak_rss_bytes : `int`
        Largest resident memory of the process during the quantum [bytes]; 0 if not known.
    error_type, error_message, error_traceback : `str`
        What a failure raised; empty otherwise.
    """

    row: int
    status: QuantumStatus
    written: tuple[tuple[int, FileRecord], ...] = ()
    complete: bool = True
    adopted: bool = False
    attempt: int = 1
    host: str = ""
    start_ns: int = 0
    end_ns: int = 0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    error_type: str = ""
    error_message: str = ""
    error_traceback: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether dependents may run."""
        return self.status != "failure"

    def to_message(self) -> list[Any]:
        """Return the report as a list of plain values, in the order of the fields.

        Returns
        -------
        message : `list`
            What msgpack and JSON take.
        """
        values = [getattr(self, f.name) for f in dataclasses.fields(self)]
        values[2] = [
            [row, f.path, f.formatter, f.storage_class, f.size, f.checksum] for row, f in self.written
        ]
        return values

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> QuantumReport:
        """Return the report of a message.

        Parameters
        ----------
        message : sequence
            As `to_message` makes it.

        Returns
        -------
        report : `QuantumReport`
            The same.

        Raises
        ------
        ValueError, TypeError, LookupError
            If it is no such message.
        """
        values = list(message)
        values[2] = tuple((int(row), FileRecord(*rest)) for row, *rest in values[2])
        report = cls(*values)
        if type(report.row) is not int or report.status not in ("success", "no_work", "failure"):
            raise ValueError("no report")
        return report
