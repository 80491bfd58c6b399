"""Matching: detected sources with reference objects, when the pointing is off.

Every pair of a bright source and a bright reference object votes for the offset between them: true pairs
agree on one offset, false ones spread evenly, so the peak of the histogram is the pointing error. A small
rotation is tried in steps. From the peak an affine transformation is refined with a shrinking search radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Match:
    """Pairs of rows, and the transformation that brought them together.

    Parameters
    ----------
    source, reference : `numpy.ndarray`, shape (n,), int64
        Rows of each pair; each row at most once.
    distance : `numpy.ndarray`, shape (n,), float64
        Separation after the transformation [pixels].
    affine : `numpy.ndarray`, shape (2, 3), float64
        Predicted reference position (x, y, 1) to observed position [pixels].
    votes, expected_votes : `float`
        Pairs in the winning bin of offsets, and by chance.
    """

    source: NDArray[np.int64]
    reference: NDArray[np.int64]
    distance: NDArray[np.float64]
    affine: NDArray[np.float64]
    votes: float
    expected_votes: float


def match_nearest(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    reference_x: NDArray[np.float64],
    reference_y: NDArray[np.float64],
    radius: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pair points that are each other's nearest, within a radius.

    Parameters
    ----------
    x, y, reference_x, reference_y : `numpy.ndarray`
        Positions [pixels].
    radius : `float`
        [pixels].

    Returns
    -------
    source, reference : `numpy.ndarray`, int64
        Rows.
    distance : `numpy.ndarray`, float64
        [pixels].
    """
    from scipy.spatial import cKDTree

    if len(x) == 0 or len(reference_x) == 0:
        empty = np.zeros(0, np.int64)
        return empty, empty, np.zeros(0)
    sources, references = np.column_stack([x, y]), np.column_stack([reference_x, reference_y])
    found = cKDTree(references).query(sources, distance_upper_bound=radius)
    distance, nearest = np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)
    back = np.asarray(cKDTree(sources).query(references)[1], np.int64)
    rows = np.flatnonzero(np.isfinite(distance))
    rows = rows[back[nearest[rows]] == rows]
    return rows.astype(np.int64), nearest[rows], distance[rows]


def _vote(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    rx: NDArray[np.float64],
    ry: NDArray[np.float64],
    max_offset: float,
    bin_size: float,
) -> tuple[float, float, float, float]:
    """Return the most frequent offset (dx, dy), its votes and the votes expected by chance."""
    dx = (x[:, np.newaxis] - rx[np.newaxis, :]).ravel()
    dy = (y[:, np.newaxis] - ry[np.newaxis, :]).ravel()
    near = (np.abs(dx) < max_offset) & (np.abs(dy) < max_offset)
    n_bins = max(3, int(np.ceil(2 * max_offset / bin_size)))
    a = ((dx[near] + max_offset) / bin_size).astype(np.int64)
    b = ((dy[near] + max_offset) / bin_size).astype(np.int64)
    counts = np.bincount(b * n_bins + a, minlength=n_bins * n_bins).reshape(n_bins, n_bins).astype(np.float64)
    # 2 x 2 sums, since the true offset may lie on the border of bins.
    sums = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    k = int(np.argmax(sums))
    row, column = divmod(k, sums.shape[1])
    expected = 4.0 * near.sum() / n_bins**2
    return (
        (column + 1) * bin_size - max_offset,
        (row + 1) * bin_size - max_offset,
        float(sums.max()),
        float(expected),
    )


