"""Task classes by name, and the names under which pipelines of the reference know ours.

A pipeline written for the reference names classes such as ``lsst.ip.isr.IsrTask``. Where that package is
installed it is used; where it is not, our task of the same purpose stands in, so that the pipeline loads.
"""

from __future__ import annotations

from typing import Any

from ..errors import TaskImportError
from ..vocabulary.config_text import load_config_text
from ..vocabulary.dotted_name import import_by_name

__all__ = ["config_of_text", "import_instrument", "import_task_class"]

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
        found = import_by_name(name, "task class", TaskImportError)
    except TaskImportError as error:
        stand_in = _STAND_INS.get(name.rpartition(".")[2]) if name.startswith("lsst.") else None
        if stand_in is None:
            raise
        try:
            found = import_by_name(stand_in, "task class", TaskImportError)
        except TaskImportError:
            raise error from None
    if not isinstance(found, type) or not hasattr(found, "ConfigClass") or not hasattr(found, "runQuantum"):
        raise TaskImportError(f"{name!r} is no pipeline task: it needs ConfigClass and runQuantum.")
    return found


def config_of_text(task_class: Any, text: str) -> Any:
    """Return the configuration of a task from the Python text it was saved as.

    Parameters
    ----------
    task_class : `type`
        A `PipelineTask`.
    text : `str`
        As `TaskNode.get_str_config` gives it; the defaults where empty. It is read as data, and never run.

    Raises
    ------
    UntrustedError
        If it does something else than to set values.
    ConfigFieldError
        If it sets what there is not, or to what cannot be.
    """
    config = task_class.ConfigClass()
    if text:
        load_config_text(config, text, f"The saved configuration of {task_class.__name__}")
    return config


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
    return import_by_name(_INSTRUMENT, "class", TaskImportError).from_string(name)
