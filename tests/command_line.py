"""The commands as a user runs them: subprocesses in a working directory."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from warm_commands import WarmCommands

ROOT = Path(__file__).resolve().parent.parent

MODULES = {
    "butler": "butler_dask.cli.butler",
    "pipetask": "butler_dask.cli.pipetask",
    "dask-submit": "butler_dask.cli.dask_submit",
}


LONGEST_S = 550
"""How long a command may take [s]."""


@cache
def warm_commands() -> WarmCommands:
    """Return the server of this process, started when it is first asked for."""
    return WarmCommands()


def end_warm_commands() -> None:
    """End the server, if there is one."""
    if warm_commands.cache_info().currsize:
        warm_commands().close()
        warm_commands.cache_clear()


class Commands:
    """Runs `butler`, `pipetask` and `dask-submit` in a directory, as a user does.

    Parameters
    ----------
    directory : `Path`
        Working directory; the project's `pipelines` is linked there.
    fresh : `bool`
        Start Python anew for each program, which takes seconds, instead of forking a process that has
        imported all (`warm_commands`).
    """

    def __init__(self, directory: Path, *, fresh: bool = False) -> None:
        self.directory, self.fresh = directory, fresh
        self.pipelines = directory / "pipelines"
        if not self.pipelines.exists():
            self.pipelines.symlink_to(ROOT / "pipelines")
        self.environment = dict(os.environ, PYTHONPATH=str(ROOT), NO_COLOR="1", COLUMNS="100")

    def start(self, program: str, *args: str) -> subprocess.Popen[str]:
        """Start a program and return the process; its standard error joins its standard output."""
        return subprocess.Popen(
            [sys.executable, "-m", MODULES[program], *args],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, program: str, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its exit status must be ``code``, and no traceback is ever shown."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            if self.fresh:
                status = subprocess.run(
                    [sys.executable, "-m", MODULES[program], *args],
                    cwd=self.directory,
                    env=self.environment,
                    stdout=output,
                    stderr=errors,
                    timeout=LONGEST_S,
                ).returncode
            else:
                process = warm_commands().start(
                    MODULES[program], args, self.directory, self.environment, output, errors
                )
                try:
                    status = process.wait(LONGEST_S)
                finally:
                    process.kill()
            printed = []
            for stream in (output, errors):
                stream.seek(0)
                printed.append(stream.read().decode())
        done = subprocess.CompletedProcess([program, *args], status, *printed)
        text = f"{program} {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, text
        assert "Traceback" not in done.stderr, text
        return done

    def interrupt_after(self, line: str, program: str, *args: str, with_signal: int = signal.SIGINT) -> str:
        """Run a program, send it a signal once a line with the text appeared, and return what it printed."""
        process = self.start(program, *args)
        printed = []
        deadline = time.monotonic() + 300
        assert process.stdout is not None
        for text in process.stdout:
            printed.append(text)
            if line in text:
                process.send_signal(with_signal)
                break
            assert time.monotonic() < deadline, "".join(printed)
        rest, _ = process.communicate(timeout=300)
        output = "".join(printed) + rest
        assert process.returncode != 0, output
        return output


class Program:
    """Runs `butler` in this process, which is quicker, and gives what it printed.

    Parameters
    ----------
    capsys, monkeypatch
        Pytest's fixtures.
    directory : `Path`
        Where what is typed is kept.
    """

    def __init__(self, capsys, monkeypatch, directory: Path) -> None:
        self.capsys, self.monkeypatch, self.directory = capsys, monkeypatch, directory
        self.errors = ""

    def __call__(self, *args: object, code: int = 0, answer: str = "") -> str:
        """Return what is on standard output, and keep what is on standard error as `errors`."""
        from butler_dask.cli.butler import main

        typed = self.directory / "answer"
        typed.write_text(answer)
        with open(typed) as stdin:
            self.monkeypatch.setattr(sys, "stdin", stdin)
            try:
                main([str(a) for a in args])
            except SystemExit as end:
                ended = end.code or 0
        printed = self.capsys.readouterr()
        self.errors = printed.err
        assert ended == code, printed
        return printed.out
