"""Task classes by name, and the names under which pipelines of the reference know ours.

A pipeline written for the reference names classes such as ``lsst.ip.isr.IsrTask``. Where that package is
installed it is used; where it is not, our task of the same purpose stands in, so that the pipeline loads.
"""

from __future__ import annotations

import importlib
from typing import Any

from butler_dask.errors import TaskImportError, did_you_mean

__all__ = ["import_class", "import_instrument", "import_task_class", "type_name"]

# By name, not by import statement: pipelines name tasks and instruments, whose packages build on this one.
_TASKS = "butler_dask.tasks"
_INSTRUMENT = "butler_dask.instruments.instrument.Instrument"
_STAND_INS = {
    "IsrTask": f"{_TASKS}.isr.IsrTask",
    "IsrTaskLSST": f"{_TASKS}.isr.IsrTask",
    "CharacterizeImageTask": f"{_TASKS}.characterize.CharacterizeImageTask",
    "CalibrateTask": f"{_TASKS}.calibrate.CalibrateTask",
    "MakeWarpTask": f"{_TASKS}.warp.MakeWarpTask",
    "MakeDirectWarpTask": f"{_TASKS}.warp.MakeWarpTask",
    "CpBiasTask": f"{_TASKS}.calibration_products.CpBiasTask",
    "CpDarkTask": f"{_TASKS}.calibration_products.CpDarkTask",
    "CpFlatTask": f"{_TASKS}.calibration_products.CpFlatTask",
    "CpFlatNormalizationTask": f"{_TASKS}.calibration_products.CpFlatTask",
}
"""Our class for the last part of a reference class name."""


def type_name(cls: type[Any]) -> str:
    """Return the dotted name under which a class can be imported."""
    return f"{cls.__module__}.{cls.__qualname__}"


def import_class(name: str, what: str = "class") -> Any:
    """Import a class by its dotted name.

    Parameters
    ----------
    name : `str`
        ``package.module.Class`` (or ``Class.Inner``).
    what : `str`, optional
        What it is, for the error message.

    Raises
    ------
    TaskImportError
        The module cannot be imported or has no such class.
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name + ".").startswith(error.name + "."):
                continue  # a class stands before this dot, or the module is missing: found out below
            raise TaskImportError(
                f"Cannot import {what} {name!r}: module {module_name!r} needs {error.name!r}, "
                "which is not installed."
            ) from error
        except (ImportError, SyntaxError, TypeError, ValueError) as error:  # the last two: dots amiss
            raise TaskImportError(f"Cannot import {what} {name!r}: {error}") from error
        for part in parts[cut:]:
            if not hasattr(found, part):
                if hasattr(found, "__path__") or cut < len(parts) - 1:
                    missing = f"there is no module {'.'.join(parts[:-1])!r}" if cut < len(parts) - 1 else ""
                else:
                    missing = ""
                missing = missing or f"module {module_name!r} has no {part!r}"
                raise TaskImportError(
                    f"Cannot import {what} {name!r}: {missing}.{did_you_mean(part, dir(found))}"
                )
            found = getattr(found, part)
        return found
    raise TaskImportError(
        f"Cannot import {what} {name!r}: "
        + (f"there is no module {parts[0]!r}." if len(parts) > 1 else "give its full name, module included.")
    )


def import_task_class(name: str) -> Any:
    """Import a task class; a class of the reference that is not installed is replaced by ours.

    Parameters
    ----------
    name : `str`
        Dotted name of a `PipelineTask`.

    Raises
    ------
    TaskImportError
        There is no such class, or it is no pipeline task.
    """
    try:
        found = import_class(name, "task class")
    except TaskImportError as error:
        stand_in = _STAND_INS.get(name.rpartition(".")[2]) if name.startswith("lsst.") else None
        if stand_in is None:
            raise
        try:
            found = import_class(stand_in, "task class")
        except TaskImportError:
            raise error from None
    if not isinstance(found, type) or not hasattr(found, "ConfigClass") or not hasattr(found, "runQuantum"):
        raise TaskImportError(f"{name!r} is no pipeline task: it needs ConfigClass and runQuantum.")
    return found


def import_instrument(name: str) -> Any:
    """Return the instrument a pipeline names.

    Parameters
    ----------
    name : `str`
        Dotted name of an instrument class (ours or the reference's), name of a camera that comes with this
        package, or path of a camera file.

    Raises
    ------
    ButlerUserError
        There is no such instrument.
    """
    return import_class(_INSTRUMENT, "class").from_string(name)
