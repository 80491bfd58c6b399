"""Detection: where the smoothed image stands above its noise, and the peaks there.

The image is correlated with the PSF's Gaussian (the matched filter of a point source in even noise), divided
by the noise that the variance plane gives the result, and cut at so many sigma. A footprint is a connected
patch of such pixels, grown by some PSF widths. A local maximum counts as a peak only if it stands out of
the saddle that joins it to a higher one by several sigma: otherwise every bright star's wings break up
into noise. Peaks come from one pass over the detected pixels in descending order with a disjoint-set forest
(a merge tree), at n log n for all footprints together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure


@dataclass(frozen=True, slots=True)
class FootprintSet:
    """Connected patches of detected pixels and their peaks.

    Parameters
    ----------
    labels : `numpy.ndarray`, shape (ny, nx), int32
        Number of the footprint (from 1) of each pixel, 0 outside.
    boxes : `numpy.ndarray`, shape (n, 4), int64
        x0, y0, x1, y1 (exclusive) of each footprint [pixels].
    areas : `numpy.ndarray`, shape (n,), int64
        Pixels of each.
    peak_x, peak_y : `numpy.ndarray`, shape (n_peaks,), int64
        Pixel of each peak, brightest first in each footprint.
    peak_footprint : `numpy.ndarray`, shape (n_peaks,), int64
        Footprint number (from 1), ascending.
    peak_significance : `numpy.ndarray`, shape (n_peaks,), float64
        Height in the smoothed image [sigma].
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


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detection found above and below the sky."""

    positive: FootprintSet
    negative: FootprintSet


def gaussian_kernel(sigma_pixels: float, n_sigma: float = 4.0) -> NDArray[np.float32]:
    """Return one half (middle first) of a Gaussian sampled by pixels, the whole summing to 1, float32."""
    half = max(1, int(np.ceil(n_sigma * sigma_pixels)))
    kernel = np.exp(-0.5 * (np.arange(half + 1) / sigma_pixels) ** 2)
    kernel /= kernel[0] + 2.0 * kernel[1:].sum()
    return kernel.astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})  # type: ignore[untyped-decorator]
def _convolve_separable(
    image: NDArray[np.float32], kernel: NDArray[np.float32], result: NDArray[np.float32]
) -> None:
    """Convolve with a symmetric kernel along x and y; what lies outside is 0.

    One pass over a ring of rows, so that every pixel is read from and written to memory once.
    """
    ny, nx = image.shape
    half = kernel.size - 1
    padded = np.zeros(nx + 2 * half, np.float32)
    ring = np.empty((2 * half + 1, nx), np.float32)
    filled = -half - 1
    for i in range(ny):
        while filled < i + half:
            filled += 1
            row = ring[filled % (2 * half + 1)]
            if filled < 0 or filled >= ny:
                row[:] = np.float32(0.0)
                continue
            for j in range(nx):
                v = image[filled, j]
                padded[half + j] = v if np.isfinite(v) else np.float32(0.0)
            for j in range(nx):
                row[j] = kernel[0] * padded[half + j]
            for m in range(1, half + 1):
                w = kernel[m]
                for j in range(nx):
                    row[j] += w * (padded[half + j - m] + padded[half + j + m])
        out = result[i]
        middle = ring[i % (2 * half + 1)]
        for j in range(nx):
            out[j] = kernel[0] * middle[j]
        for m in range(1, half + 1):
            w = kernel[m]
            above, below = ring[(i + m) % (2 * half + 1)], ring[(i - m) % (2 * half + 1)]
            for j in range(nx):
                out[j] += w * (above[j] + below[j])


def convolve_gaussian(image: NDArray[np.float32], sigma_pixels: float) -> NDArray[np.float32]:
    """Return an image convolved with a Gaussian that sums to 1, shape (ny, nx), float32.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32
        Non-finite pixels, and what lies outside, count as 0.
    sigma_pixels : `float`
        Standard deviation [pixels].
    """
    result = np.empty_like(image)
    _convolve_separable(np.ascontiguousarray(image), gaussian_kernel(sigma_pixels), result)
    return result


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})  # type: ignore[untyped-decorator]
def _to_significance(smooth: NDArray[np.float32], variance: NDArray[np.float32]) -> None:
    for i in range(smooth.shape[0]):
        for j in range(smooth.shape[1]):
            v = variance[i, j]
            smooth[i, j] = smooth[i, j] / np.sqrt(v) if v > 0 else np.float32(0.0)


def significance_image(exposure: Exposure, sigma_pixels: float) -> NDArray[np.float32]:
    """Return the image smoothed by a Gaussian, in units of its own noise.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted. Pixels without variance have significance 0.
    sigma_pixels : `float`
        Width of the Gaussian [pixels].

    Returns
    -------
    significance : `numpy.ndarray`, shape (ny, nx), float32

    Notes
    -----
    Noise is taken to be uncorrelated: var(sum k d) = sum k2 var(d).
    """
    smooth = np.empty_like(exposure.image)
    kernel = gaussian_kernel(sigma_pixels)
    _convolve_separable(np.ascontiguousarray(exposure.image), kernel, smooth)
    noise = np.empty_like(exposure.variance)
    _convolve_separable(np.ascontiguousarray(exposure.variance), kernel**2, noise)
    _to_significance(smooth, noise)
    return smooth


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _above(
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grown(
    where: NDArray[np.int64], half_widths: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Mark every pixel within a disc of a detected one."""
    ny, nx = shape
    radius = half_widths.size // 2
    mark = np.zeros(shape, np.uint8)
    core = np.zeros(shape, np.uint8)
    for p in where:
        core[p // nx, p % nx] = 1
    for p in where:
        i, j = p // nx, p % nx
        # A pixel whose neighbours are all detected adds nothing that they do not.
        if (
            0 < i < ny - 1
            and 0 < j < nx - 1
            and core[i - 1, j]
            and core[i + 1, j]
            and core[i, j - 1]
            and core[i, j + 1]
        ):
            mark[i, j] = 1
            continue
        for d in range(-radius, radius + 1):
            if 0 <= i + d < ny:
                w = half_widths[d + radius]
                for k in range(max(0, j - w), min(nx, j + w + 1)):
                    mark[i + d, k] = 1
    return mark


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _find(parents: NDArray[np.int32], k: int) -> int:
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _merge_tree_peaks(
    where: NDArray[np.int64],
    height: NDArray[np.float32],
    order: NDArray[np.int64],
    shape: tuple[int, int],
    min_prominence: float,
    min_contrast: float,
) -> NDArray[np.bool_]:
    """Say which detected pixels are peaks.

    Descending through the pixels, each joins the hills it touches. Where two meet, the lower one's top stays
    a peak only if it rises above this saddle by ``min_prominence`` (height is in sigma) and by
    ``min_contrast`` of the higher top.
    """
    ny, nx = shape
    n = where.size
    slot = np.zeros((ny, nx), np.int32)  # 1 + index of the pixel, 0 not visited
    parents = np.arange(n).astype(np.int32)
    top = np.arange(n).astype(np.int32)
    is_peak = np.zeros(n, np.bool_)
    for k in order:
        i, j = where[k] // nx, where[k] % nx
        slot[i, j] = k + 1
        root = -1
        for di in range(-1, 2):
            for dj in range(-1, 2):
                a, b = i + di, j + dj
                if (di == 0 and dj == 0) or a < 0 or b < 0 or a >= ny or b >= nx or slot[a, b] == 0:
                    continue
                other = _find(parents, slot[a, b] - 1)
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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
    shape: tuple[int, int],
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
    found = np.flatnonzero(_merge_tree_peaks(where, height, order, shape, fine.min_prominence, min_contrast))
    # Saturated plateaus have no shape to be believed.
    bits = fine.exposure.mask.bitmask(planes)
    found = found[(fine.exposure.mask.array.ravel()[where[found]] & bits) == 0]
    result = np.zeros(len(where), bool)
    if len(found) == 0 or not is_peak.any():
        return result
    known = np.column_stack(np.divmod(where[is_peak], shape[1]))
    distance, _ = cKDTree(known).query(np.column_stack(np.divmod(where[found], shape[1])))
    result[found[distance > separation]] = True
    return result


def find_footprints(
    significance: NDArray[np.float32],
    threshold: float,
    *,
    sign: int = 1,
    grow_pixels: float = 0.0,
    min_pixels: int = 1,
    min_prominence: float = 2.0,
    min_contrast: float = 0.0,
    fine: FineView | None = None,
) -> FootprintSet:
    """Find connected patches beyond a threshold, and their peaks.

    Parameters
    ----------
    significance : `numpy.ndarray`, shape (ny, nx), float32
        Of `significance_image` [sigma].
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
    from scipy.ndimage import find_objects, label

    shape = significance.shape
    where, height = _above(significance, float(threshold), float(sign))
    radius = int(grow_pixels)
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.floor(np.sqrt(np.maximum(grow_pixels**2 - offsets**2, 0.0))).astype(np.int64)
    mark = _grown(where, half_widths, shape)
    labels = np.empty(shape, np.int32)
    n = int(label(mark, structure=np.ones((3, 3), bool), output=labels))
    of_pixel = labels.ravel()[where]
    if min_pixels > 1 and n:
        kept = np.bincount(of_pixel, minlength=n + 1) >= min_pixels
        kept[0] = False
        renumber = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
        labels = renumber[labels]
        keep = kept[of_pixel]
        where, height, of_pixel, n = where[keep], height[keep], renumber[of_pixel[keep]], int(kept.sum())
    order = np.argsort(-height, kind="stable")
    is_peak = _merge_tree_peaks(where, height, order, shape, min_prominence, min_contrast)
    if fine is not None:
        is_peak |= _blurred_peaks(
            fine, where, is_peak, shape, sign, min_contrast, max(3.0 * fine.sigma_pixels, 1.5)
        )
    peaks = np.flatnonzero(is_peak)
    peaks = peaks[np.lexsort((-height[peaks], of_pixel[peaks]))]
    boxes = np.array(
        [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in find_objects(labels, n) if s is not None],
        np.int64,
    ).reshape(-1, 4)
    areas = _areas(labels, n)
    return FootprintSet(
        labels,
        boxes,
        areas,
        where[peaks] % shape[1],
        where[peaks] // shape[1],
        of_pixel[peaks].astype(np.int64),
        height[peaks].astype(np.float64),
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _areas(labels: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    areas = np.zeros(n, np.int64)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            if labels[i, j] > 0:
                areas[labels[i, j] - 1] += 1
    return areas


def detect_sources(
    exposure: Exposure,
    sigma_pixels: float,
    threshold: float = 5.0,
    *,
    grow_n_sigma: float = 2.4,
    negative: bool = True,
    min_pixels: int = 1,
    min_prominence: float = 3.0,
    min_contrast: float = 0.003,
    fine_prominence: float = 5.0,
) -> Detections:
    """Detect sources and mark them in the mask's DETECTED and DETECTED_NEGATIVE planes.

    Parameters
    ----------
    exposure : `Exposure`
        Background subtracted; its mask planes are cleared and set anew.
    sigma_pixels : `float`
        Width of the PSF [pixels].
    threshold : `float`
        [sigma of the smoothed image].
    grow_n_sigma : `float`
        Footprints are grown by this many PSF widths.
    negative : `bool`
        Whether to look below the sky too.
    min_pixels, min_prominence, min_contrast
        See `find_footprints`.
    fine_prominence : `float`
        ``min_prominence`` in a view smoothed by 0.4 of the PSF's width, which parts close pairs; 0 for none.

    Returns
    -------
    detections : `Detections`
    """
    significance = significance_image(exposure, sigma_pixels)
    exposure.mask.clear(("DETECTED", "DETECTED_NEGATIVE"))
    found = []
    for sign, plane in ((1, "DETECTED"), (-1, "DETECTED_NEGATIVE")):
        footprints = find_footprints(
            significance,
            threshold if sign > 0 or negative else np.inf,
            sign=sign,
            grow_pixels=grow_n_sigma * sigma_pixels,
            min_pixels=min_pixels,
            min_prominence=min_prominence,
            min_contrast=min_contrast,
            fine=FineView(exposure, 0.4 * sigma_pixels, fine_prominence) if fine_prominence > 0 else None,
        )
        if len(footprints):
            exposure.mask.set_where(footprints.labels > 0, plane)
        found.append(footprints)
    return Detections(*found)
