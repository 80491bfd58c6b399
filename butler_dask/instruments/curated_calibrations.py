"""Curated calibrations: what a camera file knows of its detectors, as datasets that are always valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import did_you_mean
from ..imaging.camera import Camera
from ..imaging.defects import defects_table
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.timespan import Timespan
from .instrument import Instrument

if TYPE_CHECKING:
    from ..butler.butler import Butler
    from ..vocabulary.dataset import DatasetRef

_CURATED_TYPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "camera": ("Camera", ("instrument",)),
    "defects": ("Defects", ("instrument", "detector")),
    "linearizer": ("StructuredDataDict", ("instrument", "detector")),
    "crosstalk": ("StructuredDataDict", ("instrument", "detector")),
    "bfKernel": ("NumpyArray", ("instrument", "detector")),
}
"""Storage class and dimensions by dataset type."""


def write_curated_calibrations(butler: Butler, instrument: Instrument) -> list[DatasetRef]:
    """Write the camera and the calibrations its file carries, valid at all times.

    They go to ``<NAME>/calib/unbounded`` and are certified in ``<NAME>/calib``; what is there already is left
    alone, so the call may be repeated.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing, with the instrument registered.
    instrument : `Instrument`
        Whose calibrations.

    Returns
    -------
    refs : `list` [`DatasetRef`]
        The datasets written now.
    """
    camera = instrument.getCamera()
    name = instrument.getName()
    run = instrument.makeUnboundedCalibrationRunName()
    collection = instrument.makeCalibrationCollectionName()
    butler.collections.register(collection, CollectionType.CALIBRATION)
    butler.collections.register(run, CollectionType.RUN)
    always = Timespan(None, None)
    written = []
    for dataset_type, items in curated_datasets(camera).items():
        storage_class, dimensions = _CURATED_TYPES[dataset_type]
        definition = DatasetType(
            dataset_type, dimensions, storage_class, universe=butler.dimensions, isCalibration=True
        )
        butler.registry.registerDatasetType(definition)
        refs = []
        for detector, value in items.items():
            data_id = {"instrument": name} | ({} if detector is None else {"detector": detector})
            if butler.find_dataset(definition, data_id, collections=[run]) is None:
                refs.append(butler.put(value, definition, data_id, run=run))
        if refs:
            butler.registry.certify(collection, refs, always)
        written += refs
    return written


def curated_datasets(camera: Camera) -> dict[str, dict[int | None, Any]]:
    """Return the calibrations a camera carries, ready to be stored.

    Parameters
    ----------
    camera : `Camera`
        Detectors with crosstalk matrices and linearity coefficients, and ``curated`` entries.

    Returns
    -------
    datasets : `dict`
        By dataset type, then detector number (None for the camera itself).
    """
    result: dict[str, dict[int | None, Any]] = {"camera": {None: camera}}
    for detector in camera:
        names = [a.name for a in detector.amplifiers]
        if detector.crosstalk is not None:
            result.setdefault("crosstalk", {})[detector.id] = {
                "amplifiers": names,
                "coefficients": detector.crosstalk.tolist(),
            }
        if any(a.linearity_coefficients for a in detector.amplifiers):
            result.setdefault("linearizer", {})[detector.id] = {
                "amplifiers": {a.name: list(a.linearity_coefficients) for a in detector.amplifiers}
            }
    for kind, by_detector in camera.curated.items():
        if kind not in _CURATED_TYPES or kind == "camera":
            raise ValueError(
                f"Camera {camera.name!r} carries curated calibrations of unknown type {kind!r}."
                f"{did_you_mean(kind, _CURATED_TYPES)}"
            )
        for number, value in by_detector.items():
            if kind == "bfKernel":
                value = np.array(value, dtype=np.float64)
            elif kind == "defects":
                value = defects_table(value)
            result.setdefault(kind, {})[number] = value
    return result
