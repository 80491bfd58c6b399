"""Pipelines for people: what ``pipetask build --show`` prints, and diagrams (dot, Mermaid)."""

from __future__ import annotations

import fnmatch
import re

from ..errors import ConfigFieldError, did_you_mean
from .pipeline import Pipeline
from .pipeline_graph import PipelineGraph
from .pipeline_nodes import DatasetTypeNode, TaskNode, required_names

__all__ = [
    "dot",
    "mermaid",
    "show_config",
    "show_history",
    "show_inputs",
    "show_pipeline",
    "show_pipeline_graph",
    "show_subsets",
    "show_task_graph",
    "show_tasks",
]


def show_tasks(graph: PipelineGraph) -> str:
    """Return a table of the tasks in order: label, class, dimensions."""
    rows = [
        (task.label, task.task_class_name, required_names(task.dimensions)) for task in graph.tasks.values()
    ]
    header = ("label", "class", "dimensions")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(3)]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show_pipeline(pipeline: Pipeline) -> str:
    """Return the pipeline's YAML, imports and overrides merged."""
    return str(pipeline).rstrip()


def show_subsets(graph: PipelineGraph) -> str:
    """Return each subset with its description and tasks in the order they run."""
    lines = []
    for subset in graph.task_subsets.values():
        lines.append(f"{subset.label}" + (f": {subset.description}" if subset.description else ""))
        lines += [f"  {label}" for label in graph.tasks if label in subset]
    return "\n".join(lines) or "The pipeline has no subsets."


def show_config(graph: PipelineGraph, pattern: str = "*", *, docs: bool = False) -> str:
    """Return configuration as Python that would set it.

    Parameters
    ----------
    graph : `PipelineGraph`
        The configured tasks.
    pattern : `str`, optional
        ``LABEL``, ``LABEL::GLOB`` or a glob of field names for all tasks; ``GLOB:NOIGNORECASE`` minds case.
    docs : `bool`, optional
        Whether fields have their documentation above them.

    Raises
    ------
    ConfigFieldError
        There is no such task, or no field matches.
    """
    label, separator, glob = pattern.partition("::")
    if not separator and pattern not in graph.tasks:
        label, glob = "", pattern
    if label and label not in graph.tasks:
        raise ConfigFieldError(f"The pipeline has no task {label!r}.{did_you_mean(label, graph.tasks)}")
    glob, _, case = (glob or "*").partition(":")
    glob = glob.removeprefix("config.")
    compiled = re.compile(fnmatch.translate(glob), 0 if case.upper() == "NOIGNORECASE" else re.IGNORECASE)
    blocks = []
    for task in graph.tasks.values():
        if label and task.label != label:
            continue
        found = _matching_settings(task, compiled, docs)
        if found:
            blocks.append("\n".join([f"### Configuration for task `{task.label}'", *found]))
    if not blocks:
        fields = [name for task in graph.tasks.values() for name in task.config.keys()]  # noqa: SIM118 -- a config
        raise ConfigFieldError(
            f"No configuration field matches {glob!r}"
            + (f" in task {label!r}." if label else ".")
            + did_you_mean(glob, fields)
        )
    return "\n\n".join(blocks)


def _matching_settings(task: TaskNode, pattern: re.Pattern[str], docs: bool) -> list[str]:
    """Return the assignments of a task's configuration whose field names match."""
    found: list[str] = []
    comment: list[str] = []
    statement: list[str] = []
    for line in [*task.config.saveToString(skipImports=True).splitlines(), ""]:
        if not statement and line.startswith("#"):
            comment.append(line)
        elif line.startswith("config.") or (statement and line):
            statement.append(line)
        else:
            if statement:
                name = statement[0].partition("=")[0].removeprefix("config.").strip()
                if pattern.match(name):
                    found += [*(comment if docs else []), *statement, *([""] if docs else [])]
            comment, statement = [], []
    return found


def show_history(graph: PipelineGraph, label: str, field: str) -> str:
    """Return where a configuration field got its values.

    Raises
    ------
    ConfigFieldError
        There is no such task or field.
    """
    if label not in graph.tasks:
        raise ConfigFieldError(f"The pipeline has no task {label!r}.{did_you_mean(label, graph.tasks)}")
    config = graph.tasks[label].config
    *path, last = field.split(".")
    for part in (*path, last):
        if part not in config:
            raise ConfigFieldError(
                f"Task {label!r} has no configuration field {field!r}.{did_you_mean(part, config.keys())}"
            )
        if part != last:
            config = getattr(config, part)
    return str(config.formatHistory(last, writeSourceLine=True))


def show_inputs(graph: PipelineGraph) -> str:
    """Return the dataset types that must exist beforehand, each with its dimensions and storage class."""
    lines = []
    for name, node in graph.iter_overall_inputs():
        kind = " (prerequisite)" if node.is_prerequisite else ""
        lines.append(f"{name} {required_names(node.dimensions)} {node.storage_class_name}{kind}")
    return "\n".join(lines)


