"""ElementDefinition: what makes a dimension, or a relation between dimensions, and the fields of its records.

An element by itself; `dimensions` has it beside the others of its universe.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import DataIdValueError, did_you_mean

if TYPE_CHECKING:
    from lsst.sphgeom import Pixelization


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


@dataclass(frozen=True, eq=False)
class ElementDefinition:
    """What defines a dimension, or a relation between dimensions with records of its own.

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

    @property
    def is_dimension(self) -> bool:
        """Whether it is a dimension (a key of data IDs), not only a relation."""
        return self.key is not None

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
        return self.has_records

    @property
    def has_records(self) -> bool:
        """Whether it has records in the registry (skypix elements have none)."""
        return self.skypix_level is None

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

    def __eq__(self, other: object) -> bool:
        return self.name == (other.name if isinstance(other, ElementDefinition) else other)

    def __hash__(self) -> int:
        return hash(self.name)


class ElementSchema:
    """Fields of the records of an element, printable.

    Parameters
    ----------
    element : `ElementDefinition`
        The element.
    all : `tuple` [`FieldSpec`, ...]
        Scalar fields in order: required keys, implied keys, alternate keys, metadata.
    """

    def __init__(self, element: ElementDefinition, all: tuple[FieldSpec, ...]) -> None:
        self.element, self.all = element, all

    @property
    def names(self) -> list[str]:
        """Names of all fields, region and timespan last."""
        names = [f.name for f in self.all]
        if self.element.spatial:
            names.append("region")
        if self.element.temporal:
            names.append("timespan")
        return names

    def take_values(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Take the values of the scalar fields of a record, in order; `None` where one is not given.

        Parameters
        ----------
        fields : `dict` of `str` to object
            Values by field name; it is empty afterwards.

        Raises
        ------
        DataIdValueError
            If a key is missing, a field unknown, or a value of the wrong type.
        """
        element = self.element
        values: dict[str, Any] = {}
        for spec in self.all:
            value = fields.pop(spec.name, None)
            if value is None:
                if not spec.nullable and spec not in element.alternate_keys:
                    raise DataIdValueError(f"A record of {element.name!r} needs {spec.name!r}")
            else:
                value = _field_value(value, spec, element.name)
            values[spec.name] = value
        if fields:
            name = next(iter(fields))
            raise DataIdValueError(
                f"Records of {element.name!r} have no field {name!r}.{did_you_mean(name, self.names)} "
                f"They have: {', '.join(self.names)}."
            )
        return values

    def __str__(self) -> str:
        lines = [f"{f.name}: {f.type.__name__}" for f in self.all]
        if self.element.spatial:
            lines.append("region: region")
        if self.element.temporal:
            lines.append("timespan: timespan")
        return f"{self.element.name}:\n  " + "\n  ".join(lines)


def _field_value(value: Any, spec: FieldSpec, element: str) -> Any:
    """Return a value as a field's type."""
    kind = spec.type
    if kind is float and not isinstance(value, str):
        return float(value)
    if kind is bool and not isinstance(value, str):
        return bool(value)
    if kind is int and not isinstance(value, (str, bool)) and int(value) == value:
        return int(value)
    if kind is str:
        return str(value)
    raise DataIdValueError(
        f"Field {spec.name!r} of {element!r} records is of type {kind.__name__}, but got {value!r}"
    )
