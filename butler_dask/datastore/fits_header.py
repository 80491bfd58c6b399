"""Headers of FITS files: cards from values and back.

FITS standard 4.0 (2018), section 4; long keywords follow the ESO HIERARCH convention, which is registered
with the FITS Support Office and no part of the standard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

BLOCK = 2880
"""Bytes a header or its data are filled up to (section 3.1)."""

CARD_LENGTH = 80
"""Characters of a keyword record (section 4.1.1)."""

Card = tuple[str, Any, str]
"""(keyword, value, comment); a list of values is not a card."""


def card_text(keyword: str, value: Any, comment: str = "") -> str:
    """Return the 80 (or, for a long text, 160 ...) characters of a card.

    Floats are written with all their digits, in free format (section 4.2.4), so they read back exactly; long
    keywords by the HIERARCH convention, long texts by the CONTINUE one (section 4.2.1.2).

    Parameters
    ----------
    keyword : `str`
        ASCII.
    value : `str`, `bool`, `int`, `float` or numpy scalar
        Its value (sections 4.2.1 to 4.2.4).
    comment : `str`
        Cut where it does not fit.
    """
    name = f"{keyword:<8}= " if len(keyword) <= 8 else f"HIERARCH {keyword} = "
    if isinstance(value, str):
        return _text_cards(name, value, comment)
    if isinstance(value, (bool, np.bool_)):
        body = f"{'T' if value else 'F':>20}"
    elif isinstance(value, (int, np.integer)):
        body = f"{int(value):>20}"
    else:
        body = f"{float(value)!r:>20}".upper()
    text = name + body
    if comment:
        text += f" / {comment}"
    return f"{text[:CARD_LENGTH]:<80}"


def _text_cards(name: str, value: str, comment: str) -> str:
    quoted = value.replace("'", "''")
    room = CARD_LENGTH - len(name) - 2
    if len(quoted) <= room:
        text = f"{name}'{quoted:<8}'"
        if comment and len(text) + 3 < CARD_LENGTH:
            text += f" / {comment}"
        return f"{text[:CARD_LENGTH]:<80}"
    out = ""
    while quoted:
        take = room - 1 if len(quoted) > room else len(quoted)
        # Not between the two quotes of an escaped one.
        if take < len(quoted) and (quoted[:take].count("'") % 2):
            take -= 1
        piece, quoted = quoted[:take], quoted[take:]
        out += f"{name + chr(39) + piece + ('&' if quoted else '') + chr(39):<80}"
        name, room = "CONTINUE  ", CARD_LENGTH - 12
    return out


def header_bytes(cards: Iterable[Card]) -> bytes:
    """Return a header of whole blocks, END included (section 4.4.1).

    Parameters
    ----------
    cards : iterable of `Card`
        In order.
    """
    text = "".join(card_text(*card) for card in cards) + f"{'END':<80}"
    text += " " * (-len(text) % BLOCK)
    return text.encode("ascii", errors="replace")


def primary_bytes(cards: Iterable[Card]) -> bytes:
    """Return a primary unit without data (section 4.4.1.1).

    Parameters
    ----------
    cards : iterable of `Card`
        What follows the mandatory ones.
    """
    return header_bytes(
        [
            ("SIMPLE", True, "FITS standard 4.0"),
            ("BITPIX", 8, ""),
            ("NAXIS", 0, "no data here"),
            ("EXTEND", True, ""),
            *cards,
        ]
    )


def header_values(text: str) -> dict[str, Any]:
    """Return the values of the cards of a header, CONTINUE and HIERARCH included.

    Parameters
    ----------
    text : `str`
        Cards, 80 characters each.

    Returns
    -------
    values : `dict`
        `str`, `bool`, `int` or `float` by keyword; cards without a value are left out.
    """
    out: dict[str, Any] = {}
    last = ""
    for i in range(0, len(text), CARD_LENGTH):
        card = text[i : i + CARD_LENGTH]
        keyword, rest = card[:8].rstrip(), card[10:]
        if card.startswith("HIERARCH ") and "=" in card:
            keyword, _, rest = card[9:].partition("=")
            keyword = keyword.strip()
        elif card[8:10] != "= ":
            if keyword == "CONTINUE" and last and isinstance(out[last], str) and out[last].endswith("&"):
                out[last] = out[last][:-1] + str(_value(rest))
            continue
        out[keyword] = _value(rest)
        last = keyword
    return out


def _value(text: str) -> Any:
    text = text.strip()
    if text.startswith("'"):
        end = 1
        while end < len(text):
            if text[end] == "'":
                if text[end + 1 : end + 2] != "'":
                    break
                end += 1
            end += 1
        return text[1:end].replace("''", "'").rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        return text
