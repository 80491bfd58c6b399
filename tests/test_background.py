from __future__ import annotations

import numpy as np
import pytest
from star_field import make_star_field

from butler_dask.imaging.background import (
    BackgroundList,
    BackgroundModel,
    fit_background,
    subtract_background,
)
from butler_dask.imaging.exposure import Exposure


def _noise(shape, level, sigma, seed=0):
    rng = np.random.default_rng(seed)
    image = (level + rng.normal(0, sigma, shape)).astype(np.float32)
    return Exposure(image, variance=np.full(shape, sigma**2, np.float32))


def test_flat_sky_is_found_to_within_its_noise():
    model = fit_background(_noise((512, 640), 500.0, 10.0), 128)
    # Each bin averages 128 x 128 pixels: 0.08; the spline lets the corners extrapolate.
    assert np.abs(model.levels - 500).max() < 5 * 10 / 128
    assert np.abs(model.image() - 500).max() < 10 * 10 / 128


def test_gradient_and_curvature_are_followed_by_the_spline():
    y, x = np.mgrid[0:768, 0:768] / 768.0
    truth = 300 + 20 * x - 10 * y + 8 * (x - 0.5) ** 2
    exposure = _noise((768, 768), 0.0, 5.0)
    exposure.image += truth.astype(np.float32)
    error = fit_background(exposure, 96).image() - truth
    assert np.abs(error).max() < 0.6
    assert error.std() < 5 * 5.0 / 96


def test_bright_pixels_do_not_raise_the_level():
    exposure = _noise((256, 256), 100.0, 5.0)
    rng = np.random.default_rng(1)
    rows = rng.random((256, 256)) < 0.02
    exposure.image[rows] += 1000
    assert fit_background(exposure, 64).levels.mean() == pytest.approx(100, abs=5 * 5 / 256)


def test_masked_bins_take_their_neighbours_level():
    exposure = _noise((512, 512), 100.0, 3.0)
    hole = np.zeros((512, 512), bool)
    hole[128:256, 128:256] = True
    exposure.image[hole] = 1e5
    exposure.mask.set_where(hole, "SAT")
    model = fit_background(exposure, 128)
    assert np.abs(model.image() - 100).max() < 1.0


def test_an_exposure_without_sky_is_an_error_that_says_so():
    exposure = _noise((64, 64), 1.0, 1.0)
    exposure.mask.set_where(np.ones((64, 64), bool), "BAD")
    with pytest.raises(ValueError, match="No bin of 32 pixels"):
        fit_background(exposure, 32)


def test_a_list_of_backgrounds_survives_conversion_to_arrays():
    exposure = _noise((200, 300), 50.0, 2.0)
    first = fit_background(exposure, 64)
    subtract_background(exposure, first)
    second = fit_background(exposure, 50, interpolation="linear")
    models = BackgroundList([first, second])
    again = BackgroundList.from_arrays(models.to_arrays())
    np.testing.assert_array_equal(again.image(), models.image())
    assert [m.interpolation for m in again] == ["spline", "linear"]
    assert again.image().mean() == pytest.approx(50, abs=0.1)


def test_arrays_of_a_later_format_are_refused():
    arrays = BackgroundList([BackgroundModel(np.ones((1, 1)), np.zeros(1), np.zeros(1), (4, 4))]).to_arrays()
    arrays["version"] = np.array([99])
    with pytest.raises(ValueError, match="later"):
        BackgroundList.from_arrays(arrays)


def test_an_empty_list_needs_a_shape():
    assert BackgroundList().image((3, 4)).shape == (3, 4)
    with pytest.raises(ValueError, match="shape"):
        BackgroundList().image()


def test_sky_under_a_star_field_is_unbiased():
    field = make_star_field((768, 768), 150, 80, sky=300.0, seed=5)
    error = fit_background(field.exposure, 96).image() - field.sky
    # Not even masked, faint sources raise the clipped level by less than a tenth of the noise.
    assert abs(np.median(error)) < 0.1 * 18
