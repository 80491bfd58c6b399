"""Operand: a value in an expression, its kind beside its SQL; and values given as numbers, times, regions."""

from __future__ import annotations

import numbers
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidQueryError
from ..vocabulary.dimension_value import is_text
from ..vocabulary.time_literal import time_of_literal
from ..vocabulary.timespan import Timespan, tai_nanoseconds
from .expression_names import DatasetField, FieldReference, Kind

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Operand:
    """A value: its kind, its SQL (for a timespan two: begin and end) and, if it is one, its constant.

    ``opened`` is the name under which the statement leaves it open, see `OpenValues`.
    """

    kind: Kind
    sql: Any
    constant: Any = None
    reference: FieldReference | DatasetField | None = None
    opened: str | None = None

    @property
    def database_value(self) -> Any:
        """The constant as the database keeps it."""
        if self.kind == "time":
            return self.constant.ns
        return self.constant.bytes if self.kind == "uuid" else self.constant


@dataclass(frozen=True, slots=True)
class TaiInstant:
    """A time as a constant, TAI nanoseconds."""

    ns: int

    def __repr__(self) -> str:
        return "a time"


def constant_operand(value: Any) -> Operand:
    """Return the operand of a Python value.

    Raises
    ------
    InvalidQueryError
        If values of its type cannot be used in expressions.
    """
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return Operand("bool", sa.literal(bool(value)), bool(value))
    if isinstance(value, numbers.Integral):
        if not _MIN_INT <= int(value) <= _MAX_INT:
            raise InvalidQueryError(f"{value} does not fit into 64 bits")
        return Operand("int", sa.literal(int(value), sa.BigInteger), int(value))
    if isinstance(value, numbers.Real):
        return Operand("float", sa.literal(float(value), sa.Double), float(value))
    if isinstance(value, str):
        if "\0" in value or (not value.isascii() and not is_text(value)):
            raise InvalidQueryError(f"{value!r} is no text")
        return Operand("str", sa.literal(str(value), sa.String), str(value))
    if isinstance(value, uuid.UUID):
        return Operand("uuid", sa.literal(value.bytes, sa.LargeBinary), value)
    if isinstance(value, TaiInstant):
        return Operand("time", sa.literal(value.ns, sa.BigInteger), value)
    if isinstance(value, Timespan):
        bounds = (value.begin_ns, value.end_ns)
        return Operand("timespan", tuple(sa.literal(b, sa.BigInteger) for b in bounds), value)
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return constant_operand(TaiInstant(time_of_literal(value.isoformat())))
    module = type(value).__module__
    if module.startswith("astropy.time"):
        return constant_operand(TaiInstant(tai_nanoseconds(value)))
    if module.startswith("astropy.coordinates") and getattr(value, "isscalar", False):
        place = value.icrs
        return Operand("region", None, _point((float(place.ra.deg), float(place.dec.deg))))
    if module.startswith("lsst.sphgeom"):
        return Operand("region", None, _region(value))
    raise InvalidQueryError(f"values of type {type(value).__name__} cannot be used in an expression")


def _region(value: Any) -> Any:
    from lsst.sphgeom import Circle, LonLat, Region, UnitVector3d

    if isinstance(value, Region):
        return value
    if isinstance(value, LonLat):
        value = UnitVector3d(value)
    if isinstance(value, UnitVector3d):
        # A circle of no radius.
        return Circle(value)
    raise InvalidQueryError(f"{type(value).__name__} is not a region")


def _point(values: Sequence[Any]) -> Any:
    from lsst.sphgeom import LonLat

    ra, dec = _numbers(values, 2)
    return _region(LonLat.fromDegrees(ra, dec))


def _circle(values: Sequence[Any]) -> Any:
    from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

    ra, dec, radius = _numbers(values, 3)
    return Circle(UnitVector3d(LonLat.fromDegrees(ra, dec)), Angle.fromDegrees(radius))


def _box(values: Sequence[Any]) -> Any:
    from lsst.sphgeom import Angle, Box, LonLat

    ra, dec, width, height = _numbers(values, 4)
    return Box(LonLat.fromDegrees(ra, dec), Angle.fromDegrees(width / 2), Angle.fromDegrees(height / 2))


def _polygon(values: Sequence[Any]) -> Any:
    from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

    if len(values) < 6 or len(values) % 2:
        raise ValueError("takes three or more pairs of longitude and latitude [deg]")
    numbers = _numbers(values, len(values))
    corners = zip(numbers[::2], numbers[1::2], strict=True)
    return ConvexPolygon.convexHull([UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in corners])


def _ivoa(values: Sequence[Any]) -> Any:
    from lsst.sphgeom import Region

    if len(values) != 1 or not isinstance(values[0], str):
        raise ValueError("takes one string, as 'CIRCLE 12.3 -45.6 0.7'")
    return Region.from_ivoa_pos(values[0])


def _numbers(values: Sequence[Any], count: int) -> list[float]:
    if len(values) != count or not all(isinstance(v, (int, float)) for v in values):
        raise ValueError(f"takes {count} numbers [deg]")
    return [float(v) for v in values]


REGION_FUNCTIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "POINT": _point,
    "CIRCLE": _circle,
    "BOX": _box,
    "POLYGON": _polygon,
    "REGION": _ivoa,
}
"""Functions of the language that give a region, by name; they take numbers [deg]."""
