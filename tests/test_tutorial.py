"""The tutorial, command by command, on the small demonstration survey."""

import re

import pytest
from command_line import Commands

PIPELINE = "pipelines/example.yaml"
QUERY = "instrument='HSC' AND visit=903344 AND detector=5"
INPUTS = ["HSC/raw/all", "HSC/calib", "HSC/masks", "refcats", "skymaps"]


def collections(commands: Commands, *args: str) -> list[str]:
    """Return the names that `butler query-collections` lists."""
    lines = commands("butler", "query-collections", "DATA", *args).stdout.splitlines()
    assert lines[0] == "collections:"
    assert all(line.startswith("- ") for line in lines[1:])
    return [line[2:].split()[0] for line in lines[1:]]


def dataset_rows(commands: Commands, *args: str) -> list[list[str]]:
    """Return the rows of the tables that `butler query-datasets` prints."""
    text = commands("butler", "query-datasets", "DATA", *args).stdout
    return [
        line.split()
        for line in text.splitlines()
        if line.strip() and not line.startswith("--") and line.split()[0] != "type"
    ]


def test_collections_are_listed_with_their_types(commands):
    names = collections(commands)
    for name in ("HSC/calib", "HSC/calib/unbounded", *INPUTS, "HSC/external", "HSC/defaults"):
        assert name in names
    assert collections(commands, "--flatten-chains", "HSC/defaults") == INPUTS
    assert collections(commands, "--collection-type", "RUN", "HSC/raw/all") == ["HSC/raw/all"]
    assert collections(commands, "--collection-type", "CALIBRATION", "HSC/calib") == ["HSC/calib"]
    assert collections(commands, "--collection-type", "RUN", "HSC/calib") == []
    runs = collections(commands, "--collection-type", "RUN", "HSC/calib/*")
    assert "HSC/calib/unbounded" in runs
    assert "HSC/calib" not in runs
    text = commands("butler", "query-collections", "DATA", "HSC/calib").stdout
    assert re.search(r"- HSC/calib +CALIBRATION", text)


