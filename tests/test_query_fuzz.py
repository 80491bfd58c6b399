"""Random expressions and data IDs, whole and broken: an answer or one of our errors, never anything else."""

import random
import warnings
from typing import Any

import numpy as np
import pytest
from exposure_rows import FIELDS
from lsst.sphgeom import LonLat
from registry_records import BIAS, CALEXP, RAW, insert_records, put

from butler_dask.butler.registry_names import ButlerRegistry
from butler_dask.errors import ButlerDaskError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.search_defaults import SearchDefaults
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)

UNIVERSE = DimensionUniverse()
FEW, MANY = 250, 10_000


@pytest.fixture(scope="module")
def populated(module_registry: Registry) -> Registry:
    """Registry with records and a few datasets."""
    insert_records(module_registry)
    put(module_registry, RAW, "raws")
    put(module_registry, CALEXP, "calexps", {"visit": 1, "detector": 0})
    bias = put(module_registry, BIAS, "biases", {"detector": 0}, {"detector": 1})
    module_registry.collections.register("calib", CollectionType.CALIBRATION)
    module_registry.associations.certify("calib", bias, Timespan(None, None))
    return module_registry


TOKENS = """
AND OR NOT IN IS NULL TRUE FALSE OVERLAPS and or not in overlaps ( ) ( ) , , = != < <= > >= == <> + - * /
% . .. : :: 'HSC' "HSC" 'field_1' '' '*' 'it\\'s' 'open "open \\ ' T'2020-01-01' T'mjd/58000.5/utc'
T'58000' T'nonsense' T'' t'1970-01-03/tai' T'unix/1e9' T'isot/2020-01-01T00:00:00/tdb' 0 1 2 3 -1 1.5 .5
1e3 1e400 99999999999999999999 1..3 1..9:2 9..1 1..3:0 0x1f 1_000 :number :list :when :region :missing
number list when region nothing UUID( GLOB( glob( POINT( CIRCLE( BOX( POLYGON( REGION(
UUID('00000000-0000-0000-0000-000000000000') UUID('x') POINT(150.5,2.1) CIRCLE(150,2,0.5) CIRCLE(1,2,-3)
CIRCLE(0,0,400) BOX(150,2,1,1) POLYGON(150,2,151,2,151,3) POLYGON(1,2,3) REGION('ELLIPSE')
POINT(1,91) instrument='HSC' instrument visit visit.id visit.region visit.timespan visit.timespan.begin
visit.seeing visit.exposure_time exposure exposure.can_see_sky exposure.obs_id detector
detector.full_name detector.raft tract patch patch.region tract.region skymap skymap='sky' band
physical_filter htm7 htm7.region healpix9 day_obs raw raw.run raw.ingest_date raw.dataset_id raw.timespan
raw.colour calexp.run bias.timespan calexp timespan timespan.begin region id name visit_detector_region
visit_detector_region.region visit_definition visit.visit.visit a.b.c.d é ; # @ $ ? ! ~ ` \x00 \ud800 --
/* */ {} []
""".split()  # noqa: SIM905  a list literal would be three times as long
VALID = [
    "instrument='HSC' AND visit IN (1, 3..5:2) AND NOT detector = 2",
    "instrument='HSC' AND visit.region OVERLAPS CIRCLE(150.5, 2.1, 0.4)",
    "instrument='HSC' AND skymap='sky' AND visit.region OVERLAPS patch.region AND tract = 0",
    "instrument='HSC' AND visit.timespan OVERLAPS (T'1970-01-03/tai', T'1970-01-05/tai')",
    "instrument='HSC' AND (exposure.can_see_sky OR exposure.exposure_time * 2 > 60.5) AND band != 'r'",
    "instrument='HSC' AND GLOB(exposure.target_name, 'field_?') AND exposure.seq_num % 2 = 1",
    "instrument IN (:list) AND visit.seq_num = :number",
    "instrument='HSC' AND visit.timespan.begin < :when AND visit.region OVERLAPS :region",
    "raw.run = 'raws' AND raw.ingest_date > T'2020-01-01' AND instrument = 'HSC'",
    "instrument='HSC' AND band IS NOT NULL AND (physical_filter = NULL OR visit.target_name IS NULL)",
]
OPERANDS = {
    "int": ["1", "(1, 2..4)", ":number", "visit.seq_num", "-3", "exposure % 0", "2 * 3 / 2"],
    "float": ["1.5", ":number", "1e300 * 1e300", "exposure.dark_time / 0", "-.5"],
    "str": ["'x'", ":list", "'HSC-R'", "band", "('a', \"b\", NULL)"],
    "time": ["T'2020-01-01'", "T'mjd/40590.25'", "T'1970-01-03/tai'", "visit.timespan"],
    "bool": ["TRUE", "false", "NULL"],
    "any": ["9223372036854775807 + 1", "1..3", "UUID('x')", ":when", ":region", "visit.region", "(1, 2)"],
}
GROUPS = [
    ["visit"],
    ["exposure", "detector"],
    ["visit", "detector", "patch"],
    ["band"],
    ["htm7", "visit"],
    ["tract"],
    ["detector"],
    [],
    ["exposure", "visit"],
    ["instrument"],
]
BIND: dict[str, Any] = {
    "number": 3,
    "list": ["HSC", "LATISS"],
    "when": Timespan(0, 10**18),
    "region": LonLat.fromDegrees(150.6, 2.1),
}


