"""DeferredDatasetHandle: a dataset that is read when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef


class DatasetSource(Protocol):
    """What a handle reads from: either butler."""

    def get(
        self, ref: Any, /, *, parameters: Mapping[str, Any] | None = None, storageClass: Any = None
    ) -> Any:
        """Read a dataset."""
        ...


@dataclass(frozen=True, slots=True)
class DeferredDatasetHandle:
    """A dataset that is read when asked for, whole or in part, as often as asked.

    Parameters
    ----------
    butler : `DatasetSource`
        Where it is read from.
    ref : `DatasetRef`
        The dataset (or component).
    parameters : mapping, optional
        Parameters of every reading.
    storageClass : `str`, optional
        Kind of object wanted.
    """

    butler: DatasetSource
    ref: DatasetRef
    parameters: Mapping[str, Any] | None = None
    storageClass: Any = None

    @property
    def dataId(self) -> DataCoordinate:
        """Data ID of the dataset."""
        return self.ref.dataId

    def get(
        self,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storageClass: Any = None,
    ) -> Any:
        """Read the dataset.

        Parameters
        ----------
        component : `str`, optional
            Part to read.
        parameters : mapping, optional
            Parameters, which win over those of the handle.
        storageClass : `str` or `StorageClass`, optional
            Kind of object wanted.
        """
        ref = self.ref if component is None else self.ref.makeComponentRef(component)
        wanted = storageClass or (self.storageClass if component is None else None)
        merged = {**(self.parameters or {}), **(parameters or {})}
        return self.butler.get(ref, parameters=merged or None, storageClass=wanted)
