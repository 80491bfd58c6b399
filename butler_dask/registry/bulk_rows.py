"""Many rows at once: inserted into a table, or held in a temporary one for the length of a query."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    replace_columns: Sequence[str] | None = None,
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
        new row, or ``replace`` the old one's values.
    replace_columns : sequence of `str`, optional
        Columns that ``replace`` changes; default: all that are not in the primary key.

    Returns
    -------
    count : `int`
        Rows inserted (with ``replace``: or changed).
    """
    if not rows:
        return 0
    if not table._prefixes:
        session.count_rows(table.name, len(rows))
    if on_conflict != "raise":
        rows = _in_order(session, table, columns, rows)
    quote = session.connection.dialect.identifier_preparer.quote
    name = quote(table.name)
    names = ", ".join(map(quote, columns))
    mark = "?" if session.is_sqlite else "%s"
    values = f"({', '.join([mark] * len(columns))})"
    insert = f"INSERT INTO {name} ({names}) VALUES "
    if on_conflict == "ignore":
        return _execute(session, f"{insert}{values} ON CONFLICT DO NOTHING", rows)
    if on_conflict == "replace":
        keys = [c.name for c in table.primary_key.columns]
        changed = [c for c in columns if c not in keys] if replace_columns is None else replace_columns
        action = ", ".join(f"{quote(c)} = excluded.{quote(c)}" for c in changed)
        action = f"UPDATE SET {action}" if changed else "NOTHING"
        conflict = f" ON CONFLICT ({', '.join(map(quote, keys))}) DO {action}"
        return _execute(session, insert + values + conflict, rows)
    if len(rows) < _FEW_ROWS:
        return _execute(session, insert + values, rows)
    if not session.is_sqlite:
        return _copy(session, f"COPY {name} ({names}) FROM STDIN", rows)
    # Several rows a statement: a third less time than one each.
    per_statement = max(_VALUES_PER_STATEMENT // len(columns), 1)
    whole = len(rows) - len(rows) % per_statement
    flat = itertools.chain.from_iterable(rows)
    portions = [
        tuple(itertools.islice(flat, per_statement * len(columns))) for _ in range(0, whole, per_statement)
    ]
    _execute(session, insert + ", ".join([values] * per_statement), portions)
    _execute(session, insert + values, rows[whole:])
    return len(rows)


def _in_order(session: Session, table: sa.Table, columns: Sequence[str], rows: Rows) -> Rows:
    # On a server each row waits for who inserts the same one; in the same order nobody waits in a circle.
    if session.is_sqlite or len(rows) == 1:
        return rows
    keys = [i for i, c in enumerate(columns) if table.c[c].primary_key] or list(range(len(columns)))
    return sorted(rows, key=lambda row: [row[i] for i in keys])


def _execute(session: Session, sql: str, rows: Rows) -> int:
    if not rows:
        return 0
    driver: Any = session.connection.dialect.loaded_dbapi
    cursor = session.driver.cursor()
    try:
        if len(rows) == 1:
            cursor.execute(sql, rows[0])
        else:
            cursor.executemany(sql, rows)
        return int(cursor.rowcount)
    except driver.IntegrityError as error:
        # Raised past SQLAlchemy, so given the class callers look for.
        raise sa.exc.IntegrityError(sql, None, error) from error
    except driver.OperationalError as error:
        raise sa.exc.OperationalError(sql, None, error) from error
    finally:
        cursor.close()


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
