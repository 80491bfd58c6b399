"""Configuration of pipeline tasks: `lsst.pex.config` plus a ``connections`` field.

``config.connections.outputExposure = "postISRCCD2"`` renames a dataset type, and
``config.connections.coaddName = "goodSeeing"`` fills in a template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lsst.pex.config import Config, ConfigField, Field
from lsst.pex.config.config import ConfigMeta

if TYPE_CHECKING:
    from .connections import PipelineTaskConnections

__all__ = ["PipelineTaskConfig"]


def _connections_config(connections: type[PipelineTaskConnections], owner: str, module: str) -> type[Config]:
    """Make the config class with a string field per connection and per template."""
    fields: dict[str, Any] = {
        name: Field(
            dtype=str,
            doc=f"Dataset type name of connection {name!r}: {connection.doc or connection.name}",
            default=connection.name,
            deprecated=connection.deprecated,
        )
        for name, connection in connections.allConnections.items()
    }
    for template, default in connections.defaultTemplates.items():
        fields[template] = Field(
            dtype=str,
            doc=f"Value of template {template!r} in the dataset type names of the connections",
            default=default,
            deprecated=connections.deprecatedTemplates.get(template),
        )
    fields |= {
        "__doc__": f"Dataset type names of {connections.__name__}.",
        "__module__": module,
        "__qualname__": f"{owner}.ConnectionsConfigClass",
    }
    made: type[Config] = type(Config)("ConnectionsConfigClass", (Config,), fields)
    return made


class PipelineTaskConfigMeta(ConfigMeta):  # type: ignore[misc]  # pex_config ships no types
    """Takes the class argument ``pipelineConnections`` and makes the ``connections`` field from it."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        pipelineConnections: type[PipelineTaskConnections] | None = None,
    ) -> Any:
        """Make a config class.

        Parameters
        ----------
        name, bases, namespace
            As for `type`.
        pipelineConnections : connections class, optional
            Connections of the task; those of the base class where not given.
        """
        if pipelineConnections is None:
            inherited = [getattr(base, "ConnectionsClass", None) for base in bases]
            if name != "PipelineTaskConfig" and not any(inherited):
                raise NameError(
                    f"{name} needs the class argument pipelineConnections: class {name}(PipelineTaskConfig, "
                    "pipelineConnections=TheTasksConnections)"
                )
        else:
            if not hasattr(pipelineConnections, "allConnections"):
                raise ValueError(
                    f"{name}: pipelineConnections must be a subclass of PipelineTaskConnections, "
                    f"not {pipelineConnections!r}"
                )
            config_class = _connections_config(
                pipelineConnections, namespace.get("__qualname__", name), namespace["__module__"]
            )
            namespace["ConnectionsClass"] = pipelineConnections
            namespace["ConnectionsConfigClass"] = config_class
            namespace["connections"] = ConfigField(
                dtype=config_class, doc="Dataset type names of the task's connections, and their templates."
            )
        return super().__new__(mcs, name, bases, namespace)

    def __init__(
        cls,  # noqa: N805 -- a metaclass that ruff does not recognise as one
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(name, bases, namespace)


class PipelineTaskConfig(Config, metaclass=PipelineTaskConfigMeta):  # type: ignore[misc]  # pex_config is untyped
    """Base of the configuration classes of pipeline tasks.

    ::

        class IsrConfig(PipelineTaskConfig, pipelineConnections=IsrConnections):
            doDark = Field(dtype=bool, doc="Subtract the dark?", default=True)
    """

    ConnectionsClass: ClassVar[type[PipelineTaskConnections]]
    ConnectionsConfigClass: ClassVar[type[Any]]

    saveMetadata = Field(
        dtype=bool,
        default=True,
        optional=False,
        doc="Save the task's metadata? It marks success in any case.",
    )
    saveLogOutput = Field(
        dtype=bool, default=True, optional=False, doc="Save the log lines of each quantum as a dataset?"
    )
