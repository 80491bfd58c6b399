"""The ``pipetask`` program: pipelines, quantum graphs, runs."""

from __future__ import annotations

from collections.abc import Sequence

from .command import program, run_program

_COMMANDS = {
    "build": ("pipeline_commands", "Build a pipeline and show it."),
    "qgraph": ("pipeline_commands", "Build a quantum graph and show or save it."),
    "run": ("pipeline_commands", "Build a quantum graph and run it."),
}

pipetask = program("pipetask", "Build pipelines and quantum graphs, and run them.", _COMMANDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Parameters
    ----------
    argv : sequence of `str`, optional
        Arguments; those of the process when not given.
    """
    run_program(pipetask, argv)


if __name__ == "__main__":
    main()
