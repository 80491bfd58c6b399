"""Many rows at once: inserted into a table, or held in a temporary one for the length of a query."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from .session import Session

_FEW_TEMPORARY_ROWS = 20
"""Temporary tables of fewer rows are joined well enough without statistics."""
_VALUES_PER_STATEMENT = 600
"""Values bound in one INSERT of several rows."""
_FEW_ROWS = 200
"""Fewer rows are inserted one a statement."""

Rows = Sequence[tuple[Any, ...]]


def insert_rows(
    session: Session,
    table: sa.Table,
    columns: Sequence[str],
    rows: Rows,
    *,
    on_conflict: Literal["raise", "ignore", "replace"] = "raise",
) -> int:
    """Insert many rows.

    Parameters
    ----------
    session : `Session`
        From `Database.write`.
    table : `sqlalchemy.Table`
        Where to.
    columns : sequence of `str`
        Names of the values of each row.
    rows : sequence of `tuple`
        Values.
    on_conflict : `str`
        What to do with a row whose key exists: ``raise`` `sqlalchemy.exc.IntegrityError`, ``ignore`` the
        new row, or ``replace`` the old one's values that are not its key.

    Returns
    -------
    count : `int`
        Rows inserted (with ``replace``: or changed).
    """
    if not rows:
        return 0
    if not table._prefixes:
        session.inserted[table.name] = session.inserted.get(table.name, 0) + len(rows)
    if on_conflict != "raise" and len(rows) > 1:
        rows = _in_order(session, table, columns, rows)
    form = (table.name, tuple(columns), on_conflict, session.is_sqlite)
    texts = _insert_texts.get(form)
    if texts is None:
        texts = _insert_texts[form] = _InsertText.of(session, table, columns, on_conflict)
    if on_conflict != "raise":
        return session.execute_many(texts.one, rows)
    if len(rows) < _FEW_ROWS:
        return session.execute_many(texts.one, rows)
    if not session.is_sqlite:
        return _copy(session, texts.copy, rows)
    # Several rows a statement: a third less time than one each.
    per_statement = max(_VALUES_PER_STATEMENT // len(columns), 1)
    whole = len(rows) - len(rows) % per_statement
    flat = itertools.chain.from_iterable(rows)
    portions = [
        tuple(itertools.islice(flat, per_statement * len(columns))) for _ in range(0, whole, per_statement)
    ]
    session.execute_many(texts.one + f", {texts.values}" * (per_statement - 1), portions)
    session.execute_many(texts.one, rows[whole:])
    return len(rows)


@dataclass(frozen=True, slots=True)
class _InsertText:
    """SQL text that inserts into a table: one row, the marks of a further one, and by COPY."""

    one: str
    values: str
    copy: str

    @classmethod
    def of(
        cls,
        session: Session,
        table: sa.Table,
        columns: Sequence[str],
        on_conflict: str,
    ) -> _InsertText:
        quote = session.quote
        into = f"{quote(table.name)} ({', '.join(map(quote, columns))})"
        mark = "?" if session.is_sqlite else "%s"
        values = f"({', '.join([mark] * len(columns))})"
        conflict = ""
        if on_conflict == "ignore":
            conflict = " ON CONFLICT DO NOTHING"
        elif on_conflict == "replace":
            keys = [c.name for c in table.primary_key.columns]
            changed = [c for c in columns if c not in keys]
            action = ", ".join(f"{quote(c)} = excluded.{quote(c)}" for c in changed)
            action = f"UPDATE SET {action}" if changed else "NOTHING"
            conflict = f" ON CONFLICT ({', '.join(map(quote, keys))}) DO {action}"
        return cls(f"INSERT INTO {into} VALUES {values}{conflict}", values, f"COPY {into} FROM STDIN")


# By name of table and columns: tables of a dimension group have the same name in another registry.
_insert_texts: dict[Hashable, _InsertText] = {}


def _in_order(session: Session, table: sa.Table, columns: Sequence[str], rows: Rows) -> Rows:
    # On a server each row waits for who inserts the same one; in the same order nobody waits in a circle.
    if session.is_sqlite:
        return rows
    keys = [i for i, c in enumerate(columns) if table.c[c].primary_key] or list(range(len(columns)))
    return sorted(rows, key=lambda row: [row[i] for i in keys])


def _copy(session: Session, sql: str, rows: Rows) -> int:
    driver: Any = session.connection.dialect.loaded_dbapi
    cursor = session.driver.cursor()
    try:
        with cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row)
    except driver.IntegrityError as error:
        raise sa.exc.IntegrityError(sql, None, error) from error
    finally:
        cursor.close()
    return len(rows)


@contextmanager
def temporary_rows(
    session: Session,
    columns: Mapping[str, sa.types.TypeEngine[Any]],
    rows: Rows,
    key: str | None = None,
) -> Iterator[sa.Table]:
    """Give a table of one connection alone, holding the rows, to join with.

    Parameters
    ----------
    session : `Session`
        From `Database.read` or `Database.write`.
    columns : mapping of `str` to `sqlalchemy.types.TypeEngine`
        Names and types.
    rows : sequence of `tuple`
        Rows, unique by their key.
    key : `str`, optional
        Column that is the key; default: all together are.
    """
    in_use: dict[Hashable, int] = session.temporary_tables
    form: Hashable = (tuple((n, type(t).__name__) for n, t in columns.items()), key)
    place = in_use.get(form, 0)
    in_use[form] = place + 1
    table, create = _temporary_table(session.connection.dialect, form, place, columns, key)
    try:
        session.command(create)
        insert_rows(session, table, list(columns), rows)
        if not session.is_sqlite or len(rows) >= _FEW_TEMPORARY_ROWS:
            # Without statistics it may be searched by the first of its key's columns only.
            session.command(f"ANALYZE {table.name}")
        yield table
    finally:
        in_use[form] = place
        # Else the rollback, done already or still to come, drops the table as well.
        if session.takes_statements:
            session.command(f"DROP TABLE IF EXISTS {table.name}")


# The same tables again and again, so that SQLAlchemy knows statements with them by heart.
_tables: dict[Hashable, tuple[sa.Table, str]] = {}
_numbers = itertools.count()


def _temporary_table(
    dialect: sa.Dialect,
    form: Hashable,
    place: int,
    columns: Mapping[str, sa.types.TypeEngine[Any]],
    key: str | None,
) -> tuple[sa.Table, str]:
    found = _tables.get((dialect.name, form, place))
    if found is None:
        table = sa.Table(
            f"temporary_{next(_numbers)}",
            sa.MetaData(),
            *(sa.Column(n, t, primary_key=key in (None, n), autoincrement=False) for n, t in columns.items()),
            prefixes=["TEMPORARY"],
            sqlite_with_rowid=key is not None,
        )
        create = str(sa.schema.CreateTable(table).compile(dialect=dialect))
        found = _tables.setdefault((dialect.name, form, place), (table, create))
    return found
