"""Datasets in the registry: insert, find-first, calibrations by time, tags, files, removal."""

import itertools
import uuid
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from registry_records import (
    BIAS,
    CALEXP,
    DAY,
    DETECTORS,
    FLAT,
    PACKAGES,
    RAW,
    REFERENCES,
    VISITS,
    coordinate,
    data_ids,
    exposures_and_detectors,
    files_for,
    insert_records,
    put,
)

from butler_dask.butler.registry_names import ButlerRegistry
from butler_dask.errors import (
    CalibrationLookupError,
    CollectionTypeError,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetNotFoundError,
    DatasetTypeError,
    MissingCollectionError,
    OrphanedRecordError,
)
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)


def find(registry, dataset_type, collections, *rows, at=None):
    """Return the run of the dataset found for each data ID, `None` where there is none."""
    ids = data_ids(dataset_type, *rows)
    times = None if at is None else np.full(len(ids), at, dtype=np.int64)
    table, found = registry.search.find(dataset_type, ids, collections, begin_ns=times, end_ns=times)
    return [None if i < 0 else table.run(i) for i in found.tolist()]


def test_what_was_inserted_is_found_by_data_id_with_its_file(registry):
    table = put(registry, RAW, "HSC/raw/all")
    found, rows = registry.search.find(RAW, table.data_ids, ["HSC/raw/all"])
    assert np.array_equal(found.ids[rows], table.ids)
    assert list(registry.datasets.files_of(found.take(rows))) == list(files_for(table))
    assert list(registry.datasets.files_of(table)) == list(files_for(table))
    ref = registry.datasets.find(table.id(3))
    assert ref == table[3]
    assert ref.run == "HSC/raw/all"
    assert registry.datasets.find(uuid.uuid4()) is None
    assert next(iter(registry.datasets.files_of_ids([table.id(5)]))) == files_for(table)[5]
    assert list(registry.datasets.files_of_ids([uuid.uuid4()])) == [None]


def test_data_ids_without_dataset_give_minus_one(registry):
    put(registry, RAW, "run", {"exposure": 1, "detector": 0})
    assert find(registry, RAW, ["run"], {"exposure": 1, "detector": 0}, {"exposure": 1, "detector": 1}) == [
        "run",
        None,
    ]
    assert find(registry, RAW, ["run"], {"exposure": 2, "detector": 0}) == [None]
    registry.collections.register("none")
    assert find(registry, RAW, ["none"], {"exposure": 1, "detector": 0}) == [None]


def test_datasets_without_dimensions_are_kept_too(registry):
    registry.dataset_types.register([PACKAGES])
    for run in ("a", "b"):
        registry.collections.register(run)
        table = DatasetTable.new(PACKAGES, DataIdTable.from_values(PACKAGES.dimensions, {}, 1), run)
        registry.inserts.insert(table, files_for(table))
    assert find(registry, PACKAGES, ["b", "a"], {}) == ["b"]
    assert [r.run for r in registry.queries.datasets("packages", ["a", "b"], find_first=False)] == ["a", "b"]
    with pytest.raises(ConflictingDefinitionError, match="already in RUN 'a'"):
        registry.inserts.insert(
            DatasetTable.new(PACKAGES, DataIdTable.from_values(PACKAGES.dimensions, {}, 1), "a")
        )


def test_first_collection_in_the_chain_wins_whatever_its_type(registry):
    one = {"exposure": 1, "detector": 0}
    two = {"exposure": 2, "detector": 0}
    old = put(registry, RAW, "old", one, two)
    put(registry, RAW, "new", one)
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate("tag", old.take(np.array([0])))
    registry.collections.register("chain", CollectionType.CHAINED)
    for children, expected in (
        (["new", "old"], ["new", "old"]),
        (["old", "new"], ["old", "old"]),
        (["tag", "new"], ["old", None]),
        (["new", "tag"], ["new", None]),
    ):
        registry.collections.set_chain("chain", children)
        assert find(registry, RAW, ["chain"], one, two) == expected
        assert find(registry, RAW, children, one, two) == expected


