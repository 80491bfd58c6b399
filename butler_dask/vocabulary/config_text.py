"""The text a configuration saves itself as, read as data.

`lsst.pex.config` saves a configuration as Python and loads it by running that. Such texts stand in datasets
of storage class ``Config``, in quantum graphs and in saved pipeline graphs, which come from elsewhere too.
Here they are parsed, and only what a saved configuration consists of is understood: imports, the assertion of
its class, assignments of literals, and ``retarget``. Nothing of them is run.
"""

from __future__ import annotations

import ast
import importlib
from typing import TYPE_CHECKING, Any

from ..errors import ConfigFieldError, UntrustedError
from .dotted_name import dotted_name, import_by_name

if TYPE_CHECKING:
    from lsst.pex.config import Config

_NUMBERS = {"nan": float("nan"), "inf": float("inf")}


def config_from_text(text: str, where: str) -> Config:
    """Return the configuration of a saved text, of the class it names.

    Parameters
    ----------
    text : `str`
        As `lsst.pex.config.Config.saveToString` gives it.
    where : `str`
        What it stands in, for messages.

    Raises
    ------
    ConfigFieldError
        If it names no configuration class, or a field does not take its value.
    UntrustedError
        If it does something else than to set values.
    """
    tree = _parsed(text, where)
    for statement in tree.body:
        name = _asserted_class(statement)
        if name is not None:
            config = _config_class(name, where)()
            _Loader(config, where).run(tree)
            return config
    raise ConfigFieldError(f"{where}: no line says which configuration class this is.")


def load_config_text(config: Config, text: str, where: str) -> None:
    """Change a configuration as a saved text says; see `config_from_text`.

    Parameters
    ----------
    config : `lsst.pex.config.Config`
        What is changed.
    text : `str`
        Saved text, or some lines of one.
    where : `str`
        What it stands in, for messages.
    """
    _Loader(config, where).run(_parsed(text, where))


def _parsed(text: str, where: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigFieldError(f"{where} is not a saved configuration: {error}") from error


def _asserted_class(statement: ast.stmt) -> str | None:
    """Return the class that ``assert type(config) is a.b.Class`` names; `None` for other statements."""
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
        return None
    test = statement.test
    known = isinstance(test.ops[0], ast.Is | ast.Eq) and ast.unparse(test.left) == "type(config)"
    return _dotted(test.comparators[0]) if known and len(test.ops) == 1 else None


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return owner and f"{owner}.{node.attr}"
    return None


def _config_class(name: str, where: str) -> Any:
    from lsst.pex.config import Config

    found = import_by_name(name, "configuration class", ConfigFieldError, of=where)
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise UntrustedError(f"{where}: {name} is no configuration class; it is not called.")
    return found


class _Loader:
    """Does what the statements of a saved configuration say, as far as they only set values."""

    def __init__(self, config: Config, where: str) -> None:
        self._config, self._where = config, where
        self._class = f"{type(config).__module__}.{type(config).__name__}"

    def run(self, tree: ast.Module) -> None:
        from lsst.pex.config import FieldValidationError

        for statement in tree.body:
            try:
                self._do(statement)
            except (UntrustedError, ConfigFieldError):
                raise
            except (FieldValidationError, TypeError, ValueError, LookupError, AttributeError) as error:
                line = (str(error).splitlines() or [""])[0]
                raise ConfigFieldError(f"{self._where}, line {statement.lineno}: {line}") from error

    def _do(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self._import(alias.name)
        elif (name := _asserted_class(statement)) is not None:
            if name not in (self._class, dotted_name(type(self._config))):
                raise ConfigFieldError(f"{self._where} is of class {name}, not of {self._class}.")
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement.targets[0], self._value(statement.value))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            self._retarget(statement.value)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise self._refusal(statement)

    def _import(self, name: str) -> None:
        """Import a module, which may register choices of the configuration.

        It is installed here, as its class is, whose name stands in the text too.
        """
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigFieldError(f"{self._where}: {error}") from error

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Attribute) and not target.attr.startswith("_"):
            setattr(self._object(target.value), target.attr, value)
        elif isinstance(target, ast.Subscript):
            self._object(target.value)[ast.literal_eval(target.slice)] = value
        else:
            raise self._refusal(target)

    def _object(self, node: ast.expr) -> Any:
        """Return the part of the configuration that an expression names."""
        if isinstance(node, ast.Name) and node.id == "config":
            return self._config
        if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
            return getattr(self._object(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return self._object(node.value)[ast.literal_eval(node.slice)]
        raise self._refusal(node)

    def _value(self, node: ast.expr) -> Any:
        """Return a literal, a number that has no literal, or a configuration with its defaults."""
        if isinstance(node, ast.Name) and node.id in _NUMBERS:
            return _NUMBERS[node.id]
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and isinstance(node.operand, ast.Name)
        ):
            return -self._value(node.operand)
        if isinstance(node, ast.List):
            return [self._value(item) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self._value(item) for item in node.elts)
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [self._value(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(self._value, node.values), strict=True))
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name == "float" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
                return float(str(node.args[0].value))
            if name is not None and "." in name and not node.args and not node.keywords:
                return _config_class(name, self._where)()
            raise self._refusal(node)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            raise self._refusal(node) from None

    def _retarget(self, call: ast.Call) -> None:
        from lsst.pex.config import Config, ConfigurableInstance

        function = call.func
        if call.args or not isinstance(function, ast.Attribute) or function.attr != "retarget":
            raise self._refusal(call)
        field = self._object(function.value)
        classes: dict[str, Any] = {}
        for keyword in call.keywords:
            name = _dotted(keyword.value)
            if keyword.arg not in ("target", "ConfigClass") or name is None:
                raise self._refusal(call)
            found = import_by_name(name, "class", ConfigFieldError, of=self._where)
            if not isinstance(found, type):
                raise self._refusal(call)
            classes[keyword.arg] = found
        if not isinstance(field, ConfigurableInstance) or not issubclass(
            classes.get("ConfigClass", Config), Config
        ):
            raise self._refusal(call)
        field.retarget(**classes)

    def _refusal(self, node: ast.AST) -> UntrustedError:
        text = ast.unparse(node).splitlines()[0][:80]
        return UntrustedError(
            f"{self._where}, line {getattr(node, 'lineno', 0)}: {text!r} does not set a value, as the lines "
            "of a saved configuration do. It is not run."
        )
