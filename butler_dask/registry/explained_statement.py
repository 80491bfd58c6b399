"""ExplainedStatement: what the database was asked, how it went about it and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class ExplainedStatement:
    """One statement a query took.

    Parameters
    ----------
    sql : `str`
        Text as sent, with placeholders.
    parameters : `tuple`
        Values of the placeholders.
    plan : `tuple` [`str`, ...]
        The database's plan, a line a step, steps within others indented.
    rows : `int`
        Rows read.
    seconds : `float`
        From sending to the last row [s].
    """

    sql: str
    parameters: tuple[object, ...]
    plan: tuple[str, ...]
    rows: int
    seconds: float

    @classmethod
    def ask(
        cls, connection: sa.Connection, sql: str, parameters: Any, n_rows: int, seconds: float
    ) -> ExplainedStatement:
        """Ask the database for its plan of a statement that gave so many rows in so many seconds."""
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        if connection.dialect.name == "sqlite":
            # Columns: step, the step it is within, unused, text.
            depths, lines = {0: -1}, []
            for step, parent, _, text in cursor.execute("EXPLAIN QUERY PLAN " + sql, parameters):
                depths[step] = depths.get(parent, -1) + 1
                lines.append("  " * depths[step] + text)
        else:
            lines = [line for (line,) in cursor.execute("EXPLAIN " + sql, parameters)]
        cursor.close()
        values = tuple(parameters.values() if isinstance(parameters, Mapping) else parameters)
        return cls(sql, values, tuple(lines), n_rows, seconds)

    def __str__(self) -> str:
        lines = [self.sql.strip()]
        if self.parameters:
            lines.append(f"  with {', '.join(map(repr, self.parameters))}")
        lines += [f"  | {step}" for step in self.plan]
        lines.append(f"  {self.rows} rows in {self.seconds:.3f} s")
        return "\n".join(lines)


@dataclass(slots=True)
class StatementLog:
    """Statements explained from now on, or none if they are not to be."""

    statements: list[ExplainedStatement] | None = None

    def add(self, statement: ExplainedStatement) -> None:
        """Add a statement, if they are wanted."""
        if self.statements is not None:
            self.statements.append(statement)
