from __future__ import annotations

import gzip
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from astropy.io import fits
from hsc_header import HSC_CARDS
from public_frames import public_data

from butler_dask.datastore.formatter import ReadRequest
from butler_dask.errors import DatasetFileError, RawIngestError
from butler_dask.imaging.camera import Camera
from butler_dask.instruments.instrument import Instrument
from butler_dask.instruments.raw_files import find_raw_files, read_raw_facts
from butler_dask.instruments.raw_frame import RawFormatter, read_raw
from butler_dask.instruments.raw_headers import recognises, translate_header
from butler_dask.instruments.visits import detector_region


@pytest.fixture(scope="module")
def small():
    return Instrument.from_camera_file("hsc_small").getCamera()


@pytest.fixture
def raw_file(tmp_path, small):
    data = np.arange(1049 * 1120, dtype=np.uint32).reshape(small[5].raw_shape).astype(np.uint16)
    hdu = fits.PrimaryHDU(data, fits.Header(list(HSC_CARDS.items())))
    hdu.writeto(tmp_path / "HSCA90334405.fits")
    return tmp_path / "HSCA90334405.fits"


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor(
    "lsst.daf.base.PropertyList",
    lambda loader, node: {row[0]: row[2] for row in loader.construct_sequence(node, deep=True)},
)


def real_header(name):
    text = (public_data("headers") / name).read_text().replace("!<lsst", "!lsst", 1).replace(">", "", 1)
    _Loader.add_constructor(
        "!lsst.daf.base.PropertyList", _Loader.yaml_constructors["lsst.daf.base.PropertyList"]
    )
    return yaml.load(text, Loader=_Loader)


def test_a_raw_is_read_with_all_its_components(raw_file, small):
    raw = read_raw(raw_file, small)
    assert raw.image.dtype == np.uint16
    assert raw.image[0, :3].tolist() == [0, 1, 2]
    assert raw.image[1000, 1000] == (1000 * 1120 + 1000) % 65536
    assert raw.visit_info.exposure_id == 903344
    assert raw.visit_info.dark_time_s == 30.0
    assert raw.visit_info.begin_tai.startswith("2013-06-17T13:33:26.100")  # TAI - UTC was 35 s
    assert raw.visit_info.observation_type == "science"
    assert raw.filter.physical == "HSC-R"
    assert raw.filter.band == "r"
    assert raw.metadata["OBJECT"] == "COSMOS"
    assert raw.detector.id == 5
    ra, dec = raw.wcs.astropy.wcs.crval
    assert (ra, dec) == (pytest.approx(150.1191667), pytest.approx(2.2058333))


def test_gains_of_the_header_replace_those_of_the_camera_file(raw_file, small):
    detector = read_raw(raw_file, small).detector
    assert detector["2"].gain == 3.75
    assert detector["1"].gain == small[5]["1"].gain


@pytest.mark.parametrize("component", ["wcs", "visitInfo", "detector", "filter", "metadata"])
def test_components_read_alone_are_those_of_the_whole(raw_file, small, tmp_path, component):
    instrument = Instrument(camera=small)
    instrument.write_camera_file(str(tmp_path))
    reader = RawFormatter()
    request = ReadRequest(str(raw_file), "Exposure", root=str(tmp_path), data_id={"instrument": "HSC"})
    whole = reader.read(request)
    part = reader.read(replace(request, component=component))
    attribute = {"visitInfo": "visit_info"}.get(component, component)
    expected = getattr(whole, attribute)
    if component == "wcs":
        assert part.to_header() == expected.to_header()
    else:
        assert part == expected


def test_a_box_of_a_raw_is_cut_out(raw_file, small, tmp_path):
    Instrument(camera=small).write_camera_file(str(tmp_path))
    box = {"bbox": (10, 20, 5, 4)}
    part = RawFormatter().read(
        ReadRequest(str(raw_file), "Exposure", None, box, str(tmp_path), {"instrument": "HSC"})
    )
    assert part.shape == (4, 5)
    assert part.xy0 == (10, 20)
    assert part.image[0, 0] == (20 * 1120 + 10) % 65536


