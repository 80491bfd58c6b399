from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from star_field import true_wcs

from butler_dask.imaging.astrometry import (
    MeasuredStars,
    fit_astrometry,
)
from butler_dask.imaging.matching import PointSet, match_nearest, match_pattern
from butler_dask.imaging.photo_calib import PhotoCalib
from butler_dask.imaging.photometric_zero_point import fit_zero_point
from butler_dask.imaging.reference_catalog import ReferenceStars, flux_column, load_reference_stars
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.imaging.tan_sip import fit_tan_sip, from_tangent_plane, tangent_plane

SHAPE = (4176, 2048)
MAS = np.pi / 180 / 3600e3


def _stars(n, seed, noise_pixels, distortion=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
    wcs = true_wcs(SHAPE, distortion=distortion)
    ra, dec = (np.radians(v) for v in wcs.pixel_to_sky(x, y))
    flux = 10 ** rng.uniform(3, 6, n)
    return wcs, x + rng.normal(0, noise_pixels, n), y + rng.normal(0, noise_pixels, n), flux, ra, dec


def _measured(x, y, error, flux):
    return MeasuredStars(x, y, np.full(len(x), error), flux)


def _references(ra, dec, flux):
    n = len(ra)
    return ReferenceStars(
        np.arange(n), ra, dec, np.zeros(n), flux, np.zeros(n), np.ones(n, dtype=bool), "r_flux"
    )


def _first_guess(wcs, offset_arcsec, rotation_deg):
    angle = np.radians(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ra, dec = wcs.astropy.wcs.crval
    dra, ddec = np.array(offset_arcsec) / 3600
    return SkyWcs.tangent(
        (SHAPE[1] / 2, SHAPE[0] / 2),
        (ra + dra / np.cos(np.radians(dec)), dec + ddec),
        turn @ wcs.astropy.wcs.cd,
    )


def _grid_error_mas(found, truth):
    x, y = (
        a.ravel() for a in np.meshgrid(np.linspace(0, SHAPE[1] - 1, 15), np.linspace(0, SHAPE[0] - 1, 30))
    )
    a, b = found.pixel_to_sky(x, y), truth.pixel_to_sky(x, y)
    return np.hypot((a[0] - b[0]) * np.cos(np.radians(b[1])), a[1] - b[1]) * 3.6e6


def test_projection_and_its_inverse_agree():
    xi, eta = tangent_plane(np.array([1.001]), np.array([-0.499]), 1.0, -0.5)
    assert from_tangent_plane(xi[0], eta[0], 1.0, -0.5) == pytest.approx((1.001, -0.499), abs=1e-14)


def test_a_sip_distortion_is_recovered_exactly_without_noise():
    wcs, x, y, _, ra, dec = _stars(200, 0, 0.0)
    found, _ = fit_tan_sip(
        x, y, ra, dec, np.ones(200), crpix=(1000.0, 2000.0), crval=(float(ra[0]), float(dec[0])), order=3
    )
    assert _grid_error_mas(found, wcs).max() < 0.01


@pytest.mark.parametrize(
    ("offset", "rotation"), [((0, 0), 0.0), ((18, -12), 0.3), ((-20, 20), -0.8), ((5, 19), 0.9)]
)
def test_a_wrong_pointing_and_rotation_are_found(offset, rotation):
    noise = 0.02
    wcs, x, y, flux, ra, dec = _stars(250, 4, noise)
    # Half of the sources are not in the catalogue, and it has objects that were not detected.
    rng = np.random.default_rng(1)
    keep = rng.random(250) < 0.6
    extra_ra, extra_dec = ra.mean() + rng.normal(0, 2e-3, 300), dec.mean() + rng.normal(0, 2e-3, 300)
    all_ra, all_dec = np.concatenate([ra[keep], extra_ra]), np.concatenate([dec[keep], extra_dec])
    references = _references(all_ra, all_dec, np.concatenate([flux[keep], 10 ** rng.uniform(3, 6, 300)]))
    fit = fit_astrometry(_first_guess(wcs, offset, rotation), SHAPE, _measured(x, y, noise, flux), references)
    assert fit is not None
    assert fit.used.sum() > 0.95 * keep.sum()
    # 4 mas a star and ten coefficients an axis over 150 stars: 1 mas.
    error = _grid_error_mas(fit.wcs, wcs)
    assert np.sqrt((error**2).mean()) < 3.0
    assert fit.scatter_mean_arcsec == pytest.approx(0.2 * noise * np.sqrt(np.pi / 2), rel=0.15)
    assert fit.offset_arcsec == pytest.approx(np.hypot(*offset), abs=0.5)


def test_distortion_that_is_not_there_is_not_fitted():
    wcs, x, y, flux, ra, dec = _stars(100, 7, 0.05, distortion=0.0)
    fit = fit_astrometry(
        _first_guess(wcs, (3, 3), 0.0), SHAPE, _measured(x, y, 0.05, flux), _references(ra, dec, flux)
    )
    assert fit.order == 1
    assert not fit.wcs.has_sip


def test_few_stars_still_give_a_plain_solution():
    wcs, x, y, flux, ra, dec = _stars(7, 9, 0.02, distortion=0.0)
    fit = fit_astrometry(
        _first_guess(wcs, (8, -4), 0.0), SHAPE, _measured(x, y, 0.02, flux), _references(ra, dec, flux)
    )
    assert fit.order == 1
    assert fit.used.sum() >= 6
    assert np.median(_grid_error_mas(fit.wcs, wcs)) < 20


def test_another_field_does_not_match():
    wcs, x, y, flux, _, _ = _stars(150, 1, 0.02)
    _, _, _, other_flux, ra, dec = _stars(150, 2, 0.02)
    fit = fit_astrometry(
        _first_guess(wcs, (0, 0), 0.0), SHAPE, _measured(x, y, 0.02, flux), _references(ra, dec, other_flux)
    )
    assert fit is None


def test_pairs_are_mutual_nearest_neighbours():
    a = np.array([0.0, 1.0, 10.0])
    b = np.array([0.9, 30.0])
    rows, references, distance = match_nearest(a, 0 * a, b, 0 * b, 2.0)
    assert (rows.tolist(), references.tolist()) == ([1], [0])
    assert distance[0] == pytest.approx(0.1)
    assert len(match_nearest(a[:0], a[:0], b, b, 1.0)[0]) == 0


def test_too_few_objects_are_no_pattern():
    one = np.array([1.0])
    assert match_pattern(PointSet(one, one, one), PointSet(one, one, one)) is None


def test_zero_point_is_found_among_variable_stars_and_galaxies():
    rng = np.random.default_rng(3)
    n = 100
    truth = 10 ** rng.uniform(3, 5, n)
    err = 0.002 * truth + 30
    flux = truth + rng.normal(0, err)
    reference = PhotoCalib.from_zero_point(27.3).instFluxToNanojansky(truth) * (1 + rng.normal(0, 0.005, n))
    reference[:15] *= 10 ** (0.4 * rng.uniform(0.2, 1.0, 15))
    fit = fit_zero_point(flux, err, reference, 0.005 * reference)
    assert fit.zero_point_mag == pytest.approx(27.3, abs=4 * fit.error_mag)
    assert fit.error_mag < 0.002
    assert not fit.used[:15].any()
    assert fit.photo_calib.zero_point_mag == pytest.approx(fit.zero_point_mag)
    assert fit_zero_point(flux[:0], err[:0], reference[:0], reference[:0]) is None


def test_one_star_is_a_zero_point_too():
    fit = fit_zero_point(np.array([1e4]), np.array([10.0]), np.array([2e4]), np.array([0.0]))
    assert fit.photo_calib.calibration_mean == pytest.approx(2.0)


def test_reference_shards_are_joined_cut_and_moved_to_the_epoch():
    wcs, _, _, flux, ra, dec = _stars(60, 5, 0.0)
    table = Table(
        {
            "id": np.arange(60),
            "coord_ra": np.degrees(ra) * u.deg,
            "coord_dec": np.degrees(dec) * u.deg,
            "r_flux": flux * u.nJy,
            "r_fluxErr": 0.01 * flux * u.nJy,
            "pm_ra": np.full(60, 100.0) * u.mas / u.yr,
            "pm_dec": np.full(60, -50.0) * u.mas / u.yr,
            "epoch": np.full(60, 57388.0),
        }
    )
    far = table[:5].copy()
    far["coord_dec"] = far["coord_dec"] + 10
    stars = load_reference_stars(
        [table[:40], table[30:], far, table[:0]], wcs, SHAPE, band="r", epoch_mjd=57388.0 + 3652.5
    )
    assert len(stars) == 60
    assert stars.flux_column == "r_flux"
    order = np.argsort(stars.id)
    np.testing.assert_allclose((stars.dec[order] - dec) / MAS, -500, atol=1e-2)
    np.testing.assert_allclose((stars.ra[order] - ra) * np.cos(dec) / MAS, 1000, atol=1e-2)


def test_a_missing_filter_names_what_there_is():
    assert flux_column(["g_flux", "r_flux"], "r", "HSC-R", {}) == "r_flux"
    assert flux_column(["g_flux", "phot_g"], "g", "g#782", {"g#782": "phot_g"}) == "phot_g"
    with pytest.raises(KeyError, match="filterMap"):
        flux_column(["g_flux"], "y", "HSC-Y", {})


@pytest.mark.parametrize("seed", range(6))
def test_unrelated_catalogues_do_not_match_however_crowded(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(20, 800, 2)
    a = rng.uniform(0, 2000, (2, n))
    b = rng.uniform(-200, 2200, (2, m))
    match = match_pattern(
        PointSet(*a, rng.random(n)), PointSet(*b, rng.random(m)), max_offset=150.0, final_radius=5.0
    )
    assert match is None


@pytest.mark.parametrize("n", [5, 8, 15, 40])
def test_few_stars_match_among_many_references(n):
    rng = np.random.default_rng(n)
    b = rng.uniform(-200, 1200, (2, 6 * n))
    flux = 10 ** rng.uniform(3, 6, 6 * n)
    inside = np.flatnonzero((b > 0).all(axis=0) & (b < 1000).all(axis=0))[:n]
    x, y = b[:, inside] + np.array([[53.0], [-81.0]]) + rng.normal(0, 0.1, (2, len(inside)))
    match = match_pattern(
        PointSet(x, y, flux[inside]), PointSet(*b, flux), max_offset=150.0, max_rotation_deg=0.5
    )
    assert match is not None
    assert len(match.source) >= len(inside) - 1
    np.testing.assert_array_equal(match.reference, inside[match.source])
