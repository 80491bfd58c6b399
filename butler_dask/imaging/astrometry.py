"""Astrometry: a TAN-SIP world coordinate system fitted to matched stars.

Matching and fitting take turns until neither changes. Higher orders are kept only where they lower the
Bayesian information criterion (Schwarz 1978, Ann. Stat. 6, 461; doi:10.1214/aos/1176344136): distortion that
is not there is not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .matching import PointSet, match_nearest, match_pattern
from .reference_catalog import ReferenceStars
from .sky_wcs import SkyWcs
from .tan_sip import fit_tan_sip, separation

MAS_PER_RAD = 180.0 / np.pi * 3600e3


@dataclass(frozen=True, slots=True)
class AstrometricFit:
    """Result of `fit_astrometry`.

    Parameters
    ----------
    wcs : `SkyWcs`
        Fitted.
    source, reference : `numpy.ndarray`, shape (n,), int64 [1]
        Rows of the matched pairs.
    used : `numpy.ndarray`, shape (n,), bool [1]
        Pairs the fit rests on.
    separation_arcsec : `numpy.ndarray`, shape (n,), float64 [arcsec]
        Great-circle separation after the fit.
    n_iterations : `int`
        Rounds of matching and fitting.
    order : `int`
        Order of the polynomial (1: no SIP).
    offset_arcsec : `float`
        How far the centre moved from the first WCS [arcsec].
    """

    wcs: SkyWcs
    source: NDArray[np.int64]
    reference: NDArray[np.int64]
    used: NDArray[np.bool_]
    separation_arcsec: NDArray[np.float64]
    n_iterations: int
    order: int
    offset_arcsec: float

    @property
    def scatter_mean_arcsec(self) -> float:
        """Mean separation of the pairs used [arcsec]."""
        return float(self.separation_arcsec[self.used].mean())

    @property
    def scatter_std_arcsec(self) -> float:
        """Standard deviation of their separations [arcsec]."""
        return float(self.separation_arcsec[self.used].std())


def _order_allowed(n: int, order: int, pairs_per_term: float = 2.5) -> int:
    while order > 1 and n < pairs_per_term * (order + 1) * (order + 2) / 2:
        order -= 1
    return order


@dataclass(frozen=True, slots=True)
class MeasuredStars:
    """Sources whose places on the detector were measured.

    Parameters
    ----------
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions.
    error : `numpy.ndarray`, shape (n,), float64 [pixels]
        Error of a position along one axis.
    flux : `numpy.ndarray`, shape (n,), float64 [any unit of flux]
        The brightest are matched first.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error: NDArray[np.float64]
    flux: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class AstrometryOptions:
    """How `fit_astrometry` searches and fits.

    Parameters
    ----------
    order : `int`
        Highest order of the distortion; less if there are few pairs or it does not help.
    max_offset_arcsec, max_rotation_deg : `float`
        How wrong the first guess may be [arcsec, deg].
    match_radius_arcsec : `float`
        Largest separation of a pair [arcsec].
    n_sigma, n_iterations : `float`, `int`
        Clipping.
    min_matches : `int`
        Fewer pairs are no solution.
    floor_mas : `float`
        Error added to every pair [mas].
    """

    order: int = 3
    max_offset_arcsec: float = 30.0
    max_rotation_deg: float = 1.0
    match_radius_arcsec: float = 1.0
    n_sigma: float = 3.5
    n_iterations: int = 8
    min_matches: int = 3
    floor_mas: float = 1.0


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Matched rows of sources and references, and which of the pairs a fit rests on."""

    source: NDArray[np.int64]
    reference: NDArray[np.int64]
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.source)

    def same_as(self, other: _Pairs) -> bool:
        return (
            np.array_equal(self.source, other.source)
            and np.array_equal(self.reference, other.reference)
            and np.array_equal(self.used, other.used)
        )


@dataclass(frozen=True, slots=True)
class _Field:
    """Sources and references of one image, and where it looks, to a first guess."""

    sources: MeasuredStars
    references: ReferenceStars
    crpix: tuple[float, float]
    crval: tuple[float, float]
    pixel_rad: float
    floor_mas: float

    def variance(self, pairs: _Pairs) -> NDArray[np.float64]:
        """Return the variance of each pair's separation along one axis [rad2]."""
        result: NDArray[np.float64] = (
            (self.sources.error[pairs.source] * self.pixel_rad) ** 2
            + self.references.position_err[pairs.reference] ** 2
            + (self.floor_mas / MAS_PER_RAD) ** 2
        )
        return result

    def separations(self, wcs: SkyWcs, pairs: _Pairs) -> NDArray[np.float64]:
        """Return how far apart each pair is on the sky [rad]."""
        ra, dec = wcs.pixel_to_sky(self.sources.x[pairs.source], self.sources.y[pairs.source])
        return separation(
            np.radians(ra),
            np.radians(dec),
            self.references.ra[pairs.reference],
            self.references.dec[pairs.reference],
        )


