"""Measurement: what a piece of work took: processor time, wall time, peak memory.

Imports nothing heavy: a child's peak of memory is at least what its parent has when it starts it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Measurement:
    """What some work took.

    Parameters
    ----------
    count : `int`
        How many things were done.
    cpu_s, wall_s : `float`
        Processor time of the process, and time on the clock [s].
    peak_mib : `float`
        Most memory the process had meanwhile, interpreter and libraries included [MiB].
    """

    count: int = 1
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Add what is done inside."""
        forget_peak()
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall
        self.peak_mib = max(self.peak_mib, peak_mib())


@dataclass
class FinishedProcess:
    """A process that has ended.

    Parameters
    ----------
    measurement : `Measurement`
        What it took from its start to its end.
    status : `int`
        Exit status.
    output, errors : `str`
        What it printed.
    """

    measurement: Measurement
    status: int
    output: str
    errors: str


def forget_peak() -> None:
    """Count the peak of this process's memory from now on."""
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")


def peak_mib() -> float:
    """Return the peak of this process's memory since `forget_peak` [MiB]."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM")) / 1024


def run_process(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float = 600
) -> FinishedProcess:
    """Run a program and return what it took."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, stdout=output, stderr=errors, env={**os.environ, **(environment or {})}
        )
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        # Not `Popen.wait`, which does not tell what the child took.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    if wall >= timeout_s:
        texts[1] += f"\nkilled after {timeout_s:.0f} s"
    taken = Measurement(1, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)
    return FinishedProcess(taken, process.returncode, *texts)


def median(measurements: Sequence[Measurement]) -> Measurement:
    """Return the medians of repeated measurements of the same work."""
    return Measurement(
        measurements[0].count,
        *(statistics.median(getattr(m, n) for m in measurements) for n in ("cpu_s", "wall_s", "peak_mib")),
    )


def to_json(measurements: Mapping[str, Measurement]) -> str:
    """Return named measurements as one line of JSON."""
    return json.dumps({name: vars(m) for name, m in measurements.items()})


def from_json(text: str) -> dict[str, Measurement]:
    """Return the measurements in the last line of what a program printed."""
    return {name: Measurement(**values) for name, values in json.loads(text.splitlines()[-1]).items()}
