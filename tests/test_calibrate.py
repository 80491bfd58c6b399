from __future__ import annotations

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from public_frames import public_data
from scipy.spatial import cKDTree
from star_field import make_star_field

from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.pipeline import RepeatableQuantumError
from butler_dask.tasks.calibrate import CalibrateTask
from butler_dask.tasks.calibrate_config import CalibrateConfig, CalibrateConnections
from butler_dask.tasks.characterize import CharacterizeImageTask

LINES = (
    "calibrate.detection: Detected",
    "calibrate.detection: Resubtracting the background after object detection",
    "calibrate.skySources: Added 100 of 100 requested sky sources (100%)",
    "calibrate.deblend: Deblending",
    "calibrate.deblend: Deblended: of",
    "calibrate.measurement: Measuring",
    "calibrate.applyApCorr: Applying aperture corrections to 2 instFlux fields",
    "calibrate.astrometry: Matched and fit WCS in",
    "calibrate.photoCal: Magnitude zero point: 31.1",
)


class Deferred:
    """A handle as the butler gives."""

    def __init__(self, table):
        self.table = table

    def get(self):
        return self.table


@pytest.fixture(scope="module")
def field():
    return make_star_field(
        (1500, 1500), 350, 300, sky=180.0, zero_point=31.2, magnitudes=(18.0, 25.0), cosmic_rays=30, seed=6,
        pointing_error_arcsec=(14.0, -9.0), rotation_error_deg=0.2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def characterized(field):
    return CharacterizeImageTask().run(field.exposure.copy())


@pytest.fixture(scope="module")
def done(field, characterized):
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(f"{record.name}: {record.getMessage()}")
    logger = logging.getLogger("calibrate")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = CalibrateTask().run(
            characterized.characterized.copy(),
            characterized.backgroundModel,
            characterized.sourceCat,
            [Deferred(field.reference[::2]), Deferred(field.reference[1::2])],
            [field.reference],
        )
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    return result, records


def _matched(field, catalog):
    primary = np.asarray(catalog["detect_isPrimary"])
    tree = cKDTree(np.column_stack([field.truth["x"], field.truth["y"]]))
    distance, row = tree.query(
        np.column_stack([catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"]])
    )
    return primary, distance, row


@pytest.mark.parametrize("line", LINES)
def test_the_log_tells_what_the_tutorial_tells(done, line):
    assert any(record.startswith(line) for record in done[1]), done[1]


def test_positions_on_the_sky_are_right_all_over_the_detector(field, done):
    wcs = done[0].outputExposure.wcs
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 1499, 12), np.linspace(0, 1499, 12)))
    a, b = wcs.pixel_to_sky(x, y), field.wcs.pixel_to_sky(x, y)
    error = 3.6e6 * np.hypot((a[0] - b[0]) * np.cos(np.radians(2.2)), a[1] - b[1])
    assert np.sqrt((error**2).mean()) < 6.0
    assert error.max() < 20.0


def test_bright_stars_are_within_milliarcseconds_of_the_truth(field, done):
    catalog = done[0].outputCat
    primary, distance, row = _matched(field, catalog)
    signal = catalog["base_PsfFlux_instFlux"] / catalog["base_PsfFlux_instFluxErr"]
    rows = primary & (distance < 1) & (signal > 100) & np.asarray(field.truth["is_star"])[row]
    error = 206264806 * np.hypot(
        (catalog["coord_ra"] - field.truth["ra"][row]) * np.cos(field.truth["dec"][row]),
        catalog["coord_dec"] - field.truth["dec"][row],
    )
    assert rows.sum() > 10
    assert np.median(error[rows]) < 8.0


def test_the_zero_point_is_right(field, done):
    exposure = done[0].outputExposure
    # Five circles of light in a thousand fall outside the aperture of 12 pixels.
    assert exposure.photo_calib.zero_point_mag == pytest.approx(field.zero_point - 0.005, abs=0.01)
    assert exposure.summary_stats["zeroPoint"] == exposure.photo_calib.zero_point_mag
    assert done[0].outputCat["calib_photometry_used"].sum() > 30


