"""The commit marker: a quantum's metadata file, written last, which lists all the quantum wrote.

Where it exists the quantum is finished, whoever knows of it; its list is what the registry needs to be told.
"""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import DatasetFileError
from ..graph.quantum import Quantum
from ..pipeline.task_metadata import TaskMetadata
from ..vocabulary.file_record import FileRecord
from .quantum_report import QuantumReport, QuantumStatus

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore
    from ..graph.quantum_graph import QuantumGraph

_LOG = logging.getLogger("butler_dask.quantum")
_HOST = socket.gethostname()
_VERSION = 1


def describe_files(
    marker: TaskMetadata,
    quantum: Quantum,
    plan_id: str,
    status: QuantumStatus,
    written: Mapping[uuid.UUID, FileRecord],
    read: Iterable[uuid.UUID],
) -> None:
    """Fill in what a quantum read and wrote.

    Parameters
    ----------
    marker : `TaskMetadata`
        The part ``quantum`` of its metadata.
    quantum : `Quantum`
        The quantum.
    plan_id : `str`
        Plan it was run under.
    status : `str`
        ``success`` or ``no_work``.
    written : mapping of `uuid.UUID` to `FileRecord`
        Its files, the marker's own aside.
    read : iterable of `uuid.UUID`
        What it read.
    """
    marker.scalars |= {
        "__version__": _VERSION,
        "status": status,
        "plan": plan_id,
        "id": str(quantum.id),
    }
    marker.arrays |= {
        "inputs": [str(i) for i in sorted(read)],
        "outputs": [str(i) for i in written],
        "outputPaths": [r.path for r in written.values()],
        "outputFormatters": [r.formatter for r in written.values()],
        "outputStorageClasses": [r.storage_class for r in written.values()],
        "outputSizes": [r.size for r in written.values()],
        "outputChecksums": [r.checksum for r in written.values()],
    }


def find_finished(
    graph: QuantumGraph, datastore: Datastore, row: int, quantum: Quantum, *, adopt_foreign: bool
) -> QuantumReport | None:
    """Return the report of a quantum that was finished before, or `None`.

    Parameters
    ----------
    graph : `QuantumGraph`
        Its graph.
    datastore : `Datastore`
        Where its outputs are.
    row : `int`
        Its row.
    quantum : `Quantum`
        The quantum.
    adopt_foreign : `bool`
        Whether work done under another plan counts.

    Returns
    -------
    report : `QuantumReport` or `None`
        With ``adopted`` set, and the files the marker lists.
    """
    marker_ref = quantum.metadata_ref
    if marker_ref is None:
        return None
    record = datastore.predicted_record(marker_ref)
    if not datastore.exists(record.path):
        return None
    try:
        marker: TaskMetadata = datastore.get(record, marker_ref).metadata["quantum"]
        same_plan = marker.scalars["plan"] == graph.plan_id
        status: Any = marker.scalars["status"]
        listed = _listed_files(marker)
    except (KeyError, ValueError, DatasetFileError) as error:
        _LOG.warning("%s is not read as a commit marker (%r); the quantum is run", record.path, error)
        return None
    if not (same_plan or adopt_foreign):
        return None
    rows = {}
    for dataset_row in graph.outputs_of.of(row).tolist():
        ref = graph.ref(dataset_row)
        rows[datastore.predicted_record(ref).path] = dataset_row
    if not all(path in rows and datastore.check(file) is None for path, file in listed.items()):
        return None
    # Where it lies already; its size is read, nothing is moved.
    listed[record.path] = datastore.ingest(datastore.uri(record.path), marker_ref, "auto")
    return QuantumReport(
        row,
        status,
        written=tuple((rows[path], file) for path, file in listed.items()),
        complete=len(listed) == len(rows),
        adopted=True,
        attempt=int(number_of(marker, "attempt")) or 1,
        host=_HOST,
        # Exact, because the registry tells attempts apart by it.
        start_ns=int(marker.scalars.get("startNs") or 0),
        end_ns=_utc_ns(marker.scalars.get("endUtc")),
        cpu_s=number_of(marker, "endCpuTime") - number_of(marker, "startCpuTime"),
        peak_rss_bytes=int(number_of(marker, "endMaxResidentSetSize")),
    )


def _listed_files(marker: TaskMetadata) -> dict[str, FileRecord]:
    arrays: Mapping[str, Any] = marker.arrays
    columns = ("outputPaths", "outputFormatters", "outputStorageClasses", "outputSizes", "outputChecksums")
    rows = zip(*(arrays[c] for c in columns), strict=True)
    return {str(path): FileRecord(str(path), *rest) for path, *rest in rows}


def number_of(marker: TaskMetadata, name: str) -> float:
    """Return a number of a marker, 0 where it has none.

    Parameters
    ----------
    marker : `TaskMetadata`
        A commit marker.
    name : `str`
        Which of its scalars.

    Returns
    -------
    value : `float`
        In the unit of that scalar.
    """
    value = marker.scalars.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _utc_ns(text: object) -> int:
    if not isinstance(text, str):
        return 0
    return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
