"""Time literals of the query language: ``T'[format/]value[/scale]'``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from .timespan import tai_nanoseconds

_EPOCH = datetime(1970, 1, 1)
_MJD_OF_EPOCH = 40587
_NS_PER_DAY = 86_400_000_000_000
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_DEFAULT_SCALES = dict.fromkeys(("iso", "isot", "fits", "yday", "unix"), "utc") | {"cxcsec": "tt"}
"""Scales of time literals that name none; TAI for all other formats, as in the reference."""


def text_of_time(ns: int) -> str:
    """Return a time as a literal of the query language, ``T'...'``.

    Parameters
    ----------
    ns : `int`
        TAI nanoseconds since 1970-01-01 [ns].
    """
    whole, rest = divmod(ns, 1_000_000_000)
    try:
        date = (_EPOCH + timedelta(seconds=whole)).isoformat()
    except OverflowError:
        return f"T'mjd/{ns / _NS_PER_DAY + _MJD_OF_EPOCH}/tai'"
    return f"T'{date}{f'.{rest:09d}'.rstrip('0') if rest else ''}/tai'"


def time_of_literal(literal: str) -> int:
    """Return the time of ``[format/]value[/scale]`` as TAI nanoseconds.

    Without format a number is a Modified Julian Date, and anything else is a date with or without time.
    Without scale, dates (and unix times) are UTC, Modified Julian Dates and other numbers TAI.

    Raises
    ------
    ValueError
        If it is not a time.
    """
    from fractions import Fraction

    value, format_, scale = _time_parts(literal.replace("+00:00", ""))
    is_number = _NUMBER.fullmatch(value) is not None
    scale = scale or _DEFAULT_SCALES.get(format_ or ("mjd" if is_number else "iso"), "tai")
    # The usual cases without astropy, whose import takes longer than a whole command.
    if format_ in (None, "iso", "isot", "fits") and scale in ("tai", "utc") and _ISO.fullmatch(value):
        whole, _, fraction = value.partition(".")
        leap = 0 if scale == "tai" else _tai_minus_utc_s(int(value[:4]), int(value[5:7]))
        if leap is not None and whole[17:] != "60":
            delta = datetime.fromisoformat(whole) - _EPOCH
            seconds = delta.days * 86400 + delta.seconds + leap
            return seconds * 1_000_000_000 + round(Fraction(f"0.{fraction or 0}") * 1_000_000_000)
    if format_ in (None, "mjd") and scale == "tai" and is_number:
        return round((Fraction(value) - _MJD_OF_EPOCH) * _NS_PER_DAY)
    return _time_of_astropy(
        float(value) if is_number else value, format_ or ("mjd" if is_number else None), scale
    )


def _time_of_astropy(value: Any, format_: str | None, scale: str) -> int:
    import warnings

    from astropy.time import Time

    with warnings.catch_warnings():
        # "dubious year": leap seconds of the far future are not known.
        warnings.simplefilter("ignore")
        return tai_nanoseconds(Time(value, format=format_, scale=scale))


def _tai_minus_utc_s(year: int, month: int) -> int | None:
    # `None` before 1972, when the difference was no whole number of seconds.
    if year < 1972:
        return None
    from erfa import leap_seconds

    table = leap_seconds.get()
    begun = (table["year"] < year) | ((table["year"] == year) & (table["month"] <= month))
    return int(table["tai_utc"][begun][-1])


def _time_parts(literal: str) -> tuple[str, str | None, str | None]:
    parts = [p.strip() for p in literal.split("/")]
    if len(parts) == 1:
        return parts[0], None, None
    if len(parts) == 2:
        if parts[1].lower() in ("tai", "utc", "tt", "tdb", "tcb", "tcg", "ut1"):
            return parts[0], None, parts[1].lower()
        return parts[1], parts[0].lower(), None
    if len(parts) == 3:
        return parts[1], parts[0].lower(), parts[2].lower()
    raise ValueError("expected [format/]value[/scale]")
