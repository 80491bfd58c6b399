"""Options of ``pipetask`` and ``dask-submit``, grouped, and the frozen values they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import click

from ..engine.time_limit import checked_time_limit
from ..errors import ButlerUserError
from ..vocabulary.collection import split_names
from .options import option_set


@dataclass(frozen=True, slots=True)
class PipelineEdit:
    """One edit of the pipeline from the command line.

    Parameters
    ----------
    kind : `str`
        ``task``, ``delete``, ``config``, ``config-file`` or ``instrument``.
    value : `str`
        Its argument as typed.
    """

    kind: str
    value: str


def _collect_edit(kind: str) -> Callable[[click.Context, click.Parameter, Sequence[str]], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> None:
        # click hands over each option once; the order among them is read from the raw arguments.
        edits: list[tuple[str, str]] = ctx.meta.setdefault("butler_dask.edits", [])
        edits.extend((kind, v) for v in value)

    return callback


_EDIT_FLAGS = {
    "-t": "task",
    "--task": "task",
    "--delete": "delete",
    "-c": "config",
    "--config": "config",
    "-C": "config-file",
    "--config-file": "config-file",
    "--instrument": "instrument",
}


def pipeline_edits(ctx: click.Context, argv: Sequence[str]) -> list[PipelineEdit]:
    """Return the edits in the order they stand on the command line.

    Parameters
    ----------
    ctx : `click.Context`
        Context of the command, whose parameters are parsed.
    argv : sequence of `str`
        Arguments of the command as typed.

    Returns
    -------
    edits : `list` [`PipelineEdit`]
        As `edited_pipeline` applies them.
    """
    given = [PipelineEdit(kind, value) for kind, value in ctx.meta.get("butler_dask.edits", [])]
    order: dict[tuple[str, str], list[int]] = {}
    for position, word in enumerate(argv):
        for flag, kind in _EDIT_FLAGS.items():
            if word == flag and position + 1 < len(argv):
                order.setdefault((kind, argv[position + 1]), []).append(position)
            elif word.startswith(flag) and word != flag:
                rest = word[len(flag) :]
                rest = rest.removeprefix("=") if flag.startswith("--") else rest
                order.setdefault((kind, rest), []).append(position)
    places = {key: iter(positions) for key, positions in order.items()}
    return sorted(given, key=lambda e: next(places.get((e.kind, e.value), iter(())), len(argv)))


pipeline_options = option_set(
    click.option("-p", "--pipeline", metavar="FILE", help="Pipeline YAML; FILE#label,subset,a..b selects."),
    click.option(
        "-t",
        "--task",
        multiple=True,
        metavar="CLASS[:LABEL]",
        help="Add a task.",
        callback=_collect_edit("task"),
        expose_value=False,
    ),
    click.option(
        "--delete",
        multiple=True,
        metavar="LABEL",
        help="Remove a task.",
        callback=_collect_edit("delete"),
        expose_value=False,
    ),
    click.option(
        "-c",
        "--config",
        multiple=True,
        metavar="LABEL:FIELD=VALUE",
        help="Set a configuration field.",
        callback=_collect_edit("config"),
        expose_value=False,
    ),
    click.option(
        "-C",
        "--config-file",
        multiple=True,
        metavar="LABEL:FILE",
        help="Apply a configuration file.",
        callback=_collect_edit("config-file"),
        expose_value=False,
    ),
    click.option(
        "--instrument",
        multiple=True,
        metavar="NAME",
        help="Instrument whose overrides apply.",
        callback=_collect_edit("instrument"),
        expose_value=False,
    ),
)
"""Options that define and edit a pipeline."""


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Where a quantum graph comes from and where its outputs go; the fields are the options' names."""

    repo: str
    inputs: tuple[str, ...]
    output: str | None
    output_run: str | None
    where: str
    extend_run: bool
    replace_run: bool
    prune_replaced: str | None
    rebase: bool
    skip_existing: bool
    skip_existing_in: tuple[str, ...]
    clobber_outputs: bool
    quantum_graph: str | None
    save_quantum_graph: str | None
    show: tuple[str, ...]


