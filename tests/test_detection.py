from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import find_objects, gaussian_filter, label
from scipy.spatial import cKDTree
from star_field import make_star_field

from butler_dask.imaging.background import fit_background, subtract_background
from butler_dask.imaging.detection import (
    convolve_gaussian,
    detect_sources,
    significance_image,
)
from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.footprints import find_footprints
from butler_dask.imaging.mask import Mask
from butler_dask.imaging.sky_sources import sky_positions


def _blank(shape, sigma=10.0, seed=0):
    rng = np.random.default_rng(seed)
    return Exposure(
        rng.normal(0, sigma, shape).astype(np.float32), variance=np.full(shape, sigma**2, np.float32)
    )


def _add_gaussian(exposure, x, y, flux, sigma):
    v, u = np.mgrid[0 : exposure.shape[0], 0 : exposure.shape[1]]
    star = np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    exposure.image += (flux * star).astype(np.float32)


def test_convolution_equals_scipys():
    image = np.random.default_rng(0).normal(0, 1, (97, 130)).astype(np.float32)
    expected = gaussian_filter(image.astype(np.float64), 1.7, mode="constant", truncate=4.1)
    np.testing.assert_allclose(convolve_gaussian(image, 1.7), expected, atol=2e-6)


def test_significance_of_pure_noise_has_unit_width():
    significance = significance_image(_blank((600, 600)), 1.7)
    # 360000 pixels hold about 9900 independent ones.
    assert significance.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * 9900))


def test_pure_noise_gives_nothing_at_six_sigma():
    exposure = _blank((800, 800))
    found = detect_sources(exposure, 1.7, 6.0)
    assert len(found.positive) == 0
    assert len(found.negative) == 0
    assert not exposure.mask.is_set("DETECTED").any()


def test_peak_significance_is_the_matched_filters_signal_to_noise():
    sigma, flux = 1.7, 4000.0
    exposure = _blank((101, 101))
    _add_gaussian(exposure, 50, 50, flux, sigma)
    found = detect_sources(exposure, sigma, 5.0).positive
    expected = flux / (10.0 * np.sqrt(4 * np.pi * sigma**2))
    assert len(found) == 1
    assert found.peak_significance[0] == pytest.approx(expected, abs=4)
    assert (abs(found.peak_x[0] - 50), abs(found.peak_y[0] - 50)) <= (1, 1)


def test_holes_are_found_below_the_sky():
    exposure = _blank((101, 101))
    _add_gaussian(exposure, 30, 60, -4000.0, 1.7)
    found = detect_sources(exposure, 1.7, 5.0)
    assert len(found.negative) == 1
    assert len(found.positive) == 0
    assert exposure.mask.is_set("DETECTED_NEGATIVE")[60, 30]


def test_two_stars_in_one_footprint_are_two_peaks_but_noise_is_none():
    exposure = _blank((81, 81))
    _add_gaussian(exposure, 36, 40, 60000.0, 1.8)
    _add_gaussian(exposure, 43, 40, 30000.0, 1.8)
    found = detect_sources(exposure, 1.8, 5.0, min_prominence=3.0).positive
    assert len(found) == 1
    assert found.n_peaks == 2
    assert sorted(found.peak_x) == pytest.approx([36, 43], abs=1)
    assert found.peak_significance[0] > found.peak_significance[1]


def test_footprints_grow_merge_and_count_their_pixels():
    significance = np.zeros((40, 40), np.float32)
    significance[10, 10] = significance[10, 16] = 9
    apart = find_footprints(significance, 5.0, grow_pixels=2.0)
    assert len(apart) == 2
    assert list(apart.areas) == [13, 13]
    np.testing.assert_array_equal(apart.boxes[0], [8, 8, 13, 13])
    together = find_footprints(significance, 5.0, grow_pixels=3.0)
    assert len(together) == 1
    assert together.n_peaks == 2
    assert together.areas[0] == (together.labels == 1).sum()


def test_small_footprints_can_be_left_out():
    significance = np.zeros((40, 40), np.float32)
    significance[10, 10] = 9
    significance[20:22, 20:22] = 8
    found = find_footprints(significance, 5.0, min_pixels=3)
    assert len(found) == 1
    assert found.peak_footprint.tolist() == [1]
    assert found.labels.max() == 1


def test_stars_are_found_as_the_noise_allows_and_little_else():
    field = make_star_field((1024, 1024), 150, 0, sky=300.0, zero_point=31.0, seed=11)
    exposure = field.exposure
    subtract_background(exposure, fit_background(exposure))
    found = detect_sources(exposure, 1.7, 5.0, min_prominence=3.0, min_contrast=0.003).positive
    tree = cKDTree(np.column_stack([found.peak_x, found.peak_y]))
    # Noise of a matched-filter flux.
    noise = np.sqrt(320 * 4 * np.pi * 1.7**2)
    expected = field.truth["flux"] > 8 * noise
    distance, _ = tree.query(np.column_stack([field.truth["x"], field.truth["y"]]))
    assert np.mean(distance[expected] < 2) > 0.95
    back, _ = cKDTree(np.column_stack([field.truth["x"], field.truth["y"]])).query(tree.data)
    assert (back > 4).sum() <= 2


def test_sky_sources_keep_clear_of_sources_and_of_each_other():
    mask = Mask.zeros((300, 400))
    busy = np.zeros((300, 400), bool)
    busy[:, :200] = True
    mask.set_where(busy, "DETECTED")
    x, y = sky_positions(mask, 30, radius=8, seed=4)
    assert len(x) == 30
    assert x.min() >= 208
    d = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))[~np.eye(len(x), dtype=bool)]
    assert d.min() > 16
    again = sky_positions(mask, 30, radius=8, seed=4)
    np.testing.assert_array_equal(again[0], x)


def test_no_sky_sources_where_there_is_no_sky():
    mask = Mask.zeros((100, 100))
    mask.set_where(np.ones((100, 100), bool), "DETECTED")
    assert len(sky_positions(mask, 10)[0]) == 0
    assert len(sky_positions(Mask.zeros((10, 10)), 10)[0]) == 0


@pytest.mark.parametrize("fill", [0.02, 0.2, 0.5])
def test_footprints_are_the_connected_patches(fill):
    rng = np.random.default_rng(int(100 * fill))
    significance = np.where(rng.random((60, 83)) < fill, 9.0, 0.0).astype(np.float32)
    found = find_footprints(significance, 5.0)
    expected, n = label(significance > 0, structure=np.ones((3, 3)))
    assert len(found) == n
    np.testing.assert_array_equal(found.labels, expected)
    np.testing.assert_array_equal(found.areas, np.bincount(expected.ravel())[1:])
    boxes = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in find_objects(expected)]
    np.testing.assert_array_equal(found.boxes, boxes)
    assert set(found.peak_footprint) == set(range(1, n + 1))
