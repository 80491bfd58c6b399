"""An old registry is brought up to date, completely or not at all; what differs from the schema is told."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Commands

from butler_dask import Butler
from butler_dask.errors import FormatVersionError, RepositoryError
from butler_dask.registry.migration import migrate, plan_migration
from butler_dask.registry.registry import Registry
from butler_dask.registry.schema import SCHEMA_VERSION

pytest_plugins = ("registry_fixtures",)

DATA = Path(__file__).parent / "data"


@pytest.fixture
def old_repository(tmp_path: Path) -> Path:
    """Repository of schema version 1, as the version 0.1.0 in development wrote it."""
    with tarfile.open(DATA / "repository_v1.tar.gz") as archive:
        archive.extractall(tmp_path / "REPO", filter="data")
    return tmp_path / "REPO"


def registry_url(repository: Path) -> str:
    return f"sqlite:///{repository / 'registry.sqlite3'}"


def set_version(repository: Path, version: str) -> None:
    with closing(sqlite3.connect(repository / "registry.sqlite3")) as connection, connection:
        connection.execute("UPDATE repository SET value = ? WHERE name = 'schema_version'", (version,))


def test_an_old_repository_is_refused_until_it_is_migrated(old_repository: Path) -> None:
    with pytest.raises(FormatVersionError, match=r"schema version 1; .* reads 3\. `butler migrate REPO`"):
        Butler(old_repository)
    commands = Commands(old_repository.parent)
    assert "schema version 1" in commands("butler", "query-collections", "REPO", code=1).stderr
    planned = commands("butler", "migrate", "REPO", "--dry-run").stdout
    assert "Nothing was changed" in planned
    assert not (old_repository / "registry.sqlite3.v1").exists()
    assert "Done." in commands("butler", "migrate", "REPO").stdout
    assert "up to date" in commands("butler", "migrate", "REPO").stdout
    assert "0 missing or damaged, 0 not recorded" in commands("butler", "check", "REPO", "--checksums").stdout


def check_content(registry: Registry) -> None:
    chain = registry.collections.chain_history("u/me/1")
    assert [(c.mode, c.before, c.after) for c in chain] == [
        ("redefine", (), ("u/me/1/a", "HSC/defaults")),
        ("redefine", ("u/me/1/a", "HSC/defaults"), ("u/me/1/b", "u/me/1/a", "HSC/defaults")),
    ]
    assert all(c.isot.startswith("2026-11-22T21:") and c.who == "" for c in chain)
    assert len(registry.queries.datasets("metric", "u/me/1")) == 6
    assert len(registry.queries.datasets("metric", "u/me/1", find_first=False)) == 7
    assert len(registry.associations.query("bias", "HSC/calib")) == 6
    assert len(registry.queries.datasets("metric", "tagged")) == 3
    assert len(registry.quanta.query("u/me/1/a")) == 1
    assert registry.schema_differences() == []


def test_a_migrated_repository_has_all_it_had_and_takes_more(old_repository: Path) -> None:
    versions = list(range(2, SCHEMA_VERSION + 1))
    assert [step.version for step in migrate(registry_url(old_repository)).steps] == versions
    with Butler(old_repository, writeable=True, run="u/me/2") as butler:
        check_content(butler.repository.registry)
        for ref in butler.query_datasets("metric", "u/me/1"):
            run = ref.run.rpartition("/")[2]
            expected = {"v": ref.dataId["visit"], "d": ref.dataId["detector"], "run": run}
            assert butler.get(ref) == expected | ({"v": 903344} if run == "b" else {})
        butler.put({"new": 1}, "metric", instrument="HSC", visit=903334, detector=5)
        butler.collections.prepend_chain("u/me/1", "u/me/2")
        assert butler.collections.undo("u/me/1", 2) == ("u/me/1/a", "HSC/defaults")
    with closing(sqlite3.connect(old_repository / "registry.sqlite3.v1")) as backup:
        assert backup.execute("SELECT count(*) FROM chain_history").fetchone() == (3,)
        assert backup.execute("SELECT value FROM repository WHERE name = 'schema_version'").fetchone() == (
            "1",
        )


@pytest.mark.postgresql
def test_a_migrated_postgresql_registry_has_all_it_had(old_server: str) -> None:
    with pytest.raises(FormatVersionError, match="butler migrate"):
        Registry.open(old_server)
    assert len(plan_migration(old_server).steps) == SCHEMA_VERSION - 1
    migrate(old_server)
    with closing(Registry.open(old_server)) as registry:
        check_content(registry)
        registry.collections.register("u/me/3")
        registry.collections.prepend_chain("u/me/1", ["u/me/3"])
        assert registry.collections.undo_chain("u/me/1", 2) == ("u/me/1/a", "HSC/defaults")


def test_a_migration_that_fails_half_way_changes_nothing(old_repository: Path) -> None:
    with closing(sqlite3.connect(old_repository / "registry.sqlite3")) as connection:
        connection.execute("ALTER TABLE chain_history ADD COLUMN mode VARCHAR")  # the step will stumble here
        before = "\n".join(connection.iterdump())
    with pytest.raises(RepositoryError, match="duplicate column"):
        migrate(registry_url(old_repository))
    with closing(sqlite3.connect(old_repository / "registry.sqlite3")) as connection:
        assert "\n".join(connection.iterdump()) == before


def test_a_newer_registry_is_neither_opened_nor_migrated(old_repository: Path) -> None:
    set_version(old_repository, "999")
    commands = Commands(old_repository.parent)
    assert "another version of butler_dask" in commands("butler", "query-collections", "REPO", code=1).stderr
    assert "newer version of butler_dask" in commands("butler", "migrate", "REPO", code=1).stderr
    set_version(old_repository, "?")
    assert "No way leads" in commands("butler", "migrate", "REPO", code=1).stderr


def test_check_tells_how_tables_differ_from_the_schema(old_repository: Path) -> None:
    migrate(registry_url(old_repository))
    with closing(sqlite3.connect(old_repository / "registry.sqlite3")) as connection:
        for sql in (
            "DROP INDEX ix_chain_history_parent",
            "ALTER TABLE collection DROP COLUMN doc",
            "ALTER TABLE collection ADD COLUMN colour VARCHAR",
            "DROP TABLE pending_deletion",
            "CREATE TABLE pending_deletion (path INTEGER)",
            "DROP TABLE tag_1",
            "CREATE TABLE somebody_elses (x INTEGER)",
        ):
            connection.execute(sql)
        connection.execute("ALTER TABLE collection ADD COLUMN doc VARCHAR NOT NULL DEFAULT ''")
    with closing(Registry.open(registry_url(old_repository))) as registry:
        found = registry.schema_differences()
    assert found == [
        "table 'chain_history' has no index 'ix_chain_history_parent'",
        "table 'collection' has a column 'colour' of which the schema knows nothing",
        "table 'pending_deletion' has column 'path' of type Integer, not String",
        "table 'pending_deletion' allows NULL in column 'path'",
        "table 'pending_deletion' has primary key (), not (path)",
        "table 'tag_1' is missing",
    ]
    report = Commands(old_repository.parent)("butler", "check", "REPO", code=1).stdout
    assert "schema: table 'tag_1' is missing" in report


def test_a_new_registry_is_as_its_schema_says(registry: Registry) -> None:
    assert registry.schema_differences() == []