graph_options = option_set(
    click.option("-b", "--butler-config", "repo", metavar="REPO", required=True, help="Repository."),
    click.option(
        "-i",
        "--input",
        "inputs",
        multiple=True,
        metavar="COLLECTION[,..]",
        help="Input collections.",
        callback=lambda ctx, param, value: tuple(split_names(value)),
    ),
    click.option("-o", "--output", metavar="COLLECTION", help="CHAINED collection of inputs and outputs."),
    click.option("--output-run", metavar="RUN", help="RUN for the outputs; made from --output by default."),
    click.option("-d", "--data-query", "where", default="", metavar="EXPRESSION", help="Which data IDs."),
    click.option(
        "--extend-run", is_flag=True, help="Add to the newest RUN of --output; implies --skip-existing."
    ),
    click.option("--replace-run", is_flag=True, help="Put a new RUN in place of the newest RUN of --output."),
    click.option(
        "--prune-replaced",
        type=click.Choice(["unstore", "purge"]),
        help="With --replace-run: remove the replaced RUN's files, or all of it.",
    ),
    click.option("--rebase", is_flag=True, help="Redefine --output for other inputs than it was made with."),
    click.option("--skip-existing", is_flag=True, help="Skip quanta whose outputs exist in the output RUN."),
    click.option(
        "--skip-existing-in",
        multiple=True,
        metavar="COLLECTION[,..]",
        help="Skip quanta whose outputs exist in these collections.",
        callback=lambda ctx, param, value: tuple(split_names(value)),
    ),
    click.option("--clobber-outputs", is_flag=True, help="Replace outputs of quanta that did not finish."),
    click.option(
        "-g",
        "--qgraph",
        "quantum_graph",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Use a saved quantum graph.",
    ),
    click.option(
        "-q",
        "--save-qgraph",
        "save_quantum_graph",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Save the quantum graph.",
    ),
    click.option(
        "--show",
        multiple=True,
        metavar="WHAT",
        help="Show, do not run: tasks, config[=LABEL::GLOB], pipeline, pipeline-graph, subsets, graph.",
    ),
)
"""The options of `GraphOptions`."""


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """How a graph is run; the fields are the options' names."""

    jobs: int
    executor: str | None
    cluster: str
    timeout: float | None
    worker_timeout: float | None
    fail_fast: bool
    init_only: bool
    no_versions: bool
    summary: str | None


def _time_limit(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    try:
        return checked_time_limit(value)
    except ButlerUserError as error:
        raise click.BadParameter(str(error)) from error


execution_options = option_set(
    click.option("-j", "--processes", "jobs", type=click.IntRange(1), default=1, help="How many at once."),
    click.option(
        "--executor",
        type=click.Choice(["threads", "processes", "sync"]),
        help="How: threads of this process (default for -j 1), processes (default for -j N), sync.",
    ),
    click.option(
        "--cluster",
        type=click.Choice(["none", "detector", "visit"]),
        default="detector",
        show_default=True,
        help="Which quanta make one Dask task.",
    ),
    click.option(
        "--timeout",
        type=float,
        callback=_time_limit,
        metavar="SECONDS",
        help="Longest time for one quantum; with processes, that of one stuck in a call is ended.",
    ),
    click.option(
        "--worker-timeout",
        type=float,
        callback=_time_limit,
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a Dask cluster may be without workers before the run is ended.",
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option("--init-only", is_flag=True, help="Write configs, versions and init-outputs, and stop."),
    click.option("--no-versions", is_flag=True, help="Neither save nor compare package versions."),
    click.option("--register-dataset-types", is_flag=True, expose_value=False, help="Accepted; always done."),
    click.option("--summary", type=click.Path(dir_okay=False), metavar="FILE", help="Write a JSON summary."),
)
"""The options of `ExecutionOptions`."""


def takes_pipeline_values(*groups: type[GraphOptions] | type[ExecutionOptions]) -> Callable[[Any], Any]:
    """Return a decorator that hands a command its options as values of these groups.

    Parameters
    ----------
    *groups : `type`
        `GraphOptions`, which the command takes as ``options``, or `ExecutionOptions`, as ``execution``.

    Returns
    -------
    decorator : callable
        The command it makes takes the options one by one, as click gives them.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*args: Any, **values: Any) -> Any:
            taken = {
                "options" if group is GraphOptions else "execution": group(
                    **{field.name: values.pop(field.name) for field in fields(group)}
                )
                for group in groups
            }
            return function(*args, **taken, **values)

        return command

    return decorate
