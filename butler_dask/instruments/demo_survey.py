"""The demonstration survey: a repository of the tutorial's shape, made from a simulated sky.

Nothing here is special: a handful of raw files is simulated, and then the functions behind the ordinary
commands are called in the order a user would (create, register-instrument, write-curated-calibrations,
register-skymap, ingest-raws, define-visits, certify-calibrations, ingest-reference-catalog, define-defaults).

Sizes are a compromise: the full form has detectors of the real size but two of them only (1.2 GB, most of it
combined frames), the small form six detectors of 1024 x 1024 pixels (0.45 GB). Both have four visits.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..imaging.camera import Camera
from ..imaging.defects import defects_table, mask_defects
from ..imaging.detector import box_slices
from ..imaging.exposure import Exposure, FilterLabel
from ..imaging.simulated_detector import SimulatedDetector
from ..imaging.simulated_exposure import Observation
from ..imaging.simulated_sky import BANDS, SimulatedSky
from ..imaging.skymap import SkyMap
from ..imaging.visit_info import VisitInfo
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.timespan import Timespan
from .instrument import Instrument, write_curated_calibrations
from .raw_ingest import define_visits, detector_region, ingest_raws
from .reference_catalog import ingest_reference_catalog
from .simulated_raws import SimulatedVisit, write_simulated_raws
from .skymap_registration import register_skymap

if TYPE_CHECKING:
    from astropy.table import Table

    from ..butler import Butler
    from ..vocabulary.dataset import DatasetRef

log = logging.getLogger("butler.demo")

SKYMAP_NAME = "discrete/ci_hsc"
"""Value of the ``skymap`` dimension."""

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


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What a form of the demonstration holds.

    Parameters
    ----------
    camera_file : `str`
        Name of a built-in camera.
    detectors : `tuple` [`int`, ...]
        Detectors with raws.
    patch_inner_size, patch_border : `int`
        Of the sky map [pixels].
    stars_per_arcmin2, galaxies_per_arcmin2 : `float`
        Brighter than r = 22.5; the small form has more, so that a detector has stars enough for its PSF.
    brightest_star_mag : `float`
        Fewer saturated stars where detectors are small.
    """

    camera_file: str
    detectors: tuple[int, ...]
    patch_inner_size: int
    patch_border: int
    stars_per_arcmin2: float
    galaxies_per_arcmin2: float
    brightest_star_mag: float


FULL = DemoPlan("hsc", (4, 5), 1500, 100, 2.5, 1.6, 14.0)

SMALL = DemoPlan("hsc_small", (4, 5, 6, 10, 11, 12), 675, 200, 8.0, 2.0, 16.0)

PIXEL_SCALE_ARCSEC = 0.168


def demo_visits() -> list[SimulatedVisit]:
    """Return the visits of the survey: two in HSC-R, two in HSC-I, dithered by an arcminute or so."""
    pointings = (
        (903342, "r", "HSC-R", "2013-06-17T13:31:20.000", 320.7695, 0.5132, 0.66),
        (903344, "r", "HSC-R", "2013-06-17T13:32:51.000", 320.7500, 0.5000, 0.70),
        (903986, "i", "HSC-I", "2013-11-02T06:15:55.900", 320.7402, 0.5121, 0.60),
        (903988, "i", "HSC-I", "2013-11-02T06:17:26.300", 320.7611, 0.4893, 0.62),
    )
    return [
        SimulatedVisit(Observation(visit, ra, dec, band=band, fwhm_arcsec=seeing), physical_filter, begin)
        for visit, band, physical_filter, begin, ra, dec, seeing in pointings
    ]


def demo_sky(camera: Camera, plan: DemoPlan, seed: int) -> SimulatedSky:
    """Return the sky over the survey's detectors; the same seed gives the same truth, in tests too.

    Parameters
    ----------
    camera : `Camera`
        Focal plane.
    plan : `DemoPlan`
        Detectors and densities.
    seed : `int`
        Seed of everything.
    """
    from .skymap_registration import enclosing_circle

    (ra, dec), radius = enclosing_circle(_footprints(camera, plan))
    return SimulatedSky(
        ra,
        dec,
        radius + 0.02,
        seed=seed,
        stars_per_arcmin2=plan.stars_per_arcmin2,
        galaxies_per_arcmin2=plan.galaxies_per_arcmin2,
        brightest_star_mag=plan.brightest_star_mag,
    )


def _footprints(camera: Camera, plan: DemoPlan, padding_pixels: int = 0) -> list[Any]:
    return [
        detector_region(
            camera,
            detector,
            visit.observation.ra_deg,
            visit.observation.dec_deg,
            visit.observation.rotation_deg,
            padding_pixels=padding_pixels,
        )
        for visit in demo_visits()
        for detector in plan.detectors
    ]


