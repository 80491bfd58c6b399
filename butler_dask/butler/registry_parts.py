"""RegistryParts: what each group of the reference's registry methods works with; how it reads arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from ..vocabulary.collection import CollectionType, NamesExpression
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dimensions import DimensionUniverse

if TYPE_CHECKING:
    from ..registry.registry import Registry
    from ..vocabulary.dataset_type import DatasetType
    from ..vocabulary.search_defaults import SearchDefaults
    from .dataset_finder import DatasetFinder

DataIdArgument = DataCoordinate | Mapping[str, Any] | None
CollectionArgument = NamesExpression | None


class RegistryParts:
    """A registry, and one user's defaults.

    The groups of methods (`RegistryDefinitions`, `RegistryRecords`, `RegistryDatasets`) derive from it, and
    `ButlerRegistry` from these, side by side.
    """

    _registry: Registry
    _defaults: SearchDefaults
    _finder: DatasetFinder

    @property
    def dimensions(self) -> DimensionUniverse:
        """The dimension universe."""
        return DimensionUniverse()


def name_of(dataset_type: DatasetType | str) -> str:
    """Return the name of a dataset type, given by it or by itself."""
    return dataset_type if isinstance(dataset_type, str) else dataset_type.name


def mapping_of(data_id: DataIdArgument) -> Mapping[str, Any]:
    """Return the values of a data ID, however given."""
    if data_id is None:
        return {}
    return data_id.mapping if isinstance(data_id, DataCoordinate) else data_id


def types_of(
    types: CollectionType | Iterable[CollectionType] | None,
) -> Collection[CollectionType] | None:
    """Return collection types as a set, `None` for all of them."""
    if types is None or isinstance(types, EllipsisType):
        return None
    return CollectionType.set_of(types)
