"""A repository of one's own upon a shared one that is only read."""

import json
import logging
import os
import subprocess
import sys

import pytest
from command_line import Commands

from butler_dask import Butler, CollectionType, DatasetType, Timespan
from butler_dask.butler.repository_check import check_repository
from butler_dask.errors import (
    ConflictingDefinitionError,
    DatasetNotFoundError,
    MissingCollectionError,
    ReadOnlyRepositoryError,
    RepositoryError,
)

DATA_ID = {"instrument": "Cam", "detector": 1}


def content(root):
    """Return the bytes of every file of a repository, its registry's among them."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and not p.name.endswith(("-shm", "-wal"))
    }


def add_detectors(butler, first, count):
    butler.registry.insertDimensionData(
        "detector",
        *[{"instrument": "Cam", "id": i, "full_name": f"d{i}"} for i in range(first, first + count)],
    )


def names(butler):
    return set(butler.collections.query("*"))


@pytest.fixture
def shared(tmp_path):
    """A repository with a collection of each type."""
    Butler.makeRepo(tmp_path / "shared")
    with Butler(tmp_path / "shared", run="common/run") as butler:
        butler.registry.insertDimensionData("instrument", {"name": "Cam", "detector_max": 100})
        add_detectors(butler, 0, 5)
        dimensions = ["instrument", "detector"]
        butler.registry.registerDatasetType(DatasetType("doc", dimensions, "StructuredDataDict"))
        bias = DatasetType("bias", dimensions, "StructuredDataDict", isCalibration=True)
        butler.registry.registerDatasetType(bias)
        refs = [butler.put({"d": d}, "doc", instrument="Cam", detector=d) for d in range(3)]
        for run in "abc":
            butler.registry.registerRun(f"common/calib/{run}")
        first = butler.put({"b": 1}, "bias", DATA_ID, run="common/calib/a")
        second = butler.put({"b": 2}, "bias", DATA_ID, run="common/calib/b")
        butler.registry.registerCollection("common/tag", CollectionType.TAGGED)
        butler.registry.associate("common/tag", refs[:2])
        butler.registry.registerCollection("common/calib", CollectionType.CALIBRATION)
        middle = Timespan(_time("2020-01-01"), _time("2021-01-01"))
        butler.registry.certify("common/calib", [first], Timespan(None, middle.begin))
        butler.registry.certify("common/calib", [second], middle)
        butler.registry.registerCollection("common", CollectionType.CHAINED)
        butler.registry.setCollectionChain("common", ["common/tag", "common/run", "common/calib"])
    return tmp_path / "shared"


def _time(text):
    from astropy.time import Time

    return Time(text, scale="tai")


@pytest.fixture
def mine(shared, tmp_path):
    Butler.makeRepo(tmp_path / "mine", overlay=shared)
    return tmp_path / "mine"


def test_both_are_seen_as_one_and_only_the_personal_one_is_written(shared, mine):
    before = content(shared)
    with Butler(mine, collections=["u/me", "common"], run="u/me") as butler:
        assert {"common", "common/run", "common/tag", "common/calib", "u/me"} <= names(butler)
        assert butler.get("doc", DATA_ID) == {"d": 1}
        assert butler.getURI("doc", DATA_ID).startswith(f"file://{shared}/")
        assert len(butler.query_datasets("doc")) == 3
        butler.put({"d": "mine"}, "doc", DATA_ID)
        assert butler.get("doc", DATA_ID) == {"d": "mine"}
        assert butler.get("doc", DATA_ID, collections="common") == {"d": 1}
        assert butler.getURI("doc", DATA_ID).startswith(f"file://{mine}/")
        assert len(butler.query_datasets("doc", find_first=True)) == 3
        assert len(butler.query_datasets("doc", find_first=False)) == 4
        when = Timespan(_time("2020-05-01"), _time("2020-05-02"))
        found = butler.find_dataset("bias", DATA_ID, collections="common/calib", timespan=when)
        assert butler.get(found) == {"b": 2}
        butler.registry.registerCollection("u/tag", CollectionType.TAGGED)
        butler.registry.associate("u/tag", [butler.find_dataset("doc", DATA_ID, collections="common")])
        butler.registry.registerCollection("u/all", CollectionType.CHAINED)
        butler.registry.setCollectionChain("u/all", ["u/tag", "common"])
        assert butler.get("doc", DATA_ID, collections="u/all") == {"d": 1}
        assert check_repository(butler.repository, checksums=True).is_clean
        butler.registry.setCollectionChain("u/all", [])
        butler.removeRuns("u/me")
        assert butler.get("doc", DATA_ID, collections="common") == {"d": 1}
    assert content(shared) == before


def test_every_change_of_the_shared_one_is_refused(shared, mine):
    before = content(shared)
    with Butler(mine, run="u/me") as butler:
        registry = butler.registry
        ref = butler.find_dataset("doc", DATA_ID, collections="common/run")
        own = butler.put({"d": 1}, "doc", DATA_ID)
        bias = butler.query_datasets("bias", "common/calib/a", find_first=False)
        attempts = [
            lambda: butler.put({"d": 9}, "doc", instrument="Cam", detector=4, run="common/run"),
            lambda: butler.pruneDatasets([ref], purge=True, unstore=True),
            lambda: butler.pruneDatasets([ref], unstore=True, disassociate=False),
            lambda: butler.removeRuns("common/run", unlink_from_chains=True),
            lambda: registry.removeCollection("common"),
            lambda: registry.setCollectionChain("common", ["u/me"]),
            lambda: butler.collections.prepend_chain("common", "u/me"),
            lambda: registry.associate("common/tag", [own]),
            lambda: registry.disassociate("common/tag", [ref]),
            lambda: registry.certify("common/calib", bias, Timespan(_time("2030-01-01"), None)),
            lambda: registry.decertify("common/calib", "bias", Timespan(None, None)),
        ]
        for attempt in attempts:
            with pytest.raises(ReadOnlyRepositoryError, match="belongs to the shared repository"):
                attempt()
        assert butler.get(ref) == {"d": 1}
        assert len(list(butler.datastore.files())) >= 1
    assert content(shared) == before


def test_what_changes_in_the_shared_one_is_seen_at_the_next_opening(shared, mine):
    with Butler(shared, run="common/new", collections="common/run") as butler:
        add_detectors(butler, 10, 3)
        butler.registry.syncDimensionData(
            "detector", {"instrument": "Cam", "id": 0, "full_name": "renamed"}, update=True
        )
        butler.put({"d": "new"}, "doc", instrument="Cam", detector=11)
        gone = butler.find_dataset("doc", instrument="Cam", detector=2)
        butler.pruneDatasets([gone], purge=True, unstore=True)
        unstored = butler.find_dataset("doc", instrument="Cam", detector=0)
        butler.pruneDatasets([unstored], unstore=True, disassociate=False)
        butler.registry.disassociate("common/tag", [unstored])
        third = butler.put({"b": 3}, "bias", DATA_ID, run="common/calib/c")
        butler.registry.decertify("common/calib", "bias", Timespan(_time("2020-06-01"), None))
        butler.registry.certify("common/calib", [third], Timespan(_time("2020-06-01"), None))
        butler.registry.setCollectionChain("common", ["common/new", "common/run", "common/calib"])
        butler.registry.removeCollection("common/tag")
    with Butler(mine, collections="common") as butler:
        assert butler.get("doc", instrument="Cam", detector=11) == {"d": "new"}
        record = butler.query_dimension_records("detector", instrument="Cam", detector=0)[0]
        assert record.full_name == "renamed"
        assert butler.find_dataset("doc", instrument="Cam", detector=2) is None
        assert butler.exists(unstored).name == "RECORDED"
        assert "common/tag" not in names(butler)
        assert butler.collections.get_info("common").children == ("common/new", "common/run", "common/calib")
        for day, value in (("2020-05-01", 2), ("2020-07-01", 3), ("2019-01-01", 1)):
            when = Timespan(_time(day), _time(f"{day}T12:00:00"))
            found = butler.find_dataset("bias", DATA_ID, collections="common/calib", timespan=when)
            assert butler.get(found) == {"b": value}
    with Butler(shared, writeable=True) as butler:
        butler.registry.setCollectionChain("common", [])
        butler.removeRuns(["common/run", "common/new"])
    with Butler(mine) as butler:
        with pytest.raises(MissingCollectionError):
            butler.get("doc", DATA_ID, collections="common/run")
        assert butler.collections.get_info("common").children == ()


def test_collection_removed_from_the_shared_one_leaves_personal_chains(shared, mine):
    with Butler(mine, writeable=True) as butler:
        butler.registry.registerCollection("u/all", CollectionType.CHAINED)
        butler.registry.setCollectionChain("u/all", ["common/tag", "common/run"])
    with Butler(shared, writeable=True) as butler:
        butler.registry.setCollectionChain("common", ["common/run"])
        butler.registry.removeCollection("common/tag")
    with Butler(mine) as butler:
        assert butler.collections.get_info("u/all").children == ("common/run",)
        assert butler.get("doc", DATA_ID, collections="u/all") == {"d": 1}


def test_nothing_is_written_when_nothing_has_changed(mine):
    with Butler(mine, collections="common") as butler:
        assert butler.get("doc", DATA_ID) == {"d": 1}
    before = content(mine)
    with Butler(mine, collections="common") as butler:
        assert butler.get("doc", DATA_ID) == {"d": 1}
    assert content(mine) == before


def test_only_some_collections_may_be_wanted(shared, tmp_path):
    config = {"base": {"repository": str(shared), "collections": ["common/t*"]}}
    Butler.makeRepo(tmp_path / "mine", config)
    with Butler(tmp_path / "mine", collections="common/tag") as butler:
        # The run of what is tagged comes with the tag; calibrations do not.
        assert names(butler) == {"common/tag", "common/run"}
        assert butler.get("doc", DATA_ID) == {"d": 1}
        with pytest.raises(DatasetNotFoundError):
            butler.get("doc", DATA_ID, detector=2)


def test_personal_collection_of_the_same_name_is_kept(shared, mine, caplog):
    with Butler(mine, run="common/later") as butler:
        butler.put({"d": "mine"}, "doc", DATA_ID)
    with Butler(shared, run="common/later") as butler:
        butler.put({"d": "theirs"}, "doc", DATA_ID)
    with caplog.at_level(logging.WARNING), Butler(mine, collections="common/later") as butler:
        assert butler.get("doc", DATA_ID) == {"d": "mine"}
    assert "Collection 'common/later' is in both repositories" in caplog.text


def test_dataset_type_defined_otherwise_in_both_is_an_error(shared, mine):
    with Butler(mine, writeable=True) as butler:
        butler.registry.registerDatasetType(DatasetType("late", ["instrument"], "StructuredDataDict"))
    with Butler(shared, writeable=True) as butler:
        butler.registry.registerDatasetType(DatasetType("late", ["detector"], "StructuredDataDict"))
    with pytest.raises(ConflictingDefinitionError, match="late"):
        Butler(mine)


def test_overlay_of_nothing_or_of_itself_is_refused(tmp_path, shared):
    with pytest.raises(RepositoryError, match="No repository at"):
        Butler.makeRepo(tmp_path / "mine", overlay=tmp_path / "nowhere")
    assert not (tmp_path / "mine").exists()
    text = (shared / "butler.yaml").read_text()
    (shared / "butler.yaml").write_text(text + f"base: {json.dumps({'repository': str(shared)})}\n")
    with pytest.raises(RepositoryError, match="lies upon itself"):
        Butler(shared)


def test_many_processes_open_it_while_the_shared_one_grows(shared, mine):
    code = (
        "import sys; from butler_dask import Butler\n"
        f"for i in range(4):\n"
        f"    with Butler({str(mine)!r}, run='u/' + sys.argv[1], collections='common/run') as butler:\n"
        "        butler.put({'i': i}, 'doc', instrument='Cam', detector=i, run=f'u/{sys.argv[1]}')\n"
        "        assert butler.get('doc', instrument='Cam', detector=1) == {'d': 1}\n"
    )
    with Butler(shared, run="common/run") as butler:
        add_detectors(butler, 5, 20)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen([sys.executable, "-c", code, str(n)], env=environment) for n in range(3)]
    with Butler(shared, run="common/run") as butler:
        for d in range(5, 15):
            butler.put({"d": d}, "doc", instrument="Cam", detector=d)
    assert [child.wait() for child in children] == [0, 0, 0]
    with Butler(mine, collections="common/run") as butler:
        assert len(butler.query_datasets("doc")) == 13
        assert check_repository(butler.repository, checksums=True).is_clean


def test_run_reads_the_shared_one_and_writes_the_personal_one(commands: Commands):
    shared = commands.directory / "DATA"
    before = content(shared)
    commands("butler", "create", "MINE", "--overlay", "DATA")
    run = commands(
        *("pipetask", "run", "-b", "MINE", "-p", "pipelines/example.yaml#isr", "-i", "HSC/defaults"),
        *("-o", "u/me/x", "-d", "instrument='HSC' AND visit=903344 AND detector=5"),
        *("-c", "isr:doBrighterFatter=False"),  # most of its time
    )
    assert "1 succeeded" in run.stderr + run.stdout
    with Butler(commands.directory / "MINE", collections="u/me/x") as butler:
        assert butler.get("postISRCCD", instrument="HSC", exposure=903344, detector=5) is not None
        assert butler.getURI("postISRCCD", instrument="HSC", exposure=903344, detector=5).startswith(
            f"file://{commands.directory}/MINE/"
        )
    assert content(shared) == before
