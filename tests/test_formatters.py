"""What is written is what is read, for every storage class; and other programs read the files too."""

import datetime
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from round_trip import (
    RoundTrip,
    assert_same,
    make_detector,
    make_exposure,
    make_ref,
    make_table,
    make_wcs,
)

from butler_dask.datastore.dataset_layout import DatasetLayout
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.errors import DatasetFileError, DatasetTypeError, DimensionValueError, FormatVersionError
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.mask import Mask
from butler_dask.imaging.photo_calib import PhotoCalib
from butler_dask.imaging.psf import Psf
from butler_dask.imaging.visit_info import VisitInfo


@pytest.fixture
def round_trip(tmp_path):
    return RoundTrip(tmp_path)


def _objects():
    rng = np.random.default_rng(0)
    return [
        ({"a": 1, "b": [1.5, None, "ü"], "c": {"d": True}}, "StructuredDataDict"),
        ({5: "int key", "$set": 1, 2.5: {"x": {"y"}}, (1, 2): b"\0\xff"}, "StructuredDataDict"),
        ({"when": datetime.datetime(2020, 10, 13, 14, 4, 17, tzinfo=datetime.UTC)}, "StructuredDataDict"),
        ({"day": datetime.date(2020, 10, 13), "z": 1 - 2j, "$items": []}, "StructuredDataDict"),
        ([1, [2, "x"]], "StructuredDataList"),
        ("just text", "StructuredData"),
        (12, "Integer"),
        (1e-300, "Scalar"),
        ({"numpy": "2.4.0"}, "Packages"),
        ([{"name": "isr", "levelno": 20, "message": "Masking defects."}], "ButlerLogRecords"),
        (rng.normal(size=(3, 4, 5)), "NumpyArray"),
        (np.array(5.0), "NumpyArray"),
        (np.asfortranarray(rng.normal(size=(30, 40))), "NumpyArray"),
        (np.zeros((0, 3), dtype=np.int16), "NumpyArray"),
        (rng.normal(size=(30, 40)).astype(np.float32), "ImageF"),
        (make_exposure(), "ExposureF"),
        (make_exposure(dtype="f8"), "ExposureD"),
        (make_exposure(dtype="i4"), "ExposureI"),
        (make_exposure(dtype="u2"), "ExposureU"),
        (Exposure(np.ones((5, 1300), dtype=np.float32)), "ExposureF"),
        (make_exposure().mask, "Mask"),
        (make_wcs(), "Wcs"),
        (make_wcs(sip=False), "Wcs"),
        (Psf.gaussian(1.7), "Psf"),
        (PhotoCalib(1 / 3, 1e-17), "PhotoCalib"),
        (VisitInfo(5, object_name="x"), "VisitInfo"),
        (make_detector(), "Detector"),
        (FilterLabel("r", "HSC-R"), "FilterLabel"),
        (make_table(), "ArrowAstropy"),
        (make_table(1), "SourceCatalog"),
        (make_table(0), "SimpleCatalog"),
        (make_table()[[]], "Catalog"),
        ({"anything": object}, "Pickle"),
    ]


@pytest.mark.parametrize(("obj", "storage_class"), _objects(), ids=lambda v: v if isinstance(v, str) else "")
def test_object_comes_back_as_it_was(round_trip, obj, storage_class):
    round_trip.check(obj, storage_class)


