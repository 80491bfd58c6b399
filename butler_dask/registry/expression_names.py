"""NameScope: what the names in an expression mean, given the dimensions of the query they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidQueryError, did_you_mean
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Bind, Expression, Name, expression_error

Kind = Literal["int", "float", "str", "bool", "time", "timespan", "region", "uuid"]
"""Kind of a value in an expression."""

_KIND_OF_TYPE: dict[type, Kind] = {int: "int", float: "float", str: "str", bool: "bool"}

DATASET_FIELDS: dict[str, Kind] = {
    "run": "str",
    "collection": "str",
    "dataset_id": "uuid",
    "ingest_date": "time",
    "timespan": "timespan",
    "timespan.begin": "time",
    "timespan.end": "time",
}
"""Fields of a dataset that expressions and ``order_by`` may name."""


@dataclass(frozen=True, slots=True)
class FieldReference:
    """A field of a dimension element.

    ``field`` is a column, or ``region``, ``timespan``, ``timespan.begin``, ``timespan.end``.
    """

    element: str
    field: str
    kind: Kind

    @property
    def is_dimension(self) -> bool:
        """Whether it is the dimension's own value."""
        key = DimensionUniverse()[self.element].key
        return key is not None and key.name == self.field

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions it belongs to."""
        return DimensionUniverse()[self.element].dimensions


@dataclass(frozen=True, slots=True)
class DatasetField:
    """A field of a dataset."""

    dataset_type: str
    field: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class BoundValue:
    """A value given with the expression."""

    name: str
    value: Any


Meaning = FieldReference | DatasetField | BoundValue


class NameScope:
    """Names of one query.

    Parameters
    ----------
    dimensions : `DimensionGroup`
        Dimensions of the query; unqualified field names are looked for in their elements.
    bind : mapping of `str` to value, optional
        Bound values.
    dataset_types : collection of `str`
        Dataset types joined, whose fields may be named.
    text : `str`
        The expression, for errors.
    """

    def __init__(
        self,
        dimensions: DimensionGroup,
        bind: Mapping[str, Any] | None = None,
        dataset_types: Collection[str] = (),
        text: str = "",
    ) -> None:
        self.dimensions, self.dataset_types, self.text = dimensions, tuple(dataset_types), text
        self.bind: dict[str, Any] = {k.removeprefix(":"): v for k, v in (bind or {}).items()}
        # By the tree's identity, so it is kept beside: comparing trees would walk them again.
        self._fields: dict[
            int, tuple[Expression, list[tuple[Name | Bind, FieldReference | DatasetField]]]
        ] = {}

    def error(self, position: int, what: str) -> InvalidQueryError:
        """Return an error that points at a place of the expression."""
        return expression_error(self.text, position, what) if self.text else InvalidQueryError(what)

    def resolve(self, node: Name | Bind) -> Meaning:
        """Return what a name means.

        Raises
        ------
        InvalidQueryError
            If it means nothing here, or several things.
        """
        if isinstance(node, Bind):
            if node.name in self.bind:
                return BoundValue(node.name, self.bind[node.name])
            hint = did_you_mean(node.name, self.bind)
            raise self.error(node.position, f"no value is bound to {':' + node.name!r}.{hint}")
        return self.resolve_text(node.text, node.position)

    def resolve_text(self, text: str, position: int = 0) -> Meaning:
        """Return what the text of a name means; see `resolve`."""
        if text in self.bind:
            return BoundValue(text, self.bind[text])
        universe = DimensionUniverse()
        head, _, rest = text.partition(".")
        if head in universe:
            element = universe[head]
            if rest:
                return self._field(element, rest, position)
            if element.key is None:
                raise self.error(position, f"{head!r} is a relation; name a field of it, as {head}.region")
            return FieldReference(head, element.key.name, _KIND_OF_TYPE[element.key.type])
        if rest and head in self.dataset_types:
            if rest in DATASET_FIELDS:
                return DatasetField(head, rest, DATASET_FIELDS[rest])
            known: Iterable[str] = DATASET_FIELDS
            raise self.error(
                position,
                f"datasets have no field {rest!r}.{did_you_mean(rest, known)} They have: {', '.join(known)}.",
            )
        return self._unqualified(text, position)

    def _field(self, element: DimensionElement, field: str, position: int) -> FieldReference:
        if field in element.requires or field in element.implies:
            # `visit.instrument` is the instrument.
            key = element.universe[field].key
            assert key is not None
            return FieldReference(field, key.name, _KIND_OF_TYPE[key.type])
        for spec in element.fields:
            if spec.name == field or (
                field == element.name and element.key is not None and spec.name == element.key.name
            ):
                return FieldReference(element.name, spec.name, _KIND_OF_TYPE[spec.type])
        if field == "region" and (element.spatial or element.skypix_level is not None):
            return FieldReference(element.name, "region", "region")
        if element.temporal:
            if field == "timespan":
                return FieldReference(element.name, field, "timespan")
            if field in ("timespan.begin", "timespan.end"):
                return FieldReference(element.name, field, "time")
        known = element.schema.names
        raise self.error(
            position,
            f"{element.name!r} has no field {field!r}.{did_you_mean(field, known)} "
            f"It has: {', '.join(known)}.",
        )

    def _unqualified(self, text: str, position: int) -> Meaning:
        universe = DimensionUniverse()
        elements = [universe[n] for n in self.dimensions.elements]
        head = text.partition(".")[0]
        ways: list[Meaning] = []
        if text == "region":
            ways += [self._field(universe[n], text, position) for n in self.dimensions.spatial_elements]
        elif head == "timespan":
            temporal = [e for e in elements if e.temporal]
            # The day follows from the exposure or visit, and is not what is meant beside them.
            temporal = [e for e in temporal if not any(e.name in o.implies for o in temporal)]
            ways += [self._field(e, text, position) for e in temporal]
        else:
            ways += [
                self._field(e, text, position)
                for e in elements
                if any(f.name == text for f in e.fields if f.name not in (*e.requires, *e.implies))
            ]
        if text in DATASET_FIELDS:
            ways += [DatasetField(name, text, DATASET_FIELDS[text]) for name in self.dataset_types]
        if len(ways) == 1:
            return ways[0]
        if ways:
            named = sorted(f"{_owner(w)}.{text}" for w in ways)
            raise self.error(position, f"{text!r} is ambiguous here; write one of {', '.join(named)}")
        elsewhere = [e.name for e in universe.getStaticElements() if any(f.name == text for f in e.fields)]
        if elsewhere:
            forms = ", ".join(f"{name}.{text}" for name in elsewhere)
            raise self.error(position, f"{text!r} is no field of this query's dimensions; write {forms}")
        known = {*(e.name for e in universe.getStaticElements()), *self.bind, *self.dataset_types, "htm7"}
        if "." in text and head != "timespan":
            hint = did_you_mean(head, known)
            raise self.error(position, f"{head!r} is no dimension and no dataset type of this query.{hint}")
        known.update(f.name for e in elements for f in e.fields)
        raise self.error(
            position, f"{text!r} is no dimension, no field and not bound.{did_you_mean(text, known)}"
        )

    def references(self, tree: Expression) -> list[FieldReference | DatasetField]:
        """Return the fields an expression names."""
        return [meaning for _, meaning in self._named(tree)]

    def _named(self, tree: Expression) -> list[tuple[Name | Bind, FieldReference | DatasetField]]:
        # A query asks several times; the tree is walked once.
        known = self._fields.get(id(tree))
        if known is not None:
            return known[1]
        found: list[tuple[Name | Bind, FieldReference | DatasetField]] = []
        for node in tree.walk():
            if isinstance(node, (Name, Bind)):
                meaning = self.resolve(node)
                if not isinstance(meaning, BoundValue):
                    found.append((node, meaning))
        self._fields[id(tree)] = tree, found
        return found

    def dimensions_of(self, tree: Expression) -> DimensionGroup:
        """Return the dimensions an expression needs."""
        groups = [r.dimensions for r in self.references(tree) if isinstance(r, FieldReference)]
        return DimensionUniverse().empty.union(*groups)

    def governors_named(self, tree: Expression) -> set[str]:
        """Return the instrument and skymap dimensions an expression names, themselves or their fields."""
        named = {r.element for r in self.references(tree) if isinstance(r, FieldReference)}
        return named.intersection(DimensionUniverse().governor_dimensions.names)

    def check_governors(self, tree: Expression, known: Collection[str]) -> None:
        """Check that dimensions are named together with their instrument or skymap.

        Visit 3 of one instrument has nothing to do with visit 3 of another. As in the reference it is enough
        that the expression says something of the instrument, wherever.

        Parameters
        ----------
        tree : `Expression`
            Expression.
        known : collection of `str`
            Governor dimensions that have a value by data ID, or are named in another expression.

        Raises
        ------
        InvalidQueryError
            If one is not.
        """
        said = {*known, *self.governors_named(tree)}
        for node, meaning in self._named(tree):
            if not isinstance(meaning, FieldReference):
                continue
            for governor in meaning.dimensions.governors:
                if governor not in said:
                    name = node.text if isinstance(node, Name) else node.name
                    raise self.error(
                        node.position,
                        f"{name!r} depends on {governor!r}, which has no value here. "
                        f"Add {governor}='NAME' with AND, or give {governor} as a data ID or default.",
                    )


def _owner(meaning: Meaning) -> str:
    if isinstance(meaning, FieldReference):
        return meaning.element
    return meaning.dataset_type if isinstance(meaning, DatasetField) else meaning.name
