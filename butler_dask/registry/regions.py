"""Which pairs of many sky regions overlap.

Regions are `lsst.sphgeom` objects kept as their encoded bytes. Nearly all are convex polygons, whose encoding
is one type byte and the vertices as doubles, so they are tested by the column: bounding caps from a k-d tree,
then the separating-great-circle test. Two convex polygons within a hemisphere are disjoint exactly if one of
their edges' great circles has all of the other polygon on its outer side (the separating axis theorem in the
gnomonic projection). Anything else is asked of `lsst.sphgeom`, pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lsst.sphgeom import Region

_TOUCHING_RAD = 1e-13
"""Regions nearer to touching than this [rad] are left to `lsst.sphgeom`, whose predicates are exact."""
_PAIRS_AT_ONCE = 200_000
"""Pairs tested at a time, so that intermediate arrays stay below 100 MB."""


def overlapping_pairs(
    first: Sequence[bytes], second: Sequence[bytes]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index pairs of overlapping regions of two lists.

    Parameters
    ----------
    first, second : sequence of `bytes`
        Encoded regions.

    Returns
    -------
    i : `numpy.ndarray`, shape (k,), int64 [1]
    j : `numpy.ndarray`, shape (k,), int64 [1]
        Indices into ``first`` and ``second``, ordered by ``i``, then ``j``.
    """
    from scipy.spatial import cKDTree

    none = np.zeros(0, dtype=np.int64)
    if not first or not second:
        return none, none
    a, b = _Caps(first), _Caps(second)
    tree = cKDTree(b.centres)
    # Caps of radii r and s overlap if their centres are within r + s; as chords, with some rounding to spare.
    reach = _chord(np.minimum(a.radii + b.radii.max(), np.pi)) + 1e-12
    near = tree.query_ball_point(a.centres, reach, return_sorted=False)
    counts = np.fromiter((len(n) for n in near), dtype=np.int64, count=len(near))
    i = np.repeat(np.arange(len(a.radii)), counts)
    j = np.fromiter((k for n in near for k in n), dtype=np.int64, count=int(counts.sum()))
    distance = np.linalg.norm(a.centres[i] - b.centres[j], axis=1)
    close = distance <= _chord(np.minimum(a.radii[i] + b.radii[j], np.pi)) + 1e-12
    i, j = i[close], j[close]
    hit = np.zeros(len(i), dtype=bool)
    fast = a.is_polygon[i] & b.is_polygon[j] & (a.radii[i] + b.radii[j] < 0.5 * np.pi)
    rows = np.flatnonzero(fast)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = rows[start : start + _PAIRS_AT_ONCE]
        own, other = i[part], j[part]
        gap = np.maximum(
            _gap(a.normals[own], b.vertices[other]),
            _gap(b.normals[other], a.vertices[own]),
        )
        hit[part] = gap < 0
        fast[part] = np.abs(gap) > _TOUCHING_RAD
    slow = np.flatnonzero(~fast)
    if len(slow):
        hit[slow] = _related(first, second, i[slow], j[slow])
    i, j = i[hit], j[hit]
    order = np.lexsort((j, i))
    return i[order], j[order]


def overlapping(regions: Sequence[bytes], other: Region) -> NDArray[np.bool_]:
    """Return which encoded regions overlap one region, shape (n,), bool [1]."""
    out = np.zeros(len(regions), dtype=bool)
    out[overlapping_pairs(regions, [other.encode()])[0]] = True
    return out


class _Caps:
    """Bounding caps of encoded regions, and the vertices of those that are convex polygons."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        n = len(encoded)
        self.centres: NDArray[np.float64] = np.zeros((n, 3))
        self.radii: NDArray[np.float64] = np.zeros(n)
        self.is_polygon = np.zeros(n, dtype=bool)
        sizes = np.array([len(e) if e[:1] == b"p" else 0 for e in encoded], dtype=np.int64)
        widest = max((int(sizes.max(initial=0)) - 1) // 24, 1)
        self.vertices: NDArray[np.float64] = np.zeros((n, widest, 3))
        for size in np.unique(sizes[sizes > 0]).tolist():
            rows = np.flatnonzero(sizes == size)
            count = (size - 1) // 24
            data = b"".join(encoded[r][1:] for r in rows.tolist())
            corners = np.frombuffer(data, dtype="<f8").reshape(len(rows), count, 3)
            self.vertices[rows, :count] = corners
            # Repeated last vertices make edges of no length, which separate nothing.
            self.vertices[rows, count:] = corners[:, -1:]
            centres = corners.sum(axis=1)
            norms = np.linalg.norm(centres, axis=1, keepdims=True)
            centres = centres / np.where(norms > 0, norms, 1)
            cosines = np.einsum("nvk,nk->nv", corners, centres).min(axis=1)
            self.centres[rows], self.radii[rows] = centres, np.arccos(np.clip(cosines, -1, 1))
            # Beyond a quarter of the sphere the mean of the vertices says little.
            self.is_polygon[rows] = (norms[:, 0] > 1e-3) & (self.radii[rows] < 0.25 * np.pi)
        for row in np.flatnonzero(~self.is_polygon).tolist():
            circle = _decode(encoded[row]).getBoundingCircle()
            centre = circle.getCenter()
            self.centres[row] = centre.x(), centre.y(), centre.z()
            self.radii[row] = np.clip(circle.getOpeningAngle().asRadians(), 0, np.pi)
        # Vertices are counter-clockwise, so the inside is on the positive side of each edge's normal.
        self.normals: NDArray[np.float64] = np.cross(self.vertices, np.roll(self.vertices, -1, axis=1))
        lengths = np.linalg.norm(self.normals, axis=2, keepdims=True)
        self.normals /= np.where(lengths > 0, lengths, 1)
        # Edges of no length, from repeated vertices, do what the first edge does.
        empty = lengths[..., 0] == 0
        self.normals[empty] = np.broadcast_to(self.normals[:, :1], self.normals.shape)[empty]


def _gap(normals: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    # How far v is on the outer side of one of the edges [about rad]; negative if it is of none.
    nearest = (normals @ v.swapaxes(1, 2)).max(axis=2)
    out: NDArray[np.float64] = -nearest.min(axis=1)
    return out


def _chord(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * np.sin(0.5 * angle)


def _related(
    first: Sequence[bytes], second: Sequence[bytes], i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.bool_]:
    from lsst.sphgeom import DISJOINT

    a: dict[int, Any] = {k: _decode(first[k]) for k in np.unique(i).tolist()}
    b: dict[int, Any] = {k: _decode(second[k]) for k in np.unique(j).tolist()}
    pairs = zip(i.tolist(), j.tolist(), strict=True)
    return np.array([not (a[p].relate(b[q]) & DISJOINT) for p, q in pairs], dtype=bool)


def _decode(encoded: bytes) -> Any:
    from lsst.sphgeom import Region

    return Region.decode(bytes(encoded))
