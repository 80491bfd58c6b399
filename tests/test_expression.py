"""The expression language: its tree, its errors, and its SQL against a plain evaluator."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from registry_records import CALEXP, DAY, RAW, put, universe

from butler_dask.errors import InvalidQueryError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.expression import (
    And,
    Arithmetic,
    Bind,
    Call,
    Comparison,
    In,
    IsNull,
    Literal,
    Name,
    Not,
    Or,
    Pair,
    Range,
    Sign,
    parse_expression,
)
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.time_literal import time_of_literal
from butler_dask.vocabulary.timespan import Timespan, tai_nanoseconds

pytest_plugins = ("registry_fixtures",)


# The tree


def test_precedence_is_or_and_not_comparison_arithmetic():
    tree = parse_expression("NOT a = 1 AND b < 2 + 3 * -c OR d")
    match tree:
        case Or(
            operands=(
                And(
                    operands=(
                        Not(operand=Comparison(operator="=", left=Name(text="a"))),
                        Comparison(
                            operator="<",
                            right=Arithmetic(
                                operator="+",
                                right=Arithmetic(operator="*", right=Sign(operand=Name(text="c"))),
                            ),
                        ),
                    )
                ),
                Name(text="d"),
            )
        ):
            pass
        case _:
            pytest.fail(str(tree))


def test_lists_hold_values_ranges_and_bound_names():
    tree = parse_expression("visit NOT IN (1, 3..9:2, -4..-2, :more, 1.5, 'x')")
    assert isinstance(tree, In)
    assert tree.negated
    assert tree.items[1:4] == (Range(17, 3, 9, 2), Range(25, -4, -2, 1), Bind(33, "more"))
    assert [type(i) for i in tree.items] == [Literal, Range, Range, Bind, Literal, Literal]
    assert parse_expression("visit IN visits") == In(0, Name(0, "visit"), (Name(9, "visits"),), False)


def test_null_is_written_in_several_ways():
    for text in ("a IS NULL", "a = NULL", "NULL = a", "a == null"):
        assert isinstance(parse_expression(text), IsNull)
        assert not parse_expression(text).negated
    for text in ("a IS NOT NULL", "a != NULL", "a <> NULL"):
        assert parse_expression(text).negated


def test_keywords_know_no_case_and_names_may_contain_them():
    assert parse_expression("a=1 and not b In (1)") == parse_expression("a=1 AND NOT b IN (1)")
    assert parse_expression("order_by.in_place = 1").left == Name(0, "order_by.in_place")
    assert parse_expression("  ") is None


def test_strings_take_both_quotes():
    assert parse_expression("""a = "it's" AND b = 'it\\'s'""").operands[0].right.value == "it's"
    assert parse_expression("""b = 'it\\'s'""").right.value == "it's"


def test_functions_and_pairs():
    tree = parse_expression("visit.region OVERLAPS circle(1, -2, 0.5)")
    assert isinstance(tree.right, Call)
    assert tree.right.function == "CIRCLE"
    assert isinstance(parse_expression("t OVERLAPS (T'2020-01-01', NULL)").right, Pair)


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("visit=", "ends too early", 6),
        ("visit=3 AND AND", "unexpected 'AND'", 12),
        ("visit=3)", "unexpected", 7),
        ("visit='abc", "this string has no end", 6),
        ("a = 1 $ 2", "unexpected character", 6),
        ("a IN (5..1)", "goes upwards", 6),
        ("a < T'someday'", "not a time: 'someday'", 4),
        ("a = 3..5", "unexpected", 5),
    ],
)
def test_errors_point_at_the_place(text, what, column):
    with pytest.raises(InvalidQueryError, match=what) as caught:
        parse_expression(text)
    lines = str(caught.value).splitlines()
    assert lines[-2].strip() == text.strip()
    assert lines[-1].index("^") - 2 == column


def test_dates_are_utc_and_numbers_tai_unless_said_otherwise():
    from astropy.time import Time

    for literal, time in (
        ("2020-01-01", Time("2020-01-01", scale="utc")),
        ("2020-01-01T12:30", Time("2020-01-01T12:30:00", scale="utc")),
        ("2020-01-01 12:30:05.25/tai", Time("2020-01-01T12:30:05.25", scale="tai")),
        ("2020-01-01T12:30:05+00:00", Time("2020-01-01T12:30:05", scale="utc")),
        ("1965-01-01", Time("1965-01-01", scale="utc")),
        ("2016-12-31T23:59:60", Time("2016-12-31T23:59:60", scale="utc")),
        ("+02020-01-01T00:00:00", Time("+02020-01-01T00:00:00", format="fits", scale="utc")),
        ("2020:100", Time("2020:100", scale="utc")),
        ("unix/1000000000", Time(1e9, format="unix", scale="utc")),
        ("cxcsec/1000", Time(1e3, format="cxcsec", scale="tt")),
        ("2020-01-01T12:30:05/utc", Time("2020-01-01T12:30:05", scale="utc")),
        ("isot/2020-01-01T12:30:05/utc", Time("2020-01-01T12:30:05", scale="utc")),
        ("58849.5", Time(58849.5, format="mjd", scale="tai")),
        ("mjd/58849.5/utc", Time(58849.5, format="mjd", scale="utc")),
        ("jd/2458850.0", Time(2458850.0, format="jd", scale="tai")),
    ):
        assert abs(time_of_literal(literal) - tai_nanoseconds(time)) <= 1, literal


