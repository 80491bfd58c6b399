"""DataCoordinate: one data ID, the values of some dimensions; DimensionRecord: one row about such a value.

The two are in one file because each holds the other: a record knows the data ID it belongs to, and an
expanded data ID carries its records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from ..errors import (
    DataIdError,
    DimensionNameError,
    DimensionValueError,
    did_you_mean,
)
from .dimension_value import dimension_value
from .dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from .timespan import Timespan

DataIdValue = int | str
DataIdKey = str


class DataCoordinate:
    """A data ID: values of the required dimensions of a group, maybe of the implied ones and their records.

    Use `standardize` to make one from what a user gives. Equality and hash look at required values only.

    Parameters
    ----------
    dimensions : `DimensionGroup`
        Which dimensions.
    values : `tuple`
        Values of ``dimensions.required``, or of ``dimensions.data_coordinate_keys`` (required, then implied).
    records : mapping of `str` to `DimensionRecord` or `None`, optional
        Records by element name.
    """

    __slots__ = ("_records", "_values", "dimensions")

    def __init__(
        self,
        dimensions: DimensionGroup,
        values: tuple[DataIdValue, ...],
        records: Mapping[str, DimensionRecord | None] | None = None,
    ) -> None:
        if len(values) not in (len(dimensions.required), len(dimensions.names)):
            raise DataIdError(f"{len(values)} values for the dimensions {dimensions}")
        self.dimensions, self._values, self._records = dimensions, values, records

    @classmethod
    def standardize(
        cls,
        mapping: Mapping[str, Any] | DataCoordinate | None = None,
        *,
        dimensions: DimensionGroup | Iterable[str] | None = None,
        universe: DimensionUniverse | None = None,
        defaults: DataCoordinate | None = None,
        **kwargs: Any,
    ) -> DataCoordinate:
        """Make a data ID from key-value pairs.

        Parameters
        ----------
        mapping : mapping, optional
            Values by dimension name.
        dimensions : `DimensionGroup` or iterable of `str`, optional
            Dimensions wanted; those of the keys given when not said. Further keys are dropped.
        universe : `DimensionUniverse`, optional
            The universe (there is one).
        defaults : `DataCoordinate`, optional
            Values for keys not given.
        **kwargs
            Further key-value pairs, which win over ``mapping``.

        Raises
        ------
        DimensionNameError
            For an unknown key; the nearest known one is named.
        DimensionValueError
            If a required value is missing.
        DataIdValueError
            If a value has the wrong type.
        """
        universe = DimensionUniverse() if universe is None else universe
        group = None if dimensions is None else universe.conform(dimensions)
        if isinstance(mapping, DataCoordinate) and not kwargs:
            if group is None or group == mapping.dimensions:
                return mapping
            if set(group.required) <= set(mapping.mapping):
                return mapping.subset(group)
        given: dict[str, Any] = {}
        if isinstance(mapping, DataCoordinate):
            given.update(mapping.mapping)
        elif mapping is not None:
            given.update(mapping)
        given.update(kwargs)
        values: dict[str, Any] = {} if defaults is None else dict(defaults.mapping)
        for name, value in given.items():
            if name not in universe.key_types:
                known = [d.name for d in universe.getStaticDimensions()]
                raise DimensionNameError(
                    f"Unknown key {name!r} in data ID {given!r}.{did_you_mean(name, known)}"
                )
            if value is not None:
                values[name] = value
        if group is None:
            group = universe.conform(given)
        wanted = group.data_coordinate_keys
        if not values.keys() >= set(wanted):
            wanted = group.required
            missing = [k for k in wanted if k not in values]
            if missing:
                shown = {k: v for k, v in values.items() if k in group.names}
                raise DimensionValueError(
                    f"Data ID {shown!r} has no value for {', '.join(map(repr, missing))}; "
                    f"needed are {', '.join(wanted)}."
                )
        return cls(group, tuple([dimension_value(k, values[k], universe) for k in wanted]))

    @classmethod
    def make_empty(cls, universe: DimensionUniverse | None = None) -> DataCoordinate:
        """Return the data ID of no dimension."""
        return cls(DimensionUniverse().empty, ())

    @classmethod
    def makeEmpty(cls, universe: DimensionUniverse | None = None) -> DataCoordinate:
        """Return `make_empty`, by the reference's older name."""
        return cls.make_empty(universe)

    @classmethod
    def from_required_values(
        cls, dimensions: DimensionGroup, values: tuple[DataIdValue, ...]
    ) -> DataCoordinate:
        """Make from the values of ``dimensions.required``, in order.

        Raises
        ------
        DataIdError
            If there are more or fewer values.
        """
        return cls(dimensions, _one_for_each(values, dimensions.required))

    @classmethod
    def from_full_values(cls, dimensions: DimensionGroup, values: tuple[DataIdValue, ...]) -> DataCoordinate:
        """Make from the values of ``dimensions.data_coordinate_keys``, in order.

        Raises
        ------
        DataIdError
            If there are more or fewer values.
        """
        return cls(dimensions, _one_for_each(values, dimensions.data_coordinate_keys))

    @property
    def universe(self) -> DimensionUniverse:
        """The universe."""
        return self.dimensions.universe

    @property
    def required(self) -> Mapping[str, DataIdValue]:
        """Values of the required dimensions."""
        return MappingProxyType(dict(zip(self.dimensions.required, self._values, strict=False)))

    @property
    def mapping(self) -> Mapping[str, DataIdValue]:
        """All values known, implied ones included."""
        return MappingProxyType(dict(zip(self.dimensions.data_coordinate_keys, self._values, strict=False)))

    @property
    def required_values(self) -> tuple[DataIdValue, ...]:
        """Values of the required dimensions, in order."""
        return self._values[: len(self.dimensions.required)]

    @property
    def full_values(self) -> tuple[DataIdValue, ...]:
        """Values of the required, then the implied dimensions.

        Raises
        ------
        DataIdError
            If implied values are not known.
        """
        if not self.hasFull():
            raise DataIdError(
                f"Data ID {self} has required values only; `registry.expandDataId` adds the rest."
            )
        return self._values

    @property
    def dataId(self) -> DataCoordinate:
        """The data ID itself, as other values that have one call it."""
        return self

    def hasFull(self) -> bool:
        """Return whether implied values are known."""
        return len(self._values) == len(self.dimensions.names)

    def hasRecords(self) -> bool:
        """Return whether records are attached."""
        return self._records is not None

    @property
    def records(self) -> Mapping[str, DimensionRecord | None]:
        """Records by element name.

        Raises
        ------
        DataIdError
            If none are attached; ``butler.registry.expandDataId`` attaches them.
        """
        if self._records is None:
            raise DataIdError(
                f"Data ID {self} carries no records; ask for them with `with_dimension_records=True` or "
                "`registry.expandDataId`."
            )
        return self._records

    @property
    def region(self) -> Any:
        """Region of the most specific spatial element, from the records; `None` if there is none."""
        for name in self.dimensions.spatial_elements:
            element = self.universe[name]
            if element.skypix_level is not None:
                return element.pixelization.pixel(int(self[name]))
            record = self.records.get(name)
            if record is not None and record.region is not None:
                return record.region
        return None

    @property
    def timespan(self) -> Timespan | None:
        """Timespan of the most specific temporal element, from the records."""
        for name in self.dimensions.temporal_elements:
            record = self.records.get(name)
            if record is not None:
                return record.timespan
        return None

    def expanded(self, records: Mapping[str, DimensionRecord | None]) -> DataCoordinate:
        """Return the same data ID with records, and implied values read from them."""
        values = dict(self.required)
        if self.hasFull():
            values.update(self.mapping)
        else:
            for name in self.dimensions.names:
                record = records.get(name)
                if record is not None:
                    for implied in record.definition.implies:
                        value = record.get(implied)
                        if value is not None:
                            values.setdefault(implied, value)
        keys = self.dimensions.data_coordinate_keys
        full = all(k in values for k in keys)
        return DataCoordinate(
            self.dimensions, tuple(values[k] for k in (keys if full else self.dimensions.required)), records
        )

    def subset(self, dimensions: DimensionGroup | Iterable[str]) -> DataCoordinate:
        """Return the data ID of fewer dimensions.

        Raises
        ------
        DimensionValueError
            If this one does not have all their required values.
        """
        group = self.universe.conform(dimensions)
        known = self.mapping
        missing = [n for n in group.required if n not in known]
        if missing:
            raise DimensionValueError(f"Data ID {self} has no value for {', '.join(missing)}")
        keys = group.data_coordinate_keys
        if not known.keys() >= set(keys):
            keys = group.required
        records = self._records
        if records is not None:
            elements = set(group.elements)
            records = {k: v for k, v in records.items() if k in elements}
        return DataCoordinate(group, tuple(known[k] for k in keys), records)

    def union(self, other: DataCoordinate) -> DataCoordinate:
        """Return the data ID with the values of both."""
        group = self.dimensions.union(other.dimensions)
        values = {**self.mapping, **other.mapping}
        united = DataCoordinate.standardize(values, dimensions=group)
        if self._records is None or other._records is None:
            return united
        return DataCoordinate(group, united._values, {**self._records, **other._records})

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a dimension, or the default if it is not known."""
        try:
            return self._values[self.dimensions.data_coordinate_keys.index(str(name))]
        except (ValueError, IndexError):
            return default

    def keys(self) -> Iterable[str]:
        """Return the names of the dimensions whose values are known."""
        return self.mapping.keys()

    def values(self) -> Iterable[DataIdValue]:
        """Return the values known, in the order of `keys`."""
        return self.mapping.values()

    def items(self) -> Iterable[tuple[str, DataIdValue]]:
        """Return names and values known."""
        return self.mapping.items()

    def to_simple(self, minimal: bool = False) -> dict[str, Any]:
        """Return a plain dictionary that `from_simple` reads: ``dataId``, and ``records`` unless minimal."""
        simple: dict[str, Any] = {"dataId": dict(self.mapping)}
        if self._records is not None and not minimal:
            simple["records"] = {k: r.to_simple() for k, r in self._records.items() if r is not None}
        return simple

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON, in the reference's form."""
        return json.dumps(self.to_simple(minimal), separators=(",", ":"))

    @classmethod
    def from_simple(
        cls,
        simple: Mapping[str, Any],
        universe: DimensionUniverse | None = None,
        registry: Any = None,
    ) -> DataCoordinate:
        """Make from what `to_simple` returned."""
        data_id = cls.standardize(simple["dataId"])
        records = simple.get("records")
        if not records:
            return data_id
        return data_id.expanded({k: record_of_plain_fields(k, r["record"]) for k, r in records.items()})

    @classmethod
    def from_json(
        cls, json_str: str | bytes, universe: DimensionUniverse | None = None, registry: Any = None
    ) -> DataCoordinate:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str), universe, registry)

    def __getitem__(self, name: str) -> DataIdValue:
        try:
            return self._values[self.dimensions.data_coordinate_keys.index(str(name))]
        except (ValueError, IndexError):
            pass  # no such dimension; or its value, an implied one, is not known
        if name in self.dimensions:
            raise KeyError(f"Data ID {self} is not expanded: the value of {name!r} is not known")
        raise KeyError(f"Data ID {self} has no dimension {name!r}")

    def __contains__(self, name: object) -> bool:
        return name in self.dimensions.data_coordinate_keys[: len(self._values)]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DataCoordinate):
            n = len(self.dimensions.required)
            return self.dimensions == other.dimensions and self._values[:n] == other._values[:n]
        if isinstance(other, Mapping):
            return dict(self.required) == dict(other) or dict(self.mapping) == dict(other)
        return NotImplemented

    def __lt__(self, other: DataCoordinate) -> bool:
        return self.required_values < other.required_values

    def __hash__(self) -> int:
        return hash((self.dimensions.required, self.required_values))

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}: {v!r}" for k, v in self.mapping.items())
        return "{" + inner + "}"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return DataCoordinate, (self.dimensions, self._values, self._records)


