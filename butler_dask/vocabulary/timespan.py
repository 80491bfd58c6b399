"""Timespan: a half-open range of TAI time, kept as integer nanoseconds since 1970-01-01 TAI.

Integers compare exactly in Python, numpy and SQL alike; `astropy.time.Time` appears only where a user looks,
because importing astropy costs more than a whole command line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from astropy.time import Time

MIN_NS = -(2**62)
"""Stands for "since ever" [ns]."""
MAX_NS = 2**62
"""Stands for "for ever" [ns]."""

_NS_PER_DAY = 86_400_000_000_000
_EPOCH_JD = 2440587.5
_SIMPLE_MAX = 4_102_444_800_000_000_000
"""2100-01-01 TAI: what the reference writes for "for ever" [ns]."""
# TAI is ahead of UTC by this much since 2017; no further leap second has been announced.
_TAI_MINUS_UTC_NS = 37_000_000_000


def tai_now_ns() -> int:
    """Return the present time as integer nanoseconds since 1970-01-01T00:00:00 TAI."""
    return time.time_ns() + _TAI_MINUS_UTC_NS


def tai_nanoseconds(time: Time) -> int:
    """Return a time as integer nanoseconds since 1970-01-01T00:00:00 TAI."""
    tai = time.tai
    # jd1 is a whole or half day, so the large part is exact in integers.
    days = float(tai.jd1) - _EPOCH_JD
    return round(days * 2) * (_NS_PER_DAY // 2) + round(float(tai.jd2) * _NS_PER_DAY)


def time_of_tai_nanoseconds(ns: int) -> Time:
    """Return the `astropy.time.Time` (TAI) of nanoseconds since 1970-01-01T00:00:00 TAI."""
    from astropy.time import Time

    days, rest = divmod(int(ns), _NS_PER_DAY)
    return Time(_EPOCH_JD + days, rest / _NS_PER_DAY, format="jd", scale="tai")


class Timespan:
    """A half-open time range [begin, end).

    Parameters
    ----------
    begin, end : `astropy.time.Time`, `int` (TAI nanoseconds) or `None`
        Bounds; `None` is unbounded. A range with end <= begin is empty.
    """

    __slots__ = ("begin_ns", "end_ns")
    EMPTY: ClassVar[Timespan]

    def __init__(self, begin: Time | int | None = None, end: Time | int | None = None) -> None:
        self.begin_ns: int = MIN_NS if begin is None else _nanoseconds(begin)
        self.end_ns: int = MAX_NS if end is None else _nanoseconds(end)
        if self.end_ns <= self.begin_ns:
            self.begin_ns, self.end_ns = MAX_NS, MIN_NS

    @classmethod
    def makeEmpty(cls) -> Timespan:
        """Return the empty timespan."""
        return cls(MAX_NS, MIN_NS)

    @classmethod
    def fromInstant(cls, time: Time | int) -> Timespan:
        """Return the timespan that holds one time only: one nanosecond from it."""
        begin = _nanoseconds(time)
        return cls(begin, begin + 1)

    @classmethod
    def from_day_obs(cls, day_obs: int, offset: int = 0) -> Timespan:
        """Return the day of observation ``YYYYMMDD``, TAI.

        Parameters
        ----------
        day_obs : `int`
            Year, month and day.
        offset : `int`
            Where the day begins [s after 0 h TAI].

        Raises
        ------
        ValueError
            If there is no such day.
        """
        day = datetime.strptime(str(day_obs), "%Y%m%d").replace(tzinfo=UTC)
        begin = (int(day.timestamp()) + offset) * 1_000_000_000
        return cls(begin, begin + _NS_PER_DAY)

    @property
    def nsec(self) -> tuple[int, int]:
        """Begin and end as the reference counts them: nanoseconds since 1970 TAI, cut to 1970 - 2100."""
        return self.to_simple()

    def to_simple(self, minimal: bool = False) -> tuple[int, int]:
        """Return `nsec`; `from_simple` reads it."""
        if self.isEmpty():
            return _SIMPLE_MAX, 0
        return max(self.begin_ns, 0), min(self.end_ns, _SIMPLE_MAX)

    @classmethod
    def from_simple(cls, simple: Sequence[int], universe: Any = None, registry: Any = None) -> Timespan:
        """Make from what `to_simple` returned, here or in the reference."""
        begin, end = simple
        return cls(MIN_NS if begin <= 0 else begin, MAX_NS if end >= _SIMPLE_MAX else end)

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON."""
        return json.dumps(self.to_simple(), separators=(",", ":"))

    @classmethod
    def from_json(cls, json_str: str | bytes, universe: Any = None, registry: Any = None) -> Timespan:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str))

    @property
    def begin(self) -> Time | None:
        """Begin, or `None` if unbounded (or empty)."""
        return None if self.begin_ns in (MIN_NS, MAX_NS) else time_of_tai_nanoseconds(self.begin_ns)

    @property
    def end(self) -> Time | None:
        """End (excluded), or `None` if unbounded (or empty)."""
        return None if self.end_ns in (MIN_NS, MAX_NS) else time_of_tai_nanoseconds(self.end_ns)

    def isEmpty(self) -> bool:
        """Return whether no time is inside."""
        return self.end_ns <= self.begin_ns

    def overlaps(self, other: Timespan | Time) -> bool:
        """Return whether the two share any time."""
        if not isinstance(other, Timespan):
            return self.contains(other)
        if self.isEmpty() or other.isEmpty():
            return False
        return self.begin_ns < other.end_ns and other.begin_ns < self.end_ns

    def contains(self, other: Timespan | Time) -> bool:
        """Return whether a time, or every time of another timespan, is inside."""
        if isinstance(other, Timespan):
            return other.isEmpty() or (self.begin_ns <= other.begin_ns and other.end_ns <= self.end_ns)
        return self.begin_ns <= _nanoseconds(other) < self.end_ns

    def intersection(self, *others: Timespan) -> Timespan:
        """Return the time that is in all."""
        every = (self, *others)
        return Timespan(max(t.begin_ns for t in every), min(t.end_ns for t in every))

    def difference(self, other: Timespan) -> list[Timespan]:
        """Return what remains of this one when the other is cut out: none, one or two timespans."""
        if self.isEmpty() or not self.overlaps(other):
            return [] if self.isEmpty() else [self]
        parts = [Timespan(self.begin_ns, other.begin_ns), Timespan(other.end_ns, self.end_ns)]
        return [p for p in parts if not p.isEmpty()]

    __contains__ = contains

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timespan):
            return NotImplemented
        return (self.begin_ns, self.end_ns) == (other.begin_ns, other.end_ns)

    def __lt__(self, other: Timespan | Time) -> bool:
        """Return whether all of this is before the other; an empty timespan is before nothing."""
        if not isinstance(other, Timespan):
            return not self.isEmpty() and self.end_ns <= _nanoseconds(other)
        return not (self.isEmpty() or other.isEmpty()) and self.end_ns <= other.begin_ns

    def __gt__(self, other: Timespan | Time) -> bool:
        if not isinstance(other, Timespan):
            return not self.isEmpty() and self.begin_ns > _nanoseconds(other)
        return other < self

    def __hash__(self) -> int:
        return hash((self.begin_ns, self.end_ns))

    def __str__(self) -> str:
        if self.isEmpty():
            return "(empty)"
        begin, end = self.begin, self.end
        return (
            f"{'(-∞' if begin is None else '[' + begin.isot.removesuffix('.000')}, "
            f"{'∞' if end is None else end.isot.removesuffix('.000')})"
        )

    def __repr__(self) -> str:
        if self.isEmpty():
            return "Timespan.makeEmpty()"
        begin, end = (None if t is None else t.isot for t in (self.begin, self.end))
        return f"Timespan({begin!r}, {end!r})"

    def __reduce__(self) -> tuple[type[Timespan], tuple[int, int]]:
        return Timespan, (self.begin_ns, self.end_ns)


def _nanoseconds(value: Time | int) -> int:
    return value if isinstance(value, int) else tai_nanoseconds(value)


Timespan.EMPTY = Timespan.makeEmpty()
