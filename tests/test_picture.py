from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.picture import (
    MASK_COLORS,
    PictureStyle,
    block_reduced,
    draw_exposure,
    write_picture,
    zscale_limits,
)

NO_VALUE = (0x30 / 255, 0x20 / 255, 0x38 / 255)
"""Colour of pixels that are not finite; the scene has a frame of them, by which it is found on its page."""


SMALL = PictureStyle(size_inches=5.0)


class Page:
    """A written picture, looked at by the pixels of the image it shows (x, y from 0, y upwards)."""

    def __init__(self, path, shape):
        self.rgb = imread(path)[..., :3]
        rows, columns = np.nonzero(np.abs(self.rgb - NO_VALUE).max(axis=-1) < 0.01)
        assert rows.size, "no frame of missing pixels: the picture is empty"
        self.top, self.bottom = rows.min(), rows.max() + 1
        self.left, self.right = columns.min(), columns.max() + 1
        self.shape = shape
        self.scale = (self.right - self.left) / shape[1]
        assert (self.bottom - self.top) / shape[0] == pytest.approx(self.scale, rel=0.05)

    def place(self, x, y):
        """Return row and column of the page where an image position is."""
        return self.bottom - (y + 0.5) * self.scale, self.left + (x + 0.5) * self.scale

    def color(self, x, y):
        """Return the colour in the middle of a pixel of the image."""
        row, column = (int(v) for v in self.place(x, y))
        return np.median(self.rgb[row - 2 : row + 3, column - 2 : column + 3], axis=(0, 1))

    def shades(self):
        """Return the colours of all pixels of the image, shape (ny, nx, 3)."""
        ny, nx = self.shape
        return np.array([[self.color(x, y) for x in range(nx)] for y in range(ny)])


@pytest.fixture
def scene():
    """An exposure of 32 x 24 pixels, each row and column of its own brightness, with a frame of NaN."""
    y, x = np.mgrid[:24, :32].astype(np.float32)
    result = Exposure(10.0 + 1.2 * x + 1.7 * y)
    result.image[17, 25] = 100.0
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        result.image[edge] = np.nan
    return result


def drawn(scene, path, **kwargs):
    draw_exposure(scene, path, limits=(0.0, 100.0), **{"stretch": "zscale", "style": SMALL} | kwargs)
    return Page(path, scene.shape)


def test_every_pixel_has_its_place_and_its_shade(scene, tmp_path):
    shades = drawn(scene, tmp_path / "page.png").shades()
    inner = np.s_[1:-1, 1:-1]
    expected = np.repeat(scene.image[:, :, np.newaxis] / 100.0, 3, axis=2)
    np.testing.assert_allclose(shades[inner], expected[inner], atol=0.008)  # two steps of 1/255
    assert shades[17, 25].min() > 0.99
    for flipped in (shades[::-1], shades[:, ::-1], shades[::-1, ::-1]):
        assert flipped[17, 25].max() < 0.7


@pytest.mark.parametrize(
    ("stretch", "shade"),
    [
        ("sqrt", lambda v: np.sqrt(v / 100.0)),
        ("log", lambda v: np.log10(v / 0.01) / 4.0),  # four decades below the upper limit are shown
    ],
)
def test_stretches_are_the_functions_they_are_named_for(scene, stretch, shade, tmp_path):
    shades = drawn(scene, tmp_path / "page.png", stretch=stretch).shades()[1:-1, 1:-1, 0]
    np.testing.assert_allclose(shades, shade(scene.image[1:-1, 1:-1]), atol=0.008)


def test_asinh_is_linear_in_the_background_and_compresses_the_stars(tmp_path):
    rng = np.random.default_rng(2)
    image = rng.normal(100.0, 10.0, (24, 32)).astype(np.float32)
    image[17, 25], image[5, 5] = 1e4, 1e3
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        image[edge] = np.nan
    draw_exposure(image, tmp_path / "page.png", limits=(70.0, 1e4), style=SMALL)
    shades = Page(tmp_path / "page.png", image.shape).shades()[..., 0]
    sky = np.isfinite(image) & (image < 500)
    assert np.corrcoef(image[sky], shades[sky])[0, 1] > 0.95
    assert np.ptp(shades[sky]) > 0.2
    # A tenth as bright as the other, and yet not black beside it.
    assert shades[sky].max() < 0.5 < shades[5, 5] < shades[17, 25]
    assert shades[17, 25] > 0.99


