"""Commands as processes of their own without their start-up: one process imports all, and forks for each.

Most of what a command takes is the import of numpy, astropy, SQLAlchemy and numba and the loading of compiled
kernels. Each test process has one such server, started with the first command. A request names a program, its
arguments, working directory and environment, and passes the files for its output; the answer is its process,
and at its end its exit status. What a command imported and compiled beyond what was there, the server loads
after it for the next. A forked command ends as any process does, with its threads and exit handlers.

What a fork cannot show - that a program imports all it needs - is shown by those that start afresh
(`Commands.start`, `Commands(..., fresh=True)`).

As a program, ``python warm_commands.py ADDRESS MODULE [ARGUMENTS]`` has a command run by a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any


def line_from(stream: socket.socket) -> str:
    """Return the next line that comes from a socket."""
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        assert byte, "the server of commands has ended"
        line += byte
    return line.decode()


class WarmProcess:
    """A command that a server runs; named and used as `subprocess.Popen`.

    Parameters
    ----------
    address : `str`
        Address of the server.
    program : `str`
        Module whose ``main`` it is, or path of a script.
    args : sequence of `str`
        Its arguments.
    directory : `pathlib.Path`
        Working directory.
    environment : mapping
        Environment variables, all.
    output, errors : `int`
        Descriptors of the files for what it prints.
    """

    def __init__(
        self,
        address: str,
        program: str,
        args: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        output: int,
        errors: int,
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(address)
        request = json.dumps([program, list(args), str(directory), dict(environment)])
        socket.send_fds(self._socket, [b"\n"], [output, errors])
        self._socket.sendall(request.encode() + b"\n")
        self.pid = int(line_from(self._socket))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most some seconds, and return its exit status, negative for a signal."""
        if self.returncode is None:
            self._socket.settimeout(timeout)
            self.returncode = int(line_from(self._socket))
            self._socket.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        with contextlib.suppress(BlockingIOError):
            self.wait(0.0)
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class WarmCommands:
    """A server, started with this object."""

    def __init__(self) -> None:
        # Names of sockets have a hundred characters at most: not under a directory of a test.
        self._directory = tempfile.TemporaryDirectory(dir="/tmp")
        self.address = f"{self._directory.name}/commands"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(self.address)
            listening.listen()
            self._server = subprocess.Popen(
                # -P: the modules beside it are not the server's to import.
                [sys.executable, "-P", Path(__file__).with_name("warm_server.py"), str(listening.fileno())],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
            )

    def start(
        self,
        program: str,
        args: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        output: IO[Any],
        errors: IO[Any],
    ) -> WarmProcess:
        """Start a command (see `WarmProcess`), with files for what it prints."""
        return WarmProcess(
            self.address, program, args, directory, environment, output.fileno(), errors.fileno()
        )

    def close(self) -> None:
        """End the server."""
        self._server.communicate()
        self._directory.cleanup()


if __name__ == "__main__":
    command = WarmProcess(*sys.argv[1:3], sys.argv[3:], Path.cwd(), os.environ, 1, 2)
    sys.exit(command.wait() % 256)
