"""Transactions of a registry: what they undo and share; and how many statements single calls take."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import sqlalchemy as sa
from registry_records import BIAS, PACKAGES, REFERENCES, coordinate, data_ids, files_for, insert_records, put

from butler_dask.errors import ConflictingDefinitionError, DataIdValueError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)


class Abandoned(Exception):
    """Ends a transaction that is to be undone."""


@contextmanager
def statements_of_new_connections() -> Iterator[list[str]]:
    """Give the list of the statements SQLite executes in connections made inside."""
    statements: list[str] = []

    def trace(connection, record) -> None:
        connection.set_trace_callback(statements.append)

    sa.event.listen(sa.pool.Pool, "connect", trace)
    yield statements
    sa.event.remove(sa.pool.Pool, "connect", trace)


def table_of(dataset_type, run, *rows) -> DatasetTable:
    """Return new datasets of a run."""
    return DatasetTable.new(dataset_type, data_ids(dataset_type, *rows), run)


def names(registry: Registry) -> list[str]:
    """Return the names of all collections."""
    return [info.name for info in registry.collections.query()]


# What is undone


def test_a_transaction_goes_on_after_its_first_deed_was_refused(registry):
    put(registry, BIAS, "run", {"detector": 0})
    with registry.transaction():
        with pytest.raises(ConflictingDefinitionError, match="already in RUN 'run'"):
            registry.inserts.insert(table_of(BIAS, "run", {"detector": 1}, {"detector": 0}))
        registry.inserts.insert(table_of(BIAS, "run", {"detector": 2}))
        registry.collections.register("later")
    assert list(registry.datasets.existing_in_run("run")["bias"].data_ids.values("detector")) == [0, 2]
    assert "later" in names(registry)


def test_a_transaction_of_which_all_was_refused_ends_well(registry):
    put(registry, BIAS, "run", {"detector": 0})
    with registry.transaction(), pytest.raises(ConflictingDefinitionError):
        registry.inserts.insert(table_of(BIAS, "run", {"detector": 0}))
    registry.collections.register("later")
    assert "later" in names(registry)


def test_transactions_in_transactions_undo_what_is_theirs(registry):
    with registry.transaction():
        with suppress(Abandoned), registry.transaction(), registry.transaction():
            registry.collections.register("first")
            raise Abandoned
        registry.collections.register("second")
        with suppress(Abandoned), registry.transaction():
            registry.collections.register("third")
            raise Abandoned
        assert names(registry) == ["second"]
        registry.collections.register("fourth")
    assert names(registry) == ["second", "fourth"]


def test_other_threads_see_no_collection_before_it_is_committed(registry):
    def seen() -> list[str]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(names, registry).result(60)

    with suppress(Abandoned), registry.transaction():
        registry.collections.register("undone")
        assert names(registry) == ["undone"]
        assert seen() == []
        raise Abandoned
    assert names(registry) == seen() == []
    with registry.transaction():
        registry.collections.register("done")
        assert seen() == []
    assert names(registry) == seen() == ["done"]


# Few datasets, which go another way than many


def test_the_most_general_unknown_value_is_named(registry):
    registry.dataset_types.register([BIAS])
    registry.collections.register("run")
    for n in (1, 100):
        rows = [{"instrument": "Nowhere", "detector": d} for d in range(n)]
        with pytest.raises(DataIdValueError, match=r"no instrument for \{'instrument': 'Nowhere'\}"):
            registry.inserts.insert(table_of(BIAS, "run", *rows))
        rows = [{"instrument": "HSC", "detector": 1000 + d} for d in range(n)]
        with pytest.raises(
            DataIdValueError, match=r"no detector for \{'instrument': 'HSC', 'detector': 1000\}"
        ):
            registry.inserts.insert(table_of(BIAS, "run", *rows))


def test_few_datasets_are_summarized_as_many_are(registry):
    registry.dataset_types.register([BIAS, PACKAGES])
    for run in ("one", "two"):
        registry.collections.register(run)
    registry.inserts.insert(table_of(BIAS, "one", {"instrument": "HSC", "detector": 0}))
    registry.inserts.insert(table_of(BIAS, "one", {"instrument": "LATISS", "detector": 0}))
    registry.inserts.insert(table_of(PACKAGES, "two", {}))
    assert registry.collections.governor_values(["one"]) == {"instrument": {"HSC", "LATISS"}}
    assert registry.collections.governor_values(["two"]) == {}
    kinds = {i.name: i.dataset_types for i in registry.collections.query(include_summary=True)}
    assert kinds == {"one": {"bias"}, "two": {"packages"}}
    # A type that is gone from a run and comes again is in its summary again.
    registry.datasets.remove([registry.datasets.existing_in_run("one")["bias"]])
    assert registry.collections.get("one", include_summary=True).dataset_types == frozenset()
    registry.inserts.insert(table_of(BIAS, "one", {"instrument": "HSC", "detector": 0}))
    assert registry.collections.get("one", include_summary=True).dataset_types == {"bias"}


def test_a_file_put_again_does_not_wait_for_deletion_any_more(registry):
    for n in (1, 60):
        table = put(registry, REFERENCES, f"run{n}", *({"htm7": 131072 + i} for i in range(n)))
        files = files_for(table)
        registry.datasets.remove([table])
        assert registry.datasets.pending_deletions() == sorted(files.paths)
        registry.inserts.insert(DatasetTable.new(REFERENCES, table.data_ids, f"run{n}"), files)
        assert registry.datasets.pending_deletions() == []


def test_one_is_found_as_many_are(registry):
    rows = [{"detector": d} for d in range(3)]
    put(registry, BIAS, "a", *rows[:2])
    certified = put(registry, BIAS, "b", *rows)
    registry.collections.register("calib", CollectionType.CALIBRATION)
    registry.collections.register("tags", CollectionType.TAGGED)
    registry.associations.certify("calib", certified, Timespan(10, 20))
    registry.associations.associate("tags", certified.take(np.array([0])))
    registry.collections.register("chain", CollectionType.CHAINED)
    registry.collections.set_chain("chain", ["tags", "calib", "a"])
    for collections in (["a"], ["b", "a"], ["a", "b"], ["tags"], ["calib"], ["chain"], []):
        for time in (None, 5, 10, 19, 20):
            for detector in range(4):
                ids = data_ids(BIAS, {"detector": detector})
                at = None if time is None else np.array([time])
                table, found = registry.search.find(BIAS, ids, collections, begin_ns=at, end_ns=at)
                span = None if time is None else Timespan(time, time + 1)
                one = registry.search.find_one(BIAS, ids[0], collections, span)
                assert one == (table[int(found[0])] if found[0] >= 0 else None)


# How much single calls take


def test_one_dataset_takes_few_statements(tmp_path):
    url = f"sqlite:///{tmp_path}/registry.sqlite3"
    Registry.create(url).close()
    with statements_of_new_connections() as statements:
        registry = Registry.open(url)
        insert_records(registry)
        for detector in range(3):
            table = put(registry, BIAS, "run", {"detector": detector})
        table = table_of(BIAS, "run", {"detector": 3})
        files = files_for(table)
        del statements[:]
        with registry.transaction():
            registry.inserts.insert(table, files)
        assert len(statements) <= 9, statements
        del statements[:]
        with registry.snapshot():
            dataset_type = registry.dataset_types.get("bias")
            ref = registry.search.find_one(dataset_type, coordinate(detector=3), ["run"])
            assert ref is not None
            assert registry.datasets.files_of_ids([ref.id])[0] == files[0]
        assert len(statements) <= 5, statements
        registry.close()
