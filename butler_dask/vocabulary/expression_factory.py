"""ExpressionFactory: expressions of the query language written as Python operators.

``x = query.expression_factory; query.where(x.visit.exposure_time > 30, x.any(x.band == "r", x.band == "i"))``
makes the same trees as text does, with Python values where text would need quotes or bound names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidQueryError, did_you_mean
from .dimensions import DimensionElement, DimensionUniverse
from .expression import (
    And,
    Arithmetic,
    Call,
    Comparison,
    Expression,
    In,
    IsNull,
    Literal,
    Name,
    Range,
    Reversed,
    Sign,
)
from .timespan import Timespan

DATASET_FIELDS = ("run", "collection", "dataset_id", "ingest_date", "timespan")
"""Fields of a dataset that expressions may name."""


class ExpressionProxy:
    """A value in an expression; comparing it with another gives a condition.

    Parameters
    ----------
    node : `Expression`
        The tree it stands for.
    """

    def __init__(self, node: Expression) -> None:
        self.node = node

    def __repr__(self) -> str:
        return self.node.text if isinstance(self.node, Name) else repr(self.node)

    @property
    def is_null(self) -> Expression:
        """Condition that there is no value."""
        return IsNull(0, self.node, False)


class ScalarExpressionProxy(ExpressionProxy):
    """A number, string, time or UUID."""

    @property
    def desc(self) -> Reversed:
        """The same for ``order_by``, in falling order."""
        return Reversed(0, self.node)

    def as_boolean(self) -> Expression:
        """Return a column of true and false as a condition.

        Raises
        ------
        InvalidQueryError
            If it is none.
        """
        raise InvalidQueryError(f"{self!r} is not true or false; compare it with something")

    def _compared(self, operator: str, other: object) -> Expression:
        return Comparison(0, operator, self.node, node_of(other))

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]  # comparisons build a condition
        return self._compared("=", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]  # comparisons build a condition
        return self._compared("!=", other)

    def __lt__(self, other: object) -> Expression:
        return self._compared("<", other)

    def __le__(self, other: object) -> Expression:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Expression:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Expression:
        return self._compared(">=", other)

    __hash__ = None  # type: ignore[assignment]  # equality without hash, as Python spells it

    def __neg__(self) -> ScalarExpressionProxy:
        return ScalarExpressionProxy(Sign(0, "-", self.node))

    def _calculated(self, operator: str, other: object, swapped: bool = False) -> ScalarExpressionProxy:
        left, right = self.node, node_of(other)
        if swapped:
            left, right = right, left
        return ScalarExpressionProxy(Arithmetic(0, operator, left, right))

    def __add__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("+", other)

    def __radd__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("+", other, True)

    def __sub__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("-", other)

    def __rsub__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("-", other, True)

    def __mul__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("*", other)

    def __rmul__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("*", other, True)

    def __truediv__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("/", other)

    def __rtruediv__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("/", other, True)

    def __mod__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("%", other)

    def __rmod__(self, other: object) -> ScalarExpressionProxy:
        return self._calculated("%", other, True)

    def in_range(self, start: int = 0, stop: int | None = None, step: int = 1) -> Expression:
        """Return the condition that it is one of the integers of Python's ``range(start, stop, step)``.

        Without ``stop`` the range has no end.
        """
        if step < 1:
            raise InvalidQueryError(f"A range goes upwards; its step is not {step}")
        if stop is not None:
            return In(0, self.node, (Range(0, start, stop - 1, step),) if stop > start else (), False)
        begun = self >= start
        return begun if step == 1 else And(0, (begun, (self - start) % step == 0))

    def in_iterable(self, others: Iterable[Any]) -> Expression:
        """Return the condition that it is one of some values."""
        return In(0, self.node, tuple(node_of(o) for o in others), False)

    def in_query(self, column: ExpressionProxy, query: Any) -> Expression:
        """Return the condition that it is one of the values a column has in another query, asked now."""
        return self.in_iterable(query.values_of(column.node))

    def glob(self, pattern: str) -> Expression:
        """Return the condition that a string matches a pattern of ``*`` and ``?``."""
        if not isinstance(pattern, str):
            raise InvalidQueryError(f"A glob is a string, not {pattern!r}")
        return Call(0, "GLOB", (self.node, Literal(0, pattern)))


class BooleanExpressionProxy(ScalarExpressionProxy):
    """A column of true and false, which is no operand but a condition by itself: `as_boolean`."""

    def as_boolean(self) -> Expression:
        """Return the condition that it is true."""
        return self.node

    def _compared(self, operator: str, other: object) -> Expression:
        raise InvalidQueryError(
            f"{self!r} is true or false; write {self!r}.as_boolean() instead of comparing"
        )

    def _calculated(self, operator: str, other: object, swapped: bool = False) -> ScalarExpressionProxy:
        raise InvalidQueryError(f"{self!r} is true or false; there is no {operator!r} of it")


class TimespanProxy(ExpressionProxy):
    """A timespan."""

    def _end(self, which: str) -> ScalarExpressionProxy:
        assert isinstance(self.node, Name)
        return ScalarExpressionProxy(Name(0, f"{self.node.text}.{which}"))

    @property
    def begin(self) -> ScalarExpressionProxy:
        """Its begin."""
        return self._end("begin")

    @property
    def end(self) -> ScalarExpressionProxy:
        """Its end."""
        return self._end("end")

    def overlaps(self, other: object) -> Expression:
        """Return the condition that it overlaps another timespan or contains a time."""
        return Comparison(0, "OVERLAPS", self.node, node_of(other))


class RegionProxy(ExpressionProxy):
    """A region of the sky."""

    def overlaps(self, other: object) -> Expression:
        """Return the condition that it overlaps another region or contains a point."""
        return Comparison(0, "OVERLAPS", self.node, node_of(other))


class DimensionElementProxy(ScalarExpressionProxy):
    """A dimension or relation; its attributes are its fields.

    Parameters
    ----------
    element : `DimensionElement`
        Which.
    """

    def __init__(self, element: DimensionElement) -> None:
        super().__init__(Name(0, element.name))
        self._element = element

    def __getattr__(self, field: str) -> ScalarExpressionProxy:
        for spec in self._element.fields:
            if spec.name == field:
                proxy = BooleanExpressionProxy if spec.type is bool else ScalarExpressionProxy
                return proxy(Name(0, f"{self._element.name}.{field}"))
        known = self._element.schema.names
        raise AttributeError(f"{self._element.name!r} has no field {field!r}.{did_you_mean(field, known)}")

    @property
    def region(self) -> RegionProxy:
        """Its region."""
        return RegionProxy(Name(0, f"{self._element.name}.region"))

    @property
    def timespan(self) -> TimespanProxy:
        """Its timespan."""
        return TimespanProxy(Name(0, f"{self._element.name}.timespan"))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._element.schema.names]


class DatasetTypeProxy:
    """A dataset type of the query; its attributes are the fields of its datasets.

    Parameters
    ----------
    name : `str`
        Dataset type.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, field: str) -> ScalarExpressionProxy:
        if field in DATASET_FIELDS:
            return ScalarExpressionProxy(Name(0, f"{self._name}.{field}"))
        raise AttributeError(f"Datasets have no field {field!r}.{did_you_mean(field, DATASET_FIELDS)}")

    @property
    def timespan(self) -> TimespanProxy:
        """Validity range, in CALIBRATION collections."""
        return TimespanProxy(Name(0, f"{self._name}.timespan"))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *DATASET_FIELDS]