def test_camera_sky_map_background_and_task_metadata_come_back_as_they_were(round_trip):
    from pathlib import Path

    import butler_dask.instruments
    from butler_dask.imaging.background import BackgroundList, BackgroundModel
    from butler_dask.imaging.camera import read_camera
    from butler_dask.imaging.skymap import SkyMap
    from butler_dask.pipeline.task_metadata import TaskMetadata

    camera = read_camera(Path(butler_dask.instruments.__file__).with_name("hsc_small.yaml"))
    got = round_trip(camera, "Camera")
    assert got.to_dict() == camera.to_dict()
    sky_map = SkyMap.rings("rings", 10)
    assert round_trip(sky_map, "SkyMap") == sky_map
    levels = np.random.default_rng(0).normal(size=(4, 5))
    background = BackgroundList([BackgroundModel(levels, np.arange(4.0), np.arange(5.0), (64, 80))])
    np.testing.assert_array_equal(round_trip(background, "Background").image(), background.image())
    metadata = TaskMetadata.from_dict({"quantum": {"cpu": 1.5, "flags": [True, False]}, "n": 3})
    assert round_trip(metadata, "TaskMetadata") == metadata


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.dictionaries(
        st.text() | st.integers(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.booleans(), inner),
            max_leaves=8,
        ),
    )
)
def test_any_document_comes_back_as_it_was(round_trip, document):
    assert round_trip(document, "StructuredDataDict") == document


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cut=st.tuples(*[st.floats(0, 1)] * 4),
    code=st.sampled_from(["f4", "f8", "u2", "i4", "u1", "i2"]),
)
def test_any_box_of_an_image_is_the_slice(round_trip, shape, cut, code):
    ny, nx = shape
    image = (np.arange(ny * nx) % 100).reshape(shape).astype(code)
    x0, y0 = int(cut[0] * (nx - 1)), int(cut[1] * (ny - 1))
    width, height = 1 + int(cut[2] * (nx - x0 - 1)), 1 + int(cut[3] * (ny - y0 - 1))
    got = round_trip(image, "ImageF", parameters={"bbox": (x0, y0, width, height)})
    np.testing.assert_array_equal(got, image[y0 : y0 + height, x0 : x0 + width])


def test_image_that_is_not_contiguous_is_written_as_it_looks(round_trip):
    whole = np.arange(600, dtype=np.float32).reshape(20, 30)
    assert_same(whole[::2, ::-3].copy(), round_trip(whole[::2, ::-3], "ImageF"))


def test_every_component_of_an_exposure_is_read_alone(round_trip):
    exposure = make_exposure()
    wanted = {
        "image": exposure.image,
        "mask": exposure.mask,
        "variance": exposure.variance,
        "wcs": exposure.wcs,
        "psf": exposure.psf,
        "photoCalib": exposure.photo_calib,
        "photo_calib": exposure.photo_calib,
        "visitInfo": exposure.visit_info,
        "detector": exposure.detector,
        "filter": exposure.filter,
        "apCorrMap": exposure.ap_corr,
        "summaryStats": exposure.summary_stats,
        "metadata": exposure.metadata,
        "bbox": [1000, -20, 48, 64],
        "xy0": [1000, -20],
    }
    for name, part in wanted.items():
        assert_same(part, round_trip(exposure, "ExposureF", component=name))


def test_components_are_read_from_a_file_whose_pixels_are_gone(tmp_path):
    """A component costs no pixels: punching them out of the file (a hole) changes nothing."""
    datastore = FileDatastore(str(tmp_path))
    ref = make_ref("ExposureF")
    exposure = make_exposure((700, 800))
    record = datastore.put(exposure, ref)
    path = tmp_path / record.path
    data = bytearray(path.read_bytes())
    first = data.index(b"EXTNAME = 'IMAGE")
    begin = first + 2880 * 3
    data[begin : begin + 1_000_000] = bytes(1_000_000)
    path.write_bytes(data)
    assert_same(exposure.wcs, datastore.get(record, ref.makeComponentRef("wcs")))
    assert_same(exposure.photo_calib, datastore.get(record, ref.makeComponentRef("photoCalib")))


def test_box_of_an_exposure_keeps_sky_and_psf_in_place(round_trip):
    exposure = make_exposure()
    part = round_trip(exposure, "ExposureF", parameters={"bbox": (1010, -15, 20, 30)})
    assert part.shape == (30, 20)
    assert part.xy0 == (1010, -15)
    np.testing.assert_array_equal(part.image, exposure.image[5:35, 10:30])
    np.testing.assert_array_equal(part.mask.array, exposure.mask.array[5:35, 10:30])
    for a, b in zip(part.wcs.pixel_to_sky(3.0, 4.0), exposure.wcs.pixel_to_sky(13.0, 9.0), strict=True):
        assert a == pytest.approx(b, abs=1e-11)
    np.testing.assert_allclose(part.psf.image_at(3.0, 4.0), exposure.psf.image_at(13.0, 9.0), atol=1e-12)
    image = round_trip(exposure, "ExposureF", component="image", parameters={"bbox": (1010, -15, 20, 30)})
    np.testing.assert_array_equal(image, part.image)


