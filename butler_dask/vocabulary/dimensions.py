"""The keys of data IDs and how they depend on one another.

DimensionElement, DimensionUniverse and DimensionGroup are in one file because each gives the others: an
element its group and universe, these their elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from ..errors import DimensionNameError, did_you_mean
from .dimension_definitions import ELEMENTS, ID, SKYPIX_MAX_LEVEL, UNIVERSE_VERSION as UNIVERSE_VERSION
from .dimension_element import ElementDefinition, ElementSchema, FieldSpec, Names

UNIVERSE_NAMESPACE = "daf_butler"
"""Name of the reference's default universe."""


class DimensionElement(ElementDefinition):
    """A dimension, or a relation between dimensions with records of its own, beside the others.

    Parameters
    ----------
    universe : `DimensionUniverse`
        All of them.
    **definition
        Parameters of `ElementDefinition`.
    """

    record_base: ClassVar[type[Any]]
    """`DimensionRecord`, which holds data IDs and so is built on this module: `data_id` sets it."""
    universe: DimensionUniverse

    def __init__(self, universe: DimensionUniverse, **definition: Any) -> None:
        super().__init__(**definition)
        object.__setattr__(self, "universe", universe)

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
    def populated_by(self) -> DimensionElement:
        """Dimension whose records bring this element's records along when they move between repositories."""
        return self.universe["visit"] if self._of_visit else self

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
        return ElementSchema(self, self.fields)

    @cached_property
    def RecordClass(self) -> type[Any]:
        """Class of this element's records, a `DimensionRecord`: ``RecordClass(**fields)``."""
        name = "".join(part.capitalize() for part in self.name.split("_")) + "Record"
        base = self.record_base
        contents = {
            "definition": self,
            "__slots__": (),
            "__doc__": base.__doc__,
            "__module__": base.__module__,
        }
        return type(name, (base,), contents)

    def __repr__(self) -> str:
        return f"DimensionElement({self.name})"

    def __lt__(self, other: DimensionElement) -> bool:
        return self.universe.order(self.name) < self.universe.order(other.name)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _element_by_name, (self.name,)


def _element_by_name(name: str) -> DimensionElement:
    return DimensionUniverse().element(name)


Dimension = DimensionElement
"""A dimension is an element that has a key."""