def test_magnitudes_of_stars_scatter_as_their_errors_say(field, done):
    catalog, exposure = done[0].outputCat, done[0].outputExposure
    primary, distance, row = _matched(field, catalog)
    signal = np.asarray(catalog["base_PsfFlux_instFlux"] / catalog["base_PsfFlux_instFluxErr"])
    difference = (
        exposure.photo_calib.instFluxToMagnitude(catalog["base_PsfFlux_instFlux"]) - field.truth["mag"][row]
    )
    clean = primary & (distance < 1) & np.asarray(field.truth["is_star"])[row]
    clean &= ~np.asarray(catalog["base_PixelFlags_flag_edge"])
    for low, high in ((10, 30), (30, 100), (100, 1000)):
        rows = clean & (signal > low) & (signal < high)
        expected = 1.0857 * np.median(1 / signal[rows])
        spread = 1.4826 * np.median(np.abs(difference[rows] - np.median(difference[rows])))
        assert spread == pytest.approx(expected, rel=0.35)
        assert abs(np.median(difference[rows])) < 0.01 + 5 * expected / np.sqrt(rows.sum())


def test_nearly_everything_found_is_real_and_what_should_be_found_is(field, done):
    catalog = done[0].outputCat
    primary, distance, _ = _matched(field, catalog)
    assert (distance[primary] > 4).mean() < 0.02
    sources = np.column_stack([catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"]])[primary]
    noise = np.sqrt(200 * 4 * np.pi * 1.68**2)
    bright = np.asarray((field.truth["flux"] > 8 * noise) & field.truth["is_star"])
    found, _ = cKDTree(sources).query(np.column_stack([field.truth["x"], field.truth["y"]])[bright])
    assert (found < 2).mean() > 0.93


def test_children_belong_to_parents_that_count_them(done):
    catalog = done[0].outputCat
    children = catalog[catalog["parent"] != 0]
    assert len(children) > 0
    parents, counts = np.unique(np.asarray(children["parent"]), return_counts=True)
    n_child = dict(zip(catalog["id"].tolist(), catalog["deblend_nChild"].tolist(), strict=True))
    assert [n_child[p] for p in parents.tolist()] == counts.tolist()
    assert not catalog["detect_isPrimary"][catalog["deblend_nChild"] > 0].any()


def test_sky_sources_see_nothing(done):
    catalog = done[0].outputCat
    empty = catalog[catalog["sky_source"]]
    assert len(empty) == 100
    pull = empty["base_PsfFlux_instFlux"] / empty["base_PsfFlux_instFluxErr"]
    # Undetected sources widen the distribution and lift it a little.
    assert abs(pull.mean()) < 0.4
    assert pull.std() == pytest.approx(1.0, abs=0.4)
    assert not empty["detect_isPrimary"].any()


def test_matches_name_rows_of_both_catalogues(field, done):
    matches, catalog = done[0].matches, done[0].outputCat
    assert len(matches) > 80
    assert set(matches["src_id"]) <= set(catalog["id"])
    assert set(matches["ref_id"]) <= set(field.reference["id"])
    assert np.degrees(np.median(matches["distance"])) * 3.6e6 < 40
    used = set(np.asarray(catalog["id"])[np.asarray(catalog["calib_astrometry_used"])])
    assert used == set(np.asarray(matches["src_id"])[np.asarray(matches["used"])])


def test_psf_flags_come_from_the_bright_sources(characterized, done):
    wanted = characterized.sourceCat["calib_psf_used"].sum()
    assert done[0].outputCat["calib_psf_used"].sum() >= 0.95 * wanted


def test_summary_statistics_say_what_was_simulated(field, done):
    stats = done[0].outputExposure.summary_stats
    assert stats["psfSigma"] == pytest.approx(1.683, rel=0.01)
    assert stats["skyBg"] == pytest.approx(180, rel=0.02)
    assert stats["skyNoise"] == pytest.approx(np.sqrt(180 + 4.5**2), rel=0.03)
    assert stats["astromOffsetMean"] < 0.06
    assert stats["nPsfStar"] > 20
    assert stats["pixelScale"] == pytest.approx(0.2, rel=1e-3)


def test_the_background_list_given_is_not_changed(characterized, done):
    assert len(done[0].outputBackground) == len(characterized.backgroundModel) + 1


def test_no_reference_catalogue_is_needed_when_nothing_is_fitted(field, characterized):
    config = CalibrateConfig()
    config.doAstrometry = config.doPhotoCal = config.doCopyPsfFlags = False
    config.roughZeroPoint = {"r": 27.5}
    connections = CalibrateConnections(config=config)
    assert connections.prerequisiteInputs == frozenset()
    assert "matches" not in connections.outputs
    assert "icSourceCat" not in connections.inputs
    result = CalibrateTask(config=config).run(
        characterized.characterized.copy(), characterized.backgroundModel
    )
    assert result.matches is None
    assert result.outputExposure.wcs is field.exposure.wcs
    assert result.outputExposure.photo_calib.zero_point_mag == pytest.approx(27.5 + 2.5 * np.log10(30))
    assert np.isfinite(result.outputCat["coord_ra"]).all()


def test_a_catalogue_of_another_field_is_an_error_unless_allowed(field, characterized, caplog):
    other = field.reference.copy()
    other["coord_dec"] = np.random.default_rng(0).permutation(np.asarray(other["coord_dec"]))
    with pytest.raises(RepeatableQuantumError, match="No match"):
        CalibrateTask().run(characterized.characterized.copy(), None, None, [other], [other])
    config = CalibrateConfig()
    config.requireAstrometry = config.requirePhotoCal = False
    with caplog.at_level(logging.WARNING, logger="calibrate"):
        result = CalibrateTask(config=config).run(characterized.characterized.copy(), None, None, [other], [])
    assert "No match" in caplog.text
    assert result.outputExposure.photo_calib.calibration_mean == 1.0


def test_a_filter_the_catalogue_lacks_is_named(field, characterized):
    exposure = characterized.characterized.copy()
    exposure.filter = type(exposure.filter)("z", "sim-z")
    with pytest.raises(RepeatableQuantumError, match="filterMap"):
        CalibrateTask().run(exposure, None, None, [field.reference], [field.reference])


def test_an_exposure_without_a_psf_is_refused():
    with pytest.raises(RepeatableQuantumError, match="no PSF"):
        CalibrateTask().run(Exposure(np.zeros((64, 64), np.float32)))


def test_a_real_sub_frame_is_placed_by_a_real_catalogue():
    folder = public_data("huntsman_dorado")
    with fits.open(folder / "science_0.fits.gz") as frames:
        header, pixels = frames[0].header.copy(), frames[0].data.astype(np.float32)
    # A fault seen in the wild: SIP coefficients under a plain TAN.
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    gain, bias = header["EGAIN"], 32.0
    image = (pixels - np.float32(bias)) * np.float32(gain)
    exposure = Exposure(
        image, variance=np.maximum(image, 0) + np.float32(9.0), filter=FilterLabel("g", "g_band")
    )
    exposure.mask.set_where(pixels > 4000, "SAT")
    exposure.wcs = SkyWcs.from_header(header)
    stars = Table.read(folder / "refcat_skymapper.csv.gz", format="ascii.csv")
    magnitude = np.ma.filled(np.ma.asarray(stars["g_psf"], float), np.nan)
    reference = Table(
        {
            "coord_ra": np.radians(np.asarray(stars["raj2000"], float)),
            "coord_dec": np.radians(np.asarray(stars["dej2000"], float)),
            "g_flux": 10 ** (0.4 * (31.4 - magnitude)),
        }
    )
    config = CalibrateConfig()
    config.astrometry.matchRadiusArcsec, config.photoCal.matchRadiusArcsec = 3.0, 2.0
    bright = CharacterizeImageTask().run(exposure)
    result = CalibrateTask(config=config).run(
        bright.characterized, bright.backgroundModel, bright.sourceCat, [reference], [reference]
    )
    stats = result.outputExposure.summary_stats
    # Fifteen stars of the catalogue are on the frame; a pixel is 1.26 arcsec.
    assert stats["nAstromMatches"] >= 8
    assert stats["astromOffsetMean"] < 0.4
    assert stats["zeroPoint"] == pytest.approx(25.95, abs=0.2)
