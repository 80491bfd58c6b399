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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from ..butler import Butler
from ..imaging.camera import Camera
from ..imaging.simulated_detector import SimulatedDetector
from ..imaging.simulated_exposure import Observation
from ..imaging.simulated_sky import BANDS, SimulatedSky
from ..imaging.skymap import SkyMap
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType
from .curated_calibrations import write_curated_calibrations
from .demo_calibrations import (
    COMBINED_FRAMES,
    put_combined_frames,
    put_defects,
    put_unbounded_calibrations,
)
from .discrete_skymap import enclosing_circle
from .instrument import Instrument
from .raw_ingest import ingest_raws
from .reference_catalog import ingest_reference_catalog
from .simulated_raws import SimulatedVisit, write_simulated_raws
from .skymap_registration import register_skymap
from .visits import define_visits, detector_region

if TYPE_CHECKING:
    from astropy.table import Table

    from ..butler.butler import Butler

__all__ = [
    "FULL",
    "SKYMAP_NAME",
    "SMALL",
    "demo_sky",
    "demo_skymap",
    "demo_visits",
    "make_demo",
    "reference_of_truth",
]

log = logging.getLogger("butler.demo")

SKYMAP_NAME = "discrete/ci_hsc"
"""Value of the ``skymap`` dimension."""


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


def make_demo(
    root: str | os.PathLike[str], *, small: bool = False, seed: int = 1, registry: str | None = None
) -> None:
    """Make a repository of the tutorial's shape from a simulated survey.

    Parameters
    ----------
    root : path-like
        Where; must not be a repository yet.
    small : `bool`
        Six detectors of 1024 x 1024 pixels instead of two of 2048 x 4176.
    seed : `int`
        Seed of the simulated sky, its detectors and noise.
    registry : `str`, optional
        URL of its database; SQLite inside ``root`` by default.
    """
    plan = SMALL if small else FULL
    root = os.fspath(root)
    Butler.makeRepo(root, registry=registry)
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


def put_bright_object_masks(
    butler: Butler, instrument: Instrument, sky: SimulatedSky, skymap: SkyMap
) -> None:
    """Put, for each patch and band, circles around the stars brighter than magnitude 17.5.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    instrument : `Instrument`
        Names the run.
    sky : `SimulatedSky`
        Its stars.
    skymap : `SkyMap`
        Its first tract.
    """
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
