"""The database under adverse conditions: locks, dead connections, full disks, forks, finished threads."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from registry_records import BIAS, insert_records, put

from butler_dask import Butler
from butler_dask.butler.repository import Repository
from butler_dask.errors import MissingCollectionError, RepositoryBusyError, RepositoryError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.dataset import DatasetTable

pytest_plugins = ("registry_fixtures",)

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """File of a SQLite registry."""
    Registry.create(f"sqlite:///{tmp_path}/registry.sqlite3").close()
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def server_url(server: str) -> str:
    """URL of a PostgreSQL registry with dimension records."""
    with closing(Registry.create(server)) as registry:
        insert_records(registry)
    return server


def run_script(text: str, *arguments: object, options: tuple[str, ...] = (), **more) -> str:
    """Run a Python program; return what it printed. It must end well and complain of nothing."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(text), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        **more,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def names(registry: Registry) -> list[str]:
    return [info.name for info in registry.collections.query()]


# SQLite


def test_a_writer_waits_for_another_up_to_the_limit(file):
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as other,
        closing(Registry.open(f"sqlite:///{file}", lock_timeout_s=0.3)) as registry,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            RepositoryBusyError, match=r"locked by another program for 0\.3 s: .*lock_timeout_s"
        ):
            registry.collections.register("a")
        # Readers do not wait at all, and take no lock themselves.
        with registry.snapshot():
            assert names(registry) == []
            other.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")
        registry.collections.register("a")
        assert names(registry) == ["a"]


def test_the_limit_is_a_setting_of_the_repository(tmp_path):
    Butler.makeRepo(tmp_path / "REPO")
    config = tmp_path / "REPO" / "butler.yaml"
    text = config.read_text()
    config.write_text(text.replace("registry: {", "registry: {lock_timeout_s: 0.2, "))
    assert Repository.find(tmp_path / "REPO").lock_timeout_s == 0.2
    with (
        closing(sqlite3.connect(tmp_path / "REPO" / "registry.sqlite3", isolation_level=None)) as other,
        Butler(tmp_path / "REPO", writeable=True) as butler,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RepositoryBusyError, match=r"for 0\.2 s"):
            butler.collections.register("a")
    config.write_text(text.replace("registry: {", "registry: {lock_timeout_s: soon, "))
    with pytest.raises(RepositoryError, match="lock_timeout_s is 'soon'"):
        Butler(tmp_path / "REPO")


def test_connections_are_closed_with_their_threads(file):
    def open_files() -> int:
        # Of the log: the file itself SQLite keeps open, for later connections, while any connection is.
        wal = os.path.realpath(f"{file}-wal")
        count = 0
        for number in os.listdir("/proc/self/fd"):
            # Other threads close theirs meanwhile.
            with suppress(FileNotFoundError):
                count += os.readlink(f"/proc/self/fd/{number}") == wal
        return count

    with closing(Registry.open(f"sqlite:///{file}")) as registry:
        names(registry)
        before = open_files()
        barrier = threading.Barrier(20)

        def look():
            barrier.wait()
            names(registry)
            barrier.wait()
            return open_files()

        with ThreadPoolExecutor(20) as threads:
            during = list(threads.map(lambda _: look(), range(20)))
        assert max(during) > before
        assert open_files() == before
    assert open_files() == 0


def test_a_butler_nobody_closed_complains_of_nothing(tmp_path):
    Butler.makeRepo(tmp_path / "REPO")
    script = """
        import gc, sys, threading
        from butler_dask import Butler
        butler = Butler(sys.argv[1], writeable=True)
        butler.collections.register("a")
        thread = threading.Thread(target=lambda: butler.collections.query("*"))
        thread.start()
        thread.join()
        Butler(sys.argv[1]).collections.query("*")
        gc.collect()
        print(butler.collections.query("*"))
    """
    shown = run_script(script, tmp_path / "REPO", options=("-W", "always::ResourceWarning"))
    assert shown == "['a']\n"


def test_both_sides_of_a_fork_write_without_loss(file):
    # Had the child taken over what SQLite knows of the parent's locks, the parent, closing last as it
    # believes, would remove the log under the child's feet.
    script = """
        import os, sys
        from butler_dask.registry.registry import Registry
        registry = Registry.open(sys.argv[1])
        registry.collections.register("before")
        heard, told = os.pipe()
        if os.fork():
            registry.collections.register("parent")
            registry.close()
            os.write(told, b"x")
            os.wait()
            registry = Registry.open(sys.argv[1])
            print(sorted(c.name for c in registry.collections.query()))
        else:
            registry.collections.register("child")
            os.read(heard, 1)
            registry.collections.register("child, later".replace(", ", "_"))
            registry.close()
    """
    assert run_script(script, f"sqlite:///{file}") == "['before', 'child', 'child_later', 'parent']\n"


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(file):
    script = """
        import os, sys
        from butler_dask.registry.registry import Registry
        registry = Registry.open(sys.argv[1])
        with registry.transaction():
            registry.collections.register("parent")
            if os.fork() == 0:
                print([c.name for c in Registry.open(sys.argv[1]).collections.query()], flush=True)
                os._exit(0)
            os.wait()
        print([c.name for c in registry.collections.query()])
    """
    assert run_script(script, f"sqlite:///{file}") == "[]\n['parent']\n"


