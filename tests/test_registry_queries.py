"""Queries of data IDs, records and datasets: joins, sky overlaps, order, limits, and why there is nothing."""

import itertools

import numpy as np
import pytest
from lsst.sphgeom import DISJOINT, Angle, Box, Circle, ConvexPolygon, HtmPixelization, LonLat, UnitVector3d
from registry_records import (
    BIAS,
    CALEXP,
    DAY,
    DEC,
    DETECTORS,
    FLAT,
    RA,
    RAW,
    REFERENCES,
    VISITS,
    box,
    data_ids,
    detector_region,
    patch_region,
    put,
    timespan_of,
    universe,
    visit_region,
)

from butler_dask.errors import DataIdValueError, DimensionNameError, InvalidQueryError
from butler_dask.registry.regions import overlapping_pairs
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)

HSC = {"instrument": "HSC"}


def selected(where="", data_id=None, bind=None, **fields):
    """Return a selection, all that it says by keyword."""
    return Selection(**fields).where(where, data_id, bind=bind)


def query(registry, dimensions, *names, **options):
    """Return the rows of a data ID query as tuples of some of their values."""
    table = registry.queries.data_ids(universe.conform(dimensions), selected(**options))
    rows = [tuple(d[n] for n in names) for d in table]
    assert len(set(table)) == len(table), "rows are unique"
    return rows


def overlap(a, b) -> bool:
    return not a.relate(b) & DISJOINT


# Joins


def test_dimensions_join_by_their_records(registry):
    assert sorted(query(registry, ["detector"], "instrument", "detector")) == [
        (i, d) for i in ("HSC", "LATISS") for d in DETECTORS
    ]
    rows = query(registry, ["exposure"], "exposure", "physical_filter", "band", "day_obs", "group")
    assert sorted(rows) == [
        (v, "HSC-I" if v % 2 else "HSC-R", "i" if v % 2 else "r", 20130600 + v, f"g{v}") for v in VISITS
    ]
    assert len(query(registry, ["exposure", "detector"], "exposure")) == 24
    assert query(registry, [], data_id=HSC) == [()]


def test_exposures_join_visits_by_their_definition(registry):
    assert sorted(query(registry, ["exposure", "visit"], "exposure", "visit")) == [(v, v) for v in VISITS]
    only = query(registry, ["exposure"], "exposure", where="visit IN (2..4)", data_id=HSC)
    assert sorted(only) == [(2,), (3,), (4,)]


def test_data_id_values_constrain_and_unknown_keys_are_named(registry):
    assert query(registry, ["exposure"], "exposure", data_id={**HSC, "visit": 3}) == [(3,)]
    assert len(query(registry, ["exposure"], "exposure", data_id={**HSC, "band": "r"})) == 3
    # An instrument by default says nothing about sky maps.
    assert len(query(registry, ["patch"], "patch", data_id=HSC)) == 14
    with pytest.raises(DimensionNameError, match="Did you mean 'visit'"):
        query(registry, ["exposure"], data_id={**HSC, "vist": 3})
    with pytest.raises(DataIdValueError, match="takes int values"):
        query(registry, ["exposure"], data_id={**HSC, "visit": "three"})


def test_datasets_constrain_data_ids(registry):
    put(registry, RAW, "one", {"exposure": 1, "detector": 0}, {"exposure": 2, "detector": 1})
    put(registry, RAW, "two", {"exposure": 2, "detector": 1}, {"exposure": 3, "detector": 2})
    raws = [("raw", ["one", "two"])]
    rows = query(registry, ["exposure", "detector"], "exposure", "detector", datasets=raws)
    assert sorted(rows) == [(1, 0), (2, 1), (3, 2)]
    assert sorted(query(registry, ["visit"], "visit", datasets=raws)) == [(1,), (2,), (3,)]
    assert query(
        registry, ["exposure"], "exposure", "band", datasets=[("raw", ["one"])], where="band='i'"
    ) == [(1, "i")]
    put(registry, CALEXP, "one", {"visit": 2, "detector": 1})
    both = [("raw", ["two"]), ("calexp", ["one"])]
    rows = query(registry, ["visit", "exposure", "detector"], "visit", "detector", datasets=both)
    assert rows == [(2, 1)]
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate(
        "tag", registry.queries.datasets("raw", "two", Selection().where("exposure=3", HSC))
    )
    mixed = query(registry, ["exposure", "detector"], "exposure", datasets=[("raw", ["tag", "one"])])
    assert sorted(mixed) == [(1,), (2,), (3,)]
    assert query(registry, ["exposure"], "exposure", datasets=[("raw", [])]) == []


