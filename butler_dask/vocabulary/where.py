"""Where: conditions of a query as they were given, all of which must hold; parsed once, when somebody asks.

Queries that differ in their numbers and strings only have the same form, and what was worked out for a form
(that it is well formed, its SQL) holds for all of them. The form is found without parsing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .dimension_value import is_text
from .expression import And, Expression, parse_expression

_MOST_FORMS = 1000
"""Forms remembered as well formed."""

# What stays as it is: times, names, bound values, floats (of `5..9`: `5.` and `.9`), numbers beyond 64 bits.
# What is left open: strings and integers. Everything else lies between.
_TOKENS = re.compile(
    r"""[tT]'[^']*'
    |:?[A-Za-z_][A-Za-z0-9_]*
    |\d*\.\d*(?:[eE][+-]?\d+)?
    |\d+[eE][+-]?\d+
    |\d{19,}
    |(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    |(?P<integer>\d+)""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(['\"\\])")


@dataclass(frozen=True, slots=True)
class ExpressionForm:
    """The text of an expression, its strings and integers left open.

    Parameters
    ----------
    text : `str`
        The text with marks in their places.
    values : `tuple` of `str` or `int`
        What they are.
    positions : `tuple` [`int`, ...]
        Where they begin in the text as it was given.
    """

    text: str
    values: tuple[str | int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> ExpressionForm | None:
        """Return the form of a text, `None` if it holds what no database takes as text."""
        if "\0" in text or not (text.isascii() or is_text(text)):
            return None
        pieces: list[str] = []
        values: list[str | int] = []
        positions: list[int] = []
        end = 0
        for token in _TOKENS.finditer(text):
            kind = token.lastgroup
            if kind is None:
                continue
            start = token.start()
            pieces += (text[end:start], f"\0{kind}\0")
            end = token.end()
            found = text[start:end]
            values.append(int(found) if kind == "integer" else unescaped(found))
            positions.append(start)
        pieces.append(text[end:])
        return cls("".join(pieces), tuple(values), tuple(positions))


def unescaped(literal: str) -> str:
    """Return the string that a literal in quotes stands for."""
    return _ESCAPED.sub(r"\1", literal[1:-1])


_well_formed: dict[str, None] = {}


def check_expression(text: str) -> None:
    """Raise if the text of an expression is not well formed.

    Raises
    ------
    InvalidQueryError
        If it is not; the place is pointed at.
    """
    form = ExpressionForm.of(text)
    if form is None:
        parse_expression(text)
    elif form.text not in _well_formed:
        parse_expression(text)
        if len(_well_formed) >= _MOST_FORMS:
            _well_formed.clear()
        _well_formed[form.text] = None


@dataclass(frozen=True)
class Where:
    """Conditions that must all hold.

    Parameters
    ----------
    parts : `tuple` of `str` or `Expression`
        Conditions, as text or tree.
    bind : mapping of `str` to value
        Values of names in them.
    chosen : `tuple` of `Expression`, optional
        Which of their terms are meant, if not all.
    """

    parts: tuple[str | Expression, ...] = ()
    bind: Mapping[str, Any] = field(default_factory=dict)
    chosen: tuple[Expression, ...] | None = None

    def narrowed(self, parts: Iterable[str | Expression], bind: Mapping[str, Any] | None = None) -> Where:
        """Return the conditions with further ones.

        Raises
        ------
        InvalidQueryError
            If a text is not well formed: a slip of the pen is told where it was made.
        """
        more = tuple(p for p in parts if not isinstance(p, str) or p.strip())
        for part in more:
            if isinstance(part, str):
                check_expression(part)
        if not more and not bind:
            return self
        return Where((*self.parts, *more), {**self.bind, **(bind or {})})

    def only(self, terms: Iterable[Expression]) -> Where:
        """Return some of the terms."""
        return Where(self.parts, self.bind, tuple(terms))

    @cached_property
    def text(self) -> str:
        """The text of those conditions that were given as text; positions of terms are places in it."""
        texts = [p for p in self.parts if isinstance(p, str)]
        return texts[0] if len(texts) == 1 else " AND ".join(f"({t})" for t in texts)

    @cached_property
    def terms(self) -> tuple[Expression, ...]:
        """The operands of top-level ANDs."""
        if self.chosen is not None:
            return self.chosen
        terms = conjuncts(parse_expression(self.text))
        terms += [t for p in self.parts if isinstance(p, Expression) for t in conjuncts(p)]
        return tuple(terms)

    @cached_property
    def form(self) -> ExpressionForm | None:
        """The form of the text; `None` if there are other conditions than text."""
        if self.chosen is not None or not all(isinstance(p, str) for p in self.parts):
            return None
        return ExpressionForm.of(self.text)


def conjuncts(tree: Expression | None) -> list[Expression]:
    """Return the terms that must all hold: the operands of top-level ANDs."""
    if tree is None:
        return []
    if isinstance(tree, And):
        return [t for o in tree.operands for t in conjuncts(o)]
    return [tree]
