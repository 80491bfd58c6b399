"""What a task wants remembered about one execution: named numbers and words, nested by dots.

The layout in JSON (``scalars``, ``arrays``, ``metadata``) is the reference's, so its files are read too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Scalar", "TaskMetadata"]

Scalar: TypeAlias = str | int | float | bool | None


class TaskMetadata:
    """A tree of named scalars and lists.

    Parameters
    ----------
    scalars : mapping, optional
        Single values by name.
    arrays : mapping, optional
        Lists of values by name.
    metadata : mapping, optional
        Nested `TaskMetadata` (or their `to_dict` form) by name.

    Notes
    -----
    ``metadata["a.b"]`` is item ``b`` of the nested metadata ``a``. Values are `str`, `int`, `float`, `bool`,
    `None`, or lists of one of these; numpy scalars and arrays become those.
    """

    def __init__(
        self,
        scalars: Mapping[str, Scalar] | None = None,
        arrays: Mapping[str, Sequence[Scalar]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.scalars: dict[str, Scalar] = dict(scalars or {})
        self.arrays: dict[str, list[Scalar]] = {k: list(v) for k, v in (arrays or {}).items()}
        self.metadata: dict[str, TaskMetadata] = {
            k: v if isinstance(v, TaskMetadata) else TaskMetadata.from_json_dict(v)
            for k, v in (metadata or {}).items()
        }

    # Serialisation -------------------------------------------------------------------------------------

    @classmethod
    def from_json_dict(cls, document: Mapping[str, Any]) -> TaskMetadata:
        """Make one from its JSON document: a mapping with ``scalars``, ``arrays`` and ``metadata``."""
        return cls(document.get("scalars"), document.get("arrays"), document.get("metadata"))

    def to_json_dict(self) -> dict[str, Any]:
        """Return the JSON document: a `dict` with ``scalars``, ``arrays`` and ``metadata``."""
        return {
            "scalars": dict(self.scalars),
            "arrays": {k: list(v) for k, v in self.arrays.items()},
            "metadata": {k: v.to_json_dict() for k, v in self.metadata.items()},
        }

    def model_dump_json(self) -> str:
        """Return the JSON text."""
        return json.dumps(self.to_json_dict())

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> TaskMetadata:
        """Make one from JSON text."""
        return cls.from_json_dict(json.loads(text))

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> TaskMetadata:
        """Make one from plain nested values: mappings become nested metadata, lists become arrays."""
        result = cls()
        for name, value in d.items():
            result[name] = value
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested `dict` of values, the inverse of `from_dict`."""
        result: dict[str, Any] = dict(self.scalars)
        result |= {k: list(v) for k, v in self.arrays.items()}
        result |= {k: v.to_dict() for k, v in self.metadata.items()}
        return result

    # Reading -------------------------------------------------------------------------------------------

    def _parent(self, name: str, create: bool = False) -> tuple[TaskMetadata, str]:
        """Walk the dots of a name; return the innermost metadata and the last part of the name."""
        *path, last = name.split(".")
        node = self
        for part in path:
            if create and part not in node.metadata:
                if part in node.scalars or part in node.arrays:
                    raise KeyError(f"{part!r} of {name!r} holds a value and cannot hold {last!r} too")
                node.metadata[part] = TaskMetadata()
            try:
                node = node.metadata[part]
            except KeyError:
                raise KeyError(f"Task metadata has no {name!r}") from None
        return node, last

    def __getitem__(self, key: str) -> Any:
        """Return a scalar, the last value of a list, or nested metadata."""
        node, name = self._parent(key)
        if name in node.scalars:
            return node.scalars[name]
        if name in node.arrays:
            return node.arrays[name][-1]
        if name in node.metadata:
            return node.metadata[name]
        raise KeyError(f"Task metadata has no {key!r}")

    def get(self, key: str, default: Any = None) -> Any:
        """Return ``self[key]``, or ``default`` where there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def getScalar(self, key: str) -> Scalar:
        """Return one value, the last where there is a list.

        Raises
        ------
        KeyError
            There is no such scalar or list.
        """
        scalar: Scalar | TaskMetadata = self[key]
        if isinstance(scalar, TaskMetadata):
            raise KeyError(f"{key!r} is nested metadata, not a value")
        return scalar

    def getArray(self, key: str) -> list[Any]:
        """Return all values of a name as a list, nested metadata as a list of one."""
        node, name = self._parent(key)
        if name in node.arrays:
            return list(node.arrays[name])
        return [self[key]]

    def __contains__(self, key: object) -> bool:
        try:
            node, name = self._parent(str(key))
        except KeyError:
            return False
        return name in node.scalars or name in node.arrays or name in node.metadata

    def keys(self) -> tuple[str, ...]:
        """Return the names at this level."""
        return (*self.scalars, *self.arrays, *self.metadata)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over (name, value) at this level; the last value stands for a list."""
        return ((name, self[name]) for name in self.keys())

    def names(self) -> set[str]:
        """Return all dotted names, of nested metadata too."""
        result = set(self.keys())
        for name, nested in self.metadata.items():
            result |= {f"{name}.{inner}" for inner in nested.names()}
        return result

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskMetadata) and self.to_json_dict() == other.to_json_dict()

    __hash__ = None  # type: ignore[assignment]  # equality without hash, as Python spells it

    def __repr__(self) -> str:
        return f"TaskMetadata.from_dict({self.to_dict()!r})"

    # Writing -------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: Any) -> None:
        node, name = self._parent(key, create=True)
        for store in (node.scalars, node.arrays, node.metadata):
            store.pop(name, None)
        if isinstance(value, TaskMetadata):
            node.metadata[name] = value
        elif isinstance(value, Mapping):
            node.metadata[name] = TaskMetadata.from_dict(value)
        else:
            plain = _plain(key, value)
            if isinstance(plain, list):
                node.arrays[name] = plain
            else:
                node.scalars[name] = plain

    def __delitem__(self, key: str) -> None:
        node, name = self._parent(key)
        for store in (node.scalars, node.arrays, node.metadata):
            if name in store:
                del store[name]
                return
        raise KeyError(f"Task metadata has no {key!r}")

    def add(self, name: str, value: Any) -> None:
        """Add a value to those a name has: the second one makes a list of both."""
        node, last = self._parent(name, create=True)
        plain = _plain(name, value)
        if name not in self:
            self[name] = plain
            return
        if last in node.metadata:
            raise KeyError(f"{name!r} is nested metadata; a value cannot be added to it")
        old = node.arrays.pop(last, None)
        if old is None:
            old = [node.scalars.pop(last)]
        node.arrays[last] = _plain(name, [*old, *(plain if isinstance(plain, list) else [plain])])

    def update(self, other: Mapping[str, Any]) -> None:
        """Set several items."""
        for name, value in other.items():
            self[name] = value

    def set_dict(self, key: str, nested: Mapping[str, Any]) -> None:
        """Set nested metadata from a mapping."""
        self[key] = nested

    def get_dict(self, key: str) -> dict[str, Any]:
        """Return nested metadata as plain nested `dict`."""
        value = self.get(key)
        return value.to_dict() if isinstance(value, TaskMetadata) else {}


def _plain(name: str, value: Any) -> Any:
    """Return a value as Python scalar or list of scalars, or say why it is none."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Collection) and not isinstance(value, bytes):
        values = [_plain(name, v) for v in value]
        kinds = {type(v) for v in values}
        if kinds <= {int, float} or (len(kinds) == 1 and list not in kinds):
            return values
        raise TypeError(
            f"Task metadata {name!r}: a list holds values of one type, not {sorted(map(str, kinds))}"
        )
    raise TypeError(
        f"Task metadata {name!r}: values are str, int, float, bool or lists of them, "
        f"not {type(value).__name__}"
    )