@pytest.mark.parametrize("compress", [False, True])
def test_an_image_in_an_extension_is_read_with_the_cards_of_both_headers(raw_file, small, tmp_path, compress):
    plain = fits.getdata(raw_file)
    primary = fits.PrimaryHDU(header=fits.Header(list(HSC_CARDS.items())))
    extension = (fits.CompImageHDU if compress else fits.ImageHDU)(plain)
    extension.header["EXTRA"] = 7
    path = tmp_path / "multi.fits"
    fits.HDUList([primary, extension]).writeto(path)
    camera = Camera.from_dict(small.to_dict() | {"raw": {"translator": "HSC", "hdu": 1}})
    raw = read_raw(path, camera)
    assert (raw.image == plain).all()
    assert raw.image.dtype == np.uint16
    assert raw.metadata["EXTRA"] == 7
    assert raw.visit_info.exposure_id == 903344
    with pytest.raises(DatasetFileError, match="number 1"):
        read_raw(raw_file, camera)


def test_a_gzipped_raw_is_read(raw_file, small):
    packed = raw_file.with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(raw_file.read_bytes()))
    assert (read_raw(packed, small).image == read_raw(raw_file, small).image).all()
    packed.write_bytes(packed.read_bytes()[:-500])
    with pytest.raises(DatasetFileError, match="truncated"):
        read_raw(packed, small)


@pytest.mark.parametrize("keep", [100, 5000, 1_000_000])
def test_a_truncated_file_is_named(raw_file, small, keep):
    raw_file.write_bytes(raw_file.read_bytes()[:keep])
    with pytest.raises(DatasetFileError, match=raw_file.name):
        read_raw(raw_file, small)


def test_a_file_that_is_not_fits_is_named(tmp_path, small):
    path = tmp_path / "notes.fits"
    path.write_text("not a FITS file")
    with pytest.raises(DatasetFileError, match=r"notes\.fits"):
        read_raw(path, small)


def test_a_raw_of_another_shape_names_both_shapes(raw_file):
    with pytest.raises(DatasetFileError, match=r"\(1049, 1120\).*\(4241, 2144\)"):
        read_raw(raw_file, Instrument.from_camera_file("hsc").getCamera())


def test_problems_of_headers_are_reported_by_file(raw_file, small, tmp_path):
    def changed(name, **cards):
        path = tmp_path / name
        shutil.copy(raw_file, path)
        with fits.open(path, mode="update") as hdus:
            for keyword, value in cards.items():
                hdus[0].header[keyword.replace("_", "-") if "_" in keyword else keyword] = value
        return str(path)

    files = [
        str(raw_file),
        changed("filter.fits", FILTER01="HSC-Q"),
        changed("detector.fits", DET_ID=99),
        changed("camera.fits", INSTRUME="FORS2"),
        changed("number.fits", EXP_ID="nonsense"),
    ]
    raws, problems = read_raw_facts(files, [Instrument(camera=small)])
    assert [r.path for r in raws] == [str(raw_file)]
    assert set(problems) == set(files[1:])
    assert "HSC-Q" in problems[files[1]]
    assert "no detector 99" in problems[files[2]]
    assert "FORS2" in problems[files[3]]
    assert "register-instrument" in problems[files[3]]
    assert all(name in text for name, text in problems.items())


def test_missing_cards_are_named(small):
    cards = {k: v for k, v in HSC_CARDS.items() if k != "EXPTIME"}
    with pytest.raises(RawIngestError, match="exposure_time"):
        translate_header(cards, small, path="x.fits")


