"""Fixtures: a registry on each kind of database."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from registry_records import insert_records

from butler_dask.registry.registry import Registry


def new_url(kind: str, directory: Path) -> str:
    """Return the URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite:///{directory / 'registry.sqlite3'}"
    server = os.environ.get("BUTLER_DASK_TEST_POSTGRESQL")
    if not server:
        pytest.skip("BUTLER_DASK_TEST_POSTGRESQL is not set to the URL of a server")
    name = f"butler_{uuid.uuid4().hex}"
    engine = sa.create_engine(sa.make_url(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


def drop(url: str) -> None:
    """Remove a PostgreSQL database made by `new_url`."""
    if url.startswith("sqlite"):
        return
    server = os.environ["BUTLER_DASK_TEST_POSTGRESQL"]
    engine = sa.create_engine(sa.make_url(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """Registry without records."""
    url = new_url(request.param, tmp_path)
    registry = Registry.create(url)
    yield registry
    registry.close()
    drop(url)


@pytest.fixture
def registry(empty_registry: Registry) -> Registry:
    """Registry with the dimension records."""
    insert_records(empty_registry)
    return empty_registry