def _mutated(r: random.Random, text: str) -> str:
    for _ in range(r.randrange(0, 3)):
        i, j = sorted(r.randrange(len(text) + 1) for _ in range(2))
        match r.randrange(5):
            case 0:
                text = text[:i] + text[i + 1 :]
            case 1:
                text = text[:i] + r.choice(TOKENS) + text[i:]
            case 2:
                text = text[:i] + text[j:]
            case 3:
                text = text[:i] + r.choice("'\"()=<>.,:%*?\\ \n\t0aT") + text[i + 1 :]
            case _:
                text = text.replace(r.choice(text.split() or ["x"]), r.choice(TOKENS), 1)
    return text


def _expression(r: random.Random) -> str:
    if r.random() < 0.5:
        return _mutated(r, r.choice(VALID))
    parts = []
    for _ in range(r.randrange(1, 5)):
        if r.random() < 0.6:
            kind = r.choice(list(FIELDS))
            name = r.choice(FIELDS[kind] if r.random() < 0.9 else TOKENS)
            operator = r.choice(["=", "<", ">=", "!=", "IN"])
            parts.append(f"{name} {operator} {r.choice(OPERANDS[kind if r.random() < 0.9 else 'any'])}")
        else:
            parts.append(" ".join(r.choices(TOKENS, k=r.randrange(1, 8))))
    joined = f" {r.choice(['AND', 'OR', ''])} ".join(parts)
    return f"instrument='HSC' AND ({joined})" if r.random() < 0.5 else joined


def _query(registry: Registry, r: random.Random, where: str) -> None:
    group = UNIVERSE.conform(r.choice(GROUPS))
    data_id = {"instrument": "HSC"} if r.random() < 0.5 else None
    order = r.sample(
        [*FIELDS["int"], "-visit", "detector", "timespan.begin", "nothing", "", "-"], r.randrange(0, 2)
    )
    match r.randrange(5):
        case 0:
            registry.queries.datasets(
                "raw", ["raws"], Selection(order_by=order).where(where, data_id, bind=BIND)
            )
        case 1:
            registry.queries.datasets(
                "bias", ["calib"], Selection().where(where, data_id, bind=BIND), find_first=False
            )
        case 2:
            registry.queries.explain(
                group, Selection(datasets=[("raw", ["raws"])]).where(where, data_id, bind=BIND)
            )
        case 3:
            element = r.choice(["visit", "detector", "exposure", "visit_definition", "physical_filter"])
            registry.queries.records(element, Selection(limit=5).where(where, data_id, bind=BIND))
        case _:
            registry.queries.data_ids(
                group, Selection(order_by=order, limit=20).where(where, data_id, bind=BIND)
            )


VALUES = [
    "HSC",
    "LATISS",
    "nope",
    "",
    0,
    1,
    3,
    -1,
    2**70,
    1.5,
    float("nan"),
    True,
    None,
    "3",
    "0_1",
    "²",
    "x\0",
    "\ud800",
    [],
    {},
    b"HSC",
    np.int64(2),
    np.str_("HSC"),
    "1" * 5000,
    object(),
    "field_1",
    "g3",
    20130603,
]
KEYS = [
    "instrument",
    "detector",
    "visit",
    "exposure",
    "band",
    "physical_filter",
    "day_obs",
    "group",
    "seq_num",
    "exposure.obs_id",
    "obs_id",
    "full_name",
    "detector.raft",
    "raft",
    "exposure.target_name",
    "visit.seq_num",
    "skymap",
    "tract",
    "patch",
    "htm7",
    "visti",
    "detector.",
    ".x",
    "exposure.timespan",
    "visit_definition",
    "",
    "a.b.c",
]


def _data_id(r: random.Random) -> dict[Any, Any]:
    out: dict[Any, Any] = {"instrument": "HSC"} if r.random() < 0.6 else {}
    for _ in range(r.randrange(0, 4)):
        out[r.choice(KEYS)] = r.choice(VALUES)
    return out


def _fuzz(registry: Registry, count: int, seed: int) -> dict[str, int]:
    """Return how many gave an answer and how many an error."""
    names = ButlerRegistry(registry, SearchDefaults(["raws"]))
    done = {"answer": 0, "error": 0}
    for n in range(count):
        r = random.Random(seed * 1_000_000 + n)
        where, data_id, group = _expression(r), _data_id(r), r.choice(GROUPS)
        for what in ("expression", "data ID", "found", "queried"):
            try:
                match what:
                    case "expression":
                        _query(registry, r, where)
                    case "data ID":
                        registry.queries.complete(data_id, UNIVERSE.conform(group))
                    case "found":
                        names.findDataset("raw", data_id)
                    case "queried":
                        names.queryDataIds(
                            group, dataId=data_id, where=r.choice([where, ""]), bind=BIND
                        ).any()
                done["answer"] += 1
            except ButlerDaskError:
                done["error"] += 1
            except Exception as error:
                raise AssertionError(f"{seed}/{n}: {what} {where!r} {data_id!r} {group}") from error
    return done


def test_random_queries_end_in_an_answer_or_one_of_our_errors(populated):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = _fuzz(populated, FEW, 1)
    assert min(done.values()) > FEW / 10


@pytest.mark.slow
def test_ten_thousand_random_queries_end_in_an_answer_or_one_of_our_errors(populated):
    done = _fuzz(populated, MANY, 2)
    assert min(done.values()) > MANY / 10
