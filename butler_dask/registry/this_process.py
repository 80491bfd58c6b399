"""A process as a registry remembers it: who runs which command where, and whether it still runs.

The history of chains says who changed them, the claim of a run who writes it. A process is known by its
number and the moment it began, since numbers are given again; and by its machine, since only there anybody
can tell whether it still runs.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import socket
import sys
from dataclasses import dataclass
from functools import cache
from typing import Self

_COMMAND_LENGTH = 1000
"""Characters kept of a command line."""
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]*@")


@cache
def who() -> str:
    """Return the user of this process as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have a number only
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def command() -> str:
    """Return the command line of this process, passwords in URLs hidden."""
    arguments = getattr(sys, "argv", None) or ["python"]
    program = os.path.basename(arguments[0]).removesuffix(".py") or "python"
    text = _PASSWORD.sub(r"\1:***@", shlex.join([program, *arguments[1:]]))
    return text if len(text) <= _COMMAND_LENGTH else f"{text[: _COMMAND_LENGTH - 3]}..."


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process, to be recognized later.

    Parameters
    ----------
    machine : `str`
        Where its number means something: the host since it was started, and the container if it is in one.
    pid : `int`
        Its number.
    began : `str`
        When it began, as the machine counts; empty where that is not known.
    """

    machine: str
    pid: int
    began: str = ""

    @classmethod
    def own(cls) -> Self:
        """Return that of this process."""
        pid = os.getpid()
        return cls(_machine(), pid, _began(pid) or "")

    def has_ended(self) -> bool | None:
        """Return whether it does not run any more; `None` on another machine, where nobody can tell."""
        if self.machine != _machine():
            return None
        began = _began(self.pid)
        if began is not None:
            return bool(self.began) and began != self.began
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        # It is a zombie, or this system has no /proc.
        return os.path.exists(f"/proc/{self.pid}")


@cache
def _machine() -> str:
    parts = [socket.gethostname()]
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            parts.append(stream.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux
        pass
    return " ".join(parts)


def _began(pid: int) -> str | None:
    """Return when a process began [clock ticks since the boot]; `None` if it does not run or is not seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            # The name of the program, in parentheses, may hold anything.
            state, *fields = stream.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else fields[18].decode()
