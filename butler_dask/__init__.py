"""butler_dask: a Dask-native data butler and pipetask.

Every public name can be imported from here. Its module is loaded when the name is first used, so that
``import butler_dask`` itself costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lsst.pex.config import (
        ChoiceField as ChoiceField,
    )
    from lsst.pex.config import (
        Config as Config,
    )
    from lsst.pex.config import (
        ConfigField as ConfigField,
    )
    from lsst.pex.config import (
        Field as Field,
    )
    from lsst.pex.config import (
        FieldValidationError as FieldValidationError,
    )
    from lsst.pex.config import (
        ListField as ListField,
    )
    from lsst.pex.config import (
        RangeField as RangeField,
    )

    from .butler import (
        Butler as Butler,
    )
    from .collection_access import (
        ButlerCollections as ButlerCollections,
    )
    from .datastore.deferred_dataset import (
        DeferredDatasetHandle as DeferredDatasetHandle,
    )
    from .datastore.file_datastore import (
        FileDatastore as FileDatastore,
    )
    from .datastore.formatter import (
        Formatter as Formatter,
    )
    from .datastore.formatter import (
        ReadRequest as ReadRequest,
    )
    from .engine.simple_pipeline_executor import (
        SimplePipelineExecutor as SimplePipelineExecutor,
    )
    from .errors import (
        ButlerDaskError as ButlerDaskError,
    )
    from .errors import (
        ButlerUserError as ButlerUserError,
    )
    from .errors import (
        CalibrationLookupError as CalibrationLookupError,
    )
    from .errors import (
        CollectionCycleError as CollectionCycleError,
    )
    from .errors import (
        CollectionError as CollectionError,
    )
    from .errors import (
        CollectionExpressionError as CollectionExpressionError,
    )
    from .errors import (
        CollectionTypeError as CollectionTypeError,
    )
    from .errors import (
        ConfigFieldError as ConfigFieldError,
    )
    from .errors import (
        ConflictingDefinitionError as ConflictingDefinitionError,
    )
    from .errors import (
        ConnectionTypeConsistencyError as ConnectionTypeConsistencyError,
    )
    from .errors import (
        ContractError as ContractError,
    )
    from .errors import (
        DataIdError as DataIdError,
    )
    from .errors import (
        DataIdValueError as DataIdValueError,
    )
    from .errors import (
        DatasetFileError as DatasetFileError,
    )
    from .errors import (
        DatasetNotFoundError as DatasetNotFoundError,
    )
    from .errors import (
        DatasetTypeError as DatasetTypeError,
    )
    from .errors import (
        DatasetTypeExpressionError as DatasetTypeExpressionError,
    )
    from .errors import (
        DimensionNameError as DimensionNameError,
    )
    from .errors import (
        DimensionValueError as DimensionValueError,
    )
    from .errors import (
        DuplicateOutputError as DuplicateOutputError,
    )
    from .errors import (
        EmptyQuantumGraphError as EmptyQuantumGraphError,
    )
    from .errors import (
        EmptyQueryResultError as EmptyQueryResultError,
    )
    from .errors import (
        FormatVersionError as FormatVersionError,
    )
    from .errors import (
        IncompatibleDatasetTypeError as IncompatibleDatasetTypeError,
    )
    from .errors import (
        InconsistentDataIdError as InconsistentDataIdError,
    )
    from .errors import (
        InitInputMissingError as InitInputMissingError,
    )
    from .errors import (
        InvalidExpressionError as InvalidExpressionError,
    )
    from .errors import (
        InvalidQueryError as InvalidQueryError,
    )
    from .errors import (
        MissingCollectionError as MissingCollectionError,
    )
    from .errors import (
        MissingDatasetFileError as MissingDatasetFileError,
    )
    from .errors import (
        MissingDatasetTypeError as MissingDatasetTypeError,
    )
    from .errors import (
        NoDefaultCollectionError as NoDefaultCollectionError,
    )
    from .errors import (
        OrphanedRecordError as OrphanedRecordError,
    )
    from .errors import (
        OutputExistsError as OutputExistsError,
    )
    from .errors import (
        PipelineDataCycleError as PipelineDataCycleError,
    )
    from .errors import (
        PipelineDefinitionError as PipelineDefinitionError,
    )
    from .errors import (
        PipelineError as PipelineError,
    )
    from .errors import (
        PipelineGraphError as PipelineGraphError,
    )
    from .errors import (
        PipelineLabelError as PipelineLabelError,
    )
    from .errors import (
        PipelineNotFoundError as PipelineNotFoundError,
    )
    from .errors import (
        PrerequisiteMissingError as PrerequisiteMissingError,
    )
    from .errors import (
        QuantumExecutionError as QuantumExecutionError,
    )
    from .errors import (
        QuantumGraphBuilderError as QuantumGraphBuilderError,
    )
    from .errors import (
        QuantumTimeoutError as QuantumTimeoutError,
    )
    from .errors import (
        RawIngestError as RawIngestError,
    )
    from .errors import (
        ReadOnlyRepositoryError as ReadOnlyRepositoryError,
    )
    from .errors import (
        RepositoryError as RepositoryError,
    )
    from .errors import (
        RunConfigMismatchError as RunConfigMismatchError,
    )
    from .errors import (
        TaskImportError as TaskImportError,
    )
    from .errors import (
        TransferModeError as TransferModeError,
    )
    from .errors import (
        UnimplementedQueryError as UnimplementedQueryError,
    )
    from .errors import (
        UnknownComponentError as UnknownComponentError,
    )
    from .graph.all_dimensions_builder import (
        AllDimensionsQuantumGraphBuilder as AllDimensionsQuantumGraphBuilder,
    )
    from .graph.dataset_query_constraint import (
        DatasetQueryConstraintVariant as DatasetQueryConstraintVariant,
    )
    from .graph.quantum import (
        Quantum as Quantum,
    )
    from .graph.quantum_graph import (
        QuantumGraph as QuantumGraph,
    )
    from .instruments.instrument import (
        Instrument as Instrument,
    )
    from .pipeline import connection_types as connectionTypes  # noqa: N812  the field says so
    from .pipeline.connections import (
        PipelineTaskConnections as PipelineTaskConnections,
    )
    from .pipeline.pipeline import (
        Pipeline as Pipeline,
    )
    from .pipeline.pipeline_graph import (
        PipelineGraph as PipelineGraph,
    )
    from .pipeline.pipeline_task import (
        PipelineTask as PipelineTask,
    )
    from .pipeline.quantum_outcome import (
        NoWorkFound as NoWorkFound,
    )
    from .pipeline.struct import (
        Struct as Struct,
    )
    from .pipeline.task_config import (
        PipelineTaskConfig as PipelineTaskConfig,
    )
    from .pipeline.task_metadata import (
        TaskMetadata as TaskMetadata,
    )
    from .quantum_butler import (
        QuantumButler as QuantumButler,
    )
    from .query import (
        Query as Query,
    )
    from .registry.butler_registry import (
        ButlerRegistry as ButlerRegistry,
    )
    from .repository import (
        Repository as Repository,
    )
    from .vocabulary.collection import (
        CollectionInfo as CollectionInfo,
    )
    from .vocabulary.collection import (
        CollectionType as CollectionType,
    )
    from .vocabulary.collection_summary import (
        CollectionSummary as CollectionSummary,
    )
    from .vocabulary.data_id import (
        DataCoordinate as DataCoordinate,
    )
    from .vocabulary.data_id import (
        DataId as DataId,
    )
    from .vocabulary.data_id import (
        DataIdKey as DataIdKey,
    )
    from .vocabulary.data_id import (
        DataIdValue as DataIdValue,
    )
    from .vocabulary.dataset import (
        DatasetAssociation as DatasetAssociation,
    )
    from .vocabulary.dataset import (
        DatasetId as DatasetId,
    )
    from .vocabulary.dataset import (
        DatasetIdGenEnum as DatasetIdGenEnum,
    )
    from .vocabulary.dataset import (
        DatasetRef as DatasetRef,
    )
    from .vocabulary.dataset_existence import (
        DatasetExistence as DatasetExistence,
    )
    from .vocabulary.dataset_type import (
        DatasetType as DatasetType,
    )
    from .vocabulary.dimension_record import (
        DimensionRecord as DimensionRecord,
    )
    from .vocabulary.dimensions import (
        Dimension as Dimension,
    )
    from .vocabulary.dimensions import (
        DimensionElement as DimensionElement,
    )
    from .vocabulary.dimensions import (
        DimensionGroup as DimensionGroup,
    )
    from .vocabulary.dimensions import (
        DimensionUniverse as DimensionUniverse,
    )
    from .vocabulary.file_record import (
        FileDataset as FileDataset,
    )
    from .vocabulary.search_defaults import (
        RegistryDefaults as RegistryDefaults,
    )
    from .vocabulary.storage_class import (
        StorageClass as StorageClass,
    )
    from .vocabulary.storage_class import (
        StorageClassFactory as StorageClassFactory,
    )
    from .vocabulary.timespan import (
        Timespan as Timespan,
    )

_NAMES_OF_MODULES = {
    "lsst.pex.config": "ChoiceField Config ConfigField Field FieldValidationError ListField RangeField",
    "butler_dask.butler": "Butler",
    "butler_dask.collection_access": "ButlerCollections",
    "butler_dask.datastore.deferred_dataset": "DeferredDatasetHandle",
    "butler_dask.datastore.file_datastore": "FileDatastore",
    "butler_dask.datastore.formatter": "Formatter ReadRequest",
    "butler_dask.errors": (
        "ButlerDaskError ButlerUserError CalibrationLookupError CollectionCycleError CollectionError "
        "CollectionTypeError ConfigFieldError ConflictingDefinitionError ConnectionTypeConsistencyError "
        "ContractError DataIdError DataIdValueError DatasetFileError DatasetNotFoundError "
        "DatasetTypeError DimensionNameError DimensionValueError DuplicateOutputError "
        "EmptyQuantumGraphError EmptyQueryResultError FormatVersionError IncompatibleDatasetTypeError "
        "InconsistentDataIdError InitInputMissingError InvalidExpressionError InvalidQueryError "
        "MissingCollectionError MissingDatasetFileError MissingDatasetTypeError OrphanedRecordError "
        "OutputExistsError PipelineDataCycleError PipelineDefinitionError PipelineError "
        "PipelineGraphError PipelineLabelError PipelineNotFoundError PrerequisiteMissingError "
        "QuantumExecutionError QuantumGraphBuilderError QuantumTimeoutError RawIngestError "
        "ReadOnlyRepositoryError RepositoryError RunConfigMismatchError TaskImportError "
        "UnimplementedQueryError CollectionExpressionError NoDefaultCollectionError TransferModeError "
        "DatasetTypeExpressionError UnknownComponentError"
    ),
    "butler_dask.engine.simple_pipeline_executor": "SimplePipelineExecutor",
    "butler_dask.graph.all_dimensions_builder": "AllDimensionsQuantumGraphBuilder",
    "butler_dask.graph.dataset_query_constraint": "DatasetQueryConstraintVariant",
    "butler_dask.graph.quantum": "Quantum",
    "butler_dask.graph.quantum_graph": "QuantumGraph",
    "butler_dask.instruments.instrument": "Instrument",
    "butler_dask.pipeline.connections": "PipelineTaskConnections",
    "butler_dask.pipeline.pipeline": "Pipeline",
    "butler_dask.pipeline.pipeline_graph": "PipelineGraph",
    "butler_dask.pipeline.pipeline_task": "PipelineTask",
    "butler_dask.pipeline.quantum_outcome": "NoWorkFound",
    "butler_dask.pipeline.struct": "Struct",
    "butler_dask.pipeline.task_config": "PipelineTaskConfig",
    "butler_dask.pipeline.task_metadata": "TaskMetadata",
    "butler_dask.quantum_butler": "QuantumButler",
    "butler_dask.query": "Query",
    "butler_dask.registry.butler_registry": "ButlerRegistry",
    "butler_dask.repository": "Repository",
    "butler_dask.vocabulary.collection": "CollectionInfo CollectionType",
    "butler_dask.vocabulary.collection_summary": "CollectionSummary",
    "butler_dask.vocabulary.data_id": "DataCoordinate DataId DataIdKey DataIdValue",
    "butler_dask.vocabulary.dataset": "DatasetAssociation DatasetId DatasetIdGenEnum DatasetRef",
    "butler_dask.vocabulary.dataset_existence": "DatasetExistence",
    "butler_dask.vocabulary.dataset_type": "DatasetType",
    "butler_dask.vocabulary.dimension_record": "DimensionRecord",
    "butler_dask.vocabulary.dimensions": "Dimension DimensionElement DimensionGroup DimensionUniverse",
    "butler_dask.vocabulary.file_record": "FileDataset",
    "butler_dask.vocabulary.search_defaults": "RegistryDefaults",
    "butler_dask.vocabulary.storage_class": "StorageClass StorageClassFactory",
    "butler_dask.vocabulary.timespan": "Timespan",
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names.split()}

__all__ = ["__version__", "connectionTypes", *_MODULE_OF_NAME]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    import importlib

    if name == "connectionTypes":
        value: Any = importlib.import_module("butler_dask.pipeline.connection_types")
    elif name in _MODULE_OF_NAME:
        value = getattr(importlib.import_module(_MODULE_OF_NAME[name]), name)
    else:
        import difflib

        near = difflib.get_close_matches(name, _MODULE_OF_NAME, n=1)
        hint = f". Did you mean: {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'butler_dask' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*globals(), *__all__})
