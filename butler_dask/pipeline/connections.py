"""What a task reads and writes: a class per task, resolved with the task's configuration.

A connections class is a declaration. Its instance is the declaration after configuration: templates filled
in, names overridden, connections removed or changed by the author's ``__init__``.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from .connection_types import BaseConnection, BaseInput, Input, Output
from .quantized_connections import (
    DeferredDatasetRef,
    InputQuantizedConnection,
    OutputQuantizedConnection,
)
from .quantum_outcome import NoWorkFound, ScalarError

if TYPE_CHECKING:
    from ..vocabulary.data_id import DataCoordinate
    from ..vocabulary.dataset import DatasetRef

__all__ = [
    "AdjustQuantumInputs",
    "AdjustQuantumOutputs",
    "PipelineTaskConnections",
]

AdjustQuantumInputs = Mapping[str, tuple[BaseInput, "Collection[DatasetRef]"]]
AdjustQuantumOutputs = Mapping[str, tuple[Output, "Collection[DatasetRef]"]]

_KINDS = ("inputs", "prerequisiteInputs", "outputs", "initInputs", "initOutputs")


def _templates_in(text: str) -> set[str]:
    """Return the template names of a connection name."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


class PipelineTaskConnectionsMeta(type):
    """Collects the connections of a class body, and resolves them with a config when it is called.

    Connections are kept in ``allConnections`` rather than as class attributes, so that ``del self.name`` in
    ``__init__`` truly removes one; ``Class.name`` still finds it.
    """

    dimensions: frozenset[str]
    defaultTemplates: Mapping[str, str]
    deprecatedTemplates: Mapping[str, str]
    allConnections: Mapping[str, BaseConnection]

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        dimensions: Iterable[str] | None = None,
        defaultTemplates: Mapping[str, str] | None = None,
        deprecatedTemplates: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a connections class.

        Parameters
        ----------
        name, bases, namespace
            As for `type`.
        dimensions : iterable of `str`
            Dimensions of the task's quanta.
        defaultTemplates : mapping of `str` to `str`, optional
            Values of the templates in connection names.
        deprecatedTemplates : mapping of `str` to `str`, optional
            Templates on their way out, with the reason.
        """
        parents = [base for base in reversed(bases) if isinstance(base, PipelineTaskConnectionsMeta)]
        connections: dict[str, BaseConnection] = {}
        templates: dict[str, str] = {}
        deprecated: dict[str, str] = {}
        for parent in parents:
            connections |= parent.allConnections
            templates |= parent.defaultTemplates
            deprecated |= parent.deprecatedTemplates
        templates |= defaultTemplates or {}
        deprecated |= deprecatedTemplates or {}
        for key in list(namespace):
            if isinstance(namespace[key], BaseConnection):
                connections[key] = dataclasses.replace(namespace.pop(key))
                object.__setattr__(connections[key], "varName", key)
            elif key in connections:
                del connections[key]  # the subclass hides it by something else, e.g. None
        if isinstance(dimensions, str):
            raise TypeError(f"{name}: dimensions are a tuple of names, not one string {dimensions!r}")
        if dimensions is None:
            known = [parent.dimensions for parent in parents if parent.dimensions]
            if parents and not known and connections:
                raise TypeError(
                    f"{name} needs the dimensions of its quanta: class {name}(PipelineTaskConnections, "
                    'dimensions=("instrument", "visit", "detector"))'
                )
            dimensions = known[-1] if known else ()
        if clash := sorted(set(templates) & set(connections)):
            raise TypeError(f"{name}: templates and connections must not have the same name: {clash}")
        for key, connection in connections.items():
            if unknown := sorted(_templates_in(connection.name) - set(templates)):
                raise TypeError(
                    f"{name}.{key}: dataset type name {connection.name!r} has templates without a value: "
                    f"{unknown}. Give them in defaultTemplates."
                )
        namespace["allConnections"] = MappingProxyType(connections)
        namespace["dimensions"] = frozenset(dimensions)
        namespace["defaultTemplates"] = MappingProxyType(templates)
        namespace["deprecatedTemplates"] = MappingProxyType(deprecated)
        for kind in _KINDS:
            namespace[kind] = frozenset(k for k, c in connections.items() if c._kind == kind)
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name: str) -> BaseConnection:
        if not name.startswith("__"):
            connections: Mapping[str, BaseConnection] = cls.__dict__.get("allConnections", {})
            if name in connections:
                return connections[name]
        raise AttributeError(f"{cls.__name__} has no attribute or connection {name!r}")

    def __call__(cls, *, config: Any = None) -> Any:
        """Resolve the connections with a configuration."""
        self: Any = object.__new__(cast("type[Any]", cls))
        setup = object.__setattr__
        names = getattr(config, "connections", None)
        templates = {
            template: getattr(names, template, default) for template, default in cls.defaultTemplates.items()
        }
        setup(self, "_open", True)
        setup(self, "config", config)
        setup(self, "templates", MappingProxyType(templates))
        setup(self, "dimensions", set(cls.dimensions))
        setup(self, "_connections", {})
        for kind in _KINDS:
            setup(self, kind, set())
        for key, connection in cls.allConnections.items():
            setattr(self, key, dataclasses.replace(connection, name=getattr(names, key, connection.name)))
        # The whole signature, so that an author's __init__ that forgets ``config`` says so itself.
        self.__init__(config=config)
        for key in list(self._connections):
            if not any(key in getattr(self, kind) for kind in _KINDS):
                delattr(self, key)  # taken out of ``self.inputs`` and the like, the older way
        for kind in _KINDS:
            setup(self, kind, frozenset(getattr(self, kind)))
        setup(self, "dimensions", frozenset(self.dimensions))
        setup(self, "_open", False)
        return self


class PipelineTaskConnections(metaclass=PipelineTaskConnectionsMeta, dimensions=()):
    """Base of the classes that declare what a task reads and writes.

    Parameters
    ----------
    config : `PipelineTaskConfig`, optional
        Configuration of the task; its ``connections`` field holds names and templates.

    Notes
    -----
    A subclass may override ``__init__(self, *, config)`` to remove (``del self.name``), replace
    (``self.name = dataclasses.replace(self.name, dimensions=...)``) or add connections, and to change
    ``self.dimensions``. Calling ``super().__init__`` is allowed, not needed. Afterwards an instance is
    read-only.

    Attributes
    ----------
    dimensions : `frozenset` of `str`
        Dimensions of the task's quanta.
    inputs, prerequisiteInputs, outputs, initInputs, initOutputs : `frozenset` of `str`
        Names of the connections of each kind.
    allConnections : mapping of `str` to `BaseConnection`
        The connections by name.
    """

    inputs: frozenset[str]
    prerequisiteInputs: frozenset[str]
    outputs: frozenset[str]
    initInputs: frozenset[str]
    initOutputs: frozenset[str]
    config: Any
    templates: Mapping[str, str]
    _connections: dict[str, BaseConnection]
    _open: bool

    def __init__(self, *, config: Any = None) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        # The class attribute ``allConnections`` is the declaration; an instance shows what is left of it.
        if name == "allConnections":
            return MappingProxyType(object.__getattribute__(self, "_connections"))
        return object.__getattribute__(self, name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._open:
            raise AttributeError(
                f"{type(self).__name__}.{name}: connections can only be changed in __init__, "
                "because the pipeline graph relies on them"
            )
        if isinstance(value, BaseConnection):
            for kind in _KINDS:
                getattr(self, kind).discard(name)
            value = dataclasses.replace(value, name=self._filled_in(name, value.name))
            object.__setattr__(value, "varName", name)
            self._connections[name] = value
            getattr(self, value._kind).add(name)
        elif name in self._connections:
            raise TypeError(f"{type(self).__name__}.{name} is a connection; assign a connection or delete it")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not self._open:
            raise AttributeError(f"{type(self).__name__}.{name}: connections can only be removed in __init__")
        if self._connections.pop(name, None) is not None:
            for kind in _KINDS:
                getattr(self, kind).discard(name)
        object.__delattr__(self, name)

    def _filled_in(self, name: str, text: str) -> str:
        """Fill in the templates of a dataset type name."""
        try:
            return text.format(**self.templates)
        except KeyError as error:
            raise ValueError(
                f"{type(self).__name__}.{name}: {text!r} needs a value for template {error}; "
                f"there are {sorted(self.templates)}"
            ) from None

    def __iter__(self) -> Iterator[BaseConnection]:
        return iter(self._connections.values())

    def adjustQuantum(
        self,
        inputs: AdjustQuantumInputs,
        outputs: AdjustQuantumOutputs,
        label: str,
        data_id: DataCoordinate,
    ) -> tuple[AdjustQuantumInputs, AdjustQuantumOutputs]:
        """Check or change the datasets of one quantum, while the graph is built and before it runs.

        Parameters
        ----------
        inputs : mapping of `str` to (`BaseInput`, collection of `DatasetRef`)
            Inputs and prerequisite inputs found, by connection name.
        outputs : mapping of `str` to (`Output`, collection of `DatasetRef`)
            Outputs predicted, by connection name.
        label : `str`
            Label of the task.
        data_id : `DataCoordinate`
            Data ID of the quantum.

        Returns
        -------
        adjusted_inputs, adjusted_outputs : mapping
            The entries that change, each a subset of what was given; empty where nothing changes.

        Raises
        ------
        NoWorkFound
            An input has fewer datasets than its ``minimum``: the quantum is left out.
        FileNotFoundError
            A prerequisite input has fewer datasets than its ``minimum``.
        ScalarError
            A connection with ``multiple=False`` has more than one dataset.

        Notes
        -----
        An override ends with ``return super().adjustQuantum(...)`` or does these checks itself.
        """
        for name, (connection, refs) in inputs.items():
            if not connection.multiple and len(refs) > 1:
                raise ScalarError(
                    f"Task {label!r}, {data_id}: connection {name!r} ({connection.name!r}) takes one "
                    f"dataset, found {len(refs)}. Declare it with multiple=True or give it more dimensions."
                )
            if len(refs) < connection.minimum:
                message = (
                    f"Task {label!r}, {data_id}: connection {name!r} needs {connection.minimum} "
                    f"{connection.name!r}, found {len(refs)}."
                )
                if isinstance(connection, Input):
                    raise NoWorkFound(message)
                raise FileNotFoundError(message)
        for name, (output, refs) in outputs.items():
            if not output.multiple and len(refs) > 1:
                raise ScalarError(
                    f"Task {label!r}, {data_id}: output {name!r} ({output.name!r}) is one dataset, "
                    f"but {len(refs)} are predicted. Declare it with multiple=True."
                )
        return {}, {}

    def getSpatialBoundsConnections(self) -> Iterable[str]:
        """Return names of connections whose data IDs also bound the quantum on the sky; none by default."""
        return ()

    def getTemporalBoundsConnections(self) -> Iterable[str]:
        """Return names of connections whose data IDs also bound the quantum in time; none by default."""
        return ()

    def buildDatasetRefs(self, quantum: Any) -> tuple[InputQuantizedConnection, OutputQuantizedConnection]:
        """Sort the datasets of a quantum by connection.

        Parameters
        ----------
        quantum : quantum with ``inputs`` and ``outputs``, each {`DatasetType`: refs}
            What to execute.

        Returns
        -------
        input_refs : `InputQuantizedConnection`
            One ref, or a list where ``multiple``; deferred refs where ``deferLoad``; `None` for an optional
            single input that is missing.
        output_refs : `OutputQuantizedConnection`
            The same for outputs.
        """
        given = {dataset_type.name: list(refs) for dataset_type, refs in quantum.inputs.items()}
        made = {dataset_type.name: list(refs) for dataset_type, refs in quantum.outputs.items()}
        input_refs = InputQuantizedConnection()
        output_refs = OutputQuantizedConnection()
        for name, connection in self._connections.items():
            if name in self.inputs or name in self.prerequisiteInputs:
                assert isinstance(connection, BaseInput)
                refs: list[Any] = _refs_of(connection.name, given)
                if connection.deferLoad:
                    refs = [DeferredDatasetRef(ref) for ref in refs]
                setattr(input_refs, name, self._one_or_many(connection, refs))
            elif name in self.outputs:
                setattr(output_refs, name, self._one_or_many(connection, made.get(connection.name, [])))
        return input_refs, output_refs

    def _one_or_many(self, connection: BaseConnection, refs: list[Any]) -> Any:
        """Return the list of refs, or the single one (`None` where missing)."""
        if connection.multiple:
            return refs
        if len(refs) > 1:
            raise ScalarError(
                f"{type(self).__name__}.{connection.varName} takes one {connection.name!r}, not {len(refs)}"
            )
        return refs[0] if refs else None


def _refs_of(name: str, given: Mapping[str, Sequence[DatasetRef]]) -> list[Any]:
    """Return the refs of a dataset type name; those of a component from its parent where needed."""
    if name in given or "." not in name:
        return list(given.get(name, ()))
    parent, component = name.split(".", 1)
    return [ref.makeComponentRef(component) for ref in given.get(parent, ())]