DataId = DataCoordinate | Mapping[str, Any]
"""What is taken where a data ID is wanted."""


class DimensionRecord:
    """Fields of one value of a dimension, as attributes.

    Parameters
    ----------
    **fields
        Values by field name; the primary key also under the dimension's name. Missing fields are `None`.

    Raises
    ------
    DataIdValueError
        If a key is missing, a field unknown, or a value of the wrong type.
    """

    __slots__ = ("_fields", "region", "timespan")
    definition: ClassVar[DimensionElement]

    def __init__(self, **fields: Any) -> None:
        element = self.definition
        self.region = fields.pop("region", None)
        self.timespan: Timespan | None = fields.pop("timespan", None)
        if self.timespan is None and ("datetime_begin" in fields or "datetime_end" in fields):
            self.timespan = Timespan(fields.pop("datetime_begin", None), fields.pop("datetime_end", None))
        if element.key is not None and element.name in fields and element.key.name not in fields:
            fields[element.key.name] = fields.pop(element.name)
        self._fields = element.schema.take_values(fields)

    @classmethod
    def restored(
        cls, fields: dict[str, Any], region: Any = None, timespan: Timespan | None = None
    ) -> DimensionRecord:
        """Make from all fields as a record once had them; nothing is checked."""
        record = cls.__new__(cls)
        record._fields, record.region, record.timespan = fields, region, timespan
        return record

    @property
    def dataId(self) -> DataCoordinate:
        """Data ID this record belongs to; implied values included where the record has them."""
        element = self.definition
        group = element.dimensions
        values = {n: self._fields[n] for n in element.requires}
        if element.key is not None:
            values[element.name] = self._fields[element.key.name]
        values.update({n: self._fields[n] for n in element.implies})
        if all(values.get(n) is not None for n in group.names):
            return DataCoordinate(group, tuple(values[n] for n in group.data_coordinate_keys))
        return DataCoordinate(group, tuple(values[n] for n in group.required))

    def __getattr__(self, name: str) -> Any:
        # `_fields` itself is looked up here while unpickling.
        if name != "_fields":
            try:
                return self._fields[name]
            except KeyError:
                pass
        raise AttributeError(f"{self.definition.name!r} records have no field {name!r}")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value by name."""
        if name in ("region", "timespan"):
            return getattr(self, name)
        return self._fields.get(name, default)

    def toDict(self, splitTimespan: bool = False) -> dict[str, Any]:
        """Return the fields as a dictionary, region and timespan included where the element has them.

        Parameters
        ----------
        splitTimespan : `bool`
            Give the timespan as ``datetime_begin`` and ``datetime_end``.
        """
        out = dict(self._fields)
        if self.definition.spatial:
            out["region"] = self.region
        if self.definition.temporal:
            if splitTimespan:
                span = self.timespan
                out["datetime_begin"] = None if span is None else span.begin
                out["datetime_end"] = None if span is None else span.end
            else:
                out["timespan"] = self.timespan
        return out

    def to_simple(self, minimal: bool = False) -> dict[str, Any]:
        """Return a plain dictionary: ``definition``, and the fields as ``record``."""
        fields = self.toDict()
        if fields.get("region") is not None:
            fields["region"] = self.region.encode().hex()
        if fields.get("timespan") is not None:
            fields["timespan"] = self.timespan.to_simple()  # type: ignore[union-attr]  # elements with times have the field
        return {"definition": self.definition.name, "record": fields}

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON, in the reference's form."""
        return json.dumps(self.to_simple(), separators=(",", ":"))

    @classmethod
    def from_simple(
        cls, simple: Mapping[str, Any], universe: Any = None, registry: Any = None
    ) -> DimensionRecord:
        """Make from what `to_simple` returned."""
        return record_of_plain_fields(simple["definition"], simple["record"])

    @classmethod
    def from_json(cls, json_str: str | bytes, universe: Any = None, registry: Any = None) -> DimensionRecord:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str))

    @classmethod
    def of_plain_fields(cls, fields: Mapping[str, Any]) -> DimensionRecord:
        """Make from fields with the region in hexadecimal and the timespan as two numbers."""
        values = dict(fields)
        if values.get("region") is not None:
            from lsst.sphgeom import Region

            values["region"] = Region.decode(bytes.fromhex(values["region"]))
        if values.get("timespan") is not None:
            values["timespan"] = Timespan.from_simple(values["timespan"])
        return cls(**values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DimensionRecord):
            return NotImplemented
        return self.definition == other.definition and self.toDict() == other.toDict()

    def __hash__(self) -> int:
        return hash(self.dataId)

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self._fields.items() if v is not None)
        return f"{self.definition.name}({inner})"

    def __str__(self) -> str:
        lines = [f"  {k}: {v}" for k, v in self.toDict().items()]
        return f"{self.definition.name}:\n" + "\n".join(lines)

    def __reduce__(self) -> tuple[Any, tuple[str, dict[str, Any]]]:
        return _restored_record, (self.definition.name, self.toDict())


DimensionElement.record_base = DimensionRecord


def _restored_record(name: str, fields: Mapping[str, Any]) -> DimensionRecord:
    record: DimensionRecord = DimensionUniverse().element(name).RecordClass(**fields)
    return record


def record_of_plain_fields(element: str, fields: Mapping[str, Any]) -> DimensionRecord:
    """Return the record of an element from its fields as `DimensionRecord.to_simple` writes them."""
    record: DimensionRecord = DimensionUniverse().element(element).RecordClass.of_plain_fields(fields)
    return record


def _one_for_each(values: Iterable[DataIdValue], names: Sequence[str]) -> tuple[DataIdValue, ...]:
    given = tuple(values)
    if len(given) != len(names):
        raise DataIdError(f"{len(given)} values {given!r} for the dimensions {', '.join(names)}")
    return given
