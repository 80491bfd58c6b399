from __future__ import annotations

import logging

import numpy as np
import pytest
from detector_model import DetectorModel, small_detector, star_charge

from butler_dask.imaging.brighter_fatter import convolve_kernel, correct_brighter_fatter
from butler_dask.imaging.crosstalk import add_crosstalk, crosstalk_matrix
from butler_dask.imaging.defects import defects_table
from butler_dask.imaging.detector import box_slices
from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.visit_info import VisitInfo
from butler_dask.tasks.isr import IsrTask
from butler_dask.tasks.isr_config import IsrTaskConnections

OFF = ("Bias", "Dark", "Flat", "Defect", "Linearize", "Crosstalk", "BrighterFatter", "Fringe", "Interpolate")


def isr(*on: str, **fields):
    config = IsrTask.ConfigClass()
    for name in OFF:
        setattr(config, f"do{name}", name in on)
    config.doSetBadRegions = False
    for name, value in fields.items():
        setattr(config, name, value)
    return IsrTask(config=config)


@pytest.fixture(scope="module")
def detector():
    return small_detector()


@pytest.fixture(scope="module")
def calibrations(detector):
    random = np.random.default_rng(11)
    ny, nx = detector.shape
    y, x = np.mgrid[:ny, :nx]
    bias = Exposure((3.0 * np.sin(x / 50.0) + random.normal(0, 0.5, detector.shape)).astype(np.float32))
    dark = Exposure((0.05 + 0.05 * (random.random(detector.shape) > 0.999)).astype(np.float32))
    dark.visit_info = VisitInfo(dark_time_s=1.0)
    flat = Exposure(
        (
            1.0 - 0.1 * ((x / nx - 0.5) ** 2 + (y / ny - 0.5) ** 2) + random.normal(0, 0.01, detector.shape)
        ).astype(np.float32)
    )
    linearizer = {"amplifiers": {a.name: [-1e-6 * (i + 1), 3e-12] for i, a in enumerate(detector.amplifiers)}}
    return {"bias": bias, "dark": dark, "flat": flat, "linearizer": linearizer}


@pytest.fixture(scope="module")
def observed(detector, calibrations):
    """Truth [electrons, flat-fielded], charge as it fell, and the raw of it."""
    truth = star_charge(detector.shape)
    flat, dark = calibrations["flat"].image.astype(float), calibrations["dark"].image.astype(float)
    charge = np.random.default_rng(5).poisson(truth * flat + dark * 40.0).astype(float)
    model = DetectorModel(
        detector,
        bias=calibrations["bias"].image,
        nonlinearity={n: tuple(c) for n, c in calibrations["linearizer"]["amplifiers"].items()},
        has_crosstalk=True,
    )
    return truth, charge, model.raw(charge)


@pytest.fixture(scope="module")
def corrected(observed, calibrations):
    task = isr("Bias", "Dark", "Flat", "Linearize", "Crosstalk")
    return task.run(ccdExposure=observed[2], **calibrations).outputExposure


def test_the_charge_is_recovered_to_the_read_noise(observed, corrected, calibrations, detector):
    _, charge, _ = observed
    flat, dark = calibrations["flat"].image.astype(float), calibrations["dark"].image.astype(float)
    error = corrected.image * flat + dark * 40.0 - charge
    good = corrected.mask.array == 0
    for amplifier in detector.amplifiers:
        section = box_slices(amplifier.box)
        here = error[section][good[section]]
        # digitisation adds (gain^2 / 12), the overscan's own error a little
        assert np.std(here) <= 1.06 * np.hypot(amplifier.read_noise, amplifier.gain / np.sqrt(12))
        # the mean of 2.6e5 pixels is good to 0.01; row levels to 0.02
        assert abs(np.mean(here)) < 0.05


def test_the_variance_plane_is_the_scatter_about_the_truth(observed, corrected):
    truth, _, _ = observed
    good = corrected.mask.array == 0
    chi2 = (corrected.image - truth) ** 2 / corrected.variance
    sky = good & (truth < 1210)
    # chi2 of a million pixels is good to 0.0015; digitisation adds 0.0007
    assert np.mean(chi2[sky]) == pytest.approx(1.0, abs=0.01)
    bright = good & (truth > 5000)
    assert np.mean(chi2[bright]) == pytest.approx(1.0, abs=5 * np.sqrt(2.0 / bright.sum()) + 0.01)


