"""Random expressions over random exposures: what the database answers is what plain Python answers."""

from operator import itemgetter

import pytest
from exposure_rows import FIELDS, evaluate, insert_exposures, names_of, random_exposures
from hypothesis import example, given, settings, strategies as st

from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.expression import parse_expression, text_of
from butler_dask.vocabulary.selection import Selection

pytest_plugins = ("registry_fixtures",)

EXPOSURES = random_exposures(20_200_101, 150)
ROWS = [names_of(e) for e in EXPOSURES]
CAM = {"instrument": "Cam"}
GROUP = DimensionUniverse().conform(["exposure"])


@pytest.fixture(scope="module")
def exposures(module_registry: Registry) -> Registry:
    """Registry with the exposures."""
    insert_exposures(module_registry, EXPOSURES)
    return module_registry


def _time(hours: int) -> str:
    return f"T'1970-01-{1 + hours // 24:02d}T{hours % 24:02d}:00/tai'"


_hours = st.integers(0, 130)
_integers = st.one_of(st.integers(-6, 13), st.integers(0, 150), st.integers(20200100, 20200104))
_values = {
    "int": _integers.map(str),
    "float": st.sampled_from(["15.0", "30.5", "-2.", "1e2", ".25", "45"]),
    "str": st.sampled_from(["'m31'", '"it\'s"', r"'it\'s'", "'g'", "'one-r'", "'o017'", "'dark'", "''"]),
    "time": _hours.map(_time),
    "bool": st.sampled_from(["TRUE", "FALSE"]),
}


def _numeric(depth: int = 2) -> st.SearchStrategy[str]:
    leaf = st.one_of(st.sampled_from(FIELDS["int"] + FIELDS["float"]), _values["int"], _values["float"])
    if depth == 0:
        return leaf
    below = _numeric(depth - 1)
    return st.one_of(
        leaf,
        st.tuples(below, st.sampled_from("+-*/"), below).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        below.map(lambda t: f"-({t})"),
        st.tuples(st.sampled_from(FIELDS["int"]), st.integers(-4, 4)).map(lambda t: f"({t[0]} % {t[1]})"),
    )


def _listed(kind: str) -> st.SearchStrategy[str]:
    items = [_values[kind], st.just("NULL")]
    if kind == "int":
        ranges = st.tuples(st.integers(-5, 30), st.integers(0, 40), st.integers(1, 4))
        items.append(ranges.map(lambda t: f"{t[0]}..{t[0] + t[1]}:{t[2]}"))
        items.append(ranges.map(lambda t: f"{t[0]} .. {t[0] + t[1]}"))
    return st.tuples(
        st.sampled_from(FIELDS[kind]),
        st.sampled_from(["IN", "not in"]),
        st.lists(st.one_of(items), min_size=1, max_size=4).map(lambda i: f"({', '.join(i)})"),
    ).map(" ".join)


_operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "==", "<>"])
_every_field = st.sampled_from([name for own in FIELDS.values() for name in own])
_spans = st.one_of(
    st.tuples(_hours, _hours).map(lambda t: f"({_time(min(t))}, {_time(max(t))})"),
    _hours.map(lambda h: f"({_time(h)}, NULL)"),
    _hours.map(lambda h: f"(null, {_time(h)})"),
)
_conditions_of_one = st.one_of(
    st.tuples(_numeric(), _operators, _numeric()).map(" ".join),
    *(
        st.tuples(st.sampled_from(FIELDS[kind]), _operators, _values[kind]).map(" ".join)
        for kind in ("str", "time")
    ),
    st.tuples(_values["str"], _operators, st.sampled_from(FIELDS["str"])).map(" ".join),
    st.tuples(st.sampled_from(FIELDS["bool"]), st.sampled_from(["=", "!="]), _values["bool"]).map(" ".join),
    st.sampled_from(FIELDS["bool"]),
    *map(_listed, ("int", "str", "float")),
    st.tuples(_every_field, st.sampled_from(["IS NULL", "IS NOT NULL", "= NULL", "!= NULL"])).map(" ".join),
    _every_field.map(lambda f: f"NULL = {f}"),
    st.tuples(
        st.sampled_from(FIELDS["str"]), st.sampled_from(["m*", "?31", "*_1", "[am]31", "*'s", "o0?7", ""])
    ).map(lambda t: f'GLOB({t[0]}, "{t[1]}")'),
    _spans.map(lambda s: f"exposure.timespan OVERLAPS {s}"),
    _spans.map(lambda s: f"OVERLAPS({s}, exposure.timespan)"),
    _hours.map(lambda h: f"exposure.timespan overlaps {_time(h)}"),
    st.tuples(st.sampled_from("<>"), _hours).map(lambda t: f"exposure.timespan {t[0]} {_time(t[1])}"),
)
_conditions = st.recursive(
    _conditions_of_one,
    lambda below: st.one_of(
        st.tuples(below, st.sampled_from(["AND", "OR", "and"]), below).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        # Without parentheses, so that precedence is tested as well.
        st.tuples(below, st.sampled_from(["AND", "OR"]), below).map(" ".join),
        below.map(lambda t: f"NOT ({t})"),
        below.map(lambda t: f"NOT {t}"),
    ),
    max_leaves=6,
)


