"""Datasets of the tasks that combine raws to bias, dark and flat frames."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..pipeline import NoWorkFound, PipelineTaskConnections, connectionTypes as cT


def _raws() -> Any:
    return cT.Input(
        doc="Raw exposures; those of another observation type are left out.",
        name="raw",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )


def _calibration(name: str, doc: str, dimensions: tuple[str, ...] = ("instrument", "detector")) -> Any:
    return cT.PrerequisiteInput(
        doc=doc, name=name, storageClass="ExposureF", dimensions=dimensions, isCalibration=True
    )


def _product(name: str, doc: str, dimensions: tuple[str, ...] = ("instrument", "detector")) -> Any:
    return cT.Output(doc=doc, name=name, storageClass="ExposureF", dimensions=dimensions, isCalibration=True)


def _camera() -> Any:
    return cT.PrerequisiteInput(
        doc="Camera geometry.",
        name="camera",
        storageClass="Camera",
        dimensions=("instrument",),
        isCalibration=True,
    )


def _of_type(refs: Collection[Any], observation_type: str) -> list[Any]:
    """Return the raws of one observation type, as far as their data IDs carry exposure records."""
    kept = []
    for ref in refs:
        records = ref.dataId.records if ref.dataId.hasRecords() else {}
        record = records["exposure"] if records else None
        if record is None or record.observation_type == observation_type:
            kept.append(ref)
    return kept


class CpBiasConnections(PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Datasets of `CpBiasTask`."""

    raws = _raws()
    camera = _camera()
    outputExposure = _product("bias", "Combined bias [ADU].")

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no bias exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


class CpDarkConnections(PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Datasets of `CpDarkTask`."""

    raws = _raws()
    camera = _camera()
    bias = _calibration("bias", "Combined bias [ADU].")
    outputExposure = _product("dark", "Combined dark [electrons in 1 s].")

    def __init__(self, *, config: Any = None) -> None:
        if not config.doBias:
            del self.bias

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no dark exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


class CpFlatConnections(PipelineTaskConnections, dimensions=("instrument", "physical_filter", "detector")):
    """Datasets of `CpFlatTask`."""

    raws = _raws()
    camera = _camera()
    bias = _calibration("bias", "Combined bias [ADU].")
    dark = _calibration("dark", "Combined dark [electrons in its dark time].")
    outputExposure = _product("flat", "Combined flat, mean 1.", ("instrument", "physical_filter", "detector"))

    def __init__(self, *, config: Any = None) -> None:
        if not config.doBias:
            del self.bias
        if not config.doDark:
            del self.dark

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave out raws that are no flat exposures."""
        return _adjust(self, inputs, outputs, label, data_id)


def _adjust(connections: Any, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
    """Leave out raws of another observation type; without any left there is no work."""
    wanted = connections.config.observationType
    connection, refs = inputs["raws"]
    kept = _of_type(refs, wanted)
    if not kept:
        raise NoWorkFound(f"{label}: none of {len(refs)} raws of {data_id} is a {wanted!r} exposure")
    changed = {} if len(kept) == len(refs) else {"raws": (connection, kept)}
    PipelineTaskConnections.adjustQuantum(connections, {**inputs, **changed}, outputs, label, data_id)
    return changed, {}
