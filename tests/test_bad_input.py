"""Bad input: one clear message, exit status 1 or 2, nothing half-recorded."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Commands
from demo_repository import copy_demo

PIPELINE = "pipelines/example.yaml"
QUERY = "instrument='HSC' AND visit=903344 AND detector=5"
START = ("pipetask", "run", "-b", "DATA")
RUN = (*START, "-p", PIPELINE, "-i", "HSC/defaults", "-o", "u/bad")


@pytest.fixture
def unchanged(commands):
    """Check that the repository has the same collections and files after the test as before."""

    def state() -> tuple[str, list[str]]:
        listed = commands("butler", "query-collections", "DATA").stdout
        root = commands.directory / "DATA"
        ours = [str(p) for p in root.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))]
        return listed, sorted(ours)

    before = state()
    yield
    assert state() == before


def message(commands: Commands, *args: str, code: int) -> str:
    """Return the one error message of a command that must fail."""
    text = commands(*args, code=code).stderr
    errors = [line for line in text.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, text
    return text


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(
            (*START, "-p", PIPELINE, "-i", "HSC/default", "-o", "u/bad", "-d", QUERY),
            1,
            ["'HSC/default'", "Did you mean 'HSC/defaults'"],
            id="unknown collection",
        ),
        pytest.param(
            ("butler", "query-datasets", "DATA", "calex", "--collections", "HSC/defaults"),
            1,
            ["'calex'"],
            id="unknown dataset type",
        ),
        pytest.param(
            ("butler", "query-datasets", "DATA", "rwa", "--collections", "HSC/defaults"),
            1,
            ["'rwa'", "Did you mean 'raw'"],
            id="mistyped dataset type",
        ),
        pytest.param(
            ("butler", "query-dimension-records", "DATA", "detectr"),
            1,
            ["'detectr'", "Did you mean 'detector'"],
            id="unknown dimension",
        ),
        pytest.param(
            (*RUN, "-d", "instrument='HSC' AND visit=903344 AND detectr=5"),
            1,
            ["detectr", "detector"],
            id="typo in the data query",
        ),
        pytest.param(
            (*RUN, "-d", "instrument='HSC' AND visit=="), 1, ["visit=="], id="query not well formed"
        ),
        pytest.param(
            (*RUN, "-d", QUERY, "-c", "isrr:doDark=False"), 1, ["'isrr'", "'isr'"], id="unknown task"
        ),
        pytest.param(
            (*RUN, "-d", QUERY, "-c", "isr:doDrk=False"),
            1,
            ["'doDrk'", "'doDark'"],
            id="unknown config field",
        ),
        pytest.param(
            (*RUN, "-d", QUERY, "-c", "isr:doDark=perhaps"),
            1,
            ["doDark", "perhaps"],
            id="value of the wrong type",
        ),
        pytest.param(("butler", "query-collections", "NOWHERE"), 1, ["NOWHERE"], id="missing repository"),
        pytest.param(
            (*RUN, "-d", "instrument='HSC' AND visit=903344 AND detector=20"),
            1,
            ["raw", "detector=20"],
            id="no raw for the query",
        ),
        pytest.param(
            (*START, "-p", "nowhere.yaml", "-i", "HSC/defaults", "-o", "u/bad"),
            1,
            ["nowhere.yaml"],
            id="missing pipeline",
        ),
        pytest.param(("pipetask", "run", "--input", "x"), 2, ["butler-config"], id="missing option"),
        pytest.param(("butler", "query-colections", "DATA"), 2, ["query-collections"], id="unknown command"),
        pytest.param(
            (*START, "-p", PIPELINE, "-i", "HSC/raw/all,refcats,skymaps", "-o", "u/bad", "-d", QUERY),
            1,
            ["HSC/raw/all", "detector"],
            id="missing calibrations",
        ),
        pytest.param(
            ("dask-submit", "run", "--address", "tcp://127.0.0.1:1", *RUN[2:], "-d", QUERY),
            1,
            ["127.0.0.1:1"],
            id="no scheduler at the address",
        ),
        pytest.param(("butler", "register-instrument", "DATA", "HCS"), 1, ["'HCS'"], id="unknown instrument"),
    ],
)
def test_wrong_request_is_one_message_and_changes_nothing(commands, arguments, code, words):
    text = message(commands, *arguments, code=code)
    for word in words:
        assert word in text, text


def one_raw(commands: Commands) -> Path:
    """Return one raw file of the demonstration survey."""
    text = commands(
        "butler", "query-datasets", "DATA", "raw", "--collections", "HSC/raw/all", "--show-uri"
    ).stdout
    name = next(word for word in text.split() if ".fits" in word)
    return Path(name.removeprefix("file://"))


@pytest.mark.usefixtures("unchanged")
def test_truncated_raw_is_not_ingested(commands, tmp_path):
    raw = tmp_path / "cut.fits"
    raw.write_bytes(one_raw(commands).read_bytes()[:1000])
    text = message(commands, "butler", "ingest-raws", "DATA", str(raw), "--transfer", "copy", code=1)
    assert "cut.fits" in text


@pytest.mark.usefixtures("unchanged")
def test_raw_of_an_unknown_instrument_is_not_ingested(commands, tmp_path):
    from astropy.io import fits

    raw = tmp_path / "other.fits"
    header = fits.Header({"INSTRUME": "Nobody's camera", "EXPTIME": 1.0})
    fits.PrimaryHDU(header=header).writeto(raw)
    text = message(commands, "butler", "ingest-raws", "DATA", str(raw), "--transfer", "copy", code=1)
    assert "other.fits" in text


def test_raw_truncated_after_ingest_fails_its_quantum_and_names_the_file(commands):
    raw = one_raw(commands)
    whole = raw.read_bytes()
    target = raw.resolve()
    try:
        raw.unlink()
        raw.write_bytes(whole[: len(whole) // 2])
        from butler_dask import Butler

        with Butler(str(commands.directory / "DATA"), collections="HSC/raw/all", instrument="HSC") as butler:
            refs = {str(butler.getURI(r)): r for r in butler.query_datasets("raw", find_first=True)}
            (ref,) = [r for uri, r in refs.items() if uri.endswith(raw.name)]
        where = (
            f"instrument='HSC' AND exposure={ref.dataId['exposure']} AND detector={ref.dataId['detector']}"
        )
        text = message(
            commands,
            *("pipetask", "run", "-b", "DATA", "-p", f"{PIPELINE}#isr", "-i", "HSC/defaults"),
            *("-o", "u/truncated", "-d", where),
            code=1,
        )
        assert raw.name in text
        found = commands(
            "butler", "query-datasets", "DATA", "postISRCCD", "--collections", "u/truncated", code=1
        )
        assert found.stdout == ""
    finally:
        raw.unlink()
        if target == raw:
            raw.write_bytes(whole)
        else:
            raw.symlink_to(target)


def _unprivileged() -> list[str] | None:
    """Return a command prefix that runs as a user whom file permissions bind, or None."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if shutil.which("setpriv") is None:
        return None
    # This Python may be installed where only root can read.
    able = subprocess.run([*prefix, sys.executable, "-c", "import click"], check=False, capture_output=True)
    return prefix if able.returncode == 0 else None