def test_crosstalk_is_removed(observed, detector):
    # Without noise: a saturating row in one channel, nothing elsewhere.
    charge = np.zeros(detector.shape)
    first = detector.amplifiers[0]
    x0 = first.box[0]
    charge[100, x0 + 30 : x0 + 60] = 100_000.0
    raw = DetectorModel(detector, has_crosstalk=True, read_noise=False, drift=0.0).raw(charge)
    with_it = isr(doApplyGains=False).run(ccdExposure=raw).outputExposure
    without = isr("Crosstalk", doApplyGains=False, crosstalkMinPixelToMask=30_000.0).run(ccdExposure=raw)
    elsewhere = charge == 0
    assert np.abs(with_it.image[elsewhere]).max() > 3.0  # 1.5e-4 of 31,000 ADU
    assert np.abs(without.outputExposure.image[elsewhere]).max() <= 0.6  # digitisation
    masked = without.outputExposure.mask.is_set("CROSSTALK")
    assert masked[elsewhere].sum() == 3 * 30


def test_crosstalk_follows_the_order_of_reading(detector):
    image = np.zeros(detector.shape, dtype=np.float32)
    source, victim = detector.amplifiers[:2]  # mirror images of one another
    image[5, source.box[0] + source.box[2] - 1] = 1e6  # read first in the source
    spoiled = add_crosstalk(image, detector, crosstalk_matrix(detector))
    where = np.argwhere(spoiled[box_slices(victim.box)] != 0)
    assert where.tolist() == [[5, 0]]  # and first in the victim


def test_crosstalk_of_other_amplifiers_is_refused(detector):
    with pytest.raises(ValueError, match="'A'"):
        crosstalk_matrix(detector, {"amplifiers": ["A"], "coefficients": [[0.0]]})


def test_saturated_trails_are_masked_and_widened(detector):
    charge = np.full(detector.shape, 1000.0)
    charge[200:400, 500:512] = 200_000.0
    charge[600, 100] = 200_000.0
    raw = DetectorModel(detector).raw(charge)
    result = isr().run(ccdExposure=raw).outputExposure
    saturated = result.mask.is_set("SAT")
    assert saturated[300, 496:516].all()  # four more to each side of a run of twelve
    assert not saturated[300, 494]
    assert saturated[600].sum() == 1  # a lone pixel is not widened
    suspect = isr(doSuspect=True, suspectFraction=0.005).run(ccdExposure=raw).outputExposure
    assert suspect.mask.is_set("SUSPECT").mean() > 0.99
    assert not (suspect.mask.is_set("SUSPECT") & saturated & (charge > 1e5)).any()


def test_defects_are_masked_and_interpolated(detector):
    truth = np.full(detector.shape, 2000.0) + np.linspace(0, 500, detector.shape[1])
    charge = np.random.default_rng(1).poisson(truth).astype(float)
    charge[:, 300] = 0.0
    charge[500:503, 600:603] = 0.0
    raw = DetectorModel(detector).raw(charge)
    defects = defects_table([(300, 0, 1, 1024), (600, 500, 3, 3)])
    result = isr("Defect", "Interpolate", doSetBadRegions=True).run(ccdExposure=raw, defects=defects)
    out = result.outputExposure
    filled = out.mask.is_set("INTRP")
    assert filled.sum() == 1024 + 9
    assert (filled == out.mask.is_set("BAD")).all()
    # each is the mean of two pixels of noise sqrt(2150 + 20) or a bit better
    error = (out.image - truth)[filled]
    assert np.std(error) < 1.05 * np.sqrt(2200 / 2) * 1.1
    assert abs(np.mean(error)) < 5 * np.sqrt(2200 / 2 / 1033)
    assert (out.variance[filled] > 1500).all()  # not a precise value


def test_nan_pixels_are_masked(detector):
    raw = DetectorModel(detector).raw(np.full(detector.shape, 500.0))
    image = raw.image.astype(np.float32)
    x, y = detector.amplifiers[0].raw_data_box[:2]
    image[y + 7, x + 3] = np.nan
    raw.image = image
    out = isr().run(ccdExposure=raw).outputExposure
    assert out.mask.is_set("UNMASKEDNAN").sum() == 1
    assert np.isfinite(out.image).all()
    assert np.isfinite(out.variance).all()


@pytest.fixture(scope="module")
def kernel():
    y, x = np.mgrid[-8:9, -8:9]
    values = -2e-7 / (1.0 + np.hypot(x, y)) ** 1.5
    return values


