"""Dimension, DimensionUniverse and DimensionGroup: the keys of data IDs and how they depend on one another.

The universe is the reference's default one. It is a table in this module rather than a configuration file:
every repository has the same, and code that joins dimensions may rely on it. Skypix dimensions (``htm7``,
``healpix9``) are made by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import DimensionNameError, did_you_mean

if TYPE_CHECKING:
    from lsst.sphgeom import Pixelization

    from .dimension_record import DimensionRecord

UNIVERSE_VERSION = 7
"""Version of the reference's default universe this one equals."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One column of an element's records.

    Parameters
    ----------
    name : `str`
        Column name.
    type : `type`
        `int`, `float`, `str` or `bool`.
    nullable : `bool`
        Whether it may be missing.
    """

    name: str
    type: type
    nullable: bool = True


@dataclass(frozen=True, eq=False)
class DimensionElement:
    """A dimension, or a relation between dimensions with records of its own.

    Parameters
    ----------
    name : `str`
        As users type it.
    requires, implies : `tuple` [`str`, ...]
        Dimensions whose values identify a record beside its own key, and those whose values follow from it.
    key : `FieldSpec` or `None`
        Primary key of a dimension; `None` for a relation.
    alternate_keys : `tuple` [`FieldSpec`, ...]
        Other fields that identify a record together with ``requires``.
    metadata : `tuple` [`FieldSpec`, ...]
        Further fields.
    spatial, temporal : `bool`
        Whether records have a region, a timespan.
    governor : `bool`
        Instrument and skymap: most other values mean something only beside theirs.
    skypix_level : `int` or `None`
        Level of a sky pixelization; such a dimension has no records.
    always_join : `bool`
        The relation constrains any query over its dimensions (visit_definition).
    """

    name: str
    requires: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()
    key: FieldSpec | None = None
    alternate_keys: tuple[FieldSpec, ...] = ()
    metadata: tuple[FieldSpec, ...] = ()
    spatial: bool = False
    temporal: bool = False
    governor: bool = False
    skypix_level: int | None = None
    always_join: bool = False
    universe: DimensionUniverse = field(repr=False, kw_only=True)

    @property
    def is_dimension(self) -> bool:
        """Whether it is a dimension (a key of data IDs), not only a relation."""
        return self.key is not None

    @cached_property
    def dimensions(self) -> DimensionGroup:
        """Dimensions that identify a record, with all they imply."""
        own = (self.name,) if self.is_dimension else ()
        return self.universe.conform((*self.requires, *own))

    @property
    def minimal_group(self) -> DimensionGroup:
        """Same as `dimensions`, by the reference's other name."""
        return self.dimensions

    @property
    def required(self) -> tuple[str, ...]:
        """Dimension names that identify a record, its own last."""
        return (*self.requires, self.name) if self.is_dimension else self.requires

    @property
    def has_own_table(self) -> bool:
        """Whether it has records in the registry (skypix elements have none)."""
        return self.skypix_level is None

    @cached_property
    def fields(self) -> tuple[FieldSpec, ...]:
        """Scalar columns of a record: required keys, implied keys, alternate keys, metadata."""
        out: list[FieldSpec] = []
        for name in self.requires:
            key = self.universe[name].key
            assert key is not None
            out.append(FieldSpec(name, key.type, nullable=False))
        if self.key is not None:
            out.append(FieldSpec(self.key.name, self.key.type, nullable=False))
        for name in self.implies:
            key = self.universe[name].key
            assert key is not None
            out.append(FieldSpec(name, key.type))
        out.extend(self.alternate_keys)
        out.extend(self.metadata)
        return tuple(out)

    @cached_property
    def schema(self) -> ElementSchema:
        """Fields of the records, printable."""
        return ElementSchema(self)

    @cached_property
    def RecordClass(self) -> type[DimensionRecord]:
        """Class of this element's records: ``RecordClass(**fields)``."""
        from .dimension_record import record_class

        return record_class(self)

    @cached_property
    def pixelization(self) -> Pixelization:
        """`lsst.sphgeom` pixelization of a skypix dimension."""
        if self.skypix_level is None:
            raise TypeError(f"Dimension {self.name!r} is not a sky pixelization")
        from lsst.sphgeom import HealpixPixelization, HtmPixelization

        kind = HtmPixelization if self.name.startswith("htm") else HealpixPixelization
        return kind(self.skypix_level)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"DimensionElement({self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DimensionElement) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _element_by_name, (self.name,)


Dimension = DimensionElement
"""A dimension is an element that has a key."""


