"""Footprints: connected patches of a significance image, and the peaks in them.

A local maximum counts as a peak only if it stands out of the saddle that joins it to a higher one by several
sigma: otherwise every bright star's wings break up into noise. Peaks come from one pass over the detected
pixels in descending order with a disjoint-set forest (a merge tree: Najman & Couprie 2006, IEEE Trans. Image
Process. 15, 3531; doi:10.1109/TIP.2006.877518; how far a peak stands out is its persistence, Edelsbrunner et
al. 2002, Discrete Comput. Geom. 28, 511; doi:10.1007/s00454-002-2885-2), at n log n for all footprints
together; footprints themselves are joined from runs of pixels, row by row, so that an empty sky costs one
look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure


def gaussian_kernel(sigma_pixels: float, n_sigma: float = 4.0) -> NDArray[np.float32]:
    """Return one half of a Gaussian sampled by pixels, the whole summing to 1.

    Parameters
    ----------
    sigma_pixels : `float`
        Standard deviation [pixels].
    n_sigma : `float`
        How far it reaches.

    Returns
    -------
    kernel : `numpy.ndarray`, shape (half + 1,), float32 [1]
        The middle first.
    """
    half = max(1, int(np.ceil(n_sigma * sigma_pixels)))
    kernel = np.exp(-0.5 * (np.arange(half + 1) / sigma_pixels) ** 2)
    kernel /= kernel[0] + 2.0 * kernel[1:].sum()
    return kernel.astype(np.float32)


@dataclass(frozen=True, slots=True)
class FootprintSet:
    """Connected patches of detected pixels and their peaks.

    Parameters
    ----------
    labels : `numpy.ndarray`, shape (ny, nx), int32 [1]
        Number of the footprint (from 1) of each pixel, 0 outside.
    boxes : `numpy.ndarray`, shape (n, 4), int64 [pixels]
        x0, y0, x1, y1 (exclusive) of each footprint.
    areas : `numpy.ndarray`, shape (n,), int64 [pixels]
        How many pixels each has.
    peak_x, peak_y : `numpy.ndarray`, shape (n_peaks,), int64 [pixels]
        Pixel of each peak, brightest first in each footprint.
    peak_footprint : `numpy.ndarray`, shape (n_peaks,), int64 [1]
        Footprint number (from 1), ascending.
    peak_significance : `numpy.ndarray`, shape (n_peaks,), float64 [sigma]
        Height in the smoothed image.
    """

    labels: NDArray[np.int32]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    peak_x: NDArray[np.int64]
    peak_y: NDArray[np.int64]
    peak_footprint: NDArray[np.int64]
    peak_significance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def n_peaks(self) -> int:
        """Number of peaks of all footprints."""
        return len(self.peak_x)

    def count_above(self, threshold: float) -> tuple[int, int]:
        """Return how many peaks are higher than a threshold [sigma], and how many footprints have one."""
        high = self.peak_significance > threshold
        return int(high.sum()), len(np.unique(self.peak_footprint[high]))


@numba.njit(cache=True, nogil=True)
def _pixels_beyond(
    significance: NDArray[np.float32], threshold: float, sign: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat indices and heights of the pixels beyond the threshold."""
    ny, nx = significance.shape
    n = 0
    s, t = np.float32(sign), np.float32(threshold)
    for i in range(ny):
        for j in range(nx):
            if s * significance[i, j] > t:
                n += 1
    where, height = np.empty(n, np.int64), np.empty(n, np.float32)
    n = 0
    for i in range(ny):
        for j in range(nx):
            v = s * significance[i, j]
            if v > t:
                where[n] = i * nx + j
                height[n] = v
                n += 1
    return where, height


