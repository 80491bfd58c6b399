"""time_limit: ends a quantum that takes too long, by raising in its thread.

It works in whatever thread a quantum runs, so it is the same for all executors. A call into compiled code is
not interrupted; the error is raised when it returns.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import QuantumTimeoutError


class _TimeUp(BaseException):
    """Raised in the quantum's thread; no `Exception`, so that tasks do not swallow it."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise in this thread if the block takes longer.

    Parameters
    ----------
    seconds : `float`, optional
        How long it may take [s]; no limit by default.

    Raises
    ------
    QuantumTimeoutError
        If it took longer.
    """
    if seconds is None:
        yield
        return
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
    lock = threading.Lock()
    ended = False

    def time_up() -> None:
        with lock:
            if not ended:
                raise_in_thread(thread, ctypes.py_object(_TimeUp))

    timer = threading.Timer(seconds, time_up)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                ended = True
            timer.cancel()
            raise_in_thread(thread, None)  # one that was on its way
    except _TimeUp:
        raise QuantumTimeoutError(f"The quantum took longer than the {seconds:g} s of --timeout") from None
