"""NameScope: what the names in an expression mean, given the dimensions of the query they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidQueryError, did_you_mean
from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from ..vocabulary.expression import (
    And,
    Bind,
    Comparison,
    Expression,
    In,
    Name,
    Not,
    Or,
    expression_error,
)

Kind = Literal["int", "float", "str", "bool", "time", "timespan", "region", "uuid"]
"""Kind of a value in an expression."""

_KIND_OF_TYPE: dict[type, Kind] = {int: "int", float: "float", str: "str", bool: "bool"}

DATASET_FIELDS: dict[str, Kind] = {
    "run": "str",
    "collection": "str",
    "dataset_id": "uuid",
    "ingest_date": "time",
    "timespan": "timespan",
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
        if head == "timespan" and self.dimensions.temporal_elements:
            return self._field(universe[self.dimensions.temporal_elements[0]], text, position)
        if text == "region":
            spatial = self.dimensions.spatial_elements
            if len(spatial) == 1:
                return FieldReference(spatial[0], "region", "region")
        owners = [
            e
            for e in elements
            if any(f.name == text for f in e.fields if f.name not in (*e.requires, *e.implies))
        ]
        if len(owners) == 1:
            return self._field(owners[0], text, position)
        if len(owners) > 1:
            ways = ", ".join(f"{e.name}.{text}" for e in owners)
            raise self.error(position, f"{text!r} is ambiguous here; write one of {ways}")
        if text in DATASET_FIELDS and len(self.dataset_types) == 1:
            return DatasetField(self.dataset_types[0], text, DATASET_FIELDS[text])
        elsewhere = [e.name for e in universe.getStaticElements() if any(f.name == text for f in e.fields)]
        if elsewhere:
            ways = ", ".join(f"{name}.{text}" for name in elsewhere)
            raise self.error(position, f"{text!r} is no field of this query's dimensions; write {ways}")
        named = [e.name for e in universe.getStaticElements()]
        known = {*named, *self.bind, *self.dataset_types, "htm7"}
        if "." in text:
            hint = did_you_mean(head, known)
            raise self.error(position, f"{head!r} is no dimension and no dataset type of this query.{hint}")
        known.update(f.name for e in elements for f in e.fields)
        raise self.error(
            position, f"{text!r} is no dimension, no field and not bound.{did_you_mean(text, known)}"
        )

    def references(self, tree: Expression) -> list[FieldReference | DatasetField]:
        """Return the fields an expression names."""
        out: list[FieldReference | DatasetField] = []
        for node in tree.walk():
            if isinstance(node, (Name, Bind)):
                meaning = self.resolve(node)
                if not isinstance(meaning, BoundValue):
                    out.append(meaning)
        return out

    def dimensions_of(self, tree: Expression) -> DimensionGroup:
        """Return the dimensions an expression needs."""
        groups = [r.dimensions for r in self.references(tree) if isinstance(r, FieldReference)]
        return DimensionUniverse().empty.union(*groups)

    def check_governors(self, tree: Expression, known: Collection[str]) -> None:
        """Check that every dimension named is named together with its instrument or skymap.

        Visit 3 of one instrument has nothing to do with visit 3 of another. The governor must be fixed by an
        equality or IN of the same AND, or be known already.

        Parameters
        ----------
        tree : `Expression`
            Expression.
        known : collection of `str`
            Governor dimensions that have a value by data ID.

        Raises
        ------
        InvalidQueryError
            If one is not.
        """
        if isinstance(tree, (And, Or, Not)):
            operands = (tree.operand,) if isinstance(tree, Not) else tree.operands
            fixed = set(known)
            if isinstance(tree, And):
                fixed.update(n for o in operands for n in self._fixed_governors(o))
            for operand in operands:
                self.check_governors(operand, fixed)
            return
        for node in tree.walk():
            if not isinstance(node, (Name, Bind)):
                continue
            meaning = self.resolve(node)
            if not isinstance(meaning, FieldReference):
                continue
            if DimensionUniverse()[meaning.element].governor:
                continue
            for governor in meaning.dimensions.governors:
                if governor not in known:
                    name = node.text if isinstance(node, Name) else node.name
                    raise self.error(
                        node.position,
                        f"{name!r} depends on {governor!r}, which has no value here. "
                        f"Add {governor}='NAME' with AND, or give {governor} as a data ID or default.",
                    )

    def _fixed_governors(self, tree: Expression) -> set[str]:
        if isinstance(tree, And):
            return set().union(*(self._fixed_governors(o) for o in tree.operands))
        if isinstance(tree, Or):
            # In every alternative, as `instrument='A' OR instrument='B'`.
            return set.intersection(*(self._fixed_governors(o) for o in tree.operands))
        operands: tuple[Expression, ...] = ()
        if isinstance(tree, Comparison) and tree.operator == "=":
            operands = (tree.left, tree.right)
        elif isinstance(tree, In) and not tree.negated:
            operands = (tree.operand,)
        found = set()
        for operand in operands:
            if isinstance(operand, Name):
                meaning = self.resolve(operand)
                if (
                    isinstance(meaning, FieldReference)
                    and meaning.is_dimension
                    and DimensionUniverse()[meaning.element].governor
                ):
                    found.add(meaning.element)
        return found


def conjuncts(tree: Expression | None) -> list[Expression]:
    """Return the terms that must all hold: the operands of top-level ANDs."""
    if tree is None:
        return []
    if isinstance(tree, And):
        return [t for o in tree.operands for t in conjuncts(o)]
    return [tree]