@dataclass(frozen=True)
class ElementSchema:
    """Printable fields of an element; ``names`` and ``all`` in order, region and timespan last."""

    element: DimensionElement = field(repr=False)

    @property
    def all(self) -> tuple[FieldSpec, ...]:
        """Scalar fields."""
        return self.element.fields

    @property
    def names(self) -> list[str]:
        """Names of all fields, region and timespan included."""
        names = [f.name for f in self.element.fields]
        if self.element.spatial:
            names.append("region")
        if self.element.temporal:
            names.append("timespan")
        return names

    def __str__(self) -> str:
        lines = [f"{f.name}: {f.type.__name__}" for f in self.element.fields]
        if self.element.spatial:
            lines.append("region: region")
        if self.element.temporal:
            lines.append("timespan: timespan")
        return f"{self.element.name}:\n  " + "\n  ".join(lines)


def _f(name: str, kind: type = str, nullable: bool = True) -> FieldSpec:
    return FieldSpec(name, kind, nullable)


_ID = FieldSpec("id", int, nullable=False)
_NAME = FieldSpec("name", str, nullable=False)

_OBSERVATION_METADATA = (
    _f("exposure_time", float),
    _f("observation_reason"),
    _f("target_name"),
    _f("science_program"),
    _f("azimuth", float),
    _f("zenith_angle", float),
)

# In universe order: what others require comes first.
_ELEMENTS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "instrument",
        "key": _NAME,
        "governor": True,
        "metadata": (
            _f("visit_max", int),
            _f("visit_system", int),
            _f("exposure_max", int),
            _f("detector_max", int),
            _f("class_name"),
        ),
    },
    {
        "name": "skymap",
        "key": _NAME,
        "governor": True,
        "metadata": (
            _f("hash"),
            _f("tract_max", int),
            _f("patch_nx_max", int),
            _f("patch_ny_max", int),
        ),
    },
    {"name": "band", "key": _NAME},
    {"name": "healpix", "skypix": True},
    {"name": "htm", "skypix": True},
    {"name": "day_obs", "requires": ("instrument",), "key": _ID, "temporal": True},
    {
        "name": "detector",
        "requires": ("instrument",),
        "key": _ID,
        "alternate_keys": (_f("full_name", str, False),),
        "metadata": (_f("name_in_raft"), _f("raft"), _f("purpose")),
    },
    {"name": "group", "requires": ("instrument",), "key": _NAME},
    {"name": "physical_filter", "requires": ("instrument",), "implies": ("band",), "key": _NAME},
    {"name": "subfilter", "requires": ("band",), "key": _ID},
    {"name": "tract", "requires": ("skymap",), "key": _ID, "spatial": True},
    {
        "name": "patch",
        "requires": ("skymap", "tract"),
        "key": _ID,
        "metadata": (_f("cell_x", int), _f("cell_y", int)),
        "spatial": True,
    },
    {
        "name": "visit_system",
        "requires": ("instrument",),
        "key": _ID,
        "alternate_keys": (_f("name", str, False),),
    },
    {
        "name": "exposure",
        "requires": ("instrument",),
        "implies": ("day_obs", "group", "physical_filter"),
        "key": _ID,
        "alternate_keys": (_f("obs_id", str, False),),
        "metadata": (
            *_OBSERVATION_METADATA,
            _f("dark_time", float),
            _f("observation_type"),
            _f("seq_num", int),
            _f("seq_start", int),
            _f("seq_end", int),
            _f("tracking_ra", float),
            _f("tracking_dec", float),
            _f("sky_angle", float),
            _f("has_simulated", bool),
            _f("can_see_sky", bool),
        ),
        "temporal": True,
    },
    {
        "name": "visit",
        "requires": ("instrument",),
        "implies": ("day_obs", "physical_filter"),
        "key": _ID,
        "alternate_keys": (_f("name", str, False),),
        "metadata": (*_OBSERVATION_METADATA, _f("seq_num", int)),
        "spatial": True,
        "temporal": True,
    },
    # Relations
    {"name": "visit_detector_region", "requires": ("instrument", "detector", "visit"), "spatial": True},
    {"name": "visit_definition", "requires": ("instrument", "exposure", "visit"), "always_join": True},
    {"name": "visit_system_membership", "requires": ("instrument", "visit_system", "visit")},
)

_SKYPIX_NAME = re.compile(r"(htm|healpix)(\d+)")
_SKYPIX_MAX_LEVEL = {"htm": 24, "healpix": 17}


