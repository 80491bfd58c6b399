from __future__ import annotations

import logging

import numpy as np
import pytest
from star_field import make_star_field

from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.psf import Psf
from butler_dask.pipeline import NoWorkFound
from butler_dask.tasks.characterize import CharacterizeImageTask
from butler_dask.tasks.characterize_config import CharacterizeImageConfig

LINES = (
    "characterizeImage.repair: Identified",
    "characterizeImage.detection: Detected",
    "characterizeImage.detection: Resubtracting the background after object detection",
    "characterizeImage.measurement: Measuring",
    "characterizeImage.measurePsf: Measuring PSF",
    "characterizeImage.measurePsf: PSF star selector found",
    "characterizeImage.measurePsf.reserve: Reserved",
    "characterizeImage.measurePsf: Sending",
    "characterizeImage.measurePsf: PSF determination using",
    "characterizeImage: iter 1; PSF sigma=1.",
    "characterizeImage: iter 2; PSF sigma=1.",
    "characterizeImage.measureApCorr: Measuring aperture corrections for 2 flux fields",
    "characterizeImage.measureApCorr: Aperture correction for base_PsfFlux: RMS",
    "characterizeImage.applyApCorr: Applying aperture corrections to 2 instFlux fields",
)


@pytest.fixture(scope="module")
def field():
    return make_star_field(
        (1200, 1200), 150, 100, sky=180.0, zero_point=31.2, magnitudes=(18.0, 24.0), cosmic_rays=30, seed=2
    )


@pytest.fixture(scope="module")
def done(field):
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(f"{record.name}: {record.getMessage()}")
    logger = logging.getLogger("characterizeImage")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = CharacterizeImageTask().run(field.exposure.copy())
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    return result, records


@pytest.mark.parametrize("line", LINES)
def test_the_log_tells_what_the_tutorial_tells(done, line):
    _, records = done
    assert any(record.startswith(line) for record in records), records


def test_the_psf_is_the_stars(done):
    result, _ = done
    exposure = result.characterized
    # 1.683 is the adaptive size of the simulated profile in the middle of the field.
    assert exposure.psf.sigma_at(600, 600) == pytest.approx(1.683, rel=0.01)
    assert exposure.psf.size == 41
    assert exposure.summary_stats["psfSigma"] == pytest.approx(1.683, rel=0.01)


def test_the_sky_is_taken_away(field, done):
    result, _ = done
    error = result.backgroundModel.image() - field.sky
    assert abs(error.mean()) < 0.3
    assert error.std() < 0.5
    total = result.characterized.image + result.backgroundModel.image()
    untouched = ~result.characterized.mask.is_set("CR")
    np.testing.assert_allclose(total[untouched], field.exposure.image[untouched], atol=0.02)


def test_cosmic_rays_are_masked_once_and_gone(field, done):
    result, _ = done
    mask = result.characterized.mask
    significant = field.deposits > 5 * 14
    assert mask.is_set("CR")[significant].mean() > 0.95
    assert mask.is_set("CR").sum() < 4 * significant.sum()


def test_a_fifth_of_the_stars_is_reserved_and_the_rest_used(done):
    catalog = done[0].sourceCat
    n = catalog["calib_psf_candidate"].sum()
    assert n > 25
    assert catalog["calib_psf_reserved"].sum() == int(0.2 * n)
    assert catalog["calib_psf_used"].sum() > 0.7 * n
    assert not (catalog["calib_psf_used"] & catalog["calib_psf_reserved"]).any()


def test_reserved_stars_agree_with_the_model_they_did_not_make(done):
    catalog = done[0].sourceCat
    rows = catalog[catalog["calib_psf_reserved"]]
    size = (rows["base_SdssShape_xx"] + rows["base_SdssShape_yy"]) / (
        rows["base_SdssShape_psf_xx"] + rows["base_SdssShape_psf_yy"]
    )
    error = np.sqrt(2) * rows["base_GaussianFlux_instFluxErr"] / rows["base_GaussianFlux_instFlux"]
    assert abs(np.median((size - 1) / error)) < 5 * 1.25 / np.sqrt(len(rows))


def test_corrected_psf_fluxes_are_those_of_the_reference_aperture(done):
    result, _ = done
    rows = result.sourceCat[result.sourceCat["calib_psf_used"]]
    ratio = rows["base_PsfFlux_instFlux"] / rows["base_CircularApertureFlux_12_0_instFlux"]
    error = (
        rows["base_CircularApertureFlux_12_0_instFluxErr"] / rows["base_CircularApertureFlux_12_0_instFlux"]
    )
    weight = 1 / error**2
    assert (weight * ratio).sum() / weight.sum() == pytest.approx(1.0, abs=4 / np.sqrt(weight.sum()) + 1e-3)
    assert set(result.characterized.ap_corr) == {"base_PsfFlux_instFlux", "base_GaussianFlux_instFlux"}