# Its SQL


def visits(registry: Registry, where: str, bind=None) -> set[int]:
    """Return the HSC visits that satisfy a condition."""
    table = registry.queries.data_ids(
        universe.conform(["visit"]), Selection().where(where, {"instrument": "HSC"}, bind=bind)
    )
    return set(table.values("visit").tolist())


def test_bound_values_are_used_by_either_spelling(registry):
    assert visits(registry, "visit = number", {"number": 3}) == {3}
    assert visits(registry, "visit = :number", {"number": np.int64(3)}) == {3}
    assert visits(registry, "visit IN (numbers)", {"numbers": [1, 2]}) == {1, 2}
    assert visits(registry, "visit IN :numbers", {"numbers": {1, 2}}) == {1, 2}
    assert visits(registry, "visit NOT IN (:numbers, 5)", {"numbers": (1, 2)}) == {3, 4, 6}
    assert visits(registry, "visit IN numbers", {"numbers": range(3, 9000)}) == {3, 4, 5, 6}
    # As in the reference, a bound name hides a dimension's.
    assert visits(registry, "visit.name = visit", {"visit": "v3"}) == {3}
    assert visits(registry, "visit.timespan OVERLAPS when", {"when": Timespan(2 * DAY, 3 * DAY)}) == {2}
    when = datetime(1970, 1, 3, tzinfo=UTC)
    assert visits(registry, "visit.timespan.begin < :when", {"when": when}) == {1, 2}
    with pytest.raises(InvalidQueryError, match="'thing': values of type object cannot be used"):
        visits(registry, "visit = thing", {"thing": object()})
    with pytest.raises(InvalidQueryError, match=r"no value is bound to ':numbr'. Did you mean 'number'"):
        visits(registry, "visit = :numbr", {"number": 3})


def test_astropy_times_bind(registry):
    from astropy.time import Time

    time = Time("1970-01-03T01:00:00", scale="tai")
    assert visits(registry, "visit.timespan OVERLAPS t", {"t": time}) == {2}
    assert visits(registry, "t IN visit.timespan", {"t": time}) == {2}


def test_booleans_are_conditions_by_themselves(registry):
    def exposures(where):
        table = registry.queries.data_ids(
            universe.conform(["exposure"]), Selection().where(where, {"instrument": "HSC"})
        )
        return set(table.values("exposure").tolist())

    assert exposures("exposure.can_see_sky") == {1, 3, 5}
    assert exposures("NOT exposure.can_see_sky") == {2, 4, 6}
    assert exposures("exposure.can_see_sky = FALSE AND exposure > 2") == {4, 6}
    assert exposures("TRUE AND exposure.can_see_sky != TRUE") == {2, 4, 6}
    with pytest.raises(InvalidQueryError, match="an integer is not a condition"):
        exposures("exposure")


def test_lists_mix_integers_and_other_numbers_of_any_size(registry):
    # A server would take the type of the first for all.
    assert visits(registry, "visit IN (1, 2.5)") == {1}
    assert visits(registry, "visit IN (numbers)", {"numbers": [1, 2.5, 3]}) == {1, 3}
    many = [2.5, *range(3, 1000)]
    assert visits(registry, "visit IN (numbers)", {"numbers": many}) == {3, 4, 5, 6}
    assert visits(registry, "exposure_time IN (60, 30.0, 5000000000)") == {1, 2}
    assert visits(registry, "exposure_time + 0.5 IN (60, 60.5, 90.25)") == {2}


