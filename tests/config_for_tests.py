"""A task configuration of its own module, so that its file can be read by name."""

from lsst.pex.config import (
    Config,
    ConfigChoiceField,
    ConfigDictField,
    ConfigField,
    ConfigurableField,
    DictField,
    Field,
    ListField,
)


class InnerConfig(Config):
    threshold = Field(dtype=float, doc="threshold", default=5.0)


class SmallConfig(Config):
    doDark = Field(dtype=bool, doc="subtract dark", default=True)
    inner = ConfigField(dtype=InnerConfig, doc="inner")


class Engine:
    """Something a configurable field makes."""

    ConfigClass = InnerConfig


class OtherEngine(Engine):
    """Something else it may make."""


class ManyFields(Config):
    """A field of each kind."""

    number = Field(dtype=float, doc="number", default=0.5)
    text = Field(dtype=str, doc="text", default="a", optional=True)
    numbers = ListField(dtype=float, doc="list", default=[1.0])
    values = DictField(keytype=str, itemtype=int, doc="mapping", default={})
    inner = ConfigField(dtype=InnerConfig, doc="inner")
    choice = ConfigChoiceField("choice", {"small": SmallConfig, "inner": InnerConfig}, default="small")
    engine = ConfigurableField(target=Engine, doc="engine")
    parts = ConfigDictField(keytype=str, itemtype=InnerConfig, doc="parts", default={})
