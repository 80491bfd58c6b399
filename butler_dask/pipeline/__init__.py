"""Tasks and pipelines: what a task author imports, and how pipelines are read from YAML and ordered.

::

    from butler_dask.pipeline import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
    from butler_dask.pipeline import connectionTypes as cT
"""

from butler_dask.pipeline import connection_types as connectionTypes  # noqa: N812 -- the field says so
from butler_dask.pipeline.connections import PipelineTaskConnections
from butler_dask.pipeline.pipeline import Pipeline
from butler_dask.pipeline.pipeline_graph import PipelineGraph
from butler_dask.pipeline.pipeline_task import PipelineTask, QuantumContext, Task
from butler_dask.pipeline.quantized_connections import InputQuantizedConnection, OutputQuantizedConnection
from butler_dask.pipeline.quantum_outcome import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    NoWorkFound,
    RepeatableQuantumError,
    UpstreamFailureNoWorkFound,
)
from butler_dask.pipeline.struct import Struct
from butler_dask.pipeline.task_config import PipelineTaskConfig
from butler_dask.pipeline.task_metadata import TaskMetadata

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
