"""What `butler query-...` and the commands of collections and configurations print, and how they end."""

import json

import pytest
import yaml
from small_repository import NEW, OLD, add_two_runs, make_repository

from butler_dask import Butler, CollectionType, Timespan


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a repository with two runs in a chain, itself in a chain, and tagged and certified datasets."""
    root = make_repository(tmp_path_factory.mktemp("query") / "DATA")
    with Butler(root, writeable=True) as butler:
        add_two_runs(butler)
        butler.collections.register("HSC/calib/biases")
        bias = butler.put({"b": 1}, "bias", instrument="HSC", detector=1, run="HSC/calib/biases")
        butler.registry.certify("HSC/calib", [bias], Timespan(None, None))
        for chain, members in (("u/me/1", [NEW, OLD, "HSC/calib"]), ("all", ["u/me/1", "tagged"])):
            butler.collections.register(chain, CollectionType.CHAINED)
            butler.collections.redefine_chain(chain, members)
    return root


def words(text: str) -> list[list[str]]:
    """Return the words of each line that is neither empty nor a rule."""
    return [line.split() for line in text.splitlines() if line.strip(" -")]


def test_collections_are_lines_a_tree_tables_and_json(root, butler_command):
    lines = butler_command("query-collections", root, "u/*").splitlines()
    assert lines == [
        "collections:",
        "- u/me/1/old  RUN",
        "- u/me/1/new  RUN",
        "- u/me/1      CHAINED",
    ]
    assert butler_command(
        "query-collections", root, "--flatten-chains", "all", "--format", "list"
    ).split() == [*(NEW, OLD, "HSC/calib", "tagged")]
    tree = words(butler_command("query-collections", root, "all", "--chains", "tree", "-t"))
    assert tree[1:] == [
        ["all", "CHAINED"],
        ["u/me/1", "CHAINED"],
        [NEW, "RUN", "metric"],
        [OLD, "RUN", "metric"],
        ["HSC/calib", "CALIBRATION", "bias"],
        ["tagged", "TAGGED", "metric"],
    ]
    table = words(butler_command("query-collections", root, "u/me/1", "--chains", "table"))
    assert table == [
        ["Name", "Type", "Children"],
        ["u/me/1", "CHAINED", NEW],
        [OLD],
        ["HSC/calib"],
    ]
    inverse = words(butler_command("query-collections", root, OLD, "--chains", "inverse-tree"))
    assert inverse == [["Name", "Type"], [OLD, "RUN"], ["u/me/1", "CHAINED"], ["all", "CHAINED"]]
    (document,) = json.loads(butler_command("query-collections", root, "u/me/1", "--format", "json"))
    assert document["children"] == [NEW, OLD, "HSC/calib"]


def test_no_collection_that_matches_is_said_and_an_unknown_name_is_an_error(root, butler_command):
    assert butler_command("query-collections", root, "v/*") == "collections:\n"
    assert "No collection matches 'v/*'" in butler_command.errors
    butler_command("query-collections", root, "u/me/2", code=1)
    assert "No collection 'u/me/2'. Did you mean 'u/me/1'?" in butler_command.errors
    butler_command("query-collections", root, "--collection-type", "RUNS", code=1)
    assert "Did you mean 'RUN'?" in butler_command.errors


def test_datasets_of_several_types_have_a_table_each(root, butler_command):
    text = butler_command("query-datasets", root, "--collections", "all")
    assert text.startswith("\n")
    rows = words(text)
    assert rows[0] == ["type", "run", "id", "instrument", "detector"]
    assert [r[0] for r in rows].count("type") == 2
    assert [r[0] for r in rows].count("metric") == 12
    first = words(butler_command("query-datasets", root, "metric", "--collections", "all", "--find-first"))
    assert {r[1] for r in first[1:]} == {NEW}


def test_limit_counts_over_all_types_and_warns_where_it_is_negative(root, butler_command):
    text = butler_command("query-datasets", root, "--collections", "all", "--limit", "-3")
    assert len(words(text)) == 2 + 3
    assert "More datasets are there than the 3 shown" in butler_command.errors
    whole = butler_command("query-datasets", root, "metric", "--collections", OLD, "--format", "list").split()
    part = butler_command(
        *("query-datasets", root, "metric", "--collections", OLD, "--format", "list"),
        *("--offset", 2, "--limit", 3),
    )
    assert part.split() == whole[2:5]


def test_json_is_one_document(root, butler_command):
    found = json.loads(
        butler_command("query-datasets", root, "metric", "bias", "--show-uri", "--format", "json")
    )
    assert len(found) == 13
    assert all(row["URI"].startswith("file://") for row in found)
    assert json.loads(butler_command("query-datasets", root, "src*", "--format", "json")) == []
    records = json.loads(butler_command("query-dimension-records", root, "visit", "--format", "json"))
    assert records[0]["timespan"]["begin"].startswith("2013-06-17T13:30:00")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("src", "--collections", OLD), 1, "'src'"),
        (("metric", "--where", "instrument='HSC' AND visit=1"), 1, "visit"),
        (("sr*", "--collections", OLD), 0, "src"),
        (("metrc",), 1, "Did you mean 'metric'?"),
        (("metric", "--find-first"), 1, "--collections"),
    ],
)
def test_no_dataset_gives_the_reason(root, butler_command, arguments, code, reason):
    assert butler_command("query-datasets", root, *arguments, code=code) == ""
    assert reason in butler_command.errors


def test_data_ids_are_those_of_datasets_where_these_are_named(root, butler_command):
    rows = words(butler_command("query-data-ids", root, "--datasets", "met*", "--collections", "tagged"))
    assert rows[0][:3] == ["instrument", "detector", "visit"]
    assert len(rows) == 1 + 3
    assert len(words(butler_command("query-data-ids", root, "visit", "--offset", 1))) == 1 + 2
    assert butler_command("query-data-ids", root, "visit", "--where", "instrument='HSC' AND visit=1") == ""
    assert butler_command.errors
    assert butler_command("query-data-ids", root) == ""
    assert "No data ID without dimensions" in butler_command.errors


def test_records_are_limited_to_those_with_datasets(root, butler_command):
    rows = words(
        butler_command(
            "query-dimension-records", root, "detector", "--datasets", "metric", "--collections", OLD
        )
    )
    assert [r[1] for r in rows[1:]] == ["1", "2"]


def test_dataset_types_are_found_by_glob_and_collection(root, butler_command):
    assert butler_command("query-dataset-types", root, "*a*", "--format", "list").split() == [
        *("bias", "calexp", "flat", "raw", "summary")
    ]
    rows = words(butler_command("query-dataset-types", root, "--collections", "all", "-v"))
    assert [r[0] for r in rows[1:]] == ["bias", "metric"]
    assert butler_command("query-dataset-types", root, "metrc") == ""
    assert "Did you mean 'metric'?" in butler_command.errors


def test_a_query_is_explained_on_standard_error(root, butler_command):
    butler_command(
        "query-datasets", root, "metric", "--collections", OLD, "--format", "json", "--explain-query"
    )
    assert "SELECT" in butler_command.errors
    assert "rows in" in butler_command.errors


def test_options_come_from_files_and_what_is_typed_wins(root, butler_command, tmp_path):
    options, arguments = tmp_path / "options.yaml", tmp_path / "arguments"
    options.write_text(
        yaml.safe_dump({"query-datasets": {"collections": [OLD], "format": "list", "limit": 2}})
    )
    arguments.write_text(f"metric  # the type\n--collections '{NEW}'\n")
    assert len(butler_command("query-datasets", root, "metric", "-@", options).split()) == 2
    assert len(butler_command("query-datasets", root, "metric", "-@", options, "--limit", 5).split()) == 5
    rows = words(butler_command("query-datasets", root, f"@{arguments}"))
    assert {r[1] for r in rows[1:]} == {NEW}
    options.write_text(yaml.safe_dump({"query-datasets": {"colections": [OLD]}}))
    butler_command("query-datasets", root, "-@", options, code=2)
    assert "Did you mean 'collections'?" in butler_command.errors


def test_configuration_is_printed_in_whole_and_in_part(root, butler_command):
    assert yaml.safe_load(butler_command("config-dump", root))["datastore"]["root"] == str(root)
    assert butler_command("config-dump", root, "--subset", ".datastore.root").strip() == str(root)
    butler_command("config-dump", root, "--subset", ".datastor", code=1)
    assert "Did you mean 'datastore'?" in butler_command.errors
    assert "No problems" in butler_command("config-validate", root)


def test_seed_configuration_says_how_files_are_kept_and_only_with_override_where(butler_command, tmp_path):
    seed = tmp_path / "seed.yaml"
    elsewhere = str(tmp_path / "elsewhere")
    seed.write_text(yaml.safe_dump({"datastore": {"durability": "fsync", "root": elsewhere}}))
    butler_command("create", tmp_path / "one", "--seed-config", seed)
    butler_command("create", tmp_path / "two", "--seed-config", seed, "--override")
    one, two = (
        yaml.safe_load(butler_command("config-dump", tmp_path / name, "-s", ".datastore"))
        for name in ("one", "two")
    )
    assert (one["durability"], one["root"]) == ("fsync", str(tmp_path / "one"))
    assert (two["durability"], two["root"]) == ("fsync", elsewhere)
    butler_command("create", tmp_path / "three", "--dimension-config", seed, code=2)
    assert not (tmp_path / "three").exists()