def _answers_agree(registry: Registry, condition: str) -> None:
    tree = parse_expression(condition)
    expected = [r["exposure"] for r in ROWS if evaluate(tree, r) is True]
    found = registry.queries.data_ids(GROUP, Selection().where(condition, CAM))
    assert sorted(found.values("exposure").tolist()) == expected
    assert registry.queries.count(GROUP, Selection().where(condition, CAM)) == len(expected)


@settings(max_examples=150, deadline=None)
@given(condition=_conditions)
@example(condition="exposure.exposure_time IN (45, 30.5)")  # whose first decides no type of the others
@example(condition="exposure.seq_num IN (3, 2.5)")
def test_conditions_hold_where_plain_python_says_so(exposures, condition):
    _answers_agree(exposures, condition)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(condition=_conditions)
def test_many_conditions_hold_where_plain_python_says_so(exposures, condition):
    _answers_agree(exposures, condition)


@settings(max_examples=100, deadline=None)
@given(condition=_conditions)
def test_a_tree_written_as_text_is_read_as_the_same_condition(condition):
    tree = parse_expression(condition)
    again = parse_expression(text_of(tree))
    assert [evaluate(again, r) for r in ROWS[:40]] == [evaluate(tree, r) for r in ROWS[:40]]


@settings(max_examples=40, deadline=None)
@given(
    order=st.lists(st.tuples(st.booleans(), _every_field), min_size=1, max_size=3, unique_by=lambda t: t[1]),
    limit=st.one_of(st.none(), st.integers(0, 60)),
    offset=st.one_of(st.none(), st.integers(0, 160)),
)
def test_rows_come_in_the_order_of_plain_python_with_null_least(exposures, order, limit, offset):
    # Letters compare by code in Python; of a database that depends on its collation.
    order = [(falling, name) for falling, name in order if name != "exposure.target_name"]
    terms = [f"{'-' * falling}{name}" for falling, name in order] + ["exposure"]
    rows = sorted(ROWS, key=lambda r: r["exposure"])
    for falling, name in reversed(order):
        known = sorted((r for r in rows if r[name] is not None), key=itemgetter(name), reverse=falling)
        unknown = [r for r in rows if r[name] is None]
        rows = known + unknown if falling else unknown + known
    expected = [r["exposure"] for r in rows][offset or 0 :][:limit]
    found = exposures.queries.data_ids(
        GROUP, Selection(order_by=terms, limit=limit, offset=offset).where(CAM)
    )
    assert found.values("exposure").tolist() == expected


def test_bound_lists_of_any_length_are_members(exposures):
    for numbers in ([], [3], list(range(0, 4000, 7)), (5, 5, 5), {1, 2}):
        found = exposures.queries.data_ids(
            GROUP, Selection().where("exposure IN (:numbers)", CAM, bind={"numbers": numbers})
        )
        assert sorted(found.values("exposure").tolist()) == sorted({n for n in numbers if n < 150})