def test_a_directory_nobody_may_write_to_is_read_as_others_change_it():
    # Not below pytest's own directory, which only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        url = f"sqlite:///{directory}/registry.sqlite3"
        with closing(Registry.create(url)) as registry:
            registry.collections.register("a")
        directory.chmod(0o555)
        script = """
            import os, sys
            from butler_dask.errors import ReadOnlyRepositoryError
            from butler_dask.registry.registry import Registry
            Registry.create("sqlite://").collections.query()  # imports what another user may not
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            registry = Registry.open(sys.argv[1], writeable=False)
            for line in sys.stdin:
                print([c.name for c in registry.collections.query()], flush=True)
            try:
                Registry.open(sys.argv[1]).collections.register("z")
            except ReadOnlyRepositoryError as error:
                print("refused")
        """
        reader = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), url],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def seen() -> str:
            reader.stdin.write("look\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        try:
            assert seen() == "['a']"
            directory.chmod(0o755)
            registry = Registry.open(url)
            registry.collections.register("b")  # is in the log only
            assert seen() == "['a', 'b']"
            registry.collections.register("c")
            assert seen() == "['a', 'b', 'c']"
            registry.close()
            directory.chmod(0o555)
            assert seen() == "['a', 'b', 'c']"
            directory.chmod(0o755)
            with closing(Registry.open(url)) as registry:
                registry.collections.register("d")
            directory.chmod(0o555)
            assert seen() == "['a', 'b', 'c', 'd']"
            assert reader.communicate()[0] == "refused\n"
            assert reader.returncode == 0
        finally:
            reader.kill()
            reader.wait()
            directory.chmod(0o755)


def test_a_full_disk_is_one_clear_error_and_changes_nothing(file):
    # No file of the program may grow beyond a limit, which is what a full disk is to SQLite.
    script = """
        import resource, signal, sys
        from butler_dask.errors import ReadOnlyRepositoryError
        from butler_dask.registry.registry import Registry
        registry = Registry.open(sys.argv[1])
        registry.collections.register("a")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            with registry.transaction():
                for n in range(1000):
                    registry.collections.register(f"run{n}", doc="x" * 2000)
        except ReadOnlyRepositoryError as error:
            print("disk does not take a write" in str(error))
        print([c.name for c in registry.collections.query()])
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        registry.collections.register("b")
        print([c.name for c in registry.collections.query()])
    """
    assert run_script(script, f"sqlite:///{file}").splitlines() == ["True", "['a']", "['a', 'b']"]


def test_a_damaged_file_is_one_clear_error(file):
    with open(file, "r+b") as stream:
        size = stream.seek(0, 2)
        stream.seek(4096)
        stream.write(b"\x55" * (size - 4096))
    with pytest.raises(RepositoryError, match="is damaged: database disk image is malformed"):
        Registry.open(f"sqlite:///{file}")


def test_a_database_of_something_else_is_no_registry(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as connection:
        connection.execute("CREATE TABLE repository (colour TEXT)")
    with pytest.raises(RepositoryError, match="is not a registry"):
        Registry.open(f"sqlite:///{tmp_path}/other.sqlite3")


# PostgreSQL


@pytest.mark.postgresql
def test_a_deadlock_is_resolved_by_repeating_what_is_ours(server_url):
    instruments = {n: {"name": n, "class_name": "x"} for n in "AB"}
    with closing(Registry.open(server_url)) as first, closing(Registry.open(server_url)) as second:

        def both() -> None:
            second.records.insert("instrument", instruments.values(), skip_existing=True)

        with ThreadPoolExecutor(1) as thread:
            with first.transaction():
                first.records.insert("instrument", [instruments["B"]])
                waiting = thread.submit(both)  # has A, and waits for B
                _wait_for_lock(server_url)
                first.records.insert("instrument", [instruments["A"]], skip_existing=True)
            waiting.result(60)
        found = [r.get("name") for r in first.queries.records("instrument")]
        assert {"A", "B"} <= set(found)


@pytest.mark.postgresql
def test_a_deadlock_of_two_transactions_ends_one_with_a_clear_error(server_url):
    barrier = threading.Barrier(2)

    def insert(order: str) -> str:
        with closing(Registry.open(server_url)) as registry:
            try:
                with registry.transaction():
                    for n, name in enumerate(order):
                        registry.records.insert(
                            "instrument", [{"name": name, "class_name": order}], skip_existing=True
                        )
                        if n == 0:
                            barrier.wait(60)
            except RepositoryBusyError as error:
                return str(error)
            return "done"

    with ThreadPoolExecutor(2) as threads:
        out = sorted(threads.map(insert, ["AB", "BA"]))
    assert "deadlock detected" in out[0]
    assert "Nothing was changed" in out[0]
    assert out[1] == "done"


@pytest.mark.postgresql
def test_waiting_for_a_lock_ends_at_the_limit(server_url):
    with (
        closing(Registry.open(server_url)) as first,
        closing(Registry.open(server_url, lock_timeout_s=0.3)) as second,
        first.transaction(),
    ):
        first.collections.register("a")
        with pytest.raises(RepositoryBusyError, match=r"locked by another program for 0\.3 s"):
            second.collections.register("b")


@pytest.mark.postgresql
def test_connections_that_were_ended_are_replaced(server_url):
    with closing(Registry.open(server_url)) as registry:
        registry.collections.register("a")
        _end_connections(server_url)
        assert names(registry) == ["a"]
        _end_connections(server_url)
        registry.collections.register("b")

        def ended_inside() -> None:
            with registry.transaction():
                registry.collections.register("c")
                _end_connections(server_url)
                registry.collections.register("d")

        with pytest.raises(
            RepositoryBusyError, match=r"connection to the registry was lost.*Nothing was changed"
        ):
            ended_inside()

        def ended_while_reading() -> None:
            with registry.snapshot():
                _end_connections(server_url)
                names(registry)

        with pytest.raises(RepositoryBusyError, match="connection to the registry was lost"):
            ended_while_reading()
        assert names(registry) == ["a", "b"]


@pytest.mark.postgresql
def test_a_program_has_a_bounded_number_of_connections(server_url):
    with closing(Registry.open(server_url)) as registry:
        registry.dataset_types.register([BIAS])
        counts = [0]

        def work(n: int) -> None:
            # A thread holds one connection for its transaction; numbers of datasets come through another.
            with registry.transaction():
                put(registry, BIAS, f"run{n}", {"instrument": "HSC", "detector": 0})
            with registry.snapshot():
                time.sleep(0.5)

        with ThreadPoolExecutor(40) as threads:
            working = [threads.submit(work, n) for n in range(40)]
            while not all(w.done() for w in working):
                counts.append(len(_connections(server_url)))
            assert [w.result() for w in working] == [None] * 40
        # At most 16, and those that the server has not quite ended when others begin.
        assert 8 < max(counts) <= 24
        assert len(names(registry)) == 40


@pytest.mark.postgresql
def test_too_many_threads_wait_up_to_the_limit(server_url):
    with closing(Registry.open(server_url, lock_timeout_s=0.5)) as registry:
        barrier = threading.Barrier(20)

        def work(n: int) -> str:
            barrier.wait(60)
            try:
                with registry.snapshot():
                    time.sleep(2)
            except RepositoryBusyError as error:
                return str(error)
            return "read"

        with ThreadPoolExecutor(20) as threads:
            out = list(threads.map(work, range(20)))
    refused = [text for text in out if text != "read"]
    assert 0 < len(refused) < 20
    assert all("were in use for 0.5 s" in text for text in refused)


@pytest.mark.postgresql
def test_a_run_removed_meanwhile_takes_no_datasets(server_url):
    with closing(Registry.open(server_url)) as first, closing(Registry.open(server_url)) as second:
        table = put(first, BIAS, "other", {"instrument": "HSC", "detector": 0})
        table = DatasetTable.new(BIAS, table.data_ids, "doomed")
        first.collections.register("doomed")
        with ThreadPoolExecutor(1) as thread:
            with first.transaction():
                first.removal.remove_runs(["doomed"])
                waiting = thread.submit(second.inserts.insert, table)
                _wait_for_lock(server_url)
            with pytest.raises(MissingCollectionError, match="'doomed'"):
                waiting.result(60)


def _connections(url: str) -> list[int]:
    engine = sa.create_engine(sa.make_url(url).set(database="postgres"))
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s", (sa.make_url(url).database,)
        ).fetchall()
    engine.dispose()
    return [r[0] for r in rows]


def _end_connections(url: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (sa.make_url(url).database,),
        ).fetchall()
        deadline = time.monotonic() + 30
        while _connections(url) and time.monotonic() < deadline:
            time.sleep(0.02)
    engine.dispose()


def _wait_for_lock(url: str) -> None:
    """Wait until a connection to the database waits for a lock."""
    engine = sa.create_engine(sa.make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + 30
    with engine.connect() as connection:
        while time.monotonic() < deadline:
            rows = connection.exec_driver_sql(
                "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
                (sa.make_url(url).database,),
            ).fetchall()
            if rows:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("nobody waits for a lock")
    engine.dispose()
