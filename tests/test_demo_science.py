"""The whole chain on the demonstration survey, against the truth it was simulated from."""

import numpy as np
import pytest
from command_line import Commands
from scipy.spatial import cKDTree

from butler_dask import Butler
from butler_dask.imaging.simulated_sky import SimulatedSky
from butler_dask.instruments.demo_survey import SMALL, demo_sky
from butler_dask.instruments.instrument import Instrument

VISITS = (903342, 903344)


@pytest.fixture(scope="module")
def truth() -> SimulatedSky:
    """Sky of `butler demo --small`."""
    return demo_sky(Instrument.from_camera_file("hsc_small").getCamera(), SMALL, 1)


@pytest.fixture(scope="module")
def processed(commands: Commands) -> Butler:
    """Butler of a run of two visits of detector 5."""
    commands(
        *("pipetask", "run", "-b", "DATA", "-p", "pipelines/example.yaml", "-i", "HSC/defaults"),
        *("-o", "u/science"),
        *("-d", f"instrument='HSC' AND visit IN {VISITS} AND detector=5"),
    )
    with Butler(str(commands.directory / "DATA"), collections="u/science", instrument="HSC") as butler:
        yield butler


def stars_of(truth: SimulatedSky) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return right ascension, declination [deg] and r magnitude of the true stars."""
    table = truth.truth
    star = np.asarray(table["is_star"])
    return np.asarray(table["ra"])[star], np.asarray(table["dec"])[star], np.asarray(table["mag_r"])[star]


@pytest.mark.parametrize("visit", VISITS)
def test_positions_and_magnitudes_of_stars_agree_with_truth(processed, truth, visit):
    sources = processed.get("src", visit=visit, detector=5)
    calib = processed.get("calexp.photoCalib", visit=visit, detector=5)
    ra, dec, mag = stars_of(truth)
    signal_to_noise = sources["base_PsfFlux_instFlux"] / sources["base_PsfFlux_instFluxErr"]
    good = ~sources["sky_source"] & ~sources["base_PsfFlux_flag"] & (sources["deblend_nChild"] == 0)
    good &= (signal_to_noise > 50) & ~sources["base_PixelFlags_flag_saturatedCenter"]
    cos_dec = np.cos(np.radians(dec.mean()))
    measured = np.c_[np.degrees(sources["coord_ra"]) * cos_dec, np.degrees(sources["coord_dec"])][good]
    distance, nearest = cKDTree(np.c_[ra * cos_dec, dec]).query(measured)
    matched = distance * 3600 < 0.3
    assert matched.sum() > 20
    offsets_mas = (measured - np.c_[ra * cos_dec, dec][nearest])[matched] * 3600e3
    # A star of signal-to-noise ratio 50 has sigma(PSF) / 50 = 6 mas; the bound is 20 mas rms.
    assert np.sqrt((offsets_mas**2).mean(axis=0)).max() < 20.0
    assert abs(np.median(offsets_mas, axis=0)).max() < 10.0
    residual = (
        calib.instFluxToMagnitude(sources["base_PsfFlux_instFlux"][good])[matched] - mag[nearest][matched]
    )
    assert abs(np.median(residual)) < 0.02


def test_warped_stars_are_where_the_sky_map_says(processed, truth):
    import sep

    ra, dec, mag = stars_of(truth)
    bright = (mag > 17.5) & (mag < 20.5)
    offsets = []
    for ref in processed.query_datasets("deepCoadd_directWarp", where="instrument='HSC' AND visit=903344"):
        warp = processed.get(ref)
        x, y = warp.wcs.sky_to_pixel(ra[bright], dec[bright])
        ny, nx = warp.shape
        inside = (x > 25) & (x < nx - 26) & (y > 25) & (y < ny - 26)
        image = np.where(np.isfinite(warp.image), warp.image, 0.0).astype(np.float32)
        poor = warp.mask.is_set(["NO_DATA", "SAT", "BAD", "INTRP", "CR"])
        for xi, yi in zip(x[inside], y[inside], strict=True):
            box = np.s_[int(yi) - 15 : int(yi) + 16, int(xi) - 15 : int(xi) + 16]
            if poor[box].any():
                continue
            xw, yw, flag = sep.winpos(image, [xi], [yi], 2.0)
            if flag[0] == 0:
                offsets.append((xw[0] - xi, yw[0] - yi))
    offsets = np.array(offsets)
    assert len(offsets) > 20
    # The median is robust against neighbours within the window; the bound is 0.1 pixels.
    assert np.median(np.hypot(*offsets.T)) < 0.1
    assert abs(np.median(offsets, axis=0)).max() < 0.05


def test_every_recorded_dataset_is_readable(processed):
    runs = processed.collections.query("u/science/*")
    refs = list(processed.query_all_datasets(runs, find_first=False, limit=None))
    assert len(refs) > 50
    for ref in refs:
        assert processed.get(ref) is not None
