"""Camera: the detectors of an instrument, where they sit on the focal plane, and its filters.

A camera is described by one YAML document that an astronomer can write (see ``instruments/hsc.yaml`` for one
with 112 detectors). Detectors that are read out alike share a ``detector_types`` entry, so that the document
stays short; `Camera.to_dict` finds such groups again, and the same dictionary is what the ``camera`` dataset
stores.

Conventions
-----------
Focal plane positions are millimetres as seen *on the sky*: with a rotation angle of zero, +y points north and
+x west (east with ``flip_x``). The rotation angle is the position angle of the focal plane's +y, from north
through east. A detector's assembled pixel frame has the focal plane's parity and is turned by its yaw only;
raw files of the other parity are mirrored when the amplifiers are assembled (``Amplifier.flip_x``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UNREADABLE, DescriptionError, FormatVersionError, did_you_mean, reading_description
from .detector import Detector
from .detector_document import detectors_from_document, detectors_to_document
from .sky_wcs import SkyWcs

CAMERA_FORMAT_VERSION = 1
"""Version of the dictionary that `Camera.to_dict` makes and `Camera.from_dict` reads."""


@dataclass(frozen=True, slots=True)
class FilterDefinition:
    """One filter of an instrument.

    Parameters
    ----------
    physical_filter : `str`
        Name at the telescope, the value of the ``physical_filter`` dimension.
    band : `str`
        Generic name ("r"), the value of the ``band`` dimension; empty for no band (an empty slot).
    alias : `tuple` [`str`, ...]
        Other spellings found in headers.
    """

    physical_filter: str
    band: str = ""
    alias: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Camera:
    """Detectors and filters of one instrument.

    Parameters
    ----------
    name : `str`
        Value of the ``instrument`` dimension.
    detectors : mapping of `int` to `Detector`
        By detector number.
    filters : `tuple` [`FilterDefinition`, ...]
        All filters.
    plate_scale_arcsec_per_mm : `float`
        Scale at the centre of the field [arcsec / mm].
    flip_x : `bool`
        Whether focal plane +x is east (not west) of +y north at rotation angle zero.
    radial_distortion : `tuple` [`float`, ...]
        k1, k2 in ``r_sky = scale * r * (1 + k1 r**2 + k2 r**4)``, r in mm from the optical axis.
    raw : mapping
        How raw files are read: translator or header mapping (see `butler_dask.instruments.raw_headers`).
    limits : mapping of `str` to `int`
        visit_max, exposure_max and detector_max of the instrument record.
    class_name : `str`
        Name under which the instrument is also known (its class in the reference).
    curated : mapping
        Calibrations that come with the description, by dataset type and detector number
        (``crosstalk``, ``linearizer``, ``defects``, ``bfKernel``).
    """

    name: str
    detectors: Mapping[int, Detector]
    filters: tuple[FilterDefinition, ...] = ()
    plate_scale_arcsec_per_mm: float = 1.0
    flip_x: bool = False
    radial_distortion: tuple[float, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    class_name: str = ""
    curated: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)

    def __getitem__(self, key: int | str) -> Detector:
        """Return a detector by number or full name.

        Raises
        ------
        KeyError
            If there is no such detector; the nearest name is given.
        """
        if isinstance(key, str):
            for detector in self.detectors.values():
                if detector.name == key:
                    return detector
            near = did_you_mean(key, [d.name for d in self.detectors.values()])
            raise KeyError(f"Camera {self.name!r} has no detector named {key!r}.{near}")
        try:
            return self.detectors[int(key)]
        except KeyError:
            numbers = sorted(self.detectors)
            raise KeyError(
                f"Camera {self.name!r} has no detector {key!r}; "
                f"its {len(numbers)} detectors lie between {numbers[0]} and {numbers[-1]}"
            ) from None

    def __iter__(self) -> Iterator[Detector]:
        return iter(self.detectors.values())

    def __len__(self) -> int:
        return len(self.detectors)

    def __contains__(self, key: object) -> bool:
        return key in self.detectors or any(d.name == key for d in self)

    def getName(self) -> str:
        """Return the name (the field's accessor; same as ``name``)."""
        return self.name

    def filter(self, name: str) -> FilterDefinition:
        """Return a filter by its physical name or an alias, letter case ignored.

        Raises
        ------
        KeyError
            If there is no such filter; the nearest name is given.
        """
        wanted = name.strip().lower()
        for definition in self.filters:
            if wanted in (definition.physical_filter.lower(), *(a.lower() for a in definition.alias)):
                return definition
        near = did_you_mean(name, [f.physical_filter for f in self.filters])
        raise KeyError(f"Camera {self.name!r} has no filter {name!r}.{near}")

    def initial_wcs(
        self,
        detector: int | Detector,
        boresight_ra_deg: float,
        boresight_dec_deg: float,
        rotation_deg: float = 0.0,
    ) -> SkyWcs:
        """Predict the world coordinates of an assembled detector from the telescope's pointing.

        Parameters
        ----------
        detector : `int` or `Detector`
            Which detector.
        boresight_ra_deg, boresight_dec_deg : `float`
            Where the optical axis points, ICRS [deg].
        rotation_deg : `float`
            Position angle of the focal plane's +y [deg].

        Returns
        -------
        wcs : `SkyWcs`
            TAN at the boresight; TAN-SIP when the camera has a radial distortion, which is exactly a SIP
            polynomial about the optical axis (Shupe et al. 2005, ASP 347, 491).
        """
        if not isinstance(detector, Detector):
            detector = self[detector]
        pixel = detector.pixel_size_mm
        yaw = np.radians(detector.yaw_deg)
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        theta = np.radians(rotation_deg)
        parity = -1.0 if self.flip_x else 1.0
        to_sky = np.array([[-parity * np.cos(theta), np.sin(theta)], [parity * np.sin(theta), np.cos(theta)]])
        cd_deg = to_sky @ turn * (pixel * self.plate_scale_arcsec_per_mm / 3600.0)
        centre = np.array([detector.focal_plane_x_mm, detector.focal_plane_y_mm])
        ny, nx = detector.shape
        crpix = np.array([(nx - 1) / 2.0, (ny - 1) / 2.0]) - turn.T @ centre / pixel
        sip = self._radial_sip(pixel)
        return SkyWcs.tangent(
            (float(crpix[0]), float(crpix[1])),
            (boresight_ra_deg, boresight_dec_deg),
            cd_deg,
            sip_a=None if sip is None else sip[0],
            sip_b=None if sip is None else sip[1],
        )

    def _radial_sip(self, pixel_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        if not any(self.radial_distortion):
            return None
        order = 2 * len(self.radial_distortion) + 1
        a = np.zeros((order + 1, order + 1))
        for n, coefficient in enumerate(self.radial_distortion, start=1):
            # u (u^2 + v^2)^n, term by term
            for k in range(n + 1):
                binomial = np.prod([(n - i) / (i + 1) for i in range(k)])
                a[2 * (n - k) + 1, 2 * k] += coefficient * pixel_mm ** (2 * n) * binomial
        return a, a.T.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of plain values from which `from_dict` makes an equal camera."""
        return {
            "camera_version": CAMERA_FORMAT_VERSION,
            "name": self.name,
            "class_name": self.class_name,
            "plate_scale_arcsec_per_mm": self.plate_scale_arcsec_per_mm,
            "flip_x": self.flip_x,
            "radial_distortion": list(self.radial_distortion),
            "limits": dict(self.limits),
            "filters": [
                {"physical_filter": f.physical_filter, "band": f.band, "alias": list(f.alias)}
                for f in self.filters
            ],
            "raw": _as_plain_values(self.raw),
            **detectors_to_document(self),
            "curated": _as_plain_values(self.curated),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Camera:
        """Make a camera from the content of a camera file.

        Parameters
        ----------
        document : mapping
            As `to_dict` makes it, or as read from a hand-written YAML file, where ``detectors`` may be
            ``{columns: [id, name, ...], rows: [[0, "1_53", ...], ...]}``, ``detector_defaults`` holds what
            rows leave out, and a row's ``gain``, ``read_noise`` or ``saturation`` (one number, or one an
            amplifier) replaces that of its type.

        Raises
        ------
        FormatVersionError
            If it was written in a version this program does not read.
        DescriptionError
            If something is missing or of the wrong kind; all that is wrong is named.
        """
        with reading_description(f"Camera description {document.get('name', '?')!r}"):
            return cls._from_document(document)

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> Camera:
        version = document.get("camera_version")
        if version != CAMERA_FORMAT_VERSION:
            raise FormatVersionError(
                f"Camera description {document.get('name', '?')!r} has camera_version {version!r}; "
                f"this version reads {CAMERA_FORMAT_VERSION}."
            )
        missing = [k for k in ("name", "detectors", "detector_types") if k not in document]
        if missing:
            raise DescriptionError(
                f"Camera description {document.get('name', '?')!r} lacks {', '.join(missing)}"
            )
        detectors, problems = detectors_from_document(document)
        if problems:
            raise DescriptionError(f"Camera description {document['name']!r} is wrong: {'; '.join(problems)}")
        return cls(
            name=str(document["name"]),
            detectors=detectors,
            filters=tuple(
                FilterDefinition(
                    str(f["physical_filter"]), str(f.get("band") or ""), tuple(map(str, f.get("alias", ())))
                )
                for f in document.get("filters", ())
            ),
            plate_scale_arcsec_per_mm=float(document.get("plate_scale_arcsec_per_mm", 1.0)),
            flip_x=bool(document.get("flip_x", False)),
            radial_distortion=tuple(float(k) for k in document.get("radial_distortion") or ()),
            raw=dict(document.get("raw") or {}),
            limits={k: int(v) for k, v in (document.get("limits") or {}).items()},
            class_name=str(document.get("class_name") or ""),
            curated={
                str(kind): {int(d): value for d, value in (by_detector or {}).items()}
                for kind, by_detector in (document.get("curated") or {}).items()
            },
        )


def read_camera(path: str | PathLike[str]) -> Camera:
    """Read a camera from its YAML file.

    Parameters
    ----------
    path : path-like
        Local file.

    Raises
    ------
    FormatVersionError
        If it was written in a version this program does not read.
    DescriptionError
        If it is not YAML, or its content is wrong.
    FileNotFoundError
        If there is no such file.
    """
    with open(path, encoding="utf-8") as stream:
        try:
            text = stream.read()
        except UnicodeDecodeError as error:
            raise DescriptionError(f"Camera file {os.fspath(path)!r} is not text: {error}") from error
    return camera_from_text(text, os.fspath(path))


def camera_from_text(text: str, where: str) -> Camera:
    """Make a camera of the text of its YAML file; ``where`` is the file's name, for messages.

    Raises
    ------
    FormatVersionError, DescriptionError
        See `read_camera`.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text, Loader=loader)  # a safe loader, ten times faster where compiled
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise DescriptionError(f"Camera file {where!r} is not valid YAML: {error}") from error
    if not isinstance(document, Mapping):
        raise DescriptionError(f"Camera file {where!r} holds no mapping")
    return Camera.from_dict(document)


def _as_plain_values(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _as_plain_values(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_plain_values(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
