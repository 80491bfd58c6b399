"""Raw ingest: from telescope files to ``raw`` datasets.

All files are read and checked before anything is written, and all that is wrong is reported at once, so that
an ingest either happens or leaves no trace. Records go in with a few bulk inserts whatever the number of
files.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ButlerUserError, InstrumentNotFoundError, RawIngestError
from ..imaging.camera import Camera
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_id import dataset_id_of_data_id
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileDataset
from ..vocabulary.timespan import Timespan
from .instrument import Instrument
from .raw_frame import read_raw_header
from .raw_headers import RawFacts, recognises, translate_header

log = logging.getLogger("butler.ingest_raws")


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file and what its header says."""

    path: str
    facts: RawFacts


def find_raw_files(
    locations: Iterable[str | os.PathLike[str]], file_regex: str = r"\.fits?(\.gz|\.fz)?$"
) -> list[str]:
    """List files: those given, those a glob matches, and those below directories whose name fits.

    Parameters
    ----------
    locations : iterable of path-like
        Files, directories or globs.
    file_regex : `str`
        Which names are raws in a directory.

    Raises
    ------
    RawIngestError
        If a location has no file; all such are named.
    """
    import re

    pattern = re.compile(file_regex)
    found: list[str] = []
    empty = []
    for location in [os.fspath(path) for path in locations]:
        if os.path.isdir(location):
            here = sorted(str(p) for p in Path(location).rglob("*") if p.is_file() and pattern.search(p.name))
        elif os.path.isfile(location):
            here = [location]
        else:
            here = sorted(glob.glob(location, recursive=True))
        if not here:
            empty.append(location)
        found += here
    if empty:
        raise RawIngestError(f"No raw files at {', '.join(map(repr, empty))}.")
    return list(dict.fromkeys(found))


def read_raw_facts(
    files: Sequence[str], instruments: Sequence[Instrument], *, processes: int = 4
) -> tuple[list[RawFile], dict[str, str]]:
    """Read and translate the headers of many files.

    Parameters
    ----------
    files : sequence of `str`
        Local files.
    instruments : sequence of `Instrument`
        Candidates; each file belongs to the first that recognises its header.
    processes : `int`
        Files read at the same time (threads: reading waits for the disk).

    Returns
    -------
    raws : `list` [`RawFile`]
        In the order of ``files``.
    problems : `dict` of `str` to `str`
        What is wrong, by file.
    """

    def one(path: str) -> RawFile | str:
        try:
            header = read_raw_header(path)
            for instrument in instruments:
                camera = instrument.getCamera()
                if recognises(header, camera):
                    if camera.raw.get("hdu", 0):
                        header = read_raw_header(path, camera)
                    return RawFile(path, translate_header(header, camera, path=path))
        except ButlerUserError as error:
            return str(error)
        names = ", ".join(i.getName() for i in instruments)
        return (
            f"{path}: the header (INSTRUME = {header.get('INSTRUME')!r}) is not that of a registered "
            f"instrument ({names}). Register it with `butler register-instrument`."
        )

    with ThreadPoolExecutor(max_workers=max(processes, 1)) as pool:
        results = list(pool.map(one, files))
    raws = [r for r in results if isinstance(r, RawFile)]
    problems = {f: r for f, r in zip(files, results, strict=True) if isinstance(r, str)}
    return raws, problems


