"""DatasetExistence: how far a dataset exists."""

from __future__ import annotations

import enum


class DatasetExistence(enum.Flag):
    """Where a dataset is known; true when it can be read."""

    UNRECOGNIZED = 0
    """Nowhere."""
    RECORDED = enum.auto()
    """In the registry."""
    DATASTORE = enum.auto()
    """A file is recorded for it."""
    _ARTIFACT = enum.auto()
    """Its file was looked for and is there."""
    _ASSUMED = enum.auto()
    """Its file was not looked for."""
    VERIFIED = RECORDED | DATASTORE | _ARTIFACT
    """Everywhere, the file looked for."""
    KNOWN = RECORDED | DATASTORE | _ASSUMED
    """Everywhere, the file not looked for."""

    def __bool__(self) -> bool:
        return all(flag in self for flag in (self.RECORDED, self.DATASTORE)) and (
            DatasetExistence._ARTIFACT in self or DatasetExistence._ASSUMED in self
        )
