from __future__ import annotations

import numpy as np
import pytest
import yaml

from butler_dask.errors import FormatVersionError, InstrumentNotFoundError
from butler_dask.imaging.camera import Camera, read_camera
from butler_dask.imaging.detector import box_slices, readout_view
from butler_dask.instruments.camera_files import builtin_cameras
from butler_dask.instruments.instrument import Instrument


@pytest.fixture(scope="module", params=["hsc", "hsc_small", "efosc2"])
def camera(request):
    return Instrument.from_camera_file(request.param).getCamera()


@pytest.fixture(scope="module")
def hsc():
    return Instrument.from_camera_file("hsc").getCamera()


def test_amplifiers_tile_the_detector_without_gap_or_overlap(camera):
    for detector in list(camera)[:3]:
        covered = np.zeros(detector.shape, dtype=int)
        for amplifier in detector.amplifiers:
            covered[box_slices(amplifier.box)] += 1
        assert (covered == 1).all()


def test_raw_boxes_lie_in_the_raw_array_and_do_not_overlap(camera):
    detector = next(iter(camera))
    used = np.zeros(detector.raw_shape, dtype=int)
    for amplifier in detector.amplifiers:
        boxes = (
            amplifier.raw_data_box,
            amplifier.raw_serial_overscan_box,
            amplifier.raw_parallel_overscan_box,
            amplifier.raw_prescan_box,
        )
        for box in boxes:
            x0, y0, width, height = box
            assert x0 >= 0
            assert y0 >= 0
            assert x0 + width <= detector.raw_shape[1]
            assert y0 + height <= detector.raw_shape[0]
            used[box_slices(box)] += 1
        assert amplifier.raw_data_box[2:] == amplifier.box[2:]
    assert used.max() == 1


def test_a_camera_survives_its_dictionary(camera):
    again = Camera.from_dict(yaml.safe_load(yaml.safe_dump(camera.to_dict())))
    assert again.to_dict() == camera.to_dict()
    assert list(again.detectors) == list(camera.detectors)
    assert all(a == b for a, b in zip(again, camera, strict=True))


def test_hsc_is_complete(hsc):
    assert len(hsc) == 112
    assert [d.id for d in hsc if d.purpose == "SCIENCE"] == list(range(104))
    assert {hsc[n].yaw_deg % 180 for n in (100, 101, 102, 103)} == {90.0}
    assert hsc[5].name == "1_43"
    assert hsc.filter("HSC-r").band == "r"


def test_hsc_detectors_do_not_overlap_on_the_focal_plane(hsc):
    centres = np.array([[d.focal_plane_x_mm, d.focal_plane_y_mm] for d in hsc])
    halves = np.array(
        [
            (np.array(d.shape[::-1]) if d.yaw_deg % 180 == 0 else np.array(d.shape)) * d.pixel_size_mm / 2
            for d in hsc
        ]
    )
    apart = np.abs(centres[:, None] - centres[None]) - (halves[:, None] + halves[None])
    overlap = (apart < 0).all(axis=2)
    assert overlap.sum() == len(hsc)  # each with itself only


# The rough WCS of real raw headers (one-based, raw columns): detector -> CRPIX1, CRPIX2.
@pytest.mark.parametrize(
    ("detector", "crpix1", "crpix2"), [(50, 1024.5, 4395.167), (37, -3220.833, 17801.167)]
)
def test_hsc_initial_wcs_agrees_with_raw_headers(hsc, detector, crpix1, crpix2):
    wcs = hsc.initial_wcs(detector, 320.75, 0.5, 270.0).astropy.wcs
    assert 2049 - wcs.crpix[0] == pytest.approx(crpix1, abs=1.5)  # raw columns are mirrored in assembly
    assert wcs.crpix[1] == pytest.approx(crpix2, abs=1.5)
    # Headers: CD1_2 > 0, CD2_1 < 0; mirrored columns turn CD2_1 around.
    assert wcs.cd[0, 1] == pytest.approx(0.168 / 3600)
    assert wcs.cd[1, 0] == pytest.approx(0.168 / 3600)