def ingest_raws(
    butler: Any,
    files: Iterable[str | os.PathLike[str]],
    *,
    run: str | None = None,
    transfer: str = "auto",
    instrument: Instrument | str | None = None,
    fail_fast: bool = True,
    skip_existing: bool = False,
    processes: int = 4,
    update_exposure_records: bool = False,
    record_validation_info: bool = True,
    problems: list[str] | None = None,
) -> list[DatasetRef]:
    """Ingest raw files.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    files : iterable of path-like
        Files, directories or globs.
    run : `str`, optional
        RUN collection; ``<NAME>/raw/all`` when not given.
    transfer : `str`
        copy, move, link, symlink, hardlink, direct or auto.
    instrument : `Instrument` or `str`, optional
        Whose files they are; found from the headers among the registered ones when not given.
    fail_fast : `bool`
        Whether one bad file stops the ingest before anything is written (otherwise bad files are logged and
        the others ingested).
    skip_existing : `bool`
        Whether files whose raw is in the run already are passed over (otherwise they are an error).
    processes : `int`
        Headers read at the same time.
    update_exposure_records : `bool`
        Whether exposure records that exist and differ are replaced.
    record_validation_info : `bool`
        Whether size and checksum of the files are recorded.
    problems : `list` of `str`, optional
        Takes what is wrong with each file that was not ingested.

    Returns
    -------
    refs : `list` [`DatasetRef`]
        The raws ingested now.

    Raises
    ------
    RawIngestError
        If a file is not what it should be; all problems are named with their files. Nothing was written.
    """
    paths = find_raw_files(files)
    if isinstance(instrument, str):
        instrument = Instrument.from_repository(butler, instrument)
    instruments = [instrument] if instrument is not None else registered_instruments(butler)
    if not instruments:
        raise RawIngestError(
            "No instrument is registered in this repository; "
            "register one first with `butler register-instrument REPO INSTRUMENT`."
        )
    raws, bad = read_raw_facts(paths, instruments, processes=processes)
    seen: dict[tuple[str, int, int], str] = {}
    for raw in raws:
        key = (raw.facts.instrument, raw.facts.exposure_id, raw.facts.detector)
        if key in seen:
            bad[raw.path] = (
                f"{raw.path} and {seen[key]} are both exposure {key[1]}, detector {key[2]} of {key[0]}"
            )
        seen.setdefault(key, raw.path)
    bad |= _inconsistent_exposures([r for r in raws if r.path not in bad])
    raw_type = raw_dataset_type(butler)
    by_name = {i.getName(): i for i in instruments}
    runs = {name: run or found.makeDefaultRawIngestRunName() for name, found in by_name.items()}
    known = _known_raws(butler, raw_type, set(runs.values()))
    old = [r for r in raws if _data_key(r, runs) in known]
    if not skip_existing:
        bad |= {
            r.path: f"{r.path}: {_describe(r.facts)} is in {runs[r.facts.instrument]!r} already "
            "(--skip-existing passes over such files)"
            for r in old
            if r.path not in bad
        }
    if bad:
        lines = [f"{len(bad)} of {len(paths)} raw files cannot be ingested:"]
        lines += [f"  {text}" for text in list(bad.values())[:20]]
        if len(bad) > 20:
            lines.append(f"  ... and {len(bad) - 20} more")
        if fail_fast or len(bad) == len(paths):
            raise RawIngestError("\n".join(lines))
        log.warning("\n".join(lines))
        if problems is not None:
            problems.extend(bad.values())
    skipped = {r.path for r in old}
    raws = [r for r in raws if r.path not in bad and r.path not in skipped]
    if skipped:
        log.info("%d of %d raw files were ingested before.", len(skipped), len(paths))

    refs: list[DatasetRef] = []
    butler.registry.registerDatasetType(raw_type)
    with butler.transaction():
        for name, found in by_name.items():
            mine = [r for r in raws if r.facts.instrument == name]
            if not mine:
                continue
            target = runs[name]
            butler.collections.register(target, CollectionType.RUN)
            _insert_exposures(
                butler, found.getCamera(), [r.facts for r in mine], replace=update_exposure_records
            )
            done = _ingest_files(butler, raw_type, mine, target, transfer, found, record_validation_info)
            log.info("Ingested %d raw files of %s into %s.", len(done), name, target)
            refs += done
    return refs


def raw_dataset_type(butler: Any) -> DatasetType:
    """Return the definition of the ``raw`` dataset type."""
    return DatasetType("raw", ("instrument", "exposure", "detector"), "Exposure", universe=butler.dimensions)


def registered_instruments(butler: Any) -> list[Instrument]:
    """Return the instruments of a repository whose camera is known."""
    found = []
    for record in butler.registry.queryDimensionRecords("instrument"):
        try:
            found.append(Instrument.from_repository(butler, record.name))
        except InstrumentNotFoundError:
            if record.class_name:
                try:
                    found.append(Instrument.from_string(record.class_name))
                except InstrumentNotFoundError as error:
                    log.warning("Instrument %s is left out: %s", record.name, error)
    return found


def _inconsistent_exposures(raws: Sequence[RawFile]) -> dict[str, str]:
    """Find files that contradict the first file of their exposure."""
    first: dict[tuple[str, int], RawFile] = {}
    problems = {}
    for raw in raws:
        other = first.setdefault((raw.facts.instrument, raw.facts.exposure_id), raw)
        for what in ("physical_filter", "obs_id", "day_obs", "observation_type"):
            mine, theirs = getattr(raw.facts, what), getattr(other.facts, what)
            if mine != theirs:
                problems[raw.path] = (
                    f"{raw.path}: {what} is {mine!r}, but {other.path} of the same exposure "
                    f"{raw.facts.exposure_id} has {theirs!r}"
                )
    return problems


