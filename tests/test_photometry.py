from __future__ import annotations

import numpy as np
import pytest
import sep

from butler_dask.imaging.aperture_correction import (
    apply_aperture_corrections,
    evaluate_correction,
    fit_aperture_correction,
)
from butler_dask.imaging.aperture_photometry import circular_aperture_fluxes
from butler_dask.imaging.deblending import deblend_sources, sources_from_footprints
from butler_dask.imaging.detection import detect_sources
from butler_dask.imaging.exposure import Exposure
from butler_dask.imaging.psf import Psf
from butler_dask.imaging.psf_images import psf_images
from butler_dask.imaging.shapes import adaptive_moments, windowed_centroids
from butler_dask.imaging.source_catalog import measure_sources
from butler_dask.imaging.source_ids import source_ids

PSF = Psf.gaussian(1.8)


def _scene(x, y, flux, shape=(600, 600), sky=400.0, seed=0):
    """Stars on a subtracted sky, with photon noise and its variance plane."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape)
    for image, a, b, f in zip(psf_images(PSF, x, y), x, y, flux, strict=True):
        i, j = int(np.rint(b)), int(np.rint(a))
        truth[i - 20 : i + 21, j - 20 : j + 21] += f * image
    image = rng.poisson(truth + sky).astype(np.float32)
    return Exposure(image - np.float32(sky), variance=image.copy())


def _grid(n, spacing, seed):
    rng = np.random.default_rng(seed)
    v, u = np.divmod(np.arange(n * n), n)
    return (u + 1) * spacing + rng.uniform(-0.5, 0.5, n * n), (v + 1) * spacing + rng.uniform(
        -0.5, 0.5, n * n
    )


def _catalog(exposure, **kwargs):
    found = detect_sources(exposure, 1.8, 5.0, min_prominence=3.0)
    result = deblend_sources(exposure, found.positive, sources_from_footprints(found.positive), PSF)
    n = len(result.sources)
    return measure_sources(
        exposure, PSF, found.positive.labels, result.sources, source_ids(7, 3, n), **kwargs
    )


@pytest.fixture(scope="module")
def isolated():
    x, y = _grid(11, 50, 1)
    flux = np.full(121, 20000.0)
    catalog = _catalog(_scene(x, y, flux))
    order = np.argsort(
        np.hypot(x[:, None] - catalog["base_SdssCentroid_x"], y[:, None] - catalog["base_SdssCentroid_y"])
    )[:, 0]
    return x, y, flux, catalog[order]


def test_positions_scatter_as_their_errors_say_and_are_unbiased(isolated):
    x, y, _, catalog = isolated
    for true, axis in ((x, "x"), (y, "y")):
        pull = (catalog[f"base_SdssCentroid_{axis}"] - true) / catalog[f"base_SdssCentroid_{axis}Err"]
        assert abs(pull.mean()) < 4 / np.sqrt(121)
        assert pull.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * 121))


def test_position_errors_are_the_cramer_rao_bound(isolated):
    _, _, flux, catalog = isolated
    image = PSF.image_at(0, 0)
    gradient = np.arange(-20, 21) / 1.8**2 * image
    information = ((flux[0] * gradient) ** 2 / (400 + flux[0] * image)).sum()
    assert np.median(catalog["base_SdssCentroid_xErr"]) == pytest.approx(information**-0.5, rel=0.05)


@pytest.mark.parametrize("name", ["base_PsfFlux", "base_GaussianFlux", "base_CircularApertureFlux_9_0"])
def test_fluxes_scatter_as_their_errors_say_and_are_unbiased(isolated, name):
    _, _, flux, catalog = isolated
    pull = (catalog[f"{name}_instFlux"] - flux) / catalog[f"{name}_instFluxErr"]
    assert abs(pull.mean()) < 4 / np.sqrt(121)
    assert pull.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * 121))


def test_weighting_pixels_makes_bright_fluxes_less_noisy_and_no_less_right():
    x, y = _grid(11, 50, 2)
    flux = np.full(121, 3e5)
    exposure = _scene(x, y, flux, seed=2)
    even, weighted = _catalog(exposure), _catalog(exposure, weighted_psf_flux=True)
    assert len(weighted) == 121
    assert weighted["base_PsfFlux_instFlux"].std() < even["base_PsfFlux_instFlux"].std()
    error = np.median(weighted["base_PsfFlux_instFluxErr"])
    assert weighted["base_PsfFlux_instFlux"].mean() == pytest.approx(3e5, abs=4 * error / 11)


def test_moments_of_a_gaussian_are_its_own_and_so_are_those_of_the_psf(isolated):
    _, _, _, catalog = isolated
    # 1.8 pixels sampled, not integrated; noise of a size is sqrt(2) times that of a flux.
    for name in ("xx", "yy"):
        assert np.median(catalog[f"base_SdssShape_{name}"]) == pytest.approx(3.24, abs=0.03)
        assert np.median(catalog[f"base_SdssShape_psf_{name}"]) == pytest.approx(3.24, rel=1e-4)
    assert abs(np.median(catalog["base_SdssShape_xy"])) < 0.02
    assert np.mean(catalog["base_ClassificationExtendedness_value"]) < 0.05


def test_a_galaxy_is_extended():
    x, y = _grid(5, 100, 3)
    flux = np.full(25, 20000.0)
    exposure = _scene(x, y, flux, sky=400.0)
    v, u = np.mgrid[0:600, 0:600]
    disk = np.exp(-np.hypot(u - 555.2, v - 555.7) / 3.0)
    exposure.image += (20000 * disk / disk.sum()).astype(np.float32)
    catalog = _catalog(exposure)
    galaxy = np.argmin(
        np.hypot(catalog["base_SdssCentroid_x"] - 555.2, catalog["base_SdssCentroid_y"] - 555.7)
    )
    assert catalog["base_ClassificationExtendedness_value"][galaxy] == 1.0


def test_adaptive_moments_of_an_elongated_gaussian_are_exact():
    v, u = np.mgrid[-20:21, -20:21].astype(np.float64)
    xx, yy, xy = 5.0, 3.0, 1.0
    det = xx * yy - xy * xy
    q = (yy * (u - 0.3) ** 2 - 2 * xy * (u - 0.3) * (v + 0.2) + xx * (v + 0.2) ** 2) / det
    data = (1000 * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))).astype(np.float32)[np.newaxis]
    found = adaptive_moments(data, np.ones_like(data), np.array([0.3]), np.array([-0.2]), 1.5)
    assert (found.xx[0], found.yy[0], found.xy[0]) == pytest.approx((xx, yy, xy), rel=1e-3)
    assert found.flux[0] == pytest.approx(1000, rel=1e-3)
    assert found.flux_err[0] == pytest.approx(np.sqrt(4 * np.pi * np.sqrt(det)), rel=1e-2)
    dx, dy = windowed_centroids(data, np.ones(data.shape, np.uint8), np.zeros(1), np.zeros(1), 2.0)
    assert (dx[0], dy[0]) == pytest.approx((0.3, -0.2), abs=1e-4)


def test_apertures_cut_pixels_exactly():
    rng = np.random.default_rng(0)
    data = np.ones((1, 41, 41), np.float32)
    radii = np.array([0.4, 1.0, 3.0, 6.5, 12.0])
    dx, dy = np.array([0.37]), np.array([-0.21])
    flux, err = circular_aperture_fluxes(data, 4 * data, dx, dy, radii)
    np.testing.assert_allclose(flux[0], np.pi * radii**2, rtol=1e-12)
    noisy = rng.normal(0, 1, (1, 41, 41)).astype(np.float32)
    flux, err = circular_aperture_fluxes(noisy, data, dx, dy, radii[2:])
    expected, _, _ = sep.sum_circle(noisy[0], [20.37] * 3, [19.79] * 3, radii[2:], subpix=0)
    np.testing.assert_allclose(flux[0], expected, atol=1e-4)
    assert np.all(err[0] ** 2 <= np.pi * radii[2:] ** 2)


def test_blended_stars_get_their_own_light():
    rng = np.random.default_rng(8)
    x0, y0 = _grid(7, 75, 8)
    angle = rng.uniform(0, 2 * np.pi, 49)
    x = np.concatenate([x0, x0 + 6.5 * np.cos(angle)])
    y = np.concatenate([y0, y0 + 6.5 * np.sin(angle)])
    flux = np.concatenate([np.full(49, 40000.0), np.full(49, 15000.0)])
    catalog = _catalog(_scene(x, y, flux, seed=8))
    children = catalog[catalog["parent"] != 0]
    assert (catalog["deblend_nChild"] == 2).sum() >= 48
    assert set(children["parent"]) <= set(catalog["id"])
    d = np.hypot(x[:, None] - children["base_SdssCentroid_x"], y[:, None] - children["base_SdssCentroid_y"])
    nearest = np.argmin(d, axis=1)
    found = d.min(axis=1) < 1.5
    assert found.sum() >= 96
    ratio = children["base_PsfFlux_instFlux"][nearest] / flux
    # One star alone is measured to 0.7 and 1.6 %; a neighbour at 3.6 sigma may cost as much again.
    assert np.median(ratio[:49][found[:49]]) == pytest.approx(1.0, abs=0.01)
    assert np.median(ratio[49:][found[49:]]) == pytest.approx(1.0, abs=0.02)
    assert np.std(ratio[:49][found[:49]]) < 0.015
    assert np.std(ratio[49:][found[49:]]) < 0.035
    assert np.median(d.min(axis=1)) < 0.1


def test_a_footprint_too_large_is_left_whole_and_marked():
    x, y = np.array([100.0, 107.0]), np.array([100.0, 100.0])
    exposure = _scene(x, y, [50000.0, 40000.0], shape=(200, 200))
    found = detect_sources(exposure, 1.8, 5.0)
    sources = sources_from_footprints(found.positive)
    result = deblend_sources(exposure, found.positive, sources, PSF, max_area=50)
    assert result.skipped.tolist() == [0]
    assert len(result.sources) == len(sources)
    assert exposure.mask.is_set("NOT_DEBLENDED")[100, 100]


def test_pixel_flags_say_what_the_mask_says():
    x, y = np.array([50.0, 100.0, 150.0, 50.0]), np.array([50.0, 50.0, 50.0, 150.0])
    exposure = _scene(x, y, np.full(4, 20000.0), shape=(200, 200))
    exposure.mask.array[50, 100] |= exposure.mask.bitmask("SAT")
    exposure.mask.array[50, 152] |= exposure.mask.bitmask("CR")
    catalog = _catalog(exposure)
    at = {
        (round(float(r["base_SdssCentroid_x"])), round(float(r["base_SdssCentroid_y"]))): r for r in catalog
    }
    assert at[100, 50]["base_PixelFlags_flag_saturatedCenter"]
    assert not at[50, 50]["base_PixelFlags_flag_saturated"]
    assert at[150, 50]["base_PixelFlags_flag_cr"]
    assert not at[150, 50]["base_PixelFlags_flag_crCenter"]
    # The saturated pixel is left out of the fit, which still finds the flux.
    assert at[100, 50]["base_PsfFlux_instFlux"] == pytest.approx(20000, rel=0.05)


def test_aperture_corrections_bring_fluxes_to_the_reference(isolated):
    x, y, flux, catalog = isolated
    catalog = catalog.copy()
    tilt = 1 + 0.05 * (2 * x / 600 - 1)
    catalog["base_PsfFlux_instFlux"] = catalog["base_PsfFlux_instFlux"] / tilt
    rows = np.ones(len(catalog), bool)
    reference = "base_CircularApertureFlux_9_0"
    fit = fit_aperture_correction(catalog, rows, "base_PsfFlux", reference, (600, 600))
    noise = np.median(catalog[f"{reference}_instFluxErr"]) / flux[0]
    assert fit.rms == pytest.approx(noise, rel=0.5)
    model = evaluate_correction(fit.coefficients, x, y, (600, 600))
    # Six coefficients over 121 stars.
    assert np.std(model / tilt) < 3 * noise * np.sqrt(6 / 121)
    n = apply_aperture_corrections(
        catalog,
        {"base_PsfFlux_instFlux": fit.coefficients},
        ["base_PsfFlux", "base_GaussianFlux"],
        (600, 600),
    )
    assert n == 1
    assert np.mean(catalog["base_PsfFlux_instFlux"]) == pytest.approx(20000, rel=4 * noise / 11)


def test_source_ids_are_unique_positive_and_bounded():
    ids = np.concatenate(
        [source_ids(e, d, 1000) for e in (1, 903344, 2025031400123, 2025031400124) for d in (0, 5, 204)]
    )
    assert len(np.unique(ids)) == len(ids)
    assert ids.min() > 0
    with pytest.raises(ValueError, match="Detector 600"):
        source_ids(1, 600, 1)
    with pytest.raises(ValueError, match="exposure 1099511627776"):
        source_ids(1 << 40, 1, 1)
