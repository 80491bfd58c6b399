"""CollectionType, CollectionInfo, the rules for collection names, and globs over them."""

from __future__ import annotations

import enum
import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import EllipsisType

from ..errors import CollectionExpressionError, CollectionTypeError, InvalidQueryError, did_you_mean
from .path_name import quoted_run

NamesExpression = str | re.Pattern[str] | EllipsisType | Iterable[str | re.Pattern[str] | EllipsisType]
"""What names collections or dataset types: names, globs, regular expressions, ``...`` for all."""


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

    @classmethod
    def set_of(
        cls, types: CollectionType | str | Iterable[CollectionType | str]
    ) -> frozenset[CollectionType]:
        """Return types given one or several, themselves or by name.

        Raises
        ------
        CollectionTypeError
            If there is no such type; the nearest match is named.
        """
        given = [types] if isinstance(types, (CollectionType, str)) else types
        return frozenset(t if isinstance(t, CollectionType) else cls.from_name(str(t)) for t in given)


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
_LONGEST_PART = 240
"""Bytes of one directory of a path; the limit is 255 nearly everywhere."""
_LONGEST_NAME = 512
"""Bytes of a name in a path. S3 takes 1024 for the whole path, macOS too, and a file's own name takes 240."""
_INVISIBLE = frozenset(("Cc", "Cf", "Cs"))
"""Unicode categories: control characters, those that change how the others are shown, lone surrogates."""


def check_collection_name(name: str) -> str:
    """Return the name if a new collection may be called so.

    Older repositories may have others. These are read and removed as any: what makes a path of a name quotes
    it (`butler_dask.vocabulary.path_name`).

    Raises
    ------
    InvalidQueryError
        If it is empty, or has white space, a comma, glob characters or invisible ones in it; if a part is
        empty, ``.`` or ``..``; if it begins with a dot, as the repository's own directories do; or if it is
        too long for a path.
    """
    fault = _fault_of_name(name)
    if fault:
        raise InvalidQueryError(f"{name!r} is not a collection name: {fault}.")
    return name


def _fault_of_name(name: str) -> str:
    """Return what forbids a collection name, empty if nothing does."""
    parts = name.split("/")
    if not _NAME.fullmatch(name) or "" in parts:
        return "no white space, ',', '*', '?', '[', ']', no empty part between '/'"
    if not name.isascii() or not name.isprintable():
        bad = next((c for c in name if unicodedata.category(c) in _INVISIBLE), None)
        if bad is not None:
            return f"it has the character U+{ord(bad):04X}, which is not visible"
    if "." in parts or ".." in parts:
        return "no part may be '.' or '..'"
    if name.startswith("."):
        return "names that begin with '.' are the repository's own"
    quoted = quoted_run(name)
    if len(quoted) > _LONGEST_NAME or max(map(len, quoted.split("/"))) > _LONGEST_PART:
        return (
            f"it is too long for a path, which takes {_LONGEST_NAME} bytes in all and {_LONGEST_PART} "
            "between '/' (letters that are not ASCII count three for each of their bytes)"
        )
    return ""


_GLOB_MARKS = frozenset("*?[")


def is_glob(text: str) -> bool:
    """Return whether the text is a glob and not a plain name."""
    return not _GLOB_MARKS.isdisjoint(text)


def glob_regex(glob: str) -> re.Pattern[str]:
    """Return the pattern of a glob; ``*`` crosses ``/`` as in the tutorial's ``HSC/calib/*``."""
    return re.compile(fnmatch.translate(glob))


def split_patterns(expression: NamesExpression) -> list[str | re.Pattern[str]]:
    """Return plain names, and the patterns of globs and regular expressions, in order.

    Parameters
    ----------
    expression : `str`, `re.Pattern`, ``...`` or iterable of them
        Names and globs, also comma-separated; regular expressions, which have to match a whole name;
        ``...`` for every name.

    Raises
    ------
    CollectionExpressionError
        If there is anything else.
    """
    if isinstance(expression, (str, re.Pattern, EllipsisType)):
        expression = [expression]
    elif not isinstance(expression, Iterable):
        raise CollectionExpressionError(f"{expression!r} is neither a name nor a glob nor a list of them.")
    out: list[str | re.Pattern[str]] = []
    for item in expression:
        if isinstance(item, EllipsisType):
            out.append(re.compile(".*"))
        elif isinstance(item, re.Pattern):
            out.append(item)
        elif isinstance(item, str):
            out.extend(glob_regex(n) if is_glob(n) else n for n in split_names(item))
        else:
            raise CollectionExpressionError(f"{item!r} is neither a name nor a glob nor a pattern.")
    return out


def split_names(expression: str | Iterable[str]) -> list[str]:
    """Return the names or globs of comma-separated texts, in order, empty ones left out."""
    texts: Sequence[str] = [expression] if isinstance(expression, str) else list(expression)
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def run_timestamp(now: datetime | None = None) -> str:
    """Return the UTC time stamp of a new run's name, ``20201013T140417Z``."""
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
