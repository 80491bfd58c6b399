"""StringColumn: many texts as one array of bytes and one of offsets, so that a file of them can be mapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class StringColumn(Sequence[str]):
    """A sequence of texts that decodes one when it is asked for.

    Parameters
    ----------
    offsets : `numpy.ndarray`, shape (n + 1,), int64
        Text ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : `numpy.ndarray`, shape (n_bytes,), uint8
        UTF-8 of all texts, one after the other.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        self.offsets, self.data = offsets, data

    @classmethod
    def from_strings(cls, texts: Iterable[str]) -> StringColumn:
        """Pack texts; a column is returned as it is.

        Parameters
        ----------
        texts : iterable of `str`
            What to pack.

        Returns
        -------
        column : `StringColumn`
            In the same order.
        """
        if isinstance(texts, cls):
            return texts
        parts = [t.encode() for t in texts]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)), out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(parts), dtype=np.uint8))

    @classmethod
    def empty_strings(cls, count: int) -> StringColumn:
        """Make a column of empty texts that takes no memory.

        Parameters
        ----------
        count : `int`
            How many.

        Returns
        -------
        column : `StringColumn`
            Its offsets are one zero, seen many times.
        """
        return cls(np.broadcast_to(np.int64(0), (count + 1,)), np.zeros(0, dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, key: int) -> str: ...

    @overload
    def __getitem__(self, key: slice) -> list[str]: ...

    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        row = key + len(self) if key < 0 else key
        if not 0 <= row < len(self):
            raise IndexError(f"There is no text {key}; there are {len(self)}")
        return self.data[int(self.offsets[row]) : int(self.offsets[row + 1])].tobytes().decode()

    def take(self, rows: NDArray[np.int64]) -> StringColumn:
        """Return the texts of an index array.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (m,), int64
            Which texts.

        Returns
        -------
        column : `StringColumn`
            A copy, m texts.
        """
        starts, lengths = self.offsets[:-1][rows], np.diff(self.offsets)[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Position of every byte wanted: start of its text, plus its place in it.
        where = np.arange(int(offsets[-1])) + np.repeat(starts - offsets[:-1], lengths)
        return StringColumn(offsets, self.data[where])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equality without hash, as Python spells it

    def __repr__(self) -> str:
        return f"StringColumn({len(self)} texts)"