@numba.njit(cache=True, nogil=True)
def _mark_discs(where: NDArray[np.int64], half_widths: NDArray[np.int64], mark: NDArray[np.uint8]) -> None:
    """Mark every pixel within a disc of a detected one; ``mark`` comes zeroed."""
    ny, nx = mark.shape
    radius = half_widths.size // 2
    for p in where:
        mark[p // nx, p % nx] = 2
    for p in where:
        i, j = p // nx, p % nx
        # A pixel whose neighbours are all detected adds nothing that they do not.
        if (
            0 < i < ny - 1
            and 0 < j < nx - 1
            and mark[i - 1, j] == 2
            and mark[i + 1, j] == 2
            and mark[i, j - 1] == 2
            and mark[i, j + 1] == 2
        ):
            continue
        for d in range(-radius, radius + 1):
            if 0 <= i + d < ny:
                w = half_widths[d + radius]
                for k in range(max(0, j - w), min(nx, j + w + 1)):
                    if mark[i + d, k] == 0:
                        mark[i + d, k] = 1


@numba.njit(cache=True, nogil=True)
def _root_of(parents: NDArray[np.int32], k: int) -> int:
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@numba.njit(cache=True, nogil=True)
def _merge_tree_peaks(
    where: NDArray[np.int64],
    height: NDArray[np.float32],
    order: NDArray[np.int64],
    index: NDArray[np.int32],
    min_prominence: float,
    min_contrast: float,
) -> NDArray[np.bool_]:
    """Say which detected pixels are peaks.

    Descending through the pixels, each joins the hills it touches. Where two meet, the lower one's top stays
    a peak only if it rises above this saddle by ``min_prominence`` (height is in sigma) and by
    ``min_contrast`` of the higher top. ``index`` holds 1 + the number of each detected pixel.
    """
    ny, nx = index.shape
    n = where.size
    parents = np.full(n, -1, np.int32)  # -1: not visited yet
    top = np.arange(n).astype(np.int32)
    is_peak = np.zeros(n, np.bool_)
    for k in order:
        i, j = where[k] // nx, where[k] % nx
        parents[k] = k
        root = -1
        for a in range(max(0, i - 1), min(ny, i + 2)):
            for b in range(max(0, j - 1), min(nx, j + 2)):
                m = index[a, b] - 1
                if m < 0 or m == k or parents[m] < 0:
                    continue
                other = _root_of(parents, m)
                if root < 0:
                    root = other
                elif other != root:
                    high, low = (root, other) if height[top[root]] >= height[top[other]] else (other, root)
                    prominence = height[top[low]] - height[k]
                    if prominence < min_prominence or prominence < min_contrast * height[top[high]]:
                        is_peak[top[low]] = False
                    parents[low] = high
                    root = high
        if root < 0:
            is_peak[k] = True
        else:
            parents[k] = root
    return is_peak


@numba.njit(cache=True, nogil=True)
def _label_patches(
    mark: NDArray[np.uint8], labels: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return boxes and areas of the 8-connected patches of marked pixels, and number them in ``labels``.

    ``labels`` comes zeroed. Runs of marked pixels along a row are joined with those they touch in the row
    above, then numbered in the order of their first pixels.
    """
    ny, nx = mark.shape
    capacity = 1024
    runs = np.empty((capacity, 3), np.int64)  # row, first column, end
    parents = np.empty(capacity, np.int32)
    n = 0
    above, here = 0, 0
    for i in range(ny):
        above, here = here, n
        last = here
        j = 0
        while j < nx:
            if mark[i, j] == 0:
                j += 1
                continue
            start = j
            while j < nx and mark[i, j] != 0:
                j += 1
            if n == capacity:
                more_runs = np.empty((2 * capacity, 3), np.int64)
                more_runs[:n] = runs
                more_parents = np.empty(2 * capacity, np.int32)
                more_parents[:n] = parents
                runs, parents, capacity = more_runs, more_parents, 2 * capacity
            runs[n, 0], runs[n, 1], runs[n, 2] = i, start, j
            parents[n] = n
            # Runs above that end before this one begins touch no later run either.
            while above < last and (runs[above, 0] != i - 1 or runs[above, 2] < start):
                above += 1
            k = above
            while k < last and runs[k, 1] <= j:
                a, b = _root_of(parents, k), _root_of(parents, n)
                if a < b:
                    parents[b] = a
                elif b < a:
                    parents[a] = b
                k += 1
            n += 1
    number = np.zeros(n, np.int32)
    count = 0
    for k in range(n):
        if parents[k] == k:
            count += 1
            number[k] = count
    boxes = np.empty((count, 4), np.int64)
    boxes[:, 0], boxes[:, 1] = nx, ny
    boxes[:, 2], boxes[:, 3] = 0, 0
    areas = np.zeros(count, np.int64)
    for k in range(n):
        label = number[_root_of(parents, k)]
        i, start, end = runs[k, 0], runs[k, 1], runs[k, 2]
        for j in range(start, end):
            labels[i, j] = label
        box = boxes[label - 1]
        box[0], box[1] = min(box[0], start), min(box[1], i)
        box[2], box[3] = max(box[2], end), max(box[3], i + 1)
        areas[label - 1] += end - start
    return boxes, areas


@numba.njit(cache=True, nogil=True)
def _number_pixels(where: NDArray[np.int64], index: NDArray[np.int32]) -> None:
    nx = index.shape[1]
    for k in range(where.size):
        index[where[k] // nx, where[k] % nx] = k + 1


@numba.njit(cache=True, nogil=True)
def _significance_at(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    where: NDArray[np.int64],
    kernel: NDArray[np.float32],
    sign: float,
) -> NDArray[np.float32]:
    """Significance of single pixels, smoothed by a kernel given by its middle and one half."""
    ny, nx = image.shape
    half = kernel.size - 1
    result = np.empty(where.size, np.float32)
    for k in range(where.size):
        i, j = where[k] // nx, where[k] % nx
        total, noise = 0.0, 0.0
        for a in range(max(0, i - half), min(ny, i + half + 1)):
            for b in range(max(0, j - half), min(nx, j + half + 1)):
                w = kernel[abs(a - i)] * kernel[abs(b - j)]
                if np.isfinite(image[a, b]):
                    total += w * image[a, b]
                    noise += w * w * variance[a, b]
        result[k] = sign * total / np.sqrt(noise) if noise > 0 else 0.0
    return result


@dataclass(frozen=True, slots=True)
class FineView:
    """The image behind a significance, for peaks that the matched filter blurs into one.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted.
    sigma_pixels : `float`
        Width of a narrower Gaussian [pixels].
    min_prominence : `float`
        As in `find_footprints`, for the peaks seen with it.
    """

    exposure: Exposure
    sigma_pixels: float
    min_prominence: float = 5.0


def _blurred_peaks(
    fine: FineView,
    where: NDArray[np.int64],
    is_peak: NDArray[np.bool_],
    index: NDArray[np.int32],
    sign: int,
    min_contrast: float,
    separation: float,
) -> NDArray[np.bool_]:
    """Return the detected pixels that are peaks in the finer view, and not near one known already."""
    from scipy.spatial import cKDTree

    planes = [p for p in ("SAT", "BAD", "NO_DATA") if p in fine.exposure.mask.planes]
    kernel = gaussian_kernel(fine.sigma_pixels, 3.0)
    height = _significance_at(fine.exposure.image, fine.exposure.variance, where, kernel, float(sign))
    order = np.argsort(-height, kind="stable")
    found = np.flatnonzero(_merge_tree_peaks(where, height, order, index, fine.min_prominence, min_contrast))
    # Saturated plateaus have no shape to be believed.
    bits = fine.exposure.mask.bitmask(planes)
    found = found[(fine.exposure.mask.array.ravel()[where[found]] & bits) == 0]
    result = np.zeros(len(where), bool)
    if len(found) == 0 or not is_peak.any():
        return result
    known = np.column_stack(np.divmod(where[is_peak], index.shape[1]))
    distance, _ = cKDTree(known).query(np.column_stack(np.divmod(where[found], index.shape[1])))
    result[found[distance > separation]] = True
    return result


def find_footprints(
    significance: NDArray[np.float32],
    threshold: float,
    *,
    sign: int = 1,
    grow_pixels: float = 0.0,
    min_pixels: int = 1,
    min_prominence: float = 3.0,
    min_contrast: float = 0.0,
    fine: FineView | None = None,
) -> FootprintSet:
    """Find connected patches beyond a threshold, and their peaks.

    Parameters
    ----------
    significance : `numpy.ndarray`, shape (ny, nx), float32 [sigma]
        Of `significance_image`.
    threshold : `float`
        [sigma].
    sign : `int`
        1 for patches above +threshold, -1 for those below -threshold.
    grow_pixels : `float`
        Every footprint is grown by a disc of this radius; those that then touch are one.
    min_pixels : `int`
        Detected pixels, before growing, that a footprint must have.
    min_prominence : `float`
        How far a peak rises above the saddle to a higher one [sigma of the smoothed image].
    min_contrast : `float`
        The same as a fraction of the higher peak.
    fine : `FineView`, optional
        Where to look for peaks closer together than the smoothing.

    Returns
    -------
    footprints : `FootprintSet`
    """
    shape = (significance.shape[0], significance.shape[1])
    where, height = _pixels_beyond(significance, float(threshold), float(sign))
    # Zeroed by numpy: pages that are never touched cost nothing.
    labels = np.zeros(shape, np.int32)
    if len(where) == 0:
        none = np.zeros(0, np.int64)
        return FootprintSet(labels, np.zeros((0, 4), np.int64), none, none, none, none, np.zeros(0))
    # The label image first serves to find each detected pixel's number.
    _number_pixels(where, labels)
    order = np.argsort(-height, kind="stable")
    is_peak = _merge_tree_peaks(where, height, order, labels, min_prominence, min_contrast)
    if fine is not None:
        is_peak |= _blurred_peaks(
            fine, where, is_peak, labels, sign, min_contrast, max(3.0 * fine.sigma_pixels, 1.5)
        )
    labels.ravel()[where] = 0
    radius = int(grow_pixels)
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.floor(np.sqrt(np.maximum(grow_pixels**2 - offsets**2, 0.0))).astype(np.int64)
    mark = np.zeros(shape, np.uint8)
    _mark_discs(where, half_widths, mark)
    boxes, areas = _label_patches(mark, labels)
    of_pixel = labels.ravel()[where]
    if min_pixels > 1:
        kept = np.bincount(of_pixel, minlength=len(areas) + 1) >= min_pixels
        kept[0] = False
        renumber = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
        labels, keep = renumber[labels], kept[of_pixel]
        boxes, areas = boxes[kept[1:]], areas[kept[1:]]
        where, height, of_pixel = where[keep], height[keep], renumber[of_pixel[keep]]
        is_peak = is_peak[keep]
    peaks = np.flatnonzero(is_peak)
    peaks = peaks[np.lexsort((-height[peaks], of_pixel[peaks]))]
    return FootprintSet(
        labels,
        boxes,
        areas,
        where[peaks] % shape[1],
        where[peaks] // shape[1],
        of_pixel[peaks].astype(np.int64),
        height[peaks].astype(np.float64),
    )
