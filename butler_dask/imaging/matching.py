"""Matching: detected sources with reference objects, when the pointing is off.

Every pair of a bright source and a bright reference object votes for the offset between them: true pairs
agree on one offset, false ones spread evenly, so the peak of the histogram is the pointing error. A small
rotation is tried in steps. From the peak an affine transformation is refined with a shrinking search radius.
It is a generalised Hough transform (Ballard 1981, Pattern Recognit. 13, 111;
doi:10.1016/0031-3203(81)90009-1) over offset and rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PointSet:
    """Points of a plane and how bright each is.

    Parameters
    ----------
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions.
    brightness : `numpy.ndarray`, shape (n,), float64 [any unit of flux]
        Only its order counts.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    brightness: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> PointSet:
        """Return some of the points.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (m,), int64 or bool [1]
            Their row numbers, or of each point whether it is taken.
        """
        return PointSet(self.x[rows], self.y[rows], self.brightness[rows])

    def brightest(self, n: int) -> PointSet:
        """Return the n brightest points, or all if there are fewer."""
        return self.rows(np.argsort(-self.brightness, kind="stable")[:n])

    def holds(self, others: PointSet, margin: float) -> NDArray[np.bool_]:
        """Return which of m other points lie in the box of these, widened by a margin [pixels].

        Returns
        -------
        inside : `numpy.ndarray`, shape (m,), bool [1]
        """
        inside: NDArray[np.bool_] = (
            (others.x > self.x.min() - margin)
            & (others.x < self.x.max() + margin)
            & (others.y > self.y.min() - margin)
            & (others.y < self.y.max() + margin)
        )
        return inside


