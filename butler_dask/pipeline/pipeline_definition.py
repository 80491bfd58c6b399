"""What a pipeline file says, as plain values that can be cut, merged and written back.

Nothing here imports a task: a definition can be changed where the tasks are not installed.
"""

from __future__ import annotations

import ast
import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import PipelineDefinitionError, PipelineLabelError, did_you_mean
from .config_overrides import ConfigOverride

__all__ = [
    "Contract",
    "PipelineDefinition",
    "StepDefinition",
    "SubsetDefinition",
    "SubsetMode",
    "TaskDefinition",
]


class SubsetMode(enum.Enum):
    """What becomes of a labeled subset when one of its tasks is left out."""

    DROP = "DROP"
    """The subset goes too."""
    EDIT = "EDIT"
    """The subset loses the task."""


@dataclass(frozen=True)
class TaskDefinition:
    """A task of a pipeline.

    Parameters
    ----------
    label : `str`
        Its name in the pipeline.
    class_name : `str`
        Dotted name of its class.
    overrides : `tuple` of `ConfigOverride`
        Configuration, in order.
    """

    label: str
    class_name: str
    overrides: tuple[ConfigOverride, ...] = ()

    def extended(self, overrides: Iterable[ConfigOverride]) -> TaskDefinition:
        """Return it with more configuration at the end.

        Configuration that begins with what is there already (a pipeline imported twice) is not repeated.
        """
        added = tuple(overrides)
        if added[: len(self.overrides)] == self.overrides:
            added = added[len(self.overrides) :]
        return replace(self, overrides=self.overrides + added)


@dataclass(frozen=True)
class Contract:
    """A condition on the configuration of several tasks.

    Parameters
    ----------
    expression : `str`
        Python over task labels: ``isr.doDark == calibrate.doDark``.
    message : `str`
        What to say when it does not hold.
    """

    expression: str
    message: str = ""

    def labels(self) -> frozenset[str]:
        """Return the names the expression uses as task labels: those followed by a dot."""
        return frozenset(
            node.value.id
            for node in ast.walk(ast.parse(self.expression, mode="eval"))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        )


@dataclass(frozen=True)
class SubsetDefinition:
    """A named group of tasks.

    Parameters
    ----------
    label : `str`
        Its name.
    members : `tuple` of `str`
        Task labels.
    description : `str`
        What it is for.
    """

    label: str
    members: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True)
class StepDefinition:
    """A subset that is one step of a campaign.

    Parameters
    ----------
    label : `str`
        A subset's name.
    dimensions : `tuple` of `str`
        Dimensions by which the step may be cut into independent pieces.
    """

    label: str
    dimensions: tuple[str, ...] = ()


