"""How the ``datastore:`` of a repository's configuration says what datastore it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RepositoryError, did_you_mean
from .chained_datastore import ChainedDatastore
from .dataset_constraints import DatasetConstraints
from .dataset_layout import DatasetLayout
from .datastore import Datastore
from .file_datastore import FileDatastore
from .memory_datastore import MemoryDatastore

_KEYS: Mapping[str, tuple[str, ...]] = {
    "file": ("root", "durability", "checksum", "cache"),
    "memory": ("root",),
    "chained": ("members",),
}
"""Settings of each type of datastore."""


def open_datastore(settings: Mapping[str, Any], root: str, layout: DatasetLayout) -> Datastore:
    """Return the datastore that settings describe.

    Parameters
    ----------
    settings : mapping
        ``type``: "file" (the default), "memory" or "chained". Of files: ``root``, ``durability``,
        ``checksum``, ``cache`` (see `FileDatastore`). Of a chain: ``members``, a list of such settings, each
        maybe with ``constraints: {accept: [...], reject: [...]}`` (see `DatasetConstraints`).
    root : `str`
        Where a datastore is that does not say it: the repository's root.
    layout : `DatasetLayout`
        Path and formatter of each dataset.

    Raises
    ------
    RepositoryError
        If there is no such type or setting; the nearest match is named.
    """
    given = dict(settings)
    kind = str(given.pop("type", "file"))
    given.pop("constraints", None)
    if kind not in _KEYS:
        raise RepositoryError(
            f"datastore: no type {kind!r}.{did_you_mean(kind, _KEYS)} There are: {', '.join(_KEYS)}."
        )
    for key in given:
        if key not in _KEYS[kind]:
            raise RepositoryError(
                f"datastore: no setting {key!r} of type {kind!r}.{did_you_mean(str(key), _KEYS[kind])}"
            )
    if kind == "memory":
        return MemoryDatastore(str(given.get("root", root)), layout)
    if kind == "file":
        place = str(given.pop("root", root))
        return FileDatastore(place, layout=layout, **given)
    members = given.get("members")
    if not isinstance(members, list) or not all(isinstance(m, Mapping) for m in members):
        raise RepositoryError("datastore: members: is a list of datastores, each a mapping")
    return ChainedDatastore(
        [(open_datastore(member, root, layout), _constraints(member)) for member in members], layout
    )


def _constraints(member: Mapping[str, Any]) -> DatasetConstraints:
    given = member.get("constraints") or {}
    if not isinstance(given, Mapping) or not set(given) <= {"accept", "reject"}:
        raise RepositoryError(f"datastore: constraints: has accept: and reject: lists, not {given!r}")
    return DatasetConstraints(given.get("accept") or (), given.get("reject") or ())
