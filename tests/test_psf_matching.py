import numpy as np
import pytest
from lsst.pex.config import FieldValidationError

from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.photo_calib import PhotoCalib
from butler_dask.imaging.psf import Psf
from butler_dask.imaging.psf_matching import gaussian_psf, match_psf, matching_kernel
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.imaging.skymap import SkyMap
from butler_dask.tasks.warp import MakeWarpTask

SHAPE = (400, 420)


def star(shape, x, y, sigma):
    yy, xx = np.indices(shape)
    return np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / sigma**2) / (2 * np.pi * sigma**2)


def varying_psf():
    # Width 1.6 pixels on the left, 2.0 on the right: a polynomial through three Gaussians.
    left, middle, right = (star((41, 41), 20, 20, s) for s in (1.6, 1.8, 2.0))
    zero = np.zeros_like(middle)
    coefficients = np.stack([middle, 0.5 * (right - left), zero, 0.5 * (right + left) - middle, zero, zero])
    return Psf(coefficients, 2, (209.5, 199.5), (209.5, 199.5))


def test_the_kernel_turns_one_gaussian_into_another():
    kernel = matching_kernel(star((41, 41), 20, 20, 1.7), star((41, 41), 20, 20, 3.0), 21)
    expected = star((21, 21), 10, 10, np.sqrt(3.0**2 - 1.7**2))
    assert np.abs(kernel - expected).max() < 0.02 * expected.max()


def test_stars_of_a_varying_psf_all_get_the_wanted_one():
    image = np.zeros(SHAPE)
    places = [(40, 60), (200, 200), (380, 330), (60, 350)]
    for x, y in places:
        image += 1e5 * star(SHAPE, x, y, 1.8 + 0.2 * (x - 209.5) / 209.5)
    target = gaussian_psf(7.0)
    matched = match_psf(Exposure(image.astype(np.float32), psf=varying_psf()), target)
    wanted = target.image_at(0, 0)
    half = wanted.shape[0] // 2
    for x, y in places:
        stamp = matched.image[y - half : y + half + 1, x - half : x + half + 1] / 1e5
        assert np.abs(stamp - wanted).max() < 0.01 * wanted.max()
        assert stamp.sum() == pytest.approx(1.0, abs=2e-3)
    assert matched.psf is target


def test_variance_falls_as_the_noise_does():
    noise = np.random.default_rng(1).normal(0, 10, SHAPE).astype(np.float32)
    exposure = Exposure(noise, variance=np.full(SHAPE, 100, np.float32), psf=Psf.gaussian(1.7))
    matched = match_psf(exposure, gaussian_psf(7.0))
    inner = (slice(20, -20), slice(20, -20))
    # About 5000 independent patches of noise: 5 sigma.
    assert matched.image[inner].var() == pytest.approx(np.median(matched.variance[inner]), rel=0.1)


def test_gaps_grow_by_half_a_kernel_and_flags_spread():
    exposure = Exposure(np.ones(SHAPE, np.float32), psf=Psf.gaussian(1.7))
    exposure.image[:, :50] = np.nan
    exposure.mask.array[200, 200] |= exposure.mask.bitmask("CR")
    matched = match_psf(exposure, gaussian_psf(7.0), kernel_size=21)
    assert np.isnan(matched.image[:, :60]).all()
    assert np.isfinite(matched.image[:, 60:]).all()
    assert matched.mask.is_set("NO_DATA").sum() == SHAPE[0] * 60
    assert 20 < matched.mask.is_set("CR").sum() < 250
    assert np.isnan(exposure.image[:, :50]).all()


def test_an_exposure_without_psf_is_refused():
    with pytest.raises(ValueError, match="characterizeImage"):
        match_psf(Exposure(np.zeros(SHAPE, np.float32)), gaussian_psf(7.0))


def test_make_warp_writes_the_matched_warp_when_asked():
    scale = 0.2 / 3600
    exposure = Exposure(
        (1e5 * star(SHAPE, 210, 200, 1.8)).astype(np.float32),
        variance=np.ones(SHAPE, np.float32),
        wcs=SkyWcs.tangent((210.0, 200.0), (10.0, 5.0), np.array([[-scale, 0.0], [0.0, scale]])),
        psf=Psf.gaussian(1.8),
        photo_calib=PhotoCalib(1.0),
    )
    skymap = SkyMap.discrete(
        "t",
        [10.0],
        [5.0],
        [0.008],
        patch_inner_dimensions=(300, 300),
        tract_overlap_deg=0,
        pixel_scale_arcsec=0.2,
    )
    config = MakeWarpTask.ConfigClass()
    assert "psfMatched" not in config.ConnectionsClass(config=config).outputs
    config.makePsfMatched = True
    assert "psfMatched" in config.ConnectionsClass(config=config).outputs
    result = MakeWarpTask(config=config).run([exposure], skymap, tract=0, patch=0)
    wanted = gaussian_psf(config.modelPsfFwhm).image_at(0, 0)
    assert np.nanmax(result.psfMatched.image) == pytest.approx(1e5 * wanted.max(), rel=0.02)
    assert np.nanmax(result.direct.image) > 3 * np.nanmax(result.psfMatched.image)


def test_making_nothing_is_an_error():
    config = MakeWarpTask.ConfigClass()
    config.makeDirect = False
    with pytest.raises(FieldValidationError, match="nothing to make"):
        config.validate()
