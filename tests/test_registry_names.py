"""`butler.registry`: the reference's names, one data ID or reference at a time."""

import pytest
from registry_records import BIAS, CALEXP, DAY, FLAT, RAW, REFERENCES, VISITS, coordinate, put, universe

from butler_dask.butler.registry_names import ButlerRegistry
from butler_dask.errors import (
    CalibrationLookupError,
    CollectionError,
    CollectionTypeError,
    DataIdValueError,
    DatasetTypeError,
    DimensionValueError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType
from butler_dask.vocabulary.search_defaults import SearchDefaults
from butler_dask.vocabulary.timespan import Timespan

pytest_plugins = ("registry_fixtures",)


@pytest.fixture
def names(registry) -> ButlerRegistry:
    """Registry with the HSC instrument and one collection as defaults."""
    put(registry, RAW, "HSC/raw/all")
    return ButlerRegistry(registry, SearchDefaults(("HSC/raw/all",), "u/me/run", {"instrument": "HSC"}))


def test_collections_are_registered_chained_and_listed(names):
    assert names.registerRun("u/me/run") is True
    assert names.registerRun("u/me/run") is False
    names.registerCollection("tag", doc="some good ones")
    names.registerCollection("chain", CollectionType.CHAINED)
    names.setCollectionChain("chain", ["u/me/run", "HSC/raw/all"])
    assert names.getCollectionChain("chain") == ("u/me/run", "HSC/raw/all")
    names.registerCollection("outer", CollectionType.CHAINED)
    names.setCollectionChain("outer", ["tag", "chain"], flatten=True)
    assert names.getCollectionChain("outer") == ("tag", "u/me/run", "HSC/raw/all")
    assert names.getCollectionParentChains("HSC/raw/all") == {"chain", "outer"}
    assert names.getCollectionType("tag") is CollectionType.TAGGED
    assert names.getCollectionDocumentation("tag") == "some good ones"
    assert names.queryCollections("u/*") == ["u/me/run"]
    assert names.queryCollections(..., datasetType="raw", collectionTypes=CollectionType.RUN) == [
        "HSC/raw/all"
    ]
    assert names.queryCollections("chain", flattenChains=True) == ["u/me/run", "HSC/raw/all"]
    with pytest.raises(CollectionTypeError):
        names.getCollectionChain("tag")
    names.removeCollection("outer")
    with pytest.raises(MissingCollectionError):
        names.getCollectionType("outer")


def test_dataset_types_are_registered_and_removed(names):
    assert names.registerDatasetType(CALEXP)
    assert names.getDatasetType("calexp") == CALEXP
    missing: list[str] = []
    assert names.queryDatasetTypes(["cal*", "nothing"], missing=missing) == [CALEXP]
    assert missing == ["nothing"]
    names.removeDatasetType("cal*")
    with pytest.raises(MissingDatasetTypeError):
        names.getDatasetType("calexp")


def test_records_are_inserted_from_mappings_and_records(names):
    detector = universe["detector"].RecordClass
    names.insertDimensionData("detector", {"instrument": "HSC", "id": 50, "full_name": "fifty"})
    names.insertDimensionData("detector", detector(instrument="HSC", id=51, full_name="x"), replace=True)
    assert names.syncDimensionData("detector", {"instrument": "HSC", "id": 51, "full_name": "x"}) is False
    assert names.syncDimensionData(
        "detector", {"instrument": "HSC", "id": 51, "full_name": "y"}, update=True
    ) == {"full_name": "x"}
    assert [r.full_name for r in names.queryDimensionRecords("detector", detector=51)] == ["y"]
    assert len(names.queryDimensionRecords("detector", where="detector < 3")) == 3
    assert len(names.queryDimensionRecords("visit", datasets="raw", where="visit > 4")) == 2


def test_data_ids_are_expanded_with_defaults(names):
    data_id = names.expandDataId(visit=3, detector=1)
    assert data_id == coordinate(visit=3, detector=1)
    assert data_id["band"] == "i"
    assert data_id.records["visit"].name == "v3"
    assert names.expandDataId({"detector": "0_1"}, dimensions=["detector"])["detector"] == 1
    assert names.expandDataId(data_id, detector=2)["detector"] == 2
    with pytest.raises(DimensionValueError):
        names.expandDataId(detector=1, withDefaults=False)
    with pytest.raises(DataIdValueError):
        names.expandDataId(visit=99)


def test_data_ids_are_queried(names):
    found = names.queryDataIds(["visit", "detector"], where="visit=3", datasets="raw")
    assert len(found) == found.count() == 4
    assert found.any()
    assert found[0].dimensions == found.dimensions
    assert {d.records["visit"].id for d in found.expanded()} == {3}
    assert len(names.queryDataIds("visit")) == len(VISITS)
    assert len(names.queryDataIds("detector", dataId={"instrument": "LATISS"})) == 4


def test_datasets_are_queried_by_name_glob_or_list(names, registry):
    put(registry, CALEXP, "u/me/run", {"visit": 1, "detector": 0})
    assert len(names.queryDatasets("raw")) == 24
    assert len(names.queryDatasets("raw", where="exposure=3")) == 4
    assert len(names.queryDatasets("raw", exposure=3, detector=2)) == 1
    everything = names.queryDatasets(..., collections="*")
    assert len(everything) == 25
    assert {r.datasetType.name for r in everything} == {"raw", "calexp"}
    assert len(names.queryDatasets(["calexp", RAW], collections=["u/me/run"])) == 1
    [ref] = names.queryDatasets("cal*", collections=...).expanded()
    assert ref.dataId["band"] == "i"
    with pytest.raises(MissingDatasetTypeError, match="Did you mean 'raw'"):
        names.queryDatasets("rw")
    bare = ButlerRegistry(registry, SearchDefaults())
    with pytest.raises(CollectionError, match="No collections to search"):
        bare.queryDatasets("raw")


def test_single_datasets_are_found(names):
    ref = names.findDataset("raw", exposure=3, detector=1)
    assert ref is not None
    assert ref.dataId == coordinate(exposure=3, detector=1)
    assert names.findDataset("raw", {"visit": 3, "detector": "0_1"}) == ref
    assert names.findDataset("raw.wcs", exposure=3, detector=1) == ref.makeComponentRef("wcs")
    assert names.findDataset(RAW, ref.dataId, collections=["HSC/raw/all"]) == ref
    assert names.getDataset(ref.id) == ref
    names.registerDatasetType(CALEXP)
    assert names.findDataset("calexp", visit=3, detector=1) is None


def test_calibrations_are_found_at_the_time_of_the_exposure(names, registry):
    registry.collections.register("calib", CollectionType.CALIBRATION)
    for k in range(2):
        data_ids = [{"detector": 0, "physical_filter": f} for f in ("HSC-R", "HSC-I")]
        refs = list(put(registry, FLAT, f"flats/{k}", *data_ids))
        names.certify("calib", refs, Timespan(4 * k * DAY, 4 * (k + 1) * DAY))
    find = names.findDataset
    assert find("flat", exposure=2, detector=0, collections="calib").run == "flats/0"
    found = find("flat", visit=5, detector=0, collections="calib")
    assert (found.run, found.dataId["physical_filter"]) == ("flats/1", "HSC-I")
    keys = {"detector": 0, "physical_filter": "HSC-R"}
    assert find("flat", keys, timespan=Timespan(DAY, 2 * DAY), collections="calib").run == "flats/0"
    assert find("flat", keys, collections="calib") is None
    with pytest.raises(CalibrationLookupError):
        find("flat", keys, timespan=Timespan(DAY, 5 * DAY), collections="calib")
    names.decertify("calib", "flat", Timespan(None, 4 * DAY), dataIds=[keys])
    assert find("flat", keys, timespan=Timespan(DAY, 5 * DAY), collections="calib").run == "flats/1"
    spans = [a.timespan for a in names.queryDatasetAssociations(FLAT, "calib")]
    assert sorted(spans) == [
        Timespan(0, 4 * DAY),
        Timespan(4 * DAY, 8 * DAY),
        Timespan(4 * DAY, 8 * DAY),
    ]


def test_datasets_are_inserted_tagged_and_removed(names, registry):
    names.registerRun("u/me/run")
    names.registerDatasetType(BIAS)
    refs = names.insertDatasets("bias", [{"detector": 0}, {"detector": "0_1"}])
    assert [r.dataId["detector"] for r in refs] == [0, 1]
    assert refs[0].dataId.records["detector"].full_name == "0_0"
    names.registerCollection("tag")
    names.associate("tag", refs)
    assert len(names.queryDatasets("bias", collections="tag")) == 2
    names.disassociate("tag", refs[:1])
    assert names.queryDatasets("bias", collections="tag")[0] == refs[1]
    names.removeDatasets(refs)
    assert names.getDataset(refs[0].id) is None
    component = DatasetRef(CALEXP, coordinate(visit=1, detector=0), "run").makeComponentRef("wcs")
    with pytest.raises(DatasetTypeError, match="component"):
        names.associate("tag", [component])
    bare = ButlerRegistry(registry, SearchDefaults())
    with pytest.raises(CollectionError, match="No RUN"):
        bare.insertDatasets("bias", [{"instrument": "HSC", "detector": 0}])


def test_transaction_covers_several_calls(names):
    def change() -> None:
        with names.transaction():
            names.registerRun("u/me/run")
            names.registerDatasetType(REFERENCES)
            names.registerDatasetType(DatasetType("raw", ["visit"], "Exposure"))

    with pytest.raises(DatasetTypeError):
        change()
    assert "u/me/run" not in names.queryCollections()
    assert names.isWriteable()


def test_collection_types_are_given_by_name_too(names):
    names.registerCollection("some/tagged", CollectionType.TAGGED)
    assert list(names.queryCollections("some/*", collectionTypes={"tagged"})) == ["some/tagged"]
    assert list(names.queryCollections("some/*", collectionTypes=CollectionType.RUN)) == []
    with pytest.raises(CollectionTypeError, match="TAGGED"):
        names.queryCollections("some/*", collectionTypes=["TAGED"])
