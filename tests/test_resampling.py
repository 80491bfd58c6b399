import logging

import numpy as np
import pytest

from butler_dask import Butler, DatasetType
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.mask import Mask
from butler_dask.imaging.photo_calib import PhotoCalib
from butler_dask.imaging.psf import Psf
from butler_dask.imaging.resampling import empty_warp, resample_into
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.imaging.skymap import SkyMap
from butler_dask.imaging.source_window import overlap_box, source_window
from butler_dask.imaging.visit_info import VisitInfo
from butler_dask.imaging.warped_psf import PsfSource, warped_psf
from butler_dask.pipeline import NoWorkFound
from butler_dask.tasks.warp import MakeWarpTask

RA, DEC, SIGMA = 320.5, 0.2, 1.7
SHAPE = (700, 600)


def distorted_wcs(shift=(0.0, 0.0), rotation_deg=33.0, scale=0.168):
    theta = np.radians(rotation_deg)
    cd = scale / 3600 * np.array([[-np.cos(theta), np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[2, 0], a[1, 1], a[3, 0] = 8e-7, 5e-7, 4e-10
    b[0, 2], b[2, 0], b[0, 3] = -6e-7, 3e-7, 4e-10
    return SkyWcs.tangent((300.0 - shift[0], 350.0 - shift[1]), (RA, DEC), cd, sip_a=a, sip_b=b)


def star_image(shape, x, y, flux, sigma=SIGMA):
    image = np.zeros(shape)
    yy, xx = np.arange(shape[0])[:, np.newaxis], np.arange(shape[1])[np.newaxis, :]
    for px, py, f in zip(x, y, flux, strict=True):
        gx, gy = np.exp(-0.5 * ((xx - px) / sigma) ** 2), np.exp(-0.5 * ((yy - py) / sigma) ** 2)
        image += f / (2 * np.pi * sigma**2) * gy * gx
    return image.astype(np.float32)


def star_exposure(**kwargs):
    gx, gy = np.meshgrid(np.arange(40, 570, 60.0), np.arange(40, 670, 60.0))
    rng = np.random.default_rng(3)
    x, y = gx.ravel() + rng.uniform(-0.5, 0.5, gx.size), gy.ravel() + rng.uniform(-0.5, 0.5, gx.size)
    flux = np.full(x.size, 1e5)
    exposure = Exposure(
        star_image(SHAPE, x, y, flux),
        variance=np.full(SHAPE, 100.0, np.float32),
        wcs=distorted_wcs(),
        psf=Psf.gaussian(SIGMA),
        photo_calib=PhotoCalib(2.5),
        **kwargs,
    )
    return exposure, x, y


def target(rotation_deg=0.0, inner=900, scale=0.168):
    skymap = SkyMap.discrete(
        "t", [RA], [DEC], [0.02], patch_inner_dimensions=(inner, inner), patch_border=0,
        pixel_scale_arcsec=scale, rotation_deg=rotation_deg, tract_overlap_deg=0.0,
    )  # fmt: skip
    return skymap, skymap[0][0]


def centroid(image, x, y, half=12):
    ix, iy = round(float(x)), round(float(y))
    stamp = image[iy - half : iy + half + 1, ix - half : ix + half + 1].astype(np.float64)
    r = np.arange(-half, half + 1)
    total = stamp.sum()
    return (stamp * r).sum() / total + ix, (stamp * r[:, np.newaxis]).sum() / total + iy, total


@pytest.mark.parametrize("scale", [0.168, 0.2])
def test_stars_keep_place_and_flux_through_distortion_and_rotation(scale):
    exposure, x, y = star_exposure()
    _, patch = target(scale=scale)
    warp = empty_warp(patch.shape, patch.wcs)
    assert resample_into(warp, exposure) > 0
    px, py = patch.wcs.sky_to_pixel(*exposure.wcs.pixel_to_sky(x, y))
    measured = []
    for a, b in zip(px, py, strict=True):
        if not (15 < a < patch.shape[1] - 16 and 15 < b < patch.shape[0] - 16):
            continue
        cx, cy, flux = centroid(warp.image, a, b)
        if np.isfinite(flux):
            measured.append((cx - a, cy - b, flux / (1e5 * 2.5)))
    dx, dy, ratio = np.array(measured).T
    assert len(dx) > 50
    assert np.abs([dx, dy]).max() < 0.002  # pixels
    assert np.abs(ratio - 1).max() < 2e-4


def test_a_constant_stays_constant_but_for_the_pixel_area():
    exposure = Exposure(
        np.full(SHAPE, 7.0, np.float32),
        variance=np.ones(SHAPE, np.float32),
        wcs=distorted_wcs(scale=0.2),
        photo_calib=PhotoCalib(1.0),
    )
    _, patch = target(scale=0.1, inner=1400)
    warp = empty_warp(patch.shape, patch.wcs)
    resample_into(warp, exposure)
    source_scale = exposure.wcs.pixel_scale_arcsec(300, 350)
    x, y = (int(v) for v in patch.wcs.sky_to_pixel(RA, DEC))
    assert warp.image[y, x] == pytest.approx(7.0 * (0.1 / source_scale) ** 2, rel=1e-4)


def test_variance_is_that_of_the_pixels_noise():
    rng = np.random.default_rng(5)
    sigma = 10.0
    exposure = Exposure(
        rng.normal(0, sigma, SHAPE).astype(np.float32),
        variance=np.full(SHAPE, sigma**2, np.float32),
        wcs=distorted_wcs(),
        photo_calib=PhotoCalib(3.0),
    )
    _, patch = target()
    warp = empty_warp(patch.shape, patch.wcs)
    n = resample_into(warp, exposure)
    good = ~warp.mask.is_set("NO_DATA")
    chi2 = np.mean(warp.image[good] ** 2 / warp.variance[good])
    # Neighbours are correlated: some 40 % as many independent pixels, 5 sigma.
    assert abs(chi2 - 1.0) < 5 * np.sqrt(2 / (0.4 * n))


def test_mask_planes_follow_their_pixels_with_the_footprint_they_need():
    exposure, _, _ = star_exposure()
    exposure.mask.array[300, 200] |= exposure.mask.bitmask("BAD")
    exposure.mask.array[400, 300] |= exposure.mask.bitmask("CR")
    _, patch = target()
    warp = empty_warp(patch.shape, patch.wcs)
    resample_into(warp, exposure)
    bad, cosmic = warp.mask.is_set("BAD"), warp.mask.is_set("CR")
    for where, (x, y), low, high in ((bad, (200, 300), 28, 46), (cosmic, (300, 400), 3, 8)):
        px, py = patch.wcs.sky_to_pixel(*exposure.wcs.pixel_to_sky(x, y))
        found_y, found_x = np.nonzero(where)
        assert low <= found_x.size <= high
        assert np.abs([found_x.mean() - px, found_y.mean() - py]).max() < 0.7


def test_a_flagged_pixel_is_seen_wherever_its_value_counts():
    exposure, _, _ = star_exposure()
    exposure.image[:] = 0
    rng = np.random.default_rng(7)
    for y, x in zip(rng.integers(5, 690, 60), rng.integers(5, 590, 60), strict=True):
        exposure.image[y, x] = 1e6
        exposure.mask.array[y, x] |= exposure.mask.bitmask("SAT")
    _, patch = target()
    warp = empty_warp(patch.shape, patch.wcs)
    resample_into(warp, exposure)
    touched = np.nan_to_num(np.abs(warp.image)) > 1.0
    assert touched.sum() > 1000
    assert not (touched & ~warp.mask.is_set("SAT")).any()


def test_pixels_off_the_detector_have_no_data():
    exposure, _, _ = star_exposure()
    _, patch = target()
    warp = empty_warp(patch.shape, patch.wcs)
    n = resample_into(warp, exposure)
    no_data = warp.mask.is_set("NO_DATA")
    assert n == np.count_nonzero(~no_data)
    assert np.isnan(warp.image[no_data]).all()
    assert np.isposinf(warp.variance[no_data]).all()
    assert np.isfinite(warp.image[~no_data]).all()
    ny, nx = np.nonzero(~no_data)
    sx, sy = exposure.wcs.sky_to_pixel(*patch.wcs.pixel_to_sky(nx, ny))
    assert sx.min() >= 2
    assert sy.min() >= 2
    assert sx.max() <= SHAPE[1] - 3
    assert sy.max() <= SHAPE[0] - 3


def test_a_second_detector_fills_only_what_the_first_left():
    _, patch = target()
    left = Exposure(np.full(SHAPE, 1.0, np.float32), wcs=distorted_wcs(), photo_calib=PhotoCalib(1.0))
    right = Exposure(
        np.full(SHAPE, 2.0, np.float32), wcs=distorted_wcs(shift=(400.0, 0.0)), photo_calib=PhotoCalib(1.0)
    )
    warp = empty_warp(patch.shape, patch.wcs)
    n_left = resample_into(warp, left)
    before = warp.image.copy()
    n_right = resample_into(warp, right)
    filled = ~np.isnan(before)
    assert np.array_equal(warp.image[filled], before[filled])
    assert n_left + n_right == np.count_nonzero(~warp.mask.is_set("NO_DATA"))
    assert n_right > 0
    assert np.nanmax(warp.image) > 1.9


def test_planes_with_other_bit_numbers_keep_their_names():
    exposure, _, _ = star_exposure()
    planes = {"NO_DATA": 0, "BAD": 5, "MINE": 3}
    exposure.mask = Mask.zeros(SHAPE, planes)
    exposure.mask.array[300, 200] = exposure.mask.bitmask("MINE")
    _, patch = target()
    warp = empty_warp(patch.shape, patch.wcs)
    resample_into(warp, exposure)
    assert 2 < np.count_nonzero(warp.mask.is_set("MINE")) < 9
    assert not warp.mask.is_set("BAD").any()


def test_exposures_elsewhere_do_not_overlap():
    exposure, _, _ = star_exposure()
    far = SkyMap.discrete("far", [RA + 180.0], [-DEC], [0.02], pixel_scale_arcsec=0.2)[0][0]
    x0, y0, x1, y1 = overlap_box(exposure.shape, exposure.wcs, far.shape, far.wcs)
    assert x1 <= x0 or y1 <= y0
    assert resample_into(empty_warp((100, 100), far.wcs), exposure) == 0


def test_an_uncalibrated_exposure_is_refused_by_name():
    _, patch = target()
    with pytest.raises(ValueError, match="source wcs, source photo_calib"):
        resample_into(empty_warp(patch.shape, patch.wcs), Exposure(np.zeros((10, 10), np.float32)))


def test_the_psf_of_a_warp_is_that_of_its_stars():
    exposure, x, y = star_exposure()
    _, patch = target(scale=0.2)
    warp = empty_warp(patch.shape, patch.wcs)
    resample_into(warp, exposure)
    psf = warped_psf(patch.wcs, patch.shape, [PsfSource(exposure.psf, exposure.wcs, exposure.shape)])
    px, py = patch.wcs.sky_to_pixel(*exposure.wcs.pixel_to_sky(x, y))
    middle = np.argmin(np.hypot(px - patch.shape[1] / 2, py - patch.shape[0] / 2))
    ix, iy = round(float(px[middle])), round(float(py[middle]))
    star = warp.image[iy - 8 : iy + 9, ix - 8 : ix + 9]
    model = psf.image_at(float(px[middle]), float(py[middle]), centered=False)
    half = model.shape[0] // 2
    model = model[half - 8 : half + 9, half - 8 : half + 9]
    assert (
        np.abs(star / star.sum() - model / model.sum()).max() < 0.015 * model.max()
    )  # Lanczos-3 itself: 0.6 %


def test_make_warp_joins_detectors_and_keeps_the_visits_facts(caplog):
    exposure, _, _ = star_exposure(visit_info=VisitInfo(903344, 30.0), filter=FilterLabel("r", "HSC-R"))
    skymap, patch = target()
    with caplog.at_level(logging.INFO, logger="makeWarp"):
        warp = MakeWarpTask().run([exposure], skymap, tract=0, patch=0).direct
    assert warp.shape == patch.shape
    assert warp.visit_info.exposure_id == 903344
    assert warp.filter.physical == "HSC-R"
    assert warp.photo_calib.calibration_mean == 1.0
    assert warp.psf is not None
    assert "directWarp has" in caplog.text


def test_make_warp_reads_only_what_it_needs_and_finds_the_same(tmp_path):
    exposure, _, _ = star_exposure(visit_info=VisitInfo(903344, 30.0), filter=FilterLabel("r", "HSC-R"))
    exposure.psf = varying_psf()
    Butler.makeRepo(tmp_path / "repo")
    skymap = SkyMap.discrete(
        "t", [RA], [DEC], [0.02], patch_inner_dimensions=(250, 250), patch_border=20, pixel_scale_arcsec=0.168
    )
    with Butler(tmp_path / "repo", writeable=True, run="r") as butler:
        kind = DatasetType("calexp", (), "ExposureF")
        butler.registry.registerDatasetType(kind)
        ref = butler.put(exposure, kind, {})
        handle = butler.getDeferred(ref)
        patch = skymap[0].find_patch(RA, DEC)
        window = source_window(exposure.shape, exposure.wcs, patch.shape, patch.wcs)
        assert window.source_box[2] * window.source_box[3] < 0.75 * SHAPE[0] * SHAPE[1]
        run = MakeWarpTask().run
        part = run([handle], skymap, tract=0, patch=patch.id).direct
        whole = run([exposure], skymap, tract=0, patch=patch.id).direct
        outside = skymap[0][0]
        with pytest.raises(NoWorkFound):
            run([handle], skymap, tract=0, patch=outside.id)
    assert np.array_equal(part.mask.array, whole.mask.array)
    assert np.allclose(part.image, whole.image, rtol=1e-4, atol=0.01, equal_nan=True)
    assert np.allclose(part.psf.image_at(100, 50), whole.psf.image_at(100, 50), atol=1e-4)


def varying_psf():
    yy, xx = np.indices((41, 41)) - 20
    stars = [np.exp(-0.5 * (xx**2 + yy**2) / s**2) / (2 * np.pi * s**2) for s in (1.6, 1.7, 1.8)]
    zero = np.zeros((41, 41))
    return Psf(np.stack([stars[1], 0.5 * (stars[2] - stars[0]), zero]), 1, (299.5, 349.5), (300.0, 350.0))


def test_make_warp_has_no_work_where_nothing_overlaps():
    exposure, _, _ = star_exposure()
    skymap = SkyMap.discrete("far", [RA + 3.0], [DEC], [0.02], pixel_scale_arcsec=0.2)
    with pytest.raises(NoWorkFound, match="No good pixels of 1 calexps on tract 0, patch 0"):
        MakeWarpTask().run([exposure], skymap, tract=0, patch=0)
