from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from public_frames import public_data
from star_field import make_star_field

from butler_dask.imaging.cosmic_rays import find_cosmic_rays, repair_cosmic_rays
from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.psf import Psf


@pytest.fixture(scope="module")
def struck():
    field = make_star_field(
        (1024, 1024),
        150,
        100,
        sky=180.0,
        zero_point=31.2,
        magnitudes=(16.5, 25.0),
        cosmic_rays=60,
        sky_gradient=0,
    )
    field.exposure.image -= field.sky.astype(np.float32)
    found = find_cosmic_rays(field.exposure, Psf.gaussian(1.7))
    hit = np.zeros(field.exposure.shape, bool)
    hit[found.y, found.x] = True
    return field, found, hit


def test_nearly_all_significant_pixels_of_tracks_are_found(struck):
    field, _, hit = struck
    significant = field.cosmic_rays & (field.deposits > 5 * np.sqrt(180 + 4.5**2))
    assert hit[significant].mean() > 0.97


def test_hardly_any_other_pixel_is_taken(struck):
    field, found, hit = struck
    near = np.zeros_like(hit)
    y, x = np.nonzero(field.cosmic_rays)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near[np.clip(y + dy, 0, 1023), np.clip(x + dx, 0, 1023)] = True
    assert (hit & ~near).sum() <= 4
    assert found.n_objects == pytest.approx(60, abs=8)


def test_no_star_is_taken_even_with_a_narrow_guess_of_the_psf():
    field = make_star_field(
        (1024, 1024), 200, 0, sky=180.0, zero_point=31.2, magnitudes=(16.5, 22.0), sky_gradient=0, seed=4
    )
    field.exposure.image -= field.sky.astype(np.float32)
    for sigma in (1.3, 1.5, 1.7, 1.9):
        assert find_cosmic_rays(field.exposure, Psf.gaussian(sigma)).n_objects == 0


def test_pure_noise_has_no_cosmic_rays():
    rng = np.random.default_rng(0)
    exposure = Exposure(
        rng.normal(0, 10, (800, 800)).astype(np.float32), variance=np.full((800, 800), 100, "f4")
    )
    assert find_cosmic_rays(exposure, Psf.gaussian(1.7)).n_objects == 0


def test_repair_masks_the_pixels_and_restores_the_sky(struck):
    field, found, _ = struck
    exposure = field.exposure.copy()
    before = exposure.image.copy()
    repair_cosmic_rays(exposure, found)
    assert exposure.mask.is_set("CR").sum() == len(found.y)
    assert exposure.mask.is_set("INTRP")[found.y, found.x].all()
    untouched = ~exposure.mask.is_set("CR")
    np.testing.assert_array_equal(exposure.image[untouched], before[untouched])
    # Half of them lie on sky.
    assert abs(np.median(exposure.image[found.y, found.x])) < 14
    assert np.median(exposure.variance[found.y, found.x]) == pytest.approx(200, rel=0.15)


def test_masked_pixels_are_left_alone(struck):
    field, found, _ = struck
    exposure = field.exposure.copy()
    exposure.mask.array[found.y, found.x] |= exposure.mask.bitmask("BAD")
    again = find_cosmic_rays(exposure, Psf.gaussian(1.7))
    assert not exposure.mask.is_set("BAD")[again.y, again.x].any()


def test_a_real_frame_loses_its_tracks():
    image = fits.getdata(public_data("cosmicray") / "gmos.fits").astype(np.float32)
    sky = float(np.median(image))
    sigma = 1.4826 * float(np.median(np.abs(image - sky)))
    variance = np.maximum(sigma**2 + (image - sky), sigma**2).astype(np.float32)
    exposure = Exposure(image - np.float32(sky), variance=variance)
    found = find_cosmic_rays(exposure, Psf.gaussian(2.0))
    # Two tracks across spectral lines, which are sharp in one direction only.
    assert found.n_objects == 2
    repair_cosmic_rays(exposure, found)
    assert not (exposure.image > 20 * sigma).any()
