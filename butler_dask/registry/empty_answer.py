"""Why a query has no answer: the fewest of its constraints that leave nothing.

Constraints are dropped one at a time for as long as nothing is left; what remains in the end is a set of
which none can be spared, the culprits. For n constraints that is n + 1 small statements (a minimal
unsatisfiable subset by deletion; Marques-Silva 2010, "Minimal unsatisfiability", doi:10.1109/ISMVL.2010.11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ..vocabulary.data_id_table import DataIdTable
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.expression import Expression, text_of
from . import schema
from .data_id_query import DataIdQuery, UnlistableDimensionError
from .query_constraints import Constraints, DatasetJoin
from .schema import element_tables
from .session import Session

_COUNTED = 10_000
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
    database : `Database`
        Where to ask.
    session : `Session`
        From `Database.read`.
    dimensions : `DimensionGroup`
        Dimensions of the result.
    constraints : `Constraints`
        What restricts it.
    searched : mapping of `str` to sequence of `str`
        Collections searched for each dataset type.
    """

    def __init__(
        self,
        session: Session,
        dimensions: DimensionGroup,
        constraints: Constraints,
        searched: Mapping[str, Sequence[str]],
    ) -> None:
        self._session = session
        self._dimensions, self._constraints, self._searched = dimensions, constraints, searched

    def reasons(self) -> list[str]:
        """Return the reasons, one sentence each; none if there is an answer."""
        with ExitStack() as stack:
            # The whole query first: what is wrong with it is an error, not a reason.
            whole = DataIdQuery(self._session, stack, self._dimensions, self._constraints)
            if whole.any():
                return []
            given = dict(whole.data_id)
        out = self._absent_records(self._session, self._dimensions, given)
        out += [r for d in self._constraints.datasets if (r := self._absent_datasets(d, given)) is not None]
        return out or self._culprits(given)

    def doomed(self) -> list[str]:
        """Return why there can be no answer, so far as the summaries of collections tell."""
        out = []
        summary = schema.collection_summary.c
        for dataset in self._constraints.datasets:
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
        alone = Constraints(datasets=[dataset])
        if not dataset.leaves or not self._count(dataset.dimensions, alone, 1):
            return f"There is no dataset of type {dataset.name!r} in {self._places(dataset)}."
        own = {n: v for n, v in given.items() if n in dataset.dimensions}
        if own and not self._count(dataset.dimensions, replace(alone, data_id=own), 1):
            n = self._counted(dataset.dimensions, alone)
            shown = ", ".join(f"{k}={v!r}" for k, v in own.items())
            return (
                f"There is no dataset of type {dataset.name!r} with {shown} in {self._places(dataset)}, "
                f"which has {n} of the type."
            )
        return None

    def _culprits(self, given: Mapping[str, Any]) -> list[str]:
        c = self._constraints
        parts = [_Part("satisfies", repr(text_of(t)), t) for t in c.where.terms]
        parts += [_Part("has", f"{n}={v!r}", (n, v)) for n, v in given.items()]
        parts += [_Part("has", f"a dataset of type {d.name!r} in {self._places(d)}", d) for d in c.datasets]
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

    def _of(self, parts: Sequence[_Part]) -> Constraints:
        kept = {id(p.value) for p in parts}
        c = self._constraints
        return Constraints(
            c.where.of(t for t in c.where.terms if id(t) in kept),
            dict(p.value for p in parts if isinstance(p.value, tuple)),
            [d for d in c.datasets if id(d) in kept],
            [t for t in c.among if id(t) in kept],
            self._joined(),
        )

    def _joined(self) -> DimensionGroup:
        # Without sky pixels: nothing but what was dropped may have given them values.
        c = self._constraints
        names = [n for n in c.joined.names if DimensionUniverse()[n].skypix_level is None]
        return DimensionUniverse().conform(names)

    def _count(self, dimensions: DimensionGroup, constraints: Constraints, most: int) -> int:
        with ExitStack() as stack:
            try:
                # A term by itself may lack its instrument.
                query = DataIdQuery(self._session, stack, dimensions, constraints, check=False)
            except UnlistableDimensionError:
                return most
            return query.count(most)

    def _counted(self, dimensions: DimensionGroup, constraints: Constraints) -> str:
        n = self._count(dimensions, constraints, _COUNTED)
        return str(n) if n < _COUNTED else f"{_COUNTED} or more"

    def _absent_records(
        self, session: Session, dimensions: DimensionGroup, values: Mapping[str, Any]
    ) -> list[str]:
        universe, out = DimensionUniverse(), []
        for name in dimensions.names:
            if not universe[name].has_records:
                continue
            table = element_tables[name]
            if not session.fetch(sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(f"Dimension {name!r} has no records in the repository.")
            elif name in values and all(n in values for n in universe[name].requires):
                key = universe[name].key
                assert key is not None
                known = {n: values[n] for n in (*universe[name].requires, name)}
                conditions = [table.c[key.name if n == name else n] == v for n, v in known.items()]
                statement = sa.select(sa.literal(1)).select_from(table).where(*conditions).limit(1)
                if not session.fetch(statement):
                    out.append(f"The repository has no {name} {values[name]!r} (data ID {known}).")
        always = [
            e
            for e in universe.getStaticElements()
            if e.always_join and set(e.requires) <= set(dimensions.names)
        ]
        for element in always:
            table = element_tables[element.name]
            if not session.fetch(sa.select(sa.literal(1)).select_from(table).limit(1)):
                out.append(
                    f"There are no {element.name} records, which join {', '.join(element.requires)}; "
                    "define visits first (`butler define-visits`)."
                )
        return out
