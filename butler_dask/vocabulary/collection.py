"""CollectionType, CollectionInfo, the rules for collection names, and globs over them."""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import CollectionTypeError, InvalidQueryError, did_you_mean


class CollectionType(enum.IntEnum):
    """How a collection holds datasets."""

    RUN = 1
    """Every dataset belongs to exactly one RUN, from its beginning to its end."""
    TAGGED = 2
    """Any datasets, one of each type and data ID."""
    CHAINED = 3
    """An ordered list of collections to search."""
    CALIBRATION = 4
    """Any datasets, each for a range of time."""

    @classmethod
    def all(cls) -> frozenset[CollectionType]:
        """Return all types."""
        return frozenset(cls)

    @classmethod
    def from_name(cls, name: str) -> CollectionType:
        """Return the type of a name, letter case aside.

        Raises
        ------
        CollectionTypeError
            If there is none; the nearest match is named.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            names = [t.name for t in cls]
            raise CollectionTypeError(
                f"No collection type {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}."
            ) from None

    @classmethod
    def from_names(cls, names: Iterable[str] | None) -> frozenset[CollectionType]:
        """Return the types of some names, all without any.

        Raises
        ------
        CollectionTypeError
            If there is no such type; the nearest match is named.
        """
        return frozenset(cls) if names is None else frozenset(map(cls.from_name, names))


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What is known of one collection.

    Parameters
    ----------
    name : `str`
        Its name.
    type : `CollectionType`
        Its type.
    doc : `str`
        Documentation.
    children : `tuple` [`str`, ...]
        Members of a CHAINED collection, in search order.
    parents : `frozenset` [`str`] or `None`
        Chains it is in, where asked for.
    dataset_types : `frozenset` [`str`] or `None`
        Names of the dataset types in it, where asked for.
    """

    name: str
    type: CollectionType
    doc: str = ""
    children: tuple[str, ...] = ()
    parents: frozenset[str] | None = None
    dataset_types: frozenset[str] | None = None


_NAME = re.compile(r"[^\s*?\[\],]+")


def check_collection_name(name: str) -> str:
    """Return the name if a collection may be called so.

    Raises
    ------
    InvalidQueryError
        If it is empty, or has white space, a comma or glob characters in it, or an empty path part.
    """
    if not _NAME.fullmatch(name) or name.startswith("/") or name.endswith("/") or "//" in name:
        raise InvalidQueryError(
            f"{name!r} is not a collection name: no white space, ',', '*', '?', '[', ']', "
            "no empty part between '/'."
        )
    return name


def is_glob(text: str) -> bool:
    """Return whether the text is a glob and not a plain name."""
    return any(c in text for c in "*?[")


def glob_regex(glob: str) -> re.Pattern[str]:
    """Return the pattern of a glob; ``*`` crosses ``/`` as in the tutorial's ``HSC/calib/*``."""
    return re.compile(fnmatch.translate(glob))


def split_names(expression: str | Iterable[str]) -> list[str]:
    """Return the names or globs of comma-separated texts, in order, empty ones left out."""
    texts: Sequence[str] = [expression] if isinstance(expression, str) else list(expression)
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def run_timestamp(now: datetime | None = None) -> str:
    """Return the UTC time stamp of a new run's name, ``20201013T140417Z``."""
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
