"""LogCapture: the log lines of each quantum, kept apart while they also go where the process sends them.

One handler stands first on the root logger. Threads that run a quantum have a list of their own; other
threads' lines pass by. It makes their text clean for the handlers behind it, and puts the quantum's label and
data ID on the record (``record.quantum``), which long log formats print.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from .clean_text import clean_record, clean_text

LogRecords = list[dict[str, Any]]
"""Log lines as JSON values; the keys are the reference's ``ButlerLogRecords``."""


class LogCapture(logging.Handler):
    """A handler that keeps the lines of the quantum its thread is at."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, if the thread is at a quantum.

        Parameters
        ----------
        record : `logging.LogRecord`
            What was logged in this process.
        """
        message = clean_record(record)
        lines: LogRecords | None = getattr(self._local, "lines", None)
        if lines is None:
            return
        record.quantum, record.captured_by = self._local.label, self
        lines.append(_log_line(record, message, self._local.run))

    def is_ours(self, record: logging.LogRecord) -> bool:
        """Return whether a line belongs to this capture's plan, or to no plan.

        Parameters
        ----------
        record : `logging.LogRecord`
            After `emit` of all captures of the process.

        Returns
        -------
        ours : `bool`
            False for what a quantum of another plan says.
        """
        return getattr(record, "captured_by", self) is self

    @contextmanager
    def quantum(self, label: str, run: str) -> Iterator[LogRecords]:
        """Keep the lines of this thread inside the block.

        Parameters
        ----------
        label : `str`
            Label and data ID of the quantum, for long log formats.
        run : `str`
            RUN collection.

        Yields
        ------
        lines : `list` of `dict`
            Filled while the block runs.
        """
        lines: LogRecords = []
        self._local.lines, self._local.label, self._local.run = lines, clean_text(label), run
        try:
            yield lines
        finally:
            self._local.lines = None

    @contextmanager
    def installed(self) -> Iterator[LogCapture]:
        """Stand on the root logger inside the block, before all other handlers."""
        root = logging.getLogger()
        root.handlers.insert(0, self)
        try:
            yield self
        finally:
            root.removeHandler(self)


def _log_line(record: logging.LogRecord, message: str, run: str) -> dict[str, Any]:
    return {
        "name": record.name,
        "asctime": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "message": message,
        "levelno": record.levelno,
        "levelname": record.levelname,
        "filename": record.filename,
        "pathname": record.pathname,
        "lineno": record.lineno,
        "funcName": record.funcName,
        "process": record.process,
        "processName": record.processName,
        "exc_info": record.exc_text or None,
        "MDC": {"LABEL": record.quantum, "RUN": run},  # type: ignore[attr-defined]  # set in emit
    }
