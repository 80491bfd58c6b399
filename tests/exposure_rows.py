"""Exposures with random fields, many of them missing, and what an expression is for one of them in Python."""

import operator
import random
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.expression import (
    And,
    Arithmetic,
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
from butler_dask.vocabulary.timespan import Timespan

HOUR = 3_600_000_000_000
FILTERS = {"one-g": "g", "one-r": "r", "two-r": "r"}
FIELDS: dict[str, list[str]] = {
    "int": ["exposure", "exposure.seq_num", "seq_start", "exposure.day_obs", "exposure.id"],
    "float": ["exposure.exposure_time", "dark_time", "exposure.zenith_angle"],
    "str": ["physical_filter", "exposure.target_name", "band", "obs_id", "exposure.observation_type"],
    "time": ["exposure.timespan.begin", "exposure.timespan.end", "timespan.begin"],
    "bool": ["exposure.can_see_sky", "has_simulated"],
}


def random_exposures(seed: int, count: int) -> list[dict[str, Any]]:
    """Return fields of exposures of the instrument "Cam"."""
    r = random.Random(seed)

    def maybe(value: Any) -> Any:
        return value if r.random() < 0.75 else None

    out = []
    for i in range(count):
        begin = r.randrange(0, 96) * HOUR
        out.append(
            {
                "instrument": "Cam",
                "id": i,
                "day_obs": 20200101 + r.randrange(3),
                "group": "g",
                "physical_filter": r.choice(list(FILTERS)),
                "obs_id": f"o{i:03d}",
                "seq_num": maybe(r.randrange(-5, 12)),
                "seq_start": maybe(r.randrange(0, 5)),
                "exposure_time": maybe(r.choice([0.0, 15.0, 30.5, 300.0])),
                "dark_time": maybe(float(r.randrange(-3, 4))),
                "zenith_angle": maybe(r.choice([1.25, 45.0, 60.0])),
                "target_name": maybe(r.choice(["m31", "M31", "ngc_1", "a*b", "it's"])),
                "observation_type": maybe(r.choice(["science", "dark", "flat"])),
                "can_see_sky": maybe(r.random() < 0.5),
                "has_simulated": maybe(r.random() < 0.5),
                "timespan": maybe(Timespan(begin, begin + r.choice([1, 6, 30]) * HOUR)),
            }
        )
    return out


def insert_exposures(registry: Registry, exposures: list[dict[str, Any]]) -> None:
    """Insert exposures and what they refer to."""
    add = registry.records.insert
    add("instrument", [{"name": "Cam"}])
    add("physical_filter", [{"instrument": "Cam", "name": n, "band": b} for n, b in FILTERS.items()])
    add("day_obs", [{"instrument": "Cam", "id": d} for d in sorted({e["day_obs"] for e in exposures})])
    add("group", [{"instrument": "Cam", "name": "g"}])
    add("exposure", exposures)


def names_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return every name of `FIELDS` with the value it stands for."""
    span = fields["timespan"]
    values = {**fields, "exposure": fields["id"], "band": FILTERS[fields["physical_filter"]]}
    values["timespan.begin"] = None if span is None else span.begin_ns
    values["timespan.end"] = None if span is None else span.end_ns
    names = [n for own in FIELDS.values() for n in own] + ["exposure.timespan"]
    return {n: values[n.removeprefix("exposure.")] for n in names}


_COMPARISONS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(node: Expression, row: Mapping[str, Any]) -> Any:
    """Return the value of a tree for one exposure, by SQL's three-valued logic; `None` is unknown."""
    match node:
        case And(operands=operands):
            values = [evaluate(o, row) for o in operands]
            return False if False in values else None if None in values else True
        case Or(operands=operands):
            values = [evaluate(o, row) for o in operands]
            return True if True in values else None if None in values else False
        case Not(operand=operand):
            value = evaluate(operand, row)
            return None if value is None else not value
        case Name(text=text):
            return row[text]
        case Literal(value=value):
            return value
        case Instant(ns=ns):
            return ns
        case Pair(begin=begin, end=end):
            return Timespan(evaluate(begin, row), evaluate(end, row))
        case Sign(operator=sign, operand=operand):
            value = evaluate(operand, row)
            return -value if sign == "-" and value is not None else value
        case IsNull(operand=operand, negated=negated):
            return (evaluate(operand, row) is None) != negated
        case In():
            return _is_in(node, row)
        case Call(function="GLOB", arguments=(field, pattern)):
            value = evaluate(field, row)
            return None if value is None else fnmatchcase(value, pattern.value.replace("[", "[[]"))
        case Comparison(operator="OVERLAPS", left=left, right=right):
            a, b = (_span(evaluate(side, row)) for side in (left, right))
            return None if a is None or b is None else a.overlaps(b)
        case Comparison(operator=sign, left=left, right=right):
            a, b = evaluate(left, row), evaluate(right, row)
            if a is None or b is None:
                return None
            if isinstance(a, Timespan) or isinstance(b, Timespan):
                a, b = _span(a), _span(b)
                return a.end_ns <= b.begin_ns if sign == "<" else a.begin_ns >= b.end_ns
            return _COMPARISONS[sign](a, b)
        case Arithmetic(operator=sign, left=left, right=right):
            return _arithmetic(sign, evaluate(left, row), evaluate(right, row))
    raise AssertionError(node)


def _is_in(node: In, row: Mapping[str, Any]) -> bool | None:
    value = evaluate(node.operand, row)
    found = False
    unknown = False
    for item in node.items:
        if isinstance(item, Literal) and item.value is None:
            found |= value is None
        elif value is None:
            unknown = True
        elif isinstance(item, Range):
            found |= value in range(item.start, item.stop + 1, item.step)
        else:
            found |= value == evaluate(item, row)
    if unknown and not found:
        return None
    return found != node.negated


def _span(value: Any) -> Timespan | None:
    return Timespan(value, value + 1) if isinstance(value, int) else value


def _arithmetic(sign: str, a: Any, b: Any) -> Any:
    if a is None or b is None or (sign in "/%" and b == 0):
        return None
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b
    if sign == "*":
        return a * b
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    # As in SQL, towards zero; the remainder has the sign of the dividend.
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient if sign == "/" else a - quotient * b
