"""Repository: where a repository is and what its ``butler.yaml`` says.

The file is small and meant to be edited by hand::

    version: 1
    registry: {url: 'sqlite:///<butlerRoot>/registry.sqlite3', lock_timeout_s: 120}
    datastore: {root: <butlerRoot>, durability: rename, checksum: xxh3}
    templates: {}        # path templates by dataset type, dimensions, storage class, or "default"
    formatters: {}       # dotted names by the same
    storage_classes: {}  # further kinds of Python objects
    trust: {formatters: [], pickle: false}  # what may read files that come from elsewhere

``datastore`` may have ``type: memory`` or ``type: chained`` too, and files a ``cache``
(`butler_dask.datastore.datastore_settings`), and ``base: {repository: PLACE}`` lays the repository upon a
shared one (`butler_dask.butler.overlay`). The root of files may be a URL (``s3://bucket/prefix``); the file
itself and, unless it says otherwise, the SQLite registry stay on a local disk. ``lock_timeout_s`` of the
registry is how long a program waits for others that use it before it gives up.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from ..datastore.storage_root import open_stream
from ..errors import (
    UNREADABLE,
    FormatVersionError,
    RepositoryError,
    RepositoryExistsError,
    did_you_mean,
)
from ..published_file import published
from ..registry.database import LOCK_TIMEOUT_S
from ..registry.database_url import has_password
from ..registry.registry import Registry

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore

_LOG = logging.getLogger("butler_dask.butler")

CONFIG_NAME = "butler.yaml"
CONFIG_VERSION = 1
_ROOT = "<butlerRoot>"
_SETTINGS = ("datastore", "templates", "formatters", "storage_classes", "trust", "base")
_KNOWN_KEYS = ("version", "root", "registry", *_SETTINGS)


@dataclass(frozen=True)
class Repository:
    """A repository's settings.

    Parameters
    ----------
    root : `str`
        Directory or URL of the repository.
    registry_url : `str`
        SQLAlchemy URL.
    datastore : mapping
        See `butler_dask.datastore.datastore_settings.open_datastore`.
    templates, formatters, storage_classes : mapping
        See `DatasetLayout`.
    lock_timeout_s : `float`
        How long to wait for other programs that use the registry [s].
    base : mapping
        The shared repository this one lies upon (see `butler_dask.butler.overlay`), if any: its place or
        label as ``repository``, and a list of names and globs as ``collections``, all when not given.
    trust : mapping
        See `TrustedFormatters`.
    """

    root: str
    registry_url: str
    datastore: Mapping[str, Any] = field(default_factory=dict)
    templates: Mapping[str, Any] = field(default_factory=dict)
    formatters: Mapping[str, Any] = field(default_factory=dict)
    storage_classes: Mapping[str, Any] = field(default_factory=dict)
    lock_timeout_s: float = LOCK_TIMEOUT_S
    base: Mapping[str, Any] = field(default_factory=dict)
    trust: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        root: str | os.PathLike[str],
        *,
        registry: str | None = None,
        datastore: str | Mapping[str, Any] | None = None,
        overlay: str | os.PathLike[str] | None = None,
        durability: str = "rename",
        checksum: str = "xxh3",
        settings: Mapping[str, Any] | None = None,
        outfile: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> Repository:
        """Make an empty repository.

        Parameters
        ----------
        root : `str` or path
            Directory; made if it is not there.
        registry : `str`, optional
            Database URL; SQLite below the root when not given.
        datastore : `str` or mapping, optional
            Directory or URL of the files, or settings of the datastore; the root when not given.
        overlay : `str` or path, optional
            Shared repository it is to lie upon, which is only read (see `butler_dask.butler.overlay`).
        durability, checksum : `str`
            See `FileDatastore`.
        settings : mapping, optional
            Anything of ``butler.yaml``; what the other arguments say wins.
        outfile : path, optional
            Where the configuration is written instead of ``butler.yaml`` below the root.
        overwrite : `bool`
            Replace a configuration file that is there.

        Raises
        ------
        RepositoryError
            If there is one already, or something in the settings is not right.
        """
        place = _plain_root(os.fspath(root))
        if "://" in place:
            raise RepositoryError(
                f"A repository is made on a local or mounted disk, not at {place}; its files may be there: "
                f"`butler create DIRECTORY --datastore {place}`."
            )
        config = os.path.join(place, CONFIG_NAME) if outfile is None else os.path.abspath(outfile)
        if os.path.exists(config) and not overwrite:
            raise RepositoryExistsError(f"There is a repository already: {config}")
        document = {"version": CONFIG_VERSION, **(settings or {})}
        if outfile is not None:
            document.setdefault("root", place)
        if registry is not None or "registry" not in document:
            document["registry"] = {"url": registry or f"sqlite:///{_ROOT}/registry.sqlite3"}
        if datastore is not None or "datastore" not in document:
            files = {"root": _ROOT if datastore is None else datastore}
            document["datastore"] = (
                dict(datastore)
                if isinstance(datastore, Mapping)
                else {**files, "durability": durability, "checksum": checksum}
            )
        for key in ("templates", "formatters", "storage_classes"):
            document.setdefault(key, {})
        if overlay is not None:
            shared = cls.find(overlay)
            label = os.fspath(overlay)
            document["base"] = {"repository": label if label in known_repositories() else shared.root}
        made = cls._of_document(document, place, config)
        # What is wrong in the settings, or with the way to a store, is said before anything is made.
        made.open_datastore().exists(CONFIG_NAME)
        os.makedirs(place, exist_ok=True)
        Registry.create(made.registry_url).close()
        if made.base:
            made.open_registry(writeable=True).close()
        # Last, and all at once: a directory without it is no repository.
        with published(config, "w") as stream:
            if any(map(has_password, _texts_in(document))):
                # Before there is anything in it that others might read.
                os.fchmod(stream.fileno(), 0o600)
                _LOG.warning(
                    "%s holds a password: only you may read it. A password in ~/.pgpass (or the file that "
                    "PGPASSFILE names) leaves the repository open to others",
                    config,
                )
            stream.writelines(f"{key}: {json.dumps(value)}\n" for key, value in document.items())
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
        except PermissionError as error:
            raise RepositoryError(
                f"The repository's settings may not be read: {name}: {error.strerror}"
            ) from error
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise RepositoryError(
                f"No repository at {os.fspath(config)!r} (no file {name})."
                f"{did_you_mean(os.fspath(config), known)} `butler create` makes one."
            ) from None
        document = _parsed(text, name)
        held = "://" not in name and any(map(has_password, _texts_in(document)))
        if held and os.stat(name).st_mode & 0o077:
            _warn_of_readers(name)
        return cls._of_document(document, root, name)

    @classmethod
    def _of_document(cls, document: Mapping[str, Any], root: str, name: str) -> Repository:
        version = document.get("version", CONFIG_VERSION)
        if not isinstance(version, int) or version > CONFIG_VERSION:
            raise FormatVersionError(
                f"{name} has version {version!r}; this version of butler_dask reads {CONFIG_VERSION}."
            )
        registry = document.get("registry") or {}
        if isinstance(registry, Mapping) and "db" in registry:
            raise RepositoryError(
                f"{name} is a repository of Rubin's own Butler (registry: db). Its `butler export` writes a "
                "file that `butler import` takes in here."
            )
        for key in document:
            if key not in _KNOWN_KEYS:
                raise RepositoryError(f"{name}: no setting {key!r}.{did_you_mean(str(key), _KNOWN_KEYS)}")
        if not isinstance(registry, Mapping) or "url" not in registry:
            raise RepositoryError(f"{name} does not say where the registry is (registry: url)")
        patience = registry.get("lock_timeout_s", LOCK_TIMEOUT_S)
        if isinstance(patience, bool) or not isinstance(patience, (int, float)) or patience <= 0:
            raise RepositoryError(f"{name}: lock_timeout_s is {patience!r}, not a positive number of seconds")
        root = str(document.get("root") or root)
        given: dict[str, Mapping[str, Any]] = {}
        for key in _SETTINGS:
            value = document.get(key) or {}
            if not isinstance(value, Mapping):
                raise RepositoryError(f"{name}: {key}: is a mapping, not {value!r}")
            given[key] = _rooted(value, root)
        return cls(root, str(registry["url"]).replace(_ROOT, root), lock_timeout_s=float(patience), **given)

    def open_registry(self, *, writeable: bool) -> Registry:
        """Open its registry; what has changed in a shared one below it is taken over first."""
        if not self.base:
            return Registry.open(self.registry_url, writeable=writeable, lock_timeout_s=self.lock_timeout_s)
        # Not at the top: few repositories lie upon another one.
        from .overlay import open_overlay

        return open_overlay(self, self._base_repository(), writeable=writeable)

    def _base_repository(self) -> Repository:
        base = Repository.find(str(self.base.get("repository", "")))
        if base.registry_url == self.registry_url:
            raise RepositoryError(f"The repository {self.root} lies upon itself (base: repository)")
        return base

    def open_datastore(self) -> Datastore:
        """Open its datastore."""
        # Not at the top: who asks for collections only should not wait for these.
        from ..datastore import dataset_layout, datastore_settings

        kinds, trust = self.storage_classes, self.trust
        if self.base:
            base = self._base_repository()
            kinds = {**base.storage_classes, **kinds}
            trust = base.trusted_with(trust)
        layout = dataset_layout.DatasetLayout(self.templates, self.formatters, kinds, self.root, trust)
        return datastore_settings.open_datastore(self.datastore, self.root, layout)

    def trusted_with(self, trust: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a repository trusts that lies upon this one: whoever made this is trusted as here.

        Parameters
        ----------
        trust : mapping
            Its own settings.
        """
        names = [*_texts_in(self.formatters), *(self.trust.get("formatters") or [])]
        pickled = self.trust.get("pickle", False)
        return {"pickle": pickled, **trust, "formatters": [*names, *(trust.get("formatters") or [])]}


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _texts_in(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts_in(inner)]
    return [value] if isinstance(value, str) else []