def with_brighter_fatter(charge, kernel):
    """Move charge as Coulton et al. (2018), equation 20, says: a flow through pixel faces, float64."""
    potential = np.zeros_like(charge)
    padded = np.pad(charge, 8, mode="edge")
    for dy in range(17):
        for dx in range(17):
            potential += kernel[dy, dx] * padded[dy : dy + charge.shape[0], dx : dx + charge.shape[1]]
    result = charge.copy()
    for axis in (0, 1):
        here, there = (
            [np.take(a, range(start, a.shape[axis] - 1 + start), axis) for a in (charge, potential)]
            for start in (0, 1)
        )
        flow = 0.5 * 0.5 * (here[0] + there[0]) * (there[1] - here[1])
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        after[axis], before[axis] = (0, 1), (1, 0)
        result -= np.pad(flow, after) - np.pad(flow, before)
    return result


def test_brighter_fatter_restores_peaks_to_a_thousandth(kernel):
    truth = star_charge((400, 400), n_stars=12)
    measured = with_brighter_fatter(truth, kernel).astype(np.float32)
    peaks = truth > 20_000
    assert np.abs(measured - truth)[peaks].max() / 20_000 > 0.005  # there is something to undo
    corrected, n, change = correct_brighter_fatter(measured, kernel, threshold=100.0)
    assert change < 100.0
    assert 2 <= n <= 6
    inner = np.s_[10:-10, 10:-10]
    error = np.abs(corrected - truth)[inner] / truth[inner]
    assert error[peaks[inner]].max() < 1e-3
    assert corrected.sum(dtype=np.float64) == pytest.approx(measured.sum(dtype=np.float64), rel=1e-7)


def test_even_and_general_kernels_give_the_same_convolution(kernel):
    image = star_charge((100, 140), n_stars=3).astype(np.float32)
    fast = convolve_kernel(image, kernel)
    general = convolve_kernel(image, kernel * (1 + 1e-4 * np.arange(17)))
    np.testing.assert_allclose(fast, general, rtol=5e-3)
    expected = sum(
        kernel[8 + dy, 8 + dx] * image[50 - dy, 60 - dx] for dy in range(-8, 9) for dx in range(-8, 9)
    )
    assert fast[50, 60] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 3, 3)])
def test_a_kernel_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="kernel"):
        correct_brighter_fatter(np.zeros((50, 50), dtype=np.float32), np.zeros(shape))


def test_brighter_fatter_in_the_task_converges_and_marks_the_edges(detector, kernel, caplog):
    truth = star_charge(detector.shape)
    charge = with_brighter_fatter(truth, kernel)
    raw = DetectorModel(detector).raw(np.random.default_rng(2).poisson(charge).astype(float))
    with caplog.at_level(logging.INFO, logger="isr"):
        out = isr("BrighterFatter").run(ccdExposure=raw, bfKernel=kernel).outputExposure
    text = caplog.text
    assert "brighter fatter correction using kernel type <class 'numpy.ndarray'> / gains <class " in text
    assert "Finished brighter fatter correction in" in text
    assert out.mask.is_set("SUSPECT")[:8].all()
    assert not out.mask.is_set("SUSPECT")[8:-8, 8:-8].any()
    bright = (truth > 20_000) & (truth < 60_000)
    ratio = out.image[bright].sum(dtype=np.float64) / truth[bright].sum()
    assert abs(ratio - 1) < 1e-3 + 3 / np.sqrt(truth[bright].sum())


def test_log_lines_are_those_the_field_knows(observed, calibrations, caplog):
    with caplog.at_level(logging.INFO, logger="isr"):
        isr(
            "Bias", "Dark", "Flat", "Linearize", "Crosstalk", "Defect", "Interpolate", doSetBadRegions=True
        ).run(ccdExposure=observed[2], defects=defects_table([(10, 0, 2, 1024)]), **calibrations)
    lines = [f"{r.name} {r.levelname}: {r.getMessage()}" for r in caplog.records]
    heads = [
        "isr INFO: Converting exposure to floating point values.",
        "isr INFO: Assembling CCD from amplifiers.",
        "isr INFO: Applying bias correction.",
        "isr INFO: Applying linearizer.",
        "isr INFO: Applying crosstalk correction.",
        "isr.crosstalk INFO: Applying crosstalk correction.",
        "isr INFO: Masking defects.",
        "isr INFO: Masking NAN value pixels.",
        "isr INFO: Widening saturation trails.",
        "isr INFO: Applying dark correction.",
        "isr INFO: Applying flat correction.",
        "isr INFO: Set 2048 BAD pixels to ",
        "isr INFO: Interpolating masked pixels.",
        "isr INFO: Setting rough magnitude zero point: 30.692803",
        "isr INFO: Measuring background level.",
        "isr INFO: Flattened sky level: 1199.",
        "isr INFO: Measuring sky levels in 4x4 grids: 1",
        "isr INFO: Sky flatness in 4x4 grids - pp: 0.00",
    ]
    assert len(lines) == len(heads)
    for line, head in zip(lines, heads, strict=True):
        assert line.startswith(head) or (head.endswith("1199.") and line.startswith(head[:-5] + "120"))


