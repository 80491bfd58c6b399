"""Tasks and pipelines: what a task author imports, and how pipelines are read from YAML and ordered.

::

    from butler_dask.pipeline import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
    from butler_dask.pipeline import connectionTypes as cT
"""

from . import connection_types as connectionTypes  # noqa: N812 -- the field says so
from .connections import PipelineTaskConnections
from .pipeline import Pipeline
from .pipeline_graph import PipelineGraph
from .pipeline_task import PipelineTask, QuantumContext, Task
from .quantized_connections import InputQuantizedConnection, OutputQuantizedConnection
from .quantum_outcome import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    NoWorkFound,
    RepeatableQuantumError,
    UpstreamFailureNoWorkFound,
)
from .struct import Struct
from .task_config import PipelineTaskConfig
from .task_metadata import TaskMetadata

__all__ = [
    "AlgorithmError",
    "AnnotatedPartialOutputsError",
    "InputQuantizedConnection",
    "NoWorkFound",
    "OutputQuantizedConnection",
    "Pipeline",
    "PipelineGraph",
    "PipelineTask",
    "PipelineTaskConfig",
    "PipelineTaskConnections",
    "QuantumContext",
    "RepeatableQuantumError",
    "Struct",
    "Task",
    "TaskMetadata",
    "UpstreamFailureNoWorkFound",
    "connectionTypes",
]
