"""The server of `warm_commands`: loads what commands need, and forks for each of them."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pickle
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass
from typing import IO, Any, NoReturn


@dataclass
class Loaded:
    """What a process has loaded.

    Parameters
    ----------
    modules : `set` [`str`]
        Names of the modules.
    kernels : `set` [`tuple`]
        Module, name and types of arguments of each compiled kernel of the package.
    """

    modules: set[str]
    kernels: set[tuple[str, str, Any]]

    @classmethod
    def here(cls) -> Loaded:
        """Return what this process has loaded."""
        kernels = {
            (module.__name__, name, types)
            for module in list(sys.modules.values())
            if getattr(module, "__name__", "").startswith("butler_dask.imaging.")
            for name, value in vars(module).items()
            if hasattr(value, "py_func") and value.py_func.__module__ == module.__name__
            for types in value.signatures
        }
        return cls(set(sys.modules), kernels)

    def load(self) -> None:
        """Load the same in this process."""
        present = Loaded.here()
        for name in sorted(self.modules - present.modules):
            # A command may have imported what is not for others, from its own directory.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        for name, kernel, types in self.kernels - present.kernels:
            getattr(importlib.import_module(name), kernel).compile(types)
        # The collector need not look at what is here, in no process.
        gc.collect()
        gc.freeze()


@dataclass
class Request:
    """A command to be run."""

    program: str
    args: list[str]
    directory: str
    environment: dict[str, str]

    def become(self, output: int, errors: int, loaded: IO[bytes]) -> NoReturn:
        """Be the command, to its end, and leave word of what was loaded."""
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.chdir(self.directory)
        os.environ.clear()
        os.environ.update(self.environment)
        given = self.environment.get("PYTHONPATH", "").split(os.pathsep)
        # As Python does for ``-m`` and for a script.
        here = os.path.dirname(self.program) if self._is_script else self.directory
        sys.path[:0] = [here, *(p for p in given if p and p not in sys.path)]
        status = 1
        try:
            self._run()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc()
        pickle.dump(Loaded.here(), loaded)
        loaded.flush()
        # As the forked processes of multiprocessing end: all that was loaded is not taken apart.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    @property
    def _is_script(self) -> bool:
        return self.program.endswith(".py")

    def _run(self) -> None:
        if self._is_script:
            sys.argv = [self.program, *self.args]
            runpy.run_path(self.program, run_name="__main__")
        else:
            sys.argv = [self.program.rpartition(".")[2].replace("_", "-"), *self.args]
            importlib.import_module(self.program).main()


@dataclass
class Running:
    """A command that runs."""

    process: int
    client: socket.socket
    loaded: IO[bytes]

    def has_ended(self) -> bool:
        """Return whether it has ended, and if so answer its client and load what it had loaded."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        if not process:
            return False
        with self.client, self.loaded, contextlib.suppress(BrokenPipeError):
            self.client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            self.loaded.seek(0)
            # One that was killed has left no word.
            with contextlib.suppress(EOFError):
                pickle.load(self.loaded).load()
        return True


def serve(listening_to: int) -> None:
    """Answer requests until standard input ends."""
    import butler_dask

    every = {m.name for m in pkgutil.walk_packages(butler_dask.__path__, "butler_dask.")}
    Loaded(every, set()).load()
    ended, told = socket.socketpair()
    told.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C is for the tests, which then end this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(told.fileno())
    running: list[Running] = []
    with socket.socket(fileno=listening_to) as listening, selectors.DefaultSelector() as waiting:
        for source in (sys.stdin, ended, listening):
            waiting.register(source, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in waiting.select()}
            if listening in ready:
                running.append(start(listening.accept()[0]))
            if ended in ready:
                ended.recv(4096)
                running = [r for r in running if not r.has_ended()]
            if sys.stdin in ready:
                return


def start(client: socket.socket) -> Running:
    """Fork for a request."""
    _, files, _, _ = socket.recv_fds(client, 1, 2)
    with client.makefile() as stream:
        request = Request(*json.loads(stream.readline()))
    loaded = tempfile.TemporaryFile()  # noqa: SIM115  closed when the command has ended
    process = os.fork()
    if process == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        client.close()
        request.become(*files, loaded)
    for file in files:
        os.close(file)
    client.sendall(f"{process}\n".encode())
    return Running(process, client, loaded)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
