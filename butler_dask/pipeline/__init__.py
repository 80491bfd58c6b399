"""Tasks and pipelines: what a task author imports, and how pipelines are read from YAML and ordered.

::

    from butler_dask.pipeline import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
    from butler_dask.pipeline import connectionTypes as cT
"""

from importlib import import_module
from typing import Any

from lazy_loader import attach_stub

_loaded, _, _names = attach_stub(__name__, __file__)

__all__ = ["connectionTypes", *_names]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used; task authors know a module by another name than its file's."""
    return import_module(".connection_types", __name__) if name == "connectionTypes" else _loaded(name)


def __dir__() -> list[str]:
    """Return the names of the stub."""
    return __all__.copy()