class DimensionUniverse:
    """All dimensions and elements; one instance in a process.

    Raises
    ------
    DimensionNameError
        From look-ups of an unknown name, with the nearest known one.
    """

    _instance: DimensionUniverse | None = None
    _elements: dict[str, DimensionElement]
    _order: dict[str, int]

    def __new__(cls) -> DimensionUniverse:  # noqa: D102  the class says it
        if cls._instance is None:
            self = super().__new__(cls)
            self._elements, self._order = {}, {}
            for spec in _ELEMENTS:
                args = dict(spec)
                if args.pop("skypix", False):
                    system = args["name"]
                    for level in range(1, _SKYPIX_MAX_LEVEL[system] + 1):
                        self._add(
                            DimensionElement(f"{system}{level}", key=_ID, skypix_level=level, universe=self)
                        )
                else:
                    self._add(DimensionElement(**args, universe=self))
            cls._instance = self
        return cls._instance

    def _add(self, element: DimensionElement) -> None:
        self._order[element.name] = len(self._order)
        self._elements[element.name] = element

    @property
    def version(self) -> int:
        """Version of the universe."""
        return UNIVERSE_VERSION

    @property
    def elements(self) -> Mapping[str, DimensionElement]:
        """Every element by name, relations included."""
        return _NamedElements(self)

    @property
    def dimensions(self) -> Mapping[str, DimensionElement]:
        """Every dimension by name."""
        return {n: e for n, e in self._elements.items() if e.is_dimension}

    @property
    def governor_dimensions(self) -> tuple[str, ...]:
        """Names of the governor dimensions."""
        return tuple(n for n, e in self._elements.items() if e.governor)

    @property
    def commonSkyPix(self) -> DimensionElement:
        """The sky pixelization that spatial look-ups go through."""
        return self._elements["htm7"]

    @property
    def empty(self) -> DimensionGroup:
        """Group of no dimension."""
        return self.conform(())

    def getStaticDimensions(self) -> list[DimensionElement]:
        """Return the dimensions that have records, in order."""
        return [e for e in self._elements.values() if e.is_dimension and e.has_own_table]

    def getStaticElements(self) -> list[DimensionElement]:
        """Return the elements that have records, in order."""
        return [e for e in self._elements.values() if e.has_own_table]

    def element(self, name: str) -> DimensionElement:
        """Return an element, dimension or relation."""
        try:
            return self._elements[name]
        except KeyError:
            pass
        known = [n for n, e in self._elements.items() if e.has_own_table or n == "htm7"]
        raise DimensionNameError(
            f"No dimension {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
        )

    def __getitem__(self, name: str) -> DimensionElement:
        return self.element(name)

    def __contains__(self, name: object) -> bool:
        return name in self._elements

    def __iter__(self) -> Iterator[DimensionElement]:
        return iter(self._elements.values())

    def order(self, name: str) -> int:
        """Return the place of an element in the universe."""
        return self._order[name]

    def sorted(self, names: Iterable[str]) -> list[str]:
        """Return element names in universe order."""
        return sorted(names, key=self._order.__getitem__)

    def conform(self, dimensions: Iterable[str] | str | DimensionGroup) -> DimensionGroup:
        """Return the group of the named dimensions and all those they require or imply.

        Parameters
        ----------
        dimensions : iterable of `str`, or `DimensionGroup`
            Dimension names.
        """
        if isinstance(dimensions, DimensionGroup):
            return dimensions
        names = (dimensions,) if isinstance(dimensions, str) else tuple(str(d) for d in dimensions)
        return _conform(frozenset(names))

    def __reduce__(self) -> tuple[type[DimensionUniverse], tuple[()]]:
        return DimensionUniverse, ()

    def __repr__(self) -> str:
        return f"DimensionUniverse(version {self.version})"


class _NamedElements(Mapping[str, DimensionElement]):
    """Elements by name, with the universe's error for unknown ones."""

    def __init__(self, universe: DimensionUniverse) -> None:
        self._universe = universe

    def __getitem__(self, name: str) -> DimensionElement:
        return self._universe.element(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._universe._elements)

    def __len__(self) -> int:
        return len(self._universe._elements)

    def names(self) -> list[str]:
        """Return every name."""
        return list(self)


