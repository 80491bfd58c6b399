"""ResolvedSelection: a selection whose dataset types and collections were looked up in the registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..vocabulary.collection import CollectionType
from ..vocabulary.dimensions import DimensionGroup
from ..vocabulary.expression import Expression
from ..vocabulary.selection import Selection
from .definitions import CollectionRow, DatasetTypeRow


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

    @property
    def is_timed(self) -> bool:
        """Whether some of the datasets count within validity ranges only."""
        return any(leaf.type is CollectionType.CALIBRATION for leaf in self.leaves)


@dataclass(frozen=True, slots=True)
class ResolvedSelection:
    """What restricts the rows of a query, whatever they consist of.

    Parameters
    ----------
    selection : `Selection`
        What is asked for; its ``datasets`` are not looked at any more.
    joins : sequence of `DatasetJoin`
        Only data IDs with such datasets.
    """

    selection: Selection
    joins: Sequence[DatasetJoin] = ()

    @property
    def group(self) -> DimensionGroup:
        """Dimensions of everything joined."""
        others = [d.dimensions for d in self.joins] + [t.dimensions for t in self.selection.among]
        return self.selection.joined.union(*others)

    def within(self, group: DimensionGroup, terms: Iterable[Expression]) -> ResolvedSelection:
        """Return what is about some of the dimensions only, under some of the terms."""
        whole = self.selection
        part = Selection(
            condition=whole.condition.only(terms),
            data_id={n: v for n, v in whole.data_id.items() if n in group},
            among=[t for t in whole.among if t.dimensions.issubset(group)],
        )
        return ResolvedSelection(part, [d for d in self.joins if d.dimensions.issubset(group)])

    @property
    def is_empty(self) -> bool:
        """Whether nothing is restricted."""
        own = self.selection
        return not (own.condition.terms or own.data_id or self.joins or own.among)
