"""Expression: the language of ``-d`` and ``where=`` as a tree.

``instrument='HSC' AND visit IN (903334, 903344..903350:2) AND exposure.exposure_time > 30``. The grammar is
in ``expression.lark``. The tree says nothing about what names mean; that depends on the query and is decided
where it is compiled (`butler_dask.registry.expression_sql`). Every node knows its place in the text, so that
an error can point at it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..errors import InvalidQueryError
from .time_literal import text_of_time, time_of_literal

if TYPE_CHECKING:
    from lark import Lark, Tree


@dataclass(frozen=True, slots=True)
class Expression:
    """A node of the tree; ``position`` is its offset in the text."""

    position: int

    def children(self) -> Iterator[Expression]:
        """Yield the nodes directly below."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Expression):
                yield value
            elif isinstance(value, tuple):
                yield from (v for v in value if isinstance(v, Expression))

    def walk(self) -> Iterator[Expression]:
        """Yield this node and all below it."""
        yield self
        for child in self.children():
            yield from child.walk()

    def logical_and(self, *others: Expression) -> Expression:
        """Return the condition that this and all others hold."""
        return And(0, (self, *others)) if others else self

    def logical_or(self, *others: Expression) -> Expression:
        """Return the condition that this or any other holds."""
        return Or(0, (self, *others)) if others else self

    def logical_not(self) -> Expression:
        """Return the condition that this does not hold."""
        return Not(0, self)


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    """A number, string, truth value or `None` (NULL); from Python also a time, timespan, region or UUID."""

    value: Any


@dataclass(frozen=True, slots=True)
class Instant(Expression):
    """A time literal, as TAI nanoseconds."""

    ns: int


@dataclass(frozen=True, slots=True)
class Name(Expression):
    """A dimension, ``element.field``, ``dataset_type.field`` or bound value."""

    text: str


@dataclass(frozen=True, slots=True)
class Bind(Expression):
    """A bound value, written ``:name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Range(Expression):
    """``start..stop:step`` of an IN list, both ends included."""

    start: int
    stop: int
    step: int


@dataclass(frozen=True, slots=True)
class Sign(Expression):
    """Unary plus or minus."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(Expression):
    """``+ - * / %``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """``= != < <= > >=`` or OVERLAPS."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class IsNull(Expression):
    """``x IS NULL``, also written ``x = NULL``."""

    operand: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class In(Expression):
    """``x IN (items)``; items are expressions and ranges."""

    operand: Expression
    items: tuple[Expression, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Pair(Expression):
    """``(begin, end)``: a timespan."""

    begin: Expression
    end: Expression


@dataclass(frozen=True, slots=True)
class Call(Expression):
    """``FUNCTION(arguments)``; the function's name is in capitals."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """NOT."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And(Expression):
    """AND of two or more."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(Expression):
    """OR of two or more."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Reversed(Expression):
    """In falling order; of ``order_by`` only."""

    operand: Expression


def parse_expression(text: str) -> Expression | None:
    """Return the tree of an expression, `None` if the text is blank.

    Raises
    ------
    InvalidQueryError
        If the text is not well formed; the place is pointed at.
    """
    if not text.strip():
        return None
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        position = error.pos_in_stream
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            raise expression_error(text, len(text), "the expression ends too early") from None
        assert position is not None
        if isinstance(error, UnexpectedCharacters):
            what = f"unexpected character {text[position]!r}"
            if text[position] in "'\"":
                what = "this string has no end"
        else:
            what = f"unexpected {str(getattr(error, 'token', ''))!r}"
        raise expression_error(text, position, what) from None
    return _expression_of(tree, text)


def text_of(node: Expression) -> str:
    """Return an expression as text, with no more parentheses than it needs at most."""
    match node:
        case Literal(value=value):
            words = {None: "NULL", True: "TRUE", False: "FALSE"}
            if value is None or isinstance(value, bool):
                return words[value]
            return repr(value) if isinstance(value, (int, float, str)) else str(value)
        case Instant(ns=ns):
            return text_of_time(ns)
        case Name(text=text):
            return text
        case Bind(name=name):
            return f":{name}"
        case Range(start=start, stop=stop, step=step):
            return f"{start}..{stop}" + (f":{step}" if step > 1 else "")
        case Sign(operator=operator, operand=operand):
            return f"{operator}{_operand_text(operand)}"
        case (
            Arithmetic(operator=operator, left=left, right=right)
            | Comparison(operator=operator, left=left, right=right)
        ):
            return f"{_operand_text(left)} {operator} {_operand_text(right)}"
        case IsNull(operand=operand, negated=negated):
            return f"{_operand_text(operand)} IS {'NOT ' if negated else ''}NULL"
        case In(operand=operand, items=items, negated=negated):
            listed = ", ".join(map(text_of, items))
            return f"{_operand_text(operand)} {'NOT ' if negated else ''}IN ({listed})"
        case Pair(begin=begin, end=end):
            return f"({text_of(begin)}, {text_of(end)})"
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(map(text_of, arguments))})"
        case Not(operand=operand):
            return f"NOT {_operand_text(operand)}"
        case And(operands=operands):
            return " AND ".join(map(_operand_text, operands))
        case Or(operands=operands):
            return " OR ".join(map(_operand_text, operands))
        case Reversed(operand=operand):
            return f"-{text_of(operand)}"
    raise AssertionError(f"No text for {type(node).__name__}")


