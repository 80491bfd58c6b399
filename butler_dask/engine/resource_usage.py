"""Time, processor and memory a quantum uses, under the names the reference's metadata have."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from datetime import UTC, datetime

from ..pipeline.task_metadata import TaskMetadata

# Linux counts by thread, in KiB; macOS by process only, in bytes.
_RUSAGE_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def note_resources(marker: TaskMetadata, when: str) -> None:
    """Note time and resources used so far by this thread, under the reference's names.

    Parameters
    ----------
    marker : `TaskMetadata`
        Takes them as scalars: times in seconds, memory in bytes.
    when : `str`
        What their names begin with: ``start`` or ``end``.
    """
    # One system call for all: they are dear in sandboxes and containers.
    usage = resource.getrusage(_RUSAGE_THREAD)
    marker.scalars |= {
        f"{when}Utc": datetime.now(UTC).isoformat(),
        f"{when}CpuTime": usage.ru_utime + usage.ru_stime,
        f"{when}UserTime": usage.ru_utime,
        f"{when}SystemTime": usage.ru_stime,
        f"{when}MaxResidentSetSize": usage.ru_maxrss * _RSS_UNIT_BYTES,
    }


class PeakRss:
    """Starts the peak of this process's resident memory anew, where the system can (Linux, proc(5))."""

    def __init__(self) -> None:
        self._descriptor = -1
        # Open once: the file stands for the process that opened it.
        with contextlib.suppress(OSError):
            self._descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)

    def forget(self) -> None:
        """Let the peak begin at what is resident now."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, b"5")

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
