"""Statements are made once for queries that differ in values only: answers must not tell."""

import itertools
from datetime import datetime

import pytest
from registry_records import BIAS, DAY, RAW, put, universe

from butler_dask.errors import InvalidQueryError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.timespan import Timespan
from butler_dask.vocabulary.where import ExpressionForm, Where

pytest_plugins = ("registry_fixtures",)

HSC = {"instrument": "HSC"}
RAWS = [{"exposure": e, "detector": d} for e in (1, 2, 3, 5) for d in range(3)]

# Each with several sets of values, some of which leave nothing.
FORMS = {
    "instrument='HSC' AND exposure={} AND detector IN (0, {})": [(1, 1), (2, 3), (5, 2), (9, 9)],
    "instrument={} AND exposure > {}": [("'HSC'", 2), ("'LATISS'", 0), ("'nobody'", 1)],
    "instrument='HSC' AND exposure IN ({}..{})": [(1, 2), (2, 5), (6, 9)],
    "instrument='HSC' AND exposure IN ({} .. {}:2)": [(1, 5), (2, 5)],
    "instrument='HSC' AND exposure + {} > {}": [(1, 3), (0, 3), (2, 3)],
    "instrument='HSC' AND exposure > -{} AND exposure - 2 > -{}": [(1, 1), (5, 0)],
    "instrument='HSC' AND detector.full_name = {}": [("'0_1'",), ("'1_0'",), ("'x'",)],
    "instrument='HSC' AND GLOB(detector.full_name, {})": [("'0_*'",), ("'1_?'",), ("'*'",)],
    "instrument='HSC' AND raw.run = {}": [("'raws'",), ("'other'",)],
    "instrument='HSC' AND exposure.timespan OVERLAPS (T'mjd/{}', T'mjd/{}')": [
        (40588, 40590),
        (40587, 40589),
        (1, 2),
    ],
    "instrument='HSC' AND (exposure = {} OR detector = {}) AND NOT exposure = {}": [(1, 1, 2), (2, 0, 3)],
}


@pytest.fixture
def raws(registry: Registry) -> Registry:
    """Registry with some raws."""
    put(registry, RAW, "raws", *RAWS)
    return registry


def fresh(registry: Registry) -> Registry:
    """Return the registry as another program would open it."""
    return Registry.open(registry.url)


@pytest.mark.parametrize("template", FORMS)
def test_queries_that_differ_in_values_are_answered_as_if_each_were_the_first(raws, template):
    group = universe.conform(["exposure", "detector"])
    for values in (*FORMS[template], *reversed(FORMS[template])):
        selection = Selection(datasets=[("raw", ("raws",))]).where(template.format(*values))
        with_others = raws.queries.datasets("raw", ["raws"], selection)
        again = fresh(raws)
        try:
            alone = again.queries.datasets("raw", ["raws"], selection)
            assert set(with_others) == set(alone), values
            assert set(raws.queries.data_ids(group, selection)) == set(alone.data_ids), values
            assert len(raws.queries.records("exposure", selection)) == len(
                {d["exposure"] for d in alone.data_ids}
            )
        finally:
            again.close()


def test_values_given_by_data_id_bind_and_default_are_open(raws):
    group = universe.conform(["exposure", "detector"])

    def found(*args, default=None, **options):
        selection = Selection(datasets=[("raw", ("raws",))], default=default).where(*args, **options)
        with raws.explain_query() as statements:
            rows = [(d["exposure"], d["detector"]) for d in raws.queries.data_ids(group, selection)]
        return sorted(rows), statements[-1].sql

    one, first_sql = found("exposure = e", HSC, bind={"e": 1})
    two, second_sql = found("exposure = e", HSC, bind={"e": 2})
    assert one == [(1, d) for d in range(3)]
    assert two == [(2, d) for d in range(3)]
    assert first_sql == second_sql
    one, first_sql = found({**HSC, "exposure": 1, "detector": 0})
    two, second_sql = found({**HSC, "exposure": 5, "detector": 2})
    assert (one, two) == ([(1, 0)], [(5, 2)])
    assert first_sql == second_sql
    for instrument, n in (("HSC", 3), ("LATISS", 0), ("HSC", 3)):
        rows, _ = found("exposure = 1", default={"instrument": instrument}.get)
        assert len(rows) == n
    # Another answer of the default asks for another statement, or none.
    assert (
        len(found("detector.purpose = 'SCIENCE' AND detector = 1", default={"instrument": "HSC"}.get)[0]) == 4
    )
    with pytest.raises(InvalidQueryError, match="depends on 'instrument'"):
        found("detector.purpose = 'SCIENCE' AND detector = 1", default=lambda name: None)
    for value in (1, 2.0, True, datetime(2020, 1, 1)):
        kind_fits = value in (1, 2.0) and value is not True
        if kind_fits:
            assert found("exposure = e", HSC, bind={"e": value})[0]
        else:
            with pytest.raises(InvalidQueryError, match="do not compare"):
                found("exposure = e", HSC, bind={"e": value})