@cache
def _warn_of_readers(config: str) -> None:
    """Say once that others may read the password in a configuration file."""
    _LOG.warning(
        "%s holds a password and others may read it: `chmod 600` it and change the password, or put the "
        "password into ~/.pgpass",
        config,
    )


def _rooted(value: Any, root: str) -> Any:
    """Return settings with ``<butlerRoot>`` replaced."""
    if isinstance(value, str):
        return value.replace(_ROOT, root)
    if isinstance(value, Mapping):
        return {str(k): _rooted(v, root) for k, v in value.items()}
    return [_rooted(v, root) for v in value] if isinstance(value, list) else value


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


def read_settings(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return the settings in a YAML file.

    Raises
    ------
    RepositoryError
        If it cannot be read.
    """
    name = os.fspath(path)
    try:
        with open_stream(name) as stream:
            text = stream.read()
    except OSError as error:
        raise RepositoryError(f"The settings {name!r} cannot be read: {error}") from error
    return _parsed(text, name)


def _parsed(text: str | bytes, name: str) -> Mapping[str, Any]:
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise RepositoryError(f"{name} cannot be read: {error}") from error
    if not isinstance(document, Mapping):
        raise RepositoryError(f"{name} is not a mapping of names to values")
    return document


def _plain_root(place: str) -> str:
    """Return a place as absolute directory name, or as URL if it is not local."""
    if place.startswith("file://"):
        place = unquote(urlsplit(place).path)
    if "://" in place:
        return place.rstrip("/")
    return os.path.abspath(os.path.expanduser(place))
