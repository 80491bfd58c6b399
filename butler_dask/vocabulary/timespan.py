"""Timespan: a half-open range of TAI time, kept as integer nanoseconds since 1970-01-01 TAI.

Integers compare exactly in Python, numpy and SQL alike; `astropy.time.Time` appears only where a user looks,
because importing astropy costs more than a whole command line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from astropy.time import Time

MIN_NS = -(2**62)
"""Stands for "since ever" [ns]."""
MAX_NS = 2**62
"""Stands for "for ever" [ns]."""

_NS_PER_DAY = 86_400_000_000_000
_EPOCH_JD = 2440587.5
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timespan):
            return NotImplemented
        return (self.begin_ns, self.end_ns) == (other.begin_ns, other.end_ns)

    def __lt__(self, other: Timespan) -> bool:
        return (self.begin_ns, self.end_ns) < (other.begin_ns, other.end_ns)

    def __hash__(self) -> int:
        return hash((self.begin_ns, self.end_ns))

    def __str__(self) -> str:
        if self.isEmpty():
            return "(empty)"
        begin, end = self.begin, self.end
        return f"[{'-∞' if begin is None else begin.isot}, {'∞' if end is None else end.isot})"

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
