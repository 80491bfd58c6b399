"""Constraints: what restricts the rows of a query: a condition, values, datasets and data IDs given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression
from .definitions import CollectionRow, DatasetTypeRow
from .expression_names import conjuncts


@dataclass(frozen=True, slots=True)
class DatasetJoin:
    """A dataset type and the collections in which its datasets constrain a query."""

    kind: DatasetTypeRow
    leaves: Sequence[CollectionRow]

    @property
    def dimensions(self) -> DimensionGroup:
        """Dimensions of the datasets."""
        return self.kind.definition.dimensions

    @property
    def name(self) -> str:
        """Name of the dataset type."""
        return self.kind.definition.name


@dataclass(frozen=True)
class Where:
    """A parsed condition with its text and bound values."""

    terms: tuple[Expression, ...] = ()
    text: str = ""
    bind: Mapping[str, Any] | None = None

    def of(self, terms: Iterable[Expression]) -> Where:
        """Return some of the terms."""
        return Where(tuple(terms), self.text, self.bind)


@dataclass(frozen=True)
class Constraints:
    """What restricts the rows of a query, whatever they consist of.

    Parameters
    ----------
    where : `Where`
        Terms that must all hold.
    data_id : mapping of `str` to value
        Values that must hold.
    datasets : sequence of `DatasetJoin`
        Only data IDs with such datasets.
    among : sequence of `DataIdTable`
        Only data IDs that agree with a row of each of these tables.
    joined : `DimensionGroup`
        Dimensions joined in any case.
    default : callable, optional
        Gives the value of an instrument or skymap dimension that the query has, or its condition needs, and
        of which neither condition nor data ID says anything; `None` for no value.
    """

    where: Where = Where()
    data_id: Mapping[str, Any] = field(default_factory=dict)
    datasets: Sequence[DatasetJoin] = ()
    among: Sequence[DataIdTable] = ()
    joined: DimensionGroup = field(default_factory=lambda: DimensionUniverse().empty)
    default: Callable[[str], Any] | None = None

    @property
    def group(self) -> DimensionGroup:
        """Dimensions of everything joined."""
        others = [d.dimensions for d in self.datasets] + [t.dimensions for t in self.among]
        return self.joined.union(*others)

    def within(self, group: DimensionGroup, terms: Iterable[Expression]) -> Constraints:
        """Return what is about some of the dimensions only."""
        return Constraints(
            self.where.of(terms),
            {n: v for n, v in self.data_id.items() if n in group},
            [d for d in self.datasets if d.dimensions.issubset(group)],
            [t for t in self.among if t.dimensions.issubset(group)],
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is restricted."""
        return not (self.where.terms or self.data_id or self.datasets or self.among)


def parse_where(where: str | Sequence[str | Expression], bind: Mapping[str, Any] | None) -> Where:
    """Return the terms of a condition: a text, or several texts and trees that must all hold."""
    from ..vocabulary.expression import parse_expression

    parts = [where] if isinstance(where, str) else list(where)
    texts = [p for p in parts if isinstance(p, str) and p.strip()]
    for text in texts if len(texts) > 1 else ():
        parse_expression(text)  # Each is whole by itself.
    text = texts[0] if len(texts) == 1 else " AND ".join(f"({t})" for t in texts)
    terms = conjuncts(parse_expression(text))
    terms += [t for p in parts if isinstance(p, Expression) for t in conjuncts(p)]
    return Where(tuple(terms), text, bind)
