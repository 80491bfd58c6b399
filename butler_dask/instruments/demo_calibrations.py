"""Calibrations of the demonstration survey: the simulated sensors' truth, put and certified as a site would.

Lists of defects change with the date, the bias with the season, kernel and linearity never; so every way of
looking up a calibration by time occurs in the demonstration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.time import Time

from ..imaging.defects import defects_table, mask_defects
from ..imaging.detector import box_slices
from ..imaging.exposure import Exposure, FilterLabel
from ..imaging.simulated_detector import SimulatedDetector
from ..imaging.visit_info import VisitInfo
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.timespan import Timespan
from .instrument import Instrument

if TYPE_CHECKING:
    from ..butler.butler import Butler
    from ..vocabulary.dataset import DatasetRef

log = logging.getLogger("butler.demo")

CURATED_DATES = (
    "1970-01-01T00:00:00",
    "2013-01-31T00:00:00",
    "2014-04-03T00:00:00",
    "2014-06-01T00:00:00",
    "2015-11-06T00:00:00",
    "2016-04-01T00:00:00",
    "2016-11-22T00:00:00",
    "2016-12-23T00:00:00",
)
"""Dates from which a list of defects holds, until the next."""

N_BIAS, N_DARK, N_FLAT = 20, 5, 10
DARK_TIME_S, FLAT_ELECTRONS = 300.0, 30_000.0


@dataclass(frozen=True, slots=True)
class CombinedFrame:
    """One kind of combined frame: the run it is in and when it holds.

    Parameters
    ----------
    kind : `str`
        bias, dark or flat.
    date : `str`
        Names the run, ``HSC/calib/gen2/<date>``.
    begin, end : `str`
        Validity, TAI.
    physical_filter : `str`
        Of a flat.
    """

    kind: str
    date: str
    begin: str
    end: str
    physical_filter: str = ""


COMBINED_FRAMES = (
    CombinedFrame("bias", "2013-06-17", "2013-01-31", "2013-09-01"),
    CombinedFrame("dark", "2013-06-17", "2013-01-31", "2014-07-01"),
    CombinedFrame("flat", "2013-06-17", "2013-01-31", "2014-07-01", "HSC-R"),
    CombinedFrame("bias", "2013-11-03", "2013-09-01", "2014-07-01"),
    CombinedFrame("flat", "2013-11-03", "2013-01-31", "2014-07-01", "HSC-I"),
)
"""The bias is the one that changes with time; frames are the bulk of the repository, so there are no more."""


def _put_and_certify(
    butler: Butler,
    instrument: Instrument,
    run: str,
    dataset_type: DatasetType,
    values: Iterable[tuple[dict[str, Any], Any]],
    validity: Timespan,
) -> list[DatasetRef]:
    """Put calibrations into a run and certify them in the instrument's calibration collection."""
    butler.registry.registerDatasetType(dataset_type)
    butler.collections.register(run, CollectionType.RUN)
    name = instrument.getName()
    refs = [butler.put(value, dataset_type, {"instrument": name, **id_}, run=run) for id_, value in values]
    butler.registry.certify(instrument.makeCalibrationCollectionName(), refs, validity)
    return refs


def _calibration_type(name: str, storage_class: str, *further: str) -> DatasetType:
    return DatasetType(name, ("instrument", "detector", *further), storage_class, isCalibration=True)


def put_unbounded_calibrations(
    butler: Butler, instrument: Instrument, sensors: dict[int, SimulatedDetector]
) -> None:
    """Put linearizer and brighter-fatter kernel of the simulated sensors, valid at all times.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    instrument : `Instrument`
        With the detectors.
    sensors : `dict` of `int` to `SimulatedDetector`
        Truth by detector number.
    """
    run = instrument.makeUnboundedCalibrationRunName()
    always = Timespan(None, None)
    linearizers = [({"detector": d}, s.linearizer()) for d, s in sensors.items()]
    _put_and_certify(
        butler, instrument, run, _calibration_type("linearizer", "StructuredDataDict"), linearizers, always
    )
    kernels = [({"detector": d}, s.kernel) for d, s in sensors.items()]
    _put_and_certify(butler, instrument, run, _calibration_type("bfKernel", "NumpyArray"), kernels, always)


