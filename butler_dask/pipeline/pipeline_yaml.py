"""Reading pipeline files: YAML and imports into a `PipelineDefinition`; every fault with file and line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import (
    UNREADABLE,
    PipelineDefinitionError,
    PipelineLabelError,
    PipelineNotFoundError,
    did_you_mean,
)
from .config_overrides import ConfigOverride, expand_variables
from .pipeline_definition import (
    Contract,
    PipelineDefinition,
    StepDefinition,
    SubsetDefinition,
    SubsetMode,
    TaskDefinition,
)

__all__ = ["read_definition", "read_definition_text"]


class _Mapping(dict[Any, Any]):
    """A YAML mapping that knows the line of each key."""

    lines: dict[Any, int]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error instead of the last one winning."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[_Mapping]:
    loader.flatten_mapping(node)
    result = _Mapping()
    result.lines = {}
    yield result
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in result:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"key {key!r} is given twice (first in line {result.lines[key]})",
                key_node.start_mark,
            )
        result[key] = loader.construct_object(value_node, deep=True)
        result.lines[key] = key_node.start_mark.line + 1


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)

_TOP_KEYS = (
    "description",
    "instrument",
    "imports",
    "parameters",
    "tasks",
    "contracts",
    "subsets",
    "steps",
)
_IMPORT_KEYS = ("location", "include", "exclude", "importContracts", "labeledSubsetModifyMode", "instrument")


def _locate(location: str, directory: str | None) -> str:
    """Return the absolute path or URL of a pipeline file named in ``directory``."""
    expanded = expand_variables(location)
    if expanded.startswith("resource://"):
        from importlib.resources import files

        package, _, inner = expanded.removeprefix("resource://").partition("/")
        try:
            return str(files(package).joinpath(inner))
        except ModuleNotFoundError:
            raise PipelineNotFoundError(f"No package {package!r} for pipeline {location!r}.") from None
    expanded = expanded.removeprefix("file://")
    if "://" in expanded:
        return expanded
    if directory is not None and "://" in directory and not Path(expanded).is_absolute():
        return f"{directory}/{expanded}"
    return str((Path(directory or ".") / expanded).resolve())


def _read_text(location: str) -> str:
    if "://" in location:
        import fsspec

        try:
            with fsspec.open(location, "rt") as stream:
                return str(stream.read())
        except (OSError, ValueError, ImportError) as error:  # ValueError: no such protocol, or no text
            raise PipelineNotFoundError(f"Cannot read pipeline file {location!r}: {error}") from error
    path = Path(location)
    try:
        return path.read_text()
    except FileNotFoundError:
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.yaml")])
        raise PipelineNotFoundError(f"No pipeline file {location!r}.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineNotFoundError(f"Cannot read pipeline file {location!r}: {error}") from error


def read_definition(
    location: str, directory: str | None = None, importing: tuple[str, ...] = ()
) -> PipelineDefinition:
    """Read a pipeline file and what it imports.

    Parameters
    ----------
    location : `str`
        Path or URL; environment variables are expanded.
    directory : `str`, optional
        Where relative paths start; the working directory by default.
    importing : `tuple` of `str`, optional
        Files being read, to find circles.

    Raises
    ------
    PipelineDefinitionError
        The file is not well formed, or imports itself.
    PipelineNotFoundError
        It does not exist.
    """
    path = _locate(location, directory)
    if path in importing:
        circle = " -> ".join(Path(p).name for p in (*importing[importing.index(path) :], path))
        raise PipelineDefinitionError(f"{importing[-1]}: pipelines import one another in a circle: {circle}.")
    parent = path.rpartition("/")[0] if "://" in path else str(Path(path).parent)
    return read_definition_text(_read_text(path), path, parent, (*importing, path))


def read_definition_text(
    text: str, source: str = "<pipeline>", directory: str | None = None, importing: tuple[str, ...] = ()
) -> PipelineDefinition:
    """Read a pipeline from YAML text.

    Parameters
    ----------
    text : `str`
        The YAML.
    source : `str`, optional
        What to call it in messages.
    directory : `str`, optional
        Where relative paths start.
    importing : `tuple` of `str`, optional
        Files being read.
    """
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(p for p in (error.context, error.problem) if p)
        raise PipelineDefinitionError(f"{source}{line}: {problem}.") from None
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise PipelineDefinitionError(f"{source}: {error}.") from None
    return _Reader(source, directory, importing).read(document)


class _Reader:
    """Turns one YAML document into a definition, naming file and line of what is wrong."""

    def __init__(self, source: str, directory: str | None, importing: tuple[str, ...]) -> None:
        self.source = source
        self.directory = directory
        self.importing = importing

    def fault(self, message: str, line: int | None = None) -> PipelineDefinitionError:
        """Return the error for a fault in a line."""
        where = f"{self.source}, line {line}" if line else self.source
        return PipelineDefinitionError(f"{where}: {message}")

    def mapping(
        self, value: Any, what: str, line: int | None, keys: Collection[str] | None = None
    ) -> _Mapping:
        """Check that a value is a mapping with string keys among ``keys``."""
        if not isinstance(value, _Mapping):
            raise self.fault(f"{what} must be a mapping, not {value!r}", line)
        for key in value:
            if not isinstance(key, str):
                raise self.fault(f"key {key!r} of {what} must be a text", value.lines[key])
            if keys is not None and key not in keys:
                raise self.fault(
                    f"unknown key {key!r} in {what}.{did_you_mean(key, keys)} Known: {', '.join(keys)}.",
                    value.lines[key],
                )
        return value

    def names(self, value: Any, what: str, line: int | None) -> tuple[str, ...]:
        """Check that a value is one name or a list of names."""
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self.fault(f"{what} must be a list of names, not {value!r}", line)
        return tuple(dict.fromkeys(values))

    def read(self, document: Any) -> PipelineDefinition:
        """Read the document."""
        if isinstance(document, _Mapping) and "inherits" in document and "imports" not in document:
            document["imports"] = document.pop("inherits")  # the name of 2020
            document.lines["imports"] = document.lines.pop("inherits")
        top = self.mapping(document, "a pipeline", None, _TOP_KEYS)
        line = top.lines.get
        if not isinstance(top.get("description"), str):
            raise self.fault("a pipeline needs a 'description' (a text).", line("description"))
        if "tasks" not in top and "imports" not in top:
            raise self.fault("a pipeline needs 'tasks', or 'imports' that bring some.")
        result = PipelineDefinition(description=top["description"])
        own = self.own_parts(top)
        decided = {*own.tasks, *own.subsets, *(f"parameters.{p}" for p in own.parameters)}
        if "instrument" in top:
            decided.add("instrument")
        imports = top.get("imports") or []
        for entry in imports if isinstance(imports, list) else [imports]:
            self.read_import(entry, result, decided, line("imports"))
        if "instrument" in top:
            result.instrument = own.instrument
        for label, task in own.tasks.items():
            known = result.tasks.get(label)
            if known is not None and known.class_name == task.class_name:
                task = replace(known, overrides=known.overrides + task.overrides)
            result.tasks[label] = task
        result.parameters |= own.parameters
        result.subsets |= own.subsets
        result.contracts += own.contracts
        result.steps += own.steps
        result.check(self.source)
        return result

    def own_parts(self, top: _Mapping) -> PipelineDefinition:
        """Read everything but the imports."""
        line = top.lines.get
        own = PipelineDefinition(description=top["description"], instrument=top.get("instrument"))
        if own.instrument is not None and not isinstance(own.instrument, str):
            raise self.fault("'instrument' must be the name of a class.", line("instrument"))
        own.parameters = dict(
            self.mapping(top.get("parameters") or _Mapping(), "'parameters'", line("parameters"))
        )
        tasks = self.mapping(top.get("tasks") or _Mapping(), "'tasks'", line("tasks"))
        own.tasks = {label: self.task(label, value, tasks.lines[label]) for label, value in tasks.items()}
        contracts = top.get("contracts") or []
        own.contracts = [
            self.contract(c, line("contracts"))
            for c in (contracts if isinstance(contracts, list) else [contracts])
        ]
        subsets = self.mapping(top.get("subsets") or _Mapping(), "'subsets'", line("subsets"))
        own.subsets = {name: self.subset(name, value, subsets.lines[name]) for name, value in subsets.items()}
        for entry in top.get("steps") or []:
            step = self.mapping(entry, "a step", line("steps"), ("label", "dimensions"))
            if not isinstance(step.get("label"), str):
                raise self.fault("a step needs a 'label'.", line("steps"))
            dimensions = self.names(step.get("dimensions", []), "'dimensions' of a step", line("steps"))
            own.steps.append(StepDefinition(step["label"], dimensions))
        return own

    def task(self, label: str, value: Any, line: int) -> TaskDefinition:
        """Read one entry of ``tasks``."""
        if isinstance(value, str):
            return TaskDefinition(label, value.strip())
        entry = self.mapping(value, f"task {label!r}", line, ("class", "config"))
        if not isinstance(entry.get("class"), str):
            raise self.fault(f"task {label!r} needs a 'class'.", line)
        config = entry.get("config") or []
        blocks = config if isinstance(config, list) else [config]
        overrides = tuple(self.override(label, block, entry.lines.get("config")) for block in blocks)
        return TaskDefinition(label, entry["class"].strip(), overrides)

    def override(self, label: str, value: Any, line: int | None) -> ConfigOverride:
        """Read one block of a task's ``config``."""
        block = self.mapping(value, f"'config' of task {label!r}", line)
        files: tuple[str, ...] = ()
        if "file" in block:
            names = self.names(block["file"], f"'file' of task {label!r}", block.lines["file"])
            files = tuple(self.config_file(name) for name in names)
        python = block.get("python")
        if python is not None and not isinstance(python, str):
            raise self.fault(f"'python' of task {label!r} must be a text.", block.lines["python"])
        if "dataId" in block:
            raise self.fault(
                f"task {label!r}: configuration by 'dataId' is not supported; import the pipeline in one for "
                "the instrument instead.",
                block.lines["dataId"],
            )
        fields = {key: item for key, item in block.items() if key not in {"file", "python"}}
        first = min(block.lines.values(), default=line)
        return ConfigOverride(fields, files, python, f"{self.source}, line {first}")

    def config_file(self, name: str) -> str:
        """Return a configuration file's path; one with variables stays as it is written."""
        if "$" in name or name.startswith("~") or self.directory is None or "://" in name:
            return name
        return str(Path(self.directory) / name)

    def contract(self, value: Any, line: int | None) -> Contract:
        """Read one contract."""
        if isinstance(value, str):
            contract = Contract(value)
        else:
            entry = self.mapping(value, "a contract", line, ("contract", "msg"))
            if not isinstance(entry.get("contract"), str):
                raise self.fault(
                    "a contract needs the key 'contract'.", min(entry.lines.values(), default=line)
                )
            contract = Contract(entry["contract"], str(entry.get("msg") or ""))
        try:
            contract.labels()
        except SyntaxError as error:
            raise self.fault(f"contract {contract.expression!r} is not Python: {error.msg}.", line) from None
        return contract

    def subset(self, name: str, value: Any, line: int) -> SubsetDefinition:
        """Read one subset."""
        description = ""
        if isinstance(value, _Mapping):
            entry = self.mapping(value, f"subset {name!r}", line, ("subset", "description", "dimensions"))
            description = str(entry.get("description") or "")
            value = entry.get("subset")
        return SubsetDefinition(name, self.names(value, f"subset {name!r}", line), description)

    def read_import(
        self, entry: Any, result: PipelineDefinition, decided: Collection[str], line: int | None
    ) -> None:
        """Read one import and merge it."""
        if isinstance(entry, str):
            options = _Mapping(location=entry)
            options.lines = {}
        else:
            options = self.mapping(entry, "an import", line, _IMPORT_KEYS)
            line = min(options.lines.values(), default=line)
        if not isinstance(options.get("location"), str):
            raise self.fault("an import needs a 'location'.", line)
        if "include" in options and "exclude" in options:
            raise self.fault("an import has either 'include' or 'exclude', not both.", line)
        imported = read_definition(options["location"], self.directory, self.importing)
        mode_name = str(options.get("labeledSubsetModifyMode", "DROP")).upper()
        if mode_name not in SubsetMode.__members__:
            raise self.fault(f"labeledSubsetModifyMode is DROP or EDIT, not {mode_name!r}.", line)
        try:
            if "include" in options:
                keep = set(imported.expand_labels(self.names(options["include"], "'include'", line)))
                imported = imported.select(keep, SubsetMode[mode_name])
            elif "exclude" in options:
                leave = self.names(options["exclude"] or [], "'exclude'", line)
                keep = set(imported.tasks) - set(imported.expand_labels(leave))
                imported = imported.select(keep, SubsetMode[mode_name])
                imported.subsets = {k: v for k, v in imported.subsets.items() if k not in leave}
                imported.steps = [s for s in imported.steps if s.label in imported.subsets]
        except PipelineLabelError as error:
            raise self.fault(f"import of {options['location']!r}: {error}", line) from None
        if not options.get("importContracts", True):
            imported.contracts = []
        if "instrument" in options:
            named = options["instrument"]
            imported.instrument = None if named in (None, "None") else str(named)
        result.merge_import(
            imported, f"{self.source}, line {line}, import of {options['location']!r}", decided
        )
