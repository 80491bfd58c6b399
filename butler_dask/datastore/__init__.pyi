"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .deferred_dataset import DeferredDatasetHandle as DeferredDatasetHandle
from .file_datastore import FileDatastore as FileDatastore
from .formatter import Formatter as Formatter, load_formatter as load_formatter
