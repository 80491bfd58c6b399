"""Real frames: NTT/EFOSC2, from raw files to warps, by the documented script."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm_commands as warm
from command_line import MODULES, ROOT, warm_commands
from public_frames import public_data

from butler_dask import Butler

RUN = "EFOSC2/runs/q1010"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Repository that `pipelines/efosc2_q1010.sh` made."""
    frames = public_data("efosc2_q1010")
    directory = tmp_path_factory.mktemp("efosc2")
    programs = directory / "bin"
    programs.mkdir()
    for name, module in MODULES.items():
        script = programs / name
        # Python without its site packages starts in no time; the server of commands has them.
        client = f'"{sys.executable}" -IS "{warm.__file__}" "{warm_commands().address}"'
        script.write_text(f'#!/bin/sh\nexec {client} {module} "$@"\n')
        script.chmod(0o755)
    environment = dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        ["bash", str(ROOT / "pipelines" / "efosc2_q1010.sh"), str(frames), "REPO"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return str(directory / "REPO")


@pytest.fixture(scope="module")
def butler(repository: str) -> Butler:
    with Butler(repository, collections=f"{RUN}-relative", instrument="EFOSC2") as butler:
        yield butler


def visits(butler: Butler) -> list[int]:
    return sorted(int(r.dataId["visit"]) for r in butler.query_datasets("calexp"))


def test_sky_and_noise_are_those_of_a_plain_reduction(butler):
    # README of the frames: sky 415..422 e-, background rms 23.1 e-; sky and read noise predict 23.7.
    assert len(visits(butler)) == 3
    for visit in visits(butler):
        calexp = butler.get("calexp", visit=visit, detector=0)
        assert 413.0 < calexp.summary_stats["skyLevel"] < 424.0
        empty = ~calexp.mask.is_set(["BAD", "SAT", "DETECTED", "CR", "EDGE", "NO_DATA", "INTRP"])
        noise = 1.4826 * np.median(abs(calexp.image[empty] - np.median(calexp.image[empty])))
        assert 22.0 < noise < 24.5
        # The variance plane must tell the noise there is (the header's read noise would not).
        assert np.sqrt(np.median(calexp.variance[empty])) == pytest.approx(noise, rel=0.08)


def good_sources(butler: Butler, visit: int):
    sources = butler.get("src", visit=visit, detector=0)
    good = ~sources["sky_source"] & ~sources["base_PsfFlux_flag"] & (sources["deblend_nChild"] == 0)
    return sources[good & (sources["base_PsfFlux_instFlux"] > 5 * sources["base_PsfFlux_instFluxErr"])]


def test_at_least_as_many_sources_as_a_plain_reduction_and_most_are_seen_again(butler):
    # The plain reduction found 44, 48 and 53; a source must be real, so it is there in another exposure.
    from scipy.spatial import cKDTree

    catalogs = {visit: good_sources(butler, visit) for visit in visits(butler)}
    assert min(len(c) for c in catalogs.values()) >= 53
    first, second = (catalogs[v] for v in visits(butler)[:2])
    cos_dec = np.cos(np.median(first["coord_dec"]))

    def plane(catalog):
        return np.degrees(np.c_[catalog["coord_ra"] * cos_dec, catalog["coord_dec"]]) * 3600.0

    bright = first[first["base_PsfFlux_instFlux"] > 15 * first["base_PsfFlux_instFluxErr"]]
    distance, _ = cKDTree(plane(second)).query(plane(bright))
    assert (distance < 1.5).mean() > 0.75


def test_star_positions_agree_between_warps(butler):
    import sep

    sources = good_sources(butler, visits(butler)[0])
    stars = sources[
        (sources["base_PsfFlux_instFlux"] > 50 * sources["base_PsfFlux_instFluxErr"])
        & (sources["base_ClassificationExtendedness_value"] < 0.5)
    ]
    places: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for ref in butler.query_datasets(
        "deepCoadd_directWarp", where="instrument='EFOSC2' AND skymap='q1010'", find_first=True
    ):
        warp = butler.get(ref)
        image = np.where(np.isfinite(warp.image), warp.image, 0.0).astype(np.float32)
        poor = warp.mask.is_set(["NO_DATA", "SAT", "BAD", "CR"])
        x, y = warp.wcs.sky_to_pixel(np.degrees(stars["coord_ra"]), np.degrees(stars["coord_dec"]))
        ny, nx = warp.shape
        for i in np.flatnonzero((x > 20) & (x < nx - 20) & (y > 20) & (y < ny - 20)):
            if not poor[int(y[i]) - 10 : int(y[i]) + 11, int(x[i]) - 10 : int(x[i]) + 11].any():
                xw, yw, _ = sep.winpos(image, [x[i]], [y[i]], 2.0)
                places.setdefault((int(i), int(ref.dataId["patch"])), []).append((xw[0], yw[0]))
    shifts = np.concatenate([np.array(p)[1:] - p[0] for p in places.values() if len(p) > 1])
    assert len(shifts) >= 5
    assert np.hypot(*shifts.T).max() < 0.2


def test_calibration_products_are_sane(repository):
    with Butler(repository, collections="EFOSC2/calib", instrument="EFOSC2") as butler:
        (bias,) = butler.query_datasets("bias", find_first=False)
        (flat,) = butler.query_datasets("flat", find_first=False)
        # README of the frames: bias 3.1 ADU after overscan; flat 1..99 % = 0.905..1.032.
        assert np.median(butler.get(bias).image) == pytest.approx(3.1, abs=0.5)
        low, high = np.percentile(butler.get(flat).image, [1, 99])
        assert 0.85 < low < 0.95
        assert 1.0 < high < 1.06


def test_script_is_named_in_the_readme():
    assert "pipelines/efosc2_q1010.sh" in (ROOT / "README.md").read_text()
    assert os.access(Path(ROOT) / "pipelines" / "efosc2_q1010.sh", os.X_OK)
