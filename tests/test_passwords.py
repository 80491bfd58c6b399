"""Passwords of databases: who may read them, where they are shown, and how to keep them elsewhere."""

import logging
import os
import stat
from contextlib import closing

import pytest
import sqlalchemy as sa
import yaml

from butler_dask import Butler, Repository
from butler_dask.butler.settings_document import full_settings
from butler_dask.errors import RepositoryError
from butler_dask.registry.database import Database
from butler_dask.registry.database_url import has_password, without_password
from butler_dask.registry.registry import Registry

pytest_plugins = ("registry_fixtures",)

URL = "postgresql+psycopg://me:s3cret@localhost/db"


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "postgresql://:s3cret@host/db",
        "postgresql://me@host/db?password=s3cret&x=1",
        "x://me:s3@cret@host/db",
    ],
)
def test_password_of_a_url_is_found_and_hidden(url):
    assert has_password(url)
    assert "cret" not in without_password(url)
    assert not has_password(without_password(url).replace(":***", "").replace("password=***", ""))
    with pytest.raises(RepositoryError) as caught:
        Database(url.replace("/db", ":port/db"))
    assert "cret" not in str(caught.value)


def test_url_without_password_stays_as_it_is():
    for url in (
        "sqlite:////a/b.sqlite3",
        "postgresql+psycopg://me@host:5432/db",
        "postgresql://?service=x",
        "",
    ):
        assert without_password(url) == url
        assert not has_password(url)


def test_configuration_with_a_password_is_for_its_owner_alone(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Registry, "create", classmethod(lambda cls, url: Registry.__new__(Registry)))
    monkeypatch.setattr(Registry, "close", lambda self: None)
    old = os.umask(0o022)
    try:
        for name, url in (("OPEN", "postgresql+psycopg://me@localhost/db"), ("SECRET", URL)):
            Repository.create(tmp_path / name, registry=url)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "OPEN/butler.yaml").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "SECRET/butler.yaml").stat().st_mode) == 0o600
    assert "pgpass" in caplog.text
    assert "s3cret" not in caplog.text
    caplog.clear()
    Repository.find(tmp_path / "SECRET")
    assert not caplog.text
    (tmp_path / "SECRET/butler.yaml").chmod(0o640)
    with caplog.at_level(logging.WARNING):
        repository = Repository.find(tmp_path / "SECRET")
    assert "others may read it" in caplog.text
    assert "s3cret" not in str(full_settings(repository))


def _service(tmp_path, monkeypatch, url, **more):
    """Put where a database is into a service file, and name the file in the environment."""
    parts = sa.make_url(url)
    given = {"host": parts.host or parts.query.get("host"), "port": parts.port, "user": parts.username}
    given |= {"dbname": parts.database, **more}
    lines = [f"{key}={value}\n" for key, value in given.items() if value is not None]
    (tmp_path / "services").write_text("[butler]\n" + "".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    return given


def _used_password(url):
    engine = sa.create_engine(sa.make_url(url))
    with engine.connect() as connection:
        found = connection.connection.dbapi_connection.info.password
    engine.dispose()
    return found


@pytest.mark.postgresql
def test_service_file_and_environment_say_where_the_registry_is(server, tmp_path, monkeypatch):
    given = _service(tmp_path, monkeypatch, server)
    Butler.makeRepo(tmp_path / "R", registry="postgresql+psycopg://?service=butler")
    text = (tmp_path / "R/butler.yaml").read_text()
    assert yaml.safe_load(text)["registry"]["url"] == "postgresql+psycopg://?service=butler"
    with Butler(tmp_path / "R", run="r") as butler:
        assert butler.collections.query("*") == ["r"]
    monkeypatch.delenv("PGSERVICEFILE")
    for key, name in (("host", "PGHOST"), ("user", "PGUSER"), ("dbname", "PGDATABASE"), ("port", "PGPORT")):
        if given[key] is not None:
            monkeypatch.setenv(name, str(given[key]))
    with closing(Repository("/nowhere", "postgresql+psycopg://").open_registry(writeable=False)) as registry:
        assert registry.collections.get("r").name == "r"


@pytest.mark.postgresql
def test_password_file_and_environment_give_the_password(server, tmp_path, monkeypatch):
    (tmp_path / "pgpass").write_text("*:*:*:*:from-file\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    assert _used_password(server) == "from-file"
    monkeypatch.setenv("PGPASSWORD", "from-environment")
    assert _used_password(server) == "from-environment"