def test_calibrations_constrain_exposures_by_time(registry):
    flats = put(registry, FLAT, "flats", {"detector": 0, "physical_filter": "HSC-R"})
    registry.collections.register("calib", CollectionType.CALIBRATION)
    registry.associations.certify("calib", flats, Timespan(3 * DAY, 5 * DAY))
    rows = query(registry, ["exposure", "detector"], "exposure", "detector", datasets=[("flat", ["calib"])])
    # Exposures 2, 4, 6 are in HSC-R; of these only 4 is within the range.
    assert rows == [(4, 0)]
    assert len(query(registry, ["detector"], "detector", datasets=[("flat", ["calib"])])) == 1


# Sky


def test_visits_and_patches_join_where_their_regions_overlap(registry):
    expected = {
        (v, d, p)
        for v, d, p in itertools.product(VISITS, DETECTORS, range(14))
        if overlap(detector_region(v, d), patch_region(p))
    }
    rows = query(registry, ["visit", "detector", "patch"], "visit", "detector", "patch")
    assert set(rows) == expected
    visits = {
        (v, p) for v, p in itertools.product(VISITS, range(14)) if overlap(visit_region(v), patch_region(p))
    }
    assert set(query(registry, ["visit", "patch"], "visit", "patch")) == visits
    assert set(query(registry, ["visit", "tract"], "visit", "tract")) == {(v, 7) for v in VISITS}


def test_overlaps_respect_conditions_on_either_side(registry):
    put(registry, RAW, "raws", *({"exposure": v, "detector": 1} for v in (2, 3)))
    where = "instrument='HSC' AND visit=3 AND detector=1"
    expected = {(3, p) for p in range(14) if overlap(detector_region(3, 1), patch_region(p))}
    dims = ["visit", "detector", "patch"]
    assert set(query(registry, dims, "visit", "patch", where=where)) == expected
    raws = [("raw", ["raws"])]
    assert set(query(registry, dims, "visit", "patch", where=where, datasets=raws)) == expected
    by_patch = query(registry, dims, "visit", "detector", where="skymap='rings' AND patch=5 AND tract=7")
    assert set(by_patch) == {
        (v, d) for v in VISITS for d in DETECTORS if overlap(detector_region(v, d), patch_region(5))
    }
    either = query(
        registry,
        ["visit", "detector", "patch"],
        "visit",
        "patch",
        where="instrument='HSC' AND skymap='rings' AND (visit=3 OR patch=5) AND detector=1",
    )
    assert set(either) == {
        (v, p)
        for v, p in itertools.product(VISITS, range(14))
        if (v == 3 or p == 5) and overlap(detector_region(v, 1), patch_region(p))
    }
    assert set(
        query(
            registry,
            ["detector"],
            "detector",
            where="skymap='rings' AND patch=0 AND tract=7 AND visit=1",
            data_id=HSC,
        )
    ) == {(d,) for d in DETECTORS if overlap(detector_region(1, d), patch_region(0))}


@pytest.mark.parametrize("level", [6, 7, 9])
def test_sky_pixels_join_regions(registry, level):
    pixelization = HtmPixelization(level)
    name = f"htm{level}"
    expected = set()
    for v in (1, 4):
        for begin, end in pixelization.envelope(visit_region(v)):
            expected |= {(v, i) for i in range(begin, end) if overlap(visit_region(v), pixelization.pixel(i))}
    rows = query(registry, ["visit", name], "visit", name, where="visit IN (1, 4)", data_id=HSC)
    assert set(rows) == expected
    some = next(iter(expected))
    assert (some[0],) in query(registry, ["visit"], "visit", data_id={**HSC, name: some[1]})