def test_run_holds_one_dataset_of_a_type_and_data_id(registry):
    put(registry, RAW, "run", {"exposure": 1, "detector": 0})
    ids = data_ids(RAW, {"exposure": 1, "detector": 1}, {"exposure": 1, "detector": 0})
    with pytest.raises(ConflictingDefinitionError, match=r"'raw' for .*detector: 0.* RUN 'run'"):
        registry.inserts.insert(DatasetTable.new(RAW, ids, "run"))
    assert len(registry.queries.datasets("raw", "run")) == 1
    twice = data_ids(RAW, {"exposure": 2, "detector": 0}, {"exposure": 2, "detector": 0})
    with pytest.raises(ConflictingDefinitionError, match="Two datasets 'raw' for"):
        registry.inserts.insert(DatasetTable.new(RAW, twice, "run"))
    registry.collections.register("other")
    again = DatasetTable.new(RAW, data_ids(RAW, {"exposure": 3, "detector": 0}), "other")
    registry.inserts.insert(again)
    moved = DatasetTable(
        RAW, data_ids(RAW, {"exposure": 4, "detector": 0}), again.ids, again.run_codes, ["run"]
    )
    with pytest.raises(ConflictingDefinitionError, match="is already in the registry"):
        registry.inserts.insert(moved)


def test_datasets_that_cannot_be_are_refused(registry):
    registry.dataset_types.register([RAW])
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.collections.register("run")
    ids = data_ids(RAW, {"exposure": 1, "detector": 0})
    with pytest.raises(CollectionTypeError, match="'tag' is TAGGED"):
        registry.inserts.insert(DatasetTable.new(RAW, ids, "tag"))
    with pytest.raises(MissingCollectionError, match="Did you mean 'run'"):
        registry.inserts.insert(DatasetTable.new(RAW, ids, "runn"))
    wrong = data_ids(RAW, {"exposure": 1, "detector": 0}, {"exposure": 1, "detector": 99})
    with pytest.raises(DataIdValueError, match=r"no detector for .*99"):
        registry.inserts.insert(DatasetTable.new(RAW, wrong, "run"))
    with pytest.raises(DatasetTypeError, match="have no exposure"):
        registry.search.find(RAW, data_ids(CALEXP, {"visit": 1, "detector": 0}), ["run"])
    assert registry.datasets.existing_in_run("run") == {}


def test_whole_run_is_read_by_type(registry):
    raws = put(registry, RAW, "run")
    put(registry, BIAS, "run", *({"detector": d} for d in DETECTORS))
    put(registry, RAW, "other")
    existing = registry.datasets.existing_in_run("run")
    assert list(existing) == ["bias", "raw"]
    match = raws.data_ids.match(existing["raw"].data_ids)
    assert np.array_equal(existing["raw"].ids[match], raws.ids)
    assert list(registry.datasets.existing_in_run("run", ["raw", "calexp"])) == ["raw"]


def test_recording_outputs_twice_changes_nothing(registry):
    registry.dataset_types.register([CALEXP])
    registry.collections.register("run")
    table = DatasetTable.new(CALEXP, exposures_and_detectors(CALEXP, "visit"), "run")
    first = table.take(np.arange(10))
    registry.record_outputs([(first, files_for(first))])
    # A batch of which some is there, with files written anew.
    registry.record_outputs([(table, files_for(table, "_again"))])
    registry.record_outputs([(table, files_for(table, "_again"))])
    found, rows = registry.search.find(CALEXP, table.data_ids, ["run"])
    assert len(found) == len(table)
    assert np.array_equal(found.ids[rows], table.ids)
    assert list(registry.datasets.files_of(table)) == list(files_for(table, "_again"))