def test_mask_planes_are_laid_over_in_their_colours(scene, tmp_path):
    planes = {"SAT": (5, 20), "CR": (20, 4), "EDGE": (28, 15), "NO_DATA": (9, 9)}
    for plane, (x, y) in planes.items():
        scene.mask.array[y, x] |= scene.mask.bitmask(plane)
    page = drawn(scene, tmp_path / "page.png", style=replace(SMALL, mask_opacity=0.6))
    for plane, (x, y) in planes.items():
        expected = 0.4 * scene.image[y, x] / 100.0 + 0.6 * np.array(to_rgb(MASK_COLORS[plane]))
        np.testing.assert_allclose(page.color(x, y), expected, atol=0.01, err_msg=plane)
        assert np.ptp(page.color(31 - x, y)) < 0.01
        assert np.ptp(page.color(x, 23 - y)) < 0.01
        # The legend, right of the picture, has the colour without what is below it.
        legend = page.rgb[page.top : page.bottom, page.right :]
        assert (np.abs(legend - to_rgb(MASK_COLORS[plane])).max(axis=-1) < 0.01).sum() > 20
    bare = drawn(scene, tmp_path / "bare.png", mask_planes=["none"])
    assert np.ptp(bare.color(5, 20)) < 0.01


def test_the_colour_bar_goes_from_black_up_to_white(scene, tmp_path):
    page = drawn(scene, tmp_path / "page.png", mask_planes=["none"])
    right = page.rgb[page.top : page.bottom, page.right + 4 :]
    height = len(right)
    top, middle, bottom = (right[int(f * height)].mean(axis=-1) for f in (0.05, 0.5, 0.95))
    bar = (top > 0.9) & (np.abs(middle - 0.5) < 0.03) & (bottom < 0.1)
    assert 5 < bar.sum() < 0.1 * page.rgb.shape[1]


def test_sources_are_circled_on_the_page_where_they_are(scene, tmp_path):
    x, y = 22.0, 8.0
    style = replace(SMALL, source_radius_pixels=3.0)
    page = drawn(scene, tmp_path / "page.png", sources=np.array([[x, y]]), style=style)
    red = page.rgb[..., 0] - page.rgb[..., 1:].max(axis=-1) > 0.3
    rows, columns = np.nonzero(red)
    row, column = page.place(x, y)
    assert np.hypot(rows.mean() - row, columns.mean() - column) < 0.1 * page.scale
    radius = np.hypot(rows - row, columns - column) / page.scale
    assert radius == pytest.approx(3.0, abs=0.2)


def test_another_colour_map_is_used_as_it_is(scene, tmp_path):
    page = drawn(scene, tmp_path / "page.png", style=replace(SMALL, color_map="viridis"))
    expected = colormaps["viridis"](scene.image[6, 10] / 100)[:3]
    np.testing.assert_allclose(page.color(10, 6), expected, atol=0.01)


@pytest.fixture
def exposure():
    rng = np.random.default_rng(1)
    result = Exposure(rng.normal(100, 10, (300, 200)).astype(np.float32), xy0=(1000, 2000))
    result.image[150, 100] = 1e4
    result.mask.array[:10] |= result.mask.bitmask("EDGE")
    result.mask.array[150, 100] |= result.mask.bitmask("SAT")
    result.mask.array[20, 20] |= result.mask.bitmask("DETECTED")
    return result


def legend_of(figure):
    legend = figure.axes[0].get_legend()
    return [] if legend is None else [t.get_text().split()[0] for t in legend.get_texts()]


