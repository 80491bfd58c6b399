"""A repository's settings as a document: what one says in full, and what a new one takes from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import RepositoryError, did_you_mean
from ..registry.database_url import without_password
from .repository import CONFIG_VERSION, Repository, read_settings


def full_settings(repository: Repository) -> dict[str, Any]:
    """Return all settings of a repository, defaults included.

    Parameters
    ----------
    repository : `Repository`
        The repository.

    Returns
    -------
    document : `dict`
        As in ``butler.yaml``; the password of a database is hidden.
    """
    return {
        "version": CONFIG_VERSION,
        "root": repository.root,
        "registry": {"url": without_password(repository.registry_url)},
        "datastore": dict(repository.datastore),
        "templates": dict(repository.templates),
        "formatters": dict(repository.formatters),
        "storage_classes": dict(repository.storage_classes),
        "trust": dict(repository.trust),
        "base": dict(repository.base),
    }


def part_of_settings(document: Mapping[str, Any], path: str, place: str) -> Any:
    """Return a part of a document.

    Parameters
    ----------
    document : mapping
        The document.
    path : `str`
        Names from the outside in, such as ``.datastore.root``; a first character that is no letter or digit
        is what separates them.
    place : `str`
        What the document is of, for messages.

    Returns
    -------
    part : object
        A mapping or a value.

    Raises
    ------
    RepositoryError
        If there is none; the nearest name is named.
    """
    separator = path[:1] if path[:1] and not path[0].isalnum() else "."
    part: Any = document
    for name in [n for n in path.split(separator) if n]:
        if not isinstance(part, Mapping) or name not in part:
            known = list(part) if isinstance(part, Mapping) else []
            there = f" There are: {', '.join(known)}." if known else ""
            raise RepositoryError(f"No setting {path!r} in {place}.{did_you_mean(name, known)}{there}")
        part = part[name]
    return part


def seed_settings(path: str | os.PathLike[str], *, with_places: bool) -> dict[str, Any]:
    """Return the settings a new repository takes from a file.

    Parameters
    ----------
    path : `str` or path
        YAML file, as ``butler.yaml``.
    with_places : `bool`
        Whether it also says where the registry and the files are, not only how they are kept.

    Returns
    -------
    settings : `dict`
        For `Repository.create`.

    Raises
    ------
    RepositoryError
        If the file cannot be read.
    """
    settings = dict(read_settings(path))
    if not with_places:
        settings.pop("root", None)
        settings.pop("registry", None)
        datastore = settings.get("datastore")
        if isinstance(datastore, Mapping) and datastore.get("type", "file") == "file":
            kept = {k: v for k, v in datastore.items() if k != "root"}
            settings["datastore"] = {"root": "<butlerRoot>", **kept}
    return settings
