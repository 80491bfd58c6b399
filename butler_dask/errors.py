"""The one exception tree.

::

    ButlerDaskError
        ButlerUserError
            RepositoryError: FileNotFoundError
                MissingRepositoryLabelError: KeyError
                RepositoryExistsError: FileExistsError
            FormatVersionError: ValueError
            DescriptionError: ValueError
            UntrustedError: PermissionError
                UntrustedFormatterError: DatasetTypeError
            ReadOnlyRepositoryError: PermissionError, TypeError
            RepositoryBusyError: TimeoutError
            CollectionError
                NoDefaultCollectionError
                CollectionExpressionError: ValueError
                MissingCollectionError: LookupError
                CollectionTypeError: TypeError
                CollectionCycleError: ValueError
                OrphanedRecordError
                RunInUseError
            DatasetTypeError: ValueError
                MissingDatasetTypeError: KeyError
                DatasetTypeExpressionError
                UnknownComponentError: KeyError
                UnknownParameterError: KeyError
                MissingStorageClassError: KeyError
                ObjectTypeError: TypeError
                ConflictingDefinitionError
                    RefusedRowError
            DatasetNotFoundError: LookupError
            CalibrationLookupError: LookupError
            DatasetFileError: OSError
                TransferModeError: ValueError
                MissingDatasetFileError: FileNotFoundError
            DataIdError: ValueError
                DimensionNameError: KeyError
                    DimensionValueError
                DataIdValueError
                InconsistentDataIdError
            InvalidQueryError: ValueError
            EmptyQueryResultError: LookupError
            UnimplementedQueryError: NotImplementedError
            PipelineError
                PipelineDefinitionError: ValueError
                PipelineLabelError: LookupError
                PipelineNotFoundError: FileNotFoundError
                TaskImportError: ImportError
                PipelineGraphError: RuntimeError
                    PipelineDataCycleError
                    DuplicateOutputError
                    ConnectionTypeConsistencyError
                    IncompatibleDatasetTypeError
                InvalidExpressionError: ValueError
                ContractError: ValueError
                ConfigFieldError: ValueError
            QuantumGraphBuilderError: RuntimeError
                OutputExistsError
                InitInputMissingError
                PrerequisiteMissingError: LookupError
                EmptyQuantumGraphError
            RunConfigMismatchError: TypeError
            InstrumentNotFoundError: LookupError
            RawIngestError: ValueError
        QuantumTimeoutError: TimeoutError
        QuantumExecutionError: RuntimeError

Every class is also the fitting builtin, named after it. What a task may raise about its quantum is in
`butler_dask.pipeline.quantum_outcome`. A message says what failed, for which dataset type, data ID,
collection or file, and what to do next; `did_you_mean` names the nearest match of a mistyped name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string.

    Parameters
    ----------
    name : `str`
        What was typed.
    known : iterable of `str`
        What there is.
    """
    import difflib

    candidates = [str(k) for k in known]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if not near:
        lower = {k.lower(): k for k in candidates}
        near = [lower[m] for m in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)]
    return f" Did you mean {near[0]!r}?" if near else ""


class ButlerDaskError(Exception):
    """Base of every error of this package."""


class ButlerUserError(ButlerDaskError):
    """The request or the repository's content is at fault, not the program; shown without a traceback."""


class RepositoryError(ButlerUserError, FileNotFoundError):
    """There is no repository where one was named."""


class MissingRepositoryLabelError(RepositoryError, KeyError):
    """No repository has that label."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class RepositoryExistsError(RepositoryError, FileExistsError):
    """There is a repository where one was to be made."""


class FormatVersionError(ButlerUserError, ValueError):
    """A file or database was written in a format this version does not read."""


class DescriptionError(ButlerUserError, ValueError):
    """A file a user writes (camera, sky map) lacks something, or has something of the wrong kind in it."""


UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What readers of YAML and JSON raise of values that are not what they seem (dates such as 2013-13-45,
``!!int ''``, a thousand brackets), beside errors of their own."""


@contextmanager
def reading_description(what: str) -> Iterator[None]:
    """Make `DescriptionError` of what goes wrong when values are taken out of a user's document.

    Parameters
    ----------
    what : `str`
        What is read, for the message.
    """
    try:
        yield
    except ButlerUserError:
        raise
    except KeyError as error:
        raise DescriptionError(f"{what} lacks {error}") from error
    except UNREADABLE as error:
        raise DescriptionError(f"{what} is wrong: {error}") from error


class ReadOnlyRepositoryError(ButlerUserError, PermissionError, TypeError):
    """Something would be written to a butler opened for reading, or to a disk that does not take it."""


class UntrustedError(ButlerUserError, PermissionError):
    """Something from elsewhere would run code here, or reach files it has no business with."""


class RepositoryBusyError(ButlerUserError, TimeoutError):
    """Other programs kept the registry busy, or the connection to it was lost; nothing was changed."""


class CollectionError(ButlerUserError):
    """A collection is not what the request needs."""


class NoDefaultCollectionError(CollectionError):
    """A call names no collection or run, and the butler has no default."""


class CollectionExpressionError(CollectionError, ValueError):
    """What was given is neither a collection name nor a glob nor a pattern."""


class MissingCollectionError(CollectionError, LookupError):
    """No collection has that name."""


class CollectionTypeError(CollectionError, TypeError):
    """A collection has another type than the operation needs."""


class CollectionCycleError(CollectionError, ValueError):
    """A chain would contain itself."""


