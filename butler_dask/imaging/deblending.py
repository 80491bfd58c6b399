"""Deblending: the light of a footprint with several peaks divided among them.

As in the SDSS (Lupton 2005, "SDSS Image Processing I: The Deblender"): each peak gets a template, and each
pixel's light is divided in proportion to the templates. A peak that the PSF fits has the PSF as template; any
other has the smaller of the two values at opposite sides of its centre, which is right for whatever has
that symmetry and excludes neighbours. All peaks are first fitted together by the PSF, one after the other
against what the others leave, until that settles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure
from .footprints import FootprintSet
from .noise_model import variance_slope
from .psf import Psf
from .psf_images import PsfSpline, kernel_spline, psf_spline, render
from .stamps import DEFAULT_BAD_PLANES, SourceList


@dataclass(frozen=True, slots=True)
class Deblend:
    """Result of `deblend_sources`.

    Parameters
    ----------
    sources : `SourceList`
        The parents, as given, and behind them the children.
    n_deblended : `int`
        Parents that were divided.
    skipped : `numpy.ndarray`, shape (n_skipped,), int64 [1]
        Rows of parents left whole for their size.
    """

    sources: SourceList
    n_deblended: int
    skipped: NDArray[np.int64]


def sources_from_footprints(
    footprints: FootprintSet, sky_positions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> SourceList:
    """Make one source of each footprint, at its highest peak, and one of each sky position.

    Parameters
    ----------
    footprints : `FootprintSet`
        Detected sources.
    sky_positions : `tuple` of two `numpy.ndarray`, shape (n,), float64 [pixels], optional
        x and y of sky sources.
    """
    n = len(footprints)
    first = np.searchsorted(footprints.peak_footprint, np.arange(1, n + 1))
    sky_x, sky_y = (np.zeros(0), np.zeros(0)) if sky_positions is None else sky_positions
    m = len(sky_x)
    return SourceList(
        x=np.concatenate([footprints.peak_x[first].astype(np.float64), sky_x]),
        y=np.concatenate([footprints.peak_y[first].astype(np.float64), sky_y]),
        footprint=np.concatenate([np.arange(1, n + 1), np.zeros(m, np.int64)]),
        boxes=np.concatenate([footprints.boxes, np.zeros((m, 4), np.int64)]),
        parent_index=np.full(n + m, -1, np.int64),
        n_child=np.zeros(n + m, np.int64),
        fixed=np.arange(n + m) >= n,
        significance=np.concatenate([footprints.peak_significance[first], np.zeros(m)]),
        share_offset=np.full(n + m, -1, np.int64),
    )


class _Blend(NamedTuple):
    """A footprint with several peaks: arrays of its box, shape (height, width)."""

    image: NDArray[np.float64]
    inside: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    variance: float
    slope: float


class _Peaks(NamedTuple):
    """Peaks of a blend: places in its box [pixels], PSF flux and kernel of each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    kernels: NDArray[np.float64]
    step: float
    half: int


