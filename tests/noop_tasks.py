"""Small tasks for tests of the engine, and a graph of them: isr and characterize per detector, warp per
visit."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from graph_draft import GraphDraft
from lsst.pex.config import Field

from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.pipeline import (
    NoWorkFound,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    TaskMetadata,
    connectionTypes as cT,
)
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType

MISCHIEF = "BUTLER_DASK_TEST_MISCHIEF"
"""Environment variable: a directory of files ``<label>-<detector>`` that say what goes wrong there."""

ENDINGS: dict[str, BaseException] = {
    "exit": SystemExit(0),
    "exit3": SystemExit(3),
    "cancel": asyncio.CancelledError("given up"),
    "generator": GeneratorExit(),
}
"""What a task may raise that is no `Exception`, by the word that asks for it."""

TEXTS = {"surrogate": "file caf\udce9.fits", "nul": "header \0 ends"}
"""Messages of errors that do not go everywhere, by the word that asks for them."""


class MuteError(Exception):
    """It cannot say its text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class IsrConnections(PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    ccdExposure = cT.Input("raw", "StructuredDataDict", dimensions=("instrument", "exposure", "detector"))
    outputExposure = cT.Output(
        "postISRCCD", "StructuredDataDict", dimensions=("instrument", "exposure", "detector")
    )


class IsrConfig(PipelineTaskConfig, pipelineConnections=IsrConnections):
    doDark = Field(dtype=bool, default=True, doc="Subtract one?")
    seconds = Field(dtype=float, default=0.0, doc="How long to sleep [s].")


def mischief(label: str, detector: int, log) -> None:
    """Do what a file in the mischief directory says; one that starts with a number does it that often."""
    directory = os.environ.get(MISCHIEF)
    if not directory:
        return
    path = Path(directory) / f"{label}-{detector}"
    # Several processes may ask at once; each time is given to one of them.
    with open(Path(directory) / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            what, _, times = path.read_text().partition(" ")
        except FileNotFoundError:
            return
        if times:
            left = int(times) - 1
            path.unlink() if left == 0 else path.write_text(f"{what} {left}")
    if what == "fail":
        raise ValueError(f"no stars on detector {detector}")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "nowork":
        raise NoWorkFound(f"nothing on detector {detector}")
    if what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # the main thread takes it meanwhile, be it this one or another
    if what in TEXTS:
        error = ValueError(TEXTS[what])
        log.warning("it says %s", TEXTS[what])
        log.error("with a traceback", exc_info=error)
        raise error
    if what == "mute":
        log.warning("it says %s", MuteError())
        log.warning("%d stars", "no")
        raise MuteError
    if what in ENDINGS:
        raise ENDINGS[what]
    if what == "sleep":
        time.sleep(100)
    if what == "lock":
        stuck = threading.Lock()
        stuck.acquire()
        stuck.acquire()
    if what == "nap":
        time.sleep(8)
    if what == "read":
        os.read(os.pipe()[0], 1)
    if what == "swallow":
        for _ in range(300):
            with suppress(BaseException):
                time.sleep(0.01)
    if what == "hang":
        for _ in range(2000):
            time.sleep(0.01)


def count_execution(label: str, data_id) -> None:
    """Leave a trace of each execution, to count them across processes."""
    directory = os.environ.get(MISCHIEF)
    if directory:
        with open(Path(directory) / "executions", "a") as stream:
            stream.write(f"{label} {dict(data_id.required)}\n")


class IsrTask(PipelineTask):
    ConfigClass = IsrConfig
    _DefaultName = "isr"

    def runQuantum(self, butlerQC, inputRefs, outputRefs):
        count_execution("isr", butlerQC.quantum.dataId)
        mischief("isr", butlerQC.quantum.dataId["detector"], self.log)
        super().runQuantum(butlerQC, inputRefs, outputRefs)

    def run(self, ccdExposure):
        self.log.info("Applying dark correction.")
        if self.config.seconds:
            time.sleep(self.config.seconds)
        value = ccdExposure["value"] - (1 if self.config.doDark else 0)
        self.metadata["value"] = value
        return Struct(outputExposure={"value": value})


class CharacterizeConnections(PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    exposure = cT.Input("postISRCCD", "StructuredDataDict", dimensions=("instrument", "exposure", "detector"))
    characterized = cT.Output("icExp", "StructuredDataDict", dimensions=("instrument", "visit", "detector"))
    sources = cT.Output("icSrc", "StructuredDataDict", dimensions=("instrument", "visit", "detector"))


class CharacterizeConfig(PipelineTaskConfig, pipelineConnections=CharacterizeConnections):
    pass


class CharacterizeTask(PipelineTask):
    ConfigClass = CharacterizeConfig
    _DefaultName = "characterizeImage"

    def runQuantum(self, butlerQC, inputRefs, outputRefs):
        count_execution("characterize", butlerQC.quantum.dataId)
        mischief("characterize", butlerQC.quantum.dataId["detector"], self.log)
        super().runQuantum(butlerQC, inputRefs, outputRefs)

    def run(self, exposure):
        self.log.info("Measuring PSF")
        return Struct(characterized={"value": 2 * exposure["value"]}, sources={"n": 3})


class WarpConnections(PipelineTaskConnections, dimensions=("instrument", "visit")):
    exposures = cT.Input(
        "icExp", "StructuredDataDict", dimensions=("instrument", "visit", "detector"), multiple=True
    )
    warp = cT.Output("warp", "StructuredDataDict", dimensions=("instrument", "visit"))


class WarpConfig(PipelineTaskConfig, pipelineConnections=WarpConnections):
    pass


class WarpTask(PipelineTask):
    ConfigClass = WarpConfig
    _DefaultName = "makeWarp"

    def runQuantum(self, butlerQC, inputRefs, outputRefs):
        count_execution("warp", butlerQC.quantum.dataId)
        super().runQuantum(butlerQC, inputRefs, outputRefs)

    def run(self, exposures):
        return Struct(warp={"value": sum(e["value"] for e in exposures), "n": len(exposures)})


def add_raws(butler, visits: int, detectors: int, run: str = "HSC/raw/all") -> list[DatasetRef]:
    """Put small raws, and the dimension records they need."""
    registry = butler.repository.registry
    insert = registry.records.insert
    new = {"skip_existing": True}
    insert("instrument", [{"name": "HSC", "class_name": "x", "detector_max": 200}], **new)
    insert("band", [{"name": "r"}], **new) if registry.dimensions["band"].has_records else None
    insert("physical_filter", [{"instrument": "HSC", "name": "HSC-R", "band": "r"}], **new)
    insert("day_obs", [{"instrument": "HSC", "id": 20130617}], **new)
    insert(
        "detector", [{"instrument": "HSC", "id": d, "full_name": f"d{d}"} for d in range(detectors)], **new
    )
    ids = [903334 + 2 * v for v in range(visits)]
    common = {"instrument": "HSC", "physical_filter": "HSC-R", "day_obs": 20130617}
    insert("group", [{"instrument": "HSC", "name": str(i)} for i in ids], **new)
    insert("exposure", [{**common, "id": i, "obs_id": str(i), "group": str(i)} for i in ids], **new)
    insert("visit", [{**common, "id": i, "name": str(i)} for i in ids], **new)
    kind = DatasetType("raw", ("instrument", "exposure", "detector"), "StructuredDataDict")
    registry.collections.register(run)
    registry.dataset_types.register([kind])
    return [
        butler.put(
            {"value": 100 * v + d},
            DatasetRef(kind, {"instrument": "HSC", "exposure": i, "detector": d}, run),
        )
        for v, i in enumerate(ids)
        for d in range(detectors)
    ]


def draft_graph(
    butler, raws: list[DatasetRef], run: str, *, config: str = "", warps: bool = True
) -> QuantumGraph:
    """Return the graph isr -> characterize -> warp over raws, written by hand."""
    draft = GraphDraft(run, inputs=["HSC/raw/all"])
    for name, dims in (
        ("postISRCCD", ("instrument", "exposure", "detector")),
        ("icExp", ("instrument", "visit", "detector")),
        ("icSrc", ("instrument", "visit", "detector")),
        ("warp", ("instrument", "visit")),
    ):
        draft.add_dataset_type(name, dims, "StructuredDataDict")
    module = IsrTask.__module__
    text = config and f"import {module}\n{config}"
    draft.add_task("isr", f"{module}.IsrTask", ("instrument", "exposure", "detector"), text)
    draft.add_task("characterize", f"{module}.CharacterizeTask", ("instrument", "visit", "detector"))
    if warps:
        draft.add_task("warp", f"{module}.WarpTask", ("instrument", "visit"))
    files = butler.repository.registry.datasets.files_of_ids([r.id for r in raws])
    visits: dict[int, list[dict]] = {}
    for ref, file in zip(raws, files, strict=True):
        draft.add_existing(ref, file)
        instrument, detector, exposure = (ref.dataId[k] for k in ("instrument", "detector", "exposure"))
        flat = {"instrument": instrument, "exposure": exposure, "detector": detector}
        sky = {"instrument": instrument, "visit": exposure, "detector": detector}
        draft.add_quantum(
            "isr", flat, {"ccdExposure": [("raw", flat)]}, {"outputExposure": [("postISRCCD", flat)]}
        )
        draft.add_quantum(
            "characterize",
            sky,
            {"exposure": [("postISRCCD", flat)]},
            {"characterized": [("icExp", sky)], "sources": [("icSrc", sky)]},
        )
        visits.setdefault(exposure, []).append(sky)
    for visit, members in visits.items() if warps else ():
        data_id = {"instrument": "HSC", "visit": visit}
        draft.add_quantum(
            "warp", data_id, {"exposures": [("icExp", m) for m in members]}, {"warp": [("warp", data_id)]}
        )
    return draft.finish()


__all__ = ["MISCHIEF", "TaskMetadata", "add_raws", "draft_graph"]
