"""One of many processes that work on a repository at once: a program that tests start, and kill.

Usage: python busy_process.py REPO NAME ROUNDS. Every process registers the same things and puts datasets of
its own; in each round it puts, tags, certifies, edits the common chain, and looks whether all it did is
there. Each dataset holds its own data ID and run, so that a reader can tell whether it is the right one.
Rounds that an earlier process of the same name completed are passed over; one half done is done again.
"""

from __future__ import annotations

import random
import sys

from small_repository import exposure_timespan

from butler_dask import Butler, CollectionType, DatasetType, Timespan

DETECTORS = range(6)
METRIC = ("metric_of_all", ["instrument", "visit", "detector"])
CALIB = ("calib_of_all", ["instrument", "detector"])
VISITS_PER_ROUND = 2


def visit_of(n: int) -> int:
    """Return the visit that is made in round n by all processes."""
    return 1_000_000 + n


def register(butler: Butler, n: int) -> None:
    """Register what all processes register, in an order of this process's own."""
    registry = butler.registry
    steps = [
        lambda: registry.registerDatasetType(DatasetType(*METRIC, "StructuredDataDict")),
        lambda: registry.registerDatasetType(DatasetType(*CALIB, "StructuredDataDict", isCalibration=True)),
        lambda: registry.registerDatasetType(
            DatasetType(f"of_round_{n % 3}", METRIC[1][: 1 + n % 3], "StructuredDataDict")
        ),
        lambda: butler.collections.register("all", CollectionType.CHAINED),
        lambda: butler.collections.register("tags", CollectionType.TAGGED),
        lambda: butler.collections.register("calibs", CollectionType.CALIBRATION),
        lambda: butler.collections.register(f"common/{n % 7}"),
        lambda: registry.syncDimensionData("day_obs", {"instrument": "HSC", "id": 20200101 + n % 5}),
    ]
    random.shuffle(steps)
    for step in steps:
        step()
    visits = [
        {
            "instrument": "HSC",
            "id": visit_of(VISITS_PER_ROUND * n + i),
            "day_obs": 20200101 + n % 5,
            "physical_filter": "HSC-R",
            "name": f"V{VISITS_PER_ROUND * n + i}",
            "timespan": exposure_timespan(1),
        }
        for i in range(VISITS_PER_ROUND)
    ]
    random.shuffle(visits)
    if n % 2:
        registry.insertDimensionData("visit", *visits, skip_existing=True)
    else:
        for visit in visits:
            registry.syncDimensionData("visit", visit)


def work(butler: Butler, name: str, n: int) -> None:
    """Do one round."""
    register(butler, n)
    run = f"{name}/{n}"
    butler.collections.register(run)
    there = {ref.dataId for ref in butler.query_datasets(METRIC[0], run, explain=False)}
    for i in range(VISITS_PER_ROUND):
        for detector in random.sample(DETECTORS, 3) if n % 2 else DETECTORS:
            data_id = {"instrument": "HSC", "visit": visit_of(VISITS_PER_ROUND * n + i), "detector": detector}
            if butler.find_dataset(METRIC[0], data_id, collections=run) is None:
                butler.put({**data_id, "run": run}, METRIC[0], data_id, run=run)
    mine = butler.query_datasets(METRIC[0], run)
    assert there <= {ref.dataId for ref in mine}, "a dataset was lost"
    for ref in mine:
        assert butler.get(ref) == {**ref.dataId.required, "run": run}, ref
    tags = f"{name}/tags"
    butler.collections.register(tags, CollectionType.TAGGED)
    butler.registry.associate(tags, mine)
    with butler.transaction():
        calibs = butler.query_datasets(CALIB[0], run, explain=False) or [
            butler.put({"detector": d, "run": run}, CALIB[0], instrument="HSC", detector=d, run=run)
            for d in DETECTORS
        ]
        # Each process has a year of its own, each round a minute of it.
        year = 31_557_600_000_000_000 * (1 + int(name.rpartition("p")[2]))
        span = Timespan(year + n * 60_000_000_000, year + (n + 1) * 60_000_000_000)
        certified = butler.registry.queryDatasetAssociations(CALIB[0], ["calibs"])
        if not any(a.timespan == span for a in certified):
            butler.registry.certify("calibs", calibs, span)
    if n % 4 == 3:
        butler.collections.remove_from_chain("all", f"{name}/{n - 1}")
        butler.collections.extend_chain("all", f"{name}/{n - 1}")
    butler.collections.prepend_chain("all", run)
    members = butler.collections.get_info("all").children
    assert run in members, "a change of the chain was lost"
    assert len(set(members)) == len(members)
    if n % 3 == 2:
        _remove_again(butler, name, n)


def _remove_again(butler: Butler, name: str, n: int) -> None:
    """Make a run, and remove it with its datasets."""
    run = f"{name}/removed"
    butler.collections.register(run)
    for detector in DETECTORS:
        data_id = {"instrument": "HSC", "visit": visit_of(VISITS_PER_ROUND * n), "detector": detector}
        if butler.find_dataset(METRIC[0], data_id, collections=run) is None:
            butler.put({**data_id, "run": run}, METRIC[0], data_id, run=run)
    butler.pruneDatasets(
        butler.query_datasets(METRIC[0], run)[:2], purge=True, unstore=True, disassociate=True
    )
    butler.removeRuns([run])


def main(repo: str, name: str, rounds: str) -> None:
    """Work, and say after each round that it is done."""
    with Butler(repo, writeable=True) as butler:
        done = set(butler.collections.query(f"{name}/done/*"))
        for n in range(int(rounds)):
            mark = f"{name}/done/{n}"
            if mark not in done:
                work(butler, name, n)
                butler.collections.register(mark, CollectionType.TAGGED)
            print(n, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
