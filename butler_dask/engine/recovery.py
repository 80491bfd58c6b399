"""Recovery: what workers finished and the registry was never told, because its writer was killed.

Workers note each finished quantum in a journal. Before a run is extended (and when a run ends other than by
itself) the journals are read, what the registry lacks is recorded, and they are dropped. A report is recorded
only if all its files are there, so that recorded implies readable whatever happened in between. Damaged plans
and lines of journals are passed over, and said: what they speak of is found by its commit markers when the
run is extended.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..butler.run_journals import journal_directory
from ..errors import ConflictingDefinitionError
from ..graph.graph_columns import METADATA_CONNECTION
from ..graph.graph_file import read_graph
from .journal import Journal, PlanFiles
from .quantum_report import QuantumReport
from .recorder import BATCH_QUANTA, write_reports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..butler.open_repository import OpenRepository
    from ..graph.quantum_graph import QuantumGraph
    from ..registry import RunClaim

_LOG = logging.getLogger("butler_dask.recovery")


def recover_run(repository: OpenRepository, run: str) -> int:
    """Record what finished in a run and was not recorded; call it before a graph is built for the run.

    Parameters
    ----------
    repository : `OpenRepository`
        Open for writing.
    run : `str`
        RUN collection.

    Returns
    -------
    n : `int`
        Number of quanta recorded.

    Raises
    ------
    RunInUseError
        If another command writes the run; nothing was changed.
    """
    if not any(_plans(repository, run)):
        return 0
    with repository.registry.claims.kept():
        recovered = _recover_plans(repository, repository.registry.claims.take(run))
    if recovered:
        _LOG.info("Recorded %d quanta that an interrupted run had finished", recovered)
    return recovered


def _plans(repository: OpenRepository, run: str) -> Iterator[Path]:
    return journal_directory(repository.root, run).glob("*.plan")


def _recover_plans(repository: OpenRepository, claim: RunClaim) -> int:
    recovered = 0
    run = claim.run
    for path in sorted(_plans(repository, run)):
        files = PlanFiles(repository.root, run, path.stem)
        if not files.journals():
            files.remove()
            continue
        try:
            graph = read_graph(path)
        except Exception as error:  # whatever a damaged file makes of its reader
            _LOG.warning(
                "The plan %s cannot be read (%s: %s). Its journals are left alone; what they speak of is "
                "found by its files when the run is extended.",
                path,
                type(error).__name__,
                error,
            )
            continue
        try:
            recovered += recover_plan(repository, graph, claim)
        except ConflictingDefinitionError as error:
            _LOG.warning("Journals of %s are left alone: %s", run, error)
            continue
        files.remove()
    return recovered


def recover_plan(repository: OpenRepository, graph: QuantumGraph, claim: RunClaim) -> int:
    """Record what the journals of one plan have and the registry lacks; the journals stay.

    Parameters
    ----------
    repository : `OpenRepository`
        Open for writing.
    graph : `QuantumGraph`
        The plan.
    claim : `RunClaim`
        That this process writes the run.

    Returns
    -------
    n : `int`
        Number of quanta recorded.
    """
    paths = PlanFiles.of(repository.root, graph).journals()
    if not paths:
        return 0
    known = _recorded_metadata(repository, graph)
    lacking: dict[int, QuantumReport] = {}
    for path in paths:
        for report in Journal.read(path):
            if not _fits(graph, report):
                _LOG.warning("A line of the journal %s does not fit its plan and is passed over.", path)
                continue
            ids = {graph.dataset_id(row).bytes for row, _ in report.written}
            if ids.isdisjoint(known) and _all_there(repository, report):
                lacking.setdefault(report.row, report)
    reports = list(lacking.values())
    for begin in range(0, len(reports), BATCH_QUANTA):
        write_reports(repository.registry, graph, reports[begin : begin + BATCH_QUANTA], claim)
    return len(reports)


def _recorded_metadata(repository: OpenRepository, graph: QuantumGraph) -> set[bytes]:
    """Return the ids of the metadata datasets recorded in the run: one a finished quantum."""
    names = [c.dataset_type.name for t in graph.tasks for c in t.connections if c.name == METADATA_CONNECTION]
    tables = repository.registry.datasets.existing_in_run(graph.run, names)
    return {row.tobytes() for table in tables.values() for row in table.ids}


def _fits(graph: QuantumGraph, report: QuantumReport) -> bool:
    """Return whether a report speaks of a quantum of the graph and of its outputs, in the right types."""
    if not 0 <= report.row < len(graph) or not report.succeeded:
        return False
    outputs = set(graph.outputs_of.of(report.row).tolist())
    texts = (report.host, report.error_type, report.error_message, report.error_traceback)
    numbers = (report.attempt, report.start_ns, report.end_ns, report.peak_rss_bytes, report.cpu_s)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(n, int | float) for n in numbers)
        and all(
            row in outputs
            and isinstance(file.size, int)
            and all(
                isinstance(text, str)
                for text in (file.path, file.formatter, file.storage_class, file.checksum)
            )
            for row, file in report.written
        )
    )


def _all_there(repository: OpenRepository, report: QuantumReport) -> bool:
    return all(repository.datastore.check(file) is None for _, file in report.written)