@numba.njit(cache=True, nogil=True)
def _fit_peak(
    residual: NDArray[np.float64], blend: _Blend, peaks: _Peaks, k: int, radius: float, move: bool
) -> tuple[float, float, float]:
    """One Gauss-Newton step of flux and position against the light the others leave."""
    usable, variance, slope = blend.usable, blend.variance, blend.slope
    x, y = peaks.x[k], peaks.y[k]
    h, w = residual.shape
    reach = int(np.ceil(radius)) + 1
    cx, cy = int(np.rint(x)), int(np.rint(y))
    p, px, py = render(peaks.kernels[k], x - cx, y - cy, reach, peaks.step, True)
    num, den = 0.0, 0.0
    for i in range(2 * reach + 1):
        b = cy - reach + i
        if b < 0 or b >= h:
            continue
        for j in range(2 * reach + 1):
            a = cx - reach + j
            if a < 0 or a >= w or not usable[b, a] or (a - x) ** 2 + (b - y) ** 2 > radius * radius:
                continue
            num += p[i, j] * residual[b, a]
            den += p[i, j] * p[i, j]
    if den <= 0.0:
        return 0.0, x, y
    flux = num / den
    if not flux > 0.0 or not move:
        return max(flux, 0.0), x, y
    a11, a12, a22, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(2 * reach + 1):
        b = cy - reach + i
        if b < 0 or b >= h:
            continue
        for j in range(2 * reach + 1):
            a = cx - reach + j
            if a < 0 or a >= w or not usable[b, a] or (a - x) ** 2 + (b - y) ** 2 > radius * radius:
                continue
            weight = 1.0 / (variance + slope * max(flux * p[i, j], 0.0))
            gx, gy = flux * px[i, j], flux * py[i, j]
            r = residual[b, a] - flux * p[i, j]
            a11 += weight * gx * gx
            a12 += weight * gx * gy
            a22 += weight * gy * gy
            b1 += weight * gx * r
            b2 += weight * gy * r
    det = a11 * a22 - a12 * a12
    if not det > 1e-12 * a11 * a22:
        return flux, x, y
    dx, dy = (a22 * b1 - a12 * b2) / det, (a11 * b2 - a12 * b1) / det
    length = np.sqrt(dx * dx + dy * dy)
    if length > 0.5:
        dx, dy = 0.5 * dx / length, 0.5 * dy / length
    return flux, x + dx, y + dy


@numba.njit(cache=True, nogil=True)
def _add_psf(image: NDArray[np.float64], peaks: _Peaks, k: int, flux: float) -> None:
    h, w = image.shape
    half = peaks.half
    cx, cy = int(np.rint(peaks.x[k])), int(np.rint(peaks.y[k]))
    p, _, _ = render(peaks.kernels[k], peaks.x[k] - cx, peaks.y[k] - cy, half, peaks.step, False)
    for i in range(2 * half + 1):
        b = cy - half + i
        if b < 0 or b >= h:
            continue
        for j in range(2 * half + 1):
            a = cx - half + j
            if 0 <= a < w:
                image[b, a] += flux * p[i, j]


# The parts of one loop are inlined: compiled each by itself they would cost a second more at the first run.
@numba.njit(cache=True, nogil=True, inline="always")
def _fit_jointly(blend: _Blend, peaks: _Peaks, radius: float, n_rounds: int) -> NDArray[np.float64]:
    """Move the peaks to where the light is, set their fluxes, and return what they leave of the image."""
    n = peaks.x.size
    x, y, flux = peaks.x, peaks.y, peaks.flux
    x0, y0 = x.copy(), y.copy()
    residual = blend.image.copy()
    for r in range(n_rounds):
        for k in range(n):
            if flux[k] > 0:
                _add_psf(residual, peaks, k, flux[k])
            f, nx, ny = _fit_peak(residual, blend, peaks, k, radius, r > 0)
            # A peak that walks off is held where it was detected.
            if (nx - x0[k]) ** 2 + (ny - y0[k]) ** 2 <= 2.25:
                x[k], y[k] = nx, ny
            flux[k] = f
            if f > 0:
                _add_psf(residual, peaks, k, -f)
    return residual


@numba.njit(cache=True, nogil=True, inline="always")
def _psf_explains(
    residual: NDArray[np.float64], blend: _Blend, peaks: _Peaks, radius: float, model_error: float
) -> NDArray[np.bool_]:
    """Say which peaks the PSF explains, to within the noise and its own error."""
    h, w = residual.shape
    image, usable, variance, slope = blend.image, blend.usable, blend.variance, blend.slope
    reach = int(np.ceil(radius))
    point = np.zeros(peaks.x.size, np.bool_)
    for k in range(peaks.x.size):
        x, y, flux = peaks.x[k], peaks.y[k], peaks.flux[k]
        cx, cy = int(np.rint(x)), int(np.rint(y))
        p, _, _ = render(peaks.kernels[k], x - cx, y - cy, reach, peaks.step, False)
        chi2, count = 0.0, 0
        for i in range(2 * reach + 1):
            b = cy - reach + i
            if b < 0 or b >= h:
                continue
            for j in range(2 * reach + 1):
                a = cx - reach + j
                if a < 0 or a >= w or not usable[b, a] or (a - x) ** 2 + (b - y) ** 2 > radius * radius:
                    continue
                light = max(flux * p[i, j], 0.0)
                total = max(image[b, a] - residual[b, a], light)
                chi2 += residual[b, a] ** 2 / (variance + slope * total + (model_error * total) ** 2)
                count += 1
        point[k] = flux > 0 and count > 5 and chi2 < count + 4.0 * np.sqrt(2.0 * count)
    return point


