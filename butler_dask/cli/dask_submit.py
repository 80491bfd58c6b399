"""The ``dask-submit`` program: ``pipetask run`` on a Dask cluster."""

from __future__ import annotations

from collections.abc import Sequence

from .command import program, run_program

_COMMANDS = {
    "run": ("submit_commands", "Run a pipeline on a Dask cluster; takes the options of `pipetask run`."),
}

dask_submit = program(
    "dask-submit",
    "Run pipelines on a Dask cluster: dask-submit run --address tcp://HOST:PORT [options of pipetask run].",
    _COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Parameters
    ----------
    argv : sequence of `str`, optional
        Arguments; those of the process when not given.
    """
    run_program(dask_submit, argv)


if __name__ == "__main__":
    main()