def test_reference_catalogues_are_found_for_the_pixels_of_a_visit(registry):
    pixels = [r[0] for r in query(registry, ["visit", "htm7"], "htm7", where="visit=2", data_id=HSC)]
    put(registry, REFERENCES, "refs", *({"htm7": p} for p in [*pixels[:3], 131072]))
    rows = query(
        registry,
        ["visit", "htm7"],
        "visit",
        "htm7",
        where="visit=2",
        data_id=HSC,
        datasets=[("references", ["refs"])],
    )
    assert set(rows) == {(2, p) for p in pixels[:3]}
    assert len(query(registry, ["htm7"], "htm7", datasets=[("references", ["refs"])])) == 4
    assert query(registry, ["htm7"], "htm7", where="htm7=231829") == [(231829,)]
    with pytest.raises(InvalidQueryError, match="'htm7' has too many values to list"):
        query(registry, ["htm7"])


def test_regions_in_conditions(registry):
    def visits(where, **bind):
        return {r[0] for r in query(registry, ["visit"], "visit", where=where, bind=bind, data_id=HSC)}

    point = UnitVector3d(LonLat.fromDegrees(RA + 1.4, DEC + 0.1))
    expected = {v for v in VISITS if visit_region(v).contains(point)}
    assert expected == {2}
    assert visits(f"visit.region OVERLAPS POINT({RA + 1.4}, {DEC + 0.1})") == expected
    assert visits(f"POINT({RA + 1.4}, {DEC + 0.1}) OVERLAPS visit") == expected
    assert visits("visit.region OVERLAPS p", p=point) == expected
    assert visits("visit.region OVERLAPS p", p=LonLat(point)) == expected
    circle = Circle(point, Angle.fromDegrees(0.2))
    near = {v for v in VISITS if overlap(visit_region(v), circle)}
    assert near == {1, 2, 3}
    assert visits(f"visit.region OVERLAPS CIRCLE({RA + 1.4}, {DEC + 0.1}, 0.2)") == near
    assert visits("visit.region OVERLAPS (:c)", c=circle) == near
    assert visits(f"visit.region OVERLAPS REGION('CIRCLE {RA + 1.4} {DEC + 0.1} 0.2')") == near
    assert visits("NOT visit.region OVERLAPS :c", c=circle) == set(VISITS) - near
    assert visits("visit.region OVERLAPS :c OR visit=6", c=circle) == near | {6}
    square = Box.fromDegrees(RA + 0.6, DEC - 1, RA + 0.7, DEC + 1)
    assert visits(f"visit.region OVERLAPS BOX({RA + 0.65}, {DEC}, 0.1, 2.0)") == {
        v for v in VISITS if overlap(visit_region(v), square)
    }
    corners = f"{RA + 2.9}, {DEC}, {RA + 3.1}, {DEC}, {RA + 3.0}, {DEC + 0.2}"
    assert visits(f"visit.region OVERLAPS POLYGON({corners})") == {5, 6}
    assert visits("visit.region OVERLAPS CIRCLE(1, 2, -3)") == set()  # an empty region
    everywhere = visits("visit.region OVERLAPS CIRCLE(0, 0, 179.9)")
    assert everywhere == set(VISITS)


def test_overlap_written_out_replaces_the_joined_one(registry):
    rows = query(
        registry,
        ["visit", "detector", "patch"],
        "visit",
        "detector",
        "patch",
        where="visit.region OVERLAPS patch.region AND visit=1 AND skymap='rings'",
        data_id=HSC,
    )
    near = [p for p in range(14) if overlap(visit_region(1), patch_region(p))]
    assert set(rows) == {(1, d, p) for d in DETECTORS for p in near}
    rows = query(
        registry,
        ["visit", "patch"],
        "visit",
        "patch",
        where="visit OVERLAPS tract AND visit=1 AND skymap='rings'",
        data_id=HSC,
    )
    assert len(rows) == 14