def test_recorded_output_with_another_uuid_is_passed_over(registry):
    there = put(registry, CALEXP, "run", {"visit": 1, "detector": 0})
    other = DatasetTable.new(
        CALEXP, data_ids(CALEXP, {"visit": 1, "detector": 0}, {"visit": 2, "detector": 0}), "run"
    )
    registry.record_outputs([(other, files_for(other, "_other"))])
    found, rows = registry.search.find(CALEXP, other.data_ids, ["run"])
    assert found.id(rows[0]) == there.id(0)
    assert found.id(rows[1]) == other.id(1)
    assert registry.datasets.find(other.id(0)) is None
    assert registry.datasets.files_of(there)[0] == files_for(there)[0]


@pytest.mark.parametrize("how", ["another run", "another data ID", "another type"])
def test_a_uuid_belongs_to_one_dataset_whoever_records_it(registry, how):
    """Else the file record of one would move to the file of another."""
    pairs = itertools.product(VISITS, DETECTORS)
    there = put(registry, CALEXP, "run", *({"visit": v, "detector": d} for v, d in pairs))
    registry.collections.register("other")
    data_ids_, kind, run = there.data_ids, CALEXP, "run"
    if how == "another run":
        run = "other"
    elif how == "another data ID":
        data_ids_ = there.data_ids.take(np.roll(np.arange(len(there)), 1))
    else:
        kind = DatasetType("calexp_again", ["visit", "detector"], "ExposureF")
        registry.dataset_types.register([kind])
    other = DatasetTable(kind, data_ids_, there.ids, there.run_codes, [run])
    records = files_for(other, "_other")
    one, first = np.array([0]), files_for(other.take(np.array([0])), "_other")
    for few, files in ((other, records), (other.take(one), first)):
        named = r"cannot be .* as well"
        with pytest.raises(ConflictingDefinitionError, match=named):
            registry.record_outputs([(few, files)])
        with pytest.raises(ConflictingDefinitionError, match=named):
            registry.inserts.record([(few, files)])
        with pytest.raises(ConflictingDefinitionError, match=named):
            registry.inserts.add_files(few, files)
        with pytest.raises(ConflictingDefinitionError, match="already in the registry"):
            registry.inserts.insert(few, files)
    assert list(registry.datasets.files_of(there)) == list(files_for(there))
    assert "other" not in {t.run(0) for t in registry.datasets.existing_in_run("other").values()}
    new = DatasetTable.new(CALEXP, data_ids(CALEXP, {"visit": 1, "detector": 0}), "other")
    twice = DatasetTable.concatenate(
        [
            new,
            DatasetTable(
                CALEXP, data_ids(CALEXP, {"visit": 2, "detector": 0}), new.ids, new.run_codes, new.runs
            ),
        ]
    )
    with pytest.raises(ConflictingDefinitionError, match=r"cannot be .* as well"):
        registry.record_outputs([(twice, files_for(twice))])


# Calibrations


def certify(registry, collection, run, detector, begin, end):
    """Make a bias of a detector valid for days."""
    table = put(registry, BIAS, run, {"detector": detector})
    registry.collections.register(collection, CollectionType.CALIBRATION)
    registry.associations.certify(
        collection, table, Timespan(begin * DAY, None if end is None else end * DAY)
    )
    return table


def test_calibrations_are_found_by_time(registry):
    certify(registry, "calib", "jan", 0, 0, 10)
    certify(registry, "calib", "feb", 0, 10, None)
    certify(registry, "calib", "other", 1, 0, None)
    for day, expected in ((0, "jan"), (9.99, "jan"), (10, "feb"), (1000, "feb"), (-1, None)):
        assert find(registry, BIAS, ["calib"], {"detector": 0}, at=int(day * DAY)) == [expected]
    ids = data_ids(BIAS, *({"detector": d} for d in (0, 0, 1)))
    begin = np.array([3, 12, 5], dtype=np.int64) * DAY
    table, rows = registry.search.find(BIAS, ids, ["calib"], begin_ns=begin, end_ns=begin + DAY)
    assert [table.run(i) for i in rows.tolist()] == ["jan", "feb", "other"]


