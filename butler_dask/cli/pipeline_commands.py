"""``pipetask build``, ``qgraph`` and ``run``."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import click

import butler_dask as bd

from ..errors import did_you_mean
from .command import log_options
from .pipeline_options import (
    ExecutionOptions,
    GraphOptions,
    PipelineEdit,
    execution_options,
    graph_options,
    pipeline_edits,
    pipeline_options,
    takes_pipeline_values,
)
from .progress import RunProgress

if TYPE_CHECKING:
    from ..butler.butler import Butler
    from ..engine.dask_graph import Clustering
    from ..engine.execution import Executor
    from ..engine.run_summary import RunSummary
    from ..graph.quantum_graph import QuantumGraph
    from ..graph.run_collections import Prune, RunCollections
    from ..pipeline.pipeline import Pipeline

_LOG = logging.getLogger("pipetask")


class PipelineCommand(click.Command):
    """A command that remembers its raw arguments, so that pipeline edits keep their order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep a copy of the words.

        Parameters
        ----------
        ctx : `click.Context`
            Takes the copy, as ``butler_dask.argv`` of its ``meta``.
        args : `list` [`str`]
            As typed.

        Returns
        -------
        rest : `list` [`str`]
            As click has it.
        """
        ctx.meta["butler_dask.argv"] = list(args)
        return super().parse_args(ctx, args)


def edited_pipeline(ctx: click.Context, file: str | None) -> Pipeline:
    """Return the pipeline of a file with the command line's edits applied in their order.

    Parameters
    ----------
    ctx : `click.Context`
        Context of a `PipelineCommand` with `pipeline_options`.
    file : `str` or `None`
        ``FILE[#selection]``; without one the edits must add tasks.

    Returns
    -------
    pipeline : `Pipeline`
        With at least one task.

    Raises
    ------
    click.UsageError
        If there is no task, or an edit is not of its form.
    """
    pipeline = bd.Pipeline.from_uri(file) if file else bd.Pipeline("A pipeline from the command line.")
    for edit in pipeline_edits(ctx, ctx.meta["butler_dask.argv"]):
        _apply(pipeline, edit)
    if not pipeline.task_labels:
        raise click.UsageError("There is no task: name a pipeline file with -p or add tasks with -t.")
    return pipeline


def _apply(pipeline: Pipeline, edit: PipelineEdit) -> None:
    if edit.kind == "task":
        name, _, label = edit.value.partition(":")
        pipeline.addTask(name, label or None)
    elif edit.kind == "delete":
        pipeline.removeTask(edit.value)
    elif edit.kind == "instrument":
        pipeline.addInstrument(edit.value)
    else:
        label, colon, rest = edit.value.partition(":")
        if not colon:
            raise click.BadParameter(f"{edit.value!r} is not LABEL:...", param_hint="-c/-C")
        if edit.kind == "config-file":
            pipeline.addConfigFile(label, rest)
        else:
            field, equals, value = rest.partition("=")
            if not equals:
                raise click.BadParameter(f"{edit.value!r} is not LABEL:FIELD=VALUE", param_hint="-c")
            pipeline.addConfigOverride(label, field, value)


_SHOWN = ("config", "graph", "inputs", "pipeline", "pipeline-graph", "subsets", "task-graph", "tasks")


def show_pipeline_parts(pipeline: Pipeline, what: tuple[str, ...]) -> None:
    """Print the views of a pipeline that ``--show`` names; ``graph`` is left to the caller.

    Parameters
    ----------
    pipeline : `Pipeline`
        The pipeline.
    what : `tuple` [`str`, ...]
        As typed.

    Raises
    ------
    click.BadParameter
        For an unknown view.
    """
    for item in what:
        name, _, argument = item.partition("=")
        if name not in _SHOWN:
            raise click.BadParameter(
                f"Nothing to show called {name!r}.{did_you_mean(name, _SHOWN)}", param_hint="--show"
            )
        if name == "graph":
            continue
        if name == "pipeline":
            click.echo(bd.pipeline.pipeline_text.show_pipeline(pipeline))
            continue
        graph = pipeline.to_graph()
        if name == "config":
            click.echo(bd.pipeline.pipeline_text.show_config(graph, argument or "*"))
        else:
            views = {
                "tasks": bd.pipeline.pipeline_text.show_tasks,
                "subsets": bd.pipeline.pipeline_text.show_subsets,
                "inputs": bd.pipeline.pipeline_text.show_inputs,
                "task-graph": bd.pipeline.pipeline_text.show_task_graph,
                "pipeline-graph": bd.pipeline.pipeline_text.show_pipeline_graph,
            }
            click.echo(views[name](graph))


@click.command(cls=PipelineCommand)
@pipeline_options
@click.option(
    "--show", multiple=True, metavar="WHAT", help=f"What to show: {', '.join(_SHOWN)}; config=LABEL::GLOB."
)
@click.option("-s", "--save-pipeline", metavar="FILE", help="Write the pipeline as YAML.")
@click.option(
    "--pipeline-dot", metavar="FILE", type=click.File("w"), help="Write the pipeline graph for Graphviz."
)
@click.option(
    "--pipeline-mermaid", metavar="FILE", type=click.File("w"), help="Write the pipeline graph for Mermaid."
)
@log_options
@click.pass_context
def build(
    ctx: click.Context,
    /,
    pipeline: str | None,
    show: tuple[str, ...],
    save_pipeline: str | None,
    pipeline_dot: Any,
    pipeline_mermaid: Any,
) -> None:
    """Build a pipeline from a file and edits; show or save it."""
    definition = edited_pipeline(ctx, pipeline)
    graph = definition.to_graph()
    if save_pipeline:
        definition.write_to_uri(save_pipeline)
    if pipeline_dot:
        pipeline_dot.write(bd.pipeline.pipeline_text.dot(graph))
    if pipeline_mermaid:
        pipeline_mermaid.write(bd.pipeline.pipeline_text.mermaid(graph))
    show_pipeline_parts(definition, show)


def prepare_graph(
    butler: Butler, options: GraphOptions, pipeline: Pipeline | None, *, to_run: bool = False
) -> tuple[RunCollections, QuantumGraph]:
    """Decide the collections of a run and build its graph, or read a saved one.

    Parameters
    ----------
    butler : `Butler`
        Butler of the repository.
    options : `GraphOptions`
        The command line.
    pipeline : `Pipeline` or `None`
        The pipeline; `None` with a saved graph.
    to_run : `bool`
        Claim the run (inside `RunClaims.kept`), and record what an interrupted run to be extended had
        finished; else nothing is written.

    Returns
    -------
    plan : `RunCollections`
        What the run does with collections.
    graph : `QuantumGraph`
        What is to be run.

    Raises
    ------
    RunInUseError
        If another command writes the run.
    """
    saved = bd.graph.read_graph(options.quantum_graph) if options.quantum_graph else None
    plan = bd.graph.plan_run_collections(
        butler.repository.registry,
        bd.graph.RunOptions(
            inputs=options.inputs or (saved.inputs if saved is not None and not options.extend_run else ()),
            output=options.output or (saved.output if saved is not None else None),
            output_run=options.output_run
            or (saved.run if saved is not None and not options.output else None),
            extend_run=options.extend_run,
            replace_run=options.replace_run,
            prune_replaced=cast("Prune | None", options.prune_replaced),
            rebase=options.rebase,
            skip_existing=options.skip_existing,
            skip_existing_in=options.skip_existing_in,
        ),
    )
    if to_run and (plan.extend or plan.named):
        # Before the graph is built, so that who comes second is told at once.
        butler.repository.registry.claims.take(plan.output_run)
    if to_run and plan.extend:
        bd.engine.recover_run(butler.repository, plan.output_run)
    if saved is not None:
        graph = saved if saved.run == plan.output_run else saved.in_run(plan.output_run)
        if plan.extend:
            graph = bd.graph.keep_ids(butler.repository.registry, graph)
    else:
        assert pipeline is not None
        pipeline_graph = pipeline.to_graph(butler.registry)
        if plan.extend:
            # Before anything is queried: a run is one configuration, and the answer costs nothing.
            bd.engine.compare_init_outputs(butler.repository, pipeline_graph, plan.output_run)
        graph = bd.graph.build_quantum_graph(
            pipeline_graph,
            butler.repository,
            where=options.where,
            input_collections=plan.inputs,
            output_run=plan.output_run,
            output=plan.output,
            skip_existing_in=plan.skip_existing_in,
            clobber=options.clobber_outputs,
        )
    _LOG.info("%s", graph.summary())
    for note in graph.metadata.get("notes", ()):
        _LOG.info("%s", note)
    return plan, graph


@click.command(cls=PipelineCommand)
@pipeline_options
@graph_options
@log_options
@click.pass_context
@takes_pipeline_values(GraphOptions)
def qgraph(ctx: click.Context, /, pipeline: str | None, options: GraphOptions) -> None:
    """Build a quantum graph; show it (--show graph) or save it (-q FILE)."""
    definition = None if options.quantum_graph else edited_pipeline(ctx, pipeline)
    if definition is not None:
        show_pipeline_parts(definition, options.show)
    with bd.Butler(options.repo, writeable=False) as butler:
        _, graph = prepare_graph(butler, options, definition)
        if options.save_quantum_graph:
            bd.graph.write_graph(graph, options.save_quantum_graph)
        if "graph" in options.show:
            show_graph(graph)


def show_graph(graph: QuantumGraph) -> None:
    """Print each quantum with its inputs and outputs.

    Parameters
    ----------
    graph : `QuantumGraph`
        The graph.
    """
    for row in range(len(graph)):
        quantum = graph.quantum(row)
        click.echo(f"{quantum.taskLabel} {quantum.dataId}")
        for name, parts in (("inputs", quantum.inputs), ("outputs", quantum.outputs)):
            click.echo(f"  {name}:")
            for refs in parts.values():
                for ref in refs:
                    click.echo(f"    {ref.datasetType.name} {ref.dataId} in {ref.run}")


@click.command(cls=PipelineCommand)
@pipeline_options
@graph_options
@execution_options
@log_options
@click.pass_context
@takes_pipeline_values(GraphOptions, ExecutionOptions)
def run(
    ctx: click.Context, /, pipeline: str | None, options: GraphOptions, execution: ExecutionOptions
) -> None:
    """Build a quantum graph from a pipeline, or take a saved one, and run it."""
    executor = execution.executor or ("processes" if execution.jobs > 1 else "threads")
    run_pipeline(ctx, pipeline, options, execution, executor=executor, address=None)


def run_pipeline(
    ctx: click.Context,
    file: str | None,
    options: GraphOptions,
    execution: ExecutionOptions,
    *,
    executor: str,
    address: str | None,
) -> None:
    """Build, record and run: what ``pipetask run`` and ``dask-submit run`` share.

    Parameters
    ----------
    ctx : `click.Context`
        Context with the pipeline's edits.
    file : `str` or `None`
        Pipeline file.
    options, execution : `GraphOptions`, `ExecutionOptions`
        The command line.
    executor : `str`
        ``threads``, ``sync``, ``processes`` or ``dask``.
    address : `str` or `None`
        Address of the Dask scheduler for ``dask``.

    Raises
    ------
    QuantumExecutionError
        If quanta failed.
    """
    if options.quantum_graph and (file or ctx.meta.get("butler_dask.edits")):
        raise click.UsageError("A saved graph (-g) has its own pipeline: leave out -p, -t, -c and the like.")
    definition = None if options.quantum_graph else edited_pipeline(ctx, file)
    if definition is not None and options.show:
        show_pipeline_parts(definition, options.show)
        if "graph" not in options.show:
            return
    with bd.Butler(options.repo, writeable=True) as butler, butler.repository.registry.claims.kept():
        plan, graph = prepare_graph(butler, options, definition, to_run=not options.show)
        if options.save_quantum_graph:
            bd.graph.write_graph(graph, options.save_quantum_graph)
        if "graph" in options.show:
            show_graph(graph)
            return
        if not len(graph) and plan.extend:
            _LOG.info("Nothing to do: every quantum's outputs are in %s", plan.output_run)
            return
        with ExitStack() as stack:
            # Before anything is written: a scheduler that does not answer leaves no run behind.
            client = None
            if address is not None:
                client = stack.enter_context(bd.engine.existing_cluster(address))
            graph = bd.engine.write_init_outputs(
                butler.repository, graph, plan, save_versions=not execution.no_versions
            )
            if execution.init_only:
                return
            progress = stack.enter_context(RunProgress())
            summary = bd.engine.run_graph(
                graph,
                butler.repository,
                executor=cast("Executor", executor),
                jobs=execution.jobs,
                client=client,
                cluster=cast("Clustering", execution.cluster),
                progress=progress,
                fail_fast=execution.fail_fast,
                settings=bd.engine.RunSettings(timeout_s=execution.timeout),
                worker_timeout_s=execution.worker_timeout,
            )
    finish(summary, execution.summary)


def finish(summary: RunSummary, file: str | None) -> None:
    """Print what became of a run, write its summary, and raise if quanta failed.

    Parameters
    ----------
    summary : `RunSummary`
        How the run ended.
    file : `str` or `None`
        Where its summary is written as JSON, if anywhere.

    Raises
    ------
    QuantumExecutionError
        If quanta failed.
    """
    _LOG.info("%s", summary.describe())
    if file:
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(summary.to_json())
    summary.raise_on_failure()
