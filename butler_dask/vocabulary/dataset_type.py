"""DatasetType: a name, the dimensions of its data IDs, and the storage class of its objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import DatasetTypeError, DatasetTypeExpressionError, UnknownComponentError, did_you_mean
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
    parentStorageClass : `StorageClass` or `str`, optional
        Kind of object this is a part of.
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

    __slots__ = ("_is_calibration", "_parent_storage_class", "dimensions", "name", "storageClass_name")

    def __init__(
        self,
        name: str,
        dimensions: DimensionGroup | Iterable[str],
        storageClass: StorageClass | str,
        parentStorageClass: StorageClass | str | None = None,
        *,
        universe: DimensionUniverse | None = None,
        isCalibration: bool = False,
    ) -> None:
        self.name = check_dataset_type_name(name)
        self.dimensions = (universe or DimensionUniverse()).conform(dimensions)
        self.storageClass_name: str = (
            storageClass.name if isinstance(storageClass, StorageClass) else storageClass
        )
        if not isinstance(self.storageClass_name, str):
            raise DatasetTypeError(
                f"The storage class of dataset type {name!r} is {self.storageClass_name!r}, which is no name"
            )
        self._parent_storage_class: str | None = (
            parentStorageClass.name if isinstance(parentStorageClass, StorageClass) else parentStorageClass
        )
        self._is_calibration = isCalibration
        if isCalibration and "instrument" not in self.dimensions:
            raise DatasetTypeError(f"Calibration dataset type {name!r} needs the dimension 'instrument'")

    @property
    def storageClass(self) -> StorageClass:
        """Kind of Python object."""
        return find_storage_class(self.storageClass_name)

    @staticmethod
    def nameWithComponent(datasetTypeName: str, componentName: str) -> str:
        """Return the name of a part of a dataset type."""
        return f"{datasetTypeName}.{componentName}"

    @staticmethod
    def splitDatasetTypeName(datasetTypeName: str) -> tuple[str, str | None]:
        """Return a dataset type name without its component, and the component or `None`."""
        return split_component(datasetTypeName)

    def isComposite(self) -> bool:
        """Return whether its objects have parts that are always written and read with it."""
        return self.storageClass.isComposite()

    def componentTypeName(self, component: str) -> str:
        """Return the name of a part.

        Raises
        ------
        UnknownComponentError
            If objects of this kind have no such part; the nearest match is named.
        """
        return self.makeComponentDatasetType(component).name

    def makeAllComponentDatasetTypes(self) -> list[DatasetType]:
        """Return the dataset types of all parts."""
        if self.isComponent():
            return []
        return [self.makeComponentDatasetType(c) for c in sorted(self.storageClass.components)]

    def makeCompositeDatasetType(self) -> DatasetType:
        """Return the dataset type this is a part of.

        Raises
        ------
        DatasetTypeError
            If it is no part, or what it is a part of is not known.
        """
        if self._parent_storage_class is None:
            raise DatasetTypeError(f"{self.name!r} is not a part made by `makeComponentDatasetType`")
        return DatasetType(
            self.nameAndComponent()[0],
            self.dimensions,
            self._parent_storage_class,
            isCalibration=self._is_calibration,
        )

    @property
    def parentStorageClass(self) -> StorageClass | None:
        """Kind of object this is a part of, `None` if it is no part."""
        name = self._parent_storage_class
        return None if name is None else find_storage_class(name)

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
        UnknownComponentError
            If objects of this kind have no such part; the nearest match is named.
        """
        parts = self.storageClass.components
        if component not in parts:
            raise UnknownComponentError(
                f"Dataset type {self.name!r} ({self.storageClass_name}) has no component {component!r}."
                f"{did_you_mean(component, parts)}"
            )
        return DatasetType(
            self.nameWithComponent(self.name, component),
            self.dimensions,
            parts[component],
            parentStorageClass=self.storageClass_name,
            isCalibration=self._is_calibration,
        )

    def is_compatible_with(self, other: DatasetType) -> bool:
        """Return whether both name the same datasets, and objects of the other can be had as of this."""
        return self._same_datasets(other) and (
            self.storageClass_name == other.storageClass_name
            or self.storageClass.can_convert(other.storageClass)
        )

    def _same_datasets(self, other: DatasetType) -> bool:
        return (
            self.name == other.name
            and self.dimensions == other.dimensions
            and self._is_calibration == other._is_calibration
        )

    def overrideStorageClass(self, storageClass: StorageClass | str) -> DatasetType:
        """Return the same dataset type with another storage class."""
        return DatasetType(
            self.name,
            self.dimensions,
            storageClass,
            parentStorageClass=self._parent_storage_class,
            isCalibration=self._is_calibration,
        )

    def to_simple(self, minimal: bool = False) -> dict[str, Any]:
        """Return a plain dictionary; `from_simple` reads it."""
        simple: dict[str, Any] = {"name": self.name}
        if not minimal:
            simple["storageClass"] = self.storageClass_name
            simple["dimensions"] = list(self.dimensions.required)
            if self._parent_storage_class is not None:
                simple["parentStorageClass"] = self._parent_storage_class
            if self._is_calibration:
                simple["isCalibration"] = True
        return simple

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON, in the reference's form."""
        return json.dumps(self.to_simple(minimal), separators=(",", ":"))

    @classmethod
    def from_simple(
        cls, simple: Mapping[str, Any], universe: DimensionUniverse | None = None, registry: Any = None
    ) -> DatasetType:
        """Make from what `to_simple` returned; a name alone is looked up in the registry.

        Raises
        ------
        DatasetTypeError
            If there is a name only, and no registry.
        """
        if simple.get("storageClass") is None:
            if registry is None:
                raise DatasetTypeError(f"Only the name of {simple['name']!r} is there; give a registry.")
            found: DatasetType = registry.getDatasetType(simple["name"])
            return found
        return cls(
            simple["name"],
            simple["dimensions"],
            simple["storageClass"],
            parentStorageClass=simple.get("parentStorageClass"),
            isCalibration=bool(simple.get("isCalibration", False)),
        )

    @classmethod
    def from_json(
        cls, json_str: str | bytes, universe: DimensionUniverse | None = None, registry: Any = None
    ) -> DatasetType:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str), universe, registry)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DatasetType):
            return NotImplemented
        return self._same_datasets(other) and self.storageClass_name == other.storageClass_name

    def __lt__(self, other: DatasetType) -> bool:
        return self.name < other.name

    def __hash__(self) -> int:
        return hash((self.name, self.dimensions))

    def __repr__(self) -> str:
        extra = ", isCalibration=True" if self._is_calibration else ""
        return f"DatasetType({self.name!r}, {self.dimensions}, {self.storageClass_name}{extra})"


def check_dataset_type_name(name: str) -> str:
    """Return the name if a dataset type, or a part of one, may be called so.

    Raises
    ------
    DatasetTypeExpressionError
        If it has other characters, or more than one part.
    """
    if not _NAME.fullmatch(name):
        raise DatasetTypeExpressionError(
            f"{name!r} is not a dataset type name: letters, digits and '_', starting with a letter."
        )
    return name


def split_component(name: str) -> tuple[str, str | None]:
    """Return a dataset type name without its component, and the component or `None`."""
    parent, _, component = name.partition(".")
    return parent, component or None
