"""Run these checks against butler_dask and the reference, and print where they agree.

``python tests/compat/compare_packages.py --reference PYTHON [--ours PYTHON] [-v]``; see README.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def outcomes(python: str, package: str, arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Return outcome and message of each check, by module and name."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [python, "-m", "pytest", f"--rootdir={HERE}", f"--confcutdir={HERE}", "-c", os.devnull]
        command += ["-p", "no:cacheprovider", "-q", "--tb=no", "-W", "ignore", f"--junitxml={report}"]
        environment = {**os.environ, "BUTLER_DASK_COMPAT_PACKAGE": package, "PYTHONDONTWRITEBYTECODE": "1"}
        if package == "butler_dask":
            environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            [*command, *(arguments or ["."])], cwd=HERE, env=environment, capture_output=True, text=True
        )
        if not report.exists():
            sys.exit(f"{python} ran no checks of {package}:\n{done.stdout}{done.stderr}")
        found = {}
        for case in ET.parse(report).iter("testcase"):
            failed = case.find("failure") if case.find("failure") is not None else case.find("error")
            skipped = case.find("skipped")
            outcome = "fails" if failed is not None else "left out" if skipped is not None else "passes"
            message = "" if failed is None else (failed.get("message") or "").splitlines()[0][:150]
            module = (case.get("classname") or "").removeprefix("test_compat_")
            found[f"{module}: {case.get('name')}"] = outcome, message
        return found


def main() -> int:
    """Compare; return 1 if butler_dask fails where the reference passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", default=sys.executable, help="Python that has butler_dask's requirements")
    parser.add_argument("--reference", required=True, help="Python that has lsst-daf-butler")
    parser.add_argument("-v", "--verbose", action="store_true", help="list the agreements too")
    options, arguments = parser.parse_known_args()
    ours = outcomes(options.ours, "butler_dask", arguments)
    reference = outcomes(options.reference, "lsst.daf.butler", arguments)
    counts: dict[str, Counter[str]] = {}
    lines = []
    for name in sorted({*ours, *reference}):
        mine, why = ours.get(name, ("is absent", ""))
        theirs, why_theirs = reference.get(name, ("is absent", ""))
        agree = mine == theirs == "passes"
        counts.setdefault(name.partition(":")[0], Counter())["agree" if agree else "differ"] += 1
        if not agree or options.verbose:
            lines.append(f"{name}\n    butler_dask {mine} {why}\n    reference {theirs} {why_theirs}")
    print(f"{'checks of':<12}{'agree':>8}{'differ':>8}")
    for module, count in counts.items():
        print(f"{module:<12}{count['agree']:>8}{count['differ']:>8}")
    total = sum(counts.values(), Counter())
    print(f"{'all':<12}{total['agree']:>8}{total['differ']:>8}")
    print("\n".join(lines))
    return int(any(o == "fails" and reference.get(n, ("",))[0] == "passes" for n, (o, _) in ours.items()))


if __name__ == "__main__":
    sys.exit(main())
