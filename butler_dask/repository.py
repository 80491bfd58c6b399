"""Repository: where a repository is and what its ``butler.yaml`` says.

The file is small and meant to be edited by hand::

    version: 1
    registry: {url: 'sqlite:///<butlerRoot>/registry.sqlite3', lock_timeout_s: 120}
    datastore: {root: <butlerRoot>, durability: rename, checksum: xxh3}
    templates: {}    # path templates by dataset type or storage class, or "default"
    formatters: {}   # dotted names by dataset type or storage class

``lock_timeout_s`` is how long a program waits for others that use the registry before it gives up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .datastore.file_datastore import FileDatastore
from .datastore.storage_root import open_stream
from .errors import FormatVersionError, RepositoryError, did_you_mean
from .registry.database import LOCK_TIMEOUT_S
from .registry.registry import Registry

CONFIG_NAME = "butler.yaml"
CONFIG_VERSION = 1
_ROOT = "<butlerRoot>"
_KNOWN_KEYS = ("version", "registry", "datastore", "templates", "formatters")


@dataclass(frozen=True)
class Repository:
    """A repository's settings.

    Parameters
    ----------
    root : `str`
        Directory or URL of the repository.
    registry_url : `str`
        SQLAlchemy URL.
    datastore_root : `str`
        Directory or URL of the files.
    durability, checksum : `str`
        See `FileDatastore`.
    templates, formatters : mapping of `str` to `str`
        See `FileDatastore`.
    lock_timeout_s : `float`
        How long to wait for other programs that use the registry [s].
    """

    root: str
    registry_url: str
    datastore_root: str
    durability: str = "rename"
    checksum: str = "xxh3"
    templates: Mapping[str, str] = field(default_factory=dict)
    formatters: Mapping[str, str] = field(default_factory=dict)
    lock_timeout_s: float = LOCK_TIMEOUT_S

    @classmethod
    def create(
        cls,
        root: str | os.PathLike[str],
        *,
        registry: str | None = None,
        durability: str = "rename",
        checksum: str = "xxh3",
    ) -> Repository:
        """Make an empty repository.

        Parameters
        ----------
        root : `str` or path
            Directory; made if it is not there.
        registry : `str`, optional
            Database URL; SQLite below the root when not given.
        durability, checksum : `str`
            See `FileDatastore`.

        Raises
        ------
        RepositoryError
            If there is one already.
        """
        place = _plain_root(os.fspath(root))
        if "://" in place:
            raise RepositoryError(f"A repository is made on a local or mounted disk, not at {place}")
        config = os.path.join(place, CONFIG_NAME)
        if os.path.exists(config):
            raise RepositoryError(f"There is a repository already: {config}")
        os.makedirs(place, exist_ok=True)
        url = registry or f"sqlite:///{_ROOT}/registry.sqlite3"
        made = cls(place, url.replace(_ROOT, place), place, durability, checksum)
        Registry.create(made.registry_url).close()
        text = (
            f"version: {CONFIG_VERSION}\n"
            f"registry: {{url: {json.dumps(url)}}}\n"
            f"datastore: {{root: {_ROOT}, durability: {durability}, checksum: {checksum}}}\n"
            "templates: {}\n"
            "formatters: {}\n"
        )
        # Last, and all at once: a directory without it is no repository.
        temporary = f"{config}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, config)
        return made

    @classmethod
    def find(cls, config: str | os.PathLike[str] | Repository) -> Repository:
        """Return the repository at a place or of a known label.

        Parameters
        ----------
        config : `str` or path
            Directory, URL, ``butler.yaml`` file, or label (see `known_repositories`).

        Raises
        ------
        RepositoryError
            If there is none.
        FormatVersionError
            If it was made by a later version.
        """
        if isinstance(config, Repository):
            return config
        place = os.fspath(config)
        known = known_repositories()
        place = _plain_root(known.get(place, place))
        name = place if place.endswith((".yaml", ".yml")) else f"{place}/{CONFIG_NAME}"
        root = name.rpartition("/")[0] or "."
        try:
            with open_stream(name) as stream:
                text = stream.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise RepositoryError(
                f"No repository at {os.fspath(config)!r} (no file {name})."
                f"{did_you_mean(os.fspath(config), known)} `butler create` makes one."
            ) from None
        return cls._of_document(_parsed(text, name), root, name)

    @classmethod
    def _of_document(cls, document: Mapping[str, Any], root: str, name: str) -> Repository:
        version = document.get("version", CONFIG_VERSION)
        if not isinstance(version, int) or version > CONFIG_VERSION:
            raise FormatVersionError(
                f"{name} has version {version!r}; this version of butler_dask reads {CONFIG_VERSION}."
            )
        for key in document:
            if key not in _KNOWN_KEYS:
                raise RepositoryError(f"{name}: no setting {key!r}.{did_you_mean(str(key), _KNOWN_KEYS)}")
        datastore = dict(document.get("datastore") or {})
        try:
            url = str(document["registry"]["url"])
        except (KeyError, TypeError):
            raise RepositoryError(f"{name} does not say where the registry is (registry: url)") from None
        patience = document["registry"].get("lock_timeout_s", LOCK_TIMEOUT_S)
        if isinstance(patience, bool) or not isinstance(patience, (int, float)) or patience <= 0:
            raise RepositoryError(f"{name}: lock_timeout_s is {patience!r}, not a positive number of seconds")
        return cls(
            root,
            url.replace(_ROOT, root),
            str(datastore.pop("root", _ROOT)).replace(_ROOT, root),
            templates=dict(document.get("templates") or {}),
            formatters=dict(document.get("formatters") or {}),
            lock_timeout_s=float(patience),
            **datastore,
        )

    def open_registry(self, *, writeable: bool) -> Registry:
        """Open its registry."""
        return Registry.open(self.registry_url, writeable=writeable, lock_timeout_s=self.lock_timeout_s)

    def open_datastore(self) -> FileDatastore:
        """Open its datastore."""
        return FileDatastore(
            self.datastore_root,
            durability=self.durability,
            checksum=self.checksum,
            templates=self.templates,
            formatters=self.formatters,
        )


def open_datastore(root: str) -> FileDatastore:
    """Return the datastore of the repository at a root."""
    return Repository.find(root).open_datastore()


def known_repositories() -> dict[str, str]:
    """Return the roots of labelled repositories.

    Labels come from the JSON text in ``DAF_BUTLER_REPOSITORIES``, else from the YAML or JSON file named by
    ``DAF_BUTLER_REPOSITORY_INDEX``.

    Raises
    ------
    RepositoryError
        If one of these is set and cannot be read.
    """
    text: str | bytes | None = os.environ.get("DAF_BUTLER_REPOSITORIES")
    name = "DAF_BUTLER_REPOSITORIES"
    if not text:
        name = os.environ.get("DAF_BUTLER_REPOSITORY_INDEX", "")
        if not name:
            return {}
        try:
            with open_stream(name) as stream:
                text = stream.read()
        except OSError as error:
            raise RepositoryError(f"The repository index {name!r} cannot be read: {error}") from error
    return {str(k): str(v) for k, v in _parsed(text, name).items()}


def _parsed(text: str | bytes, name: str) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise RepositoryError(f"{name} cannot be read: {error}") from error
    if not isinstance(document, Mapping):
        raise RepositoryError(f"{name} is not a mapping of names to values")
    return document


def _plain_root(place: str) -> str:
    """Return a place as absolute directory name, or as URL if it is not local."""
    if place.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        place = unquote(urlsplit(place).path)
    if "://" in place:
        return place.rstrip("/")
    return os.path.abspath(os.path.expanduser(place))