def test_calibration_look_up_that_cannot_choose_is_an_error(registry):
    certify(registry, "calib", "jan", 0, 0, 10)
    certify(registry, "calib", "feb", 0, 10, 20)
    certify(registry, "calib", "lone", 1, 0, 10)
    assert find(registry, BIAS, ["calib"], {"detector": 1}) == ["lone"]
    with pytest.raises(CalibrationLookupError, match=r"Several 'bias' datasets for .*detector: 0.*'calib'"):
        find(registry, BIAS, ["calib"], {"detector": 0}, {"detector": 1})
    ids = data_ids(BIAS, {"detector": 0})
    five, fifteen = (np.array([d * DAY], dtype=np.int64) for d in (5, 15))
    with pytest.raises(CalibrationLookupError):
        registry.search.find(BIAS, ids, ["calib"], begin_ns=five, end_ns=fifteen)
    with pytest.raises(CalibrationLookupError):
        registry.queries.datasets("bias", ["calib"])
    assert len(registry.queries.datasets("bias", ["calib"], find_first=False)) == 3
    put(registry, BIAS, "first", {"detector": 0})
    assert find(registry, BIAS, ["first", "calib"], {"detector": 0}) == ["first"]


def test_overlapping_certifications_conflict(registry):
    certify(registry, "calib", "jan", 0, 0, 10)
    with pytest.raises(ConflictingDefinitionError, match=r"has a 'bias' for .* valid .* overlaps"):
        certify(registry, "calib", "feb", 0, 9, 20)
    with pytest.raises(DatasetTypeError, match="not a calibration type"):
        registry.associations.certify("calib", put(registry, RAW, "raws"), Timespan(None, None))
    with pytest.raises(CollectionTypeError, match="this needs a CALIBRATION"):
        registry.associations.certify(
            "jan", put(registry, BIAS, "mar", {"detector": 0}), Timespan(None, None)
        )


def test_decertifying_cuts_validity_ranges(registry):
    certify(registry, "calib", "all", 0, 0, 30)
    certify(registry, "calib", "one", 1, 0, 30)
    registry.associations.decertify(
        "calib", BIAS, Timespan(10 * DAY, 20 * DAY), data_ids(BIAS, {"detector": 0})
    )
    spans = {
        (a.ref.dataId["detector"], a.timespan.begin_ns // DAY, a.timespan.end_ns // DAY)
        for a in registry.associations.query("bias", "calib")
    }
    assert spans == {(0, 0, 10), (0, 20, 30), (1, 0, 30)}
    certify(registry, "calib", "middle", 0, 10, 20)
    assert find(registry, BIAS, ["calib"], {"detector": 0}, at=15 * DAY) == ["middle"]
    registry.associations.decertify("calib", "bias", Timespan(None, None))
    assert registry.associations.query("bias", "calib") == []
    assert registry.collections.get("calib", include_summary=True).dataset_types == frozenset()


_spans = st.lists(
    st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 12), st.integers(1, 6)), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_spans, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=8))
