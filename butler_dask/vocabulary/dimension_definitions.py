"""The dimensions and relations of the universe, defined.

The universe is the reference's default one. It is written in this module rather than a configuration file:
every repository has the same, and code that joins dimensions may rely on it. Skypix dimensions (``htm7``,
``healpix9``) are made by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .dimension_element import FieldSpec

UNIVERSE_VERSION = 7
"""Version of the reference's default universe this one equals."""


def _field(name: str, kind: type = str, nullable: bool = True) -> FieldSpec:
    return FieldSpec(name, kind, nullable)


ID = FieldSpec("id", int, nullable=False)
"""Key of a dimension with integer values."""
_NAME = FieldSpec("name", str, nullable=False)

_OBSERVATION_METADATA = (
    _field("exposure_time", float),
    _field("observation_reason"),
    _field("target_name"),
    _field("science_program"),
    _field("azimuth", float),
    _field("zenith_angle", float),
)

ELEMENTS: tuple[Mapping[str, Any], ...] = (
    {"name": "band", "key": _NAME},
    {"name": "healpix", "skypix": True},
    {"name": "htm", "skypix": True},
    {
        "name": "instrument",
        "key": _NAME,
        "governor": True,
        "metadata": (
            _field("visit_max", int),
            _field("visit_system", int),
            _field("exposure_max", int),
            _field("detector_max", int),
            _field("class_name"),
        ),
    },
    {
        "name": "skymap",
        "key": _NAME,
        "governor": True,
        "metadata": (
            _field("hash"),
            _field("tract_max", int),
            _field("patch_nx_max", int),
            _field("patch_ny_max", int),
        ),
    },
    {"name": "day_obs", "requires": ("instrument",), "key": ID, "temporal": True},
    {
        "name": "detector",
        "requires": ("instrument",),
        "key": ID,
        "alternate_keys": (_field("full_name", str, False),),
        "metadata": (_field("name_in_raft"), _field("raft"), _field("purpose")),
    },
    {"name": "group", "requires": ("instrument",), "key": _NAME},
    {"name": "physical_filter", "requires": ("instrument",), "implies": ("band",), "key": _NAME},
    {"name": "subfilter", "requires": ("band",), "key": ID},
    {"name": "tract", "requires": ("skymap",), "key": ID, "spatial": True},
    {
        "name": "patch",
        "requires": ("skymap", "tract"),
        "key": ID,
        "metadata": (_field("cell_x", int), _field("cell_y", int)),
        "spatial": True,
    },
    {
        "name": "visit_system",
        "requires": ("instrument",),
        "key": ID,
        "alternate_keys": (_field("name", str, False),),
    },
    {
        "name": "exposure",
        "requires": ("instrument",),
        "implies": ("day_obs", "group", "physical_filter"),
        "key": ID,
        "alternate_keys": (_field("obs_id", str, False),),
        "metadata": (
            *_OBSERVATION_METADATA,
            _field("dark_time", float),
            _field("observation_type"),
            _field("seq_num", int),
            _field("seq_start", int),
            _field("seq_end", int),
            _field("tracking_ra", float),
            _field("tracking_dec", float),
            _field("sky_angle", float),
            _field("has_simulated", bool),
            _field("can_see_sky", bool),
        ),
        "temporal": True,
    },
    {
        "name": "visit",
        "requires": ("instrument",),
        "implies": ("day_obs", "physical_filter"),
        "key": ID,
        "alternate_keys": (_field("name", str, False),),
        "metadata": (*_OBSERVATION_METADATA, _field("seq_num", int)),
        "spatial": True,
        "temporal": True,
    },
    # Relations
    {"name": "visit_detector_region", "requires": ("instrument", "detector", "visit"), "spatial": True},
    {"name": "visit_definition", "requires": ("instrument", "exposure", "visit"), "always_join": True},
    {"name": "visit_system_membership", "requires": ("instrument", "visit_system", "visit")},
)
"""Arguments of `DimensionElement`, in universe order: what others require comes first."""

SKYPIX_MAX_LEVEL = {"htm": 24, "healpix": 17}
"""Finest level of each sky pixelization."""
