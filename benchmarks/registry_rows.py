"""How many datasets a second the registry inserts, finds, reads and removes, and what one costs.

Each figure is divided by that of plain SQLite doing the least such a step needs, in the same run: rows of
(row number, UUID, type, run) by ``executemany``, or the same read back by key.
Usage: ``python benchmarks/registry_rows.py [ROWS ...]``.
"""

from __future__ import annotations

import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.file_record import FileTable
from butler_dask.vocabulary.selection import Selection

RAW = DatasetType("raw", ["exposure", "detector"], "Exposure")
N_DETECTORS = 100


def make_registry(directory: Path, n_exposures: int) -> Registry:
    """Make a registry with the records of some exposures."""
    registry = Registry.create(f"sqlite:///{directory / 'registry.sqlite3'}")
    add = registry.records.insert
    add("instrument", [{"name": "HSC"}])
    add("physical_filter", [{"instrument": "HSC", "name": "HSC-R", "band": "r"}])
    add("detector", [{"instrument": "HSC", "id": d, "full_name": str(d)} for d in range(N_DETECTORS)])
    add(
        "exposure",
        [
            {"instrument": "HSC", "id": e, "obs_id": str(e), "physical_filter": "HSC-R"}
            for e in range(n_exposures)
        ],
    )
    registry.dataset_types.register([RAW])
    registry.collections.register("HSC/raw/all")
    return registry


def make_datasets(n_exposures: int) -> tuple[DatasetTable, FileTable]:
    exposures, detectors = np.meshgrid(np.arange(n_exposures), np.arange(N_DETECTORS), indexing="ij")
    n = exposures.size
    columns = {
        "instrument": np.zeros(n, dtype=np.int64),
        "exposure": exposures.ravel(),
        "detector": detectors.ravel(),
    }
    table = DatasetTable.new(
        RAW, DataIdTable(RAW.dimensions, columns, {"instrument": ["HSC"]}), "HSC/raw/all"
    )
    paths = [f"HSC/raw/all/raw/20130617/raw_HSC-R_{i}_HSC_raw_all.fits" for i in range(n)]
    codes = np.zeros(n, dtype=np.int16)
    files = FileTable(
        paths, codes, ["formats.Fits"], codes, ["Exposure"], np.full(n, 10**7), ["crc32:00000000"] * n
    )
    return table, files


def plain_sqlite(directory: Path, table: DatasetTable) -> tuple[float, float]:
    """Return seconds to insert and to read back the least."""
    connection = sqlite3.connect(directory / "plain.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE d (id INTEGER PRIMARY KEY, uuid BLOB UNIQUE, type INTEGER, run INTEGER)")
    rows = [(i, table.id(i).bytes, 1, 1) for i in range(len(table))]
    start = time.process_time()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO d VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    middle = time.process_time()
    connection.execute("SELECT * FROM d").fetchall()
    end = time.process_time()
    connection.close()
    return middle - start, end - middle


def seconds(step: Callable[[], object], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - start) / times


def measure(n_rows: int) -> None:
    n_exposures = n_rows // N_DETECTORS
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        registry = make_registry(directory, n_exposures)
        table, files = make_datasets(n_exposures)
        n = len(table)
        plain_insert, plain_read = plain_sqlite(directory, table)

        def show(what: str, spent: float, plain: float) -> None:
            print(f"{what:34s} {n / spent:12,.0f} rows/s {spent / plain:6.1f} x plain SQLite")

        print(f"{n:,} datasets")
        show("insert with files", seconds(lambda: registry.inserts.insert(table, files)), plain_insert)
        show("record again", seconds(lambda: registry.record_outputs([(table, files)])), plain_insert)
        show(
            "find all by data ID",
            seconds(lambda: registry.search.find(RAW, table.data_ids, ["HSC/raw/all"])),
            plain_read,
        )
        show("read the run", seconds(lambda: registry.datasets.existing_in_run("HSC/raw/all")), plain_read)
        show(
            "query with condition",
            seconds(
                lambda: registry.queries.datasets(
                    "raw", "HSC/raw/all", Selection().where("instrument='HSC' AND exposure >= 0")
                )
            ),
            plain_read,
        )
        show(
            "query data IDs",
            seconds(
                lambda: registry.queries.data_ids(
                    RAW.dimensions, Selection(datasets=[("raw", ["HSC/raw/all"])])
                )
            ),
            plain_read,
        )
        show("files of all", seconds(lambda: registry.datasets.files_of(table)), plain_read)
        row = np.array([n // 2])
        one = table.data_ids[n // 2]
        one_s = seconds(lambda: registry.search.find_one(RAW, one, ["HSC/raw/all"]), 300)
        print(f"find one by data ID {1e3 * one_s:.3f} ms")
        single = table.take(row)
        print(f"file of one {1e3 * seconds(lambda: registry.datasets.files_of(single), 300):.3f} ms")
        registry.collections.register("singles")
        singles = [DatasetTable.new(RAW, table.data_ids.take(np.array([i])), "singles") for i in range(100)]
        record = FileTable.from_records([files[0]])
        each = iter(singles)
        print(f"insert one {1e3 * seconds(lambda: registry.inserts.insert(next(each), record), 100):.3f} ms")
        show("remove the run", seconds(lambda: registry.removal.remove_runs(["HSC/raw/all"])), plain_insert)
        registry.close()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB\n")


def main() -> None:
    for n_rows in [int(a) for a in sys.argv[1:]] or [10_000, 100_000]:
        measure(n_rows)


if __name__ == "__main__":
    main()