def test_files_are_found_in_directories_and_by_globs(tmp_path):
    for name in ("a.fits", "b.fits.gz", "notes.txt", "deep/c.fits"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_raw_files([tmp_path, tmp_path / "*.txt"])
    assert [f.rsplit("/", 1)[1] for f in found] == ["a.fits", "b.fits.gz", "c.fits", "notes.txt"]
    with pytest.raises(RawIngestError, match="nowhere"):
        find_raw_files([tmp_path / "nowhere"])


def test_real_hsc_headers_are_translated():
    camera = Instrument.from_camera_file("hsc").getCamera()
    header = real_header("fitsheader-hsc.yaml")
    assert recognises(header, camera)
    facts = translate_header(header, camera)
    # The expected values are those the translator's authors give in fitsheader-hsc.json.
    assert (facts.exposure_id, facts.visit_id, facts.detector) == (904024, 904024, 50)
    assert facts.physical_filter == "HSC-I"
    assert facts.day_obs == 20131102
    assert facts.group == "904024"
    assert facts.observation_type == "science"
    assert (facts.ra_deg, facts.dec_deg) == (pytest.approx(320.749925), pytest.approx(0.50001944))
    assert facts.rotation_deg == pytest.approx(270.0)
    assert facts.zenith_angle_deg == pytest.approx(90 - 63.04359233)
    assert facts.begin.utc.isot == "2013-11-02T06:15:55.908"
    assert facts.end.utc.isot == "2013-11-02T06:16:27.928"
    other = translate_header(real_header("fitsheader-hsc-HSCA04090107.yaml"), camera)
    assert (other.exposure_id, other.detector, other.physical_filter) == (40900, 37, "HSC-R")


def test_headers_of_other_instruments_are_not_taken_for_hsc():
    camera = Instrument.from_camera_file("hsc").getCamera()
    for name in ("fitsheader-decam.yaml", "fitsheader-megaprime.yaml"):
        assert not recognises(real_header(name), camera)


def test_efosc2_headers_are_translated_in_spite_of_their_labels():
    camera = Instrument.from_camera_file("efosc2").getCamera()
    files = sorted(str(p) for p in public_data("efosc2_q1010").glob("*.fits.gz"))
    raws, problems = read_raw_facts(files, [Instrument(camera=camera)])
    assert not problems
    kinds = [r.facts.observation_type for r in raws]
    assert kinds == ["bias"] * 5 + ["flat"] * 3 + ["science"] * 3
    assert len({r.facts.exposure_id for r in raws}) == 11
    assert {r.facts.physical_filter for r in raws[5:]} == {"g#782"}
    assert [r.facts.day_obs for r in raws] == [20220126] * 5 + [20220127] * 6
    assert raws[-1].facts.dark_time_s == pytest.approx(180.088)
    assert raws[-1].facts.azimuth_deg == pytest.approx(36.019)


def test_efosc2_wcs_is_that_of_the_header_in_trimmed_pixels():
    camera = Instrument.from_camera_file("efosc2").getCamera()
    path = sorted(public_data("efosc2_q1010").glob("*.fits.gz"))[-1]
    raw = read_raw(path, camera)
    header_wcs = fits.getheader(path)
    assert raw.wcs.astropy.wcs.crpix[0] == pytest.approx(header_wcs["CRPIX1"] - 8)
    assert raw.wcs.astropy.wcs.crpix[1] == pytest.approx(header_wcs["CRPIX2"] - 4)
    np.testing.assert_allclose(np.diag(raw.wcs.astropy.wcs.cd), header_wcs["CD1_1"], rtol=1e-6)
    assert raw.detector["L"].gain == 1.1
    assert raw.detector["L"].read_noise == 12.0


def test_detector_regions_contain_the_detector_and_its_padding(small):
    from lsst.sphgeom import LonLat, UnitVector3d

    region = detector_region(small, 5, 150.0, 2.0, 270.0, padding_pixels=100)
    wcs = small.initial_wcs(5, 150.0, 2.0, 270.0)
    for x, y, inside in ((-99, -99, True), (1123, 1123, True), (-102, 500, False), (500, 1126, False)):
        ra, dec = wcs.pixel_to_sky(x, y)
        assert region.contains(UnitVector3d(LonLat.fromDegrees(float(ra), float(dec)))) == inside
