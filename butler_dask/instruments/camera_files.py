"""Camera files: those that come with this package, and those that repositories store.

Below the instrument, which is made from one, and the reader of raws, which needs one to understand a file.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ..datastore.storage_root import open_stream
from ..errors import InstrumentNotFoundError
from ..imaging.camera import Camera, camera_from_text

_BUILTIN_DIRECTORY = Path(__file__).parent

_REFERENCE_CLASSES = {"lsst.obs.subaru.HyperSuprimeCam": "hsc", "HyperSuprimeCam": "hsc"}
"""Name of the camera file for an instrument class of the reference."""


def builtin_cameras() -> list[str]:
    """Return the names of the camera files that come with this package."""
    return sorted(path.stem for path in _BUILTIN_DIRECTORY.glob("*.yaml"))


def camera_file(name: str) -> str | None:
    """Return the path of the camera file a name stands for, or None.

    Parameters
    ----------
    name : `str`
        Path of a file, name of one that comes with this package (letter case ignored), or name of a class of
        the reference whose instrument has one.
    """
    if os.path.isfile(name):
        return name
    builtin = _BUILTIN_DIRECTORY / f"{name.lower()}.yaml"
    if builtin.is_file():
        return str(builtin)
    if name in _REFERENCE_CLASSES:
        return str(_BUILTIN_DIRECTORY / f"{_REFERENCE_CLASSES[name]}.yaml")
    return None


def stored_camera_uri(root: str, name: str) -> str:
    """Return where a repository keeps the camera file of an instrument.

    Parameters
    ----------
    root : `str`
        Root directory or URL of the repository.
    name : `str`
        Instrument name.
    """
    return f"{root.rstrip('/')}/instruments/{name}.yaml"


@functools.lru_cache(maxsize=32)
def repository_camera(root: str, name: str) -> Camera:
    """Read the camera file a repository stores for an instrument (read once a process).

    Parameters
    ----------
    root : `str`
        Root directory or URL of the repository.
    name : `str`
        Instrument name.

    Raises
    ------
    InstrumentNotFoundError
        If the repository has no such file.
    """
    uri = stored_camera_uri(root, name)
    try:
        with open_stream(uri) as stream:
            text = stream.read().decode("utf-8")
    except (OSError, ValueError):  # ValueError: the name reads as a URL of no known protocol
        raise InstrumentNotFoundError(
            f"The repository at {root!r} has no camera file for instrument {name!r} ({uri}). "
            f"Register the instrument with `butler register-instrument {root} {name}`."
        ) from None
    return camera_from_text(text, uri)
