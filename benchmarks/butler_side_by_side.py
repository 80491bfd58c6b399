"""What a Butler's work costs here and with the reference, measured in one run, one beside the other.

Every workload of ``butler_workloads.py`` runs in a fresh process under this interpreter and, where one is
given that has the reference (lsst-daf-butler), under that, in turns and repeated; medians are shown.
Usage: ``python benchmarks/butler_side_by_side.py [--reference PYTHON] [--quick] [--only WORKLOAD ...]``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measurement import Measurement, from_json, median, run_process

HERE, REFERENCE = "butler_dask", "lsst.daf.butler"
ROOT = Path(__file__).resolve().parents[1]
DATABASE_VARIABLE = "BUTLER_DASK_TEST_POSTGRESQL"

SIZES = {
    "insert": 100_000,
    "ingest": 20_000,
    "put": 1000,
    "rows": 100_000,
    "chain": 1_000_000,
    "find": 300,
    "ranges": 100,
    "exposures": 100_000,
    "remove": 50_000,
}
"""How many of what; the goals are for these."""
REFERENCE_SIZES = {
    **SIZES,
    "insert": 20_000,
    "ingest": 5000,
    "put": 300,
    "chain": 100_000,
    "find": 100,
    "exposures": 10_000,
    "remove": 3000,
}
"""Smaller where the reference would take minutes; its figures for the whole are scaled up in proportion."""


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Parameters
    ----------
    title : `str`
        What it is.
    unit : `str`
        ``rows/s``, ``ms`` (each) or ``s`` (all of them, in proportion where fewer were measured).
    goal, stretch : `float`, optional
        Of design.md section 9.
    memory_mib : `float`, optional
        Goal for the peak of memory.
    """

    title: str
    unit: str
    goal: float | None = None
    stretch: float | None = None
    memory_mib: float | None = None

    def value(self, taken: Measurement, full: int, on_server: bool) -> float:
        """Return the figure; processor time, or time on the clock where a server does part of the work."""
        seconds = taken.wall_s if on_server else taken.cpu_s
        if self.unit == "rows/s":
            return taken.count / seconds
        return 1e3 * seconds / taken.count if self.unit == "ms" else seconds * full / taken.count

    def ratio(self, reference: float, here: float) -> float:
        """Return how many times better than the reference it is here."""
        return here / reference if self.unit == "rows/s" else reference / here


FIGURES = {
    "insert": Figure("registry.insertDatasets, expand=False", "rows/s", 100e3, 200e3),
    "insert expanded": Figure("registry.insertDatasets, expanded references", "rows/s"),
    "ingest": Figure("Butler.ingest, direct", "rows/s", 10e3),
    "put": Figure("Butler.put by data ID", "ms", 0.8, 0.4),
    "get": Figure("Butler.get by data ID", "ms", 0.5, 0.2),
    "put in transaction": Figure("Butler.put, 1000 in a transaction", "ms", 0.8, 0.4),
    "query": Figure("query_datasets, 100 k references", "s"),
    "query where": Figure("query_datasets with a condition, 6 rows", "ms"),
    "query as table": Figure("the same 100 k as a table", "s"),
    "find-first all": Figure("query_datasets, chain of 20 runs, 1e6 rows", "s"),
    "find-first one": Figure("find_dataset in that chain", "ms"),
    "find-first where": Figure("query_datasets there, 1 exposure, 100 rows", "ms"),
    "calibration all": Figure("bias for each of 1e5 exposures", "s"),
    "calibration one": Figure("find_dataset of one bias, with its time", "ms"),
    "remove run": Figure("removeRuns, 50 k datasets with files", "s", 20, 8),
    "command remove-runs": Figure("butler remove-runs, the same", "s", 20, 8),
    "command query-datasets": Figure("butler query-datasets, 100 k rows", "s", 1.2, 0.8, 150),
    "command --help": Figure("butler --help", "s", 0.15, 0.1),
    "command query-collections": Figure("butler query-collections", "s", 0.45, 0.3),
    "command import": Figure("python -c 'from ... import Butler'", "s"),
}
WORKLOADS = [
    "insert",
    "ingest",
    "put_get",
    "prepare_rows",
    "query",
    "prepare_chain",
    "find_first",
    "prepare_calibrations",
    "calibrations",
    "remove",
]
COMMANDS = {
    "command remove-runs": ["remove-runs", "removal", "u/someone/run", "--no-confirm"],
    "command query-datasets": [
        "query-datasets",
        "rows",
        "document",
        "--collections",
        "u/someone/run",
        "--limit",
        "0",
    ],
    "command --help": ["--help"],
    "command query-collections": ["query-collections", "rows"],
    "command import": [],
}