def test_names_without_element_are_found_where_they_are_unambiguous(registry):
    assert visits(registry, "exposure_time > 150") == {6}
    assert visits(registry, "timespan.begin > T'1970-01-06/tai'") == {6}
    with pytest.raises(
        InvalidQueryError, match=r"'seq_num' is ambiguous here; write one of exposure\.seq_num"
    ):
        registry.queries.data_ids(
            universe.conform(["visit", "exposure"]), Selection().where("seq_num=3", {"instrument": "HSC"})
        )


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("detectr=3", "Did you mean 'detector'"),
        ("visit.exposuretime > 3", "Did you mean 'exposure_time'"),
        ("visti.exposure_time > 3", "Did you mean 'visit'"),
        ("visit = 'three'", r"'visit' is an integer, 'three' is a string.*Its name is visit\.name"),
        ("physical_filter = 3", "'physical_filter' is a string, 3 is an integer"),
        ("visit.timespan.begin > '2020-01-01'", "Write a time as T'2020-01-01'"),
        ("visit.timespan = 3", "do not compare"),
        ("visit.region = 3", "compared by OVERLAPS"),
        ("visit.region OVERLAPS 3", "OVERLAPS is between"),
        ("visit IN ('a')", "do not compare"),
        ("physical_filter IN (1..3)", "a range of integers"),
        ("visit + 'a' = 3", "a number is needed here"),
        ("visit AND visit=3", "is not a condition"),
        ("FOO(visit) = 3", "no function 'FOO'"),
        ("visit.region OVERLAPS CIRCLE(1, 2)", "CIRCLE: takes 3 numbers"),
        ("GLOB(visit, 'a')", "GLOB takes a string field first"),
        ("visit = UUID('x')", "takes one UUID"),
        ("(T'2020-01-01', 3) OVERLAPS visit.timespan", "a time is needed here"),
        ("raw.run = 'x'", "'raw' is no dimension and no dataset type of this query"),
        ("visit_detector_region = 3", "is a relation; name a field of it"),
        ("can_see_sky", r"write exposure\.can_see_sky"),
        ("exposure.can_see_sky > FALSE", "compared by = and != only"),
    ],
)
def test_conditions_that_mean_nothing_are_explained(registry, where, what):
    with pytest.raises(InvalidQueryError, match=what):
        visits(registry, where)


# Governors


def test_dimension_without_its_instrument_is_refused(registry):
    group = universe.conform(["visit"])
    with pytest.raises(InvalidQueryError, match=r"'visit' depends on 'instrument'.*Add instrument="):
        registry.queries.data_ids(group, Selection().where("visit=3"))
    for where in (
        "visit=3 AND detector=1",
        "NOT visit=3",
        "visit=3 OR band='r'",
        "visit.exposure_time > 3",
    ):
        with pytest.raises(InvalidQueryError, match="depends on 'instrument'"):
            registry.queries.data_ids(group, Selection().where(where))
    with pytest.raises(InvalidQueryError, match="depends on 'skymap'"):
        registry.queries.data_ids(group, Selection().where("instrument='HSC' AND tract=7"))


def test_dimension_with_its_instrument_is_accepted(registry):
    group = universe.conform(["visit"])
    for where in (
        "instrument='HSC' AND visit=3",
        "visit=3 AND 'HSC'=instrument",
        "instrument IN ('HSC', 'LATISS') AND visit=3",
        "(instrument='HSC' OR instrument='LATISS') AND visit=3",
        "instrument='HSC' AND (visit=3 OR visit=99)",
        "(instrument='HSC' AND visit=3) OR (instrument='LATISS' AND visit=4)",
        "instrument=name AND visit=3",
        "GLOB(instrument, 'H*') AND visit=3",
        "instrument.detector_max > 100 AND visit=3",
    ):
        assert registry.queries.data_ids(group, Selection().where(where, bind={"name": "HSC"})).values(
            "visit"
        ) == [3]
    assert len(registry.queries.data_ids(group, Selection().where("visit=3", {"instrument": "HSC"}))) == 1
    assert len(registry.queries.data_ids(group, Selection().where("band='r'", {"instrument": "HSC"}))) == 3
    assert len(registry.queries.data_ids(universe.conform(["band"]), Selection().where("band='r'"))) == 1


# Dataset fields


def test_fields_of_datasets_are_conditions_too(registry):
    table = put(registry, RAW, "one")
    put(registry, RAW, "two")
    instrument = {"instrument": "HSC"}

    def runs(where, **bind):
        found = registry.queries.datasets(
            "raw", ["one", "two"], Selection().where(where, instrument, bind=bind), find_first=False
        )
        return {r.run for r in found}, len(found)

    assert runs("raw.run = 'two'") == ({"two"}, 24)
    assert runs("raw.collection != 'two' AND detector=1") == ({"one"}, 6)
    assert runs("raw.ingest_date > T'2020-01-01'") == ({"one", "two"}, 48)
    assert runs("raw.ingest_date < T'2020-01-01'") == (set(), 0)
    assert runs(f"raw.dataset_id = UUID('{table.id(3)}')") == ({"one"}, 1)
    assert runs("raw.dataset_id IN ids", ids=[table.id(3), uuid.uuid4()]) == ({"one"}, 1)
    with pytest.raises(InvalidQueryError, match="datasets have no field 'ingest_dat'"):
        runs("raw.ingest_dat > T'2020-01-01'")
    put(registry, CALEXP, "calexps", {"visit": 1, "detector": 0})
    joined = registry.queries.data_ids(
        universe.conform(["visit", "detector"]),
        Selection(datasets=[("calexp", ["calexps"])]).where("calexp.run = 'calexps'"),
    )
    assert len(joined) == 1
