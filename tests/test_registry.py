"""The registry as a database: opening, transactions, several processes, dataset types, dimension records."""

import multiprocessing
import os
import pickle
import sqlite3
import threading
import time
import uuid

import pytest
from registry_records import (
    BIAS,
    CALEXP,
    RAW,
    box,
    coordinate,
    data_ids,
    exposures_and_detectors,
    put,
    timespan_of,
    universe,
    visit_region,
)

from butler_dask.errors import (
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetTypeError,
    DimensionNameError,
    DimensionValueError,
    FormatVersionError,
    InconsistentDataIdError,
    MissingDatasetTypeError,
    OrphanedRecordError,
    ReadOnlyRepositoryError,
    RepositoryError,
)
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.quantum_record import QuantumRecord, QuantumTable
from butler_dask.vocabulary.selection import Selection
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)


def test_opening_what_is_no_registry_says_so(tmp_path):
    with pytest.raises(RepositoryError, match="no registry database"):
        Registry.open(f"sqlite:///{tmp_path}/none.sqlite3")
    (tmp_path / "text.sqlite3").write_text("this is not a database, only a text of some length\n" * 40)
    with pytest.raises(RepositoryError, match="not a database"):
        Registry.open(f"sqlite:///{tmp_path}/text.sqlite3")
    sqlite3.connect(tmp_path / "empty.sqlite3").close()
    with pytest.raises(RepositoryError, match="is not a registry"):
        Registry.open(f"sqlite:///{tmp_path}/empty.sqlite3")
    Registry.create(f"sqlite:///{tmp_path}/one.sqlite3").close()
    with pytest.raises(RepositoryError, match="has a registry already"):
        Registry.create(f"sqlite:///{tmp_path}/one.sqlite3")


def test_registry_of_another_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    Registry.create(url).close()
    connection = sqlite3.connect(tmp_path / "registry.sqlite3")
    connection.execute("UPDATE repository SET value = '99' WHERE name = 'schema_version'")
    connection.commit()
    connection.close()
    with pytest.raises(FormatVersionError, match="schema version 99; this program reads 3"):
        Registry.open(url)


def test_registry_opened_for_reading_refuses_changes_and_sees_those_of_others(registry, registry_url):
    reader = Registry.open(registry_url, writeable=False)
    assert not reader.writeable
    with pytest.raises(ReadOnlyRepositoryError, match="writeable=True"):
        reader.collections.register("u/x/run")
    registry.collections.register("u/x/run")
    assert [c.name for c in reader.collections.query()] == ["u/x/run"]
    put(registry, RAW, "HSC/raw/all")
    assert len(reader.queries.datasets("raw", ["HSC/raw/all"])) == 24
    reader.close()


def test_registry_is_read_from_a_directory_that_takes_no_writes(tmp_path):
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    registry = Registry.create(url)
    registry.collections.register("u/x/run")
    registry.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["registry.sqlite3"]
    reader = Registry.open(url, writeable=False)
    assert [c.name for c in reader.collections.query()] == ["u/x/run"]
    reader.close()


def test_failed_transaction_leaves_nothing_not_even_in_memory(registry):

    def change_and_fail() -> None:
        with registry.transaction():
            registry.collections.register("u/x/run")
            registry.dataset_types.register([RAW])
            assert registry.collections.get("u/x/run").name == "u/x/run"
            raise KeyError("something else")

    with pytest.raises(KeyError):
        change_and_fail()
    assert registry.collections.query() == []
    assert registry.dataset_types.query() == []
    with registry.transaction():
        registry.collections.register("u/x/kept")
        with pytest.raises(KeyError):
            change_and_fail()
    assert [c.name for c in registry.collections.query()] == ["u/x/kept"]


def test_snapshot_sees_one_state_whatever_others_write(registry, registry_url):
    put(registry, RAW, "run")
    other = Registry.open(registry_url)
    if registry_url.startswith("sqlite"):
        with registry.snapshot():
            before = len(registry.queries.datasets("raw", "run"))
            other.removal.remove_runs(["run"])
            assert len(registry.queries.datasets("raw", "run")) == before == 24
    else:
        other.removal.remove_runs(["run"])
    assert registry.collections.query() == []
    other.close()