def test_bound_lists_and_times_of_one_name_are_told_apart(raws):
    def exposures(bound):
        selection = Selection().where("exposure IN (them)", HSC, bind={"them": bound})
        return sorted({d["exposure"] for d in raws.queries.datasets("raw", "raws", selection).data_ids})

    numbers = [1, 2]
    assert exposures(numbers) == [1, 2]
    numbers.append(3)
    assert exposures(numbers) == [1, 2, 3]
    assert exposures([5]) == [5]
    for days, expected in ((2, [1]), (3, [1, 2])):
        span = Timespan(0, days * DAY)
        selection = Selection().where("exposure.timespan OVERLAPS when", HSC, bind={"when": span})
        found = raws.queries.datasets("raw", "raws", selection).data_ids
        assert sorted({d["exposure"] for d in found}) == expected


def test_a_number_beyond_the_database_is_refused_also_after_one_that_fits(raws):
    group = universe.conform(["exposure"])
    for text in ("exposure = 7", f"exposure = {2**70}", "exposure = 8"):
        selection = Selection().where(text, HSC)
        if len(text) > 20:
            with pytest.raises(InvalidQueryError, match="64 bits"):
                raws.queries.data_ids(group, selection)
        else:
            raws.queries.data_ids(group, selection)


def test_limit_order_and_collections_are_part_of_what_a_statement_is_known_by(raws):
    put(raws, RAW, "more", {"exposure": 6, "detector": 0})
    raws.collections.register("tag", CollectionType.TAGGED)
    raws.associations.associate("tag", raws.queries.datasets("raw", "more"))

    def exposures(collections, **options):
        selection = Selection(**options).where("exposure > 0", HSC)
        return [d["exposure"] for d in raws.queries.datasets("raw", collections, selection).data_ids]

    for _ in range(2):
        assert exposures("raws", order_by=["-exposure"], limit=1) == [5]
        assert exposures("raws", order_by=["exposure"], limit=1) == [1]
        assert exposures("raws", order_by=["exposure"], limit=2, offset=2) == [1, 2]
        assert exposures("more") == exposures("tag") == [6]
        assert len(exposures(["raws", "more"])) == len(RAWS) + 1
        assert len(exposures(["raws", "more"], limit=3)) == 3


def test_a_dataset_type_made_anew_with_other_dimensions_is_asked_for_anew(raws):
    name = "short_lived"
    for dimensions, n in ((["exposure"], 2), (["detector"], 3), (["exposure", "detector"], 1)):
        kind = DatasetType(name, dimensions, "StructuredDataDict")
        raws.dataset_types.register([kind])
        values = [{k: i + 1 for k in dimensions} for i in range(n)]
        put(raws, kind, f"run/{n}", *values)
        assert len(raws.queries.datasets(name, f"run/{n}", Selection().where("instrument='HSC'"))) == n
        raws.removal.remove_runs([f"run/{n}"])
        raws.dataset_types.remove(name)


def test_datasets_of_another_type_in_several_collections_do_not_double_an_answer(raws):
    raws.collections.register("calib", CollectionType.CALIBRATION)
    for k in range(2):
        table = put(raws, BIAS, f"bias{k}", *({"detector": d} for d in range(3)))
        raws.associations.certify("calib", table, Timespan(4 * k * DAY, 4 * (k + 1) * DAY))
    for biases in (("calib",), ("bias0", "bias1")):
        selection = Selection(datasets=[("bias", biases)], order_by=["exposure", "detector"])
        found = raws.queries.datasets("raw", "raws", selection.part(4), find_first=False)
        assert [(d["exposure"], d["detector"]) for d in found.data_ids] == [(1, 0), (1, 1), (1, 2), (2, 0)]


def test_the_form_of_an_expression_leaves_strings_and_integers_open():
    for text, values in {
        "visit = 12 AND band = 'r'": (12, "r"),
        "visit IN (1, 5..9:2)": (1, 2),
        "exposure.exposure_time > 1.5e3 AND x1.y2 < .5": (),
        "when = T'2020-01-01' AND name = 'T1'": ("T1",),
        r"name = 'it\'s' OR name = " + '"12"': ("it's", "12"),
        "visit = :v12 OR visit = 123456789012345678901": (),
        "htm7 = 3": (3,),
    }.items():
        form = ExpressionForm.of(text)
        assert form is not None
        assert form.values == values, text
        assert all(text[p] in "'\"0123456789" for p in form.positions)
    assert ExpressionForm.of("name = '\0'") is None
    same = [
        ExpressionForm.of(f"visit={n} AND band='{b}'") for n, b in itertools.product((1, 22), ("r", "is"))
    ]
    assert len({form.text for form in same if form is not None}) == 1


def test_a_slip_of_the_pen_is_told_also_in_a_form_with_known_parts():
    for number in (1, 2):
        assert Where().narrowed([f"visit={number}"]).terms
        with pytest.raises(InvalidQueryError, match="ends too early"):
            Where().narrowed([f"visit={number} AND"])
    both = Where().narrowed(["visit=1"]).narrowed(["band='r' OR band='i'"])
    assert both.text == "(visit=1) AND (band='r' OR band='i')"
    assert len(both.terms) == 2