@numba.njit(cache=True, nogil=True, inline="always")
def _templates(blend: _Blend, peaks: _Peaks, point: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return what each peak alone would look like: its PSF, or what is symmetric about it."""
    image, inside = blend.image, blend.inside
    h, w = image.shape
    n = peaks.x.size
    templates = np.zeros((n, h, w), np.float32)
    others = np.zeros((h, w))
    for k in range(n):
        if point[k]:
            _add_psf(others, peaks, k, peaks.flux[k])
    for k in range(n):
        if point[k]:
            one = np.zeros((h, w))
            _add_psf(one, peaks, k, peaks.flux[k])
            for i in range(h):
                for j in range(w):
                    if inside[i, j]:
                        templates[k, i, j] = max(one[i, j], 0.0)
            continue
        cx2, cy2 = int(np.rint(2.0 * peaks.x[k])), int(np.rint(2.0 * peaks.y[k]))
        for i in range(h):
            for j in range(w):
                a, b = cx2 - j, cy2 - i
                if not inside[i, j] or a < 0 or b < 0 or a >= w or b >= h or not inside[b, a]:
                    continue
                here, there = image[i, j] - others[i, j], image[b, a] - others[b, a]
                low = min(here, there)
                if low > 0:
                    templates[k, i, j] = low
    return templates


@numba.njit(cache=True, nogil=True, inline="always")
def _divide(templates: NDArray[np.float32], blend: _Blend, peaks: _Peaks) -> None:
    """Turn templates into shares of each pixel, in place."""
    n, h, w = templates.shape
    for i in range(h):
        for j in range(w):
            if not blend.inside[i, j]:
                continue
            total = 0.0
            for k in range(n):
                total += templates[k, i, j]
            if total > 1e-3 * np.sqrt(blend.variance):
                for k in range(n):
                    templates[k, i, j] /= total
            else:
                # Stray light goes to the peaks by their nearness.
                total = 0.0
                for k in range(n):
                    d = 1.0 / (1.0 + (j - peaks.x[k]) ** 2 + (i - peaks.y[k]) ** 2) ** 2
                    templates[k, i, j] = d
                    total += d
                for k in range(n):
                    templates[k, i, j] /= total


@numba.njit(cache=True, nogil=True)
def _shares(
    blend: _Blend,
    spline: PsfSpline,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    half: int,
    sigma: float,
    n_rounds: int,
    model_error: float,
) -> NDArray[np.float32]:
    """Shares of each peak in each pixel; x and y are moved to where the light is."""
    n = x.size
    kernels = np.empty((n, spline.coefficients.shape[1], spline.coefficients.shape[2]))
    for k in range(n):
        kernels[k] = kernel_spline(spline, k)
    peaks = _Peaks(x, y, np.zeros(n), kernels, spline.step, half)
    radius = 2.0 * sigma
    residual = _fit_jointly(blend, peaks, radius, n_rounds)
    point = _psf_explains(residual, blend, peaks, radius, model_error)
    templates: NDArray[np.float32] = _templates(blend, peaks, point)
    _divide(templates, blend, peaks)
    return templates


def deblend_sources(
    exposure: Exposure,
    footprints: FootprintSet,
    sources: SourceList,
    psf: Psf,
    *,
    max_area: int = 100_000,
    max_peaks: int = 200,
    n_rounds: int = 4,
    model_error: float = 0.02,
) -> Deblend:
    """Divide every footprint with several peaks into children.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted; NOT_DEBLENDED is set in footprints left whole.
    footprints : `FootprintSet`
        With their peaks.
    sources : `SourceList`
        One a footprint, in order, perhaps followed by sky sources.
    psf : `Psf`
        The model.
    max_area : `int`
        Larger footprints are left whole [pixels].
    max_peaks : `int`
        Of more peaks in one footprint only the highest are used.
    n_rounds : `int`
        Rounds of the joint PSF fit.
    model_error : `float`
        Error of the PSF as a fraction of its value, when judging whether a peak is one.

    Returns
    -------
    deblend : `Deblend`
    """
    n = len(sources)
    counts = np.bincount(footprints.peak_footprint, minlength=len(footprints) + 1)[1:]
    starts = np.concatenate([[0], np.cumsum(counts)])
    blended = np.flatnonzero(counts > 1)
    too_large = blended[footprints.areas[blended] > max_area]
    for k in too_large:
        x0, y0, x1, y1 = footprints.boxes[k]
        patch = footprints.labels[y0:y1, x0:x1] == k + 1
        exposure.mask.array[y0:y1, x0:x1][patch] |= np.int32(exposure.mask.bitmask("NOT_DEBLENDED"))
    spline = psf_spline(psf, footprints.peak_x, footprints.peak_y)
    half = psf.size // 2
    sigma = psf.sigma_at(*psf.center)
    slope = variance_slope(exposure, footprints.labels)
    bad = exposure.mask.bitmask([p for p in DEFAULT_BAD_PLANES if p in exposure.mask.planes])
    xs, ys, parents, offsets, significances = [], [], [], [], []
    shares: list[NDArray[np.float32]] = []
    offset = 0
    n_child = sources.n_child.copy()
    n_deblended = 0
    for k in np.setdiff1d(blended, too_large):
        rows = slice(starts[k], min(starts[k + 1], starts[k] + max_peaks))
        x0, y0, x1, y1 = footprints.boxes[k]
        box = (slice(y0, y1), slice(x0, x1))
        inside = footprints.labels[box] == k + 1
        image = np.where(inside, exposure.image[box], 0.0).astype(np.float64)
        usable = inside & ((exposure.mask.array[box] & bad) == 0) & np.isfinite(image)
        image[~np.isfinite(image)] = 0.0
        variance = float(np.median(exposure.variance[box][inside] - slope * np.maximum(image[inside], 0.0)))
        x = footprints.peak_x[rows].astype(np.float64) - x0
        y = footprints.peak_y[rows].astype(np.float64) - y0
        blend = _Blend(image, inside, usable, max(variance, 1e-6), slope)
        own_spline = spline._replace(terms=spline.terms[rows])
        share = _shares(blend, own_spline, x, y, half, sigma, n_rounds, model_error)
        xs.append(x + x0)
        ys.append(y + y0)
        parents.append(np.full(len(x), k, np.int64))
        significances.append(footprints.peak_significance[rows])
        offsets.append(offset + np.arange(len(x)) * share[0].size)
        shares.append(share.ravel())
        offset += share.size
        n_child[k] = len(x)
        n_deblended += 1
    if not xs:
        return Deblend(sources, 0, too_large)
    parent = np.concatenate(parents)
    m = len(parent)
    return Deblend(
        SourceList(
            x=np.concatenate([sources.x, *xs]),
            y=np.concatenate([sources.y, *ys]),
            footprint=np.concatenate([sources.footprint, sources.footprint[parent]]),
            boxes=np.concatenate([sources.boxes, sources.boxes[parent]]),
            parent_index=np.concatenate([sources.parent_index, parent]),
            n_child=np.concatenate([n_child, np.zeros(m, np.int64)]),
            fixed=np.concatenate([sources.fixed, np.zeros(m, bool)]),
            significance=np.concatenate([sources.significance, *significances]),
            share_offset=np.concatenate([np.full(n, -1, np.int64), *offsets]),
            shares=np.concatenate(shares),
        ),
        n_deblended,
        too_large,
    )
