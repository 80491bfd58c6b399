"""Raw files: which there are, what their headers say, and what is wrong with them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import ButlerUserError, RawIngestError
from .instrument import Instrument
from .raw_frame import read_raw_header
from .raw_headers import RawFacts, recognises, translate_header


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file and what its header says."""

    path: str
    facts: RawFacts

    @property
    def data_id(self) -> dict[str, str | int]:
        """Instrument, exposure and detector."""
        facts = self.facts
        return {"instrument": facts.instrument, "exposure": facts.exposure_id, "detector": facts.detector}

    def __str__(self) -> str:
        facts = self.facts
        return f"exposure {facts.exposure_id}, detector {facts.detector} of {facts.instrument}"


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


def repetitions(raws: Sequence[RawFile]) -> dict[str, str]:
    """Find files that are the same detector and exposure as one before them.

    Parameters
    ----------
    raws : sequence of `RawFile`
        Of any exposures.

    Returns
    -------
    problems : `dict` of `str` to `str`
        What is wrong, by file.
    """
    first: dict[tuple[str, int, int], RawFile] = {}
    problems = {}
    for raw in raws:
        other = first.setdefault((raw.facts.instrument, raw.facts.exposure_id, raw.facts.detector), raw)
        if other is not raw:
            problems[raw.path] = f"{raw.path} and {other.path} are both {raw}"
    return problems


def contradictions(raws: Sequence[RawFile]) -> dict[str, str]:
    """Find files that contradict the first file of their exposure.

    Parameters
    ----------
    raws : sequence of `RawFile`
        Of any exposures.

    Returns
    -------
    problems : `dict` of `str` to `str`
        What is wrong, by file.
    """
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
