"""Collections: names, globs, chains; and a state machine of every operation against plain dictionaries."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from registry_records import BIAS, data_ids, put

from butler_dask.errors import (
    CollectionCycleError,
    CollectionTypeError,
    ConflictingDefinitionError,
    InvalidQueryError,
    MissingCollectionError,
    OrphanedRecordError,
)
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset import DatasetTable

pytest_plugins = ("registry_fixtures",)

CHAINED, RUN, TAGGED, CALIBRATION = (
    CollectionType.CHAINED,
    CollectionType.RUN,
    CollectionType.TAGGED,
    CollectionType.CALIBRATION,
)


def names(infos):
    """Return the names of collections."""
    return [c.name for c in infos]


@pytest.fixture
def tree(empty_registry: Registry) -> Registry:
    """Collections like the tutorial's."""
    registry = empty_registry
    for name in ("HSC/raw/all", "HSC/calib/2013", "HSC/calib/2014"):
        registry.collections.register(name)
    registry.collections.register("HSC/calib", CALIBRATION, "everything certified")
    registry.collections.register("HSC/defaults", CHAINED)
    registry.collections.set_chain("HSC/defaults", ["HSC/raw/all", "HSC/calib"])
    registry.collections.register("u/me/1/now")
    registry.collections.register("u/me/1", CHAINED)
    registry.collections.set_chain("u/me/1", ["u/me/1/now", "HSC/defaults"])
    return registry


def test_registering_twice_is_once(tree):
    assert tree.collections.register("u/me/2") is True
    assert tree.collections.register("u/me/2") is False
    with pytest.raises(ConflictingDefinitionError, match="exists as RUN; it cannot be registered as TAGGED"):
        tree.collections.register("u/me/2", TAGGED)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a b", "a*", "/a", "a//b", "a,b"),
        *("../../victim", "u/../me", "u/./me", "..", ".", "u/.."),
        *(".journal", ".journal/u/me", ".hidden"),
        *("u/\x07", "u/\x00", "u/\x7f", "u/\x9b", "u/\u202egnp", "u/\u2066me", "u/\u200bme", "u/\udcff"),
        *("u/" + "x" * 241, "u/" + "é" * 41, "/".join(["x" * 100] * 6), "x" * 5000),
    ],
)
def test_names_that_lead_astray_are_refused(registry, name):
    with pytest.raises(InvalidQueryError, match="not a collection name"):
        registry.collections.register(name)
    assert name not in names(registry.collections.query())


def test_names_of_many_kinds_are_taken(registry):
    for name in ("u/me/1.5", "u/..me", "u/me..", "u/.hidden", "ünïcødé/集合", "a:b=c@d", "x" * 240, "u/{}%s"):
        assert registry.collections.register(name)


def test_collections_are_listed_in_creation_order(tree):
    assert names(tree.collections.query()) == [
        "HSC/raw/all",
        "HSC/calib/2013",
        "HSC/calib/2014",
        "HSC/calib",
        "HSC/defaults",
        "u/me/1/now",
        "u/me/1",
    ]


def test_globs_cross_slashes_and_do_not_match_the_parent(tree):
    assert names(tree.collections.query("HSC/calib/*")) == ["HSC/calib/2013", "HSC/calib/2014"]
    assert names(tree.collections.query("HSC/*")) == names(tree.collections.query())[:5]
    assert names(tree.collections.query("*/now, HSC/calib")) == ["u/me/1/now", "HSC/calib"]
    assert tree.collections.query("nothing*") == []
    with pytest.raises(
        MissingCollectionError, match=r"No collection 'HSC/default'. Did you mean 'HSC/defaults'"
    ):
        tree.collections.query("HSC/default")


def test_types_filter_without_error(tree):
    assert names(tree.collections.query(types={CHAINED})) == ["HSC/defaults", "u/me/1"]
    assert tree.collections.query("HSC/calib", types={TAGGED}) == []


def test_flattened_chains_list_the_leaves_in_search_order(tree):
    leaves = ["u/me/1/now", "HSC/raw/all", "HSC/calib"]
    assert names(tree.collections.query("u/me/1", flatten_chains=True)) == leaves
    assert names(tree.collections.flatten("u/me/1")) == leaves
    assert names(tree.collections.flatten(["HSC/calib", "u/me/1"])) == [
        "HSC/calib",
        "u/me/1/now",
        "HSC/raw/all",
    ]
    both = tree.collections.query("u/me/1", flatten_chains=True, include_chains=True)
    assert names(both) == ["u/me/1", "u/me/1/now", "HSC/defaults", "HSC/raw/all", "HSC/calib"]
    assert names(tree.collections.query("u/*", include_chains=False)) == ["u/me/1/now"]


