"""The refs of one quantum by connection, as ``runQuantum`` gets them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..vocabulary.data_id import DataCoordinate
    from ..vocabulary.dataset import DatasetRef

__all__ = [
    "DeferredDatasetRef",
    "InputQuantizedConnection",
    "OutputQuantizedConnection",
    "QuantizedConnection",
]


@dataclasses.dataclass(frozen=True)
class DeferredDatasetRef:
    """A ref whose dataset the task reads by itself (``deferLoad=True``).

    Parameters
    ----------
    datasetRef : `DatasetRef`
        What the handle will read.
    """

    datasetRef: DatasetRef

    @property
    def dataId(self) -> DataCoordinate:
        """Data ID of the dataset."""
        return self.datasetRef.dataId

    @property
    def datasetType(self) -> Any:
        """Dataset type of the dataset."""
        return self.datasetRef.datasetType


class QuantizedConnection:
    """Refs of one quantum by connection name: attributes, and iteration over (name, ref or list of refs)."""

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def keys(self) -> Collection[str]:
        """Return the connection names."""
        return vars(self).keys()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(vars(self))})"

    def copy(self) -> Self:
        """Return a copy whose attributes can be changed without changing this one."""
        result = type(self)()
        vars(result).update(vars(self))
        return result

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...


class InputQuantizedConnection(QuantizedConnection):
    """Refs of the inputs of one quantum."""


class OutputQuantizedConnection(QuantizedConnection):
    """Refs of the outputs of one quantum."""