class ElementSet(Set[DimensionElement]):
    """Elements in universe order; found, and contained, by name too.

    Parameters
    ----------
    elements : mapping of `str` to `DimensionElement`
        The elements.
    """

    __slots__ = ("_elements",)

    def __init__(self, elements: Mapping[str, DimensionElement]) -> None:
        self._elements = elements

    @classmethod
    def _from_iterable(cls, elements: Iterable[Any]) -> ElementSet:  # type: ignore[override]  # sets of elements are made of elements only
        return cls({e.name: e for e in sorted(elements)})

    @property
    def names(self) -> Names:
        """Names of the elements."""
        return Names(self._elements)

    def __getitem__(self, name: str) -> DimensionElement:
        try:
            return self._elements[str(name)]
        except KeyError:
            raise DimensionNameError(f"No {name!r} here.{did_you_mean(str(name), self._elements)}") from None

    def get(self, name: str, default: DimensionElement | None = None) -> DimensionElement | None:
        """Return the element of a name, or the default."""
        return self._elements.get(str(name), default)

    def __contains__(self, name: object) -> bool:
        return name in self._elements

    def __iter__(self) -> Iterator[DimensionElement]:
        return iter(self._elements.values())

    def __len__(self) -> int:
        return len(self._elements)

    def __repr__(self) -> str:
        return "{" + ", ".join(self._elements) + "}"


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
            for spec in ELEMENTS:
                args = dict(spec)
                if args.pop("skypix", False):
                    system = args["name"]
                    for level in range(1, SKYPIX_MAX_LEVEL[system] + 1):
                        self._add(DimensionElement(self, name=f"{system}{level}", key=ID, skypix_level=level))
                else:
                    self._add(DimensionElement(self, **args))
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
    def namespace(self) -> str:
        """Name of the universe."""
        return UNIVERSE_NAMESPACE

    def isCompatibleWith(self, other: DimensionUniverse) -> bool:
        """Return whether data IDs of the other universe mean the same here."""
        return self.namespace == other.namespace

    @cached_property
    def elements(self) -> ElementSet:
        """Every element, relations included."""
        return ElementSet(self._elements)

    @cached_property
    def dimensions(self) -> ElementSet:
        """Every dimension."""
        return ElementSet({n: e for n, e in self._elements.items() if e.is_dimension})

    @cached_property
    def key_types(self) -> Mapping[str, type | None]:
        """Type of the values of each dimension, by name; `None` for a relation, which has no value."""
        return {n: None if e.key is None else e.key.type for n, e in self._elements.items()}

    @cached_property
    def governor_dimensions(self) -> ElementSet:
        """Instrument and skymap."""
        return ElementSet({n: e for n, e in self._elements.items() if e.governor})

    @cached_property
    def skypix_dimensions(self) -> ElementSet:
        """Levels of the sky pixelizations."""
        return ElementSet({n: e for n, e in self._elements.items() if e.skypix_level is not None})

    @cached_property
    def database_elements(self) -> ElementSet:
        """Elements with records, governors aside."""
        return ElementSet({n: e for n, e in self._elements.items() if e.has_records and not e.governor})

    @cached_property
    def skypix(self) -> Mapping[str, Mapping[int, DimensionElement]]:
        """Sky pixelizations by name (``htm``, ``healpix``), each a mapping of level to dimension."""
        return MappingProxyType(
            {
                system: MappingProxyType({i: self._elements[f"{system}{i}"] for i in range(1, finest + 1)})
                for system, finest in SKYPIX_MAX_LEVEL.items()
            }
        )

    @property
    def commonSkyPix(self) -> DimensionElement:
        """The sky pixelization that spatial look-ups go through."""
        return self._elements["htm7"]

    @property
    def empty(self) -> DimensionGroup:
        """Group of no dimension."""
        return self.conform(())

    def getStaticDimensions(self) -> ElementSet:
        """Return the dimensions that have records, in order."""
        return ElementSet({n: e for n, e in self._elements.items() if e.is_dimension and e.has_records})

    def getStaticElements(self) -> ElementSet:
        """Return the elements that have records, in order."""
        return ElementSet({n: e for n, e in self._elements.items() if e.has_records})

    def getDatabaseElements(self) -> ElementSet:
        """Return `database_elements`."""
        return self.database_elements

    def getGovernorDimensions(self) -> ElementSet:
        """Return `governor_dimensions`."""
        return self.governor_dimensions

    def get_elements_populated_by(self, dimension: DimensionElement | str) -> ElementSet:
        """Return a dimension and the relations whose records come with its records."""
        return ElementSet({n: e for n, e in self._elements.items() if e.populated_by == dimension})

    def get(self, name: str, default: DimensionElement | None = None) -> DimensionElement | None:
        """Return an element, or the default if there is none of that name."""
        return self._elements.get(str(name), default)

    def element(self, name: str) -> DimensionElement:
        """Return an element, dimension or relation."""
        try:
            return self._elements[name]
        except KeyError:
            pass
        known = [n for n, e in self._elements.items() if e.has_records or n == "htm7"]
        raise DimensionNameError(
            f"No dimension {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
        )

    def __getitem__(self, name: str) -> DimensionElement:
        return self.element(name)

    def __contains__(self, name: object) -> bool:
        return name in self._elements

    def __iter__(self) -> Iterator[DimensionElement]:
        return iter(self._elements.values())

    def __len__(self) -> int:
        return len(self._elements)

    def order(self, name: str) -> int:
        """Return the place of an element in the universe."""
        return self._order[name]

    def getElementIndex(self, name: str) -> int:
        """Return `order`."""
        return self.order(name)

    def getDimensionIndex(self, name: str) -> int:
        """Return the place of a dimension among the dimensions."""
        return self.dimensions.names.index(name)

    def sorted(self, elements: Iterable[str], *, reverse: bool = False) -> list[str]:
        """Return elements, or their names, in universe order."""
        return sorted(elements, key=lambda e: self._order[str(e)], reverse=reverse)

    def conform(self, dimensions: Iterable[str] | str | DimensionGroup, /) -> DimensionGroup:
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

    names: Names
    required: Names
    implied: Names

    def __init__(self, names: tuple[str, ...], required: tuple[str, ...], implied: tuple[str, ...]) -> None:
        self.names, self.required, self.implied = Names(names), Names(required), Names(implied)

    @property
    def universe(self) -> DimensionUniverse:
        """The universe."""
        return DimensionUniverse()

    @cached_property
    def elements(self) -> Names:
        """Names of all elements whose dimensions are within the group, relations included."""
        universe, own = self.universe, set(self.names)
        names = [
            e.name
            for e in universe
            if (e.is_dimension and e.name in own) or (not e.is_dimension and own.issuperset(e.requires))
        ]
        return Names(names)

    @cached_property
    def key_types(self) -> tuple[tuple[str, type], ...]:
        """Each required dimension, and the Python type of its values."""
        keys = ((name, self.universe[name].key) for name in self.required)
        return tuple((name, key.type) for name, key in keys if key is not None)

    @cached_property
    def governors(self) -> Names:
        """Governor dimensions in the group."""
        return Names(n for n in self.names if self.universe[n].governor)

    @cached_property
    def skypix(self) -> Names:
        """Skypix dimensions in the group."""
        return Names(n for n in self.names if self.universe[n].skypix_level is not None)

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
    def region_dimension(self) -> str | None:
        """Element whose region is that of a data ID, `None` if it has none or several apply."""
        return self.spatial_elements[0] if len(self.spatial_elements) == 1 else None

    @property
    def timespan_dimension(self) -> str | None:
        """Element whose timespan is that of a data ID, `None` if it has none."""
        return self.temporal_elements[0] if self.temporal_elements else None

    @cached_property
    def data_coordinate_keys(self) -> tuple[str, ...]:
        """Required dimensions, then implied: the order of a full data ID's values."""
        return self.required + self.implied

    def union(self, *others: DimensionGroup) -> DimensionGroup:
        """Return the group of all dimensions of this and the others."""
        return _conform(frozenset(self.names).union(*(o.names for o in others)))

    def intersection(self, *others: DimensionGroup) -> DimensionGroup:
        """Return the group of the dimensions common to all."""
        return _conform(frozenset(self.names).intersection(*(o.names for o in others)))

    def difference(self, other: DimensionGroup) -> DimensionGroup:
        """Return the group of the dimensions the other lacks, with all they require or imply."""
        return _conform(frozenset(self.names).difference(other.names))

    def isdisjoint(self, other: DimensionGroup) -> bool:
        """Return whether no dimension is common to both."""
        return set(self.names).isdisjoint(other.names)

    def issubset(self, other: DimensionGroup) -> bool:
        """Return whether the other has all of these dimensions."""
        return set(self.names) <= set(other.names)

    def issuperset(self, other: DimensionGroup) -> bool:
        """Return whether this has all of the other's dimensions."""
        return other.issubset(self)

    def to_simple(self) -> list[str]:
        """Return the names as a plain list; `from_simple` reads it."""
        return list(self.names)

    @classmethod
    def from_simple(cls, data: Iterable[str], universe: DimensionUniverse | None = None) -> DimensionGroup:
        """Return the group of a list of names."""
        return DimensionUniverse().conform(data)

    def __lt__(self, other: DimensionGroup) -> bool:
        return self.issubset(other) and self != other

    def __gt__(self, other: DimensionGroup) -> bool:
        return other < self

    __or__ = union
    __and__ = intersection
    __sub__ = difference
    __le__ = issubset
    __ge__ = issuperset

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True  # mostly, as equal groups are one object
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