def test_overlapping_pairs_agree_with_sphgeom():
    rng = np.random.default_rng(42)

    def polygon(size: float) -> ConvexPolygon:
        ra, dec, angle = rng.uniform(-3, 3), rng.uniform(-87, -80), rng.uniform(0, np.pi)
        corners = []
        for k in range(int(rng.integers(3, 7))):
            a = angle + k
            x, y = size * np.cos(a), size * np.sin(a)
            corners.append(UnitVector3d(LonLat.fromDegrees(ra * 60 + x / np.cos(np.radians(dec)), dec + y)))
        return ConvexPolygon.convexHull(corners)

    first = [polygon(rng.uniform(0.1, 2)) for _ in range(120)]
    second = [polygon(rng.uniform(0.1, 2)) for _ in range(120)]
    second += [
        Circle(UnitVector3d(LonLat.fromDegrees(10, -86)), Angle.fromDegrees(2)),
        Box.fromDegrees(0, -88, 50, -85),
        ConvexPolygon.convexHull(
            [UnitVector3d(LonLat.fromDegrees(x, y)) for x, y in ((0, 0), (80, -10), (40, 70))]
        ),
        Circle.full(),
        Circle.empty(),
    ]
    i, j = overlapping_pairs([r.encode() for r in first], [r.encode() for r in second])
    expected = [(a, b) for a in range(120) for b in range(125) if overlap(first[a], second[b])]
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == expected
    assert 200 < len(expected) < 120 * 125


# Order, limit, records


def test_rows_are_sorted_by_any_field(registry):
    def visits(order_by, **options):
        return [r[0] for r in query(registry, ["visit"], "visit", data_id=HSC, order_by=order_by, **options)]

    assert visits(["-visit"]) == [6, 5, 4, 3, 2, 1]
    assert visits(["band", "-visit.exposure_time"]) == [5, 3, 1, 6, 4, 2]
    assert visits(["-timespan.begin"], limit=2) == [6, 5]
    assert visits(["visit.timespan.end"], limit=2, offset=3) == [4, 5]
    assert visits(["-physical_filter", "visit"], offset=4) == [3, 5]
    assert visits(["-exposure.obs_id"], limit=3) == [6, 5, 4]
    assert len(visits([], limit=3)) == 3
    with pytest.raises(InvalidQueryError, match="Did you mean 'visit'"):
        visits(["-vist"])
    assert [
        r[0]
        for r in query(registry, ["band"], "band", data_id=HSC, order_by=["-visit.exposure_time"], limit=2)
    ] == ["r", "i"]


def test_strings_are_ordered_by_code_point_whatever_the_database_does(english_registry):
    registry = english_registry
    names = ["B", "a", "b", "A", "a_1", "a-1", "a1", "Z", "_", "\u00e4"]
    registry.records.insert("instrument", [{"name": "HSC", "class_name": "x"}])
    filters = [{"instrument": "HSC", "name": n, "band": n.upper()} for n in names]
    registry.records.insert("physical_filter", filters)

    def found(**options):
        rows = query(registry, ["physical_filter"], "physical_filter", **options)
        return [name for (name,) in rows]

    assert found(order_by=["physical_filter"]) == sorted(names)
    assert found(order_by=["-physical_filter"], limit=3) == sorted(names, reverse=True)[:3]
    assert found(order_by=["band", "physical_filter"]) == sorted(names, key=lambda n: (n.upper(), n))
    for where, expected in (
        ("physical_filter < 'a'", [n for n in names if n < "a"]),
        ("physical_filter >= 'a1'", [n for n in names if n >= "a1"]),
        ("'Z' <= band", [n for n in names if n.upper() >= "Z"]),
        ("physical_filter > band", [n for n in names if n > n.upper()]),
        ("physical_filter = 'a_1'", ["a_1"]),
    ):
        assert sorted(found(where=f"instrument='HSC' AND {where}")) == sorted(expected), where
    for name in ("T_b", "TB", "Ta", "tA"):
        registry.dataset_types.register([DatasetType(name, ["detector"], "ExposureF")])
    types = [t.name for t in registry.dataset_types.query("[tT]*")]
    assert types == sorted(types)


