"""FileCache: local copies of remote files, a bounded number of bytes or files.

A directory any number of processes share. A file is copied under a temporary name and renamed, and its name
follows from URI, size and checksum, so a dataset that was written anew is not confused with its predecessor.
Readers open a hard link of their own, so another process may drop the file at any moment. What was used
longest ago is dropped first.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import xxhash

from ..errors import RepositoryError, did_you_mean
from ..vocabulary.file_record import FileRecord
from .local_root import link_or_move
from .storage_path import extension_of

MODES = ("files", "datasets", "size", "age", "disabled")
"""What a limit counts: files (or datasets, the same here), bytes, seconds since the last use."""

_IN_USE = "in-use"
_ABANDONED_S = 86_400.0
"""Age of a reader's link or unfinished copy after which its process is taken to be dead [s]."""


class FileCache:
    """Local copies of remote files.

    Parameters
    ----------
    directory : `str`
        Where they are kept; made if it is not there.
    mode : `str`
        What the limit counts: one of `MODES`.
    threshold : `float`
        The limit.

    Raises
    ------
    RepositoryError
        If there is no such mode, or the threshold is not positive.
    """

    def __init__(self, directory: str, mode: str = "size", threshold: float = 10e9) -> None:
        if mode not in MODES:
            raise RepositoryError(
                f"No cache expiration mode {mode!r}.{did_you_mean(mode, MODES)} "
                f"There are: {', '.join(MODES)}."
            )
        if not threshold > 0:
            raise RepositoryError(f"The threshold of the file cache must be positive, not {threshold!r}")
        self.directory, self.mode, self.threshold = os.path.abspath(directory), mode, threshold

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | None) -> FileCache | None:
        """Return the cache of the environment and a repository's settings, or `None` if there is none.

        ``DAF_BUTLER_CACHE_DIRECTORY`` and ``DAF_BUTLER_CACHE_EXPIRATION_MODE`` (``size=1e9``, ``files=100``,
        ``disabled``) win over the settings ``directory``, ``mode`` and ``threshold``;
        ``DAF_BUTLER_CACHE_DIRECTORY_IF_UNSET`` counts where nothing else names a directory.

        Raises
        ------
        RepositoryError
            If something in them cannot be read.
        """
        given = dict(settings or {})
        known = ("directory", "mode", "threshold")
        for key in given:
            if key not in known:
                raise RepositoryError(f"datastore: cache: no setting {key!r}.{did_you_mean(str(key), known)}")
        directory = (
            os.environ.get("DAF_BUTLER_CACHE_DIRECTORY")
            or given.get("directory")
            or os.environ.get("DAF_BUTLER_CACHE_DIRECTORY_IF_UNSET")
        )
        mode, threshold = str(given.get("mode", "size")), given.get("threshold", 10e9)
        expiration = os.environ.get("DAF_BUTLER_CACHE_EXPIRATION_MODE")
        if expiration:
            mode, _, text = expiration.partition("=")
            threshold = text or threshold
        try:
            limit = float(threshold)
        except (TypeError, ValueError):
            raise RepositoryError(f"The threshold of the file cache is a number, not {threshold!r}") from None
        if not directory or mode == "disabled":
            return None
        return cls(os.path.expanduser(str(directory)), mode, limit)

    @contextmanager
    def local(self, uri: str, file: FileRecord, open_remote: Callable[[], BinaryIO]) -> Iterator[str]:
        """Give the name of a local copy, made now if there is none.

        Parameters
        ----------
        uri : `str`
            The remote file.
        file : `FileRecord`
            What is recorded of it.
        open_remote : callable
            Opens it.
        """
        identity = f"{uri}|{file.size}|{file.checksum}".encode()
        name = xxhash.xxh3_128_hexdigest(identity) + extension_of(file.path)
        kept = os.path.join(self.directory, name)
        mine = os.path.join(self.directory, _IN_USE, f"{os.getpid()}-{secrets.token_hex(4)}-{name}")
        os.makedirs(os.path.dirname(mine), exist_ok=True)
        try:
            try:
                os.link(kept, mine)
                os.utime(kept)
            except FileNotFoundError:
                if not os.path.exists(mine):
                    self._fetch(open_remote, kept, mine)
            yield mine
        finally:
            with suppress(FileNotFoundError):
                os.unlink(mine)

    def _fetch(self, open_remote: Callable[[], BinaryIO], kept: str, mine: str) -> None:
        with open_remote() as source, open(mine, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        link_or_move(mine, kept, "hardlink")
        self.expire()

    def expire(self) -> None:
        """Drop what is beyond the limit, and what dead processes left."""
        now = time.time()
        with suppress(FileNotFoundError):
            for entry in os.scandir(os.path.join(self.directory, _IN_USE)):
                with suppress(FileNotFoundError):
                    if now - entry.stat().st_ctime > _ABANDONED_S:
                        os.unlink(entry.path)
        found = []
        for entry in os.scandir(self.directory):
            with suppress(FileNotFoundError):
                if entry.is_file():
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, entry.path))
        found.sort(reverse=True)  # used last comes first
        total = 0.0
        for used, size, path in found:
            total += size if self.mode == "size" else 1
            if (now - used if self.mode == "age" else total) > self.threshold:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def __repr__(self) -> str:
        return f"FileCache({self.directory!r}, {self.mode}={self.threshold:g})"
