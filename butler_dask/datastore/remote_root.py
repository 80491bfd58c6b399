"""RemoteRoot: a place fsspec reaches, object stores above all."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ..errors import ButlerUserError, RepositoryError
from ..published_file import TEMPORARY_SUFFIX, temporary_name, write_chunks
from .storage_path import file_name, is_absolute, is_remote

_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Extra of this package that brings what a kind of URL needs."""

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Where there are no directories, and a file appears whole when its upload ends."""


READ_AHEAD = 4 << 20
"""Bytes fetched beyond those asked for: few requests for a whole exposure, little waste for a part of it."""


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what file systems raise into `OSError`: each has errors of its own beside it."""
    try:
        yield
    except (OSError, ButlerUserError):
        raise
    except Exception as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the name in it.

    Endpoint and credentials come from the usual places (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ..., fsspec's
    own configuration).

    Raises
    ------
    RepositoryError
        If the package that speaks this protocol is not installed, or there is no such protocol.
    """
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    # Others write too: what a listing said a minute ago is no answer.
    options = {"use_listings_cache": False} if protocol in _OBJECT_STORES else {}
    try:
        found: tuple[Any, str] = url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        hint = f"`pip install 'butler-dask[{extra}]'` brings it" if extra else str(error)
        raise RepositoryError(f"{url}: what reads {protocol}:// URLs is not installed; {hint}.") from error
    except ValueError as error:
        raise RepositoryError(f"{url} cannot be opened: {error}") from error
    return found


class RemoteRoot:
    """A place fsspec reaches: object stores and others.

    Files are staged on the local disk and published by one upload, which object stores do atomically;
    elsewhere by an upload under a temporary name and a rename.

    Parameters
    ----------
    url : `str`
        For instance ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._lock = threading.Lock()
        self._fs: Any = None
        self._base = ""

    @property
    def _filesystem(self) -> Any:
        with self._lock:
            if self._fs is None:
                self._fs, self._base = file_system(self.url)
        return self._fs

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"])  # type: ignore[misc]  # made anew where it is unpickled

    def _located(self, path: str) -> tuple[Any, str]:
        """Return the file system of a path, and the name in it."""
        if "://" in path:
            return file_system(path)
        filesystem = self._filesystem
        return filesystem, f"{self._base}/{path}"

    def local(self, path: str) -> str | None:
        """Return the file name of a file ingested in place from the local disk, else `None`."""
        return file_name(path) if is_absolute(path) and not is_remote(path) else None

    def stage(
        self, path: str, chunks: Iterable[Any], update: Callable[[Any], None] | None = None
    ) -> tuple[str, int]:
        """Write bytes to a local temporary file."""
        descriptor, temporary = tempfile.mkstemp(suffix=TEMPORARY_SUFFIX, prefix="butler-")
        try:
            size = write_chunks(descriptor, chunks, update)
        except BaseException:
            self.discard(temporary)
            raise
        return temporary, size

    def publish(self, staged: str, path: str) -> None:
        """Upload a staged file."""
        try:
            with store_errors(self.url):
                filesystem, target = self._located(path)
                if self.url.partition("://")[0] in _OBJECT_STORES:
                    filesystem.put_file(staged, target)
                    return
                filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                temporary = temporary_name(target)
                filesystem.put_file(staged, temporary)
                filesystem.mv(temporary, target)
        finally:
            self.discard(staged)

    def discard(self, staged: str) -> None:
        """Remove a staged file."""
        with suppress(FileNotFoundError):
            os.unlink(staged)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; parts are fetched as they are asked for."""
        local = self.local(path)
        if local is not None:
            return open(local, "rb")
        with store_errors(path):
            filesystem, name = self._located(path)
            stream: BinaryIO = filesystem.open(name, "rb", block_size=READ_AHEAD)
            return stream

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        local = self.local(path)
        if local is not None:
            return os.stat(local).st_size
        with store_errors(self.uri(path)):
            filesystem, name = self._located(path)
            return int(filesystem.size(name))

    def modified(self, path: str) -> float:
        """Return when a file was last written [s since 1970]."""
        with store_errors(self.uri(path)):
            filesystem, name = self._located(path)
            return float(filesystem.modified(name).timestamp())

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, many in one request where the store can."""
        ours = [p for p in paths if not is_absolute(p)]
        if not ours:
            return
        with store_errors(self.url):
            filesystem = self._filesystem
            names = [f"{self._base}/{p}" for p in ours]
            try:
                filesystem.rm(names)
            except FileNotFoundError:
                for name in names:
                    if filesystem.exists(name):
                        filesystem.rm_file(name)

    def uri(self, path: str) -> str:
        """Return the full URL."""
        if path.startswith("/"):
            return f"file://{path}"
        return path if "://" in path else f"{self.url}/{path}"

    def files(self) -> Iterator[tuple[str, int]]:
        """Return relative path and size of every file below the root."""
        with store_errors(self.url):
            found = self._filesystem.find(self._base, detail=True)
        for name, info in found.items():
            yield str(name).removeprefix(self._base).lstrip("/"), int(info["size"])
