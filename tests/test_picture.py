import numpy as np
import pytest
from astropy.table import Table
from matplotlib.image import imread

from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.picture import (
    PictureStyle,
    block_reduced,
    draw_exposure,
    write_picture,
    zscale_limits,
)


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
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 200
    assert pixels[..., :3].std() > 0.1
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
