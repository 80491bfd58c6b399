"""Headers of real instruments, from cards to exposure records."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.time import Time
from command_line import Commands
from public_frames import find_public_data

from butler_dask import Butler
from butler_dask.instruments.instrument import Instrument
from butler_dask.instruments.raw_ingest import ingest_raws
from butler_dask.instruments.visits import define_visits

HEADERS = find_public_data("headers") or Path("headers")

pytestmark = pytest.mark.skipif(
    not HEADERS.is_dir(), reason="no folder of real headers; BUTLER_DASK_TEST_DATA names its parent"
)

# File, translator, detector, filter, kind of exposure, cards of: seconds open, begin, right ascension and
# declination (sexagesimal unless numbers).
FILES = {
    "decam-0160496": ("DECam", 25, "solid plate 0.0 0.0", "bias", "EXPTIME", "DATE-OBS", None),
    "decam-calexp-0412037_10": ("DECam", 1, "g", "science", "EXPTIME", None, None),
    "decam-instcal-c4d_190402_050618_ooi_VR_v1": (
        "DECam",
        1,
        "VR DECam c0007 6300.0 2600.0",
        "science",
        "EXPTIME",
        "DATE-OBS",
        ("RA", "DEC"),
    ),
    "decam-raw_dec050441_25": (
        "DECam",
        25,
        "g DECam SDSS c0001 4720.0 1520.0",
        "science",
        "EXPTIME",
        "DATE-OBS",
        None,  # the translator knows that the telescope was wrong by 0.03 degrees
    ),
    "decam": (
        "DECam",
        25,
        "z DECam SDSS c0004 9260.0 1520.0",
        "science",
        "EXPTIME",
        "DATE-OBS",
        ("TELRA", "TELDEC"),
    ),
    "hsc-HSCA04090107": ("HSC", 37, "HSC-R", "science", "EXPTIME", ("DATE-OBS", "UT"), ("RA2000", "DEC2000")),
    "hsc": ("HSC", 50, "HSC-I", "science", "EXPTIME", ("DATE-OBS", "UT"), ("RA2000", "DEC2000")),
    "megaprime-calexp-849375-14": ("MegaPrime", 99, "r", "science", "EXPTIME", None, None),
    "megaprime": ("MegaPrime", 2, "i.MP9702", "science", "EXPTIME", ("DATE-OBS", "UTC-OBS"), None),
    "sdss-fpC-006377-g4-0399": ("SDSS", 15, "g", "science", "EXPTIME", None, None),
    "suprimecam-CORR40535770": (
        "SuprimeCam",
        0,
        "W-S-R+",
        "science",
        "EXPTIME",
        ("DATE-OBS", "UT"),
        ("RA2000", "DEC2000"),
    ),
}


def header_of(name):
    from astro_metadata_translator.tests import read_test_file

    return dict(read_test_file(str(HEADERS / f"fitsheader-{name}.yaml")))


def camera_file(folder, translator):
    """Write the camera file a user would write for an instrument that is not shipped: tiny detectors."""
    used = [f for f in FILES.values() if f[0] == translator]
    box = {"name": "A", "box": [0, 0, 8, 6], "raw": [0, 0, 10, 6], "data": [0, 0, 8, 6]}
    box |= {"serial_overscan": [8, 0, 2, 6], "gain": 4.0, "read_noise": 7.0, "saturation": 60000.0}
    document = {
        "camera_version": 1,
        "name": translator,
        "plate_scale_arcsec_per_mm": 17.6,
        "limits": {"visit_max": 2**31 - 1, "exposure_max": 2**31 - 1, "detector_max": 200},
        "filters": [{"physical_filter": f, "band": f[0]} for f in sorted({f[2] for f in used})],
        "raw": {"translator": translator, "hdu": 0},
        "detector_types": {"tiny": {"shape": [6, 8], "raw_shape": [6, 10], "amplifiers": [box]}},
        "detectors": [
            {"id": d, "name": f"D{d}", "type": "tiny", "x_mm": 0.0, "y_mm": 0.0, "pixel_size_mm": 0.015}
            for d in sorted({f[1] for f in used})
        ],
    }
    path = folder / f"{translator}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def write_raw(path, cards, value=7):
    """Write a FITS file with the cards of a header and few pixels."""
    structure = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "BSCALE", "BZERO")
    header = fits.Header()
    for key, content in cards.items():
        if (
            key.startswith(structure)
            or key in ("COMMENT", "HISTORY", "")
            or isinstance(content, (list, dict))
        ):
            continue
        if content is None or (isinstance(content, float) and not np.isfinite(content)):
            continue
        name = key if len(key) <= 8 and "." not in key else f"HIERARCH {key}"
        if len(f"{name}{content}") < 68:
            header[name] = content
    fits.PrimaryHDU(np.full((6, 10), value, dtype=np.uint16), header).writeto(path)
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with one exposure of each header, and the files."""
    from astropy.utils.data import conf

    folder = tmp_path_factory.mktemp("headers")
    Butler.makeRepo(folder / "DATA")
    with Butler(folder / "DATA", writeable=True) as butler:
        for translator in sorted({f[0] for f in FILES.values()}):
            place = "hsc" if translator == "HSC" else camera_file(folder, translator)
            Instrument.from_camera_file(place).register(butler)
        (folder / "raws").mkdir()
        for n, name in enumerate(FILES):
            write_raw(folder / "raws" / f"{name}.fits", header_of(name), n)
        # One translator would ask the network for the place of its observatory.
        with conf.set_temp("allow_internet", False):
            ingest_raws(butler, [folder / "raws"], transfer="direct")
        yield butler