class TestRuns:
    """Sections "Running pipelines" to the end, in their order: each step needs those before it."""

    runs: dict[str, str] = {}  # noqa: RUF012  the steps share one repository, and what they have seen of it

    def test_first_run_is_interrupted(self, commands):
        text = commands.interrupt_after(
            "characterizeImage.detection",
            *("pipetask", "run", "-b", "DATA", "-p", PIPELINE, "-i", "HSC/defaults"),
            *("-o", "u/jbosch/bootcamp/1", "-d", QUERY),
        )
        assert "INFO: QuantumGraph contains 15 quanta for 4 tasks" in text
        assert text.rstrip().endswith("Aborted!")
        wanted = [
            "isr INFO: Converting exposure to floating point values.",
            "isr INFO: Assembling CCD from amplifiers.",
            "isr INFO: Applying bias correction.",
            "isr INFO: Applying linearizer.",
            "isr INFO: Applying crosstalk correction.",
            "isr INFO: Masking defects.",
            "isr INFO: Masking NAN value pixels.",
            "isr INFO: Widening saturation trails.",
            "isr INFO: Applying brighter fatter correction using kernel type <class 'numpy.ndarray'>",
            "isr INFO: Finished brighter fatter correction in",
            "isr INFO: Applying dark correction.",
            "isr INFO: Applying flat correction.",
            "BAD pixels to",
            "isr INFO: Interpolating masked pixels.",
            "isr INFO: Setting rough magnitude zero point:",
            "isr INFO: Flattened sky level:",
            "isr INFO: Sky flatness in",
            "characterizeImage.repair INFO: Identified",
        ]
        places = [text.find(w) for w in wanted]
        assert -1 not in places, [w for w, p in zip(wanted, places, strict=True) if p < 0]
        assert places == sorted(places)
        run, chain = collections(commands)[-2:]
        assert chain == "u/jbosch/bootcamp/1"
        assert re.fullmatch(r"u/jbosch/bootcamp/1/\d{8}T\d{6}Z", run)
        self.runs["1a"] = run
        assert collections(commands, "--flatten-chains", chain) == [run, *INPUTS]

    def test_isr_output_of_the_interrupted_run_is_there(self, commands):
        arguments = ("postISRCCD", "--collections", "u/jbosch/bootcamp/1", "--find-first")
        text = commands("butler", "query-datasets", "DATA", *arguments).stdout
        blank, header, dashes, row = text.splitlines()[:4]
        assert blank == ""
        assert header.split() == ["type", "run", "id", "instrument", "detector", "exposure"]
        assert set(dashes) == {"-", " "}
        kind, run, _, *data_id = row.split()
        assert (kind, run, data_id) == ("postISRCCD", self.runs["1a"], ["HSC", "5", "903344"])

    def test_changed_inputs_are_refused_and_the_difference_named(self, commands):
        before = collections(commands)
        done = commands(
            *("pipetask", "run", "-b", "DATA", "-p", PIPELINE, "-i", "HSC/raw/all"),
            *("-o", "u/jbosch/bootcamp/1", "-d", QUERY),
            code=1,
        )
        assert "HSC/calib" in done.stderr
        assert collections(commands) == before

    def test_second_run_with_the_same_inputs_and_long_log(self, commands):
        text = commands.interrupt_after(
            "Measuring PSF",
            *("pipetask", "--long-log", "run", "-b", "DATA", "-p", PIPELINE, "-i", "HSC/defaults"),
            *("-o", "u/jbosch/bootcamp/1", "-d", QUERY),
        )
        assert "QuantumGraph contains 15 quanta for 4 tasks" in text
        assert re.search(r"INFO \S+ isr \(isr:.*903344.*\)\(\w+\.py:\d+\) - Applying bias", text)
        first, run, *rest = collections(commands, "u/jbosch/bootcamp/*")
        assert (first, run, len(rest)) == (self.runs["1a"], "u/jbosch/bootcamp/1", 1)
        self.runs["1b"] = rest[0]
        members = collections(commands, "--flatten-chains", "u/jbosch/bootcamp/1")
        assert members == [self.runs["1b"], self.runs["1a"], *INPUTS]

    def test_find_first_shows_the_newest_only(self, commands):
        arguments = ("postISRCCD", "--collections", "u/jbosch/bootcamp/1")
        rows = dataset_rows(commands, *arguments)
        assert [row[1] for row in rows] == [self.runs["1b"], self.runs["1a"]]
        assert [row[1] for row in dataset_rows(commands, *arguments, "--find-first")] == [self.runs["1b"]]

    def test_extended_run_skips_what_exists_and_finishes(self, commands):
        done = commands(
            *("pipetask", "run", "-b", "DATA", "-p", PIPELINE, "-o", "u/jbosch/bootcamp/1", "-d", QUERY),
            *("--extend-run", "--skip-existing"),
        )
        assert "QuantumGraph contains 14 quanta for 4 tasks" in done.stderr
        assert "isr INFO" not in done.stderr
        for line in (
            r"characterizeImage\.detection INFO: Detected \d+ positive peaks in \d+ footprints and \d+ neg"
            r"ative peaks in \d+ footprints to 50 sigma",
            r"characterizeImage\.measurePsf INFO: PSF star selector found \d+ candidates",
            r"characterizeImage\.measurePsf\.reserve INFO: Reserved \d+/\d+ sources",
            r"characterizeImage\.measurePsf INFO: PSF determination using \d+/\d+ stars",
            r"characterizeImage INFO: iter 2; PSF sigma=\d+\.\d+, dimensions=\(\d+, \d+\); median backgr",
            r"characterizeImage\.measureApCorr INFO: Aperture correction for base_PsfFlux: RMS",
            r"calibrate\.detection INFO: Detected \d+ positive peaks in \d+ footprints .* to 5 sigma",
            r"calibrate\.skySources INFO: Added \d+ of \d+ requested sky sources",
            r"calibrate\.deblend INFO: Deblended: of \d+ sources",
        ):
            assert re.search(line, done.stderr), line
        members = collections(commands, "--flatten-chains", "u/jbosch/bootcamp/1")
        assert members == [self.runs["1b"], self.runs["1a"], *INPUTS]
        arguments = ("--collections", "u/jbosch/bootcamp/1", "--find-first")
        for kind in ("icExp", "icSrc", "icExpBackground", "calexp", "src", "calexpBackground", "srcMatch"):
            assert [r[:2] + r[3:] for r in dataset_rows(commands, kind, *arguments)] == [
                [kind, self.runs["1b"], "HSC", "5", "903344"]
            ]
        assert len(dataset_rows(commands, "deepCoadd_directWarp", *arguments)) == 12
        for kind in ("isr_config", "charImage_config", "calibrate_config", "makeWarp_config", "packages"):
            assert len(dataset_rows(commands, kind, *arguments)) == 1
        assert len(dataset_rows(commands, "makeWarp_metadata", "makeWarp_log", *arguments)) == 24

    def test_finished_run_has_nothing_to_do(self, commands):
        done = commands(
            *("pipetask", "run", "-b", "DATA", "-p", PIPELINE, "-o", "u/jbosch/bootcamp/1", "-d", QUERY),
            "--extend-run",
        )
        assert "othing to do" in done.stderr

    def test_extended_run_refuses_another_configuration(self, commands):
        done = commands(
            *("pipetask", "run", "-b", "DATA", "-p", PIPELINE, "-o", "u/jbosch/bootcamp/1", "-d", QUERY),
            *("--extend-run", "--skip-existing", "-c", "isr:doDark=False"),
            code=1,
        )
        assert "Comparing configuration: Inequality in doDark: False != True" in done.stderr
        assert (
            "Config does not match existing task config 'isr_config' in butler; tasks configurations must be "
            "consistent within the same run collection"
        ) in done.stderr

    def test_replaced_run_stays_beside_the_chain(self, commands):
        arguments = ("-b", "DATA", "-p", f"{PIPELINE}#isr", "-o", "u/jbosch/bootcamp/2", "-d", QUERY)
        commands("pipetask", "run", *arguments, "-i", "HSC/defaults")
        (first,) = [
            c for c in collections(commands, "--flatten-chains", "u/jbosch/bootcamp/2") if c not in INPUTS
        ]
        commands("pipetask", "run", *arguments, "--replace-run")
        members = collections(commands, "--flatten-chains", "u/jbosch/bootcamp/2")
        assert members[1:] == INPUTS
        assert members[0] != first
        assert collections(commands, "u/jbosch/bootcamp/2/*") == [first, members[0]]
        commands("butler", "prune-collection", "DATA", "--purge", "--unstore", "--collection", first)
        assert collections(commands, "u/jbosch/bootcamp/2/*") == [members[0]]
        assert not (commands.directory / "DATA" / first).exists()

    def test_replaced_run_is_purged_at_once(self, commands):
        arguments = ("-b", "DATA", "-p", f"{PIPELINE}#isr", "-o", "u/jbosch/bootcamp/2", "-d", QUERY)
        commands(
            "pipetask", "run", *arguments, "-i", "HSC/defaults", "--replace-run", "--prune-replaced=purge"
        )
        members = collections(commands, "--flatten-chains", "u/jbosch/bootcamp/2")
        assert members[1:] == INPUTS
        assert collections(commands, "u/jbosch/bootcamp/2/*") == [members[0]]

    @pytest.mark.parametrize("kind", ["calexp", "postISRCCD", "deepCoadd_directWarp"])
    def test_outputs_are_read_in_python(self, commands, kind):
        from butler_dask import Butler

        with Butler(str(commands.directory / "DATA"), collections="u/jbosch/bootcamp/1") as butler:
            ref = next(iter(butler.query_datasets(kind)))
            exposure = butler.get(ref)
            assert exposure.image.shape == exposure.mask.shape == exposure.variance.shape
            if kind == "calexp":
                same = butler.get("calexp", instrument="HSC", visit=903344, detector=5)
                assert (same.image == exposure.image).all() or (same.image != same.image).any()
                wcs = butler.get("calexp.wcs", instrument="HSC", visit=903344, detector=5)
                assert wcs.pixel_to_sky(10.0, 20.0) == exposure.wcs.pixel_to_sky(10.0, 20.0)
                assert exposure.psf is not None
                assert exposure.photo_calib is not None
