"""Fringes: interference of night-sky lines in the silicon, scaled from a fringe frame and subtracted.

As Rubin's ``FringeTask`` does: image and pattern are compared in small boxes at random places, and the one is
regressed on the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mask import Mask


def fringe_amplitude(
    image: NDArray[np.float32],
    mask: Mask,
    fringe: NDArray[np.float32],
    *,
    planes: tuple[str, ...] = ("BAD", "SAT", "NO_DATA", "SUSPECT"),
    n_points: int = 20_000,
    half_size: int = 3,
    iterations: int = 20,
    clip_sigma: float = 3.0,
    seed: int = 12345,
) -> float:
    """Measure how strongly the fringe pattern is in an image.

    The image and the pattern are averaged in small boxes at random places, and the one regressed on the other
    with an additive sky, outliers (objects) rejected.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Flattened image.
    mask : `Mask`
        Pixels of ``planes`` are left out.
    fringe : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Fringe pattern of any mean.
    planes : `tuple` [`str`, ...]
        Masked reasons.
    n_points, half_size : `int`
        Boxes, and half their size [pixels].
    iterations : `int`
        Rejection rounds at most.
    clip_sigma : `float`
        Rejection limit.
    seed : `int`
        Of the random places.

    Returns
    -------
    amplitude : `float`
        Factor of the pattern [unit of the image / unit of the pattern]; zero if the pattern is flat.
    """
    ny, nx = image.shape
    size = 2 * half_size + 1
    random = np.random.default_rng(seed)
    n_points = min(n_points, (ny // size) * (nx // size))
    ys = random.integers(half_size, ny - half_size, n_points)
    xs = random.integers(half_size, nx - half_size, n_points)
    offsets = np.arange(-half_size, half_size + 1)
    rows = ys[:, None, None] + offsets[None, :, None]
    columns = xs[:, None, None] + offsets[None, None, :]
    good = (mask.array[rows, columns] & mask.bitmask(planes)) == 0
    enough = good.sum(axis=(1, 2)) > size * size // 2
    if enough.sum() < 10:
        return 0.0
    weight = good[enough]
    count = weight.sum(axis=(1, 2))
    # Medians would need sorting; means are enough since whole boxes are rejected below.
    data = (image[rows, columns][enough] * weight).sum(axis=(1, 2), dtype=np.float64) / count
    pattern = (fringe[rows, columns][enough] * weight).sum(axis=(1, 2), dtype=np.float64) / count
    keep = np.ones(len(data), dtype=bool)
    amplitude = 0.0
    for _ in range(iterations):
        p, d = pattern[keep] - pattern[keep].mean(), data[keep] - data[keep].mean()
        norm = float(p @ p)
        if norm <= 0:
            return 0.0
        amplitude = float(p @ d) / norm
        residual = data - data[keep].mean() - amplitude * (pattern - pattern[keep].mean())
        centre = np.median(residual[keep])
        sigma = 1.4826 * float(np.median(np.abs(residual[keep] - centre)))
        now = np.abs(residual - centre) <= clip_sigma * max(sigma, 1e-12)
        if np.array_equal(now, keep):
            break
        keep = now
    return amplitude


def subtract_fringe(image: NDArray[np.float32], fringe: NDArray[np.float32], amplitude: float) -> None:
    """Subtract the scaled pattern, its median excepted, in place.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Changed.
    fringe : `numpy.ndarray`, shape (ny, nx), float32 [any unit]
        Fringe pattern.
    amplitude : `float`
        As `fringe_amplitude` returns [unit of the image / unit of the pattern].
    """
    image -= np.float32(amplitude) * (fringe - np.float32(np.median(fringe[::4, ::4])))
