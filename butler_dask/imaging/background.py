"""Background: the sky as clipped means on a mesh, and smooth in between.

The levels are kept, not the picture: a hundred numbers rebuild it. A cubic spline along each axis is two
small matrix products, so evaluating costs a few hundredths of a second for a detector.

The mesh of clipped levels is that of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393;
doi:10.1051/aas:1996164) and of Rubin's ``SubtractBackgroundTask``; a clipped mean is taken where SExtractor
estimates the mode, for sources are masked beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .exposure import Exposure

FORMAT_VERSION = 1
DEFAULT_IGNORED_PLANES = ("BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "SAT", "CR")


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _clipped_means(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bits: int,
    y_edges: NDArray[np.int64],
    x_edges: NDArray[np.int64],
    n_sigma: float,
    n_iterations: int,
    min_fraction: float,
    kept_variance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clipped mean and its standard deviation of the pixels (not of the mean) in each bin; NaN if too few."""
    n_y, n_x = y_edges.size - 1, x_edges.size - 1
    levels = np.full((n_y, n_x), np.nan)
    scatters = np.full((n_y, n_x), np.nan)
    largest = 0
    for b in range(n_y):
        for a in range(n_x):
            largest = max(largest, (y_edges[b + 1] - y_edges[b]) * (x_edges[a + 1] - x_edges[a]))
    good = np.empty(largest, np.float32)
    for b in range(n_y):
        for a in range(n_x):
            n = 0
            for i in range(y_edges[b], y_edges[b + 1]):
                for j in range(x_edges[a], x_edges[a + 1]):
                    if (mask[i, j] & bits) == 0 and np.isfinite(image[i, j]):
                        good[n] = image[i, j]
                        n += 1
            area = (y_edges[b + 1] - y_edges[b]) * (x_edges[a + 1] - x_edges[a])
            if n < 10 or n < min_fraction * area:
                continue
            # A start that a few bright pixels cannot move: median and median deviation of a sample.
            stride = max(1, n // 1500)
            sample = good[:n:stride].copy()
            center = float(np.median(sample))
            sigma = 1.4826 * float(np.median(np.abs(sample - np.float32(center))))
            if sigma <= 0.0:
                sigma = float(sample.std())
            mean = center
            for _ in range(n_iterations):
                low, high = np.float32(center - n_sigma * sigma), np.float32(center + n_sigma * sigma)
                count, s1, s2 = 0, 0.0, 0.0
                for k in range(n):
                    v = good[k]
                    if low <= v <= high:
                        d = v - center
                        count += 1
                        s1 += d
                        s2 += d * d
                if count < 2:
                    break
                mean = center + s1 / count
                spread = np.sqrt(max(s2 / count - (s1 / count) ** 2, 0.0))
                # What clipping at n_sigma takes from a Gaussian's width (n = 3: 1.3 %).
                new_sigma = spread / np.sqrt(kept_variance)
                done = abs(mean - center) < 1e-3 * sigma and abs(new_sigma - sigma) < 1e-3 * sigma
                center, sigma = mean, new_sigma
                if done:
                    break
            levels[b, a] = mean
            scatters[b, a] = sigma
    return levels, scatters


def _variance_left_by_clipping(n_sigma: float) -> float:
    """Variance of a unit Gaussian cut at +-n_sigma, in units of the whole."""
    inside = math.erf(n_sigma / math.sqrt(2.0))
    return 1.0 - 2.0 * n_sigma * math.exp(-0.5 * n_sigma * n_sigma) / math.sqrt(2.0 * math.pi) / inside


def _interpolation_matrix(nodes: NDArray[np.float64], n: int, kind: str) -> NDArray[np.float32]:
    """Return the (n, nodes.size) matrix that turns node values into values at 0 .. n - 1."""
    from scipy.interpolate import CubicSpline

    x = np.arange(n, dtype=np.float64)
    if nodes.size == 1 or kind == "constant":
        result = np.full((n, nodes.size), 1.0 / nodes.size)
    elif nodes.size < 4 or kind == "linear":
        # Straight on beyond the outermost nodes.
        k = np.clip(np.searchsorted(nodes, x) - 1, 0, nodes.size - 2)
        t = (x - nodes[k]) / (nodes[k + 1] - nodes[k])
        result = np.zeros((n, nodes.size))
        result[np.arange(n), k] = 1.0 - t
        result[np.arange(n), k + 1] = t
    else:
        spline = CubicSpline(nodes, np.eye(nodes.size), bc_type="natural")
        inside = np.clip(x, nodes[0], nodes[-1])
        # Natural ends have no curvature, so going on along the tangent is the same function.
        result = spline(inside) + (x - inside)[:, np.newaxis] * spline(inside, 1)
    return result.astype(np.float32)


@dataclass(frozen=True, slots=True)
class BackgroundModel:
    """Sky levels on a mesh.

    Parameters
    ----------
    levels : `numpy.ndarray`, shape (n_y, n_x), float64 [unit of the image]
        Level of each bin, without NaN.
    y_nodes : `numpy.ndarray`, shape (n_y,), float64 [pixels]
        Bin centres along y.
    x_nodes : `numpy.ndarray`, shape (n_x,), float64 [pixels]
        Bin centres along x.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the image it describes.
    interpolation : `str`
        "spline" (natural cubic), "linear" or "constant".
    """

    levels: NDArray[np.float64]
    y_nodes: NDArray[np.float64]
    x_nodes: NDArray[np.float64]
    shape: tuple[int, int]
    interpolation: str = "spline"

    def image(self, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return the background at every pixel.

        Parameters
        ----------
        shape : `tuple` [`int`, `int`], optional
            (ny, nx); the model's own when not given.

        Returns
        -------
        image : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image]
        """
        ny, nx = self.shape if shape is None else shape
        along_y = _interpolation_matrix(self.y_nodes, ny, self.interpolation)
        along_x = _interpolation_matrix(self.x_nodes, nx, self.interpolation)
        # Differences from the mean keep float32 rounding off the sky's own level.
        mean = float(self.levels.mean())
        result: NDArray[np.float32] = along_y @ ((self.levels - mean).astype(np.float32) @ along_x.T)
        result += np.float32(mean)
        return result


class BackgroundList(Sequence[BackgroundModel]):
    """Backgrounds subtracted one after another; their sum is what was taken away.

    Parameters
    ----------
    models : iterable of `BackgroundModel`
        In the order they were subtracted.
    """

    __slots__ = ("_models",)

    def __init__(self, models: Iterable[BackgroundModel] = ()) -> None:
        self._models = list(models)

    def __len__(self) -> int:
        return len(self._models)

    def __getitem__(self, index: Any) -> Any:
        return self._models[index]

    def __iter__(self) -> Iterator[BackgroundModel]:
        return iter(self._models)

    def append(self, model: BackgroundModel) -> None:
        """Add one more subtracted background."""
        self._models.append(model)

    def copy(self) -> BackgroundList:
        """Return another list of the same models."""
        return BackgroundList(self._models)

    def image(self, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return the sum of all at every pixel.

        Parameters
        ----------
        shape : `tuple` [`int`, `int`], optional
            (ny, nx); that of the first model when not given.

        Returns
        -------
        image : `numpy.ndarray`, shape (ny, nx), float32 [unit of the image]

        Raises
        ------
        ValueError
            If the list is empty and no shape is given.
        """
        if shape is None:
            if not self._models:
                raise ValueError("An empty BackgroundList has no shape of its own; give one to image()")
            shape = self._models[0].shape
        total = np.zeros(shape, np.float32)
        for model in self._models:
            total += model.image(shape)
        return total

    getImage = image

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the list as named arrays (a FITS table or an npz), read back by `from_arrays`.

        Returns
        -------
        arrays : `dict` of `str` to `numpy.ndarray`, shape (...), any type [units of `BackgroundModel`]
            The fields of each model with its number, ``version`` and ``n_models``.
        """
        arrays: dict[str, NDArray[Any]] = {
            "version": np.array([FORMAT_VERSION], np.int64),
            "n_models": np.array([len(self._models)], np.int64),
        }
        for i, model in enumerate(self._models):
            arrays[f"levels_{i}"] = np.asarray(model.levels, np.float64)
            arrays[f"y_nodes_{i}"] = np.asarray(model.y_nodes, np.float64)
            arrays[f"x_nodes_{i}"] = np.asarray(model.x_nodes, np.float64)
            arrays[f"shape_{i}"] = np.array(model.shape, np.int64)
            arrays[f"interpolation_{i}"] = np.frombuffer(model.interpolation.encode(), np.uint8)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> BackgroundList:
        """Rebuild from `to_arrays`.

        Parameters
        ----------
        arrays : mapping of `str` to `numpy.ndarray`, shape (...), any type [units of `BackgroundModel`]
            As `to_arrays` returns.

        Raises
        ------
        ValueError
            If the arrays were written by a later version.
        """
        version = int(arrays["version"][0])
        if version > FORMAT_VERSION:
            raise ValueError(
                f"Background format {version} is later than {FORMAT_VERSION}, the one known here"
            )
        return cls(
            BackgroundModel(
                np.array(arrays[f"levels_{i}"], np.float64),
                np.array(arrays[f"y_nodes_{i}"], np.float64),
                np.array(arrays[f"x_nodes_{i}"], np.float64),
                (int(arrays[f"shape_{i}"][0]), int(arrays[f"shape_{i}"][1])),
                np.asarray(arrays[f"interpolation_{i}"], np.uint8).tobytes().decode(),
            )
            for i in range(int(arrays["n_models"][0]))
        )

    def __repr__(self) -> str:
        meshes = ", ".join(f"{m.levels.shape[0]} x {m.levels.shape[1]}" for m in self._models)
        return f"BackgroundList({len(self._models)} models: {meshes})"


def fit_background(
    exposure: Exposure,
    bin_size: int = 128,
    *,
    ignored_planes: Sequence[str] = DEFAULT_IGNORED_PLANES,
    n_sigma: float = 3.0,
    n_iterations: int = 4,
    min_good_fraction: float = 0.1,
    interpolation: str = "spline",
) -> BackgroundModel:
    """Fit the sky on a mesh of clipped means.

    Parameters
    ----------
    exposure : `Exposure`
        Left as it is.
    bin_size : `int`
        About this many pixels a bin; the image is divided evenly.
    ignored_planes : sequence of `str`
        Pixels with one of these mask planes are left out.
    n_sigma, n_iterations : `float`, `int`
        Clipping of each bin.
    min_good_fraction : `float`
        A bin with fewer good pixels than this takes its level from its neighbours.
    interpolation : `str`
        See `BackgroundModel`.

    Returns
    -------
    model : `BackgroundModel`

    Raises
    ------
    ValueError
        If not one bin has enough good pixels.
    """
    ny, nx = exposure.shape
    y_edges, x_edges = _even_edges(ny, bin_size), _even_edges(nx, bin_size)
    planes = [name for name in ignored_planes if name in exposure.mask.planes]
    levels, _ = _clipped_means(
        exposure.image,
        exposure.mask.array,
        exposure.mask.bitmask(planes),
        y_edges,
        x_edges,
        n_sigma,
        n_iterations,
        min_good_fraction,
        _variance_left_by_clipping(n_sigma),
    )
    good = np.isfinite(levels)
    if not good.any():
        raise ValueError(
            f"No bin of {bin_size} pixels has {min_good_fraction:.0%} of its pixels free of {planes}: "
            "take a larger bin, or look at the mask"
        )
    y_nodes, x_nodes = _centers(y_edges), _centers(x_edges)
    if not good.all():
        levels = _with_gaps_filled(levels, good)
    return BackgroundModel(levels, y_nodes, x_nodes, (ny, nx), interpolation)


def subtract_background(exposure: Exposure, model: BackgroundModel) -> None:
    """Take a background away from an exposure's image, in place."""
    exposure.image -= model.image(exposure.shape)


def _even_edges(n: int, bin_size: int) -> NDArray[np.int64]:
    return np.rint(np.linspace(0, n, max(1, round(n / bin_size)) + 1)).astype(np.int64)


def _centers(edges: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (edges[1:] + edges[:-1] - 1), np.float64)


def _with_gaps_filled(levels: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fill bins without a level by a Gaussian-weighted mean of the others, nearest ones counting most."""
    result = levels.copy()
    yy, xx = np.nonzero(good)
    for b, a in zip(*np.nonzero(~good), strict=True):
        r2 = (yy - b) ** 2.0 + (xx - a) ** 2.0
        weight = np.exp(-0.5 * (r2 - r2.min()))
        result[b, a] = (weight * levels[yy, xx]).sum() / weight.sum()
    return result