def _exposure_record(facts: RawFacts) -> dict[str, Any]:
    on_sky = facts.observation_type not in ("bias", "dark")

    def known(value: float) -> float | None:
        return value if value == value else None

    return {
        "instrument": facts.instrument,
        "id": facts.exposure_id,
        "obs_id": facts.obs_id,
        "day_obs": facts.day_obs,
        "group": facts.group,
        "physical_filter": facts.physical_filter,
        "exposure_time": known(facts.exposure_time_s),
        "dark_time": known(facts.dark_time_s),
        "observation_type": facts.observation_type,
        "observation_reason": facts.observation_reason,
        "seq_num": facts.seq_num,
        "seq_start": facts.seq_num,
        "seq_end": facts.seq_num,
        "target_name": facts.object_name,
        "science_program": facts.science_program,
        "tracking_ra": known(facts.ra_deg) if on_sky else None,
        "tracking_dec": known(facts.dec_deg) if on_sky else None,
        "sky_angle": known(facts.rotation_deg) if on_sky else None,
        "azimuth": known(facts.azimuth_deg),
        "zenith_angle": known(facts.zenith_angle_deg),
        "has_simulated": False,
        "can_see_sky": on_sky,
        "timespan": _timespan(facts),
    }


def _timespan(facts: RawFacts) -> Timespan:
    """Return when the exposure was taken; a bias takes no time, but must lie in a calibration's validity."""
    timespan = Timespan(facts.begin, facts.end)
    if timespan.isEmpty():
        begin = Timespan(facts.begin).begin_ns
        timespan = Timespan(begin, begin + 1)
    return timespan


def _insert_exposures(butler: Any, camera: Camera, facts: Sequence[RawFacts], *, replace: bool) -> None:
    exposures = {f.exposure_id: f for f in facts}
    days = {f.day_obs for f in exposures.values()}
    groups = {f.group for f in exposures.values()}
    offset_hours = float(camera.raw.get("header", {}).get("day_offset_hours", 0.0))
    registry = butler.registry
    registry.insertDimensionData(
        "day_obs",
        *(
            {"instrument": camera.name, "id": day, "timespan": _day_timespan(day, offset_hours)}
            for day in sorted(days)
        ),
        skip_existing=True,
    )
    registry.insertDimensionData(
        "group", *({"instrument": camera.name, "name": g} for g in sorted(groups)), skip_existing=True
    )
    registry.insertDimensionData(
        "exposure",
        *(_exposure_record(f) for f in exposures.values()),
        replace=replace,
        skip_existing=not replace,
    )


def _day_timespan(day_obs: int, offset_hours: float) -> Timespan:
    """Return the 24 hours of an observing day, which begins ``-offset_hours`` after midnight UTC."""
    from astropy.time import Time, TimeDelta

    text = str(day_obs)
    begin = Time(f"{text[:4]}-{text[4:6]}-{text[6:]}T00:00:00", scale="utc") - TimeDelta(
        offset_hours * 3600.0, format="sec"
    )
    return Timespan(begin.tai, (begin + TimeDelta(86400.0, format="sec")).tai)


def _data_key(raw: RawFile, runs: Mapping[str, str]) -> tuple[str, str, int, int]:
    facts = raw.facts
    return runs[facts.instrument], facts.instrument, facts.exposure_id, facts.detector


def _known_raws(butler: Any, raw_type: DatasetType, runs: Iterable[str]) -> set[tuple[str, str, int, int]]:
    """Return run, instrument, exposure and detector of the raws already there."""
    existing = {info.name for info in butler.collections.query_info("*")} & set(runs)
    if not existing or not list(butler.registry.queryDatasetTypes("raw")):
        return set()
    return {
        (
            ref.run,
            str(ref.dataId["instrument"]),
            int(ref.dataId["exposure"]),
            int(ref.dataId["detector"]),
        )
        for ref in butler.registry.queryDatasets(raw_type, collections=sorted(existing))
    }


def _describe(facts: RawFacts) -> str:
    return f"exposure {facts.exposure_id}, detector {facts.detector} of {facts.instrument}"


def _ingest_files(
    butler: Any,
    raw_type: DatasetType,
    raws: Sequence[RawFile],
    run: str,
    transfer: str,
    instrument: Instrument,
    record_validation_info: bool,
) -> list[DatasetRef]:
    refs = []
    datasets = []
    formatter = instrument.getRawFormatter()
    for raw in raws:
        data_id = {
            "instrument": raw.facts.instrument,
            "exposure": raw.facts.exposure_id,
            "detector": raw.facts.detector,
        }
        ref = DatasetRef(
            raw_type,
            DataCoordinate.standardize(data_id, dimensions=raw_type.dimensions),
            run,
            id=dataset_id_of_data_id("raw", data_id, run),
        )
        refs.append(ref)
        datasets.append(FileDataset(path=raw.path, refs=[ref], formatter=formatter))
    if datasets:
        butler.ingest(*datasets, transfer=transfer, record_validation_info=record_validation_info)
    return refs
