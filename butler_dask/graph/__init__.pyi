"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .all_dimensions_builder import AllDimensionsQuantumGraphBuilder as AllDimensionsQuantumGraphBuilder
from .dataset_query_constraint import DatasetQueryConstraintVariant as DatasetQueryConstraintVariant
from .graph_builder import build_quantum_graph as build_quantum_graph
from .graph_file import read_graph as read_graph, write_graph as write_graph
from .kept_ids import keep_ids as keep_ids
from .quantum import Quantum as Quantum
from .quantum_graph import QuantumGraph as QuantumGraph
from .run_collections import RunOptions as RunOptions, plan_run_collections as plan_run_collections
