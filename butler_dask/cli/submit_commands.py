"""``dask-submit run``: the options of ``pipetask run``, on a Dask cluster."""

from __future__ import annotations

import json

import click

from .command import log_options
from .pipeline_commands import PipelineCommand, run_pipeline
from .pipeline_options import (
    ExecutionOptions,
    GraphOptions,
    execution_options,
    graph_options,
    pipeline_options,
    takes_pipeline_values,
)


@click.command(cls=PipelineCommand)
@click.option("--address", metavar="ADDRESS", help="Address of a running Dask scheduler, tcp://HOST:PORT.")
@click.option(
    "--scheduler-file", type=click.Path(exists=True, dir_okay=False), help="File a Dask scheduler wrote."
)
@pipeline_options
@graph_options
@execution_options
@log_options
@click.pass_context
@takes_pipeline_values(GraphOptions, ExecutionOptions)
def run(
    ctx: click.Context,
    /,
    pipeline: str | None,
    address: str | None,
    scheduler_file: str | None,
    options: GraphOptions,
    execution: ExecutionOptions,
) -> None:
    """Build a quantum graph and run it on a Dask cluster; without an address on -j local processes."""
    if scheduler_file is not None:
        with open(scheduler_file, encoding="utf-8") as stream:
            try:
                address = json.load(stream)["address"]
            except (ValueError, KeyError, TypeError):
                raise click.BadParameter(
                    f"{scheduler_file} is not a Dask scheduler file", param_hint="--scheduler-file"
                ) from None
    run_pipeline(
        ctx, pipeline, options, execution, executor="dask" if address else "processes", address=address
    )
