"""ExpressionCompiler: an expression tree as a SQL condition.

Operands carry their kind beside their SQL, so that comparing a detector's number with a string is an error
that points at the place, not an empty result. Conditions on regions are turned into memberships of temporary
tables: candidates come from the database, the exact test is made here.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from ..errors import InvalidQueryError
from ..vocabulary.dimensions import DimensionUniverse
from ..vocabulary.expression import (
    And,
    Arithmetic,
    Bind,
    Call,
    Comparison,
    Expression,
    In,
    Instant,
    IsNull,
    Literal,
    Name,
    Not,
    Or,
    Pair,
    Range,
    Sign,
)
from ..vocabulary.timespan import MAX_NS, MIN_NS, Timespan
from .expression_names import BoundValue, DatasetField, FieldReference, Kind, NameScope
from .expression_values import REGION_FUNCTIONS, Operand, TaiInstant, constant_operand
from .open_values import OpenValues

if TYPE_CHECKING:
    from lsst.sphgeom import Region

_MANY_VALUES = 500
"""IN lists beyond this length go through a temporary table."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KIND_NAMES: dict[Kind, str] = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "time": "a time",
    "timespan": "a timespan",
    "region": "a region",
    "uuid": "a UUID",
}


class ExpressionTables(Protocol):
    """What the compiler needs from the query the condition is for."""

    def field(self, reference: FieldReference) -> Any:
        """Return the column of a field (for a timespan: two columns)."""

    def dataset_field(self, reference: DatasetField) -> Any:
        """Return the column of a dataset's field (for a timespan: two columns)."""

    def member(self, column: Any, values: Sequence[Any], kind: sa.types.TypeEngine[Any]) -> Any:
        """Return the condition that a column is one of many values of a type."""

    def like_glob(self, column: Any, pattern: str) -> Any:
        """Return the condition that a string column matches a glob of ``*`` and ``?``."""

    def by_code_point(self, text: Any) -> Any:
        """Return a string whose order is that of its characters' code points."""


class ExpressionSky(Protocol):
    """What the compiler needs to know of regions."""

    def within_region(self, element: str, region: Region) -> Any:
        """Return the condition that an element's region overlaps a region."""

    def regions_overlap(self, first: str, second: str) -> Any:
        """Return the condition that two elements' regions overlap."""


