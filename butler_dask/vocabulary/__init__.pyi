"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .dataset_type import DatasetType as DatasetType, split_component as split_component
from .dimensions import UNIVERSE_VERSION as UNIVERSE_VERSION, DimensionUniverse as DimensionUniverse
from .storage_class import (
    StorageClass as StorageClass,
    StorageClassFactory as StorageClassFactory,
    find_storage_class as find_storage_class,
)