def test_info_tells_children_parents_and_documentation(tree):
    info = tree.collections.get("HSC/calib", include_parents=True)
    assert (info.type, info.doc, info.children) == (CALIBRATION, "everything certified", ())
    assert info.parents == {"HSC/defaults"}
    assert tree.collections.get("u/me/1").children == ("u/me/1/now", "HSC/defaults")
    with pytest.raises(MissingCollectionError, match="Did you mean 'HSC/calib'"):
        tree.collections.get("HSC/calibs")


def test_chain_never_contains_itself(tree):
    with pytest.raises(CollectionCycleError, match="HSC/defaults -> u/me/1 -> HSC/defaults"):
        tree.collections.set_chain("HSC/defaults", ["HSC/raw/all", "u/me/1"])
    with pytest.raises(CollectionCycleError):
        tree.collections.extend_chain("u/me/1", ["u/me/1"])
    assert tree.collections.get("HSC/defaults").children == ("HSC/raw/all", "HSC/calib")


def test_chains_are_edited_at_both_ends(tree):
    tree.collections.extend_chain("HSC/defaults", ["HSC/calib/2013", "HSC/raw/all"])
    assert tree.collections.get("HSC/defaults").children == ("HSC/calib", "HSC/calib/2013", "HSC/raw/all")
    tree.collections.prepend_chain("HSC/defaults", ["HSC/raw/all", "HSC/calib/2014"])
    assert tree.collections.get("HSC/defaults").children == (
        "HSC/raw/all",
        "HSC/calib/2014",
        "HSC/calib",
        "HSC/calib/2013",
    )
    tree.collections.remove_from_chain("HSC/defaults", ["HSC/calib"])
    assert "HSC/calib" not in tree.collections.get("HSC/defaults").children
    tree.collections.set_chain("HSC/defaults", ["HSC/calib", "HSC/calib"])
    assert tree.collections.get("HSC/defaults").children == ("HSC/calib",)
    with pytest.raises(CollectionTypeError, match="'HSC/calib' is CALIBRATION, not CHAINED"):
        tree.collections.set_chain("HSC/calib", [])
    with pytest.raises(MissingCollectionError):
        tree.collections.set_chain("HSC/defaults", ["HSC/raw/al"])


def test_that_a_collection_is_no_chain_is_told_before_what_it_would_lack(tree):
    with pytest.raises(CollectionTypeError, match="not CHAINED"):
        tree.collections.remove_from_chain("HSC/raw/all", ["nowhere"])


def test_member_of_a_chain_is_not_removed(tree):
    with pytest.raises(OrphanedRecordError, match="member of 'u/me/1'"):
        tree.removal.remove("HSC/defaults")
    tree.removal.remove("u/me/1")
    tree.removal.remove("HSC/defaults")
    tree.removal.remove("HSC/calib")
    assert names(tree.collections.query()) == [
        "HSC/raw/all",
        "HSC/calib/2013",
        "HSC/calib/2014",
        "u/me/1/now",
    ]