def show_task_graph(graph: PipelineGraph) -> str:
    """Return the tasks as a tree: each with the tasks it reads from."""
    upstream = graph.upstream()
    lines = []
    for task in graph.tasks.values():
        lines.append(f"■ {task.label}: {required_names(task.dimensions)}")
        sources = [label for label in graph.tasks if label in upstream[task.label]]
        for i, source in enumerate(sources):
            lines.append(f"{'└' if i == len(sources) - 1 else '├'}─ after {source}")
    return "\n".join(lines)


def show_pipeline_graph(graph: PipelineGraph, *, automatic: bool = False) -> str:
    """Return tasks and dataset types as a text tree, in the order they are made.

    Parameters
    ----------
    graph : `PipelineGraph`
        What to show.
    automatic : `bool`, optional
        Whether configuration, metadata and log of each task are shown.

    Notes
    -----
    A filled square is a task; an open circle is a dataset type, with its dimensions and storage class.
    """
    lines = []
    inputs = [node for _, node in graph.iter_overall_inputs()]
    lines += [_dataset_type_line("○ ", node) for node in inputs]
    for task in graph.tasks.values():
        lines.append(f"■ {task.label}: {required_names(task.dimensions)}, {task.task_class_name}")
        branches = [
            (
                "reads",
                edge.dataset_type_name,
                "prerequisite" if edge.is_prerequisite else ("optional" if edge.minimum == 0 else ""),
            )
            for edge in (*task.init_inputs.values(), *task.iter_all_inputs())
        ]
        outputs = [
            edge
            for edge in (*task.iter_all_init_outputs(), *task.iter_all_outputs())
            if automatic or not edge.connection_name.startswith("_")
        ]
        lines += [f"│  ← {name}{f' ({note})' if note else ''}" for _, name, note in branches]
        lines += [
            _dataset_type_line(
                "├→ ○ " if edge is not outputs[-1] else "└→ ○ ", graph.dataset_types[edge.dataset_type_name]
            )
            for edge in outputs
        ]
    return "\n".join(lines)


def _dataset_type_line(prefix: str, node: DatasetTypeNode) -> str:
    note = " (prerequisite)" if node.is_prerequisite else ""
    return f"{prefix}{node.name}: {required_names(node.dimensions)}, {node.storage_class_name}{note}"


def dot(graph: PipelineGraph, *, automatic: bool = False) -> str:
    """Return the graph for Graphviz: boxes are tasks, rounded boxes dataset types.

    Parameters
    ----------
    graph : `PipelineGraph`
        What to draw.
    automatic : `bool`, optional
        Whether configuration, metadata and log of each task are drawn.
    """
    lines = ["digraph Pipeline {", "  rankdir=TB;", '  node [fontname="sans-serif"];']
    for task in graph.tasks.values():
        text = f"{task.label}\\n{task.task_class_name}\\n{required_names(task.dimensions)}"
        lines.append(f'  "task:{task.label}" [shape=box, style=filled, fillcolor="#b1d5ff", label="{text}"];')
    for node in _drawn_dataset_types(graph, automatic):
        text = f"{node.name}\\n{required_names(node.dimensions)}\\n{node.storage_class_name}"
        lines.append(
            f'  "{node.name}" [shape=box, style="rounded,filled", fillcolor="#f2efe6", label="{text}"];'
        )
    for node in _drawn_dataset_types(graph, automatic):
        if node.producer is not None:
            lines.append(f'  "task:{node.producer}" -> "{node.name}";')
        for edge in node.consuming_edges:
            style = " [style=dashed]" if edge.is_prerequisite else ""
            lines.append(f'  "{node.name}" -> "task:{edge.task_label}"{style};')
    return "\n".join([*lines, "}"])


def mermaid(graph: PipelineGraph, *, automatic: bool = False) -> str:
    """Return the graph for Mermaid; see `dot`."""
    lines = ["flowchart TD"]
    tasks = {label: f"T{i}" for i, label in enumerate(graph.tasks)}
    drawn = {node.name: (f"D{i}", node) for i, node in enumerate(_drawn_dataset_types(graph, automatic))}
    lines += [
        f'  {name}["<b>{label}</b><br>{required_names(graph.tasks[label].dimensions)}"]'
        for label, name in tasks.items()
    ]
    lines += [
        f'  {name}("{node.name}<br>{required_names(node.dimensions)}")' for name, node in drawn.values()
    ]
    for name, node in drawn.values():
        if node.producer is not None:
            lines.append(f"  {tasks[node.producer]} --> {name}")
        for edge in node.consuming_edges:
            arrow = "-.->" if edge.is_prerequisite else "-->"
            lines.append(f"  {name} {arrow} {tasks[edge.task_label]}")
    return "\n".join(lines)


def _drawn_dataset_types(graph: PipelineGraph, automatic: bool) -> list[DatasetTypeNode]:
    """Return the dataset types that a diagram shows."""
    return [
        node
        for node in graph.dataset_types.values()
        if automatic
        or node.consuming_edges
        or node.producing_edge is None
        or not node.producing_edge.connection_name.startswith("_")
    ]
