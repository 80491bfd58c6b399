"""DimensionRecord: one row about a dimension value (a visit, a detector, a patch)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import DataIdValueError, did_you_mean
from .data_id import DataCoordinate, universe_record
from .timespan import Timespan

if TYPE_CHECKING:
    from .dimensions import DimensionElement


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
        values: dict[str, Any] = {}
        for spec in element.fields:
            value = fields.pop(spec.name, None)
            if value is None:
                if not spec.nullable and spec not in element.alternate_keys:
                    raise DataIdValueError(f"A record of {element.name!r} needs {spec.name!r}")
            else:
                value = _conformed(value, spec.type, element.name, spec.name)
            values[spec.name] = value
        if fields:
            name = next(iter(fields))
            known = element.schema.names
            raise DataIdValueError(
                f"Records of {element.name!r} have no field {name!r}.{did_you_mean(name, known)} "
                f"They have: {', '.join(known)}."
            )
        self._fields = values

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
        return universe_record(simple["definition"], simple["record"])

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
        return _restore, (self.definition.name, self.toDict())


def _conformed(value: Any, kind: type, element: str, name: str) -> Any:
    if kind is float and not isinstance(value, str):
        return float(value)
    if kind is bool and not isinstance(value, str):
        return bool(value)
    if kind is int and not isinstance(value, (str, bool)) and int(value) == value:
        return int(value)
    if kind is str:
        return str(value)
    raise DataIdValueError(
        f"Field {name!r} of {element!r} records is of type {kind.__name__}, but got {value!r}"
    )


def record_class(element: DimensionElement) -> type[DimensionRecord]:
    """Make the record class of an element."""
    name = "".join(part.capitalize() for part in element.name.split("_")) + "Record"
    return type(
        name, (DimensionRecord,), {"definition": element, "__slots__": (), "__doc__": DimensionRecord.__doc__}
    )


def _restore(name: str, fields: Mapping[str, Any]) -> DimensionRecord:
    from .dimensions import DimensionUniverse

    return DimensionUniverse().element(name).RecordClass(**fields)
