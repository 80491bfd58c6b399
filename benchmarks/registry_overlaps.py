"""How long visits, detectors and patches take to be joined on the sky, beside `lsst.sphgeom` pair by pair.

A survey of pointings of 20 detectors on a field tiled by patches, as a graph of warps
asks for it. Usage: ``python benchmarks/registry_overlaps.py [VISITS ...]``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lsst.sphgeom import DISJOINT, ConvexPolygon, LonLat, UnitVector3d

from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.dimensions import DimensionUniverse
from butler_dask.vocabulary.selection import Selection

SIZE = 0.2
"""Degrees of a detector and of a patch."""
FIELD = 10.0
"""Degrees of the field."""


def box(x: float, y: float) -> ConvexPolygon:
    """Return a region at a corner given in degrees from the field's."""
    corners = ((x, y), (x + SIZE, y), (x + SIZE, y + SIZE), (x, y + SIZE))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(150 + a, b - 5)) for a, b in corners])


def make_registry(directory: Path, n_visits: int) -> Registry:
    """Make a registry of the survey."""
    rng = np.random.default_rng(1)
    registry = Registry.create(f"sqlite:///{directory / 'registry.sqlite3'}")
    add = registry.records.insert
    add("instrument", [{"name": "HSC"}])
    add("physical_filter", [{"instrument": "HSC", "name": "HSC-R", "band": "r"}])
    add("detector", [{"instrument": "HSC", "id": d, "full_name": str(d)} for d in range(20)])
    add("day_obs", [{"instrument": "HSC", "id": 1}])
    visits, detectors = [], []
    for v in range(n_visits):
        x, y = rng.uniform(0, FIELD - 1, 2)
        visits.append(
            {
                "instrument": "HSC",
                "id": v,
                "name": str(v),
                "day_obs": 1,
                "physical_filter": "HSC-R",
                "region": box(x, y),
            }
        )
        detectors += [
            {
                "instrument": "HSC",
                "visit": v,
                "detector": d,
                "region": box(x + SIZE * (d % 5), y + SIZE * (d // 5)),
            }
            for d in range(20)
        ]
    add("visit", visits)
    add("visit_detector_region", detectors)
    add("skymap", [{"name": "field", "hash": ""}])
    add("tract", [{"skymap": "field", "id": 0, "region": box(0, 0)}])
    side = round(FIELD / SIZE)
    patches = [
        {"skymap": "field", "tract": 0, "id": i, "region": box(SIZE * (i % side), SIZE * (i // side))}
        for i in range(side * side)
    ]
    add("patch", patches)
    return registry


def measure(n_visits: int) -> None:
    """Print the figures for one size."""
    group = DimensionUniverse().conform(["visit", "detector", "patch"])
    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        registry = make_registry(Path(name), n_visits)
        made = time.process_time()
        found = registry.queries.data_ids(group)
        end = time.process_time()
        print(f"{20 * n_visits:,} detector regions, 2500 patches: {len(found):,} data IDs")
        print(f"  insert records {made - start:.2f} s")
        print(f"  join all {end - made:.2f} s, {1e6 * (end - made) / len(found):.1f} us a data ID")
        start = time.process_time()
        one = registry.queries.data_ids(
            group, Selection().where("instrument='HSC' AND visit=7 AND detector=5")
        )
        print(f"  join one detector ({len(one)} patches) {1e3 * (time.process_time() - start):.1f} ms")
        regions = registry.queries.records("visit_detector_region", Selection(limit=200))
        patches = [p.region for p in registry.queries.records("patch")]
        start = time.process_time()
        hits = sum(not (r.region.relate(p) & DISJOINT) for r in regions for p in patches)
        spent = time.process_time() - start
        print(f"  lsst.sphgeom, every pair: {1e6 * spent / hits:.1f} us a data ID")
        registry.close()
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB\n")


def main() -> None:
    """Measure each size asked for."""
    for n_visits in [int(a) for a in sys.argv[1:]] or [100, 1000]:
        measure(n_visits)


if __name__ == "__main__":
    main()
