"""Searches for existing datasets while a graph is built: whole columns of data IDs at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..butler.registry_names import ButlerRegistry
from ..errors import MissingDatasetTypeError, PrerequisiteMissingError
from ..pipeline.pipeline_nodes import Edge
from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.data_id_table import DataIdTable, row_codes
from ..vocabulary.dataset import DatasetRef, DatasetTable
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionGroup, DimensionUniverse
from ..vocabulary.file_record import FileTable
from ..vocabulary.selection import Selection
from .dataset_pool import DatasetPool, has_file
from .record_cache import RecordCache

if TYPE_CHECKING:
    from lsst.sphgeom import Region

    from ..butler.open_repository import OpenRepository

Timespans = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Begin and end of many times, each shape (n,), int64 [TAI ns]."""
Pairs = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Quantum rows, shape (n,), int32, and rows of a pool, shape (n,), int64: one of each an edge."""


@dataclass(frozen=True, slots=True)
class Found:
    """Datasets found for a column of data IDs.

    Parameters
    ----------
    table : `DatasetTable`
        What was found.
    files : `FileTable`
        Where each is.
    rows : `numpy.ndarray`, shape (n,), int64
        Row in ``table`` of each data ID, -1 where there is none.
    """

    table: DatasetTable
    files: FileTable
    rows: NDArray[np.int64]

    @property
    def stored(self) -> NDArray[np.bool_]:
        """Which data IDs have a dataset with a file, shape (n,), bool."""
        present = np.append(has_file(self.files), False)
        return present[self.rows]

    def add_to(self, pool: DatasetPool) -> NDArray[np.int64]:
        """Add what has a file to a pool; return the pool's row for each data ID, -1 where there is none.

        Parameters
        ----------
        pool : `DatasetPool`
            Of the same dataset type.

        Returns
        -------
        rows : `numpy.ndarray`, shape (n,), int64
            Row in the pool of each data ID.
        """
        into = np.append(pool.add(self.table, self.files), -1)
        return np.where(self.stored, into[self.rows], -1)


class InputSearch:
    """Finds existing datasets for quanta.

    Parameters
    ----------
    repository : `OpenRepository`
        The repository.
    collections : sequence of `str`
        Where inputs are searched, in order.
    records : `RecordCache`
        Regions and timespans of data IDs.

    Attributes
    ----------
    registry : `Registry`
        Where datasets are asked for.
    collections : `tuple` [`str`, ...]
        As given.
    """

    def __init__(self, repository: OpenRepository, collections: Sequence[str], records: RecordCache) -> None:
        self.registry = repository.registry
        self.collections = tuple(collections)
        self._records = records
        self._registered: dict[str, bool] = {}
        self._trixels: dict[tuple[str, bytes], list[int]] = {}

    def is_registered(self, name: str) -> bool:
        """Return whether the repository knows a dataset type.

        Parameters
        ----------
        name : `str`
            Dataset type name.

        Returns
        -------
        known : `bool`
            Asked once for each name.
        """
        if name not in self._registered:
            try:
                self.registry.dataset_types.get(name)
                self._registered[name] = True
            except MissingDatasetTypeError:
                self._registered[name] = False
        return self._registered[name]

    def find(
        self,
        dataset_type: DatasetType,
        data_ids: DataIdTable,
        collections: Sequence[str] | None = None,
        timespans: Timespans | None = None,
    ) -> Found | None:
        """Find the first dataset of each data ID, or `None` if there can be none.

        Parameters
        ----------
        dataset_type : `DatasetType`
            Which type.
        data_ids : `DataIdTable`, n rows
            With at least the type's required dimensions.
        collections : sequence of `str`, optional
            Where to look; the input collections when not given.
        timespans : `tuple` of `numpy.ndarray`, each shape (n,), int64, optional
            Begin and end [TAI ns] for look-ups in CALIBRATION collections.

        Returns
        -------
        found : `Found` or `None`
            With a row for each data ID.
        """
        collections = self.collections if collections is None else collections
        if not len(data_ids) or not collections or not self.is_registered(dataset_type.name):
            return None
        begin, end = (None, None) if timespans is None else timespans
        table, rows = self.registry.search.find(
            dataset_type, data_ids, collections, begin_ns=begin, end_ns=end
        )
        if not len(table):
            return None
        return Found(table, self.registry.datasets.files_of(table), rows)

    def prerequisites(
        self,
        edge: Edge,
        quanta: DataIdTable,
        pool: DatasetPool,
        timespans: Timespans | None = None,
    ) -> Pairs:
        """Find what quanta need that no task of the pipeline makes.

        Calibrations are looked up by the time of the quantum's exposure or visit, sky-pixelized ones by
        overlap with its region, others by the values of the dimensions they share.

        Parameters
        ----------
        edge : `Edge`
            The connection.
        quanta : `DataIdTable`, n rows
            Data IDs of the quanta, implied ones included.
        pool : `DatasetPool`
            Takes what is found, which is of its dataset type.
        timespans : `tuple` of `numpy.ndarray`, each shape (n,), int64, optional
            Begin and end of the observations of each quantum [TAI ns].

        Returns
        -------
        quantum_rows : `numpy.ndarray`, shape (m,), int32
            Row in ``quanta`` of each pair, rising.
        dataset_rows : `numpy.ndarray`, shape (m,), int64
            Row in ``pool`` of each pair.
        """
        if edge.lookup_function is not None:
            return self._looked_up(edge, quanta, pool)
        group = pool.dataset_type.dimensions
        beyond = [n for n in group.required if n not in quanta.columns]
        if not beyond:
            return self._one_each(quanta, pool, timespans)
        if set(beyond) <= set(group.skypix):
            return self._overlapping(quanta, beyond, pool)
        return self._joined(quanta, pool)

    def _one_each(self, quanta: DataIdTable, pool: DatasetPool, spans: Timespans | None) -> Pairs:
        dataset_type = pool.dataset_type
        columns = [quanta.columns[n] for n in dataset_type.dimensions.required]
        # Quanta that ask the same question (all tracts of a camera, all detectors of a time) ask it once.
        codes = row_codes([*columns, *(() if spans is None else spans)], len(quanta))
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        asked = quanta.subset(dataset_type.dimensions).take(first)
        found = self.find(
            dataset_type, asked, timespans=None if spans is None else (spans[0][first], spans[1][first])
        )
        if found is None:
            return _no_pairs()
        rows = found.add_to(pool)[inverse]
        quantum_rows = np.flatnonzero(rows >= 0)
        return quantum_rows.astype(np.int32), rows[quantum_rows]

    def _overlapping(self, quanta: DataIdTable, skypix: Sequence[str], pool: DatasetPool) -> Pairs:
        dataset_type = pool.dataset_type
        if not quanta.dimensions.spatial_elements:
            return self._joined(quanta, pool)
        (pixels,) = skypix
        element = quanta.dimensions.spatial_elements[0]
        regions, region_rows = self._regions(element, quanta)
        of_region = [self._pixels(pixels, r) for r in regions]
        counts = np.array([len(p) for p in of_region], dtype=np.int64)
        flat = np.array([p for ps in of_region for p in ps], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
        per_quantum = counts[region_rows]
        quantum_rows = np.repeat(np.arange(len(quanta)), per_quantum)
        within = np.arange(len(quantum_rows)) - np.repeat(np.cumsum(per_quantum) - per_quantum, per_quantum)
        values = flat[np.repeat(starts[region_rows], per_quantum) + within]
        columns = {
            n: quanta.columns[n][quantum_rows] for n in dataset_type.dimensions.required if n != pixels
        }
        columns[pixels] = values
        categories = {n: c for n, c in quanta.categories.items() if n in columns}
        asked, inverse = DataIdTable(dataset_type.dimensions, columns, categories, len(quantum_rows)).unique()
        found = self.find(dataset_type, asked)
        if found is None:
            return _no_pairs()
        rows = found.add_to(pool)[inverse]
        keep = rows >= 0
        return quantum_rows[keep].astype(np.int32), rows[keep]

    def _regions(self, element: str, quanta: DataIdTable) -> tuple[list[Region | None], NDArray[np.int64]]:
        if quanta.dimensions.universe[element].skypix_level is not None:
            values, rows = np.unique(quanta.columns[element], return_inverse=True)
            pixelization = quanta.dimensions.universe[element].pixelization
            return [pixelization.pixel(int(v)) for v in values], rows.astype(np.int64)
        records, rows = self._records.of_rows(element, quanta)
        return [None if r is None else r.region for r in records], rows

    def _pixels(self, skypix: str, region: Region | None) -> list[int]:
        """Return the sky pixels that touch a region."""
        if region is None:
            return []
        key = (skypix, region.encode())
        if key not in self._trixels:
            from lsst.sphgeom import DISJOINT

            pixelization = DimensionUniverse()[skypix].pixelization
            around = [i for begin, end in pixelization.envelope(region).ranges() for i in range(begin, end)]
            if len(around) > 1:
                # The envelope is generous at its rim; only pixels that touch are wanted.
                around = [i for i in around if not pixelization.pixel(i).relate(region) & DISJOINT]
            self._trixels[key] = around
        return self._trixels[key]

    def _joined(self, quanta: DataIdTable, pool: DatasetPool) -> Pairs:
        """Find datasets with dimensions the quanta lack, by the relations between dimensions."""
        dataset_type = pool.dataset_type
        if not self.is_registered(dataset_type.name) or not self.collections:
            return _no_pairs()
        group = quanta.dimensions.union(dataset_type.dimensions)
        joined = self.registry.queries.data_ids(
            group, Selection().joining(dataset_type.name, self.collections)
        )
        rows = joined.match(quanta)
        joined, rows = joined.take(rows >= 0), rows[rows >= 0]
        found = self.find(dataset_type, joined, timespans=self._spans(dataset_type, joined))
        if found is None:
            return _no_pairs()
        datasets = found.add_to(pool)
        keep = datasets >= 0
        codes = np.unique(rows[keep] * max(len(pool), 1) + datasets[keep])
        left, right = np.divmod(codes, max(len(pool), 1))
        return left.astype(np.int32), right

    def _spans(self, dataset_type: DatasetType, data_ids: DataIdTable) -> Timespans | None:
        return self._records.timespans(data_ids) if dataset_type.isCalibration() else None

    def _looked_up(self, edge: Edge, quanta: DataIdTable, pool: DatasetPool) -> Pairs:
        assert edge.lookup_function is not None
        dataset_type = pool.dataset_type
        quantum_rows: list[int] = []
        refs: list[DatasetRef] = []
        names = ButlerRegistry(self.registry)
        for row in range(len(quanta)):
            data_id = self._records.expanded(quanta[row])
            for ref in edge.lookup_function(dataset_type, names, data_id, self.collections):
                quantum_rows.append(row)
                refs.append(ref)
        if not refs:
            return _no_pairs()
        # What the function gives may be typed as the connection sees it.
        stored = [DatasetRef(dataset_type, r.dataId, r.run, id=r.id) for r in refs]
        table = DatasetTable.from_refs(dataset_type, stored)
        rows = pool.add(table, self.registry.datasets.files_of(table))
        return np.array(quantum_rows, dtype=np.int32), rows


def _no_pairs() -> Pairs:
    return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class LackingQuanta:
    """Quanta of a task for which a prerequisite was not found.

    Parameters
    ----------
    label : `str`
        Task label.
    edge : `Edge`
        Connection of the prerequisite.
    dimensions : `DimensionGroup`
        Those of its dataset type.
    examples : `list` [`DataCoordinate`]
        Data IDs of some of them.
    count : `int`
        How many there are.
    """

    label: str
    edge: Edge
    dimensions: DimensionGroup
    examples: list[DataCoordinate]
    count: int

    def __str__(self) -> str:
        shown = "; ".join(str(dict(e.required)) for e in self.examples)
        more = f" and {self.count - len(self.examples)} more" if self.count > len(self.examples) else ""
        return (
            f"No {self.edge.parent_dataset_type_name!r} {self.dimensions} for {self.label!r} (connection "
            f"{self.edge.connection_name!r}) at {shown}{more}."
        )


def check_prerequisites(lacking: Sequence[LackingQuanta], collections: Sequence[str]) -> None:
    """Raise for prerequisites that were not found, all tasks and types at once.

    Parameters
    ----------
    lacking : sequence of `LackingQuanta`
        Quanta without, task by task and connection by connection.
    collections : sequence of `str`
        Where was searched.

    Raises
    ------
    PrerequisiteMissingError
        If there is any.
    """
    if not lacking:
        return
    where = ", ".join(map(repr, collections)) or "none"
    raise PrerequisiteMissingError(
        "\n".join(
            [
                *map(str, lacking),
                f"Searched, in order: {where}. Certify or ingest what is missing, add its collection with "
                "--input, or exclude these data IDs with -d.",
            ]
        )
    )
