"""The public names, and where each is: read by type checkers, and at run time when a name is first used."""

from . import (
    butler as butler,
    datastore as datastore,
    engine as engine,
    graph as graph,
    imaging as imaging,
    instruments as instruments,
    pipeline as pipeline,
    registry as registry,
    vocabulary as vocabulary,
)
from .butler.butler import Butler as Butler
from .butler.butler_collections import ButlerCollections as ButlerCollections
from .butler.query import Query as Query
from .butler.registry_names import ButlerRegistry as ButlerRegistry
from .butler.repository import Repository as Repository
from .datastore.deferred_dataset import DeferredDatasetHandle as DeferredDatasetHandle
from .datastore.file_datastore import FileDatastore as FileDatastore
from .datastore.formatter import Formatter as Formatter, ReadRequest as ReadRequest
from .engine.quantum_butler import QuantumButler as QuantumButler
from .engine.simple_pipeline_executor import SimplePipelineExecutor as SimplePipelineExecutor
from .errors import (
    ButlerDaskError as ButlerDaskError,
    ButlerUserError as ButlerUserError,
    CalibrationLookupError as CalibrationLookupError,
    CollectionCycleError as CollectionCycleError,
    CollectionError as CollectionError,
    CollectionExpressionError as CollectionExpressionError,
    CollectionTypeError as CollectionTypeError,
    ConfigFieldError as ConfigFieldError,
    ConflictingDefinitionError as ConflictingDefinitionError,
    ConnectionTypeConsistencyError as ConnectionTypeConsistencyError,
    ContractError as ContractError,
    DataIdError as DataIdError,
    DataIdValueError as DataIdValueError,
    DatasetFileError as DatasetFileError,
    DatasetNotFoundError as DatasetNotFoundError,
    DatasetTypeError as DatasetTypeError,
    DatasetTypeExpressionError as DatasetTypeExpressionError,
    DimensionNameError as DimensionNameError,
    DimensionValueError as DimensionValueError,
    DuplicateOutputError as DuplicateOutputError,
    EmptyQuantumGraphError as EmptyQuantumGraphError,
    EmptyQueryResultError as EmptyQueryResultError,
    FormatVersionError as FormatVersionError,
    IncompatibleDatasetTypeError as IncompatibleDatasetTypeError,
    InconsistentDataIdError as InconsistentDataIdError,
    InitInputMissingError as InitInputMissingError,
    InvalidExpressionError as InvalidExpressionError,
    InvalidQueryError as InvalidQueryError,
    MissingCollectionError as MissingCollectionError,
    MissingDatasetFileError as MissingDatasetFileError,
    MissingDatasetTypeError as MissingDatasetTypeError,
    NoDefaultCollectionError as NoDefaultCollectionError,
    OrphanedRecordError as OrphanedRecordError,
    OutputExistsError as OutputExistsError,
    PipelineDataCycleError as PipelineDataCycleError,
    PipelineDefinitionError as PipelineDefinitionError,
    PipelineError as PipelineError,
    PipelineGraphError as PipelineGraphError,
    PipelineLabelError as PipelineLabelError,
    PipelineNotFoundError as PipelineNotFoundError,
    PrerequisiteMissingError as PrerequisiteMissingError,
    QuantumExecutionError as QuantumExecutionError,
    QuantumGraphBuilderError as QuantumGraphBuilderError,
    QuantumTimeoutError as QuantumTimeoutError,
    RawIngestError as RawIngestError,
    ReadOnlyRepositoryError as ReadOnlyRepositoryError,
    RepositoryError as RepositoryError,
    RunConfigMismatchError as RunConfigMismatchError,
    TaskImportError as TaskImportError,
    TransferModeError as TransferModeError,
    UnimplementedQueryError as UnimplementedQueryError,
    UnknownComponentError as UnknownComponentError,
)
from .graph.all_dimensions_builder import AllDimensionsQuantumGraphBuilder as AllDimensionsQuantumGraphBuilder
from .graph.dataset_query_constraint import DatasetQueryConstraintVariant as DatasetQueryConstraintVariant
from .graph.quantum import Quantum as Quantum
from .graph.quantum_graph import QuantumGraph as QuantumGraph
from .instruments.instrument import Instrument as Instrument
from .pipeline import connectionTypes as connectionTypes
from .pipeline.config_fields import (
    ChoiceField as ChoiceField,
    Config as Config,
    ConfigField as ConfigField,
    Field as Field,
    FieldValidationError as FieldValidationError,
    ListField as ListField,
    RangeField as RangeField,
)
from .pipeline.connections import PipelineTaskConnections as PipelineTaskConnections
from .pipeline.pipeline import Pipeline as Pipeline
from .pipeline.pipeline_graph import PipelineGraph as PipelineGraph
from .pipeline.pipeline_task import PipelineTask as PipelineTask
from .pipeline.quantum_outcome import NoWorkFound as NoWorkFound
from .pipeline.struct import Struct as Struct
from .pipeline.task_config import PipelineTaskConfig as PipelineTaskConfig
from .pipeline.task_metadata import TaskMetadata as TaskMetadata
from .vocabulary.collection import CollectionInfo as CollectionInfo, CollectionType as CollectionType
from .vocabulary.collection_summary import CollectionSummary as CollectionSummary
from .vocabulary.data_id import (
    DataCoordinate as DataCoordinate,
    DataId as DataId,
    DataIdKey as DataIdKey,
    DataIdValue as DataIdValue,
    DimensionRecord as DimensionRecord,
)
from .vocabulary.dataset import (
    DatasetAssociation as DatasetAssociation,
    DatasetRef as DatasetRef,
)
from .vocabulary.dataset_existence import DatasetExistence as DatasetExistence
from .vocabulary.dataset_id import DatasetId as DatasetId, DatasetIdGenEnum as DatasetIdGenEnum
from .vocabulary.dataset_type import DatasetType as DatasetType
from .vocabulary.dimensions import (
    Dimension as Dimension,
    DimensionElement as DimensionElement,
    DimensionGroup as DimensionGroup,
    DimensionUniverse as DimensionUniverse,
)
from .vocabulary.file_record import FileDataset as FileDataset
from .vocabulary.search_defaults import RegistryDefaults as RegistryDefaults
from .vocabulary.storage_class import StorageClass as StorageClass, StorageClassFactory as StorageClassFactory
from .vocabulary.timespan import Timespan as Timespan

__version__: str
