"""Changes to a task's configuration: fields, configuration files and Python, in the order they are given.

Values from a command line are text; the type of the field decides how the text is read, so that
``-c isr:doDark=false`` is a bool and ``-c isr:connections.ccdExposure=1`` is a name.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lsst.pex.config import Config, ConfigurableInstance, DictField, FieldValidationError, ListField

from ..errors import ConfigFieldError, PipelineNotFoundError, did_you_mean

__all__ = ["ConfigOverride", "ConfigValueError", "expand_variables", "parse_value"]

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


class ConfigValueError(ConfigFieldError, FieldValidationError):  # type: ignore[misc]  # pex_config is untyped
    """A configuration field does not take a value."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


def expand_variables(path: str) -> str:
    """Return a path with its environment variables and ``~`` expanded.

    Raises
    ------
    PipelineNotFoundError
        A variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise PipelineNotFoundError(f"{path!r} uses an environment variable that is not set.")
    return expanded


@dataclass(frozen=True)
class ConfigOverride:
    """One block of configuration: files first, then fields, then Python.

    Parameters
    ----------
    fields : mapping of `str` to object
        Values by dotted field name (``connections.outputExposure``, ``plugins["x"].y``).
    files : sequence of `str`
        Configuration files (Python that changes ``config``).
    python : `str`, optional
        Python that changes ``config``; ``parameters`` holds the pipeline's parameters.
    source : `str`, optional
        Where it was written, for messages.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    python: str | None = None
    source: str = field(default="", compare=False)

    def to_document(self) -> dict[str, Any]:
        """Return the block as it is written in YAML."""
        document: dict[str, Any] = {}
        if self.files:
            document["file"] = list(self.files)
        document |= self.fields
        if self.python is not None:
            document["python"] = self.python
        return document

    def with_parameters(self, parameters: Mapping[str, Any]) -> ConfigOverride:
        """Return it with values of the form ``parameters.name`` replaced.

        Raises
        ------
        ConfigFieldError
            There is no such parameter.
        """
        fields = {key: self._substitute(key, value, parameters) for key, value in self.fields.items()}
        return replace(self, fields=fields)

    def _substitute(self, key: str, value: Any, parameters: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self._substitute(key, item, parameters) for item in value]
        if not isinstance(value, str) or not value.startswith("parameters."):
            return value
        name = value.removeprefix("parameters.")
        if name not in parameters:
            raise ConfigFieldError(
                f"{self.source}: {key} = {value}: the pipeline has no parameter {name!r}."
                f"{did_you_mean(name, parameters)}"
            )
        return parameters[name]

    def apply(self, config: Config, label: str, parameters: Mapping[str, Any]) -> None:
        """Change a configuration.

        Parameters
        ----------
        config : `lsst.pex.config.Config`
            What is changed.
        label : `str`
            Label of the task, for messages.
        parameters : mapping
            The pipeline's parameters.

        Raises
        ------
        ConfigFieldError
            A field does not exist, or a file or the Python fails.
        ConfigValueError
            A field does not take the value.
        PipelineNotFoundError
            A configuration file does not exist.
        """
        where = f"Task {label!r}" + (f" ({self.source})" if self.source else "")
        names = {"parameters": SimpleNamespace(**parameters)}
        for name in self.files:
            path = Path(expand_variables(name))
            try:
                text = path.read_text()
            except OSError as error:
                raise PipelineNotFoundError(
                    f"{where}: cannot read configuration file {name!r}: {error}"
                ) from error
            _execute(config, text, str(path.absolute()), names, f"{where}: configuration file {name!r}")
        for key, value in self.with_parameters(parameters).fields.items():
            _set_field(config, key, value, where)
        if self.python is not None:
            _execute(config, self.python, None, names, f"{where}: Python configuration")


