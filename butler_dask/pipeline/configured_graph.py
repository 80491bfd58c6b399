"""From the definition of a pipeline to its graph: tasks imported, configured, and their contracts checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ContractError, did_you_mean
from .config_overrides import ConfigOverride, ConfigValueError, expand_variables
from .pipeline_definition import Contract, PipelineDefinition, TaskDefinition
from .pipeline_graph import PipelineGraph
from .pipeline_nodes import TaskNode
from .task_class import import_instrument, import_task_class
from .task_subsets import StepDefinitions, TaskSubset

__all__ = ["check_contracts", "configured_graph"]


def configured_graph(definition: PipelineDefinition) -> PipelineGraph:
    """Import and configure the tasks of a definition, and order them.

    Parameters
    ----------
    definition : `PipelineDefinition`
        What the pipeline file says. The instrument's configuration is applied before the file's.

    Raises
    ------
    TaskImportError
        A class cannot be imported.
    ConfigFieldError
        A configuration field does not exist or does not take a value.
    PipelineGraphError
        Tasks do not fit together.
    """
    instrument = None
    if definition.instrument is not None:
        instrument = import_instrument(definition.instrument)
    nodes = []
    for task in definition.tasks.values():
        task_class = import_task_class(task.class_name)
        config = task_class.ConfigClass()
        if instrument is not None:
            _apply_instrument(config, instrument, task, task_class._DefaultName)
        for override in task.overrides:
            override.apply(config, task.label, definition.parameters)
        try:
            config.validate()
        except ValueError as error:
            raise ConfigValueError(f"Task {task.label!r}: {str(error).splitlines()[0]}") from error
        config.freeze()
        nodes.append(TaskNode.from_config(task.label, task_class, config))
    return PipelineGraph(
        nodes,
        description=definition.description,
        instrument=definition.instrument,
        data_id={} if instrument is None else {"instrument": instrument.getName()},
        subsets=[
            TaskSubset(s.label, frozenset(s.members), s.description) for s in definition.subsets.values()
        ],
        steps=StepDefinitions({step.label: step.dimensions for step in definition.steps}),
    )


def check_contracts(contracts: Iterable[Contract], graph: PipelineGraph) -> None:
    """Evaluate all contracts and report every one that does not hold.

    Parameters
    ----------
    contracts : iterable of `Contract`
        Conditions on the configuration of tasks.
    graph : `PipelineGraph`
        The configured tasks.

    Raises
    ------
    ContractError
        One does not hold, or names what does not exist.
    """
    configs = {label: task.config for label, task in graph.tasks.items()}
    failures = []
    for contract in contracts:
        try:
            holds = eval(contract.expression, {}, configs)
        except NameError as error:
            name = error.name or ""
            failures.append(f"{contract.expression}: {error}.{did_you_mean(name, configs)}")
            continue
        except (AttributeError, TypeError, LookupError) as error:
            failures.append(f"{contract.expression}: {error}")
            continue
        if not holds:
            message = f" ({contract.message})" if contract.message else ""
            failures.append(f"{contract.expression}: not satisfied{message}")
    if failures:
        raise ContractError("Contracts of the pipeline do not hold:\n  " + "\n  ".join(failures))


def _apply_instrument(config: Any, instrument: Any, task: TaskDefinition, default_name: str) -> None:
    """Apply an instrument's configuration files for a task, named by the task's default name."""
    for directory in getattr(instrument, "configPaths", ()):
        path = Path(expand_variables(str(directory))) / f"{default_name}.py"
        if path.is_file():
            ConfigOverride(files=(str(path),), source="instrument").apply(config, task.label, {})
