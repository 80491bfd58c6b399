"""StartMarks: which quanta a worker is at, in a file that outlives it.

An event that a worker sends as its last word mostly does not arrive: it leaves the process a few milliseconds
later, when a crash has ended that. What was written to a file before stays, so that the scheduler blames a
death on the quantum that was running and on no other::

    <root>/.journal/<run>/<plan id>.<address>.started
"""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from ..butler.run_journals import made_in_directory

_MARK = struct.Struct("<q")
_NONE = -1


class StartMarks:
    """The quanta the threads of one worker are at.

    Parameters
    ----------
    path : `pathlib.Path`
        Their file, as `PlanFiles.start_marks` has it; made with the first mark.

    Notes
    -----
    A thread has a place of eight bytes in it, which one ``pwrite`` fills: about 1 us of CPU.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._places: dict[int, int] = {}
        self._lock = threading.Lock()

    def set(self, row: int = _NONE) -> None:
        """Note what this thread is at.

        Parameters
        ----------
        row : `int`
            A quantum; none by default.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        thread = threading.get_ident()
        with self._lock:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._descriptor = made_in_directory(self.path, lambda path: os.open(path, flags, 0o666))
            place = self._places.setdefault(thread, len(self._places))
        os.pwrite(self._descriptor, _MARK.pack(row), place * _MARK.size)

    def close(self) -> None:
        """Close the file and remove it: the worker ends in order."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
                self.path.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> list[int]:
        """Return the quanta a worker was at.

        Parameters
        ----------
        path : `pathlib.Path`
            Its file.

        Returns
        -------
        rows : `list` [`int`]
            None if it began nothing.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        whole = len(data) // _MARK.size * _MARK.size
        return [row for (row,) in _MARK.iter_unpack(data[:whole]) if row != _NONE]