def _execute(config: Config, text: str, filename: str | None, names: dict[str, Any], where: str) -> None:
    """Run configuration Python and name it in what it raises."""
    try:
        code = compile(text, filename or "<pipeline>", "exec")
        config.loadFromString(code, filename=filename, extraLocals=names)
    except FieldValidationError as error:
        raise ConfigValueError(f"{where}: {_first_line(error)}") from error
    except SyntaxError as error:
        raise ConfigFieldError(f"{where}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # the author's Python may raise anything; it is named, not swallowed
        raise ConfigFieldError(f"{where}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """Return an error's first line: pex_config adds where fields are defined in its own code."""
    return (str(error).splitlines() or [""])[0]


def _fields_of(node: Any) -> Mapping[str, Any] | None:
    """Return the fields of a config or of what a configurable field holds; `None` for anything else."""
    if isinstance(node, ConfigurableInstance):
        node = node.value
    return node._fields if isinstance(node, Config) else None


def _set_field(config: Config, key: str, value: Any, where: str) -> None:
    """Assign to ``config.<key>``, saying which part of the key or which value is wrong."""
    try:
        target: ast.expr | None = ast.parse(f"config.{key}", mode="eval").body
    except SyntaxError:
        target = None
    if not isinstance(target, ast.Attribute | ast.Subscript):
        raise ConfigFieldError(f"{where}: {key!r} is not a configuration field name.")
    try:
        if isinstance(target, ast.Subscript):
            owner = _object_at(config, target.value, key, where)
            owner[ast.literal_eval(target.slice)] = _python_value(value) if isinstance(value, str) else value
            return
        assert isinstance(target, ast.Attribute)
        owner = _object_at(config, target.value, key, where)
        known = _fields_of(owner)
        if known is not None:
            if target.attr not in known:
                raise _no_such_field(owner, target.attr, key, where)
            if isinstance(value, str):
                value = parse_value(value, known[target.attr])
        elif not hasattr(owner, target.attr):
            raise _no_such_field(owner, target.attr, key, where)
        elif isinstance(value, str):
            value = _python_value(value)
        setattr(owner, target.attr, value)
    except ConfigFieldError:
        raise
    except (FieldValidationError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigValueError(f"{where}: {key} does not take {value!r}: {_first_line(error)}") from error


def _object_at(config: Config, node: ast.expr, key: str, where: str) -> Any:
    """Return the object a part of the key stands for."""
    if isinstance(node, ast.Name):
        return config
    if isinstance(node, ast.Subscript):
        return _object_at(config, node.value, key, where)[ast.literal_eval(node.slice)]
    if not isinstance(node, ast.Attribute):
        raise ConfigFieldError(f"{where}: {key!r} is not a configuration field name.")
    owner = _object_at(config, node.value, key, where)
    known = _fields_of(owner)
    if (known is not None and node.attr not in known) or not hasattr(owner, node.attr):
        raise _no_such_field(owner, node.attr, key, where)
    return getattr(owner, node.attr)


def _no_such_field(owner: Any, name: str, key: str, where: str) -> ConfigFieldError:
    known: Iterable[str] = _fields_of(owner) or ()
    config_class = type(owner.value if isinstance(owner, ConfigurableInstance) else owner).__name__
    wanted = repr(name) if name == key else f"{name!r} (of {key!r})"
    return ConfigFieldError(f"{where}: {config_class} has no field {wanted}.{did_you_mean(name, known)}")


def _python_value(text: str) -> Any:
    """Return a Python literal, or the text where it is none."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


def parse_value(text: str, field: Any) -> Any:
    """Read a field's value from text.

    Parameters
    ----------
    text : `str`
        As typed after ``-c label:field=``, or a string from YAML.
    field : `lsst.pex.config.Field`
        The field it is for.

    Returns
    -------
    value : object
        A bool, int, float, list, dict or text as the field wants; the text where it is none of these (the
        field then refuses it).
    """
    if isinstance(field, DictField):
        return _python_value(text)
    if isinstance(field, ListField):
        value = _python_value(text)
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, str) and value == text:
            items = text.strip().removeprefix("[").removesuffix("]").split(",")
            return [_parse_item(item.strip(), field.itemtype) for item in items if item.strip()]
        return [value]
    if text.strip() in {"None", "null"} and getattr(field, "optional", False):
        return None
    return _parse_item(text, field.dtype)


def _parse_item(text: str, kind: Any) -> Any:
    """Read one value of a given type."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    word = text.strip()
    if str in kinds:
        value = _python_value(text) if word[:1] in {"'", '"'} else text
        return value if isinstance(value, str) else text
    if bool in kinds and word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    for number in (int, float):
        if number in kinds:
            try:
                return number(word)
            except ValueError:
                continue
    return _python_value(text)