def demo_skymap(camera: Camera, plan: DemoPlan) -> SkyMap:
    """Return a sky map of one tract, laid so that detector 5 of visit 903344 touches 3 x 4 patches.

    Parameters
    ----------
    camera : `Camera`
        Focal plane.
    plan : `DemoPlan`
        Detectors and patch size.

    Notes
    -----
    The detector's centre is put in the middle of a patch along x and on the edge of two along y. The plans'
    patch sizes are chosen so that the detector, and the region of it padded for pointing errors, both reach
    into three patches along x and four along y: 12 warps are predicted and 12 are made.
    """
    from .skymap_registration import enclosing_circle

    (ra, dec), radius = enclosing_circle(_footprints(camera, plan, padding_pixels=300))
    target = next(v.observation for v in demo_visits() if v.observation.visit == 903344)
    wcs = camera.initial_wcs(5, target.ra_deg, target.dec_deg, target.rotation_deg)
    ny, nx = camera[5].shape
    detector_ra, detector_dec = (float(v) for v in wcs.pixel_to_sky(0.5 * (nx - 1), 0.5 * (ny - 1)))
    size = plan.patch_inner_size
    for _ in range(4):
        skymap = SkyMap.discrete(
            SKYMAP_NAME,
            [ra],
            [dec],
            [radius],
            patch_inner_dimensions=(size, size),
            patch_border=plan.patch_border,
            tract_overlap_deg=0.02,
            pixel_scale_arcsec=PIXEL_SCALE_ARCSEC,
        )
        x, y = (float(v) for v in skymap[0].wcs.sky_to_pixel(detector_ra, detector_dec))
        dx = _nearest_shift(x, size, 0.5)
        dy = _nearest_shift(y, size, 0.0)
        if max(abs(dx), abs(dy)) < 1.0:
            break
        # Moving the tract's centre moves its patches; +x is west, +y north.
        dec -= dy * PIXEL_SCALE_ARCSEC / 3600.0
        ra += dx * PIXEL_SCALE_ARCSEC / 3600.0 / np.cos(np.radians(dec))
    return skymap


def _nearest_shift(position: float, period: float, phase: float) -> float:
    """Return what to add to a position to bring it to the nearest (n + phase) * period."""
    offset = position / period - phase
    return float((round(offset) - offset) * period)


def make_demo(root: str | os.PathLike[str], *, small: bool = False, seed: int = 1) -> None:
    """Make a repository of the tutorial's shape from a simulated survey.

    Parameters
    ----------
    root : path-like
        Where; must not be a repository yet.
    small : `bool`
        Six detectors of 1024 x 1024 pixels instead of two of 2048 x 4176.
    seed : `int`
        Seed of the simulated sky, its detectors and noise.
    """
    from ..butler import Butler

    plan = SMALL if small else FULL
    root = os.fspath(root)
    Butler.makeRepo(root)
    instrument = Instrument.from_camera_file(plan.camera_file)
    camera = instrument.getCamera()
    sensors = {d: SimulatedDetector(camera[d], seed) for d in plan.detectors}
    sky = demo_sky(camera, plan, seed)
    skymap = demo_skymap(camera, plan)
    with Butler(root, writeable=True) as butler:
        instrument.register(butler)
        log.info("Registered instrument %s with %d detectors.", instrument.getName(), len(camera))
        write_curated_calibrations(butler, instrument)
        put_unbounded_calibrations(butler, instrument, sensors)
        put_defects(butler, instrument, sensors)
        register_skymap(butler, skymap)
        log.info("Registered sky map %s with %d patches.", skymap.name, sum(len(t) for t in skymap))
        visits = demo_visits()
        log.info("Simulating %d visits of %d detectors.", len(visits), len(plan.detectors))
        # Beside the repository, so that moving a file into place is a rename.
        beside = os.path.dirname(os.path.abspath(root)) if os.path.isdir(root) else None
        with tempfile.TemporaryDirectory(prefix=".demo-raws-", dir=beside) as staging:
            write_simulated_raws(staging, camera, sky, visits, plan.detectors)
            ingest_raws(butler, [staging], transfer="move", instrument=instrument)
        define_visits(butler, instrument)
        for frame in COMBINED_FRAMES:
            put_combined_frames(butler, instrument, sensors, frame, seed)
        butler.collections.register(instrument.makeCollectionName("external"), CollectionType.RUN)
        put_bright_object_masks(butler, instrument, sky, skymap)
        ingest_reference_catalog(butler, reference_of_truth(sky))
        members = [
            instrument.makeDefaultRawIngestRunName(),
            instrument.makeCalibrationCollectionName(),
            instrument.makeCollectionName("masks"),
            "refcats",
            "skymaps",
        ]
        umbrella = instrument.makeUmbrellaCollectionName()
        butler.collections.register(umbrella, CollectionType.CHAINED, "All inputs of usual processing.")
        butler.collections.redefine_chain(umbrella, members)
    log.info("Made the demonstration repository %s.", root)


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
    """Put linearizer and brighter-fatter kernel of the simulated sensors, valid at all times."""
    run = instrument.makeUnboundedCalibrationRunName()
    always = Timespan(None, None)
    linearizers = [({"detector": d}, s.linearizer()) for d, s in sensors.items()]
    _put_and_certify(
        butler, instrument, run, _calibration_type("linearizer", "StructuredDataDict"), linearizers, always
    )
    kernels = [({"detector": d}, s.kernel) for d, s in sensors.items()]
    _put_and_certify(butler, instrument, run, _calibration_type("bfKernel", "NumpyArray"), kernels, always)