def test_a_dark_without_visit_info_warns_and_is_not_scaled(observed, calibrations, caplog):
    dark = calibrations["dark"].copy()
    dark.visit_info = None
    with caplog.at_level(logging.WARNING, logger="isr"):
        isr("Dark").run(ccdExposure=observed[2], dark=dark)
    assert "darkExposure.getInfo().getVisitInfo() does not exist. Using darkScale = 1.0." in caplog.text


def test_missing_calibrations_are_named_with_their_switches(observed):
    with pytest.raises(ValueError, match=r"bias, flat.*isr:doBias=False, isr:doFlat=False"):
        isr("Bias", "Flat").run(ccdExposure=observed[2])


def test_connections_follow_the_switches():
    config = IsrTask.ConfigClass()
    config.doDark = False
    config.doBrighterFatter = True
    connections = IsrTaskConnections(config=config)
    assert connections.prerequisiteInputs >= {"camera", "bias", "flat", "defects", "bfKernel"}
    assert not connections.prerequisiteInputs & {"dark", "fringe"}
    assert connections.outputExposure.name == "postISRCCD"


def test_fringes_are_scaled_and_subtracted(detector):
    y, x = np.mgrid[: detector.shape[0], : detector.shape[1]]
    pattern = np.sin(x / 20.0 + y / 35.0)
    truth = 3000.0 + 40.0 * pattern
    raw = DetectorModel(detector).raw(np.random.default_rng(4).poisson(truth).astype(float))
    fringe = Exposure((1.0 + 0.01 * pattern).astype(np.float32))
    task = isr("Fringe")
    task.config.fringe.filters = ["HSC-R"]
    out = task.run(ccdExposure=raw, fringe=fringe).outputExposure
    left = np.mean((out.image - 3000.0) * pattern) / np.mean(pattern**2)
    assert abs(left) < 1.0  # of 40
    assert task.metadata["FRINGE amplitude"] == pytest.approx(4000.0, rel=0.02)


@pytest.mark.parametrize(
    "fit_type", ["ROBUST_PER_ROW", "MEAN_PER_ROW", "MEDIAN_PER_ROW", "CHEB", "AKIMA_SPLINE"]
)
def test_overscan_follows_the_level_along_the_rows(detector, fit_type):
    config = IsrTask.ConfigClass()
    for name in OFF:
        setattr(config, f"do{name}", False)
    config.overscan.fitType = fit_type
    config.overscan.order = 12
    raw = DetectorModel(detector).raw(np.full(detector.shape, 300.0))
    out = IsrTask(config=config).run(ccdExposure=raw).outputExposure
    rows = out.image.mean(axis=1)
    assert abs(rows.mean() - 300.0) < 0.3
    assert np.std(rows) < 1.2


def test_rows_that_jump_are_followed(detector):
    raw = DetectorModel(detector, row_jitter=5.0).raw(np.full(detector.shape, 300.0))
    out = isr().run(ccdExposure=raw).outputExposure
    section = box_slices(detector.amplifiers[0].box)
    rows = out.image[section].mean(axis=1)
    # 16 pixels of 1.4 ADU leave 0.35 ADU = 1.1 electrons in each row; the jumps were 16
    assert np.std(rows) < 1.4


def test_parallel_overscan_removes_what_columns_share(detector):
    model = DetectorModel(detector, drift=0.0)
    raw = model.raw(np.full(detector.shape, 300.0))
    amplifier = detector.amplifiers[2]
    x0, _, width, _ = amplifier.raw_data_box
    stripes = (np.arange(width) % 7 == 0) * 40
    raw.image[:, x0 : x0 + width] += stripes.astype(np.uint16)
    config = IsrTask.ConfigClass()
    for name in OFF:
        setattr(config, f"do{name}", False)
    config.overscan.doParallelOverscan = True
    out = IsrTask(config=config).run(ccdExposure=raw).outputExposure
    columns = out.image[box_slices(amplifier.box)].mean(axis=0)
    assert np.std(columns) < 2.5  # electrons; the stripes were 136


def test_an_unknown_raw_shape_names_both(detector, observed):
    raw = observed[2].copy()
    raw.image = raw.image[:-1]
    with pytest.raises(ValueError, match=r"\(1048, 1120\).*\(1049, 1120\)"):
        isr().run(ccdExposure=raw)
