"""ExplainedStatement: what the database was asked, how it went about it and how long it took."""

from __future__ import annotations

from dataclasses import dataclass


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

    def __str__(self) -> str:
        lines = [self.sql.strip()]
        if self.parameters:
            lines.append(f"  with {', '.join(map(repr, self.parameters))}")
        lines += [f"  | {step}" for step in self.plan]
        lines.append(f"  {self.rows} rows in {self.seconds:.3f} s")
        return "\n".join(lines)
