"""Small tasks that pipelines in tests are made of: raw -> clean -> catalog -> warp."""

from __future__ import annotations

from lsst.pex.config import Config, ConfigField, DictField, Field, ListField, RangeField

from butler_dask.pipeline import (
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    Struct,
    connectionTypes as cT,
)


class CleanConnections(PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    raw = cT.Input(
        doc="Raw frame.",
        name="raw",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
    )
    bias = cT.PrerequisiteInput(
        doc="Bias frame.",
        name="bias",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    cleaned = cT.Output(
        doc="Cleaned frame.",
        name="clean",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
    )

    def __init__(self, *, config=None):
        super().__init__(config=config)
        if config is not None and not config.doBias:
            del self.bias


class RepairConfig(Config):
    threshold = RangeField(dtype=float, doc="Threshold [sigma].", default=5.0, min=0.0)


class CleanConfig(PipelineTaskConfig, pipelineConnections=CleanConnections):
    doBias = Field(dtype=bool, doc="Subtract the bias?", default=True)
    gain = Field(dtype=float, doc="Gain [e-/ADU].", default=1.0)
    iterations = Field(dtype=int, doc="Number of iterations.", default=3)
    title = Field(dtype=str, doc="A title.", default="", optional=True)
    planes = ListField(dtype=str, doc="Mask planes.", default=["BAD", "SAT"])
    limits = DictField(keytype=str, itemtype=float, doc="Limits by name.", default={"low": 1.0})
    repair = ConfigField(dtype=RepairConfig, doc="Repair.")


class CleanTask(PipelineTask):
    ConfigClass = CleanConfig
    _DefaultName = "clean"

    def run(self, raw, bias=None):
        return Struct(cleaned={"value": raw["value"] - (bias["value"] if bias else 0)})


class CatalogConnections(
    PipelineTaskConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={"kind": "good"},
):
    cleaned = cT.Input(
        doc="Cleaned frame.",
        name="clean",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )
    reference = cT.PrerequisiteInput(
        doc="Reference catalogue.",
        name="reference_catalog",
        storageClass="SimpleCatalog",
        dimensions=("skypix",),
        multiple=True,
        minimum=0,
        deferLoad=True,
    )
    schema = cT.InitOutput(doc="Columns.", name="{kind}Catalog_schema", storageClass="StructuredDataDict")
    catalog = cT.Output(
        doc="Sources.",
        name="{kind}Catalog",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
    )


class CatalogConfig(PipelineTaskConfig, pipelineConnections=CatalogConnections):
    doDeblend = Field(dtype=bool, doc="Deblend?", default=True)


class CatalogTask(PipelineTask):
    ConfigClass = CatalogConfig
    _DefaultName = "catalog"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.schema = {"columns": ["id"]}

    def run(self, cleaned, reference):
        return Struct(catalog=[handle.get() for handle in cleaned])


class WarpConnections(
    PipelineTaskConnections,
    dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    defaultTemplates={"kind": "good"},
):
    skyMap = cT.PrerequisiteInput(
        doc="Sky map.", name="skyMap", storageClass="SkyMap", dimensions=("skymap",)
    )
    schema = cT.InitInput(doc="Columns.", name="{kind}Catalog_schema", storageClass="StructuredDataDict")
    rows = cT.Input(
        doc="Numbers of sources.",
        name="{kind}Catalog.rowcount",
        storageClass="Integer",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
    )
    warp = cT.Output(
        doc="Warp.",
        name="{kind}Warp",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    )


class WarpConfig(PipelineTaskConfig, pipelineConnections=WarpConnections):
    pass


class WarpTask(PipelineTask):
    ConfigClass = WarpConfig
    _DefaultName = "warp"

    def run(self, skyMap, rows):
        return Struct(warp={"rows": sum(rows)})


class NotATask:
    """Something that a pipeline cannot run."""


class Camera:
    """An instrument with configuration files."""

    configPaths: tuple[str, ...] = ("$SMALL_PIPELINE_CONFIG",)

    def __init__(self, collection_prefix: str | None = None) -> None:
        self.collection_prefix = collection_prefix

    def getName(self) -> str:
        return "SmallCam"
