"""What is written once a run, before anything runs: RUN and chain, configs, package versions, init-outputs.

An interrupted run thus leaves the collections and provenance it would leave if it had ended well. A run is
one configuration: what is there is compared, not replaced.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InitInputMissingError, MissingCollectionError, RunConfigMismatchError
from ..pipeline.task_class import config_of_text, import_task_class
from ..vocabulary.dataset import DatasetTable
from ..vocabulary.file_record import FileRecord, FileTable

if TYPE_CHECKING:
    from ..butler.open_repository import OpenRepository
    from ..graph.graph_columns import InitDataset, TaskColumns
    from ..graph.quantum_graph import QuantumGraph
    from ..graph.run_collections import RunCollections
    from ..pipeline.pipeline_graph import PipelineGraph

_LOG = logging.getLogger("butler_dask.init_outputs")

CONFIG_CONNECTION = "_config"
PACKAGES_CONNECTION = "_packages"

COMPARED_PACKAGES = (
    "python",
    "butler-dask",
    "astropy",
    "numba",
    "numpy",
    "scipy",
    "sep",
    "lsst-pex-config",
    "lsst-sphgeom",
)
"""Packages whose versions must not change within a run: those that make pixels and configurations. All
installed ones are recorded."""


def write_init_outputs(
    repository: OpenRepository,
    graph: QuantumGraph,
    plan: RunCollections | None = None,
    *,
    save_versions: bool = True,
) -> QuantumGraph:
    """Create a run's collections and write what is written once a run.

    Parameters
    ----------
    repository : `OpenRepository`
        Open for writing.
    graph : `QuantumGraph`
        What will be run.
    plan : `RunCollections`, optional
        Collections to create; without, the graph's RUN alone.
    save_versions : `bool`
        Whether to write, or compare, the versions of installed packages.

    Returns
    -------
    graph : `QuantumGraph`
        The graph to run: the same, or writing to another run if the planned name was taken meanwhile.

    Raises
    ------
    RunConfigMismatchError
        If the run has configs or versions that differ; nothing was changed.
    RunInUseError
        If another command writes the run; nothing was changed.
    """
    with repository.registry.claims.kept():
        return _write(repository, graph, plan, save_versions)


def _write(
    repository: OpenRepository, graph: QuantumGraph, plan: RunCollections | None, save_versions: bool
) -> QuantumGraph:
    registry = repository.registry
    exists = _is_run(repository, graph.run) if plan is None else plan.extend
    tasks = {t.label: _Construction(repository, graph, t) for t in graph.tasks}
    if exists:
        _compare(repository, graph.run, {label: c.config for label, c in tasks.items()}, save_versions)
    if plan is not None:
        _, planned = plan.apply(repository, graph)
        assert planned is not None
        graph = planned
    else:
        registry.claims.take(graph.run)
        registry.collections.register(graph.run)
    registry.dataset_types.register(graph.output_dataset_types())
    names = [d.ref.datasetType.name for d in graph.init_outputs]
    there = set(registry.datasets.existing_in_run(graph.run, names)) if exists else set()
    batches: list[tuple[DatasetTable, FileTable]] = []
    for item in graph.init_outputs:
        name = item.ref.datasetType.name
        if name in there or (item.connection == PACKAGES_CONNECTION and not save_versions):
            continue
        value = (
            package_versions() if item.connection == PACKAGES_CONNECTION else tasks[item.label].value(item)
        )
        file: FileRecord = repository.datastore.put(value, item.ref)
        batches.append(
            (DatasetTable.from_refs(item.ref.datasetType, [item.ref]), FileTable.from_records([file]))
        )
    if batches:
        registry.record_outputs(batches)
    return graph


def compare_init_outputs(
    repository: OpenRepository, pipeline_graph: PipelineGraph, run: str, *, save_versions: bool = False
) -> None:
    """Compare the configs of a pipeline with those a run has.

    Parameters
    ----------
    repository : `OpenRepository`
        The repository.
    pipeline_graph : `PipelineGraph`
        What would be run.
    run : `str`
        Run to extend; one that does not exist yet has nothing to compare.
    save_versions : `bool`
        Whether to compare package versions too.

    Raises
    ------
    RunConfigMismatchError
        If they differ. Each inequality is logged.
    """
    configs = {label: node.config for label, node in pipeline_graph.tasks.items()}
    _compare(repository, run, configs, save_versions)


def _compare(repository: OpenRepository, run: str, configs: Mapping[str, Any], save_versions: bool) -> None:
    registry, datastore = repository.registry, repository.datastore
    if not _is_run(repository, run):
        return
    names = [*(f"{label}_config" for label in configs), *(["packages"] if save_versions else [])]
    known = {t.name for t in registry.dataset_types.query(names, missing=[])}
    found = registry.datasets.existing_in_run(run, [n for n in names if n in known])
    for label, config in configs.items():
        name = f"{label}_config"
        if name not in found:
            continue
        (file,) = registry.datasets.files_of(found[name])
        assert file is not None
        recorded = datastore.get(file, found[name][0])
        if not config.compare(recorded, shortcut=False, output=_tell_inequality):
            raise RunConfigMismatchError(
                f"Config does not match existing task config {name!r} in butler; tasks configurations must "
                "be consistent within the same run collection"
            )
    if "packages" in found:
        (file,) = registry.datasets.files_of(found["packages"])
        assert file is not None
        _compare_packages(datastore.get(file, found["packages"][0]), run)


def _is_run(repository: OpenRepository, name: str) -> bool:
    try:
        repository.registry.collections.get(name)
    except MissingCollectionError:
        return False
    return True


def _tell_inequality(text: str) -> None:
    """Log an inequality of configurations as the tutorial has it: ``Inequality in doDark: False != True``."""
    _LOG.critical("Comparing configuration: Inequality in %s", text.removeprefix("config."))


def _compare_packages(recorded: Mapping[str, str], run: str) -> None:
    now = package_versions()
    differing = {n: (recorded[n], now[n]) for n in recorded.keys() & now.keys() if recorded[n] != now[n]}
    counted = sorted(n for n in differing if n in COMPARED_PACKAGES)
    for name in sorted(differing.keys() - set(counted)):
        _LOG.debug("Package %s: %s in run %s, now %s", name, differing[name][0], run, differing[name][1])
    if counted:
        shown = "; ".join(f"{n}: {differing[n][0]} -> {differing[n][1]}" for n in counted)
        raise RunConfigMismatchError(
            f"Package versions differ from those recorded in run {run!r} ({shown}). Start a new run (leave "
            "out --extend-run), or pass --no-versions if the change does not matter."
        )


class _Construction:
    """A task as it is made once a run: its config, and objects it has to store."""

    def __init__(self, repository: OpenRepository, graph: QuantumGraph, columns: TaskColumns) -> None:
        self._repository, self._graph, self._columns = repository, graph, columns
        self.task_class = import_task_class(columns.task_class_name)
        self.config = config_of_text(self.task_class, columns.config_text)
        self._task: Any = None

    def value(self, item: InitDataset) -> Any:
        """Return the object of an init-output.

        Raises
        ------
        InitInputMissingError
            If the task does not have the attribute it promised.
        """
        if item.connection == CONFIG_CONNECTION:
            return self.config
        if self._task is None:
            self._task = self.task_class(config=self.config, initInputs=self._init_inputs())
        try:
            return getattr(self._task, item.connection)
        except AttributeError:
            raise InitInputMissingError(
                f"Task {self._columns.label!r} ({self._columns.task_class_name}) has no attribute "
                f"{item.connection!r}, which its init-output {item.ref.datasetType.name!r} is read from; set "
                "it in __init__."
            ) from None

    def _init_inputs(self) -> dict[str, Any]:
        datastore = self._repository.datastore
        return {
            d.connection: datastore.get(d.file or datastore.predicted_record(d.ref), d.ref)
            for d in self._graph.init_inputs
            if d.label == self._columns.label
        }


# -- package versions

_INFO_DIRECTORY = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)(-.*)?\.(dist|egg)-info")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and all installed packages, by normalised name.

    Read from the names of the ``.dist-info`` directories on the path: a millisecond or two, where parsing the
    metadata of every package takes a second (the pause before the first quantum the tutorial complains of).

    Returns
    -------
    versions : `dict` [`str`, `str`]
        Sorted by name.
    """
    return dict(_installed_versions(tuple(sys.path)))


@lru_cache(maxsize=2)
def _installed_versions(path: Iterable[str]) -> Mapping[str, str]:
    versions: dict[str, str] = {}
    for directory in path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue
        for name in names:
            match = _INFO_DIRECTORY.fullmatch(name) if name.endswith("-info") else None
            if match:
                # First on the path wins, as in an import.
                versions.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    return dict(sorted(versions.items()))