def fit_astrometry(
    wcs: SkyWcs,
    shape: tuple[int, int],
    sources: MeasuredStars,
    references: ReferenceStars,
    options: AstrometryOptions | None = None,
) -> AstrometricFit | None:
    """Match sources to a reference catalogue and fit the world coordinates.

    Parameters
    ----------
    wcs : `SkyWcs`
        First guess, from the telescope's pointing.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the image.
    sources : `MeasuredStars`
        What was measured on it.
    references : `ReferenceStars`
        What should be there; fluxes that are not known count as faint.
    options : `AstrometryOptions`, optional
        Limits of the search and the fit.

    Returns
    -------
    fit : `AstrometricFit` or `None`
        None when no match was found.
    """
    options = options or AstrometryOptions()
    ny, nx = shape
    crpix = ((nx - 1) / 2, (ny - 1) / 2)
    scale = wcs.pixel_scale_arcsec(*crpix)
    radius = max(options.match_radius_arcsec / scale, 2.0)
    x, y = _predicted(wcs, references)
    match = match_pattern(
        PointSet(sources.x, sources.y, sources.flux),
        PointSet(x, y, np.nan_to_num(references.flux)),
        max_offset=options.max_offset_arcsec / scale,
        max_rotation_deg=options.max_rotation_deg,
        final_radius=radius,
        min_matches=options.min_matches,
    )
    if match is None:
        return None
    crval = _sky_position(wcs, crpix)
    pixel_rad = np.radians(scale / 3600)
    field = _Field(sources, references, crpix, crval, pixel_rad, options.floor_mas)
    pairs = _Pairs(match.source, match.reference, np.ones(len(match.source), bool))
    fitted, order, iteration = wcs, 1, 0
    for iteration in range(1, options.n_iterations + 1):
        # Early rounds stay stiff: a wrong pair at the edge must not bend the plane.
        highest = options.order if iteration > 1 else min(options.order, 2)
        fitted, order, reduced = _best_order(field, pairs, highest)
        rematched = _rematched(field, fitted, radius, reduced, options)
        if rematched is None:
            return None
        same = rematched.same_as(pairs)
        pairs = rematched
        middle = float(np.median(field.separations(fitted, pairs)))
        radius = max(min(radius, 10.0 * middle / pixel_rad + 0.5), 0.75)
        if same and iteration > 2:
            break
    offset = separation(*(np.array(v) for v in (*crval, *_sky_position(fitted, crpix))))
    return AstrometricFit(
        fitted,
        pairs.source,
        pairs.reference,
        pairs.used,
        np.degrees(field.separations(fitted, pairs)) * 3600,
        iteration,
        order,
        float(np.degrees(offset) * 3600),
    )


def _sky_position(wcs: SkyWcs, pixel: tuple[float, float]) -> tuple[float, float]:
    """Return right ascension and declination of one pixel position [rad]."""
    ra, dec = wcs.pixel_to_sky(*pixel)
    return float(np.radians(ra)), float(np.radians(dec))


def _predicted(wcs: SkyWcs, stars: ReferenceStars) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where stars should be [pixels]; those the projection cannot reach are far away."""
    x, y = wcs.sky_to_pixel(np.degrees(stars.ra), np.degrees(stars.dec))
    sane = np.isfinite(x) & np.isfinite(y)
    return np.where(sane, x, 1e9), np.where(sane, y, 1e9)


def _best_order(field: _Field, pairs: _Pairs, highest: int) -> tuple[SkyWcs, int, float]:
    """Fit every order that so many pairs allow; return the best one, its order and its reduced chi2."""
    n_used = int(pairs.used.sum())
    rows, references = pairs.source[pairs.used], pairs.reference[pairs.used]
    weight = 1.0 / field.variance(pairs)[pairs.used]
    candidates = []
    for order in range(1, _order_allowed(n_used, highest) + 1):
        wcs, chi2 = fit_tan_sip(
            field.sources.x[rows],
            field.sources.y[rows],
            field.references.ra[references],
            field.references.dec[references],
            weight,
            crpix=field.crpix,
            crval=field.crval,
            order=order,
        )
        n_parameters = (order + 1) * (order + 2)
        freedom = max(2 * n_used - n_parameters, 1)
        # With errors known only up to a factor, BIC = n ln(chi2 / n) + k ln n.
        bic = 2 * n_used * np.log(max(chi2, 1e-9) / (2 * n_used)) + 2.0 * n_parameters
        candidates.append((bic, order, wcs, chi2 / freedom))
    _, order, wcs, reduced = min(candidates, key=lambda c: c[0])
    return wcs, order, reduced


def _rematched(
    field: _Field, wcs: SkyWcs, radius: float, reduced: float, options: AstrometryOptions
) -> _Pairs | None:
    """Pair sources and references anew by a fitted WCS, outliers not used; None if there are too few."""
    x, y = _predicted(wcs, field.references)
    rows, references, _ = match_nearest(field.sources.x, field.sources.y, x, y, radius)
    if len(rows) < options.min_matches:
        return None
    pairs = _Pairs(rows, references, np.ones(len(rows), bool))
    pull = field.separations(wcs, pairs) / np.sqrt(2 * field.variance(pairs) * max(reduced, 0.25))
    used = pull < options.n_sigma
    if used.sum() < options.min_matches:
        used = pull <= np.sort(pull)[min(options.min_matches, len(pull)) - 1]
    return _Pairs(rows, references, used)
