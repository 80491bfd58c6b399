"""Identities of quanta: the same run, task and data ID give the same UUID in every graph.

A quantum that failed and is planned again thereby counts as another attempt at the same thing. The UUIDs are
version 8 (RFC 9562, section 5.8): 122 bits of a hash, computed for a whole column at once.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ..vocabulary.data_id_table import DataIdTable


def quantum_ids(run: str, label: str, data_ids: DataIdTable) -> NDArray[np.uint8]:
    """Return the UUIDs of a task's quanta.

    Parameters
    ----------
    run : `str`
        RUN collection of the outputs.
    label : `str`
        Label of the task.
    data_ids : `DataIdTable`, n rows
        Data ID of each.

    Returns
    -------
    ids : `numpy.ndarray`, shape (n, 16), uint8
        UUID bytes.
    """
    lanes = []
    for lane in ("a", "b"):
        hashes = np.full(len(data_ids), _hash(f"{lane}\0{run}\0{label}"), dtype=np.uint64)
        for name in data_ids.dimensions.required:
            column = data_ids.columns[name]
            if name in data_ids.categories:
                texts = [_hash(text) for text in data_ids.categories[name]] or [0]
                values = np.array(texts, dtype=np.uint64)[column]
            else:
                values = column.astype(np.uint64)
            hashes = _mixed(hashes ^ _mixed(values + np.uint64(_hash(name))))
        lanes.append(hashes)
    ids = np.stack(lanes, axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)
    ids[:, 6] = 0x80 | (ids[:, 6] & 0x0F)
    ids[:, 8] = 0x80 | (ids[:, 8] & 0x3F)
    return ids


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well mixed bits.

    The finalizer of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195).
    """
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
