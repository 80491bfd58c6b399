"""The names of this package that others use; each module is loaded when a name of it is first used."""

from . import connection_types as connection_types, pipeline_text as pipeline_text
from .connections import PipelineTaskConnections as PipelineTaskConnections
from .pipeline import Pipeline as Pipeline
from .pipeline_graph import PipelineGraph as PipelineGraph
from .pipeline_task import PipelineTask as PipelineTask, QuantumContext as QuantumContext, Task as Task
from .quantized_connections import (
    InputQuantizedConnection as InputQuantizedConnection,
    OutputQuantizedConnection as OutputQuantizedConnection,
)
from .quantum_outcome import (
    AlgorithmError as AlgorithmError,
    AnnotatedPartialOutputsError as AnnotatedPartialOutputsError,
    NoWorkFound as NoWorkFound,
    RepeatableQuantumError as RepeatableQuantumError,
    UpstreamFailureNoWorkFound as UpstreamFailureNoWorkFound,
)
from .struct import Struct as Struct
from .task_config import PipelineTaskConfig as PipelineTaskConfig
from .task_metadata import TaskMetadata as TaskMetadata

connectionTypes = connection_types  # noqa: N816 -- the field says so
