"""How long the removal of a RUN of many datasets takes, files included, as a user runs it.

    python benchmarks/removal.py [N]

Makes a repository with a RUN of N (default 50 000) small datasets, each in a file of its own, a TAGGED
collection with a tenth of them, and a second RUN of the same size that stays; then ``butler remove-runs``.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from butler_dask import Butler, CollectionType, DatasetType
from butler_dask.vocabulary.data_id_table import DataIdTable
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.file_record import FileTable


def make_repository(root: Path, n: int) -> None:
    """Make the repository; rows go in by columns, files by plain writes."""
    Butler.makeRepo(root)
    detectors = 100
    visits = -(-n // detectors)
    with Butler(root, writeable=True) as butler:
        registry = butler.registry
        registry.insertDimensionData(
            "instrument", {"name": "Cam", "exposure_max": 10**7, "detector_max": detectors}
        )
        registry.insertDimensionData("physical_filter", {"instrument": "Cam", "name": "r", "band": "r"})
        registry.insertDimensionData("day_obs", {"instrument": "Cam", "id": 20250101})
        registry.insertDimensionData("group", {"instrument": "Cam", "name": "g"})
        registry.insertDimensionData(
            "detector", *({"instrument": "Cam", "id": d, "full_name": f"{d}"} for d in range(detectors))
        )
        exposure = {"instrument": "Cam", "physical_filter": "r", "day_obs": 20250101, "group": "g"}
        registry.insertDimensionData(
            "exposure", *({**exposure, "id": v, "obs_id": f"{v}"} for v in range(visits))
        )
        kind = DatasetType("postISRCCD", ["exposure", "detector"], "StructuredDataDict")
        registry.registerDatasetType(kind)
        rows = np.arange(n)
        data_ids = DataIdTable.from_values(
            kind.dimensions,
            {"instrument": ["Cam"] * n, "exposure": rows // detectors, "detector": rows % detectors},
        )
        for run in ("u/me/gone", "u/me/stays"):
            butler.collections.register(run)
            table = DatasetTable.new(kind, data_ids, run)
            paths = butler.datastore.predicted_records(table).paths
            codes = np.zeros(n, dtype=np.int16)
            formatter = butler.datastore.predicted_record(table[0]).formatter
            files = FileTable(
                paths, codes, (formatter,), codes, ("StructuredDataDict",), np.full(n, 2), [""] * n
            )
            for directory in {os.path.dirname(p) for p in paths}:
                os.makedirs(root / directory, exist_ok=True)
            for path in paths:
                with open(root / path, "wb") as stream:
                    stream.write(b"{}")
            butler.repository.registry.inserts.insert(table, files)
            if run == "u/me/gone":
                butler.collections.register("u/me/tag", CollectionType.TAGGED)
                butler.repository.registry.associations.associate("u/me/tag", table.take(np.arange(0, n, 10)))


def main() -> None:
    """Print the seconds of each command."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "repository"
        make_repository(root, n)
        for arguments in (["--dry-run"], ["--no-confirm"]):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            command = [sys.executable, "-m", "butler_dask.cli.butler", "remove-runs", root, "u/me/gone"]
            subprocess.run([*command, *arguments], check=True)
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"remove-runs {arguments[0]}, {n} datasets: {wall:.2f} s, {cpu:.2f} s of CPU")
        print(f"directory left: {(root / 'u/me/gone').exists()}")


if __name__ == "__main__":
    main()