def _write_many(url: str, name: str, count: int) -> None:
    registry = Registry.open(url)
    for i in range(count):
        registry.collections.register(f"{name}/{i}")
        table = DatasetTable.new(RAW, exposures_and_detectors(RAW), f"{name}/{i}")
        registry.inserts.insert(table)
        registry.collections.set_chain("all", [f"{name}/{i}", *registry.collections.get("all").children])
    registry.close()


def test_processes_and_threads_write_at_once(registry, registry_url):
    registry.dataset_types.register([RAW])
    registry.collections.register("all", CollectionType.CHAINED)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_many, args=(registry_url, f"p{k}", 8)) for k in range(2)]
    for process in processes:
        process.start()
    failures: list[BaseException] = []

    def in_thread(k: int) -> None:
        try:
            for i in range(8):
                registry.collections.register(f"t{k}/{i}")
                table = DatasetTable.new(RAW, exposures_and_detectors(RAW), f"t{k}/{i}")
                registry.inserts.insert(table)
                assert len(registry.queries.datasets("raw", f"t{k}/{i}")) == 24
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=in_thread, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert failures == []
    runs = [c.name for c in registry.collections.query("p*,t*")]
    assert len(runs) == 40
    everything = registry.queries.datasets("raw", runs, find_first=False)
    assert len(everything) == 40 * 24
    assert len(set(everything.row_ids.tolist())) == 40 * 24


@pytest.mark.filterwarnings("ignore:This process.*use of fork:DeprecationWarning")
def test_registry_works_on_both_sides_of_a_fork(registry):
    put(registry, RAW, "run")
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = len(registry.queries.datasets("raw", "run"))
            registry.collections.register("from_child")
            os.write(send, pickle.dumps(found))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(send)
    assert pickle.loads(os.read(receive, 1000)) == 24
    os.close(receive)
    assert [c.name for c in registry.collections.query()] == ["run", "from_child"]


def test_writer_waits_for_another_writer(tmp_path):
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    one, two = Registry.create(url), Registry.open(url)
    done = threading.Event()

    def hold() -> None:
        with one.transaction():
            one.collections.register("first")
            done.set()
            time.sleep(0.4)

    thread = threading.Thread(target=hold)
    thread.start()
    done.wait()
    assert two.collections.query() == []
    two.collections.register("second")
    thread.join()
    assert [c.name for c in two.collections.query()] == ["first", "second"]
    one.close()
    two.close()


# Dataset types


def test_dataset_types_are_registered_once_and_listed_by_name(registry):
    assert registry.dataset_types.register([RAW, CALEXP, BIAS]) == [True, True, True]
    assert registry.dataset_types.register([RAW]) == [False]
    assert [t.name for t in registry.dataset_types.query()] == ["bias", "calexp", "raw"]
    assert [t.name for t in registry.dataset_types.query("c*,raw")] == ["calexp", "raw"]
    assert registry.dataset_types.get("bias").isCalibration()
    assert registry.dataset_types.get("calexp.wcs").storageClass_name == "Wcs"
    with pytest.raises(MissingDatasetTypeError, match="Did you mean 'calexp'"):
        registry.dataset_types.get("calexpp")
    missing: list[str] = []
    assert registry.dataset_types.query(["nothing", "raw"], missing) == [RAW]
    assert missing == ["nothing"]


def test_dataset_type_registered_otherwise_is_a_conflict(registry):
    registry.dataset_types.register([RAW])
    with pytest.raises(ConflictingDefinitionError, match="'raw' is registered as"):
        registry.dataset_types.register([CALEXP, DatasetType("raw", ["visit"], "Exposure")])
    assert [t.name for t in registry.dataset_types.query()] == ["raw"]
    with pytest.raises(DatasetTypeError, match="component"):
        registry.dataset_types.register([CALEXP.makeComponentDatasetType("wcs")])


def test_dataset_type_with_datasets_is_not_removed(registry):
    put(registry, RAW, "HSC/raw/all")
    with pytest.raises(OrphanedRecordError, match="'HSC/raw/all'"):
        registry.dataset_types.remove("raw")
    registry.removal.remove_runs(["HSC/raw/all"])
    registry.dataset_types.remove("raw")
    assert registry.dataset_types.query() == []


# Dimension records


