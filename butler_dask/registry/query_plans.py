"""QueryPlans: SQL made once for all queries of a form, and sent past SQLAlchemy's statement layer.

Making the statement of a query takes ten times as long as a small answer takes to find.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..errors import InvalidQueryError
from .database import Database
from .explained_statement import ExplainedStatement
from .open_values import OpenValues
from .raw_sql import driver_connection, is_sqlite
from .resolved_selection import ResolvedSelection

_MOST_PLANS = 500
"""Statements kept."""
_PORTION = 10_000
"""Rows of a large answer that are Python values at a time."""


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

    def portions(
        self, database: Database, connection: sa.Connection, values: Mapping[str, Any]
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows in portions.

        Parameters
        ----------
        database : `Database`
            Where to ask.
        connection : `sqlalchemy.Connection`
            From `Database.read`.
        values : mapping of `str` to value
            The values that the statement leaves open, and maybe others.

        Raises
        ------
        InvalidQueryError
            If a number overflows on the way.
        """
        known = {name: values.get(name, value) for name, value in self.constants.items()}
        given: Any = tuple(known[n] for n in self.names) if is_sqlite(connection) else known
        start, count = time.perf_counter(), 0
        driver: Any = connection.dialect.loaded_dbapi
        cursor = driver_connection(connection).cursor()
        try:
            try:
                cursor.execute(self.sql, given)
            except driver.DataError as error:
                reason = str(error).strip().splitlines()[0]
                raise InvalidQueryError(f"The database cannot calculate this query: {reason}") from error
            while rows := cursor.fetchmany(_PORTION):
                count += len(rows)
                yield rows if len(rows[0]) == self.width else [r[: self.width] for r in rows]
            if database.explained is not None:
                seconds = time.perf_counter() - start
                database.explained.append(ExplainedStatement.ask(connection, self.sql, given, count, seconds))
        finally:
            cursor.close()


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
        joins = tuple(
            (d.name, d.kind.id, d.kind.tables, tuple((leaf.id, leaf.type) for leaf in d.leaves))
            for d in resolved.joins
        )
        return about, joins, opened.form

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
