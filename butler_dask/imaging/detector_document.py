"""Detector document: the detectors of a camera as plain values, as its file and its dataset describe them.

Detectors that are read out alike share a ``detector_types`` entry; each detector is then one row that names
its type and says what is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import did_you_mean
from .detector import Amplifier, Box, Detector

_AMPLIFIER_BOXES = {
    "box": "box",
    "raw": "raw_box",
    "data": "raw_data_box",
    "serial_overscan": "raw_serial_overscan_box",
    "parallel_overscan": "raw_parallel_overscan_box",
    "prescan": "raw_prescan_box",
}
_AMPLIFIER_NUMBERS = ("gain", "read_noise", "saturation")
_DETECTOR_FIELDS = {
    "serial": "serial",
    "purpose": "purpose",
    "raft": "raft",
    "name_in_raft": "name_in_raft",
    "x_mm": "focal_plane_x_mm",
    "y_mm": "focal_plane_y_mm",
    "yaw_deg": "yaw_deg",
    "pixel_size_mm": "pixel_size_mm",
}


def detectors_to_document(detectors: Iterable[Detector]) -> dict[str, Any]:
    """Return the ``detector_types`` and ``detectors`` of a camera's document.

    Parameters
    ----------
    detectors : iterable of `Detector`
        In the order of the rows.
    """
    types: dict[Any, str] = {}
    rows = []
    for detector in detectors:
        key = (detector.shape, detector.raw_shape, detector.amplifiers, _as_tuples(detector.crosstalk))
        row: dict[str, Any] = {"id": detector.id, "name": detector.name}
        row["type"] = types.setdefault(key, f"type{len(types)}")
        row |= {short: getattr(detector, name) for short, name in _DETECTOR_FIELDS.items()}
        rows.append(row)
    return {
        "detector_types": {
            name: {
                "shape": list(shape),
                "raw_shape": list(raw_shape),
                "amplifiers": [_amplifier_to_dict(a) for a in amplifiers],
                **({} if crosstalk is None else {"crosstalk": [list(r) for r in crosstalk]}),
            }
            for (shape, raw_shape, amplifiers, crosstalk), name in types.items()
        },
        "detectors": rows,
    }


def detectors_from_document(document: Mapping[str, Any]) -> tuple[dict[int, Detector], list[str]]:
    """Make the detectors of a camera's document.

    Parameters
    ----------
    document : mapping
        With ``detectors``, ``detector_types`` and perhaps ``detector_defaults``, see `Camera.from_dict`.

    Returns
    -------
    detectors : `dict` [`int`, `Detector`]
        By detector number.
    problems : `list` [`str`]
        What is wrong, each with its detector; empty if all is well.
    """
    detectors: dict[int, Detector] = {}
    problems: list[str] = []
    for row in _detector_rows(document):
        try:
            detector = _detector_from_row(row, document["detector_types"])
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"detector {row.get('id', row)!r}: {error}")
            continue
        if detector.id in detectors:
            problems.append(f"detector {detector.id} is given twice")
        detectors[detector.id] = detector
    if not detectors and not problems:
        problems.append("there are no detectors")
    return detectors, problems


def _as_tuples(matrix: NDArray[np.float64] | None) -> tuple[tuple[float, ...], ...] | None:
    return None if matrix is None else tuple(tuple(float(v) for v in row) for row in matrix)


def _amplifier_to_dict(amplifier: Amplifier) -> dict[str, Any]:
    result: dict[str, Any] = {"name": amplifier.name}
    result |= {short: list(getattr(amplifier, name)) for short, name in _AMPLIFIER_BOXES.items()}
    result |= {name: getattr(amplifier, name) for name in _AMPLIFIER_NUMBERS}
    result |= {"flip_x": amplifier.flip_x, "flip_y": amplifier.flip_y}
    if amplifier.linearity_coefficients:
        result["linearity"] = list(amplifier.linearity_coefficients)
    return result


def _detector_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    defaults = dict(document.get("detector_defaults") or {})
    detectors = document["detectors"]
    if isinstance(detectors, Mapping):
        columns = detectors["columns"]
        return [defaults | dict(zip(columns, row, strict=True)) for row in detectors["rows"]]
    return [defaults | dict(row) for row in detectors]


def _box(value: Any, what: str) -> Box:
    box = tuple(int(v) for v in value)
    if len(box) != 4:
        raise ValueError(f"{what} is [x0, y0, width, height], not {value!r}")
    return box[0], box[1], box[2], box[3]


def _detector_from_row(row: Mapping[str, Any], types: Mapping[str, Any]) -> Detector:
    type_name = row.get("type") or next(iter(types))
    if type_name not in types:
        raise KeyError(f"no detector type {type_name!r}.{did_you_mean(str(type_name), types)}")
    kind = types[type_name]
    amplifiers = []
    for i, entry in enumerate(kind["amplifiers"]):
        boxes = {
            name: _box(entry[short], f"{short} of amplifier {entry.get('name')!r}")
            for short, name in _AMPLIFIER_BOXES.items()
            if short in entry
        }
        numbers = {}
        for name in _AMPLIFIER_NUMBERS:
            value = row.get(name, entry.get(name, kind.get(name)))
            if isinstance(value, (list, tuple)):
                if len(value) != len(kind["amplifiers"]):
                    raise ValueError(f"{name} {value!r} has not one number an amplifier")
                value = value[i]
            if value is not None:
                numbers[name] = float(value)
        amplifiers.append(
            Amplifier(
                name=str(entry["name"]),
                flip_x=bool(entry.get("flip_x", False)),
                flip_y=bool(entry.get("flip_y", False)),
                linearity_coefficients=tuple(float(c) for c in entry.get("linearity", ())),
                **numbers,  # type: ignore[arg-type]  # fields by name
                **boxes,  # type: ignore[arg-type]  # fields by name
            )
        )
    crosstalk = row.get("crosstalk", kind.get("crosstalk"))
    optional = {
        name: (float(row[short]) if short.endswith(("_mm", "_deg")) else str(row[short]))
        for short, name in _DETECTOR_FIELDS.items()
        if short in row
    }
    ny, nx = (int(n) for n in kind["shape"])
    raw_ny, raw_nx = (int(n) for n in kind["raw_shape"])
    return Detector(
        id=int(row["id"]),
        name=str(row["name"]),
        shape=(ny, nx),
        raw_shape=(raw_ny, raw_nx),
        amplifiers=tuple(amplifiers),
        crosstalk=None if crosstalk is None else np.array(crosstalk, dtype=np.float64),
        **optional,  # type: ignore[arg-type]  # fields by name
    )
