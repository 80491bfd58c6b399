"""OpenValues: the numbers and strings of a query that its SQL leaves open.

Queries that differ in these only are one statement, made once. Left open are integers and strings written in
the condition, bound to names in it, or given by data ID. Not all can be: the arguments of ``POINT(...)`` are
worked with before there is any SQL. Such a value is pinned, and a statement with it is for this value alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..vocabulary.dimension_value import is_text
from ..vocabulary.expression import Literal
from ..vocabulary.selection import Selection
from ..vocabulary.timespan import Timespan
from .expression_values import Operand, constant_operand


class OpenValues:
    """The open values of one selection.

    Parameters
    ----------
    selection : `Selection`
        What is asked for.

    Attributes
    ----------
    values : `dict` [`str`, `int` or `str`]
        Value of each name that a statement may have; those of data IDs are added as they are used.
    form : hashable or `None`
        What the selection is but for these values; `None` if it is not to be compared with others.
    """

    def __init__(self, selection: Selection) -> None:
        self.values: dict[str, Any] = {}
        self.form: Hashable = None
        self.written: tuple[tuple[str, Any], ...] = ()
        self._names: dict[int, str] = {}
        self._bound: dict[str, str] = {}
        self._used: set[str] = set()
        self._pinned = False
        form = selection.condition.form
        plain = all(isinstance(term, str) for term in selection.order_by)
        if form is None or selection.among or not plain:
            return
        for i, (value, position) in enumerate(zip(form.values, form.positions, strict=True)):
            self._names[position] = name = f"literal_{i}"
            self.values[name] = value
        bound: list[Hashable] = []
        for i, (key, value) in enumerate(selection.condition.bind.items()):
            if _can_be_open(value):
                self._bound[key.removeprefix(":")] = name = f"bound_{i}"
                self.values[name] = value
                bound.append((key, type(value)))
            elif isinstance(value, _UNCHANGING):
                bound.append((key, type(value), value))
            else:  # a list, say, or what may be another value next time
                self.values.clear()
                self._names.clear()
                self._bound.clear()
                return
        self.written = tuple(self.values.items())
        rest = (selection.joined, tuple(selection.order_by), selection.limit, selection.offset)
        self.form = (form.text, tuple(bound), tuple(selection.data_id), selection.default is None, rest)

    @classmethod
    def none(cls) -> OpenValues:
        """Return those of a statement that leaves nothing open."""
        return cls(_NOTHING)

    def literal(self, node: Literal) -> Operand | None:
        """Return the operand of a literal that is left open, `None` if it is not."""
        name = self._names.get(node.position)
        return None if name is None or node.value != self.values[name] else self._operand(name)

    def bound(self, name: str) -> Operand | None:
        """Return the operand of a bound value that is left open, `None` if it is not."""
        opened = self._bound.get(name)
        return None if opened is None else self._operand(opened)

    def data_id(self, dimension: str, value: Any) -> Operand:
        """Return the operand of a value given for a dimension."""
        if self.form is None:
            return constant_operand(value)
        name = f"data_id_{dimension}"
        self.values[name] = value
        return self._operand(name)

    def _operand(self, name: str) -> Operand:
        self._used.add(name)
        value = constant_operand(self.values[name])
        # Without `unique`: wherever the name stands, the value is the same.
        sql = sa.bindparam(name, value.sql.value, value.sql.type)
        return Operand(value.kind, sql, value.constant, opened=name)

    def pin(self, value: Operand) -> None:
        """Note that a statement is made with the value of an operand, and is for this value alone."""
        self._pinned |= value.opened is not None

    @property
    def all_open(self) -> bool:
        """Whether a statement made with these operands holds for other values as well."""
        return not self._pinned and all(name in self._used for name, _ in self.written)


def _can_be_open(value: Any) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is str and "\0" not in value and is_text(value)


_UNCHANGING = (bool, int, float, str, uuid.UUID, datetime, Timespan, np.generic)
_NOTHING = Selection()