NEEDS = {
    "query": "prepare_rows",
    "find_first": "prepare_chain",
    "calibrations": "prepare_calibrations",
    "command query-datasets": "prepare_rows",
    "command query-collections": "prepare_rows",
}
"""What is prepared for whom."""
ONCE = ("remove", "command remove-runs")
"""Measured once only: their preparation takes longer than all else."""


class Side:
    """One of the two packages, and what was measured of it.

    Parameters
    ----------
    package : `str`
        Its name.
    python : `str`
        Interpreter that has it.
    place : `Path`
        Directory for its repositories.
    sizes : `dict`
        How many of what.
    database : `str`
        PostgreSQL server, or nothing for SQLite.
    """

    def __init__(
        self, package: str, python: str, place: Path, sizes: dict[str, int], database: str = ""
    ) -> None:
        self.package, self.python, self.place, self.sizes = package, python, place, sizes
        self.database = database
        self.taken: dict[str, list[Measurement]] = {}
        self.failures: dict[str, str] = {}
        self.environment = {"PYTHONPATH": str(ROOT) if package == HERE else ""}
        place.mkdir()

    def run(self, workload: str) -> None:
        """Run a workload once."""
        script = Path(__file__).with_name("butler_workloads.py")
        arguments = [self.package, workload, str(self.place), json.dumps(self.sizes), self.database]
        done = run_process([self.python, str(script), *arguments], self.environment)
        if done.status:
            self.failures[workload] = (done.errors.strip() or "no message").splitlines()[-1][:300]
            return
        for name, taken in from_json(done.output).items():
            self.taken.setdefault(name, []).append(taken)

    def run_command(self, name: str) -> None:
        """Run a command line once."""
        if name == "command import":
            argv = [self.python, "-c", f"from {self.package} import Butler"]
        else:
            words = [str(self.place / w) if w in ("rows", "removal") else w for w in COMMANDS[name]]
            module = "butler_dask.cli.butler" if self.package == HERE else None
            program = [self.python, "-m", module] if module else [str(Path(self.python).with_name("butler"))]
            argv = [*program, *words]
            if name == "command remove-runs":
                self.run("prepare_removal")
        done = run_process(argv, self.environment)
        if done.status:
            self.failures[name] = (done.errors.strip() or "no message").splitlines()[-1][:300]
            return
        if name == "command query-datasets":
            assert done.output.count("\n") >= self.sizes["rows"], done.output[:1000]
        done.measurement.count = self.sizes["remove"] if name == "command remove-runs" else 1
        self.taken.setdefault(name, []).append(done.measurement)


def measure(sides: list[Side], repeats: int, only: list[str]) -> None:
    """Run all workloads on all sides, in turns."""
    wanted = {*only, *(NEEDS[name] for name in only if name in NEEDS)}
    steps = [w for w in (*WORKLOADS, *COMMANDS) if not only or w in wanted]
    for step in steps:
        for _ in range(1 if step.startswith("prepare") or step in ONCE else repeats):
            for side in sides:
                if step in side.failures:
                    continue
                if step in COMMANDS:
                    side.run_command(step)
                else:
                    side.run(step)
        print(f"{time.strftime('%H:%M:%S')} {step}", file=sys.stderr, flush=True)


