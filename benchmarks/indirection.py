"""What a warm call crosses: files of ours, Python calls of ours, SQL statements.

    python benchmarks/indirection.py [--list] [--calls N]

Counts, and measures no time: the figures are the same on a busy machine. Each call was made a few times
before, so that nothing is loaded or read for the first time:

- ``put``: a small dictionary, by data ID (instrument and detector)
- ``get``: the same, by data ID
- ``query``: ``query_datasets`` with a condition on the detector, six answers
- ``query by exposure``: the same of datasets by exposure and detector, with conditions on all dimensions:
  the query that ``butler_side_by_side.py`` measures

Counted for each: files of `butler_dask` of which any code ran; Python calls of functions in them (a generator
counts each time it is resumed; comprehensions count before Python 3.12 only); statements
that SQLite executes, whoever sends them: ``BEGIN``, ``SAVEPOINT``, ``RELEASE``, ``COMMIT`` and ``ROLLBACK``
count too.
``--list`` prints the files, the most called functions, and the statements.

Only public names are used, so that figures of different states of the code can be compared:
``PYTHONPATH=/path/to/another/checkout python benchmarks/indirection.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import sqlalchemy as sa

import butler_dask
from butler_dask import Butler, DatasetType

PACKAGE = str(Path(butler_dask.__file__).parent)
RUN = "u/someone/run"
DOCUMENT = {"seeing": 0.71, "flags": [1, 2, 3], "comment": "a small document"}
EXPOSURES = 10
DETECTORS = 100
WARMING = 3
STATEMENTS: list[str] = []


@dataclass
class Crossing:
    """What one call crossed.

    Parameters
    ----------
    functions : `collections.Counter`
        (file below the package, name, line) of a function, and how often it was called.
    statements : `list` [`str`]
        Statements as SQLite executed them.
    """

    functions: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    statements: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        """Files of the package of which code ran."""
        return sorted({file for file, _, _ in self.functions})

    @property
    def calls(self) -> int:
        """Calls of functions of the package."""
        return self.functions.total()


def watched(call: Callable[[], Any]) -> Crossing:
    """Make a call and return what it crossed."""
    crossing = Crossing()

    def called(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            place = code.co_filename[len(PACKAGE) + 1 :]
            crossing.functions[place, code.co_qualname, code.co_firstlineno] += 1

    before = len(STATEMENTS)
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.setprofile(None)
    crossing.statements = STATEMENTS[before:]
    return crossing


def trace(connection: Any, record: Any) -> None:
    """Note the statements of a new connection of a SQLite database."""
    connection.set_trace_callback(lambda statement: STATEMENTS.append(" ".join(statement.split())))


def make_repository(root: Path) -> None:
    """Make a repository of documents by detector, and by exposure and detector."""
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        insert = butler.registry.insertDimensionData
        insert("instrument", {"name": "Cam", "detector_max": DETECTORS, "exposure_max": EXPOSURES})
        insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
        insert("detector", *({"instrument": "Cam", "id": d, "full_name": f"d{d}"} for d in range(DETECTORS)))
        insert("day_obs", {"instrument": "Cam", "id": 20130101})
        insert("group", {"instrument": "Cam", "name": "one"})
        exposure = {"instrument": "Cam", "physical_filter": "r1", "day_obs": 20130101, "group": "one"}
        insert("exposure", *({**exposure, "id": e, "obs_id": f"o{e}"} for e in range(EXPOSURES)))
        butler.registry.registerRun(RUN)
        for name, dimensions in (("document", ("detector",)), ("page", ("exposure", "detector"))):
            kind = DatasetType(
                name, ("instrument", *dimensions), "StructuredDataDict", universe=butler.dimensions
            )
            butler.registry.registerDatasetType(kind)
        for detector in range(10):
            butler.put(DOCUMENT, "document", instrument="Cam", detector=detector, run=RUN)
            for exposure_id in range(5):
                butler.put(
                    DOCUMENT, "page", instrument="Cam", exposure=exposure_id, detector=detector, run=RUN
                )


def crossings(calls: int) -> dict[str, list[Crossing]]:
    """Return what each of the last `calls` calls crossed, of every kind."""
    found: dict[str, list[Crossing]] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "repository"
        make_repository(root)
        sa.event.listen(sa.pool.Pool, "connect", trace)
        with Butler.from_config(str(root), run=RUN, instrument="Cam") as butler:

            def put(i: int) -> None:
                butler.put(DOCUMENT, "document", instrument="Cam", detector=10 + i)

            def get(i: int) -> None:
                assert butler.get("document", instrument="Cam", detector=10 + i) == DOCUMENT

            def query(i: int) -> None:
                assert len(butler.query_datasets("document", RUN, where="detector < 6")) == 6

            def query_by_exposure(i: int) -> None:
                where = f"instrument='Cam' AND exposure={i % 5} AND detector IN (1, 5..9)"
                assert len(butler.query_datasets("page", RUN, where=where)) == 6

            for call in (put, get, query, query_by_exposure):
                for i in range(WARMING):
                    call(i)
                found[call.__name__.replace("_", " ")] = [
                    watched(partial(call, i)) for i in range(WARMING, WARMING + calls)
                ]
        sa.event.remove(sa.pool.Pool, "connect", trace)
    return found


def print_list(name: str, crossing: Crossing) -> None:
    """Print the files and functions that a call crossed, and its statements."""
    print(f"\n{name}: {len(crossing.files)} files")
    by_file: Counter[str] = Counter()
    for (file, _, _), count in crossing.functions.items():
        by_file[file] += count
    for file in crossing.files:
        print(f"{by_file[file]:6d}  {file}")
    print(f"{name}: most called functions")
    for (file, function, line), count in crossing.functions.most_common(25):
        print(f"{count:6d}  {file}:{line} {function}")
    print(f"{name}: {len(crossing.statements)} statements")
    for statement in crossing.statements:
        print(f"        {statement if len(statement) <= 150 else statement[:147] + '...'}")


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print files, functions and statements")
    parser.add_argument(
        "--calls", type=int, default=5, help="calls of each kind; medians are printed (default 5)"
    )
    options = parser.parse_args()
    found = crossings(options.calls)
    print(f"{'':18}{'files':>8}{'calls':>8}{'statements':>12}")
    for name, several in found.items():
        files, called, statements = (
            statistics.median_low(figures)
            for figures in zip(*((len(c.files), c.calls, len(c.statements)) for c in several), strict=True)
        )
        print(f"{name:18}{files:8d}{called:8d}{statements:12d}")
    if options.list:
        for name, several in found.items():
            print_list(name, several[-1])


if __name__ == "__main__":
    main()
