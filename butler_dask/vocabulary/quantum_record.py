"""QuantumRecord: how one execution of a quantum went; and QuantumTable: many of them as columns."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

QuantumStatus = Literal["success", "failure", "no_work"]


@dataclass(frozen=True, slots=True)
class QuantumRecord:
    """One attempt at one quantum.

    Parameters
    ----------
    quantum_id : `bytes`
        UUID of the quantum, 16 bytes.
    run : `str`
        RUN collection of its outputs.
    label : `str`
        Task label.
    data_id : `str`
        Data ID as JSON object.
    status : `str`
        ``success``, ``failure`` or ``no_work``.
    attempt : `int`
        1 for the first; the registry counts on when a quantum is recorded again.
    host : `str`
        Machine it ran on.
    start_ns, end_ns : `int`
        Unix time [ns].
    cpu_s : `float`
        Processor time of user and system [s].
    peak_rss_bytes : `int`
        Largest resident size of the process so far [bytes].
    error_type, error_message, error_traceback : `str`
        Of the exception; empty unless it failed.
    n_outputs : `int`
        Number of datasets it wrote beside log and metadata; -1 where that was not counted (before schema
        version 3).
    """

    quantum_id: bytes
    run: str
    label: str
    data_id: str
    status: QuantumStatus
    attempt: int = 1
    host: str = ""
    start_ns: int = 0
    end_ns: int = 0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    error_type: str = ""
    error_message: str = ""
    error_traceback: str = ""
    n_outputs: int = -1

    @property
    def id(self) -> uuid.UUID:
        """UUID of the quantum."""
        return uuid.UUID(bytes=self.quantum_id)

    @property
    def wall_s(self) -> float:
        """Time it took [s]."""
        return (self.end_ns - self.start_ns) * 1e-9


QUANTUM_COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(QuantumRecord))
"""Names of the columns of a `QuantumTable`, in order."""


class QuantumTable:
    """Many quantum records, as columns.

    Parameters
    ----------
    **columns : sequence, each length n
        One for each of `QUANTUM_COLUMNS`, with values as `QuantumRecord` has them.
    """

    __slots__ = ("columns",)

    def __init__(self, **columns: Sequence[Any]) -> None:
        if set(columns) != set(QUANTUM_COLUMNS):
            raise ValueError(f"Columns of quantum records are {QUANTUM_COLUMNS}, not {tuple(columns)}")
        lengths = {len(c) for c in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"Columns of quantum records differ in length: {sorted(lengths)}")
        self.columns: dict[str, Sequence[Any]] = {n: columns[n] for n in QUANTUM_COLUMNS}

    @classmethod
    def from_records(cls, records: Iterable[QuantumRecord]) -> QuantumTable:
        """Make from records."""
        rows = list(records)
        return cls(**{n: [getattr(r, n) for r in rows] for n in QUANTUM_COLUMNS})

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Any]]) -> QuantumTable:
        """Make from rows of values in the order of `QUANTUM_COLUMNS`."""
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(QUANTUM_COLUMNS)
        return cls(**dict(zip(QUANTUM_COLUMNS, columns, strict=True)))

    def __len__(self) -> int:
        return len(self.columns["quantum_id"])

    def __getitem__(self, row: int) -> QuantumRecord:
        return QuantumRecord(**{n: c[row] for n, c in self.columns.items()})

    def __iter__(self) -> Iterator[QuantumRecord]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"QuantumTable({len(self)} rows)"