def test_full_disk_records_nothing(commands, demo_survey, tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system to fill can be mounted by root only")
    small = tmp_path / "small"
    small.mkdir()
    files = [p for p in (demo_survey / "DATA").rglob("*") if p.is_file() and p.suffix != ".fits"]
    size = sum(p.stat().st_size for p in files)
    # Room for the repository (but links to its pixels) and a few megabytes, not for a post-ISR exposure.
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size // 1024 + 6 * 1024}k", "tmpfs", str(small)],
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        copy_demo(demo_survey / "DATA", small / "DATA", link=os.symlink)
        here = Commands(small)
        text = here(*START, "-p", PIPELINE, "-i", "HSC/defaults", "-o", "u/full", "-d", QUERY, code=1).stderr
        assert "No space left on device" in text
        from butler_dask import Butler

        with Butler(str(small / "DATA"), writeable=False) as butler:
            runs = butler.collections.query("u/full/*")
            for ref in butler.query_all_datasets(runs, find_first=False, limit=None):
                assert butler.get(ref) is not None
        assert not list((small / "DATA").rglob("*.tmp*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_read_only_repository_is_refused(commands, tmp_path):
    prefix = _unprivileged()
    if prefix is None:
        pytest.skip("root writes everywhere, and nobody else can run this Python (with setpriv)")
    work = tmp_path / "work"
    copy_demo(commands.directory / "DATA", work / "DATA", link=os.symlink)
    for path in [work, *work.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    script = (
        "from butler_dask.cli.butler import main; main(['collection-chain', 'DATA', 'u/mine', 'refcats'])"
    )
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script],
        cwd=work,
        env=dict(commands.environment, HOME="/nonexistent"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_compressed_garbage_is_named(commands, tmp_path):
    raw = tmp_path / "garbage.fits.gz"
    raw.write_bytes(gzip.compress(b"not FITS at all"))
    assert "garbage.fits.gz" in message(commands, "butler", "ingest-raws", "DATA", str(raw), code=1)