def rows(sides: list[Side]) -> Iterator[dict[str, object]]:
    """Yield what was measured, a row a figure."""
    for name, figure in FIGURES.items():
        row: dict[str, object] = {"figure": name, "title": figure.title, "unit": figure.unit}
        values = {}
        for side in sides:
            taken = side.taken.get(name)
            if not taken:
                continue
            middle = median(taken)
            full = {"remove run": "remove", "command remove-runs": "remove"}.get(name, "")
            full = {"find-first all": "chain", "calibration all": "exposures"}.get(name, full)
            count = SIZES[full] if full else middle.count
            values[side.package] = figure.value(middle, count, bool(side.database))
            row[side.package] = {
                "value": values[side.package],
                "repeats": len(taken),
                **vars(middle),
            }
        if not values:
            continue
        if len(values) == 2:
            row["ratio"] = figure.ratio(values[REFERENCE], values[HERE])
        row.update(goal=figure.goal, stretch=figure.stretch, memory_goal_mib=figure.memory_mib)
        yield row


def show(table: list[dict[str, object]], sides: list[Side]) -> None:
    """Print the table."""

    def number(value: object) -> str:
        if not isinstance(value, (int, float)):
            return ""
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    heads = (
        "what",
        "unit",
        "reference",
        "here",
        "ratio",
        "goal",
        "stretch",
        "wall [s]",
        "MiB",
        "ref. MiB",
        "n",
        "ref. n",
    )
    widths = (46, 6, 10, 10, 7, 8, 8, 9, 7, 9, 10, 9)
    line = " ".join(
        f"{h:>{w}}" if i else f"{h:{w}}" for i, (h, w) in enumerate(zip(heads, widths, strict=True))
    )
    print(f"{line}\n{'-' * len(line)}")
    for row in table:
        here, other = row.get(HERE) or {}, row.get(REFERENCE) or {}
        assert isinstance(here, dict)
        assert isinstance(other, dict)
        cells = (
            str(row["title"]),
            str(row["unit"]),
            number(other.get("value")),
            number(here.get("value")),
            number(row.get("ratio")),
            number(row["goal"]),
            number(row["stretch"]),
            number(here.get("wall_s")),
            number(here.get("peak_mib")),
            number(other.get("peak_mib")),
            number(here.get("count")),
            number(other.get("count")),
        )
        print(
            " ".join(
                f"{c:>{w}}" if i else f"{c:{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
        )
    for side in sides:
        for name, reason in side.failures.items():
            print(f"{side.package}: {name} failed: {reason}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", metavar="PYTHON", help="Interpreter that has the reference.")
    parser.add_argument(
        "--quick", action="store_true", help="A tenth of all but the run that is queried, once."
    )
    parser.add_argument("--repeat", type=int, help="How often each workload is run (3).")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORKLOAD", help="Only these.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Also write all figures to a file.")
    parser.add_argument("--postgresql", metavar="URL", help="Server to measure on instead of SQLite files.")
    parser.add_argument("--directory", type=Path, help="Where repositories are made (a temporary directory).")
    options = parser.parse_args()
    repeats = options.repeat or (1 if options.quick else 3)
    part = 10 if options.quick else 1
    sizes, reference_sizes = (
        {k: v if k in ("ranges", "rows") else v // part for k, v in s.items()}
        for s in (SIZES, REFERENCE_SIZES)
    )
    place = Path(tempfile.mkdtemp(prefix="butler_side_by_side_", dir=options.directory))
    try:
        sides = [Side(HERE, sys.executable, place / "here", sizes, options.postgresql or "")]
        if options.reference and shutil.which(options.reference):
            sides.append(
                Side(
                    REFERENCE,
                    options.reference,
                    place / "reference",
                    reference_sizes,
                    options.postgresql or "",
                )
            )
        else:
            print("No reference to compare with: give --reference PYTHON of an environment that has it.")
        try:
            measure(sides, repeats, options.only)
        finally:
            for side in sides:
                side.run("drop_databases")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    table = list(rows(sides))
    show(table, sides)
    if options.json:
        facts = {"cpus": os.cpu_count(), "load": os.getloadavg(), "repeats": repeats, "quick": options.quick}
        failures = {side.package: side.failures for side in sides}
        options.json.write_text(json.dumps({**facts, "failures": failures, "rows": table}, indent=1))


if __name__ == "__main__":
    main()
