"""Collections in random states: every operation has the effect it has on a model of plain dicts, or none."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from registry_fixtures import SERVER, drop, new_url

from butler_dask.butler.registry_names import ButlerRegistry
from butler_dask.errors import (
    CalibrationLookupError,
    CollectionCycleError,
    CollectionTypeError,
    ConflictingDefinitionError,
    DatasetNotFoundError,
    DatasetTypeError,
    MissingCollectionError,
    OrphanedRecordError,
)
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.timespan import MAX_NS, MIN_NS, Timespan

RUN, TAGGED, CHAINED, CALIBRATION = (
    CollectionType.RUN,
    CollectionType.TAGGED,
    CollectionType.CHAINED,
    CollectionType.CALIBRATION,
)
DETECTORS = range(3)
KINDS = {"bias": True, "mask": True, "note": False}
"""Dataset types, all by detector, and whether they are calibrations."""

TYPE_OF_NAME = {"r": RUN, "t": TAGGED, "c": CHAINED, "k": CALIBRATION}
names = st.sampled_from([f"{letter}{i}" for letter in "rtck" for i in range(3)])


def mostly(letter: str) -> st.SearchStrategy[str]:
    """Return names mostly of collections of the type of a letter, mostly of those there from the start."""
    own = [f"{letter}{i}" for i in range(3)]
    return st.sampled_from([*own[:2] * 8, own[2], *(f"{other}0" for other in "rtck")])


STARTING = ("r0", "r1", "t0", "t1", "c0", "c1", "k0", "k1")
name_lists = st.lists(st.sampled_from([*STARTING * 4, "r2", "c2", "t2"]), min_size=1, max_size=3)
kinds = st.sampled_from(list(KINDS))
detector_lists = st.lists(st.sampled_from(DETECTORS), min_size=1, max_size=3)
picks = st.lists(st.integers(0, 40), min_size=1, max_size=3)
bounds = st.one_of(st.none(), st.integers(0, 12))
spans = st.builds(lambda a, b: Timespan(a, b), bounds, bounds)


@dataclass
class Model:
    """What there should be."""

    types: dict[str, CollectionType] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    datasets: dict[uuid.UUID, tuple[str, int, str]] = field(default_factory=dict)
    """Dataset type, detector and run by id."""
    tags: dict[str, set[uuid.UUID]] = field(default_factory=dict)
    ranges: dict[str, set[tuple[uuid.UUID, int, int]]] = field(default_factory=dict)
    """Id, begin and end of each certification."""

    def key(self, id_: uuid.UUID) -> tuple[str, int]:
        """Return dataset type and detector."""
        return self.datasets[id_][:2]

    def leaves(self, path: list[str]) -> list[str]:
        """Return the collections a search looks in."""
        out: dict[str, None] = {}
        for name in path:
            for leaf in self.leaves(self.chains[name]) if name in self.chains else [name]:
                out.setdefault(leaf)
        return list(out)

    def reaches(self, start: str, goal: str) -> bool:
        """Return whether a collection is, or holds, another."""
        return start == goal or any(self.reaches(c, goal) for c in self.chains.get(start, ()))

    def members(self, name: str) -> set[uuid.UUID]:
        """Return the datasets of a collection that is no chain."""
        if self.types[name] is TAGGED:
            return self.tags[name]
        if self.types[name] is CALIBRATION:
            return {i for i, _, _ in self.ranges[name]}
        return {i for i, (_, _, run) in self.datasets.items() if run == name}

    def forget(self, ids: set[uuid.UUID]) -> None:
        """Remove datasets from everywhere."""
        self.datasets = {i: d for i, d in self.datasets.items() if i not in ids}
        self.tags = {n: t - ids for n, t in self.tags.items()}
        self.ranges = {n: {r for r in rows if r[0] not in ids} for n, rows in self.ranges.items()}

    def drop(self, name: str) -> None:
        """Remove a collection with what it holds."""
        if self.types[name] is RUN:
            self.forget(self.members(name))
        for part in (self.types, self.chains, self.tags, self.ranges):
            part.pop(name, None)  # type: ignore[attr-defined]


class Abandoned(Exception):
    """Ends a transaction that is to be rolled back."""


class CollectionStates(RuleBasedStateMachine):
    """Operations on a registry and on the model, side by side."""

    new_registry: Callable[[], tuple[Callable[[], Registry], Callable[[], None]]]

    def __init__(self) -> None:
        super().__init__()
        self.open, self.remove_database = type(self).new_registry()
        self.tables = self.open()
        self.registry = ButlerRegistry(self.tables)
        self.other: Registry | None = None
        self.model = Model()
        self.refs: dict[uuid.UUID, DatasetRef] = {}

    @initialize()
    def begin(self) -> None:
        """Register two collections of each type, and datasets in the runs."""
        for name in STARTING:
            self.register(name, name)
        for run in ("r0", "r1"):
            for kind in KINDS:
                self.insert(run, kind, [0, 1])
        self.certify("k0", [0, 1, 2], Timespan(0, 6))
        self.certify("k0", [6, 7], Timespan(6, 12))
        self.associate("t0", [0, 3, 4])
        self.edit_chain("set_chain", "c0", ["t0", "r1", "r0"])
        self.edit_chain("set_chain", "c1", ["k0", "c0"])

    def teardown(self) -> None:
        """Remove the database."""
        for registry in (self.tables, self.other):
            if registry is not None:
                registry.close()
        self.remove_database()

    @contextmanager
    def expecting(self, *errors: type[Exception] | None) -> Iterator[None]:
        """Demand the first error that is due, or success without any."""
        due = next((e for e in errors if e is not None), None)
        if due is None:
            yield
        else:
            with pytest.raises(due):
                yield

    def missing(self, *wanted: str) -> type[Exception] | None:
        """Return the error due if a collection is not there."""
        return None if all(n in self.model.types for n in wanted) else MissingCollectionError

    def wrong(self, name: str, type_: CollectionType) -> type[Exception] | None:
        """Return the error due if a collection has another type."""
        return None if self.model.types.get(name) is type_ else CollectionTypeError

    def picked(self, picks: list[int]) -> list[DatasetRef]:
        """Return some of the datasets there are."""
        ids = list(self.model.datasets)
        return [self.refs[i] for i in dict.fromkeys(ids[p % len(ids)] for p in picks)] if ids else []

    # What can be done

    @rule(name=names, other=names)
    def register(self, name: str, other: str) -> None:
        # Mostly of the type its letter says, now and then of another's.
        type_ = TYPE_OF_NAME[(other if other == "t2" else name)[0]]
        known = self.model.types.get(name)
        with self.expecting(ConflictingDefinitionError if known not in (None, type_) else None):
            assert self.registry.registerCollection(name, type_) is (known is None)
            if known is None:
                self.model.types[name] = type_
                for part, kind in (
                    (self.model.chains, CHAINED),
                    (self.model.tags, TAGGED),
                    (self.model.ranges, CALIBRATION),
                ):
                    if type_ is kind:
                        part[name] = [] if kind is CHAINED else set()  # type: ignore[index]

    @rule(run=mostly("r"), kind=kinds, detectors=detector_lists)
    def insert(self, run: str, kind: str, detectors: list[int]) -> None:
        taken = [d[:2] for d in self.model.datasets.values() if d[2] == run]
        clash = len(set(detectors)) < len(detectors) or any((kind, d) in taken for d in detectors)
        data_ids = [{"instrument": "Cam", "detector": d} for d in detectors]
        with self.expecting(
            self.missing(run), self.wrong(run, RUN), ConflictingDefinitionError if clash else None
        ):
            for ref in self.registry.insertDatasets(kind, data_ids, run=run, expand=False):
                self.refs[ref.id] = ref
                self.model.datasets[ref.id] = (kind, int(ref.dataId["detector"]), run)

    @precondition(lambda self: self.model.datasets)
    @rule(name=mostly("t"), picks=picks)
    def associate(self, name: str, picks: list[int]) -> None:
        refs = self.picked(picks)
        before = self.model.tags.get(name, set())
        after = before | {r.id for r in refs}
        clash = len({self.model.key(i) for i in after}) < len(after)
        with self.expecting(
            self.missing(name), self.wrong(name, TAGGED), ConflictingDefinitionError if clash else None
        ):
            self.registry.associate(name, refs)
            self.model.tags[name] = after

    @precondition(lambda self: self.model.datasets)
    @rule(name=mostly("t"), picks=picks)
    def disassociate(self, name: str, picks: list[int]) -> None:
        refs = self.picked(picks)
        with self.expecting(self.missing(name), self.wrong(name, TAGGED)):
            self.registry.disassociate(name, refs)
            self.model.tags[name] -= {r.id for r in refs}

    @precondition(lambda self: self.model.datasets)
    @rule(name=mostly("k"), picks=picks, span=spans)
    def certify(self, name: str, picks: list[int], span: Timespan) -> None:
        refs = [r for r in self.picked(picks)]
        keys = [self.model.key(r.id) for r in refs]
        clash = not span.isEmpty() and (
            len(set(keys)) < len(keys)
            or any(
                self.model.key(i) in keys and span.overlaps(Timespan(b, e))
                for i, b, e in self.model.ranges.get(name, ())
            )
        )
        plain = any(not KINDS[kind] for kind, _ in keys)
        # A clash is a DatasetTypeError too: of several faults any may be told.
        with self.expecting(
            self.missing(name),
            self.wrong(name, CALIBRATION),
            DatasetTypeError if plain else None,
            ConflictingDefinitionError if clash else None,
        ):
            self.registry.certify(name, refs, span)
            if not span.isEmpty():
                self.model.ranges[name] |= {(r.id, span.begin_ns, span.end_ns) for r in refs}

    @rule(name=mostly("k"), kind=kinds, span=spans, detectors=st.none() | detector_lists)
    def decertify(self, name: str, kind: str, span: Timespan, detectors: list[int] | None) -> None:
        data_ids = None if detectors is None else [{"instrument": "Cam", "detector": d} for d in detectors]
        with self.expecting(self.missing(name), self.wrong(name, CALIBRATION)):
            self.registry.decertify(name, kind, span, dataIds=data_ids)
            after = set()
            for id_, begin, end in self.model.ranges[name]:
                of, detector = self.model.key(id_)
                if of == kind and (detectors is None or detector in detectors):
                    parts = Timespan(begin, end).difference(span)
                    after |= {(id_, p.begin_ns, p.end_ns) for p in parts}
                else:
                    after.add((id_, begin, end))
            self.model.ranges[name] = after

    @precondition(lambda self: any(self.model.ranges.values()))
    @rule(pick=st.integers(0, 40), offset=st.integers(0, 4), length=st.integers(1, 4), all_=st.booleans())
    def decertify_part(self, pick: int, offset: int, length: int, all_: bool) -> None:
        # Times drawn at random seldom cut a range in two.
        rows = sorted((n, *self.model.key(r[0]), r[1]) for n, held in self.model.ranges.items() for r in held)
        name, kind, detector, begin = rows[pick % len(rows)]
        start = max(begin, 0) + offset
        self.decertify(name, kind, Timespan(start, start + length), None if all_ else [detector])

    @rule(
        mode=st.sampled_from(["set_chain", "extend_chain", "prepend_chain", "remove_from_chain"]),
        parent=mostly("c"),
        children=name_lists,
    )
    def edit_chain(self, mode: str, parent: str, children: list[str]) -> None:
        cycle = mode != "remove_from_chain" and any(
            c in self.model.types and self.model.reaches(c, parent) for c in children
        )
        with self.expecting(
            self.missing(parent),
            self.wrong(parent, CHAINED),
            self.missing(*children),
            CollectionCycleError if cycle else None,
        ):
            getattr(self.tables.collections, mode)(parent, children)
            rest = [c for c in self.model.chains[parent] if c not in children]
            added = list(dict.fromkeys(children))
            self.model.chains[parent] = {
                "set_chain": added,
                "extend_chain": rest + added,
                "prepend_chain": added + rest,
                "remove_from_chain": rest,
            }[mode]

    @precondition(lambda self: self.model.datasets)
    @rule(picks=picks)
    def remove_datasets(self, picks: list[int]) -> None:
        refs = self.picked(picks)
        self.registry.removeDatasets(refs)
        self.model.forget({r.id for r in refs})
        with pytest.raises(DatasetNotFoundError):
            self.registry.removeDatasets(refs)

    @precondition(lambda self: any(self.model.tags.values()))
    @rule(pick=st.integers(0, 40))
    def replace_tagged(self, pick: int) -> None:
        # What a removed dataset left behind would be in the way of the next one of its data ID.
        tagged = sorted((n, *self.model.datasets[i], i) for n, ids in self.model.tags.items() for i in ids)
        name, kind, detector, run, id_ = tagged[pick % len(tagged)]
        self.registry.removeDatasets([self.refs[id_]])
        self.model.forget({id_})
        self.insert(run, kind, [detector])
        self.associate(name, [len(self.model.datasets) - 1])

    @rule(name=st.sampled_from(["r2", "t2", "c2", "k2", "r2", "t2", "c2", "k2", "t0", "k0", "c0", "r0"]))
    def remove_collection(self, name: str) -> None:
        held = any(name in chain for chain in self.model.chains.values())
        with self.expecting(self.missing(name), OrphanedRecordError if held else None):
            self.registry.removeCollection(name)
            self.model.drop(name)

    @precondition(lambda self: RUN in self.model.types.values())
    @rule(picks=picks, unlink=st.booleans())
    def remove_runs(self, picks: list[int], unlink: bool) -> None:
        runs = sorted(n for n, t in self.model.types.items() if t is RUN)
        chosen = list(dict.fromkeys(runs[p % len(runs)] for p in picks[:1]))
        held = any(n in chain for n in chosen for chain in self.model.chains.values())
        with self.expecting(OrphanedRecordError if held and not unlink else None):
            self.tables.removal.remove_runs(chosen, unlink_from_chains=unlink)
            for name in chosen:
                self.model.drop(name)
                self.model.chains = {p: [c for c in m if c != name] for p, m in self.model.chains.items()}

    def elsewhere(self) -> None:
        """Go on through another registry of the same database, as another program would."""
        if self.other is None:
            self.other = self.open()
        self.tables, self.other = self.other, self.tables
        self.registry = ButlerRegistry(self.tables)

    @rule()
    def go_on_elsewhere(self) -> None:
        self.elsewhere()

    @rule(parent=mostly("c"), name=names, children=name_lists)
    def others_change_what_was_rolled_back(self, parent: str, name: str, children: list[str]) -> None:
        # What was read inside the transaction must not pass for what others define after it.
        before = copy.deepcopy(self.model)
        try:
            with self.registry.transaction():
                self.edit_chain("prepend_chain", parent, children)
                self.register(name, name)
                self.collections_are_those_of_the_model()
                raise Abandoned  # noqa: TRY301  what a caller's failure does is tested
        except Abandoned:
            self.model = before
        self.elsewhere()
        self.register(name, name)
        self.edit_chain("extend_chain", parent, children)
        self.elsewhere()

    @rule(data=st.data(), abandoned=st.booleans())
    def transaction(self, data: st.DataObject, abandoned: bool) -> None:
        before = copy.deepcopy(self.model)
        steps = [
            lambda: self.register(data.draw(names), data.draw(names)),
            lambda: self.insert(data.draw(mostly("r")), data.draw(kinds), data.draw(detector_lists)),
            lambda: self.edit_chain("prepend_chain", data.draw(mostly("c")), data.draw(name_lists)),
            lambda: self.remove_collection(data.draw(names)),
        ]
        if self.model.datasets:
            steps += [
                lambda: self.associate(data.draw(mostly("t")), data.draw(picks)),
                lambda: self.certify(data.draw(mostly("k")), data.draw(picks), data.draw(spans)),
            ]
        try:
            with self.registry.transaction():
                for step in data.draw(st.lists(st.sampled_from(steps[:4]), max_size=3)):
                    step()
                if len(steps) > 4 and self.model.datasets:
                    data.draw(st.sampled_from(steps[4:]))()
                if abandoned:
                    raise Abandoned  # noqa: TRY301  what a caller's failure does is tested
        except Abandoned:
            self.model = before

    # What is seen

    @invariant()
    def collections_are_those_of_the_model(self) -> None:
        infos = self.tables.collections.query("*", include_parents=True, include_summary=True)
        assert {i.name: i.type for i in infos} == self.model.types
        for info in infos:
            assert list(info.children) == self.model.chains.get(info.name, [])
            assert info.parents == {p for p, m in self.model.chains.items() if info.name in m}
            leaves = self.model.leaves([info.name])
            held = {self.model.key(i)[0] for n in leaves for i in self.model.members(n)}
            assert info.dataset_types is not None
            assert held <= info.dataset_types
            if info.type is RUN:
                assert held == info.dataset_types

    @invariant()
    def memberships_are_those_of_the_model(self) -> None:
        found = set()
        for kind in KINDS:
            for row in self.registry.queryDatasetAssociations(kind):
                span = row.timespan or Timespan()
                found.add((row.ref.id, row.collection, span.begin_ns, span.end_ns))
        assert found == {
            *((i, run, MIN_NS, MAX_NS) for i, (_, _, run) in self.model.datasets.items()),
            *((i, name, MIN_NS, MAX_NS) for name, ids in self.model.tags.items() for i in ids),
            *((i, name, b, e) for name, rows in self.model.ranges.items() for i, b, e in rows),
        }

    @precondition(lambda self: self.model.types)
    @rule(picks=picks, kind=kinds, span=st.none() | spans)
    def search(self, picks: list[int], kind: str, span: Timespan | None) -> None:
        known = sorted(self.model.types)
        path = list(dict.fromkeys(known[p % len(known)] for p in picks))
        leaves = self.model.leaves(path)
        assert [c.name for c in self.tables.collections.flatten(path)] == leaves
        for detector in DETECTORS:
            expected, error = self.first(leaves, kind, detector, span)
            with self.expecting(error):
                ref = self.registry.findDataset(
                    kind, instrument="Cam", detector=detector, collections=path, timespan=span
                )
                assert (None if ref is None else ref.id) == expected
        everything = self.registry.queryDatasets(kind, collections=path)
        members = {i for n in leaves for i in self.model.members(n) if self.model.key(i)[0] == kind}
        assert sorted(r.id for r in everything) == sorted(members)
        if not any(self.model.types[n] is CALIBRATION for n in leaves):
            firsts = {self.first(leaves, kind, d, None)[0] for d in DETECTORS} - {None}
            refs = self.registry.queryDatasets(kind, collections=path, findFirst=True)
            assert {r.id for r in refs} == firsts

    def first(
        self, leaves: list[str], kind: str, detector: int, span: Timespan | None
    ) -> tuple[uuid.UUID | None, type[Exception] | None]:
        """Return what a search finds, or the error it ends in."""
        for name in leaves:
            if self.model.types[name] is CALIBRATION:
                # A dataset that is valid in several ranges is one dataset.
                found = list(
                    {
                        i
                        for i, b, e in self.model.ranges[name]
                        if span is not None
                        and self.model.key(i) == (kind, detector)
                        and span.overlaps(Timespan(b, e))
                    }
                )
                if len(found) > 1:
                    return None, CalibrationLookupError
            else:
                found = [i for i in self.model.members(name) if self.model.key(i) == (kind, detector)]
            if found:
                return found[0], None
        return None, None


def prepare(registry: Registry) -> None:
    """Insert what stays the same in all states."""
    registry.records.insert("instrument", [{"name": "Cam"}])
    registry.records.insert(
        "detector", [{"instrument": "Cam", "id": d, "full_name": f"D{d}"} for d in DETECTORS]
    )
    for name, calibration in KINDS.items():
        registry.dataset_types.register(
            [DatasetType(name, ["instrument", "detector"], "StructuredDataDict", isCalibration=calibration)]
        )


def on_sqlite(directory: Path) -> Callable[[], tuple[Callable[[], Registry], Callable[[], None]]]:
    """Return what makes a copy of a prepared SQLite file, which it opens and removes."""
    url = new_url("sqlite", directory)
    with_records = Registry.create(url)
    prepare(with_records)
    with_records.close()
    template = Path(url.removeprefix("sqlite:///"))

    def make() -> tuple[Callable[[], Registry], Callable[[], None]]:
        handle, path = tempfile.mkstemp(suffix=".sqlite3", dir=directory)
        os.close(handle)
        shutil.copyfile(template, path)

        def remove() -> None:
            for file in directory.glob(f"{Path(path).name}*"):
                file.unlink()

        return lambda: Registry.open(f"sqlite:///{path}"), remove

    return make


def on_postgresql(directory: Path) -> Callable[[], tuple[Callable[[], Registry], Callable[[], None]]]:
    """Return what makes a copy of a prepared PostgreSQL database, which it opens and removes."""
    template = new_url("postgresql", directory)
    registry = Registry.create(template)
    prepare(registry)
    registry.close()
    source = sa.make_url(template).database

    def make() -> tuple[Callable[[], Registry], Callable[[], None]]:
        name = f"butler_{uuid.uuid4().hex}"
        server = sa.create_engine(sa.make_url(SERVER), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {source}")
        server.dispose()
        url = sa.make_url(SERVER).set(database=name).render_as_string(hide_password=False)
        return lambda: Registry.open(url), lambda: drop(url)

    return make


KIND_OF_DATABASE = [
    "sqlite",
    *([pytest.param("postgresql", marks=pytest.mark.postgresql)] if SERVER else []),
]


def check(kind: str, directory: Path, examples: int, steps: int) -> None:
    """Run the state machine on a kind of database."""
    make = (on_sqlite if kind == "sqlite" else on_postgresql)(directory)
    machine = type("States", (CollectionStates,), {"new_registry": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("kind", KIND_OF_DATABASE)
def test_collections_follow_the_model(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, 15, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KIND_OF_DATABASE)
def test_collections_follow_the_model_for_long(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, 150, 60)
