"""DatasetRef: one dataset; and DatasetTable: many of one type, as columns."""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetNotFoundError, DatasetTypeError
from .data_id import DataCoordinate
from .data_id_table import DataIdTable
from .dataset_id import DatasetIdGenEnum, new_dataset_ids
from .dataset_type import DatasetType
from .timespan import Timespan

_FEW_REFS = 10_000
"""So many references are made without pausing the search for garbage."""


def uuid_column(values: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return UUID bytes as a column.

    Parameters
    ----------
    values : sequence of `bytes`
        As `uuid.UUID.bytes`, one each.

    Returns
    -------
    ids : `numpy.ndarray`, shape (n, 16), uint8
        The same bytes.
    """
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(values), 16)


class DatasetRef:
    """One dataset: type, data ID, run and id; a value that cannot be changed.

    Parameters
    ----------
    datasetType : `DatasetType`
        Its type.
    dataId : `DataCoordinate`
        Its data ID.
    run : `str`
        The RUN collection it was put in.
    id : `uuid.UUID`, optional
        Its identity; made when not given.
    id_generation_mode : `DatasetIdGenEnum`
        How it is made.
    """

    # The id is there as 16 bytes until somebody asks: of a long answer few are looked at.
    __slots__ = ("_id", "dataId", "datasetType", "run")

    datasetType: DatasetType
    dataId: DataCoordinate
    run: str
    _id: uuid.UUID | bytes

    def __init__(
        self,
        datasetType: DatasetType,
        dataId: DataCoordinate,
        run: str,
        *,
        id: uuid.UUID | None = None,
        id_generation_mode: DatasetIdGenEnum = DatasetIdGenEnum.UNIQUE,
    ) -> None:
        if not isinstance(dataId, DataCoordinate) or dataId.dimensions != datasetType.dimensions:
            dataId = DataCoordinate.standardize(dataId, dimensions=datasetType.dimensions)  # noqa: N806  public name
        if id is None:
            id = id_generation_mode.dataset_id(datasetType.name, dataId, run)
        _set_type(self, datasetType)
        _set_data_id(self, dataId)
        _set_run(self, run)
        _set_id(self, id)

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"A DatasetRef cannot be changed: assign to {name!r} of another one")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"A DatasetRef cannot be changed: it keeps its {name!r}")

    @property
    def id(self) -> uuid.UUID:
        """Its identity."""
        known = self._id
        if isinstance(known, bytes):
            known = _uuid_of_bytes(known)
            _set_id(self, known)
        return known

    @property
    def dimensions(self) -> Any:
        """Dimensions of the data ID."""
        return self.datasetType.dimensions

    def isComponent(self) -> bool:
        """Return whether this names a part of a dataset."""
        return self.datasetType.isComponent()

    def isComposite(self) -> bool:
        """Return whether the object has parts that are always written and read with it."""
        return self.datasetType.isComposite()

    def makeCompositeRef(self) -> DatasetRef:
        """Return the reference to the dataset this is a part of.

        Raises
        ------
        DatasetTypeError
            If it is no part.
        """
        whole = self.datasetType.makeCompositeDatasetType()
        return DatasetRef(whole, self.dataId, self.run, id=self.id)

    def is_compatible_with(self, other: DatasetRef) -> bool:
        """Return whether both are the same dataset, and the other's object can be had as this one's."""
        return (
            self.id == other.id
            and self.run == other.run
            and self.dataId == other.dataId
            and self.datasetType.is_compatible_with(other.datasetType)
        )

    def replace(
        self,
        *,
        id: uuid.UUID | None = None,
        run: str | None = None,
        storage_class: Any = None,
    ) -> DatasetRef:
        """Return a reference with another id, run or storage class.

        Parameters
        ----------
        id : `uuid.UUID`, optional
            Its id; a new one is made for another run where not given.
        run : `str`, optional
            Its RUN collection.
        storage_class : `StorageClass` or `str`, optional
            What it is read as.
        """
        kind = self.datasetType
        if storage_class is not None:
            kind = kind.overrideStorageClass(storage_class)
        if id is None and run is None:
            id = self.id
        return DatasetRef(kind, self.dataId, self.run if run is None else run, id=id)

    @staticmethod
    def groupByType(refs: Iterable[DatasetRef]) -> dict[DatasetType, list[DatasetRef]]:
        """Return references by dataset type."""
        groups: dict[DatasetType, list[DatasetRef]] = {}
        for ref in refs:
            groups.setdefault(ref.datasetType, []).append(ref)
        return groups

    @staticmethod
    def iter_by_type(refs: Iterable[DatasetRef]) -> Iterator[tuple[DatasetType, list[DatasetRef]]]:
        """Yield each dataset type with its references."""
        yield from DatasetRef.groupByType(refs).items()

    def to_simple(self, minimal: bool = False) -> dict[str, Any]:
        """Return a plain dictionary; ``minimal`` is the id, and the name of a part, alone."""
        if minimal:
            component = self.datasetType.component()
            return {"id": str(self.id), **({"component": component} if component else {})}
        return {
            "id": str(self.id),
            "datasetType": self.datasetType.to_simple(),
            "dataId": self.dataId.to_simple(),
            "run": self.run,
        }

    def to_json(self, minimal: bool = False) -> str:
        """Return `to_simple` as JSON, in the reference's form."""
        return json.dumps(self.to_simple(minimal), separators=(",", ":"))

    @classmethod
    def from_simple(
        cls,
        simple: Mapping[str, Any],
        universe: Any = None,
        registry: Any = None,
        datasetType: DatasetType | None = None,
    ) -> DatasetRef:
        """Make from what `to_simple` returned; an id alone is looked up in the registry.

        Raises
        ------
        DatasetTypeError
            If there is an id only, and no registry.
        DatasetNotFoundError
            If the registry has no dataset of that id.
        """
        id_ = uuid.UUID(str(simple["id"]))
        if simple.get("dataId") is None:
            if registry is None:
                raise DatasetTypeError(f"Only the id {id_} of a dataset is there; give a registry.")
            found: DatasetRef | None = registry.getDataset(id_)
            if found is None:
                raise DatasetNotFoundError(f"The registry has no dataset {id_}.")
            component = simple.get("component")
            return found.makeComponentRef(component) if component else found
        kind = datasetType or DatasetType.from_simple(simple["datasetType"], universe, registry)
        data_id = DataCoordinate.from_simple(simple["dataId"], universe, registry)
        return cls(kind, data_id, simple["run"], id=id_)

    @classmethod
    def from_json(cls, json_str: str | bytes, universe: Any = None, registry: Any = None) -> DatasetRef:
        """Make from what `to_json` returned, here or in the reference."""
        return cls.from_simple(json.loads(json_str), universe, registry)

    def makeComponentRef(self, name: str) -> DatasetRef:
        """Return the reference to one part of this dataset; the id stays the whole's."""
        part = self.datasetType.makeComponentDatasetType(name)
        return DatasetRef(part, self.dataId, self.run, id=self.id)

    def expanded(self, dataId: DataCoordinate) -> DatasetRef:
        """Return the same dataset with an expanded data ID."""
        return DatasetRef(self.datasetType, dataId, self.run, id=self.id)

    def overrideStorageClass(self, storageClass: Any) -> DatasetRef:
        """Return the same dataset, to be read as another kind of object."""
        changed = self.datasetType.overrideStorageClass(storageClass)
        return DatasetRef(changed, self.dataId, self.run, id=self.id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DatasetRef):
            return NotImplemented
        return self.id == other.id and self.datasetType == other.datasetType and self.dataId == other.dataId

    def __lt__(self, other: DatasetRef) -> bool:
        mine = (self.run, self.datasetType.name, self.dataId.required_values, self.id)
        return mine < (other.run, other.datasetType.name, other.dataId.required_values, other.id)

    def __hash__(self) -> int:
        return hash((self.datasetType.name, self.id))

    def __repr__(self) -> str:
        return f"DatasetRef({self.datasetType.name}@{self.dataId}, run={self.run!r}, id={self.id})"

    def __str__(self) -> str:
        return f"{self.datasetType.name}@{self.dataId} [{self.run}] ({self.id})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_ref, (self.datasetType, self.dataId, self.run, self.id)


# They write the slots of a value that cannot be changed, past its `__setattr__`.
_set_type, _set_data_id, _set_run, _set_id = (
    DatasetRef.__dict__[name].__set__ for name in ("datasetType", "dataId", "run", "_id")
)


def _uuid_of_bytes(data: bytes) -> uuid.UUID:
    # Its constructor, which takes six forms and checks them, costs three times as much.
    made = object.__new__(uuid.UUID)
    object.__setattr__(made, "int", int.from_bytes(data, "big"))
    object.__setattr__(made, "is_safe", uuid.SafeUUID.unknown)
    return made


def _restore_ref(dataset_type: DatasetType, data_id: DataCoordinate, run: str, id_: uuid.UUID) -> DatasetRef:
    return DatasetRef(dataset_type, data_id, run, id=id_)


@dataclass(frozen=True, slots=True)
class DatasetAssociation:
    """A dataset's membership of a collection, with its validity range in a CALIBRATION collection."""

    ref: DatasetRef
    collection: str
    timespan: Timespan | None = None

    def __lt__(self, other: DatasetAssociation) -> bool:
        def key(a: DatasetAssociation) -> tuple[Any, ...]:
            span = a.timespan or Timespan()
            return a.ref, a.collection, span.begin_ns, span.end_ns

        return key(self) < key(other)


class DatasetTable:
    """Many datasets of one type, as columns.

    Parameters
    ----------
    dataset_type : `DatasetType`
        Type of every row.
    data_ids : `DataIdTable`
        Data ID of each row.
    ids : `numpy.ndarray`, shape (n, 16), uint8
        UUID bytes of each row.
    run_codes : `numpy.ndarray`, shape (n,), int32
        Index into ``runs`` of each row.
    runs : sequence of `str`
        RUN collection names.
    row_ids : `numpy.ndarray`, shape (n,), int64, optional
        The registry's own integer keys, where they are known.
    """

    __slots__ = ("data_ids", "dataset_type", "ids", "row_ids", "run_codes", "runs")

    def __init__(
        self,
        dataset_type: DatasetType,
        data_ids: DataIdTable,
        ids: NDArray[np.uint8],
        run_codes: NDArray[np.int32],
        runs: Sequence[str],
        row_ids: NDArray[np.int64] | None = None,
    ) -> None:
        if ids.shape != (len(data_ids), 16):
            raise ValueError(f"{len(data_ids)} data IDs but ids of shape {ids.shape!r}")
        self.dataset_type, self.data_ids, self.ids = dataset_type, data_ids, ids
        self.run_codes = np.asarray(run_codes, dtype=np.int32)
        self.runs: tuple[str, ...] = tuple(runs)
        self.row_ids = row_ids

    @classmethod
    def new(
        cls,
        dataset_type: DatasetType,
        data_ids: DataIdTable,
        run: str,
        id_generation_mode: DatasetIdGenEnum = DatasetIdGenEnum.UNIQUE,
    ) -> DatasetTable:
        """Make new datasets in one run.

        Parameters
        ----------
        dataset_type : `DatasetType`
            Type of every row.
        data_ids : `DataIdTable`
            Data ID of each row.
        run : `str`
            RUN collection of every row.
        id_generation_mode : `DatasetIdGenEnum`
            How the ids are made.
        """
        n = len(data_ids)
        if id_generation_mode is DatasetIdGenEnum.UNIQUE:
            ids = new_dataset_ids(n)
        else:
            ids = uuid_column(
                [id_generation_mode.dataset_id(dataset_type.name, d, run).bytes for d in data_ids]
            )
        return cls(dataset_type, data_ids, ids, np.zeros(n, dtype=np.int32), (run,))

    @classmethod
    def from_refs(cls, dataset_type: DatasetType, refs: Iterable[DatasetRef]) -> DatasetTable:
        """Make from references of one type.

        Parameters
        ----------
        dataset_type : `DatasetType`
            Type of every row.
        refs : iterable of `DatasetRef`
            The rows.
        """
        rows = list(refs)
        data_ids = DataIdTable.from_data_ids(dataset_type.dimensions, (r.dataId for r in rows))
        ids = uuid_column([r.id.bytes for r in rows])
        runs: dict[str, int] = {}
        codes = np.array([runs.setdefault(r.run, len(runs)) for r in rows], dtype=np.int32)
        return cls(dataset_type, data_ids, ids, codes, tuple(runs))

    @classmethod
    def empty(cls, dataset_type: DatasetType) -> DatasetTable:
        """Make a table of no row."""
        return cls.new(dataset_type, DataIdTable.empty(dataset_type.dimensions), "")

    @classmethod
    def concatenate(cls, tables: Sequence[DatasetTable]) -> DatasetTable:
        """Return all rows of tables of one type, in order."""
        runs: dict[str, int] = {}
        codes = []
        for t in tables:
            lookup = np.array([runs.setdefault(r, len(runs)) for r in t.runs], dtype=np.int32)
            codes.append(lookup[t.run_codes] if len(lookup) else t.run_codes)
        return cls(
            tables[0].dataset_type,
            DataIdTable.concatenate([t.data_ids for t in tables]),
            np.concatenate([t.ids for t in tables]),
            np.concatenate(codes),
            tuple(runs),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> DatasetRef:
        return DatasetRef(self.dataset_type, self.data_ids[row], self.run(row), id=self.id(row))

    def __iter__(self) -> Iterator[DatasetRef]:
        kind, runs = self.dataset_type, self.runs
        codes, data = self.run_codes.tolist(), self.ids.tobytes()
        # A query's answer is read here. The constructor, which looks at what it is given, would take most of
        # the time, and a `uuid.UUID` each a third.
        new, own = object.__new__, DatasetRef
        for i, (data_id, code) in enumerate(zip(self.data_ids, codes, strict=True)):
            ref = new(own)
            _set_type(ref, kind)
            _set_data_id(ref, data_id)
            _set_run(ref, runs[code])
            _set_id(ref, data[16 * i : 16 * i + 16])
            yield ref

    def refs(self) -> list[DatasetRef]:
        """Return the references of all rows at once."""
        # None of the objects made here is garbage, or refers back to another: looking them through again and
        # again while they become more takes three times as long as making them.
        pauses = len(self) > _FEW_REFS and gc.isenabled()
        if pauses:
            gc.disable()
        try:
            return list(self)
        finally:
            if pauses:
                gc.enable()

    def id(self, row: int) -> uuid.UUID:
        """Return the UUID of a row."""
        return _uuid_of_bytes(self.ids[row].tobytes())

    def id_texts(self) -> list[str]:
        """Return the UUIDs as texts."""
        digits = np.frombuffer(self.ids.tobytes().hex().encode(), dtype=np.uint8).reshape(-1, 32)
        places = [i for i in range(36) if i not in (8, 13, 18, 23)]
        marked = np.full((len(self), 36), ord("-"), dtype=np.uint8)
        marked[:, places] = digits
        text = marked.tobytes().decode("ascii")
        return [text[i : i + 36] for i in range(0, len(text), 36)]

    def run(self, row: int) -> str:
        """Return the RUN collection of a row."""
        return self.runs[int(self.run_codes[row])]

    def take(self, rows: NDArray[Any]) -> DatasetTable:
        """Return some rows.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (m,), integer, or shape (n,), bool
            Which rows, in the order wanted; or for each whether it is wanted.
        """
        row_ids = None if self.row_ids is None else self.row_ids[rows]
        return DatasetTable(
            self.dataset_type,
            self.data_ids.take(rows),
            self.ids[rows],
            self.run_codes[rows],
            self.runs,
            row_ids,
        )

    def with_data_ids(self, data_ids: DataIdTable) -> DatasetTable:
        """Return the same datasets with data IDs that say more: the values of implied dimensions.

        Parameters
        ----------
        data_ids : `DataIdTable`
            The same data IDs, row by row.
        """
        return DatasetTable(self.dataset_type, data_ids, self.ids, self.run_codes, self.runs, self.row_ids)

    def __repr__(self) -> str:
        return f"DatasetTable({self.dataset_type.name}, {len(self)} rows)"


def tables_of_refs(refs: Iterable[DatasetRef]) -> list[DatasetTable]:
    """Return references as a table for each dataset type, each dataset once.

    Raises
    ------
    DatasetTypeError
        If one names a component.
    """
    groups: dict[str, dict[uuid.UUID, DatasetRef]] = {}
    for ref in refs:
        if ref.isComponent():
            raise DatasetTypeError(f"{ref} is a component of a dataset; give the whole one")
        groups.setdefault(ref.datasetType.name, {}).setdefault(ref.id, ref)
    return [
        DatasetTable.from_refs(next(iter(group.values())).datasetType, group.values())
        for group in groups.values()
    ]
