"""DatasetConstraints: which datasets a member of a chain of datastores takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import RepositoryError
from ..vocabulary.dataset import DatasetRef

_ALL = "all"


class DatasetConstraints:
    """Lists of what is accepted and rejected.

    An entry is a dataset type name, a storage class name, dimensions joined by ``+``, ``all``, or a mapping
    of ``instrument<NAME>`` to such entries. An entry that names something wins over ``all``, and
    accepting wins over rejecting. With a list of what is accepted, everything else is rejected.

    Parameters
    ----------
    accept, reject : iterable of `str` or mapping
        The entries.

    Raises
    ------
    RepositoryError
        If an entry has another form.
    """

    def __init__(self, accept: Iterable[Any] = (), reject: Iterable[Any] = ()) -> None:
        self._accept, self._reject = _entries(accept), _entries(reject)

    def accepts(self, ref: DatasetRef) -> bool:
        """Return whether a dataset may go there."""
        if not self._accept and not self._reject:
            return True
        kind = ref.datasetType
        names = {kind.name, kind.storageClass_name, "+".join(sorted(kind.dimensions.required))}
        instrument = str(ref.dataId.mapping.get("instrument", ""))
        for keys in (names, {_ALL}):
            wanted = {(i, k) for i in ("", instrument) for k in keys}
            if wanted & self._accept:
                return True
            if wanted & self._reject:
                return False
        return not self._accept

    def __repr__(self) -> str:
        return f"DatasetConstraints(accept={sorted(self._accept)}, reject={sorted(self._reject)})"


def _entries(given: Iterable[Any]) -> frozenset[tuple[str, str]]:
    """Return (instrument or empty, entry) of each entry."""
    out: set[tuple[str, str]] = set()
    for entry in [given] if isinstance(given, str) else given:
        if isinstance(entry, str):
            out.add(("", "+".join(sorted(entry.split("+")))))
        elif isinstance(entry, Mapping):
            for key, inner in entry.items():
                name = str(key)
                if not (name.startswith("instrument<") and name.endswith(">")):
                    raise RepositoryError(f"A constraint by data ID is instrument<NAME>: [...], not {name!r}")
                out |= {(name[len("instrument<") : -1], e) for _, e in _entries(inner)}
        else:
            raise RepositoryError(f"A constraint is a name or instrument<NAME>: [...], not {entry!r}")
    return frozenset(out)
