"""Why a query has no answer: the fewest of its constraints that leave nothing.

Constraints are dropped one at a time for as long as nothing is left; what remains in the end is a set of
which none can be spared, the culprits. For n constraints that is n + 1 small statements (a minimal
unsatisfiable subset by deletion; Marques-Silva 2010, "Minimal unsatisfiability", doi:10.1109/ISMVL.2010.11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, text_of
from ..vocabulary.selection import Selection
from . import schema
from .data_id_query import DataIdQuery, UnlistableDimensionError
from .resolved_selection import DatasetJoin, ResolvedSelection
from .schema import element_tables
from .session import Session

_COUNTED_UP_TO = 10_000
"""Rows are counted up to so many."""


@dataclass(frozen=True)
class _Part:
    """One constraint that can be dropped, and how to say it."""

    verb: str
    text: str
    value: Expression | DatasetJoin | DataIdTable | tuple[str, Any]


class EmptyAnswer:
    """Looks for the reasons of one query.

    Parameters
    ----------
    session : `Session`
        From `Database.read`.
    dimensions : `DimensionGroup`
        Dimensions of the result.
    resolved : `ResolvedSelection`
        What restricts it.
    """

    def __init__(
        self,
        session: Session,
        dimensions: DimensionGroup,
        resolved: ResolvedSelection,
    ) -> None:
        self._session = session
        self._dimensions, self._resolved, self._selection = dimensions, resolved, resolved.selection
        self._searched = dict(resolved.selection.datasets)

    def reasons(self) -> list[str]:
        """Return the reasons, one sentence each; none if there is an answer."""
        with ExitStack() as stack:
            # The whole query first: what is wrong with it is an error, not a reason.
            whole = DataIdQuery(self._session, stack, self._dimensions, self._resolved)
            if whole.any():
                return []
            given = dict(whole.data_id)
        out = self._absent_records(self._dimensions, given)
        out += [r for d in self._resolved.joins if (r := self._absent_datasets(d, given)) is not None]
        return out or self._culprits(given)

    def doomed(self) -> list[str]:
        """Return why there can be no answer, so far as the summaries of collections tell."""
        out = []
        summary = schema.collection_summary.c
        for dataset in self._resolved.joins:
            ids = [leaf.id for leaf in dataset.leaves]
            holding = sa.select(summary.collection_id).where(
                summary.dataset_type_id == dataset.kind.id, summary.collection_id.in_(ids)
            )
            if not ids or not self._session.fetch(holding.limit(1)):
                out.append(f"There is no dataset of type {dataset.name!r} in {self._places(dataset)}.")
        return out

    def _places(self, dataset: DatasetJoin) -> str:
        return ", ".join(map(repr, self._searched[dataset.name])) or "no collection at all"

    def _absent_datasets(self, dataset: DatasetJoin, given: Mapping[str, Any]) -> str | None:
        alone = ResolvedSelection(Selection(), [dataset])
        if not dataset.leaves or not self._count(dataset.dimensions, alone, 1):
            return f"There is no dataset of type {dataset.name!r} in {self._places(dataset)}."
        own = {n: v for n, v in given.items() if n in dataset.dimensions}
        if own and not self._count(
            dataset.dimensions, ResolvedSelection(Selection(data_id=own), [dataset]), 1
        ):
            n = self._counted(dataset.dimensions, alone)
            shown = ", ".join(f"{k}={v!r}" for k, v in own.items())
            return (
                f"There is no dataset of type {dataset.name!r} with {shown} in {self._places(dataset)}, "
                f"which has {n} of the type."
            )
        return None

    def _culprits(self, given: Mapping[str, Any]) -> list[str]:
        c = self._selection
        parts = [_Part("satisfies", repr(text_of(t)), t) for t in c.condition.terms]
        parts += [_Part("has", f"{n}={v!r}", (n, v)) for n, v in given.items()]
        parts += [
            _Part("has", f"a dataset of type {d.name!r} in {self._places(d)}", d)
            for d in self._resolved.joins
        ]
        parts += [_Part("is", f"one of the {len(t)} given", t) for t in c.among]
        culprits = list(parts)
        for part in parts:
            rest = [p for p in culprits if p is not part]
            if (rest or self._is_cheap()) and not self._count(self._dimensions, self._of(rest), 1):
                culprits = rest
        if not culprits:
            return [
                f"No data ID joins the dimensions {self._dimensions}: their records do not belong together "
                "(visit definitions) or their regions do not overlap."
            ]
        shown = " and ".join(f"{p.verb} {p.text}" for p in culprits)
        counts = []
        for culprit in culprits:
            rest = [p for p in parts if p is not culprit]
            if rest or self._is_cheap():
                n = self._counted(self._dimensions, self._of(rest))
                counts.append(f"{n} without {'it' if len(culprits) == 1 else culprit.text}")
        there = f" There are {', '.join(counts)}." if counts else ""
        return [f"No data ID of {self._dimensions} {shown}.{there}"]

    def _is_cheap(self) -> bool:
        # Without any constraint, a sky join would be between all there is.
        return len(self._dimensions.spatial_elements) < 2

    def _of(self, parts: Sequence[_Part]) -> ResolvedSelection:
        kept = {id(p.value) for p in parts}
        c = self._selection
        selection = Selection(
            condition=c.condition.only(t for t in c.condition.terms if id(t) in kept),
            data_id=dict(p.value for p in parts if isinstance(p.value, tuple)),
            among=[t for t in c.among if id(t) in kept],
            joined=self._joined(),
        )
        return ResolvedSelection(selection, [d for d in self._resolved.joins if id(d) in kept])

    def _joined(self) -> DimensionGroup:
        # Without sky pixels: nothing but what was dropped may have given them values.
        names = [n for n in self._selection.joined.names if DimensionUniverse()[n].skypix_level is None]
        return DimensionUniverse().conform(names)

    def _count(self, dimensions: DimensionGroup, resolved: ResolvedSelection, most: int) -> int:
        with ExitStack() as stack:
            try:
                # A term by itself may lack its instrument.
                query = DataIdQuery(self._session, stack, dimensions, resolved, check=False)
            except UnlistableDimensionError:
                return most
            return query.count(most)

    def _counted(self, dimensions: DimensionGroup, resolved: ResolvedSelection) -> str:
        n = self._count(dimensions, resolved, _COUNTED_UP_TO)
        return str(n) if n < _COUNTED_UP_TO else f"{_COUNTED_UP_TO} or more"

    def _absent_records(self, dimensions: DimensionGroup, values: Mapping[str, Any]) -> list[str]:
        universe, out = DimensionUniverse(), []
        for name in dimensions.names:
            if not universe[name].has_records:
                continue
            table = element_tables[name]
            if not self._session.fetch(sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(f"Dimension {name!r} has no records in the repository.")
            elif name in values and all(n in values for n in universe[name].requires):
                key = universe[name].key
                assert key is not None
                known = {n: values[n] for n in (*universe[name].requires, name)}
                conditions = [table.c[key.name if n == name else n] == v for n, v in known.items()]
                statement = sa.select(sa.literal(1)).select_from(table).where(*conditions).limit(1)
                if not self._session.fetch(statement):
                    out.append(f"The repository has no {name} {values[name]!r} (data ID {known}).")
        always = [
            e
            for e in universe.getStaticElements()
            if e.always_join and set(e.requires) <= set(dimensions.names)
        ]
        for element in always:
            table = element_tables[element.name]
            if not self._session.fetch(sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(
                    f"There are no {element.name} records, which join {', '.join(element.requires)}; "
                    "define visits first (`butler define-visits`)."
                )
        return out