def put_defects(butler: Butler, instrument: Instrument, sensors: dict[int, SimulatedDetector]) -> None:
    """Put the lists of defects, one run a date, each valid until the next."""
    from astropy.time import Time

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
    """Put one kind of combined frame for all detectors: the sensors' truth with the noise of a stack."""
    from astropy.time import Time

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


def put_bright_object_masks(
    butler: Butler, instrument: Instrument, sky: SimulatedSky, skymap: SkyMap
) -> None:
    """Put, for each patch and band, circles around the stars brighter than magnitude 17.5."""
    from astropy.table import Table

    run = instrument.makeCollectionName("masks")
    kind = DatasetType("brightObjectMask", ("skymap", "tract", "patch", "band"), "Catalog")
    butler.registry.registerDatasetType(kind)
    butler.collections.register(run, CollectionType.RUN)
    tract = skymap[0]
    for band in sorted({v.observation.band for v in demo_visits()}):
        bright = sky.truth[np.asarray(sky.truth[f"mag_{band}"]) < 17.5]
        x, y = tract.wcs.sky_to_pixel(np.asarray(bright["ra"]), np.asarray(bright["dec"]))
        for patch in tract:
            x0, y0, width, height = patch.outer_box
            inside = (x >= x0) & (x < x0 + width) & (y >= y0) & (y < y0 + height)
            if not inside.any():
                continue
            here = bright[inside]
            table = Table(
                {
                    "id": here["id"],
                    "ra": here["ra"],
                    "dec": here["dec"],
                    "radius": 5.0 * 10.0 ** (0.2 * (17.5 - np.asarray(here[f"mag_{band}"]))) / 3600.0,
                }
            )
            for column in ("ra", "dec", "radius"):
                table[column].unit = "deg"
            butler.put(
                table,
                kind,
                {"skymap": skymap.name, "tract": tract.id, "patch": patch.id, "band": band},
                run=run,
            )


def reference_of_truth(sky: SimulatedSky, *, faintest_mag: float = 21.5, seed: int | None = None) -> Table:
    """Return a reference catalogue as a survey of the simulated sky would give it.

    Parameters
    ----------
    sky : `SimulatedSky`
        The truth.
    faintest_mag : `float`
        Faintest r magnitude.
    seed : `int`, optional
        Of the catalogue's errors; the sky's when not given.

    Returns
    -------
    catalog : `astropy.table.Table`
        id, coord_ra, coord_dec, coord_raErr, coord_decErr [rad], <band>_flux, <band>_fluxErr [nJy], resolved.
        Positions are good to 5 mas (20 mas for galaxies), fluxes to 1 %.
    """
    from astropy.table import Table

    rng = np.random.default_rng([sky.seed if seed is None else seed, 5])
    truth = sky.truth[np.asarray(sky.truth["mag_r"]) < faintest_mag]
    count = len(truth)
    star = np.asarray(truth["is_star"])
    error = np.radians(np.where(star, 0.005, 0.020) / 3600.0)
    dec = np.radians(np.asarray(truth["dec"])) + error * rng.standard_normal(count)
    ra = np.radians(np.asarray(truth["ra"])) + error * rng.standard_normal(count) / np.cos(dec)
    columns: dict[str, Any] = {
        "id": np.asarray(truth["id"], dtype=np.int64),
        "coord_ra": ra,
        "coord_dec": dec,
        "coord_raErr": error / np.cos(dec),
        "coord_decErr": error,
        "resolved": ~star,
    }
    for band in BANDS:
        flux = 10.0 ** (0.4 * (31.4 - np.asarray(truth[f"mag_{band}"])))
        columns[f"{band}_flux"] = flux * (1.0 + 0.01 * rng.standard_normal(count))
        columns[f"{band}_fluxErr"] = 0.01 * flux
    table = Table(columns)
    for name in columns:
        if name.startswith("coord_"):
            table[name].unit = "rad"
        elif name.endswith(("_flux", "_fluxErr")):
            table[name].unit = "nJy"
    return table


def patches_of(skymap: SkyMap, region: Any) -> list[int]:
    """Return the numbers of the patches of tract 0 whose outer regions meet a sky region."""
    from lsst.sphgeom import DISJOINT

    return [patch.id for patch in skymap[0] if not patch.region.relate(region) & DISJOINT]


__all__: Sequence[str] = ("demo_sky", "demo_skymap", "demo_visits", "make_demo", "reference_of_truth")
