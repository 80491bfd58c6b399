"""Formatter of any Python object, by pickle, for whoever asks for the storage class ``Pickle``.

Reading a pickle runs code from it: only for files one trusts, which is why no other storage class is pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, ClassVar

from .formatter import ReadRequest
from .storage_root import open_stream


class PickleFormatter:
    """Formatter of any object that can be pickled."""

    extension: ClassVar[str] = ".pickle"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the pickle."""
        return (pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL),)

    def read(self, request: ReadRequest) -> Any:
        """Read an object."""
        with open_stream(request.path) as stream:
            try:
                return pickle.load(stream)
            except pickle.UnpicklingError as error:
                raise ValueError(str(error)) from error
