"""QueryPlans: SQL made once for all queries of a form, and sent past SQLAlchemy's statement layer.

Making the statement of a query takes ten times as long as a small answer takes to find.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .open_values import OpenValues
from .resolved_selection import ResolvedSelection
from .session import Session

_MOST_PLANS = 500
"""Statements kept."""


@dataclass(frozen=True)
class QueryPlan:
    """A statement as its driver takes it.

    Parameters
    ----------
    sql : `str`
        Its text, with the driver's marks for values.
    names : `tuple` [`str`, ...]
        Names of its values in the order of their marks.
    constants : mapping of `str` to value
        Those that are the same always.
    width : `int`
        Columns that are wanted; others behind them are there to sort by.
    defaults : mapping of `str` to `bool`
        Dimensions whose default value was asked for, and whether there was one.
    """

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]
    width: int
    defaults: Mapping[str, bool]

    @classmethod
    def of(
        cls, statement: sa.Select[Any], dialect: sa.Dialect, width: int, defaults: Mapping[str, bool]
    ) -> QueryPlan:
        """Make of a statement, for one kind of database."""
        compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        constants = {}
        for name, value in compiled.construct_params().items():
            processor = None
            if name in compiled.binds:
                processor = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            constants[name] = value if processor is None else processor(value)
        return cls(str(compiled), tuple(compiled.positiontup or ()), constants, width, defaults)

    def portions(self, session: Session, values: Mapping[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows in portions.

        Parameters
        ----------
        session : `Session`
            From `Database.read`.
        values : mapping of `str` to value
            The values that the statement leaves open, and maybe others.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        known = {name: values.get(name, value) for name, value in self.constants.items()}
        # Marks are by place in SQLite, by name in PostgreSQL.
        given = tuple(known[name] for name in self.names) if session.is_sqlite else known
        for rows in session.sql_portions(self.sql, given):
            yield rows if len(rows[0]) == self.width else [r[: self.width] for r in rows]


class QueryPlans:
    """Statements kept, by what they are about."""

    def __init__(self) -> None:
        self._plans: dict[Hashable, QueryPlan | None] = {}

    @staticmethod
    def key(about: Hashable, resolved: ResolvedSelection, opened: OpenValues) -> Hashable:
        """Return what a statement is known by, `None` if it is not to be kept.

        Parameters
        ----------
        about : hashable
            What is read, beside all that the selection says.
        resolved : `ResolvedSelection`
            What restricts it.
        opened : `OpenValues`
            Its values.
        """
        if opened.form is None:
            return None
        joins: list[Hashable] = []
        for join in resolved.joins:
            kind = join.kind
            leaves = tuple((leaf.id, leaf.type) for leaf in join.leaves)
            joins.append((kind.definition.name, kind.id, kind.tables, leaves))
        return about, tuple(joins), opened.form

    def find(self, key: Hashable, resolved: ResolvedSelection, opened: OpenValues) -> QueryPlan | None:
        """Return the plan kept under a key, if it holds for the open values, which get the defaults."""
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans.get((key, opened.written))
        if plan is None:
            return None
        default = resolved.selection.default
        for name, there in plan.defaults.items():
            value = None if default is None else default(name)
            if (value is not None) != there:
                return None
            opened.values[f"data_id_{name}"] = value
        opened.values |= {f"data_id_{n}": v for n, v in resolved.selection.data_id.items()}
        return plan

    def keep(self, key: Hashable, opened: OpenValues, plan: QueryPlan) -> None:
        """Keep a plan that was made with the open values."""
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[key if opened.all_open else (key, opened.written)] = plan
