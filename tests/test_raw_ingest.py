from __future__ import annotations

import uuid

import numpy as np
import pytest
from astropy.io import fits
from hsc_header import HSC_CARDS

from butler_dask.butler.butler import Butler
from butler_dask.errors import DatasetFileError, RawIngestError
from butler_dask.instruments.curated_calibrations import write_curated_calibrations
from butler_dask.instruments.instrument import Instrument
from butler_dask.instruments.raw_dataset import raw_dataset_type
from butler_dask.instruments.raw_ingest import ingest_raws
from butler_dask.instruments.visits import define_visits
from butler_dask.vocabulary.collection import CollectionType

EXPOSURES = {903342: "13:20:00.000", 903344: "13:32:51.100"}


def write_raw(folder, exposure, detector, **cards):
    instrument = Instrument.from_camera_file("hsc_small")
    header = fits.Header(list(HSC_CARDS.items()))
    begin = EXPOSURES.get(exposure, "10:00:00.000")
    header.update({"EXP-ID": f"HSCA{exposure:06d}00", "FRAMEID": f"HSCA{exposure:06d}{detector:02d}"})
    header.update({"DET-ID": detector, "UT-STR": begin, "UT": begin, "UT-END": "13:34:00.000"})
    header.update(cards)
    data = np.full(instrument.getCamera()[detector].raw_shape, exposure % 1000 + detector, dtype=np.uint16)
    path = folder / f"{exposure}_{detector}.fits"
    fits.PrimaryHDU(data, header).writeto(path)
    return path


@pytest.fixture(scope="module")
def raws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raws")
    for exposure in EXPOSURES:
        for detector in (4, 5, 17):
            write_raw(folder, exposure, detector)
    return folder


@pytest.fixture
def butler(tmp_path):
    Butler.makeRepo(str(tmp_path / "repo"))
    with Butler(str(tmp_path / "repo"), writeable=True) as butler:
        Instrument.from_camera_file("hsc_small").register(butler)
        yield butler


def test_registering_twice_changes_nothing(butler):
    Instrument.from_camera_file("hsc_small").register(butler)
    records = list(butler.registry.queryDimensionRecords("detector", instrument="HSC"))
    assert len(records) == 19
    assert {r.full_name for r in records} >= {"1_42", "1_43"}
    (instrument,) = butler.registry.queryDimensionRecords("instrument")
    assert instrument.class_name == "lsst.obs.subaru.HyperSuprimeCam"
    assert Instrument.from_repository(butler, "HSC").getCamera()[5].shape == (1024, 1024)


def test_raws_are_ingested_and_read_back(butler, raws):
    refs = ingest_raws(butler, [raws], transfer="copy").refs
    assert len(refs) == 6
    assert {r.run for r in refs} == {"HSC/raw/all"}
    raw = butler.get("raw", instrument="HSC", exposure=903344, detector=5, collections="HSC/raw/all")
    assert (raw.image == 349).all()
    assert raw.visit_info.exposure_id == 903344
    wcs = butler.get("raw.wcs", instrument="HSC", exposure=903344, detector=5, collections="HSC/raw/all")
    assert wcs.to_header() == raw.wcs.to_header()
    (record,) = butler.query_dimension_records("exposure", instrument="HSC", exposure=903344)
    assert record.physical_filter == "HSC-R"
    assert record.observation_type == "science"
    assert record.day_obs == 20130617
    assert record.sky_angle == pytest.approx(270.0)
    assert record.timespan.begin.utc.isot == "2013-06-17T13:32:51.100"


def test_a_raw_has_the_same_identity_in_every_repository(butler, raws):
    refs = ingest_raws(butler, [raws / "903344_5.fits"], transfer="direct").refs
    namespace = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")
    text = "dataset_type=raw,run=HSC/raw/all,detector=5,exposure=903344,instrument=HSC"
    assert refs[0].id == uuid.uuid5(namespace, text)


def test_a_second_ingest_names_the_files_or_passes_over_them(butler, raws):
    ingest_raws(butler, [raws / "903344_5.fits"], transfer="symlink")
    with pytest.raises(RawIngestError, match=r"903344_5\.fits.*already"):
        ingest_raws(butler, [raws], transfer="symlink")
    assert len(list(butler.registry.queryDatasets("raw", collections="HSC/raw/all"))) == 1
    assert len(ingest_raws(butler, [raws], transfer="symlink", skip_existing=True).refs) == 5
    assert len(list(butler.registry.queryDatasets("raw", collections="HSC/raw/all"))) == 6


def test_an_ingest_reads_only_the_raws_it_may_repeat(butler, raws):
    others = range(1, 501)
    common = {"instrument": "HSC", "day_obs": 20130617, "group": "g", "physical_filter": "HSC-R"}
    registry = butler.registry
    registry.insertDimensionData("day_obs", {"instrument": "HSC", "id": 20130617})
    registry.insertDimensionData("group", {"instrument": "HSC", "name": "g"})
    registry.insertDimensionData("exposure", *(common | {"id": n, "obs_id": str(n)} for n in others))
    raw = raw_dataset_type(butler.dimensions)
    registry.registerDatasetType(raw)
    butler.collections.register("HSC/raw/all")
    registry.insertDatasets(
        raw, [{"instrument": "HSC", "exposure": n, "detector": 4} for n in others], "HSC/raw/all"
    )
    ingest_raws(butler, [raws / "903342_4.fits", raws / "903344_5.fits"], transfer="symlink")
    with butler.repository.registry.explain_query() as statements:
        assert len(ingest_raws(butler, [raws], transfer="symlink", skip_existing=True).refs) == 4
    assert statements
    assert max(statement.rows for statement in statements) < len(others) / 5