class ExpressionFactory:
    """Gives names of the query language as Python values: ``x.visit.day_obs``, ``x["raw"].ingest_date``."""

    def __getattr__(self, name: str) -> DimensionElementProxy:
        universe = DimensionUniverse()
        if name.startswith("__") or name not in universe:
            known = [e.name for e in universe.getStaticElements()]
            raise AttributeError(f"There is no dimension {name!r}.{did_you_mean(name, known)}")
        return DimensionElementProxy(universe[name])

    def __getitem__(self, name: str) -> DatasetTypeProxy:
        return DatasetTypeProxy(name)

    def not_(self, operand: Expression) -> Expression:
        """Return the condition that another does not hold."""
        return operand.logical_not()

    def all(self, first: Expression, /, *others: Expression) -> Expression:
        """Return the condition that all hold."""
        return first.logical_and(*others)

    def any(self, first: Expression, /, *others: Expression) -> Expression:
        """Return the condition that any holds."""
        return first.logical_or(*others)

    @staticmethod
    def literal(value: object) -> ExpressionProxy:
        """Return a Python value as one in an expression."""
        if isinstance(value, Timespan):
            return TimespanProxy(Literal(0, value))
        if type(value).__module__.startswith("lsst.sphgeom"):
            return RegionProxy(Literal(0, value))
        return ScalarExpressionProxy(Literal(0, value))

    @staticmethod
    def unwrap(proxy: ExpressionProxy) -> Expression:
        """Return the tree of a value."""
        return proxy.node


def node_of(value: object) -> Expression:
    """Return the tree of a proxy, a tree itself, or anything else as a literal."""
    if isinstance(value, ExpressionProxy):
        return value.node
    return value if isinstance(value, Expression) else Literal(0, value)
