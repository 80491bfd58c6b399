"""Sky sources: empty places measured like sources, to see what nothing looks like.

As Rubin's ``SkyObjectsTask`` chooses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .mask import Mask

DEFAULT_AVOIDED_PLANES = ("DETECTED", "DETECTED_NEGATIVE", "BAD", "NO_DATA", "SAT", "EDGE", "INTRP")


def sky_positions(
    mask: Mask,
    n: int = 100,
    *,
    radius: int = 8,
    avoided_planes: Sequence[str] = DEFAULT_AVOIDED_PLANES,
    seed: int = 0,
    n_tries: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Choose random places whose surroundings are free of sources.

    Parameters
    ----------
    mask : `Mask`
        With sources marked.
    n : `int`
        Number wanted.
    radius : `int`
        Half side of the square that must be free, and half the least distance of two places [pixels].
    avoided_planes : sequence of `str`
        A place must have none of these.
    seed : `int`
        The same for the same exposure, so that a rerun agrees.
    n_tries : `int`, optional
        Places tried; 20 for each wanted when not given.

    Returns
    -------
    x, y : `numpy.ndarray`, shape (m,), float64 [pixels]
        At most ``n`` positions.
    """
    ny, nx = mask.shape
    if nx <= 2 * radius or ny <= 2 * radius:
        return np.zeros(0), np.zeros(0)
    bits = mask.bitmask([p for p in avoided_planes if p in mask.planes])
    rng = np.random.default_rng(abs(int(seed)))
    tries = 20 * n if n_tries is None else n_tries
    xs = rng.integers(radius, nx - radius, tries)
    ys = rng.integers(radius, ny - radius, tries)
    chosen: list[tuple[int, int]] = []
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if len(chosen) >= n:
            break
        if (mask.array[y - radius : y + radius + 1, x - radius : x + radius + 1] & bits).any():
            continue
        if any(abs(x - a) <= 2 * radius and abs(y - b) <= 2 * radius for a, b in chosen):
            continue
        chosen.append((x, y))
    return np.array([c[0] for c in chosen], np.float64), np.array([c[1] for c in chosen], np.float64)