def test_a_picture_is_written_as_an_image_file(exposure, tmp_path):
    path = tmp_path / "picture.png"
    draw_exposure(exposure, path, title="calexp visit=903344", unit="electrons")
    assert min(imread(path).shape[:2]) > 200
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_masks_that_are_set_are_drawn_and_named(exposure):
    assert legend_of(draw_exposure(exposure)) == ["SAT", "EDGE"]
    assert legend_of(draw_exposure(exposure, mask_planes=["all"])) == ["SAT", "EDGE", "DETECTED"]
    assert legend_of(draw_exposure(exposure, mask_planes=["none"])) == []
    assert legend_of(draw_exposure(exposure, mask_planes=["DETECTED"])) == ["DETECTED"]


def test_axes_count_pixels_of_the_parent_frame(exposure):
    axes = draw_exposure(exposure).axes[0]
    assert axes.get_xlim() == (999.5, 1199.5)
    assert axes.get_ylim() == (1999.5, 2299.5)


def test_a_box_draws_only_its_part(exposure):
    figure = draw_exposure(exposure, bbox=(1050, 2100, 80, 60))
    assert figure.axes[0].get_xlim() == (1049.5, 1129.5)
    assert legend_of(figure) == ["SAT"]
    with pytest.raises(ValueError, match="holds no pixel"):
        draw_exposure(exposure, bbox=(0, 0, 10, 10))


@pytest.mark.parametrize("stretch", ["asinh", "zscale", "minmax", "log", "sqrt"])
def test_every_stretch_draws_raws_and_warps_with_gaps(exposure, stretch, tmp_path):
    raw = exposure.image.astype(np.uint16)
    exposure.image[:, :50] = np.nan
    for i, thing in enumerate((raw, exposure)):
        write_picture(draw_exposure(thing, stretch=stretch), tmp_path / f"{i}.png", dpi=40)


def test_an_image_without_a_finite_pixel_is_still_drawn(tmp_path):
    draw_exposure(np.full((20, 30), np.nan), tmp_path / "empty.png")
    draw_exposure(np.zeros((20, 30)), tmp_path / "flat.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_sources_are_circled_where_they_are(exposure):
    sources = Table({"base_SdssCentroid_x": [10.0, np.nan], "base_SdssCentroid_y": [20.0, 5.0]})
    (circles,) = draw_exposure(exposure, sources=sources).axes[0].collections
    assert circles.get_offsets().tolist() == [[1010.0, 2020.0]]
    (circles,) = draw_exposure(exposure, sources=np.array([[1.0, 2.0], [3.0, 4.0]])).axes[0].collections
    assert len(circles.get_offsets()) == 2
    with pytest.raises(ValueError, match="base_SdssCentroid_x"):
        draw_exposure(exposure, sources=Table({"ra": [1.0]}))


def test_sky_sources_are_not_circled_and_the_unit_is_the_exposures(exposure):
    exposure.metadata["BUNIT"] = "nJy"
    sources = Table({"x": [1.0, 2.0], "y": [1.0, 2.0], "sky_source": [True, False]})
    figure = draw_exposure(exposure, sources=sources)
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[1002.0, 2002.0]]
    assert "nJy" in next(child.get_ylabel() for child in figure.axes[0].child_axes)


def test_large_images_are_reduced_by_a_whole_factor():
    figure = draw_exposure(np.zeros((2000, 900), dtype=np.float32), style=PictureStyle(max_pixels=600))
    assert figure.axes[0].images[0].get_array().shape == (500, 225)


def test_reduced_pixels_are_means_of_the_finite_ones():
    image = np.array([[1.0, 3.0, np.nan, np.nan], [5.0, np.nan, np.nan, np.nan]])
    reduced = block_reduced(image, 2)
    assert reduced[0, 0] == 3.0
    assert np.isnan(reduced[0, 1])


def test_limits_follow_the_background_not_the_stars(exposure):
    low, high = zscale_limits(exposure.image)
    assert 50 < low < 100 < high < 200


def test_mistyped_names_get_the_nearest(exposure):
    with pytest.raises(ValueError, match="Did you mean 'asinh'"):
        draw_exposure(exposure, stretch="asin")
    with pytest.raises(ValueError, match="Did you mean 'DETECTED'"):
        draw_exposure(exposure, mask_planes=["DETECTD"])
