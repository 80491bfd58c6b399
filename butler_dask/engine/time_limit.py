"""time_limit: ends a quantum that takes too long, by raising in its thread.

In the main thread a signal does it, which also ends a sleep, a wait for a lock and a read. In another thread
the error is raised when the call it is in returns. Who watches from outside (`StrikeBook.overdue`) ends the
worker of a quantum that is still not back after `GRACE_S`, or says in a run in threads that it is waited for.
"""

from __future__ import annotations

import ctypes
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import ButlerUserError, QuantumTimeoutError

GRACE_S = 5.0
"""How much longer than its limit a quantum may take before it is held to be stuck [s]."""

_SIGNAL = signal.SIGVTALRM
"""Not SIGALRM, which test runners and tasks use, nor SIGUSR1 and 2, which batch systems send."""


class _TimeUp(BaseException):
    """Raised in the quantum's thread; no `Exception`, so that tasks do not swallow it."""


def checked_time_limit(seconds: float | None) -> float | None:
    """Return a time limit that is one.

    Parameters
    ----------
    seconds : `float`, optional
        What a user gave [s].

    Returns
    -------
    seconds : `float`, optional
        The same.

    Raises
    ------
    ButlerUserError
        If it is not positive and finite.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ButlerUserError(f"A time limit is a positive number of seconds, not {seconds:g}.")
    return seconds


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
        If it took longer, also where the block swallowed what was raised in it.
    """
    if seconds is None:
        yield
        return
    watch = _Watch(seconds)
    try:
        with watch.watching():
            yield
    except _TimeUp:
        pass
    if watch.fired:
        raise QuantumTimeoutError(f"The quantum took longer than the {seconds:g} s of --timeout")


class _Watch:
    """A timer that raises `_TimeUp` in the thread that made it, once."""

    def __init__(self, seconds: float) -> None:
        self.fired = False
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._timer = threading.Timer(seconds, self._time_up)
        self._timer.daemon = True
        self._raise: Callable[[], Any] = self._raise_in_thread

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have the timer run inside the block."""
        before = self._take_signal()
        try:
            try:
                self._timer.start()
                yield
            finally:
                self._end()
        finally:
            # Again: what the timer raised may have come in the middle of it, but comes once only.
            self._end()
            if before is not None:
                signal.signal(_SIGNAL, before)

    def _take_signal(self) -> Any:
        """Use the signal in the main thread, where nobody else does; return its handler before."""
        if threading.current_thread() is not threading.main_thread():
            return None
        before = signal.getsignal(_SIGNAL)
        if before not in (signal.SIG_DFL, signal.SIG_IGN):
            return None
        signal.signal(_SIGNAL, self._on_signal)
        self._raise = self._send_signal
        return before

    def _on_signal(self, *_: object) -> None:
        if not self._ended:
            raise _TimeUp

    def _send_signal(self) -> None:
        signal.pthread_kill(self._thread, _SIGNAL)

    def _raise_in_thread(self) -> None:
        thread = ctypes.c_ulong(self._thread)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeUp))

    def _time_up(self) -> None:
        with self._lock:
            if not self._ended:
                self.fired = True
                self._raise()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        self._timer.cancel()
        if self.fired and self._raise == self._raise_in_thread:
            # One that is on its way arrives at the next jump back. It is not called off: CPython 3.11 would
            # go on looking for it at every jump, for good.
            with suppress(_TimeUp):
                for _ in range(100):
                    pass