def test_records_come_back_as_they_were_inserted(registry):
    record = registry.queries.records("visit", Selection().where("instrument='HSC' AND visit=3"))[0]
    assert (record.id, record.name, record.exposure_time, record.seq_num) == (3, "v3", 90.0, 3)
    assert record.timespan == timespan_of(3)
    assert record.region == visit_region(3)
    exposure = registry.records.fetch("exposure", data_ids(RAW, {"exposure": 3, "detector": 0}))[0]
    assert exposure.can_see_sky is True
    assert exposure.tracking_ra is None
    bands = registry.queries.records("band", Selection(order_by=["band"]))
    assert [r.name for r in bands] == ["i", "r"]


def test_records_that_exist_are_refused_skipped_or_replaced(registry):
    new = {"instrument": "HSC", "id": 0, "full_name": "zero"}
    other = {"instrument": "HSC", "id": 9, "full_name": "nine"}
    with pytest.raises(ConflictingDefinitionError, match=r"exists for .*detector: 0"):
        registry.records.insert("detector", [other, new])
    assert len(registry.queries.records("detector", Selection().where({"instrument": "HSC"}))) == 4
    registry.records.insert("detector", [new, other], skip_existing=True)
    names = registry.queries.records(
        "detector", Selection(order_by=["detector"]).where({"instrument": "HSC"})
    )
    assert [r.full_name for r in names] == ["0_0", "0_1", "1_0", "1_1", "nine"]
    registry.records.insert("detector", [new], replace=True)
    assert registry.queries.records("detector", Selection().where("full_name='zero' AND instrument='HSC'"))
    twice = {"instrument": "HSC", "id": 11, "full_name": "x"}
    with pytest.raises(ConflictingDefinitionError, match="Two records"):
        registry.records.insert("detector", [twice, twice])


def test_record_of_a_value_nobody_knows_is_refused(registry):
    with pytest.raises(DataIdValueError, match="names 'physical_filter' 'HSC-Z', which has no record"):
        registry.records.insert(
            "visit", [{"instrument": "HSC", "id": 77, "name": "v77", "physical_filter": "HSC-Z"}]
        )
    with pytest.raises(DataIdValueError, match=r"have no field 'exposure_tim'. Did you mean 'exposure_time'"):
        registry.records.insert("visit", [{"instrument": "HSC", "id": 77, "exposure_tim": 3}])
    with pytest.raises(DimensionNameError, match="Did you mean 'visit'"):
        registry.records.insert("visitt", [{"id": 77}])


def test_sync_inserts_compares_and_updates(registry):
    record = universe["detector"].RecordClass
    new = record(instrument="HSC", id=8, full_name="eight", purpose="GUIDER")
    assert registry.records.sync(new) is True
    assert registry.records.sync(new) is False
    changed = record(instrument="HSC", id=8, full_name="eight", purpose="SCIENCE")
    with pytest.raises(ConflictingDefinitionError, match="purpose: 'GUIDER' != 'SCIENCE'"):
        registry.records.sync(changed)
    assert registry.records.sync(changed, update=True) == {"purpose": "GUIDER"}
    assert registry.records.sync(changed) is False


def test_replaced_region_is_found_where_it_is_now(registry):
    registry.records.insert(
        "tract", [{"skymap": "rings", "id": 7, "region": box(40, 10, 41, 11)}], replace=True
    )
    group = universe.conform(["tract"])
    where = "skymap='rings' AND tract.region OVERLAPS POINT({}, {})"
    assert len(registry.queries.data_ids(group, Selection().where(where.format(190.5, 12.5)))) == 1
    assert len(registry.queries.data_ids(group, Selection().where(where.format(151.0, 2.0)))) == 0


def test_expanded_data_id_has_records_and_implied_values(registry):
    data_id = registry.records.expand(coordinate(exposure=3, detector=1))
    assert data_id["physical_filter"] == "HSC-I"
    assert data_id["band"] == "i"
    assert data_id["day_obs"] == 20130603
    assert data_id.records["detector"].full_name == "0_1"
    assert data_id.timespan == timespan_of(3)
    both = registry.records.expand(coordinate(visit=3, detector=1))
    assert (
        both.region
        == registry.records.fetch("visit_detector_region", data_ids(CALEXP, {"visit": 3, "detector": 1}))[
            0
        ].region
    )