def test_certify_and_decertify_agree_with_a_plain_list(registry, steps, questions):
    registry.dataset_types.register([BIAS])
    name = f"calib/{uuid.uuid4()}"
    registry.collections.register(name, CollectionType.CALIBRATION)
    model: list[tuple[int, int, int, str]] = []
    for i, (adding, detector, begin, length) in enumerate(steps):
        end = begin + length
        span = Timespan(begin * DAY, end * DAY)
        clash = [m for m in model if m[0] == detector and m[1] < end and begin < m[2]]
        if adding:
            run = f"{name}/{i}"
            table = put(registry, BIAS, run, {"detector": detector})
            if clash:
                with pytest.raises(ConflictingDefinitionError):
                    registry.associations.certify(name, table, span)
            else:
                registry.associations.certify(name, table, span)
                model.append((detector, begin, end, run))
        else:
            registry.associations.decertify(name, BIAS, span, data_ids(BIAS, {"detector": detector}))
            for m in clash:
                model.remove(m)
                model += [(detector, b, e, m[3]) for b, e in ((m[1], begin), (end, m[2])) if b < e]
    ids = data_ids(BIAS, *({"detector": d} for d, _ in questions))
    times = np.array([t * DAY for _, t in questions], dtype=np.int64)
    table, rows = registry.search.find(BIAS, ids, [name], begin_ns=times, end_ns=times)
    answers = [None if i < 0 else table.run(i) for i in rows.tolist()]
    expected = [next((m[3] for m in model if m[0] == d and m[1] <= t < m[2]), None) for d, t in questions]
    assert answers == expected


# Tags


def test_tags_hold_one_dataset_of_a_data_id(registry):
    old = put(registry, RAW, "old")
    new = put(registry, RAW, "new")
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate("tag", old.take(np.arange(3)))
    registry.associations.associate("tag", old.take(np.arange(4)))
    with pytest.raises(ConflictingDefinitionError, match="Nothing was associated"):
        registry.associations.associate("tag", new.take(np.array([10, 2])))
    assert len(registry.queries.datasets("raw", "tag")) == 4
    registry.associations.disassociate("tag", new.take(np.arange(3)))
    assert len(registry.queries.datasets("raw", "tag")) == 4
    registry.associations.disassociate("tag", old.take(np.arange(3)))
    [left] = registry.queries.datasets("raw", "tag")
    assert left == old[3]
    with pytest.raises(CollectionTypeError):
        registry.associations.associate("old", new)
    unknown = DatasetTable.new(RAW, data_ids(RAW, {"exposure": 1, "detector": 0}), "old")
    with pytest.raises(DatasetNotFoundError, match="not in the registry"):
        registry.associations.associate("tag", unknown)


def test_removed_dataset_cannot_be_tagged_by_its_old_row_number(registry):
    put(registry, RAW, "run")
    table = registry.queries.datasets("raw", "run")
    registry.datasets.remove([table])
    registry.collections.register("tag", CollectionType.TAGGED)
    with pytest.raises(DatasetNotFoundError, match="was removed"):
        registry.associations.associate("tag", table)


def test_memberships_are_listed_with_validity_ranges(registry):
    bias = certify(registry, "calib", "run", 0, 0, 10)
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate("tag", bias)
    found = registry.associations.query("bias")
    assert [(a.collection, a.timespan) for a in found] == [
        ("run", None),
        ("calib", Timespan(0, 10 * DAY)),
        ("tag", None),
    ]
    assert {a.ref for a in found} == {bias[0]}
    only = registry.associations.query("bias", types={CollectionType.TAGGED})
    assert [a.collection for a in only] == ["tag"]
    registry.collections.register("chain", CollectionType.CHAINED)
    registry.collections.set_chain("chain", ["tag", "calib"])
    assert [a.collection for a in registry.associations.query("bias", "chain")] == ["tag", "calib"]
    api = ButlerRegistry(registry)
    for flatten in (True, False):
        listed = api.queryDatasetAssociations("bias", collections=["chain"], flattenChains=flatten)
        assert [a.collection for a in listed] == ["tag", "calib"]


def test_certifying_for_no_time_certifies_nothing_but_refuses_what_could_not_be(registry):
    bias = put(registry, BIAS, "run", {"detector": 0})
    raw = put(registry, RAW, "run", {"exposure": 1, "detector": 0})
    registry.collections.register("calib", CollectionType.CALIBRATION)
    registry.associations.certify("calib", bias, Timespan.makeEmpty())
    assert registry.associations.query("bias", "calib") == []
    with pytest.raises(CollectionTypeError):
        registry.associations.certify("run", bias, Timespan.makeEmpty())
    with pytest.raises(DatasetTypeError):
        registry.associations.certify("calib", raw, Timespan.makeEmpty())


