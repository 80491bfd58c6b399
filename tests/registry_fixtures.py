"""Fixtures: a registry on each kind of database."""

import gzip
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from registry_records import insert_records

from butler_dask.registry.registry import Registry

SERVER = os.environ.get("BUTLER_DASK_TEST_POSTGRESQL", "")
"""URL of a PostgreSQL server whose user may create databases; tests use SQLite alone where it is not set."""


def new_url(kind: str, directory: Path, locale: str = "") -> str:
    """Return the URL of an empty database; a server's may be one that orders strings as a language does."""
    if kind == "sqlite":
        return f"sqlite:///{directory / 'registry.sqlite3'}"
    name = f"butler_{uuid.uuid4().hex}"
    engine = sa.create_engine(sa.make_url(SERVER), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        ordered = f" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE '{locale}'" if locale else ""
        connection.exec_driver_sql(f"CREATE DATABASE {name}{ordered}")
    engine.dispose()
    return sa.make_url(SERVER).set(database=name).render_as_string(hide_password=False)


def drop(url: str) -> None:
    """Remove a PostgreSQL database made by `new_url`."""
    if url.startswith("sqlite"):
        return
    engine = sa.create_engine(sa.make_url(SERVER), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")
    engine.dispose()


_kinds = [pytest.param("postgresql", marks=pytest.mark.postgresql)] if SERVER else []


@pytest.fixture(params=["sqlite", *_kinds])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of the database that the registry of a test is in, empty at first."""
    url = new_url(request.param, tmp_path)
    yield url
    drop(url)


@pytest.fixture
def empty_registry(registry_url: str) -> Iterator[Registry]:
    """Registry without records."""
    registry = Registry.create(registry_url)
    yield registry
    registry.close()


@pytest.fixture(scope="module", params=["sqlite", *_kinds])
def module_registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """Registry without records, for all tests of a module."""
    url = new_url(request.param, tmp_path_factory.mktemp("registry"))
    registry = Registry.create(url)
    yield registry
    registry.close()
    drop(url)


@pytest.fixture(params=["sqlite", *_kinds])
def english_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """Registry without records, on a server in a database that orders strings as English dictionaries do."""
    url = new_url(request.param, tmp_path, locale="en-US")
    registry = Registry.create(url)
    yield registry
    registry.close()
    drop(url)


@pytest.fixture
def registry(empty_registry: Registry) -> Registry:
    """Registry with the dimension records."""
    insert_records(empty_registry)
    return empty_registry


@pytest.fixture
def server() -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    if not SERVER:
        pytest.skip("no PostgreSQL server is named by BUTLER_DASK_TEST_POSTGRESQL")
    url = new_url("postgresql", Path())
    yield url
    drop(url)


@pytest.fixture
def old_server(server: str) -> str:
    """URL of a PostgreSQL registry of schema version 1."""
    engine = sa.create_engine(server)
    dump = Path(__file__).parent / "data" / "registry_v1_postgresql.sql.gz"
    with engine.begin() as connection:
        connection.exec_driver_sql(gzip.decompress(dump.read_bytes()).decode())
    engine.dispose()
    return server
