"""Defects: rectangles of a detector whose pixels carry no signal worth using, as in Rubin's ``Defects``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .mask import Mask

if TYPE_CHECKING:
    from astropy.table import Table

DEFECT_COLUMNS = ("x0", "y0", "width", "height")
"""Columns of a table of defects, int32, pixels of the assembled detector counted from 0."""


def defects_table(boxes: Iterable[Sequence[int]] = ()) -> Table:
    """Make a table of defects.

    Parameters
    ----------
    boxes : iterable of (x0, y0, width, height)
        Rectangles [pixels].

    Returns
    -------
    table : `astropy.table.Table`
        Columns `DEFECT_COLUMNS`.
    """
    from astropy.table import Table

    rows = np.array([list(b) for b in boxes], dtype=np.int32).reshape(-1, 4)
    return Table({name: rows[:, i] for i, name in enumerate(DEFECT_COLUMNS)})


def mask_defects(mask: Mask, defects: Table, plane: str = "BAD") -> None:
    """Set a mask plane on all defects; parts outside the detector are left out.

    Parameters
    ----------
    mask : `Mask`
        Changed in place.
    defects : `astropy.table.Table`
        Columns x0, y0, width, height.
    plane : `str`
        Plane to set.
    """
    bit = np.int32(mask.bitmask(plane))
    columns: list[Any] = [np.asarray(defects[name]).tolist() for name in DEFECT_COLUMNS]
    for x0, y0, width, height in zip(*columns, strict=True):
        mask.array[max(y0, 0) : max(y0 + height, 0), max(x0, 0) : max(x0 + width, 0)] |= bit


def find_defects(where: NDArray[np.bool_]) -> Table:
    """Cover the true pixels of an image with rectangles, long columns first.

    Parameters
    ----------
    where : `numpy.ndarray`, shape (ny, nx), bool [1]
        Bad pixels.

    Returns
    -------
    table : `astropy.table.Table`
        Vertical runs; runs of equal extent in adjacent columns are joined.
    """
    boxes: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], int] = {}
    for x in range(where.shape[1] + 1):
        runs: set[tuple[int, int]] = set()
        if x < where.shape[1] and where[:, x].any():
            edges = np.flatnonzero(np.diff(where[:, x].astype(np.int8), prepend=0, append=0))
            runs = {(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)}
        for run in [r for r in open_runs if r not in runs]:
            x0 = open_runs.pop(run)
            boxes.append((x0, run[0], x - x0, run[1] - run[0]))
        for run in runs:
            open_runs.setdefault(run, x)
    return defects_table(sorted(boxes))
