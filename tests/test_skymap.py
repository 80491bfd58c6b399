import numpy as np
import pytest
import yaml
from lsst.sphgeom import LonLat, UnitVector3d

from butler_dask.errors import FormatVersionError
from butler_dask.imaging.skymap import SkyMap


def make(**geometry):
    defaults = {"patch_inner_dimensions": (1000, 800), "patch_border": 50, "pixel_scale_arcsec": 0.2}
    return SkyMap.discrete("test", [320.5], [-12.0], [0.2], **(defaults | geometry))


def contains(region, ra, dec):
    return region.contains(UnitVector3d(LonLat.fromDegrees(float(ra), float(dec))))


def test_a_discrete_tract_covers_its_circle_with_whole_patches():
    tract = make()[0]
    x0, y0, width, height = tract.box
    assert (x0, y0) == (0, 0)
    assert (width % 1000, height % 800) == (0, 0)
    assert len(tract) == tract.num_patches[0] * tract.num_patches[1]
    for bearing in np.radians(np.arange(0, 360, 30)):
        ra = 320.5 + 0.2 * np.sin(bearing) / np.cos(np.radians(12.0))
        dec = -12.0 + 0.2 * np.cos(bearing)
        assert contains(tract.region, ra, dec)


def test_the_tract_centre_is_the_middle_of_its_pixels():
    tract = make()[0]
    x, y = tract.wcs.sky_to_pixel(320.5, -12.0)
    assert abs(x - 0.5 * tract.box[2]) < 2
    assert abs(y - 0.5 * tract.box[3]) < 2


def test_y_is_north_and_x_is_west():
    wcs = make()[0].wcs
    ra, dec = wcs.pixel_to_sky(np.array([100.0, 101.0, 100.0]), np.array([100.0, 100.0, 101.0]))
    assert ra[1] < ra[0]
    assert dec[2] > dec[0]


def test_rotation_turns_the_grid_from_north_through_east():
    wcs = make(rotation_deg=90.0)[0].wcs
    x, y = wcs.sky_to_pixel(320.5, -12.0)
    ra, _ = wcs.pixel_to_sky(np.array([x, x]), np.array([y, y + 10]))
    assert ra[1] > ra[0]


def test_outer_boxes_have_the_border_and_end_at_the_tract():
    tract = make()[0]
    nx, ny = tract.num_patches
    inside = tract[1, 1]
    assert inside.inner_box == (1000, 800, 1000, 800)
    assert inside.outer_box == (950, 750, 1100, 900)
    assert inside.shape == (900, 1100)
    assert tract[0].outer_box == (0, 0, 1050, 850)
    last = tract[len(tract) - 1]
    assert (last.cell_x, last.cell_y) == (nx - 1, ny - 1)
    assert last.outer_box[0] + last.outer_box[2] == tract.box[2]


def test_patches_are_numbered_along_x_first():
    tract = make()[0]
    nx = tract.num_patches[0]
    assert [p.id for p in tract] == list(range(len(tract)))
    assert (tract[nx + 2].cell_x, tract[nx + 2].cell_y) == (2, 1)
    assert tract[2, 1].id == nx + 2


def test_every_position_lies_in_exactly_one_inner_region():
    tract = make()[0]
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, tract.box[2] - 1, 50), rng.uniform(0, tract.box[3] - 1, 50)
    ra, dec = tract.wcs.pixel_to_sky(x, y)
    for a, d in zip(ra, dec, strict=True):
        found = tract.find_patch(a, d)
        assert [p.id for p in tract if contains(p.inner_region, a, d)] == [found.id]
        assert contains(found.region, a, d)


def test_patch_wcs_counts_from_the_outer_box():
    patch = make()[0][1, 1]
    ra, dec = patch.wcs.pixel_to_sky(0.0, 0.0)
    x, y = patch.tract_wcs.sky_to_pixel(ra, dec)
    assert (float(x), float(y)) == pytest.approx((950.0, 750.0), abs=1e-6)


def test_positions_outside_and_unknown_numbers_are_errors():
    skymap = make()
    with pytest.raises(LookupError, match="outside tract 0"):
        skymap[0].find_patch(320.5, -10.0)
    with pytest.raises(IndexError, match="no patch"):
        skymap[0][10_000]
    with pytest.raises(IndexError, match="tracts 0 to 0"):
        skymap[1]


def test_rings_have_the_tract_count_of_the_reference():
    # The DESC/LSST "rings_v1" sky map: 120 rings, 18938 tracts.
    skymap = SkyMap.rings("rings_v1", 120, pixel_scale_arcsec=0.2)
    assert len(skymap) == 18938
    assert skymap[0].center_deg[1] == -90.0
    assert skymap[18937].center_deg[1] == 90.0


def test_rings_cover_the_sky():
    skymap = SkyMap.rings("all", 20, pixel_scale_arcsec=10.0)
    rng = np.random.default_rng(2)
    for ra, dec in zip(rng.uniform(0, 360, 40), np.degrees(np.arcsin(rng.uniform(-1, 1, 40))), strict=True):
        assert contains(skymap.find_tract(ra, dec).region, ra, dec)


@pytest.mark.parametrize("skymap", [make(rotation_deg=3.0), SkyMap.rings("r", 7, ra_start_deg=5.0)])
def test_a_document_makes_the_same_sky_map_again(skymap):
    again = SkyMap.from_dict(yaml.safe_load(yaml.safe_dump(skymap.to_dict())))
    assert again == skymap
    assert again.sha1 == skymap.sha1
    assert again[0].box == skymap[0].box


def test_the_digest_depends_on_geometry_but_not_on_the_name():
    document = make().to_dict()
    assert SkyMap.from_dict(document | {"name": "other"}).sha1 == make().sha1
    assert make(patch_border=51).sha1 != make().sha1


def test_a_newer_document_is_refused():
    with pytest.raises(FormatVersionError, match="version 99"):
        SkyMap.from_dict(make().to_dict() | {"version": 99})


def test_mistyped_keys_are_all_named():
    document = make().to_dict()
    document["patch_boarder"] = document.pop("patch_border")
    del document["radius_deg"]
    with pytest.raises(ValueError, match=r"patch_border.*missing key 'radius_deg'"):
        SkyMap.from_dict(document)
    with pytest.raises(ValueError, match="Did you mean 'rings'"):
        SkyMap.from_dict({"name": "x", "kind": "ring"})