# Removal


def test_removed_datasets_are_gone_everywhere_and_their_files_wait_for_deletion(registry):
    table = put(registry, BIAS, "run", *({"detector": d} for d in DETECTORS))
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.collections.register("calib", CollectionType.CALIBRATION)
    registry.associations.associate("tag", table)
    registry.associations.certify("calib", table, Timespan(None, None))
    part = table.take(np.array([0, 2]))
    files = registry.datasets.remove([part])
    assert [f.path for f in files] == ["run/bias/0.fits", "run/bias/2.fits"]
    assert registry.datasets.pending_deletions() == ["run/bias/0.fits", "run/bias/2.fits"]
    for name in ("run", "tag", "calib"):
        found = registry.queries.datasets("bias", name)
        assert {r.dataId["detector"] for r in found} == {1, 3}
    assert registry.datasets.take_deletions(1) == ["run/bias/0.fits"]
    assert registry.datasets.pending_deletions() == ["run/bias/2.fits"]
    # Written again before it was deleted: it must not be deleted any more.
    registry.inserts.insert(part, files_for(table).__class__.from_records([files_for(table)[0], files[1]]))
    assert registry.datasets.pending_deletions() == []
    with pytest.raises(DatasetNotFoundError):
        registry.datasets.remove([DatasetTable.new(BIAS, part.data_ids, "run")])


def test_two_programs_that_remove_at_once_do_not_both_delete_a_file(server):
    """Else the second one might delete what was written anew after the first one's end."""
    with closing(Registry.create(server)) as one, closing(Registry.open(server)) as two:
        insert_records(one)
        table = put(one, BIAS, "run", {"detector": 0})
        one.datasets.remove([table])
        with one.transaction():
            assert one.datasets.take_deletions(10) == ["run/bias/0.fits"]
            assert two.datasets.take_deletions(10) == []
        assert two.datasets.pending_deletions() == []


def test_file_of_several_datasets_goes_with_the_last_of_them(registry):
    from butler_dask.vocabulary.file_record import FileRecord, FileTable

    registry.dataset_types.register([RAW])
    registry.collections.register("run")
    table = DatasetTable.new(RAW, data_ids(RAW, *({"exposure": 1, "detector": d} for d in range(2))), "run")
    one = FileRecord("raw/both.fits", "f", "Exposure")
    registry.inserts.insert(table, FileTable.from_records([one, one]))
    assert registry.datasets.remove([table.take(np.array([0]))]) == []
    assert registry.datasets.remove([table.take(np.array([1]))]) == [one]


def test_files_ingested_in_place_are_never_given_to_deletion(registry):
    from butler_dask.vocabulary.file_record import FileRecord, FileTable

    registry.dataset_types.register([RAW])
    registry.collections.register("run")
    table = DatasetTable.new(RAW, data_ids(RAW, *({"exposure": 1, "detector": d} for d in range(2))), "run")
    places = ["/archive/raw.fits", "s3://bucket/raw.fits"]
    registry.inserts.insert(table, FileTable.from_records(FileRecord(p, "f", "Exposure") for p in places))
    assert registry.datasets.remove([table]) == []
    assert registry.datasets.pending_deletions() == []


def test_forgotten_files_leave_the_dataset_known(registry):
    table = put(registry, RAW, "run", {"exposure": 1, "detector": 0})
    assert [f.path for f in registry.datasets.forget_files(table)] == ["run/raw/0.fits"]
    assert list(registry.datasets.files_of(table)) == [None]
    assert registry.datasets.find(table.id(0)) == table[0]
    registry.inserts.add_files(table, files_for(table))
    assert list(registry.datasets.files_of(table)) == list(files_for(table))


