"""Source identifiers: 63 bits of exposure, detector and counter, unique in an instrument.

From the top: 32 bits of exposure, 9 of detector, 22 of counter. Exposure numbers of the form YYYYMMDDNNNNN do
not fit 32 bits; they are packed as days since 2000 and sequence number, with the top bit set. Packing
exposure and detector above a counter is what Rubin's ``IdGenerator`` does.
"""

from __future__ import annotations

import datetime

import numpy as np
from numpy.typing import NDArray

DETECTOR_BITS = 9
COUNTER_BITS = 22


def _packed_exposure(exposure_id: int) -> int:
    if 0 <= exposure_id < 1 << 31:
        return exposure_id
    day, sequence = divmod(exposure_id, 100_000)
    try:
        date = datetime.date(day // 10_000, day // 100 % 100, day % 100)
    except ValueError:
        date = datetime.date(1, 1, 1)
    days = (date - datetime.date(2000, 1, 1)).days
    if not 0 <= days < 1 << 14:
        raise ValueError(
            f"No source ids for exposure {exposure_id}: it is neither below 2**31 nor YYYYMMDDNNNNN"
        )
    return 1 << 31 | days << 17 | sequence


def source_ids(exposure_id: int, detector: int, n: int, start: int = 1) -> NDArray[np.int64]:
    """Return identifiers of the sources of one detector image.

    Parameters
    ----------
    exposure_id : `int`
        Exposure or visit number, below 2**31 or of the form YYYYMMDDNNNNN.
    detector : `int`
        Detector number, below 512.
    n : `int`
        How many.
    start : `int`
        First counter.

    Returns
    -------
    ids : `numpy.ndarray`, shape (n,), int64 [1]
        Positive and consecutive.

    Raises
    ------
    ValueError
        If a number does not fit.
    """
    if not 0 <= detector < 1 << DETECTOR_BITS:
        raise ValueError(f"Detector {detector} does not fit {DETECTOR_BITS} bits of a source id")
    if start + n > 1 << COUNTER_BITS:
        raise ValueError(f"{n} sources do not fit {COUNTER_BITS} bits of a source id")
    base = (_packed_exposure(exposure_id) << DETECTOR_BITS | detector) << COUNTER_BITS
    return np.arange(start, start + n, dtype=np.int64) + np.int64(base)