def match_pattern(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    brightness: NDArray[np.float64],
    reference_x: NDArray[np.float64],
    reference_y: NDArray[np.float64],
    reference_brightness: NDArray[np.float64],
    *,
    max_offset: float = 250.0,
    max_rotation_deg: float = 1.0,
    n_bright: int = 150,
    bin_size: float = 6.0,
    final_radius: float = 3.0,
    min_matches: int = 3,
) -> Match | None:
    """Match sources to reference objects whose predicted positions may be far off.

    Parameters
    ----------
    x, y : `numpy.ndarray`, shape (n,)
        Observed positions [pixels].
    brightness : `numpy.ndarray`, shape (n,)
        Instrumental fluxes; the brightest are matched first.
    reference_x, reference_y, reference_brightness : `numpy.ndarray`, shape (m,)
        Predicted positions [pixels] and fluxes.
    max_offset : `float`
        Largest pointing error along each axis [pixels].
    max_rotation_deg : `float`
        Largest error of the position angle [deg].
    n_bright : `int`
        Sources and reference objects that vote.
    bin_size : `float`
        Of the offset histogram [pixels].
    final_radius : `float`
        Largest separation of a pair after refinement [pixels].
    min_matches : `int`
        Fewer pairs are no match.

    Returns
    -------
    match : `Match` or `None`
        None when no offset is more frequent than chance allows for all places tried, or too few pairs remain.
    """
    if len(x) < min_matches or len(reference_x) < min_matches:
        return None
    top = np.argsort(-brightness, kind="stable")[:n_bright]
    # The reference catalogue reaches beyond the detector, by an area that the pointing error decides.
    inside = (
        (reference_x > x.min() - max_offset)
        & (reference_x < x.max() + max_offset)
        & (reference_y > y.min() - max_offset)
        & (reference_y < y.max() + max_offset)
    )
    candidates = np.flatnonzero(inside)
    if len(candidates) < min_matches:
        return None
    ratio = ((np.ptp(x) + 2 * max_offset) * (np.ptp(y) + 2 * max_offset)) / max(np.ptp(x) * np.ptp(y), 1.0)
    n_reference = int(min(len(candidates), n_bright * min(ratio, 4.0)))
    reference_top = candidates[np.argsort(-reference_brightness[candidates], kind="stable")[:n_reference]]
    cx, cy = float(np.mean(x)), float(np.mean(y))
    extent = 0.5 * float(np.hypot(np.ptp(x), np.ptp(y)))
    # Steps small enough that the far corner moves by half a bin.
    rotation_step = np.degrees(bin_size / max(extent, bin_size))
    n_steps = int(np.ceil(max_rotation_deg / rotation_step))
    best = (1.0, 0.0, 0.0, 0.0, -np.inf, 1.0, 1.0)
    for k in sorted(range(-n_steps, n_steps + 1), key=abs):
        angle = np.radians(k * rotation_step)
        c, s = np.cos(angle), np.sin(angle)
        u, v = reference_x[reference_top] - cx, reference_y[reference_top] - cy
        rx, ry = cx + c * u - s * v, cy + s * u + c * v
        dx, dy, votes, expected = _vote(x[top], y[top], rx, ry, max_offset, bin_size)
        score = (votes - expected) / np.sqrt(expected + 1.0)
        if score > best[4]:
            best = (c, s, dx, dy, score, votes, expected)
    c, s, dx, dy, _, votes, expected = best
    n_trials = (2 * n_steps + 1) * (2 * max_offset / bin_size) ** 2
    # Near the middle of the histogram chance pairs are up to twice as frequent as on average.
    if _chance(votes, 2.0 * expected) * n_trials > 1e-2 and votes < 0.7 * min(len(top), len(reference_top)):
        return None
    affine = np.array([[c, -s, cx + dx - c * cx + s * cy], [s, c, cy + dy - s * cx - c * cy]])
    rows = references = np.zeros(0, np.int64)
    distance = np.zeros(0)
    for radius in (
        1.5 * bin_size,
        1.0 * bin_size,
        max(final_radius, 0.5 * bin_size),
        final_radius,
        final_radius,
    ):
        tx, ty = _apply(affine, reference_x, reference_y)
        rows, references, distance = match_nearest(x[top], y[top], tx, ty, radius)
        if len(rows) < min_matches:
            return None
        affine = _fit_affine(
            reference_x[references], reference_y[references], x[top][rows], y[top][rows], affine
        )
    tx, ty = _apply(affine, reference_x, reference_y)
    rows, references, distance = match_nearest(x, y, tx, ty, final_radius)
    if len(rows) < min_matches:
        return None
    # Unrelated catalogues have some pairs too, and the fit has chosen the best of many places to look.
    on_image = (tx > x.min()) & (tx < x.max()) & (ty > y.min()) & (ty < y.max())
    density = on_image.sum() / max(float(np.ptp(x) * np.ptp(y)), 1.0)
    by_chance = len(x) * density * np.pi * final_radius**2
    if _chance(len(rows), by_chance) * n_trials > 1e-3 and len(rows) < 0.5 * min(len(x), int(on_image.sum())):
        return None
    return Match(rows, references, distance, affine, votes, expected)


def _chance(count: float, expected: float) -> float:
    """Return the probability of at least so many Poisson events."""
    from scipy.special import gammainc

    return float(gammainc(max(count, 1e-9), expected)) if expected > 0 else 0.0


def _apply(
    affine: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        affine[0, 0] * x + affine[0, 1] * y + affine[0, 2],
        affine[1, 0] * x + affine[1, 1] * y + affine[1, 2],
    )


def _fit_affine(
    rx: NDArray[np.float64],
    ry: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Least squares with one round of clipping; only an offset if there are few pairs."""
    tx, ty = _apply(start, rx, ry)
    ex, ey = x - tx, y - ty
    middle = np.median(ex), np.median(ey)
    away = np.hypot(ex - middle[0], ey - middle[1])
    keep = away <= 3.0 * np.median(away) + 1e-6
    if keep.sum() < 8:
        return np.asarray(start + np.array([[0, 0, middle[0]], [0, 0, middle[1]]]), np.float64)
    design = np.column_stack([rx[keep], ry[keep], np.ones(keep.sum())])
    solution, *_ = np.linalg.lstsq(design, np.column_stack([x[keep], y[keep]]), rcond=None)
    return np.asarray(solution.T, np.float64)
