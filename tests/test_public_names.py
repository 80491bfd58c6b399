"""The public surface: what `from butler_dask import ...` gives, and that giving it costs nothing before."""

import inspect
import subprocess
import sys

import pytest

import butler_dask

ERRORS = """
InvalidQueryError EmptyQueryResultError UnimplementedQueryError MissingCollectionError
CollectionTypeError CollectionCycleError OrphanedRecordError MissingDatasetTypeError DatasetTypeError
DatasetNotFoundError CalibrationLookupError ConflictingDefinitionError DimensionNameError
DimensionValueError DataIdValueError DataIdError InconsistentDataIdError PipelineGraphError
PipelineDataCycleError DuplicateOutputError ConnectionTypeConsistencyError IncompatibleDatasetTypeError
InvalidExpressionError ContractError QuantumGraphBuilderError OutputExistsError InitInputMissingError
PrerequisiteMissingError EmptyQuantumGraphError FieldValidationError
"""
NAMES = """
Butler CollectionType CollectionInfo DatasetType DatasetRef DataCoordinate DimensionUniverse
DimensionGroup DimensionRecord Timespan DatasetExistence DeferredDatasetHandle DatasetAssociation
FileDataset StorageClass PipelineTask PipelineTaskConfig PipelineTaskConnections connectionTypes Struct
NoWorkFound TaskMetadata Instrument Field RangeField ChoiceField ListField Pipeline PipelineGraph Quantum
QuantumGraph DatasetQueryConstraintVariant
AllDimensionsQuantumGraphBuilder SimplePipelineExecutor
"""
BUTLER = """
makeRepo get_known_repos close dimensions collections registry run get getDeferred put exists
find_dataset get_dataset_type pruneDatasets removeRuns retrieveArtifacts query_datasets
query_dimension_records query_data_ids query_all_datasets query transaction ingest getURI from_config
"""
COLLECTIONS = """
query query_info get_info register redefine_chain extend_chain prepend_chain remove_from_chain x_remove
"""
REGISTRY = """
insertDimensionData syncDimensionData expandDataId registerDatasetType removeDatasetType getDatasetType
queryDatasetTypes queryDatasets queryDatasetAssociations associate disassociate certify decertify
registerRun registerCollection setCollectionChain getCollectionChain removeCollection insertDatasets
findDataset
"""


@pytest.mark.parametrize("name", (NAMES + ERRORS).split())
def test_name_of_the_documentation_can_be_imported(name):
    value = getattr(butler_dask, name)
    assert name in butler_dask.__all__
    assert name in dir(butler_dask)
    if name.endswith("Error"):
        assert issubclass(value, Exception)


@pytest.mark.parametrize(
    ("owner", "names"),
    [("Butler", BUTLER), ("ButlerCollections", COLLECTIONS), ("ButlerRegistry", REGISTRY)],
)
def test_method_of_the_documentation_is_there_and_documented(owner, names):
    cls = getattr(butler_dask, owner)
    for name in names.split():
        assert inspect.getdoc(getattr(cls, name)), name


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get", "parameters collections storageClass"),
        ("getDeferred", "parameters collections storageClass"),
        ("put", "run"),
        ("exists", "full_check collections"),
        ("find_dataset", "data_id collections timespan"),
        ("pruneDatasets", "disassociate unstore tags purge"),
        ("removeRuns", "unlink_from_chains"),
        ("retrieveArtifacts", "refs destination transfer preserve_path overwrite"),
        (
            "query_datasets",
            "collections find_first data_id where bind with_dimension_records order_by limit explain",
        ),
        ("query_data_ids", "data_id where bind with_dimension_records order_by limit explain"),
        ("query_dimension_records", "data_id where bind order_by limit explain"),
        ("query_all_datasets", "collections name find_first data_id where bind limit"),
    ],
)
def test_argument_of_the_documentation_is_taken(method, arguments):
    parameters = inspect.signature(getattr(butler_dask.Butler, method)).parameters
    assert set(arguments.split()) <= set(parameters)


def test_errors_are_also_the_builtin_that_fits():
    for name, builtin in {
        "UnimplementedQueryError": NotImplementedError,
        "CollectionCycleError": ValueError,
        "MissingDatasetTypeError": KeyError,
        "DatasetNotFoundError": LookupError,
        "CalibrationLookupError": LookupError,
        "DimensionNameError": KeyError,
        "DimensionValueError": ValueError,
        "PipelineGraphError": RuntimeError,
        "MissingDatasetFileError": FileNotFoundError,
        "RepositoryError": FileNotFoundError,
    }.items():
        assert issubclass(getattr(butler_dask, name), builtin), name


def test_unknown_name_gives_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean: 'DatasetType'"):
        butler_dask.DatasetTyp  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, butler_dask; "
        "print(sorted(sys.modules.keys() & {'numpy', 'astropy', 'sqlalchemy', 'dask', 'yaml', 'lsst'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PACKAGES = [
    "butler",
    "datastore",
    "engine",
    "graph",
    "imaging",
    "instruments",
    "pipeline",
    "registry",
    "vocabulary",
]


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_every_name_that_type_checkers_see_can_be_imported(package):
    module = getattr(butler_dask, package) if package else butler_dask
    assert len(module.__all__) > 2
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    nearly = module.__all__[-1][:-1]
    with pytest.raises(AttributeError, match=nearly):
        getattr(module, nearly)
