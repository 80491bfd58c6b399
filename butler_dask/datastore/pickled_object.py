"""Formatter of any Python object, by pickle, for whoever asks for the storage class ``Pickle``.

Reading a pickle runs code from it: only for files one trusts, which is why no other storage class is pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .storage_root import open_stream


class PickleFormatter:
    """Formatter of any object that can be pickled."""

    extension: ClassVar[str] = ".pickle"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the pickle."""
        return (pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL),)

    def read(
        self,
        path: str,
        *,
        storage_class: str,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        root: str = "",
        data_id: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read an object."""
        with open_stream(path) as stream:
            try:
                return pickle.load(stream)
            except pickle.UnpicklingError as error:
                raise ValueError(str(error)) from error
