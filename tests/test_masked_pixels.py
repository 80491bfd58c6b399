from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from butler_dask.imaging.defects import defects_table, find_defects, mask_defects
from butler_dask.imaging.interpolation import fill_pixels, interpolate_pixels
from butler_dask.imaging.mask import Mask
from butler_dask.imaging.saturation import grow_mask, mask_edges
from butler_dask.imaging.sky_level import clipped_median, measure_sky


def masked(shape, where, plane="BAD"):
    mask = Mask.zeros(shape)
    mask.array[where] |= mask.bitmask(plane)
    return mask


def test_a_plane_is_restored_exactly_by_interpolation():
    y, x = np.mgrid[:60, :80]
    plane = (3.0 + 0.5 * x - 0.25 * y).astype(np.float32)
    where = np.zeros(plane.shape, dtype=bool)
    where[:, 20:23] = True
    where[40, 30:60] = True
    image = np.where(where, np.float32(-999.0), plane)
    mask = masked(plane.shape, where)
    n = interpolate_pixels(image, np.ones_like(image), mask)
    assert n == where.sum()
    assert (mask.is_set("INTRP") == where).all()
    inner = np.s_[8:-8, :]
    np.testing.assert_allclose(image[inner], plane[inner], atol=0.2)
    assert (image[~where] == plane[~where]).all()


def test_pixels_without_neighbours_get_the_fallback():
    image = np.full((100, 100), 7.0, dtype=np.float32)
    where = np.zeros(image.shape, dtype=bool)
    where[:90] = True
    mask = masked(image.shape, where)
    image[where] = np.nan
    interpolate_pixels(image, np.ones_like(image), mask, reach=5, fallback=-1.0)
    assert (image[:84] == -1.0).all()
    assert (image[86:90] == 7.0).all()


def test_nothing_masked_changes_nothing():
    image = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    before = image.copy()
    assert interpolate_pixels(image, np.ones_like(image), Mask.zeros(image.shape)) == 0
    assert (image == before).all()


def test_fill_sets_only_the_planes_named():
    image = np.zeros((5, 5), dtype=np.float32)
    mask = masked(image.shape, np.s_[2, 2], "SAT")
    mask.array[1, 1] |= mask.bitmask("BAD")
    assert fill_pixels(image, mask, ("BAD",), 3.0) == 1
    assert image[1, 1] == 3.0
    assert image.sum() == 3.0


def test_masks_grow_plane_by_plane():
    mask = masked((20, 20), np.s_[10, 10], "SAT")
    mask.array[3, 3] |= mask.bitmask("CR")
    grow_mask(mask, ("SAT", "BAD"), 2)
    assert mask.is_set("SAT").sum() == 25
    assert mask.is_set("CR").sum() == 1


def test_edges_are_a_frame():
    mask = Mask.zeros((10, 12))
    mask_edges(mask, 2)
    assert (~mask.is_set("SUSPECT")).sum() == 6 * 8


def test_defects_outside_the_detector_are_cut():
    mask = Mask.zeros((10, 10))
    mask_defects(mask, defects_table([(-5, 8, 7, 10), (20, 20, 3, 3), (-9, -9, 2, 2)]))
    assert mask.is_set("BAD").sum() == 2 * 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(0, 11), st.integers(1, 5), st.integers(1, 12)), max_size=6
    )
)
def test_defects_found_in_an_image_mask_the_same_pixels(boxes):
    mask = Mask.zeros((12, 16))
    mask_defects(mask, defects_table(boxes))
    again = Mask.zeros((12, 16))
    mask_defects(again, find_defects(mask.is_set("BAD")))
    assert (again.array == mask.array).all()


def test_sky_is_measured_in_spite_of_sources_and_bad_pixels():
    random = np.random.default_rng(3)
    image = random.normal(200.0, 10.0, (512, 768)).astype(np.float32)
    image[::9, ::7] += 5000.0
    image[100:200, 300:400] = 1e6
    mask = masked(image.shape, np.s_[100:200, 300:400])
    sky = measure_sky(image, mask, step=2)
    # One pixel in 63 is a source: the median moves by 1.25 * 10 * 0.008.
    assert abs(sky.level - 200.0) < 0.5
    assert abs(sky.sigma - 10.0) < 0.5
    assert (sky.n_x, sky.n_y) == (3, 2)
    assert sky.flatness_rms < 0.01


def test_the_clipped_median_of_nothing_is_nan():
    assert all(np.isnan(clipped_median(np.zeros(0, dtype=np.float32))))
    assert clipped_median(np.full(10, 3.0, dtype=np.float32)) == (3.0, 0.0)