class DimensionGroup:
    """A set of dimensions closed over what they require and imply, in universe order.

    Made by `DimensionUniverse.conform`; equal groups are one object.

    Attributes
    ----------
    names : `tuple` [`str`, ...]
        All dimensions.
    required : `tuple` [`str`, ...]
        Those whose values identify a data ID.
    implied : `tuple` [`str`, ...]
        Those whose values follow.
    """

    __slots__ = ("__dict__", "implied", "names", "required")

    names: tuple[str, ...]
    required: tuple[str, ...]
    implied: tuple[str, ...]

    def __init__(self, names: tuple[str, ...], required: tuple[str, ...], implied: tuple[str, ...]) -> None:
        self.names, self.required, self.implied = names, required, implied

    @property
    def universe(self) -> DimensionUniverse:
        """The universe."""
        return DimensionUniverse()

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Names of all elements whose dimensions are within the group, relations included."""
        universe, own = self.universe, set(self.names)
        names = [
            e.name
            for e in universe
            if (e.is_dimension and e.name in own) or (not e.is_dimension and own.issuperset(e.requires))
        ]
        return tuple(names)

    @cached_property
    def governors(self) -> tuple[str, ...]:
        """Governor dimensions in the group."""
        return tuple(n for n in self.names if self.universe[n].governor)

    @cached_property
    def skypix(self) -> tuple[str, ...]:
        """Skypix dimensions in the group."""
        return tuple(n for n in self.names if self.universe[n].skypix_level is not None)

    @cached_property
    def spatial_elements(self) -> tuple[str, ...]:
        """Most specific element with a region of each family in the group.

        One of the observation family (visit_detector_region before visit), one of the skymap family (patch
        before tract), and any skypix dimension.
        """
        out = []
        elements = self.elements
        for family in (("visit_detector_region", "visit"), ("patch", "tract")):
            found = next((n for n in family if n in elements), None)
            if found is not None:
                out.append(found)
        return (*out, *self.skypix)

    @cached_property
    def temporal_elements(self) -> tuple[str, ...]:
        """Most specific element with a timespan in the group (exposure before visit before day_obs)."""
        found = next((n for n in ("exposure", "visit", "day_obs") if n in self.names), None)
        return () if found is None else (found,)

    @property
    def data_coordinate_keys(self) -> tuple[str, ...]:
        """Required dimensions, then implied: the order of a full data ID's values."""
        return self.required + self.implied

    def union(self, *others: DimensionGroup) -> DimensionGroup:
        """Return the group of all dimensions of this and the others."""
        return _conform(frozenset(self.names).union(*(o.names for o in others)))

    def intersection(self, *others: DimensionGroup) -> DimensionGroup:
        """Return the group of the dimensions common to all."""
        return _conform(frozenset(self.names).intersection(*(o.names for o in others)))

    def issubset(self, other: DimensionGroup) -> bool:
        """Return whether the other has all of these dimensions."""
        return set(self.names) <= set(other.names)

    def issuperset(self, other: DimensionGroup) -> bool:
        """Return whether this has all of the other's dimensions."""
        return other.issubset(self)

    __or__ = union
    __and__ = intersection
    __le__ = issubset
    __ge__ = issuperset

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DimensionGroup):
            return self.required == other.required
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.required)

    def __str__(self) -> str:
        return "{" + ", ".join(self.names) + "}"

    def __repr__(self) -> str:
        return f"DimensionGroup({self})"

    def __reduce__(self) -> tuple[Any, tuple[tuple[str, ...]]]:
        return _group_of_names, (self.names,)


@lru_cache(maxsize=4096)
def _conform(names: frozenset[str]) -> DimensionGroup:
    universe = DimensionUniverse()
    closed: set[str] = set()
    implied: set[str] = set()

    def add(name: str) -> None:
        element = universe[name]
        if not element.is_dimension:
            raise DimensionNameError(
                f"{name!r} is a relation between {', '.join(element.requires)}, not a dimension."
            )
        if name in closed:
            return
        closed.add(name)
        for other in (*element.requires, *element.implies):
            add(other)

    for name in names:
        add(name)
    # Implied: what some member implies, unless another member requires it (physical_filter stays implied by
    # exposure even when it was asked for by name, since its value follows).
    for name in closed:
        implied.update(universe[name].implies)
    needed = {r for name in closed - implied for r in universe[name].requires}
    implied -= needed
    order = universe.sorted(closed)
    key = tuple(n for n in order if n not in implied)
    return _intern(tuple(order), key, tuple(n for n in order if n in implied))


@lru_cache(maxsize=4096)
def _intern(names: tuple[str, ...], required: tuple[str, ...], implied: tuple[str, ...]) -> DimensionGroup:
    return DimensionGroup(names, required, implied)


def _group_of_names(names: tuple[str, ...]) -> DimensionGroup:
    return DimensionUniverse().conform(names)


def _element_by_name(name: str) -> DimensionElement:
    return DimensionUniverse().element(name)