@dataclass
class PipelineDefinition:
    """The content of a pipeline file with its imports.

    Parameters
    ----------
    description : `str`
        What the pipeline is for.
    instrument : `str`, optional
        Dotted name of the instrument class.
    parameters : `dict`
        Values that configuration refers to as ``parameters.name``.
    tasks : `dict` of `str` to `TaskDefinition`
        Tasks by label.
    contracts : `list` of `Contract`
        Conditions.
    subsets : `dict` of `str` to `SubsetDefinition`
        Subsets by label.
    steps : `list` of `StepDefinition`
        Steps in order.
    """

    description: str = ""
    instrument: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, TaskDefinition] = field(default_factory=dict)
    contracts: list[Contract] = field(default_factory=list)
    subsets: dict[str, SubsetDefinition] = field(default_factory=dict)
    steps: list[StepDefinition] = field(default_factory=list)

    def copy(self) -> PipelineDefinition:
        """Return an independent copy (the parts are immutable)."""
        return PipelineDefinition(
            self.description,
            self.instrument,
            dict(self.parameters),
            dict(self.tasks),
            list(self.contracts),
            dict(self.subsets),
            list(self.steps),
        )

    def to_document(self) -> dict[str, Any]:
        """Return what is written as YAML."""
        document: dict[str, Any] = {"description": self.description}
        if self.instrument is not None:
            document["instrument"] = self.instrument
        if self.parameters:
            document["parameters"] = dict(self.parameters)
        document["tasks"] = {label: _task_document(task) for label, task in self.tasks.items()}
        if self.contracts:
            document["contracts"] = [
                {"contract": c.expression, "msg": c.message} if c.message else c.expression
                for c in self.contracts
            ]
        if self.subsets:
            document["subsets"] = {
                s.label: {"subset": list(s.members)}
                | ({"description": s.description} if s.description else {})
                for s in self.subsets.values()
            }
        if self.steps:
            document["steps"] = [
                {"label": s.label} | ({"dimensions": list(s.dimensions)} if s.dimensions else {})
                for s in self.steps
            ]
        return document

    def expand_labels(self, labels: Iterable[str]) -> list[str]:
        """Return task labels for task and subset labels.

        Raises
        ------
        PipelineLabelError
            One is neither; all such are named.
        """
        tasks: list[str] = []
        unknown: list[str] = []
        for label in labels:
            if label in self.tasks:
                tasks.append(label)
            elif label in self.subsets:
                tasks.extend(self.subsets[label].members)
            else:
                unknown.append(label)
        if unknown:
            known = [*self.tasks, *self.subsets]
            raise PipelineLabelError(
                "; ".join(
                    f"The pipeline has no task or subset {label!r}.{did_you_mean(label, known)}"
                    for label in unknown
                )
                + f" There are tasks {', '.join(self.tasks) or 'none'}"
                + (f" and subsets {', '.join(self.subsets)}." if self.subsets else ".")
            )
        return tasks

    def select(self, keep: Collection[str], mode: SubsetMode = SubsetMode.DROP) -> PipelineDefinition:
        """Return the part with only the given tasks; contracts about others go.

        Parameters
        ----------
        keep : collection of `str`
            Task labels.
        mode : `SubsetMode`
            What becomes of subsets that lose a task.
        """
        result = self.copy()
        result.tasks = {label: task for label, task in self.tasks.items() if label in keep}
        gone = set(self.tasks) - set(result.tasks)
        result.contracts = [c for c in self.contracts if not (c.labels() & gone)]
        result.subsets = {}
        for name, subset in self.subsets.items():
            members = tuple(m for m in subset.members if m in result.tasks)
            if members == subset.members or (mode is SubsetMode.EDIT and members):
                result.subsets[name] = replace(subset, members=members)
        result.steps = [s for s in self.steps if s.label in result.subsets]
        return result

    def check(self, source: str) -> None:
        """Check that subsets and steps name what there is.

        Raises
        ------
        PipelineDefinitionError
            Something is named that does not exist, or a name is used twice.
        """
        for subset in self.subsets.values():
            if subset.label in self.tasks:
                raise PipelineDefinitionError(f"{source}: {subset.label!r} is both a task and a subset.")
            for member in subset.members:
                if member not in self.tasks:
                    raise PipelineDefinitionError(
                        f"{source}: subset {subset.label!r} names {member!r}, which is no task "
                        f"of the pipeline."
                        f"{did_you_mean(member, self.tasks)}"
                    )
        for step in self.steps:
            if step.label not in self.subsets:
                raise PipelineDefinitionError(
                    f"{source}: step {step.label!r} is no subset of the pipeline."
                    f"{did_you_mean(step.label, self.subsets)}"
                )

    def merge_import(self, other: PipelineDefinition, source: str, decided: Collection[str] = ()) -> None:
        """Take in what another pipeline defines.

        Parameters
        ----------
        other : `PipelineDefinition`
            The imported one.
        source : `str`
            Its file, for messages.
        decided : collection of `str`
            Task labels, subsets and parameters (``parameters.x``) and ``instrument`` that the importing file
            defines itself, so that imports may differ about them.

        Raises
        ------
        PipelineDefinitionError
            Two imports contradict each other.
        """
        if other.instrument is not None:
            if self.instrument not in (None, other.instrument) and "instrument" not in decided:
                raise PipelineDefinitionError(
                    f"{source}: instrument {other.instrument} contradicts {self.instrument} of another "
                    "import. Name the instrument in the importing file, or import with 'instrument: null'."
                )
            self.instrument = other.instrument
        for label, task in other.tasks.items():
            known = self.tasks.get(label)
            if known is None or (known.class_name != task.class_name and label in decided):
                self.tasks[label] = task
            elif known.class_name == task.class_name:
                self.tasks[label] = known.extended(task.overrides)
            else:
                raise PipelineDefinitionError(
                    f"{source}: task {label!r} is {task.class_name} here and {known.class_name} in another "
                    "import. Exclude it from one of them."
                )
        for name, subset in other.subsets.items():
            if name in self.subsets and self.subsets[name] != subset and name not in decided:
                raise PipelineDefinitionError(
                    f"{source}: subset {name!r} is defined differently by another import."
                )
            self.subsets[name] = subset
        for name, value in other.parameters.items():
            if self.parameters.get(name, value) != value and f"parameters.{name}" not in decided:
                raise PipelineDefinitionError(
                    f"{source}: parameter {name!r} is {value!r} here and {self.parameters[name]!r} in "
                    "another import. Set it in the importing file."
                )
            self.parameters[name] = value
        self.contracts += [c for c in other.contracts if c not in self.contracts]
        self.steps += [s for s in other.steps if s not in self.steps]


def _task_document(task: TaskDefinition) -> dict[str, Any]:
    document: dict[str, Any] = {"class": task.class_name}
    if task.overrides:
        document["config"] = [override.to_document() for override in task.overrides]
    return document
