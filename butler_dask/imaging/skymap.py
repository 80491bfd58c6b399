"""SkyMap: how the sky is cut into tracts and patches.

A tract is one tangent-plane pixel grid, a patch a box of it with a border shared by its neighbours. The
geometry is that of Rubin's ``lsst.skymap`` (``DiscreteSkyMap`` and ``RingsSkyMap``), so that tract and patch
numbers and pixel positions agree with those of a repository made there. A SkyMap is a handful of numbers;
tracts are made when asked for, so a sky map of 10^4 tracts costs nothing to read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DescriptionError, FormatVersionError, did_you_mean, reading_description
from .sky_wcs import SkyWcs
from .tract import TractInfo

_MOST_PIXELS = 1_000_000
"""A patch so wide is a mistyped one."""

SKYMAP_FORMAT_VERSION = 1
"""Version of the document written by `SkyMap.to_dict`."""


class SkyMap:
    """Tracts and patches over the sky; an immutable value.

    Make one with `discrete` or `rings`.

    Parameters
    ----------
    name : `str`
        Value of the ``skymap`` dimension.
    kind : `str`
        "discrete" or "rings".
    centers_deg : sequence of (ra, dec)
        Tract centres [deg].
    radii_deg : sequence of `float`
        Radius of the circle each tract covers [deg].
    patch_inner_dimensions : `tuple` [`int`, `int`]
        (width, height) of a patch without border [pixels].
    patch_border : `int`
        Border of a patch [pixels].
    tract_overlap_deg : `float`
        Width by which a tract reaches beyond its circle [deg].
    pixel_scale_arcsec : `float`
        Pixel scale at a tract's centre [arcsec].
    rotation_deg : `float`
        Position angle of the pixel grid's +y, from north through east [deg].
    options : mapping, optional
        What `rings` was made of, kept for the document.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        centers_deg: Sequence[tuple[float, float]],
        radii_deg: Sequence[float],
        *,
        patch_inner_dimensions: tuple[int, int] = (4000, 4000),
        patch_border: int = 100,
        tract_overlap_deg: float = 1.0 / 60.0,
        pixel_scale_arcsec: float = 0.333,
        rotation_deg: float = 0.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not centers_deg or len(centers_deg) != len(radii_deg):
            raise ValueError(
                f"A sky map needs as many centres as radii, at least one; "
                f"got {len(centers_deg)} and {len(radii_deg)}"
            )
        if min(patch_inner_dimensions) <= 0 or patch_border < 0 or pixel_scale_arcsec <= 0:
            raise ValueError(
                f"Patch dimensions {patch_inner_dimensions!r}, border {patch_border!r} and pixel scale "
                f"{pixel_scale_arcsec!r} must be positive"
            )
        self.name = name
        self.kind = kind
        self.centers_deg = tuple((float(ra) % 360.0, float(dec)) for ra, dec in centers_deg)
        self.radii_deg = tuple(float(r) for r in radii_deg)
        self.patch_inner_dimensions = (int(patch_inner_dimensions[0]), int(patch_inner_dimensions[1]))
        self.patch_border = int(patch_border)
        self.tract_overlap_deg = float(tract_overlap_deg)
        self.pixel_scale_arcsec = float(pixel_scale_arcsec)
        self.rotation_deg = float(rotation_deg)
        self.options = dict(options or {})
        self._tracts: dict[int, TractInfo] = {}

    @classmethod
    def discrete(
        cls,
        name: str,
        ra_deg: Sequence[float],
        dec_deg: Sequence[float],
        radius_deg: Sequence[float],
        **geometry: Any,
    ) -> SkyMap:
        """Make tracts about the positions given (Rubin's ``DiscreteSkyMap``).

        Parameters
        ----------
        name : `str`
            Value of the ``skymap`` dimension.
        ra_deg, dec_deg, radius_deg : sequence of `float`
            Centre and radius of each tract [deg].
        **geometry
            ``patch_inner_dimensions``, ``patch_border``, ``tract_overlap_deg``, ``pixel_scale_arcsec``,
            ``rotation_deg``: see the class.
        """
        return cls(name, "discrete", list(zip(ra_deg, dec_deg, strict=True)), list(radius_deg), **geometry)

    @classmethod
    def rings(cls, name: str, num_rings: int, *, ra_start_deg: float = 0.0, **geometry: Any) -> SkyMap:
        """Cover the whole sky with rings of tracts of equal declination (Rubin's ``RingsSkyMap``, version 1).

        Parameters
        ----------
        name : `str`
            Value of the ``skymap`` dimension.
        num_rings : `int`
            Number of rings, the two polar tracts not counted.
        ra_start_deg : `float`
            Right ascension of the first tract of each ring [deg].
        **geometry
            As for `discrete`.
        """
        ring_deg = 180.0 / (num_rings + 1)
        centers = [(0.0, -90.0)]
        for ring in range(num_rings):
            start = ring_deg * (ring + 0.5) - 90.0
            widest = min(abs(start), abs(start + ring_deg))
            n_tracts = int(360.0 * np.cos(np.radians(widest)) / ring_deg) + 1
            dec = ring_deg * (ring + 1) - 90.0
            centers += [((ra_start_deg + 360.0 / n_tracts * i) % 360.0, dec) for i in range(n_tracts)]
        centers.append((0.0, 90.0))
        return cls(
            name,
            "rings",
            centers,
            [0.5 * ring_deg] * len(centers),
            options={"num_rings": num_rings, "ra_start_deg": ra_start_deg},
            **geometry,
        )

    def __len__(self) -> int:
        return len(self.centers_deg)

    def __iter__(self) -> Iterator[TractInfo]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, tract: int) -> TractInfo:
        """Return a tract by number.

        Raises
        ------
        IndexError
            If there is no such tract.
        """
        if not 0 <= tract < len(self):
            raise IndexError(f"Sky map {self.name!r} has tracts 0 to {len(self) - 1}; no tract {tract!r}")
        if tract not in self._tracts:
            self._tracts[tract] = self._make_tract(int(tract))
        return self._tracts[tract]

    def _make_tract(self, tract: int) -> TractInfo:
        """Lay out one tract as ``lsst.skymap.tractInfo.ExplicitTractInfo`` does."""
        ra, dec = self.centers_deg[tract]
        scale = self.pixel_scale_arcsec / 3600.0
        angle = np.radians(self.rotation_deg)
        # At rotation 0, +y is north and +x is west (lsst.afw.geom.makeCdMatrix).
        cd = scale * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        origin = SkyWcs.tangent((0.0, 0.0), (ra, dec), cd)
        # Extent of the circle and its overlap, from four points at its compass directions.
        bearings = np.array([0.0, 90.0, 180.0, 270.0])
        ras, decs = _at_distance(ra, dec, bearings, self.radii_deg[tract] + self.tract_overlap_deg)
        x, y = origin.sky_to_pixel(ras, decs)
        low = [int(np.floor(v.min() + 0.5)) for v in (x, y)]
        size = [int(np.floor(v.max() + 0.5)) - lo + 1 for v, lo in zip((x, y), low, strict=True)]
        num = [-(-n // inner) for n, inner in zip(size, self.patch_inner_dimensions, strict=True)]
        # Whole patches: grow evenly to both sides, then count pixels from the corner.
        for axis, inner in enumerate(self.patch_inner_dimensions):
            low[axis] -= (num[axis] * inner - size[axis]) // 2
        return TractInfo(
            tract,
            origin.shifted(low[0], low[1]),
            (num[0], num[1]),
            self.patch_inner_dimensions,
            self.patch_border,
            (ra, dec),
        )

    def find_tract(self, ra_deg: float, dec_deg: float) -> TractInfo:
        """Return the tract whose centre is nearest to a position.

        Parameters
        ----------
        ra_deg, dec_deg : `float`
            ICRS [deg].
        """
        vectors = _unit_vectors(np.array(self.centers_deg))
        target = _unit_vectors(np.array([[ra_deg, dec_deg]]))[0]
        return self[int(np.argmax(vectors @ target))]

    def to_dict(self) -> dict[str, Any]:
        """Return the document stored in a repository (plain numbers, strings and lists)."""
        document: dict[str, Any] = {
            "format": "butler_dask.SkyMap",
            "version": SKYMAP_FORMAT_VERSION,
            "name": self.name,
            "kind": self.kind,
            "patch_inner_dimensions": list(self.patch_inner_dimensions),
            "patch_border": self.patch_border,
            "tract_overlap_deg": self.tract_overlap_deg,
            "pixel_scale_arcsec": self.pixel_scale_arcsec,
            "rotation_deg": self.rotation_deg,
        }
        if self.kind == "rings":
            return document | self.options
        return document | {
            "ra_deg": [ra for ra, _ in self.centers_deg],
            "dec_deg": [dec for _, dec in self.centers_deg],
            "radius_deg": list(self.radii_deg),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SkyMap:
        """Make from a document: one written by `to_dict`, or a user's YAML with the same keys.

        Raises
        ------
        FormatVersionError
            If the document's version is newer than this package.
        DescriptionError
            If the kind or a key is unknown, of which the nearest known one is named, or a value is wrong.
        """
        with reading_description(f"Sky map document {document.get('name')!r}"):
            return cls._from_document(document)

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> SkyMap:
        values = dict(document)
        values.pop("format", None)
        version = values.pop("version", SKYMAP_FORMAT_VERSION)
        if version > SKYMAP_FORMAT_VERSION:
            raise FormatVersionError(
                f"Sky map {values.get('name')!r} has format version {version}; this version of butler_dask "
                f"reads up to {SKYMAP_FORMAT_VERSION}. Update butler_dask."
            )
        kind = values.pop("kind", "discrete")
        needed = {"discrete": ("name", "ra_deg", "dec_deg", "radius_deg"), "rings": ("name", "num_rings")}
        if str(kind) not in needed:
            raise DescriptionError(
                f"No sky map kind {kind!r}.{did_you_mean(str(kind), needed)} There are: {', '.join(needed)}."
            )
        geometry = (
            "patch_inner_dimensions",
            "patch_border",
            "tract_overlap_deg",
            "pixel_scale_arcsec",
            "rotation_deg",
        )
        known = {*needed[kind], *geometry, *(("ra_start_deg",) if kind == "rings" else ())}
        problems = [f"unknown key {k!r}.{did_you_mean(str(k), known)}" for k in values if k not in known]
        problems += [f"missing key {k!r}." for k in needed[kind] if k not in values]
        if problems:
            raise DescriptionError(f"Sky map document {values.get('name')!r}: {' '.join(problems)}")
        if "patch_inner_dimensions" in values:
            width, height = values["patch_inner_dimensions"]
            values["patch_inner_dimensions"] = (int(width), int(height))
        for key in ("ra_deg", "dec_deg", "radius_deg"):
            if key in values:
                given = values[key]
                values[key] = [float(v) for v in (given if isinstance(given, Sequence) else [given])]
        for key in ("tract_overlap_deg", "pixel_scale_arcsec", "rotation_deg", "ra_start_deg"):
            if key in values:
                values[key] = float(values[key])
        made = cls.discrete(**values) if kind == "discrete" else cls.rings(**values)
        problems = made._problems()
        if problems:
            raise DescriptionError(f"Sky map document {made.name!r}: {' '.join(problems)}")
        return made

    def _problems(self) -> list[str]:
        """Return what is wrong with the numbers, before geometry is computed from them."""
        out = []
        if not isinstance(self.name, str) or not self.name.strip():
            out.append(f"name: {self.name!r} is no name.")
        if not all(0 < n <= _MOST_PIXELS for n in self.patch_inner_dimensions):
            out.append(f"patch_inner_dimensions must be from 1 to {_MOST_PIXELS} pixels.")
        if not 0 <= self.patch_border <= _MOST_PIXELS:
            out.append(f"patch_border must be from 0 to {_MOST_PIXELS} pixels.")
        if not 1e-3 <= self.pixel_scale_arcsec <= 3600:
            out.append("pixel_scale_arcsec must be from 0.001 to 3600.")
        if not 0 <= self.tract_overlap_deg <= 10:
            out.append("tract_overlap_deg must be from 0 to 10.")
        if not math.isfinite(self.rotation_deg):
            out.append("rotation_deg must be finite.")
        if not all(math.isfinite(ra) and abs(dec) <= 90 for ra, dec in self.centers_deg):
            out.append("ra_deg must be finite, dec_deg between -90 and 90.")
        if not all(0 < radius <= 60 for radius in self.radii_deg):
            out.append("radius_deg must be more than 0 and at most 60.")
        return out

    @property
    def sha1(self) -> bytes:
        """Digest of the geometry without the name; in hexadecimal the ``hash`` of the ``skymap`` record."""
        document = self.to_dict()
        del document["name"]
        return hashlib.sha1(json.dumps(document, sort_keys=True).encode()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SkyMap) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.sha1))

    def __repr__(self) -> str:
        return f"SkyMap({self.name!r}, {self.kind}, {len(self)} tracts)"


def _unit_vectors(positions_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(positions_deg).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _at_distance(
    ra_deg: float, dec_deg: float, bearing_deg: NDArray[np.float64], distance_deg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions at a distance and bearings (from east through north) along great circles [deg]."""
    ra, dec, distance = np.radians([ra_deg, dec_deg, distance_deg])
    bearing = np.radians(bearing_deg)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    center = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    direction = np.outer(np.cos(bearing), east) + np.outer(np.sin(bearing), north)
    v = np.cos(distance) * center + np.sin(distance) * direction
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(v[:, 2], -1, 1)))