class Collections(RuleBasedStateMachine):
    """Runs, tags and chains of biases, against dictionaries."""

    @initialize()
    def create(self) -> None:
        self.registry = Registry.create("sqlite://")
        self.registry.records.insert("instrument", [{"name": "HSC"}])
        detectors = [{"instrument": "HSC", "id": d, "full_name": str(d)} for d in range(4)]
        self.registry.records.insert("detector", detectors)
        self.registry.dataset_types.register([BIAS])
        self.types: dict[str, CollectionType] = {}
        self.held: dict[str, dict[int, object]] = {}
        self.chains: dict[str, list[str]] = {}
        self.refs: dict[object, tuple[str, int]] = {}

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()

    def leaves(self, name: str, seen: dict[str, None] | None = None) -> list[str]:
        seen = {} if seen is None else seen
        if self.types[name] is CHAINED:
            for child in self.chains[name]:
                self.leaves(child, seen)
        else:
            seen[name] = None
        return list(seen)

    def reaches(self, start: str, goal: str) -> bool:
        return start == goal or any(self.reaches(c, goal) for c in self.chains.get(start, []))

    def some(self, data: st.DataObject, *types: CollectionType) -> str:
        return data.draw(st.sampled_from([n for n, t in self.types.items() if t in types]))

    def has(self, *types: CollectionType) -> bool:
        return any(t in types for t in self.types.values())

    @rule(kind=st.sampled_from([RUN, RUN, TAGGED, CHAINED, CHAINED]))
    def register(self, kind: CollectionType) -> None:
        name = f"{kind.name.lower()}/{len(self.types)}/{np.random.default_rng().integers(1 << 40)}"
        assert self.registry.collections.register(name, kind)
        self.types[name], self.held[name] = kind, {}
        if kind is CHAINED:
            self.chains[name] = []

    @precondition(lambda self: self.has(RUN))
    @rule(data=st.data(), detectors=st.sets(st.integers(0, 3), min_size=1))
    def insert(self, data: st.DataObject, detectors: set[int]) -> None:
        run = self.some(data, RUN)
        ids = data_ids(BIAS, *({"detector": d} for d in sorted(detectors)))
        table = DatasetTable.new(BIAS, ids, run)
        if detectors & self.held[run].keys():
            with pytest.raises(ConflictingDefinitionError):
                self.registry.inserts.insert(table)
            return
        self.registry.inserts.insert(table)
        for i, detector in enumerate(sorted(detectors)):
            self.held[run][detector] = table.id(i)
            self.refs[table.id(i)] = (run, detector)

    @precondition(lambda self: self.has(TAGGED) and self.refs)
    @rule(data=st.data())
    def associate(self, data: st.DataObject) -> None:
        tag = self.some(data, TAGGED)
        chosen = data.draw(st.sets(st.sampled_from(sorted(self.refs, key=str)), min_size=1, max_size=3))
        by_detector: dict[int, set[object]] = {}
        for i in chosen:
            by_detector.setdefault(self.refs[i][1], set()).add(i)
        refs = [self.registry.datasets.find(i) for i in chosen]
        table = DatasetTable.from_refs(BIAS, refs)
        clash = any(len(v) > 1 for v in by_detector.values()) or any(
            self.held[tag].get(d, next(iter(v))) not in v for d, v in by_detector.items()
        )
        if clash:
            with pytest.raises(ConflictingDefinitionError):
                self.registry.associations.associate(tag, table)
        else:
            self.registry.associations.associate(tag, table)
            self.held[tag].update({d: next(iter(v)) for d, v in by_detector.items()})

    @precondition(lambda self: self.has(CHAINED))
    @rule(data=st.data(), where=st.sampled_from(["set", "extend", "prepend", "remove"]))
    def chain(self, data: st.DataObject, where: str) -> None:
        parent = self.some(data, CHAINED)
        children = data.draw(st.lists(st.sampled_from(list(self.types)), max_size=4, unique=True))
        old = self.chains[parent]
        rest = [c for c in old if c not in children]
        new = {
            "set": children,
            "extend": rest + children,
            "prepend": children + rest,
            "remove": rest,
        }[where]
        change = {
            "set": self.registry.collections.set_chain,
            "extend": self.registry.collections.extend_chain,
            "prepend": self.registry.collections.prepend_chain,
            "remove": self.registry.collections.remove_from_chain,
        }[where]
        if any(self.reaches(c, parent) for c in new):
            with pytest.raises(CollectionCycleError):
                change(parent, children)
        else:
            change(parent, children)
            self.chains[parent] = new

    @precondition(lambda self: self.types)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = self.some(data, *CollectionType)
        if any(name in c for c in self.chains.values()):
            with pytest.raises(OrphanedRecordError):
                self.registry.removal.remove(name)
            return
        self.registry.removal.remove(name)
        del self.types[name]
        self.chains.pop(name, None)
        gone = set(self.held.pop(name).values()) if name.startswith("run") else set()
        for i in gone:
            del self.refs[i]
        for held in self.held.values():
            for detector in [d for d, i in held.items() if i in gone]:
                del held[detector]

    @invariant()
    def searches_agree(self) -> None:
        if not hasattr(self, "types"):
            return
        assert names(self.registry.collections.query()) == list(self.types)
        every = data_ids(BIAS, *({"detector": d} for d in range(4)))
        for name in self.types:
            leaves = self.leaves(name)
            assert names(self.registry.collections.flatten(name)) == leaves
            table, rows = self.registry.search.find(BIAS, every, [name])
            for detector, row in enumerate(rows.tolist()):
                holders = [self.held[leaf][detector] for leaf in leaves if detector in self.held[leaf]]
                assert (None if row < 0 else table.id(row)) == (holders[0] if holders else None)
            found = self.registry.queries.datasets("bias", name)
            assert {r.id for r in found} == {table.id(i) for i in rows.tolist() if i >= 0}
            every_one = self.registry.queries.datasets("bias", name, find_first=False)
            assert {r.id for r in every_one} == {i for leaf in leaves for i in self.held[leaf].values()}
            assert len(every_one) == len({r.id for r in every_one})


TestCollections = Collections.TestCase
TestCollections.settings = settings(
    max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_newest_run_comes_first_without_find_first(registry):
    one = {"detector": 0}
    for name in ("old", "new"):
        put(registry, BIAS, name, one)
    registry.collections.register("chain", CHAINED)
    registry.collections.set_chain("chain", ["new", "old"])
    found = registry.queries.datasets("bias", "chain", find_first=False)
    assert [r.run for r in found] == ["new", "old"]
