"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .cluster import existing_cluster as existing_cluster
from .execution import run_graph as run_graph
from .init_outputs import (
    compare_init_outputs as compare_init_outputs,
    write_init_outputs as write_init_outputs,
)
from .quantum_butler import QuantumButler as QuantumButler
from .recovery import recover_run as recover_run
from .run_settings import RunSettings as RunSettings
from .simple_pipeline_executor import SimplePipelineExecutor as SimplePipelineExecutor
