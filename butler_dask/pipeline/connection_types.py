"""The kinds of connection between a task and datasets, imported as ``cT`` by task authors.

::

    from butler_dask.pipeline import connectionTypes as cT

    class IsrConnections(PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
        ccdExposure = cT.Input(doc="Raw image.", name="raw", storageClass="Exposure",
                               dimensions=("instrument", "exposure", "detector"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, TypeAlias

__all__ = [
    "BaseConnection",
    "BaseInput",
    "DimensionedConnection",
    "InitInput",
    "InitOutput",
    "Input",
    "LookupFunction",
    "Output",
    "PrerequisiteInput",
]

LookupFunction: TypeAlias = Callable[[Any, Any, Any, Any], Iterable[Any]]
"""``lookup(dataset_type, registry, data_id, collections)`` -> refs of a prerequisite input."""


@dataclass(frozen=True)
class BaseConnection:
    """What all connections have.

    Parameters
    ----------
    name : `str`
        Dataset type name, which may hold templates (``"{coaddName}Coadd"``); an input may name a component
        (``"calexp.wcs"``).
    storageClass : `str`
        Name of the storage class the task sees.
    doc : `str`, optional
        What the dataset is to the task.
    multiple : `bool`, optional
        Whether one quantum has several of them (then a list is passed).
    deprecated : `str`, optional
        Why and until when it is still there.
    """

    name: str
    storageClass: str
    doc: str = ""
    multiple: bool = False
    _: KW_ONLY
    deprecated: str | None = None
    varName: str = field(default="", init=False, compare=False)
    """The attribute of the connections class, set when the class is made."""

    _kind: ClassVar[str] = ""


@dataclass(frozen=True)
class DimensionedConnection(BaseConnection):
    """A connection to datasets that have data IDs.

    Parameters
    ----------
    dimensions : iterable of `str`
        Dimensions of the dataset type. ``skypix`` stands for the sky pixelization that the dataset type is
        registered with.
    isCalibration : `bool`, optional
        Whether the datasets have validity ranges.
    """

    dimensions: Iterable[str] = ()
    isCalibration: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dimensions, str):
            raise TypeError(
                f"Connection {self.name!r}: dimensions are a tuple of names, "
                f"not one string {self.dimensions!r}"
            )
        object.__setattr__(self, "dimensions", frozenset(self.dimensions))


@dataclass(frozen=True)
class BaseInput(DimensionedConnection):
    """A connection to datasets read by a quantum.

    Parameters
    ----------
    deferLoad : `bool`, optional
        Pass handles that read when asked (``handle.get(...)``) instead of objects.
    minimum : `int`, optional
        The least number of datasets a quantum needs; 0 makes the input optional.
    """

    deferLoad: bool = False
    minimum: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum < 0 or (self.minimum > 1 and not self.multiple):
            raise ValueError(
                f"Connection {self.name!r}: minimum={self.minimum} does not go with multiple={self.multiple}"
            )


@dataclass(frozen=True)
class Input(BaseInput):
    """Datasets whose existence decides which quanta there are.

    Parameters
    ----------
    deferGraphConstraint : `bool`, optional
        Leave this input out of the query that finds data IDs; it only prunes afterwards.
    """

    deferGraphConstraint: bool = False
    _kind: ClassVar[str] = "inputs"


@dataclass(frozen=True)
class PrerequisiteInput(BaseInput):
    """Datasets that must exist before the graph is built: calibrations, reference catalogues, sky maps.

    Parameters
    ----------
    lookupFunction : callable, optional
        ``lookup(dataset_type, registry, data_id, collections)`` -> iterable of refs, where the usual search
        (same dimensions, overlap in time and on the sky) is not what is wanted.
    """

    lookupFunction: LookupFunction | None = None
    _kind: ClassVar[str] = "prerequisiteInputs"


@dataclass(frozen=True)
class Output(DimensionedConnection):
    """Datasets written by a quantum."""

    _kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "." in self.name:
            raise ValueError(f"Connection {self.name!r}: a component cannot be written on its own")


@dataclass(frozen=True)
class InitInput(BaseConnection):
    """A dataset without dimensions read when the task is constructed (``initInputs``)."""

    _kind: ClassVar[str] = "initInputs"


@dataclass(frozen=True)
class InitOutput(BaseConnection):
    """A dataset without dimensions written once a run, from the task's attribute of the same name."""

    _kind: ClassVar[str] = "initOutputs"