def test_data_ids_that_cannot_be_are_refused(registry):
    with pytest.raises(DataIdValueError, match=r"no exposure for .*'exposure': 99"):
        registry.records.expand(coordinate(exposure=99, detector=1))
    with pytest.raises(InconsistentDataIdError, match="no such visit_definition"):
        registry.records.expand(coordinate(exposure=3, visit=4))
    wrong = DataCoordinate.standardize(
        instrument="HSC", visit=3, physical_filter="HSC-R", band="r", day_obs=20130603
    )
    with pytest.raises(InconsistentDataIdError, match="physical_filter='HSC-R', but its visit"):
        registry.records.expand(wrong)


def test_table_of_data_ids_is_expanded_row_by_row(registry):
    table = exposures_and_detectors(RAW)
    expanded = registry.records.expand_table(table)
    assert [d["band"] for d in expanded] == [registry.records.expand(d)["band"] for d in table]
    assert expanded.dimensions == table.dimensions
    with pytest.raises(DataIdValueError, match="no exposure"):
        registry.records.expand_table(data_ids(RAW, {"exposure": 99, "detector": 0}))


def test_records_are_fetched_aligned_with_data_ids(registry):
    table = data_ids(CALEXP, *({"visit": v, "detector": 0} for v in (3, 99, 1, 3)))
    assert [None if r is None else r.id for r in registry.records.fetch("visit", table)] == [3, None, 1, 3]
    many = DataIdTable.concatenate([exposures_and_detectors(CALEXP, "visit")] * 3)
    assert [r.id for r in registry.records.fetch("visit", many)] == many.values("visit").tolist()


def test_data_ids_are_completed_from_other_keys(registry):
    group = RAW.dimensions
    complete = registry.queries.complete
    assert complete({"instrument": "HSC", "detector": "0_1", "exposure": 2}, group) == coordinate(
        detector=1, exposure=2
    )
    assert complete({"instrument": "HSC", "full_name": "1_1", "exposure.obs_id": "HSCA4"}, group) == (
        coordinate(detector=3, exposure=4)
    )
    day = {"instrument": "HSC", "detector": 1, "day_obs": 20130605, "seq_num": 5}
    assert complete(day, group) == coordinate(detector=1, exposure=5)
    flat = universe.conform(["detector", "physical_filter"])
    assert complete({"instrument": "HSC", "visit": 3, "detector": 2}, flat)["physical_filter"] == "HSC-I"


def test_data_ids_that_do_not_say_enough_are_refused(registry):
    complete, group = registry.queries.complete, RAW.dimensions
    with pytest.raises(DimensionValueError, match=r"no value for 'exposure'.*matches several"):
        complete({"instrument": "HSC", "detector": 1, "exposure.target_name": "field_1"}, group)
    with pytest.raises(DimensionValueError, match="no value for 'instrument'"):
        complete({"detector": "0_1", "exposure": 2}, group)
    with pytest.raises(DataIdValueError, match=r"No data ID .* matches"):
        complete({"instrument": "HSC", "detector": "9_9", "exposure": 2}, group)
    with pytest.raises(DimensionNameError, match=r"'detectr'.*Did you mean 'detector'"):
        complete({"instrument": "HSC", "detectr": 1, "exposure": 2}, group)


# Quanta


def test_quanta_keep_their_latest_attempt_and_count(registry):
    registry.collections.register("run")
    quantum_id = uuid.uuid4().bytes
    first = QuantumRecord(
        quantum_id,
        "run",
        "isr",
        '{"detector": 1}',
        "failure",
        start_ns=10,
        end_ns=20,
        error_type="ValueError",
    )
    again = QuantumRecord(quantum_id, "run", "isr", '{"detector": 1}', "success", start_ns=30, end_ns=45)
    registry.record_outputs([], QuantumTable.from_records([first]))
    registry.record_outputs([], QuantumTable.from_records([first]))
    assert list(registry.quanta.query("run")) == [first]
    registry.record_outputs([], QuantumTable.from_records([again]))
    [kept] = registry.quanta.query("run")
    assert (kept.status, kept.attempt, kept.error_type, kept.end_ns) == ("success", 2, "", 45)
    assert kept.wall_s == pytest.approx(15e-9)


def test_empty_timespans_and_unbounded_ones_survive(registry):
    registry.records.insert("day_obs", [{"instrument": "HSC", "id": 1, "timespan": Timespan(None, 5)}])
    [record] = registry.queries.records("day_obs", Selection().where({"instrument": "HSC", "day_obs": 1}))
    assert record.timespan == Timespan(None, 5)
