"""A task configuration of its own module, so that its file can be read by name."""

from lsst.pex.config import Config, ConfigField, Field


class InnerConfig(Config):
    threshold = Field(dtype=float, doc="threshold", default=5.0)


class SmallConfig(Config):
    doDark = Field(dtype=bool, doc="subtract dark", default=True)
    inner = ConfigField(dtype=InnerConfig, doc="inner")
