"""DataIdCompletion: from the key-value pairs a user gives to the data ID a dataset type needs, and its time.

Users name an exposure by its ``obs_id``, a detector by its name, a flat by the visit it is for; the
registry works out what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DimensionNameError, InconsistentDataIdError, did_you_mean
from ..registry.registry import Registry
from ..vocabulary.data_id import DataCoordinate, DataIdValue
from ..vocabulary.dimension_value import dimension_value, is_integer_text
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.search_defaults import SearchDefaults
from ..vocabulary.timespan import Timespan

_TIMED = ("exposure", "visit", "day_obs")
"""Dimensions whose timespan says for when a calibration is wanted; the first one known counts."""


@dataclass(slots=True)
class CompletedDataId:
    """A data ID, and what else is known beside it.

    Parameters
    ----------
    data_id : `DataCoordinate`
        Values of the dimensions asked for.
    known : `dict`
        Values of all dimensions given or found.
    """

    data_id: DataCoordinate
    known: dict[str, DataIdValue]


class DataIdCompletion:
    """Completes data IDs.

    Parameters
    ----------
    registry : `Registry`
        Where dimension records are.
    defaults : `SearchDefaults`
        Values for dimensions not given.
    """

    def __init__(self, registry: Registry, defaults: SearchDefaults) -> None:
        self._registry, self._defaults = registry, defaults
        self._universe = DimensionUniverse()

    def complete(
        self,
        dimensions: DimensionGroup,
        given: Mapping[str, Any],
        *,
        timed: bool = False,
        with_defaults: bool = True,
    ) -> CompletedDataId:
        """Return the data ID of a group of dimensions.

        Parameters
        ----------
        dimensions : `DimensionGroup`
            What is needed.
        given : mapping
            Values by dimension name, ``element.field`` or field name.
        timed : `bool`
            Whether the exposure or visit is wanted too, where it follows.
        with_defaults : `bool`
            Whether the defaults give instrument and skymap where they are missing.

        Raises
        ------
        DimensionNameError
            For a key that is no dimension and no field of one; the nearest match is named.
        DimensionValueError
            If a value that is needed is missing and does not follow from the others.
        DataIdValueError
            If nothing in the repository fits.
        InconsistentDataIdError
            If a value contradicts what the others imply.
        """
        given = {str(k): v for k, v in given.items() if v is not None}
        plain = {k: v for k, v in given.items() if k in self._universe and self._is_value(k, v)}
        if with_defaults:
            self._add_defaults(dimensions, given, plain)
        if len(plain) == len(given) and all(n in plain for n in dimensions.required):
            known = {k: dimension_value(k, v) for k, v in plain.items()}
            found = DataCoordinate(dimensions, tuple(known[n] for n in dimensions.required))
            if any(n in known for n in dimensions.implied):
                self._check_implied(found, known)
            return CompletedDataId(found, known)
        group = dimensions
        if timed and len(plain) < len(given):
            group = self._with_observation(dimensions, given)
        found = self._registry.queries.complete(given, group)
        known = {k: dimension_value(k, v) for k, v in plain.items()} | dict(found.mapping)
        return CompletedDataId(found if group == dimensions else found.subset(dimensions), known)

    def _check_implied(self, data_id: DataCoordinate, known: Mapping[str, DataIdValue]) -> None:
        """Raise if a value given beside the required ones is not what the records say."""
        records = self._registry.records.expand(data_id)
        for name in data_id.dimensions.implied:
            if name in known and records.get(name) not in (None, known[name]):
                raise InconsistentDataIdError(
                    f"{data_id} has {name} {records[name]!r}, not {known[name]!r} as given with it."
                )

    def _is_value(self, name: str, value: Any) -> bool:
        """Return whether this is a dimension's own value, and not that of an alternate key."""
        element = self._universe[name]
        if element.key is None:
            known = [d.name for d in self._universe.getStaticDimensions()]
            raise DimensionNameError(f"{name!r} is a relation, not a dimension.{did_you_mean(name, known)}")
        return not (element.key.type is int and isinstance(value, str) and not is_integer_text(value))

    def _add_defaults(self, dimensions: DimensionGroup, given: dict[str, Any], plain: dict[str, Any]) -> None:
        """Add default values of what is needed, or what a value given is meant beside."""
        wanted = list(dimensions.required)
        for name in given:
            head = name.partition(".")[0]
            if head in self._universe:
                wanted += self._universe[head].requires
        if len(plain) < len(given):
            wanted += dimensions.governors
        missing = [n for n in dict.fromkeys(wanted) if n not in given]
        for name in missing:
            value = self._defaults.given(name)
            if value is None and self._universe[name].governor:
                value = self._defaults.data_id.get(name)
            if value is not None:
                given[name] = plain[name] = value

    def _with_observation(self, dimensions: DimensionGroup, given: Mapping[str, Any]) -> DimensionGroup:
        """Return the group with the exposure or visit that fields are given of."""
        for name in ("exposure", "visit"):
            fields = {f.name for f in self._universe[name].alternate_keys}
            if name == "exposure":
                fields |= {"seq_num"}
            if any(k in fields or k.startswith(f"{name}.") or k == name for k in given):
                return dimensions.union(self._universe.conform([name]))
        return dimensions

    def timespan(self, known: Mapping[str, DataIdValue]) -> Timespan | None:
        """Return the time for which calibrations are wanted: of the exposure, else of the visit or the day.

        Raises
        ------
        DataIdValueError
            If the repository has no such exposure, visit or day.
        """
        for name in _TIMED:
            element = self._universe[name]
            if all(n in known for n in element.required):
                values = tuple(known[n] for n in element.required)
                data_id = DataCoordinate(element.dimensions, values)
                record = self._registry.records.expand(data_id).records[name]
                if record is not None and record.timespan is not None:
                    return record.timespan
        return None
