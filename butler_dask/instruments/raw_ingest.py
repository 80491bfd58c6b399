"""Raw ingest: from telescope files to ``raw`` datasets.

All files are read and checked before anything is written, and all that is wrong is reported at once, so that
an ingest either happens or leaves no trace. Records go in with a few bulk inserts whatever the number of
files, and only raws of these files are looked for in the repository.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import (
    InstrumentNotFoundError,
    MissingCollectionError,
    RawIngestError,
)
from ..vocabulary.collection import CollectionType
from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.file_record import FileDataset
from .exposure_records import insert_exposures
from .instrument import Instrument
from .raw_dataset import raw_dataset_type, raw_ref
from .raw_files import RawFile, contradictions, find_raw_files, read_raw_facts, repetitions

if TYPE_CHECKING:
    from ..butler.butler import Butler

log = logging.getLogger("butler.ingest_raws")

_MOST_PROBLEMS_NAMED = 20


@dataclass(frozen=True, slots=True)
class IngestedRaws:
    """What an ingest did.

    Parameters
    ----------
    refs : `list` [`DatasetRef`]
        The raws ingested.
    problems : `list` [`str`]
        What is wrong with each file that was not.
    """

    refs: list[DatasetRef]
    problems: list[str]


def ingest_raws(
    butler: Butler,
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
) -> IngestedRaws:
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

    Returns
    -------
    ingested : `IngestedRaws`
        The raws ingested now, and what is wrong with the others.

    Raises
    ------
    RawIngestError
        If a file is not what it should be; all problems are named with their files. Nothing was written.
    """
    paths = find_raw_files(files)
    instruments = _candidates(butler, instrument)
    raws, bad = read_raw_facts(paths, instruments, processes=processes)
    bad |= repetitions(raws)
    bad |= contradictions([r for r in raws if r.path not in bad])
    raw_type = raw_dataset_type(butler.dimensions)
    by_name = {i.getName(): i for i in instruments}
    runs = {name: run or found.makeDefaultRawIngestRunName() for name, found in by_name.items()}
    old = _ingested_before(butler, raw_type, raws, runs)
    if not skip_existing:
        bad |= {
            r.path: f"{r.path}: {r} is in {runs[r.facts.instrument]!r} already "
            "(--skip-existing passes over such files)"
            for r in old
            if r.path not in bad
        }
    _report(bad, len(paths), fail_fast=fail_fast)
    if old:
        log.info("%d of %d raw files were ingested before.", len(old), len(paths))
    left_out = {*bad, *(r.path for r in old)}
    refs: list[DatasetRef] = []
    butler.registry.registerDatasetType(raw_type)
    with butler.transaction():
        for name, found in by_name.items():
            mine = [r for r in raws if r.facts.instrument == name and r.path not in left_out]
            if not mine:
                continue
            butler.collections.register(runs[name], CollectionType.RUN)
            insert_exposures(
                butler, found.getCamera(), [r.facts for r in mine], replace=update_exposure_records
            )
            formatter = found.getRawFormatter()
            datasets = [
                FileDataset(r.path, [raw_ref(raw_type, r.data_id, runs[name])], formatter) for r in mine
            ]
            butler.ingest(*datasets, transfer=transfer, record_validation_info=record_validation_info)
            log.info("Ingested %d raw files of %s into %s.", len(datasets), name, runs[name])
            refs += [ref for dataset in datasets for ref in dataset.refs]
    return IngestedRaws(refs, list(bad.values()))


def _candidates(butler: Butler, instrument: Instrument | str | None) -> list[Instrument]:
    """Return the instruments files may be of: the one named, or all that are registered."""
    if isinstance(instrument, str):
        instrument = Instrument.from_repository(butler, instrument)
    instruments = [instrument] if instrument is not None else registered_instruments(butler)
    if not instruments:
        raise RawIngestError(
            "No instrument is registered in this repository; "
            "register one first with `butler register-instrument REPO INSTRUMENT`."
        )
    return instruments


def _ingested_before(
    butler: Butler, raw_type: DatasetType, raws: Sequence[RawFile], runs: Mapping[str, str]
) -> list[RawFile]:
    """Return those of some files whose raws are in their run already; other raws of it are not read."""
    registry = butler.repository.registry
    if raw_type not in registry.dataset_types.query("raw", []):
        return []
    found = set()
    for run in set(runs.values()):
        mine = [r for r in raws if runs[r.facts.instrument] == run]
        if not mine:
            continue
        columns = {name: [r.data_id[name] for r in mine] for name in raw_type.dimensions.required}
        data_ids = DataIdTable.from_values(raw_type.dimensions, columns)
        try:
            datasets, rows = registry.search.find(raw_type, data_ids, [run])
        except MissingCollectionError:
            continue
        # What a chain of this name has in its members does not count: it is refused as a run later.
        found |= {
            r.path
            for r, row in zip(mine, rows.tolist(), strict=True)
            if row >= 0 and datasets.run(row) == run
        }
    return [r for r in raws if r.path in found]


def _report(problems: Mapping[str, str], n_files: int, *, fail_fast: bool) -> None:
    """Log what is wrong, or raise it where all files are bad or one is enough."""
    if not problems:
        return
    lines = [f"{len(problems)} of {n_files} raw files cannot be ingested:"]
    lines += [f"  {text}" for text in list(problems.values())[:_MOST_PROBLEMS_NAMED]]
    if len(problems) > _MOST_PROBLEMS_NAMED:
        lines.append(f"  ... and {len(problems) - _MOST_PROBLEMS_NAMED} more")
    if fail_fast or len(problems) == n_files:
        raise RawIngestError("\n".join(lines))
    log.warning("\n".join(lines))


def registered_instruments(butler: Butler) -> list[Instrument]:
    """Return the instruments of a repository whose camera is known.

    Parameters
    ----------
    butler : `Butler`
        Of the repository.
    """
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
