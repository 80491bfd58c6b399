"""Log lines as the tutorial's: ``isr INFO: Applying bias correction.``, or long ones with ``--long-log``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from ..errors import did_you_mean

VERBOSE = 15
"""Level between DEBUG and INFO, as the field uses it."""

_LEVEL_NAMES = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_LEVELS = {
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": VERBOSE,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the user asked of the log.

    Parameters
    ----------
    levels : `tuple` [`str`, ...]
        ``LEVEL`` or ``COMPONENT=LEVEL``.
    long : `bool`
        Long lines.
    files : `tuple` [`str`, ...]
        Files to write to as well.
    terminal : `bool`
        Whether to write to standard error.
    labels : `tuple` [`str`, ...]
        ``KEY=VALUE``, also comma-separated, to be added to every record.
    """

    levels: tuple[str, ...] = ()
    long: bool = False
    files: tuple[str, ...] = ()
    terminal: bool = True
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LogSettings:
        """Make from the values of the command line's log options.

        Parameters
        ----------
        values : mapping
            By the names of the options' parameters.

        Returns
        -------
        settings : `LogSettings`
            With defaults for what is not there.
        """
        return cls(
            tuple(values.get("log_levels", ())),
            bool(values.get("long_log", False)),
            tuple(values.get("log_files", ())),
            bool(values.get("log_tty", True)),
            tuple(values.get("log_labels", ())),
        )


class LineFormatter(logging.Formatter):
    """Formats a record as one line.

    Parameters
    ----------
    long : `bool`
        ``LEVEL time name (label:data ID)(file:line) - message`` instead of ``name LEVEL: message``.
    labels : mapping of `str` to `str`, optional
        What long lines have in front of label and data ID.
    """

    def __init__(self, long: bool = False, labels: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.long = long
        self.labels = "".join(f"{k}={v} " for k, v in (labels or {}).items())

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it if there is one.

        Parameters
        ----------
        record : `logging.LogRecord`
            What was logged.

        Returns
        -------
        line : `str`
            Without a line end.
        """
        level = _LEVEL_NAMES.get(record.levelname, record.levelname)
        message = record.getMessage()
        if self.long:
            time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            quantum = f"{self.labels}{getattr(record, 'quantum', '')}".strip()
            line = f"{level} {time} {record.name} ({quantum})({record.filename}:{record.lineno}) - {message}"
        else:
            line = f"{record.name} {level}: {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object.

    Parameters
    ----------
    labels : mapping of `str` to `str`
        Labels of the user, under ``MDC``.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__()
        self.labels = dict(labels)

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON text.

        Parameters
        ----------
        record : `logging.LogRecord`
            What was logged.

        Returns
        -------
        text : `str`
            One line.
        """
        fields: dict[str, Any] = {
            "asctime": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            "quantum": getattr(record, "quantum", ""),
            "MDC": self.labels,
        }
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at the time, above a progress display if one is on."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def start_logging(settings: LogSettings) -> None:
    """Set up the root logger; called again, it replaces what it set up before.

    Parameters
    ----------
    settings : `LogSettings`
        What the user wants to see, and where.

    Raises
    ------
    click.BadParameter
        For an unknown level, of which the nearest match is named, a label that is none, or a file that
        cannot be written to.
    """
    labels: dict[str, str] = {}
    for label in (part for text in settings.labels for part in text.split(",") if part):
        key, equals, own = label.partition("=")
        if not equals:
            raise click.BadParameter(f"--log-label: {label!r} is not KEY=VALUE")
        labels[key] = own
    logging.addLevelName(VERBOSE, "VERBOSE")
    root = logging.getLogger()
    for handler in [h for h in root.handlers if getattr(h, "butler_dask", False)]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = []
    if settings.terminal:
        terminal = _StandardError()
        terminal.setFormatter(LineFormatter(settings.long, labels))
        handlers.append(terminal)
    for name in settings.files:
        try:
            file = logging.FileHandler(name, encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"The log cannot be written to {name!r}: {error}") from error
        file.setFormatter(JsonFormatter(labels) if name.endswith(".json") else LineFormatter(True, labels))
        handlers.append(file)
    for handler in handlers:
        handler.butler_dask = True  # type: ignore[attr-defined]  # our mark, to find it again
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Chatter of libraries that users of this program did not ask for.
    for noisy in ("distributed", "numba", "matplotlib", "asyncio", "fsspec", "bokeh", "tornado"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for text in settings.levels:
        component, _, level = text.rpartition("=")
        value = _LEVELS.get(level.upper())
        if value is None:
            raise click.BadParameter(f"No log level {level!r}.{did_you_mean(level.upper(), _LEVELS)}")
        logging.getLogger(component or None).setLevel(value)