@pytest.mark.parametrize("box", [(999, -20, 2, 2), (1000, -20, 49, 1), (1000, -20, 0, 1), "all", (1, 2)])
def test_box_outside_the_image_is_refused_with_both_boxes(round_trip, box):
    with pytest.raises(DimensionValueError, match="bbox"):
        round_trip(make_exposure(), "ExposureF", parameters={"bbox": box})


def test_astropy_reads_exposure_with_sky_coordinates_and_mask_planes(tmp_path):
    from astropy.io import fits
    from astropy.wcs import WCS

    datastore = FileDatastore(str(tmp_path))
    exposure = make_exposure()
    record = datastore.put(exposure, make_ref("ExposureF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(tmp_path / record.path) as hdus:
            hdus.verify("exception")
            assert [h.name for h in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "PSF", "COMPONENTS"]
            np.testing.assert_array_equal(hdus["IMAGE"].data, exposure.image)
            np.testing.assert_array_equal(hdus["MASK"].data, exposure.mask.array)
            assert hdus["MASK"].header["MP_DETECTED_NEGATIVE"] == exposure.mask.bit("DETECTED_NEGATIVE")
            assert hdus[0].header["OBJECT"] == "SSP 'wide'"
            assert "PhotoCalib" not in str(hdus["COMPONENTS"].data["PHOTOCALIB"][0])
            assert hdus["COMPONENTS"].data["FILTER"][0] == '{"band": "r", "physical": "HSC-R"}'
            for name in ("IMAGE", "MASK", "VARIANCE"):
                sky = WCS(hdus[name].header).all_pix2world(10.0, 12.0, 0)
                np.testing.assert_allclose(sky, exposure.wcs.pixel_to_sky(10.0, 12.0), atol=1e-11)
            assert hdus["VARIANCE"].data.dtype == np.dtype(">f4")


def test_astropy_reads_tables_written_here(tmp_path):
    from astropy.table import Table

    datastore = FileDatastore(str(tmp_path))
    table = make_table()
    record = datastore.put(table, make_ref("SourceCatalog"))
    with pytest.warns(UserWarning, match="'masked_bool' contains NULL"):
        theirs = Table.read(tmp_path / record.path, hdu=1)
    assert theirs.colnames == table.colnames
    for name in table.colnames:
        # astropy takes text as ASCII, a null as False, and looks for TNULL only before it adds TZERO.
        if name in ("word", "masked_bool", "masked_unsigned", "masked_word"):
            continue
        np.testing.assert_array_equal(
            np.ma.compressed(theirs[name]), np.ma.compressed(table[name]), err_msg=name
        )
    assert str(theirs["coord_ra"].unit) == "rad"


def test_table_with_times_and_coordinates_goes_through_astropy(round_trip):
    from astropy.table import QTable, Table
    from astropy.time import Time

    table = Table({"when": Time(["2020-10-13", "2020-10-14"]), "n": [1, 2]})
    got = round_trip(table, "ArrowAstropy")
    assert (got["when"] == table["when"]).all()
    assert isinstance(got["when"], Time)
    assert round_trip(table, "ArrowAstropy", component="rowcount") == 2
    assert round_trip(table, "ArrowAstropy", parameters={"columns": "n"}).colnames == ["n"]
    assert isinstance(QTable(table), Table)


def test_columns_and_components_of_a_table(round_trip):
    table = make_table()
    some = round_trip(table, "SourceCatalog", parameters={"columns": ["flux", "id"]})
    assert some.colnames == ["flux", "id"]
    assert_same(table["flux"].tolist(), some["flux"].tolist())
    assert round_trip(table, "SourceCatalog", component="columns") == table.colnames
    assert round_trip(table, "SourceCatalog", component="rowcount") == 7
    schema = round_trip(table, "SourceCatalog", component="schema")
    assert schema["coord_ra"] == {
        "dtype": "f8",
        "shape": [],
        "unit": "rad",
        "description": "right ascension, ICRS",
    }
    assert schema["moments"]["shape"] == [2, 3]
    with pytest.raises(DatasetTypeError, match="Did you mean 'flux'"):
        round_trip(table, "SourceCatalog", parameters={"columns": "flx"})


def test_other_kinds_of_objects_are_converted_or_refused(round_trip):
    assert round_trip({"x": [1, 2]}, "ArrowAstropy")["x"].tolist() == [1, 2]
    assert round_trip(np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "ArrowAstropy")["b"][0] == 2.0
    assert round_trip(np.int64(3), "Integer") == 3
    assert round_trip((1, 2), "StructuredDataList") == [1, 2]
    exposure = make_exposure()
    pixels = round_trip(exposure, "ExposureF", wanted="NumpyArray")
    np.testing.assert_array_equal(pixels, exposure.image)
    assert round_trip(make_table(), "ArrowAstropy", wanted="StructuredDataDict")["flag"][0] is True
    with pytest.raises(DatasetTypeError, match=r"thing \{instrument: 'HSC'.*A builtins.str is no ExposureF"):
        round_trip("pixels", "ExposureF")
    with pytest.raises(DatasetTypeError, match=r"not a butler_dask.*Psf"):
        round_trip({"psf": Psf.gaussian(1.0)}, "StructuredDataDict")
    with pytest.raises(DatasetTypeError, match="Python objects"):
        round_trip(np.array([object()]), "NumpyArray")
    with pytest.raises(DatasetTypeError, match="FITS has no pixels of type datetime64"):
        round_trip(np.ones((2, 2), dtype="datetime64[s]"), "ImageF")


@pytest.mark.parametrize(
    ("storage_class", "keep"),
    [
        ("ExposureF", 0.3),
        ("ExposureF", 0.7),
        ("ArrowAstropy", 0.8),
        ("ArrowAstropy", 0.0),
        ("NumpyArray", 0.5),
        ("StructuredDataDict", 0.5),
        ("Psf", 0.6),
        ("ImageF", 0.9),
        ("Pickle", 0.5),
    ],
)
def test_truncated_file_is_reported_with_file_and_dataset(tmp_path, storage_class, keep):
    objects = {
        "ExposureF": make_exposure(),
        "ArrowAstropy": make_table(),
        "NumpyArray": np.zeros((50, 50)),
        "StructuredDataDict": {"a": list(range(100))},
        "Psf": Psf.gaussian(1.0),
        "ImageF": np.zeros((50, 50)),
        "Pickle": {"a": list(range(100))},
    }
    datastore = FileDatastore(str(tmp_path), layout=DatasetLayout(trust={"pickle": True}))
    ref = make_ref(storage_class)
    record = datastore.put(objects[storage_class], ref)
    path = tmp_path / record.path
    path.write_bytes(path.read_bytes()[: int(record.size * keep)])
    with pytest.raises(DatasetFileError) as caught:
        datastore.get(record, ref)
    message = str(caught.value)
    assert record.path in message
    assert "visit: 903344" in message
    assert f"{record.size} were written" in message
    assert datastore.check(record) == f"has {int(record.size * keep)} bytes, {record.size} were written"


def test_file_of_a_later_layout_is_refused_with_advice(tmp_path):
    datastore = FileDatastore(str(tmp_path))
    ref = make_ref("ExposureF")
    record = datastore.put(make_exposure(), ref)
    path = tmp_path / record.path
    path.write_bytes(
        path.read_bytes().replace(b"BDVERS  =                    1", b"BDVERS  =                    9")
    )
    with pytest.raises(FormatVersionError, match=r"version 9.*install a newer"):
        datastore.get(record, ref)


def test_configuration_comes_back_with_its_class_and_values(round_trip):
    from config_for_tests import SmallConfig

    config = SmallConfig()
    config.doDark = False
    config.inner.threshold = 0.1 + 0.2
    got = round_trip(config, "Config")
    assert type(got) is SmallConfig
    assert got == config
    assert got.inner.threshold == 0.1 + 0.2


def test_yaml_document_that_was_ingested_is_read(tmp_path):
    source = tmp_path / "facts.yaml"
    source.write_text("{instrument: HSC, list: [1, 2.5], 5: five}\n")
    datastore = FileDatastore(str(tmp_path / "store"))
    ref = make_ref("StructuredDataDict")
    record = datastore.ingest(str(source), ref, "copy")
    assert record.path.endswith(".yaml")
    assert datastore.get(record, ref) == {"instrument": "HSC", "list": [1, 2.5], 5: "five"}


def test_mask_planes_of_the_file_win_over_the_defaults(round_trip):
    mask = Mask(np.full((2, 2), 4, dtype=np.int32), {"ODD": 2})
    got = round_trip(mask, "Mask")
    assert got.is_set("ODD").all()
    assert got.planes == {"ODD": 2}
