import numpy as np
import pytest
from demo_repository import copy_demo
from lsst.sphgeom import DISJOINT

from butler_dask import Butler
from butler_dask.imaging.simulated_exposure import simulate_exposure
from butler_dask.instruments.demo_survey import (
    FULL,
    SKYMAP_NAME,
    SMALL,
    demo_sky,
    demo_skymap,
    demo_visits,
    make_demo,
    reference_of_truth,
)
from butler_dask.instruments.discrete_skymap import make_discrete_skymap
from butler_dask.instruments.instrument import Instrument
from butler_dask.instruments.skymap_registration import register_skymap
from butler_dask.instruments.visits import detector_region


@pytest.fixture(scope="module")
def repository(demo_survey, tmp_path_factory):
    return copy_demo(demo_survey / "DATA", tmp_path_factory.mktemp("demo") / "DATA")


@pytest.fixture
def butler(repository):
    with Butler(repository, collections="HSC/defaults", instrument="HSC") as found:
        yield found


def test_the_chain_is_that_of_the_tutorial(butler):
    info = butler.collections.query_info("HSC/defaults", flatten_chains=True)
    assert [(c.name, c.type.name) for c in info] == [
        ("HSC/raw/all", "RUN"),
        ("HSC/calib", "CALIBRATION"),
        ("HSC/masks", "RUN"),
        ("refcats", "RUN"),
        ("skymaps", "RUN"),
    ]
    runs = butler.collections.query("HSC/calib/*")
    assert {"HSC/calib/unbounded", "HSC/calib/curated/2013-01-31T00:00:00"} < set(runs)
    assert {"HSC/calib/gen2/2013-06-17", "HSC/calib/gen2/2013-11-03"} < set(runs)
    assert "HSC/external" in butler.collections.query("*")


def test_raws_are_in_the_repository_and_nothing_else_is_left(butler, demo_survey):
    refs = butler.query_datasets("raw")
    assert len(refs) == 4 * len(SMALL.detectors)
    assert all(butler.exists(ref) for ref in refs)
    assert [p.name for p in demo_survey.iterdir()] == ["DATA"]


def test_detector_5_of_visit_903344_meets_twelve_patches(butler):
    found = butler.query_data_ids(
        ["visit", "detector", "tract", "patch"],
        where="instrument='HSC' AND visit=903344 AND detector=5 AND skymap=:name",
        bind={"name": SKYMAP_NAME},
    )
    assert len(found) == 12


@pytest.mark.parametrize("plan", [SMALL, FULL])
@pytest.mark.parametrize("padding_pixels", [0, 220, 280])
def test_twelve_patches_are_met_whatever_the_padding_and_the_form(plan, padding_pixels):
    camera = Instrument.from_camera_file(plan.camera_file).getCamera()
    observation = next(v.observation for v in demo_visits() if v.observation.visit == 903344)
    region = detector_region(
        camera, 5, observation.ra_deg, observation.dec_deg, 0.0, padding_pixels=padding_pixels
    )
    patches = [p for p in demo_skymap(camera, plan)[0] if not p.region.relate(region) & DISJOINT]
    assert len(patches) == 12


def test_calibrations_are_found_by_the_time_of_the_exposure(butler):
    early = butler.find_dataset("bias", exposure=903344, detector=5)
    late = butler.find_dataset("bias", exposure=903988, detector=5)
    assert early.run == "HSC/calib/gen2/2013-06-17"
    assert late.run == "HSC/calib/gen2/2013-11-03"
    assert butler.get("flat", exposure=903988, detector=5).filter.physical == "HSC-I"
    assert butler.find_dataset("defects", exposure=903344, detector=5).run.endswith("2013-01-31T00:00:00")
    for name in ("dark", "linearizer", "crosstalk", "bfKernel", "camera"):
        assert butler.find_dataset(name, exposure=903342, detector=5) is not None


