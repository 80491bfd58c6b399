"""DatasetType: a name, the dimensions of its data IDs, and the storage class of its objects."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import DatasetTypeError, did_you_mean
from .dimensions import DimensionGroup, DimensionUniverse
from .storage_class import StorageClass, find_storage_class

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)?")


class DatasetType:
    """A named kind of dataset.

    Parameters
    ----------
    name : `str`
        Letters, digits and underscores; ``parent.component`` names a part of a dataset.
    dimensions : `DimensionGroup` or iterable of `str`
        Keys of its data IDs.
    storageClass : `StorageClass` or `str`
        Kind of Python object.
    universe : `DimensionUniverse`, optional
        The universe (there is one).
    isCalibration : `bool`
        Whether it may be in CALIBRATION collections.

    Raises
    ------
    DatasetTypeError
        If the name or storage class is not valid.
    DimensionNameError
        If a dimension is unknown.
    """

    __slots__ = ("_is_calibration", "dimensions", "name", "storageClass_name")

    def __init__(
        self,
        name: str,
        dimensions: DimensionGroup | Iterable[str],
        storageClass: StorageClass | str,
        *,
        universe: DimensionUniverse | None = None,
        isCalibration: bool = False,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise DatasetTypeError(
                f"{name!r} is not a dataset type name: letters, digits and '_', starting with a letter."
            )
        self.name = name
        self.dimensions = (universe or DimensionUniverse()).conform(dimensions)
        self.storageClass_name: str = (
            storageClass.name if isinstance(storageClass, StorageClass) else storageClass
        )
        self._is_calibration = isCalibration
        if isCalibration and "instrument" not in self.dimensions:
            raise DatasetTypeError(f"Calibration dataset type {name!r} needs the dimension 'instrument'")

    @property
    def storageClass(self) -> StorageClass:
        """Kind of Python object."""
        return find_storage_class(self.storageClass_name)

    def isCalibration(self) -> bool:
        """Return whether it may be in CALIBRATION collections."""
        return self._is_calibration

    def isComponent(self) -> bool:
        """Return whether the name names a part of a dataset."""
        return "." in self.name

    def component(self) -> str | None:
        """Return the name of the part, or `None`."""
        return self.name.partition(".")[2] or None

    def nameAndComponent(self) -> tuple[str, str | None]:
        """Return the name without the part, and the part or `None`."""
        return split_component(self.name)

    def makeComponentDatasetType(self, component: str) -> DatasetType:
        """Return the dataset type of a part.

        Raises
        ------
        DatasetTypeError
            If objects of this kind have no such part; the nearest match is named.
        """
        parts = self.storageClass.components
        if component not in parts:
            raise DatasetTypeError(
                f"Dataset type {self.name!r} ({self.storageClass_name}) has no component {component!r}."
                f"{did_you_mean(component, parts)}"
            )
        return DatasetType(f"{self.name}.{component}", self.dimensions, parts[component])

    def is_compatible_with(self, other: DatasetType) -> bool:
        """Return whether both describe the same datasets, storage class conversion aside."""
        return (
            self.name == other.name
            and self.dimensions == other.dimensions
            and self._is_calibration == other._is_calibration
        )

    def overrideStorageClass(self, storageClass: StorageClass | str) -> DatasetType:
        """Return the same dataset type with another storage class."""
        return DatasetType(self.name, self.dimensions, storageClass, isCalibration=self._is_calibration)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DatasetType):
            return NotImplemented
        return self.is_compatible_with(other) and self.storageClass_name == other.storageClass_name

    def __lt__(self, other: DatasetType) -> bool:
        return self.name < other.name

    def __hash__(self) -> int:
        return hash((self.name, self.dimensions))

    def __repr__(self) -> str:
        extra = ", isCalibration=True" if self._is_calibration else ""
        return f"DatasetType({self.name!r}, {self.dimensions}, {self.storageClass_name}{extra})"


def split_component(name: str) -> tuple[str, str | None]:
    """Return a dataset type name without its component, and the component or `None`."""
    parent, _, component = name.partition(".")
    return parent, component or None
