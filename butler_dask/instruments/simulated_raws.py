"""Simulated raws: FITS files of simulated exposures, with the header an HSC raw has.

They are ordinary files: nothing that reads them knows that they are simulated, apart from the card SIMULATE.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.coordinates import Angle
from astropy.io import fits
from astropy.time import Time, TimeDelta

from ..imaging.camera import Camera
from ..imaging.simulated_detector import SimulatedDetector
from ..imaging.simulated_exposure import Observation, simulate_exposure
from ..imaging.simulated_sky import SimulatedSky


@dataclass(frozen=True, slots=True)
class SimulatedVisit:
    """A visit to simulate.

    Parameters
    ----------
    observation : `Observation`
        Number, pointing, band, exposure time, seeing.
    physical_filter : `str`
        As the camera names it.
    begin_utc : `str`
        ISO time at which the shutter opens, UTC.
    object_name : `str`
        Target.
    """

    observation: Observation
    physical_filter: str
    begin_utc: str
    object_name: str = "STRIPE82L"


def hsc_raw_header(camera: Camera, detector: int, visit: SimulatedVisit, *, seed: int = 0) -> fits.Header:
    """Return the header of a simulated HSC raw.

    Parameters
    ----------
    camera : `Camera`
        Of HSC or a camera with its header conventions.
    detector : `int`
        Detector number.
    visit : `SimulatedVisit`
        What is observed.
    seed : `int`
        Written to the header.

    Returns
    -------
    header : `astropy.io.fits.Header`
        The cards `butler_dask.instruments.raw_headers` lists, which the HSC translator of
        ``astro_metadata_translator`` reads.
    """
    observation = visit.observation
    begin = Time(visit.begin_utc, scale="utc", format="isot")
    end = begin + TimeDelta(observation.exposure_time_s, format="sec")
    middle = begin + TimeDelta(0.5 * observation.exposure_time_s, format="sec")
    number = f"{observation.visit:06d}"
    altitude, azimuth = 63.04, 226.69
    ra = Angle(observation.ra_deg, "deg").to_string(unit="hourangle", sep=":", precision=4, pad=True)
    dec = Angle(observation.dec_deg, "deg").to_string(
        unit="deg", sep=":", precision=3, pad=True, alwayssign=True
    )
    definition = camera[detector]
    cards: Mapping[str, Any] = {
        "TELESCOP": "Subaru",
        "INSTRUME": "Hyper Suprime-Cam",
        "EXP-ID": f"HSCA{number}00",
        "FRAMEID": f"HSCA{number}{detector % 100:02d}",
        "DET-ID": (detector, "Sequential number of the CCD"),
        "T_CCDSN": definition.serial or str(detector),
        "DATE-OBS": begin.strftime("%Y-%m-%d"),
        "UT-STR": _clock(begin),
        "UT": _clock(middle),
        "UT-END": _clock(end),
        "MJD-STR": begin.mjd,
        "MJD": middle.mjd,
        "MJD-END": end.mjd,
        "EXPTIME": (observation.exposure_time_s, "[s]"),
        "FILTER01": visit.physical_filter,
        "DATA-TYP": "OBJECT",
        "OBJECT": visit.object_name,
        "PROP-ID": "o13015",
        "RA": ra,
        "DEC": dec,
        "RA2000": ra,
        "DEC2000": dec,
        "EQUINOX": 2000.0,
        "INST-PA": ((270.0 - observation.rotation_deg) % 360.0, "[deg]"),
        "AIRMASS": 1.1216,
        "ALTITUDE": (altitude, "[deg]"),
        "AZIMUTH": (azimuth, "[deg]"),
        "FOC-VAL": 3.7,
        "OUT-TMP": (272.35, "[K]"),
        "OUT-PRS": (621.7, "[hPa]"),
        "OUT-HUM": (33.1, "[%]"),
        **{f"T_GAIN{n}": (a.gain, "[e-/ADU]") for n, a in enumerate(definition.amplifiers, start=1)},
        "SIMULATE": (True, "simulated by butler_dask"),
        "SIMSEED": (seed, "seed of the simulated sky"),
    }
    return fits.Header(
        [(key, *(value if isinstance(value, tuple) else (value,))) for key, value in cards.items()]
    )


def _clock(time: Any) -> str:
    return str(time.isot).split("T")[1][:12]


def write_simulated_raws(
    directory: str | os.PathLike[str],
    camera: Camera,
    sky: SimulatedSky,
    visits: Iterable[SimulatedVisit],
    detectors: Iterable[int],
) -> list[Path]:
    """Simulate exposures and write them as raw FITS files.

    Parameters
    ----------
    directory : path-like
        Existing local directory.
    camera : `Camera`
        With HSC's header conventions.
    sky : `SimulatedSky`
        What is up there.
    visits : iterable of `SimulatedVisit`
        What is observed.
    detectors : iterable of `int`
        Detectors simulated of each visit.

    Returns
    -------
    paths : `list` [`pathlib.Path`]
        One file per visit and detector, uint16 [ADU].
    """
    paths = []
    visits = list(visits)
    for detector in detectors:
        sensor = SimulatedDetector(camera[detector], sky.seed)
        for visit in visits:
            exposure = simulate_exposure(sky, camera, detector, visit.observation, sensor=sensor)
            path = Path(directory) / f"HSC-{visit.observation.visit:07d}-{detector:03d}.fits"
            header = hsc_raw_header(camera, detector, visit, seed=sky.seed)
            fits.PrimaryHDU(exposure.raw, header).writeto(path)
            paths.append(path)
    return paths
