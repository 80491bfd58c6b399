"""Every change of a chain is remembered, with who made it and how, and can be taken back."""

import getpass
import json
import re
import socket
from contextlib import closing

import pytest
from command_line import Commands

from butler_dask import Butler
from butler_dask.errors import CollectionError, CollectionTypeError, MissingCollectionError
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.timespan import tai_now_ns

pytest_plugins = ("registry_fixtures",)


@pytest.fixture
def chained(empty_registry):
    """Registry with RUNs a, b, c and an empty chain."""
    for name in "abc":
        empty_registry.collections.register(name)
    empty_registry.collections.register("chain", CollectionType.CHAINED)
    return empty_registry


def modes(registry, name="chain"):
    return [(c.mode, "".join(c.before), "".join(c.after)) for c in registry.collections.chain_history(name)]


def test_every_way_to_change_a_chain_is_recorded(chained, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/reduce.py", "--night", "2020 10 13"])
    begin = tai_now_ns()
    chained.collections.set_chain("chain", ["a"])
    chained.collections.extend_chain("chain", ["b"])
    chained.collections.prepend_chain("chain", ["c"])
    chained.collections.remove_from_chain("chain", ["a"])
    chained.removal.remove_runs(["c"], unlink_from_chains=True)
    assert modes(chained) == [
        ("register", "", ""),
        ("redefine", "", "a"),
        ("extend", "a", "ab"),
        ("prepend", "ab", "cab"),
        ("remove", "cab", "cb"),
        ("remove", "cb", "b"),
    ]
    last = chained.collections.chain_history("chain")[-1]
    assert last.who == f"{getpass.getuser()}@{socket.gethostname()}"
    assert last.command == "reduce --night '2020 10 13'"
    assert begin <= last.changed_ns <= tai_now_ns()
    assert (last.added, last.removed) == ((), ("c",))
    assert last.time.scale == "tai"
    assert last.time.isot == last.isot


def test_a_change_that_changes_nothing_is_not_recorded(chained):
    chained.collections.set_chain("chain", ["a", "b"])
    chained.collections.set_chain("chain", ["a", "b"])
    chained.collections.remove_from_chain("chain", ["c"])
    assert [m for m, _, _ in modes(chained)] == ["register", "redefine"]


def test_what_a_transaction_took_back_is_not_in_the_history(chained):
    def fail():
        with chained.transaction():
            chained.collections.set_chain("chain", ["a"])
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert [m for m, _, _ in modes(chained)] == ["register"]


def test_undo_goes_back_and_is_a_change_itself(chained):
    for children in ("a", "ab", "cab"):
        chained.collections.set_chain("chain", list(children))
    assert chained.collections.undo_chain("chain") == ("a", "b")
    assert chained.collections.get("chain").children == ("a", "b")
    assert chained.collections.undo_chain("chain") == ("c", "a", "b")
    assert chained.collections.undo_chain("chain", 4) == ("a",)
    assert modes(chained)[-1] == ("undo", "cab", "a")
    with pytest.raises(CollectionError, match="has 7 recorded changes; 8 cannot"):
        chained.collections.undo_chain("chain", 8)
    with pytest.raises(CollectionError, match="0 changes"):
        chained.collections.undo_chain("chain", 0)


def test_undo_refuses_when_a_member_is_gone(chained):
    chained.collections.set_chain("chain", ["a", "b", "c"])
    chained.collections.set_chain("chain", ["c"])
    chained.removal.remove("a")
    chained.removal.remove("b")
    with pytest.raises(
        MissingCollectionError, match=r"'a', 'b', which no longer exist\. Nothing was changed"
    ):
        chained.collections.undo_chain("chain")
    assert chained.collections.get("chain").children == ("c",)
    assert [m for m, _, _ in modes(chained)] == ["register", "redefine", "redefine"]


def test_history_outlives_the_chain(chained):
    chained.collections.set_chain("chain", ["a", "b"])
    chained.removal.remove("chain")
    assert modes(chained)[-1] == ("delete", "ab", "")
    with pytest.raises(MissingCollectionError):
        chained.collections.undo_chain("chain")
    chained.collections.register("chain", CollectionType.CHAINED)
    assert chained.collections.undo_chain("chain", 2) == ("a", "b")


def test_what_is_no_chain_has_no_history(chained):
    with pytest.raises(CollectionTypeError):
        chained.collections.chain_history("a")
    with pytest.raises(MissingCollectionError, match="Did you mean 'chain'"):
        chained.collections.chain_history("chian")
    with pytest.raises(CollectionTypeError):
        chained.collections.undo_chain("a")


def test_passwords_are_not_kept(chained, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/butler", "x", "postgresql://me:secret@host/db", "a b"])
    chained.collections.set_chain("chain", ["a"])
    assert (
        chained.collections.chain_history("chain")[-1].command == "butler x postgresql://me:***@host/db 'a b'"
    )


def test_commands_show_and_undo(tmp_path):
    commands = Commands(tmp_path)
    commands("butler", "create", "REPO")
    with Butler(tmp_path / "REPO", writeable=True) as butler:
        for name in ("a", "b", "c"):
            butler.collections.register(name)
    commands("butler", "collection-chain", "REPO", "chain", "a", "b")
    commands("butler", "collection-chain", "REPO", "chain", "c", "--mode", "prepend")
    assert commands("butler", "collection-chain", "REPO", "chain", "--undo").stdout == "[a, b]\n"
    table = commands("butler", "collection-chain", "REPO", "chain", "--history").stdout.strip().splitlines()
    assert " ".join(table[0].split()) == "undo time (TAI) who mode added removed members command"
    assert re.match(r"1 +\d{4}-\d\d-\d\dT[\d:.]+ \S+@\S+ +undo +c +a,b +butler collection-chain", table[2])
    rows = json.loads(
        commands("butler", "collection-chain", "REPO", "chain", "--history", "--format", "json").stdout
    )
    assert [r["mode"] for r in rows] == ["undo", "prepend", "redefine", "register"]
    assert rows[1]["command"] == "butler collection-chain REPO chain c --mode prepend"
    assert commands("butler", "collection-chain", "REPO", "chain", "--undo", "2").stdout == "[a, b]\n"
    assert commands("butler", "collection-chain", "REPO", "chain", "--undo=1").stdout == "[c, a, b]\n"
    commands("butler", "remove-runs", "REPO", "c", "--no-confirm", "--force")
    refused = commands("butler", "collection-chain", "REPO", "chain", "--undo", code=1).stderr
    assert "'c', which no longer exists" in refused
    commands("butler", "collection-chain", "REPO", "chain", "a", "--history", code=2)
    commands("butler", "collection-chain", "REPO", "chain", "--undo", "0", code=2)
    with Butler(tmp_path / "REPO") as butler:
        assert butler.collections.chain_history("chain")[-1].mode == "remove"


def test_what_a_run_replaced_is_in_the_history(commands: Commands):
    run = ("pipetask", "run", "-b", "DATA", "-p", "pipelines/example.yaml#isr", "-o", "u/me/history")
    where = ("-d", "instrument='HSC' AND exposure=903344 AND detector=5")
    commands(*run, "-i", "HSC/defaults", *where)
    with Butler(commands.directory / "DATA") as butler:
        first = butler.collections.get_info("u/me/history").children
    commands(*run, "--replace-run", *where)
    with Butler(commands.directory / "DATA", writeable=True) as butler:
        second = butler.collections.get_info("u/me/history").children
        (change,) = butler.collections.chain_history("u/me/history")[-1:]
        assert (change.before, change.after, change.removed) == (first, second, first[:1])
        assert change.command.startswith("pipetask run -b DATA")
        assert "--replace-run" in change.command
        assert butler.collections.undo("u/me/history") == first
    commands(*run, "--rebase", "-i", "HSC/raw/all,HSC/calib,refcats,skymaps", *where)
    with closing(Registry.open(f"sqlite:///{commands.directory / 'DATA/registry.sqlite3'}")) as registry:
        change = registry.collections.chain_history("u/me/history")[-1]
        assert change.before == first
        assert "--rebase" in change.command
