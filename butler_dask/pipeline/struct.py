"""Named results of a task's ``run``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__all__ = ["Struct"]


class Struct(SimpleNamespace):
    """Results by name: ``Struct(exposure=image, sources=table).exposure``.

    Parameters
    ----------
    **values : object
        The results; names starting with two underscores are refused.
    """

    def __init__(self, **values: Any) -> None:
        private = [name for name in values if name.startswith("__")]
        if private:
            raise RuntimeError(f"Names of a Struct cannot start with '__': {private}")
        super().__init__(**values)

    def getDict(self) -> dict[str, Any]:
        """Return the results as a new `dict`."""
        return dict(vars(self))

    def mergeItems(self, struct: Struct, *names: str) -> None:
        """Take over some results of another Struct.

        Raises
        ------
        RuntimeError
            A name is taken already.
        """
        for name in names:
            if hasattr(self, name):
                raise RuntimeError(f"This Struct has a {name!r} already: {getattr(self, name)!r}")
            setattr(self, name, getattr(struct, name))

    def copy(self) -> Struct:
        """Return a shallow copy."""
        return type(self)(**vars(self))

    def __len__(self) -> int:
        return len(vars(self))