def test_records_are_queried_like_data_ids(registry):
    def detectors(**options):
        return [r.id for r in registry.queries.records("detector", selected(**options))]

    assert detectors(where="full_name='1_0'", data_id=HSC) == [2]
    assert detectors(data_id=HSC, order_by=["-full_name"], limit=2) == [3, 2]
    put(registry, RAW, "raws", {"exposure": 1, "detector": 3})
    assert detectors(datasets=[("raw", ["raws"])]) == [3]
    assert detectors(where="instrument='HSC' AND raft IS NOT NULL AND purpose = NULL") == [3]
    records = registry.queries.records("visit_detector_region", Selection().where({**HSC, "visit": 2}))
    assert len(records) == 4
    assert [
        r.id for r in registry.queries.records("visit", Selection(order_by=["-visit"], limit=1).where(HSC))
    ] == [6]
    with pytest.raises(InvalidQueryError, match="too many values to list"):
        registry.queries.records("htm7")
    pixels = registry.queries.records("htm7", Selection().where({**HSC, "visit": 2}))
    regions = [r.region for r in registry.queries.records("visit", Selection().where({**HSC, "visit": 2}))]
    assert pixels
    assert all(p.region.intersects(regions[0]) for p in pixels)


def test_datasets_are_queried_in_search_order_unless_sorted(registry):
    put(registry, RAW, "new", *({"exposure": v, "detector": 0} for v in (3, 4)))
    put(registry, RAW, "old", *({"exposure": v, "detector": 0} for v in VISITS))

    def exposures(find_first=True, **options):
        selection = selected(data_id=HSC, **options)
        found = registry.queries.datasets("raw", ["new", "old"], selection, find_first=find_first)
        return [(r.run, r.dataId["exposure"]) for r in found]

    assert exposures()[:2] == [("new", 3), ("new", 4)]
    assert len(exposures()) == 6
    assert len(exposures(find_first=False)) == 8
    assert exposures(order_by=["-exposure"])[:4] == [("old", 6), ("old", 5), ("new", 4), ("new", 3)]
    assert exposures(order_by=["-raw.run", "exposure.exposure_time"], limit=1) == [("old", 1)]
    assert exposures(where="visit > 3 AND detector < 4", limit=2, offset=1) == [("old", 5), ("old", 6)]
    assert exposures(where="exposure=3", find_first=False) == [("new", 3), ("old", 3)]
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate("tag", registry.queries.datasets("raw", "new"))
    both = registry.queries.datasets("raw", ["tag", "new"], find_first=False)
    assert len(both) == 2


def test_calibrations_are_queried_with_their_validity(registry):
    registry.collections.register("calib", CollectionType.CALIBRATION)
    for k in range(3):
        table = put(registry, BIAS, f"run{k}", {"detector": 0})
        registry.associations.certify("calib", table, Timespan(2 * k * DAY, 2 * (k + 1) * DAY))
    found = registry.queries.datasets(
        "bias", "calib", Selection(order_by=["-bias.timespan"]), find_first=False
    )
    assert [r.run for r in found] == ["run2", "run1", "run0"]
    assert len(found) == 3
    span = Timespan(3 * DAY, 4 * DAY)
    [one] = registry.queries.datasets(
        "bias", "calib", Selection().where("bias.timespan OVERLAPS when", bind={"when": span})
    )
    assert one.run == "run1"
    [two] = registry.queries.datasets("bias", "calib", Selection().where("exposure=5", HSC))
    assert two.run == "run2"
    assert timespan_of(5).overlaps(Timespan(4 * DAY, 6 * DAY))


# Explanations


def test_query_with_results_needs_no_explanation(registry):
    assert registry.queries.explain(universe.conform(["visit"]), Selection().where("visit=3", HSC)) == []