def put_defects(butler: Butler, instrument: Instrument, sensors: dict[int, SimulatedDetector]) -> None:
    """Put the lists of defects, one run a date, each valid until the next.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    instrument : `Instrument`
        With the detectors.
    sensors : `dict` of `int` to `SimulatedDetector`
        Truth by detector number.
    """
    for date, until in zip(CURATED_DATES, (*CURATED_DATES[1:], None), strict=True):
        validity = Timespan(
            Time(date, scale="tai", format="isot"),
            None if until is None else Time(until, scale="tai", format="isot"),
        )
        tables = [({"detector": d}, defects_table(s.defects)) for d, s in sensors.items()]
        _put_and_certify(
            butler,
            instrument,
            instrument.makeCuratedCalibrationRunName(date),
            _calibration_type("defects", "Defects"),
            tables,
            validity,
        )


def put_combined_frames(
    butler: Butler,
    instrument: Instrument,
    sensors: dict[int, SimulatedDetector],
    frame: CombinedFrame,
    seed: int,
) -> None:
    """Put one kind of combined frame for all detectors: the sensors' truth with the noise of a stack.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    instrument : `Instrument`
        With the detectors.
    sensors : `dict` of `int` to `SimulatedDetector`
        Truth by detector number.
    frame : `CombinedFrame`
        Which kind, and when it holds.
    seed : `int`
        Of the noise.
    """
    run = instrument.makeCalibrationCollectionName("gen2", frame.date)
    validity = Timespan(Time(frame.begin, scale="tai"), Time(frame.end, scale="tai"))
    number = int(frame.date.replace("-", ""))
    flat = frame.kind == "flat"
    band = instrument.getCamera().filter(frame.physical_filter).band if flat else ""
    further = {"physical_filter": frame.physical_filter} if flat else {}
    frames = (
        (
            {"detector": detector, **further},
            combined_frame(
                frame.kind,
                sensor,
                np.random.default_rng([seed, number, detector, *frame.kind.encode()]),
                frame.physical_filter,
                band,
            ),
        )
        for detector, sensor in sensors.items()
    )
    kind = _calibration_type(frame.kind, "ExposureF", *further)
    _put_and_certify(butler, instrument, run, kind, frames, validity)
    log.info("Certified the %s of %s.", frame.kind, frame.date)


def combined_frame(
    name: str,
    sensor: SimulatedDetector,
    rng: np.random.Generator,
    physical_filter: str = "",
    band: str = "",
) -> Exposure:
    """Return a combined calibration frame of a simulated sensor.

    Parameters
    ----------
    name : `str`
        bias [ADU], dark [electrons in `DARK_TIME_S`] or flat [relative].
    sensor : `SimulatedDetector`
        Its truth.
    rng : `numpy.random.Generator`
        Noise of the stack.
    physical_filter, band : `str`
        Of a flat.
    """
    detector = sensor.detector
    image = rng.standard_normal(detector.shape, dtype=np.float32)
    variance = np.empty(detector.shape, dtype=np.float32)
    for amplifier in detector.amplifiers:
        variance[box_slices(amplifier.box)] = amplifier.read_noise**2
        if name == "bias":
            variance[box_slices(amplifier.box)] /= amplifier.gain**2 * N_BIAS
    unit, dark_time, light_time = "adu", 0.0, 0.0
    truth = sensor.bias_adu
    if name == "dark":
        unit, dark_time = "electron", DARK_TIME_S
        truth = sensor.dark_electrons_s * np.float32(DARK_TIME_S)
        variance = (variance + np.float32(np.median(truth))) / np.float32(N_DARK)
    elif name == "flat":
        unit, dark_time, light_time = "", 10.0, 10.0
        truth = sensor.flat(band)
        variance[:] = 1.0 / (FLAT_ELECTRONS * N_FLAT)
    image *= np.sqrt(variance)
    image += truth
    frame = Exposure(
        image,
        variance=variance,
        detector=detector,
        visit_info=VisitInfo(
            exposure_time_s=light_time, dark_time_s=dark_time, observation_type=name, instrument="HSC"
        ),
        filter=FilterLabel(band, physical_filter),
        metadata={"BUNIT": unit, "OBSTYPE": name},
    )
    mask_defects(frame.mask, defects_table(sensor.defects))
    return frame
