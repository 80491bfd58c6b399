"""Dotted names: how pipelines, storage classes, repositories and configurations name what they import."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from ..errors import ButlerUserError, did_you_mean


def dotted_name(kind: type[Any]) -> str:
    """Return the name under which a class can be imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def import_by_name(name: str, what: str, error: type[ButlerUserError], *, of: str = "") -> Any:
    """Import a class, or anything else in a module, by its dotted name.

    Parameters
    ----------
    name : `str`
        ``package.module.Class`` (or ``Class.Inner``).
    what : `str`
        What it is, for the error message.
    error : `type`
        Class of the error raised.
    of : `str`, optional
        Whose it is, for the error message.

    Raises
    ------
    ButlerUserError
        The module cannot be imported or has nothing of that name.
    """
    head = f"Cannot import {what} {name!r}{of and f' of {of}'}"
    parts = name.split(".")
    if len(parts) == 1:
        raise error(f"{head}: give its full name, module included.")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as failure:
            if failure.name is not None and (module_name + ".").startswith(failure.name + "."):
                continue  # a class stands before this dot, or the module is missing: found out below
            raise error(
                f"{head}: module {module_name!r} needs {failure.name!r}, which is not installed."
            ) from failure
        except SystemExit as failure:
            raise error(f"{head}: its module ends the program (sys.exit) when it is imported.") from failure
        except (ImportError, SyntaxError, AttributeError, TypeError, ValueError) as failure:
            # Of what the module does, or for dots amiss (the last two).
            raise error(f"{head}: {failure}") from failure
        return _attribute(module, parts[cut:], head, error)
    raise error(f"{head}: there is no module {parts[0]!r}.")


def _attribute(module: ModuleType, names: list[str], head: str, error: type[ButlerUserError]) -> Any:
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            if found is module and name != names[-1]:
                lacking = f"there is no module {'.'.join([module.__name__, *names[:-1]])!r}"
            elif found is module:
                lacking = f"module {module.__name__!r} has no {name!r}"
            else:
                lacking = f"{dotted_name(found)!r} has no {name!r}"
            raise error(f"{head}: {lacking}.{did_you_mean(name, dir(found))}")
        found = getattr(found, name)
    return found
