"""DimensionElement: a dimension, or a relation between dimensions, and the fields of its records."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .dimension_table import FieldSpec

if TYPE_CHECKING:
    from lsst.sphgeom import Pixelization

    from .dimension_record import DimensionRecord
    from .dimensions import DimensionGroup, DimensionUniverse


class Names(tuple[str, ...]):
    """Names in universe order: a tuple that compares and combines with sets as a set does."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return set(self) == other if isinstance(other, Set) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __or__(self, other: Iterable[str]) -> frozenset[str]:
        return frozenset(self).union(other)

    __ror__ = __or__

    def __and__(self, other: Iterable[str]) -> frozenset[str]:
        return frozenset(self).intersection(other)

    __rand__ = __and__

    def __sub__(self, other: Iterable[str]) -> frozenset[str]:
        return frozenset(self).difference(other)

    def __rsub__(self, other: Iterable[str]) -> frozenset[str]:
        return frozenset(other).difference(self)

    @property
    def names(self) -> Names:
        """The names themselves."""
        return self


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

    @cached_property
    def required(self) -> Names:
        """Dimension names that identify a record, its own last."""
        return Names((*self.requires, self.name) if self.is_dimension else self.requires)

    @cached_property
    def implied(self) -> Names:
        """Names of the dimensions whose values a record gives."""
        return Names(self.implies)

    @property
    def primaryKey(self) -> FieldSpec:
        """Field that identifies a record together with the required dimensions.

        Raises
        ------
        AttributeError
            If it is a relation.
        """
        if self.key is None:
            raise AttributeError(f"{self.name!r} is a relation between dimensions; it has no key of its own")
        return self.key

    @property
    def alternateKeys(self) -> FieldSpecs:
        """Other fields that identify a record together with the required dimensions."""
        return FieldSpecs(self.alternate_keys)

    @property
    def uniqueKeys(self) -> FieldSpecs:
        """Primary key and alternate keys."""
        return FieldSpecs((self.primaryKey, *self.alternate_keys))

    @property
    def metadata_columns(self) -> FieldSpecs:
        """Fields beyond keys, region and timespan; by the reference's other name."""
        return FieldSpecs(self.metadata)

    @property
    def populated_by(self) -> DimensionElement:
        """Dimension whose records bring this element's records along when they move between repositories."""
        return self.universe["visit"] if self._of_visit else self

    @property
    def _of_visit(self) -> bool:
        return not self.is_dimension and "visit" in self.requires

    @property
    def defines_relationships(self) -> bool:
        """Whether its records say which dimension values go together."""
        return bool(self.implies) or self.always_join or self._of_visit

    @property
    def alwaysJoin(self) -> bool:
        """Whether the relation constrains any query over its dimensions."""
        return self.always_join

    def hasTable(self) -> bool:
        """Return whether it has records in the registry."""
        return self.has_own_table

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
        return self.name == (other.name if isinstance(other, DimensionElement) else other)

    def __lt__(self, other: DimensionElement) -> bool:
        return self.universe.order(self.name) < self.universe.order(other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _element_by_name, (self.name,)


def _element_by_name(name: str) -> DimensionElement:
    from .dimensions import DimensionUniverse

    return DimensionUniverse().element(name)


Dimension = DimensionElement
"""A dimension is an element that has a key."""


class FieldSpecs(tuple[FieldSpec, ...]):
    """Fields in order, also found by name."""

    __slots__ = ()

    @property
    def names(self) -> Names:
        """Names of the fields."""
        return Names(f.name for f in self)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for spec in self:
                if spec.name == key:
                    return spec
            raise KeyError(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names or super().__contains__(key)


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