@dataclass(frozen=True, slots=True)
class Match:
    """Pairs of rows, and the transformation that brought them together.

    Parameters
    ----------
    source, reference : `numpy.ndarray`, shape (n,), int64 [1]
        Rows of each pair; each row at most once.
    distance : `numpy.ndarray`, shape (n,), float64 [pixels]
        Separation after the transformation.
    affine : `numpy.ndarray`, shape (2, 3), float64 [1, the last column pixels]
        Predicted reference position (x, y, 1) to observed position.
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
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions.
    reference_x, reference_y : `numpy.ndarray`, shape (m,), float64 [pixels]
        Positions they are paired with.
    radius : `float`
        Largest distance of a pair [pixels].

    Returns
    -------
    source, reference : `numpy.ndarray`, shape (n_pairs,), int64 [1]
        Rows.
    distance : `numpy.ndarray`, shape (n_pairs,), float64 [pixels]
        How far apart they are.
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


def _most_frequent_offset(
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
    observed: PointSet,
    predicted: PointSet,
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
    observed : `PointSet`
        Sources; the brightest are matched first.
    predicted : `PointSet`
        Reference objects where they should be.
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
    if len(observed) < min_matches:
        return None
    top = observed.brightest(n_bright)
    # The reference catalogue reaches beyond the detector, by an area that the pointing error decides.
    candidates = predicted.rows(observed.holds(predicted, max_offset))
    if len(candidates) < min_matches:
        return None
    width, height = np.ptp(observed.x), np.ptp(observed.y)
    ratio = ((width + 2 * max_offset) * (height + 2 * max_offset)) / max(width * height, 1.0)
    candidates = candidates.brightest(int(n_bright * min(ratio, 4.0)))
    vote = _vote_with_rotations(observed, top, candidates, max_offset, max_rotation_deg, bin_size)
    # Near the middle of the histogram chance pairs are up to twice as frequent as on average.
    likely = _poisson_tail(vote.votes, 2.0 * vote.expected) * vote.n_trials <= 1e-2
    if not likely and vote.votes < 0.7 * min(len(top), len(candidates)):
        return None
    affine = vote.affine
    for radius in (1.5 * bin_size, bin_size, max(final_radius, 0.5 * bin_size), final_radius, final_radius):
        tx, ty = _transformed(affine, predicted.x, predicted.y)
        rows, references, _ = match_nearest(top.x, top.y, tx, ty, radius)
        if len(rows) < min_matches:
            return None
        affine = _fit_affine(predicted.rows(references), top.rows(rows), affine)
    tx, ty = _transformed(affine, predicted.x, predicted.y)
    rows, references, distance = match_nearest(observed.x, observed.y, tx, ty, final_radius)
    if len(rows) < min_matches:
        return None
    # Unrelated catalogues have some pairs too, and the fit has chosen the best of many places to look.
    n_predicted = int(observed.holds(PointSet(tx, ty, predicted.brightness), 0.0).sum())
    density = n_predicted / max(float(width * height), 1.0)
    by_chance = len(observed) * density * np.pi * final_radius**2
    likely = _poisson_tail(len(rows), by_chance) * vote.n_trials <= 1e-3
    if not likely and len(rows) < 0.5 * min(len(observed), n_predicted):
        return None
    return Match(rows, references, distance, affine, vote.votes, vote.expected)


class _Vote(NamedTuple):
    """The transformation most pairs agree on, their number, that by chance, and how many were tried."""

    affine: NDArray[np.float64]
    votes: float
    expected: float
    n_trials: float


def _vote_with_rotations(
    observed: PointSet,
    top: PointSet,
    candidates: PointSet,
    max_offset: float,
    max_rotation_deg: float,
    bin_size: float,
) -> _Vote:
    """Let pairs vote for an offset at each of several rotations about the middle of the sources."""
    cx, cy = float(np.mean(observed.x)), float(np.mean(observed.y))
    extent = 0.5 * float(np.hypot(np.ptp(observed.x), np.ptp(observed.y)))
    # Steps small enough that the far corner moves by half a bin.
    rotation_step = np.degrees(bin_size / max(extent, bin_size))
    n_steps = int(np.ceil(max_rotation_deg / rotation_step))
    best = (1.0, 0.0, 0.0, 0.0, -np.inf, 1.0, 1.0)
    u, v = candidates.x - cx, candidates.y - cy
    for k in sorted(range(-n_steps, n_steps + 1), key=abs):
        angle = np.radians(k * rotation_step)
        c, s = np.cos(angle), np.sin(angle)
        rx, ry = cx + c * u - s * v, cy + s * u + c * v
        dx, dy, votes, expected = _most_frequent_offset(top.x, top.y, rx, ry, max_offset, bin_size)
        score = (votes - expected) / np.sqrt(expected + 1.0)
        if score > best[4]:
            best = (c, s, dx, dy, score, votes, expected)
    c, s, dx, dy, _, votes, expected = best
    affine = np.array([[c, -s, cx + dx - c * cx + s * cy], [s, c, cy + dy - s * cx - c * cy]])
    n_trials = (2 * n_steps + 1) * (2 * max_offset / bin_size) ** 2
    return _Vote(affine, votes, expected, n_trials)


def _poisson_tail(count: float, expected: float) -> float:
    """Return the probability of at least so many Poisson events."""
    from scipy.special import gammainc

    return float(gammainc(max(count, 1e-9), expected)) if expected > 0 else 0.0


def _transformed(
    affine: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        affine[0, 0] * x + affine[0, 1] * y + affine[0, 2],
        affine[1, 0] * x + affine[1, 1] * y + affine[1, 2],
    )


def _fit_affine(predicted: PointSet, observed: PointSet, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with one round of clipping; only an offset if there are few pairs."""
    tx, ty = _transformed(start, predicted.x, predicted.y)
    ex, ey = observed.x - tx, observed.y - ty
    middle = np.median(ex), np.median(ey)
    away = np.hypot(ex - middle[0], ey - middle[1])
    keep = away <= 3.0 * np.median(away) + 1e-6
    if keep.sum() < 8:
        return np.asarray(start + np.array([[0, 0, middle[0]], [0, 0, middle[1]]]), np.float64)
    design = np.column_stack([predicted.x[keep], predicted.y[keep], np.ones(keep.sum())])
    solution, *_ = np.linalg.lstsq(design, np.column_stack([observed.x, observed.y])[keep], rcond=None)
    return np.asarray(solution.T, np.float64)