def test_identifiers_hold_exposure_and_detector(done):
    ids = done[0].sourceCat["id"]
    assert len(np.unique(ids)) == len(ids)
    assert set(np.asarray(ids) >> 22) == {1234 << 9 | 5}


def test_sources_have_sky_coordinates_of_the_first_wcs(field, done):
    catalog = done[0].sourceCat
    ra, dec = field.exposure.wcs.pixel_to_sky(catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"])
    np.testing.assert_allclose(catalog["coord_ra"], np.radians(ra))
    np.testing.assert_allclose(catalog["coord_dec"], np.radians(dec))


@pytest.mark.parametrize("n_stars", [5, 12])
def test_a_handful_of_stars_suffices(n_stars):
    field = make_star_field(
        (500, 500), n_stars, 0, sky=180.0, zero_point=31.2, magnitudes=(18.5, 19.5), grid=True, variation=0.0
    )
    result = CharacterizeImageTask().run(field.exposure)
    assert result.characterized.psf.sigma_at(250, 250) == pytest.approx(1.68, rel=0.02)
    assert result.sourceCat["calib_psf_used"].sum() >= 4


def test_without_stars_the_guess_stays_and_a_warning_says_so(caplog):
    rng = np.random.default_rng(0)
    image = rng.normal(200, 14, (400, 400)).astype(np.float32)
    with caplog.at_level(logging.WARNING, logger="characterizeImage"):
        result = CharacterizeImageTask().run(Exposure(image, variance=np.full((400, 400), 196, "f4")))
    assert "No star to measure the PSF with" in caplog.text
    assert result.characterized.psf.sigma_at(200, 200) == pytest.approx(3.5323 / 2.3548, rel=0.01)
    assert len(result.sourceCat) == 0
    assert "base_PsfFlux_instFlux" in result.sourceCat.colnames


def test_an_exposure_without_a_usable_pixel_is_no_work():
    exposure = Exposure(np.zeros((100, 100), np.float32))
    exposure.mask.set_where(np.ones((100, 100), bool), "BAD")
    with pytest.raises(NoWorkFound):
        CharacterizeImageTask().run(exposure)


def test_the_psf_can_be_left_as_it_is(field):
    config = CharacterizeImageConfig()
    config.doMeasurePsf = False
    config.repair.doCosmicRay = False
    exposure = field.exposure.copy()
    exposure.psf = Psf.gaussian(1.9)
    result = CharacterizeImageTask(config=config).run(exposure)
    assert result.characterized.psf is exposure.psf
    assert not result.characterized.mask.is_set("CR").any()
    assert not result.sourceCat["calib_psf_candidate"].any()


@pytest.mark.parametrize("sigma", [0.8, 3.0])
def test_stars_far_from_the_guess_are_neither_cosmic_rays_nor_missed(sigma):
    field = make_star_field(
        (700, 700), 100, 40, sky=180.0, zero_point=31.2, magnitudes=(17.0, 23.0), sigma=sigma, seed=4
    )
    result = CharacterizeImageTask().run(field.exposure)
    assert result.characterized.mask.is_set("CR").sum() == 0
    assert result.characterized.psf.sigma_at(350, 350) == pytest.approx(0.99 * sigma, rel=0.04)
    assert result.sourceCat["calib_psf_used"].sum() > 8


def test_bad_rows_nan_pixels_and_missing_variance_do_no_harm():
    field = make_star_field((700, 700), 100, 40, sky=180.0, zero_point=31.2, magnitudes=(17.0, 23.0), seed=4)
    exposure = field.exposure
    exposure.image[100:110] = np.nan
    exposure.image[:, 500] = np.nan
    exposure.mask.array[100:110] |= exposure.mask.bitmask("NO_DATA")
    exposure.image[300:320, 300:400] = 1e5
    exposure.mask.array[300:320, 300:400] |= exposure.mask.bitmask(("BAD", "SAT"))
    exposure.variance[400:405] = np.nan
    result = CharacterizeImageTask().run(exposure)
    assert result.characterized.psf.sigma_at(350, 350) == pytest.approx(1.683, rel=0.03)
    good = result.sourceCat[~result.sourceCat["base_PsfFlux_flag"]]
    assert np.isfinite(good["base_PsfFlux_instFlux"]).all()
    assert not np.isnan(result.backgroundModel.image()).any()
