"""Text of tasks (errors, log lines) in a form that every receiver takes.

A lone surrogate (half of a character, as file names that are no UTF-8 have) is in no message of Dask and in
no file in UTF-8; a NUL is in no text of PostgreSQL; an object may not be able to say its own text. Text is
made clean once, where it enters: in the report of a quantum and on a log record.
"""

from __future__ import annotations

import logging
import traceback


def clean_text(text: str) -> str:
    r"""Return a text with what cannot be passed on written as an escape.

    Parameters
    ----------
    text : `str`
        Any text.

    Returns
    -------
    clean : `str`
        Lone surrogates as ``\udc80``, NUL as ``\x00``; else the same.
    """
    if text.isascii():  # mostly, and known without a look at it
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def text_of_error(error: BaseException) -> str:
    """Return the message of an error, also of one that cannot say it.

    Parameters
    ----------
    error : `BaseException`
        What was raised.

    Returns
    -------
    text : `str`
        Clean.
    """
    try:
        return clean_text(str(error))
    except Exception as failure:
        return f"(its message cannot be made: str() of it raises {type(failure).__name__})"


def traceback_of_error(error: BaseException) -> str:
    """Return the traceback of an error as text.

    Parameters
    ----------
    error : `BaseException`
        What was raised.

    Returns
    -------
    text : `str`
        Clean; several lines.
    """
    try:
        return clean_text("".join(traceback.format_exception(error)))
    except Exception as failure:
        frames = "".join(traceback.format_tb(error.__traceback__))
        return clean_text(f"{frames}(the rest cannot be formatted: {type(failure).__name__})\n")


def clean_record(record: logging.LogRecord) -> str:
    """Make the text of a log record clean, for all handlers that come after.

    Parameters
    ----------
    record : `logging.LogRecord`
        Changed where its text is not clean or cannot be made.

    Returns
    -------
    message : `str`
        What it says.
    """
    try:
        message = record.getMessage()
        clean = clean_text(message)
    except Exception as failure:  # a wrong format, or an argument that cannot say its text
        message, clean = "", f"{_plain(record.msg)} (its arguments do not fit: {type(failure).__name__})"
    if clean != message:
        record.msg, record.args = clean, None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and record.exc_text is None:
        # Handlers that come after take this text in place of their own.
        record.exc_text = traceback_of_error(error).rstrip("\n")
    return clean


def _plain(value: object) -> str:
    try:
        return clean_text(str(value))
    except Exception:  # whatever its own code raises: a log line must not end a run
        return f"({type(value).__name__})"
