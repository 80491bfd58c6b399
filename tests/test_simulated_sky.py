from pathlib import Path

import numpy as np
import pytest

from butler_dask.imaging.camera import read_camera
from butler_dask.imaging.defects import defects_table
from butler_dask.imaging.detector import box_slices
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.simulated_detector import (
    SimulatedDetector,
    apply_brighter_fatter,
    brighter_fatter_kernel,
)
from butler_dask.imaging.simulated_exposure import Observation, simulate_exposure, true_wcs
from butler_dask.imaging.simulated_sky import PsfField, SimulatedSky, electrons, render_objects
from butler_dask.imaging.visit_info import VisitInfo
from butler_dask.instruments import instrument
from butler_dask.tasks.isr import IsrTask

OBSERVATION = Observation(903344, 320.75, 0.5)


@pytest.fixture(scope="module")
def camera():
    return read_camera(Path(instrument.__file__).with_name("hsc_small.yaml"))


@pytest.fixture(scope="module")
def sky(camera):
    ra, dec = camera.initial_wcs(5, 320.75, 0.5).pixel_to_sky(511.5, 511.5)
    return SimulatedSky(float(ra), float(dec), 0.06, seed=3, stars_per_arcmin2=6.0)


@pytest.fixture(scope="module")
def sensor(camera):
    return SimulatedDetector(camera[5], seed=3)


@pytest.fixture(scope="module")
def exposure(camera, sky, sensor):
    return simulate_exposure(sky, camera, 5, OBSERVATION, sensor=sensor)


def test_the_same_seed_gives_the_same_sky_and_pixels(camera, sky, exposure):
    again = SimulatedSky(sky.ra_deg, sky.dec_deg, sky.radius_deg, seed=3, stars_per_arcmin2=6.0)
    assert np.array_equal(again.truth["ra"], sky.truth["ra"])
    assert np.array_equal(simulate_exposure(again, camera, 5, OBSERVATION).raw, exposure.raw)
    other = SimulatedSky(sky.ra_deg, sky.dec_deg, sky.radius_deg, seed=4)
    assert not np.array_equal(other.truth["ra"][:100], sky.truth["ra"][:100])


def test_counts_are_those_asked_for(sky):
    truth = sky.truth
    bright = truth[np.asarray(truth["mag_r"]) < 22.5]
    area = np.pi * (60 * sky.radius_deg) ** 2
    stars = np.count_nonzero(bright["is_star"])
    # The cut of the brightest (r < 14) removes 5 %; 5 sigma of Poisson noise.
    assert abs(stars - 0.95 * 6.0 * area) < 5 * np.sqrt(6.0 * area)
    assert len(np.unique(truth["id"])) == len(truth)


def test_rendered_objects_hold_their_flux_and_place(sky):
    objects = sky.truth[:6].copy()
    objects["x"], objects["y"] = 60.0 + 0.3 * np.arange(6), 61.0 - 0.2 * np.arange(6)
    objects["flux"] = 1e6
    psf = PsfField(0.7, np.zeros((3, 4)), (0.05, -0.03))
    for i in range(6):
        for is_star in (True, False):
            one = objects[i : i + 1]
            one["is_star"], one["half_light_arcsec"], one["e1"] = is_star, 0.0 if is_star else 0.5, 0.2
            image = render_objects((121, 123), one, psf.covariance([0.0], [0.0], 0.168), 0.168).astype(float)
            assert image.sum() == pytest.approx(1e6, rel=1e-3)
            yy, xx = np.indices(image.shape)
            assert (image * xx).sum() / image.sum() == pytest.approx(float(one["x"][0]), abs=2e-3)
            assert (image * yy).sum() / image.sum() == pytest.approx(float(one["y"][0]), abs=2e-3)


def test_the_psf_has_the_width_asked_for():
    psf = PsfField(0.7, np.zeros((3, 4)), (0.0, 0.0))
    image = psf.image(0.0, 0.0, 0.168, size=61)
    assert image.sum() == pytest.approx(1.0, abs=2e-3)
    row = image[30] / image[30].max()
    half = np.interp(0.5, row[30:][::-1], np.arange(31)[::-1].astype(float))
    assert 2 * half * 0.168 == pytest.approx(0.7, rel=0.02)


def test_the_psf_varies_over_the_field():
    psf = PsfField.random(np.random.default_rng(1), 0.7)
    covariance = psf.covariance(np.array([-200.0, 0.0, 200.0]), np.zeros(3), 0.168)
    assert np.ptp(covariance[:, 0]) > 0.02 * covariance[:, 0].mean()


def test_pointing_is_off_by_arcseconds_but_the_truth_knows(camera, sky, exposure):
    told = camera.initial_wcs(5, OBSERVATION.ra_deg, OBSERVATION.dec_deg)
    ra, dec = exposure.wcs.pixel_to_sky(500.0, 500.0)
    x, y = told.sky_to_pixel(ra, dec)
    off = float(np.hypot(x - 500, y - 500)) * 0.168
    assert 0.2 < off < 15.0
    again = true_wcs(camera, 5, OBSERVATION, sky.seed)
    assert again.pixel_to_sky(1.0, 2.0) == exposure.wcs.pixel_to_sky(1.0, 2.0)


