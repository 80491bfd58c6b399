"""Migration: bring the tables of an older registry up to the present schema version.

Each version knows the step from the one before it, as SQL written out: a step must do the same for ever,
whatever the tables are called later. All steps of a registry are one transaction, on both kinds of database,
and the file of a SQLite registry is copied beside itself first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa

from ..errors import FormatVersionError, RepositoryError
from ..published_file import published_name
from ..vocabulary.dimension_definitions import UNIVERSE_VERSION
from . import schema
from .database import Database
from .schema_version import read_versions
from .session import Session


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """From one schema version to the next.

    Parameters
    ----------
    version : `int`
        The version it leads to.
    what : `str`
        What changes, for the user.
    apply : callable
        Changes the tables.
    """

    version: int
    what: str
    apply: Callable[[Session], None]


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What would bring a registry up to date.

    Parameters
    ----------
    url : `str`
        The registry, its password hidden.
    version : `int`
        Its schema version.
    steps : `tuple` [`MigrationStep`, ...]
        Steps to the present one; none if it is up to date.
    backup : `str`
        Copy that is made of a SQLite file before; empty for others.
    """

    url: str
    version: int
    steps: tuple[MigrationStep, ...]
    backup: str = ""

    def lines(self) -> list[str]:
        """Return the plan, a line a step."""
        if not self.steps:
            return [f"{self.url} is up to date: schema version {self.version}."]
        out = [f"{self.url} has schema version {self.version}."]
        if self.backup:
            out.append(f"It is copied to {self.backup}.")
        return out + [f"Version {step.version}: {step.what}." for step in self.steps]


def plan_migration(url: str) -> MigrationPlan:
    """Return what would bring a registry up to date.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL.

    Raises
    ------
    RepositoryError
        If there is no registry.
    FormatVersionError
        If it is newer than this program, or of a version no step leads from.
    """
    with closing(Database(url, writeable=False)) as database:
        return _plan(database)


def migrate(url: str) -> MigrationPlan:
    """Bring a registry up to date, all or nothing, and return what was done.

    Raises
    ------
    RepositoryError
        If there is no registry, the copy of its file cannot be made, or its tables are not what its version
        says.
    FormatVersionError
        If it is newer than this program, or of a version no step leads from.
    """
    with closing(Database(url)) as database:
        plan = _plan(database)
        if plan.backup:
            _copy_file(str(database.path), plan.backup)
        try:
            with database.write() as session:
                # Read again: another process may have been quicker.
                for step in _plan(database).steps:
                    step.apply(session)
                    session.fetch_sql(
                        "UPDATE repository SET value = ? WHERE name = 'schema_version' RETURNING value",
                        (str(step.version),),
                    )
        except sa.exc.DBAPIError as error:
            raise RepositoryError(
                f"The registry {plan.url} cannot be migrated: {error.orig}. Nothing was changed."
            ) from error
    return plan


def _plan(database: Database) -> MigrationPlan:
    where = database.shown_url
    values = read_versions(database)
    text = values.get("schema_version", "")
    version = int(text) if text.isdecimal() else 0
    if version > schema.SCHEMA_VERSION or values.get("universe_version") != str(UNIVERSE_VERSION):
        raise FormatVersionError(
            f"The registry {where} has schema version {text}, universe version "
            f"{values.get('universe_version')}; this program knows {schema.SCHEMA_VERSION} and "
            f"{UNIVERSE_VERSION}. A newer version of butler_dask made it, and reads it."
        )
    steps = tuple(s for s in STEPS if s.version > version)
    if len(steps) != schema.SCHEMA_VERSION - version:
        raise FormatVersionError(
            f"No way leads from schema version {text or 'unknown'} of the registry {where}."
        )
    backup = f"{database.path}.v{version}" if steps and database.path is not None else ""
    return MigrationPlan(where, version, steps, backup)


def _copy_file(path: str, backup: str) -> None:
    # SQLite's own copying includes what is in the log only, and sees one state while others write.
    try:
        with (
            published_name(backup) as temporary,
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(temporary)) as target,
        ):
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        raise RepositoryError(f"The copy {backup!r} of {path!r} cannot be made: {error}") from error


def _record_chain_changes(session: Session) -> None:
    # Version 1 kept the members after each change and Unix time; the latter is 37 s behind TAI.
    for sql in (
        "CREATE INDEX ix_chain_history_parent ON chain_history (parent)",
        "ALTER TABLE chain_history RENAME COLUMN children TO after",
        *(
            f"ALTER TABLE chain_history ADD COLUMN {name} VARCHAR NOT NULL DEFAULT ''"
            for name in ("who", "command", "mode", "before")
        ),
        "UPDATE chain_history SET changed_ns = changed_ns + 37000000000, mode = 'redefine', "
        "before = COALESCE((SELECT h.after FROM chain_history AS h WHERE h.parent = chain_history.parent "
        "AND h.id < chain_history.id ORDER BY h.id DESC LIMIT 1), '')",
    ):
        session.connection.exec_driver_sql(sql)


def _ask_what_is_recorded(session: Session) -> None:
    # Version 2 remembered which files were shared when they were recorded; others came to share them later.
    # It did not count what quanta wrote.
    for sql in (
        "DROP INDEX file_shared_path",
        "ALTER TABLE file DROP COLUMN shared",
        "CREATE INDEX file_path ON file (path)",
        "ALTER TABLE quantum ADD COLUMN n_outputs INTEGER NOT NULL DEFAULT -1",
    ):
        session.connection.exec_driver_sql(sql)


STEPS = (
    MigrationStep(2, "the history of chains says who changed them, and how", _record_chain_changes),
    MigrationStep(
        3, "shared files are known by their path, and what quanta wrote is counted", _ask_what_is_recorded
    ),
)
"""All steps, in order."""