def _operand_text(node: Expression) -> str:
    text = text_of(node)
    whole = isinstance(node, (Literal, Instant, Name, Bind, Pair, Call))
    return text if whole or isinstance(node, (Comparison, In, IsNull)) else f"({text})"


def expression_error(text: str, position: int, what: str) -> InvalidQueryError:
    """Return the error for something wrong at a place of an expression, with a caret under it.

    Parameters
    ----------
    text : `str`
        The expression.
    position : `int`
        Offset of the place in it.
    what : `str`
        What is wrong.
    """
    line_start = text.rfind("\n", 0, position) + 1
    line_end = text.find("\n", position)
    line = text[line_start : None if line_end < 0 else line_end]
    caret = " " * (position - line_start) + "^"
    return InvalidQueryError(f"In the expression: {what}\n  {line}\n  {caret}")


@functools.cache
def _parser() -> Lark:
    from importlib import resources

    from lark import Lark

    grammar = resources.files(__package__).joinpath("expression.lark").read_text()
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def _expression_of(tree: Any, text: str) -> Expression:
    kind: str = tree.data
    parts: list[Any] = [c for c in tree.children if c is not None]
    position: int = tree.meta.start_pos if not tree.meta.empty else 0

    def sub(i: int) -> Expression:
        return _expression_of(parts[i], text)

    match kind:
        case "integer":
            return Literal(position, int(parts[0]))
        case "real":
            return Literal(position, float(parts[0]))
        case "string":
            # A backslash keeps its place before anything else: globs have escapes of their own.
            return Literal(position, re.sub(r"\\(['\"\\])", r"\1", parts[0][1:-1]))
        case "time":
            return Instant(position, _time_at(parts[0][2:-1], text, position))
        case "null":
            return Literal(position, None)
        case "true" | "false":
            return Literal(position, kind == "true")
        case "name" | "bare_name":
            return Name(position, str(parts[0]))
        case "bind" | "bare_bind":
            return Bind(position, str(parts[0])[1:])
        case "sign":
            return Sign(position, str(parts[0]), sub(1))
        case "arithmetic":
            return Arithmetic(position, str(parts[1]), sub(0), sub(2))
        case "comparison":
            return _comparison(position, str(parts[1]), sub(0), sub(2))
        case "overlaps":
            return Comparison(position, "OVERLAPS", sub(0), sub(1))
        case "is_null" | "is_not_null":
            return IsNull(position, sub(0), kind == "is_not_null")
        case "in_" | "not_in":
            items = parts[1]
            if items.data == "items":
                members = tuple(_expression_of(i, text) for i in items.children if i is not None)
            else:
                members = (_expression_of(items, text),)
            return In(position, sub(0), members, kind == "not_in")
        case "range":
            start, stop = (_range_end(p) for p in parts[:2])
            step = int(parts[2]) if len(parts) > 2 else 1
            if step < 1 or stop < start:
                raise expression_error(
                    text, position, "a range goes upwards: start..stop or start..stop:step"
                )
            return Range(position, start, stop, step)
        case "pair":
            return Pair(position, sub(0), sub(1))
        case "call":
            return Call(position, str(parts[0]).upper(), tuple(_expression_of(p, text) for p in parts[1:]))
        case "not_":
            return Not(position, sub(0))
        case "and_":
            return And(position, tuple(_expression_of(p, text) for p in parts))
        case "or_":
            return Or(position, tuple(_expression_of(p, text) for p in parts))
    raise AssertionError(f"The grammar has no rule {kind!r}")


def _comparison(position: int, operator: str, left: Expression, right: Expression) -> Expression:
    operator = {"==": "=", "<>": "!="}.get(operator, operator)
    if operator in ("=", "!="):
        for operand, other in ((left, right), (right, left)):
            if isinstance(other, Literal) and other.value is None:
                return IsNull(position, operand, operator == "!=")
    return Comparison(position, operator, left, right)


def _range_end(tree: Tree[Any]) -> int:
    return int("".join(str(p) for p in tree.children if p is not None))


def _time_at(literal: str, text: str, position: int) -> int:
    try:
        return time_of_literal(literal)
    except ValueError as error:
        raise expression_error(
            text, position, f"not a time: {literal!r} ({str(error).splitlines()[0]})"
        ) from None
