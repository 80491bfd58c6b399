"""Schema version: make the tables of a registry, and tell whether those of another time can be used."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from ..errors import FormatVersionError, RepositoryError
from ..vocabulary.dimension_definitions import UNIVERSE_VERSION
from . import schema
from .bulk_rows import insert_rows
from .database import Database


def create_tables(database: Database) -> None:
    """Make the tables of a new registry.

    Raises
    ------
    RepositoryError
        If there is a registry already.
    """
    database.create_log()
    with database.write() as session:
        if sa.inspect(session.connection).has_table(schema.repository.name):
            raise RepositoryError(f"{database.shown_url} has a registry already")
        schema.whole_metadata().create_all(session.connection)
        insert_rows(
            session,
            schema.repository,
            ("name", "value"),
            [("schema_version", str(schema.SCHEMA_VERSION)), ("universe_version", str(UNIVERSE_VERSION))],
        )
        insert_rows(session, schema.counter, ("name", "value"), [("definitions", 0), ("dataset", 0)])


def read_versions(database: Database) -> dict[str, str]:
    """Return what the registry says of itself: ``schema_version``, ``universe_version``.

    Raises
    ------
    RepositoryError
        If there is no registry.
    """
    try:
        with database.read() as session:
            return dict(session.fetch_sql("SELECT name, value FROM repository"))
    except RepositoryError:
        raise
    except Exception as error:
        if any(text in str(error) for text in ("no such table", "no such column", "does not exist")):
            raise RepositoryError(f"{database.shown_url} is not a registry: {error}") from error
        raise


def check_versions(database: Database) -> None:
    """Check that the tables are those this program knows, by the versions they carry.

    Raises
    ------
    RepositoryError
        If there is no registry.
    FormatVersionError
        If its tables are of another version than this program's.
    """
    values = read_versions(database)
    for name, own in (("schema_version", schema.SCHEMA_VERSION), ("universe_version", UNIVERSE_VERSION)):
        found = values.get(name, "")
        if found == str(own):
            continue
        older = name == "schema_version" and found.isdecimal() and int(found) < own
        what = (
            "`butler migrate REPO` brings it up to date."
            if older
            else "It was made by another version of butler_dask, which reads it."
        )
        raise FormatVersionError(
            f"The registry {database.shown_url} has {name.replace('_', ' ')} "
            f"{found or 'unknown'}; this program reads {own}. {what}"
        )


def schema_differences(database: Database) -> list[str]:
    """Return how the tables there are differ from what the schema version says, one sentence each.

    Tables, columns (type, NULL allowed), primary keys and indexes are compared; tables the schema does not
    know are none of our business, as the database may be shared.
    """
    with database.read() as session:
        definitions = session.definitions
        expected = [
            *schema.whole_metadata().sorted_tables,
            *(t for g in definitions.groups.values() for t in (g.datasets, g.tags, g.calibs)),
        ]
        inspector = sa.inspect(session.connection)
        there = set(inspector.get_table_names())
        out: list[str] = []
        for table in sorted(expected, key=lambda t: t.name):
            if table.name in there:
                out += [f"table {table.name!r} {what}" for what in _differences(database, inspector, table)]
            else:
                out.append(f"table {table.name!r} is missing")
    return out


def _differences(database: Database, inspector: sa.Inspector, table: sa.Table) -> Iterator[str]:
    dialect = database.engine.dialect

    def form(type_: sa.types.TypeEngine[object]) -> str:
        # Reflected types carry the database's own spelling (BYTEA, VARCHAR); the affinity is what counts.
        generic = type_._type_affinity
        return str(generic.__name__) if generic is not None else type_.compile(dialect)

    found = {c["name"]: c for c in inspector.get_columns(table.name)}
    key = set(inspector.get_pk_constraint(table.name)["constrained_columns"])
    for column in table.columns:
        actual = found.pop(column.name, None)
        if actual is None:
            yield f"has no column {column.name!r}"
            continue
        wanted_type, actual_type = form(column.type.dialect_impl(dialect)), form(actual["type"])
        if wanted_type != actual_type:
            yield f"has column {column.name!r} of type {actual_type}, not {wanted_type}"
        if actual["nullable"] and not column.nullable and column.name not in key:
            yield f"allows NULL in column {column.name!r}"
        if not actual["nullable"] and column.nullable:
            yield f"allows no NULL in column {column.name!r}"
    for name in found:
        yield f"has a column {name!r} of which the schema knows nothing"
    wanted_key = {c.name for c in table.primary_key.columns}
    if key != wanted_key:
        yield f"has primary key ({', '.join(sorted(key))}), not ({', '.join(sorted(wanted_key))})"
    indexes = {i["name"] for i in inspector.get_indexes(table.name)}
    for index in table.indexes:
        if index.name not in indexes:
            yield f"has no index {index.name!r}"