class OrphanedRecordError(CollectionError):
    """A removal would leave records that refer to what is removed."""


class RunInUseError(CollectionError):
    """Another command writes the run just now; it is said who since when."""


class DatasetTypeError(ButlerUserError, ValueError):
    """A dataset type is wrong for the operation."""


class UntrustedFormatterError(UntrustedError, DatasetTypeError):
    """A file would be read by a class that this repository does not trust."""


class MissingDatasetTypeError(DatasetTypeError, KeyError):
    """No dataset type has that name."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class DatasetTypeExpressionError(DatasetTypeError):
    """A text can be neither the name of a dataset type nor a glob over such names."""


class UnknownComponentError(DatasetTypeError, KeyError):
    """Datasets of that type have no such part."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class UnknownParameterError(DatasetTypeError, KeyError):
    """Datasets of that type take no such parameter."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class MissingStorageClassError(DatasetTypeError, KeyError):
    """No storage class has that name."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class ObjectTypeError(DatasetTypeError, TypeError):
    """An object is of another kind than the dataset type's, and nothing converts it."""


class ConflictingDefinitionError(DatasetTypeError):
    """Something with that name or data ID exists and differs."""


class RefusedRowError(ConflictingDefinitionError):
    """The database does not take a row: its key is there already, or a value is missing or impossible."""


class DatasetNotFoundError(ButlerUserError, LookupError):
    """No dataset matches in the collections searched."""


class CalibrationLookupError(ButlerUserError, LookupError):
    """A calibration look-up lacks a time, or finds more than one."""


class DatasetFileError(ButlerUserError, OSError):
    """A dataset's file cannot be read or written."""


class TransferModeError(DatasetFileError, ValueError):
    """Files are taken in or given out in a way there is none of."""


class MissingDatasetFileError(DatasetFileError, FileNotFoundError):
    """A dataset's file is not where the repository says it is."""


class DataIdError(ButlerUserError, ValueError):
    """A data ID is incomplete or has unknown keys or values."""


class DimensionNameError(DataIdError, KeyError):
    """No dimension has that name."""

    __str__ = Exception.__str__  # KeyError would quote the whole sentence


class DimensionValueError(DimensionNameError):
    """A required dimension has no value in a data ID; the reference calls it a name error."""


class DataIdValueError(DataIdError):
    """A dimension has no such value in this repository, or the value has the wrong type."""


class InconsistentDataIdError(DataIdError):
    """The values of a data ID contradict one another."""


class InvalidQueryError(ButlerUserError, ValueError):
    """A query expression is not well formed or not answerable."""


class EmptyQueryResultError(ButlerUserError, LookupError):
    """A query found nothing; ``reasons`` say why."""

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([message, *(f"  {r}" for r in self.reasons)]))


class UnimplementedQueryError(ButlerUserError, NotImplementedError):
    """A well-formed query of a kind that cannot be answered."""


class PipelineError(ButlerUserError):
    """A pipeline definition is at fault."""


class PipelineDefinitionError(PipelineError, ValueError):
    """A pipeline file is not well formed; the message names the file and line."""


class PipelineLabelError(PipelineError, LookupError):
    """A pipeline has no task, subset or parameter of that name."""


class PipelineNotFoundError(PipelineError, FileNotFoundError):
    """There is no pipeline or configuration file where one was named."""


class TaskImportError(PipelineError, ImportError):
    """A task or instrument class cannot be imported."""


class PipelineGraphError(PipelineError, RuntimeError):
    """Tasks and dataset types do not fit together."""


class PipelineDataCycleError(PipelineGraphError):
    """Tasks need one another's outputs in a circle."""


class DuplicateOutputError(PipelineGraphError):
    """Two tasks write the same dataset type."""


class ConnectionTypeConsistencyError(PipelineGraphError):
    """Connections use one dataset type in contradicting ways."""


class IncompatibleDatasetTypeError(PipelineGraphError):
    """A connection and the registered dataset type do not agree."""


class InvalidExpressionError(PipelineError, ValueError):
    """A task selection expression is not well formed."""


class ContractError(PipelineError, ValueError):
    """A contract written in the pipeline is not fulfilled."""


class ConfigFieldError(PipelineError, ValueError):
    """A configuration override names no field, or gives it a value it does not take."""


class QuantumGraphBuilderError(ButlerUserError, RuntimeError):
    """A quantum graph cannot be built."""


class OutputExistsError(QuantumGraphBuilderError):
    """An output already exists in the output run and nothing says to skip or replace it."""


class InitInputMissingError(QuantumGraphBuilderError):
    """A dataset a task needs to be constructed does not exist."""


class PrerequisiteMissingError(QuantumGraphBuilderError, LookupError):
    """A prerequisite input does not exist for a data ID."""


class EmptyQuantumGraphError(QuantumGraphBuilderError):
    """No quantum is left; ``reasons`` say which constraint removed what."""

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([message, *(f"  {r}" for r in self.reasons)]))


class RunConfigMismatchError(ButlerUserError, TypeError):
    """A run's recorded configuration or package versions differ from the present ones."""


class InstrumentNotFoundError(ButlerUserError, LookupError):
    """No instrument, class or camera file has that name."""


class RawIngestError(ButlerUserError, ValueError):
    """A raw file cannot be ingested; nothing of it was recorded."""


class QuantumTimeoutError(ButlerDaskError, TimeoutError):
    """A quantum took longer than it may."""


class QuantumExecutionError(ButlerDaskError, RuntimeError):
    """One or more quanta failed; their data IDs and errors were reported."""