@pytest.mark.parametrize("name", FILES)
def test_exposure_record_says_what_the_cards_say(repository, name):
    translator, detector, filter_name, kind, seconds, begin, place = FILES[name]
    cards = header_of(name)
    (ref,) = [
        r
        for r in repository.query_datasets("raw", f"{translator}/raw/all", instrument=translator)
        if repository.getURI(r).endswith(f"/{name}.fits")
    ]
    assert ref.dataId["detector"] == detector
    (record,) = repository.query_dimension_records(
        "exposure", instrument=translator, exposure=ref.dataId["exposure"]
    )
    assert record.physical_filter == filter_name
    assert record.observation_type == kind
    assert record.exposure_time == pytest.approx(float(cards[seconds]), abs=0.01)
    if begin is not None:
        text = str(cards[begin]) if isinstance(begin, str) else "T".join(str(cards[b]) for b in begin)
        card = Time(text, scale="utc")
        # Some observatories give the middle, and all a second or two of their own.
        assert abs((record.timespan.begin - card).sec) <= record.exposure_time / 2 + 2.0
    length = (record.timespan.end - record.timespan.begin).sec
    # Some give the end of the readout or of the transfer; one card is nine hours late and must not count.
    assert record.exposure_time - 1.0 < length < record.exposure_time + 120.0
    if place is not None:
        from astropy.coordinates import Angle

        ra, dec = (cards[key] for key in place)
        ra = Angle(ra, unit="hourangle").deg if isinstance(ra, str) else ra
        assert record.tracking_ra == pytest.approx(ra, abs=0.02)
        assert record.tracking_dec == pytest.approx(Angle(dec, unit="deg").deg, abs=0.02)
    if kind == "bias":
        assert (record.can_see_sky, record.tracking_ra) == (False, None)


def test_header_as_json_says_the_same_as_in_yaml():
    from astro_metadata_translator.tests import read_test_file

    as_json = json.loads((HEADERS / "fitsheader-hsc-HSCA04090107.json").read_text())
    if "__CONTENT__" in as_json:
        del as_json["__CONTENT__"]
    as_yaml = dict(read_test_file(str(HEADERS / "fitsheader-hsc-HSCA04090107.yaml")))
    same = [k for k in ("EXP-ID", "DET-ID", "FILTER01", "EXPTIME", "DATE-OBS") if as_json[k] == as_yaml[k]]
    assert len(same) == 5


def test_record_agrees_with_the_translation_the_header_came_with(repository):
    said = json.loads((HEADERS / "fitsheader-hsc.json").read_text())
    (record,) = repository.query_dimension_records("exposure", instrument="HSC", exposure=said["exposure_id"])
    assert record.physical_filter == said["physical_filter"]
    assert record.exposure_time == said["exposure_time"]
    begin = Time(*said["datetime_begin"], format="jd", scale="tai")
    assert abs((record.timespan.begin - begin).sec) < 1e-4
    assert record.sky_angle == pytest.approx(said["boresight_rotation_angle"])


def test_pixels_of_a_camera_that_a_user_described_are_read(repository):
    (ref,) = repository.query_datasets(
        "raw", "DECam/raw/all", instrument="DECam", exposure=229388, detector=25
    )
    raw = repository.get(ref)
    assert (raw.image == list(FILES).index("decam")).all()
    assert raw.visit_info.exposure_id == 229388
    assert define_visits(repository, "DECam", where="exposure = 229388") == 1
    (region,) = repository.query_dimension_records("visit_detector_region", instrument="DECam", visit=229388)
    assert region.detector == 25


def test_each_bad_file_is_named_and_the_good_ones_are_ingested(tmp_path):
    commands = Commands(tmp_path)
    raws = tmp_path / "raws"
    raws.mkdir()
    good = header_of("decam")
    write_raw(raws / "good.fits", good)
    write_raw(raws / "other.fits", {**good, "CCDNUM": 1, "EXPNUM": 229389, "FILENAME": "x"})
    write_raw(raws / "twin.fits", good)
    write_raw(raws / "no_filter.fits", {**good, "EXPNUM": 3, "FILTER": "unheard of"})
    write_raw(raws / "no_time.fits", {k: v for k, v in good.items() if "DATE" not in k and "MJD" not in k})
    write_raw(raws / "text_time.fits", {**good, "EXPNUM": 4, "EXPTIME": "long"})
    whole = write_raw(raws / "cut.fits", {**good, "EXPNUM": 5}).read_bytes()
    (raws / "cut.fits").write_bytes(whole[:3000])
    commands("butler", "create", "DATA")
    commands("butler", "register-instrument", "DATA", str(camera_file(tmp_path, "DECam")))
    done = commands("butler", "ingest-raws", "DATA", "raws", "--fail-fast", "-t", "direct", code=1)
    bad = ("twin", "no_filter", "no_time", "text_time", "cut")
    assert "5 of 7 raw files cannot be ingested" in done.stderr
    assert [n for n in bad if f"{n}.fits" not in done.stderr] == []
    done = commands("butler", "query-datasets", "DATA")
    assert "raw" not in done.stdout
    done = commands("butler", "ingest-raws", "DATA", "raws", "-t", "direct", "-j", "2", code=1)
    assert "Ingested 2 raws into DECam/raw/all" in done.stdout
    assert "5 of 7 raw files could not be ingested." in done.stderr
    options = ("--skip-existing", "--regex", "^good", "--output-run", "DECam/raw/all")
    done = commands("butler", "ingest-raws", "DATA", "raws", *options, "--update-records")
    assert "Ingested 0 raws" in done.stdout
    done = commands("butler", "ingest-raws", "DATA", "raws", "-c", "failfast=1", code=2)
    assert "failFast" in done.stderr