class ExpressionCompiler:
    """Compiles expressions of one query.

    Parameters
    ----------
    scope : `NameScope`
        Meaning of names.
    tables : `ExpressionTables`
        Tables of the query.
    sky : `ExpressionSky`
        Finds what overlaps.
    opened : `OpenValues`, optional
        Values that the SQL shall leave open.
    """

    def __init__(
        self,
        scope: NameScope,
        tables: ExpressionTables,
        sky: ExpressionSky,
        opened: OpenValues | None = None,
    ) -> None:
        self._scope, self._tables, self._sky = scope, tables, sky
        self._opened = OpenValues.none() if opened is None else opened

    def condition(self, node: Expression) -> Any:
        """Return the SQL condition of an expression that is true or false.

        Raises
        ------
        InvalidQueryError
            If it is not, or compares kinds that do not compare.
        """
        match node:
            case And(operands=operands):
                return sa.and_(*(self.condition(o) for o in operands))
            case Or(operands=operands):
                return sa.or_(*(self.condition(o) for o in operands))
            case Not(operand=operand):
                return sa.not_(self.condition(operand))
            case Comparison(operator="OVERLAPS"):
                return self._overlaps(node)
            case Comparison():
                return self._comparison(node)
            case In():
                return self._in(node)
            case IsNull(operand=operand, negated=negated):
                column = self._nullable(operand)
                return column.is_not(None) if negated else column.is_(None)
            case Call(function="GLOB"):
                return self._glob(node)
            case Name() | Bind() | Literal():
                value = self.value(node)
                if value.kind == "bool":
                    return (
                        sa.true()
                        if value.constant is True
                        else (sa.false() if value.constant is False else value.sql == sa.true())
                    )
                raise self._scope.error(node.position, f"{_KIND_NAMES[value.kind]} is not a condition")
        raise self._scope.error(node.position, "this is not a condition")

    def _nullable(self, node: Expression) -> Any:
        value = self.value(node)
        if isinstance(value.reference, FieldReference) and value.kind == "region":
            return self._tables.field(value.reference)
        if value.kind == "region":
            raise self._scope.error(node.position, "a region given is not NULL")
        return value.sql[0] if value.kind == "timespan" else value.sql

    # Values

    def value(self, node: Expression) -> Operand:
        """Return the value of an expression that is not a condition."""
        match node:
            case Literal(value=constant):
                if constant is None:
                    raise self._scope.error(node.position, "NULL is only compared by = and !=")
                return self._opened.literal(node) or self._constant(node, constant)
            case Instant(ns=ns):
                return constant_operand(TaiInstant(ns))
            case Name() | Bind():
                return self._named(node)
            case Sign(operator=sign, operand=operand):
                value = self._number(operand)
                if value.constant is not None:
                    self._opened.pin(value)
                    return constant_operand(-value.constant if sign == "-" else value.constant)
                return Operand(value.kind, -value.sql if sign == "-" else value.sql)
            case Arithmetic():
                return self._arithmetic(node)
            case Pair(begin=begin, end=end):
                return self._pair(begin, end)
            case Call():
                return self._call(node)
        raise self._scope.error(node.position, "a value is needed here, not a condition")

    def _named(self, node: Name | Bind) -> Operand:
        meaning = self._scope.resolve(node)
        if isinstance(meaning, BoundValue):
            opened = self._opened.bound(meaning.name)
            return opened or self._constant(node, meaning.value, f"{meaning.name!r}: ")
        if isinstance(meaning, DatasetField):
            return Operand(meaning.kind, self._tables.dataset_field(meaning), reference=meaning)
        sql = None if meaning.kind == "region" else self._tables.field(meaning)
        return Operand(meaning.kind, sql, reference=meaning)

    def _constant(self, node: Expression, value: Any, what: str = "") -> Operand:
        try:
            return constant_operand(value)
        except InvalidQueryError as error:
            raise self._scope.error(node.position, f"{what}{error}") from None

    def _number(self, node: Expression) -> Operand:
        value = self.value(node)
        if value.kind not in ("int", "float"):
            raise self._scope.error(node.position, f"a number is needed here, not {_KIND_NAMES[value.kind]}")
        return value

    def _arithmetic(self, node: Arithmetic) -> Operand:
        left, right = self._number(node.left), self._number(node.right)
        whole = left.kind == right.kind == "int"
        kind: Kind = "int" if whole else "float"
        match node.operator:
            case "+":
                return Operand(kind, left.sql + right.sql)
            case "-":
                return Operand(kind, left.sql - right.sql)
            case "*":
                return Operand(kind, left.sql * right.sql)
            case "%":
                if not whole:
                    raise self._scope.error(node.position, "% takes integers")
                return Operand(kind, left.sql % sa.func.nullif(right.sql, 0))
        # As in SQL, the quotient of integers is an integer; PostgreSQL would refuse to divide by zero.
        divisor = sa.func.nullif(right.sql, 0, type_=right.sql.type)
        return Operand(kind, left.sql // divisor if whole else left.sql / divisor)

    def _pair(self, begin: Expression, end: Expression) -> Operand:
        bounds: list[Operand] = []
        for node, unbounded in ((begin, MIN_NS), (end, MAX_NS)):
            if isinstance(node, Literal) and node.value is None:
                bounds.append(constant_operand(TaiInstant(unbounded)))
                continue
            bounds.append(self._as_time(node, self.value(node)))
        low, high = bounds
        if low.constant is not None and high.constant is not None:
            return constant_operand(Timespan(low.constant.ns, high.constant.ns))
        return Operand("timespan", (low.sql, high.sql))

    def _as_time(self, node: Expression, value: Operand) -> Operand:
        if value.kind == "time":
            return value
        raise self._scope.error(
            node.position, f"a time is needed here, as T'2020-01-31T12:00:00', not {_KIND_NAMES[value.kind]}"
        )

    def _call(self, node: Call) -> Operand:
        if node.function == "UUID":
            text = self._constants(node, "a string")[0] if len(node.arguments) == 1 else None
            try:
                return constant_operand(uuid.UUID(str(text)))
            except ValueError:
                raise self._scope.error(node.position, f"UUID() takes one UUID, not {text!r}") from None
        if node.function in REGION_FUNCTIONS:
            values = self._constants(node, "numbers [deg]")
            try:
                return constant_operand(REGION_FUNCTIONS[node.function](values))
            except (ValueError, TypeError, RuntimeError) as error:
                raise self._scope.error(node.position, f"{node.function}: {error}") from None
        known = ", ".join((*REGION_FUNCTIONS, "UUID", "GLOB"))
        raise self._scope.error(node.position, f"no function {node.function!r}. There are: {known}.")

    def _constants(self, node: Call, what: str) -> list[Any]:
        out = []
        for argument in node.arguments:
            value = self.value(argument)
            if value.constant is None:
                raise self._scope.error(argument.position, f"{node.function} takes {what}, not columns")
            self._opened.pin(value)
            out.append(value.constant)
        return out

    # Conditions

    def _comparison(self, node: Comparison) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if left.kind == right.kind == "timespan" or {left.kind, right.kind} == {"timespan", "time"}:
            return self._compare_spans(node, left, right)
        self._check_comparable(node, left, right)
        if left.kind == "bool" and node.operator not in ("=", "!="):
            raise self._scope.error(node.position, "true and false are compared by = and != only")
        if left.kind == "str" and node.operator not in ("=", "!="):
            return _OPERATORS[node.operator](self._tables.by_code_point(left.sql), right.sql)
        return _OPERATORS[node.operator](left.sql, right.sql)

    def _check_comparable(self, node: Expression, left: Operand, right: Operand) -> None:
        kinds = {left.kind, right.kind}
        if "region" in kinds:
            raise self._scope.error(node.position, "regions are compared by OVERLAPS")
        if len(kinds) == 1 or kinds <= {"int", "float"}:
            return
        hint = ""
        for one, other in ((left, right), (right, left)):
            if one.kind == "time" and other.kind == "str":
                hint = f" Write a time as T{other.constant!r}." if other.constant else ""
            if one.kind == "int" and other.kind == "str" and isinstance(one.reference, FieldReference):
                element = DimensionUniverse()[one.reference.element]
                names = [f.name for f in element.alternate_keys]
                if names and one.reference.is_dimension:
                    hint = f" Its name is {element.name}.{names[0]}."
        raise self._scope.error(
            node.position,
            f"{self._shown(left)} is {_KIND_NAMES[left.kind]}, {self._shown(right)} is "
            f"{_KIND_NAMES[right.kind]}: they do not compare.{hint}",
        )

    @staticmethod
    def _shown(value: Operand) -> str:
        if isinstance(value.reference, FieldReference):
            r = value.reference
            return repr(r.element if r.is_dimension else f"{r.element}.{r.field}")
        if isinstance(value.reference, DatasetField):
            return repr(f"{value.reference.dataset_type}.{value.reference.field}")
        return "the other side" if value.constant is None else repr(value.constant)

    def _compare_spans(self, node: Comparison, left: Operand, right: Operand) -> Any:
        (a, b), (c, d) = _span(left), _span(right)
        match node.operator:
            case "<":
                return b <= c
            case ">":
                return a >= d
            case "=":
                return sa.and_(a == c, b == d)
            case "!=":
                return sa.or_(a != c, b != d)
        raise self._scope.error(node.position, "timespans are compared by <, >, =, != and OVERLAPS")

    def _overlaps(self, node: Comparison) -> Any:
        left, right = self._extent(node.left, node.right), self._extent(node.right, node.left)
        kinds = {left.kind, right.kind}
        if kinds == {"region"}:
            return self._regions_overlap(node, left, right)
        if kinds <= {"time", "timespan"} and "timespan" in kinds:
            (a, b), (c, d) = _span(left), _span(right)
            return sa.and_(a < d, c < b)
        raise self._scope.error(
            node.position,
            f"OVERLAPS is between two regions or two timespans, not {_KIND_NAMES[left.kind]} and "
            f"{_KIND_NAMES[right.kind]}",
        )

    def _extent(self, node: Expression, other: Expression) -> Operand:
        # `visit OVERLAPS POINT(..)` means the visit's region, `visit OVERLAPS (T'..', T'..')` its timespan.
        if isinstance(node, Name):
            meaning = self._scope.resolve(node)
            if isinstance(meaning, FieldReference) and meaning.is_dimension:
                element = DimensionUniverse()[meaning.element]
                other_kind = self._kind_if_plain(other)
                if (element.spatial or element.skypix_level is not None) and other_kind == "region":
                    return Operand("region", None, reference=FieldReference(element.name, "region", "region"))
                if element.temporal:
                    span = FieldReference(element.name, "timespan", "timespan")
                    return Operand("timespan", self._tables.field(span), reference=span)
        return self.value(node)

    def _kind_if_plain(self, node: Expression) -> Kind:
        if isinstance(node, Name):
            meaning = self._scope.resolve(node)
            if isinstance(meaning, FieldReference) and meaning.is_dimension:
                element = DimensionUniverse()[meaning.element]
                return "region" if element.spatial or element.skypix_level is not None else "timespan"
        return self.value(node).kind

    def _regions_overlap(self, node: Comparison, left: Operand, right: Operand) -> Any:
        if left.constant is not None and right.constant is not None:
            from lsst.sphgeom import DISJOINT

            return sa.false() if left.constant.relate(right.constant) & DISJOINT else sa.true()
        elements = [o.reference.element for o in (left, right) if isinstance(o.reference, FieldReference)]
        if len(elements) == 2:
            return self._sky.regions_overlap(elements[0], elements[1])
        region = left.constant if left.constant is not None else right.constant
        return self._sky.within_region(elements[0], region)

    def _in(self, node: In) -> Any:
        left = self.value(node.operand)
        single = node.items[0] if len(node.items) == 1 else None
        if isinstance(single, (Name, Bind)):
            meaning = self._scope.resolve(single)
            if isinstance(meaning, BoundValue) and _is_list(meaning.value):
                condition = self._member(node, left, [constant_operand(v) for v in meaning.value], ())
                return sa.not_(condition) if node.negated else condition
        if single is not None and left.kind == "time" and not isinstance(single, Range):
            span = self.value(single)
            if span.kind == "timespan":
                a, b = _span(span)
                condition = sa.and_(a <= left.sql, left.sql < b)
                return sa.not_(condition) if node.negated else condition
        constants: list[Operand] = []
        others: list[Any] = []
        for item in node.items:
            if isinstance(item, Range):
                others.append(self._range(node, left, item))
                continue
            if isinstance(item, (Name, Bind)):
                meaning = self._scope.resolve(item)
                if isinstance(meaning, BoundValue) and _is_list(meaning.value):
                    constants += [constant_operand(v) for v in meaning.value]
                    continue
            if isinstance(item, Literal) and item.value is None:
                others.append(self._nullable(node.operand).is_(None))
                continue
            value = self.value(item)
            self._check_comparable(item, left, value)
            if value.constant is None:
                others.append(left.sql == value.sql)
            else:
                constants.append(value)
        condition = self._member(node, left, constants, others)
        return sa.not_(condition) if node.negated else condition

    def _member(self, node: In, left: Operand, constants: Sequence[Operand], others: Sequence[Any]) -> Any:
        for value in constants:
            self._check_comparable(node, left, value)
        terms = list(others)
        if len(constants) > _MANY_VALUES:
            is_real = any(v.kind == "float" for v in constants)
            kind = sa.Double() if is_real else constants[0].sql.type
            terms.append(self._tables.member(left.sql, [v.database_value for v in constants], kind))
        elif constants:
            # Each of its own type: a list of values would have that of the first, and 2.5 be an integer.
            terms.append(left.sql.in_([v.sql for v in constants]))
        return sa.or_(*terms) if terms else sa.false()

    def _range(self, node: In, left: Operand, item: Range) -> Any:
        if left.kind != "int":
            raise self._scope.error(
                item.position, f"a range of integers, but {_KIND_NAMES[left.kind]} before"
            )
        for bound in (item.start, item.stop, item.step):
            self._constant(item, bound)
        condition = left.sql.between(item.start, item.stop)
        if item.step > 1:
            condition = sa.and_(condition, (left.sql - item.start) % item.step == 0)
        return condition

    def _glob(self, node: Call) -> Any:
        if len(node.arguments) != 2:
            raise self._scope.error(node.position, "GLOB takes a field and a pattern")
        left, pattern = (self.value(a) for a in node.arguments)
        if left.kind != "str" or not isinstance(pattern.constant, str):
            raise self._scope.error(node.position, "GLOB takes a string field first, and a pattern")
        self._opened.pin(pattern)
        return self._tables.like_glob(left.sql, pattern.constant)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _span(value: Operand) -> tuple[Any, Any]:
    if value.kind == "timespan":
        return value.sql[0], value.sql[1]
    # An instant overlaps the half-open timespans that contain it.
    return value.sql, value.sql + 1
