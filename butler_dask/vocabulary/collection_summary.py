"""CollectionSummary: which dataset types, instruments and skymaps are in a collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from .dataset_type import DatasetType


class DatasetTypeSet(Set[DatasetType]):
    """Dataset types in order of their names; found, and contained, by name too.

    Parameters
    ----------
    dataset_types : iterable of `DatasetType`
        The types.
    """

    __slots__ = ("_by_name",)

    def __init__(self, dataset_types: Iterable[DatasetType] = ()) -> None:
        self._by_name = {t.name: t for t in sorted(dataset_types)}

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> Any:
        return cls(it)

    @property
    def names(self) -> Set[str]:
        """Names of the types."""
        return self._by_name.keys()

    def __getitem__(self, name: str) -> DatasetType:
        return self._by_name[name]

    def __contains__(self, item: object) -> bool:
        if isinstance(item, DatasetType):
            return self._by_name.get(item.name) == item
        return item in self._by_name

    def __iter__(self) -> Iterator[DatasetType]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self)) + "}"


@dataclass(frozen=True, slots=True)
class CollectionSummary:
    """What is in a collection, as far as its datasets were counted in; removals may leave it too large.

    Parameters
    ----------
    dataset_types : `DatasetTypeSet`
        Types of the datasets.
    governors : mapping of `str` to `~collections.abc.Set` [`str`]
        Instruments and skymaps of the datasets, by dimension name.
    """

    dataset_types: DatasetTypeSet = field(default_factory=DatasetTypeSet)
    governors: Mapping[str, Set[str]] = field(default_factory=dict)