def test_magnitudes_and_zero_point_agree(exposure):
    assert electrons(exposure.zero_point_mag, "r", 30.0) == pytest.approx(1.0)
    flux = electrons(np.asarray(exposure.objects["mag_r"]), "r", 30.0)
    assert np.allclose(flux, exposure.objects["flux"])


def test_brighter_fatter_widens_stars_and_keeps_their_charge():
    y, x = np.indices((99, 99))
    star = (800 + 1.1e5 * np.exp(-0.5 * ((x - 49) ** 2 + (y - 49) ** 2) / 1.8**2)).astype(np.float32)
    seen = apply_brighter_fatter(star, brighter_fatter_kernel())
    assert 0.93 < seen.max() / star.max() < 0.98
    assert seen.sum(dtype=float) == pytest.approx(star.sum(dtype=float), rel=1e-6)
    faint = (800 + (star - 800) / 100).astype(np.float32)
    assert apply_brighter_fatter(faint, brighter_fatter_kernel()).max() / faint.max() > 0.998


def test_saturated_stars_bleed_along_columns_and_keep_their_charge(camera):
    sensor = SimulatedDetector(camera[5], linearity=False, kernel=None, crosstalk=False)
    light = np.full(camera[5].shape, 100.0, np.float32)
    light[500:505, 300:305] = 1.0e6
    rng = np.random.default_rng(1)
    raw, _ = sensor.expose(light, rng, exposure_time_s=1.0)
    amplifier = next(a for a in camera[5].amplifiers if a.box[0] <= 302 < a.box[0] + a.box[2])
    x0, y0, width, _ = amplifier.raw_data_box
    column = raw[y0:, x0 + width - 1 - (302 - amplifier.box[0])].astype(float)[:1024]
    full = column > 1000 + amplifier.saturation
    assert np.flatnonzero(full).min() < 495
    assert np.flatnonzero(full).max() > 510
    assert np.ptp(np.flatnonzero(full)) + 1 == full.sum()


def test_overscan_holds_the_level_and_read_noise_only(exposure, camera):
    for amplifier in camera[5].amplifiers:
        overscan = exposure.raw[box_slices(amplifier.raw_serial_overscan_box)].astype(float)
        noise = np.hypot(amplifier.read_noise / amplifier.gain, np.sqrt(1 / 12))
        rows = overscan - np.median(overscan, axis=1, keepdims=True)
        assert 950 < overscan.mean() < 1200
        assert rows.std() == pytest.approx(noise, rel=0.05)


def test_a_dark_frame_holds_dark_current(sensor):
    raw, _ = sensor.expose(None, np.random.default_rng(2), dark_time_s=300.0)
    assert raw.dtype == np.uint16
    amplifier = sensor.detector.amplifiers[1]
    data = raw[box_slices(amplifier.raw_data_box)].astype(float)
    level = np.median(raw[box_slices(amplifier.raw_serial_overscan_box)])
    expected = 300 * np.median(sensor.dark_electrons_s[box_slices(amplifier.box)]) / amplifier.gain
    bias = np.median(sensor.bias_adu[box_slices(amplifier.box)])
    assert np.median(data) - level == pytest.approx(expected + bias, abs=1.0)


def test_isr_with_the_true_calibrations_gives_back_the_light(camera, exposure, sensor):
    raw = Exposure(
        exposure.raw,
        wcs=camera.initial_wcs(5, OBSERVATION.ra_deg, OBSERVATION.dec_deg),
        detector=camera[5],
        visit_info=VisitInfo(903344, 30.0, 30.0),
        filter=FilterLabel("r", "HSC-R"),
    )
    config = IsrTask.ConfigClass()
    config.doBrighterFatter = True
    found = (
        IsrTask(config=config)
        .run(
            ccdExposure=raw,
            camera=camera,
            bias=Exposure(sensor.bias_adu.copy()),
            dark=Exposure(sensor.dark_electrons_s * np.float32(100), visit_info=VisitInfo(1, 100.0, 100.0)),
            flat=Exposure(sensor.flat("r")),
            defects=defects_table(sensor.defects),
            linearizer=sensor.linearizer(),
            crosstalk=sensor.crosstalk_dataset(),
            bfKernel=sensor.kernel,
        )
        .outputExposure
    )
    good = ~found.mask.is_set(["BAD", "SAT", "SUSPECT", "INTRP", "CROSSTALK"]) & ~exposure.cosmic_rays
    difference = found.image[good] - exposure.light[good]
    faint = exposure.light[good] < 1000.0
    chi = difference[faint] / np.sqrt(found.variance[good][faint])
    assert abs(np.median(difference[faint])) < 5 * 1.25 * 32 / np.sqrt(faint.sum()) + 0.05
    width = 0.5 * (np.percentile(chi, 84.13) - np.percentile(chi, 15.87))
    assert width == pytest.approx(1.0, abs=0.01)
    # Unsaturated star cores: central differences of the correction against conserved charge, 0.4 %.
    bright = (exposure.light[good] > 20_000) & (exposure.light[good] < 1.1e5)
    assert bright.sum() > 20
    assert abs(np.median(difference[bright] / exposure.light[good][bright])) < 0.005