def test_explanations_name_the_culprit(registry):
    put(registry, RAW, "raws", *({"exposure": v, "detector": 0} for v in (1, 2)))
    registry.collections.register("empty")
    group = universe.conform(["exposure", "detector"])

    def why(where="", data_id=HSC, datasets=(("raw", ["raws"]),), dimensions=group):
        reasons = registry.queries.explain(dimensions, Selection(datasets=datasets).where(where, data_id))
        return "\n".join(reasons)

    assert why(datasets=[("raw", ["empty"])]) == "There is no dataset of type 'raw' in 'empty'."
    assert "The repository has no instrument 'DECam'" in why(data_id={"instrument": "DECam"})
    assert "no exposure 99" in why(data_id={**HSC, "exposure": 99})
    assert why("exposure=99") == (f"No data ID of {group} satisfies 'exposure = 99'. There are 2 without it.")
    assert why("exposure=5") == (
        f"No data ID of {group} satisfies 'exposure = 5' and has a dataset of type 'raw' in 'raws'. "
        "There are 2 without 'exposure = 5', 4 without a dataset of type 'raw' in 'raws'."
    )
    assert why("exposure=1 AND band='r'") == (
        f"No data ID of {group} satisfies 'exposure = 1' and satisfies \"band = 'r'\". "
        "There are 1 without 'exposure = 1', 1 without \"band = 'r'\"."
    )
    assert "no dataset of type 'raw' with instrument='LATISS'" in why(data_id={"instrument": "LATISS"})
    assert "'subfilter' has no records" in why(dimensions=universe.conform(["subfilter"]), datasets=())
    put(registry, CALEXP, "calexps", {"visit": 3, "detector": 0})
    both = [("raw", ["raws"]), ("calexp", ["calexps"])]
    text = why(datasets=both, dimensions=universe.conform(["exposure", "visit", "detector"]))
    assert "'raw' in 'raws' and has a dataset of type 'calexp' in 'calexps'" in text


def test_explanation_of_regions_that_do_not_meet(registry):
    registry.records.insert("skymap", [{"name": "far", "hash": "11"}])
    registry.records.insert("tract", [{"skymap": "far", "id": 1, "region": box(40, 0, 41, 1)}])
    [reason] = registry.queries.explain(
        universe.conform(["visit", "tract"]), Selection().where("skymap='far'", HSC)
    )
    assert "satisfies \"skymap = 'far'\"" in reason


def test_missing_visit_definitions_are_named(empty_registry):
    registry = empty_registry
    registry.records.insert("instrument", [{"name": "HSC"}])
    registry.records.insert("exposure", [{"instrument": "HSC", "id": 1, "obs_id": "a"}])
    registry.records.insert("visit", [{"instrument": "HSC", "id": 1, "name": "a"}])
    reasons = registry.queries.explain(universe.conform(["exposure", "visit"]))
    assert any("butler define-visits" in r for r in reasons)


def test_one_detector_of_one_visit_joins_its_exposure_and_patches(registry):
    put(registry, RAW, "raws")
    rows = query(
        registry,
        ["exposure", "visit", "detector", "patch"],
        "exposure",
        "visit",
        "detector",
        "patch",
        "band",
        where="instrument='HSC' AND visit=2 AND detector=3",
        datasets=[("raw", ["raws"])],
    )
    assert set(rows) == {
        (2, 2, 3, p, "r") for p in range(14) if overlap(detector_region(2, 3), patch_region(p))
    }


def test_implied_values_that_records_leave_open_are_left_out(registry):
    registry.records.insert(
        "exposure", [{"instrument": "HSC", "id": 50, "obs_id": "x", "physical_filter": "HSC-R"}]
    )
    [data_id] = registry.queries.data_ids(
        universe.conform(["exposure"]), Selection().where("exposure=50", HSC)
    )
    assert data_id["exposure"] == 50
    assert not data_id.hasFull()
    completed = registry.queries.complete({**HSC, "exposure.obs_id": "x"}, universe.conform(["exposure"]))
    assert completed == data_id
    table = data_ids(RAW, {"exposure": 50, "detector": 0}, {"exposure": 1, "detector": 0})
    expanded = registry.records.expand_table(table)
    assert "day_obs" not in expanded.columns
    assert expanded.values("band").tolist() == ["r", "i"]
