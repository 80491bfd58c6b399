"""Repositories on the move between butler_dask and the reference, compared record by record.

Run with an interpreter that has butler_dask; the other one has ``lsst-daf-butler``:

    python tests/compat/export_both_ways.py --reference /path/to/reference/bin/python [--keep DIRECTORY]

A repository is made by the reference and exported by it; butler_dask imports it, exports it, and the
reference imports that. Then the same the other way round. After each step all dimension records (regions as
hexadecimal, times in nanoseconds), collections, datasets, memberships and objects are compared. Exit status
1 and a list of differences, if there are any.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ELEMENTS = (
    "instrument",
    "detector",
    "physical_filter",
    "day_obs",
    "group",
    "exposure",
    "visit_system",
    "visit",
    "visit_definition",
    "visit_system_membership",
    "visit_detector_region",
    "skymap",
    "tract",
    "patch",
)


def package(name: str):
    return importlib.import_module("lsst.daf.butler" if name == "reference" else "butler_dask")


def make(name: str, root: str) -> None:
    """Make a repository with something of everything."""
    lib = package(name)
    lib.Butler.makeRepo(root)
    if name != "reference":
        # The form of tables that both sides read; here it is FITS by default.
        with open(f"{root}/butler.yaml", "a", encoding="utf-8") as stream:
            stream.write(
                "formatters:\n  ArrowAstropy: butler_dask.datastore.parquet_table.ParquetFormatter\n"
            )
    with lib.Butler.from_config(root, writeable=True, run="runs/ä-1") as butler:
        fill(name, butler)


def fill(name: str, butler) -> None:
    import numpy as np
    from astropy.table import Table
    from astropy.time import Time
    from lsst.sphgeom import Circle, ConvexPolygon, LonLat, UnitVector3d

    lib = package(name)
    timespan, kind = lib.Timespan, lib.DatasetType

    def polygon(ra: float, dec: float):
        corners = [(ra, dec), (ra + 1, dec), (ra + 1, dec + 1), (ra, dec + 1)]
        return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*c)) for c in corners])

    def instant(text: str):
        return Time(text, scale="tai")

    registry = butler.registry
    registry.insertDimensionData(
        "instrument",
        {
            "name": "Cam",
            "visit_max": 1000,
            "exposure_max": 1000,
            "detector_max": 4,
            "class_name": "lsst.pipe.base.Instrument",
        },
    )
    registry.insertDimensionData(
        "detector",
        *(
            {
                "instrument": "Cam",
                "id": d,
                "full_name": f"R{d}",
                "name_in_raft": str(d),
                "raft": "R",
                "purpose": "SCIENCE",
            }
            for d in range(3)
        ),
        {"instrument": "Cam", "id": 3, "full_name": "guide"},
    )
    registry.insertDimensionData(
        "physical_filter",
        {"instrument": "Cam", "name": "Cam-G", "band": "g"},
        {"instrument": "Cam", "name": "Cam-R", "band": "r"},
    )
    registry.insertDimensionData(
        "day_obs",
        {
            "instrument": "Cam",
            "id": 20240101,
            "timespan": timespan(instant("2024-01-01T12:00:37"), instant("2024-01-02T12:00:37")),
        },
        {"instrument": "Cam", "id": 20240102},
    )
    registry.insertDimensionData("visit_system", {"instrument": "Cam", "id": 0, "name": "one-to-one"})
    for n in (1, 2, 3):
        begin = instant(f"2024-01-01T2{n}:00:00.123456789")
        span = timespan(begin, instant(f"2024-01-01T2{n}:00:30.000000001"))
        facts = {
            "instrument": "Cam",
            "id": n,
            "physical_filter": "Cam-G" if n < 3 else "Cam-R",
            "day_obs": 20240101 if n < 3 else 20240102,
            "exposure_time": 30.25 + n,
            "observation_reason": "survey: 'wide', \"deep\" #1",
            "science_program": "π-0" if n == 1 else None,
            "zenith_angle": 12.3456789012345678,
            "azimuth": None,
            "target_name": "null",
            "seq_num": n,
        }
        registry.insertDimensionData("group", {"instrument": "Cam", "name": f"2024:{n}"})
        registry.insertDimensionData(
            "exposure",
            {
                **facts,
                "obs_id": f"CAM{n}",
                "group": f"2024:{n}",
                "dark_time": 31.5,
                "observation_type": "science",
                "seq_start": n,
                "seq_end": n,
                "tracking_ra": 10.000000000000002,
                "tracking_dec": -1e-17,
                "sky_angle": 180.0,
                "has_simulated": False,
                "can_see_sky": n != 2,
                "timespan": span,
            },
        )
        registry.insertDimensionData(
            "visit",
            {**facts, "name": f"visit {n}", "timespan": span, "region": polygon(10.1 * n, -3.3)},
        )
        registry.insertDimensionData("visit_definition", {"instrument": "Cam", "exposure": n, "visit": n})
        registry.insertDimensionData(
            "visit_system_membership", {"instrument": "Cam", "visit_system": 0, "visit": n}
        )
        registry.insertDimensionData(
            "visit_detector_region",
            *(
                {"instrument": "Cam", "visit": n, "detector": d, "region": polygon(10.1 * n + d / 7, -3.3)}
                for d in range(3)
            ),
        )
    mark = bytes(range(20))
    registry.insertDimensionData(
        "skymap",
        {
            "name": "sky",
            "hash": mark if name == "reference" else mark.hex(),
            "tract_max": 2,
            "patch_nx_max": 2,
            "patch_ny_max": 2,
        },
    )
    circle = Circle(UnitVector3d(LonLat.fromDegrees(33.3, 4.4)), 1e-5)
    registry.insertDimensionData("tract", {"skymap": "sky", "id": 0, "region": polygon(10.0, -3.0)})
    registry.insertDimensionData("tract", {"skymap": "sky", "id": 1, "region": circle})
    registry.insertDimensionData(
        "patch",
        *(
            {
                "skymap": "sky",
                "tract": 0,
                "id": p,
                "cell_x": p % 2,
                "cell_y": p // 2,
                "region": polygon(10.0 + p / 3, -3.0),
            }
            for p in range(4)
        ),
    )
    universe = butler.dimensions
    for type_name, dimensions, storage, calibration in (
        ("facts", ("visit", "detector"), "StructuredDataDict", False),
        ("raw_facts", ("exposure", "detector"), "StructuredDataDict", False),
        ("bias", ("instrument", "detector"), "StructuredDataDict", True),
        ("flat", ("detector", "physical_filter"), "StructuredDataDict", True),
        ("coadd_facts", ("patch", "band"), "StructuredDataDict", False),
        ("catalog", ("visit",), "ArrowAstropy", False),
        ("notes", (), "StructuredDataDict", False),
    ):
        registry.registerDatasetType(
            kind(type_name, dimensions, storage, universe=universe, isCalibration=calibration)
        )
    value = {"a": 1, "list": [1.5, None, True, "null"], "umlaut": "ä", "deep": {"x": {"y": [1e-300]}}}
    refs = []
    for n in (1, 2, 3):
        for d in range(3):
            refs.append(butler.put({**value, "n": n, "d": d}, "facts", instrument="Cam", visit=n, detector=d))
            butler.put({"raw": n}, "raw_facts", instrument="Cam", exposure=n, detector=d)
    table = Table({"id": np.arange(5), "flux": np.linspace(0, 1, 5), "name": list("abcdé")})
    table["flux"].unit = "nJy"
    table["flux"].description = "of a star"
    table["box"] = np.arange(30, dtype="f4").reshape(5, 2, 3)
    table["flag"] = table["id"] > 2
    table.meta["origin"] = {"a": [1, 2]}
    butler.put(table, "catalog", instrument="Cam", visit=1)
    butler.put({"note": "hello"}, "notes")
    for p in range(4):
        for band in "gr":
            butler.put({"patch": p}, "coadd_facts", skymap="sky", tract=0, patch=p, band=band)
    registry.registerRun("runs/2", "second run")
    again = [
        butler.put({"again": d}, "facts", instrument="Cam", visit=1, detector=d, run="runs/2")
        for d in range(2)
    ]
    types = lib.CollectionType
    registry.registerCollection("tagged/some", types.TAGGED, "some of them: one, two")
    registry.associate("tagged/some", [*refs[2:5], again[0]])
    registry.registerCollection("Cam/calib", types.CALIBRATION)
    first, second, third = instant("2024-01-01"), instant("2024-01-15T00:00:00.5"), instant("2024-02-01")
    for d in range(3):
        old = butler.put({"bias": d}, "bias", instrument="Cam", detector=d, run="runs/ä-1")
        new = butler.put({"bias": -d}, "bias", instrument="Cam", detector=d, run="runs/2")
        registry.certify("Cam/calib", [old], timespan(None, first))
        registry.certify("Cam/calib", [new], timespan(first, second))
        registry.certify("Cam/calib", [old], timespan(third, None))
        flat = butler.put({"flat": d}, "flat", instrument="Cam", detector=d, physical_filter="Cam-G")
        registry.certify("Cam/calib", [flat], timespan(None, None))
    registry.registerCollection("chain/inner", types.CHAINED, "inner chain")
    registry.setCollectionChain("chain/inner", ["runs/2", "tagged/some"])
    registry.registerCollection("a-chain", types.CHAINED)
    registry.setCollectionChain("a-chain", ["chain/inner", "Cam/calib", "runs/ä-1"])


def export(name: str, root: str, directory: str) -> None:
    os.makedirs(directory)
    with (
        package(name).Butler.from_config(root) as butler,
        butler.export(directory=directory, format="yaml", transfer="copy") as out,
    ):
        every = sorted(butler.collections.query("*"))
        for collection in every:
            out.saveCollection(collection)
        for kind in butler.registry.queryDatasetTypes():
            found = butler.query_datasets(
                kind.name, collections=every_run(butler), find_first=False, explain=False, limit=None
            )
            out.saveDatasets(found)
        for element in ELEMENTS:
            out.saveDimensionData(element, butler.registry.queryDimensionRecords(element))


def every_run(butler) -> list[str]:
    return sorted(i.name for i in butler.collections.query_info("*") if i.type.name == "RUN")


def take(name: str, root: str, directory: str) -> None:
    lib = package(name)
    lib.Butler.makeRepo(root)
    with lib.Butler.from_config(root, writeable=True) as butler:
        butler.import_(directory=directory, filename="export.yaml", transfer="copy")


def span(value):
    if value is None:
        return None
    begin, end = value.nsec if hasattr(value, "nsec") else (value.begin_ns, value.end_ns)
    # Each side has its own number for "always".
    return [None if value.begin is None else begin, None if value.end is None else end]


def plain(value):
    if hasattr(value, "encode") and not isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "begin") and hasattr(value, "end"):
        return span(value)
    if hasattr(value, "colnames"):
        # Without the metadata of the whole table: the reference writes them and does not give them back.
        return {
            n: [str(c.unit), str(c.dtype), c.description or "", c.tolist()] for n, c in value.columns.items()
        }
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "item"):
        return value.item()
    return value


def facts(name: str, root: str, out: str) -> None:
    """Write all that can be asked of a repository as JSON, the same from both packages."""
    with package(name).Butler.from_config(root) as butler:
        answer = answers(butler)
    Path(out).write_text(json.dumps(answer, indent=1, sort_keys=True))


def answers(butler) -> dict[str, dict]:
    registry = butler.registry
    answer = {"records": {}, "collections": {}, "types": {}, "datasets": {}, "associations": {}}
    for element in ELEMENTS:
        rows = [
            {k: plain(v) for k, v in record.toDict().items()}
            for record in registry.queryDimensionRecords(element)
        ]
        answer["records"][element] = sorted(rows, key=lambda r: json.dumps(r, sort_keys=True))
    for info in butler.collections.query_info("*"):
        doc = registry.getCollectionDocumentation(info.name) or ""
        answer["collections"][info.name] = [info.type.name, list(info.children or ()), doc]
    for kind in registry.queryDatasetTypes():
        answer["types"][kind.name] = [
            sorted(kind.dimensions.names),
            kind.storageClass_name,
            kind.isCalibration(),
        ]
        found = butler.query_datasets(
            kind.name, collections=every_run(butler), find_first=False, explain=False, limit=None
        )
        for ref in found:
            ids = {k: plain(v) for k, v in sorted(dict(ref.dataId.required).items())}
            answer["datasets"][str(ref.id)] = [kind.name, ref.run, ids, plain(butler.get(ref))]
        rows = [
            [a.collection, str(a.ref.id), span(a.timespan)]
            for a in registry.queryDatasetAssociations(kind.name, "*", flattenChains=False)
        ]
        answer["associations"][kind.name] = sorted(rows, key=str)
    return answer


def differences(a, b, where: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        out = []
        for key in sorted({*a, *b}):
            if key not in a or key not in b:
                side = "second" if key not in a else "first"
                out.append(f"{where}/{key}: only in the {side}")
            else:
                out += differences(a[key], b[key], f"{where}/{key}")
        return out
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {a!r} != {b!r}"]


def compare(reference: str, work: Path) -> int:
    def run(name: str, step: str, *args: Path) -> None:
        python = reference if name == "reference" else sys.executable
        command = [python, __file__, "--step", step, name, *map(str, args)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})

    wrong = 0
    for first, second in (("reference", "butler_dask"), ("butler_dask", "reference")):
        base = work / f"from_{first}"
        base.mkdir(parents=True)
        run(first, "make", base / "A")
        run(first, "facts", base / "A", base / "A.json")
        run(first, "export", base / "A", base / "AB")
        run(second, "take", base / "B", base / "AB")
        run(second, "facts", base / "B", base / "B.json")
        run(second, "export", base / "B", base / "BC")
        run(first, "take", base / "C", base / "BC")
        run(first, "facts", base / "C", base / "C.json")
        run(first, "take", base / "D", base / "AB")
        run(first, "facts", base / "D", base / "D.json")
        original = json.loads((base / "A.json").read_text())
        for name, way in (
            ("B", f"{first} -> {second}"),
            ("C", f"{first} -> {second} -> {first}"),
            ("D", f"{first} -> {first}"),
        ):
            found = differences(original, json.loads((base / f"{name}.json").read_text()))
            count = sum(map(len, original["records"].values())), len(original["datasets"])
            print(f"{way}: {count[0]} records, {count[1]} datasets, {len(found)} differences")
            for line in found[:20]:
                print("   ", line[:300])
            wrong += len(found)
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", help="Python interpreter that has lsst-daf-butler.")
    parser.add_argument("--keep", help="Work in this new directory and leave it.")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step, name, *rest = args.step
        {"make": make, "export": export, "take": take, "facts": facts}[step](name, *rest)
        return 0
    if not args.reference:
        parser.error("--reference is needed")
    if args.keep:
        return compare(args.reference, Path(args.keep))
    with tempfile.TemporaryDirectory() as work:
        return compare(args.reference, Path(work))


if __name__ == "__main__":
    sys.exit(main())