def test_one_bad_file_leaves_no_trace_of_the_others(butler, raws, tmp_path):
    bad = write_raw(tmp_path, 903342, 6, FILTER01="HSC-Q")
    truncated = write_raw(tmp_path, 903344, 6)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    with pytest.raises(RawIngestError) as caught:
        ingest_raws(butler, [raws, bad, truncated], transfer="copy")
    assert "2 of 8" in str(caught.value)
    assert "HSC-Q" in str(caught.value)
    assert truncated.name in str(caught.value)
    assert not list(butler.registry.queryDimensionRecords("exposure", instrument="HSC"))
    assert "HSC/raw/all" not in butler.collections.query("*")
    ingested = ingest_raws(butler, [raws, bad, truncated], transfer="copy", fail_fast=False)
    assert len(ingested.refs) == 6
    assert [sum(word in text for text in ingested.problems) for word in ("HSC-Q", truncated.name)] == [1, 1]


def test_two_files_of_one_raw_are_refused(butler, raws, tmp_path):
    double = write_raw(tmp_path, 903344, 5)
    with pytest.raises(RawIngestError, match="both exposure 903344, detector 5"):
        ingest_raws(butler, [raws, double])


def test_files_of_one_exposure_must_agree(butler, raws, tmp_path):
    odd = write_raw(tmp_path, 903344, 6, FILTER01="HSC-I")
    with pytest.raises(RawIngestError, match="physical_filter is 'HSC-I'"):
        ingest_raws(butler, [raws, odd])


def test_without_an_instrument_nothing_can_be_ingested(tmp_path, raws):
    Butler.makeRepo(str(tmp_path / "empty"))
    with (
        Butler(str(tmp_path / "empty"), writeable=True) as butler,
        pytest.raises(RawIngestError, match="register-instrument"),
    ):
        ingest_raws(butler, [raws])


def test_a_raw_truncated_after_ingest_is_named_when_read(butler, tmp_path):
    path = write_raw(tmp_path, 903344, 6)
    ingest_raws(butler, [path], transfer="direct")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DatasetFileError, match=r"903344_6\.fits"):
        butler.get("raw", instrument="HSC", exposure=903344, detector=6, collections="HSC/raw/all")


def test_visits_are_defined_once_with_their_regions(butler, raws):
    ingest_raws(butler, [raws], transfer="symlink")
    assert define_visits(butler, "HSC") == 2
    assert define_visits(butler, "HSC") == 0
    visits = list(butler.registry.queryDimensionRecords("visit", instrument="HSC"))
    assert [v.id for v in visits] == [903342, 903344]
    assert {v.name for v in visits} == {"HSCA90334200", "HSCA90334400"}
    regions = list(butler.registry.queryDimensionRecords("visit_detector_region", instrument="HSC"))
    assert len(regions) == 6
    by_visit = {v.id: v.region for v in visits}
    for record in regions:
        assert by_visit[record.visit].contains(record.region)
    definitions = list(butler.registry.queryDimensionRecords("visit_definition", instrument="HSC"))
    assert [(d.exposure, d.visit) for d in definitions] == [(903342, 903342), (903344, 903344)]
    (system,) = butler.registry.queryDimensionRecords("visit_system", instrument="HSC")
    assert (system.id, system.name) == (0, "one-to-one")


def test_new_exposures_get_visits_later(butler, raws, tmp_path):
    ingest_raws(butler, [raws / "903342_4.fits"], transfer="symlink")
    assert define_visits(butler, "HSC") == 1
    ingest_raws(butler, [raws / "903344_4.fits"], transfer="symlink")
    assert define_visits(butler, "HSC") == 1


def test_biases_are_no_visits(butler, tmp_path):
    bias = write_raw(
        tmp_path,
        903350,
        4,
        **{"DATA-TYP": "BIAS", "EXPTIME": 0.0, "UT-STR": "10:00:00", "UT-END": "10:00:00"},
    )
    ingest_raws(butler, [bias], transfer="symlink")
    (record,) = butler.registry.queryDimensionRecords("exposure", instrument="HSC")
    assert (record.observation_type, record.can_see_sky, record.tracking_ra) == ("bias", False, None)
    assert not record.timespan.isEmpty()  # though it took no time, a calibration's validity must hold it
    assert define_visits(butler, "HSC") == 0


def test_curated_calibrations_are_always_valid(butler, raws):
    instrument = Instrument.from_repository(butler, "HSC")
    written = write_curated_calibrations(butler, instrument)
    assert {r.datasetType.name for r in written} == {"camera", "crosstalk"}
    assert write_curated_calibrations(butler, instrument) == []
    assert butler.collections.get_info("HSC/calib").type is CollectionType.CALIBRATION
    ingest_raws(butler, [raws], transfer="symlink")
    camera = butler.get("camera", instrument="HSC", exposure=903344, collections="HSC/calib")
    assert camera.to_dict() == instrument.getCamera().to_dict()
    crosstalk = butler.get("crosstalk", instrument="HSC", detector=5, collections="HSC/calib/unbounded")
    assert np.array(crosstalk["coefficients"]).shape == (4, 4)
