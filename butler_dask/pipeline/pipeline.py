"""Pipeline: a definition from YAML with its overrides, from which the graph of tasks is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from ..errors import (
    PipelineDefinitionError,
    PipelineLabelError,
    PipelineNotFoundError,
    did_you_mean,
)
from ..vocabulary.dotted_name import dotted_name
from .config_overrides import ConfigOverride, expand_variables
from .configured_graph import check_contracts, configured_graph
from .pipeline_definition import (
    PipelineDefinition,
    SubsetDefinition,
    SubsetMode,
    TaskDefinition,
)
from .pipeline_graph import DatasetTypeSource, PipelineGraph
from .pipeline_yaml import read_definition, read_definition_text
from .task_class import import_task_class

__all__ = ["Pipeline"]

_RANGE = re.compile(r"(?P<first>[^.,]*)\.\.(?P<last>[^.,]*)")


class Pipeline:
    """Tasks with their configuration, subsets and contracts.

    Parameters
    ----------
    description : `str`
        What the pipeline is for.

    Notes
    -----
    Read one with `from_uri`; a new one is empty. ``str(pipeline)`` is its YAML with imports merged.
    """

    def __init__(self, description: str) -> None:
        self._definition = PipelineDefinition(description)

    # Making --------------------------------------------------------------------------------------------

    @classmethod
    def from_uri(cls, uri: str | Path) -> Pipeline:
        """Read a pipeline file.

        Parameters
        ----------
        uri : `str` or `~pathlib.Path`
            ``FILE``, ``FILE#label,label``, ``FILE#subset``, or ``FILE#a..b`` (``..b``, ``a..``) for a range
            of tasks in order, ends included. Environment variables are expanded; a URL is read with fsspec.

        Raises
        ------
        PipelineNotFoundError
            There is no such file.
        PipelineDefinitionError
            The file is not well formed.
        PipelineLabelError
            The file has no such task or subset.
        """
        location, _, labels = str(uri).partition("#")
        pipeline = cls.from_definition(read_definition(location))
        if not labels:
            return pipeline
        try:
            return pipeline.subsetFromLabels(labels)
        except PipelineLabelError as error:
            raise PipelineLabelError(f"{uri}: {error}") from None

    @classmethod
    def fromFile(cls, filename: str | Path) -> Pipeline:
        """Read a pipeline file; see `from_uri`."""
        return cls.from_uri(filename)

    @classmethod
    def fromString(cls, pipeline_string: str) -> Pipeline:
        """Read a pipeline from YAML text."""
        return cls.from_definition(read_definition_text(pipeline_string))

    @classmethod
    def fromPipeline(cls, pipeline: Pipeline) -> Pipeline:
        """Return an independent copy of a pipeline."""
        return pipeline.copy()

    @classmethod
    def from_definition(cls, definition: PipelineDefinition) -> Pipeline:
        """Make a pipeline of a definition, which is not shared."""
        pipeline = cls(definition.description)
        pipeline._definition = definition.copy()
        return pipeline

    def copy(self) -> Pipeline:
        """Return an independent copy."""
        return type(self).from_definition(self._definition)

    # Looking -------------------------------------------------------------------------------------------

    @property
    def description(self) -> str:
        """What the pipeline is for."""
        return self._definition.description

    @property
    def task_labels(self) -> frozenset[str]:
        """Labels of the tasks."""
        return frozenset(self._definition.tasks)

    @property
    def subsets(self) -> Mapping[str, set[str]]:
        """Task labels of each subset."""
        return MappingProxyType({n: set(s.members) for n, s in self._definition.subsets.items()})

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values that configuration refers to as ``parameters.name``."""
        return MappingProxyType(self._definition.parameters)

    @property
    def steps(self) -> list[str]:
        """Labels of the subsets that are steps, in order."""
        return [step.label for step in self._definition.steps]

    def __len__(self) -> int:
        return len(self._definition.tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._definition.tasks)

    def __contains__(self, label: object) -> bool:
        return label in self._definition.tasks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self._definition == other._definition

    __hash__ = None  # type: ignore[assignment]  # equality without hash, as Python spells it

    def __str__(self) -> str:
        return yaml.safe_dump(
            self._definition.to_document(), sort_keys=False, default_flow_style=False, allow_unicode=True
        )

    def __repr__(self) -> str:
        return f"Pipeline({self.description!r}, tasks={list(self._definition.tasks)})"

    def write_to_uri(self, uri: str | Path) -> None:
        """Write the YAML, imports merged."""
        location = expand_variables(str(uri)).removeprefix("file://")
        if "://" in location:
            import fsspec

            try:
                with fsspec.open(location, "wt") as stream:
                    stream.write(str(self))
            except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
                raise PipelineNotFoundError(f"Cannot write pipeline file {location!r}: {error}") from error
        else:
            Path(location).write_text(str(self))

    # Cutting and combining -----------------------------------------------------------------------------

    def subsetFromLabels(
        self, labels: str | Iterable[str], subset_mode: SubsetMode | str = SubsetMode.DROP
    ) -> Pipeline:
        """Return a pipeline of some tasks.

        Parameters
        ----------
        labels : `str` or iterable of `str`
            Task and subset labels; one text may hold several with commas, or a range ``a..b``.
        subset_mode : `SubsetMode` or `str`, optional
            Whether subsets that lose a task are dropped or edited.

        Raises
        ------
        PipelineLabelError
            A label is unknown; all unknown ones are named.
        """
        if isinstance(labels, str):
            match = _RANGE.fullmatch(labels.strip())
            wanted = (
                self._labels_between(match["first"].strip(), match["last"].strip())
                if match
                else [label.strip() for label in labels.split(",") if label.strip()]
            )
        else:
            wanted = list(labels)
        keep = set(self._definition.expand_labels(wanted))
        mode = subset_mode if isinstance(subset_mode, SubsetMode) else SubsetMode[subset_mode.upper()]
        return type(self).from_definition(self._definition.select(keep, mode))

    def _labels_between(self, first: str, last: str) -> list[str]:
        """Return the task labels from one to another in the order they run."""
        ends = [label for label in (first, last) if label]
        self._definition.expand_labels(ends)
        for label in ends:
            if label in self._definition.subsets:
                raise PipelineLabelError(f"A range goes from task to task, and {label!r} is a subset.")
        order = list(configured_graph(self._definition).tasks)
        begin = order.index(first) if first else 0
        end = order.index(last) if last else len(order) - 1
        if begin > end:
            raise PipelineLabelError(f"{first!r} runs after {last!r}; the range {last}..{first} has tasks.")
        return order[begin : end + 1]

    def mergePipeline(self, pipeline: Pipeline) -> None:
        """Take in the tasks, subsets, contracts and parameters of another pipeline.

        Raises
        ------
        PipelineDefinitionError
            The two contradict each other.
        """
        merged = self._definition.copy()
        merged.merge_import(pipeline._definition, repr(pipeline.description))
        merged.check(repr(self.description))
        self._definition = merged

    def addTask(self, task: type[Any] | str, label: str | None = None) -> None:
        """Add a task, or replace the one of that label.

        Parameters
        ----------
        task : `type` or `str`
            A `PipelineTask` class or its dotted name.
        label : `str`, optional
            Label; the class's ``_DefaultName`` where not given.
        """
        if isinstance(task, str):
            name = task
            label = label or import_task_class(task)._DefaultName
        else:
            name = dotted_name(task)
            label = label or task._DefaultName
        assert label is not None
        if label in self._definition.subsets:
            raise PipelineDefinitionError(
                f"{label!r} is a subset of the pipeline; choose another task label."
            )
        self._definition.tasks[label] = TaskDefinition(label, name)

    def removeTask(self, label: str) -> None:
        """Remove a task; subsets lose it, and contracts about it go.

        Raises
        ------
        PipelineLabelError
            There is no such task.
        """
        self._check_task(label)
        keep = set(self._definition.tasks) - {label}
        self._definition = self._definition.select(keep, SubsetMode.EDIT)

    def addLabeledSubset(self, label: str, description: str, taskLabels: Iterable[str]) -> None:
        """Add a named group of tasks.

        Parameters
        ----------
        label : `str`
            Its name.
        description : `str`
            What it is for.
        taskLabels : iterable of `str`
            Its tasks.

        Raises
        ------
        PipelineLabelError
            A task label is unknown.
        PipelineDefinitionError
            The name is taken.
        """
        if label in self._definition.tasks or label in self._definition.subsets:
            raise PipelineDefinitionError(f"The pipeline has a task or subset {label!r} already.")
        members = tuple(dict.fromkeys(taskLabels))
        for member in members:
            self._check_task(member)
        self._definition.subsets[label] = SubsetDefinition(label, members, description)

    def removeLabeledSubset(self, label: str) -> None:
        """Remove a named group; the tasks stay.

        Raises
        ------
        PipelineLabelError
            There is no such subset.
        """
        self._check_subset(label)
        del self._definition.subsets[label]
        self._definition.steps = [s for s in self._definition.steps if s.label != label]

    def addLabelToSubset(self, subset: str, label: str) -> None:
        """Add a task to a subset.

        Parameters
        ----------
        subset, label : `str`
            The subset, and the task.

        Raises
        ------
        PipelineLabelError
            There is no such subset or task.
        """
        self._check_subset(subset)
        self._check_task(label)
        known = self._definition.subsets[subset]
        members = tuple(dict.fromkeys((*known.members, label)))
        self._definition.subsets[subset] = replace(known, members=members)

    def removeLabelFromSubset(self, subset: str, label: str) -> None:
        """Remove a task from a subset.

        Parameters
        ----------
        subset, label : `str`
            The subset, and the task.

        Raises
        ------
        PipelineLabelError
            There is no such subset, or the task is not in it.
        """
        self._check_subset(subset)
        known = self._definition.subsets[subset]
        if label not in known.members:
            raise PipelineLabelError(
                f"Subset {subset!r} has no {label!r}.{did_you_mean(label, known.members)}"
            )
        self._definition.subsets[subset] = replace(
            known, members=tuple(m for m in known.members if m != label)
        )

    def findSubsetsWithLabel(self, label: str) -> set[str]:
        """Return the subsets a task is in."""
        self._check_task(label)
        return {name for name, subset in self._definition.subsets.items() if label in subset.members}

    def _check_task(self, label: str) -> None:
        if label not in self._definition.tasks:
            known = self._definition.tasks
            raise PipelineLabelError(
                f"The pipeline has no task {label!r}.{did_you_mean(label, known)} "
                f"There are: {', '.join(known) or 'none'}."
            )

    def _check_subset(self, label: str) -> None:
        if label not in self._definition.subsets:
            known = self._definition.subsets
            raise PipelineLabelError(f"The pipeline has no subset {label!r}.{did_you_mean(label, known)}")

    # Configuring ---------------------------------------------------------------------------------------

    def addInstrument(self, instrument: type[Any] | str) -> None:
        """Name the instrument whose configuration is applied first."""
        self._definition.instrument = instrument if isinstance(instrument, str) else dotted_name(instrument)

    def getInstrument(self) -> str | None:
        """Return the dotted name of the instrument class, or `None`."""
        return self._definition.instrument

    def addConfigOverride(self, label: str, key: str, value: object) -> None:
        """Set a configuration field, after everything set so far.

        Parameters
        ----------
        label : `str`
            Task label, or ``parameters`` to set a parameter of the pipeline.
        key : `str`
            Field name (``connections.outputExposure``, ``detection.thresholdValue``).
        value : object
            The value; text is read as the field's type wants.

        Raises
        ------
        PipelineLabelError
            There is no such task or parameter.
        """
        if label == "parameters":
            parameters = self._definition.parameters
            if key not in parameters:
                raise PipelineLabelError(
                    f"The pipeline has no parameter {key!r}.{did_you_mean(key, parameters)} "
                    f"There are: {', '.join(parameters) or 'none'}."
                )
            parameters[key] = value
            return
        self._add_override(label, ConfigOverride({key: value}, source=f"{label}:{key}"))

    def addConfigFile(self, label: str, filename: str | Path) -> None:
        """Apply a configuration file, after everything set so far.

        Parameters
        ----------
        label : `str`
            Task label.
        filename : `str` or `~pathlib.Path`
            Python that changes ``config``; environment variables are expanded.

        Raises
        ------
        PipelineLabelError
            There is no such task.
        PipelineNotFoundError
            There is no such file.
        """
        path = Path(expand_variables(str(filename))).absolute()
        if not path.is_file():
            raise PipelineNotFoundError(f"Task {label!r}: no configuration file {str(filename)!r}.")
        self._add_override(label, ConfigOverride(files=(str(path),), source=str(filename)))

    def addConfigPython(self, label: str, pythonString: str) -> None:
        """Apply Python that changes ``config``, after everything set so far.

        Parameters
        ----------
        label : `str`
            Task label.
        pythonString : `str`
            The Python; ``parameters`` holds the pipeline's parameters.

        Raises
        ------
        PipelineLabelError
            There is no such task.
        """
        self._add_override(label, ConfigOverride(python=pythonString, source="Python"))

    def _add_override(self, label: str, override: ConfigOverride) -> None:
        self._check_task(label)
        task = self._definition.tasks[label]
        self._definition.tasks[label] = replace(task, overrides=(*task.overrides, override))

    # The graph -----------------------------------------------------------------------------------------

    def to_graph(self, registry: DatasetTypeSource | None = None) -> PipelineGraph:
        """Import and configure the tasks, check contracts, and order them.

        Parameters
        ----------
        registry : `DatasetTypeSource`, optional
            Registry with which the graph is resolved.

        Returns
        -------
        graph : `PipelineGraph`
            The sorted graph.

        Raises
        ------
        TaskImportError
            A class cannot be imported.
        ConfigFieldError
            A configuration field does not exist or does not take a value.
        ContractError
            A contract does not hold.
        PipelineGraphError
            Tasks do not fit together.
        """
        graph = configured_graph(self._definition)
        check_contracts(self._definition.contracts, graph)
        if registry is not None:
            graph.resolve(registry)
        return graph
