"""Schema version: make the tables of a registry, and tell whether those of another time can be used."""

from __future__ import annotations

import sqlalchemy as sa

from ..errors import FormatVersionError, RepositoryError
from ..vocabulary.dimensions import UNIVERSE_VERSION
from . import schema
from .database import Database


def create_tables(database: Database) -> None:
    """Make the tables of a new registry.

    Raises
    ------
    RepositoryError
        If there is a registry already.
    """
    database.create_log()
    with database.write() as connection:
        if sa.inspect(connection).has_table(schema.repository.name):
            raise RepositoryError(f"{database.url.render_as_string()} has a registry already")
        schema.metadata.create_all(connection)
        database.insert(
            connection,
            schema.repository,
            ("name", "value"),
            [("schema_version", str(schema.SCHEMA_VERSION)), ("universe_version", str(UNIVERSE_VERSION))],
        )
        database.insert(connection, schema.counter, ("name", "value"), [("definitions", 0), ("dataset", 0)])


def check_versions(database: Database) -> None:
    """Check that the tables are those this program knows.

    Raises
    ------
    RepositoryError
        If there is no registry.
    FormatVersionError
        If its tables are of another version than this program's.
    """
    where = database.url.render_as_string()
    try:
        with database.read() as connection:
            values = dict(database.fetch_sql(connection, "SELECT name, value FROM repository"))
    except RepositoryError:
        raise
    except Exception as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            raise RepositoryError(f"{where} is not a registry") from error
        if "not a database" in str(error):
            raise RepositoryError(f"{where} is not a registry: {error}") from error
        raise
    for name, own in (("schema_version", schema.SCHEMA_VERSION), ("universe_version", UNIVERSE_VERSION)):
        if values.get(name) != str(own):
            raise FormatVersionError(
                f"The registry {where} has {name.replace('_', ' ')} {values.get(name)}; "
                f"this program reads {own}."
            )