def test_removed_run_takes_datasets_tags_and_quanta_with_it(registry):
    table = put(registry, RAW, "run")
    keep = put(registry, RAW, "keep")
    registry.collections.register("tag", CollectionType.TAGGED)
    registry.associations.associate("tag", table)
    registry.collections.register("chain", CollectionType.CHAINED)
    registry.collections.set_chain("chain", ["run", "keep"])
    with pytest.raises(OrphanedRecordError, match="member of 'chain'"):
        registry.removal.remove_runs(["run"])
    assert len(registry.queries.datasets("raw", "run")) == 24
    with pytest.raises(OrphanedRecordError, match="remove-runs"):
        registry.removal.remove("run")
    files = registry.removal.remove_runs(["run"], unlink_from_chains=True)
    assert len(files) == 24
    assert len(registry.queries.datasets("raw", "tag")) == 0
    assert registry.collections.get("chain").children == ("keep",)
    assert len(registry.queries.datasets("raw", "chain")) == len(keep)
    assert registry.datasets.find(table.id(0)) is None


# Many


def test_large_look_ups_agree_with_small_ones(registry):
    # More data IDs than are joined one by one, some of them absent, over a chain.
    add = registry.records.insert
    add("detector", [{"instrument": "HSC", "id": d, "full_name": f"x{d}"} for d in range(10, 310)])
    rows = [{"exposure": v, "detector": d} for v, d in itertools.product(VISITS, range(10, 310))]
    rng = np.random.default_rng(1)
    for k in range(3):
        some = [rows[i] for i in np.sort(rng.choice(len(rows), 600, replace=False))]
        put(registry, RAW, f"run{k}", *some)
    chain = ["run2", "run0", "run1"]
    asked = data_ids(RAW, *rows)
    table, found = registry.search.find(RAW, asked, chain)
    for i in rng.choice(len(rows), 60, replace=False).tolist():
        assert find(registry, RAW, chain, rows[i]) == [None if found[i] < 0 else table.run(found[i])]
    first = registry.queries.datasets("raw", chain)
    assert len(first) == np.count_nonzero(found >= 0)
    assert np.array_equal(
        first.ids[asked.take(found >= 0).match(first.data_ids)], table.ids[found[found >= 0]]
    )
    assert len(registry.queries.datasets("raw", chain, find_first=False)) == 1800
    part = asked.take(rng.choice(len(rows), 550, replace=False))
    sparse, places = registry.search.find(RAW, part, chain)
    whole = found[part.match(asked)]
    assert np.array_equal(places >= 0, whole >= 0)
    assert np.array_equal(sparse.ids[places[places >= 0]], table.ids[whole[whole >= 0]])


def test_search_over_many_collections_uses_their_summaries(registry):
    for k in range(8):
        put(
            registry,
            RAW if k % 2 else BIAS,
            f"run{k}",
            {"exposure": 1, "detector": 0} if k % 2 else {"detector": 0},
        )
    names = [f"run{k}" for k in range(8)]
    assert find(registry, RAW, names, {"exposure": 1, "detector": 0}) == ["run1"]
    assert find(registry, BIAS, names[::-1], {"detector": 0}) == ["run6"]
    infos = registry.collections.query(["run0", "run1"], include_summary=True)
    assert [i.dataset_types for i in infos] == [frozenset({"bias"}), frozenset({"raw"})]
    assert registry.collections.governor_values(names) == {"instrument": frozenset({"HSC"})}


def test_registry_written_by_one_program_is_read_by_another(tmp_path):
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    registry = Registry.create(url)
    insert_records(registry)
    table = put(registry, FLAT, "run", {"detector": 0, "physical_filter": "HSC-R"})
    put(registry, REFERENCES, "refs", {"htm7": 231829})
    registry.close()
    again = Registry.open(url, writeable=False)
    assert again.datasets.find(table.id(0)) == table[0]
    assert coordinate(detector=0, physical_filter="HSC-R") == again.queries.datasets("flat", "run")[0].dataId
    again.close()