def test_rotation_angle_is_the_position_angle_of_focal_plane_y(camera):
    detector = next(d for d in camera if d.yaw_deg == 0)
    for angle in (0.0, 30.0, 200.0):
        wcs = camera.initial_wcs(detector, 10.0, 20.0, angle)
        x, y = wcs.astropy.wcs.crpix - 1
        ra, dec = wcs.pixel_to_sky(np.array([x, x]), np.array([y, y + 1]))
        east = (ra[1] - ra[0]) * np.cos(np.radians(20.0))
        assert np.degrees(np.arctan2(east, dec[1] - dec[0])) % 360 == pytest.approx(angle, abs=1e-3)


def test_radial_distortion_is_what_it_says(hsc):
    document = hsc.to_dict() | {"radial_distortion": [1e-6, -2e-12]}
    distorted = Camera.from_dict(document)
    plain, bent = (c.initial_wcs(0, 30.0, 0.0, 0.0) for c in (hsc, distorted))
    x, y = np.array([0.0, 2047.0]), np.array([0.0, 4175.0])
    axis = plain.astropy.wcs.crpix[:, None] - 1
    offset = np.stack([x, y]) - axis
    r_mm = np.hypot(*offset) * 0.015
    moved = axis + offset * (1 + 1e-6 * r_mm**2 - 2e-12 * r_mm**4)
    np.testing.assert_allclose(bent.pixel_to_sky(x, y), plain.pixel_to_sky(*moved), rtol=0, atol=1e-10)


def test_readout_order_mirrors_channels_read_from_the_other_side(hsc):
    detector = hsc[5]
    columns = np.broadcast_to(np.arange(2048), detector.shape)
    first = [int(readout_view(columns, a)[0, 0]) for a in detector.amplifiers]
    # Raw channels 1 and 3 are read from their left, 2 and 4 from their right; assembly mirrors all.
    assert first == [2047, 1024, 1023, 0]


def test_unknown_detectors_and_filters_name_the_nearest(hsc):
    with pytest.raises(KeyError, match="between 0 and 111"):
        hsc[112]
    with pytest.raises(KeyError, match="1_43"):
        hsc["1_433"]
    with pytest.raises(KeyError, match="HSC-R"):
        hsc.filter("HSC-RR")


def test_a_camera_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("camera_version: 99\nname: X\n")
    with pytest.raises(FormatVersionError, match="99"):
        read_camera(path)


def test_everything_wrong_with_a_camera_file_is_named_at_once():
    document = Instrument.from_camera_file("efosc2").getCamera().to_dict()
    row = dict(document["detectors"][0])
    document["detectors"] = [row, row | {"id": 1, "type": "type9"}, {"id": 2, "name": "x", "gain": [1, 2]}]
    with pytest.raises(ValueError, match="type9") as caught:
        Camera.from_dict(document)
    assert "one number an amplifier" in str(caught.value)


def test_instruments_are_found_by_all_their_names(tmp_path):
    for name in ("HSC", "hsc", "lsst.obs.subaru.HyperSuprimeCam"):
        assert Instrument.from_string(name).getName() == "HSC"
    assert Instrument.from_string("EFOSC2").getName() == "EFOSC2"
    path = tmp_path / "mine.yaml"
    document = Instrument.from_string("efosc2").getCamera().to_dict() | {"name": "Mine"}
    path.write_text(yaml.safe_dump(document))
    mine = Instrument.from_string(str(path))
    assert mine.getName() == "Mine"
    assert mine.makeDefaultRawIngestRunName() == "Mine/raw/all"
    assert mine.makeCalibrationCollectionName() == "Mine/calib"
    assert mine.makeUnboundedCalibrationRunName() == "Mine/calib/unbounded"
    assert Instrument("prefix", camera=mine.getCamera()).makeCollectionName("x") == "prefix/x"


def test_an_unknown_instrument_names_those_there_are():
    assert builtin_cameras() == ["efosc2", "hsc", "hsc_small"]
    with pytest.raises(InstrumentNotFoundError, match="hsc_small"):
        Instrument.from_string("hsc_smal")
    with pytest.raises(InstrumentNotFoundError, match="no_such_module"):
        Instrument.from_string("no_such_module.Camera")


def test_a_class_may_be_an_instrument():
    found = Instrument.from_string(f"{__name__}.OwnInstrument")
    assert found.getName() == "Own"
    assert found.collection_prefix == "Own"


class OwnInstrument(Instrument):
    def getName(self):
        return "Own"
