"""ChainChange: one change of a CHAINED collection, as the registry remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .timespan import time_of_tai_nanoseconds

if TYPE_CHECKING:
    from astropy.time import Time


@dataclass(frozen=True, slots=True)
class ChainChange:
    """One change of a CHAINED collection.

    Parameters
    ----------
    chain : `str`
        Name of the chain.
    changed_ns : `int`
        When [TAI ns].
    who : `str`
        User and host, ``user@host``; empty where it was not recorded (before schema version 2).
    command : `str`
        Program and its arguments; empty where it was not recorded.
    mode : `str`
        ``register``, ``redefine``, ``extend``, ``prepend``, ``remove``, ``undo``, or ``delete`` when the
        chain itself was removed.
    before, after : `tuple` [`str`, ...]
        Members before and after, in search order.
    """

    chain: str
    changed_ns: int
    who: str
    command: str
    mode: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def time(self) -> Time:
        """When, as `astropy.time.Time` (TAI)."""
        return time_of_tai_nanoseconds(self.changed_ns)

    @property
    def isot(self) -> str:
        """When, as ISO-8601 text (TAI) to the millisecond; made without astropy."""
        when = datetime(1970, 1, 1) + timedelta(milliseconds=(self.changed_ns + 500_000) // 1_000_000)
        return when.isoformat(timespec="milliseconds")

    @property
    def added(self) -> tuple[str, ...]:
        """Members that came, in search order."""
        return tuple(c for c in self.after if c not in self.before)

    @property
    def removed(self) -> tuple[str, ...]:
        """Members that went, in search order."""
        return tuple(c for c in self.before if c not in self.after)