def test_raw_pixels_are_those_of_the_simulated_truth(butler):
    camera = butler.get("camera")
    visit = next(v for v in demo_visits() if v.observation.visit == 903344)
    truth = simulate_exposure(demo_sky(camera, SMALL, 1), camera, 5, visit.observation)
    raw = butler.get("raw", exposure=903344, detector=5)
    assert np.array_equal(raw.image, truth.raw)
    assert raw.filter.band == "r"
    assert raw.visit_info.exposure_time_s == 30.0
    x, y = raw.wcs.sky_to_pixel(*truth.wcs.pixel_to_sky(500.0, 500.0))
    assert np.hypot(x - 500, y - 500) * 0.168 < 15.0


def test_the_reference_catalogue_is_the_truth_with_small_errors(butler):
    sky = demo_sky(butler.get("camera"), SMALL, 1)
    rows = sum(len(butler.get(ref)) for ref in butler.query_datasets("reference_catalog"))
    catalog = reference_of_truth(sky)
    assert rows == len(catalog)
    truth = sky.truth[np.asarray(sky.truth["mag_r"]) < 21.5]
    assert np.array_equal(catalog["id"], truth["id"])
    pull = (np.asarray(catalog["coord_dec"]) - np.radians(truth["dec"])) / catalog["coord_decErr"]
    assert abs(np.std(pull) - 1.0) < 5 / np.sqrt(2 * rows)
    magnitudes = 31.4 - 2.5 * np.log10(np.asarray(catalog["r_flux"]))
    assert np.abs(magnitudes - truth["mag_r"]).max() < 0.06
    assert np.count_nonzero(~np.asarray(catalog["resolved"])) > 100


def test_bright_stars_are_masked_where_they_are(butler):
    refs = butler.query_datasets("brightObjectMask", where=f"skymap = '{SKYMAP_NAME}'")
    table = butler.get(refs[0])
    skymap = butler.get("skyMap", skymap=SKYMAP_NAME)
    patch = skymap[refs[0].dataId["tract"]][refs[0].dataId["patch"]]
    x, y = patch.wcs.sky_to_pixel(np.asarray(table["ra"]), np.asarray(table["dec"]))
    assert ((x > -1) & (y > -1) & (x < patch.shape[1]) & (y < patch.shape[0])).all()


def test_a_second_demonstration_in_the_same_place_is_refused(repository):
    with pytest.raises(Exception, match="DATA"):
        make_demo(repository, small=True)


def test_a_sky_map_is_registered_once_and_read_back(tmp_path):
    camera = Instrument.from_camera_file("hsc_small").getCamera()
    skymap = demo_skymap(camera, SMALL)
    Butler.makeRepo(tmp_path / "repo")
    with Butler(tmp_path / "repo", writeable=True) as butler:
        assert register_skymap(butler, skymap)
        assert not register_skymap(butler, skymap)
        assert butler.get("skyMap", skymap=SKYMAP_NAME, collections="skymaps") == skymap
        patches = butler.query_dimension_records("patch", where=f"skymap = '{SKYMAP_NAME}'")
        assert len(patches) == len(skymap[0])
        assert {p.id for p in patches} == set(range(len(skymap[0])))
        record = butler.query_dimension_records("skymap", where=f"skymap = '{SKYMAP_NAME}'")[0]
        assert record.hash == skymap.sha1.hex()
        other = type(skymap).discrete(SKYMAP_NAME, [1.0], [2.0], [0.1])
        with pytest.raises(Exception, match=SKYMAP_NAME):
            register_skymap(butler, other)


def test_a_discrete_sky_map_is_laid_around_the_visits(repository):
    with Butler(repository, writeable=True) as butler:
        skymap = make_discrete_skymap(
            butler, "around", instrument="HSC", where="visit IN (903342, 903344)", pixel_scale_arcsec=0.168,
            patch_inner_size=1000, patch_border=50,
        )  # fmt: skip
        for record in butler.query_dimension_records("visit", where="instrument='HSC' AND visit=903344"):
            assert skymap[0].region.contains(record.region)
        with pytest.raises(LookupError, match="define-visits"):
            make_discrete_skymap(butler, "none", instrument="HSC", where="visit = 1")
