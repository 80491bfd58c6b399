"""Instrument: a camera with its names in a repository.

Most instruments need no class: a camera file is enough (`Instrument.from_camera_file`). Whoever needs code,
an own raw formatter say, subclasses `Instrument` as with the reference and names the class where a name is
asked for. Registering stores the camera file in the repository (``instruments/<NAME>.yaml`` under its root),
so that raws can be read anywhere from the root and the instrument's name alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datastore.storage_root import publish_bytes
from ..errors import InstrumentNotFoundError, did_you_mean
from ..imaging.camera import Camera, FilterDefinition, read_camera
from ..vocabulary.dotted_name import dotted_name, import_by_name
from .camera_files import builtin_cameras, camera_file, repository_camera, stored_camera_uri


class Instrument:
    """What a repository needs to know of an instrument.

    Parameters
    ----------
    collection_prefix : `str`, optional
        First part of the collections' names; the instrument's name when not given.
    camera : `Camera`, optional
        Detectors and filters; subclasses may instead override `getCamera`.
    camera_path : path-like, optional
        File the camera was read from, copied into repositories as it is.
    """

    configPaths: Sequence[str] = ()
    """Directories searched for config overrides of tasks."""

    def __init__(
        self,
        collection_prefix: str | None = None,
        *,
        camera: Camera | None = None,
        camera_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self._camera = camera
        self._camera_path = None if camera_path is None else os.fspath(camera_path)
        self.collection_prefix = collection_prefix or self.getName()

    # ---------------------------------------------------------------- what a subclass may override

    def getName(self) -> str:
        """Return the value of the ``instrument`` dimension."""
        if self._camera is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no camera file, so it must define getName()"
            )
        return self._camera.name

    def getCamera(self) -> Camera:
        """Return the detectors and filters."""
        if self._camera is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no camera file, so it must define getCamera()"
            )
        return self._camera

    @property
    def filterDefinitions(self) -> Sequence[FilterDefinition]:
        """All filters of the instrument."""
        return self.getCamera().filters

    def getRawFormatter(self, dataId: Any = None) -> Any:
        """Return the formatter class that reads the raws of a data ID."""
        # Reading raws takes scipy (0.2 s), which naming an instrument in a pipeline does without.
        from .raw_frame import RawFormatter

        return RawFormatter

    def register(self, registry: Any, update: bool = False) -> None:
        """Insert the instrument, its detectors and filters into a registry.

        Parameters
        ----------
        registry : `Registry` or `Butler`
            Where to; a butler also gets the camera file, which raws need to be read.
        update : `bool`
            Whether records that exist and differ are replaced (otherwise they are an error).
        """
        if hasattr(registry, "registry"):
            self.register(registry.registry, update)
            self.write_camera_file(str(registry.root))
            return
        camera = self.getCamera()
        name = self.getName()
        limits = camera.limits
        registry.syncDimensionData(
            "instrument",
            {
                "name": name,
                "visit_max": limits.get("visit_max", 2**31 - 1),
                "visit_system": 0,
                "exposure_max": limits.get("exposure_max", 2**31 - 1),
                "detector_max": limits.get("detector_max", max(camera.detectors) + 1),
                "class_name": camera.class_name or dotted_name(type(self)),
            },
            update=update,
        )
        for detector in camera:
            registry.syncDimensionData(
                "detector",
                {
                    "instrument": name,
                    "id": detector.id,
                    "full_name": detector.name,
                    "name_in_raft": detector.name_in_raft or detector.name,
                    "raft": detector.raft or None,
                    "purpose": detector.purpose,
                },
                update=update,
            )
        for definition in self.filterDefinitions:
            registry.syncDimensionData(
                "physical_filter",
                {
                    "instrument": name,
                    "name": definition.physical_filter,
                    "band": definition.band or definition.physical_filter,
                },
                update=update,
            )

    # ---------------------------------------------------------------- names of collections

    def makeCollectionName(self, *labels: str) -> str:
        """Return ``<prefix>/<label>/...``."""
        return "/".join((self.collection_prefix, *labels))

    def makeDefaultRawIngestRunName(self) -> str:
        """Return the run raws go to, ``<NAME>/raw/all``."""
        return self.makeCollectionName("raw", "all")

    def makeCalibrationCollectionName(self, *labels: str) -> str:
        """Return the CALIBRATION collection, ``<NAME>/calib[/...]``."""
        return self.makeCollectionName("calib", *labels)

    def makeUnboundedCalibrationRunName(self, *labels: str) -> str:
        """Return the run of calibrations that are always valid, ``<NAME>/calib/unbounded``."""
        return self.makeCollectionName("calib", "unbounded", *labels)

    def makeCuratedCalibrationRunName(self, calibDate: str, *labels: str) -> str:
        """Return the run of curated calibrations valid from a date, ``<NAME>/calib/curated/<date>``."""
        return self.makeCollectionName("calib", "curated", calibDate, *labels)

    def makeUmbrellaCollectionName(self) -> str:
        """Return the chain with all usual inputs, ``<NAME>/defaults``."""
        return self.makeCollectionName("defaults")

    # ---------------------------------------------------------------- finding one

    @classmethod
    def from_camera_file(
        cls, source: str | os.PathLike[str], collection_prefix: str | None = None
    ) -> Instrument:
        """Make from a camera file.

        Parameters
        ----------
        source : path-like
            Path of a YAML file, or the name of one that comes with this package (``hsc``, ``hsc_small``,
            ``efosc2``; letter case ignored).
        collection_prefix : `str`, optional
            First part of the collections' names.

        Raises
        ------
        InstrumentNotFoundError
            If there is no such file and no such name; the nearest name is given.
        """
        path = camera_file(os.fspath(source))
        if path is None:
            near = did_you_mean(os.fspath(source), builtin_cameras())
            raise InstrumentNotFoundError(
                f"No camera file {os.fspath(source)!r}; "
                f"this package has {', '.join(builtin_cameras())}.{near}"
            )
        return cls(collection_prefix, camera=read_camera(path), camera_path=path)

    @classmethod
    def from_string(cls, name: str, registry: Any = None, collection_prefix: str | None = None) -> Instrument:
        """Find an instrument by whatever a user may call it.

        Parameters
        ----------
        name : `str`
            Built-in camera or instrument name (``hsc``, ``HSC``), path of a camera file, or full name of a
            class (``package.module.Class``); class names of the reference stand for the built-in
            instruments that know them (``lsst.obs.subaru.HyperSuprimeCam``).
        registry : `Registry`, optional
            Where an instrument's short name is looked up if nothing else fits.
        collection_prefix : `str`, optional
            First part of the collections' names.

        Raises
        ------
        InstrumentNotFoundError
            If nothing has that name; says what was tried.
        """
        path = camera_file(name)
        if path is not None:
            return Instrument.from_camera_file(path, collection_prefix)
        if "." in name and not name.endswith((".yaml", ".yml")):
            try:
                found = import_by_name(name, "instrument class", InstrumentNotFoundError)
            except InstrumentNotFoundError as error:
                raise InstrumentNotFoundError(
                    f"{error} Built-in cameras: {', '.join(builtin_cameras())}."
                ) from error
            if not (isinstance(found, type) and hasattr(found, "getName")):
                raise InstrumentNotFoundError(f"{name!r} is not an Instrument class")
            instrument: Instrument = found(collection_prefix)
            return instrument
        if registry is not None:
            for record in registry.queryDimensionRecords("instrument"):
                if record.name == name and record.class_name != name:
                    return cls.from_string(record.class_name, None, collection_prefix)
        raise InstrumentNotFoundError(
            f"No instrument {name!r}: not a built-in camera ({', '.join(builtin_cameras())}), a camera file "
            f"or a class.{did_you_mean(name, builtin_cameras())}"
        )

    @classmethod
    def from_repository(cls, repository: Any, name: str, collection_prefix: str | None = None) -> Instrument:
        """Make from the camera file a repository stores, or else by name.

        Parameters
        ----------
        repository : `Butler` or `str`
            The repository, or its root directory or URL.
        name : `str`
            Instrument name, a built-in camera's or a class's.
        collection_prefix : `str`, optional
            First part of the collections' names.
        """
        root = repository if isinstance(repository, str) else str(repository.root)
        try:
            camera = repository_camera(root, name)
        except InstrumentNotFoundError:
            return cls.from_string(name, None, collection_prefix)
        return Instrument(collection_prefix, camera=camera)

    def write_camera_file(self, root: str) -> None:
        """Store the camera file under a repository's root, replacing an older one.

        Parameters
        ----------
        root : `str`
            Root directory or URL of the repository.
        """
        import yaml  # only needed by cameras that are written in code

        if self._camera_path is not None:
            text = Path(self._camera_path).read_text(encoding="utf-8")
        else:
            text = yaml.safe_dump(self.getCamera().to_dict(), sort_keys=False, default_flow_style=None)
        publish_bytes(stored_camera_uri(root, self.getName()), text.encode())
        repository_camera.cache_clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.getName()!r})"
